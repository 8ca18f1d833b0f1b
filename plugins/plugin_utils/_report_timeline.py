# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of a run: a row for each host, a row of phases above, and one for the API below, over the same time.

Places along the time are percentages and everything else is pixels, so that the picture fills whatever width there is
while its words stay readable. What a colour says, a pattern or a sign says too.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_words import duration, moment

# Pixels.
_AXIS, _PHASES, _ROW, _LABEL, _BAR = 22, 26, 38, 14, 12
# More would make a picture that nobody looks at; the table has all of them.
ROWS = 60
# Parts of the width. What is nearer to its neighbour of the same kind than that is drawn as one.
_NEAR = 0.002
# A phase that is narrower has no room for its number.
_NUMBERED = 0.035
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_TICKS = 6
# Lines of what a piece says when somebody points at it.
_TOLD = 8

LEGEND = (
    ("work", "changed something"),
    ("look", "looked"),
    ("wait", "waited"),
    ("failed", "failed"),
    ("lost", "was not reached"),
    ("open", "had not ended"),
    ("served", "the API answered"),
    ("gap", "it did not answer"),
)
STATES = {"failed": "failed", "unreachable": "not reached"}


class Bar(NamedTuple):
    """A piece of a row, from and to in seconds from the beginning."""

    began: float
    ended: float
    kind: str
    words: str


def picture(data: Mapping[str, Any]) -> str:
    """Return the picture of a run as SVG, with its legend."""
    length = _length(data)
    pieces = bars(data, length)
    names = order(data, pieces)[:ROWS]
    rows = [_host(data, name, pieces.get(name, []), length) for name in names]
    kinds = {bar.kind for name in names for bar in pieces.get(name, [])}
    api = data.get("api") or {}
    if api.get("asked"):
        whole, *gaps = silences(api, data["began"])
        rows.append(_api(api, whole, gaps, length))
        kinds |= {bar.kind for bar in (whole, *gaps)}
    top = _AXIS + _PHASES
    height = top + _ROW * len(rows) + 4
    body = "".join(
        f'<svg y="{top + _ROW * number}" width="100%" height="{_ROW}">{row}</svg>'
        for number, row in enumerate(rows)
    )
    return (
        f'<svg class="timeline" role="img" aria-label="What happened on each host, and when" width="100%" '
        f'height="{height}" xmlns="http://www.w3.org/2000/svg">{_PATTERNS}'
        f"{_axis(data['began'], length, height)}{_phases(data, length, height)}{body}</svg>"
        f'<ul class="legend">{_legend(kinds)}</ul>'
    )


def order(data: Mapping[str, Any], pieces: Mapping[str, Sequence[Bar]]) -> list[str]:
    """Return the hosts in the order in which they were changed, those that the run lost first."""
    hosts = data["hosts"]

    def place(name: str) -> tuple[bool, float, str]:
        work = [bar.began for bar in pieces.get(name, []) if bar.kind == "work"]
        spans = [began for _phase, began, _ended in hosts[name]["spans"]]
        return not hosts[name]["state"], min(work or spans or [0.0]), name

    return sorted(hosts, key=place)


def bars(data: Mapping[str, Any], length: float) -> dict[str, list[Bar]]:
    """Return the pieces of each host's row, near ones of the same kind as one."""
    found: dict[str, list[Bar]] = {}
    for host, _phase, task, began, ended, kind, state, tries in sorted(
        data["steps"], key=lambda one: float(one[3])
    ):
        words = _words(data["tasks"][task], ended - began, tries, state)
        bar = Bar(began, ended, _look(kind, state), words)
        row = found.setdefault(host, [])
        last = row[-1] if row else None
        if last and last.kind == bar.kind and bar.began - last.ended < length * _NEAR and _calm(bar):
            merged = last.words if last.words.count("\n") >= _TOLD else f"{last.words}\n{bar.words}"
            row[-1] = Bar(last.began, max(last.ended, bar.ended), bar.kind, merged)
        else:
            row.append(bar)
    now = data["updated"] - data["began"]
    for host, _phase, task, began, tries in data["busy"]:
        found.setdefault(host, []).append(
            Bar(began, now, "open", _words(task, now - began, tries, "not ended"))
        )
    return found


def silences(api: Mapping[str, Any], began: float) -> list[Bar]:
    """Return the time in which the API was asked, then each time in which it did not answer."""
    whole = f"asked {api['asked']} times, answered {api['answered']}"
    return [
        Bar(api["began"] - began, api["ended"] - began, "served", whole),
        *(
            Bar(first - began, last - began, "gap", f"no answer for {duration(last - first)}: {why}")
            for first, last, why in api["gaps"]
        ),
    ]


def _length(data: Mapping[str, Any]) -> float:
    return max(1.0, float(data["ended"] or data["updated"]) - float(data["began"]))


