# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access, Fetcher
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import (
    Artefact,
    Store,
    lines,
    manifest,
    merged,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_upstream import (
    FakeUpstream,
    sha256,
)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    yield from FakeUpstream().serve()


def artefact(path: str, content: bytes = b"x", kind: str = "file", url: str = "", **more: Any) -> Artefact:
    digest = f"sha256:{sha256(content)}"
    values: dict[str, Any] = {"version": "", "url": url, "digest": digest, "size": len(content), **more}
    return Artefact(kind=kind, name=path.rpartition("/")[2], path=path, **values)


def fetcher() -> Fetcher:
    return Fetcher(Access(), Deadline(30, sleep=lambda _seconds: None))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "a/./b"])
def test_no_artefact_leads_out_of_the_mirror(path: str) -> None:
    with pytest.raises(KubewrightError, match="cannot be a path in the mirror"):
        artefact(path)


def test_a_file_comes_whole_and_with_its_digest(upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.files["/a"] = b"content"
    store, wanted = Store(str(tmp_path / "mirror")), artefact("deep/a", b"content", url=f"{upstream.url}/a")
    assert not store.holds(wanted.path, wanted.digest) and store.content(wanted.path) is None
    before = os.umask(0o077)
    try:
        with store.alone(Deadline(5)):
            store.bring(wanted, fetcher())
    finally:
        os.umask(before)
    assert store.holds(wanted.path, wanted.digest) and store.content(wanted.path) == b"content"
    assert store.size(wanted.path) == 7
    target = tmp_path / "mirror/public/deep/a"
    # The web server reads as somebody else.
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o755 for folder in list(target.parents)[:3])


def test_a_file_with_another_digest_never_gets_its_name(upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.files["/a"] = b"forged"
    store, wanted = Store(str(tmp_path)), artefact("a", b"content", url=f"{upstream.url}/a")
    with store.alone(Deadline(5)), pytest.raises(KubewrightError, match="does not have its checksum"):
        store.bring(wanted, fetcher())
    assert not (tmp_path / "public").exists()
    # What is left of it goes with the next run.
    assert list((tmp_path / "work").iterdir())
    with store.alone(Deadline(5)):
        assert not list((tmp_path / "work").iterdir())


def test_a_damaged_file_is_replaced(upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.files["/a"] = b"content"
    store, wanted = Store(str(tmp_path)), artefact("a", b"content", url=f"{upstream.url}/a")
    (tmp_path / "public").mkdir()
    (tmp_path / "public/a").write_bytes(b"conTent")
    assert not store.holds(wanted.path, wanted.digest)
    with store.alone(Deadline(5)):
        store.bring(wanted, fetcher())
    assert store.holds(wanted.path, wanted.digest)


def test_a_full_disk_is_told(upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> str:
        raise OSError(28, "No space left on device", "/work/x")

    monkeypatch.setattr(Fetcher, "download", full)
    store = Store(str(tmp_path))
    with store.alone(Deadline(5)), pytest.raises(KubewrightError, match="Free some space"):
        store.bring(artefact("a", url=f"{upstream.url}/a"), fetcher())


def test_a_second_run_waits_for_the_first(tmp_path: Path) -> None:
    store, order = Store(str(tmp_path)), []
    with store.alone(Deadline(5)):

        def second() -> None:
            with store.alone(Deadline(20)):
                order.append("second")

        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.3)
        order.append("first")
    waiting.join(20)
    assert order == ["first", "second"]


def test_free_space_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert Store(str(tmp_path / "a/b")).free() > 0


def test_an_artefact_of_several_versions_is_listed_once() -> None:
    found = merged(
        [
            artefact("v2/p/manifests/1", kind="image", versions=("1.37.1",)),
            artefact("a/InRelease", kind="index"),
            artefact("a/Packages", kind="index"),
            artefact("v2/p/manifests/1", kind="image", versions=("1.36.3",)),
            artefact("z.deb", kind="package", versions=("1.36.3",)),
            artefact("z.deb", kind="package"),
        ]
    )
    # What apt reads first comes last.
    assert [(one.name, one.versions) for one in found] == [
        ("z.deb", ()),
        ("1", ("1.36.3", "1.37.1")),
        ("Packages", ()),
        ("InRelease", ()),
    ]


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.raises(KubewrightError, match="one name in the mirror"):
        merged([artefact("a", b"1"), artefact("a", b"2")])


def test_the_list_says_what_it_is_for_and_can_be_read_again() -> None:
    one = artefact("v2/p/manifests/1", kind="image", versions=("1.36.3", "1.37.1"), held=True)
    two = artefact("github/runc", b"runc")
    assert lines([one, two]) == [
        f"{one.digest}            1  1.36.3, 1.37.1  image    1",
        f"{two.digest}            4  all             file     github/runc",
    ]
    assert Artefact.read(one.told()) == one
    # Whether it is there is seen each time.
    assert "held" not in manifest([one]) and manifest([one]).endswith("}\n")
