# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one member of an etcd cluster, or its maintenance, into a wanted state.

PRIVATE to the collection: this interface can change in any release.

Members are matched by id or by peer URL, never by name: a name is what a process claims, and two may claim the
same. `plan` is pure and says every step and every refusal; `Operator` carries the steps out and looks again
before each one, because the cluster goes on living meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import _quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, EtcdCtl, Member
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Completed

STATES = ("learner", "voter", "absent", "leader", "follower", "defragmented", "disarmed")

# What etcd takes when nobody sets a quota (--quota-backend-bytes), from its system limits guide.
DEFAULT_QUOTA = 2 * 1024**3
# An alarm is disarmed only below this share of the quota, or it would come back at once.
ROOM = 0.9

_URL = re.compile(r"https?://[^\s/,]+:\d+$")
_ID = re.compile(r"[0-9a-f]{1,16}$")
_NOT_IN_SYNC = "can only promote a learner member which is in sync with leader"


@dataclass(frozen=True)
class Wanted:
    """What is asked for; `peer_url` and `replaces` are empty where the state needs none.

    `fragmentation` is in per cent of the file, `quota` in bytes (0: ask etcd, otherwise its default).
    """

    state: str
    peer_url: str = ""
    name: str = ""
    replaces: str = ""
    fragmentation: int = 30
    quota: int = 0
    accept_interruption: bool = False


@dataclass(frozen=True)
class Step:
    """One change. `member` is an id; for `add` it is empty, and `peer_url` says who comes."""

    action: str
    member: str = ""
    name: str = ""
    peer_url: str = ""


@dataclass(frozen=True)
class Plan:
    """`after` is the membership as the steps leave it, for diff mode."""

    steps: tuple[Step, ...] = ()
    after: tuple[Member, ...] = ()


@dataclass
class Outcome:
    """What was done. `leader_moved` is the id of the new leader."""

    steps: list[Step] = field(default_factory=list)
    leader_moved: str = ""


def check_options(wanted: Wanted) -> None:
    """Refuse what cannot be meant, before etcd is asked."""
    needs_member = wanted.state not in ("defragmented", "disarmed")
    if needs_member and not wanted.peer_url:
        raise KubewrightError(f"state {wanted.state} needs a member", remedy="Give its peer_url")
    if (
        wanted.peer_url
        and not _URL.match(wanted.peer_url)
        and not (
            _ID.match(wanted.peer_url) and wanted.state in ("absent", "leader", "follower", "defragmented")
        )
    ):
        raise KubewrightError(
            f"{wanted.peer_url!r} is not a peer URL",
            where="option peer_url",
            remedy="Give it as the member list shows it, such as https://192.0.2.11:2380",
        )
    if wanted.replaces and not (_URL.match(wanted.replaces) or _ID.match(wanted.replaces)):
        raise KubewrightError(
            f"{wanted.replaces!r} is neither a peer URL nor a member id", where="option replaces"
        )
    if wanted.replaces and wanted.state not in ("learner", "voter"):
        raise KubewrightError("replaces goes with the states learner and voter only", where="option replaces")


def find(members: Iterable[Member], key: str) -> Member | None:
    """Return the member with this id or peer URL. Two members with one URL cannot be in one list."""
    return next((member for member in members if key in (member.id, *member.peer_urls)), None)


def plan(wanted: Wanted, etcd: Etcd) -> Plan:
    """Say what has to be done; raise a KubewrightError with the arithmetic for what is refused."""
    planner = {
        "learner": _plan_learner,
        "voter": _plan_voter,
        "absent": _plan_absent,
        "leader": _plan_leader,
        "follower": _plan_follower,
        "defragmented": _plan_defragmented,
        "disarmed": _plan_disarmed,
    }
    return planner[wanted.state](wanted, etcd)


