# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is given as `-e option=false`, or by a survey of AWX, is a text, and every text but an empty one is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CONDITIONS = ("when", "failed_when", "changed_when", "until", "that")
TEXTS = ("roles/*/tasks/*.yml", "roles/*/vars/**/*.yml", "roles/*/defaults/*.yml", "roles/*/templates/*")
# The whole value of an option of a module, which knows its type.
PASSED_ON = re.compile(r"\{\{\s*\w+\s*\}\}")


def truths() -> set[str]:
    """Return the names of all options that are true or false."""
    points = (
        point
        for path in ROOT.glob("roles/*/meta/argument_specs.yml")
        for point in yaml.safe_load(path.read_text())["argument_specs"].values()
    )
    return {
        name
        for point in points
        for name, option in (point.get("options") or {}).items()
        if option.get("type") == "bool"
    }


def texts(what: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Return the texts of what a YAML file says, each with the key that it is under."""
    if isinstance(what, dict):
        for name, value in what.items():
            yield from texts(value, str(name))
    elif isinstance(what, list):
        for value in what:
            yield from texts(value, key)
    elif isinstance(what, str):
        yield key, what


def expressions(path: Path) -> Iterator[str]:
    """Return what Jinja works out in a file, without what is quoted in it."""
    text = path.read_text()
    found = [("", text)] if path.parent.name == "templates" else list(texts(yaml.safe_load(text)))
    for key, one in found:
        parts = re.findall(r"\{\{(.*?)\}\}|\{%(.*?)%\}", one, re.DOTALL)
        if key in CONDITIONS:
            parts = [(one, "")]
        elif PASSED_ON.fullmatch(one.strip()):
            continue
        for part in parts:
            yield re.sub(r"'[^']*'|\"[^\"]*\"", "''", "".join(part))


def test_options_that_are_true_or_false_are_read_as_such() -> None:
    names = truths()
    assert len(names) > 30
    bare = re.compile(rf"(?<![\w.])({'|'.join(sorted(names))})\b(?!\s*\|\s*bool\b)")
    wrong = [
        f"{path.relative_to(ROOT)}: {match[1]}"
        for pattern in (*TEXTS, "playbooks/*.yml")
        for path in sorted(ROOT.glob(pattern))
        for expression in expressions(path)
        for match in bare.finditer(expression)
    ]
    assert wrong == []
