# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every wish, on every kind of host, with every answer of the cluster."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._half_done import Began
from ansible_collections.kubewright.cluster.plugins.module_utils._node_plan import (
    Cluster,
    Host,
    plan_node,
    read_cluster,
)

CREDENTIALS = ("/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/pki/kubelet-client-current.pem")
NAME, ADDRESS = "cp2", "10.0.0.12"
PEER = f"https://{ADDRESS}:2380"

FRESH = Host("none", name=NAME, address=ADDRESS)
PARTS = Host("incomplete", ["/etc/kubernetes/pki/ca.crt"], name=NAME, address=ADDRESS)
REGISTERED = replace(PARTS, evidence=[*PARTS.evidence, *CREDENTIALS])

NODE = {"name": NAME, "ready": False, "addresses": [ADDRESS]}
OTHER_NODE = {"name": NAME, "ready": True, "addresses": ["10.0.0.99"]}
UNSTARTED = {"id": "a1", "name": "", "peer_urls": [PEER], "is_learner": True, "healthy": False}
LEARNER = {**UNSTARTED, "name": NAME, "healthy": True}
VOTER = {**LEARNER, "is_learner": False}
DEAD = {**VOTER, "healthy": False}


def began(host: Host, role: str, own: bool = False) -> Host:
    return replace(host, began=Began(role, own))


def cluster(node: Any = None, member: Any = None, known: bool = True) -> Cluster:
    return Cluster(node, member, known, voters=3, healthy=2, needed=2)


@pytest.mark.parametrize("wanted", ["seed", "control_plane", "worker"])
@pytest.mark.parametrize("host", [FRESH, PARTS, REGISTERED])
@pytest.mark.parametrize("known", [None, cluster(), cluster(NODE)])
def test_a_reset_that_was_cut_off_is_finished_first(wanted: str, host: Host, known: Cluster | None) -> None:
    with pytest.raises(KubewrightError, match="was being reset"):
        plan_node(wanted, began(host, "reset"), known)


@pytest.mark.parametrize(
    ("wanted", "state", "outcome"),
    [
        ("seed", "none", "init"),
        ("seed", "control_plane", "already belongs to a cluster"),
        ("seed", "worker", "already belongs to a cluster"),
        ("seed", "incomplete", "kubeadm was interrupted on this host"),
        ("control_plane", "none", "join"),
        ("control_plane", "control_plane", ""),
        ("control_plane", "worker", "cannot change a node's role"),
        ("worker", "none", "join"),
        ("worker", "control_plane", "cannot change a node's role"),
        ("worker", "worker", ""),
    ],
)
@pytest.mark.parametrize("answer", [None, cluster()])
def test_hosts_that_no_run_was_interrupted_on(
    wanted: str, state: str, outcome: str, answer: Cluster | None
) -> None:
    host = replace(FRESH, state=state, evidence=[] if state == "none" else ["/etc/kubernetes/kubelet.conf"])
    if outcome in ("", "init", "join"):
        plan = plan_node(wanted, host, answer)
        assert (plan.action, plan.reset, plan.skip) == (outcome, False, ())
        assert plan.reason
        return
    with pytest.raises(KubewrightError, match=outcome) as caught:
        plan_node(wanted, host, answer)
    assert caught.value.remedy


def test_refusal_names_both_roles() -> None:
    with pytest.raises(KubewrightError, match="This host is a control plane, not a worker"):
        plan_node("worker", replace(FRESH, state="control_plane"), None)


# A start that was interrupted.


def test_a_start_without_data_begins_again() -> None:
    plan = plan_node("seed", began(PARTS, "seed"), None)
    assert (plan.action, plan.reset, plan.skip) == ("init", True, ())


def test_a_start_that_left_nothing_needs_no_reset() -> None:
    plan = plan_node("seed", began(FRESH, "seed"), None)
    assert (plan.action, plan.reset) == ("init", False)


def test_a_start_with_data_is_finished_and_never_reset() -> None:
    for host in (PARTS, REGISTERED, replace(REGISTERED, state="control_plane")):
        plan = plan_node("seed", began(replace(host, etcd_data=True), "seed"), None)
        assert (plan.action, plan.reset, plan.skip) == ("init", False, ("preflight",))


def test_the_authority_of_a_site_is_never_reset() -> None:
    plan = plan_node("seed", began(PARTS, "seed", own=True), None)
    assert (plan.action, plan.reset, plan.skip) == ("init", False, ("preflight",))


