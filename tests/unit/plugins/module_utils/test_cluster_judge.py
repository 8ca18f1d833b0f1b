# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_judge import Expected, judge

Facts = dict[str, Any]
NAMES = ["cp1", "cp2", "cp3"]


def healthy_host() -> Facts:
    running = {"active": True, "enabled": True}
    return {
        "hostname": "cp1",
        "kubeadm": "control_plane",
        "interrupted": None,
        "evidence": ["/etc/kubernetes/kubelet.conf"],
        "versions": {},
        "services": {"kubelet": dict(running), "containerd": dict(running)},
        "certificates": [certificate(300)],
        "cgroup": 2,
        "swap_kib": 0,
        "container": False,
        "ntp_synchronized": True,
    }


def certificate(days: float, path: str = "/etc/kubernetes/pki/apiserver.crt", lifetime: float = 365) -> Facts:
    return {
        "path": path,
        "subject": "kube-apiserver",
        "issuer": "kubernetes",
        "not_after": "2027-11-21T08:00:00Z",
        "days_left": days,
        "lifetime_days": lifetime,
        "error": None,
    }


def node(name: str, **changes: Any) -> Facts:
    facts = {
        "name": name,
        "ready": True,
        "reason": None,
        "control_plane": name.startswith("cp"),
        "schedulable": True,
        "deleting": False,
        "pressure": [],
    }
    return {**facts, **changes}


def member(name: str, **changes: Any) -> Facts:
    facts = {
        "id": f"a{name[-1:]}",
        "name": name,
        "peer_urls": [f"https://{name}:2380"],
        "is_learner": False,
        "healthy": True,
        "alarms": [],
        "error": None,
    }
    return {**facts, **changes}


def pod(name: str, component: str, **changes: Any) -> Facts:
    return {
        "node": name,
        "component": component,
        "ready": True,
        "version": "1.36.4",
        "message": None,
        **changes,
    }


def healthy_cluster() -> Facts:
    components = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"]
    return {
        "answers": True,
        "error": None,
        "topology": "stacked",
        "nodes": [*(node(name) for name in NAMES), node("worker1")],
        "control_plane": [pod(name, component) for name in NAMES for component in components],
        "etcd": {
            "members": [member(name) for name in NAMES],
            "voters": 3,
            "needed": 2,
            "healthy": 3,
            "tolerance": 1,
            "present": True,
            "leader": "a1",
            "alarms": [],
            "error": None,
        },
        "addons": [
            {
                "kind": "DaemonSet",
                "namespace": "kube-system",
                "name": "kube-proxy",
                "desired": 4,
                "ready": 4,
                "current": True,
            }
        ],
        "pending_csrs": [],
        "skew": {"ok": True, "problems": []},
    }


EXPECTED = Expected(nodes=[*NAMES, "worker1"], control_plane=NAMES)


def brief(findings: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(finding["what"], finding["where"]) for finding in findings]


def test_a_healthy_cluster() -> None:
    verdict = judge(healthy_host(), healthy_cluster(), EXPECTED)
    assert verdict == {"healthy": True, "reasons": [], "notices": []}


def test_what_was_not_observed_is_not_judged() -> None:
    assert judge(None, None, EXPECTED)["healthy"]


def test_external_etcd_has_no_pods_and_other_names() -> None:
    cluster = healthy_cluster()
    cluster["topology"] = "external"
    cluster["control_plane"] = [item for item in cluster["control_plane"] if item["component"] != "etcd"]
    cluster["etcd"]["members"] = [member(f"etcd{number}") for number in (1, 2, 3)]
    assert judge(None, cluster, EXPECTED)["reasons"] == []


def in_node(name: str, **changes: Any) -> Callable[[Facts], None]:
    def change(cluster: Facts) -> None:
        next(item for item in cluster["nodes"] if item["name"] == name).update(changes)

    return change


def in_member(name: str, **changes: Any) -> Callable[[Facts], None]:
    def change(cluster: Facts) -> None:
        next(item for item in cluster["etcd"]["members"] if item["name"] == name).update(changes)

    return change


def in_etcd(**changes: Any) -> Callable[[Facts], None]:
    return lambda cluster: cluster["etcd"].update(changes)


def in_pod(name: str, component: str, **changes: Any) -> Callable[[Facts], None]:
    def change(cluster: Facts) -> None:
        for item in cluster["control_plane"]:
            if (item["node"], item["component"]) == (name, component):
                item.update(changes)

    return change


