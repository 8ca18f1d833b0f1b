# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import drain
from bench.drain import CORE, KUBECTL, OURS, Drain, Figures, aims, text
from bench.measure import BenchError, Site

SITE = Site(Path("lab"), {"cp1": "10.198.0.11"}, {"worker1": "10.198.0.21", "worker2": "10.198.0.22"}, {})


def figures(last: float = 8, whole: float = 45) -> Figures:
    return Figures(
        {
            KUBECTL: [Drain(20, 60), Drain(21, 61), Drain(20, 300)],
            OURS: [Drain(last, whole), Drain(last, whole), Drain(90, 400)],
            CORE: [Drain(7, 52), Drain(7, 53), Drain(7, 52)],
        }
    )


def test_medians_decide_and_the_report_has_every_round() -> None:
    assert all(aim.met for aim in aims(figures()))
    written = text(["Machine: one"], figures())
    assert "kubectl drain, the whole                  61.0   60.0 61.0 300.0" in written
    assert "drain_node's last eviction to kubectl drain's last eviction: 0.40" in written
    assert "MISSED" not in written


@pytest.mark.parametrize(
    ("changed", "missed"),
    [(figures(last=15.5), "in 0.25 of kubectl drain's time"), (figures(whole=53), "1.02 of k8s_drain")],
)
def test_a_missed_aim_is_said(changed: Figures, missed: str) -> None:
    [aim] = [one for one in aims(changed) if not one.met]
    assert missed in aim.what


def test_the_watch_takes_the_first_sight_of_a_deletion_time_and_how_late_it_came() -> None:
    watch = drain._Watch(SITE)
    # 12:00:00 UTC on this day, and a grace period of 30 seconds.
    noon = 1795262400.0
    watch.note("a  \n", 100.0, noon)
    watch.note("b \n", 100.0, noon)
    watch.note("a 2026-11-21T12:00:30Z 30\n", 103.5, noon + 0.9)
    watch.note("a 2026-11-21T12:00:04Z 0\n", 107.0, noon + 4.2)
    assert watch.known == {"a", "b"} and watch.ending == {"a": 103.5} and watch.lag == 0
    watch.note("b 2026-11-21T12:00:30Z 30\n", 109.0, noon + 5.5)
    assert watch.lag == pytest.approx(4.5)


def test_each_tool_empties_the_node_and_waits() -> None:
    def options(tool: str) -> dict[str, object]:
        return dict(json.loads(drain._command(tool, SITE, "worker1", Path("/tmp/admin.conf"))[-1]))

    assert options(OURS)["name"] == options(CORE)["name"] == "worker1"
    assert options(CORE)["delete_options"]["wait_timeout"] == options(OURS)["timeout"]  # type: ignore[index]
    words = drain._command(KUBECTL, SITE, "worker1", Path("/tmp/admin.conf"))
    assert words[words.index("drain") :][:3] == ["drain", "worker1", "--ignore-daemonsets"]


def test_one_worker_is_not_enough(tmp_path: Path) -> None:
    lonely = Site(tmp_path, {"cp1": "10.198.0.11"}, {"worker1": "10.198.0.21"}, {})
    with pytest.raises(BenchError, match="fewer than two workers"):
        drain.take(lonely, 1, tmp_path, lambda _cluster: None)
