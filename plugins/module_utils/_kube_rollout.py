# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether workloads are rolled out, and why their pods are not ready.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ansible_collections.kubewright.cluster.plugins.module_utils._drain import is_ready as is_node_ready
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._pods import (
    is_ready,
    last_messages,
    pod_node,
    pod_reasons,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
# Objects whose operator makes StatefulSets of them, and says of which generation it has done so in the condition
# Reconciled (prometheus-operator, Documentation/api-reference, Condition).
_OPERATED = {"Prometheus": "prometheuses", "Alertmanager": "alertmanagers"}

# So many pods are explained; the others mostly have the same trouble.
_EXPLAINED = 3
_LOG_LINES = 5
_NOT_FOUND = 404
_HASH = "controller-revision-hash"

_REMEDIES = (
    ("ImagePull", "Make sure that the node can pull the image, or name another one"),
    ("ErrImage", "Make sure that the node can pull the image, or name another one"),
    ("PersistentVolumeClaim", "Look at the volume (kubectl describe pvc) and at its storage class"),
    ("persistentvolumeclaim", "Look at the volume (kubectl describe pvc) and at its storage class"),
    ("ProvisioningFailed", "Look at the log of the provisioner of the storage class"),
    ("max_map_count", "Set vm.max_map_count on the node, as the role does"),
    ("OOMKilled", "Give it more memory"),
    ("Insufficient", "Give it less, or add a node"),
    ("anti-affinity", "Add nodes that take such pods: two of them may not share one"),
    ("forbidden: exceeded quota", "Raise the quota of the namespace"),
    ("sandbox", "Look at the CNI's pod on that node and at the journal of containerd"),
)


@dataclass(frozen=True)
class Workload:
    """One thing to wait for; ``kind`` is a key of PLURALS."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class State:
    """How far a workload is, or that there is none.

    ``left_out`` are nodes that are not Ready and not waited for, ``outdated`` is the object of an operator that has
    not come to it since it was changed.
    """

    workload: Workload
    wanted: int
    ready: int
    done: bool
    left_out: tuple[str, ...] = ()
    exists: bool = True
    outdated: str = ""

    def summary(self) -> dict[str, Any]:
        return {
            "kind": self.workload.kind,
            "name": self.workload.name,
            "wanted": self.wanted,
            "ready": self.ready,
            "done": self.done,
            "not_ready_nodes": list(self.left_out),
        }


@dataclass(frozen=True)
class Seen:
    """What was read of one workload.

    ``revision`` is the newest one of a DaemonSet, ``down`` its nodes that are not Ready, ``owner`` the object that an
    operator made a StatefulSet of.
    """

    item: Mapping[str, Any]
    pods: Sequence[Mapping[str, Any]]
    revision: str = ""
    down: frozenset[str] = frozenset()
    owner: Mapping[str, Any] | None = None


# --- observe -----------------------------------------------------------------------------------------------


def observe(api: KubeApi, namespace: str, workload: Workload) -> Seen:
    """Read a workload and its pods."""
    apps = f"/apis/apps/v1/namespaces/{quote(namespace, safe='')}"
    item = api.get(f"{apps}/{PLURALS[workload.kind]}/{quote(workload.name, safe='')}")
    labels = (item["spec"].get("selector") or {}).get("matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = api.list(f"/api/v1/namespaces/{quote(namespace, safe='')}/pods", labelSelector=selector)
    if workload.kind != "DaemonSet":
        return Seen(item, pods, owner=_operated(api, namespace, item))
    revisions = api.list(f"{apps}/controllerrevisions", labelSelector=selector)
    nodes = api.list("/api/v1/nodes")
    down = frozenset(node["metadata"]["name"] for node in nodes if not is_node_ready(node))
    return Seen(item, _owned(item, pods), _newest(_owned(item, revisions)), down)


def _operated(api: KubeApi, namespace: str, item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for owner in item["metadata"].get("ownerReferences") or []:
        plural = _OPERATED.get(str(owner.get("kind")))
        if plural:
            place = f"/apis/{owner['apiVersion']}/namespaces/{quote(namespace, safe='')}/{plural}"
            found: Mapping[str, Any] = api.get(f"{place}/{quote(owner['name'], safe='')}")
            return found
    return None


def _owned(item: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    uid = item["metadata"].get("uid")
    return [
        one
        for one in others
        if any(owner.get("uid") == uid for owner in one["metadata"].get("ownerReferences") or [])
    ]


def _newest(revisions: Sequence[Mapping[str, Any]]) -> str:
    if not revisions:
        return ""
    newest = max(revisions, key=lambda one: int(one.get("revision") or 0))
    return str((newest["metadata"].get("labels") or {}).get(_HASH) or "")


# --- judge: pure -------------------------------------------------------------------------------------------


def judge(workload: Workload, seen: Seen) -> State:
    """Say how far a workload is. What its controller has not seen yet is not done."""
    spec, status = seen.item.get("spec") or {}, seen.item.get("status") or {}
    current = (status.get("observedGeneration") or 0) >= (seen.item["metadata"].get("generation") or 0)
    if workload.kind == "DaemonSet":
        return _judge_daemon_set(workload, seen, status, current)
    wanted = int(spec.get("replicas", 1))
    if workload.kind == "Deployment":
        ready = int(status.get("availableReplicas") or 0)
        updated = int(status.get("updatedReplicas") or 0)
        done = updated == wanted == ready and int(status.get("replicas") or 0) == wanted
        return State(workload, wanted, ready, current and done)
    ready = int(status.get("readyReplicas") or 0)
    # With OnDelete nobody replaces pods of an older revision: they are not waited for.
    by_itself = (spec.get("updateStrategy") or {}).get("type") != "OnDelete"
    updated = int(status.get("updatedReplicas") or 0)
    done = ready == wanted == int(status.get("replicas") or 0) and (updated == wanted or not by_itself)
    outdated = _outdated(seen.owner)
    return State(workload, wanted, ready, current and done and not outdated, outdated=outdated)


def _outdated(owner: Mapping[str, Any] | None) -> str:
    """Return what the object of an operator is called, where the operator has not come to its present form."""
    if owner is None:
        return ""
    about = owner["metadata"]
    seen = [
        condition.get("observedGeneration") or 0
        for condition in (owner.get("status") or {}).get("conditions") or []
        if condition.get("type") == "Reconciled" and condition.get("status") == "True"
    ]
    if max(seen, default=-1) >= (about.get("generation") or 0):
        return ""
    return f"{owner.get('kind') or 'its object'} {about['name']}"


def _judge_daemon_set(workload: Workload, seen: Seen, status: Mapping[str, Any], current: bool) -> State:
    left_out = sorted({pod_node(pod) for pod in seen.pods} & seen.down)
    wanted = int(status.get("desiredNumberScheduled") or 0) - len(left_out)
    ready = sum(
        is_ready(pod) and (pod["metadata"].get("labels") or {}).get(_HASH) == seen.revision
        for pod in seen.pods
        if pod_node(pod) not in seen.down
    )
    return State(workload, wanted, ready, current and ready >= wanted, tuple(left_out))


def remedy_for(text: str) -> str:
    """Return what to look at, by what was said of the pods."""
    return next(
        (remedy for sign, remedy in _REMEDIES if sign in text), "Look at the log and the node of that pod"
    )


# --- explain -----------------------------------------------------------------------------------------------


def pod_trouble(api: KubeApi, namespace: str, pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return why a pod is not well: what it says, the last events, the last lines of its log.

    Only explains, so that what cannot be read is left out.
    """
    name = str(pod["metadata"]["name"])
    claims = [
        str(volume["persistentVolumeClaim"]["claimName"])
        for volume in pod["spec"].get("volumes") or []
        if volume.get("persistentVolumeClaim")
    ]
    return {
        "pod": name,
        "node": pod_node(pod),
        "reasons": pod_reasons(pod),
        "events": last_messages(_events(api, namespace), [name, *claims]),
        "log": _log(api, namespace, pod),
    }


def trouble_text(trouble: Mapping[str, Any]) -> str:
    """Return a sentence about a pod in trouble."""
    place = f" on node {trouble['node']}" if trouble["node"] else ""
    told = "; ".join(dict.fromkeys([*trouble["reasons"], *trouble["events"]]))
    log = f"; its log ends: {' | '.join(trouble['log'])}" if trouble["log"] else ""
    return f"pod {trouble['pod']}{place}: {told}{log}"


def _events(api: KubeApi, namespace: str) -> list[dict[str, Any]]:
    with suppress(KubewrightError):
        return api.list(f"/api/v1/namespaces/{namespace}/events")
    return []


def _log(api: KubeApi, namespace: str, pod: Mapping[str, Any]) -> list[str]:
    """Return the last lines of the container that is not ready; of its last life, when it has begun a new one."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    statuses = [status for status in statuses if not status.get("ready")] or statuses
    for status in statuses[:1]:
        previous = bool((status.get("lastState") or {}).get("terminated"))
        path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log"
        query = {"container": status["name"], "tailLines": _LOG_LINES, "previous": previous or None}
        with suppress(KubewrightError):
            return [line.strip()[:300] for line in str(api.get(path, **query)).splitlines() if line.strip()]
    return []


# --- wait --------------------------------------------------------------------------------------------------


def look(api: KubeApi, namespace: str, workloads: Sequence[Workload]) -> list[State]:
    """Return how far workloads are; one that does not exist wants nothing and is not done."""
    states = []
    for workload in workloads:
        try:
            states.append(judge(workload, observe(api, namespace, workload)))
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            states.append(State(workload, 0, 0, False, exists=False))
    return states


def wait(api: KubeApi, namespace: str, workloads: Sequence[Workload], deadline: Deadline) -> list[State]:
    """Wait until all are there and rolled out, or say what keeps them."""
    states: list[State] = []

    def rolled_out() -> bool:
        states[:] = look(api, namespace, workloads)
        return all(state.done for state in states)

    try:
        wait_for(rolled_out, deadline, what="workloads to be rolled out")
    except DeadlineExpired as expired:
        if expired.why or not states:
            raise  # The API server did not answer in the end, and would explain nothing.
        raise _explained(api, namespace, states, deadline) from expired
    return states


def _explained(api: KubeApi, namespace: str, states: Sequence[State], deadline: Deadline) -> KubewrightError:
    late = [state for state in states if not state.done]
    troubles: list[dict[str, Any]] = []
    said: list[str] = []
    events = _events(api, namespace)
    for state in late:
        pods = f"has {state.ready} of {state.wanted} pods ready"
        said.append(f"{state.workload} {pods if state.exists else 'does not exist'}")
        if state.outdated:
            said.append(f"the operator has not come to the present form of {state.outdated}")
        said += last_messages(events, [state.workload.name])
        with suppress(KubewrightError):
            seen = observe(api, namespace, state.workload)
            unwell = [pod for pod in seen.pods if not is_ready(pod) and pod_node(pod) not in seen.down]
            troubles += [pod_trouble(api, namespace, pod) for pod in unwell[:_EXPLAINED]]
    why = ". ".join([*said, *map(trouble_text, troubles)])
    return KubewrightError(
        f"{' and '.join(str(state.workload) for state in late)} did not roll out in {deadline.seconds:g} seconds",
        where=namespace,
        why=why,
        remedy=remedy_for(why),
        pods=troubles,
        workloads=[state.summary() for state in states],
    )
