# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the data folder of an etcd member holds, seen without opening it as etcd does.

PRIVATE to the collection: this interface can change in any release.

    DATA/member                          what etcd uses: snap/db is the database, wal the log of raft
    DATA/member/kubewright-restore.json  what it was restored from; it gets its name together with the folder
    DATA/.restoring                      a restore that is under way, or that was killed
    DATA/before-restore-TIME/member      what was there before a restore; never deleted
    DATA/before-replacement-TIME/member  what a member had before it began anew; never deleted
    DATA/removed-TIME                    what a member had that was removed (role etcd_cluster)
    DATA/.kubewright-new-cluster         a new cluster that was begun (role etcd_cluster)
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_database import Database

MEMBER = "member"
MARKER = "kubewright-restore.json"
WORK = ".restoring"
ASIDE = "before-restore-"
REPLACED = "before-replacement-"
# What an etcd has no use for and nobody else needs either; a new file system brings lost+found.
_HARMLESS = rf"lost\+found|{re.escape(WORK)}|(?:{ASIDE}|{REPLACED}|removed-)\d{{8}}T\d{{6}}Z"
_KNOWN = re.compile(rf"({MEMBER}|\.kubewright-new-cluster|{_HARMLESS})$")
# What etcd never needs again: a segment that it laid down, and what it was receiving or writing.
_PASSING = re.compile(r"(tmp[.\d]*|\.snap\.db|\.broken)$")


@dataclass(frozen=True)
class DataFolder:
    """What was found; the fields are documented in etcd_snapshot_info."""

    has_data: bool
    in_use: bool
    size: int
    revision: int | None
    cluster_version: str | None
    restored: dict[str, Any]
    written_since_restore: bool | None
    aside: list[str]
    foreign: list[str]
    error: str = ""


def look(data_dir: str) -> DataFolder:
    """Look into a data folder; a process that uses it is not disturbed."""
    names = _names(data_dir)
    folder = os.path.join(data_dir, MEMBER)
    database = os.path.join(folder, "snap", "db")
    marker = read_marker(folder)
    found = DataFolder(
        has_data=os.path.isdir(folder) and bool(os.listdir(folder)),
        in_use=is_locked(database),
        size=sum(size for _name, size, _changed in files(folder)),
        revision=None,
        cluster_version=None,
        restored=marker,
        written_since_restore=None,
        aside=[os.path.join(data_dir, name) for name in names if name.startswith(ASIDE)],
        foreign=[name for name in names if not _KNOWN.match(name)],
    )
    if found.in_use or not os.path.isfile(database):
        return found
    restored = restored_at(marker)
    try:
        with Database(database) as opened:
            return replace(
                found,
                revision=opened.revision(),
                cluster_version=opened.cluster_version(),
                written_since_restore=None if restored is None else opened.written_after(restored),
            )
    except KubewrightError as error:
        # It may be on its way to be moved aside: what cannot be read is no reason to stop.
        return replace(found, error=error.why)


def _names(data_dir: str) -> list[str]:
    try:
        return sorted(os.listdir(data_dir))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KubewrightError(
            "The data folder cannot be read", where=data_dir, why=error.strerror or ""
        ) from error


def holds_only_asides(data_dir: str) -> bool:
    """Tell whether a new member can have the folder although it is not empty."""
    names = _names(data_dir)
    return bool(names) and all(re.fullmatch(_HARMLESS, name) for name in names)


def files(folder: str) -> Iterator[tuple[str, int, int]]:
    """Return what a copy of the data needs: the name below the folder, its size, and when it changed."""
    for path, _folders, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            status = os.lstat(full)
            if not _PASSING.search(name):
                yield os.path.relpath(full, folder), status.st_size, status.st_mtime_ns


def read_marker(folder: str) -> dict[str, Any]:
    """Return what a restore noted in the folder that it made, nothing for other data."""
    try:
        with open(os.path.join(folder, MARKER), encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def restored_at(marker: dict[str, Any]) -> int | None:
    """Return the revision that a restore gave to the data, None where none made it."""
    revision = marker.get("revision")
    return revision if isinstance(revision, int) else None


def is_locked(database: str) -> bool:
    """bbolt holds a lock on its file as long as a process has it open for writing."""
    try:
        descriptor = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return True
        raise
    finally:
        os.close(descriptor)
    return False
