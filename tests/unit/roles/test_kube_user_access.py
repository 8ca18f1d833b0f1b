# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role says of the places of kubeconfigs, before it asks anybody."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROLE = Path(__file__).resolve().parents[3] / "roles" / "kube_user_access"
HERE = {"name": "jane", "path": "/srv/jane.conf"}
THERE = {"name": "joe", "host": "ci", "path": "/srv/joe.conf"}
GONE = {"name": "jim", "path": "/srv/jim.conf", "state": "absent"}
# By its name, the variables of a host, and how the one problem begins, if there is any.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "fine": ({"kube_user_access_people": [HERE, THERE, GONE]}, ""),
    "fine_in_awx": ({"kube_user_access_people": [THERE, GONE], "awx_job_id": 7}, ""),
    "lost_in_awx": (
        {"kube_user_access_people": [HERE, THERE], "awx_job_id": 7},
        "The kubeconfig of jane would be",
    ),
    "lost_in_tower": (
        {"kube_user_access_people": [{**HERE, "state": "present", "host": "localhost"}], "tower_job_id": 7},
        "The kubeconfig of jane would be",
    ),
    "placeless": (
        {"kube_user_access_people": [{"name": "jane"}, {"name": "jim", "state": "absent"}]},
        "There is no path for the kubeconfig of jane:",
    ),
    "stranger": (
        {"kube_user_access_people": [{**HERE, "host": "nowhere"}]},
        "No host of the inventory has the name nowhere",
    ),
}


def test_places_that_cannot_be_are_refused(tmp_path: Path) -> None:
    described = {
        name: {"kube_user_access_people": [], "kube_user_access_pipelines": [], **variables}
        for name, (variables, _problem) in CASES.items()
    }
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {**described, "ci": None}}}))
    copy = {
        "content": "{{ __kube_user_access_problems | to_json }}",
        "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}",
    }
    play = {
        "hosts": "all:!ci",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / "vars" / "main.yml")],
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    argv = ["ansible-playbook", "-i", "hosts.json", "play.yml"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, (_variables, problem) in CASES.items():
        said = json.loads((tmp_path / name).read_text())
        assert len(said) == bool(problem) and "".join(said).startswith(problem), (name, said)
