# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to an etcd of its own: begun, brought back, joined, left alone, upgraded, refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_cluster_plan import (
    LEAST_PATCH,
    numbers,
    plan,
    upgrade,
)

ADDRESSES = {"etcd1": "192.0.2.31", "etcd2": "192.0.2.32", "etcd3": "192.0.2.33"}
INITIAL = ",".join(f"{name}=https://{address}:2380" for name, address in ADDRESSES.items())


def wanted(addresses: dict[str, str] = ADDRESSES, version: str = "3.6.16", **replaces: str) -> dict[str, Any]:
    return {
        name: {"address": address, "name": name, "version": version, "replaces": replaces.get(name, "")}
        for name, address in addresses.items()
    }


def member(
    name: str, address: str, *, healthy: bool = True, learner: bool = False, version: str = "3.6.16"
) -> Any:
    return {
        "id": f"id-{address}",
        "name": name,
        "peer_urls": [f"https://{address}:2380"],
        "healthy": healthy,
        "error": None if healthy else "its status cannot be read",
        "is_learner": learner,
        "is_leader": address.endswith(".31"),
        "version": version if healthy else None,
    }


MEMBERS = [member(name, address) for name, address in ADDRESSES.items()]


def empty(name: str, address: str = "") -> dict[str, Any]:
    return {
        "architecture": "amd64", "addresses": [address or ADDRESSES[name]], "openssl": True, "unit": False,
        "version": "", "advertised": "", "member_name": "", "running": "", "data": False, "began": "", "born": False,
        "restoring": "",
        "authority": {"fingerprint": "", "key": False, "days_left": None}, "certificates": {},
        "etcd": {"members": [], "quorum": None, "leader": None, "cluster_version": "", "error": "no etcdctl"},
    }  # fmt: skip


def alive(name: str, members: Any = None, address: str = "", version: str = "3.6.16") -> dict[str, Any]:
    address = address or ADDRESSES[name]
    return {
        **empty(name, address),
        "unit": True,
        "version": version,
        "advertised": f"https://{address}:2380",
        "running": version,
        "data": True,
        "born": True,
        "authority": {"fingerprint": "f" * 64, "key": name == "etcd2", "days_left": 3000.0},
        "etcd": {
            "members": copy.deepcopy(MEMBERS if members is None else members),
            "quorum": {"present": True},
            "leader": "id-192.0.2.31",
            "cluster_version": "3.6",
            "error": None,
        },
    }


def down(name: str) -> dict[str, Any]:
    return {**alive(name), "running": "", "etcd": empty(name)["etcd"]}


def test_a_new_cluster_begins_on_all_hosts_at_once() -> None:
    found = plan({name: empty(name) for name in ADDRESSES}, wanted(), remains=False)
    assert (found["state"], found["problems"]) == ("new", [])
    assert set(found["actions"].values()) == {"bootstrap"} and found["initial_cluster"] == INITIAL
    assert found["new_authority"] and found["authority"] == "etcd1"
    assert found["versions"] == dict.fromkeys(ADDRESSES, "3.6.16")


def test_an_interrupted_start_goes_on_with_the_authority_that_was_made() -> None:
    looks = {name: empty(name) for name in ADDRESSES}
    looks["etcd3"].update(alive("etcd3"), born=False, began=INITIAL, etcd=empty("etcd3")["etcd"])
    looks["etcd3"]["authority"]["key"] = True
    looks["etcd1"]["began"] = INITIAL
    found = plan(looks, wanted(), remains=False)
    assert (found["state"], found["problems"]) == ("new", [])
    assert set(found["actions"].values()) == {"bootstrap"}
    assert (found["authority"], found["new_authority"]) == ("etcd3", False)


def test_the_key_of_an_authority_without_its_certificate_goes_on_on_its_host() -> None:
    looks = {name: empty(name) for name in ADDRESSES}
    looks["etcd2"]["authority"]["key"] = True
    assert plan(looks, wanted(), remains=False)["authority"] == "etcd2"


@pytest.mark.parametrize(
    ("change", "remains", "why"),
    [
        (
            lambda looks: looks.pop("etcd2"),
            False,
            "needs all hosts of its group, and etcd2 is not in this run",
        ),
        (lambda looks: None, True, "An empty etcd would be the end of that cluster"),
        (lambda looks: looks["etcd1"].update(began="other=https://192.0.2.9:2380"), False, "was interrupted"),
        (
            lambda looks: looks["etcd1"].update(running="unknown"),
            False,
            "none of this collection runs on etcd1",
        ),
        (lambda looks: looks["etcd1"].update(openssl=False), False, "etcd1 has no openssl"),
        (
            lambda looks: looks["etcd1"].update(addresses=["198.51.100.1"]),
            False,
            "no interface of the host has it",
        ),
        (lambda looks: looks["etcd1"].update(born=True), False, "no host has the data of one any more"),
    ],
)
def test_a_new_cluster_is_refused(change: Any, remains: bool, why: str) -> None:
    looks = {name: empty(name) for name in ADDRESSES}
    change(looks)
    problems = plan(looks, wanted(), remains)["problems"]
    assert any(why in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("look", "stage", "refused"),
    [
        (down, "restoring", True),
        (down, "starting", True),
        (empty, "restoring", True),
        (alive, "restoring", True),
        (alive, "unknown", True),
        # The end of a restore, which lets the members that were lost join.
        (alive, "starting", False),
    ],
)
def test_nothing_is_started_while_a_restore_is_open(look: Any, stage: str, refused: bool) -> None:
    looks = {name: look(name) for name in ADDRESSES}
    looks["etcd2"]["restoring"] = stage
    problems = plan(looks, wanted(), remains=False)["problems"]
    assert any("restore.yml again" in one and "(etcd2)" in one for one in problems) == refused


