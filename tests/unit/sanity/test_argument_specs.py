# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parents[2] / "sanity" / "argument_specs.py"

GOOD_DEFAULTS = """\
kube_demo_port: 6443
kube_demo_url: "{{ kube_demo_mirror }}/file"
kube_demo_labels: {a: 1, b: [x]}
kube_demo_pattern: !unsafe "{{ literal }}"
kube_demo_count: "{{ groups['demo'] | length }}"
"""
GOOD_OPTIONS = """\
kube_demo_port: {type: int, default: 6443}
kube_demo_url: {default: "{{ kube_demo_mirror }}/file"}
kube_demo_labels: {type: dict, default: {b: [x], a: 1}}
kube_demo_pattern: {default: "{{ literal }}"}
kube_demo_token: {required: true}
kube_demo_extra: {type: str}
kube_demo_count: {type: int}
"""


def run(tmp_path: Path, defaults: str, options: str) -> subprocess.CompletedProcess[str]:
    role = tmp_path / "kube_demo"
    (role / "defaults").mkdir(parents=True)
    (role / "meta").mkdir()
    (role / "defaults/main.yml").write_text(defaults)
    indented = textwrap.indent(options, "      ")
    (role / "meta/argument_specs.yml").write_text(f"argument_specs:\n  main:\n    options:\n{indented}")
    return subprocess.run([sys.executable, str(CHECK), str(tmp_path)], capture_output=True, text=True)


def test_equal_files_pass(tmp_path: Path) -> None:
    done = run(tmp_path, GOOD_DEFAULTS, GOOD_OPTIONS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("default", "option", "mismatch"),
    [
        ("kube_demo_new: 1", "", "argument_specs.yml: kube_demo_new: missing, but has a default"),
        ("", "kube_demo_new: {default: 1}", "defaults/main.yml: kube_demo_new: missing, but"),
        (
            "kube_demo_new: 1",
            "kube_demo_new: {default: 2}",
            "argument_specs.yml: kube_demo_new: default 2 differs from 1",
        ),
        (
            "kube_demo_new: 1",
            "kube_demo_new: {default: '1'}",
            'argument_specs.yml: kube_demo_new: default "1" differs from 1',
        ),
        (
            "kube_demo_new: true",
            "kube_demo_new: {default: 1}",
            "argument_specs.yml: kube_demo_new: default 1 differs from true",
        ),
        (
            "kube_demo_new: 1",
            "kube_demo_new: {type: int}",
            "argument_specs.yml: kube_demo_new: has no default",
        ),
        (
            "kube_demo_new: 1",
            "kube_demo_new: {required: true}",
            "defaults/main.yml: kube_demo_new: has a default, but is required",
        ),
        (
            "kube_demo_new: '{{ 1 }}'",
            "kube_demo_new: {type: int, default: '{{ 1 }}'}",
            "argument_specs.yml: kube_demo_new: the default is a template, and no int: describe it instead",
        ),
        (
            "",
            "kube_demo_new: {required: true, default: 1}",
            "argument_specs.yml: kube_demo_new: is required and has",
        ),
        ("other: 1", "other: {default: 1}", "argument_specs.yml: other: does not start with kube_demo_"),
        (
            "kube_demo: 1",
            "kube_demo: {default: 1}",
            "argument_specs.yml: kube_demo: does not start with kube_demo_",
        ),
    ],
)
def test_a_mismatch_is_named(tmp_path: Path, default: str, option: str, mismatch: str) -> None:
    done = run(tmp_path, GOOD_DEFAULTS + default, GOOD_OPTIONS + option)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert mismatch in line


def test_a_role_without_specification_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kube_bare/tasks").mkdir(parents=True)
    done = subprocess.run([sys.executable, str(CHECK), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "kube_bare" in done.stdout
    assert "has no argument_specs.main" in done.stdout
