# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the origin serves against what upstream serves; the facts and their sources are in lab/README.md."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lab import nodes, origin, rootfs
from lab.cache import Cache
from lab.golang import GoProgram
from lab.oci import NET_BIND_SERVICE, Image
from lab.origin import Content
from lab.shell import LabError

LOCK: dict[str, Any] = {
    "debian": {"suite": "trixie"},
    "kubernetes": [
        {"version": "1.36.3", "etcd": "3.6.8-0", "coredns": "1.14.2", "pause": "3.10.2"},
        {"version": "1.36.4", "etcd": "3.6.8-0", "coredns": "1.14.2", "pause": "3.10.2"},
        {"version": "1.37.1", "etcd": "3.7.0-0", "coredns": "1.14.6", "pause": "3.10.2"},
    ],
    "etcd": {"images": ["3.6.8-0", "3.7.0-0"], "releases": ["3.6.16"]},
    "containerd": {"version": "2.4.2"},
    "runc": {"version": "1.4.2"},
    "cni_plugins": {"version": "1.9.1"},
    "cri_tools": {"version": "1.36.0"},
    "flannel": {"version": "0.26.7"},
    "agnhost": {"version": "2.63.0", "kubernetes": "1.36.3"},
}


@pytest.fixture
def content(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Content:
    """The origin's content with programs and bases that are not real: nothing is compiled."""

    def built(_self: Content, program: GoProgram) -> Path:
        folder = tmp_path / "built" / f"{program.name}-{program.version}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in program.packages:
            (folder / name).write_text(f"{name} {program.version}")
        return folder

    def fake_pause(_cache: Cache, version: str) -> Path:
        folder = tmp_path / "built" / f"pause-{version}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pause").write_text(f"pause {version}")
        return folder

    def fake_base(_cache: Cache, base: rootfs.RootFs, _suite: str) -> Path:
        path = tmp_path / f"{base.name}.tar"
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo("base"))
        return path

    monkeypatch.setattr(Content, "built", built)
    monkeypatch.setattr(origin, "pause", fake_pause)
    monkeypatch.setattr(rootfs, "build", fake_base)
    monkeypatch.setattr("lab.golang._GO_VERSION", ["go1.26.8"])
    return Content(cache, LOCK)


# Reference: entrypoint, command, user, working folder, paths of programs, whether it has a Debian base.
# The server images' entrypoint differs from upstream's on purpose, see lab/README.md.
Shape = tuple[tuple[str, ...], tuple[str, ...], str, str, set[str], bool]
SERVERS: dict[str, Shape] = {
    f"registry.k8s.io/{name}:v{version}": (
        (f"/usr/local/bin/{name}",),
        (),
        "",
        "/",
        {f"/usr/local/bin/{name}"},
        False,
    )
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    for version in ("1.36.3", "1.36.4", "1.37.1")
}
PROXIES: dict[str, Shape] = {
    f"registry.k8s.io/kube-proxy:v{version}": ((), (), "", "/", {"/usr/local/bin/kube-proxy"}, True)
    for version in ("1.36.3", "1.36.4", "1.37.1")
}
ETCD = {"/usr/local/bin/etcd", "/usr/local/bin/etcdctl", "/usr/local/bin/etcdutl"}
UPSTREAM: dict[str, Shape] = {
    **SERVERS,
    **PROXIES,
    "registry.k8s.io/etcd:3.6.8-0": ((), ("/usr/local/bin/etcd",), "", "/var/lib/etcd", ETCD, False),
    "registry.k8s.io/etcd:3.7.0-0": ((), ("/usr/local/bin/etcd",), "", "/var/lib/etcd", ETCD, False),
    "registry.k8s.io/coredns/coredns:v1.14.2": (
        ("/coredns",),
        (),
        "nonroot:nonroot",
        "/",
        {"/coredns"},
        False,
    ),
    "registry.k8s.io/coredns/coredns:v1.14.6": (
        ("/coredns",),
        (),
        "nonroot:nonroot",
        "/",
        {"/coredns"},
        False,
    ),
    "registry.k8s.io/pause:3.10.2": (("/pause",), (), "65535:65535", "/", {"/pause"}, False),
    "registry.k8s.io/e2e-test-images/agnhost:2.63.0": (
        ("/agnhost",),
        ("pause",),
        "",
        "/",
        {"/agnhost"},
        False,
    ),
    "ghcr.io/flannel-io/flannel:v0.26.7": (("/opt/bin/flanneld",), (), "", "/", {"/opt/bin/flanneld"}, True),
}