def without_pod(name: str, component: str) -> Callable[[Facts], None]:
    def change(cluster: Facts) -> None:
        pods = cluster["control_plane"]
        cluster["control_plane"] = [
            item for item in pods if (item["node"], item["component"]) != (name, component)
        ]

    return change


def in_addon(**changes: Any) -> Callable[[Facts], None]:
    return lambda cluster: cluster["addons"][0].update(changes)


def with_request(name: str | None) -> Callable[[Facts], None]:
    request = {"name": "csr-1", "signer": "kubernetes.io/kubelet-serving", "node": name, "age_seconds": 300}
    return lambda cluster: cluster["pending_csrs"].append(request)


def with_skew(cluster: Facts) -> None:
    problem = {"what": "A kubelet is newer", "where": "cp1", "why": "w", "remedy": "r"}
    cluster["skew"] = {"ok": False, "problems": [problem]}


REASONS: dict[str, tuple[Callable[[Facts], None], str, str, str]] = {
    "API": (
        lambda cluster: cluster.update(answers=False, error="refused"),
        "The API server does not answer",
        "API server",
        "refused",
    ),
    "etcd unknown": (
        in_etcd(error="no etcdctl", members=[], present=False, leader=None, voters=0),
        "The members of etcd cannot be observed",
        "etcd",
        "no etcdctl",
    ),
    "quorum": (
        in_etcd(present=False, healthy=1, tolerance=0),
        "etcd lacks a healthy majority",
        "etcd",
        "1 of 3 voters are healthy, 2 are needed",
    ),
    "leader": (in_etcd(leader=None), "etcd has no leader", "etcd", "no member names one"),
    "nospace": (
        in_member("cp2", alarms=["NOSPACE"], healthy=False),
        "An etcd member has raised the alarm NOSPACE",
        "cp2",
        "member a2",
    ),
    "corrupt": (
        in_member("cp2", alarms=["CORRUPT"], healthy=False),
        "An etcd member has raised the alarm CORRUPT",
        "cp2",
        "member a2",
    ),
    "dead member": (
        in_member("cp3", healthy=False, error="its status cannot be read"),
        "An etcd member is not healthy",
        "cp3",
        "its status cannot be read",
    ),
    "member that never started": (
        lambda cluster: cluster["etcd"]["members"].append(member("", healthy=False, error="never started")),
        "An etcd member is not healthy",
        "a (https://:2380)",
        "never started",
    ),
    "learner": (
        in_member("cp3", is_learner=True),
        "An etcd member is still a learner",
        "cp3",
        "it has no vote yet",
    ),
    "orphaned member": (
        lambda cluster: cluster["etcd"]["members"].append(member("cp9")),
        "An etcd member has no control plane",
        "cp9",
        "no control-plane node has its name",
    ),
    "control plane without member": (
        lambda cluster: cluster["etcd"]["members"].pop(),
        "A control plane has no etcd member",
        "cp3",
        "no member has its name",
    ),
    "component not ready": (
        in_pod("cp2", "kube-scheduler", ready=False, message="CrashLoopBackOff"),
        "kube-scheduler is not ready",
        "cp2",
        "CrashLoopBackOff",
    ),
    "component not ready without message": (
        in_pod("cp2", "kube-scheduler", ready=False),
        "kube-scheduler is not ready",
        "cp2",
        "its pod is not ready",
    ),
    "component missing": (
        without_pod("cp2", "kube-apiserver"),
        "kube-apiserver is missing",
        "cp2",
        "the node has no such static pod",
    ),
    "etcd pod missing": (
        without_pod("cp2", "etcd"),
        "etcd is missing",
        "cp2",
        "the node has no such static pod",
    ),
    "node not ready": (
        in_node("worker1", ready=False, reason="Kubelet stopped posting node status."),
        "A node is not ready",
        "worker1",
        "Kubelet stopped posting node status.",
    ),
    "node deleting": (
        in_node("worker1", deleting=True),
        "A node is being deleted",
        "worker1",
        "its object has a deletion time",
    ),
    "worker missing": (
        lambda cluster: cluster["nodes"].pop(),
        "A node is missing",
        "worker1",
        "the cluster does not know it",
    ),
    "skew": (with_skew, "A kubelet is newer", "cp1", "w"),
    "add-on": (
        in_addon(ready=3),
        "A DaemonSet is not ready",
        "kube-system/kube-proxy",
        "3 of 4 pods are ready",
    ),
    "add-on of an older revision": (
        in_addon(current=False),
        "A DaemonSet is being rolled out",
        "kube-system/kube-proxy",
        "not every pod is of its newest revision",
    ),
    "request": (
        with_request("worker1"),
        "A certificate request waits for approval",
        "worker1",
        "csr-1 (kubernetes.io/kubelet-serving) has waited for 300 seconds",
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_reasons_of_the_cluster(case: str) -> None:
    change, what, where, why = REASONS[case]
    cluster = healthy_cluster()
    change(cluster)
    verdict = judge(healthy_host(), cluster, EXPECTED)
    assert not verdict["healthy"]
    (reason,) = verdict["reasons"]
    assert (reason["what"], reason["where"], reason["why"]) == (what, where, why)
    assert reason["remedy"]


def test_corruption_is_never_to_be_disarmed_first() -> None:
    cluster = healthy_cluster()
    REASONS["corrupt"][0](cluster)
    assert "never disarm it before" in judge(None, cluster, EXPECTED)["reasons"][0]["remedy"]


def test_control_planes_that_are_missing_or_not_expected() -> None:
    expected = Expected(control_plane=["cp1", "cp2", "worker1", "cp4"])
    assert brief(judge(None, healthy_cluster(), expected)["reasons"]) == [
        ("A control plane is not in the inventory", "cp3"),
        ("A control plane is missing", "cp4"),
        ("A control plane is missing", "worker1"),
    ]


def test_a_pod_of_a_worker_is_not_asked_for() -> None:
    cluster = healthy_cluster()
    in_node("cp1", control_plane=False)(cluster)
    cluster["control_plane"] = [item for item in cluster["control_plane"] if item["node"] != "cp1"]
    cluster["etcd"]["members"] = [item for item in cluster["etcd"]["members"] if item["name"] != "cp1"]
    assert judge(None, cluster, Expected())["healthy"]


NOTICES: dict[str, tuple[Callable[[Facts], None], str, str]] = {
    "cordoned": (in_node("worker1", schedulable=False), "A node is cordoned", "worker1"),
    "pressure": (in_node("worker1", pressure=["DiskPressure"]), "A node reports DiskPressure", "worker1"),
    "unexpected worker": (
        lambda cluster: cluster["nodes"].append(node("worker9")),
        "A node is not in the inventory",
        "worker9",
    ),
    "no tag": (
        in_pod("cp1", "kube-apiserver", version=None),
        "The version of kube-apiserver is unknown",
        "cp1",
    ),
    "even": (in_etcd(voters=4, needed=3, healthy=4), "etcd has an even number of voters", "etcd"),
    "no spare": (in_etcd(voters=1, needed=1, healthy=1, tolerance=0), "etcd can lose no member", "etcd"),
    "request of a joining host": (with_request(None), "A certificate request waits for approval", "csr-1"),
    "request of a node that is gone": (
        with_request("worker9"),
        "A certificate request waits for approval",
        "worker9",
    ),
}


@pytest.mark.parametrize("case", NOTICES)
def test_notices_of_the_cluster(case: str) -> None:
    change, what, where = NOTICES[case]
    cluster = healthy_cluster()
    change(cluster)
    verdict = judge(healthy_host(), cluster, EXPECTED)
    assert (verdict["healthy"], verdict["reasons"]) == (True, [])
    assert brief(verdict["notices"]) == [(what, where)]
    assert verdict["notices"][0]["remedy"]


def with_host(**changes: Any) -> Facts:
    return {**healthy_host(), **changes}


def service(active: bool, enabled: bool) -> Facts:
    running = {"active": True, "enabled": True}
    return {"kubelet": {"active": active, "enabled": enabled}, "containerd": running}


@pytest.mark.parametrize(
    ("host", "reasons", "notices"),
    [
        (with_host(kubeadm="incomplete"), ["kubeadm has not finished on this host"], []),
        (with_host(interrupted="control_plane"), ["kubeadm was interrupted on this host"], []),
        (with_host(kubeadm="incomplete", interrupted="reset"), ["kubeadm was interrupted on this host"], []),
        (with_host(kubeadm="incomplete", interrupted="seed"), ["kubeadm was interrupted on this host"], []),
        (with_host(services=service(False, True)), ["kubelet does not run"], []),
        (with_host(services=service(True, False)), [], ["kubelet will not start with the host"]),
        (with_host(ntp_synchronized=False), [], ["The clock is not synchronized"]),
        (with_host(ntp_synchronized=None), [], []),
        (
            with_host(
                kubeadm="none", services=service(False, False), ntp_synchronized=False, certificates=[]
            ),
            [],
            [],
        ),
    ],
)
def test_hosts(host: Facts, reasons: list[str], notices: list[str]) -> None:
    verdict = judge(host, None, EXPECTED)
    assert brief(verdict["reasons"]) == [(what, "cp1") for what in reasons]
    assert brief(verdict["notices"]) == [(what, "cp1") for what in notices]


SOON, EXPIRED = "A certificate expires soon", "A certificate has expired"


@pytest.mark.parametrize(
    ("days", "lifetime", "warning_days", "reason", "notice"),
    [
        (31, 365, 30, None, None),
        (30, 365, 30, None, SOON),
        (7.01, 365, 30, None, SOON),
        (7, 365, 30, SOON, None),
        (0.5, 365, 30, SOON, None),
        (-0.01, 365, 30, EXPIRED, None),
        (80, 365, 90, None, SOON),
        (6, 365, 3, SOON, None),
        (0.3, 1, 30, None, None),
        (0.15, 1, 30, None, SOON),
        (0.05, 1, 30, SOON, None),
    ],
)
def test_certificates(
    days: float, lifetime: float, warning_days: int, reason: str | None, notice: str | None
) -> None:
    host = with_host(certificates=[certificate(days, lifetime=lifetime)])
    verdict = judge(host, None, Expected(certificate_warning_days=warning_days))
    where = "cp1: /etc/kubernetes/pki/apiserver.crt"
    assert brief(verdict["reasons"]) == ([(reason, where)] if reason else [])
    assert brief(verdict["notices"]) == ([(notice, where)] if notice else [])


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("/etc/kubernetes/pki/apiserver.crt", "renew_certificates.yml"),
        ("/etc/etcd/pki/server.crt", "site.yml"),
        ("/etc/kubernetes/pki/etcd/ca.crt", "certificate authority"),
        ("/etc/kubernetes/pki/front-proxy-ca.crt", "certificate authority"),
        ("/var/lib/kubelet/pki/kubelet-client-current.pem", "The kubelet should have renewed it"),
    ],
)
def test_each_kind_of_certificate_has_its_remedy(path: str, remedy: str) -> None:
    verdict = judge(with_host(certificates=[certificate(1, path)]), None, EXPECTED)
    assert remedy in verdict["reasons"][0]["remedy"]


