# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Elasticsearch's pods find room: taints, labels, requests, and pods that keep away from each other."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._logging_room import (
    free_memory,
    requested,
    room_problems,
    takes_pods,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._logging_wanted import NodeSet

GIB = 1024**3
CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


def node(name: str, memory: str = "8Gi", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"disk": "fast"} if name == "w1" else {}},
        "spec": spec,
        "status": {"allocatable": {"memory": memory}},
    }


def container(memory: str, **more: Any) -> dict[str, Any]:
    return {"resources": {"requests": {"memory": memory}}, **more}


def pod(where: str, memory: str) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"nodeName": where, "containers": [container(memory)]}}


WORKERS = [node("w1"), node("w2"), node("w3")]
THREE = [NodeSet("elasticsearch", 3, 2 * GIB, "50Gi")]


@pytest.mark.parametrize(
    ("spec", "tolerations", "takes"),
    [
        ({}, [], True),
        ({"unschedulable": True}, [{"operator": "Exists"}], False),
        ({"taints": [CONTROL_PLANE]}, [], False),
        ({"taints": [CONTROL_PLANE]}, [{"operator": "Exists"}], True),
        ({"taints": [CONTROL_PLANE]}, [{"key": CONTROL_PLANE["key"], "operator": "Exists"}], True),
        ({"taints": [CONTROL_PLANE]}, [{"key": CONTROL_PLANE["key"], "effect": "NoExecute"}], False),
        ({"taints": [CONTROL_PLANE]}, [{"key": CONTROL_PLANE["key"]}], True),
        (
            {"taints": [{"key": "gpu", "value": "a", "effect": "NoExecute"}]},
            [{"key": "gpu", "value": "b"}],
            False,
        ),
        (
            {"taints": [{"key": "gpu", "value": "a", "effect": "NoExecute"}]},
            [{"key": "gpu", "value": "a"}],
            True,
        ),
        ({"taints": [{"key": "gpu", "effect": "PreferNoSchedule"}]}, [], True),
        (
            {"taints": [CONTROL_PLANE, {"key": "x", "effect": "NoExecute"}]},
            [{"key": "x", "operator": "Exists"}],
            False,
        ),
    ],
)
def test_which_nodes_take_pods(spec: dict[str, Any], tolerations: list[dict[str, Any]], takes: bool) -> None:
    assert takes_pods(node("n", **spec), tolerations) is takes


def test_what_a_pod_requests() -> None:
    """Init containers run before the others, those that go on run beside them (KEP 753)."""
    assert requested({"containers": [container("1Gi"), container("512Mi"), {}]}) == 1.5 * GIB
    assert requested({"containers": [container("1Gi")], "initContainers": [container("3Gi")]}) == 3 * GIB
    sidecar = container("1Gi", restartPolicy="Always")
    assert requested({"containers": [container("1Gi")], "initContainers": [sidecar]}) == 2 * GIB
    assert requested({"containers": [], "initContainers": [sidecar, container("2Gi")]}) == 3 * GIB
    assert requested({"containers": [container("1Gi")], "overhead": {"memory": "1Gi"}}) == 2 * GIB


def test_free_is_what_nobody_has_requested() -> None:
    assert free_memory([node("w1", "4Gi")], [pod("w1", "1Gi"), pod("w2", "1Gi"), pod("", "1Gi")]) == {
        "w1": 3 * GIB
    }


def test_enough() -> None:
    assert room_problems(THREE, WORKERS, [pod("w1", "6Gi")]) == []


def test_a_node_too_few() -> None:
    (found,) = room_problems(THREE, WORKERS[:2], [])
    assert found["what"] == "The nodes have no room for the 3 pods of elasticsearch"
    assert "on a node of its own, 2 found it, and what is left is no node that takes them" in found["why"]
    assert room_problems([NodeSet("elasticsearch-client", 3, GIB, "", apart=False)], WORKERS[:2], []) == []


def test_too_little_memory_names_what_is_left() -> None:
    (found,) = room_problems(THREE, WORKERS, [pod("w3", "7Gi")])
    assert (
        "each wants 2Gi of memory on a node of its own, 2 found it, and what is left is w3 1Gi"
        in found["why"]
    )


def test_the_collector_takes_its_part_of_every_node() -> None:
    assert room_problems(THREE, WORKERS, [pod("w3", "6Gi")], on_every_node=1) != []


def test_tolerations_and_labels_decide_which_nodes_count() -> None:
    planes = [node(f"cp{number}", taints=[CONTROL_PLANE]) for number in (1, 2, 3)]
    assert room_problems(THREE, planes, []) != []
    assert room_problems(THREE, planes, [], tolerations=[{"operator": "Exists"}]) == []
    assert room_problems(THREE, WORKERS, [], selector={"disk": "fast"}) != []


def test_the_largest_are_placed_first() -> None:
    """The other way round the small ones would sit where the large ones have to go."""
    sets = [NodeSet("small", 1, GIB, ""), NodeSet("large", 1, 8 * GIB, "")]
    assert room_problems(sets, [node("w1", "8Gi"), node("w2", "2Gi")], []) == []


def test_every_tier_without_room_is_named() -> None:
    sets = [NodeSet("elasticsearch-master", 3, GIB, "5Gi"), NodeSet("elasticsearch-data", 4, GIB, "50Gi")]
    assert len(room_problems(sets, WORKERS[:2], [])) == 2
