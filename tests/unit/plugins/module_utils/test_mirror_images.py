# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Artefact
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_images import (
    Images,
    copy,
    recheck,
    sources,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._registry import Registry
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers, outside
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_upstream import (
    FakePrograms,
    FakeUpstream,
)

PAUSE = "registry.k8s.io/pause:3.10"
DEADLINE = Deadline(60, sleep=lambda _seconds: None)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    yield from FakeUpstream().serve()


@pytest.fixture
def local() -> Iterator[FakeUpstream]:
    yield from FakeUpstream().serve()


class Mirror:
    """Looks at what is wanted, and copies it."""

    def __init__(self, upstream: FakeUpstream, local: FakeUpstream, folder: Path) -> None:
        self.servers = Servers({}, str(folder))
        self.upstream = upstream
        self.registry = Registry(f"{local.url}/v2", Access(), DEADLINE)
        self.programs = FakePrograms(upstream, local)

    def images(self, *architectures: str, runs: bool = True) -> Images:
        registries = {"registry.k8s.io": f"{self.upstream.url}/v2"}
        source_of = sources(registries, self.servers, DEADLINE)
        return Images(source_of, self.registry if runs else None, architectures or ("amd64",))

    def wanted(self, name: str = PAUSE, *architectures: str) -> Artefact:
        return self.images(*architectures).wanted(name, ["1.36.3"])

    def copy(self, artefact: Artefact) -> None:
        copy(outside(self.programs.run_command), self.servers, artefact, self.registry, DEADLINE)


@pytest.fixture
def mirror(upstream: FakeUpstream, local: FakeUpstream, tmp_path: Path) -> Mirror:
    return Mirror(upstream, local, tmp_path)


def test_of_an_index_one_architecture_comes(
    mirror: Mirror, upstream: FakeUpstream, local: FakeUpstream
) -> None:
    index = upstream.image("pause", "3.10", ("amd64", "arm64"))
    one = mirror.wanted()
    assert one.digest != index and not one.held and one.size > 0
    assert one.path == "v2/registry.k8s.io/pause/manifests/3.10"
    assert one.url == f"{upstream.url}/v2/pause/manifests/{one.digest}"
    mirror.copy(one)
    [words] = mirror.programs.named("skopeo")
    port = local.url.rpartition(":")[2]
    assert words[-1] == f"docker://127.0.0.1:{port}/registry.k8s.io/pause:3.10"
    assert words[-2].endswith(f"/pause@{one.digest}") and {"--all", "--preserve-digests"} <= set(words)
    # The other architecture's layers stayed where they were.
    assert not any(b"arm64" in body for body in local.files.values())


def test_nobody_is_asked_for_what_is_there(mirror: Mirror, upstream: FakeUpstream) -> None:
    upstream.image("pause", "3.10", ("amd64", "arm64"))
    first = mirror.wanted()
    mirror.copy(first)
    upstream.requests.clear()
    again = mirror.wanted()
    assert again.held and upstream.requests == []
    assert (again.digest, again.size, again.url) == (first.digest, first.size, first.url)


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_an_image_with_a_damaged_blob_is_wanted_again(
    mirror: Mirror, upstream: FakeUpstream, local: FakeUpstream, damage: str
) -> None:
    upstream.image("pause", "3.10")
    mirror.copy(mirror.wanted())
    blob = next(path for path in local.files if "/blobs/" in path)
    if damage == "missing":
        del local.files[blob]
    else:
        local.files[blob] = local.files[blob][:1]
    images = mirror.images()
    assert not images.wanted(PAUSE, []).held and images.coming


def test_several_architectures_bring_the_whole_index(
    mirror: Mirror, upstream: FakeUpstream, local: FakeUpstream
) -> None:
    index = upstream.image("pause", "3.10", ("amd64", "arm64"))
    one = mirror.wanted(PAUSE, "amd64", "arm64")
    assert one.digest == index
    mirror.copy(one)
    assert mirror.wanted(PAUSE, "amd64", "arm64").held
    assert any(b"arm64" in body for body in local.files.values())
    # It serves one of them as well.
    assert mirror.wanted().held


def test_one_more_architecture_is_seen(mirror: Mirror, upstream: FakeUpstream) -> None:
    upstream.image("pause", "3.10", ("amd64", "arm64"))
    mirror.copy(mirror.wanted())
    assert not mirror.wanted(PAUSE, "amd64", "arm64").held
    assert not mirror.wanted(PAUSE, "arm64").held


def test_an_image_that_has_no_index_is_not_copied_for_ever(mirror: Mirror, upstream: FakeUpstream) -> None:
    upstream.image("pause", "3.10")
    mirror.copy(mirror.wanted(PAUSE, "amd64", "arm64"))
    assert mirror.wanted(PAUSE, "amd64", "arm64").held


def test_a_digest_is_kept(mirror: Mirror, upstream: FakeUpstream) -> None:
    """The digest of an index means all of it, whatever the architecture."""
    index = upstream.image("pause", "3.10", ("amd64", "arm64"))
    name = f"registry.k8s.io/pause@{index}"
    one = mirror.wanted(name)
    assert one.digest == index
    mirror.copy(one)
    assert mirror.programs.named("skopeo")[0][-1].endswith(f"/registry.k8s.io/pause@{index}")
    assert mirror.wanted(name).held


def test_an_architecture_that_is_not_built_is_named(mirror: Mirror, upstream: FakeUpstream) -> None:
    upstream.image("pause", "3.10", ("arm64",))
    with pytest.raises(KubewrightError, match=r"pause, 3\.10, for amd64"):
        mirror.wanted()


def test_an_image_that_is_nowhere_is_named_with_its_url(mirror: Mirror, upstream: FakeUpstream) -> None:
    with pytest.raises(KubewrightError, match=f"no image {PAUSE} .{upstream.url}/v2/pause/manifests/3.10"):
        mirror.wanted()


def test_without_a_registry_everything_is_missing(mirror: Mirror, upstream: FakeUpstream) -> None:
    """Check mode on a host that is no mirror yet."""
    upstream.image("pause", "3.10")
    images = mirror.images(runs=False)
    assert not images.wanted(PAUSE, []).held and sum(images.coming.values()) > 0


def test_what_skopeo_says_is_told_with_what_to_do(mirror: Mirror, upstream: FakeUpstream) -> None:
    upstream.image("pause", "3.10")
    mirror.programs.failures["skopeo"] = (1, "", "FATA connection refused\n")
    with pytest.raises(KubewrightError, match=r"pause:3\.10.*connection refused.*Run again"):
        mirror.copy(mirror.wanted())


def test_a_copy_that_is_not_there_afterwards_is_told(mirror: Mirror, upstream: FakeUpstream) -> None:
    upstream.image("pause", "3.10")
    one = mirror.wanted()
    mirror.programs.failures["skopeo"] = (0, "", "")
    with pytest.raises(KubewrightError, match=f"it has nothing, not {one.digest}"):
        mirror.copy(one)


def test_a_list_made_earlier_is_compared_with_what_is_there(mirror: Mirror, upstream: FakeUpstream) -> None:
    upstream.image("pause", "3.10")
    one = mirror.wanted()
    assert not recheck(one, mirror.images()).held
    mirror.copy(one)
    assert recheck(one, mirror.images()).held
    # The same name with other content.
    upstream.image("pause", "3.10", layer=b"other")
    assert not recheck(Artefact.read({**one.told(), "digest": f"sha256:{'0' * 64}"}), mirror.images()).held


def test_where_the_images_of_a_registry_come_from(tmp_path: Path) -> None:
    source_of = sources(
        {"ghcr.io": "https://mirror.example/v2/ghcr.io/"}, Servers({}, str(tmp_path)), DEADLINE
    )
    assert source_of("ghcr.io").url == "https://mirror.example/v2/ghcr.io"
    assert source_of("quay.io").url == "https://quay.io/v2"
    assert source_of("docker.io").url == "https://registry-1.docker.io/v2"
