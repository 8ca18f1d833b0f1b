# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _etcd_snapshot as saving
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, Member, quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import (
    RECORD,
    Snapshot,
    timestamp,
    write_record,
)

NOW = 1_795_000_000.0


def member(number: int, **changes: object) -> Member:
    base = Member(
        id=str(number),
        name=f"cp{number}",
        peer_urls=[f"https://192.0.2.{number}:2380"],
        client_urls=[f"https://192.0.2.{number}:2379"],
        is_leader=number == 1,
        healthy=True,
        revision=100 + number,
        db_size=1000,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def etcd(*members: Member) -> Etcd:
    return Etcd(list(members), quorum(members), next((one.id for one in members if one.is_leader), None))


def test_the_newest_follower_is_asked() -> None:
    assert saving.choose(etcd(member(1, revision=999), member(2), member(3))).name == "cp3"
    assert saving.choose(etcd(member(1))).name == "cp1"
    dead = member(3, healthy=False, error="dead")
    assert saving.choose(etcd(member(1), member(2), dead)).name == "cp2"
    learner = member(3, is_learner=True)
    assert saving.choose(etcd(member(1), member(2, healthy=False, alarms=["NOSPACE"]), learner)).name == "cp2"
    silent = member(2, healthy=False, alarms=["NOSPACE"], revision=None, error="its status cannot be read")
    assert saving.choose(etcd(member(1), silent)).name == "cp1"


def test_nothing_is_saved_from_a_cluster_that_is_corrupt_or_has_no_leader() -> None:
    with pytest.raises(KubewrightError, match="cp2 is corrupt"):
        saving.choose(etcd(member(1), member(2, alarms=["CORRUPT"]), member(3)))
    with pytest.raises(KubewrightError, match="No member is healthy enough"):
        saving.choose(etcd(member(1, is_leader=False)))


def put(folder: Path, hours: float) -> Snapshot:
    moment = timestamp(NOW - hours * 3600)
    one = Snapshot(f"{folder}/etcd-{moment}.db", 2, "sum", saved_at=moment)
    Path(one.path).write_bytes(b"12")
    write_record(one, one.path + RECORD)
    return one


def test_etcd_is_not_asked_where_a_snapshot_is_new_enough(tmp_path: Path) -> None:
    def asked() -> Etcd:
        raise AssertionError

    there = put(tmp_path, 1)
    wanted = saving.Wanted(str(tmp_path), "etcd", unless_newer_than=2 * 3600)
    planned = saving.plan(wanted, asked, NOW)
    assert not planned.changed and planned.newest == there
    # One from the future, by a clock that was wrong, is not newer than the next save.
    os.unlink(there.path)
    put(tmp_path, -5)
    assert saving.plan(wanted, lambda: etcd(member(1)), NOW).member is not None


def test_what_is_about_to_be_saved_counts_as_kept(tmp_path: Path) -> None:
    ages = [put(tmp_path, hours) for hours in (1, 2, 3)]
    planned = saving.plan(saving.Wanted(str(tmp_path), "etcd", keep=2), lambda: etcd(member(1)), NOW)
    assert {one.path for one in planned.prune} == {one.path for one in ages[1:]}


def test_what_a_killed_run_left_counts_as_free(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    left = tmp_path / ".saving-etcd-20260101T000000Z.db"
    left.mkdir()
    (left / "half").write_bytes(b"x" * (8 << 20))
    assert saving.leftovers(str(tmp_path)) == [str(left)]
    with pytest.raises(KubewrightError, match="are needed"):
        saving.check_room(str(tmp_path / "new" / "folder"), free + (1 << 40))
    saving.check_room(str(tmp_path), 1 << 20, saving.leftovers(str(tmp_path)))


def test_what_a_killed_run_left_is_not_lent(tmp_path: Path) -> None:
    left = tmp_path / "work" / "half"
    left.parent.mkdir()
    left.write_text("")
    with saving.lent(str(left.parent)) as work:
        assert os.listdir(work) == []


def test_one_at_a_time_and_nothing_is_left(tmp_path: Path) -> None:
    folder = str(tmp_path / "backups")
    with saving.making(folder, "etcd-x.db", 0) as work:
        assert oct(os.stat(folder).st_mode & 0o777) == oct(os.stat(work).st_mode & 0o777) == "0o700"
        with pytest.raises(KubewrightError, match="Another run is saving"), saving.making(folder, "other", 0):
            pass
        (Path(work) / "half").write_text("")
    assert os.listdir(folder) == []
    said = r"The snapshot cannot be saved.*nothing of this snapshot was left"
    with pytest.raises(KubewrightError, match=said), saving.making(folder, "etcd-x.db", 0):
        raise OSError(28, "No space left on device", folder)
    assert os.listdir(folder) == []
    (Path(folder) / "etcd-x.db").write_text("")
    with pytest.raises(KubewrightError, match="of this very second"), saving.making(folder, "etcd-x.db", 0):
        pass
