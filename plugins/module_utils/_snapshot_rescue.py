# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save a snapshot out of the data folder of a member that is stopped, when no cluster is left to ask.

PRIVATE to the collection: this interface can change in any release.

    FOLDER/.saving-NAME/data/member     a copy of the member's data, which is all that etcd ever opens
    FOLDER/.saving-NAME/NAME            the snapshot until it is verified
    /run/kubewright/rescue-*            its sockets, in a folder that only root may enter: they ask for no certificate

The database alone would not do. What was written last is only in the log of raft, which no tool but etcd applies. So
etcd is started on the copy as a cluster of one (`--force-new-cluster`), with no address that anybody could reach, and
is asked for a snapshot as any other. Entries at the end of the log that no majority had confirmed are applied, too:
clients were told nothing about those, neither that they were written nor that they were not.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ansible_collections.kubewright.cluster.plugins.module_utils import _snapshot_restore as restoring
from ansible_collections.kubewright.cluster.plugins.module_utils._background import Background, background
from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import (
    DataFolder,
    files,
    look,
    restored_at,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._durable import make_folder, sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import member_id, parse_health
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_database import Database
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_snapshot import (
    lent,
    making,
    publish,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner, search_path
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import (
    Snapshot,
    examine,
    name_at,
    snapshots,
    timestamp,
)

SOCKETS = "/run/kubewright"
# etcd wants an address to advertise, and takes none of a socket. Nobody is there to be told.
_NOWHERE = "http://127.0.0.1:1"
# etcd lays two new segments of its log down, 64 MiB each, before it writes to them.
_LOG_SEGMENTS = 160 << 20


@dataclass(frozen=True)
class Wanted:
    """`name` is for the record only: nobody else hears of this member."""

    folder: str
    prefix: str
    data_dir: str
    name: str = "rescued"

    @property
    def member(self) -> str:
        """What etcd used."""
        return os.path.join(self.data_dir, "member")

    @property
    def database(self) -> str:
        """The database of it."""
        return os.path.join(self.member, "snap", "db")


@dataclass(frozen=True)
class Found:
    """The state of a data folder. `print` is the same as long as nobody writes to it; sizes are in bytes."""

    data: DataFolder
    has_log: bool
    print: str
    database_size: int


@dataclass(frozen=True)
class Plan:
    """`there` is the snapshot that an earlier run made of this very state."""

    there: Snapshot | None

    @property
    def changed(self) -> bool:
        return self.there is None


def observe(wanted: Wanted) -> Found:
    """Look at the data folder; a process that uses it is not disturbed."""
    seen = look(wanted.data_dir)
    there = sorted(files(wanted.member))
    state = "".join(f"{name} {size} {changed}\n" for name, size, changed in there)
    sizes = {name: size for name, size, _changed in there}
    return Found(
        data=seen,
        has_log=any(name.startswith("wal/") and name.endswith(".wal") for name in sizes),
        print=hashlib.sha256(state.encode()).hexdigest(),
        database_size=sizes.get("snap/db", 0),
    )


def plan(wanted: Wanted, found: Found, etcd_version: str) -> Plan:
    """Say whether there is something to do, or refuse; nothing is copied before all of this is known."""
    where = wanted.data_dir
    if not found.database_size:
        raise KubewrightError(
            "There is no data of an etcd member", where=where, remedy="Use another host's, or a snapshot"
        )
    if found.data.in_use:
        raise KubewrightError(
            "An etcd process uses the data folder",
            where=where,
            remedy="While a majority of the members run, use state saved, which asks them; otherwise stop it first",
        )
    there = next(
        (one for one in snapshots(wanted.folder, wanted.prefix) if one.rescued_from == found.print), None
    )
    if there:
        return Plan(there)
    if not found.has_log:
        raise KubewrightError(
            "The member's log of raft is missing, and with it what was written last",
            where=os.path.join(wanted.member, "wal"),
            remedy="Use another host's data, or a snapshot. If there is neither, etcdutl can restore a copy of "
            f"{wanted.database} with --skip-hash-check",
        )
    _check_version(wanted, found, etcd_version)
    return Plan(None)


def _check_version(wanted: Wanted, found: Found, etcd_version: str) -> None:
    """etcd opens data of its own minor and of the one before; it would make the latter its own."""
    data, program = restoring.minor(found.data.cluster_version or ""), restoring.minor(etcd_version)
    if data and program and not (data[0] == program[0] and data[1] <= program[1] <= data[1] + 1):
        raise KubewrightError(
            f"The data is of etcd {data[0]}.{data[1]}, and the etcd here is {etcd_version}",
            where=wanted.data_dir,
            remedy=f"Give the etcd of a {data[0]}.{data[1]} in the option etcd",
        )


def needed_room(found: Found) -> int:
    """The copy, the snapshot of it, and what etcd lays down."""
    return found.data.size + found.database_size + _LOG_SEGMENTS


def etcd_version(runner: Runner, etcd: str) -> str:
    """Return the version of the program that will read the copy."""
    said = runner.run([etcd, "--version"], timeout=20, asks=True).stdout
    match = re.search(r"etcd Version: (\S+)", said)
    return match[1] if match else ""


class Rescuer:
    """Makes the snapshot, within one deadline. The member's own data is only read."""

    def __init__(
        self, runner: Runner, programs: Mapping[str, str], deadline: Deadline, sockets: str = SOCKETS
    ) -> None:
        self._runner = runner
        self._programs = programs
        self._deadline = deadline
        self._sockets = sockets

    def rescue(self, wanted: Wanted, found: Found, version: str, now: float) -> Snapshot:
        """Return the new, verified snapshot of a stopped member."""
        name = name_at(wanted.prefix, now)
        with (
            making(wanted.folder, name, needed_room(found)) as work,
            self._private_sockets(wanted) as sockets,
        ):
            self._copy(wanted, found, os.path.join(work, "data", "member"))
            path = os.path.join(work, name)
            with self._started(work, sockets, wanted) as endpoint:
                status = self._ask(endpoint, "endpoint", "status", "--write-out=json")
                self._ask(endpoint, "snapshot", "save", path)
            shutil.rmtree(os.path.join(work, "data"))
            os.chmod(path, 0o600)
            sync(path)
            checked = examine(path)
            restored = restored_at(found.data.restored)
            with Database(path) as database:
                written = None if restored is None else database.written_after(restored)
            snapshot = replace(
                checked,
                path=os.path.join(wanted.folder, name),
                etcd_version=version,
                cluster_id=member_id(json.loads(status)[0]["Status"]["header"]["cluster_id"]),
                member=wanted.name,
                saved_at=timestamp(now),
                rescued_from=found.print,
                written_since_restore=written,
            )
            publish(snapshot, path)
            return snapshot

    def _left(self) -> float:
        return max(1.0, self._deadline.remaining())

    @contextlib.contextmanager
    def _private_sockets(self, wanted: Wanted) -> Iterator[str]:
        """A folder of its own, because the path of a socket must be short; the same one after a kill."""
        make_folder(self._sockets)
        mark = hashlib.sha256(wanted.folder.encode()).hexdigest()[:12]
        with lent(os.path.join(self._sockets, f"rescue-{mark}")) as folder:
            yield folder

    def _copy(self, wanted: Wanted, found: Found, goal: str) -> None:
        """Copy the data; an etcd that is started meanwhile waits until that is done."""
        lock = os.open(wanted.database, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            for name, _size, _changed in files(wanted.member):
                target = os.path.join(goal, name)
                os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
                shutil.copyfile(os.path.join(wanted.member, name), target)
        finally:
            os.close(lock)
        if observe(wanted).print != found.print:
            raise KubewrightError(
                "The data changed while it was copied",
                where=wanted.data_dir,
                why="somebody started an etcd on it",
                remedy="Stop that first",
            )

    @contextlib.contextmanager
    def _started(self, work: str, sockets: str, wanted: Wanted) -> Iterator[str]:
        """Run etcd on the copy, and return its endpoint when it has applied its whole log."""
        client, peer = f"unix://{sockets}/client", f"unix://{sockets}/peer"
        argv = [
            self._programs["etcd"],
            *("--force-new-cluster", "--unsafe-no-fsync", "--log-level=warn"),
            *(f"--name={wanted.name}", f"--data-dir={os.path.join(work, 'data')}"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={_NOWHERE}"),
            f"--listen-peer-urls={peer}",
        ]
        # What a host sets for its own etcd (ETCD_*) must not reach this one.
        env = {"LC_ALL": "C", "PATH": search_path()}
        with background(argv, env=env, cwd=work) as etcd:
            wait_for(
                lambda: self._ready(etcd, client),
                self._deadline,
                what="etcd to read the copy of the data",
                interval=0.2,
            )
            yield client

    def _ready(self, etcd: Background, endpoint: str) -> bool:
        if etcd.rc is not None:
            raise KubewrightError(
                "etcd cannot read the data of this member",
                why=last_words(etcd.said()) or f"it ended with exit code {etcd.rc}",
                remedy="Use another host's data, or a snapshot",
            )
        return healthy(self._etcdctl(endpoint, 5, "endpoint", "health", "--write-out=json", check=False))

    def _ask(self, endpoint: str, *words: str) -> str:
        return self._etcdctl(endpoint, self._left(), *words, check=True)

    def _etcdctl(self, endpoint: str, limit: float, *words: str, check: bool) -> str:
        argv = [self._programs["etcdctl"], f"--endpoints={endpoint}", f"--command-timeout={limit:g}s", *words]
        try:
            done = self._runner.run(argv, check=check, timeout=limit, asks=not check)
        except CommandError as error:
            if check or not error.transient:
                raise
            return ""
        return done.stdout


def healthy(said: str) -> bool:
    """Tell whether etcd answers, from what `etcdctl endpoint health` said; an alarm that the data has is none of it."""
    try:
        found = parse_health(json.loads(said))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(found) and not any(found.values())


def last_words(log: str) -> str:
    """Return why etcd ended, by the end of its log."""
    lines = log.splitlines()
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("fatal", "panic", "error"):
            return f"{entry.get('msg', '')} {entry.get('error', '')}".strip()
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else ""
