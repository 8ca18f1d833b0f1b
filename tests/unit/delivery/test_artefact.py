# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the artefact and the execution environment declare is what the code needs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from lab import ee

ROOT = Path(__file__).resolve().parents[3]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())
OWN = {"ansible.builtin", f"{GALAXY['namespace']}.{GALAXY['name']}"}
# What calls a module, a role or a playbook by its full name, and what calls a filter or a look-up.
CALLS = re.compile(
    r"^\s*(?:- )?([a-z_]+\.[a-z_]+)\.[a-z_]+:|(?:name|role|import_playbook): ([a-z_]+\.[a-z_]+)\.[a-z_]+\s*$",
    re.MULTILINE,
)
READS = re.compile(r"\| ([a-z_]+\.[a-z_]+)\.[a-z_]+|lookup\('([a-z_]+\.[a-z_]+)\.")


def test_every_collection_that_is_called_is_declared() -> None:
    called: set[str] = set()
    for path in (*ROOT.glob("playbooks/*.yml"), *ROOT.glob("roles/*/*/*")):
        text = path.read_text(encoding="utf-8") if path.suffix in (".yml", ".j2") else ""
        found = READS.findall(text)
        # Settings of a kernel look like names of modules.
        if path.parent.name in ("playbooks", "tasks", "handlers", "meta"):
            found += CALLS.findall(text)
        called |= {"".join(one) for one in found}
    assert called == OWN | set(GALAXY["dependencies"])


def test_the_image_has_what_both_definitions_ask_for() -> None:
    asked = ee.needs()
    assert {"openssh-client", "gnupg", "age", "sshpass"} <= set(asked.system)
    # Those of RPM distributions are others.
    assert not {"openssh-clients", "gnupg2"} & set(asked.system)
    assert [re.split("[<>=]", one)[0] for one in asked.python[:2]] == ["ansible-core", "ansible-runner"]


def test_its_ansible_is_one_that_the_collection_takes() -> None:
    wanted = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    [core] = [one for one in ee.needs().python if one.startswith("ansible-core")]
    assert wanted == f">={core.removeprefix('ansible-core>=')}.0"


def test_ansible_builder_takes_the_definition(tmp_path: Path) -> None:
    """It writes the recipe of the RPM image, with what both ask for in it."""
    argv = ["ansible-builder", "create", "--file", str(ee.DEFINITION), "--context", str(tmp_path)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    recipe = (tmp_path / "Containerfile").read_text()
    definition = yaml.safe_load(ee.DEFINITION.read_text())
    assert f'ARG EE_BASE_IMAGE="{definition["images"]["base_image"]["name"]}"' in recipe
    assert "ansible-core>=2.18 ansible-runner>=2.4" in recipe
    asked = yaml.safe_load((tmp_path / "_build" / "requirements.yml").read_text())
    assert asked["collections"] == [
        {"name": f"{GALAXY['repository']}.git", "type": "git", "version": "main"},
    ]
    assert "sshpass" in (tmp_path / "_build" / "bindep.txt").read_text()


def test_a_script_starts_with_the_interpreter_of_the_image() -> None:
    body = "import sys\nsys.exit(0)\n"
    short = f"#!/opt/python/bin/python3\n{body}"
    # How a path that is too long for a first line is written.
    long = f"""#!/bin/sh\n'''exec' "/{"x" * 130}/python3" "$0" "$@"\n' '''\n{body}"""
    for script in (short, long):
        assert ee._for_debian(script) == f"#!/usr/bin/python3\n{body}"