def _plan_learner(wanted: Wanted, etcd: Etcd) -> Plan:
    there = find(etcd.members, wanted.peer_url)
    old = find(etcd.members, wanted.replaces) if wanted.replaces else None
    itself = old is not None and there is not None and old.id == there.id
    if there and not itself:
        return Plan(after=tuple(etcd.members))
    if itself and there and not (there.name or not there.is_learner):
        # Announced by an earlier run of this very replacement, and not started yet.
        return Plan(after=tuple(etcd.members))
    steps: list[Step] = []
    members = list(etcd.members)
    if itself and there and there.healthy:
        raise KubewrightError(
            f"{wanted.peer_url} cannot be replaced by itself while it is healthy",
            remedy="Stop it first if its data is to be thrown away",
        )
    if old and not old.healthy:
        _quorum.require(
            _quorum.may_remove(members, old), f"The dead member {_label(old)} cannot be removed", etcd
        )
        steps.append(Step("remove", old.id, old.name, ",".join(old.peer_urls)))
        members = [member for member in members if member.id != old.id]
        steps += _clearance(members, etcd, bool(old.alarms))
    _quorum.require(_quorum.may_announce(members), f"{wanted.peer_url} cannot be added", etcd)
    steps.append(Step("add", "", wanted.name, wanted.peer_url))
    new = Member("", "", [wanted.peer_url], [], is_learner=True, error="it has never started")
    return Plan(tuple(steps), (*members, new))


def _plan_voter(wanted: Wanted, etcd: Etcd) -> Plan:
    member = find(etcd.members, wanted.peer_url)
    if member is None:
        raise KubewrightError(
            f"No member has the peer URL {wanted.peer_url}",
            remedy="Announce it with state=learner, start it, and then ask for state=voter. Members:\n"
            + _quorum.table(etcd.members),
        )
    steps: list[Step] = []
    members = list(etcd.members)
    if member.is_learner:
        # Whether it caught up is seen while waiting; the votes of the others can be counted now.
        ready = replace(member, healthy=True, error=None)
        _quorum.require(_quorum.may_promote(members, ready), f"{_label(member)} cannot be promoted", etcd)
        steps.append(Step("promote", member.id, member.name, wanted.peer_url))
        voter = replace(ready, is_learner=False)
        members = [voter if one.id == member.id else one for one in members]
    old = find(members, wanted.replaces) if wanted.replaces else None
    if old and old.id != member.id:
        steps += _removal(members, old, etcd)
        members = [one for one in members if one.id != old.id]
    return Plan(tuple(steps), tuple(members))


def _plan_absent(wanted: Wanted, etcd: Etcd) -> Plan:
    member = find(etcd.members, wanted.peer_url)
    if member is None:
        return Plan(tuple(_clearance(etcd.members, etcd)), tuple(etcd.members))
    steps = _removal(etcd.members, member, etcd)
    rest = [one for one in etcd.members if one.id != member.id]
    return Plan(tuple(steps), _led_by(rest, steps[0].member) if member.is_leader else tuple(rest))


def _clearance(members: Iterable[Member], etcd: Etcd, more: bool = False) -> list[Step]:
    """Disarm the alarms that belong to no member; etcdctl disarms all or none, so not where a member has one."""
    if (etcd.stale_alarms or more) and not any(one.alarms for one in members):
        return [Step("disarm")]
    return []


def _led_by(members: Iterable[Member], leader: str) -> tuple[Member, ...]:
    return tuple(replace(one, is_leader=one.id == leader) for one in members)


def _removal(members: list[Member], member: Member, etcd: Etcd) -> list[Step]:
    _quorum.require(_quorum.may_remove(members, member), f"{_label(member)} cannot be removed", etcd)
    steps = []
    if member.is_leader:
        heir = _heir(members, member)
        steps.append(Step("move_leader", heir.id, heir.name, ",".join(heir.peer_urls)))
    steps.append(Step("remove", member.id, member.name, ",".join(member.peer_urls)))
    return steps + _clearance([one for one in members if one.id != member.id], etcd, bool(member.alarms))


def _heir(members: Iterable[Member], leaving: Member) -> Member:
    """The newest of the healthy voters."""
    heirs = [one for one in members if one.healthy and not one.is_learner and one.id != leaving.id]
    if not heirs:
        raise KubewrightError(f"Nobody can take the leadership over from {_label(leaving)}")
    return max(heirs, key=lambda one: one.revision or 0)


def _plan_leader(wanted: Wanted, etcd: Etcd) -> Plan:
    member = _existing(wanted, etcd)
    if member.is_leader:
        return Plan(after=tuple(etcd.members))
    if member.is_learner or not member.healthy:
        raise KubewrightError(
            f"{_label(member)} cannot lead",
            why="it is a learner" if member.is_learner else member.error or "",
            remedy="Members:\n" + _quorum.table(etcd.members),
        )
    return Plan(
        (Step("move_leader", member.id, member.name, ",".join(member.peer_urls)),), tuple(etcd.members)
    )


