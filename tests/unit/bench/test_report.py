# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report says what was measured, and misses an aim when it is missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import machine, measure
from bench.report import Figures, Run, aims, text


def counts(ok: int, skipped: int = 0, changed: int = 0) -> dict[str, int]:
    return {"ok": ok, "skipped": skipped, "changed": changed, "failures": 0, "unreachable": 0}


def run(seconds: float, tasks: int = 3, worker: int = 40, changed: int = 0) -> Run:
    timed = [(f"task {number % 2}", float(number)) for number in range(tasks)]
    return Run(seconds, seconds + 9, timed, {"cp1": counts(60, 5), "worker1": counts(worker, 2, changed)})


def figures() -> Figures:
    return Figures(
        plain=[Run(100.0), Run(90.0), Run(400.0)],
        site=[run(140.0), run(900.0), run(130.0)],
        again=[run(30.0), run(31.0), run(32.0)],
        grown={5: [run(20.0), run(21.0)], 500: [run(21.5), run(20.5)]},
    )


def missed(changed: Figures) -> list[str]:
    return [aim.what for aim in aims(changed, ["worker1"]) if not aim.met]


def test_medians_decide_and_not_one_slow_round() -> None:
    assert missed(figures()) == []
    assert any("takes 1.40 of plain.sh" in aim.what for aim in aims(figures(), ["worker1"]))


@pytest.mark.parametrize(
    ("name", "runs", "said"),
    [
        ("plain", [Run(80.0)], "of plain.sh"),
        ("site", [run(125.0, tasks=150)], "150 tasks"),
        ("site", [run(140.0, worker=78)], "worker1 has 80 task results"),
        ("again", [run(50.0)], "of the first run"),
        ("again", [run(30.0, changed=1)], "changes 1 things"),
        ("grown", {5: [run(20.0)], 500: [run(20.0, worker=41)]}, "as many task results"),
        ("grown", {5: [run(20.0)], 500: [run(24.0)]}, "4.0 s longer, noise 2.0 s"),
    ],
)
def test_an_aim_that_is_missed_is_named(name: str, runs: object, said: str) -> None:
    changed = figures()
    setattr(changed, name, runs)
    [what] = missed(changed)
    assert said in what


def test_results_are_what_the_recap_shows() -> None:
    assert run(1.0).results("worker1") == 42
    assert run(1.0).all_results == 107


def test_the_report_adds_up_a_task_that_is_started_twice() -> None:
    written = text(["Head"], figures(), ["worker1"])
    assert "    2.00   task 0 (2 times)\n    1.00   task 1" in written
    assert "site.yml: 3 tasks, 107 task results over all hosts (cp1 65, worker1 42)" in written
    assert "worker added, 500 hosts described" in written


def test_a_busy_machine_is_refused_and_a_trial_can_be_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (1.5, 0.0, 0.0))
    with pytest.raises(measure.BenchError, match=r"its load is 1\.50, more than 0\.50"):
        machine.refuse_busy(False)
    assert machine.refuse_busy(True) == 1.5
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (0.4, 9.0, 9.0))
    assert machine.refuse_busy(False) == 0.4


def test_an_inventory_is_filled_up_with_hosts_that_nobody_answers_for(tmp_path: Path) -> None:
    site = measure.Site(tmp_path / "lab", {"cp1": "10.198.0.11"}, {"worker1": "10.198.0.21"}, {})
    content = measure.yaml.safe_load(
        (measure.described(site, 500, tmp_path / "many") / "hosts.yml").read_text()
    )
    workers = content["workers"]["hosts"]
    assert len(workers) == 499 and len({host["ansible_host"] for host in workers.values()}) == 499
    assert workers["worker1"] == {"ansible_host": "10.198.0.21"}
    assert not any(
        host["ansible_host"].startswith("10.") for name, host in workers.items() if name != "worker1"
    )
