# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule in single cases; that it never loses a quorum is shown against raft itself in test_84."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, Member, quorum


def members(states: str) -> list[Member]:
    """One letter a member: h healthy, d dead, u unstarted, l healthy learner, n learner that never started."""
    return [
        Member(
            str(number),
            "" if letter in "un" else f"cp{number}",
            [f"https://192.0.2.{number}:2380"],
            [],
            is_learner=letter in "ln",
            healthy=letter in "hl",
            error=None if letter in "hl" else "it does not answer",
        )
        for number, letter in enumerate(states, 1)
    ]


@pytest.mark.parametrize(
    ("states", "allowed", "rule"),
    [
        ("h", True, ""),
        ("hh", True, ""),
        ("hhh", True, ""),
        ("hhd", False, "ANNOUNCED_COUNTS_AS_UNHEALTHY"),
        ("hhhd", True, ""),
        ("hhhdd", False, "ANNOUNCED_COUNTS_AS_UNHEALTHY"),
        ("hhhhd", True, ""),
        ("hhhhdd", True, ""),
        ("hdd", False, "UNHEALTHY_COUNTS"),
        ("hhhl", False, "ONE_LEARNER_AT_A_TIME"),
    ],
)
def test_announcing(states: str, allowed: bool, rule: str) -> None:
    verdict = _quorum.may_announce(members(states))
    assert (verdict.allowed, verdict.rule) == (allowed, rule), verdict


@pytest.mark.parametrize(
    ("states", "target", "allowed", "rule"),
    [
        ("h", 1, False, "LAST_MEMBER_STAYS"),
        ("hh", 1, True, ""),
        ("hd", 2, False, "UNHEALTHY_COUNTS"),
        ("hhd", 3, True, ""),
        ("hhd", 1, False, "UNHEALTHY_COUNTS"),
        ("hhu", 3, True, ""),
        ("hhhl", 1, False, "ONE_LEARNER_AT_A_TIME"),
        ("hhhl", 4, True, ""),
        ("hhhn", 4, True, ""),
        ("hddl", 4, False, "UNHEALTHY_COUNTS"),
        ("hhhdd", 1, False, "UNHEALTHY_COUNTS"),
        ("hhhdd", 5, True, ""),
    ],
)
def test_removing(states: str, target: int, allowed: bool, rule: str) -> None:
    there = members(states)
    verdict = _quorum.may_remove(there, there[target - 1])
    assert (verdict.allowed, verdict.rule) == (allowed, rule), verdict


@pytest.mark.parametrize(
    ("states", "allowed", "rule"),
    [
        ("hhhl", True, ""),
        ("hhhn", False, "UNSTARTED_IS_UNHEALTHY"),
        ("hhdl", True, ""),
        ("hhddl", False, "UNHEALTHY_COUNTS"),
    ],
)
def test_promoting(states: str, allowed: bool, rule: str) -> None:
    there = members(states)
    verdict = _quorum.may_promote(there, there[-1])
    assert (verdict.allowed, verdict.rule) == (allowed, rule), verdict


@pytest.mark.parametrize(
    ("states", "target", "allowed", "rule"),
    [
        ("h", 1, False, "MAINTENANCE_NEEDS_A_SPARE"),
        ("hh", 1, False, "MAINTENANCE_NEEDS_A_SPARE"),
        ("hhh", 1, True, ""),
        ("hhd", 1, False, "MAINTENANCE_NEEDS_A_SPARE"),
        ("hhd", 3, True, ""),
        ("hhhl", 4, True, ""),
        ("hhhl", 1, False, "ONE_LEARNER_AT_A_TIME"),
    ],
)
def test_pausing(states: str, target: int, allowed: bool, rule: str) -> None:
    there = members(states)
    verdict = _quorum.may_pause(there, there[target - 1])
    assert (verdict.allowed, verdict.rule) == (allowed, rule), verdict


def test_every_rule_is_on_the_list_with_its_reason() -> None:
    for rule in _quorum.STRICTER:
        assert rule in (_quorum.__doc__ or "")


def test_a_refusal_shows_the_arithmetic_the_table_and_what_to_type() -> None:
    there = members("hhhn")
    etcd = Etcd(there, quorum(there), "1")
    with pytest.raises(KubewrightError) as refused:
        _quorum.require(_quorum.may_remove(there, there[0]), "cp1 cannot be removed", etcd)
    said = str(refused.value)
    assert refused.value.facts["rule"] == "ONE_LEARNER_AT_A_TIME"
    assert "a learner that has never started" in said and "start its process" in said
    for state in ("voter", "absent"):
        assert (
            f"ansible HOST -b -m kubewright.cluster.etcd_member -a 'state={state} peer_url=https://192.0.2.4:2380'"
            in said
        )
    assert "ID  NAME  PEER" in said

    dead = members("hhd")
    assert "of 2 voters 1 would be healthy, and 2 are needed" in _quorum.may_remove(dead, dead[0]).why
    announced = _quorum.may_announce(dead).why
    assert "Remove cp3 first: ansible HOST" in announced and "state=absent" in announced


def test_the_table_has_a_dash_for_what_is_not_known() -> None:
    (one,) = members("u")
    lines = _quorum.table([replace(one, db_size=None)]).splitlines()
    assert lines[1].split()[:3] == ["1", "-", "https://192.0.2.1:2380"]
