# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which pods leave a node that is drained, which stay, and which forbid it: pure functions.

The rules are those of ``kubectl drain``, in its order: the first one that takes a pod out of the drain ends its
judgement.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_MIRROR = "kubernetes.io/config.mirror"

EVICT, SKIP, REFUSE = "evict", "skip", "refuse"

_NOT_FOUND, _CONFLICT, _FORBIDDEN, _TOO_MANY, _INTERNAL = 404, 409, 403, 429, 500
# The API server knows no other sign of it (registry/core/pod/storage/eviction.go).
_TWO_BUDGETS = "more than one PodDisruptionBudget"


@dataclass(frozen=True)
class Rules:
    """What the user lets go. ``skip_wait_for_delete`` in seconds, 0 for never."""

    force: bool = False
    ignore_daemonsets: bool = True
    delete_emptydir_data: bool = False
    skip_wait_for_delete: int = 0


@dataclass(frozen=True)
class Pod:
    """What is known of a pod. ``controller`` is the kind and the name of its owner, empty without one.

    ``deleting`` is the time by which it should be gone, in seconds since the epoch, None for a pod that is kept.
    """

    namespace: str
    name: str
    uid: str
    phase: str = "Running"
    deleting: float | None = None
    controller: tuple[str, str] = ("", "")
    mirror: bool = False
    empty_dir: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True)
class Judged:
    """A pod, what becomes of it, and why."""

    pod: Pod
    action: str
    reason: str = ""


@dataclass(frozen=True)
class Budget:
    """A PodDisruptionBudget and its numbers. A selector of None selects nothing, an empty one everything."""

    namespace: str
    name: str
    selector: Mapping[str, Any] | None
    allowed: int
    desired: int
    healthy: int
    expected: int


@dataclass(frozen=True)
class Answer:
    """What the API server said to an eviction: ``done``, ``gone``, ``again`` (repeat it) or ``never``."""

    outcome: str
    message: str = ""
    budget: str = ""


def read_pod(item: Mapping[str, Any]) -> Pod:
    """Read a pod of the API. Only the owner that is marked as the controller counts."""
    about, spec = item["metadata"], item.get("spec") or {}
    owners = [one for one in about.get("ownerReferences") or [] if one.get("controller")]
    owner = owners[0] if owners else {}
    return Pod(
        about["namespace"],
        about["name"],
        about.get("uid") or "",
        (item.get("status") or {}).get("phase") or "",
        _seconds(about.get("deletionTimestamp")),
        (owner.get("kind") or "", owner.get("name") or ""),
        _MIRROR in (about.get("annotations") or {}),
        # An emptyDir without settings is {} in JSON.
        any(volume.get("emptyDir") is not None for volume in spec.get("volumes") or []),
        about.get("labels") or {},
    )


def judge(pod: Pod, rules: Rules, *, orphan: bool, now: float) -> Judged:
    """Judge one pod. *orphan* says that the DaemonSet which it names does not exist."""
    if lingers(pod, rules, now):
        return Judged(pod, SKIP, f"it should be gone since more than {rules.skip_wait_for_delete} seconds")
    if pod.controller[0] == "DaemonSet" and not pod.finished:
        name = f"{pod.namespace}/{pod.controller[1]}"
        if orphan and not rules.force:
            return Judged(pod, REFUSE, f"its DaemonSet {name} does not exist (force deletes it)")
        if not orphan and not rules.ignore_daemonsets:
            return Judged(pod, REFUSE, f"the DaemonSet {name} manages it (ignore_daemonsets leaves it)")
        if not orphan:
            return Judged(pod, SKIP, f"the DaemonSet {name} manages it and would start it again")
    if pod.mirror:
        return Judged(pod, SKIP, "it is a static pod")
    if not pod.finished:
        # Both are told, so that one run is enough to know them.
        wrong = []
        if pod.empty_dir and not rules.delete_emptydir_data:
            wrong.append("it has an emptyDir volume (delete_emptydir_data deletes it with its data)")
        if not pod.controller[0] and not rules.force:
            wrong.append("no controller would start it elsewhere (force deletes it)")
        if wrong:
            return Judged(pod, REFUSE, ", and ".join(wrong))
    return Judged(pod, EVICT)


