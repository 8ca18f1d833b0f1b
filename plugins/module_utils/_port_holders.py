# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens on TCP ports of this host, from /proc alone.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"
_TABLES = ("net/tcp", "net/tcp6")
_SERVICE = ".service"


@dataclass(frozen=True)
class Holder:
    """A process that listens. *unit* is its systemd service, empty for what runs in a pod or a session."""

    port: int
    pid: int
    program: str
    unit: str
    pod: bool


def holders(ports: Collection[int], proc: Path = Path("/proc")) -> list[Holder]:
    """Return who listens on these ports, on any address; each process once a port.

    A socket whose process cannot be found, because it lives in another PID namespace, has the pid 0.
    """
    inodes = {inode: port for inode, port in _listening(proc) if port in ports}
    if not inodes:
        return []
    found: dict[tuple[int, int], Holder] = {}
    seen = set()
    for pid, inode in _sockets(proc):
        if inode in inodes:
            seen.add(inode)
            found[inodes[inode], pid] = _holder(proc, inodes[inode], pid)
    for inode, port in inodes.items():
        if inode not in seen:
            found[port, 0] = Holder(port, 0, "", "", False)
    return [found[key] for key in sorted(found)]


def _listening(proc: Path) -> Iterator[tuple[str, int]]:
    for table in _TABLES:
        with contextlib.suppress(OSError):
            for line in (proc / "self" / table).read_text(encoding="ascii").splitlines()[1:]:
                row = line.split()
                if row[3] == _LISTEN:
                    yield row[9], int(row[1].rpartition(":")[2], 16)


def _sockets(proc: Path) -> Iterator[tuple[int, str]]:
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        # A process, or one of its files, may be gone by now.
        with contextlib.suppress(OSError):
            for entry in (folder / "fd").iterdir():
                with contextlib.suppress(OSError):
                    target = os.readlink(entry)
                    if target.startswith("socket:["):
                        yield int(folder.name), target[len("socket:[") : -1]


def _holder(proc: Path, port: int, pid: int) -> Holder:
    program = cgroups = ""
    with contextlib.suppress(OSError):
        program = (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
        cgroups = (proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
    paths = [line.split(":", 2)[2] for line in cgroups.splitlines() if line.count(":") >= 2]
    pod = any("kubepods" in path for path in paths)
    units = [part for path in paths for part in path.split("/") if part.endswith(_SERVICE)]
    return Holder(port, pid, program, units[-1] if units and not pod else "", pod)
