# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders what a role makes of variables, by Ansible itself: many cases in one run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[4]
ROLES = ROOT / "roles"


def render(
    folder: Path, roles: list[str], expression: str, cases: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return by case what an expression becomes with the defaults of the roles and the variables of the case.

    The last of the roles is the one whose templates and files are found.
    """
    for kind in ("templates", "files"):
        if (ROLES / roles[-1] / kind).exists():
            (folder / kind).symlink_to(ROLES / roles[-1] / kind)
    (folder / "group_vars" / "all").mkdir(parents=True)
    for role in roles:
        shutil.copy(ROLES / role / "defaults" / "main.yml", folder / "group_vars" / "all" / f"{role}.yml")
    common = {"role_path": str(ROLES / roles[-1]), "kube_cluster_name": "example"}
    hosts = {name: {**common, **variables} for name, variables in cases.items()}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    copy = {
        "content": f"{{{{ ({expression}) | to_json }}}}",
        "dest": str(folder / "{{ inventory_hostname }}.json"),
        "mode": "0600",
    }
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLES / role / "vars" / "main.yml") for role in roles],
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    (folder / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts.json", "play.yml"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in cases}
