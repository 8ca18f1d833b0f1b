# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a line did not arrive in Elasticsearch: what an administrator would look up next, in the order of the way.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import (
    PORT,
    SERVICE,
    Elasticsearch,
    ElasticsearchError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_rollout import (
    pod_trouble,
    remedy_for,
    trouble_text,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._pods import is_ready, pod_node

COLLECTOR = "app.kubernetes.io/name=collector"
SECRET = "collector-elasticsearch"
METRICS_PORT = 8888

_UNAUTHORIZED = 401
_LOG_LINES, _TOLD_LINES, _LOG_WIDTH = 100, 3, 400
_COMPLAINT = re.compile(r"error|warn|fail|refuse", re.I)
_BLOCK = "index.blocks.read_only_allow_delete"
# What the two collectors hold that Elasticsearch has not taken yet, in bytes.
_HELD = re.compile(
    r"^(?:otelcol_exporter_queue_size|fluentd_output_status_buffer_total_bytes)(?:\{[^}]*\})? +([0-9.eE+]+)",
    re.M,
)


class Causes:
    """Looks for causes. What cannot be looked up is left out: it only explains."""

    def __init__(self, api: KubeApi, elasticsearch: Elasticsearch, namespace: str) -> None:
        self._api = api
        self._elasticsearch = elasticsearch
        self._namespace = namespace
        self._core = f"/api/v1/namespaces/{namespace}"

    def common(self) -> list[str]:
        """Return what keeps the lines of all nodes: the collector's credentials, and what Elasticsearch lacks."""
        said = []
        with suppress(KubewrightError):
            said += self._credentials()
        with suppress(KubewrightError):
            said += self._blocks()
        with suppress(KubewrightError):
            said += self._health()
        return said

    def of_unwritten_line(self, node: str, pod: Mapping[str, Any] | None) -> str:
        """Say why the pod that should write the line of a node did not."""
        if pod is None:
            return f"The pod that writes the line of node {node} is gone. Look who deletes pods of this namespace."
        status = pod.get("status") or {}
        # What the kubelet itself refuses has no container that could say why.
        refused = ": ".join(filter(None, map(status.get, ("reason", "message"))))
        told = trouble_text(pod_trouble(self._api, self._namespace, pod))
        text = "; ".join(filter(None, [told, refused]))
        return f"The pod that writes the line of node {node} did not run: {text.rstrip('.')}. {remedy_for(text)}."

    def of_lost_line(self, node: str) -> str:
        """Say what is known of the collector of a node whose line was written."""
        begin = f"The line of node {node} was written and is not in Elasticsearch"
        try:
            pods = self._api.list(f"{self._core}/pods", labelSelector=COLLECTOR)
        except KubewrightError as error:
            return f"{begin}. Its collector cannot be looked at: {error}"
        own = next((pod for pod in pods if pod_node(pod) == node), None)
        if own is None:
            return (
                f"{begin}: the node has no collector. Look at DaemonSet {self._namespace}/collector, "
                "and at kube_logging_collector_tolerations."
            )
        if not is_ready(own):
            told = trouble_text(pod_trouble(self._api, self._namespace, own)).rstrip(".")
            return f"{begin}, because its collector does not work: {told}. {remedy_for(told)}."
        name = own["metadata"]["name"]
        held = self._held(name)
        where = f" and holds {held} bytes that Elasticsearch has not taken" if held else ""
        lines = self._complaints(name)
        told = f": {' | '.join(lines)}" if lines else ""
        return (
            f"{begin}. Its collector {name} runs{where}{told}. Look at its log, and at that of Elasticsearch."
        )

    def _credentials(self) -> list[str]:
        try:
            self._as_collector().get("/_security/_authenticate")
        except ElasticsearchError as error:
            if error.status == _UNAUTHORIZED:
                return [
                    f"Elasticsearch refuses the password of the collectors (Secret {self._namespace}/{SECRET}): "
                    "the hash in Secret elasticsearch-realm is of another one, or its nodes have not read it yet. "
                    "Run logging.yml."
                ]
            if error.reason == "Unverified":
                return [
                    "The collectors do not trust Elasticsearch: its certificate is not of the authority in Secret "
                    f"{self._namespace}/{SECRET}, or it is no longer valid ({error.why}). Run logging.yml."
                ]
            raise
        return []

    def _as_collector(self) -> Elasticsearch:
        """Return a client with what the collectors have: their password, and the authority that they trust."""
        service = self._api.get(f"{self._core}/services/{SERVICE}")
        data = self._api.get(f"{self._core}/secrets/{SECRET}").get("data") or {}
        try:
            texts = {key: base64.b64decode(data[key]).decode() for key in ("username", "password", "ca.crt")}
            trust = ssl.create_default_context(cadata=texts["ca.crt"])
        except (KeyError, ValueError, ssl.SSLError) as error:
            # The cause is left out on purpose: it could quote the Secret.
            raise KubewrightError(f"Secret {SECRET} cannot be read", why=type(error).__name__) from None
        name = f"{SERVICE}.{self._namespace}.svc"
        return Elasticsearch(
            str(service["spec"]["clusterIP"]), PORT, name, trust, (texts["username"], texts["password"])
        )

    def _blocks(self) -> list[str]:
        answer = self._elasticsearch.get("/logstash-*/_settings", flat_settings=True)
        held = sorted(
            name
            for name, one in answer.items()
            if str((one.get("settings") or {}).get(_BLOCK)).lower() == "true"
        )
        if not held:
            return []
        return [
            f"Elasticsearch takes no lines into {', '.join(held)}: a disk is above its flood-stage watermark. "
            "Give the data nodes larger volumes, or keep lines for fewer days; it goes on when there is room."
        ]

    def _health(self) -> list[str]:
        health = self._elasticsearch.get("/_cluster/health")
        if health.get("status") != "red":
            return []
        return [
            f"Elasticsearch is red: {health.get('unassigned_shards')} shards are on none of its "
            f"{health.get('number_of_data_nodes')} data nodes. Look at its pods, and at what it answers to "
            "/_cluster/allocation/explain."
        ]

    def _held(self, name: str) -> int:
        """Return how many bytes a collector holds, 0 where it does not say."""
        with suppress(KubewrightError):
            text = self._api.get(f"{self._core}/pods/http:{name}:{METRICS_PORT}/proxy/metrics")
            return int(sum(map(float, _HELD.findall(str(text)))))
        return 0

    def _complaints(self, name: str) -> list[str]:
        """Return the last lines of a collector's log in which it complains, or the last ones of all."""
        with suppress(KubewrightError):
            text = str(self._api.get(f"{self._core}/pods/{name}/log", tailLines=_LOG_LINES))
            lines = [line.strip()[:_LOG_WIDTH] for line in text.splitlines() if line.strip()]
            return ([line for line in lines if _COMPLAINT.search(line)] or lines)[-_TOLD_LINES:]
        return []
