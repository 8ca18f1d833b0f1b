# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the nodes of a cluster have the memory for Elasticsearch's pods.

Pods are placed as the scheduler places them: the largest first, each where most is free, and none beside one that it
keeps away from. Pure functions.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._logging_wanted import NodeSet, finding
from ansible_collections.kubewright.cluster.plugins.module_utils._quantity import bytes_of, shown

_KEEPS_AWAY = ("NoSchedule", "NoExecute")


def room_problems(
    sets: Sequence[NodeSet],
    nodes: Sequence[Mapping[str, Any]],
    pods: Sequence[Mapping[str, Any]],
    *,
    tolerations: Sequence[Mapping[str, Any]] = (),
    selector: Mapping[str, str] | None = None,
    on_every_node: int = 0,
) -> list[dict[str, str]]:
    """Return what finds no room. *pods* are those of others, *on_every_node* is what a collector takes."""
    usable = [node for node in nodes if takes_pods(node, tolerations) and has_labels(node, selector or {})]
    free = {name: memory - on_every_node for name, memory in free_memory(usable, pods).items()}
    return list(_place(sets, free))


def free_memory(nodes: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return what no pod has requested, of each node."""
    free = {
        str(node["metadata"]["name"]): bytes_of(node["status"]["allocatable"]["memory"]) for node in nodes
    }
    for pod in pods:
        node = str(pod["spec"].get("nodeName") or "")
        if node in free:
            free[node] -= requested(pod["spec"])
    return free


def takes_pods(node: Mapping[str, Any], tolerations: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether pods with these tolerations may go to a node."""
    spec = node.get("spec") or {}
    taints = [taint for taint in spec.get("taints") or [] if taint.get("effect") in _KEEPS_AWAY]
    return not spec.get("unschedulable") and all(
        any(_tolerates(toleration, taint) for toleration in tolerations) for taint in taints
    )


def has_labels(node: Mapping[str, Any], selector: Mapping[str, str]) -> bool:
    """Tell whether a node has all labels of a selector."""
    labels = node["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("operator") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint.get("key")
    return toleration.get("key") == taint.get("key") and (toleration.get("value") or "") == (
        taint.get("value") or ""
    )


def requested(spec: Mapping[str, Any]) -> int:
    """Return the memory that the scheduler counts for a pod.

    Init containers run one after the other, before the others; those that go on (sidecars) run beside all later ones.
    """
    running, peak = 0, 0
    for container in spec.get("initContainers") or []:
        memory = _memory(container)
        if container.get("restartPolicy") == "Always":
            running += memory
            peak = max(peak, running)
        else:
            peak = max(peak, running + memory)
    running += sum(map(_memory, spec.get("containers") or []))
    return max(running, peak) + bytes_of((spec.get("overhead") or {}).get("memory", "0"))


def _memory(container: Mapping[str, Any]) -> int:
    return bytes_of(((container.get("resources") or {}).get("requests") or {}).get("memory", "0"))


def _place(sets: Sequence[NodeSet], free: dict[str, int]) -> Iterator[dict[str, str]]:
    for one in sorted(sets, key=lambda item: item.memory, reverse=True):
        taken: set[str] = set()
        for placed in range(one.replicas):
            left = {name: memory for name, memory in free.items() if name not in taken}
            node = max(left, key=lambda name: left[name], default="")
            if not node or left[node] < one.memory:
                yield _no_room(one, placed, left)
                break
            free[node] -= one.memory
            if one.apart:
                taken.add(node)


def _no_room(one: NodeSet, placed: int, left: Mapping[str, int]) -> dict[str, str]:
    told = ", ".join(f"{name} {shown(max(memory, 0))}" for name, memory in sorted(left.items()))
    each = f"each wants {shown(one.memory)} of memory" + (" on a node of its own" if one.apart else "")
    return finding(
        f"The nodes have no room for the {one.replicas} pods of {one.name}",
        why=f"{each}, {placed} found it, and what is left is {told or 'no node that takes them'}",
        remedy="Add workers, give them more memory, make the heap smaller, of which a pod has twice as much, or let "
        "control planes take these pods by kube_logging_tolerations",
    )
