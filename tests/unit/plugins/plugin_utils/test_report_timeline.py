# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import FAILED, Record, Task
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_timeline import (
    ROWS,
    bars,
    order,
    percent,
    phases,
    picture,
    ticks,
)
from ansible_collections.kubewright.cluster.tests.unit.plugins.plugin_utils import report_nights


def record(length: float = 1000.0, **steps: list[tuple[float, float, str, str]]) -> dict[str, Any]:
    """A run of hosts with steps of beginning, end, kind and state, over some seconds."""
    one = Record({"operation": "upgrade"}, 0.0)
    one.phase("All", 0.0)
    for host, found in steps.items():
        for began, ended, kind, state in found:
            one.begins(host, Task(f"{kind} {state}", kind), began)
            one.ends(host, Task(f"{kind} {state}", kind), state, ended)
    one.ends_all(FAILED, length)
    return one.data(length)


def drawing(data: dict[str, Any]) -> ElementTree.Element:
    """The picture, which has to be well-formed XML too; the legend is beside it."""
    return ElementTree.fromstring(picture(data).partition("<ul")[0])


def rectangles(data: dict[str, Any], kind: str) -> list[tuple[float, float]]:
    found = drawing(data).iter("{http://www.w3.org/2000/svg}rect")
    return [
        (float(one.get("x", "").rstrip("%")), float(one.get("width", "").rstrip("%")))
        for one in found
        if one.get("class") == kind
    ]


def test_steps_are_where_their_times_are() -> None:
    data = record(a=[(100.0, 350.0, "work", "changed"), (500.0, 510.0, "work", "failed")])
    assert rectangles(data, "work") == [(10.0, 25.0)]
    assert rectangles(data, "failed") == [(50.0, 1.0)]


@pytest.mark.parametrize(
    ("kind", "state", "look"),
    [
        ("work", "changed", "work"),
        ("work", "ok", "look"),
        ("wait", "ok", "wait"),
        ("gate", "ok", "wait"),
        ("wait", "changed", "work"),
        ("gate", "failed", "failed"),
        ("work", "ignored", "look"),
        ("work", "unreachable", "lost"),
    ],
)
def test_a_step_looks_like_what_it_was(kind: str, state: str, look: str) -> None:
    data = record(a=[(100.0, 350.0, kind, state)])
    assert [bar.kind for bar in bars(data, 1000.0)["a"]] == [look]


def test_neighbours_of_one_kind_are_one_piece_but_failures_are_not() -> None:
    steps = [(10.0, 12.0, "work", "ok"), (12.5, 20.0, "work", "ok"), (100.0, 110.0, "work", "ok")]
    failures = [(200.0, 201.0, "work", "failed"), (201.5, 203.0, "work", "failed")]
    found = bars(record(a=steps + failures), 1000.0)["a"]
    assert [(bar.began, bar.ended) for bar in found] == [(10, 20), (100, 110), (200, 201), (201.5, 203)]
    assert found[0].words == "work ok: 2 s\nwork ok: 7.5 s"


def test_lost_hosts_come_first_then_those_that_were_changed_first() -> None:
    data = record(
        a=[(0.0, 2.0, "work", "ok"), (500.0, 510.0, "work", "changed")],
        b=[(0.0, 2.0, "work", "ok"), (100.0, 110.0, "work", "changed")],
        c=[(0.0, 2.0, "work", "ok"), (600.0, 610.0, "work", "failed")],
    )
    data["hosts"]["c"]["state"] = "failed"
    assert order(data, bars(data, 1000.0)) == ["c", "b", "a"]


def test_a_picture_has_so_many_rows_and_no_more() -> None:
    hosts = {f"h{number}": [(1.0, 5.0, "work", "ok")] for number in range(ROWS + 7)}
    names = [one for one in drawing(record(**hosts)).iter() if one.get("class") == "name"]
    assert len(names) == ROWS


@pytest.mark.parametrize(
    ("began", "length", "found"),
    [
        # 02:14:05 and 16 minutes: 02:15, 02:20, ...
        (report_nights.BEGAN, 960.0, [55.0, 355.0, 655.0, 955.0]),
        (report_nights.BEGAN, 4.0, [1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_marks_are_at_round_times_of_the_day(began: float, length: float, found: list[float]) -> None:
    assert ticks(began, length) == found


@pytest.mark.parametrize("length", [1, 7, 59, 61, 600, 3599, 30000, 200000])
def test_there_is_room_for_every_mark(length: float) -> None:
    assert len(ticks(report_nights.BEGAN, length)) <= 7


def test_phases_that_took_no_time_have_no_number() -> None:
    one = Record({"operation": "site"}, 0.0)
    for at, name in ((0.0, "First"), (5.0, "Nobody"), (5.0, "Second")):
        one.phase(name, at)
    assert list(phases(one.data(9.0))) == [(1, "First", 0.0, 5.0), (2, "Second", 5.0, 9.0)]


@pytest.mark.parametrize(
    ("answered", "shown"), [(1000, "100 %"), (999, "99.90 %"), (99999, "99.99 %"), (0, "0.00 %")]
)
def test_a_silence_is_never_rounded_away(answered: int, shown: str) -> None:
    asked = 1000 if answered <= 1000 else 100000
    assert percent({"asked": asked, "answered": answered}) == shown


def test_silences_of_the_api_are_drawn() -> None:
    data = record(a=[(0.0, 2.0, "work", "ok")])
    data["api"] = {
        "where": "192.0.2.10:8443",
        "asked": 900,
        "answered": 897,
        "began": 100.0,
        "ended": 1000.0,
        "gaps": [[200.0, 203.0, "<refused>"]],
    }
    assert rectangles(data, "served") == [(10.0, 90.0)] and rectangles(data, "gap") == [(20.0, 0.3)]
    assert "no answer for 3 s: &lt;refused&gt;" in picture(data)


@pytest.mark.parametrize("night", report_nights.NIGHTS.values(), ids=report_nights.NIGHTS)
def test_the_legend_explains_all_that_is_drawn_and_nothing_else(night: Any) -> None:
    drawn, _, legend = picture(night().data()).partition("<ul")
    kinds = {"work", "look", "wait", "failed", "lost", "open", "served", "gap"}
    assert kinds & set(re.findall(r'rect class="([\w-]+)"', drawn)) == set(
        re.findall(r'class="([\w-]+)" width', legend)
    )
