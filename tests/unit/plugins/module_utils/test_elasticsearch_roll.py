# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roll of Elasticsearch's pods, against a fake cluster in which time passes only when somebody waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_roll as roll
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import ElasticsearchError
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch_settings import ALLOCATION
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

CORE, APPS = "/api/v1/namespaces/logging", "/apis/apps/v1/namespaces/logging"
TIERS = {"master": 3, "data": 2, "client": 2}
# Seconds.
START, RECOVERY = 5, 3


class FakeCluster:
    """StatefulSets, their pods, and an Elasticsearch that is green when everybody is there and copies may be made."""

    def __init__(self, tiers: dict[str, int], leader: str = "") -> None:
        self.now = 0.0
        self.leader = leader
        self.generation = self.seen = 2
        self.revision = "new"
        self.sets = {f"elasticsearch-{tier}": (tier, count) for tier, count in tiers.items()}
        self.pods: dict[str, dict[str, Any]] = {}
        for name, (tier, count) in self.sets.items():
            for at in range(count):
                self._add(f"{name}-{at}", tier, "old")
        self.ready_at: dict[str, float] = {}
        self.green_at = 0.0
        self.never_ready: set[str] = set()
        self.persistent: dict[str, Any] = {}
        self.events: list[str] = []
        self.unassigned: list[dict[str, str]] = []
        self.deciders: dict[str, list[set[str]]] = {}
        self.down: Callable[[], bool] = lambda: False
        self.lost_answers = 0

    def _add(self, name: str, tier: str, revision: str) -> None:
        self.pods[name] = {
            "metadata": {
                "name": name,
                "uid": f"{name}-{revision}-{self.now}",
                "labels": {"app.kubernetes.io/component": tier, "controller-revision-hash": revision},
                "ownerReferences": [{"uid": f"elasticsearch-{tier}"}],
            },
            "spec": {"nodeName": "w1"},
        }

    def deadline(self, seconds: float) -> Deadline:
        def sleep(seconds: float) -> None:
            self.now += seconds

        return Deadline(seconds, clock=lambda: self.now, sleep=sleep)

    def is_ready(self, name: str) -> bool:
        return name not in self.never_ready and self.now >= self.ready_at.get(name, 0)

    # --- the API of Kubernetes

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        if path == f"{CORE}/events":
            return []
        assert query == {"labelSelector": "app.kubernetes.io/name=elasticsearch"}
        if path == f"{APPS}/statefulsets":
            return [
                {
                    "metadata": {"name": name, "uid": name, "generation": self.generation},
                    "spec": {"replicas": count},
                    "status": {"observedGeneration": self.seen, "updateRevision": self.revision},
                }
                for name, (_, count) in self.sets.items()
            ]
        assert path == f"{CORE}/pods"
        return [self.get(f"{CORE}/pods/{name}") for name in self.pods]

    def get(self, path: str, **query: Any) -> Any:
        if path.startswith("/_"):
            return self.ask("GET", path, query)
        if path.endswith("/log"):
            return "cannot start\n"
        name = path.removeprefix(f"{CORE}/pods/")
        status = {"conditions": [{"type": "Ready", "status": str(self.is_ready(name))}]}
        status["containerStatuses"] = [{"name": "elasticsearch", "ready": self.is_ready(name)}]
        return {**self.pods[name], "status": status}

    def delete(self, path: str, *, body: dict[str, Any]) -> None:
        name = path.removeprefix(f"{CORE}/pods/")
        if body["preconditions"]["uid"] != self.pods[name]["metadata"]["uid"]:
            raise ApiError("DELETE was refused", status=409, reason="Conflict")
        held_back = self.persistent.get(ALLOCATION, "all")
        self.events.append(f"delete {name} ({held_back}, {self.status()})")
        tier = self.pods[name]["metadata"]["labels"]["app.kubernetes.io/component"]
        self.ready_at[name] = self.now + START
        self.green_at = self.now + START + RECOVERY
        self._add(name, tier, self.revision)
        self.pods[name]["metadata"]["uid"] += "-again"

    # --- Elasticsearch

    def status(self) -> str:
        whole = all(map(self.is_ready, self.pods)) and self.now >= self.green_at
        return "green" if whole and not self.unassigned and ALLOCATION not in self.persistent else "yellow"

    def request(self, method: str, path: str, body: Any = None) -> Any:
        return self.ask(method, path, body)

    def ask(self, method: str, path: str, body: Any) -> Any:
        if self.down():
            raise ElasticsearchError("No answer", status=0, transient=True)
        if path == "/_cat/master":
            return [{"node": self.leader}] if self.leader else []
        if path == "/_cluster/health":
            count = len(self.unassigned) or int(self.status() != "green")
            return {
                "status": self.status(),
                "unassigned_shards": count,
                "initializing_shards": 0,
                "number_of_nodes": 3,
            }
        if (method, path) == ("GET", "/_cluster/settings"):
            return {"persistent": dict(self.persistent)}
        if path == "/_cat/shards":
            return [{"index": "a", "shard": "0", "prirep": "p", "state": "STARTED"}, *self.unassigned]
        if path == "/_cluster/allocation/explain":
            assert body["primary"] is False
            nodes = [
                [{"decider": one, "decision": "NO"} for one in found]
                for found in self.deciders[body["index"]]
            ]
            return {"node_allocation_decisions": [{"deciders": [*found, YES]} for found in nodes]}
        if path == "/_flush":
            self.events.append("flush")
            return {}
        assert (method, path) == ("PUT", "/_cluster/settings")
        value = body["persistent"][ALLOCATION]
        self.events.append(f"allocate {value}")
        self.persistent = {} if value is None else {ALLOCATION: value}
        if self.lost_answers:
            self.lost_answers -= 1
            raise ElasticsearchError("No answer", status=0, transient=True)
        return {}