def ticks(began: float, length: float) -> list[float]:
    """Return the round times of the day that are marked, as seconds from the beginning."""
    step = next((one for one in _STEPS if length / one <= _TICKS), _STEPS[-1])
    first = step - began % step
    return [first + step * number for number in range(int((length - first) // step) + 1)]


def _calm(bar: Bar) -> bool:
    return bar.kind not in ("failed", "lost", "open")


def _look(kind: str, state: str) -> str:
    if state in ("failed", "ignored"):
        return "failed" if state == "failed" else "look"
    if state == "unreachable":
        return "lost"
    if state == "changed":
        return "work"
    return "wait" if kind in ("wait", "gate") else "look"


def _words(task: str, seconds: float, tries: int, state: str) -> str:
    more = f", looked {tries} times" if tries > 1 else ""
    how = "" if state in ("ok", "changed") else f", {state}"
    return f"{task}: {duration(seconds)}{more}{how}"


def _percent(seconds: float, length: float) -> str:
    return f"{min(100.0, max(0.0, 100 * seconds / length)):.2f}%"


def _rectangle(bar: Bar, length: float) -> str:
    x, width = _percent(bar.began, length), _percent(bar.ended - bar.began, length)
    return (
        f'<rect class="{bar.kind}" x="{x}" y="20" width="{width}" height="{_BAR}">'
        f"<title>{escape(bar.words)}</title></rect>"
    )


def _host(data: Mapping[str, Any], name: str, pieces: Sequence[Bar], length: float) -> str:
    host, role = data["hosts"][name], data["about"].get("roles", {}).get(name, "")
    more = [word for word in (role, STATES.get(host["state"], "")) if word]
    base = "".join(
        f'<line class="base" x1="{_percent(began, length)}" x2="{_percent(ended, length)}" y1="26" y2="26"/>'
        for _phase, began, ended in host["spans"]
    )
    signs = "".join(
        f'<text class="sign" x="{_percent(bar.began, length)}" y="{_LABEL}" '
        f'text-anchor="{"end" if bar.began > length / 2 else "start"}">✕</text>'
        for bar in pieces
        if bar.kind in ("failed", "lost")
    )
    note = f'<tspan class="note" dx="6">{escape(" · ".join(more))}</tspan>' if more else ""
    label = f'<text class="name" x="0" y="{_LABEL}">{escape(name)}{note}</text>'
    return label + base + "".join(_rectangle(bar, length) for bar in pieces) + signs


def _api(api: Mapping[str, Any], whole: Bar, gaps: Sequence[Bar], length: float) -> str:
    words = f"{api['where']} · {percent(api)} answered"
    label = (
        f'<text class="name" x="0" y="{_LABEL}">API<tspan class="note" dx="6">{escape(words)}</tspan></text>'
    )
    return label + "".join(_rectangle(bar, length) for bar in (whole, *gaps))


def percent(api: Mapping[str, Any]) -> str:
    """Return the share of questions that were answered; what was not whole is never rounded up to it."""
    if api["answered"] >= api["asked"]:
        return "100 %"
    return f"{min(100 * api['answered'] / api['asked'], 99.99):.2f} %"


def _axis(began: float, length: float, height: int) -> str:
    return "".join(_tick(began, at, length, height) for at in ticks(began, length))


def _tick(began: float, at: float, length: float, height: int) -> str:
    x, part = _percent(at, length), at / length
    side = "start" if part < 0.06 else "end" if part > 0.94 else "middle"
    text = moment(began + at)
    words = text[:-3] if text.endswith(":00") else text
    return (
        f'<line class="grid" x1="{x}" x2="{x}" y1="{_AXIS - 4}" y2="{height}"/>'
        f'<text class="tick" x="{x}" y="13" text-anchor="{side}">{words}</text>'
    )


def phases(data: Mapping[str, Any]) -> Iterator[tuple[int, str, float, float]]:
    """The phases that took time, with their numbers, from and to in seconds from the beginning."""
    now = (data["ended"] or data["updated"]) - data["began"]
    number = 0
    for phase in data["phases"]:
        ended = now if phase["ended"] is None else phase["ended"]
        if ended - phase["began"] >= 0.1:
            number += 1
            yield number, phase["name"], phase["began"], ended


def _phases(data: Mapping[str, Any], length: float, height: int) -> str:
    return "".join(_phase(phase, length, height) for phase in phases(data))


def _phase(phase: tuple[int, str, float, float], length: float, height: int) -> str:
    number, name, began, ended = phase
    x, width = _percent(began, length), _percent(ended - began, length)
    middle = _percent((began + ended) / 2, length)
    shade = (
        f'<rect class="shade" x="{x}" y="{_AXIS}" width="{width}" height="{height - _AXIS}"/>'
        if number % 2
        else ""
    )
    label = (
        f'<text class="number" x="{middle}" y="{_AXIS + 14}" text-anchor="middle">{number}</text>'
        if (ended - began) / length >= _NUMBERED
        else ""
    )
    return (
        f'{shade}<rect class="phase" x="{x}" y="{_AXIS}" width="{width}" height="19">'
        f"<title>{number}. {escape(name)}: {duration(ended - began)}</title></rect>{label}"
    )


def _legend(kinds: set[str]) -> str:
    return "".join(
        f'<li><svg width="22" height="12" aria-hidden="true"><rect class="{kind}" width="22" height="12"/></svg>'
        f" {words}</li>"
        for kind, words in LEGEND
        if kind in kinds
    )


_PATTERNS = (
    "<defs>"
    '<pattern id="stripes" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="under" width="6" height="6"/><rect class="over" width="2.4" height="6"/></pattern>'
    '<pattern id="crosses" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="bad-under" width="6" height="6"/><path class="bad-over" d="M0 0H6M0 0V6"/></pattern>'
    '<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse">'
    '<rect class="under" width="5" height="5"/><circle class="over" cx="2.5" cy="2.5" r="1.2"/></pattern>'
    "</defs>"
)
