# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _data_folder as folder
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError


def lay(data: Path, **contents: bytes) -> None:
    for name, content in {"snap/db": b"no database", "wal/0-0.wal": b"12345", **contents}.items():
        path = data / "member" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_nothing_is_there(tmp_path: Path) -> None:
    for data in (tmp_path / "missing", tmp_path):
        seen = folder.look(str(data))
        assert not seen.has_data and not seen.in_use and seen.revision is None and seen.size == 0


def test_a_new_member_can_have_a_folder_with_what_was_moved_aside(tmp_path: Path) -> None:
    assert not folder.holds_only_asides(str(tmp_path / "missing"))
    assert not folder.holds_only_asides(str(tmp_path))
    for what in ("before-restore", "before-replacement", "removed"):
        (tmp_path / f"{what}-20261121T120000Z").mkdir()
        assert folder.holds_only_asides(str(tmp_path))
    (tmp_path / ".restoring").mkdir()
    (tmp_path / "lost+found").mkdir()
    assert folder.holds_only_asides(str(tmp_path))
    for name in ("member", ".kubewright-new-cluster", "before-restore-postgres", "xlost+found"):
        (tmp_path / name).mkdir()
        assert not folder.holds_only_asides(str(tmp_path)), name
        (tmp_path / name).rmdir()


def test_what_a_copy_takes(tmp_path: Path) -> None:
    lay(
        tmp_path,
        **{
            "wal/1.tmp": b"laid down",
            "snap/tmp123": b"received",
            "snap/db.tmp.4": b"defragmented",
            "snap/0000000000000009.snap.db": b"received",
            "snap/0000000000000001-0000000000000002.snap": b"123",
            "wal/0.wal.broken": b"x",
        },
    )
    names = sorted(name for name, _size, _changed in folder.files(str(tmp_path / "member")))
    assert names == ["snap/0000000000000001-0000000000000002.snap", "snap/db", "wal/0-0.wal"]
    assert folder.look(str(tmp_path)).size == 3 + len("no database") + 5


def test_a_damaged_database_is_told_and_stops_nothing(tmp_path: Path) -> None:
    lay(tmp_path)
    (tmp_path / "member" / folder.MARKER).write_text(json.dumps({"revision": 7}))
    moved = [f"{what}-20261121T120000Z" for what in ("before-restore", "before-replacement", "removed")]
    for name in (*moved, ".kubewright-new-cluster", "lost+found", "postgres"):
        (tmp_path / name).mkdir()
    seen = folder.look(str(tmp_path))
    assert seen.has_data and "damaged" in seen.error and seen.restored == {"revision": 7}
    assert seen.written_since_restore is None
    assert seen.aside == [str(tmp_path / "before-restore-20261121T120000Z")] and seen.foreign == ["postgres"]


def test_a_process_that_has_the_database_open(tmp_path: Path) -> None:
    lay(tmp_path)
    with (tmp_path / "member/snap/db").open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        seen = folder.look(str(tmp_path))
        assert seen.in_use and not seen.error
    assert not folder.look(str(tmp_path)).in_use


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_marker_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / folder.MARKER).write_text(content)
    assert folder.read_marker(str(tmp_path)) == {}
    assert folder.restored_at({"revision": "7"}) is None


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(KubewrightError, match="The data folder cannot be read"):
        folder.look(str(path))
    assert os.path.exists(path)
