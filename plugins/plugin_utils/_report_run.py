# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports one run: records it, asks the API meanwhile, says what takes long, and keeps the page up to date.

The page is written when the run begins, again and again while it works, and at its end. So a run that is killed leaves
one too: it says that the run works, and the next run that finds it says that it does not any more.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from threading import Lock
from typing import Any, Callable, Union

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._report_files import name as file_name
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _report_summary, _this_run
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_page import page_title, render
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_place import Folder, Host
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_probe import PATIENCE, Probe
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_progress import Progress, lines
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import (
    CUT_OFF,
    DONE,
    FAILED,
    Record,
    Task,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_settings import Settings
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_words import day, moment, stamp

# Seconds. A run that has not written its page for so long is taken for one that was cut off, wherever it ran.
_SILENT = 3600.0
_ENDPOINT = re.compile(r"[^\s/]+:\d+")

Place = Union[Folder, Host, None]


class Run:
    """One run. Its methods may be called from the threads of Ansible."""

    def __init__(
        self, about: Mapping[str, Any], say: Callable[[str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._say = say
        self._clock = clock
        self._lock = Lock()
        self._record = Record(about, clock())
        self._settings = Settings()
        self._place: Place = None
        self._name = ""
        self._path = ""
        self._untold: list[dict[str, Any]] = []
        self._usual: dict[str, float] = {}
        self._written = 0.0
        self._api: dict[str, Any] = {}
        self._probe: Probe | None = None
        self._progress: Progress | None = None
        self.settled = False

    def settle(self, settings: Settings, secrets: set[str], about: Mapping[str, Any], place: Place) -> None:
        """Begin for good, now that the variables are known."""
        self.settled = True
        self._settings, self._place = settings, place
        with self._lock:
            self._record.secrets = secrets
            self._record.about.update(about)
        about = self._record.about
        self._name = file_name(about["cluster"], about["operation"], stamp(self._record.began))
        if settings.progress_seconds > 0:
            self._progress = Progress(settings.progress_seconds, self._slow, self._say)
            self._progress.start()
        self._write()
        if self._place and self._path:
            self._look_back(self._place)

    def phase(self, name: str, play: Any, passwords: Mapping[str, Any]) -> None:
        """A play begins. No task is at work now."""
        with self._lock:
            self._record.phase(name, self._clock())
        if self._place:
            self._place.use(play, passwords)
            if self.settled:
                self._write_if_due()

    def begins(self, host: str, task: Task) -> None:
        """A task begins for a host."""
        with self._lock:
            self._record.begins(host, task, self._clock())

    def tries(self, host: str, number: int) -> None:
        """A condition was looked at, and is looked at again."""
        with self._lock:
            self._record.tries(host, number)
        if self._progress:
            # Ansible has said so itself.
            self._progress.moved()

    def ends(self, host: str, task: Task, state: str, *, why: str = "", on: str = "") -> None:
        """A task has ended for a host."""
        with self._lock:
            self._record.ends(host, task, state, self._clock(), why=why, on=on)
        if isinstance(self._place, Folder):
            self._write_if_due()

    def says(self, host: str, task: str, said: list[str]) -> None:
        """The run has told people something."""
        with self._lock:
            self._record.says(host, task, said, self._clock())

    def sees(self, source: str, observed: Mapping[str, Any]) -> None:
        """The run has observed the cluster. Where its API is, is known from now on."""
        with self._lock:
            self._record.sees(source, observed)
        where = str(observed.get("endpoint") or "")
        asks = self._path and self._settings.probe_seconds > 0
        if asks and not self._probe and observed.get("answers") and _ENDPOINT.fullmatch(where):
            self._probe = Probe(where, self._settings.probe_seconds)

    def summary(self, *, last: bool) -> dict[str, Any]:
        """Return what a workflow is told."""
        return _report_summary.summary(self._data(patience=PATIENCE if last else 0), self._path, last=last)

    def ended(self, lost: Mapping[str, str]) -> None:
        """The run has come to its end; *lost* are the hosts that it lost."""
        self._end(FAILED if lost else DONE, lost)

    def abandoned(self) -> None:
        """The run ends now, before its end. Nothing can be brought to a host any more."""
        if isinstance(self._place, Host):
            self._place = None
        self._end(CUT_OFF, None)

    def _end(self, state: str, lost: Mapping[str, str] | None) -> None:
        if self._progress:
            self._progress.stop()
        with self._lock:
            if state == CUT_OFF:
                self._record.state = state
            else:
                self._record.ends_all(state, self._clock(), lost)
        self._write(patience=PATIENCE)
        if self._probe:
            self._probe.end()
        if self._path:
            self._say(f"The report of this run: {self._path}")

    def _slow(self, every: float) -> list[str]:
        with self._lock:
            now = self._clock()
            return list(lines(self._record.busy(now), self._expected, now - self._record.began, every))

    def _expected(self, task: str) -> float:
        return self._record.usual(task) or float(self._usual.get(task, 0.0))

    def _data(self, patience: float = 0) -> dict[str, Any]:
        if self._probe:
            self._api = self._probe.data(patience)
        with self._lock:
            return {**self._record.data(self._clock()), "api": self._api, "earlier": self._untold}

    def _write_if_due(self) -> None:
        if self._place and self._path and self._clock() - self._written >= self._place.pause:
            self._write()

    def _write(self, patience: float = 0) -> None:
        """Write the page. Where that fails the run goes on without, and its end tries once more."""
        if not self._place:
            return
        try:
            self._path = self._place.put(self._name, render(self._data(patience)))
        except KubewrightError as error:
            self._say(f"No report is kept: {error}")
            self._path = ""
        self._written = self._clock()

    def _look_back(self, place: Folder | Host) -> None:
        """Learn how long tasks take, and say which runs never told their end."""
        try:
            found = place.look(self._name, self._record.about["cluster"], self._record.about["operation"])
            self._usual = found.usual
            for name, data in found.untold.items():
                self._tell(place, name, data)
        except KubewrightError as error:
            self._say(f"Earlier reports are not looked at: {error}")

    def _tell(self, place: Folder | Host, name: str, data: dict[str, Any]) -> None:
        """Say that an earlier run never told its end, and, where it is sure to be over, let its page say so."""
        about, run = data["about"], str(data["about"].get("run") or "")
        gone = _this_run.is_gone(run)
        if _this_run.is_here(run) and not gone:
            return
        self._untold.append({**about, "began": data["began"], "name": name})
        sure = gone or self._clock() - data["updated"] > _SILENT
        how = "it was cut off" if sure else "it works still, or was cut off"
        self._say(
            f"{page_title(about)}, begun on {day(data['began'])} at {moment(data['began'])} UTC, has not told its "
            f"end: {how}. It was last heard of at {moment(data['updated'])}. Its report: {name}"
        )
        if sure:
            place.put(name, render({**data, "state": CUT_OFF}))
