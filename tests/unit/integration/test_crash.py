# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the steps at which runs are cut off."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import Mock

import pytest
from crash import Course, Event, Step, Table, _read_lines

CLEAN = {Step("cp1", "apply"): 4.0, Step("cp2", "follow"): 2.0, Step("cp3", "follow"): None}


def course(**more: object) -> Course:
    return Course(Mock(), Mock(), Mock(), **more)  # type: ignore[arg-type]


def test_each_step_is_left_until_it_was_cut_off(tmp_path: Path) -> None:
    table = Table(tmp_path / "table.json", course(), "abc", dict(CLEAN), {Step("cp2", "follow")})
    assert table.left == 2 and table.is_left(Step("cp1", "apply"))
    assert not table.is_left(Step("cp2", "follow")) and not table.is_left(Step("cp1", "follow"))


def test_steps_of_one_kind_count_for_each_other_but_none_twice(tmp_path: Path) -> None:
    table = Table(
        tmp_path / "table.json",
        course(kind=lambda one: re.sub(r"cp\d", "*", str(one))),
        "abc",
        dict(CLEAN),
        {Step("cp1", "follow"), Step("cp2", "unknown")},
    )
    assert table.left == 2
    assert not table.is_left(Step("cp1", "follow")) and not table.is_left(Step("cp2", "unknown"))
    assert table.is_left(Step("cp3", "follow")) and table.is_left(Step("cp3", "apply"))


def test_steps_of_a_module_that_were_cut_off_nowhere_come_first(tmp_path: Path) -> None:
    steps = [
        Step("cp1", "apply one"),
        Step("cp2", "apply one"),
        Step("cp1", "apply two"),
        Step("cp2", "drain one"),
    ]
    table = Table(
        tmp_path / "table.json",
        course(kind=lambda one: re.sub(r"cp\d", "*", str(one))),
        "abc",
        dict.fromkeys(steps),
        {steps[0]},
    )
    assert [table.is_left(one) for one in steps] == [False, False, True, True]
    table.never_first = False
    assert [table.is_left(one) for one in steps] == [False, True, True, True]


def test_the_work_ends_with_what_cannot_be_reached_and_keeps_the_table(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    hosts = Mock(control_planes=["cp1"], workers=[])
    table = Table(file, Course(hosts, Mock(), Mock()), "abc", dict(CLEAN))
    table.save()
    chain = Mock()
    table.chain = chain  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"never cut off .*apply.*follow"):
        table.work_through(tmp_path, Mock())
    # Once more for those that waited for others of their module.
    assert chain.call_count == 2 and file.exists()


def test_a_table_that_was_kept_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    Table(file, course(), "abc", dict(CLEAN), {Step("cp1", "apply")}, 7, 2).save()
    kept = Table.load(file, course())
    assert (kept.left, kept.runs, kept.beginnings, kept.commit) == (2, 7, 2, "abc")
    assert kept.seconds == CLEAN


def test_two_labs_share_the_steps_of_a_clean_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [Step(f"cp{i % 3 + 1}", f"apply {i // 3:02d}") for i in range(60)]
    clean = Mock(code=0)
    clean.watch.events = [Event(one, begins, 0.0, 1.5) for one in steps for begins in (True, False)]
    monkeypatch.setattr(Course, "playbook", Mock(return_value=clean))
    both = Course(Mock(), Mock(), Mock(), kind=lambda one: re.sub(r"cp\d", "*", str(one)))
    files = [tmp_path / "1.json", tmp_path / "2.json"]
    Table.of_a_clean_run(files, both, tmp_path)
    first, second = (Table.load(file, both) for file in files)
    assert len(first.seconds) == len(second.seconds) == 30
    assert {**first.seconds, **second.seconds} == dict.fromkeys(steps, 1.5)
    # Of three hosts with the same step, no table has all.
    assert all(1 <= sum(one.what == "apply 00" for one in each.seconds) <= 2 for each in (first, second))


def test_a_log_that_was_rotated_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "steps.log"
    log.write_text("new\n")
    assert _read_lines(log, 100) == (["new"], 4)
    assert _read_lines(log, 4) == ([], 4)
