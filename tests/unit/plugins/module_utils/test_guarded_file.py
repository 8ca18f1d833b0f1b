# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are replaced with a way back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import GuardedFile, Unproven


class FakeComponent:
    """Works by contents that it likes; notes by which it ran."""

    def __init__(self, path: Path, *liked: str) -> None:
        self.path = path
        self.liked = liked
        self.ran: list[str] = []

    def __call__(self) -> None:
        self.ran.append(self.path.read_text())
        if self.ran[-1] not in self.liked:
            raise Unproven(f"it does not like {self.ran[-1]}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "a.yaml").write_text("old")
    (tmp_path / "live" / "a.yaml").chmod(0o640)
    return tmp_path / "live" / "a.yaml"


def guarded(path: Path) -> GuardedFile:
    return GuardedFile(path, path.parents[1] / "state")


def test_a_new_file_that_works_stays_and_the_old_one_is_kept(path: Path) -> None:
    component, file = FakeComponent(path, "old", "new"), guarded(path)
    file.replace("new", component, component)
    assert path.read_text() == "new" and component.ran == ["new"]
    assert file.previous.read_text() == "old" and not file.unproven
    assert path.stat().st_mode & 0o777 == 0o640 and file.previous.parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in path.parent.iterdir()] == ["a.yaml"]


def test_what_gets_its_name_is_in_the_run_log(path: Path, run_log: Path) -> None:
    component, file = FakeComponent(path, "old", "new"), guarded(path)
    file.replace("new", component, component)
    lines = [json.loads(line) for line in run_log.read_text().splitlines()]
    assert [line["state"] for line in lines if line["write"] == str(path)] == ["begin", "end"]


def test_a_new_file_that_does_not_work_goes_and_the_old_one_is_seen_to_work(path: Path) -> None:
    component, file = FakeComponent(path, "old"), guarded(path)
    with pytest.raises(Unproven) as failed:
        file.replace("bad", component, component)
    assert path.read_text() == "old" and component.ran == ["bad", "old"]
    assert failed.value.facts["rolled_back"] is True and not file.unproven
    assert "back in place and works" in str(failed.value)


def test_an_old_file_that_does_not_work_either_is_said_and_kept(path: Path) -> None:
    component, file = FakeComponent(path), guarded(path)
    with pytest.raises(Unproven) as failed:
        file.replace("bad", component, component)
    assert path.read_text() == "old" and failed.value.facts["rolled_back"] is False and file.unproven
    assert "it does not like bad" in str(failed.value) and "it does not like old" in str(failed.value)
    assert "back in place and works" not in str(failed.value)


class Killed(BaseException):
    """The run is stopped here."""


def kill() -> None:
    raise Killed


def test_a_run_that_is_stopped_leaves_the_way_back_to_the_next(path: Path) -> None:
    with pytest.raises(Killed):
        guarded(path).replace("bad", kill, kill)
    assert path.read_text() == "bad" and guarded(path).unproven
    component = FakeComponent(path, "old")
    with pytest.raises(Unproven):
        guarded(path).prove(component, component)
    assert path.read_text() == "old" and component.ran == ["bad", "old"] and not guarded(path).unproven


def test_a_way_back_from_a_file_that_is_gone_leads_nowhere(path: Path) -> None:
    """An upgrade by kubeadm, or a new join, wrote another file since."""
    with pytest.raises(Killed):
        guarded(path).replace("bad", kill, kill)
    path.write_text("of the upgrade")
    assert not guarded(path).unproven
    component = FakeComponent(path, "of the upgrade")
    with pytest.raises(Unproven):
        guarded(path).replace("worse", component, component)
    assert path.read_text() == "of the upgrade" and not guarded(path).unproven


def test_a_stop_before_the_new_file_is_written_is_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(GuardedFile, "_write", lambda _self, _content: kill())
        guarded(path).replace("new", kill, kill)
    assert path.read_text() == "old" and guarded(path).unproven and not guarded(path).in_doubt


@pytest.mark.parametrize("write", [True, False])
def test_every_attempt_is_known(path: Path, monkeypatch: pytest.MonkeyPatch, write: bool) -> None:
    with pytest.raises(Killed):
        guarded(path).replace("bad", kill, kill)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        if not write:
            patched.setattr(GuardedFile, "_write", lambda _self, _content: kill())
        guarded(path).replace("worse", kill, kill)
    assert path.read_text() == ("worse" if write else "bad") and guarded(path).in_doubt
    component = FakeComponent(path, "old")
    with pytest.raises(Unproven):
        guarded(path).prove(component, component)
    assert path.read_text() == "old" and not guarded(path).unproven
    assert not list((path.parents[1] / "state" / "attempts").iterdir())


def test_after_a_stop_the_way_back_leads_to_the_last_proven_file(path: Path) -> None:
    with pytest.raises(Killed):
        guarded(path).replace("bad", kill, kill)
    component = FakeComponent(path, "old")
    with pytest.raises(KubewrightError):
        guarded(path).replace("worse", component, component)
    assert path.read_text() == "old" and component.ran == ["worse", "old"]
    component.liked = ("new",)
    guarded(path).replace("new", component, component)
    assert path.read_text() == "new" and guarded(path).previous.read_text() == "old"
