# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drains against a FakeApi, for what a real API server cannot be made to do at a chosen moment."""

from __future__ import annotations

import copy
import threading
from typing import Any, Callable

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cordon import CORDONED
from ansible_collections.kubewright.cluster.plugins.module_utils._drain import Rules
from ansible_collections.kubewright.cluster.plugins.module_utils._drain_node import Drainer, Outcome, Wanted
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

PDB = [{"reason": "DisruptionBudget", "message": "The disruption budget web needs 1 healthy pods and has 1"}]


class FakeClock:
    """Time passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ticks: list[Callable[[], None]] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for tick in list(self.ticks):
            tick()


class FakeApi:
    """One node and its pods. A pod that is evicted is gone after ``ends`` seconds."""

    def __init__(self, clock: FakeClock, **pods: dict[str, Any]) -> None:
        self.clock = clock
        self.nodes = {"w1": self.node("w1")}
        self.pods = {name: self.pod(name, **what) for name, what in pods.items()}
        self.ends: dict[str, float] = {}
        self.refusals: dict[str, list[ApiError]] = {}
        self.troubles: list[ApiError] = []
        self.budgets: list[dict[str, Any]] = []
        self.daemonsets = {"net"}
        self.evictions: list[tuple[str, dict[str, Any], bool]] = []
        self.deletions: list[tuple[str, dict[str, Any], bool]] = []
        self.patches: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.together = self.most_together = 0
        clock.ticks.append(self.reap)

    @staticmethod
    def node(name: str, ready: bool = True, labels: dict[str, str] | None = None) -> dict[str, Any]:
        return {
            "metadata": {"name": name, "resourceVersion": "1", "labels": labels or {}, "annotations": {}},
            "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]},
        }

    @staticmethod
    def pod(name: str, owner: str = "ReplicaSet", uid: str = "", **more: Any) -> dict[str, Any]:
        owners = [{"kind": owner, "name": "net", "controller": True}] if owner else []
        about = {
            "namespace": "shop",
            "name": name,
            "uid": uid or f"uid-{name}",
            "labels": {"app": "web"},
            "ownerReferences": owners,
        }
        return {
            "metadata": about,
            "spec": {"volumes": more.get("volumes", [])},
            "status": {"phase": "Running"},
        }

    def reap(self) -> None:
        for name in [name for name, end in self.ends.items() if self.clock.now >= end]:
            self.pods.pop(name, None)
            del self.ends[name]

    def get(self, path: str, **_: Any) -> Any:
        self.stumble()
        kind, _slash, name = path.rpartition("/")
        if kind.endswith("daemonsets") and name in self.daemonsets:
            return {}
        if kind.endswith("nodes") and name in self.nodes:
            return copy.deepcopy(self.nodes[name])
        raise ApiError("no", status=404)

    def stumble(self) -> None:
        if self.troubles:
            raise self.troubles.pop(0)

    def list(self, path: str, **_: Any) -> Any:
        self.stumble()
        if path.endswith("poddisruptionbudgets"):
            return self.budgets
        return copy.deepcopy(list((self.nodes if path.endswith("nodes") else self.pods).values()))

    def request(self, method: str, path: str, *, body: Any, query: dict[str, Any], **_: Any) -> Any:
        dry = query.get("dryRun") == "All"
        if method == "PATCH":
            return self.patch(path, body, dry)
        return self.end(path.split("/")[6], body["deleteOptions"], dry, self.evictions)

    def patch(self, path: str, body: dict[str, Any], dry: bool) -> None:
        self.stumble()
        self.patches.append(body)
        if dry:
            return
        node = self.nodes[path.rpartition("/")[2]]
        if body["spec"]["unschedulable"]:
            node["spec"]["unschedulable"] = True
            node["metadata"]["annotations"].update(body["metadata"]["annotations"])
        else:
            node["spec"].pop("unschedulable", None)
            node["metadata"]["annotations"].pop(CORDONED, None)

    def delete(self, path: str, *, body: Any, **query: Any) -> Any:
        return self.end(path.split("/")[6], body, query.get("dryRun") == "All", self.deletions)

    def end(self, name: str, options: dict[str, Any], dry: bool, kept: list[Any]) -> None:
        with self.lock:
            self.together += 1
            self.most_together = max(self.most_together, self.together)
        try:
            kept.append((name, options, dry))
            if self.refusals.get(name):
                raise self.refusals[name].pop(0)
            if name not in self.pods:
                raise ApiError("gone", status=404)
            if not dry and name not in self.ends:
                about = self.pods[name]["metadata"]
                about["deletionTimestamp"] = "2027-01-15T08:00:00Z"
                self.ends[name] = self.clock.now + self.pods[name].get("takes", 2)
        finally:
            with self.lock:
                self.together -= 1


def drain(
    api: FakeApi, timeout: float = 60, check_mode: bool = False, **wanted: Any
) -> tuple[Outcome, Drainer]:
    deadline = Deadline(timeout, clock=lambda: api.clock.now, sleep=api.clock.sleep)
    drainer = Drainer(
        api,  # type: ignore[arg-type]
        Wanted("w1", **wanted),
        deadline,
        check_mode=check_mode,
        wall=lambda: 1_800_000_000 + api.clock.now,
    )
    return drainer.run(), drainer


def failed(api: FakeApi, **options: Any) -> KubewrightError:
    with pytest.raises(KubewrightError) as caught:
        drain(api, **options)
    return caught.value


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def refused(status: int, times: int = 1, **more: Any) -> list[ApiError]:
    transient = status in (0, 429, 500, 503)
    return [ApiError("no", status=status, transient=transient, **more) for _ in range(times)]


def test_a_node_is_cordoned_and_emptied(clock: FakeClock) -> None:
    api = FakeApi(clock, a={}, b={}, c={"owner": "DaemonSet"})
    out, _ = drain(api)
    assert out.changed and out.cordoned and not out.was_unschedulable and not out.schedulable
    assert sorted(pod.name for pod, _ in out.evicted.values()) == ["a", "b"]
    # Weakness 3: it is over when the pods are gone, not when they were asked to go.
    assert all(seconds == 2 for _, seconds in out.evicted.values())
    assert list(api.pods) == ["c"] and [one.pod.name for one in out.skipped] == ["c"]
    assert CORDONED in api.nodes["w1"]["metadata"]["annotations"]


def test_a_drained_node_is_left_alone(clock: FakeClock) -> None:
    api = FakeApi(clock, a={})
    drain(api)
    sent = len(api.patches), len(api.evictions)
    out, _ = drain(api)
    assert not out.changed and out.was_unschedulable and sent == (len(api.patches), len(api.evictions))


def test_a_pod_that_may_not_go_keeps_the_node_untouched(clock: FakeClock) -> None:
    api = FakeApi(clock, a={}, bare={"owner": ""})
    error = failed(api)
    assert "shop/bare: no controller" in str(error) and "Nothing was evicted" in str(error)
    assert not api.patches and not api.evictions and error.facts["changed"] is False
    assert [one["pod"] for one in error.facts["refused_pods"]] == ["shop/bare"]


def test_a_pod_that_comes_before_the_cordon_and_may_not_go_gives_the_node_back(clock: FakeClock) -> None:
    api = FakeApi(clock, a={})
    real = api.patch

    def patch(path: str, body: Any, dry: bool) -> None:
        real(path, body, dry)
        api.pods["bare"] = api.pod("bare", owner="")

    api.patch = patch  # type: ignore[method-assign]
    error = failed(api)
    assert not api.evictions and not error.facts["cordoned"] and error.facts["schedulable"]
    assert "unschedulable" not in api.nodes["w1"]["spec"]


def test_a_pod_bound_to_the_node_after_the_last_look_goes_too(clock: FakeClock) -> None:
    api = FakeApi(clock, a={})
    clock.ticks.append(lambda: api.pods.setdefault("late", api.pod("late")) and clock.ticks.pop())
    out, _ = drain(api)
    assert sorted(pod.name for pod, _ in out.evicted.values()) == ["a", "late"]


def test_a_blocked_pod_keeps_no_other(clock: FakeClock) -> None:
    """Weakness 1 and kubernetes.core 711: one eviction that is refused is no end, and others do not wait for it."""
    api = FakeApi(clock, a={}, b={}, c={})
    api.refusals["a"] = refused(429, 3, details={"causes": PDB})
    out, _ = drain(api)
    assert len(out.evicted) == 3 and not out.blocked
    assert sorted(name for name, *_ in api.evictions[:3]) == ["a", "b", "c"]
    assert sum(name == "a" for name, *_ in api.evictions) == 4


def test_the_budget_that_holds_to_the_end_is_named(clock: FakeClock) -> None:
    """kubectl 172 waits in silence; weakness 4 calls it done."""
    api = FakeApi(clock, a={}, b={})
    api.refusals["a"] = refused(429, 999, details={"causes": PDB})
    api.budgets = [
        {
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": {"disruptionsAllowed": 0, "desiredHealthy": 1, "currentHealthy": 1, "expectedPods": 1},
        }
    ]
    error = failed(api, timeout=30)
    assert isinstance(error, DeadlineExpired) and clock.now == 30
    assert "the PodDisruptionBudget shop/web allows 0 disruptions: 1 of 1 pods are healthy, 1 must be" in str(
        error
    )
    facts = error.facts
    # Weakness 9: what was done is told in a failure too.
    assert facts["changed"] and facts["cordoned"] and [one["pod"] for one in facts["evicted"]] == ["shop/b"]
    assert facts["pending"] == ["shop/a"] and facts["blocked"][0]["desired"] == 1
    # After 1, 2, 4, then every 5 seconds.
    assert sum(name == "a" for name, *_ in api.evictions) in (8, 9)


def test_a_failure_can_give_the_node_back(clock: FakeClock) -> None:
    api = FakeApi(clock, a={}, b={})
    api.refusals["a"] = refused(403, 9, why="a webhook says no")
    error = failed(api, on_failure="uncordon")
    assert not error.facts["cordoned"] and "unschedulable" not in api.nodes["w1"]["spec"]
    assert "The node takes pods again" in str(error) and "stays cordoned" not in str(error)


def test_a_node_that_no_pod_has_left_is_given_back_and_the_message_says_so(clock: FakeClock) -> None:
    api = FakeApi(clock, a={})
    api.refusals["a"] = refused(429, 99, why="the budget is empty")
    error = failed(api, timeout=10)
    assert not error.facts["changed"] and "unschedulable" not in api.nodes["w1"]["spec"]
    assert "The node takes pods again" in str(error)


def test_an_eviction_that_is_forbidden_for_good_is_not_repeated(clock: FakeClock) -> None:
    api = FakeApi(clock, a={}, b={})
    api.refusals["a"] = refused(403, 9, why="a webhook says no")
    error = failed(api)
    assert "a webhook says no" in str(error) and not isinstance(error, DeadlineExpired)
    assert clock.now < 5 and "b" not in api.pods and error.facts["pending"] == ["shop/a"]


def test_a_server_that_restarts_is_waited_for(clock: FakeClock) -> None:
    """Weakness 2."""
    api = FakeApi(clock, a={})
    api.troubles = refused(503) + refused(0)
    api.refusals["a"] = refused(500) + refused(0)
    clock.ticks.append(lambda: api.troubles.extend(refused(0)) if clock.now in (3, 4) else None)
    out, _ = drain(api)
    assert len(out.evicted) == 1 and not api.pods


def test_a_conflict_while_cordoning_is_tried_again(clock: FakeClock) -> None:
    api = FakeApi(clock)
    real, first = api.patch, refused(409)

    def patch(path: str, body: Any, dry: bool) -> None:
        if first:
            raise first.pop()
        real(path, body, dry)

    api.patch = patch  # type: ignore[method-assign]
    assert drain(api, state="cordoned")[0].cordoned


def test_a_pod_of_the_same_name_is_another_one(clock: FakeClock) -> None:
    """k/k 138229, and weakness 10: a StatefulSet's pod comes back under its name."""
    api = FakeApi(clock, a={})

    def reborn() -> None:
        if "a" not in api.pods and clock.now < 10:
            api.pods["a"] = api.pod("a", uid="other", owner="DaemonSet")

    clock.ticks.append(reborn)
    out, _ = drain(api)
    assert clock.now < 5 and len(out.evicted) == 1 and "a" in api.pods
    assert api.evictions[0][1]["preconditions"] == {"uid": "uid-a"}


