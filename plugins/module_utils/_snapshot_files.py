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
import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
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
    size = _size(path)
    if size < _PAGE + _SUM or size % _PAGE != _SUM:
        raise _damaged(
            path, f"{size} bytes are no database with a sum at its end: it is cut off, or no snapshot"
        )
    content, whole = hashlib.sha256(), hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        rest = size - _SUM
        buffer = memoryview(bytearray(_BLOCK))
        while rest:
            count = stream.readinto(buffer[: min(rest, _BLOCK)])
            if not count:
                raise _damaged(path, "it became shorter while it was read")
            content.update(buffer[:count])
            whole.update(buffer[:count])
            rest -= count
        expected = stream.read(_SUM)
    if content.digest() != expected:
        raise _damaged(path, "its content does not match the sum at its end")
    whole.update(expected)
    return whole.hexdigest()


def inspect(path: str, runner: Runner, etcdutl: str, timeout: float) -> Snapshot:
    """Verify a snapshot completely: the sum, and every page of the database, by etcdutl."""
    sha256 = check_sum(path)
    argv = [etcdutl, "snapshot", "status", path, "--write-out=json"]
    try:
        status = runner.json(argv, timeout=timeout)
        return Snapshot(
            path=path,
            size=_size(path),
            sha256=sha256,
            hash=format(int(status["hash"]), "x"),
            revision=int(status["revision"]),
            total_keys=int(status["totalKey"]),
            # etcd 3.5 knows no storage version.
            storage_version=status.get("version") or "",
        )
    except (CommandError, KeyError, ValueError) as error:
        if isinstance(error, CommandError) and error.rc == NOT_STARTED:
            raise
        raise _damaged(
            path, f"etcdutl cannot read its database: {getattr(error, 'why', '') or error}"
        ) from error


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