def _plan_follower(wanted: Wanted, etcd: Etcd) -> Plan:
    member = find(etcd.members, wanted.peer_url)
    if member is None or not member.is_leader:
        return Plan(after=tuple(etcd.members))
    return _handover(_heir(etcd.members, member), etcd)


def _handover(heir: Member, etcd: Etcd) -> Plan:
    step = Step("move_leader", heir.id, heir.name, ",".join(heir.peer_urls))
    return Plan((step,), _led_by(etcd.members, heir.id))


def _existing(wanted: Wanted, etcd: Etcd) -> Member:
    member = find(etcd.members, wanted.peer_url)
    if member is None:
        raise KubewrightError(
            f"No member has the peer URL or id {wanted.peer_url}",
            remedy="Members:\n" + _quorum.table(etcd.members),
        )
    return member


def is_fragmented(member: Member, percent: int) -> bool:
    """Tell whether at least *percent* of a member's file is free space, and not just a few pages of it."""
    if not member.db_size or member.db_size_in_use is None:
        return False
    free = member.db_size - member.db_size_in_use
    return free * 100 >= percent * member.db_size and free >= 1024**2


def _plan_defragmented(wanted: Wanted, etcd: Etcd) -> Plan:
    members = [_existing(wanted, etcd)] if wanted.peer_url else etcd.members
    chosen = [one for one in members if is_fragmented(one, wanted.fragmentation)]
    return Plan(tuple(_defragmentations(chosen, wanted, etcd)), tuple(etcd.members))


def _defragmentations(members: Iterable[Member], wanted: Wanted, etcd: Etcd) -> list[Step]:
    """Followers first, the leader last."""
    steps = []
    for member in sorted(members, key=lambda one: one.is_leader):
        verdict = _quorum.may_pause(_without_nospace(etcd.members, wanted), member)
        if not (wanted.accept_interruption and verdict.rule == "MAINTENANCE_NEEDS_A_SPARE"):
            _quorum.require(
                verdict,
                f"{_label(member)} cannot be defragmented"
                + (
                    " (accept_interruption: true accepts that etcd answers nothing meanwhile)"
                    if verdict.rule == "MAINTENANCE_NEEDS_A_SPARE"
                    else ""
                ),
                etcd,
            )
        steps.append(Step("defragment", member.id, member.name, ",".join(member.peer_urls)))
    return steps


def _without_nospace(members: Iterable[Member], wanted: Wanted) -> list[Member]:
    """A member whose only trouble is NOSPACE still votes: the alarm is what is being cured."""
    if wanted.state != "disarmed":
        return list(members)
    return [
        replace(one, healthy=True, error=None)
        if one.alarms == ["NOSPACE"] and one.revision is not None
        else one
        for one in members
    ]


def _refuse_corrupt(etcd: Etcd) -> None:
    corrupt = [one for one in etcd.members if "CORRUPT" in one.alarms]
    if corrupt:
        raise KubewrightError(
            f"The data of {', '.join(map(_label, corrupt))} is corrupt, and an alarm about that is not disarmed",
            remedy="Replace that member: remove it, empty its data folder, and add it again. Members:\n"
            + _quorum.table(etcd.members),
        )


def _plan_disarmed(wanted: Wanted, etcd: Etcd) -> Plan:
    _refuse_corrupt(etcd)
    if not any("NOSPACE" in one.alarms for one in etcd.members):
        return Plan(tuple(_clearance(etcd.members, etcd)), tuple(etcd.members))
    answering = [one for one in etcd.members if one.revision is not None and not one.is_learner]
    steps = [Step("compact"), *_defragmentations(answering, wanted, etcd), Step("disarm")]
    return Plan(tuple(steps), tuple(replace(one, alarms=[]) for one in etcd.members))


def _label(member: Member) -> str:
    return f"{member.name or 'a member without a name'} {member.id} ({','.join(member.peer_urls)})"


