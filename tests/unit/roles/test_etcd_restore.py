# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role etcd_restore decides in its own words: whose plan is open, whom the end waits for, and what is text.

One run of ansible-playbook evaluates all cases: each is a host that is never connected to.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).parents[3] / "roles" / "etcd_restore"
MINE, OTHERS = {"token": "lab-2"}, {"token": "lab-1"}
# The plan that is open when this run is about to write its own, the one that it saw when it looked, and if it goes on.
LOCK: dict[str, tuple[dict[str, str], dict[str, str], bool]] = {
    "none": ({}, {}, True),
    "goes_on": (MINE, MINE, True),
    "given_up": (OTHERS, OTHERS, True),
    "begun_meanwhile": (OTHERS, {}, False),
    "another_meanwhile": (OTHERS, {"token": "lab-0"}, False),
}


def tasks(name: str) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in yaml.safe_load((ROLE / "tasks" / f"{name}.yml").read_text())}


def play(folder: Path, hosts: dict[str, Any], task: dict[str, Any]) -> list[str]:
    """Run one task on hosts that are none; return those where it did not fail."""
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    done = {"ansible.builtin.copy": {"content": "", "dest": f"{folder}/{{{{ inventory_hostname }}}}.done"}}
    text = [{"hosts": "all", "connection": "local", "gather_facts": False, "tasks": [task, done]}]
    (folder / "play.yml").write_text(json.dumps(text))
    ran = subprocess.run(
        ["ansible-playbook", "-i", "hosts.json", "play.yml"], cwd=folder, capture_output=True, text=True
    )
    assert "PLAY RECAP" in ran.stdout and "undefined" not in ran.stdout, ran.stdout + ran.stderr
    return sorted(path.stem for path in folder.glob("*.done"))


def test_a_run_leaves_the_restore_to_another_one_that_began_meanwhile(tmp_path: Path) -> None:
    hosts = {
        name: {
            "__etcd_restore_here": True,
            "__etcd_restore_plan": MINE,
            "__etcd_restore_seen": {"host": {"plan": saw}},
            "__etcd_restore_open": {"stdout": json.dumps(there) if there else ""},
        }
        for name, (there, saw, _goes_on) in LOCK.items()
    }
    went_on = play(tmp_path, hosts, tasks("replace")["Leave it to whoever began meanwhile"])
    assert went_on == sorted(name for name, (_there, _saw, goes_on) in LOCK.items() if goes_on)


def test_the_end_waits_for_the_nodes_of_the_run(tmp_path: Path) -> None:
    """A worker that was dead before is not in the run, and is only reported."""
    wait = tasks("close")["Wait until etcd and the nodes of this run are healthy"]

    def cluster(healthy: int, **ready: bool) -> dict[str, Any]:
        nodes = [{"name": name, "ready": each} for name, each in ready.items()]
        etcd = {"error": None, "healthy": healthy, "voters": 3}
        return {"cluster": {"answers": True, "etcd": etcd, "nodes": nodes}}

    common = {
        **wait["vars"],
        "__kube_cluster_control_planes": ["whole", "unready", "one_member_less"],
        "__kube_cluster_workers": ["dead"],
        "__kube_cluster_control_plane_nodes": ["n1", "n2", "n3"],
        "__kube_cluster_worker_nodes": ["n4"],
    }
    hosts = {
        "whole": {**common, "__etcd_restore_cluster": cluster(3, n1=True, n2=True, n4=False)},
        "unready": {**common, "__etcd_restore_cluster": cluster(3, n1=True, n2=False, n4=True)},
        "one_member_less": {**common, "__etcd_restore_cluster": cluster(2, n1=True, n2=True)},
    }
    assert play(tmp_path, hosts, {"ansible.builtin.assert": {"that": wait["until"]}}) == ["whole"]


@pytest.mark.parametrize("name", ["replace", "data", "close"])
def test_a_plan_is_written_as_text(name: str) -> None:
    """ansible-core 2.18 makes a dictionary of a text that looks like one, unless the filter string is the last."""
    files = [
        one
        for task in tasks(name).values()
        for one in task.get("kubewright.cluster.host_files", {}).get("files", [])
    ]
    contents = [one["content"] for one in files if "content" in one]
    assert contents and all(one.endswith("| string }}") for one in contents)
