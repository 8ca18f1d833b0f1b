# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role kube_host does with packages of a Debian; the package manager is faked."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
UNITS = [
    "/usr/lib/systemd/system/kubelet.service",
    "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
]
INSTALLED = {
    name: {"version": "1.36.3-1.1", "held": True} for name in ("kubeadm", "kubelet", "kubectl", "conntrack")
}
FOUND = "".join(f"installed hold {name} 1.36.3-1.1\n" for name in INSTALLED)
HOST = {
    "kube_cluster_version": "1.36.3",
    "kube_host_packages": ["conntrack"],
    # Nothing is missing, so that nothing is fetched.
    "kube_host_package_key_url": "http://127.0.0.1:1/Release.key",
    "kube_cluster_host_address": "192.0.2.11",
    "__kube_cluster_version_in_force": "1.36.3",
}
# Stands for each program; it prints what a test chose for it, and notes how it was called.
FAKE_PROGRAM = (
    '#!/bin/sh\nprintf "%s %s\\n" "${0##*/}" "$*" >> "$FAKE/calls"\n'
    'cat "$FAKE/${0##*/}.out" 2>/dev/null || true\n'
)
PROGRAMS = ("dpkg", "dpkg-query", "dpkg-statoverride", "apt-get", "apt-mark")


def seen(*mode_overrides: str, unfinished: bool = False) -> dict[str, object]:
    """What the module cluster_info found on the host."""
    packages = {"unfinished": unfinished, "installed": INSTALLED, "mode_overrides": list(mode_overrides)}
    system = {"package_manager": "apt"}
    host: dict[str, object] = {
        "kubeadm": "none",
        "container": True,
        "ntp_synchronized": True,
        "system": system,
        "swap_kib": 0,
    }
    host["versions"] = dict.fromkeys(("kubeadm", "containerd", "containerd-shim-runc-v2", "ctr", "runc"))
    return {**HOST, "__kube_host_seen": {"host": {**host, "packages": packages}}}


class Play:
    """Runs tasks/packages_apt.yml where the role would, on this machine, with a package manager of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for program in PROGRAMS:
            (folder / program).write_text(FAKE_PROGRAM)
            (folder / program).chmod(0o755)
        self.says("dpkg-query", FOUND)
        tasks = yaml.safe_load((ROLES / "kube_host/tasks/install.yml").read_text())
        [task] = [task for task in tasks if task["name"].startswith("Install Kubernetes' packages")]
        include = task["ansible.builtin.include_tasks"]
        include["file"] = str(ROLES / "kube_host/tasks" / include["file"])
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "environment": {"PATH": f"{folder}:{os.environ['PATH']}", "FAKE": str(folder)},
            "vars_files": [
                str(ROLES / role / path / "main.yml")
                for role in ("kube_cluster", "kube_host")
                for path in ("defaults", "vars")
            ],
            "tasks": [task],
        }
        (folder / "play.yml").write_text(json.dumps([play]))

    def says(self, program: str, text: str) -> None:
        (self.folder / f"{program}.out").write_text(text)

    def run(self, host: dict[str, object], *options: str) -> tuple[list[str], str]:
        """Return the calls that are no questions, and Ansible's summary."""
        calls = self.folder / "calls"
        calls.write_text("")
        argv = ["ansible-playbook", "-i", "localhost,", "-e", json.dumps(host), *options, "play.yml"]
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        asked = ("dpkg-query ", "dpkg-statoverride --list")
        return [line for line in calls.read_text().splitlines() if not line.startswith(asked)], done.stdout


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


def test_a_run_that_was_killed_after_apt_is_finished_by_the_next_one(play: Play) -> None:
    add = "dpkg-statoverride --force-statoverride-add --update --add root root 0600"
    assert play.run(seen(UNITS[0]))[0] == [f"{add} {UNITS[1]}"]
    calls, told = play.run(seen(UNITS[0]), "--check")
    assert calls == []
    assert "changed=1 " in told


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_nothing_is_done_twice(play: Play, options: list[str]) -> None:
    calls, told = play.run(seen(*UNITS), *options)
    assert calls == []
    assert "changed=0 " in told


def test_what_is_there_counts_after_packages_were_finished(play: Play) -> None:
    play.says("dpkg-statoverride", "".join(f"root root 600 {path}\n" for path in UNITS))
    assert play.run(seen(unfinished=True))[0] == []
