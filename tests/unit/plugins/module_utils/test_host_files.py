# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""_host_files against real files, owned by whoever runs the tests."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _host_files
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._host_files import Owner, Plan

OWN = Owner(os.getuid(), os.getgid())
LONG_AGO = 1_000_000_000


def item(
    path: Path | str, content: Any = "one\n", mode: str = "0644", state: str = "present"
) -> dict[str, Any]:
    return {"path": str(path), "content": content, "mode": mode, "state": state}


def absent(path: Path) -> dict[str, Any]:
    return item(path, content=None, state="absent")


def make_plan(*items: dict[str, Any], owner: Owner = OWN, directory_mode: int = 0o755) -> Plan:
    files = _host_files.parse_files(items)
    return _host_files.plan(files, *_host_files.observe(files), owner, directory_mode)


def bring(*items: dict[str, Any]) -> Plan:
    planned = make_plan(*items)
    _host_files.apply(planned, os.replace)
    return planned


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_is_created_exactly_as_given(tmp_path: Path) -> None:
    path = tmp_path / "a"
    previous = os.umask(0o077)
    try:
        planned = bring(item(path, "no newline, ü", mode="0664"))
    finally:
        os.umask(previous)
    assert path.read_bytes() == "no newline, ü".encode()
    assert mode_of(path) == 0o664
    assert planned.changed_paths == [str(path)]
    assert os.listdir(tmp_path) == ["a"]


def test_what_is_as_it_should_be_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a"
    bring(item(path))
    os.utime(path, (LONG_AGO, LONG_AGO))
    before = path.stat()
    planned = bring(item(path))
    after = path.stat()
    assert planned.changed_paths == []
    assert (after.st_mtime, after.st_ino, after.st_ctime_ns) == (LONG_AGO, before.st_ino, before.st_ctime_ns)


def test_new_content_takes_the_place_of_the_old_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a"
    bring(item(path, "one\n"))
    seen = []

    def place(temporary: str, final: str) -> None:
        assert path.read_text() == "one\n"
        seen.append((Path(temporary).read_text(), mode_of(Path(temporary)), os.path.dirname(temporary)))
        os.replace(temporary, final)

    _host_files.apply(make_plan(item(path, "two\n", mode="0640")), place)
    assert seen == [("two\n", 0o640, str(tmp_path))]
    assert (path.read_text(), mode_of(path)) == ("two\n", 0o640)


def test_a_mode_alone_is_changed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a"
    bring(item(path))
    os.utime(path, (LONG_AGO, LONG_AGO))
    inode = path.stat().st_ino
    planned = bring(item(path, mode="0600"))
    assert mode_of(path) == 0o600
    assert (path.stat().st_ino, path.stat().st_mtime) == (inode, LONG_AGO)
    assert planned.changed_paths == [str(path)]
    assert [entry["after"] for entry in _host_files.diff(planned)] == [
        f"mode: 0600\nuser: {OWN.uid}\ngroup: {OWN.gid}\n"
    ]


