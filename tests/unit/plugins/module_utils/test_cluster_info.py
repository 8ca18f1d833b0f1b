# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_info import (
    control_plane_facts,
    image_version,
    node_facts,
    observe_cluster,
    parse_cluster_configuration,
    pending_requests,
    workload_facts,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import EtcdAccess
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_etcdctl import FakeEtcdctl

FIXTURES = Path(__file__).parents[2] / "fixtures" / "cluster"
NOW = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)
ACCESS = EtcdAccess(["https://127.0.0.1:2379"], "/ca", "/crt", "/key", local=True)
SYSTEM = "/api/v1/namespaces/kube-system"
PATHS = {
    "/readyz": None,
    SYSTEM: "namespace",
    "/api/v1/nodes": "nodes",
    f"{SYSTEM}/pods": "pods",
    f"{SYSTEM}/configmaps/kubeadm-config": "kubeadm_config",
    "/apis/apps/v1/namespaces/kube-system/daemonsets": "daemonsets_kube_system",
    "/apis/apps/v1/namespaces/kube-flannel/daemonsets": "daemonsets_kube_flannel",
    "/apis/apps/v1/namespaces/kube-system/deployments": "deployments",
    "/apis/certificates.k8s.io/v1/certificatesigningrequests": "csrs",
}


