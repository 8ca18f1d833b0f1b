# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, Member, quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_member import (
    Wanted,
    check_options,
    diff,
    find,
    is_fragmented,
    plan,
    returned,
)

MIB = 1 << 20


def url(number: int) -> str:
    return f"https://192.0.2.{number}:2380"


def member(number: int, **changes: object) -> Member:
    base = Member(
        id=f"{number:x}a",
        name=f"cp{number}",
        peer_urls=[url(number)],
        client_urls=[f"https://192.0.2.{number}:2379"],
        is_leader=number == 1,
        healthy=True,
        revision=100 + number,
        db_size=10 * MIB,
        db_size_in_use=9 * MIB,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def etcd(*members: Member, stale: dict[str, list[str]] | None = None) -> Etcd:
    leader = next((one.id for one in members if one.is_leader), None)
    return Etcd(list(members), quorum(members), leader, stale or {})


THREE = (member(1), member(2), member(3))
DEAD = {"healthy": False, "error": "its status cannot be read"}


def steps(wanted: Wanted, seen: Etcd) -> list[str]:
    return [f"{step.action} {step.name or step.member}".strip() for step in plan(wanted, seen).steps]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Wanted("absent"), "needs a member"),
        (Wanted("absent", "cp1"), "is not a peer URL"),
        (Wanted("learner", "8e9e05c52164694d"), "is not a peer URL"),
        (Wanted("learner", "https://192.0.2.1"), "is not a peer URL"),
        (Wanted("learner", url(4), replaces="cp1"), "neither a peer URL nor a member id"),
        (Wanted("absent", url(4), replaces=url(1)), "goes with the states learner and voter"),
    ],
)
def test_options_that_cannot_be_meant(wanted: Wanted, why: str) -> None:
    with pytest.raises(KubewrightError, match=why):
        check_options(wanted)


def test_members_are_found_by_id_or_url_never_by_name() -> None:
    assert find(THREE, "2a") == find(THREE, url(2)) == THREE[1]
    assert find(THREE, "cp2") is None


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted("learner", url(4)), ["add"]),
        (Wanted("learner", url(2)), []),
        (Wanted("voter", url(2)), []),
        (Wanted("absent", url(2)), ["remove cp2"]),
        (Wanted("absent", url(1)), ["move_leader cp3", "remove cp1"]),
        (Wanted("absent", url(9)), []),
        (Wanted("leader", url(2)), ["move_leader cp2"]),
        (Wanted("leader", url(1)), []),
        (Wanted("follower", url(1)), ["move_leader cp3"]),
        (Wanted("follower", url(2)), []),
        (Wanted("defragmented"), []),
        (Wanted("disarmed"), []),
        (Wanted("learner", url(4), replaces=url(2)), ["add"]),
        (Wanted("voter", url(3), replaces=url(1)), ["move_leader cp3", "remove cp1"]),
    ],
)
def test_plans_for_a_healthy_cluster(wanted: Wanted, expected: list[str]) -> None:
    assert steps(wanted, etcd(*THREE)) == expected


def test_a_dead_member_is_removed_before_its_replacement_comes() -> None:
    seen = etcd(THREE[0], THREE[1], member(3, **DEAD))
    assert steps(Wanted("learner", url(4), replaces="3a"), seen) == ["remove cp3", "add"]
    assert steps(Wanted("learner", url(3), replaces=url(3)), seen) == ["remove cp3", "add"]
    with pytest.raises(KubewrightError, match="by itself while it is healthy"):
        plan(Wanted("learner", url(2), replaces=url(2)), seen)


def test_a_replacement_that_was_announced_is_not_announced_again() -> None:
    announced = member(4, name="", is_learner=True, healthy=False, error="it has never started")
    seen = etcd(*THREE[:2], announced)
    assert steps(Wanted("learner", url(4), replaces=url(4)), seen) == []