@pytest.mark.parametrize("role", ["control_plane", "worker", "unknown"])
def test_a_half_joined_host_starts_no_cluster(role: str) -> None:
    with pytest.raises(KubewrightError, match="no cluster answers that could be asked") as caught:
        plan_node("seed", began(PARTS, role), None)
    assert "/etc/kubernetes/pki/ca.crt" in str(caught.value)


def test_the_look_at_a_host_that_was_starting_the_cluster() -> None:
    assert plan_node("control_plane", began(PARTS, "seed"), None).action == "init"


@pytest.mark.parametrize(("node", "member"), [(NODE, None), (None, VOTER), (NODE, VOTER)])
def test_the_cluster_that_answers_is_the_one_that_was_being_started(node: Any, member: Any) -> None:
    host = began(replace(REGISTERED, etcd_data=True), "seed")
    plan = plan_node("control_plane", host, cluster(node, member))
    assert (plan.action, plan.reset, plan.skip) == ("init", False, ("preflight",))


def test_another_host_has_started_the_cluster_since() -> None:
    plan = plan_node("control_plane", began(replace(PARTS, etcd_data=True), "seed"), cluster())
    assert (plan.action, plan.reset, plan.skip) == ("join", True, ())


# A join that was interrupted.


@pytest.mark.parametrize("role", ["control_plane", "worker"])
def test_neither_member_nor_node_is_reset_and_joined(role: str) -> None:
    for host in (PARTS, REGISTERED, replace(REGISTERED, state="worker")):
        plan = plan_node(role, began(host, role), cluster())
        assert (plan.action, plan.reset, plan.skip, plan.start_kubelet) == ("join", True, (), False)


@pytest.mark.parametrize("role", ["control_plane", "worker"])
def test_the_data_of_a_member_that_is_not_found_is_never_reset(role: str) -> None:
    """Its name and its address may both have been corrected: it can be a voter that the cluster needs."""
    with pytest.raises(KubewrightError, match="has the data of an etcd member") as caught:
        plan_node(role, began(replace(PARTS, etcd_data=True), role), cluster())
    assert "set it back and run again" in caught.value.remedy


@pytest.mark.parametrize("role", ["seed", "control_plane"])
@pytest.mark.parametrize("member", [VOTER, LEARNER, DEAD])
@pytest.mark.parametrize("data", [True, False])
def test_a_member_of_this_name_at_the_address_of_before_is_refused(
    role: str, member: Any, data: bool
) -> None:
    """The address was wrong, the host became a member under it, the join failed, the address was corrected."""
    elsewhere = {**member, "peer_urls": ["https://10.0.0.99:2380"]}
    host = began(replace(PARTS, etcd_data=data), role)
    etcd = {"members": [elsewhere], "voters": 2, "healthy": 2, "needed": 2, "error": None}
    with pytest.raises(KubewrightError, match="a member named cp2, but with another address") as caught:
        plan_node("control_plane", host, read_cluster({"nodes": [], "etcd": etcd}, host))
    assert "https://10.0.0.99:2380" in caught.value.why
    assert "etcdctl member remove a1" in caught.value.remedy
    assert "2 of 2 voters are healthy, 2 are needed" in caught.value.remedy


def test_a_new_host_does_not_take_the_name_of_a_member() -> None:
    elsewhere = {**VOTER, "peer_urls": ["https://10.0.0.99:2380"]}
    with pytest.raises(KubewrightError, match="a member named cp2, but with another address"):
        plan_node("control_plane", FRESH, cluster(None, elsewhere))


@pytest.mark.parametrize("role", ["control_plane", "worker"])
def test_a_note_alone_needs_no_reset(role: str) -> None:
    assert plan_node(role, began(FRESH, role), cluster()).reset is False


@pytest.mark.parametrize("role", ["control_plane", "worker"])
def test_without_a_cluster_nothing_is_decided(role: str) -> None:
    plan = plan_node(role, began(REGISTERED, role), None)
    assert (plan.action, plan.reset) == ("join", False)
    assert "will be asked" in plan.reason


def test_a_worker_that_is_a_node_is_finished() -> None:
    plan = plan_node("worker", began(REGISTERED, "worker"), cluster(NODE))
    assert (plan.action, plan.reset) == ("join", False)
    assert plan.skip == ("preflight", "kubelet-start")
    assert plan.start_kubelet


def test_a_node_object_of_an_earlier_life_does_not_make_it_a_node() -> None:
    plan = plan_node("worker", began(PARTS, "worker"), cluster(NODE))
    assert (plan.action, plan.reset) == ("join", True)