def load(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


class FakeApi:
    """Answers from fixtures; *errors* by path are failures that a real API server cannot be made to have."""

    def __init__(self, errors: dict[str, KubewrightError] | None = None) -> None:
        self.errors = errors or {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def get(self, path: str, **query: Any) -> Any:
        self.asked.append((path, query))
        if path in self.errors:
            raise self.errors[path]
        name = PATHS[path]
        return load(name) if name else "ok"

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        return self.get(path, **query)["items"]


def observe(
    api: FakeApi | None = None, etcdctl: FakeEtcdctl | None = None, access: EtcdAccess | None = ACCESS
) -> dict[str, Any]:
    fake = api or FakeApi()
    return observe_cluster(
        lambda: fake, Runner(etcdctl or FakeEtcdctl()), NOW, access=access, etcdctl="/etcdctl"
    )


def test_a_healthy_cluster() -> None:
    facts = observe()
    nodes, pods, etcd = facts.pop("nodes"), facts.pop("control_plane"), facts.pop("etcd")
    assert facts == {
        "answers": True,
        "error": None,
        "id": "1c9e4c26-6f9a-4d5e-a6f0-0a8b6f0d2a11",
        "version": "1.36.4",
        "versions": ["1.36.4"],
        "kubeadm_version": "1.36.4",
        "endpoint": "api.example.org:6443",
        "networking": {
            "pod_subnet": "10.244.0.0/16",
            "service_subnet": "10.96.0.0/12",
            "dns_domain": "cluster.local",
        },
        "topology": "stacked",
        "addons": [
            _addon("DaemonSet", "kube-system", "kube-proxy", 4),
            _addon("DaemonSet", "kube-flannel", "kube-flannel-ds", 4),
            _addon("Deployment", "kube-system", "coredns", 2),
        ],
        "pending_csrs": [
            {
                "name": "csr-joining",
                "signer": "kubernetes.io/kube-apiserver-client-kubelet",
                "node": None,
                "age_seconds": 900,
            },
            {
                "name": "csr-stuck",
                "signer": "kubernetes.io/kubelet-serving",
                "node": "worker1",
                "age_seconds": 600,
            },
        ],
        "skew": {"ok": True, "problems": []},
    }
    assert [node["name"] for node in nodes] == ["cp1", "cp2", "cp3", "worker1"]
    assert nodes[0] == {
        "name": "cp1",
        "ready": True,
        "reason": None,
        "control_plane": True,
        "schedulable": True,
        "cordoned_by_us": False,
        "deleting": False,
        "pressure": [],
        "kubelet_version": "1.36.4",
        "addresses": ["10.0.0.11", "cp1"],
        "internal_ip": "10.0.0.11",
        "taints": ["node-role.kubernetes.io/control-plane:NoSchedule"],
    }
    assert len(pods) == 12
    assert pods[3] == {
        "node": "cp1",
        "component": "etcd",
        "ready": True,
        "version": "3.6.10-0",
        "restarts": 1,
        "message": None,
    }
    assert [member["name"] for member in etcd.pop("members")] == ["cp1", "cp2", "cp3"]
    assert etcd == {
        "voters": 3,
        "needed": 2,
        "healthy": 3,
        "tolerance": 1,
        "present": True,
        "leader": "ca50e9357181d758",
        "alarms": [],
        "error": None,
    }


def _addon(kind: str, namespace: str, name: str, pods: int) -> dict[str, Any]:
    return {
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "desired": pods,
        "ready": pods,
        "current": True,
    }


def test_every_request_is_made_once_and_readiness_is_asked_first() -> None:
    api = FakeApi()
    observe(api)
    assert sorted(path for path, _ in api.asked) == sorted(PATHS)
    assert api.asked[0] == ("/readyz", {})
    assert (f"{SYSTEM}/pods", {"labelSelector": "tier=control-plane"}) in api.asked


def test_etcd_is_asked_at_every_known_endpoint() -> None:
    etcdctl = FakeEtcdctl()
    observe(etcdctl=etcdctl)
    assert etcdctl.calls[0][:5] == [
        "/etcdctl",
        "--endpoints=https://127.0.0.1:2379,https://10.0.0.11:2379,https://10.0.0.12:2379,https://10.0.0.13:2379",
        "--cacert=/ca",
        "--cert=/crt",
        "--key=/key",
    ]


def test_alarms_are_listed() -> None:
    etcdctl = FakeEtcdctl(alarm_list=(0, '{"alarms":[{"memberID":255,"alarm":2}]}', ""))
    assert observe(etcdctl=etcdctl)["etcd"]["alarms"] == [{"id": "ff", "name": "cp3", "alarm": "CORRUPT"}]


def test_a_silent_api_server_is_told_and_etcd_is_still_observed() -> None:
    error = ApiError("No answer to GET /readyz", status=0, why="Connection refused")
    facts = observe(FakeApi({"/readyz": error}))
    assert (facts["answers"], facts["error"]) == (False, "No answer to GET /readyz: Connection refused.")
    assert (facts["nodes"], facts["version"], facts["topology"]) == ([], None, "stacked")
    assert facts["etcd"]["present"]


def test_no_kubeconfig() -> None:
    def connect() -> FakeApi:
        raise KubewrightError("There is no kubeconfig")

    facts = observe_cluster(connect, Runner(FakeEtcdctl()), NOW, access=None)
    assert facts["error"] == "There is no kubeconfig."
    assert facts["etcd"] == {
        "members": [],
        "voters": 0,
        "needed": 0,
        "healthy": 0,
        "tolerance": 0,
        "present": False,
        "leader": None,
        "alarms": [],
        "error": "This host has no API server, so it holds no client certificate of etcd",
    }


def test_the_failed_checks_of_an_unready_api_server_are_named() -> None:
    body = "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]informer-sync failed\nreadyz failed\n"
    error = ApiError("GET /readyz was refused with status 500", status=500, why=body)
    facts = observe(FakeApi({"/readyz": error}))
    assert (
        "The API server is not ready: etcd failed: reason withheld; informer-sync failed." in facts["error"]
    )


def test_what_was_read_before_an_error_is_kept() -> None:
    error = ApiError("GET was refused with status 429", status=429)
    facts = observe(FakeApi({"/apis/apps/v1/namespaces/kube-system/deployments": error}))
    assert not facts["answers"]
    assert len(facts["nodes"]) == 4
    assert facts["version"] == "1.36.4"


def test_a_cluster_without_its_kubeadm_config() -> None:
    path = f"{SYSTEM}/configmaps/kubeadm-config"
    facts = observe(FakeApi({path: ApiError("no", status=404)}))
    assert (facts["answers"], facts["kubeadm_version"], facts["topology"]) == (True, None, "stacked")
    assert not observe(FakeApi({path: ApiError("no", status=403)}))["answers"]


def test_pods_of_a_deleted_node_are_ignored() -> None:
    class WithoutNode(FakeApi):
        def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
            items = super().list(path, **query)
            return [item for item in items if path != "/api/v1/nodes" or item["metadata"]["name"] != "cp3"]

    assert {pod["node"] for pod in observe(WithoutNode())["control_plane"]} == {"cp1", "cp2"}


def test_before_there_is_a_pod_the_api_server_itself_tells_its_version() -> None:
    """A run that is killed right after kubeadm's init finds an API server whose pod the kubelet has not shown yet."""

    class WithoutPods(FakeApi):
        def get(self, path: str, **query: Any) -> Any:
            return {"gitVersion": "v1.36.3"} if path == "/version" else super().get(path, **query)

        def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
            return [] if path.endswith("/pods") else super().list(path, **query)

    facts = observe(WithoutPods())
    assert (facts["version"], facts["versions"]) == ("1.36.3", ["1.36.3"])


def test_without_etcdctl_the_remedy_is_told() -> None:
    facts = observe(etcdctl=FakeEtcdctl(member_list=(127, "", "No such file or directory")))
    assert facts["answers"]
    assert "Install etcdctl on this host" in facts["etcd"]["error"]


def test_external_etcd_is_not_asked_through_pods() -> None:
    etcdctl = FakeEtcdctl()
    access = EtcdAccess(["https://10.0.0.31:2379"], "/ca", "/crt", "/key", local=False)
    observe(etcdctl=etcdctl, access=access)
    assert "--endpoints=https://10.0.0.31:2379" in etcdctl.calls[0]


UNKNOWN = {"pod_subnet": None, "service_subnet": None, "dns_domain": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "etcd:\n  external:\n    endpoints:\n    - https://10.0.0.31:2379\nkubernetesVersion: 1.37.0\n",
            {"kubeadm_version": "1.37.0", "endpoint": None, "networking": UNKNOWN, "topology": "external"},
        ),
        (
            'controlPlaneEndpoint: "10.0.0.10:6443"\netcd:\n  local: {}\nproxy:\n  external: 1\n',
            {
                "kubeadm_version": None,
                "endpoint": "10.0.0.10:6443",
                "networking": UNKNOWN,
                "topology": "stacked",
            },
        ),
        (
            # A key of the same name in another block is another thing.
            "dns:\n  dnsDomain: no\nnetworking:\n  dnsDomain: cluster.local\n  podSubnet: 10.1.0.0/16,fd00::/56\n"
            "proxy:\n  serviceSubnet: no\n",
            {
                "kubeadm_version": None,
                "endpoint": None,
                "networking": {
                    "pod_subnet": "10.1.0.0/16,fd00::/56",
                    "service_subnet": None,
                    "dns_domain": "cluster.local",
                },
                "topology": "stacked",
            },
        ),
    ],
)
def test_cluster_configuration(text: str, expected: dict[str, Any]) -> None:
    assert parse_cluster_configuration(text) == expected


