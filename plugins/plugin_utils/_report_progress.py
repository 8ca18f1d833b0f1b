# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what goes on while a task takes long: phase, host, how long it has taken, and how long it usually takes.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import LONG, Busy
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_words import duration, some

# Seconds between two looks.
_LOOK = 1.0
# What takes that many times its usual time is called slow.
_SLOW = 1.5


def lines(busy: Iterable[Busy], usual: Callable[[str], float], elapsed: float, every: float) -> Iterator[str]:
    """Return a line for each task that hosts have been at for *every* seconds, with those hosts together."""
    tasks: dict[tuple[str, str], list[Busy]] = {}
    for one in busy:
        if one.seconds >= every:
            tasks.setdefault((one.phase, one.task), []).append(one)
    for (phase, task), found in tasks.items():
        seconds, tries = max(one.seconds for one in found), max(one.tries for one in found)
        hosts = some(sorted(one.host for one in found))
        looked = f", looked {tries} times" if tries > 1 else ""
        yield (
            f"[{duration(elapsed)}] {phase} | {hosts}: {task} | {duration(int(seconds))}{looked}"
            f"{_expected(seconds, usual(task))}"
        )


def _expected(seconds: float, usual: float) -> str:
    if usual < LONG:
        return ""
    return f", {'slow: ' if seconds > usual * _SLOW else ''}usually {duration(max(1, round(usual)))}"


class Progress:
    """Says so from time to time, in a thread of its own.

    The thread only reads and says: it opens no file and imports nothing, so that a worker that is forked meanwhile
    inherits no lock of it but those that Ansible's own display looks after.
    """

    def __init__(
        self, every: float, look: Callable[[float], Iterable[str]], say: Callable[[str], None]
    ) -> None:
        """*look* returns the lines for tasks that have taken some seconds or more; *say* prints one."""
        self._every = every
        self._look = look
        self._say = say
        self._over = threading.Event()
        self._due = 0.0
        self._thread = threading.Thread(target=self._run, name="kubewright-progress", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def moved(self) -> None:
        """Wait anew: something was said just now."""
        self._due = time.monotonic() + self._every

    def stop(self) -> None:
        """Say nothing from here on."""
        self._over.set()
        self._thread.join(_LOOK)

    def _run(self) -> None:
        while not self._over.wait(_LOOK):
            if time.monotonic() >= self._due:
                found = list(self._look(self._every))
                for line in found:
                    self._say(line)
                if found:
                    self.moved()
