# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch a backup to the controller: piece by piece, verified, with its record, and thin out what lies there.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field, replace
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._backup_bundle import (
    Backup,
    backups,
    outdated,
    parse_record,
    read_record,
    verify,
    write_record,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._backup_copy import PART, stale_halves
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import RECORD

# Bytes that cross at a time, in base64 and in the memory of both sides.
PIECE = 4 << 20

# Path, which piece of PIECE bytes -> its content, empty behind the end.
Read = Callable[[str, int], bytes]


@dataclass
class Fetched:
    """Where the backup is now. `pruned` went from there because it was too old."""

    path: str
    changed: bool
    pruned: list[str] = field(default_factory=list)


def fetch(read: Read, path: str, folder: str, *, check_mode: bool = False) -> Fetched:
    """Bring the backup at *path* of a host into a folder. One that is there and whole is left alone."""
    record = _record(read, path)
    final = os.path.join(folder, os.path.basename(path))
    if _is_there(final, record):
        return Fetched(final, False)
    if check_mode:
        return Fetched(final, True)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _fill(read, path, record, final)
    except OSError as error:
        raise KubewrightError(
            "The backup cannot be kept on the controller",
            where=str(error.filename or folder),
            why=error.strerror or str(error),
            remedy="Make room there, or give another etcd_backup_fetch_to; the backup is on its host all the same",
        ) from error
    return Fetched(final, True)


def prune(folder: str, prefix: str, *, keep: int, keep_days: float, now: float | None = None) -> list[str]:
    """Remove what is too old, and what a fetch that was killed left; return the backups among it.

    The file goes first, so that none without its record is left to look like a backup.
    """
    moment = time.time() if now is None else now
    gone = [one.path for one in outdated(backups(folder, prefix), keep=keep, keep_days=keep_days, now=moment)]
    halves = [os.path.join(folder, name) for name in stale_halves(os.listdir(folder), prefix, now=moment)]
    for name in [*(path + end for path in gone for end in ("", RECORD)), *halves]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    return gone


def _record(read: Read, path: str) -> Backup:
    try:
        record = parse_record(json.loads(read(path + RECORD, 0)), path)
    except ValueError:
        record = None
    if record is None:
        raise KubewrightError(
            "There is no backup to fetch", where=path, why="its record is missing, or that of another file"
        )
    return record


def _is_there(final: str, record: Backup) -> bool:
    known = read_record(final)
    if known is None or known.sha256 != record.sha256:
        return False
    try:
        verify(final, record)
    except KubewrightError:
        return False
    return True


def _fill(read: Read, path: str, record: Backup, final: str) -> None:
    hidden = os.path.join(os.path.dirname(final), f".{os.path.basename(final)}")
    part, record_part = hidden + PART, hidden + RECORD + PART
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as target:
            for number in range(record.size // PIECE + 1):
                target.write(read(path, number))
            target.flush()
            os.fsync(target.fileno())
        verify(part, record)
        write_record(replace(record, path=final), record_part)
        # The record first: a backup that has its name has its record.
        os.replace(record_part, final + RECORD)
        os.replace(part, final)
    finally:
        for leftover in (part, record_part):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(leftover)
