# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When workloads are rolled out, and what is said when they are not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _kube_rollout as rollout
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_rollout import Workload
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

CORE, APPS = "/api/v1/namespaces/logging", "/apis/apps/v1/namespaces/logging"
LABELS = {"app.kubernetes.io/name": "elasticsearch"}
SET = Workload("StatefulSet", "elasticsearch")
DEPLOYMENT = Workload("Deployment", "kibana")
DAEMONS = Workload("DaemonSet", "collector")


def item(spec: dict[str, Any], status: dict[str, Any], generation: int = 2) -> dict[str, Any]:
    return {
        "metadata": {"uid": "u1", "generation": generation},
        "spec": {"selector": {"matchLabels": LABELS}, **spec},
        "status": {"observedGeneration": 2, **status},
    }


def pod(name: str, node: str = "w1", *, ready: bool = True, **changes: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "labels": {**LABELS, "controller-revision-hash": "new"},
            "ownerReferences": [{"uid": "u1"}],
            **changes.pop("metadata", {}),
        },
        "spec": {"nodeName": node, **changes.pop("spec", {})},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}], "phase": "Running", **changes},
    }


def node(name: str, ready: bool) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


class FakeKubeApi:
    """Answers from what a test put there; time passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.items: dict[str, Any] = {
            f"{CORE}/events": [],
            "/api/v1/nodes": [node("w1", True), node("w2", True)],
        }
        self.items[f"{APPS}/controllerrevisions"] = [
            {
                "metadata": {
                    "ownerReferences": [{"uid": "u1"}],
                    "labels": {"controller-revision-hash": name},
                },
                "revision": at,
            }
            for name, at in (("old", 9), ("new", 10))
        ]
        self.logs: dict[tuple[str, bool], str] = {}
        self.queries: list[dict[str, Any]] = []
        self.down = False

    def deadline(self, seconds: float) -> Deadline:
        def sleep(seconds: float) -> None:
            self.now += seconds

        return Deadline(seconds, clock=lambda: self.now, sleep=sleep)

    def get(self, path: str, **query: Any) -> Any:
        if self.down:
            raise ApiError("No answer", status=0, why="connection refused", transient=True)
        if path.endswith("/log"):
            self.queries.append(query)
            return self.logs[path.split("/")[-2], bool(query["previous"])]
        found = self.items.get(path)
        if found is None:
            raise ApiError(f"GET {path} was refused", status=404, reason="NotFound")
        return found(self.now) if callable(found) else found

    def list(self, path: str, **query: Any) -> Any:
        if query and path != f"{CORE}/events":
            assert query == {"labelSelector": "app.kubernetes.io/name=elasticsearch"}
        return self.get(path)

    def put(self, workload: Workload, found: Any, pods: Any = ()) -> None:
        self.items[f"{APPS}/{rollout.PLURALS[workload.kind]}/{workload.name}"] = found
        self.items[f"{CORE}/pods"] = pods


@pytest.fixture
def api() -> FakeKubeApi:
    return FakeKubeApi()


def state(api: FakeKubeApi, workload: Workload) -> rollout.State:
    return rollout.judge(workload, rollout.observe(api, "logging", workload))


# --- when they are -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, True),
        ({"replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}, False),
        ({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, False),
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({}, False),
    ],
)
def test_a_deployment(api: FakeKubeApi, status: dict[str, Any], done: bool) -> None:
    api.put(DEPLOYMENT, item({"replicas": 2}, status))
    assert state(api, DEPLOYMENT).done is done


@pytest.mark.parametrize(
    ("strategy", "status", "done"),
    [
        ("RollingUpdate", {"replicas": 3, "readyReplicas": 3, "updatedReplicas": 3}, True),
        ("RollingUpdate", {"replicas": 3, "readyReplicas": 3, "updatedReplicas": 1}, False),
        # Nobody replaces the others.
        ("OnDelete", {"replicas": 3, "readyReplicas": 3, "updatedReplicas": 1}, True),
        ("OnDelete", {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3}, False),
        # One more than wanted is on its way out.
        ("OnDelete", {"replicas": 4, "readyReplicas": 3}, False),
    ],
)
def test_a_stateful_set(api: FakeKubeApi, strategy: str, status: dict[str, Any], done: bool) -> None:
    api.put(SET, item({"replicas": 3, "updateStrategy": {"type": strategy}}, status))
    found = state(api, SET)
    assert (found.done, found.wanted) == (done, 3)


@pytest.mark.parametrize(
    ("conditions", "done"),
    [
        ([{"type": "Reconciled", "status": "True", "observedGeneration": 7}], True),
        # It has pods, and they are those of before the change.
        ([{"type": "Reconciled", "status": "True", "observedGeneration": 6}], False),
        ([{"type": "Reconciled", "status": "False", "observedGeneration": 7}], False),
        ([{"type": "Available", "status": "True", "observedGeneration": 7}], False),
    ],
)
def test_a_set_of_an_operator_is_what_its_object_asks_for_now(
    api: FakeKubeApi, conditions: list[dict[str, Any]], done: bool
) -> None:
    found = item({"replicas": 2}, {"replicas": 2, "readyReplicas": 2, "updatedReplicas": 2})
    owner = {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "name": "p", "uid": "o"}
    found["metadata"]["ownerReferences"] = [owner]
    api.put(SET, found)
    api.items["/apis/monitoring.coreos.com/v1/namespaces/logging/prometheuses/p"] = {
        "kind": "Prometheus",
        "metadata": {"name": "p", "generation": 7},
        "status": {"conditions": conditions},
    }
    assert state(api, SET).done is done
    if not done:
        with pytest.raises(KubewrightError) as caught:
            rollout.wait(api, "logging", [SET], api.deadline(5))
        assert "the operator has not come to the present form of Prometheus p" in caught.value.why


def test_a_daemon_set_is_done_when_every_node_has_a_new_pod(api: FakeKubeApi) -> None:
    found = item({}, {"desiredNumberScheduled": 2})
    api.put(DAEMONS, found, [pod("a"), pod("b", "w2")])
    assert state(api, DAEMONS) == rollout.State(DAEMONS, 2, 2, True)
    old = {"labels": {**LABELS, "controller-revision-hash": "old"}}
    api.put(DAEMONS, found, [pod("a"), pod("b", "w2", metadata=old)])
    assert not state(api, DAEMONS).done
    api.put(DAEMONS, found, [pod("a"), pod("b", "w2", metadata={"deletionTimestamp": "now"})])
    assert not state(api, DAEMONS).done
    foreign = pod("b", "w2", metadata={"ownerReferences": [{"uid": "other"}]})
    api.put(DAEMONS, found, [pod("a"), foreign])
    assert state(api, DAEMONS).ready == 1


def test_a_daemon_set_does_not_wait_for_nodes_that_are_not_ready(api: FakeKubeApi) -> None:
    api.items["/api/v1/nodes"] = [node("w1", True), node("w2", False)]
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["w2"]}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    # Not placed yet: its affinity says for which node it is.
    waiting = pod("b", "", ready=False, spec={"affinity": {"nodeAffinity": required}})
    api.put(DAEMONS, item({}, {"desiredNumberScheduled": 2}), [pod("a"), waiting])
    assert state(api, DAEMONS) == rollout.State(DAEMONS, 1, 1, True, ("w2",))
    api.put(DAEMONS, item({}, {"desiredNumberScheduled": 2}), [pod("a", ready=False), waiting])
    assert not state(api, DAEMONS).done


# --- waiting -----------------------------------------------------------------------------------------------


def test_it_waits_until_all_are_done(api: FakeKubeApi) -> None:
    def found(now: float) -> dict[str, Any]:
        return item(
            {"replicas": 1, "updateStrategy": {"type": "OnDelete"}},
            {"replicas": 1, "readyReplicas": int(now >= 5)},
        )

    api.put(SET, found)
    (state,) = rollout.wait(api, "logging", [SET], api.deadline(60))
    assert state.done and api.now == 5


def test_what_an_operator_makes_a_little_later_is_waited_for(api: FakeKubeApi) -> None:
    def found(now: float) -> dict[str, Any]:
        if now < 5:
            raise ApiError("GET was refused", status=404, reason="NotFound")
        return item({"replicas": 1}, {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1})

    api.put(SET, found)
    (state,) = rollout.wait(api, "logging", [SET], api.deadline(60))
    assert state.done and api.now == 5


def test_what_nobody_makes_is_named(api: FakeKubeApi) -> None:
    (state,) = rollout.look(api, "logging", [SET])
    assert not state.done
    with pytest.raises(KubewrightError, match="StatefulSet elasticsearch does not exist"):
        rollout.wait(api, "logging", [SET], api.deadline(60))
    assert api.now == 60


def late(api: FakeKubeApi, *pods: dict[str, Any]) -> KubewrightError:
    api.put(SET, item({"replicas": 3}, {"replicas": 3, "readyReplicas": 3 - max(1, len(pods))}), list(pods))
    with pytest.raises(KubewrightError) as caught:
        rollout.wait(api, "logging", [SET], api.deadline(30))
    assert api.now == 30
    return caught.value


def container(**status: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "elasticsearch", "ready": False, **status}]}


def test_a_crash_is_told_with_the_last_lines_of_the_life_that_ended(api: FakeKubeApi) -> None:
    api.logs["elasticsearch-0", True] = (
        "first\n\nmax virtual memory areas vm.max_map_count [65530] is too low\n"
    )
    status = container(
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        lastState={"terminated": {"reason": "Error", "exitCode": 78}},
    )
    error = late(api, pod("elasticsearch-0", ready=False, **status))
    said = str(error)
    assert "StatefulSet elasticsearch did not roll out in 30 seconds (logging)" in said
    assert "has 2 of 3 pods ready" in said and "pod elasticsearch-0 on node w1" in said
    assert "CrashLoopBackOff: back-off 40s" in said and "Error: exit code 78" in said
    assert "vm.max_map_count [65530] is too low" in said and "Set vm.max_map_count on the node" in said
    assert api.queries == [{"container": "elasticsearch", "tailLines": 5, "previous": True}]
    (trouble,) = error.facts["pods"]
    assert trouble["log"][0] == "first" and len(trouble["log"]) == 2


def test_a_volume_without_a_class_is_told_from_the_events_of_its_claim(api: FakeKubeApi) -> None:
    def event(name: str, message: str, at: int) -> dict[str, Any]:
        return {
            "involvedObject": {"name": name},
            "reason": "FailedBinding",
            "message": message,
            "lastTimestamp": f"2026-11-21T12:00:0{at}Z",
        }

    api.items[f"{CORE}/events"] = [
        event("data-elasticsearch-0", "no storage class is set", 3),
        event("data-elasticsearch-0", "no storage class is set", 2),
        event("somebody-else", "not of interest", 4),
    ]
    unplaced = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "unbound PersistentVolumeClaims",
    }
    waiting = pod(
        "elasticsearch-0",
        "",
        spec={
            "volumes": [{"persistentVolumeClaim": {"claimName": "data-elasticsearch-0"}}, {"configMap": {}}]
        },
        conditions=[unplaced],
        phase="Pending",
    )
    said = str(late(api, waiting))
    assert "Unschedulable: unbound PersistentVolumeClaims" in said and "its storage class" in said
    assert said.count("FailedBinding: no storage class is set") == 1 and "not of interest" not in said


def test_a_set_that_makes_no_pods_is_told_from_its_own_events(api: FakeKubeApi) -> None:
    message = 'pods "elasticsearch-0" is forbidden: exceeded quota: pods'
    api.items[f"{CORE}/events"] = [
        {
            "involvedObject": {"name": "elasticsearch"},
            "reason": "FailedCreate",
            "message": message,
            "eventTime": "x",
        }
    ]
    said = str(late(api))
    assert message in said and "Raise the quota" in said


@pytest.mark.parametrize(
    ("waiting", "remedy"),
    [
        ({"reason": "ImagePullBackOff"}, "can pull the image"),
        ({"reason": "ErrImagePull", "message": "x509"}, "can pull the image"),
        ({"reason": "ContainerCreating"}, "Look at the log and the node"),
    ],
)
def test_remedies(api: FakeKubeApi, waiting: dict[str, str], remedy: str) -> None:
    api.logs["elasticsearch-0", False] = ""
    assert remedy in str(
        late(api, pod("elasticsearch-0", ready=False, **container(state={"waiting": waiting})))
    )


def test_three_pods_are_explained_and_a_log_that_cannot_be_read_is_left_out(api: FakeKubeApi) -> None:
    class Logless(FakeKubeApi):
        def get(self, path: str, **query: Any) -> Any:
            if path.endswith("/log"):
                raise ApiError("no", status=500, why="kubelet away", transient=True)
            return super().get(path, **query)

    api = Logless()
    pods = [pod(f"elasticsearch-{at}", ready=False, **container(state={})) for at in range(5)]
    error = late(api, *pods)
    assert [one["pod"] for one in error.facts["pods"]] == [
        "elasticsearch-0",
        "elasticsearch-1",
        "elasticsearch-2",
    ]
    assert all(one["log"] == [] for one in error.facts["pods"])
    assert error.facts["workloads"][0]["name"] == "elasticsearch"


def test_an_api_server_that_is_away_is_not_taken_for_late_pods(api: FakeKubeApi) -> None:
    def vanishing(now: float) -> dict[str, Any]:
        api.down = now >= 3
        return item({"replicas": 3}, {"replicas": 3})

    api.put(SET, vanishing)
    with pytest.raises(DeadlineExpired, match="connection refused"):
        rollout.wait(api, "logging", [SET], api.deadline(10))


def test_reasons_name_init_containers_and_leave_out_what_ended_well(api: FakeKubeApi) -> None:
    done = {"name": "a", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}
    bad = {
        "name": "b",
        "state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}},
    }
    found = rollout.pod_reasons(pod("p", ready=False, initContainerStatuses=[done, bad]))
    assert found == ['CreateContainerConfigError: secret "x" not found']
    assert rollout.pod_reasons(pod("p", metadata={"deletionTimestamp": "12:00"})) == [
        "it is being deleted since 12:00"
    ]
    assert rollout.pod_reasons(pod("p", phase="Pending")) == ["the pod is Pending"]
