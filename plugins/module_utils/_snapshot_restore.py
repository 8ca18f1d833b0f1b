# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a snapshot into the data folder of one etcd member.

PRIVATE to the collection: this interface can change in any release.

Everything is inside the data folder (see _data_folder), because that often is a disk of its own, whose mount point
cannot be renamed. The revision is bumped and the last one marked as compacted, so that whoever watches gets an error
and lists again instead of trusting a cache from before (etcd 16028, 14303, Kubernetes 118501).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import (
    ASIDE,
    MARKER,
    MEMBER,
    WORK,
    DataFolder,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._durable import is_full, sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import Snapshot, timestamp

# At 1,500 writes a second a week passes before revisions of the old history could come again; the figure is that of
# etcd's recovery guide.
BUMP = 1_000_000_000

_LOG_SEGMENTS = 2 * 64 << 20


@dataclass(frozen=True)
class Wanted:
    """`members` leads from member names to peer URLs, and is the same on every host."""

    snapshot: str
    data_dir: str
    name: str
    members: dict[str, str]
    token: str
    bump: int = BUMP
    replace: bool = False
    sha256: str = ""

    @property
    def folder(self) -> str:
        """The folder that etcd uses."""
        return os.path.join(self.data_dir, MEMBER)


@dataclass(frozen=True)
class Plan:
    """`aside` says whether there is something to move away first."""

    restore: bool
    aside: bool

    @property
    def changed(self) -> bool:
        return self.restore


def check_options(wanted: Wanted) -> None:
    """Refuse what cannot be meant, before anything is looked at."""
    if wanted.name not in wanted.members:
        raise KubewrightError(
            f"The member {wanted.name!r} is not among members",
            where="option name",
            remedy=f"Give one of: {', '.join(sorted(wanted.members))}",
        )
    if len(set(wanted.members.values())) != len(wanted.members):
        raise KubewrightError("Two members have the same peer URL", where="option members")
    for url in wanted.members.values():
        if not re.match(r"https?://[^\s,=]+:\d+$", url):
            raise KubewrightError(f"{url!r} is not a peer URL", where="option members")
    if not wanted.token:
        raise KubewrightError(
            "A restored cluster needs a new token",
            where="option token",
            why="members of the old cluster that still run must not take it for theirs",
        )


def marker(wanted: Wanted, snapshot: Snapshot) -> dict[str, Any]:
    """What says that this very restore was done. The same snapshot with another token is another cluster."""
    return {
        "sha256": snapshot.sha256,
        "revision": snapshot.revision + wanted.bump,
        "token": wanted.token,
        "name": wanted.name,
        "members": wanted.members,
    }


def needed_room(snapshot: Snapshot) -> int:
    """The database, as much again for what the bump rewrites, and two segments of the log, which etcd lays down."""
    return 2 * snapshot.size + _LOG_SEGMENTS


def plan(wanted: Wanted, found: DataFolder, snapshot: Snapshot, etcd_version: str) -> Plan:
    """Say what to do, or refuse; nothing is touched before all of this is known."""
    if wanted.sha256 and wanted.sha256 != snapshot.sha256:
        raise KubewrightError(
            "This is not the snapshot that is meant",
            where=wanted.snapshot,
            why=f"its SHA-256 is {snapshot.sha256}, and {wanted.sha256} is wanted",
            remedy="Copy the file again",
        )
    if found.restored == marker(wanted, snapshot):
        return Plan(False, False)
    _check_version(wanted, snapshot, etcd_version)
    if found.foreign:
        raise KubewrightError(
            f"{wanted.data_dir} is not the data folder of an etcd member",
            why=f"it holds {', '.join(found.foreign[:5])}",
            remedy="Give the right data_dir, or move that away",
        )
    if found.in_use:
        raise KubewrightError(
            "An etcd process uses the data folder", where=wanted.data_dir, remedy="Stop it first"
        )
    if found.has_data and not wanted.replace:
        raise KubewrightError(
            "There is data in the folder already",
            where=wanted.folder,
            remedy=f"To move it to {wanted.data_dir}/{ASIDE}TIME and restore, set replace to true",
        )
    return Plan(True, found.has_data)


def _check_version(wanted: Wanted, snapshot: Snapshot, etcd_version: str) -> None:
    """etcd reads what older versions wrote, never what a newer minor wrote."""
    wrote = minor(snapshot.storage_version or snapshot.etcd_version)
    reads = minor(etcd_version)
    if wrote and reads and wrote > reads:
        raise KubewrightError(
            f"etcd {wrote[0]}.{wrote[1]} wrote the snapshot, and etcdutl here is {etcd_version}",
            where=wanted.snapshot,
            remedy=f"Restore it with etcd {wrote[0]}.{wrote[1]}",
        )


def minor(version: str) -> tuple[int, int] | None:
    """Return the first two numbers of a version, None for what is none."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None


def utility_version(runner: Runner, etcdutl: str) -> str:
    """Return the version of etcdutl, which has to be the one of the etcd that will run."""
    said = runner.run([etcdutl, "version"], timeout=20).stdout
    match = re.search(r"etcdutl version: (\S+)", said)
    return match[1] if match else ""


class Restorer:
    """Carries a plan out. Killed anywhere, it leaves the old data or the new, and can simply be run again."""

    def __init__(self, runner: Runner, etcdutl: str, timeout: float) -> None:
        self._runner = runner
        self._etcdutl = etcdutl
        self._timeout = timeout

    def apply(self, wanted: Wanted, planned: Plan, snapshot: Snapshot, now: float) -> str:
        """Restore; return where the old data is, empty where there was none."""
        work = os.path.join(wanted.data_dir, WORK)
        try:
            os.makedirs(wanted.data_dir, mode=0o700, exist_ok=True)
            shutil.rmtree(work, ignore_errors=True)
            self._restore(wanted, work)
            with open(os.path.join(work, MEMBER, MARKER), "w", encoding="utf-8") as stream:
                json.dump(marker(wanted, snapshot), stream)
            _sync_tree(work)
            aside = ""
            if planned.aside:
                aside = _take_aside(wanted.data_dir, now)
                os.rename(wanted.folder, os.path.join(aside, MEMBER))
            elif os.path.isdir(wanted.folder):
                os.rmdir(wanted.folder)
            os.rename(os.path.join(work, MEMBER), wanted.folder)
            os.chmod(wanted.data_dir, 0o700)
            sync(wanted.data_dir)
            with contextlib.suppress(OSError):
                os.rmdir(work)
            return aside
        except OSError as error:
            raise KubewrightError(
                "The snapshot cannot be restored",
                where=str(error.filename or wanted.data_dir),
                why=error.strerror or str(error),
                remedy="Free some space there; the data from before is whole" if is_full(error) else "",
            ) from error

    def _restore(self, wanted: Wanted, work: str) -> None:
        cluster = ",".join(f"{name}={url}" for name, url in sorted(wanted.members.items()))
        argv = [
            *(self._etcdutl, "snapshot", "restore", wanted.snapshot, f"--data-dir={work}"),
            *(f"--name={wanted.name}", f"--initial-advertise-peer-urls={wanted.members[wanted.name]}"),
            *(f"--initial-cluster={cluster}", f"--initial-cluster-token={wanted.token}"),
        ]
        if wanted.bump:
            argv += [f"--bump-revision={wanted.bump}", "--mark-compacted"]
        try:
            self._runner.run(argv, timeout=self._timeout)
        except CommandError as error:
            shutil.rmtree(work, ignore_errors=True)
            if "no space left" in error.stderr:
                error.remedy = "Free some space there; the data from before is whole"
            raise


def _take_aside(data_dir: str, now: float) -> str:
    """Return an empty folder for the old data, named after the time; one that a killed run had made will do."""
    while True:
        aside = os.path.join(data_dir, f"{ASIDE}{timestamp(now)}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(aside, 0o700)
        if not os.listdir(aside):
            return aside
        now += 1


def _sync_tree(folder: str) -> None:
    for path, _folders, files in os.walk(folder):
        for name in files:
            sync(os.path.join(path, name))
        sync(path)
