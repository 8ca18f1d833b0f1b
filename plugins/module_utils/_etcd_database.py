# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a few entries of etcd's database file, of a snapshot as well as of a member that is stopped.

PRIVATE to the collection: this interface can change in any release.

etcdutl maps the file into memory, so that all of it becomes resident, and keeps a table of its pages. Here a page is
read at a time, and one bit is kept for each. The file is a B+ tree of bbolt, whose format has had the same version
since 2014:

    page      id 8, flags 2, count 2, overflow 4, then the table of its elements, then their keys and values
    meta      magic 4, version 4, page size 4, flags 4, root page 8, sequence 8, freelist 8, end 8, transaction 8, sum 8
    branch    place of the key 4, its size 4, page 8
    leaf      flags 4, place of the key 4, its size 4, size of the value 4
    bucket    as the value of a leaf's element: root page 8, sequence 8; without a page its only leaf follows

The bucket `key` has one entry for each revision: main number 8, `_`, sub number 8, big-endian, and `t` for a deletion.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH, _LEAF, _FREE = 0x01, 0x02, 0x10
# In place of the page of the free ones where etcd keeps no list, and of their number where two bytes are too few.
_NO_LIST, _MANY = 0xFFFFFFFFFFFFFFFF, 0xFFFF
_IS_BUCKET = 0x01
_HEADER = struct.Struct("<QHHI")
_META_BODY = struct.Struct("<IIIIQQQQQ")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_BUCKET = struct.Struct("<QQ")
_PAGE_SIZES = (4096, 16384, 65536, 8192, 32768, 2048, 1024)
_REVISIONS = {17, 18}
# A tree of a full database has five levels.
_DEPTH = 32


class _DamagedError(ValueError):
    """The file is not what it claims to be."""


@dataclass(frozen=True)
class _Entry:
    """One entry of a leaf; `value` is where its value begins."""

    key: bytes
    value: int
    size: int
    is_bucket: bool


@dataclass(frozen=True)
class Content:
    """What a database holds. `total_keys` are the revisions of keys, as etcdutl counts them."""

    revision: int
    total_keys: int
    storage_version: str


@dataclass(frozen=True)
class _Layout:
    """`root` is a page, `end` the first one that is not used any more, `free` the page of the free ones."""

    page: int
    root: int
    free: int
    end: int