def test_a_cluster_that_is_down_is_started_and_never_begun_anew() -> None:
    looks = {"etcd1": down("etcd1"), "etcd2": down("etcd2"), "etcd3": empty("etcd3")}
    found = plan(looks, wanted(), remains=False)
    assert found["state"] == "down" and found["problems"] == []
    assert found["actions"] == {"etcd1": "start", "etcd2": "start", "etcd3": ""}


def test_a_whole_cluster_is_left_alone_whatever_version_is_wanted() -> None:
    found = plan({name: alive(name) for name in ADDRESSES}, wanted(version="3.7.3"), remains=True)
    assert (found["state"], found["problems"], found["notices"]) == ("living", [], [])
    assert set(found["actions"].values()) == {"member"}
    assert set(found["versions"].values()) == {"3.6.16"}
    assert (found["authority"], found["new_authority"]) == ("etcd2", False)


def test_a_new_host_joins_with_the_version_of_the_others() -> None:
    members = [*MEMBERS[:2], member("etcd3", ADDRESSES["etcd3"], version="3.5.35")]
    looks = {name: alive(name, members) for name in ADDRESSES} | {"etcd4": empty("etcd4", "192.0.2.34")}
    found = plan(looks, wanted({**ADDRESSES, "etcd4": "192.0.2.34"}), remains=True)
    assert (found["actions"]["etcd4"], found["versions"]["etcd4"], found["replaces"]) == (
        "join",
        "3.5.35",
        {},
    )


@pytest.mark.parametrize(
    "state",
    [member("", "192.0.2.34", healthy=False, learner=True), member("etcd4", "192.0.2.34", learner=True)],
)
def test_an_interrupted_join_goes_on(state: Any) -> None:
    members = [*MEMBERS, state]
    looks = {name: alive(name, members) for name in ADDRESSES}
    looks["etcd4"] = alive("etcd4", members, "192.0.2.34") if state["name"] else empty("etcd4", "192.0.2.34")
    found = plan(looks, wanted({**ADDRESSES, "etcd4": "192.0.2.34"}), remains=True)
    assert found["actions"]["etcd4"] == "join" and found["problems"] == [] and found["replaces"] == {}


def test_a_host_without_its_data_replaces_itself() -> None:
    members = [*MEMBERS[:2], member("etcd3", ADDRESSES["etcd3"], healthy=False)]
    looks = {name: alive(name, members) for name in ("etcd1", "etcd2")} | {"etcd3": empty("etcd3")}
    found = plan(looks, wanted(), remains=True)
    assert found["actions"]["etcd3"] == "join" and found["replaces"] == {"etcd3": "https://192.0.2.33:2380"}


def test_a_dead_member_is_replaced_by_a_host_that_says_so_or_has_its_name() -> None:
    members = [*MEMBERS[:2], member("etcd3", ADDRESSES["etcd3"], healthy=False)]
    looks = {name: alive(name, members) for name in ("etcd1", "etcd2")}
    addresses = {"etcd1": ADDRESSES["etcd1"], "etcd2": ADDRESSES["etcd2"]}
    other = plan(
        looks | {"etcd4": empty("etcd4", "192.0.2.34")},
        wanted({**addresses, "etcd4": "192.0.2.34"}, etcd4="https://192.0.2.33:2380"),
        remains=True,
    )
    assert (
        other["replaces"] == {"etcd4": "https://192.0.2.33:2380"}
        and not other["problems"]
        and not other["notices"]
    )
    same = plan(
        looks | {"etcd3": empty("etcd3", "192.0.2.34")},
        wanted({**addresses, "etcd3": "192.0.2.34"}),
        remains=True,
    )
    assert same["replaces"] == {"etcd3": "https://192.0.2.33:2380"} and not same["problems"]
    silent = plan(
        looks | {"etcd4": empty("etcd4", "192.0.2.34")},
        wanted({**addresses, "etcd4": "192.0.2.34"}),
        remains=True,
    )
    assert any("set etcd_cluster_replaces to https://192.0.2.33:2380" in told for told in silent["notices"])


