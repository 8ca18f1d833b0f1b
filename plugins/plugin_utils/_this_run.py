# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name a process of this controller so that a later one can tell whether it is gone.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
# Fields of /proc/PID/stat, counted from the one after the name.
_STATE, _STARTED = 0, 19
_ZOMBIE = "Z"


def name(pid: int, proc: Path = _PROC) -> str:
    """Return machine, pid namespace, process and when it was started. Without /proc two of them are empty."""
    return "/".join((*_place(proc), str(pid), _started(pid, proc)))


def who(variables: Mapping[str, Any]) -> str:
    """Return who runs this: a job of AWX, or a person at a machine."""
    job = variables.get("awx_job_id") or variables.get("tower_job_id")
    if job:
        return f"job {job} of AWX"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container may run with a user id that nobody has named.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def is_here(run: str, proc: Path = _PROC) -> bool:
    """Tell whether a process was started on this machine and in this container, so that is_gone can know."""
    return tuple(run.split("/")[:2]) == _place(proc)


def is_gone(run: str, proc: Path = _PROC) -> bool:
    """Tell whether a process that was started here has ended; one of another machine or container may be there."""
    words = run.split("/")
    if len(words) != 4 or not is_here(run, proc) or not words[2].isdigit():
        return False
    pid, started = int(words[2]), words[3]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # The number may be another process's by now, or its parent may not have asked yet how it ended.
    return bool(started) and (_started(pid, proc) != started or _field(pid, proc, _STATE) == _ZOMBIE)


def _place(proc: Path) -> tuple[str, str]:
    """Containers have the same kernel, and numbers of processes of their own."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return boot, str((proc / "self/ns/pid").stat().st_ino)
    except OSError:
        return socket.gethostname(), ""


def _started(pid: int, proc: Path) -> str:
    return _field(pid, proc, _STARTED)


def _field(pid: int, proc: Path, number: int) -> str:
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[number]
