# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of a backup on other hosts over SSH, verified where they lie.

PRIVATE to the collection: this interface can change in any release.

The other side needs a shell, sha256sum and what every system has, and nothing of ours. A copy has another name until
its sum was compared there, and its record comes before its name, as at home.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from ansible_collections.kubewright.cluster.plugins.module_utils._backup_bundle import Backup, pattern
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import search_path
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import (
    RECORD,
    Snapshot,
    saved_time,
    superfluous,
)

PART = ".part"
# Seconds after which a half copy was left by somebody who died.
_STALE = 86400


@dataclass(frozen=True)
class Target:
    """Where copies go; `keep` and `keep_days` are for what lies there."""

    host: str
    folder: str
    user: str = "root"
    port: int = 22
    keep: int = 0
    keep_days: float = 0

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.folder}"


@dataclass(frozen=True)
class Access:
    """Our key, and the keys of the other hosts: nobody else is believed."""

    key: str
    known_hosts: str


def ssh(target: Target, access: Access, command: str) -> list[str]:
    """Return the command line that runs a shell command there. No setting of the host's own plays a part."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": access.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityFile": access.key,
        "ConnectTimeout": "10",
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
        "LogLevel": "ERROR",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return [
        "ssh",
        "-F",
        "/dev/null",
        *words,
        "-p",
        str(target.port),
        f"{target.user}@{target.host}",
        "--",
        command,
    ]


def put_command(folder: str, name: str) -> str:
    """Take a file from the input and print its sum as it lies on the disk."""
    part = shlex.quote(f".{name}{PART}")
    return (
        f"umask 077 && mkdir -p -- {shlex.quote(folder)} && cd -- {shlex.quote(folder)} && rm -f -- {part} "
        f"&& cat > {part} && sync && sha256sum < {part}"
    )


def finish_command(folder: str, name: str) -> str:
    """Take the record from the input, give both their names, and list what is there."""
    part, record = shlex.quote(f".{name}{PART}"), shlex.quote(f".{name}{RECORD}{PART}")
    return (
        f"umask 077 && cd -- {shlex.quote(folder)} && cat > {record} && mv -f -- {record} {shlex.quote(name + RECORD)} "
        f"&& mv -f -- {part} {shlex.quote(name)} && sync && ls -1A"
    )


def remove_command(folder: str, names: Iterable[str]) -> str:
    """Remove files there."""
    return f"cd -- {shlex.quote(folder)} && rm -f -- {' '.join(shlex.quote(name) for name in names)}"


def superfluous_names(
    listed: Iterable[str], prefix: str, *, keep: int, keep_days: float, now: float
) -> list[str]:
    """Return what may go from a folder: backups that have a record, and halves that nobody finishes any more."""
    names = set(listed)
    backup = pattern(prefix)
    there = [
        Snapshot(name, 0, "", saved_at=_time(name, prefix))
        for name in sorted(names)
        if backup.match(name) and name + RECORD in names
    ]
    gone = [one.path for one in superfluous(there, keep=keep, keep_days=keep_days, now=now)]
    # The file before its record, so that nothing without a record is left to look like a backup.
    return [name for one in gone for name in (one, one + RECORD)] + stale_halves(names, prefix, now=now)


def stale_halves(listed: Iterable[str], prefix: str, *, now: float) -> list[str]:
    """Return what a copy that was killed left in a folder, and nobody finishes any more."""
    gone = []
    for half in sorted(name for name in listed if name.startswith(".") and name.endswith(PART)):
        whole = half[1 : -len(PART)]
        whole = whole[: -len(RECORD)] if whole.endswith(RECORD) else whole
        if (
            pattern(prefix).match(whole)
            and now - saved_time(Snapshot("", 0, "", saved_at=_time(whole, prefix))) > _STALE
        ):
            gone.append(half)
    return gone


def _time(name: str, prefix: str) -> str:
    return name[len(prefix) + 1 :].split(".", 1)[0]


def copy(backup: Backup, prefix: str, target: Target, access: Access, deadline: Deadline) -> list[str]:
    """Bring a backup to a target, and return what was removed there because it is too old."""
    name = os.path.basename(backup.path)
    with open(backup.path, "rb") as stream:
        said = _run(target, access, put_command(target.folder, name), stream, deadline)
    found = (said.split() or [""])[0]
    if found != backup.sha256:
        raise KubewrightError(
            "The copy of the backup is not what was sent",
            where=str(target),
            why=f"its SHA-256 there is {found or 'unknown'}, not {backup.sha256}",
            remedy="Look at the disk of that host; the copy has not got its name there",
        )
    with open(backup.path + RECORD, "rb") as stream:
        listed = _run(target, access, finish_command(target.folder, name), stream, deadline).splitlines()
    gone = superfluous_names(listed, prefix, keep=target.keep, keep_days=target.keep_days, now=time.time())
    if gone:
        _run(target, access, remove_command(target.folder, gone), None, deadline)
    return gone


def _run(target: Target, access: Access, command: str, stdin: IO[bytes] | None, deadline: Deadline) -> str:
    try:
        done = subprocess.run(
            ssh(target, access, command),
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            timeout=max(1.0, deadline.remaining()),
            env={**os.environ, "LC_ALL": "C", "PATH": search_path()},
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(target, f"it took longer than {deadline.seconds:g} seconds") from error
    except OSError as error:
        raise _failed(target, f"ssh cannot be started: {error.strerror}") from error
    if done.returncode:
        raise _failed(target, done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace")


_REMEDIES = {
    "Host key verification failed": "Its key is not the one in host_keys: find out why before you change that",
    "host key is known": "Its key is not the one in host_keys: find out why before you change that",
    "Permission denied": "Let that user accept the public key of this host, which backup.yml shows",
    "No space left": "Free some space there, or keep fewer copies",
    "Disk quota exceeded": "Free some space there, or keep fewer copies",
    "Read-only file system": "Choose a folder there that can be written to",
}


def _failed(target: Target, said: str) -> KubewrightError:
    lines = [line.strip() for line in said.splitlines() if line.strip().strip("@")]
    known = [(line, _REMEDIES[sign]) for line in lines for sign in _REMEDIES if sign in line]
    why, remedy = (
        known[-1] if known else (lines[-1] if lines else "ssh said nothing", "Try it by hand from this host")
    )
    if "Permission denied (" not in why and "Permission denied" in why:
        remedy = "Let that user write to the folder there"
    return KubewrightError("The backup cannot be copied", where=str(target), why=why, remedy=remedy)