@pytest.mark.parametrize(
    ("node", "member", "skip"),
    [
        (None, UNSTARTED, ("preflight", "check-etcd")),
        (None, LEARNER, ("preflight", "check-etcd")),
        (None, DEAD, ("preflight", "check-etcd")),
        (None, VOTER, ("preflight", "check-etcd", "etcd-join")),
        (NODE, UNSTARTED, ("preflight", "check-etcd", "kubelet-start")),
        (NODE, LEARNER, ("preflight", "check-etcd", "kubelet-start")),
        (NODE, VOTER, ("preflight", "check-etcd", "kubelet-start", "etcd-join")),
    ],
)
def test_a_control_plane_goes_on_with_the_phases_that_remain(
    node: Any, member: Any, skip: tuple[str, ...]
) -> None:
    """kubernetes/kubeadm 3269: a member that was added and never started stays; here the join goes on with it."""
    host = began(replace(REGISTERED if node else PARTS, etcd_data=True), "control_plane")
    plan = plan_node("control_plane", host, cluster(node, member))
    assert (plan.action, plan.reset, plan.skip) == ("join", False, skip)
    assert plan.start_kubelet == bool(node)


def test_a_member_that_was_added_but_has_no_data_yet_is_taken_over() -> None:
    plan = plan_node("control_plane", began(PARTS, "control_plane"), cluster(None, UNSTARTED))
    assert (plan.action, plan.reset) == ("join", False)


def test_an_unstarted_member_of_a_host_that_was_reset_does_not_stop_its_join() -> None:
    plan = plan_node("control_plane", FRESH, cluster(None, UNSTARTED))
    assert (plan.action, plan.skip) == ("join", ())


@pytest.mark.parametrize("host", [FRESH, began(PARTS, "control_plane"), began(FRESH, "control_plane")])
def test_a_member_whose_data_is_gone_is_refused_with_the_votes(host: Host) -> None:
    with pytest.raises(KubewrightError, match="its data is not here") as caught:
        plan_node("control_plane", host, cluster(None, DEAD))
    assert "etcdctl member remove a1" in str(caught.value)
    assert "2 of 3 voters are healthy, 2 are needed" in str(caught.value)


@pytest.mark.parametrize("host", [FRESH, began(REGISTERED, "worker")])
def test_a_name_that_another_host_has_is_refused(host: Host) -> None:
    with pytest.raises(KubewrightError, match="node name cp2 is taken by another host") as caught:
        plan_node("worker", host, cluster(OTHER_NODE))
    assert "10.0.0.99" in str(caught.value)


def test_members_that_cannot_be_read_prove_nothing() -> None:
    for role, wanted in (("control_plane", "control_plane"), ("worker", "worker"), ("seed", "control_plane")):
        with pytest.raises(KubewrightError, match="members of etcd cannot be read"):
            plan_node(wanted, began(PARTS, role), cluster(known=False))


def test_a_node_whose_member_was_removed_is_refused() -> None:
    host = began(replace(REGISTERED, etcd_data=True), "control_plane")
    with pytest.raises(KubewrightError, match="data of an etcd member that was removed") as caught:
        plan_node("control_plane", host, cluster(NODE))
    assert "Delete the node cp2" in caught.value.remedy


def test_a_half_joined_node_does_not_change_its_role() -> None:
    host = began(replace(REGISTERED, etcd_data=True), "control_plane")
    with pytest.raises(KubewrightError, match="became a control plane, but it is to be a worker"):
        plan_node("worker", host, cluster(NODE, VOTER))


def test_the_authority_of_a_site_is_not_reset_for_a_join() -> None:
    with pytest.raises(KubewrightError, match="certificate authorities of its own") as caught:
        plan_node("control_plane", began(PARTS, "control_plane", own=True), cluster())
    assert "Save what you need" in caught.value.remedy


# Remains that nobody left a note of.


@pytest.mark.parametrize("role", ["control_plane", "worker"])
def test_foreign_remains_that_never_were_anything_are_reset(role: str) -> None:
    assert plan_node(role, PARTS, None).reset is False
    plan = plan_node(role, PARTS, cluster())
    assert (plan.action, plan.reset) == ("join", True)


@pytest.mark.parametrize("role", ["control_plane", "worker"])
@pytest.mark.parametrize("path", ["/etc/kubernetes/pki/ca.key", "/etc/kubernetes/admin.conf"])
def test_foreign_remains_beside_somebodys_keys_are_not_reset(role: str, path: str) -> None:
    with pytest.raises(KubewrightError, match="nothing tells whose these files are") as caught:
        plan_node(role, replace(PARTS, valuables=[path]), cluster())
    assert path in str(caught.value) and "Save what you need" in caught.value.remedy