def shape(image: Image) -> Shape:
    return (
        image.entrypoint,
        image.command,
        image.user,
        image.workdir,
        set(image.files),
        image.base is not None,
    )


def test_the_images_have_upstreams_names_and_shapes(content: Content) -> None:
    images = content.images()
    assert {image.reference: shape(image) for image in images} == UPSTREAM
    assert len({image.reference for image in images}) == len(images)


def test_every_image_holds_the_program_of_its_version(content: Content) -> None:
    for image in content.images():
        version = image.reference.rpartition(":")[2].removeprefix("v").removesuffix("-0")
        for path, source in image.files.items():
            name = path.rsplit("/", 1)[-1]
            # agnhost has a version of its own, but is built from Kubernetes.
            assert source.read_text() == f"{name} {'1.36.3' if name == 'agnhost' else version}"


def test_only_coredns_may_bind_low_ports(content: Content) -> None:
    for image in content.images():
        wanted = {"/coredns": NET_BIND_SERVICE} if "coredns" in image.reference else {}
        assert image.capabilities == wanted


def test_etcds_image_has_the_folders_that_upstream_makes(content: Content) -> None:
    for image in content.images():
        if "/etcd:" in image.reference:
            assert set(image.folders) == {"/var/etcd", "/var/lib/etcd"}


def members(archive: Path) -> dict[str, tuple[int, int]]:
    with tarfile.open(archive) as tar:
        return {entry.name: (entry.mode, entry.uid) for entry in tar}


def test_release_files_lie_where_upstreams_do(content: Content, tmp_path: Path) -> None:
    root = tmp_path / "files"
    content.write_files(root)
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    containerd = "containerd/containerd/releases/download/v2.4.2/containerd-2.4.2-linux-amd64.tar.gz"
    runc = "opencontainers/runc/releases/download/v1.4.2/runc"
    cni = "containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz"
    etcd = "etcd-io/etcd/releases/download/v3.6.16/"
    assert found == {
        containerd,
        f"{containerd}.sha256sum",
        f"{runc}.amd64",
        f"{runc}.sha256sum",
        cni,
        f"{cni}.sha256",
        f"{etcd}etcd-v3.6.16-linux-amd64.tar.gz",
        f"{etcd}SHA256SUMS",
    }
    program = (0o755, 0)
    assert members(root / containerd) == {
        "bin/containerd": program,
        "bin/containerd-shim-runc-v2": program,
        "bin/ctr": program,
    }
    assert members(root / f"{etcd}etcd-v3.6.16-linux-amd64.tar.gz") == {
        f"etcd-v3.6.16-linux-amd64/{name}": program for name in ("etcd", "etcdctl", "etcdutl")
    }
    assert {"./bridge", "./host-local", "./loopback", "./portmap"} <= set(members(root / cni))
    for sums in found:
        if "sha256" in sums.lower():
            for line in (root / sums).read_text().splitlines():
                digest, name = line.split("  ")
                assert digest == hashlib.sha256(((root / sums).parent / name).read_bytes()).hexdigest()