class Database:
    """An open database. Nobody may write it meanwhile: bbolt reuses pages."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: _Layout | None = None
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KubewrightError(
                "The database cannot be read", where=path, why=error.strerror or ""
            ) from error

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        if isinstance(error, (_DamagedError, OSError)):
            raise KubewrightError(
                "The database cannot be read",
                where=self._path,
                why=str(error),
                remedy="Use the data of another member, or a snapshot",
            ) from error

    def revision(self) -> int:
        """Return the newest revision, 0 where there is none."""
        return next((main for main, _deleted in self._revisions()), 0)

    def written_after(self, revision: int) -> bool:
        """Tell whether a value was written after a revision.

        Deletions alone do not count: etcd makes them by itself when a lease expires.
        """
        for main, deleted in self._revisions():
            if main <= revision:
                return False
            if not deleted:
                return True
        return False

    def cluster_version(self) -> str:
        """Return the version that all members had agreed on, such as 3.6.0; empty before they did."""
        return self._text(b"cluster", b"clusterVersion")

    def check(self) -> Content:
        """Read every page that is in use, and raise an error unless all of them fit together.

        Each has to say that it is the one which is meant, be reached once, and hold its elements inside; keys ascend,
        and those that should be revisions are: a restore with a bump of any other makes etcdutl panic (etcd 21879).
        That the bytes are those that etcd sent is for the sum at the end of a snapshot to say.
        """
        layout = self._layout()
        if os.fstat(self._file).st_size < layout.end * layout.page:
            raise _DamagedError(f"it ends before page {layout.end}")
        seen = bytearray(layout.end // 8 + 1)
        for number in (0, 1):
            self._take(seen, number, 0)
        total = 0
        for place, names in self._leaves(layout.root, seen):
            for index in range(len(names)):
                entry = self._entry(place, index)
                if not entry.is_bucket:
                    raise _DamagedError(f"the page at byte {place} holds more than buckets")
                page, _sequence = _BUCKET.unpack(self._read(entry.value, _BUCKET.size))
                found = 0
                for _place, sizes in self._leaves(page, seen) if page else ():
                    found += len(sizes)
                    if entry.key == b"key" and not _REVISIONS.issuperset(sizes):
                        raise _DamagedError("an entry of it is no revision")
                if not page:
                    inline = self._read(entry.value + _BUCKET.size, _HEADER.size)
                    found = _HEADER.unpack(inline)[2]
                if entry.key == b"key":
                    total = found
        self._check_free(layout, seen)
        return Content(self.revision(), total, self._text(b"meta", b"storageVersion"))

    def _leaves(self, root: int, seen: bytearray) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Return the leaves of a tree in order: where each begins, and how long its keys are."""
        size = self._layout().page
        ahead = [(root, 0)]
        before = b""
        while ahead:
            number, depth = ahead.pop()
            place = number * size
            head = self._read(place, size)
            own, flags, count, overflow = _HEADER.unpack_from(head)
            table = _HEADER.size + count * _LEAF_ELEMENT.size
            run = (overflow + 1) * size
            if own != number or flags not in (_BRANCH, _LEAF) or table > run or depth > _DEPTH:
                raise _DamagedError(f"page {number} is damaged")
            self._take(seen, number, overflow)
            if table > size:
                head = self._read(place, table)
            if flags == _BRANCH:
                children = struct.unpack_from(f"<{2 * count}Q", head, _HEADER.size)[1::2]
                ahead += [(child, depth + 1) for child in reversed(children)]
                continue
            if not count:
                continue
            numbers = struct.unpack_from(f"<{4 * count}I", head, _HEADER.size)
            places, keys, values = numbers[1::4], numbers[2::4], numbers[3::4]
            if max(map(sum, zip(range(16, table, 16), places, keys, values))) > run:
                raise _DamagedError(f"page {number} has an element that does not end in it")
            first, last = (
                self._read(place + 16 + 16 * index + places[index], keys[index]) for index in (0, count - 1)
            )
            if not before < first <= last:
                raise _DamagedError(f"page {number} is out of order")
            before = last
            yield place, keys

    def _take(self, seen: bytearray, number: int, overflow: int) -> None:
        """Note that pages are in use."""
        if number + overflow >= self._layout().end:
            raise _DamagedError(f"page {number} is beyond the end")
        for one in range(number, number + overflow + 1):
            if seen[one >> 3] & 1 << (one & 7):
                raise _DamagedError(f"page {one} is used twice")
            seen[one >> 3] |= 1 << (one & 7)

    def _check_free(self, layout: _Layout, seen: bytearray) -> None:
        """A page that is in use must not be given away to the next write."""
        if layout.free == _NO_LIST:
            return
        place = layout.free * layout.page
        _number, flags, count, overflow = _HEADER.unpack(self._read(place, _HEADER.size))
        if not flags & _FREE:
            raise _DamagedError(f"page {layout.free} is no list of free pages")
        self._take(seen, layout.free, overflow)
        first = place + _HEADER.size
        if count == _MANY:
            count = int.from_bytes(self._read(first, 8), "little")
            first += 8
        if first + count * 8 > place + (overflow + 1) * layout.page:
            raise _DamagedError(f"page {layout.free} is damaged")
        for (one,) in struct.iter_unpack("<Q", self._read(first, count * 8)):
            self._take(seen, one, 0)

    def _text(self, bucket: bytes, key: bytes) -> str:
        """Return the value of a key as text, empty where there is none."""
        place = self._bucket(bucket)
        if place is not None:
            for entry in self._backwards(place):
                if entry.key == key:
                    return self._read(entry.value, entry.size).decode("ascii", "replace")
        return ""

    def _revisions(self) -> Iterator[tuple[int, bool]]:
        """Newest first, each with whether it is a deletion."""
        bucket = self._bucket(b"key")
        if bucket is None:
            return
        for entry in self._backwards(bucket):
            if len(entry.key) not in _REVISIONS:
                raise _DamagedError("an entry of it is no revision")
            yield int.from_bytes(entry.key[:8], "big"), len(entry.key) == 18

    def _bucket(self, name: bytes) -> int | None:
        """Return where the root page of a bucket begins."""
        layout = self._layout()
        for entry in self._backwards(layout.root * layout.page):
            if entry.key == name and entry.is_bucket:
                page, _sequence = _BUCKET.unpack(self._read(entry.value, _BUCKET.size))
                return page * layout.page if page else entry.value + _BUCKET.size
        return None

    def _layout(self) -> _Layout:
        """Return how the file is laid out, by the newer of the two meta pages that is whole."""
        if self._known:
            return self._known
        found: dict[int, _Layout] = {}
        for place in (0, *_PAGE_SIZES):
            try:
                body = self._read(place + _HEADER.size, _META_BODY.size + 8)
            except _DamagedError:
                continue
            magic, version, size, _flags, root, _, free, end, transaction = _META_BODY.unpack_from(body)
            valid = int.from_bytes(body[_META_BODY.size :], "little") == _fnv(body[: _META_BODY.size])
            if (magic, version, valid) == (_MAGIC, _VERSION, True) and place in (0, size):
                found[transaction] = _Layout(size, root, free, end)
        if not found:
            raise _DamagedError("it is no database of etcd, or its first pages are damaged")
        self._known = found[max(found)]
        return self._known

    def _backwards(self, place: int, depth: int = 0) -> Iterator[_Entry]:
        """Return the entries of a tree, the last one first."""
        _number, flags, count, _overflow = _HEADER.unpack(self._read(place, _HEADER.size))
        if depth > _DEPTH or not flags & (_BRANCH | _LEAF):
            raise _DamagedError(f"the page at byte {place} is damaged")
        element = _BRANCH_ELEMENT if flags & _BRANCH else _LEAF_ELEMENT
        first = place + _HEADER.size
        table = self._read(first, count * element.size)
        for index in reversed(range(count)):
            if flags & _BRANCH:
                _key, _size, page = element.unpack_from(table, index * element.size)
                yield from self._backwards(page * self._layout().page, depth + 1)
                continue
            yield self._entry(place, index)

    def _entry(self, place: int, index: int) -> _Entry:
        """Return an element of the leaf that begins at a place."""
        start = place + _HEADER.size + index * _LEAF_ELEMENT.size
        kind, key, key_size, value_size = _LEAF_ELEMENT.unpack(self._read(start, _LEAF_ELEMENT.size))
        value = start + key + key_size
        return _Entry(self._read(start + key, key_size), value, value_size, bool(kind & _IS_BUCKET))

    def _read(self, place: int, size: int) -> bytes:
        content = os.pread(self._file, size, place)
        if len(content) != size:
            raise _DamagedError(f"it ends before byte {place + size}")
        return content


def _fnv(content: bytes) -> int:
    """FNV-1a of 64 bits, as bbolt seals its meta pages."""
    value = 0xCBF29CE484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