def lingers(pod: Pod, rules: Rules, now: float) -> bool:
    """Tell whether nobody waits for this pod any more, because it should long be gone."""
    limit = rules.skip_wait_for_delete
    return limit > 0 and pod.deleting is not None and int(now - pod.deleting) > limit


def read_budget(item: Mapping[str, Any]) -> Budget:
    """Read a PodDisruptionBudget of the API."""
    status = item.get("status") or {}
    return Budget(
        item["metadata"]["namespace"],
        item["metadata"]["name"],
        (item.get("spec") or {}).get("selector"),
        status.get("disruptionsAllowed") or 0,
        status.get("desiredHealthy") or 0,
        status.get("currentHealthy") or 0,
        status.get("expectedPods") or 0,
    )


def budgets_of(pod: Pod, budgets: Iterable[Budget]) -> list[Budget]:
    """Return the budgets that select a pod."""
    return [one for one in budgets if one.namespace == pod.namespace and selects(one.selector, pod.labels)]


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Apply a label selector."""
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_fits(one, labels) for one in selector.get("matchExpressions") or [])


def _fits(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) == (operator == "Exists")


def waiting_for(pods: Iterable[Pod], budgets: Iterable[Budget]) -> list[dict[str, Any]]:
    """Return the budgets that do not let all of these pods go at once, with their numbers.

    A dry run of evictions uses nothing of a budget up, so it does not show this.
    """
    found = []
    pods = list(pods)
    for one in budgets:
        selected = [pod.path for pod in pods if not pod.finished and one in budgets_of(pod, [one])]
        if len(selected) > one.allowed:
            found.append({**numbers(one), "pods": sorted(selected)})
    return found


def numbers(budget: Budget) -> dict[str, Any]:
    """Return a budget as modules return it."""
    return {
        "pdb": f"{budget.namespace}/{budget.name}",
        "allowed": budget.allowed,
        "desired": budget.desired,
        "healthy": budget.healthy,
        "expected": budget.expected,
    }


def blocked(pod: Pod, message: str, budgets: Iterable[Budget]) -> dict[str, Any]:
    """Say what holds a pod, as modules return it."""
    mine = budgets_of(pod, budgets)
    shown = numbers(mine[0]) if mine else {}
    name = ", ".join(f"{one.namespace}/{one.name}" for one in mine)
    keys = ("allowed", "desired", "healthy", "expected")
    return {"pod": pod.path, "message": message, "pdb": name, **{key: shown.get(key) for key in keys}}


def blocked_text(entry: Mapping[str, Any]) -> str:
    """Say what holds a pod, for people."""
    if not entry["pdb"]:
        return f"{entry['pod']} ({entry['message'].rstrip('.')})"
    if ", " in entry["pdb"]:
        return f"{entry['pod']} (the PodDisruptionBudgets {entry['pdb']} select it, and the API server wants one)"
    return (
        f"{entry['pod']} (the PodDisruptionBudget {entry['pdb']} allows {entry['allowed']} disruptions: "
        f"{entry['healthy']} of {entry['expected']} pods are healthy, {entry['desired']} must be)"
    )


def read_refusal(error: ApiError) -> Answer:
    """Judge the answer to an eviction that was not accepted."""
    causes = [cause for cause in error.details.get("causes") or [] if isinstance(cause, Mapping)]
    said = error.why or error.what
    if error.status == _NOT_FOUND or error.status == _CONFLICT:
        # A conflict: the name belongs to another pod by now. The next look at the node tells.
        return Answer("gone")
    if error.status == _TOO_MANY:
        why = next((str(one.get("message")) for one in causes if one.get("reason") == "DisruptionBudget"), "")
        return Answer("again", why or said)
    if error.status == _FORBIDDEN:
        ends = any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
        return Answer("again" if ends else "never", said)
    if error.status == _INTERNAL and _TWO_BUDGETS in said:
        return Answer("never", said)
    return Answer("again" if error.transient else "never", said)


def is_ready(node: Mapping[str, Any]) -> bool:
    """Tell whether the kubelet of a node reports that it works."""
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def is_control_plane(node: Mapping[str, Any]) -> bool:
    return CONTROL_PLANE in (node["metadata"].get("labels") or {})


def _seconds(stamp: str | None) -> float | None:
    # Python 3.9 and 3.10 do not read the letter.
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() if stamp else None
