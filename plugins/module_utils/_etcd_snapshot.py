# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save a snapshot of an etcd cluster into a folder, and prune the folder.

PRIVATE to the collection: this interface can change in any release.

etcdctl streams into `.saving-NAME/NAME.part`, in a folder that only root may enter; what is verified there gets its
record and then its name. A save that is killed leaves nothing but the hidden folder, which the next one removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import io
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._background import Background, background
from ansible_collections.kubewright.cluster.plugins.module_utils._durable import is_full, make_folder, sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, EtcdCtl, Member
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import (
    RECORD,
    SAVING,
    Snapshot,
    Summing,
    examine,
    name_at,
    saved_time,
    snapshots,
    superfluous,
    timestamp,
    write_record,
)

# Free space that has to remain on the disk of the snapshots, as a factor of the database's size.
SPARE = 1.2
# Seconds between two looks at what etcdctl has written.
_POLL = 0.02


@dataclass(frozen=True)
class Wanted:
    """`keep` counts snapshots, `keep_days` is in days, `unless_newer_than` in seconds; 0 switches each off."""

    folder: str
    prefix: str
    unless_newer_than: int = 0
    keep: int = 0
    keep_days: float = 0


@dataclass(frozen=True)
class Plan:
    """`member` is whom to ask; None where a snapshot that is new enough is there. `prune` is after the save."""

    member: Member | None
    newest: Snapshot | None
    prune: tuple[Snapshot, ...]

    @property
    def changed(self) -> bool:
        return self.member is not None or bool(self.prune)


def serving(etcd: Etcd) -> list[Member]:
    """Return the voters that can be read from: one without room (NOSPACE) refuses nothing but writes."""
    voters = [one for one in etcd.members if not one.is_learner]
    return [one for one in voters if one.healthy or (one.alarms == ["NOSPACE"] and one.revision is not None)]


def choose(etcd: Etcd) -> Member:
    """Return the member to save from: healthy, a follower where there is one, and the newest of these."""
    corrupt = [one for one in etcd.members if "CORRUPT" in one.alarms]
    if corrupt:
        raise KubewrightError(
            f"The data of {', '.join(one.name for one in corrupt)} is corrupt, and which member is right is unknown",
            remedy="Replace that member first; see the alarms with etcd_member_info",
        )
    able = serving(etcd)
    if not able or etcd.leader is None:
        raise KubewrightError(
            "No member is healthy enough to save a snapshot from",
            why="there is no leader" if etcd.leader is None else "",
            remedy="Bring the cluster back first. If it is lost, its data folders can still be saved: see the playbook "
            "restore.yml",
        )
    return max(able, key=lambda one: (not one.is_leader, one.revision or 0))


def plan(wanted: Wanted, etcd: Callable[[], Etcd], now: float) -> Plan:
    """Say whether to save, from whom, and what to prune. etcd is asked only where something is to be saved."""
    there = snapshots(wanted.folder, wanted.prefix)
    newest = there[-1] if there else None
    enough = newest is not None and 0 <= now - saved_time(newest) < wanted.unless_newer_than
    member = None if enough else choose(etcd())
    after = there if enough else [*there, Snapshot("", 0, "", saved_at=timestamp(now))]
    prune = superfluous(after, keep=wanted.keep, keep_days=wanted.keep_days, now=now)
    return Plan(member, newest if enough else None, tuple(one for one in prune if one.path))


def needed_room(member: Member) -> int:
    """How many bytes a snapshot of a member may take."""
    return int((member.db_size or 0) * SPARE)


def leftovers(folder: str) -> list[str]:
    """What killed runs left in a folder of snapshots."""
    return glob.glob(os.path.join(glob.escape(folder), f"{SAVING}*"))


def check_room(folder: str, needed: int, removed: Iterable[str] = ()) -> None:
    """Refuse to begin what the disk cannot hold; *removed* are leftovers that go before anything comes."""
    place = folder
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize + sum(map(_taken, removed))
    if free < needed:
        raise KubewrightError(
            f"{free // 1048576} MiB are free, and {needed // 1048576 + 1} MiB are needed",
            where=folder,
            remedy="Free some space there, keep fewer snapshots, or choose another folder",
        )


