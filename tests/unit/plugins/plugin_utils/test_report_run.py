# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that reports, with a clock and a place of the test."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._report_files import look
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _report_run, _this_run
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_place import Folder
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import Task
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_run import Run
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_settings import Settings

BEGAN = 1795400045.0
QUIET = Settings(progress_seconds=0)


class FakeProbe:
    """Remembers whom it was to ask."""

    started: list[FakeProbe] = []  # noqa: RUF012

    def __init__(self, where: str, every: float) -> None:
        self.where, self.every, self.over = where, every, False
        FakeProbe.started.append(self)

    def data(self, patience: float = 0) -> dict[str, Any]:
        assert not self.over
        return {"asked": 0, "why": f"{self.where} was not asked", "patience": patience}

    def end(self) -> None:
        self.over = True


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeProbe.started = []
    monkeypatch.setattr(_report_run, "Probe", FakeProbe)


class Stage:
    """Runs with a clock and ears."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = BEGAN
        self.heard: list[str] = []

    def run(
        self, operation: str = "upgrade", process: str = "", settings: Settings = QUIET, place: Any = None
    ) -> Run:
        about = {
            "operation": operation,
            "cluster": "",
            "run": process or _this_run.name(os.getpid()),
            "who": "",
            "check": False,
            "limit": "",
            "roles": {},
            "ansible": "2.21.5",
            "collection": "0.1.0",
        }
        run = Run(about, self.heard.append, lambda: self.now)
        run.settle(
            settings, set(), {"cluster": "example", "who": "me@here"}, place or Folder(str(self.folder), 0)
        )
        run.phase("Look", None, {})
        return run

    def work(self, run: Run, host: str, seconds: float, state: str = "changed", why: str = "") -> None:
        run.begins(host, Task("Work"))
        self.now += seconds
        run.ends(host, Task("Work"), state, why=why)

    def states(self) -> list[str]:
        found = sorted(self.folder.glob("*.html"), key=lambda path: path.name.rpartition("-")[2])
        return [re.search(r'class="state (\w+)"', path.read_text(encoding="utf-8"))[1] for path in found]  # type: ignore[index]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def dead() -> str:
    """The name of a run whose process has ended."""
    with subprocess.Popen(["true"]) as process:
        name = _this_run.name(process.pid)
    return name


def test_a_page_is_there_from_the_beginning_and_says_how_it_ended(stage: Stage) -> None:
    run = stage.run()
    assert stage.states() == ["running"]
    stage.work(run, "cp1", 20)
    run.ended({})
    assert stage.states() == ["done"]
    assert stage.heard == [f"The report of this run: {stage.folder}/example-upgrade-20261123T021405Z.html"]


def test_it_is_written_anew_while_the_run_works_but_not_at_every_task(stage: Stage) -> None:
    run = stage.run()
    (path,) = stage.folder.iterdir()
    pages = {path.read_text()}
    for _task in range(20):
        stage.work(run, "cp1", 2)
        pages.add(path.read_text())
    assert len(pages) == 1 + 20 * 2 // 16


def test_a_run_that_failed_leaves_its_page_too(stage: Stage) -> None:
    run = stage.run()
    stage.work(run, "cp1", 2, "failed", "No room.")
    run.ended({"cp1": "failed"})
    assert stage.states() == ["failed"]
    assert "No room." in next(stage.folder.iterdir()).read_text()


def test_one_that_was_abandoned_says_so_itself(stage: Stage) -> None:
    run = stage.run()
    run.begins("cp1", Task("Upgrade the control plane"))
    stage.now += 30
    run.abandoned()
    assert stage.states() == ["cut_off"]
    assert "Upgrade the control plane" in next(stage.folder.iterdir()).read_text()


def test_the_next_run_says_which_one_was_killed_and_so_does_its_page(stage: Stage, dead: str) -> None:
    killed = stage.run(process=dead)
    stage.work(killed, "cp1", 20)
    stage.now += 60
    after = stage.run("backup")
    assert stage.heard == [
        "Upgrade of example, begun on 23 November 2026 at 02:14:05 UTC, has not told its end: it was cut off. It was "
        "last heard of at 02:14:25. Its report: example-upgrade-20261123T021405Z.html"
    ]
    assert stage.states() == ["cut_off", "running"]
    after.ended({})
    assert (
        "Upgrade of example, begun on 23 November 2026"
        in (stage.folder / "example-backup-20261123T021525Z.html").read_text()
    )
    stage.heard.clear()
    stage.now += 60
    stage.run("backup")
    assert stage.heard == []


def test_one_that_works_is_left_alone(stage: Stage) -> None:
    stage.run()
    stage.now += 60
    stage.run("backup")
    assert stage.heard == [] and stage.states() == ["running", "running"]


def test_one_of_another_machine_may_work_still_for_an_hour(stage: Stage) -> None:
    stage.run(process="elsewhere/1/2/3")
    stage.now += 60
    stage.run("backup")
    assert "it works still, or was cut off" in stage.heard[0] and stage.states()[0] == "running"
    stage.now += 3600
    stage.run("verify")
    assert "it was cut off" in stage.heard[1] and stage.states()[0] == "cut_off"


def test_a_place_that_takes_nothing_stops_nothing(stage: Stage) -> None:
    (stage.folder / "file").write_text("in the way")
    run = stage.run(place=Folder(str(stage.folder / "file"), 0))
    stage.work(run, "cp1", 20)
    stage.work(run, "cp1", 20)
    run.sees("cluster", {"answers": True, "endpoint": "192.0.2.10:8443"})
    run.ended({})
    at_first, at_the_end = stage.heard
    assert at_first == at_the_end and at_first.startswith("No report is kept: The report cannot be written")
    assert FakeProbe.started == []


def test_without_a_place_nothing_is_written_and_nobody_asked(stage: Stage) -> None:
    run = Run({"operation": "upgrade", "cluster": ""}, stage.heard.append, lambda: stage.now)
    run.settle(QUIET, set(), {"cluster": "example"}, None)
    run.phase("Look", None, {})
    stage.work(run, "cp1", 20)
    run.sees("cluster", {"answers": True, "endpoint": "192.0.2.10:8443"})
    assert run.summary(last=True)["report"] == ""
    run.ended({})
    assert list(stage.folder.iterdir()) == [] and stage.heard == [] and FakeProbe.started == []


def test_the_api_is_asked_where_the_cluster_says_it_is_once_it_answers(stage: Stage) -> None:
    run = stage.run(settings=Settings(progress_seconds=0, probe_seconds=0.5))
    run.sees("cluster", {"answers": False, "endpoint": "192.0.2.10:8443"})
    run.sees("cluster", {"answers": True, "endpoint": "--help"})
    assert FakeProbe.started == []
    run.sees("cluster", {"answers": True, "endpoint": "192.0.2.10:8443"})
    run.sees("cluster", {"answers": True, "endpoint": "192.0.2.11:8443"})
    (probe,) = FakeProbe.started
    assert (probe.where, probe.every) == ("192.0.2.10:8443", 0.5)
    run.ended({})
    assert probe.over
    assert "192.0.2.10:8443 was not asked" in next(stage.folder.iterdir()).read_text()


def test_nobody_asks_where_nobody_shall(stage: Stage) -> None:
    run = stage.run(settings=Settings(progress_seconds=0, probe_seconds=0))
    run.sees("cluster", {"answers": True, "endpoint": "192.0.2.10:8443"})
    assert FakeProbe.started == []


def test_what_takes_long_is_compared_with_the_last_run_then_with_this_one(stage: Stage) -> None:
    first = stage.run()
    stage.work(first, "cp1", 90)
    first.ended({})
    second = stage.run()
    second.begins("cp1", Task("Work"))
    stage.now += 20
    assert second._slow(15) == ["[20 s] Look | cp1: Work | 20 s, usually 1 min 30 s"]
    stage.now += 20
    second.ends("cp1", Task("Work"), "changed")
    second.begins("cp2", Task("Work"))
    stage.now += 15
    assert second._slow(15) == ["[55 s] Look | cp2: Work | 15 s, usually 40 s"]
    second.ended({})
    assert look(str(stage.folder), "example", "upgrade", "").usual["Work"] == 40