def node(**changes: Any) -> dict[str, Any]:
    made = load("nodes")["items"][0]
    for path, value in changes.items():
        parent, _, key = path.rpartition("__")
        (made[parent] if parent else made)[key] = value
    return node_facts(made)


@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_a_node_whose_condition_is_not_true_is_not_ready(status: str) -> None:
    condition = {"type": "Ready", "status": status, "reason": "R", "message": "Kubelet stopped posting."}
    facts = node(status__conditions=[condition])
    assert (facts["ready"], facts["reason"]) == (False, "Kubelet stopped posting.")


def test_a_node_that_never_reported_is_not_ready() -> None:
    facts = node(status={})
    assert (facts["ready"], facts["reason"]) == (False, "NeverReported")
    assert (facts["kubelet_version"], facts["internal_ip"], facts["addresses"]) == ("", None, [])


def test_other_properties_of_a_node() -> None:
    facts = node(
        metadata__deletionTimestamp="2026-11-21T07:00:00Z",
        spec={"unschedulable": True, "taints": [{"key": "a", "value": "b", "effect": "NoExecute"}]},
        status__conditions=[
            {"type": "Ready", "status": "True"},
            {"type": "DiskPressure", "status": "True"},
            {"type": "PIDPressure", "status": "Unknown"},
        ],
    )
    assert (facts["deleting"], facts["schedulable"], facts["control_plane"]) == (True, False, False)
    assert (facts["pressure"], facts["taints"]) == (["DiskPressure"], ["a=b:NoExecute"])
    assert facts["cordoned_by_us"] is False