YES = {"decider": "same_shard", "decision": "YES"}


def plan(cluster: FakeCluster, named: Sequence[str] = ()) -> list[roll.Member]:
    return roll.plan(roll.observe(cluster, "logging").members, named, cluster.leader)


def names(members: Sequence[roll.Member]) -> list[str]:
    return [member.name for member in members]


def run(cluster: FakeCluster, named: Sequence[str] = (), seconds: float = 60) -> roll.Roll:
    rolling = roll.Roll(cluster, "logging", lambda: cluster, cluster.deadline, seconds)
    rolling.run(plan(cluster, named))
    return rolling


# --- which, and in which order -----------------------------------------------------------------------------


def test_data_then_clients_then_masters_the_elected_one_last() -> None:
    assert names(plan(FakeCluster(TIERS, "elasticsearch-master-2"))) == [
        "elasticsearch-data-1",
        "elasticsearch-data-0",
        "elasticsearch-client-1",
        "elasticsearch-client-0",
        "elasticsearch-master-1",
        "elasticsearch-master-0",
        "elasticsearch-master-2",
    ]


def test_all_role_nodes_have_the_elected_one_last_too() -> None:
    found = names(plan(FakeCluster({"node": 3}, "elasticsearch-node-2")))
    assert found == ["elasticsearch-node-1", "elasticsearch-node-0", "elasticsearch-node-2"]


def test_only_what_is_not_up_to_date_or_named() -> None:
    cluster = FakeCluster(TIERS)
    cluster.revision = "old"
    assert plan(cluster) == []
    assert names(plan(cluster, ["elasticsearch-data-0"])) == ["elasticsearch-data-0"]
    with pytest.raises(KubewrightError, match="no pod elasticsearch-0 of Elasticsearch"):
        plan(cluster, ["elasticsearch-0"])


def test_a_change_that_the_controller_has_not_seen_is_waited_for() -> None:
    cluster = FakeCluster(TIERS)
    cluster.seen = 1
    with pytest.raises(KubewrightError) as caught:
        roll.observe(cluster, "logging")
    assert caught.value.transient


def test_pods_of_others_are_left_alone() -> None:
    cluster = FakeCluster({"node": 2})
    cluster.pods["elasticsearch-node-1"]["metadata"]["ownerReferences"] = [{"uid": "somebody"}]
    assert names(plan(cluster)) == ["elasticsearch-node-0"]


# --- the roll ----------------------------------------------------------------------------------------------


