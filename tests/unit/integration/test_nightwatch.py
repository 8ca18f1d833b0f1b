# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a night watch reports, and what it brings into the cluster."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import asdict
from pathlib import Path

import nightpods
import pytest
from nightwatch import Report
from steady import Figures

GOOD = [Figures("read kept", 0.1, seconds=60, calls=600, gap=0.4)]


def test_a_report_says_everything_that_somebody_noticed() -> None:
    """A write that was lost, an event that was not seen, a client that forgot."""
    assert Report(GOOD, written=3).problems() == []
    noticed = Report(GOOD, written=3, lost=["kept-1"], missed=["kept-2", "kept-3"], changed=["cp1 is silent"])
    assert noticed.problems() == [
        "1 of 3 confirmed writes lost: kept-1",
        "2 of 3 confirmed writes never seen by the watch: kept-2, kept-3",
        "the client on cp1 is silent",
    ]


def test_the_summary_has_the_longest_gap_of_each_kind() -> None:
    """Over all nodes."""
    figures = [*GOOD, *(Figures(f"workload on cp{at}", 0.3, calls=at, gap=at) for at in (1, 2))]
    said = Report(figures, written=3).summary()
    assert "603 calls, 0 tried again, 0 failed; longest gaps: read kept 0.4 s, workload 2.0 s;" in said


def test_the_last_figures_of_a_log_count_and_every_failure() -> None:
    """What Python says itself is a failure."""
    first, last = (Figures("workload on cp1", 0.3, calls=calls) for calls in (1, 2))
    lines = [
        json.dumps({"at": 5.0, "figures": [asdict(first)]}),
        json.dumps({"trouble": "12:00 workload on cp1: FAILED: reset"}),
        "Traceback (most recent call last):",
        json.dumps({"at": 7.0, "figures": [asdict(last)]}),
    ]
    log = nightpods.read_log("\n".join(lines))
    assert (log.at, log.figures) == (7.0, [last])
    assert log.troubles == ["12:00 workload on cp1: FAILED: reset", "Traceback (most recent call last):"]


def test_what_goes_into_the_pod_needs_nothing_else() -> None:
    """It has Python's standard library and these files."""
    folder = Path(nightpods.__file__).parent
    brought = {name.removesuffix(".py") for name in nightpods.SCRIPTS}
    for name in nightpods.SCRIPTS:
        for node in ast.walk(ast.parse((folder / name).read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert module.split(".")[0] in sys.stdlib_module_names | brought, (name, module)


def test_no_drain_is_held_up_by_the_workload_nor_takes_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas find another place even when all workers are drained at once; clients are a DaemonSet's."""
    monkeypatch.setattr(nightpods, "control_planes", lambda: ["cp1", "cp2", "cp3"])
    made = {item["kind"]: item for item in [*nightpods.base(), nightpods.client("10.96.0.7")]}
    assert made["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    web, client = (made[kind]["spec"]["template"]["spec"] for kind in ("Deployment", "DaemonSet"))
    assert web["tolerations"][0]["key"] in client["nodeSelector"]
    assert not any("emptyDir" in volume for volume in client["volumes"])
    settings = {one["name"]: one.get("value") for one in client["containers"][0]["env"]}
    assert float(settings["EVERY"] or 0) == pytest.approx(0.3) and settings["WEB_ADDRESS"] == "10.96.0.7"
