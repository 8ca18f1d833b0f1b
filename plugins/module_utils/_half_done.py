# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognise a host that kubeadm was interrupted on.

Before kubeadm is started, a note of what it is to make is left on the host; it goes when kubeadm has done it.
A note that is found therefore says whose the remains are: those of a kubeadm that this collection started,
which did not get to its end. It never says how far it came: that is read from the host and the cluster.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils import _run_log
from ansible_collections.kubewright.cluster.plugins.module_utils._durable import make_folder, sync

NOTE = "/var/lib/kubewright/kubeadm-began.json"

# The subcommands that make or unmake a node, or give it another version.
_LONG = ("init", "join", "reset", "upgrade")
_AUTHORITY_KEYS = ("ca.key", "front-proxy-ca.key", "etcd/ca.key")
# Those that kubeadm reset deletes, but for the kubelet's own: only kubeadm puts these there, for nobody else.
_KUBECONFIGS = ("admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf")


@dataclass(frozen=True)
class Began:
    """What kubeadm was started for, and whether the host had certificate authorities of its own before.

    ``role`` is that of kubeadm_node, or C(reset), of which the role kube_host leaves a note.
    """

    role: str
    own_authorities: bool = False


def read(root: Path = Path("/")) -> Began | None:
    """Return the note of a kubeadm that did not end; None where there is none."""
    try:
        content = json.loads((root / NOTE.lstrip("/")).read_text(encoding="utf-8"))
        return Began(str(content["role"]), bool(content["own_authorities"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        # Somebody else's file, or a torn one: there was a note, and the most careful reading is the right one.
        return Began("unknown", own_authorities=True)


def note(role: str, root: Path = Path("/")) -> None:
    """Leave the note, so that it survives a power failure that comes right after."""
    # What the host had before the first attempt is what counts.
    began = Began(role, read_own(root) if read(root) else bool(_authorities(root)))
    path = str(root / NOTE.lstrip("/"))
    with _run_log.step("write", NOTE):
        make_folder(os.path.dirname(path))
        new = f"{path}.new"
        with open(new, "w", encoding="utf-8") as file:
            json.dump(asdict(began), file)
        sync(new)
        os.replace(new, path)
        sync(os.path.dirname(path))


def read_own(root: Path) -> bool:
    """Return what the note says of the host's own certificate authorities."""
    began = read(root)
    return began.own_authorities if began else False


def _authorities(root: Path) -> list[str]:
    return _there(root, "/etc/kubernetes/pki", _AUTHORITY_KEYS)


def _there(root: Path, folder: str, names: Sequence[str]) -> list[str]:
    paths = (f"{folder}/{name}" for name in names)
    return [path for path in paths if (root / path.lstrip("/")).exists()]


def valuables(root: Path = Path("/")) -> list[str]:
    """Return what a reset deletes and nothing brings back: keys of authorities, and kubeconfigs."""
    return _authorities(root) + _there(root, "/etc/kubernetes", _KUBECONFIGS)


def forget(root: Path = Path("/")) -> None:
    """Take the note away: kubeadm has done what it was started for."""
    path = root / NOTE.lstrip("/")
    with _run_log.step("write", NOTE), contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync(str(path.parent))


def running(root: Path = Path("/")) -> list[int]:
    """Return the processes of a kubeadm that works on this host right now.

    A controller that is killed leaves them alone: kubeadm goes on without anybody who waits for it.
    """
    here = _namespace(root / "proc/self")
    found = []
    for process in (root / "proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue  # It has ended meanwhile.
        program = os.path.basename(words[0])
        if program == "kubeadm" and len(words) > 1 and words[1] in _LONG and _namespace(process) == here:
            found.append(int(process.name))
    return sorted(found)


def _namespace(process: Path) -> str:
    try:
        return os.readlink(process / "ns/pid")
    except OSError:
        return ""
