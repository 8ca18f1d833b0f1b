# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which control plane begins a cluster, in the words of the roles kube_cluster and kube_control_plane.

A play for each case on two hosts that are never connected to. In the last one the host that was to begin fails first.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
AUTHORITY = "/etc/kubernetes/pki/ca.crt"
SEED = "Start a new cluster only where none ever was"

# The host with an authority, the host that fails, who begins, and whether somebody may.
CASES: dict[str, tuple[str, str, list[str], bool]] = {
    "nothing": ("", "", ["cp1"], True),
    "first_fails": ("", "cp1", ["cp2"], True),
    "given": ("cp2", "", ["cp2"], True),
    "given_and_fails": ("cp1", "cp1", [], False),
}


def expressions(role: str, *names: str) -> dict[str, Any]:
    found = yaml.safe_load((ROLES / role / "vars" / "main.yml").read_text())
    return {name: found[name] for name in names}


def look(host: str, holder: str) -> dict[str, Any]:
    paths = ["/etc/kubernetes/pki/etcd/ca.crt", *([AUTHORITY] if host == holder else [])]
    return {
        "item": host,
        "cluster": {"answers": False},
        "host": {"kubeadm": "none", "interrupted": None, "certificates": [{"path": path} for path in paths]},
    }


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, bool]]]:
    """Who begins by case and host."""
    folder = tmp_path_factory.mktemp("seed")
    begin = next(
        task
        for task in yaml.safe_load((ROLES / "kube_control_plane/tasks/seed.yml").read_text())
        if task["name"] == SEED
    )
    plays = []
    for name, (holder, failing, *_rest) in CASES.items():
        answer = "{{ {'begins': __kube_control_plane_is_seed and allowed, 'allowed': allowed} | to_json }}"
        copy = {
            "content": answer,
            "dest": f"{folder}/{name}-{{{{ inventory_hostname }}}}.json",
            "mode": "0600",
        }
        fail = {"ansible.builtin.fail": {"msg": "lost"}, "when": f"inventory_hostname == '{failing}'"}
        variables = {
            **expressions(
                "kube_cluster",
                "__kube_cluster_looks",
                "__kube_cluster_answers",
                "__kube_cluster_exists",
                "__kube_cluster_begun",
                "__kube_cluster_entitled",
                "__kube_cluster_remains",
            ),
            **expressions(
                "kube_control_plane", "__kube_control_plane_is_seed", "__kube_control_plane_entitled"
            ),
            "__kube_cluster_look": {"results": [look(host, holder) for host in ("cp1", "cp2")]},
            "__kube_cluster_silent": [],
            "allowed": "{{ (" + ") and (".join(begin["ansible.builtin.assert"]["that"]) + ") }}",
        }
        tasks = [fail, {"ansible.builtin.copy": copy}, {"ansible.builtin.meta": "clear_host_errors"}]
        plays.append(
            {
                "hosts": "all",
                "connection": "local",
                "gather_facts": False,
                "vars": variables,
                "tasks": tasks,
            }
        )
    (folder / "hosts.yml").write_text("all:\n  hosts:\n    cp1:\n    cp2:\n")
    (folder / "play.yml").write_text(json.dumps(plays))
    subprocess.run(["ansible-playbook", "-i", "hosts.yml", "play.yml"], cwd=folder, capture_output=True)
    return {
        name: {
            path.stem.rpartition("-")[2]: json.loads(path.read_text())
            for path in folder.glob(f"{name}-*.json")
        }
        for name in CASES
    }


@pytest.mark.parametrize("case", CASES)
def test_a_cluster_begins_where_its_authority_is(
    answers: dict[str, dict[str, dict[str, bool]]], case: str
) -> None:
    seen, (_holder, failing, begin, allowed) = answers[case], CASES[case]
    assert sorted(seen) == [host for host in ("cp1", "cp2") if host != failing]
    assert [host for host in sorted(seen) if seen[host]["begins"]] == begin
    assert all(one["allowed"] is allowed for one in seen.values())
