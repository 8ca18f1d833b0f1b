# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _mirror_rpm
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_deb import select
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers, outside
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_upstream import (
    FakePrograms,
    FakeUpstream,
    sha256,
)

BINARY = b"\x99\x01\x0d a key"
KEY = (
    b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: x\n\n"
    + base64.encodebytes(BINARY)
    + b"=AbCd\n-----END PGP PUBLIC KEY BLOCK-----\n"
)
NAMES = ("kubeadm", "kubelet", "kubectl", "cri-tools", "kubernetes-cni")


def package(name: str) -> str:
    path = f"x86_64/{name}-1.36.3-150500.1.1.x86_64.rpm"
    return (
        f'<package type="rpm"><name>{name}</name><arch>x86_64</arch><version epoch="0" ver="1.36.3" rel="150500.1.1"/>'
        f'<checksum type="sha256" pkgid="YES">{sha256(name.encode())}</checksum><size package="{len(name)}"/>'
        f'<location href="{path}"/></package>'
    )


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    fake = FakeUpstream()
    primary = gzip.compress(
        f'<metadata xmlns="http://linux.duke.edu/metadata/common">{"".join(map(package, NAMES))}</metadata>'.encode()
    )
    repomd = (
        '<repomd xmlns="http://linux.duke.edu/metadata/repo"><data type="primary">'
        f'<checksum type="sha256">{sha256(primary)}</checksum><location href="repodata/1-primary.xml.gz"/>'
        f"<size>{len(primary)}</size></data></repomd>"
    ).encode()
    fake.files = {
        "/rpm/repodata/repomd.xml": repomd,
        "/rpm/repodata/repomd.xml.asc": b"a signature",
        "/rpm/repodata/repomd.xml.key": KEY,
        "/rpm/repodata/1-primary.xml.gz": primary,
    }
    yield from fake.serve()


def read(
    upstream: FakeUpstream, folder: Path, programs: FakePrograms | None = None
) -> _mirror_rpm.RpmRepository:
    runner = outside((programs or FakePrograms(upstream, upstream)).run_command)
    deadline = Deadline(30, sleep=lambda _seconds: None)
    place = "kubernetes/v1.36/rpm"
    return _mirror_rpm.read(
        runner, Servers({}, str(folder)), f"{upstream.url}/rpm", place, folder / "rpm", deadline
    )


def test_packages_and_what_dnf_reads_first(upstream: FakeUpstream, tmp_path: Path) -> None:
    repository = read(upstream, tmp_path)
    metadata = {one.path: one for one in repository.metadata}
    assert sorted(path.rpartition("/")[2] for path in metadata) == [
        "1-primary.xml.gz",
        "repomd.xml",
        "repomd.xml.asc",
        "repomd.xml.key",
    ]
    for path, one in metadata.items():
        body = upstream.files[path.replace("kubernetes/v1.36/rpm", "/rpm")]
        assert (one.digest, one.size, one.kind) == (f"sha256:{sha256(body)}", len(body), "index")
    chosen = select(repository.packages, ["1.36.3"], ["x86_64"], "here")
    assert [one.name for one, _versions in chosen] == list(NAMES)
    one = repository.artefact(chosen[0][0], ("1.36.3",))
    assert one.path == "kubernetes/v1.36/rpm/x86_64/kubeadm-1.36.3-150500.1.1.x86_64.rpm"
    assert one.digest == f"sha256:{sha256(b'kubeadm')}"


def test_the_signature_is_verified_with_the_key_as_gpgv_reads_it(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    programs = FakePrograms(upstream, upstream)
    read(upstream, tmp_path, programs)
    [words] = programs.named("gpgv")
    keyring, signature, text = words[1].partition("=")[2], *words[2:]
    assert Path(keyring).read_bytes() == BINARY
    assert Path(signature).read_bytes() == b"a signature"
    assert Path(text).read_bytes() == upstream.files["/rpm/repodata/repomd.xml"]
    programs.failures["gpgv"] = (1, "", "gpgv: BAD signature\n")
    with pytest.raises(KubewrightError, match=r"repomd\.xml.*BAD signature"):
        read(upstream, tmp_path / "again", programs)


def test_several_keys_are_all_read() -> None:
    assert _mirror_rpm.keyring(KEY + KEY.replace(b"\n", b"\r\n")) == BINARY * 2


def test_a_list_of_packages_with_another_digest_is_refused(upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.files["/rpm/repodata/1-primary.xml.gz"] += b" "
    with pytest.raises(KubewrightError, match="digest that the signed index names"):
        read(upstream, tmp_path)


def test_a_list_that_is_packed_in_an_unknown_way_is_told(upstream: FakeUpstream, tmp_path: Path) -> None:
    repomd = upstream.files["/rpm/repodata/repomd.xml"]
    upstream.files["/rpm/repodata/repomd.xml"] = repomd.replace(b"xml.gz", b"xml.zst")
    upstream.files["/rpm/repodata/1-primary.xml.zst"] = upstream.files["/rpm/repodata/1-primary.xml.gz"]
    with pytest.raises(KubewrightError, match="packed in an unknown way"):
        read(upstream, tmp_path)
