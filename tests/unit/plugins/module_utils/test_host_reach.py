# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port matrix, and the sentences that probes lead to."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _host_reach as reach
from ansible_collections.kubewright.cluster.plugins.module_utils._host_reach import Sample, Target

PORTS = {
    "api": 6443,
    "endpoint": 8443,
    "etcd_client": 2379,
    "etcd_peer": 2380,
    "kubelet": 10250,
    "vxlan": 8472,
}
CONTROL_PLANES = ["cp1", "cp2", "cp3"]


def listener(name: str, **changes: Any) -> dict[str, Any]:
    control_plane = name in CONTROL_PLANES
    described = {
        "name": name,
        "address": f"10.0.0.{len(name)}",
        "control_plane": control_plane,
        "listening": [one.name for one in reach.served(control_plane, PORTS)],
        "nonce": f"nonce of {name}",
        "since": 1000.0,
        "lifetime": 60,
    }
    return {**described, **changes}


def ports(targets: list[Target], peer: str) -> list[str]:
    return [f"{one.port}/{one.protocol}" for one in targets if one.peer == peer]


def test_a_worker_reaches_what_nodes_need_and_a_control_plane_all() -> None:
    peers = [listener("cp2"), listener("worker1")]
    worker = reach.plan_listeners("worker9", False, PORTS, peers, 1001).targets
    assert ports(worker, "cp2") == ["6443/tcp", "8443/tcp", "8472/udp"]
    assert ports(worker, "worker1") == ["8472/udp"]
    control_plane = reach.plan_listeners("cp1", True, PORTS, peers, 1001).targets
    assert ports(control_plane, "cp2") == [
        "6443/tcp",
        "8443/tcp",
        "2379/tcp",
        "2380/tcp",
        "10250/tcp",
        "8472/udp",
    ]
    assert ports(control_plane, "worker1") == ["10250/tcp", "8472/udp"]
    assert all(one.sure and one.key == f"nonce of {one.peer}" for one in worker + control_plane)


def test_a_service_that_the_cluster_does_not_use_is_not_probed() -> None:
    few = {"api": 6443, "kubelet": 10250}
    assert ports(reach.plan_listeners("cp1", True, few, [listener("cp2")], 1001).targets, "cp2") == [
        "6443/tcp",
        "10250/tcp",
    ]


def test_a_port_that_something_else_holds_is_probed_without_a_listener_and_only_over_tcp() -> None:
    held = listener("cp2", listening=["etcd_client", "etcd_peer", "kubelet"])
    targets = reach.plan_listeners("worker1", False, PORTS, [held], 1001).targets
    assert ports(targets, "cp2") == ["6443/tcp", "8443/tcp"]
    assert not any(one.key or one.sure for one in targets)


def test_nobody_probes_itself_nor_a_listener_near_its_end() -> None:
    peers = [listener("cp1"), listener("cp2", since=950.0), listener("cp3", since=949.9)]
    plan = reach.plan_listeners("cp1", True, PORTS, peers, 1000)
    assert {one.peer for one in plan.targets} == {"cp2"}
    assert plan.unchecked == ["cp3"]


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 4, 5, 60])
@pytest.mark.parametrize("planes", [0, 1, 3])
def test_visitors_are_exactly_those_who_visit(planes: int, workers: int) -> None:
    hosts = [*CONTROL_PLANES[:planes], *(f"worker{number}" for number in range(workers))]
    visits = {host: reach.peers_of(host, hosts, CONTROL_PLANES) for host in hosts}
    for host in hosts:
        assert reach.visitors_of(host, hosts, CONTROL_PLANES) == [one for one in hosts if host in visits[one]]
        assert host not in visits[host] and len(set(visits[host])) == len(visits[host])
        most = len(hosts) - 1 if host in CONTROL_PLANES else planes + 3
        assert len(visits[host]) == min(most, len(hosts) - 1), "the work of a worker has a bound"
        assert {one for one in hosts if one in CONTROL_PLANES} - {host} <= set(visits[host])


def test_living_control_planes_are_probed_and_dead_ones_are_not() -> None:
    servers = {"cp1": "10.0.0.1", "cp2": "10.0.0.2", "cp3": "10.0.0.3"}
    targets = reach.plan_servers("worker1", False, PORTS, servers, ["cp1"], ["10.0.0.2"])
    # cp2's member is well, but nobody saw its API server; cp3 is dead.
    assert [(one.peer, one.port, one.sure) for one in targets] == [
        ("cp1", 6443, True),
        ("cp1", 8443, False),
        ("cp2", 6443, False),
        ("cp2", 8443, False),
    ]
    joining = reach.plan_servers("cp3", True, PORTS, servers, ["cp1", "cp3"], [])
    assert [(one.port, one.sure) for one in joining] == [
        (6443, True),
        (8443, False),
        (2379, True),
        (2380, True),
        (10250, False),
    ]


def test_a_sentence_for_each_peer_and_reason() -> None:
    api = Target("cp1", "10.0.0.1", 6443, "tcp", "API server")
    etcd = Target("cp1", "10.0.0.1", 2380, "tcp", "etcd's members")
    vxlan = Target("cp2", "10.0.0.2", 8472, "udp", "flannel's vxlan")
    said = reach.port_problems("w", [(api, "timed out"), (etcd, "timed out"), (vxlan, "no route"), (api, "")])
    assert said == [
        "w cannot reach cp1 (10.0.0.1) on 6443/tcp (API server), 2380/tcp (etcd's members): no answer, so a packet "
        "filter probably drops it. Open it on cp1 and on the way for w.",
        "w cannot reach cp2 (10.0.0.2) on 8472/udp (flannel's vxlan): no route, or a packet filter rejects it. Mend "
        "the routes between them, open it on cp2 for w, or correct kube_cluster_host_address.",
    ]


