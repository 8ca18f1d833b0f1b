# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshot files of etcd: what is one, whether it is whole, and which may go.

PRIVATE to the collection: this interface can change in any release.

    FOLDER/PREFIX-20261121T114500Z.db        what etcdctl saved: the database, and the SHA-256 of it at the end
    FOLDER/PREFIX-20261121T114500Z.db.json   what was found when it was verified; without it, it is no backup
    FOLDER/.saving-*                         a save that is under way, or that was killed

The database is a file of bbolt, whose pages make its size a multiple of 512; the sum adds 32 bytes (etcd's client
library checks exactly that when it restores, `etcdutl snapshot status` does not look at the sum at all).
"""

from __future__ import annotations

import calendar
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_database import Database
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import NOT_STARTED, Runner

SAVING = ".saving-"
RECORD = ".json"
_PAGE, _SUM = 512, 32
_BLOCK = 1 << 20
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Snapshot:
    """A verified snapshot. Sizes are in bytes, `saved_at` is in UTC.

    `sha256` is that of the whole file, so that any tool can compare a copy; `hash` is etcd's own of the content.
    One that was rescued says from which state of a data folder, and whether anybody had written to that since it was
    restored; None for data that no restore made.
    """

    path: str
    size: int
    sha256: str
    hash: str = ""
    revision: int = 0
    total_keys: int = 0
    storage_version: str = ""
    etcd_version: str = ""
    cluster_id: str = ""
    member: str = ""
    saved_at: str = ""
    rescued_from: str = ""
    written_since_restore: bool | None = None


def name_at(prefix: str, now: float) -> str:
    """Return the file name of a snapshot that is saved at a time."""
    return f"{prefix}-{time.strftime(_TIME, time.gmtime(now))}.db"


def saved_time(snapshot: Snapshot) -> float:
    """Return when a snapshot was saved, in seconds of Unix time."""
    return calendar.timegm(time.strptime(snapshot.saved_at, _TIME))


def timestamp(now: float) -> str:
    """Return a time as file names and records have it."""
    return time.strftime(_TIME, time.gmtime(now))


def check_sum(path: str) -> str:
    """Compare the sum at the end of a snapshot with its content; return the SHA-256 of the whole file.

    Memory does not grow with the file.
    """
    _size(path)
    with open(path, "rb", buffering=0) as stream:
        summing = Summing(stream)
        while summing.read_on():
            pass
        return summing.result(path)


class Summing:
    """Sums a snapshot up, also while it is still being written: `read_on` takes what has come since."""

    def __init__(self, stream: io.RawIOBase | io.FileIO) -> None:
        self._stream = stream
        self._content = hashlib.sha256()
        self._buffer = bytearray(_BLOCK + _SUM)
        # The last bytes that were read may be the sum, which is no part of the content.
        self._kept = 0
        self.size = 0

    def read_on(self) -> int:
        """Read a block; return how many bytes there were, 0 at the end of the file as it is now."""
        view = memoryview(self._buffer)
        count = self._stream.readinto(view[self._kept : self._kept + _BLOCK]) or 0
        there = self._kept + count
        content = max(0, there - _SUM)
        self._content.update(view[:content])
        self._kept = there - content
        self._buffer[: self._kept] = self._buffer[content:there]
        self.size += count
        return count

    @property
    def whole(self) -> bool:
        """Tell whether what was read ends with the sum of what comes before it."""
        return (
            self.size >= _PAGE + _SUM
            and self.size % _PAGE == _SUM
            and self._content.digest() == self._buffer[: self._kept]
        )

    def result(self, path: str) -> str:
        """Return the SHA-256 of everything, or say what is wrong with it."""
        if self.size < _PAGE + _SUM or self.size % _PAGE != _SUM:
            raise _damaged(
                path,
                f"{self.size} bytes are no database with a sum at its end: it is cut off, or no snapshot",
            )
        if not self.whole:
            raise _damaged(path, "its content does not match the sum at its end")
        everything = self._content.copy()
        everything.update(self._buffer[: self._kept])
        return everything.hexdigest()


def examine(path: str, sha256: str = "", stream: io.FileIO | None = None) -> Snapshot:
    """Verify a snapshot: the sum, unless *sha256* says that this was done, and every page of its database.

    *stream* is the open file where it has another name just now. Memory does not grow with the file.
    """
    opened = f"/proc/self/fd/{stream.fileno()}" if stream else path
    sha256 = sha256 or check_sum(opened)
    try:
        with Database(opened) as database:
            content = database.check()
    except KubewrightError as error:
        raise _damaged(path, error.why) from error
    return Snapshot(
        path=path,
        size=_size(opened),
        sha256=sha256,
        revision=content.revision,
        total_keys=content.total_keys,
        storage_version=content.storage_version,
    )


def inspect(path: str, runner: Runner, etcdutl: str, timeout: float) -> Snapshot:
    """Verify a snapshot, and let etcd's own tool read all of it as well; only that tells etcd's own hash."""
    found = examine(path)
    argv = [etcdutl, "snapshot", "status", path, "--write-out=json"]
    try:
        status = runner.json(argv, timeout=timeout)
        revision, content = int(status["revision"]), format(int(status["hash"]), "x")
    except (CommandError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, CommandError) and error.rc == NOT_STARTED:
            raise
        raise _damaged(
            path, f"etcdutl cannot read its database: {getattr(error, 'why', '') or error}"
        ) from error
    if revision != found.revision:
        raise _damaged(path, f"etcdutl finds revision {revision} in it, and its pages have {found.revision}")
    return replace(found, hash=content)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise KubewrightError("The snapshot cannot be read", where=path, why=error.strerror or "") from error


def _damaged(path: str, why: str) -> KubewrightError:
    return KubewrightError(
        "This is no snapshot that could be restored", where=path, why=why, remedy="Use another snapshot"
    )


def write_record(snapshot: Snapshot, path: str) -> None:
    """Write what was found beside a snapshot, whole and durable; the path inside is left to the reader."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        json.dump({key: value for key, value in asdict(snapshot).items() if key != "path"}, stream, indent=1)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_record(path: str) -> Snapshot | None:
    """Return what was found when the snapshot was verified; None for a file that was never."""
    try:
        with open(path + RECORD, encoding="utf-8") as stream:
            record: dict[str, Any] = json.load(stream)
        known = {key: record[key] for key in asdict(Snapshot("", 0, "")) if key in record}
        return replace(Snapshot(path="", size=0, sha256=""), **{**known, "path": path})
    except (OSError, ValueError, TypeError):
        return None


def snapshots(folder: str, prefix: str) -> list[Snapshot]:
    """Return the verified snapshots of a folder, oldest first. One whose size changed since is none."""
    pattern = re.compile(re.escape(prefix) + r"-\d{8}T\d{6}Z\.db$")
    try:
        names = sorted(name for name in os.listdir(folder) if pattern.match(name))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        path = os.path.join(folder, name)
        record = read_record(path)
        if record and record.saved_at and os.path.isfile(path) and _size(path) == record.size:
            found.append(record)
    return sorted(found, key=lambda one: one.saved_at)


def superfluous(kept: Iterable[Snapshot], *, keep: int, keep_days: float, now: float) -> list[Snapshot]:
    """Return what may go: neither among the newest *keep* nor younger than *keep_days*. Never the newest one.

    0 for either means that it keeps nothing by itself; 0 for both means that nothing is ever pruned.
    """
    if keep <= 0 and keep_days <= 0:
        return []
    ordered = sorted(kept, key=lambda one: one.saved_at)
    newest = ordered[len(ordered) - max(keep, 1) :] if ordered else []
    return [
        one for one in ordered if one not in newest and now - saved_time(one) >= max(0.0, keep_days) * 86400
    ]