def test_one_after_the_other_and_green_between() -> None:
    cluster = FakeCluster(TIERS, "elasticsearch-master-0")
    report = run(cluster).report
    deletes = [event for event in cluster.events if event.startswith("delete")]
    assert len(report.rolled) == len(deletes) == 7
    # Copies are held back for data nodes only, and every pod goes from a whole cluster.
    assert deletes[0] == "delete elasticsearch-data-1 (primaries, yellow)"
    assert deletes[2:] == [
        "delete elasticsearch-client-1 (all, green)",
        "delete elasticsearch-client-0 (all, green)",
        "delete elasticsearch-master-2 (all, green)",
        "delete elasticsearch-master-1 (all, green)",
        "delete elasticsearch-master-0 (all, green)",
    ]
    assert cluster.events[:4] == ["allocate primaries", "flush", deletes[0], "allocate None"]
    assert cluster.persistent == {} and cluster.status() == "green" and not report.left
    assert plan(cluster) == []


def test_a_named_pod_is_restarted_each_time() -> None:
    cluster = FakeCluster({"node": 3})
    cluster.revision = "old"
    run(cluster, ["elasticsearch-node-1"])
    run(cluster, ["elasticsearch-node-1"])
    assert sum(event.startswith("delete elasticsearch-node-1") for event in cluster.events) == 2


def test_it_waits_for_green_before_it_begins() -> None:
    cluster = FakeCluster({"node": 3})
    cluster.green_at = 20
    run(cluster)
    assert cluster.now >= 20 + 3 * (START + RECOVERY)


def test_no_pod_goes_from_a_cluster_that_is_not_whole() -> None:
    cluster = FakeCluster({"node": 3})
    cluster.unassigned = [{"index": "a", "shard": "0", "prirep": "r", "state": "UNASSIGNED"}]
    cluster.deciders = {"a": [{"disk_threshold"}]}
    with pytest.raises(DeadlineExpired, match="Elasticsearch is yellow with 3 nodes: 1 unassigned") as caught:
        run(cluster)
    assert "allocation/explain" in str(caught.value) and cluster.events == []


def test_no_pod_goes_while_another_one_is_away() -> None:
    """Green is not enough: two of three masters are green too, until the next one goes."""
    cluster = FakeCluster(TIERS)
    cluster.revision = "old"
    cluster.never_ready = {"elasticsearch-master-1"}
    cluster.status = lambda: "green"
    with pytest.raises(DeadlineExpired, match="7 of 7 pods are there, not ready: elasticsearch-master-1"):
        run(cluster, ["elasticsearch-master-0"])
    assert cluster.events == []


def test_pods_that_are_broken_are_replaced_at_once_and_without_asking() -> None:
    """The new revision may cure them, and it may take all of them to form a cluster (the first start went wrong)."""
    cluster = FakeCluster({"node": 3})
    cluster.never_ready = set(cluster.pods)
    cluster.down = lambda: True
    report = run(cluster).report
    assert len(report.rolled) == 3 and cluster.now == 0
    assert [event.split()[0] for event in cluster.events] == ["delete"] * 3


def test_broken_ones_come_first_and_the_others_when_they_are_well() -> None:
    cluster = FakeCluster(TIERS)
    cluster.ready_at = {"elasticsearch-master-1": 1}
    report = run(cluster).report
    assert report.rolled[0] == "elasticsearch-master-1" and len(report.rolled) == 7
    assert all(event.endswith("green)") for event in cluster.events if "client" in event)


# --- the allocation, whatever happens ----------------------------------------------------------------------


def test_a_pod_that_does_not_come_back_ends_the_roll_and_copies_are_made_again() -> None:
    cluster = FakeCluster({"node": 3})
    rolling = roll.Roll(cluster, "logging", lambda: cluster, cluster.deadline, 60)
    members = plan(cluster)
    cluster.never_ready = {"elasticsearch-node-2"}
    cluster.is_ready = lambda name: name not in cluster.never_ready or not cluster.events
    with pytest.raises(DeadlineExpired, match="pod elasticsearch-node-2 to be ready again") as caught:
        rolling.run(members)
    assert "its log ends: cannot start" in str(caught.value) and "The pods after it" in str(caught.value)
    assert cluster.persistent == {} and cluster.events[-1] == "allocate None"
    assert rolling.report.rolled == ["elasticsearch-node-2"] and not rolling.report.left


