# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _mirror_files
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Artefact, Store
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_upstream import (
    FakeUpstream,
    sha256,
)

RUNC = b"a program"
SUMS = f"{'0' * 64}  runc.arm64\n{sha256(RUNC)} *runc.amd64\n".encode()
PLACE = "github/runc/v1/runc.amd64"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    fake = FakeUpstream()
    fake.files.update({"/runc/v1/runc.amd64": RUNC, "/runc/v1/runc.sha256sum": SUMS})
    yield from fake.serve()


def wanted(upstream: FakeUpstream, root: Path, checksum: str = "") -> list[Artefact]:
    url = f"{upstream.url}/runc/v1/runc.amd64"
    checksum = checksum or f"sha256:{upstream.url}/runc/v1/runc.sha256sum"
    one = {"url": url, "path": PLACE, "checksum": checksum}
    servers = Servers({}, str(root))
    deadline = Deadline(30, sleep=lambda _seconds: None)
    return list(_mirror_files.wanted([one], Store(str(root)), servers, deadline))


def fill(upstream: FakeUpstream, root: Path) -> None:
    for one in wanted(upstream, root):
        target = root / "public" / one.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(upstream.files[one.url.removeprefix(upstream.url)])


def test_a_file_brings_its_file_of_digests(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Hosts take the digest from there again; nothing but the length of the file itself is asked for."""
    sums, runc = wanted(upstream, tmp_path)
    assert (sums.path, sums.digest) == ("github/runc/v1/runc.sha256sum", f"sha256:{sha256(SUMS)}")
    assert (runc.path, runc.digest, runc.size) == (PLACE, f"sha256:{sha256(RUNC)}", len(RUNC))
    assert not sums.held and not runc.held


def test_nobody_is_asked_for_what_is_there(upstream: FakeUpstream, tmp_path: Path) -> None:
    before = wanted(upstream, tmp_path)
    fill(upstream, tmp_path)
    upstream.requests.clear()
    after = wanted(upstream, tmp_path)
    assert upstream.requests == [] and all(one.held for one in after)
    assert [(one.path, one.digest, one.size) for one in after] == [
        (one.path, one.digest, one.size) for one in before
    ]


def test_a_damaged_file_is_wanted_again(upstream: FakeUpstream, tmp_path: Path) -> None:
    fill(upstream, tmp_path)
    (tmp_path / "public" / PLACE).write_bytes(b"A program")
    assert [one.held for one in wanted(upstream, tmp_path)] == [True, False]
    (tmp_path / "public/github/runc/v1/runc.sha256sum").write_bytes(b"")
    assert [one.held for one in wanted(upstream, tmp_path)] == [False, False]


def test_a_digest_of_ones_own_needs_no_file_of_digests(upstream: FakeUpstream, tmp_path: Path) -> None:
    [one] = wanted(upstream, tmp_path, f"sha256:{sha256(RUNC)}")
    assert one.digest == f"sha256:{sha256(RUNC)}"
    assert upstream.requests == ["/runc/v1/runc.amd64"]


def test_a_file_of_digests_that_does_not_name_the_file(upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.files["/runc/v1/runc.sha256sum"] = f"{'0' * 64}  runc.arm64\n".encode() * 2
    with pytest.raises(KubewrightError, match=r"no sha256 digest of runc\.amd64"):
        wanted(upstream, tmp_path)


def test_a_file_that_is_not_there_is_told(upstream: FakeUpstream, tmp_path: Path) -> None:
    del upstream.files["/runc/v1/runc.amd64"]
    with pytest.raises(KubewrightError, match="404"):
        wanted(upstream, tmp_path)
