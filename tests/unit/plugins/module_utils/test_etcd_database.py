# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader against files laid out by hand; that etcd's own are read the same is shown in tests/integration."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_database import Content, Database

PAGE = 4096


def fnv(content: bytes) -> int:
    value = 14695981039346656037
    for byte in content:
        value = (value ^ byte) * 1099511628211 % 2**64
    return value


def meta(number: int, root: int, transaction: int) -> bytes:
    body = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, root, 0, 2, 7, transaction)
    return page(number, 0x04, 0, body + struct.pack("<Q", fnv(body)))


def page(number: int, flags: int, count: int, content: bytes) -> bytes:
    return (struct.pack("<QHHI", number, flags, count, 0) + content).ljust(PAGE, b"\0")


def leaf(entries: list[tuple[bytes, bytes]], *, buckets: bool = False) -> tuple[int, bytes]:
    table, data = b"", b""
    for index, (key, value) in enumerate(entries):
        place = (len(entries) - index) * 16 + len(data)
        table += struct.pack("<IIII", int(buckets), place, len(key), len(value))
        data += key + value
    return len(entries), table + data


def branch(children: list[tuple[bytes, int]]) -> tuple[int, bytes]:
    table, data = b"", b""
    for index, (key, number) in enumerate(children):
        table += struct.pack("<IIQ", (len(children) - index) * 16 + len(data), len(key), number)
        data += key
    return len(children), table + data


def rev(main: int, *, deleted: bool = False) -> bytes:
    return struct.pack(">Q", main) + b"_" + struct.pack(">Q", 0) + (b"t" if deleted else b"")


def database(path: Path, revisions: list[bytes]) -> Path:
    """Two leaves below a branch for the revisions, and a bucket that is inside its parent."""
    half = len(revisions) // 2
    inline = struct.pack("<QHHI", 0, 0x02, 1, 0) + leaf([(b"clusterVersion", b"3.6.0")])[1]
    buckets = [
        (b"cluster", struct.pack("<QQ", 0, 0) + inline),
        (b"key", struct.pack("<QQ", 4, 0)),
    ]
    pages = [
        meta(0, 3, 7),
        meta(1, 8, 6),
        page(2, 0x10, 0, b""),
        page(3, 0x02, *leaf(buckets, buckets=True)),
        page(4, 0x01, *branch([(revisions[0], 5), (revisions[half], 6)])),
        page(5, 0x02, *leaf([(one, b"value") for one in revisions[:half]])),
        page(6, 0x02, *leaf([(one, b"value") for one in revisions[half:]])),
    ]
    path.write_bytes(b"".join(pages))
    return path


def test_the_newest_revision_and_the_version(tmp_path: Path) -> None:
    with Database(str(database(tmp_path / "db", [rev(2), rev(5), rev(9), rev(2**40)]))) as opened:
        assert opened.revision() == 2**40
        assert opened.cluster_version() == "3.6.0"


def test_the_newer_meta_page_counts(tmp_path: Path) -> None:
    path = database(tmp_path / "db", [rev(2), rev(5)])
    content = bytearray(path.read_bytes())
    content[:PAGE] = meta(0, 3, 5)
    content[PAGE : 2 * PAGE] = meta(1, 3, 6)
    path.write_bytes(content)
    with Database(str(path)) as opened:
        assert opened.revision() == 5
    # The first one torn by a power failure: the second one, wherever its page begins, is enough.
    content[20:40] = b"\xff" * 20
    path.write_bytes(content)
    with Database(str(path)) as opened:
        assert opened.revision() == 5


@pytest.mark.parametrize(
    ("later", "written"),
    [
        ([], False),
        ([rev(1001)], True),
        ([rev(1001, deleted=True), rev(1002, deleted=True)], False),
        ([rev(1001), rev(1002, deleted=True)], True),
    ],
)
def test_whether_somebody_wrote_after_a_revision(tmp_path: Path, later: list[bytes], written: bool) -> None:
    with Database(str(database(tmp_path / "db", [rev(7), rev(1000), *later]))) as opened:
        assert opened.written_after(1000) is written


def test_every_page_fits(tmp_path: Path) -> None:
    """The totals, and each kind of damage that a page can have while its own bytes look well."""
    path = database(tmp_path / "db", [rev(2), rev(5), rev(9), rev(10)])
    whole = path.read_bytes()
    with Database(str(path)) as opened:
        assert opened.check() == Content(10, 4, "")
    damages = {
        "page 5 is damaged": page(5, 0x04, 0, b""),
        "page 5 is out of order": page(5, 0x02, *leaf([(rev(7), b""), (rev(2), b"")])),
        "an entry of it is no revision": page(5, 0x02, *leaf([(rev(2), b""), (rev(5) + b"xx", b"")])),
        "page 6 is used twice": page(4, 0x01, *branch([(rev(2), 6), (rev(3), 6)])),
        "it ends before byte 409600": page(4, 0x01, *branch([(rev(2), 99)])),
    }
    for why, changed in damages.items():
        number = int.from_bytes(changed[:8], "little")
        path.write_bytes(whole[: number * PAGE] + changed + whole[(number + 1) * PAGE :])
        with pytest.raises(KubewrightError, match=why), Database(str(path)) as opened:
            opened.check()
    path.write_bytes(whole[:-PAGE])
    with pytest.raises(KubewrightError, match="it ends before page 7"), Database(str(path)) as opened:
        opened.check()
    # The number of another page, and an element that reaches beyond its own.
    path.write_bytes(whole[: 5 * PAGE] + page(6, 0x02, *leaf([(rev(2), b"")])) + whole[6 * PAGE :])
    with pytest.raises(KubewrightError, match="page 5 is damaged"), Database(str(path)) as opened:
        opened.check()
    long = struct.pack("<IIII", 0, 16, 17, 5000) + rev(2)
    path.write_bytes(whole[: 5 * PAGE] + page(5, 0x02, 1, long) + whole[6 * PAGE :])
    with pytest.raises(KubewrightError, match="does not end in it"), Database(str(path)) as opened:
        opened.check()


@pytest.mark.parametrize("content", [b"", b"\0" * 9000, b"not a database " * 1000])
def test_what_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "db"
    path.write_bytes(content)
    with pytest.raises(KubewrightError, match="first pages are damaged"), Database(str(path)) as opened:
        opened.revision()
    with pytest.raises(KubewrightError, match="No such file"):
        Database(str(tmp_path / "missing"))


def test_a_damaged_page_is_named_and_no_endless_walk(tmp_path: Path) -> None:
    path = database(tmp_path / "db", [rev(2), rev(5)])
    content = bytearray(path.read_bytes())
    content[4 * PAGE : 5 * PAGE] = page(4, 0x01, *branch([(rev(2), 4)]))
    path.write_bytes(content)
    with pytest.raises(KubewrightError, match="page at byte 16384 is damaged"), Database(str(path)) as opened:
        opened.revision()
    path.write_bytes(content[: 4 * PAGE + 10])
    with pytest.raises(KubewrightError, match="it ends before byte"), Database(str(path)) as opened:
        opened.revision()
