# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened in a run: events go in, with the time they happened at, and the data of a report comes out.

The data is plain and is kept inside the report, so that a later run can read it: the report of a run that was cut off
is made again from it, and how long a step took tells how long it will take. Steps that went well in less than a second
are only counted, so that a report of hundreds of hosts stays readable.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from statistics import median
from typing import Any, NamedTuple

from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_words import clean

FORMAT = 1

# Seconds. What is shorter and went well is only counted.
LONG = 1.0
# A wait that was over at once is not worth a line.
_WAITED = 5.0

RUNNING, DONE, FAILED, CUT_OFF = "running", "done", "failed", "cut_off"
LOST = ("failed", "unreachable")
_WELL = ("ok", "changed")


class Task(NamedTuple):
    """A task: its name, and whether it works, judges (``gate``) or waits for a condition (``wait``)."""

    name: str
    kind: str = "work"


class Busy(NamedTuple):
    """What a host is doing."""

    host: str
    task: str
    phase: str
    seconds: float
    tries: int


class _Open:
    """A task that runs on a host."""

    def __init__(self, task: Task, phase: int, began: float) -> None:
        self.task = task
        self.phase = phase
        self.began = began
        self.tries = 1


class Record:
    """One run. Times are seconds of the epoch; in the data they count from the beginning."""

    def __init__(self, about: Mapping[str, Any], now: float) -> None:
        """*about* is what does not change: the operation, the cluster, who runs it."""
        self.about = dict(about)
        self.secrets: Collection[str] = ()
        self.began = now
        self.state = RUNNING
        self._ended: float | None = None
        self._phases: list[dict[str, Any]] = []
        self._hosts: dict[str, dict[str, Any]] = {}
        self._busy: dict[str, _Open] = {}
        self._names: dict[str, int] = {}
        self._steps: list[list[Any]] = []
        self._gates: list[dict[str, Any]] = []
        self._failures: list[dict[str, Any]] = []
        self._said: list[dict[str, Any]] = []
        self._first_change: float | None = None
        self._seen: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
        self._took: dict[str, list[float]] = {}

    def phase(self, name: str, now: float) -> None:
        """Note that a play begins, or the next batch of it."""
        self._busy.clear()
        if self._phases and self._phases[-1]["name"] != name:
            self._phases[-1]["ended"] = self._at(now)
        if not self._phases or self._phases[-1]["name"] != name:
            self._phases.append({"name": name, "began": self._at(now), "ended": None})

    def begins(self, host: str, task: Task, now: float) -> None:
        """Note that a task begins for a host. A host does one thing at a time, so what it did before is over."""
        self._busy[host] = _Open(task, max(0, len(self._phases) - 1), now)
        # Whoever goes on after a failure was saved from it.
        self._row(host)["state"] = ""

    def tries(self, host: str, number: int) -> None:
        """Note how often the condition of a wait has been looked at."""
        if host in self._busy:
            self._busy[host].tries = number

    def ends(self, host: str, task: Task, state: str, now: float, *, why: str = "", on: str = "") -> None:
        """Note how a task ended: ``ok``, ``changed``, ``skipped``, ``failed``, ``ignored`` or ``unreachable``.

        *on* is the host that it was delegated to.
        """
        work = self._busy.pop(host, None) or _Open(task, max(0, len(self._phases) - 1), now)
        row = self._row(host)
        row["counts"][state] = row["counts"].get(state, 0) + 1
        if state == "skipped":
            return
        if state in LOST:
            row["state"] = state
        if state == "changed" and self._first_change is None:
            self._first_change = now
        at, end = self._at(work.began), self._at(now)
        self._span(row["spans"], work.phase, at, end)
        seconds = now - work.began
        if seconds >= LONG or state not in _WELL:
            number = self._names.setdefault(task.name, len(self._names))
            self._steps.append([host, work.phase, number, at, end, task.kind, state, work.tries])
        if state in _WELL:
            self._took.setdefault(task.name, []).append(seconds)
        common = {"phase": work.phase, "task": task.name, "host": host, "at": at}
        if task.kind == "gate" or (task.kind == "wait" and (work.tries > 1 or seconds >= _WAITED)):
            passed = state in _WELL
            took = {"seconds": round(seconds, 1), "tries": work.tries, "kind": task.kind}
            self._gates.append({**common, **took, "passed": passed})
        if state not in _WELL:
            more = {"state": state, "why": self.clean(why), "on": on if on != host else ""}
            self._failures.append({**common, **more})

    def says(self, host: str, task: str, lines: list[str], now: float) -> None:
        """Note what the run told people."""
        shown = [self.clean(line) for line in lines]
        self._said.append({"host": host, "task": task, "at": self._at(now), "lines": shown})

    def sees(self, source: str, observed: Mapping[str, Any]) -> None:
        """Note the versions of an observation; the first and the last one of each source count."""
        found = versions(observed)
        if found:
            self._seen.setdefault(source, {"before": found})["after"] = found

    def busy(self, now: float) -> list[Busy]:
        """Return what hosts are doing."""
        return [
            Busy(host, work.task.name, self._phase_name(work.phase), now - work.began, work.tries)
            for host, work in self._busy.items()
        ]

    def usual(self, task: str) -> float:
        """Return how long a task took on the hosts that are through, 0 where there is none."""
        return median(self._took.get(task) or [0.0])

    def ends_all(self, state: str, now: float, lost: Mapping[str, str] | None = None) -> None:
        """Note the end of the run, and the hosts that it lost (``failed`` or ``unreachable``)."""
        self.state, self._ended = state, now
        self._busy.clear()
        for host in {*self._hosts, *(lost or {})}:
            self._row(host)["state"] = (lost or {}).get(host, "")
        if self._phases:
            self._phases[-1]["ended"] = self._at(now)

    def clean(self, text: str) -> str:
        """Return a text without secrets."""
        return clean(text, self.secrets)

    def data(self, now: float) -> dict[str, Any]:
        """Return everything, as JSON knows it."""
        busy = [
            [host, work.phase, work.task.name, self._at(work.began), work.tries]
            for host, work in self._busy.items()
        ]
        return {
            "format": FORMAT,
            "about": dict(self.about),
            "state": self.state,
            "began": self.began,
            "ended": self._ended,
            "updated": now,
            "phases": [dict(phase) for phase in self._phases],
            "hosts": {
                name: {
                    "state": host["state"],
                    "counts": dict(host["counts"]),
                    "spans": [list(span) for span in host["spans"]],
                }
                for name, host in self._hosts.items()
            },
            "tasks": list(self._names),
            "steps": list(self._steps),
            "busy": busy,
            "gates": list(self._gates),
            "failures": list(self._failures),
            "said": [{**one, "planned": self._planned(one["at"])} for one in self._said],
            "versions": {
                when: {name: dict(row) for seen in self._seen.values() for name, row in seen[when].items()}
                for when in ("before", "after")
            },
            "usual": {name: round(self.usual(name), 1) for name in self._took if self.usual(name) >= LONG},
        }

    def _planned(self, at: float) -> bool:
        """Tell whether something was said of what is to come: before the first change, or in check mode."""
        changed = self._first_change is not None and at <= self._at(self._first_change)
        return changed or bool(self.about.get("check"))

    def _row(self, host: str) -> dict[str, Any]:
        return self._hosts.setdefault(host, {"counts": {}, "spans": [], "state": ""})

    def _at(self, now: float) -> float:
        return round(now - self.began, 1)

    def _phase_name(self, number: int) -> str:
        return self._phases[number]["name"] if number < len(self._phases) else ""

    @staticmethod
    def _span(spans: list[list[Any]], phase: int, began: float, ended: float) -> None:
        """Make the time of a host in a phase longer, or begin it."""
        if spans and spans[-1][0] == phase:
            spans[-1][2] = max(spans[-1][2], ended)
        else:
            spans.append([phase, began, ended])


def versions(observed: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return what runs on each node, from what cluster_info or etcd_host_info saw."""
    found: dict[str, dict[str, str]] = {}

    def note(name: Any, what: str, version: Any) -> None:
        if name and version:
            found.setdefault(str(name), {})[what] = str(version)

    for node in observed.get("nodes") or []:
        note(node.get("name"), "kubelet", node.get("kubelet_version"))
    for pod in observed.get("control_plane") or []:
        note(pod.get("node"), str(pod.get("component")), pod.get("version"))
    for member in (observed.get("etcd") or {}).get("members") or []:
        # What the member itself says. The tag of its image has a revision besides.
        note(member.get("name"), "etcd", member.get("version"))
    return found