class Operator:
    """Carries a plan out, within one deadline."""

    def __init__(self, client: EtcdCtl, wanted: Wanted, deadline: Deadline) -> None:
        self._client = client
        self._wanted = wanted
        self._deadline = deadline
        self.outcome = Outcome()

    def apply(self, planned: Plan) -> Etcd:
        """Do the steps; return the cluster as it is afterwards."""
        for step in planned.steps:
            etcd = self._client.observe()
            getattr(self, f"_{step.action}")(step, etcd)
            self.outcome.steps.append(step)
        return self._client.observe()

    def _voices(self, etcd: Etcd, *, but: str = "") -> list[str]:
        """The client URLs of the healthy voters, the leader's first: who asks a dying member gets no answer."""
        voters = [one for one in etcd.members if one.healthy and not one.is_learner and one.id != but]
        urls = [url for one in sorted(voters, key=lambda one: not one.is_leader) for url in one.client_urls]
        return urls or self._client.endpoints

    def _add(self, step: Step, etcd: Etcd) -> None:
        if find(etcd.members, step.peer_url):
            return
        _quorum.require(_quorum.may_announce(etcd.members), f"{step.peer_url} cannot be added", etcd)
        voices = self._client.at(self._voices(etcd))
        words = ["member", "add", step.name or "new", f"--peer-urls={step.peer_url}", "--learner"]

        def added() -> bool:
            """Ask again while etcd says no: it refuses for a while after another change."""
            done = voices.run(*words, check=False)
            if find(voices.members(), step.peer_url):
                return True
            raise _declined(f"{step.peer_url} was not added", done)

        wait_for(added, self._deadline, what=f"{step.peer_url} in the member list", interval=0.5)

    def _promote(self, step: Step, etcd: Etcd) -> None:
        """Wait until the learner has started and caught up. The learner itself is not asked (kubeadm 3287)."""

        def promoted() -> bool:
            now = self._client.observe()
            member = find(now.members, step.member)
            if member is None:
                raise KubewrightError(f"The learner {step.peer_url} was removed by somebody else")
            if not member.is_learner:
                return True
            if not member.healthy:
                raise KubewrightError(
                    f"The learner {step.peer_url} is not healthy",
                    why=member.error or "",
                    remedy="Start its process. If it shall never come, remove it: "
                    + _quorum.command("absent", member),
                    transient=True,
                )
            _quorum.require(
                _quorum.may_promote(now.members, member), f"{_label(member)} cannot be promoted", now
            )
            done = self._client.run(
                "member", "promote", step.member, check=False, endpoints=self._voices(now)
            )
            if done.rc and _NOT_IN_SYNC not in done.stderr + done.stdout:
                # One that was promoted meanwhile is seen by the next look (kubeadm 3152).
                raise _declined(f"The learner {step.peer_url} was not promoted", done)
            return False

        wait_for(promoted, self._deadline, what=f"{step.peer_url} to catch up and vote", interval=0.5)

    def _remove(self, step: Step, etcd: Etcd) -> None:
        member = find(etcd.members, step.member)
        if member is None:
            return
        _quorum.require(_quorum.may_remove(etcd.members, member), f"{_label(member)} cannot be removed", etcd)
        if member.is_leader:
            heir = _heir(etcd.members, member)
            self._move_leader(Step("move_leader", heir.id, heir.name), etcd)
        others = self._client.at(self._voices(etcd, but=member.id))

        def gone() -> bool:
            """Ask again while etcd says no: it refuses until the others have been connected for 5 s."""
            done = others.run("member", "remove", member.id, check=False)
            # What counts is the list, read with quorum: a removal that was cut off may have been done.
            if find(others.members(), member.id) is None:
                return True
            raise _declined(f"{_label(member)} is still a member", done)

        wait_for(gone, self._deadline, what=f"{_label(member)} to be gone from the member list", interval=0.5)

    def _move_leader(self, step: Step, etcd: Etcd) -> None:
        """Only the leader can give the leadership away."""
        leader = next((one for one in etcd.members if one.is_leader), None)
        if leader is None:
            raise KubewrightError(
                "There is no leader to move", remedy="Members:\n" + _quorum.table(etcd.members)
            )
        if leader.id == step.member:
            return
        heirs = [step.member] + [
            one.id
            for one in etcd.members
            if one.healthy and not one.is_learner and one.id not in (leader.id, step.member)
        ]
        if self._wanted.state == "leader":
            heirs = [step.member]
        said = ""
        for heir in heirs:
            done = self._client.run("move-leader", heir, check=False, endpoints=leader.client_urls)
            if done.rc == 0:
                self.outcome.leader_moved = heir
                return
            said = (done.stderr or done.stdout).strip()
        raise KubewrightError(
            f"The leadership cannot be moved away from {_label(leader)}",
            why=said.splitlines()[-1] if said else "",
            remedy="Members:\n" + _quorum.table(etcd.members),
        )

    def _compact(self, _step: Step, etcd: Etcd) -> None:
        revision = max(one.revision or 0 for one in etcd.members)
        words = ["compaction", str(revision), "--physical"]
        limit = max(5.0, self._deadline.remaining())
        done = self._client.run(*words, check=False, command_timeout=limit, endpoints=self._voices(etcd))
        # The API server compacts, too: what is compacted already needs no second time.
        if done.rc and "has been compacted" not in done.stderr + done.stdout:
            raise KubewrightError("The history cannot be compacted", why=(done.stderr or done.stdout).strip())

    def _defragment(self, step: Step, etcd: Etcd) -> None:
        member = find(etcd.members, step.member)
        if member is None:
            return
        _defragmentations([member], self._wanted, etcd)
        limit = max(5.0, self._deadline.remaining())
        self._client.run("defrag", command_timeout=limit, endpoints=member.client_urls)

        def back() -> bool:
            now = self._client.observe()
            seen = find(_without_nospace(now.members, self._wanted), step.member)
            return seen is not None and seen.healthy

        wait_for(back, self._deadline, what=f"{_label(member)} to be healthy after its defragmentation")

    def _disarm(self, _step: Step, etcd: Etcd) -> None:
        _refuse_corrupt(etcd)
        for member in etcd.members if any(one.alarms for one in etcd.members) else []:
            quota = self._wanted.quota or member.quota or DEFAULT_QUOTA
            if member.db_size and member.db_size >= ROOM * quota:
                raise KubewrightError(
                    f"{_label(member)} still fills {member.db_size * 100 // quota} % of its quota of {quota} bytes, "
                    "so its alarm is not disarmed: it would come back at once",
                    remedy="Delete what is not needed, or raise --quota-backend-bytes, and run again",
                )
        self._client.run("alarm", "disarm", endpoints=self._voices(etcd))


