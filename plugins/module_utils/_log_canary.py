# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that the logging works: a pod on every node writes a line, and each line is found in Elasticsearch.

The pods run agnhost's ``entrypoint-tester``, which prints its arguments and ends (Kubernetes,
test/images/agnhost/entrypoint-tester). They name their nodes themselves, so that a node that takes no new pods has
one, too.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._drain import is_ready as is_node_ready
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import Elasticsearch
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._log_canary_causes import Causes
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

NAME = "kubewright-canary"
LABELS = {"app.kubernetes.io/managed-by": "kubewright", "app.kubernetes.io/name": NAME}
RUN = "kubewright.dev/canary"
INDICES = "logstash-*"

# The clock of this host and that of the API server may differ by so much.
_MARGIN = timedelta(minutes=1)
_NOBODY = 65534
_EXPLAINED = 5


@dataclass(frozen=True)
class Options:
    """What the user asked for. ``timeout`` is in seconds, for everything together."""

    namespace: str
    image: str
    timeout: float


@dataclass(frozen=True)
class Observed:
    """``nodes`` maps names to whether they are Ready; ``leftovers`` are runs that were cut off."""

    nodes: dict[str, bool]
    leftovers: list[str]


@dataclass(frozen=True)
class Plan:
    """What a run will do. ``pods`` maps nodes to the names of their pods."""

    namespace: str
    image: str
    token: str
    pods: dict[str, str]
    not_ready_nodes: list[str]
    leftovers: list[str]


@dataclass
class Report:
    """What a run found. The list of dicts is what the module returns."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def result(self) -> dict[str, Any]:
        """Return the keys of the module's result."""
        values = asdict(self)
        del values["warnings"]
        return {"passed": not self.failures, **values}

    def summary(self) -> str:
        """Return the message of the module."""
        if not self.failures:
            last = max(entry["seconds_to_find"] for entry in self.nodes)
            return f"The lines of {len(self.nodes)} nodes are in Elasticsearch, the last one after {last:g} seconds."
        more = f" {len(self.failures) - 1} more in failures." if len(self.failures) > 1 else ""
        return f"Not every line arrives in Elasticsearch. {self.failures[0]}{more}"


# --- observe -----------------------------------------------------------------------------------------------


def observe(api: KubeApi, namespace: str, now: datetime | None = None) -> Observed:
    """Read the nodes, and the pods that runs left behind."""
    moment = now or datetime.now(timezone.utc)
    nodes = api.list("/api/v1/nodes", labelSelector="kubernetes.io/os=linux")
    pods = api.list(_pods_path(namespace), labelSelector=_selector(LABELS))
    return Observed(
        nodes={node["metadata"]["name"]: is_node_ready(node) for node in nodes},
        leftovers=sorted(
            {pod["metadata"]["labels"].get(RUN, "") for pod in pods if _is_over(pod, moment)} - {""}
        ),
    )


def _is_over(pod: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether the time that a pod's own run had is over: until then the pod may be somebody's."""
    created = datetime.strptime(pod["metadata"]["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(
        tzinfo=timezone.utc
    )
    return created + timedelta(seconds=pod["spec"].get("activeDeadlineSeconds") or 0) + _MARGIN < now


# --- plan: pure --------------------------------------------------------------------------------------------


def plan(observed: Observed, options: Options, token: str) -> Plan:
    """Decide which nodes write a line. *token* is in each, one word for Elasticsearch, and in no other line."""
    ready = sorted(name for name, is_ready in observed.nodes.items() if is_ready)
    if not ready:
        raise KubewrightError(
            "There is no line to look for",
            why="no node is Ready",
            remedy="Look at the kubelet and the pod network of the nodes first",
        )
    return Plan(
        namespace=options.namespace,
        image=options.image,
        token=token,
        pods={node: f"{NAME}-{token}-{at}" for at, node in enumerate(ready)},
        not_ready_nodes=sorted(name for name, is_ready in observed.nodes.items() if not is_ready),
        leftovers=observed.leftovers,
    )


def pod(planned: Plan, node: str, seconds: float) -> dict[str, Any]:
    """Return the pod that writes the line of a node, and has *seconds* for it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": planned.pods[node],
            "namespace": planned.namespace,
            "labels": {**LABELS, RUN: planned.token},
        },
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": max(1, math.ceil(seconds)),
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _NOBODY,
                "runAsGroup": _NOBODY,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "canary",
                    "image": planned.image,
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["entrypoint-tester", planned.token],
                    "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def query(planned: Plan) -> dict[str, Any]:
    """Return the search for the lines. Some may be there twice, so that it asks for more than there are nodes."""
    return {
        "size": min(10000, 10 * len(planned.pods)),
        "_source": ["kubernetes.pod_name"],
        "query": {"bool": {"filter": [{"match": {"message": planned.token}}]}},
    }


