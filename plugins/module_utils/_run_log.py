# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run log: what this collection did on a host, one JSON object a line.

A step is everything that can leave something behind: a program that is not only asked something, a write to
the Kubernetes API, a file that gets its name. Each step has a line when it begins and one when it ends, so
that a step that was cut off is the one without an end.

The log serves people. What a run does is never decided from it, and a log that cannot be written stops
nothing.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

FOLDER = "/var/log/kubewright"
NAME = "steps.log"
# Bytes. One older log is kept beside the newest.
LIMIT = 4 << 20

MASK = "********"

# Bootstrap tokens ("abcdef.0123456789abcdef") and certificate keys (32 bytes in hex), wherever they stand.
_SECRET = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b|(?<!sha256:)\b[0-9a-f]{64}\b")

# Options whose value is a secret. "--key=/path" is none: it names a file. "--no-ask-password" has no value.
_SECRET_OPTION = re.compile(
    r"--?(?!-|no-|ask-|skip-)[a-z-]*(?:token|password|passwd|secret|certificate-key|creds)"
)


def redact(text: str) -> str:
    """Return a text without bootstrap tokens and certificate keys."""
    return _SECRET.sub(MASK, text)


def public(argv: list[str]) -> list[str]:
    """Return a command line with its secrets masked."""
    shown: list[str] = []
    mask_next = False
    for word in argv:
        option, equals, _value = word.partition("=")
        secret = bool(_SECRET_OPTION.fullmatch(option))
        if mask_next and not word.startswith("-"):
            shown.append(MASK)
        else:
            shown.append(f"{option}={MASK}" if secret and equals else redact(word))
        mask_next = secret and not equals
    return shown


class Step:
    """One step that has begun; `rc` is the exit code or the status of the answer, where there is one."""

    def __init__(self) -> None:
        self.rc: int | None = None


@contextlib.contextmanager
def step(kind: str, what: str | list[str]) -> Iterator[Step]:
    """Log the beginning and the end of a step.

    *kind* is ``run`` for a program (*what* is its argv), ``api`` for a write to the Kubernetes API, and
    ``write`` for a file, link or folder.
    """
    running = Step()
    shown = public(what) if isinstance(what, list) else redact(what)
    begun = time.monotonic()
    identity = {"pid": os.getpid(), "by": _module(), kind: shown}
    _append({"time": _now(), **identity, "state": "begin"})
    failed = True
    try:
        yield running
        failed = False
    finally:
        end: dict[str, Any] = {"state": "end", "seconds": round(time.monotonic() - begun, 3)}
        if running.rc is not None:
            end["rc"] = running.rc
        if failed:
            end["failed"] = True
        _append({"time": _now(), **identity, **end})


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _module() -> str:
    """Return the name of the module that runs; Ansible starts it as __main__ under its full name."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name.rpartition(".")[2] if spec else ""


def _append(line: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.makedirs(FOLDER, mode=0o700, exist_ok=True)
        data = (json.dumps(line) + "\n").encode()
        # Whoever holds the folder's lock may rotate; a module that is killed gives it back.
        lock = os.open(FOLDER, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _write(os.path.join(FOLDER, NAME), data)
        finally:
            os.close(lock)


def _write(path: str, data: bytes) -> None:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(log).st_size + len(data) > LIMIT:
            os.replace(path, f"{path}.1")
            os.close(log)
            log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.write(log, data)
    finally:
        os.close(log)
