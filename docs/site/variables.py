# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints a page of every variable of every role, from their argument specs, for `make docs`.

Each name leads to the role's own page, where choices, elements and the rest of the description are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from antsibull_docs_parser.dom import PluginIdentifier
from antsibull_docs_parser.parser import Context, parse
from antsibull_docs_parser.rst import to_rst

COLLECTION = "kubewright.cluster"
ROLES = Path(__file__).resolve().parents[2] / "roles"
# Longer ones are on the page of the role.
WIDEST = 60
# What every other role reads comes first.
FIRST = "kube_cluster"


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def shown(option: dict[str, Any]) -> str:
    """The default as somebody would write it; a variable without one may be left out."""
    if option.get("required"):
        return "must be set"
    if "default" not in option:
        return ""
    text = json.dumps(option["default"], ensure_ascii=False)
    return f"``{text}``" if len(text) <= WIDEST else "see there"


def sentence(role: str, option: dict[str, Any]) -> str:
    """The first paragraph of the description."""
    text = option.get("description", "")
    first = text[0] if isinstance(text, list) else text
    context = Context(
        current_plugin=PluginIdentifier(fqcn=f"{COLLECTION}.{role}", type="role"), role_entrypoint="main"
    )
    return to_rst(parse(" ".join(first.split()), context))


def table(role: str, options: dict[str, Any]) -> Iterator[str]:
    yield ".. list-table::\n   :header-rows: 1\n   :widths: 30 10 20 40\n"
    for cells in [
        ("Variable", "Type", "Default", "What it is"),
        *(
            (
                f":ansopt:`{COLLECTION}.{role}#role:main:{name}`",
                option.get("type", "str"),
                shown(option),
                sentence(role, option),
            )
            for name, option in sorted(options.items())
        ),
    ]:
        yield "\n".join(f"   {'*' if cell is cells[0] else ' '} - {cell}".rstrip() for cell in cells)
    yield ""


def page() -> Iterator[str]:
    yield heading("All variables", "=")
    yield "Of every role, from its argument specs. `What to think about <settings.html>`__ is shorter.\n"
    for role in sorted((path.name for path in ROLES.iterdir()), key=lambda name: (name != FIRST, name)):
        specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
        main = specs["argument_specs"]["main"]
        if main.get("options"):
            yield heading(role, "-")
            yield f":ansplugin:`{COLLECTION}.{role}#role`: {main['short_description']}\n"
            yield from table(role, main["options"])


if __name__ == "__main__":
    print("\n".join(page()))
