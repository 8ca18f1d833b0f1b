# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""_image_files against real folders and a fake containerd: unit tests have no root and no containerd."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _image_files
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    CommandError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._image_files import Plan, Wanted
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

IMAGE = "registry.k8s.io/etcd:3.6.5-0"


class FakeContainerd:
    """ctr and crictl, behind the signature of AnsibleModule.run_command; a mount is a copy of a folder."""

    def __init__(self, image_root: Path) -> None:
        self.image_root = image_root
        self.held = ["registry.k8s.io/pause:3.10", IMAGE]
        self.has_crictl = True
        self.mounted: set[str] = set()
        self.calls: list[str] = []
        self.broken = ""

    def run_command(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        program, *words = argv[argv.index("--kill-after=5") + 2 :]
        if program == "crictl":
            assert words == ["--runtime-endpoint=unix:///run/containerd/containerd.sock", "pull", IMAGE]
            self.calls.append("pull")
            if not self.has_crictl:
                return 127, "", "timeout: failed to run command 'crictl': No such file or directory"
            self.held.append(IMAGE)
            return 0, "", ""
        assert (program, words[0], words[1]) == ("ctr", "--namespace=k8s.io", "images")
        self.calls.append(words[2])
        if words[2] == self.broken:
            return 1, "", f"ctr: {words[2]} is broken"
        return 0, getattr(self, words[2])(*words[3:]), ""

    def list(self, option: str) -> str:
        assert option == "--quiet"
        return "\n".join(self.held) + "\n"

    def mount(self, image: str, target: str) -> str:
        assert image in self.held
        shutil.copytree(self.image_root, target, symlinks=True, dirs_exist_ok=True)
        self.mounted.add(target)
        return f"sha256:chain\n{target}\n"

    def unmount(self, option: str, target: str) -> str:
        assert option == "--rm"
        if target in self.mounted:
            shutil.rmtree(target)
            os.mkdir(target)
            self.mounted.remove(target)
        return f"{target}\n"


class Host:
    """A host with an image of etcd, under a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        binaries = root / "image/usr/local/bin"
        binaries.mkdir(parents=True)
        for name in ("etcdctl", "etcdutl"):
            (binaries / name).write_text(f"{name} of 3.6.5")
            (binaries / name).chmod(0o555)
        self.containerd = FakeContainerd(root / "image")
        self.mounts = root / "run"
        self.folder = root / "opt/etcd/3.6.5-0"
        self.link = root / "bin/etcdctl"
        self.wanted = Wanted(
            image=IMAGE,
            files={"/usr/local/bin/etcdctl": "etcdctl", "usr/local/bin/etcdutl": "etcdutl"},
            name="etcd",
            version="3.6.5-0",
            dest_root=str(root / "opt"),
            links_dir=str(root / "bin"),
        )

    def plan(self, **changes: Any) -> Plan:
        wanted = replace(self.wanted, **changes)
        _image_files.check_options(wanted)
        return _image_files.plan(wanted, _image_files.observe(wanted, str(self.mounts)))

    def install(self, seconds: float = 10, **changes: Any) -> _image_files.Installer:
        planned = self.plan(**changes)
        installer = _image_files.Installer(
            Runner(self.containerd.run_command), Deadline(seconds), mounts=str(self.mounts)
        )
        installer.apply(replace(self.wanted, **changes), planned)
        return installer

    def assert_clean(self) -> None:
        assert self.containerd.mounted == set()
        assert os.listdir(self.mounts) == []
        home = self.root / "opt/etcd"
        assert not home.exists() or [name for name in os.listdir(home) if ".part-" in name] == []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_programs_are_copied_and_linked(host: Host) -> None:
    installer = host.install()
    assert (host.folder / "etcdctl").read_text() == "etcdctl of 3.6.5"
    assert stat.S_IMODE((host.folder / "etcdutl").stat().st_mode) == 0o755
    assert stat.S_IMODE(host.folder.stat().st_mode) == 0o755
    assert os.readlink(host.link) == str(host.folder / "etcdctl")
    assert sorted(os.listdir(host.root / "bin")) == ["etcdctl", "etcdutl"]
    assert host.containerd.calls == ["list", "mount", "unmount"]
    assert not installer.pulled
    host.assert_clean()


def test_a_second_run_does_nothing(host: Host) -> None:
    host.install()
    host.containerd.calls.clear()
    assert host.plan() == Plan(copy=False, switch={}, clean=False)
    host.install()
    assert host.containerd.calls == []


def test_observing_and_planning_touch_nothing(host: Host) -> None:
    planned = host.plan()
    assert planned.changed
    assert sorted(os.listdir(host.root)) == ["image"]
    assert host.containerd.calls == []


def test_another_version_gets_its_own_folder_and_the_links(host: Host) -> None:
    host.install()
    (host.root / "image/usr/local/bin/etcdctl").chmod(0o755)
    (host.root / "image/usr/local/bin/etcdctl").write_text("etcdctl of 3.6.6")
    host.install(version="3.6.6-0")
    assert host.link.read_text() == "etcdctl of 3.6.6"
    assert (host.folder / "etcdctl").read_text() == "etcdctl of 3.6.5"


def test_wrong_links_alone_need_no_image(host: Host) -> None:
    host.install()
    host.link.unlink()
    host.link.symlink_to("/elsewhere/etcdctl")
    host.containerd.calls.clear()
    planned = host.plan()
    assert planned == Plan(copy=False, switch={str(host.link): str(host.folder / "etcdctl")}, clean=False)
    host.install()
    assert host.link.read_text() == "etcdctl of 3.6.5"
    assert host.containerd.calls == []


@pytest.mark.parametrize("damage", ["missing", "not executable", "a link"])
def test_a_folder_that_lacks_a_program_is_completed(host: Host, damage: str) -> None:
    host.install()
    (host.folder / "notes").write_text("somebody's")
    program = host.folder / "etcdutl"
    if damage == "not executable":
        program.chmod(0o644)
    else:
        program.unlink()
    if damage == "a link":
        program.symlink_to("/bin/false")
    assert host.plan().copy
    host.install()
    assert program.read_text() == "etcdutl of 3.6.5"
    assert not host.plan().changed
    assert (host.folder / "notes").exists()
    host.assert_clean()


def test_a_missing_image_is_pulled_the_way_the_kubelet_does(host: Host) -> None:
    host.containerd.held.remove(IMAGE)
    assert host.install().pulled
    assert host.containerd.calls == ["list", "pull", "mount", "unmount"]


def test_a_missing_image_without_crictl(host: Host) -> None:
    host.containerd.held.remove(IMAGE)
    host.containerd.has_crictl = False
    with pytest.raises(CommandError, match="Install crictl, or bring the image") as failed:
        host.install()
    assert IMAGE in str(failed.value)


@pytest.mark.parametrize("pull", [True, False])
def test_a_missing_image_that_must_not_be_pulled(host: Host, pull: bool) -> None:
    host.containerd.held.remove(IMAGE)
    wanted = replace(host.wanted, pull=pull, namespace="other" if pull else "k8s.io")
    runner = Runner(lambda argv, **_options: (0, "", ""))
    installer = _image_files.Installer(runner, Deadline(10), mounts=str(host.mounts))
    with pytest.raises(KubewrightError, match="does not hold the image"):
        installer.apply(wanted, host.plan())
    host.assert_clean()


def test_a_program_that_the_image_lacks(host: Host) -> None:
    with pytest.raises(KubewrightError, match=r"no such file \(/bin/nothing in registry.k8s.io/etcd"):
        host.install(files={"/usr/local/bin/etcdctl": "etcdctl", "/bin/nothing": "nothing"})
    host.assert_clean()
    assert not host.folder.exists()
    assert not host.link.is_symlink()


def test_links_are_followed_inside_the_image(host: Host) -> None:
    image = host.root / "image"
    (image / "bin").symlink_to("/usr/local/bin")
    (image / "usr/local/bin/relative").symlink_to("../../../bin/etcdctl")
    (image / "up").symlink_to("../../../../../../usr/local/bin/etcdutl")
    (image / "host").symlink_to(str(host.root / "secret"))
    (image / "loop").symlink_to("loop")
    (host.root / "secret").write_text("of the host")
    (image / "usr/absolute").symlink_to("/usr/local/bin/etcdctl")
    host.install(files={"/bin/relative": "a", "/up": "b", "/usr/absolute": "c"})
    assert (host.folder / "a").read_text() == "etcdctl of 3.6.5"
    assert (host.folder / "b").read_text() == "etcdutl of 3.6.5"
    assert (host.folder / "c").read_text() == "etcdctl of 3.6.5"
    with pytest.raises(KubewrightError, match="no such file"):
        host.install(files={"/host": "d"})
    with pytest.raises(KubewrightError, match="Too many links"):
        host.install(files={"/loop": "e"})
    host.assert_clean()


def test_what_killed_runs_left_is_removed_first(host: Host) -> None:
    host.mounts.mkdir()
    (host.mounts / "before-mount").mkdir()
    (host.mounts / "mounted").mkdir()
    host.containerd.mount(IMAGE, str(host.mounts / "mounted"))
    part = host.root / "opt/etcd/3.6.4-0.part-abc"
    part.mkdir(parents=True)
    (part / "etcdctl").write_text("half")
    host.install()
    host.assert_clean()
    assert host.link.read_text() == "etcdctl of 3.6.5"


def test_what_a_run_left_that_was_killed_at_its_end_is_removed_without_a_change(host: Host) -> None:
    host.install()
    (host.mounts / "mounted").mkdir()
    host.containerd.mount(IMAGE, str(host.mounts / "mounted"))
    planned = host.plan()
    assert planned.clean and not planned.changed
    host.install()
    host.assert_clean()
    assert host.plan() == Plan(copy=False, switch={}, clean=False)


def test_a_mount_that_fails_leaves_nothing(host: Host) -> None:
    host.containerd.broken = "mount"
    with pytest.raises(CommandError, match=r"mount is broken.*containerd runs"):
        host.install()
    host.assert_clean()


def test_an_unmount_that_fails_is_an_error_and_the_image_is_not_emptied(host: Host) -> None:
    host.containerd.broken = "unmount"
    with pytest.raises(CommandError, match="unmount is broken"):
        host.install()
    (target,) = host.containerd.mounted
    assert (Path(target) / "usr/local/bin/etcdctl").exists()
    host.containerd.broken = ""
    host.install()
    host.assert_clean()
    assert host.link.exists()


def test_a_disk_that_is_full(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy_some(_reader: Any, writer: Any, _length: int) -> None:
        writer.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", copy_some)
    with pytest.raises(KubewrightError, match=r"No space left on device\. Free some space"):
        host.install()
    host.assert_clean()
    assert not host.folder.exists()


def test_one_run_waits_for_the_other(host: Host) -> None:
    host.mounts.mkdir()
    other = os.open(host.mounts, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DeadlineExpired, match="another run"):
            host.install(seconds=0.01)
    finally:
        os.close(other)
    assert host.containerd.calls == []
    host.install()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_something_in_the_way_of_a_link_is_refused_before_anything_is_done(host: Host, kind: str) -> None:
    host.link.parent.mkdir()
    if kind == "file":
        host.link.write_text("of a package")
    else:
        host.link.mkdir()
    with pytest.raises(KubewrightError, match="is where a link must go"):
        host.install()
    assert host.containerd.calls == []


def test_a_file_in_the_way_is_replaced_where_that_is_allowed_and_stays_beside_the_link(host: Host) -> None:
    """Whoever made a cluster by hand has etcdctl as a file: an upgrade brings the one of the new etcd."""
    host.link.parent.mkdir()
    host.link.write_text("the administrator's")
    assert host.plan(replace=True).changed
    host.install(replace=True)
    assert host.link.is_symlink() and host.link.read_text() == "etcdctl of 3.6.5"
    assert (host.link.parent / "etcdctl.replaced").read_text() == "the administrator's"
    assert not host.plan(replace=True).changed
    # A run that was killed between the two names has left both.
    host.link.unlink()
    os.link(host.link.parent / "etcdctl.replaced", host.link)
    host.install(replace=True)
    assert host.link.is_symlink()
    assert sorted(os.listdir(host.link.parent)) == ["etcdctl", "etcdctl.replaced", "etcdutl"]


def test_a_folder_in_the_way_is_never_replaced(host: Host) -> None:
    host.link.mkdir(parents=True)
    with pytest.raises(KubewrightError, match="is where a link must go"):
        host.install(replace=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../etcd"},
        {"version": ""},
        {"version": "1.part-2"},
        {"version": ".."},
        {"files": {}},
        {"files": {"/a": "x", "/b": "x"}},
        {"files": {"/a": "b/c"}},
        {"files": {"/a": 5}},
        {"dest_root": "opt"},
        {"links_dir": "bin"},
    ],
)
def test_faulty_options_are_refused(host: Host, changes: dict[str, Any]) -> None:
    with pytest.raises(KubewrightError, match="option"):
        host.plan(**changes)


def test_the_diff(host: Host) -> None:
    link, target = str(host.link), str(host.folder / "etcdctl")
    wanted = replace(host.wanted, files={"/usr/local/bin/etcdctl": "etcdctl"})
    before = _image_files.diff(wanted, _image_files.observe(wanted, str(host.mounts)))
    assert before["before"] == {"path": str(host.folder), "files": [], "links": {link: None}}
    assert before["after"] == {"path": str(host.folder), "files": ["etcdctl"], "links": {link: target}}
    host.install(files=wanted.files)
    after = _image_files.diff(wanted, _image_files.observe(wanted, str(host.mounts)))
    assert after["before"] == after["after"]