@pytest.mark.parametrize(
    ("look", "address", "why"),
    [
        (alive("etcd3"), "192.0.2.39", "it would be cut off"),
        (alive("etcd3", address="192.0.2.39"), "192.0.2.39", "is no member of the cluster"),
        (empty("etcd3"), ADDRESSES["etcd3"], "another host answers there"),
        (empty("etcd3", "192.0.2.39"), "192.0.2.39", "healthy member named etcd3"),
        (
            {**alive("etcd3"), "unit": False, "advertised": ""},
            ADDRESSES["etcd3"],
            "not the unit of this collection",
        ),
    ],
)
def test_a_host_that_would_harm_the_cluster_is_refused(look: Any, address: str, why: str) -> None:
    look = {**look, "addresses": [address]}
    looks = {"etcd1": alive("etcd1"), "etcd2": alive("etcd2"), "etcd3": look}
    [problem] = plan(looks, wanted({**ADDRESSES, "etcd3": address}), remains=True)["problems"]
    assert why in problem


def test_a_member_without_a_host_is_told_and_never_removed() -> None:
    looks = {name: alive(name) for name in ("etcd1", "etcd2")}
    addresses = {name: ADDRESSES[name] for name in looks}
    [notice] = plan(looks, wanted(addresses), remains=True)["notices"]
    assert "remove_etcd_host=https://192.0.2.33:2380" in notice


def test_two_authorities_are_refused_and_two_keys_are_told() -> None:
    looks = {name: alive(name) for name in ADDRESSES}
    looks["etcd1"]["authority"] = {"fingerprint": "a" * 64, "key": False, "days_left": 1.0}
    [problem] = plan(looks, wanted(), remains=True)["problems"]
    assert "different authorities" in problem
    looks["etcd1"]["authority"] = {"fingerprint": "f" * 64, "key": True, "days_left": 1.0}
    [notice] = plan(looks, wanted(), remains=True)["notices"]
    assert "etcd1 and etcd2" in notice


def running(*versions: str) -> tuple[dict[str, Any], dict[str, Any]]:
    members = [member(name, ADDRESSES[name], version=one) for name, one in zip(ADDRESSES, versions)]
    return {name: alive(name, members, version=one) for name, one in zip(ADDRESSES, versions)}, wanted()


def test_an_upgrade_goes_follower_by_follower_and_the_leader_last() -> None:
    found = upgrade(*running("3.5.35", "3.5.35", "3.5.35"), "3.6.16")
    assert (found["problems"], found["order"]) == ([], ["etcd2", "etcd3", "etcd1"])


def test_an_interrupted_upgrade_goes_on_and_a_finished_one_is_idle() -> None:
    assert upgrade(*running("3.5.35", "3.6.16", "3.5.35"), "3.6.16")["order"] == ["etcd3", "etcd1"]
    done = upgrade(*running("3.6.16", "3.6.16", "3.6.16"), "3.6.16")
    assert (done["problems"], done["order"]) == ([], [])


def test_a_unit_that_was_written_and_not_started_is_no_upgrade() -> None:
    looks, group = running("3.5.35", "3.5.35", "3.5.35")
    looks["etcd2"]["version"] = "3.6.16"
    assert "etcd2" in upgrade(looks, group, "3.6.16")["order"]


@pytest.mark.parametrize(
    ("versions", "target", "why"),
    [
        (("3.5.35",) * 3, "3.7.3", "one minor at a time: set etcd_cluster_version to a 3.6 first"),
        (("3.5.35", "3.6.16", "3.6.16"), "3.7.3", "one minor at a time"),
        (("3.5.31",) * 3, "3.6.16", "asks for 3.5.32 at least before 3.6"),
        (("3.6.10",) * 3, "3.7.3", "asks for 3.6.11 at least before 3.7"),
        (("3.6.16",) * 3, "3.5.35", "etcd is not downgraded"),
        (("3.6.16",) * 3, "3.6.8", "etcd is not downgraded"),
        (("3.6.16",) * 3, "3.8.0", "only the minors 3.5, 3.6, 3.7"),
        (("3.4.34",) * 3, "3.5.35", "one minor at a time"),
    ],
)
def test_an_upgrade_that_etcd_does_not_support_is_refused(versions: Any, target: str, why: str) -> None:
    assert why in upgrade(*running(*versions), target)["problems"][0]


def test_an_upgrade_needs_every_member_healthy_seen_and_in_the_group() -> None:
    looks, group = running("3.5.35", "3.5.35", "3.5.35")
    sick = copy.deepcopy(looks)
    for look in sick.values():
        look["etcd"]["members"][2].update(healthy=False, error="it sees no leader")
    assert "not a healthy voter (it sees no leader)" in upgrade(sick, group, "3.6.16")["problems"][0]
    unseen = {name: look for name, look in looks.items() if name != "etcd3"}
    assert "etcd3 did not answer" in upgrade(unseen, group, "3.6.16")["problems"][0]
    fewer = {name: one for name, one in group.items() if name != "etcd3"}
    assert any("stay behind" in told for told in upgrade(unseen, fewer, "3.6.16")["problems"])
    assert "No quorum" in upgrade({name: down(name) for name in ADDRESSES}, group, "3.6.16")["problems"][0]


def test_the_table_of_patches_is_one_of_neighbours() -> None:
    for minor, least in LEAST_PATCH.items():
        assert numbers(least)[:2] == (3, numbers(minor)[1] - 1)
