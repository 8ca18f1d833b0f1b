# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions of a restore, and one that is killed at each of its steps. etcd's own part is in tests/integration."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _snapshot_restore as restoring
from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import (
    ASIDE,
    DataFolder,
    look,
    read_marker,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import Snapshot

SNAPSHOT = Snapshot("/backups/s.db", 4096, "a" * 64, revision=100, storage_version="3.6.0")
NOW = 1_795_000_000.0
EMPTY = DataFolder(False, False, 0, None, None, {}, None, [], [])
FULL = DataFolder(True, False, 9, 7, "3.6.0", {}, None, [], [])


def wanted(data_dir: Path | str = "/var/lib/etcd", **changes: Any) -> restoring.Wanted:
    options: dict[str, Any] = {
        "snapshot": "/backups/s.db",
        "data_dir": str(data_dir),
        "name": "cp1",
        "members": {"cp1": "https://192.0.2.1:2380", "cp2": "https://192.0.2.2:2380"},
        "token": "new",
        **changes,
    }
    return restoring.Wanted(**options)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"name": "cp9"}, "is not among members"),
        (
            {"members": {"cp1": "https://192.0.2.1:2380", "cp2": "https://192.0.2.1:2380"}},
            "the same peer URL",
        ),
        ({"members": {"cp1": "192.0.2.1"}}, "is not a peer URL"),
        ({"token": ""}, "needs a new token"),
    ],
)
def test_options_that_cannot_be_meant(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(KubewrightError, match=why):
        restoring.check_options(wanted(**changes))


@pytest.mark.parametrize(
    ("found", "changes", "version", "why"),
    [
        (FULL, {}, "3.6.16", "There is data in the folder already"),
        (
            DataFolder(True, True, 9, None, None, {}, None, [], []),
            {"replace": True},
            "3.6.16",
            "process uses",
        ),
        (
            DataFolder(False, False, 0, None, None, {}, None, [], ["db"]),
            {"replace": True},
            "3.6.16",
            "it holds db",
        ),
        (EMPTY, {"sha256": "b" * 64}, "3.6.16", "not the snapshot that is meant"),
        (EMPTY, {}, "3.5.35", "etcd 3.6 wrote the snapshot"),
    ],
)
def test_refusals(found: DataFolder, changes: dict[str, Any], version: str, why: str) -> None:
    with pytest.raises(KubewrightError, match=why):
        restoring.plan(wanted(**changes), found, SNAPSHOT, version)


def test_what_is_done_and_what_is_moved_aside() -> None:
    assert restoring.plan(wanted(), EMPTY, SNAPSHOT, "3.6.16") == restoring.Plan(True, False)
    assert restoring.plan(wanted(replace=True), FULL, SNAPSHOT, "3.7.3") == restoring.Plan(True, True)
    marker = restoring.marker(wanted(), SNAPSHOT)
    done = DataFolder(True, True, 9, None, None, marker, None, [], [])
    # Also while etcd runs on it already, and with another etcdutl: nothing is left to be done.
    assert not restoring.plan(wanted(), done, SNAPSHOT, "3.5.35").changed
    with pytest.raises(KubewrightError, match="process uses"):
        restoring.plan(wanted(token="another", replace=True), done, SNAPSHOT, "3.6.16")


class FakeEtcdutl:
    """Makes the folder that etcdutl would make, or fails: what is in it belongs to the integration tests."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure

    def __call__(self, argv: list[str], **_: Any) -> tuple[int, str, str]:
        folder = next(word.partition("=")[2] for word in argv if word.startswith("--data-dir="))
        assert not os.path.exists(folder)
        os.makedirs(os.path.join(folder, "member", "snap"))
        Path(folder, "member", "snap", "db").write_text("restored")
        return (1, "", self.failure) if self.failure else (0, "", "")


class KilledError(BaseException):
    """Stands for SIGKILL: nothing catches it on purpose."""


class Killer:
    """Lets so many changes of the file system happen, and ends the process at the next one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        for name in ("mkdir", "rename", "rmdir", "chmod"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*words: Any, **options: Any) -> Any:
            if self.left == 0:
                raise KilledError
            self.left -= 1
            return call(*words, **options)

        return counted


def restore(data: Path, token: str = "new", failure: str = "") -> str:
    """Do as the module does; NOW never goes on, as for two runs within a second."""
    job = wanted(data, replace=True, token=token)
    planned = restoring.plan(job, look(str(data)), SNAPSHOT, "3.6.16")
    if not planned.changed:
        return ""
    restorer = restoring.Restorer(Runner(FakeEtcdutl(failure)), "etcdutl", 60)
    return restorer.apply(job, planned, SNAPSHOT, NOW)


def fill(data: Path) -> None:
    (data / "member" / "snap").mkdir(parents=True)
    (data / "member" / "snap" / "db").write_text("old")


def olds(data: Path) -> list[str]:
    """What is kept of the data from before, wherever it is."""
    return [one.read_text() for one in data.glob(f"{ASIDE}*/member/snap/db")]


def test_killed_at_each_step_and_run_again(tmp_path: Path) -> None:
    """The old data is somewhere at every moment; the next run, within the same second, finishes."""
    ended = False
    for after in range(30):
        data = tmp_path / str(after)
        fill(data)
        with pytest.MonkeyPatch.context() as patch:
            Killer(patch, after)
            try:
                restore(data)
                ended = True
            except KilledError:
                pass
        here = data / "member" / "snap" / "db"
        assert "old" in olds(data) or here.read_text() == "old", after
        restore(data)
        assert here.read_text() == "restored" and olds(data) == ["old"], after
        assert read_marker(str(data / "member")) == restoring.marker(wanted(data), SNAPSHOT)
        assert restore(data) == ""
        if ended:
            break
    assert ended and after > 5


def test_two_restores_within_a_second_keep_both_olds(tmp_path: Path) -> None:
    fill(tmp_path)
    first = restore(tmp_path)
    second = restore(tmp_path, token="another")
    assert first != second and sorted(olds(tmp_path)) == ["old", "restored"]


def test_an_empty_folder_of_a_killed_run_is_taken(tmp_path: Path) -> None:
    fill(tmp_path)
    aside = restore(tmp_path)
    shutil.rmtree(os.path.join(aside, "member"))
    assert restore(tmp_path, token="another") == aside


def test_a_failure_leaves_the_data_from_before(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(CommandError, match="the data from before is whole"):
        restore(tmp_path, failure="write /x: no space left on device")
    assert (tmp_path / "member" / "snap" / "db").read_text() == "old"
    assert not (tmp_path / ".restoring").exists()


def test_the_room_that_it_takes() -> None:
    assert restoring.needed_room(SNAPSHOT) == 2 * 4096 + (128 << 20)
