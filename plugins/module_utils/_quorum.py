# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a change of an etcd cluster's membership keeps its quorum: pure functions over an observed cluster.

PRIVATE to the collection: this interface can change in any release.

The rule is that of Cluster API's control plane for kubeadm, with one condition before it:

    present now    healthy voters >= voters // 2 + 1, counted over the members as they are
    kept after     voters - unhealthy >= voters // 2 + 1, counted over the members as they would be

It is stricter than etcd on purpose. etcd itself (`--strict-reconfig-check`) would accept each of these:

    STRICTER                        because
    ANNOUNCED_COUNTS_AS_UNHEALTHY   a learner is announced to become a voter; if it never starts after its promotion,
                                    the cluster has lost a vote (etcd counts learners as nothing)
    ONE_LEARNER_AT_A_TIME           a vote must not be taken away while another one is still on its way (k0smotron 1481)
    UNSTARTED_IS_UNHEALTHY          a member without a name may never come, whoever announced it
    UNHEALTHY_COUNTS                etcd asks who is connected; an alarm, or another leader, makes a member unfit, too
    LAST_MEMBER_STAYS               removing it would end the cluster
    MAINTENANCE_NEEDS_A_SPARE       a member that defragments answers nothing for seconds
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, Member, quorum

STRICTER = {
    "ANNOUNCED_COUNTS_AS_UNHEALTHY": "a new member counts as unhealthy until it votes",
    "ONE_LEARNER_AT_A_TIME": "nothing else changes while a learner catches up",
    "UNSTARTED_IS_UNHEALTHY": "a member that never started counts as unhealthy",
    "UNHEALTHY_COUNTS": "a member with an alarm, or one that sees another leader, counts as unhealthy",
    "LAST_MEMBER_STAYS": "the last voter is never removed",
    "MAINTENANCE_NEEDS_A_SPARE": "a member is taken out of service only where the others are a quorum",
}


@dataclass(frozen=True)
class Verdict:
    """Whether a change is allowed. ``rule`` names the entry of STRICTER that refuses what etcd would accept."""

    allowed: bool
    why: str
    rule: str = ""


def may_announce(members: Iterable[Member]) -> Verdict:
    """Judge adding a learner.

    The learner becomes a voter: so it is counted as an unhealthy one, except where there is one voter only,
    which could never be more than one otherwise.
    """
    members = list(members)
    now = _present(members)
    if not now.allowed:
        return now
    learner = _learner(members)
    if learner:
        return _another_learner(learner)
    voters = [member for member in members if not member.is_learner]
    unhealthy = [member for member in voters if not member.healthy]
    if len(voters) == 1:
        return Verdict(True, "one voter becomes two")
    after = len(voters) + 1
    counted = _arithmetic(after, len(unhealthy) + 1)
    if _kept(after, len(unhealthy) + 1):
        return Verdict(True, counted)
    return Verdict(
        False,
        f"{counted}, the new one counted as unhealthy until it votes. Remove {_names(unhealthy)} first: "
        + "; ".join(command("absent", one) for one in unhealthy),
        "ANNOUNCED_COUNTS_AS_UNHEALTHY",
    )


def may_promote(members: Iterable[Member], learner: Member) -> Verdict:
    """Judge making a learner a voter: it must be healthy itself, and the quorum of one more voter must be there."""
    members = list(members)
    now = _present(members)
    if not now.allowed:
        return now
    if not learner.healthy:
        return Verdict(
            False, f"{_names([learner])} is not healthy: {learner.error}", "UNSTARTED_IS_UNHEALTHY"
        )
    voters = [member for member in members if not member.is_learner]
    unhealthy = sum(not member.healthy for member in voters)
    after = len(voters) + 1
    counted = _arithmetic(after, unhealthy)
    return Verdict(_kept(after, unhealthy), counted, "" if _kept(after, unhealthy) else "UNHEALTHY_COUNTS")


