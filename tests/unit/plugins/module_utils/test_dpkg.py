# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._dpkg import (
    State,
    mend,
    observe,
    parse_status,
    settle,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

STATUS = """\
Package: kubelet
Status: {kubelet}
Version: 1.36.3-1.1
Description: The node agent
 Status: install ok unpacked

Package: base-files
Status: install ok installed

Package: old
Status: deinstall ok config-files
"""
OURS = ["kubelet"]
WHOLE = STATUS.format(kubelet="hold ok installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "updates").mkdir()
    (tmp_path / "status").write_text(WHOLE)
    return tmp_path


@pytest.mark.parametrize(
    ("status", "broken"),
    [
        ("hold ok installed", []),
        ("install ok unpacked", ["kubelet"]),
        ("install ok half-configured", ["kubelet"]),
        ("install reinstreq half-installed", ["kubelet"]),
        ("install reinstreq installed", ["kubelet"]),
        ("install ok triggers-pending", ["kubelet"]),
        ("deinstall ok config-files", []),
    ],
)
def test_packages_that_are_not_whole(status: str, broken: list[str]) -> None:
    assert parse_status(STATUS.format(kubelet=status)) == broken


def test_the_status_of_this_machine_can_be_read() -> None:
    if Path("/var/lib/dpkg/status").exists():
        assert isinstance(observe(Path("/var/lib/dpkg"), OURS), State)


FOREIGN = "\nPackage: theirs\nStatus: install ok half-configured\n"


def test_what_is_wrong_with_packages_of_others_is_theirs(folder: Path) -> None:
    (folder / "status").write_text(WHOLE + FOREIGN)
    assert observe(folder, OURS).whole
    # Something that is not there may depend on it, and apt installs nothing while dpkg has a journal.
    assert observe(folder, [*OURS, "conntrack"]) == State(False, ("theirs",))
    (folder / "updates/0000").write_text("")
    assert not observe(folder, OURS).whole


def test_what_ours_depends_on_is_ours(folder: Path) -> None:
    (folder / "status").write_text(STATUS.format(kubelet="install ok unpacked") + FOREIGN)
    assert observe(folder, OURS) == State(False, ("kubelet", "theirs"))


def test_the_journal_counts_but_not_its_temporary_file(folder: Path) -> None:
    (folder / "updates/tmp.i").write_text("")
    assert observe(folder, OURS).whole
    (folder / "updates/0003").write_text("")
    assert observe(folder, OURS) == State(True, ())


def test_another_system_has_nothing_to_mend(tmp_path: Path) -> None:
    assert settle(tmp_path / "nowhere", OURS, Deadline(0)).whole


def test_a_whole_host_waits_for_nobody(folder: Path) -> None:
    with (folder / "lock-frontend").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        assert settle(folder, OURS, Deadline(0)).whole


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
open(sys.argv[2], "w").write(sys.argv[3])
"""


def test_a_dpkg_that_still_works_is_waited_for(folder: Path) -> None:
    (folder / "status").write_text(STATUS.format(kubelet="install ok unpacked"))
    argv = [sys.executable, "-c", HOLD, str(folder / "lock-frontend"), str(folder / "status"), WHOLE]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as working:
        assert working.stdout
        assert working.stdin
        assert working.stdout.readline() == b"held\n"
        with pytest.raises(DeadlineExpired, match="another program that installs packages"):
            settle(folder, OURS, Deadline(0))
        working.stdin.close()
        assert settle(folder, OURS, Deadline(20)).whole


class FakePackageManager:
    """Stands for run_command; each program brings the status that a test chose for it."""

    def __init__(self, folder: Path, **brings: str) -> None:
        self.folder = folder
        self.brings = brings
        self.calls: list[list[str]] = []

    def __call__(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        words = argv[3:]
        self.calls.append(words)
        state = self.brings.get(words[0].replace("-", "_"))
        if state:
            (self.folder / "status").write_text(STATUS.format(kubelet=state))
            for part in (self.folder / "updates").iterdir():
                part.unlink()
        return 0, "", ""


def test_what_was_unpacked_is_configured(folder: Path) -> None:
    (folder / "status").write_text(STATUS.format(kubelet="install ok unpacked"))
    manager = FakePackageManager(folder, dpkg="install ok installed")
    mend(Runner(manager), folder, OURS, Deadline(9))
    [words] = manager.calls
    assert words == ["dpkg", "--force-confdef", "--force-confold", "--configure", "--pending"]


def test_what_was_not_unpacked_is_unpacked_again(folder: Path) -> None:
    (folder / "updates/0000").write_text("")
    broken = "install reinstreq half-installed"
    manager = FakePackageManager(folder, dpkg=broken, apt_get="install ok installed")
    mend(Runner(manager), folder, OURS, Deadline(9))
    assert [words[0] for words in manager.calls] == ["dpkg", "apt-get"]
    assert "--fix-broken" in manager.calls[1]
    assert "--no-remove" in manager.calls[1]
    assert manager.calls[1][-1] == "install"


def test_what_apt_leaves_half_unpacked_is_installed_again_in_its_version(folder: Path) -> None:
    """kubernetes-cni, cut off before the kubelet was unpacked, which needs it: apt took it for superfluous."""

    class FakeApt(FakePackageManager):
        def __call__(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
            self.calls.append(argv)
            if "dpkg-query" in argv:
                return 0, "1.36.3-1.1", ""
            if "--reinstall" in argv:
                (self.folder / "status").write_text(WHOLE)
            return 0, "", ""

    (folder / "status").write_text(STATUS.format(kubelet="install reinstreq half-installed"))
    manager = FakeApt(folder)
    mend(Runner(manager), folder, OURS, Deadline(9))
    assert manager.calls[-1][-3:] == ["--reinstall", "install", "kubelet=1.36.3-1.1"]


def test_what_cannot_be_mended_is_named(folder: Path) -> None:
    (folder / "status").write_text(STATUS.format(kubelet="install reinstreq half-installed"))
    with pytest.raises(KubewrightError, match=r"neither dpkg nor apt could finish them \(kubelet\)"):
        mend(Runner(FakePackageManager(folder)), folder, OURS, Deadline(9))