def test_an_interrupt_restores_too() -> None:
    cluster = FakeCluster({"node": 3})

    def interrupted(path: str, *, body: Any) -> None:
        raise KeyboardInterrupt

    cluster.delete = interrupted
    with pytest.raises(KeyboardInterrupt):
        run(cluster)
    assert cluster.events[-1] == "allocate None" and cluster.persistent == {}


def test_a_setting_whose_answer_was_lost_is_taken_back() -> None:
    cluster = FakeCluster({"node": 3})
    cluster.lost_answers = 1
    cluster.down = lambda: bool(cluster.events) and cluster.now < 10
    with pytest.raises(DeadlineExpired, match="to hold replicas back"):
        run(cluster, seconds=3)
    assert cluster.events == ["allocate primaries", "allocate None"] and cluster.persistent == {}
    # It goes on where nobody else is away.
    cluster.lost_answers = 1
    assert len(run(cluster).report.rolled) == 3 and cluster.persistent == {}


def test_what_cannot_be_restored_is_reported_beside_the_first_failure() -> None:
    cluster = FakeCluster({"node": 3})
    cluster.down = lambda: any(event.startswith("delete") for event in cluster.events)
    rolling = roll.Roll(cluster, "logging", lambda: cluster, cluster.deadline, 3)
    with pytest.raises(DeadlineExpired, match="pod elasticsearch-node-2 to be ready again"):
        rolling.run(plan(cluster))
    assert rolling.report.left and cluster.persistent == {ALLOCATION: "primaries"}


def test_the_next_roll_restores_what_a_killed_one_left() -> None:
    """Otherwise it would wait for a green that never comes (opensearch-k8s-operator issue 400)."""
    cluster = FakeCluster({"node": 3})
    cluster.persistent = {ALLOCATION: "primaries"}
    report = run(cluster).report
    assert cluster.events[0] == "allocate None" and report.restored and len(report.rolled) == 3


@pytest.mark.parametrize("name", ["elasticsearch-client-0", "elasticsearch-data-0"])
def test_what_somebody_else_set_stays(name: str) -> None:
    cluster = FakeCluster({"data": 2, "client": 1})
    cluster.persistent = {ALLOCATION: "none"}
    cluster.status = lambda: "green"
    cluster.revision = "old"
    run(cluster, [name])
    assert cluster.persistent == {ALLOCATION: "none"}


# --- an upgrade --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deciders", "waits"),
    [
        ([{"node_version"}, {"same_shard"}], False),
        ([{"same_shard"}], True),
        ([{"node_version"}, {"disk_threshold"}], True),
        ([], True),
    ],
)
def test_replicas_that_wait_for_the_new_version_are_not_waited_for(
    deciders: list[set[str]], waits: bool
) -> None:
    """An index of these minutes has its primary on a new node, and no old one takes the copy (elasticsearch 127845)."""
    cluster = FakeCluster({"node": 2})
    cluster.unassigned = [{"index": "logstash-b", "shard": "0", "prirep": "r", "state": "UNASSIGNED"}]
    cluster.deciders = {"logstash-b": deciders}
    if waits:
        with pytest.raises(DeadlineExpired):
            run(cluster)
        return
    report = run(cluster).report
    assert report.waiting_replicas == 1 and len(report.rolled) == 2


def test_many_unassigned_replicas_are_not_of_these_minutes() -> None:
    cluster = FakeCluster({"node": 2})
    shard = {"shard": "0", "prirep": "r", "state": "UNASSIGNED"}
    cluster.unassigned = [{"index": f"i{at}", **shard} for at in range(21)]
    with pytest.raises(DeadlineExpired):
        run(cluster)


def test_nobody_knows_the_leader_of_what_does_not_answer() -> None:
    cluster = FakeCluster({"node": 1})
    cluster.down = lambda: True
    rolling = roll.Roll(cluster, "logging", lambda: cluster, cluster.deadline, 3)
    assert rolling.leader() == ""
