# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _mirror_rpm
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Store, manifest
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_images import Images, copy, sources
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_plan import (
    Plan,
    Tools,
    Wish,
    plan,
    plan_from,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_rpm import RpmRepository
from ansible_collections.kubewright.cluster.plugins.module_utils._registry import Registry
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers, outside
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_upstream import (
    FakePrograms,
    FakeUpstream,
    publish,
    sha256,
)

PAUSE = "registry.k8s.io/pause:3.10"
FLANNEL = "registry.k8s.io/flannel:v1"
RUNC = b"a program"


def packages(version: str) -> list[str]:
    return [f"{name}={version}-1.1" for name in ("kubeadm", "kubelet", "kubectl")] + [
        "cri-tools=1.36.0-1.1",
        "kubernetes-cni=1.9.1-1.1",
    ]


class Site:
    """Upstream with two versions, and a mirror with its registry."""

    def __init__(self, upstream: FakeUpstream, local: FakeUpstream, folder: Path) -> None:
        self.upstream, self.local, self.folder = upstream, local, folder
        self.store = Store(str(folder / "mirror"))
        self.programs = FakePrograms(upstream, local)
        self.count = 0
        for version in ("1.36.3", "1.37.1"):
            publish(upstream, version.rpartition(".")[0], packages(version))
            upstream.image("kube-apiserver", f"v{version}", layer=version.encode())
            self.programs.images[version] = [f"registry.k8s.io/kube-apiserver:v{version}", PAUSE]
        upstream.image("pause", "3.10")
        upstream.image("flannel", "v1")
        upstream.files["/runc/runc.amd64"] = RUNC
        upstream.files["/runc/runc.sha256sum"] = f"{sha256(RUNC)}  runc.amd64\n".encode()

    def tools(self) -> Tools:
        self.count += 1
        folder = self.folder / f"run{self.count}"
        folder.mkdir()
        deadline = Deadline(60, sleep=lambda _seconds: None)
        servers = Servers({}, str(folder))
        source_of = sources({"registry.k8s.io": f"{self.upstream.url}/v2"}, servers, deadline)
        images = Images(source_of, Registry(f"{self.local.url}/v2", Access(), deadline), ["amd64"])
        run = self.programs.run_command
        return Tools(run, outside(run), servers, self.store, images, folder, deadline)

    def plan(self, *versions: str) -> Plan:
        file = {
            "url": f"{self.upstream.url}/runc/runc.amd64",
            "path": "github/runc.amd64",
            "checksum": f"sha256:{self.upstream.url}/runc/runc.sha256sum",
        }
        url = f"{self.upstream.url}/core/v{{minor}}"
        return plan(Wish(versions, ["amd64"], url, files=[file], images=[FLANNEL]), self.tools())

    def fill(self, made: Plan) -> None:
        tools = self.tools()
        assert tools.images.local
        with self.store.alone(tools.deadline):
            for one in made.artefacts:
                if one.kind == "image":
                    copy(tools.outside, tools.servers, one, tools.images.local, tools.deadline)
                else:
                    self.store.bring(one, tools.servers.fetcher(one.url, tools.deadline))
        target = Path(self.store.path("manifest.json"))
        target.write_text(manifest(made.artefacts))


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    yield from FakeUpstream().serve()


@pytest.fixture
def local() -> Iterator[FakeUpstream]:
    yield from FakeUpstream().serve()


@pytest.fixture
def site(upstream: FakeUpstream, local: FakeUpstream, tmp_path: Path) -> Site:
    return Site(upstream, local, tmp_path)


def test_everything_that_the_versions_need_is_listed(site: Site) -> None:
    made = site.plan("1.36.3", "1.37.1")
    found = {one.path: one for one in made.artefacts}
    versions = {one.name: one.versions for one in made.artefacts if one.kind == "image"}
    assert versions == {
        "registry.k8s.io/kube-apiserver:v1.36.3": ("1.36.3",),
        "registry.k8s.io/kube-apiserver:v1.37.1": ("1.37.1",),
        PAUSE: ("1.36.3", "1.37.1"),
        FLANNEL: (),
    }
    assert found["kubernetes/v1.37/deb/amd64/kubelet_1.37.1-1.1_amd64.deb"].versions == ("1.37.1",)
    assert found["github/runc.sha256sum"].versions == ()
    assert found["kubernetes/v1.36/deb/InRelease"].versions == ("1.36.3",)
    assert not any(one.held for one in made.artefacts)
    assert all(one.digest.startswith("sha256:") and one.size for one in made.artefacts)
    # Each blob once: all images of the fake have the same configuration.
    files = sum(one.size for one in made.artefacts if one.kind != "image")
    images = sum(one.size for one in made.artefacts if one.kind == "image")
    assert files < made.missing_bytes < files + images


def test_a_filled_mirror_asks_for_indexes_only(site: Site) -> None:
    first = site.plan("1.36.3", "1.37.1")
    site.fill(first)
    site.upstream.requests.clear()
    again = site.plan("1.36.3", "1.37.1")
    assert all(one.held for one in again.artefacts) and again.missing_bytes == 0
    assert manifest(again.artefacts) == manifest(first.artefacts)
    assert site.upstream.requests == ["/core/v1.36/deb/Release.key", "/core/v1.37/deb/Release.key"]


def test_a_version_more_brings_only_what_is_missing(site: Site) -> None:
    site.fill(site.plan("1.36.3"))
    missing = [one for one in site.plan("1.36.3", "1.37.1").artefacts if not one.held]
    assert all(one.versions == ("1.37.1",) for one in missing)
    assert "registry.k8s.io/kube-apiserver:v1.37.1" in {one.name for one in missing}


def test_kubeadm_that_is_asked_has_the_digest_of_the_signed_index(site: Site) -> None:
    site.upstream.files["/core/v1.36/deb/amd64/kubeadm_1.36.3-1.1_amd64.deb"] = b"forged 1.36.3"
    with pytest.raises(KubewrightError, match="does not have its checksum"):
        site.plan("1.36.3")
    assert not site.programs.named("kubeadm")


def test_a_folder_that_came_by_disk_is_compared_with_its_own_list(site: Site) -> None:
    first = site.plan("1.36.3")
    site.fill(first)
    site.upstream.requests.clear()
    found = plan_from(site.store, site.tools().images)
    assert [one.path for one in found.artefacts] == [one.path for one in first.artefacts]
    assert all(one.held for one in found.artefacts) and site.upstream.requests == []

    Path(site.store.path("github/runc.amd64")).write_bytes(b"damaged")
    for path in [path for path in site.local.files if "/kube-apiserver/manifests/" in path]:
        del site.local.files[path]
    damaged = plan_from(site.store, site.tools().images)
    lost = {one.name for one in damaged.artefacts if not one.held}
    assert lost == {"runc.amd64", "registry.k8s.io/kube-apiserver:v1.36.3"} and damaged.missing_bytes > 0


@pytest.mark.parametrize(
    "text", [None, "", json.dumps({"other": []}), json.dumps({"artefacts": [{"kind": "x"}]})]
)
def test_a_folder_without_a_list_is_refused(site: Site, text: str | None) -> None:
    if text is not None:
        target = Path(site.store.path("manifest.json"))
        target.parent.mkdir(parents=True)
        target.write_text(text)
    with pytest.raises(KubewrightError, match="list of what the mirror holds"):
        plan_from(site.store, site.tools().images)


@pytest.mark.parametrize("installed", [True, False])
def test_only_check_mode_reads_an_rpm_repository_without_gpgv(
    site: Site, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """Check mode says what a host would get that has no gpgv yet; a run that fills never goes on without it."""
    asked: list[bool] = []

    def read(*_arguments: object, verified: bool) -> RpmRepository:
        asked.append(verified)
        raise KubewrightError("enough")

    monkeypatch.setattr(_mirror_rpm, "read", read)
    monkeypatch.setattr(Runner, "find", lambda _self, _name: "/usr/bin/gpgv" if installed else None)
    wish = Wish(["1.36.3"], ["amd64"], f"{site.upstream.url}/core/v{{minor}}", rpm=True)
    for check_mode in (True, False):
        with pytest.raises(KubewrightError, match="enough"):
            plan(wish, replace(site.tools(), check_mode=check_mode))
    assert asked == [installed, True]
