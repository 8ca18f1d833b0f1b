# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _mirror_deb
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_deb import (
    DebRepository,
    Package,
    select,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers, outside
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_upstream import (
    FakePrograms,
    FakeUpstream,
    publish,
    sha256,
)

PACKAGES = [
    *(
        f"{name}={version}"
        for name in ("kubeadm", "kubelet", "kubectl")
        for version in ("1.36.2-1.1", "1.36.3-1.1")
    ),
    "cri-tools=1.9.0-1.1",
    "cri-tools=1.36.0-1.1",
    "kubernetes-cni=1.9.1-1.1",
]


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    fake = FakeUpstream()
    publish(fake, "1.36", PACKAGES)
    yield from fake.serve()


def read(
    upstream: FakeUpstream, folder: Path, checksum: str = "", programs: FakePrograms | None = None
) -> DebRepository:
    runner = outside((programs or FakePrograms(upstream, upstream)).run_command)
    url, place = f"{upstream.url}/core/v1.36/deb", "kubernetes/v1.36/deb"
    servers = Servers({}, str(folder))
    deadline = Deadline(30, sleep=lambda _seconds: None)
    return _mirror_deb.read(runner, servers, url, place, checksum, folder / "deb", deadline)


def test_the_index_is_given_out_as_it_is_signed(upstream: FakeUpstream, tmp_path: Path) -> None:
    found = {one.name: one for one in read(upstream, tmp_path).indexes()}
    # What is no index of packages, such as Sources, stays out.
    assert sorted(found) == ["InRelease", "Packages", "Release.key"]
    for name, one in found.items():
        body = upstream.files[f"/core/v1.36/deb/{name}"]
        assert (one.digest, one.size) == (f"sha256:{sha256(body)}", len(body))
        assert one.path == f"kubernetes/v1.36/deb/{name}" and one.url.endswith(f"/core/v1.36/deb/{name}")


def test_apt_verifies_with_the_key_and_leaves_the_host_alone(upstream: FakeUpstream, tmp_path: Path) -> None:
    programs = FakePrograms(upstream, upstream)
    read(upstream, tmp_path, programs=programs)
    [words] = programs.named("apt-get")
    assert f"--option=Dir::State::Lists={tmp_path}/deb/lists" in words
    assert "--option=Dir::Etc::SourceParts=/dev/null" in words


def test_the_key_must_have_its_checksum(upstream: FakeUpstream, tmp_path: Path) -> None:
    read(upstream, tmp_path, f"sha256:{sha256(b'the key')}")
    with pytest.raises(KubewrightError, match=r"does not have its checksum .*Release\.key"):
        read(upstream, tmp_path / "again", f"sha256:{'0' * 64}")


def test_a_signature_that_is_wrong_ends_it(upstream: FakeUpstream, tmp_path: Path) -> None:
    programs = FakePrograms(upstream, upstream)
    programs.failures["apt-get"] = (100, "", "E: The repository is not signed.\n")
    with pytest.raises(KubewrightError, match=r"is not signed.*kube_mirror_source_package_url"):
        read(upstream, tmp_path, programs=programs)


def test_an_index_that_lacks_a_digest_is_refused(upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.files["/core/v1.36/deb/Packages"] = b"Package: kubeadm\nVersion: 1.36.3-1.1\n"
    with pytest.raises(KubewrightError, match="package kubeadm"):
        read(upstream, tmp_path)


def names(chosen: list[tuple[Package, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    return {f"{package.name}={package.version}": versions for package, versions in chosen}


def test_a_version_and_what_it_needs(upstream: FakeUpstream, tmp_path: Path) -> None:
    """The tools that come along are the newest: 1.36 is newer than 1.9."""
    repository = read(upstream, tmp_path)
    chosen = select(repository.packages, ["1.36.3"], ["amd64"], "here")
    assert names(chosen) == {
        "kubeadm=1.36.3-1.1": ("1.36.3",),
        "kubelet=1.36.3-1.1": ("1.36.3",),
        "kubectl=1.36.3-1.1": ("1.36.3",),
        "cri-tools=1.36.0-1.1": ("1.36.3",),
        "kubernetes-cni=1.9.1-1.1": ("1.36.3",),
    }
    one = repository.artefact(chosen[0][0], ["1.36.3"])
    assert one.path == "kubernetes/v1.36/deb/amd64/kubeadm_1.36.3-1.1_amd64.deb"
    assert upstream.files[one.url.removeprefix(upstream.url)] == b"kubeadm 1.36.3"
    assert one.digest == f"sha256:{sha256(b'kubeadm 1.36.3')}"


def test_every_build_of_a_version_comes() -> None:
    """Whoever asks for 1.36.3-* gets the newest."""
    packages = [
        Package(name, version, "amd64", f"{name}_{version}", "0", 1)
        for name in (*_mirror_deb.PINNED, *_mirror_deb.NEWEST)
        for version in ("1.36.3-10.1", "1.36.3-1.1", "1.36.30-1.1")
    ]
    chosen = [
        one.version for one, _versions in select(packages, ["1.36.3"], ["amd64"], "") if one.name == "kubeadm"
    ]
    assert chosen == ["1.36.3-1.1", "1.36.3-10.1"]


@pytest.mark.parametrize(
    ("version", "architecture", "missing"),
    [("1.36.9", "amd64", "no kubeadm 1.36.9 for amd64"), ("1.36.3", "arm64", "no kubeadm 1.36.3 for arm64")],
)
def test_what_the_repository_does_not_hold_is_named(
    upstream: FakeUpstream, tmp_path: Path, version: str, architecture: str, missing: str
) -> None:
    with pytest.raises(KubewrightError, match=missing):
        select(read(upstream, tmp_path).packages, [version], [architecture], "https://mirror.example")