def test_an_eviction_in_a_namespace_that_ends_is_repeated_until_the_pod_ends(clock: FakeClock) -> None:
    api = FakeApi(clock, a={})
    api.refusals["a"] = refused(403, 2, details={"causes": [{"reason": "NamespaceTerminating"}]})
    assert len(drain(api)[0].evicted) == 1


def test_a_pod_that_is_ending_is_only_waited_for(clock: FakeClock) -> None:
    """Weakness 8."""
    api = FakeApi(clock, a={})
    api.pods["a"]["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    api.ends["a"] = 5
    out, _ = drain(api)
    assert not api.evictions and not out.evicted and clock.now == 5


def test_a_pod_that_never_ends_is_told_and_can_be_left(clock: FakeClock) -> None:
    """k/k 91141 and kops 2537."""
    api = FakeApi(clock, a={}, b={})
    api.pods["a"]["takes"] = 1e9
    error = failed(api, timeout=20)
    assert "asked to end, but still there: shop/a" in str(error)
    assert [(one["pod"], one["seconds"]) for one in error.facts["evicted"]] == [
        ("shop/a", None),
        ("shop/b", 2),
    ]
    out, _ = drain(api, timeout=60, rules=Rules(skip_wait_for_delete=30))
    assert clock.now < 60 and not out.pending


def test_evictions_go_in_parallel_but_not_without_bound(clock: FakeClock) -> None:
    api = FakeApi(clock, **{f"p{number}": {} for number in range(100)})
    out, _ = drain(api)
    assert len(out.evicted) == 100 and api.most_together <= 16 and clock.now < 5


def test_no_grace_is_a_grace(clock: FakeClock) -> None:
    """Weakness 5."""
    api = FakeApi(clock, a={})
    drain(api, grace_period=0)
    assert api.evictions[0][1]["gracePeriodSeconds"] == 0
    api.pods["b"] = api.pod("b")
    drain(api)
    assert "gracePeriodSeconds" not in api.evictions[1][1]


def test_without_evictions_pods_are_deleted_with_a_warning(clock: FakeClock) -> None:
    api = FakeApi(clock, a={})
    out, _ = drain(api, disable_eviction=True)
    assert not api.evictions and [pod.name for pod, _ in out.deleted.values()] == ["a"]
    assert api.deletions[0][1]["preconditions"] == {"uid": "uid-a"}
    assert "PodDisruptionBudgets are not respected" in out.warnings[0]


def test_the_pods_of_a_dead_host_are_deleted_where_that_is_accepted(clock: FakeClock) -> None:
    api = FakeApi(clock, a={})
    api.nodes["w1"] = api.node("w1", ready=False)
    api.pods["a"]["takes"] = 0
    out, _ = drain(api, accept_unconfirmed_deletion=True)
    assert api.deletions[0][1]["gracePeriodSeconds"] == 0 and not api.evictions and out.deleted
    assert "If the host lives" in out.warnings[0]


def test_the_pods_of_a_dead_host_are_not_deleted_unasked(clock: FakeClock) -> None:
    api = FakeApi(clock, a={})
    api.nodes["w1"] = api.node("w1", ready=False)
    api.pods["a"]["takes"] = 1e9
    error = failed(api, timeout=10)
    assert not api.deletions and "set accept_unconfirmed_deletion" in str(error)


def test_a_living_host_keeps_its_rights(clock: FakeClock) -> None:
    api = FakeApi(clock, a={})
    drain(api, accept_unconfirmed_deletion=True)
    assert api.evictions and not api.deletions


def test_check_mode_lets_the_server_judge_and_changes_nothing(clock: FakeClock) -> None:
    """Weakness 11."""
    api = FakeApi(clock, a={}, b={})
    api.refusals["a"] = refused(429, details={"causes": PDB})
    before = copy.deepcopy((api.nodes, api.pods))
    out, _ = drain(api, check_mode=True)
    assert out.changed and out.cordoned and [pod.name for pod, _ in out.evicted.values()] == ["b"]
    assert [one["pod"] for one in out.blocked] == ["shop/a"] and "refuses now: shop/a" in out.warnings[0]
    assert all(dry for *_, dry in api.evictions) and (api.nodes, api.pods) == before and clock.now == 0


def test_a_cordon_of_somebody_else_stays(clock: FakeClock) -> None:
    """kured 314 and 791."""
    api = FakeApi(clock)
    api.nodes["w1"]["spec"]["unschedulable"] = True
    out, _ = drain(api)
    assert not out.cordoned and not api.patches
    out, _ = drain(api, state="uncordoned")
    assert not out.changed and not out.schedulable and "somebody else" in out.warnings[0]
    out, _ = drain(api, state="uncordoned", accept_foreign_cordon=True)
    assert out.uncordoned and out.schedulable


def test_our_own_cordon_is_taken_away(clock: FakeClock) -> None:
    api = FakeApi(clock)
    drain(api, state="cordoned")
    assert drain(api, state="cordoned")[0].changed is False
    out, _ = drain(api, state="uncordoned")
    assert out.uncordoned and CORDONED not in api.nodes["w1"]["metadata"]["annotations"]
    assert drain(api, state="uncordoned")[0].changed is False


@pytest.mark.parametrize("state", ["cordoned", "drained", "uncordoned"])
def test_a_node_that_is_gone_is_fine(clock: FakeClock, state: str) -> None:
    api = FakeApi(clock)
    api.nodes.clear()
    out, _ = drain(api, state=state)
    assert not out.exists and not out.changed


def test_the_last_control_plane_is_not_cordoned_in_silence(clock: FakeClock) -> None:
    """kured 841."""
    api = FakeApi(clock)
    label = {"node-role.kubernetes.io/control-plane": ""}
    api.nodes = {"w1": api.node("w1", labels=label), "cp2": api.node("cp2", ready=False, labels=label)}
    out, _ = drain(api)
    assert "last control plane" in out.warnings[0]


def test_an_orphan_of_a_daemonset_needs_force(clock: FakeClock) -> None:
    api = FakeApi(clock, a={"owner": "DaemonSet"})
    api.daemonsets.clear()
    assert "does not exist" in str(failed(api))
    assert len(drain(api, rules=Rules(force=True))[0].evicted) == 1