def test_members_that_cannot_lead() -> None:
    seen = etcd(*THREE[:2], member(3, **DEAD), member(4, is_learner=True))
    for number, why in ((3, "its status cannot be read"), (4, "it is a learner")):
        with pytest.raises(KubewrightError, match=why):
            plan(Wanted("leader", url(number)), seen)
    with pytest.raises(KubewrightError, match="No member has the peer URL"):
        plan(Wanted("leader", url(9)), seen)


def test_followers_are_defragmented_first_and_only_where_it_is_worth_it() -> None:
    full = {"db_size": 100 * MIB, "db_size_in_use": 10 * MIB}
    seen = etcd(member(1, **full), THREE[1], member(3, **full))
    assert steps(Wanted("defragmented"), seen) == ["defragment cp3", "defragment cp1"]
    assert steps(Wanted("defragmented", url(2)), seen) == []
    assert not is_fragmented(member(1, db_size=MIB, db_size_in_use=0x1000), 30)
    shown = diff(plan(Wanted("defragmented"), seen), seen, seen.members)
    assert "90 MiB of 100 MiB unused" in shown["before"] and "unused" not in shown["after"]


def test_never_while_a_member_catches_up() -> None:
    """etcd could damage data that way until 3.6.5."""
    full = {"db_size": 100 * MIB, "db_size_in_use": 10 * MIB}
    seen = etcd(*THREE[:2], member(3, **full), member(4, is_learner=True))
    with pytest.raises(KubewrightError, match="is still a learner"):
        plan(Wanted("defragmented"), seen)


def test_a_single_member_is_defragmented_only_where_the_risk_was_named() -> None:
    seen = etcd(member(1, db_size=100 * MIB, db_size_in_use=10 * MIB))
    with pytest.raises(KubewrightError, match="accept_interruption: true"):
        plan(Wanted("defragmented"), seen)
    assert steps(Wanted("defragmented", accept_interruption=True), seen) == ["defragment cp1"]


def test_nospace_is_cured_in_its_order() -> None:
    alarm = {"alarms": ["NOSPACE"], "healthy": False, "error": "alarm"}
    full = {"db_size": 100 * MIB, "db_size_in_use": 10 * MIB}
    seen = etcd(member(1, **full, **alarm), member(2, **full), member(3, **full))
    assert steps(Wanted("disarmed"), seen) == [
        "compact",
        *("defragment cp2", "defragment cp3", "defragment cp1"),
        "disarm",
    ]


def test_a_corrupt_member_is_never_disarmed() -> None:
    seen = etcd(*THREE[:2], member(3, alarms=["CORRUPT"], healthy=False, error="alarm"))
    with pytest.raises(KubewrightError, match="is corrupt"):
        plan(Wanted("disarmed"), seen)


@pytest.mark.parametrize("wanted", [Wanted("disarmed"), Wanted("absent", url(9))])
def test_the_alarm_of_a_member_that_is_gone(wanted: Wanted) -> None:
    seen = etcd(*THREE, stale={"9a": ["NOSPACE"]})
    planned = plan(wanted, seen)
    assert [step.action for step in planned.steps] == ["disarm"]
    shown = diff(planned, seen, planned.after)
    assert "9a (no member) NOSPACE" in shown["before"] and "9a" not in shown["after"]
    assert returned(seen)["stale_alarms"] == [{"id": "9a", "alarms": ["NOSPACE"]}]


def test_alarms_go_with_the_member_but_not_while_another_one_has_its_own() -> None:
    alarm = {"alarms": ["NOSPACE"], "healthy": False, "error": "alarm"}
    assert steps(Wanted("absent", url(3)), etcd(*THREE[:2], member(3, **alarm))) == ["remove cp3", "disarm"]
    replaced = Wanted("learner", url(4), replaces=url(3))
    assert steps(replaced, etcd(*THREE[:2], member(3, **alarm))) == ["remove cp3", "disarm", "add"]
    five = (*THREE, member(4, **alarm), member(5, **alarm))
    planned = plan(Wanted("absent", url(5)), etcd(*five, stale={"9a": ["NOSPACE"]}))
    assert [step.action for step in planned.steps] == ["remove"]
    assert "9a" in diff(planned, etcd(*five, stale={"9a": ["NOSPACE"]}), planned.after)["after"]
