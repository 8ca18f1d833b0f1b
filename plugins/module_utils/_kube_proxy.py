# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roll kube-proxy over to a configuration, node by node, and back when it does not work.

kubeadm's phase for kube-proxy writes the ConfigMap and leaves the pods as they are, so the pods are replaced by
an annotation of their template, which names the configuration. The same annotation of the DaemonSet itself is
written first: where the two differ, an earlier run was stopped in between. An upgrade by kubeadm removes both
and replaces the pods itself.

The configuration that is known to work stays in an annotation of the DaemonSet until every pod runs by the new
one: a run that is stopped leaves the way back, and the next one sees from it that the rollout was never proven.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Protocol

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

CONFIG_KEY = "config.conf"
ANNOTATION = "kubewright.cluster/configuration"
PROVEN = "kubewright.cluster/proven-configuration"

_CONFIG_MAP = "/api/v1/namespaces/kube-system/configmaps/kube-proxy"
_DAEMON_SET = "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"
_PODS = "/api/v1/namespaces/kube-system/pods"
_MERGE = "application/merge-patch+json"
_CRASHES = 2
_LOG_LINES = 20


class Api(Protocol):
    """The part of KubeApi that is used here."""

    def get(self, path: str, **query: Any) -> Any: ...

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]: ...

    def request(self, method: str, path: str, *, body: Any = None, content_type: str = "") -> Any: ...


class _Proven(NamedTuple):
    """The configuration to go back to, and the annotation that the pods have with it."""

    mark: str | None
    text: str


class _Seen(NamedTuple):
    """How far a rollout has come."""

    updated: int = 0
    ready: int = 0
    done: bool = False


class KubeProxy:
    """The DaemonSet of kube-proxy. *deadline* begins the time in which a rollout must get on by a pod."""

    def __init__(self, api: Api, deadline: Callable[[], Deadline]) -> None:
        self._api = api
        self._deadline = deadline

    def unrolled(self) -> bool:
        """Tell whether an earlier run was stopped before every pod was seen to run by the configuration."""
        daemon_set = self._api.get(_DAEMON_SET)
        meant, done = _annotation(daemon_set), _annotation(daemon_set["spec"]["template"])
        return _proven(daemon_set) is not None or (meant is not None and meant != done)

    def replace(self, before: str, after: str) -> None:
        """Let every kube-proxy run by the configuration *after*, by the old one again if one does not work.

        The old one is *before*, or what an earlier run that was stopped began from.
        """
        daemon_set = self._api.get(_DAEMON_SET)
        old = _proven(daemon_set) or _Proven(_annotation(daemon_set["spec"]["template"]), before)
        try:
            self._roll(after, digest(after), old)
        except KubewrightError as error:
            try:
                self._roll(old.text, old.mark, old)
            except KubewrightError as second:
                error.remedy = f"The old configuration was put back, but that does not work either: {second}"
            raise

    def _roll(self, text: str, mark: str | None, old: _Proven) -> None:
        annotations = {ANNOTATION: mark, PROVEN: json.dumps(old._asdict())}
        self._patch(_DAEMON_SET, {"metadata": {"annotations": annotations}})
        self._patch(_CONFIG_MAP, {"data": {CONFIG_KEY: text}})
        template = {"metadata": {"annotations": {ANNOTATION: mark}}}
        self._patch(_DAEMON_SET, {"spec": {"template": template}})
        seen = _Seen()
        while not seen.done:
            # The pods are replaced one after the other, so the time that all of them take says nothing.
            seen = wait_for(
                lambda last=seen: self._rolled(mark, last),  # type: ignore[misc]
                self._deadline(),
                what="kube-proxy to run by its new configuration on one more node",
            )
        self._patch(_DAEMON_SET, {"metadata": {"annotations": {PROVEN: None}}})

    def _patch(self, path: str, body: dict[str, Any]) -> None:
        def attempt() -> bool:
            self._api.request("PATCH", path, body=body, content_type=_MERGE)
            return True

        wait_for(attempt, self._deadline(), what=f"the API server to accept a change of {path}")

    def _rolled(self, mark: str | None, last: _Seen) -> _Seen:
        """Return how far the rollout is, once it is further than ever before: pods that come and go are no progress."""
        daemon_set = self._api.get(_DAEMON_SET)
        status = daemon_set.get("status") or {}
        wanted = status.get("desiredNumberScheduled", 0)
        updated, ready = status.get("updatedNumberScheduled", 0), status.get("numberReady", 0)
        if status.get("observedGeneration", 0) >= daemon_set["metadata"]["generation"]:
            if updated >= wanted and ready >= wanted:
                return _Seen(updated, ready, done=True)
            self._stop_at_a_crash(mark)
            if updated > last.updated or ready > last.ready:
                return _Seen(max(updated, last.updated), max(ready, last.ready))
        raise KubewrightError(
            f"{ready} of {wanted} kube-proxies are ready, {updated} run by the new configuration",
            remedy="A node that is not Ready holds the others up: bring it back or remove it",
            transient=True,
        )

    def _stop_at_a_crash(self, mark: str | None) -> None:
        for pod in self._api.list(_PODS, labelSelector="k8s-app=kube-proxy"):
            statuses = (pod.get("status") or {}).get("containerStatuses") or []
            if _annotation(pod) != mark or sum(one.get("restartCount", 0) for one in statuses) < _CRASHES:
                continue
            lines = self._log(pod["metadata"]["name"])
            raise Unproven(
                "kube-proxy does not run by its new configuration",
                where=pod["spec"].get("nodeName", ""),
                why="it ended again and again. Its last lines: " + " | ".join(lines[-3:]),
                remedy="The old configuration is back in place. Correct the settings and run again",
                component="kube-proxy",
                log=lines,
            )

    def _log(self, name: str) -> list[str]:
        try:
            text = self._api.get(f"{_PODS}/{name}/log", tailLines=_LOG_LINES, previous=True)
        except ApiError as error:
            return [f"(no log: {error.why})"]
        return [line for line in str(text).splitlines() if line.strip()]


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _proven(daemon_set: Mapping[str, Any]) -> _Proven | None:
    text = _annotation(daemon_set, PROVEN)
    return _Proven(**json.loads(text)) if text else None


def _annotation(item: Mapping[str, Any], name: str = ANNOTATION) -> str | None:
    return ((item.get("metadata") or {}).get("annotations") or {}).get(name)
