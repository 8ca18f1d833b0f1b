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
from docpages import specs
from jinja2 import Environment

ROOT = Path(__file__).parents[3]
CONDITIONS = ("when", "failed_when", "changed_when", "until", "that")
FILES = (
    "roles/*/tasks/*.yml",
    "roles/*/vars/**/*.yml",
    "roles/*/defaults/*.yml",
    "roles/*/templates/*",
    "playbooks/*.yml",
)
# The whole value of an option of a module, which knows its type. A variable of a role knows none.
PASSED_ON = re.compile(r"\{\{\s*\w+\s*\}\}")
TRUTHS = {
    name
    for role in specs().values()
    for name, option in (role.get("options") or {}).items()
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


def templates(path: Path) -> Iterator[str]:
    """Return what Jinja works out in a file."""
    text = path.read_text()
    for key, one in [("", text)] if path.parent.name == "templates" else texts(yaml.safe_load(text)):
        if key in CONDITIONS:
            yield f"{{{{ {one} }}}}"
        elif key.startswith("__") or not PASSED_ON.fullmatch(one.strip()):
            yield one


def bare(template: str) -> Iterator[str]:
    """Return the options that are true or false, and that a template takes as they were given."""
    words = [word for _, kind, word in Environment().lex(template) if kind not in ("data", "whitespace")]
    for place, word in enumerate(words):
        if (
            word in TRUTHS
            and words[place - 1 : place] != ["."]
            and words[place + 1 : place + 3] != ["|", "bool"]
        ):
            yield word


def test_options_that_are_true_or_false_are_read_as_such() -> None:
    assert len(TRUTHS) > 30
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for pattern in FILES
        for path in sorted(ROOT.glob(pattern))
        for template in templates(path)
        for name in bare(template)
    ]
    assert wrong == []
