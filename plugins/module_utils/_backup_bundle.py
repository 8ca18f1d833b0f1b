# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a cluster: one file with a snapshot of etcd and what makes it usable, and its record beside it.

PRIVATE to the collection: this interface can change in any release.

    FOLDER/PREFIX-20261121T114500Z.tar        the backup; .tar.age and .tar.gpg when it is encrypted
    FOLDER/PREFIX-20261121T114500Z.tar.json   its record, which holds no secret; without it, it is no backup

    files/etc/kubernetes/pki/ca.key           inside: files of the host that saved, by their absolute paths
    documents/kubeadm-config.yaml             what the cluster said of itself
    snapshot.db.json                          the record of the snapshot, as _snapshot_files reads it
    snapshot.db                               the snapshot, verified before it was packed

An encrypted backup is read by nobody who does not have the private key, so that the record tells what is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import IO, Any, TypeVar

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import (
    RECORD,
    Snapshot,
    saved_time,
    superfluous,
    timestamp,
)

SNAPSHOT = "snapshot.db"
FILES = "files"
DOCUMENTS = "documents"
ENCRYPTIONS = ("", "age", "gpg")

_BLOCK = 1 << 20
# Those of the snapshot that say nothing once it is packed.
_NOT_TOLD = ("path",)

S = TypeVar("S")


@dataclass(frozen=True)
class Backup:
    """A backup whose record is there. `size` and `sha256` are of the file as it lies there, encrypted or not.

    `names` are the members of the archive, `host` is who saved it.
    """

    path: str
    size: int
    sha256: str
    encryption: str = ""
    host: str = ""
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(SNAPSHOT, 0, ""))
    names: tuple[str, ...] = ()

    @property
    def saved_at(self) -> str:
        """When the snapshot was saved, in UTC, as the name of the file has it."""
        return self.snapshot.saved_at


def name_at(prefix: str, now: float, encryption: str = "") -> str:
    """Return the file name of a backup that is saved at a time."""
    return f"{prefix}-{timestamp(now)}.tar{'.' + encryption if encryption else ''}"


def pattern(prefix: str) -> re.Pattern[str]:
    """Return what the names of the backups of a cluster match, and nothing else does."""
    return re.compile(re.escape(prefix) + r"-\d{8}T\d{6}Z\.tar(?:\.(?:age|gpg))?\Z")