def test_a_certificate_that_cannot_be_read() -> None:
    broken = {**certificate(1), "days_left": None, "lifetime_days": None, "error": "no PEM block"}
    verdict = judge(with_host(certificates=[broken]), None, EXPECTED)
    assert verdict["reasons"] == []
    assert verdict["notices"][0]["why"] == "no PEM block"


def test_the_worst_comes_first() -> None:
    cluster = healthy_cluster()
    order = ["quorum", "dead member", "component not ready", "node not ready", "skew", "add-on", "request"]
    for case in reversed(order):
        REASONS[case][0](cluster)
    host = with_host(services=service(False, True), certificates=[certificate(1)])
    expected = [REASONS[case][1] for case in order]
    expected[5:5] = ["kubelet does not run", SOON]
    reasons = judge(host, cluster, EXPECTED)["reasons"]
    assert [reason["what"] for reason in reasons] == expected


def test_an_api_server_that_does_not_answer_hides_no_trouble_of_etcd() -> None:
    cluster = healthy_cluster()
    for case in ("node not ready", "dead member", "API"):
        REASONS[case][0](cluster)
    assert brief(judge(None, cluster, EXPECTED)["reasons"]) == [
        ("The API server does not answer", "API server"),
        ("An etcd member is not healthy", "cp3"),
    ]


def test_judging_changes_no_facts() -> None:
    host, cluster = healthy_host(), healthy_cluster()
    with_skew(cluster)
    before = copy.deepcopy((host, cluster))
    judge(host, cluster, EXPECTED)
    assert (host, cluster) == before
