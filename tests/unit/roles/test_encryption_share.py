# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which encryption configuration the role kube_control_plane brings to whom; folders stand for hosts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROLES = Path(__file__).parents[3] / "roles"
VARIABLES = [
    str(ROLES / role / path / "main.yml")
    for role in ("kube_cluster", "kube_control_plane")
    for path in ("defaults", "vars")
]


class Play:
    """Runs tasks/encryption.yml on cp1 and cp2, whose files are below a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hosts = {name: {"ansible_connection": "local"} for name in ("cp1", "cp2")}
        (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        play = {
            "hosts": "all",
            "gather_facts": False,
            "vars_files": VARIABLES,
            "tasks": [
                {"ansible.builtin.include_tasks": str(ROLES / "kube_control_plane/tasks/encryption.yml")}
            ],
        }
        (folder / "play.yml").write_text(json.dumps([play]))

    def run(
        self, *options: str, living: str = "", remains: tuple[str, ...] = (), begun: tuple[str, ...] = ()
    ) -> str:
        """Return the output of a run that failed, nothing of one that ended well."""
        seen: dict[str, Any] = {
            "__kube_cluster_control_planes": ["cp1", "cp2"],
            "__kube_cluster_exists": bool(living),
            "__kube_cluster_living": living,
            "__kube_cluster_remains": remains,
            "__kube_cluster_begun": begun,
            "__kube_control_plane_folder": f"{self.folder}/{{{{ inventory_hostname }}}}",
            "__kube_control_plane_encryption_file": f"{self.folder}/{{{{ inventory_hostname }}}}/encryption.yaml",
        }
        argv = ["ansible-playbook", "-i", "hosts.json", "-e", json.dumps(seen), *options, "play.yml"]
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr if done.returncode else ""

    def file(self, host: str) -> str:
        path = self.folder / host / "encryption.yaml"
        return path.read_text() if path.exists() else ""

    def writes_with(self, host: str) -> str:
        """Return the first provider of a host's file."""
        text = self.file(host)
        found = {text.find(f'"{name}"'): name for name in ("identity", "secretbox") if f'"{name}"' in text}
        return found[min(found)]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@pytest.mark.parametrize(
    ("seen", "first"),
    [
        pytest.param({}, "secretbox", id="new"),
        pytest.param({"remains": ("cp1",), "begun": ("cp1",)}, "secretbox", id="begun"),
        pytest.param({"living": "cp1", "remains": ("cp1", "cp2")}, "identity", id="living"),
        # It comes back while this run waits for it; the others could not read what the first one encrypts.
        pytest.param({"remains": ("cp1", "cp2")}, "identity", id="down"),
    ],
)
def test_only_a_new_cluster_writes_with_its_key_at_once(play: Play, seen: dict[str, Any], first: str) -> None:
    assert play.run(**seen) == ""
    assert play.writes_with("cp1") == first
    assert play.file("cp1") == play.file("cp2")


@pytest.mark.parametrize("mode", [[], ["--check"]])
def test_a_limited_run_brings_no_argument_without_its_file(play: Play, mode: list[str]) -> None:
    """Nobody has a key, and this run must not make one: the API server would be pointed at a missing file."""
    refused = play.run("--limit", "cp2", *mode, living="cp1", remains=("cp1", "cp2"))
    assert "run without --limit" in refused and "cp1" in refused
    assert play.file("cp1") == play.file("cp2") == ""


def test_a_file_from_elsewhere_is_not_taken(play: Play) -> None:
    assert play.run("--limit", "cp2") == ""
    refused = play.run(living="cp1", remains=("cp1",))
    assert "cp2 has" in refused and "from elsewhere" in refused
    assert play.file("cp1") == ""