def may_remove(members: Iterable[Member], target: Member) -> Verdict:
    """Judge removing a member. A learner has no vote, so that a quorum now is all that it takes."""
    members = list(members)
    now = _present(members)
    if not now.allowed:
        return now
    if target.is_learner:
        return Verdict(True, "a learner has no vote")
    rest = [member for member in members if not member.is_learner and member.id != target.id]
    if not rest:
        return Verdict(
            False,
            f"{_names([target])} is the last voter: without it there is no cluster",
            "LAST_MEMBER_STAYS",
        )
    learner = _learner(members)
    if learner:
        return _another_learner(learner)
    unhealthy = [member for member in rest if not member.healthy]
    counted = _arithmetic(len(rest), len(unhealthy))
    if _kept(len(rest), len(unhealthy)):
        return Verdict(True, counted)
    return Verdict(
        False, f"{counted}. Bring {_names(unhealthy)} back, or remove it first", "UNHEALTHY_COUNTS"
    )


def may_pause(members: Iterable[Member], target: Member) -> Verdict:
    """Judge taking a member out of service for a while, to defragment or restart it."""
    members = list(members)
    now = _present(members)
    if not now.allowed:
        return now
    learner = _learner(members)
    if learner and learner.id != target.id:
        return _another_learner(learner)
    if target.is_learner:
        return Verdict(True, "a learner has no vote")
    voters = [member for member in members if not member.is_learner]
    unhealthy = sum(not member.healthy for member in voters if member.id != target.id) + 1
    counted = _arithmetic(len(voters), unhealthy)
    if _kept(len(voters), unhealthy):
        return Verdict(True, counted)
    return Verdict(False, f"{counted} while {_names([target])} is away", "MAINTENANCE_NEEDS_A_SPARE")


def require(verdict: Verdict, what: str, etcd: Etcd) -> None:
    """Raise what a person needs to decide: the arithmetic and the table."""
    if not verdict.allowed:
        raise KubewrightError(
            what,
            why=verdict.why,
            remedy="Members:\n" + table(etcd.members),
            rule=verdict.rule,
        )


def table(members: Iterable[Member]) -> str:
    """Return the members as a text table for people."""
    rows = [("ID", "NAME", "PEER", "ROLE", "VERSION", "DB MiB", "STATE")]
    for member in members:
        role = "learner" if member.is_learner else "leader" if member.is_leader else "voter"
        size = "-" if member.db_size is None else f"{member.db_size / 1048576:.0f}"
        rows.append(
            (
                member.id,
                member.name or "-",
                ",".join(member.peer_urls),
                role,
                member.version or "-",
                size,
                "healthy" if member.healthy else member.error or "not healthy",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def _present(members: list[Member]) -> Verdict:
    now = quorum(members)
    if now.present:
        return Verdict(True, "")
    return Verdict(
        False,
        f"there is no quorum: {now.healthy} of {now.voters} voters are healthy, {now.needed} are needed. "
        "Bring members back first; if they are lost for good, restore a snapshot",
        "UNHEALTHY_COUNTS",
    )


def _learner(members: list[Member]) -> Member | None:
    return next((member for member in members if member.is_learner), None)


def _another_learner(learner: Member) -> Verdict:
    let_vote = "" if learner.name else "start its process, and then "
    return Verdict(
        False,
        f"{_names([learner])} is still a learner" + ("" if learner.name else " that has never started") + ". "
        f"If it shall vote, {let_vote}promote it first: {command('voter', learner)}\n"
        f"Otherwise remove it first: {command('absent', learner)}\n",
        "ONE_LEARNER_AT_A_TIME",
    )


def command(state: str, member: Member) -> str:
    """Return what a person can type to bring a member into a state; HOST is any host that has etcd's certificates."""
    return (
        f"ansible HOST -b -m kubewright.cluster.etcd_member -a 'state={state} peer_url={member.peer_urls[0]}'"
    )


def _kept(voters: int, unhealthy: int) -> bool:
    return voters - unhealthy >= voters // 2 + 1


def _arithmetic(voters: int, unhealthy: int) -> str:
    return f"of {voters} voters {voters - unhealthy} would be healthy, and {voters // 2 + 1} are needed"


def _names(members: Iterable[Member]) -> str:
    return ", ".join(member.name or f"{member.id} ({','.join(member.peer_urls)})" for member in members)
