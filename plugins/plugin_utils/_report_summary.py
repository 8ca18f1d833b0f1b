# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells the next job of a workflow, as set_stats does.

The callback knows it, and only a task can tell it: what a callback adds at the end comes after AWX has read it. So the
callback leaves it here before a task of ours begins, and the task finds it, because Ansible forks a worker for each.
Tasks at the beginning, at each turn and at the end tell it, so that a run that fails has told what was known by then.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_next import next_steps
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import DONE, FAILED, RUNNING

VARIABLE = "kubewright_report"
# These tell it.
TELLERS = frozenset(
    f"kubewright.cluster.{name}" for name in ("check_description", "cluster_lock", "report_summary")
)
LAST = "kubewright.cluster.report_summary"

_REPORTER, _LATEST = "reporter", "latest"
_left: dict[str, Any] = {}


def claim(callback: object) -> bool:
    """Tell whether a callback is the one that reports: the first that asks, however many are loaded."""
    return _left.setdefault(_REPORTER, callback) is callback


def leave(found: Mapping[str, Any]) -> None:
    """Leave a summary for the tasks that begin from now on."""
    _left[_LATEST] = dict(found)


def told() -> dict[str, Any]:
    """Return what a task adds to its result; nothing where no callback reports."""
    if _LATEST not in _left:
        return {}
    return {"ansible_stats": {"data": {VARIABLE: _left[_LATEST]}, "per_host": False, "aggregate": False}}


def summary(data: Mapping[str, Any], report: str, *, last: bool) -> dict[str, Any]:
    """Return the summary; *last* is true at the end of a playbook that nothing ended before."""
    hosts = data["hosts"]
    lost = sorted(name for name, host in hosts.items() if host["state"])
    state = FAILED if lost else DONE if last else RUNNING
    judged = [gate["passed"] for gate in data["gates"] if gate["kind"] == "gate"]
    why = {one["host"]: one["why"] for one in data["failures"] if one["host"] in lost}
    api = data.get("api") or {}
    return {
        "operation": data["about"]["operation"],
        "cluster": data["about"]["cluster"],
        "check": bool(data["about"].get("check")),
        "state": "unfinished" if state == RUNNING else state,
        "report": report,
        "seconds": round(data["updated"] - data["began"]),
        "changed": sorted(name for name, host in hosts.items() if host["counts"].get("changed")),
        "failed": {name: why.get(name, "") for name in lost},
        "versions": {when: _kubelets(data["versions"][when]) for when in ("before", "after")},
        "gates": {"passed": sum(judged), "failed": len(judged) - sum(judged)},
        "api": {
            "asked": api.get("asked", 0),
            "answered": api.get("answered", 0),
            "longest_silence": max((round(gap[1] - gap[0], 1) for gap in api.get("gaps") or []), default=0.0),
        },
        "next": next_steps({**data, "state": state}),
    }


def _kubelets(versions: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {name: row["kubelet"] for name, row in versions.items() if "kubelet" in row}
