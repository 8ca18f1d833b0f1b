# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._removal import Host, Removal, plan

AT = {"cp1": "10.0.0.11", "cp2": "10.0.0.12", "cp3": "10.0.0.13", "w1": "10.0.0.21", "w2": "10.0.0.22"}


def node(name: str, ready: bool = True) -> dict[str, Any]:
    control_plane = name.startswith("cp")
    return {
        "name": name,
        "ready": ready,
        "control_plane": control_plane,
        "addresses": [AT[name], name],
        "internal_ip": AT[name],
    }


def member(host: str, healthy: bool = True, **more: Any) -> dict[str, Any]:
    facts = {
        "id": f"id{host}",
        "name": host,
        "peer_urls": [f"https://{AT[host]}:2380"],
        "client_urls": [],
        "is_leader": host == "cp1",
        "healthy": healthy,
        "error": None if healthy else "its status cannot be read",
    }
    return {**facts, **more}


def cluster(
    dead: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    members: tuple[str, ...] = ("cp1", "cp2", "cp3"),
) -> dict[str, Any]:
    names = [name for name in AT if name not in without]
    return {
        "answers": True,
        "topology": "stacked",
        "nodes": [node(name, name not in dead) for name in names],
        "control_plane": [
            {"node": name, "component": "kube-apiserver", "ready": name not in dead}
            for name in names
            if name.startswith("cp")
        ],
        "etcd": {"members": [member(name, name not in dead) for name in members], "error": None},
    }


def hosts(
    dead: tuple[str, ...] = (), without: tuple[str, ...] = (), clean: tuple[str, ...] = ()
) -> list[Host]:
    return [
        Host(name, name, AT[name], name.startswith("cp"), name not in dead, name not in dead + clean, "ca")
        for name in AT
        if name not in without
    ]


def refused(found: Removal) -> str:
    assert found.problems
    return " ".join(found.problems)


def test_a_living_control_plane() -> None:
    found = plan(["cp1"], hosts(), cluster(), authority="ca")
    [target] = found.targets
    assert not found.problems
    assert (target.host, target.node, target.member) == ("cp1", "cp1", "idcp1")
    assert target.control_plane and target.clean and target.drain == "evict" and not target.gone
    assert found.lines == [
        "cp1 (control plane): taken out of the load balancers, drained, its etcd member idcp1 removed, "
        "the host cleaned, the node cp1 deleted."
    ]


def test_a_living_worker() -> None:
    [target] = plan(["w1"], hosts(), cluster()).targets
    assert not target.control_plane and not target.member and target.drain == "evict" and target.clean


def test_a_dead_control_plane() -> None:
    found = plan(["cp2"], hosts(dead=("cp2",)), cluster(dead=("cp2",)))
    [target] = found.targets
    assert not found.problems and target.drain == "delete" and target.member == "idcp2" and not target.clean


def test_a_control_plane_whose_disk_was_wiped() -> None:
    found = plan(["cp3"], hosts(clean=("cp3",)), cluster(dead=("cp3",)))
    assert not found.problems and not found.targets[0].clean and found.targets[0].member


def test_a_node_that_is_called_ready_is_waited_for_unless_its_host_confirms_it() -> None:
    """For 45 seconds nobody knows that the power, or the disk, of a ready node is gone."""
    for known, ready, settled in (
        (hosts(), True, True),
        (hosts(clean=("cp3",)), True, False),
        (hosts(dead=("cp3",)), True, False),
        (hosts(clean=("cp3",)), False, True),
    ):
        found = plan(["cp3"], known, cluster(dead=() if ready else ("cp3",)))
        assert found.returned()["targets"][0]["settled"] is settled


@pytest.mark.parametrize("name", ["cp2", "10.0.0.12"])
def test_a_host_that_the_inventory_has_forgotten(name: str) -> None:
    found = plan([name], hosts(without=("cp2",)), cluster(dead=("cp2",)))
    [target] = found.targets
    assert not found.problems and target.node == "cp2" and target.member == "idcp2" and target.host == ""


def test_a_member_whose_node_is_gone_is_found_by_its_address_or_its_name() -> None:
    """k/k 100677 and CAPI 3860: a node deleted by hand leaves its member."""
    for name in ("cp2", "10.0.0.12"):
        found = plan([name], hosts(without=("cp2",)), cluster(without=("cp2",)))
        assert not found.problems and found.targets[0].member == "idcp2"


def test_a_member_that_never_started_is_found_by_its_address() -> None:
    """CAPI 13221."""
    seen = cluster(without=("cp3",), members=("cp1", "cp2"))
    seen["etcd"]["members"].append(member("cp3", False, name="", is_learner=True))
    [target] = plan(["cp3"], hosts(), seen).targets
    assert target.member == "idcp3"


