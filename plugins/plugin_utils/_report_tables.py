# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of a report: versions, gates, hosts, and the steps that took longest, as HTML.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Union

from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_timeline import STATES
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_words import (
    duration,
    moment,
    some,
)

_LONGEST = 12
_CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
# Of what nobody runs.
_NONE = "-"

# Cells, which are HTML already, or a heading over the rows that follow.
Row = Union[Sequence[str], str]


def table(heads: Sequence[str], rows: Iterable[Row], numbers: Sequence[int] = ()) -> str:
    """Return a table; *numbers* are the columns that stand right. Nothing without rows."""

    def cells(name: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{name}{' class=number' if column in numbers else ''}>{cell}</{name}>"
            for column, cell in enumerate(row)
        )

    body = "".join(
        f'<tr><th class="group" colspan="{len(heads)}">{escape(row)}</th></tr>\n'
        if isinstance(row, str)
        else f"<tr>{cells('td', row)}</tr>\n"
        for row in rows
    )
    if not body:
        return ""
    return (
        f'<div class="wide"><table>\n<thead><tr>{cells("th", heads)}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def version_table(data: Mapping[str, Any]) -> str:
    """Return what every node ran before and runs now."""
    before, after = data["versions"]["before"], data["versions"]["after"]
    heads = ["Node", "kubelet", "control plane", "etcd"]
    rows = [
        [
            escape(name),
            *(_move(_version(before.get(name), what), _version(after.get(name), what)) for what in heads[1:]),
        ]
        for name in sorted({*before, *after})
    ]
    return table(heads, rows)


def _version(row: Mapping[str, str] | None, what: str) -> str:
    if what != "control plane":
        return (row or {}).get(what, "")
    return ", ".join(sorted({row[one] for one in _CONTROL_PLANE if one in row})) if row else ""


def _move(before: str, after: str) -> str:
    if before == after:
        return f'<span class="soft">{escape(after or _NONE)}</span>'
    if not before:
        return f"<b>{escape(after)}</b>, new"
    return f"{escape(before)} → <b>{escape(after or 'gone')}</b>"


def gate_table(data: Mapping[str, Any]) -> str:
    """Return the gates and waits by phase; what one gate said of several hosts is one row."""
    grouped: dict[tuple[int, str, bool], list[Mapping[str, Any]]] = {}
    for gate in data["gates"]:
        grouped.setdefault((gate["phase"], gate["task"], gate["passed"]), []).append(gate)
    rows: list[Row] = []
    last = -1
    for (number, _task, _passed), found in grouped.items():
        if number != last:
            rows.append(phase_name(data, number))
            last = number
        rows.append(_gate(data, found))
    if not rows:
        return ""
    failed = sum(1 for gate in data["gates"] if not gate["passed"])
    words = (
        f"{len(data['gates'])} gates and waits, {f'{failed} of them not passed' if failed else 'all passed'}"
    )
    everything = table(["Result", "Gate", "Hosts", "When", "Took"], rows, (4,))
    return f"<details><summary>{words}</summary>{everything}</details>"


_MARKS = {
    ("gate", True): '<span class="good">✓ passed</span>',
    ("wait", True): '<span class="good">◷ waited</span>',
    ("gate", False): '<span class="bad">✕ did not pass</span>',
    ("wait", False): '<span class="bad">✕ in vain</span>',
}


def _gate(data: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> list[str]:
    first = found[0]
    tries = max(gate["tries"] for gate in found)
    note = f'<br><span class="soft">looked {tries} times</span>' if tries > 1 else ""
    return [
        _MARKS[first["kind"], first["passed"]],
        escape(first["task"]) + note,
        escape(some(list(dict.fromkeys(gate["host"] for gate in found)))),
        time_of(data, first["at"]),
        duration(max(gate["seconds"] for gate in found)),
    ]


def host_table(data: Mapping[str, Any]) -> str:
    """Return how each host ended, those that the run lost first."""
    roles = data["about"].get("roles") or {}
    rows = [
        [
            escape(name) + (f'<br><span class="soft">{escape(roles[name])}</span>' if name in roles else ""),
            f'<span class="bad">✕ {STATES[host["state"]]}</span>'
            if host["state"]
            else '<span class="good">✓ well</span>',
            str(host["counts"].get("changed", 0)),
            str(sum(number for how, number in host["counts"].items() if how != "skipped")),
            duration(sum(ended - began for _phase, began, ended in host["spans"])),
        ]
        for name, host in sorted(data["hosts"].items(), key=lambda item: (not item[1]["state"], item[0]))
    ]
    return table(["Host", "Result", "Changed", "Tasks", "From first to last"], rows, (2, 3, 4))


def step_table(data: Mapping[str, Any]) -> str:
    """Return the steps that took longest."""
    steps = sorted(data["steps"], key=lambda step: float(step[3] - step[4]))[:_LONGEST]
    rows = [
        [
            f'{escape(data["tasks"][task])}<br><span class="soft">{escape(phase_name(data, number))}</span>',
            escape(host),
            time_of(data, began),
            duration(ended - began),
        ]
        for host, number, task, began, ended, *_rest in steps
    ]
    return table(["Step", "Host", "Began", "Took"], rows, (3,))


def phase_name(data: Mapping[str, Any], number: int) -> str:
    """Return the name of a phase by its place in the data."""
    return str(data["phases"][number]["name"]) if number < len(data["phases"]) else ""


def time_of(data: Mapping[str, Any], at: float) -> str:
    """Return the time of day of something in the data."""
    return moment(data["began"] + at)
