# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs of container images once, with files, in a pod of the cluster.

The files are in a Secret that belongs to the Job, and the Job ends by itself: whenever the run is cut off, Kubernetes
takes both away.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

FOLDER = "/files"
_LABELS = {"app.kubernetes.io/name": "pod-command", "app.kubernetes.io/managed-by": "kubewright"}
_KEPT_SECONDS = 60
_LOG_LINES = 40
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Program:
    """What one container runs."""

    name: str
    image: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """How it ended, with the end of what it said."""

    name: str
    rc: int
    log: str


def job(
    name: str, namespace: str, programs: Sequence[Program], seconds: int, *, suspend: bool
) -> dict[str, Any]:
    """Return the Job. It is held until its Secret is there."""
    containers = [
        {
            "name": one.name,
            "image": one.image,
            "command": list(one.command),
            "securityContext": _SECURITY,
            "volumeMounts": [{"name": "files", "mountPath": FOLDER, "readOnly": True}],
        }
        for one in programs
    ]
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "runAsGroup": 65534,
            "fsGroup": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": containers,
        "volumes": [{"name": "files", "secret": {"secretName": name}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": _LABELS},
        "spec": {
            "suspend": suspend,
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": {"labels": _LABELS}, "spec": pod},
        },
    }


def secret(name: str, namespace: str, owner: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Return the Secret, which goes with the Job."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": _LABELS,
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": owner}],
        },
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in files.items()},
    }


def run(
    api: KubeApi,
    name: str,
    namespace: str,
    programs: Sequence[Program],
    files: Mapping[str, str],
    deadline: Deadline,
    manager: str = "kubewright",
) -> list[Ended]:
    """Run the programs beside each other, and return how they ended, in their order."""
    place = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
    where = f"/api/v1/namespaces/{namespace}/secrets/{name}"
    seconds = max(1, int(deadline.seconds))
    try:
        made = api.apply(place, job(name, namespace, programs, seconds, suspend=True), manager)
        owner = made["metadata"]["uid"]
        try:
            api.apply(where, secret(name, namespace, owner, files), manager)
        except ApiError as error:
            error.why = error.reason  # What the server says may quote the files.
            raise
        api.apply(place, job(name, namespace, programs, seconds, suspend=False), manager)
        pod = _wait(api, name, namespace, deadline)
        return [_ended(api, pod, one.name, namespace) for one in programs]
    finally:
        # What cannot be deleted now goes by itself.
        for path in (where, place):
            with contextlib.suppress(KubewrightError):
                api.delete(path, propagationPolicy="Background")


def _wait(api: KubeApi, name: str, namespace: str, deadline: Deadline) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []

    def done() -> dict[str, Any] | None:
        pods = api.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"job-name={name}")
        seen[:] = pods[-1:]
        states = [status.get("state") or {} for status in _statuses(seen[0])] if seen else []
        return seen[0] if states and all("terminated" in state for state in states) else None

    try:
        return wait_for(done, deadline, what=f"the pod of {name} to end", interval=0.5)
    except DeadlineExpired as error:
        error.where = f"namespace {namespace}"
        error.why = _held_by(seen[0]) if seen else "it was not made: a quota or a policy may forbid it"
        error.remedy = "See whether the nodes get the images and have room, then run again"
        raise


def _statuses(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (pod.get("status") or {}).get("containerStatuses") or []
    return found


def _held_by(pod: Mapping[str, Any]) -> str:
    """Say what the pod waits for."""
    reasons = []
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting:
            reasons.append(
                f"{status['name']}: {waiting.get('reason', '')} {waiting.get('message', '')}".strip()
            )
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") != "True":
            reasons.append(condition.get("message", ""))
    return "; ".join(reasons) or f"it is {(pod.get('status') or {}).get('phase', 'unknown')}"


def _ended(api: KubeApi, pod: Mapping[str, Any], name: str, namespace: str) -> Ended:
    status = next(one for one in _statuses(pod) if one["name"] == name)
    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log"
    log = api.get(path, container=name, tailLines=_LOG_LINES)
    return Ended(name, int(status["state"]["terminated"]["exitCode"]), str(log).strip())
