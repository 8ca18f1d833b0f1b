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
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import is_full, make_folder, sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, EtcdCtl, Member
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import (
    RECORD,
    SAVING,
    Snapshot,
    inspect,
    name_at,
    saved_time,
    snapshots,
    superfluous,
    timestamp,
    write_record,
)

# Free space that has to remain on the disk of the snapshots, as a factor of the database's size.
SPARE = 1.2


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


def choose(etcd: Etcd) -> Member:
    """Return the member to save from: healthy, a follower where there is one, and the newest of these."""
    corrupt = [one for one in etcd.members if "CORRUPT" in one.alarms]
    if corrupt:
        raise KubewrightError(
            f"The data of {', '.join(one.name for one in corrupt)} is corrupt, and which member is right is unknown",
            remedy="Replace that member first; see the alarms with etcd_member_info",
        )
    able = [one for one in etcd.members if not one.is_learner and (one.healthy or one.alarms == ["NOSPACE"])]
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


def check_room(folder: str, needed: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    place = folder
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise KubewrightError(
            f"{free // 1048576} MiB are free, and {needed // 1048576 + 1} MiB are needed",
            where=folder,
            remedy="Free some space there, keep fewer snapshots, or choose another folder",
        )


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
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


class Saver:
    """Saves, verifies and prunes, within one deadline."""

    def __init__(self, client: EtcdCtl, runner: Runner, etcdutl: str, deadline: Deadline) -> None:
        self._client = client
        self._runner = runner
        self._etcdutl = etcdutl
        self._deadline = deadline

    def save(self, wanted: Wanted, member: Member, now: Callable[[], float] = time.time) -> Snapshot:
        """Return the new, verified snapshot of a member."""
        check_room(wanted.folder, int((member.db_size or 0) * SPARE))
        try:
            if not os.path.isdir(wanted.folder):
                make_folder(os.path.dirname(wanted.folder))
                os.mkdir(wanted.folder, 0o700)
            with alone(wanted.folder):
                for leftover in glob.glob(os.path.join(glob.escape(wanted.folder), f"{SAVING}*")):
                    shutil.rmtree(leftover)
                return self._save(wanted, member, now())
        except OSError as error:
            raise KubewrightError(
                "The snapshot cannot be saved",
                where=str(error.filename or wanted.folder),
                why=error.strerror or str(error),
                remedy="Free some space there" if is_full(error) else "",
            ) from error

    def _save(self, wanted: Wanted, member: Member, now: float) -> Snapshot:
        name = name_at(wanted.prefix, now)
        final = os.path.join(wanted.folder, name)
        if os.path.lexists(final):
            raise KubewrightError("There is a snapshot of this very second", where=final, remedy="Run again")
        work = os.path.join(wanted.folder, f"{SAVING}{name}")
        os.mkdir(work, 0o700)
        try:
            path = os.path.join(work, name)
            self._fetch(member, path)
            os.chmod(path, 0o600)
            sync(path)
            found = inspect(path, self._runner, self._etcdutl, max(1.0, self._deadline.remaining()))
            self._check_age(found, member)
            snapshot = replace(
                found,
                path=final,
                etcd_version=member.version or "",
                cluster_id=self._client.cluster_id(member.client_urls),
                member=member.name,
                saved_at=timestamp(now),
            )
            write_record(snapshot, path + RECORD)
            # The record first: a snapshot that has its name has its record.
            os.rename(path + RECORD, final + RECORD)
            os.rename(path, final)
            sync(wanted.folder)
            return snapshot
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _fetch(self, member: Member, path: str) -> None:
        """etcdctl has no limit of time of its own for this, and takes exactly one endpoint."""
        limit = max(1.0, self._deadline.remaining())
        argv = self._client.argv(
            "snapshot", "save", path, command_timeout=limit, endpoints=member.client_urls[:1]
        )
        try:
            self._runner.run(argv, timeout=limit)
        except CommandError as error:
            error.where = member.client_urls[0]
            if "no space left" in error.stderr:
                error.remedy = (
                    "Free some space in the folder of the snapshots; nothing of this one was left there"
                )
            raise

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