def _taken(path: str) -> int:
    names = [os.path.join(folder, name) for folder, _folders, names in os.walk(path) for name in names]
    return sum(os.lstat(name).st_blocks * 512 for name in names)


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """One save at a time in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise KubewrightError(
                "Another run is saving a snapshot here", where=folder, remedy="Wait until it has ended"
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def holding(folder: str, what: str) -> Iterator[None]:
    """Have a folder alone, made where it is missing, to save a snapshot or a backup in."""
    try:
        if not os.path.isdir(folder):
            make_folder(os.path.dirname(folder))
            os.mkdir(folder, 0o700)
        with _alone(folder):
            yield
    except OSError as error:
        raise KubewrightError(
            f"The {what} cannot be saved",
            where=str(error.filename or folder),
            why=error.strerror or str(error),
            remedy=f"Free some space there; nothing of this {what} was left" if is_full(error) else "",
        ) from error


@contextlib.contextmanager
def lent(work: str) -> Iterator[str]:
    """Lend a folder to work in that only root may enter, without what a killed run left there."""
    shutil.rmtree(work, ignore_errors=True)
    os.mkdir(work, 0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def making(folder: str, name: str, needed: int) -> Iterator[str]:
    """Lend a hidden folder to make the snapshot *name* in; what killed runs left is removed before."""
    with holding(folder, "snapshot"):
        for leftover in leftovers(folder):
            shutil.rmtree(leftover)
        check_room(folder, needed)
        if os.path.lexists(os.path.join(folder, name)):
            raise KubewrightError(
                "There is a snapshot of this very second",
                where=os.path.join(folder, name),
                remedy="Run again",
            )
        with lent(os.path.join(folder, f"{SAVING}{name}")) as work:
            yield work


def publish(snapshot: Snapshot, path: str) -> None:
    """Give the verified file at *path* its record and the name that the snapshot has."""
    write_record(snapshot, path + RECORD)
    # The record first: a snapshot that has its name has its record.
    os.rename(path + RECORD, snapshot.path + RECORD)
    os.rename(path, snapshot.path)
    sync(os.path.dirname(snapshot.path))


class Saver:
    """Saves, verifies and prunes, within one deadline."""

    def __init__(self, client: EtcdCtl, runner: Runner, deadline: Deadline) -> None:
        self._client = client
        self._runner = runner
        self._deadline = deadline

    def save(self, wanted: Wanted, member: Member, clock: Callable[[], float] = time.time) -> Snapshot:
        """Return the new, verified snapshot of a member."""
        now = clock()
        name = name_at(wanted.prefix, now)
        with making(wanted.folder, name, needed_room(member)) as work:
            path = os.path.join(work, name)
            found = self._fetch(member, path)
            self._check_age(found, member)
            snapshot = replace(
                found,
                path=os.path.join(wanted.folder, name),
                etcd_version=member.version or "",
                cluster_id=self._client.cluster_id(member.client_urls),
                member=member.name,
                saved_at=timestamp(now),
            )
            publish(snapshot, path)
            return snapshot

    def _fetch(self, member: Member, path: str) -> Snapshot:
        """Save and verify at the same time: what etcdctl writes is summed up as it comes.

        etcdctl has no limit of time of its own for this, and takes exactly one endpoint.
        """
        limit = max(1.0, self._deadline.remaining())
        argv = self._client.argv(
            "snapshot", "save", path, command_timeout=limit, endpoints=member.client_urls[:1]
        )
        with background(argv, env=self._environment) as etcdctl, contextlib.ExitStack() as stack:
            stream = self._opened(etcdctl, path)
            if stream is not None:
                stack.enter_context(stream)
                summing = self._summed(etcdctl, stream)
                # Meanwhile etcdctl makes the file durable, and renames it.
                found = examine(path, summing.result(path), stream) if summing.whole else None
            etcdctl.wait(max(1.0, self._deadline.remaining()))
            if etcdctl.rc != 0 or stream is None:
                raise self._not_saved(argv, etcdctl, member)
            os.fchmod(stream.fileno(), 0o600)
            os.fsync(stream.fileno())
            # It is not read again soon, and what etcd keeps in memory is worth more.
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return found or examine(path, summing.result(path))

    @property
    def _environment(self) -> dict[str, str]:
        # Go collects its garbage later the more memory there is. What etcdctl of 3.5 to 3.7 needs at a time is near
        # 14 MiB: with less it collects all the time, and saving takes three times as long.
        return {**self._runner.environment, "GOMEMLIMIT": "18MiB"}

    def _opened(self, etcdctl: Background, path: str) -> io.FileIO | None:
        """Open the file as soon as etcdctl has made it; None where it ended without one."""
        while True:
            ended = etcdctl.rc is not None
            for name in (f"{path}.part", path):
                with contextlib.suppress(FileNotFoundError):
                    return open(name, "rb", buffering=0)
            if ended or self._deadline.expired:
                return None
            self._deadline.sleep(_POLL)

    def _summed(self, etcdctl: Background, stream: io.FileIO) -> Summing:
        """Sum up until everything is there, or etcdctl has ended, or the time is over."""
        summing = Summing(stream)
        while True:
            ended = etcdctl.rc is not None
            if summing.read_on():
                continue
            if ended or summing.whole or self._deadline.expired:
                return summing
            self._deadline.sleep(_POLL)

    def _not_saved(self, argv: list[str], etcdctl: Background, member: Member) -> CommandError:
        said, rc = etcdctl.said(), etcdctl.rc
        late = rc is None
        return CommandError(
            f"etcdctl did not save in {self._deadline.seconds:g} seconds"
            if late
            else "etcdctl saved no snapshot",
            cmd=argv,
            rc=-1 if rc is None else rc,
            stderr=said,
            where=member.client_urls[0],
            why=said.splitlines()[-1] if said else "",
            remedy="Free some space in the folder of the snapshots; nothing of this one was left there"
            if "no space left" in said
            else "",
            transient=late,
        )

    @staticmethod
    def _check_age(found: Snapshot, member: Member) -> None:
        # An etcd without a key is at revision 1, and etcdutl finds none in its file.
        if member.revision and member.revision > 1 and found.revision < member.revision:
            raise KubewrightError(
                f"The snapshot ends at revision {found.revision}, but {member.name} was at {member.revision} before",
                where=found.path,
                remedy="Run again; if it stays like this, look at the data of that member",
            )

    def prune(self, wanted: Wanted, unwanted: tuple[Snapshot, ...]) -> None:
        """Remove snapshots; the file first, so that no file without its record is left to look like a backup."""
        for snapshot in unwanted:
            for path in (snapshot.path, snapshot.path + RECORD):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        if unwanted:
            sync(wanted.folder)
