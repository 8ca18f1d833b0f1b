# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program beside the module, which watches it or talks to it meanwhile.

PRIVATE to the collection: this interface can change in any release.

The kernel ends the program when the module ends, however that comes: what a killed module leaves behind is dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import step
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import NOT_STARTED

_PR_SET_PDEATHSIG = 1
# Seconds that a program has to end by itself before it is killed.
_GRACE = 10

# What is kept of its words: the last.
_WORDS = 65536


class Background:
    """A program that was started. What it says is kept in memory: the disk may be what it complains of."""

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self._process = process
        self._output = output

    @property
    def rc(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, but no longer than *seconds*."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def said(self) -> str:
        """Return what it said last."""
        size = os.fstat(self._output).st_size
        return os.pread(self._output, _WORDS, max(0, size - _WORDS)).decode("utf-8", "replace").strip()


@contextlib.contextmanager
def background(argv: list[str], *, env: dict[str, str], cwd: str = "/") -> Iterator[Background]:
    """Start *argv*; it is ended when the block ends. *env* is all it gets."""
    libc = ctypes.CDLL(None)

    def end_with_the_module() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    descriptor = os.memfd_create("output")
    try:
        with step("run", argv) as running:
            process = _start(argv, descriptor, env, cwd, end_with_the_module)
            try:
                yield Background(process, descriptor)
            finally:
                _end(process)
                running.rc = process.returncode
    finally:
        os.close(descriptor)


def _start(
    argv: list[str], output: int, env: dict[str, str], cwd: str, first: Callable[[], None]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
            # Modules have one thread only, so that nothing can hold a lock between fork and exec.
            preexec_fn=first,  # noqa: PLW1509
        )
    except OSError as error:
        raise CommandError(
            f"{argv[0]} cannot be started",
            cmd=argv,
            rc=NOT_STARTED,
            why=error.strerror or str(error),
            remedy=f"Install {argv[0].rsplit('/', 1)[-1]} on this host, or name the path where it is",
        ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
