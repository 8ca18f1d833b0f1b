# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import (
    DONE,
    FAILED,
    Record,
    Task,
    versions,
)

WORK, GATE, WAIT = Task("Work"), Task("Judge", "gate"), Task("Wait", "wait")


def record(**about: Any) -> Record:
    found = Record({"operation": "upgrade", **about}, 100.0)
    found.phase("First", 100.0)
    return found


def run(
    one: Record, host: str, task: Task, began: float, seconds: float, state: str = "ok", **more: str
) -> None:
    one.begins(host, task, began)
    one.ends(host, task, state, began + seconds, **more)


def test_a_step_has_its_times_and_a_short_one_is_counted_only() -> None:
    one = record()
    run(one, "a", WORK, 101.0, 2.5, "changed")
    run(one, "a", WORK, 104.0, 0.4)
    data = one.data(110.0)
    assert data["steps"] == [["a", 0, 0, 1.0, 3.5, "work", "changed", 1]]
    assert data["hosts"]["a"] == {"state": "", "counts": {"changed": 1, "ok": 1}, "spans": [[0, 1.0, 4.4]]}


def test_a_failure_is_kept_however_short() -> None:
    one = record()
    run(one, "a", GATE, 101.0, 0.1, "failed", why="No token abcdef.0123456789abcdef.", on="b")
    data = one.data(102.0)
    assert [step[6] for step in data["steps"]] == ["failed"]
    assert data["failures"] == [
        {
            "phase": 0,
            "task": "Judge",
            "host": "a",
            "at": 1.0,
            "why": "No token ********.",
            "state": "failed",
            "on": "b",
        }
    ]
    assert data["gates"][0]["passed"] is False and data["hosts"]["a"]["state"] == "failed"


def test_whoever_goes_on_was_saved_from_its_failure() -> None:
    one = record()
    run(one, "a", WORK, 101.0, 1, "failed")
    run(one, "a", GATE, 103.0, 1)
    assert one.data(105.0)["hosts"]["a"]["state"] == ""


def test_the_end_says_who_is_lost() -> None:
    one = record()
    run(one, "a", WORK, 101.0, 1, "failed")
    run(one, "b", WORK, 101.0, 1)
    one.begins("b", WAIT, 103.0)
    one.ends_all(FAILED, 104.0, {"b": "unreachable", "c": "failed"})
    data = one.data(104.0)
    assert {name: host["state"] for name, host in data["hosts"].items()} == {
        "a": "",
        "b": "unreachable",
        "c": "failed",
    }
    assert data["busy"] == [] and data["ended"] == 104.0 and data["phases"][0]["ended"] == 4.0


def test_a_wait_is_told_when_it_waited() -> None:
    one = record()
    run(one, "a", WAIT, 101.0, 1)
    one.begins("a", WAIT, 103.0)
    one.tries("a", 3)
    one.ends("a", WAIT, "ok", 104.0)
    run(one, "a", WAIT, 105.0, 6)
    assert [(gate["tries"], gate["seconds"]) for gate in one.data(120.0)["gates"]] == [(3, 1.0), (1, 6.0)]


@pytest.mark.parametrize(("check", "planned"), [(False, [True, False]), (True, [True, True])])
def test_what_was_said_before_the_first_change_was_planned(check: bool, planned: list[bool]) -> None:
    one = record(check=check)
    one.says("a", "Say", ["first"], 101.0)
    run(one, "a", WORK, 102.0, 1, "changed")
    one.says("a", "Say", ["second"], 104.0)
    assert [said["planned"] for said in one.data(110.0)["said"]] == planned


def test_where_nothing_was_changed_nothing_was_planned() -> None:
    one = record()
    one.says("a", "Report", ["HEALTHY"], 101.0)
    assert [said["planned"] for said in one.data(110.0)["said"]] == [False]


def test_batches_of_one_play_are_one_phase() -> None:
    one = record()
    for at, name in ((110.0, "First"), (120.0, "Second"), (130.0, "Second")):
        one.phase(name, at)
    one.ends_all(DONE, 140.0)
    assert one.data(140.0)["phases"] == [
        {"name": "First", "began": 0.0, "ended": 20.0},
        {"name": "Second", "began": 20.0, "ended": 40.0},
    ]


def test_hosts_are_busy_until_they_begin_something_else() -> None:
    one = record()
    one.begins("a", WORK, 101.0)
    one.begins("b", WORK, 102.0)
    one.begins("a", WAIT, 105.0)
    assert [(busy.host, busy.task, busy.seconds) for busy in one.busy(107.0)] == [
        ("a", "Wait", 2.0),
        ("b", "Work", 5.0),
    ]
    one.phase("Second", 108.0)
    assert one.busy(109.0) == []


def test_how_long_a_task_takes_is_the_median_of_those_that_ended_well() -> None:
    one = record()
    for host, seconds, state in (("a", 10, "ok"), ("b", 30, "changed"), ("c", 20, "ok"), ("d", 99, "failed")):
        run(one, host, WORK, 101.0, seconds, state)
    assert one.usual("Work") == 20 and one.usual("Wait") == 0
    assert one.data(300.0)["usual"] == {"Work": 20}


def test_versions_are_those_of_the_first_and_the_last_look() -> None:
    def look(kubelet: str, etcd: str) -> dict[str, Any]:
        return {
            "nodes": [{"name": "cp1", "kubelet_version": kubelet}],
            "control_plane": [
                {"node": "cp1", "component": "kube-apiserver", "version": "1.36.3"},
                {"node": "cp1", "component": "etcd", "version": f"{etcd}-0"},
            ],
            "etcd": {"members": [{"name": "cp1", "version": etcd}]},
        }

    one = record()
    for observed in (
        look("1.36.3", "3.6.8"),
        {"nodes": []},
        look("1.36.9", "3.6.9"),
        look("1.37.1", "3.7.0"),
    ):
        one.sees("cluster", observed)
    one.sees("etcd", {"etcd": {"members": [{"name": "etcd1", "version": "3.6.1"}]}})
    found = one.data(110.0)["versions"]
    assert found["before"]["cp1"] == {"kubelet": "1.36.3", "kube-apiserver": "1.36.3", "etcd": "3.6.8"}
    assert found["after"]["cp1"] == {"kubelet": "1.37.1", "kube-apiserver": "1.36.3", "etcd": "3.7.0"}
    assert found["before"]["etcd1"] == found["after"]["etcd1"] == {"etcd": "3.6.1"}


def test_what_does_not_answer_has_no_versions() -> None:
    assert versions({"answers": False, "nodes": [], "etcd": {"members": [], "error": "no"}}) == {}


def test_the_data_is_what_json_gives_back() -> None:
    one = record(check=False)
    run(one, "a", WORK, 101.0, 2, "failed", why="x")
    one.begins("a", WAIT, 104.0)
    data = one.data(110.0)
    assert json.loads(json.dumps(data)) == data