def test_a_cordon_of_ours_is_known() -> None:
    ours = {"kubewright.cluster/cordoned": "2026-11-22T10:00:00Z"}
    assert node(metadata__annotations=ours, spec={"unschedulable": True})["cordoned_by_us"] is True
    assert node(metadata__annotations=ours, spec={})["cordoned_by_us"] is False


def pod(**status: Any) -> dict[str, Any]:
    made = load("pods")["items"][1]
    made["status"].update(status)
    return control_plane_facts([made])[0]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"conditions": [{"type": "Ready", "status": "False"}]}, None),
        ({"conditions": []}, None),
        ({"phase": "Pending", "containerStatuses": [], "reason": "Evicted"}, "Evicted"),
        (
            {
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [
                    {
                        "restartCount": 7,
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m"}},
                    }
                ],
            },
            "CrashLoopBackOff: back-off 5m",
        ),
    ],
)
def test_a_pod_that_is_not_ready(status: dict[str, Any], message: str | None) -> None:
    facts = pod(**status)
    assert (facts["ready"], facts["message"]) == (False, message)


def test_other_pods_of_the_control_plane_are_left_out() -> None:
    made = load("pods")["items"][0]
    made["metadata"]["labels"]["component"] = "kube-vip"
    assert control_plane_facts([made]) == []


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("registry.k8s.io/kube-apiserver:v1.36.4", "1.36.4"),
        ("localhost:5000/etcd:3.6.10-0", "3.6.10-0"),
        ("localhost:5000/etcd:3.6.10-0@sha256:00ff", "3.6.10-0"),
        ("localhost:5000/etcd", None),
        ("registry.k8s.io/etcd@sha256:00ff", None),
    ],
)
def test_image_version(image: str, version: str | None) -> None:
    assert image_version(image) == version


@pytest.mark.parametrize(
    ("changes", "ready", "current"),
    [
        ({}, 4, True),
        ({"numberReady": 3}, 3, True),
        ({"updatedNumberScheduled": 3}, 4, False),
        ({"observedGeneration": 1}, 4, False),
    ],
)
def test_daemon_sets(changes: dict[str, Any], ready: int, current: bool) -> None:
    item = load("daemonsets_kube_system")["items"][0]
    item["status"].update(changes)
    facts = workload_facts("DaemonSet", item)
    assert (facts["desired"], facts["ready"], facts["current"]) == (4, ready, current)


def test_a_daemon_set_that_is_updated_by_hand_is_current() -> None:
    item = load("daemonsets_kube_system")["items"][0]
    item["spec"]["updateStrategy"]["type"] = "OnDelete"
    item["status"]["updatedNumberScheduled"] = 0
    assert workload_facts("DaemonSet", item)["current"]


def test_a_deployment_without_a_ready_pod() -> None:
    item = load("deployments")["items"][0]
    item["status"] = {"observedGeneration": 1, "updatedReplicas": 2}
    assert workload_facts("Deployment", item)["ready"] == 0


def test_requests_are_pending_until_anybody_answers() -> None:
    requests = load("csrs")["items"]
    assert [request["name"] for request in pending_requests(requests, NOW)] == ["csr-joining", "csr-stuck"]
    for kind in ("Denied", "Failed"):
        requests[3]["status"] = {"conditions": [{"type": kind, "status": "True"}]}
        assert [request["name"] for request in pending_requests(requests, NOW)] == ["csr-joining"]
