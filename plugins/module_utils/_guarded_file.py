# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace a file that something runs by, see it work, and put the old one back if it does not.

The old file is kept under ``undo`` before anything is replaced. It moves to ``previous`` when the new one is
proven, and back to its place when it fails. A run that is stopped in between leaves it under ``undo``: the
next run sees from that that the file in place was never proven. What was put in place is noted by its digest under
``attempts``: when a file is there that is neither that nor the old one, an upgrade or a new join wrote it since,
and the way back leads nowhere.

A module outlives the controller that is interrupted, so the run before may still be at it: `alone` waits for it.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import make_folder, sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import step

STATE = Path("/var/lib/kubewright/settings")

# The kubelet passes over names that begin with a dot.
_TEMPORARY = ".kubewright-"


class Unproven(KubewrightError):
    """What runs by the new file does not work."""


@contextlib.contextmanager
def alone(deadline: Deadline, state: Path, *, make: bool) -> Iterator[None]:
    """Wait for any other run that replaces files of this host, and keep the next ones out.

    The kernel takes the lock back when the process ends, however that comes. With *make* false a folder that is
    missing is not made: nothing was ever replaced here, and the caller replaces nothing.
    """
    if make:
        make_folder(str(state))
    with contextlib.ExitStack() as stack:
        if state.is_dir():
            descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            wait_for(
                lambda: _lock(descriptor, state), deadline, what="the run before to be done with this host"
            )
        yield


def _lock(descriptor: int, state: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise KubewrightError(
            "Another process moves this host to its settings",
            where=str(state),
            why="a module goes on when its controller is interrupted, until what it tries works or is put back",
            remedy="Let it end, then run again",
            transient=True,
        ) from error
    return True


class GuardedFile:
    """One file that is replaced with a way back. It keeps its mode: who may read it is not decided here."""

    def __init__(self, path: Path, state: Path = STATE) -> None:
        self.path = path
        self.previous = state / "previous" / path.name
        self._undo = state / "undo" / path.name
        self._attempts = state / "attempts" / path.name

    @property
    def unproven(self) -> bool:
        """Tell whether an earlier run was stopped before it knew whether the file in place works."""
        return self.in_doubt or (self._undo.exists() and self._here() == self._undo.read_bytes())

    @property
    def in_doubt(self) -> bool:
        """Tell whether what is in place now is what such a run tried, and not the old file."""
        here = self._here()
        return self._undo.exists() and here != self._undo.read_bytes() and _digest(here) in self._attempted()

    def replace(self, content: str, prove: Callable[[], None], restore: Callable[[], None]) -> None:
        """Put *content* in place and call *prove*; if that raises, put the old content back and call *restore*.

        The old content is the last proven one: a second attempt does not overwrite it by the first's.
        """
        unproven = self.unproven
        self._note((self._attempted() if unproven else []) + [_digest(content.encode())])
        if not unproven:
            self._keep()
        self._write(content.encode())
        self.prove(prove, restore)

    def prove(self, prove: Callable[[], None], restore: Callable[[], None]) -> None:
        """See the file in place work, or put the old one back and fail."""
        try:
            prove()
        except KubewrightError as error:
            self._put_back(error, restore)
            raise
        _make_private(self.previous.parent)
        os.replace(self._undo, self.previous)
        sync(str(self.previous.parent))
        self._attempts.unlink(missing_ok=True)

    def _here(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def _write(self, content: bytes) -> None:
        write_file(self.path, content, stat.S_IMODE(self.path.stat().st_mode))

    def _keep(self) -> None:
        _make_private(self._undo.parent)
        write_file(self._undo, self.path.read_bytes(), 0o600)

    def _attempted(self) -> list[str]:
        """Return the digests of what was put in place since the old file."""
        try:
            return self._attempts.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    def _note(self, digests: list[str]) -> None:
        _make_private(self._attempts.parent)
        write_file(self._attempts, "".join(f"{one}\n" for one in digests).encode(), 0o600)

    def _put_back(self, error: KubewrightError, restore: Callable[[], None]) -> None:
        self._write(self._undo.read_bytes())
        try:
            restore()
        except KubewrightError as second:
            error.facts["rolled_back"] = False
            error.remedy = (
                f"The old file was put back to {self.path}, but that does not work either: {second} "
                "Look at this host before anything else"
            )
            return
        self._undo.unlink()
        self._attempts.unlink(missing_ok=True)
        error.facts["rolled_back"] = True
        error.remedy = (
            f"The old {self.path} is back in place and works, and the hosts that come after this one were not "
            "touched. Correct the settings and run again"
        )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that a reader finds the old content or the new one, owned by the user who runs this."""
    descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        with step("write", str(path)):
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync(str(path.parent))


def _make_private(folder: Path) -> None:
    make_folder(str(folder))
    # A kubelet's configuration or a manifest can hold what only root should read.
    os.chmod(folder, 0o700)
