# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _snapshot_files as files
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

DAY = 86400
NOW = 1_795_000_000.0


def summed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


@pytest.mark.parametrize("size", [512, 4096, 3 << 20, (1 << 20) - 512, (1 << 20) + 512])
def test_the_sum_at_the_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "s.db"
    whole = summed(bytes(index % 251 for index in range(512)) * (size // 512))
    path.write_bytes(whole)
    assert files.check_sum(str(path)) == hashlib.sha256(whole).hexdigest()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(KubewrightError, match="does not match the sum"):
        files.check_sum(str(path))


@pytest.mark.parametrize("content", [b"", b"x" * 32, b"x" * 511, b"x" * 4096, summed(b"x" * 100)])
def test_what_has_no_sum(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(KubewrightError, match="cut off, or no snapshot"):
        files.check_sum(str(path))


class GrowingFile(io.FileIO):
    """A file that another program is still writing: it gives a few bytes more at each look."""

    def __init__(self, path: Path, steps: list[int]) -> None:
        super().__init__(path)
        self._steps = steps

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._steps:
            return 0
        content = self.read(min(self._steps.pop(0), len(buffer)))
        buffer[: len(content)] = content
        return len(content)


def test_a_file_that_still_grows_is_whole_at_its_end_only(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    whole = summed(b"y" * 4096)
    path.write_bytes(whole)
    steps = [1, 31, 480, 32, 3000, 584, 16, 15, 1]
    with GrowingFile(path, steps) as stream:
        summing = files.Summing(stream)
        seen = [summing.whole for _ in range(9) if summing.read_on() or True]
    assert seen[-3:].count(True) >= 1 and not any(seen[:5])
    assert summing.result(str(path)) == hashlib.sha256(whole).hexdigest()


def snapshot(days: float, folder: str = "/b") -> files.Snapshot:
    moment = files.timestamp(NOW - days * DAY)
    return files.Snapshot(f"{folder}/etcd-{moment}.db", 2, "sum", saved_at=moment)


@pytest.mark.parametrize(
    ("keep", "keep_days", "kept"),
    [
        (0, 0, [0, 1, 5, 9]),
        (1, 0, [0]),
        (2, 0, [0, 1]),
        (9, 0, [0, 1, 5, 9]),
        (0, 3, [0, 1]),
        (3, 3, [0, 1, 5]),
        (0, 0.001, [0]),
        (1, 100, [0, 1, 5, 9]),
    ],
)
def test_pruning(keep: int, keep_days: float, kept: list[int]) -> None:
    ages = [0, 1, 5, 9]
    there = [snapshot(age) for age in ages]
    gone = files.superfluous(there, keep=keep, keep_days=keep_days, now=NOW)
    assert [age for age, one in zip(ages, there) if one not in gone] == kept


def test_the_last_one_is_never_pruned() -> None:
    assert files.superfluous([snapshot(1000)], keep=0, keep_days=1, now=NOW) == []
    assert files.superfluous([], keep=1, keep_days=1, now=NOW) == []


def test_only_what_has_its_record_and_its_size_is_a_snapshot(tmp_path: Path) -> None:
    for days in (2, 1):
        one = snapshot(days, str(tmp_path))
        Path(one.path).write_bytes(b"12")
        files.write_record(
            replace(one, rescued_from="x", written_since_restore=False), one.path + files.RECORD
        )
    bare, longer = snapshot(3, str(tmp_path)), snapshot(4, str(tmp_path))
    Path(bare.path).write_bytes(b"12")
    Path(longer.path).write_bytes(b"123")
    files.write_record(longer, longer.path + files.RECORD)
    (tmp_path / "other-20261121T114500Z.db").write_bytes(b"12")
    found = files.snapshots(str(tmp_path), "etcd")
    assert [one.saved_at for one in found] == [files.timestamp(NOW - days * DAY) for days in (2, 1)]
    assert found[0].rescued_from == "x" and found[0].written_since_restore is False
    assert files.snapshots(str(tmp_path / "missing"), "etcd") == []


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"'])
def test_records_that_are_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.db"
    Path(f"{path}.json").write_text(content)
    record = files.read_record(str(path))
    assert record is None or record.sha256 == ""