@pytest.mark.parametrize("role", ["control_plane", "worker"])
@pytest.mark.parametrize(
    ("host", "answer"),
    [
        (REGISTERED, None),
        (replace(PARTS, etcd_data=True), None),
        (REGISTERED, cluster()),
        (replace(PARTS, etcd_data=True), cluster()),
        (PARTS, cluster(NODE)),
        (PARTS, cluster(None, UNSTARTED)),
        (PARTS, cluster(known=False)),
    ],
)
def test_other_foreign_remains_are_refused(role: str, host: Host, answer: Cluster | None) -> None:
    with pytest.raises(KubewrightError, match="kubeadm was interrupted on this host") as caught:
        plan_node(role, host, answer)
    assert "/etc/kubernetes/pki/ca.crt" in str(caught.value)
    assert "reset.yml and --limit" in caught.value.remedy


def test_nothing_is_ever_reset_that_is_a_member_or_a_node() -> None:
    """Every combination: a reset only where the cluster was asked, knows its members, and knows not this host."""
    hosts = [
        replace(FRESH, state=state, evidence=evidence, began=note, etcd_data=data)
        for state, evidence, note, data in itertools.product(
            ["none", "incomplete", "worker", "control_plane"],
            [(), ("/etc/kubernetes/pki/ca.crt",), CREDENTIALS],
            [
                None,
                *(
                    Began(role, own)
                    for role in ("seed", "control_plane", "worker", "unknown")
                    for own in (0, 1)
                ),
            ],
            [False, True],
        )
    ]
    answers: list[Cluster | None] = [None]
    answers += [
        cluster(node, member, known)
        for node, member, known in itertools.product(
            [None, NODE, OTHER_NODE], [None, UNSTARTED, LEARNER, VOTER, DEAD], [True, False]
        )
    ]
    resets = 0
    for wanted, host, answer in itertools.product(["seed", "control_plane", "worker"], hosts, answers):
        try:
            plan = plan_node(wanted, host, answer)
        except KubewrightError as error:
            assert error.why or error.remedy
            continue
        assert not (plan.reset and plan.skip)
        if not plan.reset:
            continue
        resets += 1
        assert not host.etcd_data or (host.began and host.began.role == "seed")
        assert not host.began or not host.began.own_authorities
        assert host.state == "incomplete" or host.began
        if plan.action == "init":
            assert not host.etcd_data
            assert host.began
            assert host.began.role == "seed"
        else:
            assert answer
            assert answer.known
            assert not answer.member
            assert not (answer.node and host.registered)
    assert resets > 100


def test_the_cluster_is_read_for_this_host() -> None:
    members = [{**VOTER, "id": "b2", "peer_urls": ["https://10.0.0.11:2380"]}, VOTER]
    etcd = {"members": members, "voters": 2, "healthy": 2, "needed": 2, "error": None}
    seen = read_cluster({"nodes": [{**NODE, "name": "cp1"}, NODE], "etcd": etcd}, FRESH)
    assert seen == Cluster(NODE, VOTER, True, 2, 2, 2)
    assert read_cluster(None, FRESH) is None
    unread = read_cluster({"nodes": [], "etcd": {"members": [], "error": "no quorum"}}, FRESH)
    assert unread is not None
    assert (unread.known, unread.node, unread.member) == (False, None, None)


def test_a_member_without_a_name_is_nobodys() -> None:
    unnamed = {**UNSTARTED, "peer_urls": ["https://10.0.0.99:2380"]}
    for host in (FRESH, replace(FRESH, name="")):
        seen = read_cluster({"nodes": [], "etcd": {"members": [unnamed]}}, host)
        assert seen is not None and seen.member is None


def test_the_address_says_more_than_the_name() -> None:
    named = {**VOTER, "id": "b2", "peer_urls": ["https://10.0.0.99:2380"]}
    seen = read_cluster({"nodes": [], "etcd": {"members": [named, UNSTARTED]}}, FRESH)
    assert seen is not None and seen.member == UNSTARTED


def test_an_ipv6_address_has_its_peer_url() -> None:
    assert replace(FRESH, address="fd00::12").peer_url == "https://[fd00::12]:2380"


def test_a_start_whose_api_server_may_have_stored_something_elsewhere_is_never_begun_anew() -> None:
    host = began(replace(PARTS, external_store=True), "seed")
    for plan in (plan_node("seed", host, None), plan_node("control_plane", host, cluster())):
        assert (plan.action, plan.reset, plan.skip) == ("init", False, ("preflight",))
    assert plan_node("seed", began(PARTS, "seed"), None).reset
