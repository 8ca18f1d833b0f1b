# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of operations have what somebody looks for at night; the commands of the first page make what they say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from docpages import DOCS, ROOT, Page

README = Page.read(ROOT / "README.md")
START = Page.read(DOCS / "start.md")
# README's table of playbooks: the playbook, what it does, its page.
OPERATIONS = re.findall(
    r"^\| `kubewright\.cluster\.(\w+)` .*\]\(docs/(\w+\.md)\) \|$", README.prose, re.MULTILINE
)


@pytest.mark.parametrize(("playbook", "page"), OPERATIONS, ids=lambda value: value.removesuffix(".md"))
def test_a_page_says_what_is_before_what_is_seen_and_what_to_do_when_it_fails(
    playbook: str, page: str
) -> None:
    """As headings, or as the first words of a paragraph where a page has several operations."""
    text = Page.read(DOCS / page)
    for words in ("Before", "What you see", "When it (?:fails|stops|refuses)"):
        assert re.search(rf"^(#+ |\*\*){words}\b", text.prose, re.MULTILINE), f"{page}: {words}"
    assert any(f"kubewright.cluster.{playbook}" in command.split() for command in text.commands())


def test_every_playbook_is_in_the_table() -> None:
    assert {playbook for playbook, _page in OPERATIONS} == {
        path.stem for path in ROOT.glob("playbooks/*.yml")
    }


def inventory(folder: Path) -> dict[str, Any]:
    read = {
        path: yaml.safe_load((folder / path).read_text(encoding="utf-8"))
        for path in ("hosts.yml", "group_vars/all.yml")
    }
    return {**read["hosts.yml"], **read["group_vars/all.yml"]}


def test_the_commands_of_the_start_describe_the_cluster_of_the_example(tmp_path: Path) -> None:
    """Run as they stand, by another shell than the one that they are copied into."""
    scripts = [
        text
        for language, text in START.blocks
        if language == "console" and re.search(r"^(LOGIN=|cat >)", text, re.MULTILINE)
    ]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run(["sh", "-eu"], input="\n".join(scripts), env=home, text=True, check=True, cwd=tmp_path)
    assert inventory(tmp_path / "kubewright/example") == inventory(ROOT / "inventories/stacked")
    assert "pipelining = true" in (tmp_path / "kubewright/ansible.cfg").read_text(encoding="utf-8")


def test_readme_shows_the_files_of_the_example() -> None:
    """Its blocks of YAML are those of inventories/stacked."""
    shown = [yaml.safe_load(dedent(text)) for language, text in README.blocks if language == "yaml"]
    example = ROOT / "inventories/stacked"
    for path in ("hosts.yml", "group_vars/all.yml"):
        assert yaml.safe_load((example / path).read_text(encoding="utf-8")) in shown