def test_ownership_alone_is_a_difference(tmp_path: Path) -> None:
    path = tmp_path / "a"
    bring(item(path))
    planned = make_plan(item(path), owner=Owner(OWN.uid, 12345))
    assert [(step.write, step.attributes) for step in planned.steps] == [(False, True)]


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_ownership_is_set(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a"
    _host_files.apply(make_plan(item(path, mode="04755"), owner=Owner(123, 456)), os.replace)
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (123, 456, 0o4755)
    assert (path.parent.stat().st_uid, path.parent.stat().st_gid) == (123, 456)


def test_absent(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one\n")
    assert bring(absent(path), absent(tmp_path / "no" / "such")).changed_paths == [str(path)]
    assert not path.exists()
    assert not (tmp_path / "no").exists()
    assert bring(absent(path)).changed_paths == []


def test_missing_parents_are_created_and_existing_ones_kept(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    files = [item(tmp_path / "x/y/a"), item(tmp_path / "x/b")]
    previous = os.umask(0o077)
    try:
        planned = make_plan(*files, directory_mode=0o751)
        _host_files.apply(planned, os.replace)
    finally:
        os.umask(previous)
    assert planned.folders == ((str(tmp_path / "x"), 0o751), (str(tmp_path / "x/y"), 0o751))
    assert [mode_of(tmp_path / name) for name in ("x", "x/y")] == [0o751, 0o751]
    assert mode_of(tmp_path) == 0o700
    assert (tmp_path / "x/y/a").read_text() == "one\n"
    assert make_plan(*files).folders == ()


def test_folders_are_made_and_closed_even_where_they_are_there(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o755)
    (tmp_path / "disk").chmod(0o755)

    def close() -> Plan:
        wanted = _host_files.parse_folders(
            [{"path": str(tmp_path / name), "mode": "0700"} for name in ("disk", "new/log")]
        )
        wrong, missing = _host_files.observe_folders(wanted, OWN)
        planned = _host_files.plan([], {}, missing, OWN, 0o751, wanted, wrong)
        _host_files.apply(planned, os.replace)
        return planned

    planned = close()
    assert planned.changed_paths == [str(tmp_path / "disk")]
    assert planned.folders == ((str(tmp_path / "new"), 0o751), (str(tmp_path / "new/log"), 0o700))
    assert [mode_of(tmp_path / name) for name in ("disk", "new", "new/log")] == [0o700, 0o751, 0o700]
    [shown] = _host_files.diff(planned)
    assert shown["before"].startswith("mode: 0755\n") and shown["after"].startswith("mode: 0700\n")
    again = close()
    assert again.changed_paths == [] and again.folders == ()


@pytest.mark.parametrize("path", ["/", "relative", "/a/../b", "/a/"])
def test_folders_are_absolute_paths(path: str) -> None:
    with pytest.raises(KubewrightError, match="absolute path of a folder"):
        _host_files.parse_folders([{"path": path, "mode": "0700"}])


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("kind", ["symbolic link", "folder", "special file"])
def test_anything_but_a_file_is_refused_before_anything_is_written(
    tmp_path: Path, kind: str, state: str
) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    other.write_text("old")
    if kind == "symbolic link":
        path.symlink_to(other)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(KubewrightError, match=kind) as refused:
        bring(item(other, "new"), item(path, state=state))
    assert str(path) in str(refused.value)
    assert other.read_text() == "old"


def test_a_parent_may_be_a_link_but_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("")
    bring(item(tmp_path / "link/a"))
    assert (tmp_path / "real/a").read_text() == "one\n"
    with pytest.raises(KubewrightError, match="where a folder must be"):
        make_plan(item(tmp_path / "file/a"))


def test_a_plan_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    os.utime(tmp_path, (LONG_AGO, LONG_AGO))
    planned = make_plan(item(tmp_path / "old", "new"), item(tmp_path / "x/y"), absent(tmp_path / "old2"))
    _host_files.diff(planned)
    assert planned.changed_paths == [str(tmp_path / "old"), str(tmp_path / "x/y")]
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"
    assert tmp_path.stat().st_mtime == LONG_AGO


@pytest.mark.parametrize("path", ["a", "new/a"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failure_before_the_rename_leaves_nothing_behind(tmp_path: Path, path: str, failure: Any) -> None:
    (tmp_path / "a").write_text("old")

    def place(_temporary: str, _final: str) -> None:
        raise failure

    with pytest.raises((KubewrightError, KeyboardInterrupt)) as stopped:
        _host_files.apply(make_plan(item(tmp_path / path, "new")), place)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    if isinstance(stopped.value, KubewrightError):
        assert "No space left" in str(stopped.value)
        assert "Free some space" in str(stopped.value)


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    """A run that is killed cleans nothing up: its temporary file and folder are the next run's."""
    (tmp_path / ".kubewright-a").write_text("the half of a file")
    (tmp_path / ".kubewright-new").mkdir()
    _host_files.apply(make_plan(item(tmp_path / "a", "whole"), item(tmp_path / "new/b", "whole")), os.replace)
    assert sorted(os.listdir(tmp_path)) == ["a", "new"]
    assert (tmp_path / "a").read_text() == (tmp_path / "new/b").read_text() == "whole"


def test_what_a_stopped_run_did_not_reach_is_done_by_the_next(tmp_path: Path) -> None:
    files = [item(tmp_path / name) for name in "abc"]
    planned = make_plan(*files)

    def place(temporary: str, final: str) -> None:
        if final.endswith("b"):
            raise KeyboardInterrupt
        os.replace(temporary, final)

    with pytest.raises(KeyboardInterrupt):
        _host_files.apply(planned, place)
    assert make_plan(*files).changed_paths == [str(tmp_path / "b"), str(tmp_path / "c")]


def test_the_diff_names_every_file_and_hides_what_not_everyone_may_read(tmp_path: Path) -> None:
    bring(item(tmp_path / "open", "one\n"), item(tmp_path / "closing", "secret\n"), item(tmp_path / "gone"))
    planned = make_plan(
        item(tmp_path / "open", "two\n"),
        item(tmp_path / "closing", "secret 2\n", mode="0600"),
        item(tmp_path / "key", "secret 3\n", mode="0640"),
        absent(tmp_path / "gone"),
    )
    entries = _host_files.diff(planned)
    assert "secret" not in str(entries)
    assert entries[0] == {
        "before": "one\n",
        "after": "two\n",
        "before_header": str(tmp_path / "open"),
        "after_header": str(tmp_path / "open"),
    }
    assert [entry["before_header"] for entry in entries[1:]] == [
        str(tmp_path / "closing"),
        f"{tmp_path / 'closing'} (attributes)",
        f"{tmp_path / 'key'} (absent)",
        str(tmp_path / "gone"),
    ]
    assert (entries[-1]["before"], entries[-1]["after"]) == ("one\n", "")


@pytest.mark.parametrize(
    "items, message",
    [
        ([item("etc/a")], "not the absolute path"),
        ([item("/etc/../a")], "not the absolute path"),
        ([item("/etc/")], "not the absolute path"),
        ([item("/")], "not the absolute path"),
        ([item("/etc/a"), item("/etc/a", "two")], "twice"),
        ([item("/etc/a"), item("/etc/a/b/c")], "the folder of another"),
        ([item("/etc/a", None)], "needs content"),
        ([item("/etc/a", {"json": 1})], "not a text but a dict.*\\| string"),
        ([item("/etc/a", mode="420")], "in quotes"),
        ([item("/etc/a", mode="u=rw")], "octal"),
    ],
)
def test_faulty_options_are_refused(items: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(KubewrightError, match=message):
        _host_files.parse_files(items)


def test_owners() -> None:
    assert _host_files.parse_owner("root", "0", may_be_missing=False) == Owner(0, 0)
    assert _host_files.parse_owner("4711", "4712", may_be_missing=False) == Owner(4711, 4712)
    with pytest.raises(KubewrightError, match="no user kubewright-nobody"):
        _host_files.parse_owner("kubewright-nobody", "root", may_be_missing=False)
    with pytest.raises(KubewrightError, match="no group kubewright-nobody"):
        _host_files.parse_owner("root", "kubewright-nobody", may_be_missing=False)
    assert _host_files.parse_owner("kubewright-nobody", "root", may_be_missing=True) == Owner(None, 0)


def test_an_owner_that_is_still_to_come_is_a_change_that_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "a"
    bring(item(path))
    planned = make_plan(item(path), owner=Owner(None, OWN.gid))
    assert planned.changed_paths == [str(path)]
    assert "user: not known yet" in _host_files.diff(planned)[0]["after"]
    with pytest.raises(KubewrightError, match="does not exist"):
        _host_files.apply(planned, os.replace)
