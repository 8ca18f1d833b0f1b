# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _report_summary
from ansible_collections.kubewright.cluster.tests.unit.plugins.plugin_utils import report_nights


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(_report_summary, "_left", found)
    return found


def test_one_callback_reports() -> None:
    first, second = object(), object()
    assert _report_summary.claim(first) and not _report_summary.claim(second) and _report_summary.claim(first)


def test_without_a_callback_nothing_is_told() -> None:
    assert _report_summary.told() == {}


def test_what_was_left_is_told_as_a_stat_of_the_run() -> None:
    _report_summary.leave({"state": "done"})
    assert _report_summary.told() == {
        "ansible_stats": {
            "data": {"kubewright_report": {"state": "done"}},
            "per_host": False,
            "aggregate": False,
        }
    }


def summary(night: report_nights.Night, **more: Any) -> dict[str, Any]:
    return _report_summary.summary(night.data(), "/srv/report.html", **{"last": True, **more})


def test_a_run_that_ended_well() -> None:
    found = summary(report_nights.upgrade())
    assert found["state"] == "done" and found["failed"] == {} and found["report"] == "/srv/report.html"
    assert (
        found["versions"]["before"]["cp1"] == "1.36.3" and found["versions"]["after"]["worker2"] == "1.37.1"
    )
    assert found["changed"] == report_nights.NODES
    assert found["gates"]["passed"] > 20 and found["gates"]["failed"] == 0
    assert found["api"]["longest_silence"] == 2.2
    assert found["next"][0] == "Set kube_cluster_version to 1.37.1 in the inventory."


def test_a_run_in_the_middle_of_its_work_has_not_ended() -> None:
    assert summary(report_nights.cut_off(), last=False)["state"] == "unfinished"


def test_a_run_that_failed() -> None:
    found = summary(report_nights.failed(), last=False)
    assert found["state"] == "failed" and found["gates"]["failed"] == 1
    assert list(found["failed"]) == ["cp3"] and "Mend the cause" in found["failed"]["cp3"]
    assert found["changed"] == report_nights.NODES