def test_a_refusal_counts_only_where_something_listens_for_certain() -> None:
    sure, unsure = (Target("cp1", "10.0.0.1", 6443, "tcp", "API server", sure=sure) for sure in (True, False))
    assert "refused although cp1 listens" in reach.port_problems("w", [(sure, "refused")])[0]
    assert reach.port_problems("w", [(unsure, "refused")]) == []
    assert len(reach.port_problems("w", [(unsure, "timed out")])) == 1
    down = reach.port_problems("w", [(reach.plan_endpoint("api.example.com", 6443), "refused")])
    assert down == [
        "w cannot reach the endpoint (api.example.com) on 6443/tcp (load balancer): refused. Bring the load balancer "
        "back: the hosts join through it."
    ]


@pytest.mark.parametrize(
    "trouble", ["timed out", "refused", "no route", "forbidden", "stranger", "Odd thing"]
)
def test_every_sentence_is_one_line_and_ends(trouble: str) -> None:
    [said] = reach.port_problems("w", [(Target("cp1", "10.0.0.1", 1, "tcp", "API server"), trouble)])
    assert (
        "\n" not in said and said.endswith(".") and said.startswith("w cannot reach cp1 (10.0.0.1) on 1/tcp")
    )


def test_the_offset_is_corrected_by_half_of_the_way() -> None:
    # 40 ms there, 40 ms back, 10 ms on the other host, whose clock is 3 s ahead.
    sample = Sample.of(sent=100.0, received=103.04, answered=103.05, back=100.09)
    assert sample.offset == pytest.approx(3.0) and sample.delay == pytest.approx(0.08)
    behind = Sample.of(sent=100.0, received=95.04, answered=95.05, back=100.09)
    assert behind.offset == pytest.approx(-5.0)
    assert reach.best([Sample(9, 0.5), Sample(3, 0.1), Sample(1, 0.4)]) == Sample(3, 0.1)
    assert reach.best([]) is None


def test_a_clock_that_is_off_is_named_with_those_that_agree() -> None:
    clocks = {"cp3": Sample(0.2, 0.01), "cp2": Sample(-4.04, 0.01), "w1": Sample(0.0, 0.01)}
    assert reach.clock_problems("cp1", clocks, 1) == [
        "The clock of cp2 is 4.0 s behind that of cp1, and 1 s are allowed (the clock of cp1 agrees with those of cp3, "
        "w1). Set the wrong one right and keep it so, for example with chrony."
    ]
    alone = reach.clock_problems("cp1", {"cp2": Sample(4.0, 0.0)}, 1)
    assert "4.0 s ahead of that of cp1" in alone[0] and "nobody else was asked" in alone[0]


def test_what_may_be_the_way_is_not_held_against_a_clock() -> None:
    assert reach.clock_problems("cp1", {"cp2": Sample(1.2, 0.5)}, 1) == []
    assert reach.clock_problems("cp1", {"cp2": Sample(1.0, 0.0)}, 1) == []
    assert reach.clock_problems("cp1", {"cp2": Sample(-1.26, 0.5)}, 1)
    assert reach.clock_problems("cp1", {"cp2": Sample(1.2, 0.0)}, 1.5) == []


def test_ports_that_kubeadm_wants_are_left_out_as_it_is_told() -> None:
    assert reach.wanted_by_kubeadm(PORTS, []) == ["api", "etcd_client", "etcd_peer", "kubelet"]
    assert reach.wanted_by_kubeadm(PORTS, ["Port-10250", "port-2379"]) == ["api", "etcd_peer"]
    assert reach.wanted_by_kubeadm(PORTS, ["all"]) == []
    assert reach.wanted_by_kubeadm({"kubelet": 10250}, []) == ["kubelet"]


def test_a_taken_port_is_named() -> None:
    api, kubelet = (one for one in reach.MATRIX if one.name in ("api", "kubelet"))
    assert reach.busy_problem("cp1", [(api, 6443), (kubelet, 10250)]) == (
        "On cp1 something else already listens on 6443/tcp (API server), 10250/tcp (kubelet), so kubeadm would refuse "
        "the host. See what it is with: ss -lntup 'sport = :6443', and stop it."
    )
    assert reach.busy_problem("cp1", []) == ""


def test_the_virtual_ip_is_refused_where_a_stranger_has_it() -> None:
    own = {"10.0.0.12": "02:00:00:00:00:12"}
    assert reach.address_problem("cp1", "10.0.0.9", own) == ""
    assert reach.address_problem("cp1", "10.0.0.9", {**own, "10.0.0.9": "02:00:00:00:00:12"}) == ""
    assert reach.address_problem("cp1", "10.0.0.9", {**own, "10.0.0.9": "02:00:00:00:00:99"}) == (
        "10.0.0.9 is to become the virtual IP, but it is in use: 02:00:00:00:00:99 answers for it in the network of "
        "cp1. Free it, or give kube_cluster_endpoint_address an address that nobody has."
    )