def found_pods(answer: Mapping[str, Any]) -> set[str]:
    """Return the names of the pods whose lines a search has found."""
    hits = (answer.get("hits") or {}).get("hits") or []
    sources = [hit.get("_source") or {} for hit in hits]
    return {str((source.get("kubernetes") or {}).get("pod_name")) for source in sources}


# --- apply -------------------------------------------------------------------------------------------------


def execute(
    api: KubeApi,
    elasticsearch: Elasticsearch,
    planned: Plan,
    options: Options,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Write the lines and look for them; remove the pods whatever happens. Failures are in the report, not raised."""
    report = Report()
    begin = clock()
    canary = _Canary(api, elasticsearch, planned, options, report, clock, sleep)
    try:
        for token in planned.leftovers:
            canary.remove(token)
        canary.write()
        canary.find()
    except KubewrightError as error:
        report.failures.append(str(error))
    finally:
        canary.remove(planned.token)
        report.nodes = canary.nodes()
        report.seconds = round(clock() - begin, 1)
    return report


class _Canary:
    def __init__(
        self,
        api: KubeApi,
        elasticsearch: Elasticsearch,
        planned: Plan,
        options: Options,
        report: Report,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._api = api
        self._elasticsearch = elasticsearch
        self._plan = planned
        self._report = report
        self._clock = clock
        self._begin = clock()
        self._end = Deadline(options.timeout, clock=clock, sleep=sleep)
        self._pods: list[dict[str, Any]] = []
        # Seconds, by the names of the pods.
        self._written: dict[str, float] = {}
        self._found: dict[str, float] = {}

    def write(self) -> None:
        for node, name in self._plan.pods.items():

            def applied(node: str = node, name: str = name) -> Any:
                body = pod(self._plan, node, self._end.remaining())
                return self._api.apply(f"{_pods_path(self._plan.namespace)}/{name}", body)

            wait_for(applied, self._end, what=f"the API server to take pod {name}")

    def find(self) -> None:
        """Look for the lines until all are there; when the time is over, say why some are not."""
        try:
            wait_for(self._all_found, self._end, what="a line of every node")
        except DeadlineExpired as expired:
            if expired.why:
                raise  # One of the servers did not answer in the end: which lines arrived is not known.
            causes = Causes(self._api, self._elasticsearch, self._plan.namespace)
            self._report.failures += causes.common() + self._missing(causes)

    def nodes(self) -> list[dict[str, Any]]:
        """Return what is known of the line of each node."""
        return [
            {
                "node": node,
                "pod": name,
                "found": name in self._found,
                "seconds_to_write": self._written.get(name),
                "seconds_to_find": self._found.get(name),
            }
            for node, name in self._plan.pods.items()
        ]

    def _all_found(self) -> bool:
        self._pods = self._api.list(
            _pods_path(self._plan.namespace), labelSelector=_selector(_run(self._plan.token))
        )
        for one in self._pods:
            if (one.get("status") or {}).get("phase") == "Succeeded":
                self._note(self._written, one["metadata"]["name"])
        answer = self._elasticsearch.request("GET", f"/{INDICES}/_search", query(self._plan))
        for name in found_pods(answer):
            self._note(self._found, name)
        return self._found.keys() >= set(self._plan.pods.values())

    def _note(self, moments: dict[str, float], name: str) -> None:
        moments.setdefault(name, round(self._clock() - self._begin, 1))

    def _missing(self, causes: Causes) -> list[str]:
        """Explain some of the lines that were not found, and name the nodes of the others."""
        missing = [node for node, name in self._plan.pods.items() if name not in self._found]
        by_name = {one["metadata"]["name"]: one for one in self._pods}
        said = []
        for node in missing[:_EXPLAINED]:
            name = self._plan.pods[node]
            if name in self._written:
                said.append(causes.of_lost_line(node))
            else:
                said.append(causes.of_unwritten_line(node, by_name.get(name)))
        others = missing[_EXPLAINED:]
        return said + ([f"No line came from nodes {', '.join(others)} either."] if others else [])

    def remove(self, token: str) -> None:
        """Delete the pods of a run; a later one deletes what stays."""
        try:
            self._api.delete(_pods_path(self._plan.namespace), labelSelector=_selector(_run(token)))
        except KubewrightError as error:
            self._report.warnings.append(f"The pods of the canary could not be removed: {error}")


def _pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def _run(token: str) -> dict[str, str]:
    return {**LABELS, RUN: token}


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def new_token(random_hex: str) -> str:
    """Return a word that Elasticsearch's analyzer leaves whole: letters and digits, a letter first."""
    return f"canary{random_hex}"