def test_one_package_repository_for_each_minor(
    content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def fake_build(package: Any, folder: Path, _scratch: Path) -> Path:
        built.append(f"{folder.relative_to(tmp_path)}/{package.name}-{package.version}")
        return folder

    monkeypatch.setattr("lab.debs.make_signing_key", lambda home: None)
    monkeypatch.setattr("lab.debs.build", fake_build)
    monkeypatch.setattr("lab.debs.index", lambda repository, home: None)
    content.write_packages(tmp_path)
    tools = ("kubeadm", "kubelet", "kubectl")
    minor = "core:/stable:/v{}/deb/amd64/{}"
    versions = {"1.36": ("1.36.3", "1.36.4"), "1.37": ("1.37.1",)}
    wanted = [
        minor.format(key, f"{tool}-{version}-1.1")
        for key, patches in versions.items()
        for version in patches
        for tool in tools
    ]
    others = ("cri-tools-1.36.0-1.1", "kubernetes-cni-1.9.1-1.1")
    wanted += [minor.format(key, other) for key in versions for other in others]
    assert sorted(built) == sorted(wanted)


class FakeRegistry:
    """Stands for podman and skopeo; a copy of the image that is named fails."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.calls: list[list[str]] = []

    def __call__(self, argv: list[str | Path], **_options: Any) -> str:
        words = [str(word) for word in argv]
        self.calls.append(words)
        if words[:2] == ["podman", "port"]:
            return "127.0.0.1:34567\n"
        if words[0] == "skopeo" and self.failing and self.failing in words[-1]:
            raise LabError("manifest invalid")
        return ""


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Content, "write_packages", lambda self, folder: None)
    monkeypatch.setattr(Content, "write_files", lambda self, folder: None)
    monkeypatch.setattr(nodes, "on_cgroup_v2", lambda: False)


@pytest.mark.usefixtures("no_files")
def test_every_image_is_pushed_under_its_upstream_name(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = FakeRegistry()
    monkeypatch.setattr(origin, "run", registry)
    folder = content.make("localhost/origin:1")
    pushed = [words[-1] for words in registry.calls if words[0] == "skopeo"]
    assert sorted(pushed) == sorted(f"docker://127.0.0.1:34567/{reference}" for reference in UPSTREAM)
    assert registry.calls[-1][:2] == ["podman", "stop"]
    # What serves the cached result must not change it.
    assert "readonly: {enabled: true}" in (folder / "registry.yml").read_text()
    assert (folder / "start.sh").exists()
    assert (folder / "nginx.conf").exists()
    assert (folder / "proxy.conf").exists()


@pytest.mark.usefixtures("no_files")
def test_content_is_no_result_when_an_image_cannot_be_pushed(
    content: Content, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = FakeRegistry("registry.k8s.io/pause")
    monkeypatch.setattr(origin, "run", registry)
    patient = origin._retry
    monkeypatch.setattr(origin, "_retry", lambda argv: patient(argv, seconds=0))
    with pytest.raises(LabError, match="manifest invalid"):
        content.make("localhost/origin:1")
    assert not list(cache.results.iterdir())
    assert registry.calls[-1][:2] == ["podman", "stop"]
    monkeypatch.setattr(origin, "run", FakeRegistry())
    cache.drop_scratch()
    assert content.make("localhost/origin:1").parent == cache.results


@pytest.mark.usefixtures("no_files")
@pytest.mark.parametrize("unified", [True, False])
def test_the_registry_that_is_filled_runs_like_every_container(
    content: Content, monkeypatch: pytest.MonkeyPatch, unified: bool
) -> None:
    monkeypatch.setattr(nodes, "on_cgroup_v2", lambda: unified)
    registry = FakeRegistry()
    monkeypatch.setattr(origin, "run", registry)
    content.make("localhost/origin:1")
    [started] = [words for words in registry.calls if words[0] == "podman" and "--detach" in words]
    assert started[1 : len(nodes.run_command()) + 1] == nodes.run_command()
    assert ("--runtime" in started) is not unified
    # Reachable from this machine only.
    assert started[started.index("--publish") + 1].startswith("127.0.0.1:")


def test_a_copy_is_tried_again_until_the_registry_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | None] = [LabError("connection refused"), LabError("connection refused"), None]

    def fake_run(_argv: list[str]) -> str:
        answer = answers.pop(0)
        if answer:
            raise answer
        return ""

    monkeypatch.setattr(origin, "run", fake_run)
    origin._retry(["skopeo"])
    assert not answers


def test_what_decides_the_content_is_in_its_recipe(
    content: Content, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content.recipe()
    assert Content(cache, LOCK).recipe() == before
    assert Content(cache, {**LOCK, "runc": {"version": "1.4.3"}}).recipe() != before
    (tmp_path / "main.go").write_text("package main // another pause")
    monkeypatch.setattr(origin, "PAUSE", tmp_path)
    assert content.recipe() != before


def test_a_recipe_needs_no_build(content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> Path:
        raise AssertionError("a recipe must not build")

    monkeypatch.setattr(rootfs, "build", refuse)
    monkeypatch.setattr(origin, "pause", refuse)
    assert content.recipe()
