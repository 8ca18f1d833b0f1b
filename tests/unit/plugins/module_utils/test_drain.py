# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._drain import (
    Budget,
    Pod,
    Rules,
    blocked,
    blocked_text,
    judge,
    read_pod,
    read_refusal,
    selects,
    waiting_for,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError

NOW = 1_800_000_000.0
OWNED = ("ReplicaSet", "web-1")
DAEMON = ("DaemonSet", "net")
ALL = Rules(force=True, delete_emptydir_data=True)


def pod(**what: Any) -> Pod:
    return Pod("shop", "web", "u1", **{"controller": OWNED, **what})


@pytest.mark.parametrize(
    ("what", "rules", "orphan", "action"),
    [
        ({}, Rules(), False, "evict"),
        ({"controller": ("", "")}, Rules(), False, "refuse"),
        ({"controller": ("", "")}, Rules(force=True), False, "evict"),
        ({"controller": ("", ""), "phase": "Succeeded"}, Rules(), False, "evict"),
        ({"controller": ("", ""), "phase": "Failed", "empty_dir": True}, Rules(), False, "evict"),
        ({"empty_dir": True}, Rules(), False, "refuse"),
        ({"empty_dir": True}, Rules(delete_emptydir_data=True), False, "evict"),
        # Weakness 6 of kubernetes.core.k8s_drain: each filter counts by itself.
        (
            {"controller": ("", ""), "empty_dir": True},
            Rules(delete_emptydir_data=True),
            False,
            "refuse",
        ),
        ({"controller": ("", ""), "empty_dir": True}, Rules(force=True), False, "refuse"),
        ({"controller": ("", ""), "empty_dir": True}, ALL, False, "evict"),
        ({"controller": DAEMON}, Rules(), False, "skip"),
        ({"controller": DAEMON}, Rules(ignore_daemonsets=False), False, "refuse"),
        ({"controller": DAEMON}, Rules(), True, "refuse"),
        ({"controller": DAEMON}, ALL, True, "evict"),
        ({"controller": DAEMON, "phase": "Failed"}, Rules(ignore_daemonsets=False), False, "evict"),
        # Weakness 7: a DaemonSet's pod with an emptyDir stays.
        ({"controller": DAEMON, "empty_dir": True}, ALL, False, "skip"),
        ({"mirror": True, "controller": ("Node", "cp1")}, Rules(), False, "skip"),
        ({"mirror": True, "empty_dir": True, "controller": ("", "")}, Rules(), False, "skip"),
        # Weakness 8: kubectl knows a limit for pods that never end.
        ({"deleting": NOW - 61}, Rules(skip_wait_for_delete=60), False, "skip"),
        ({"deleting": NOW - 60}, Rules(skip_wait_for_delete=60), False, "evict"),
        ({"deleting": NOW - 6000}, Rules(), False, "evict"),
        ({"deleting": NOW - 61, "controller": ("", "")}, Rules(skip_wait_for_delete=60), False, "skip"),
    ],
)
def test_a_pod_is_judged_as_kubectl_does(
    what: dict[str, Any], rules: Rules, orphan: bool, action: str
) -> None:
    assert judge(pod(**what), rules, orphan=orphan, now=NOW).action == action


def test_everything_that_forbids_a_pod_to_go_is_told_at_once() -> None:
    reason = judge(pod(controller=("", ""), empty_dir=True), Rules(), orphan=False, now=NOW).reason
    assert "emptyDir" in reason and "no controller" in reason


def test_a_pod_of_the_api_is_read() -> None:
    """Weakness 13: only an owner that is marked as the controller manages a pod."""
    item = {
        "metadata": {
            "namespace": "shop",
            "name": "web",
            "uid": "u1",
            "deletionTimestamp": "2027-01-15T08:00:00Z",
            "labels": {"app": "web"},
            "ownerReferences": [{"kind": "ConfigMap", "name": "x"}],
            "annotations": {"kubernetes.io/config.mirror": "1"},
        },
        "spec": {"volumes": [{"name": "a", "configMap": {}}, {"name": "b", "emptyDir": {}}]},
        "status": {"phase": "Pending"},
    }
    found = read_pod(item)
    assert found.controller == ("", "") and found.mirror and found.empty_dir
    assert found.deleting == 1_800_000_000 and found.phase == "Pending"
    item["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "j", "controller": True}]  # type: ignore[index]
    assert read_pod(item).controller == ("Job", "j")


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "db"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_a_selector_is_applied(selector: dict[str, Any] | None, fits: bool) -> None:
    assert selects(selector, {"app": "web"}) is fits


def budget(allowed: int, name: str = "web") -> Budget:
    return Budget("shop", name, {"matchLabels": {"app": "web"}}, allowed, 3, 3, 3)


def test_a_budget_that_lets_only_some_go_at_once_is_told() -> None:
    pods = [Pod("shop", f"web-{number}", f"u{number}", labels={"app": "web"}) for number in range(2)]
    assert waiting_for(pods, [budget(2)]) == []
    [found] = waiting_for(pods, [budget(1)])
    assert found["pods"] == ["shop/web-0", "shop/web-1"] and found["allowed"] == 1


def test_what_holds_a_pod_is_named_with_its_numbers() -> None:
    mine = Pod("shop", "web-0", "u", labels={"app": "web"})
    entry = blocked(mine, "no", [budget(0)])
    assert (
        blocked_text(entry) == "shop/web-0 (the PodDisruptionBudget shop/web allows 0 disruptions: "
        "3 of 3 pods are healthy, 3 must be)"
    )
    assert "shop/a, shop/b select it" in blocked_text(blocked(mine, "x", [budget(1, "a"), budget(1, "b")]))
    assert blocked_text(blocked(mine, "a webhook says no.", [])) == "shop/web-0 (a webhook says no)"


def refusal(status: int, causes: list[dict[str, str]] | None = None, **more: Any) -> ApiError:
    return ApiError(
        "refused", status=status, details={"causes": causes or []}, transient=status in (0, 429, 500), **more
    )


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (refusal(404), "gone"),
        (refusal(409), "gone"),
        (refusal(429, [{"reason": "DisruptionBudget", "message": "needs 3"}]), "again"),
        (refusal(429), "again"),
        (refusal(0), "again"),
        (refusal(500), "again"),
        (refusal(500, why="This pod has more than one PodDisruptionBudget, which is"), "never"),
        (refusal(403, [{"reason": "NamespaceTerminating", "message": ""}]), "again"),
        (refusal(403, why="admission webhook denied"), "never"),
        (refusal(400), "never"),
    ],
)
def test_an_answer_to_an_eviction_is_read(error: ApiError, outcome: str) -> None:
    assert read_refusal(error).outcome == outcome