def digests(paths: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of each file as it is now, before the snapshot that it has to fit."""
    return {path: hashlib.sha256(_content(path)[0]).hexdigest() for path in paths}


def pack(
    target: IO[bytes],
    snapshot: Snapshot,
    files: Mapping[str, str],
    documents: Mapping[str, bytes],
) -> list[str]:
    """Write an archive into a stream, which may be the input of a program that encrypts; return its names.

    *files* are paths with their digests. One that has changed since then is an error: with the keys of after a
    rotation nobody reads the Secrets of a snapshot from before it. Files are read whole before they are packed, the
    snapshot is not: memory does not grow with the database.
    """
    names = []
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path, before in sorted(files.items()):
            data, mode = _content(path)
            if hashlib.sha256(data).hexdigest() != before:
                raise KubewrightError(
                    "A file that belongs to the backup was changed while etcd was saved",
                    where=path,
                    why="the snapshot may need what was in it before",
                    remedy="Try again. What changes all the time cannot be one of the extra paths",
                )
            names.append(_add(tar, f"{FILES}/{path.lstrip('/')}", data, mode))
        for name, data in sorted(documents.items()):
            names.append(_add(tar, f"{DOCUMENTS}/{name}", data, 0o600))
        told = {key: value for key, value in asdict(snapshot).items() if key not in _NOT_TOLD}
        names.append(_add(tar, SNAPSHOT + RECORD, f"{json.dumps(told, indent=1)}\n".encode(), 0o600))
        with open(snapshot.path, "rb") as stream:
            member = _member(SNAPSHOT, os.fstat(stream.fileno()).st_size, 0o600)
            if member.size != snapshot.size:
                raise KubewrightError("The snapshot changed after it was verified", where=snapshot.path)
            tar.addfile(member, stream)
        names.append(SNAPSHOT)
    return names


def _content(path: str) -> tuple[bytes, int]:
    try:
        with open(path, "rb") as stream:
            return stream.read(), os.fstat(stream.fileno()).st_mode & 0o777
    except OSError as error:
        raise KubewrightError(
            "A file that belongs to the backup cannot be read",
            where=path,
            why=error.strerror or "",
            remedy="Without it the cluster could not be brought back from this backup",
        ) from error


def _member(name: str, size: int, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, mode, int(time.time())
    member.uname = member.gname = "root"
    return member


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> str:
    tar.addfile(_member(name, len(data), mode), io.BytesIO(data))
    return name


def write_record(backup: Backup, path: str) -> None:
    """Write the record of a backup, whole and durable. The folder is left to the reader, the name is not."""
    told = asdict(backup)
    told["file"] = os.path.basename(told.pop("path"))
    told["saved_at"] = backup.saved_at
    told["snapshot"] = {key: value for key, value in told["snapshot"].items() if key not in _NOT_TOLD}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        json.dump(told, stream, indent=1)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_record(path: str) -> Backup | None:
    """Return what is known of the backup at *path*; None where it has no record that could be read."""
    try:
        with open(path + RECORD, encoding="utf-8") as stream:
            return parse_record(json.load(stream), path)
    except (OSError, ValueError):
        return None


def parse_record(document: Any, path: str) -> Backup | None:
    """Read a record; None for what is none, or is that of another file."""
    try:
        if document["file"] != os.path.basename(path) or document["encryption"] not in ENCRYPTIONS:
            return None
        snapshot = _known(Snapshot(SNAPSHOT, 0, ""), {**document["snapshot"], "path": SNAPSHOT})
        empty = Backup(path, 0, "")
        backup = _known(empty, {**document, "path": path, "snapshot": snapshot})
        saved_time(snapshot)
        return replace(backup, size=int(backup.size), names=tuple(document.get("names") or ()))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _known(empty: S, values: Mapping[str, Any]) -> S:
    """Fill in what this version knows; a record of a newer one may say more."""
    known = {key: values[key] for key in vars(empty) if key in values}
    return type(empty)(**{**vars(empty), **known})


def backups(folder: str, prefix: str) -> list[Backup]:
    """Return the backups of a folder, oldest first: verified when they were made, and of the same size since."""
    wanted = pattern(prefix)
    try:
        names = sorted(name for name in os.listdir(folder) if wanted.match(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KubewrightError(
            "The backups cannot be listed", where=folder, why=error.strerror or ""
        ) from error
    found = []
    for name in names:
        path = os.path.join(folder, name)
        backup = read_record(path)
        if backup and os.path.isfile(path) and os.path.getsize(path) == backup.size:
            found.append(backup)
    return sorted(found, key=lambda one: one.saved_at)


def outdated(kept: Iterable[Backup], *, keep: int, keep_days: float, now: float) -> list[Backup]:
    """Return the backups that may go; never the newest one. The rules are those of snapshots."""
    by_path = {one.path: one for one in kept}
    stand_ins = [Snapshot(one.path, one.size, one.sha256, saved_at=one.saved_at) for one in by_path.values()]
    return [by_path[one.path] for one in superfluous(stand_ins, keep=keep, keep_days=keep_days, now=now)]


def digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    total = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as stream:
            while block := stream.read(_BLOCK):
                total.update(block)
    except OSError as error:
        raise KubewrightError("The backup cannot be read", where=path, why=error.strerror or "") from error
    return total.hexdigest()


def verify(path: str, record: Backup) -> None:
    """Compare a backup with its record, byte by byte; an error says that it is not what was saved."""
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise KubewrightError("The backup cannot be read", where=path, why=error.strerror or "") from error
    if size != record.size:
        raise _damaged(path, f"it has {size} bytes, and its record says {record.size}")
    found = digest(path)
    if found != record.sha256:
        raise _damaged(path, f"its SHA-256 is {found}, and its record says {record.sha256}")


def _damaged(path: str, why: str) -> KubewrightError:
    return KubewrightError("The backup is not what was saved", where=path, why=why, remedy="Use another one")


def inspect(path: str, record: Backup) -> None:
    """Read a backup that is not encrypted as a restore would, without writing anything."""
    total = hashlib.sha256()
    try:
        with open(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            names: list[str] = []
            for member in tar:
                _check_member(member, names, path)
                names.append(member.name)
                source = tar.extractfile(member)
                total = hashlib.sha256()
                while source and (block := source.read(_BLOCK)):
                    total.update(block)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if tuple(names) != record.names:
        raise _damaged(path, "its members are not those of its record")
    if total.hexdigest() != record.snapshot.sha256:
        raise _damaged(path, "the snapshot in it is not the one that was packed")


def unpack(path: str, folder: str) -> list[str]:
    """Unpack a backup that is not encrypted into a new folder; return the names."""
    try:
        with open(path, "rb") as stream:
            return unpack_stream(stream, folder, where=path)
    except OSError as error:
        raise KubewrightError(
            "The backup cannot be unpacked", where=str(error.filename or path), why=error.strerror or ""
        ) from error


def unpack_stream(stream: IO[bytes], folder: str, *, where: str = "the stream") -> list[str]:
    """Unpack what a program decrypts, for root only. Nothing but plain files with plain names is accepted.

    The snapshot has to be the one that its record in the archive tells of. What is refused leaves a folder to throw
    away, so that a new one should be given.
    """
    names: list[str] = []
    total = hashlib.sha256()
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                _check_member(member, names, where)
                place = os.path.join(folder, *member.name.split("/"))
                _make_folders(folder, member.name)
                source = tar.extractfile(member)
                if source is None:
                    raise _refused(member.name, where, "it has no content")
                total = hashlib.sha256()
                _write(source, place, member.mode & 0o755, total)
                names.append(member.name)
    except (tarfile.TarError, EOFError) as error:
        raise KubewrightError(
            "The backup cannot be unpacked",
            where=where,
            why=str(error),
            remedy="If it is encrypted, decrypt it first; otherwise use another one",
        ) from error
    # The snapshot is the last member: where it is missing, the archive was cut off.
    if not names or names[-1] != SNAPSHOT:
        raise _damaged(where, "it has no snapshot at its end")
    told = None
    with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, SNAPSHOT + RECORD)) as record:
        told = json.load(record).get("sha256")
    if total.hexdigest() != told:
        raise _damaged(where, "the snapshot in it is not the one that was packed")
    return names


def _check_member(member: tarfile.TarInfo, names: list[str], where: str) -> None:
    parts = member.name.split("/")
    if member.name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in member.name:
        raise _refused(member.name, where, "its name leads out of the folder")
    # As a sparse file a small archive could fill any disk; pack() makes none.
    if not member.isreg() or member.issparse():
        raise _refused(member.name, where, "it is no plain file")
    if member.name in names:
        raise _refused(member.name, where, "another member has its name")
    if parts[0] not in (FILES, DOCUMENTS) and member.name not in (SNAPSHOT, SNAPSHOT + RECORD):
        raise _refused(member.name, where, "a backup has no such member")


def _refused(name: str, where: str, why: str) -> KubewrightError:
    return KubewrightError(
        "The backup is refused", where=f"member {name!r} of {where}", why=why, remedy="Use another one"
    )


def _make_folders(folder: str, name: str) -> None:
    for part in name.split("/")[:-1]:
        folder = os.path.join(folder, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def _write(source: IO[bytes], path: str, mode: int, total: Any) -> None:
    # Never over what is there, nor through a link.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as target:
        while block := source.read(_BLOCK):
            total.update(block)
            target.write(block)
        target.flush()
        os.fchmod(target.fileno(), mode)
        os.fsync(target.fileno())