def test_a_node_of_a_member_that_is_gone_is_finished() -> None:
    """CAPI 4365 and 4472: the run was cut off between the removal of the member and what follows."""
    found = plan(["cp2"], hosts(), cluster(dead=("cp2",), members=("cp1", "cp3")))
    [target] = found.targets
    assert not found.problems and not target.member and target.clean and target.node == "cp2"


def test_what_is_gone_needs_nothing() -> None:
    found = plan(["w2"], hosts(clean=("w2",)), cluster(without=("w2",)))
    assert found.targets[0].gone and not found.problems and "Nothing to do" in found.lines[0]
    found = plan(["nobody"], hosts(), cluster())
    assert found.targets[0].gone and "not in the inventory" in found.lines[0]
    assert "The nodes are cp1, cp2" in found.lines[0]


def test_a_removed_host_that_came_back_is_cleaned() -> None:
    [target] = plan(["cp2"], hosts(), cluster(without=("cp2",), members=("cp1", "cp3"))).targets
    assert target.clean and not target.node and not target.member and not target.gone


def test_a_host_of_another_cluster_is_not_cleaned() -> None:
    found = plan(["w2"], hosts(), cluster(without=("w2",)), authority="another")
    assert "files of another cluster" in refused(found)


def test_no_answer_is_no_empty_cluster() -> None:
    assert "does not answer" in refused(plan(["cp1"], hosts(), {"answers": False, "error": "x", "nodes": []}))
    seen = cluster()
    seen["etcd"] = {"members": [], "error": "dead"}
    assert "members of etcd cannot be read: dead" in refused(plan(["w1"], hosts(), seen))


def test_the_last_control_plane_stays() -> None:
    seen = cluster(without=("cp2", "cp3"), members=("cp1",))
    assert "No control plane would be left" in refused(plan(["cp1"], hosts(), seen))
    found = plan(["cp1", "cp2", "cp3"], hosts(), cluster())
    assert "No control plane would be left" in refused(found)
    # The others are there, but they serve nobody.
    assert "No control plane would be left" in refused(plan(["cp1"], hosts(), cluster(dead=("cp2", "cp3"))))


def test_a_quorum_is_not_given_away() -> None:
    found = plan(["cp1"], hosts(), cluster(dead=("cp3",)))
    assert "of 2 voters 1 would be healthy, and 2 are needed" in refused(found)
    assert "its status cannot be read" in refused(found)


def test_the_dead_go_first_and_the_leader_last() -> None:
    found = plan(["cp1", "w1", "cp3"], hosts(dead=("cp3",)), cluster(dead=("cp3",)))
    assert [one.name for one in found.targets] == ["w1", "cp3", "cp1"] and not found.problems


def test_two_names_of_one_host_are_one() -> None:
    assert len(plan(["w1", "10.0.0.21", "w1"], hosts(), cluster()).targets) == 1


def test_an_address_leads_to_its_node_with_every_safeguard() -> None:
    by_name = refused(plan(["cp1"], hosts(), cluster(dead=("cp3",))))
    by_address = refused(plan([AT["cp1"]], hosts(), cluster(dead=("cp3",))))
    assert by_address == by_name.replace("cp1 cannot", f"{AT['cp1']} cannot")


def test_a_name_that_leads_to_two_hosts_is_refused() -> None:
    known = [*hosts(without=("w1",)), Host("w1", "w2", "10.0.0.99")]
    assert "it leads to" in refused(plan(["w2"], known, cluster()))
    # The new address of a host is that of another node.
    known = [*hosts(without=("w1",)), Host("w1", "w1", AT["w2"])]
    assert "it leads to" in refused(plan(["w1"], known, cluster()))


def test_a_new_machine_with_the_name_of_the_dead_one_is_left_alone() -> None:
    known = [*hosts(without=("cp2",)), Host("cp2", "cp2", "10.0.0.92", True, True, True)]
    found = plan(["cp2"], known, cluster(dead=("cp2",)))
    [target] = found.targets
    assert not found.problems and target.member == "idcp2" and not target.clean and target.host == ""
    assert "left alone" in found.lines[0]


def test_a_member_with_the_name_at_the_address_of_another_host_is_refused() -> None:
    seen = cluster(without=("cp2",), members=("cp1", "cp3"))
    seen["etcd"]["members"][1]["name"] = "cp2"
    assert "at the address of another host" in refused(plan(["cp2"], hosts(), seen))


def test_a_host_that_works_but_is_not_reached_stays() -> None:
    for known in (hosts(dead=("w1",)), hosts(without=("w1",))):
        assert "would go on running" in refused(plan(["w1"], known, cluster()))
        assert not plan(["w1"], known, cluster(), accept_running=True).problems


def test_an_external_etcd_is_left_alone() -> None:
    seen = {**cluster(), "topology": "external"}
    assert plan(["cp1"], hosts(), seen).targets[0].member == ""