def _declined(what: str, done: Completed) -> KubewrightError:
    """Return the error for a change that etcd did not make; a missing permission does not come with time."""
    said = (done.stderr or done.stdout).strip().splitlines()
    why = said[-1] if said else ""
    return KubewrightError(what, why=why, transient="permission denied" not in why)


def returned(etcd: Etcd) -> dict[str, Any]:
    """The members and the quorum as modules return them."""
    return {
        "members": [asdict(member) for member in etcd.members],
        "quorum": asdict(etcd.quorum),
        "leader": etcd.leader,
        "stale_alarms": [{"id": number, "alarms": raised} for number, raised in etcd.stale_alarms.items()],
    }


def diff(planned: Plan, before: Etcd, after: Iterable[Member]) -> dict[str, str]:
    """The membership, and what defragmentations give back, as diff mode shows them."""
    free = []
    for step in planned.steps:
        member = find(before.members, step.member) if step.action == "defragment" else None
        if member and member.db_size is not None and member.db_size_in_use is not None:
            unused, size = (
                (number + 1048575) // 1048576
                for number in (member.db_size - member.db_size_in_use, member.db_size)
            )
            free.append(f"{step.peer_url} {unused} MiB of {size} MiB unused")
    stale = "".join(
        f"{number} (no member) {','.join(raised)}\n" for number, raised in sorted(before.stale_alarms.items())
    )
    cleared = any(step.action == "disarm" for step in planned.steps)
    return {
        "before": _shown(before.members) + stale + "".join(f"{row}\n" for row in free),
        "after": _shown(after) + ("" if cleared else stale),
    }


def _shown(members: Iterable[Member]) -> str:
    rows = [
        f"{','.join(one.peer_urls)} {one.name or '(not started)'} {'learner' if one.is_learner else 'voter'}"
        f"{' leader' if one.is_leader else ''}{' ' + ','.join(one.alarms) if one.alarms else ''}"
        for one in members
    ]
    return "".join(f"{row}\n" for row in sorted(rows))
