# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads pages of Markdown and what they write about: headings, links, commands, variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^\s*```(\w*)\s*$")
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_MARKUP = re.compile(r"[`*]|\[([^\]]*)\]\([^)]*\)")


@dataclass
class Page:
    """A page: its prose without code blocks, and the code blocks with their languages."""

    path: Path
    prose: str
    blocks: list[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> Page:
        prose: list[str] = []
        blocks: list[tuple[str, str]] = []
        language: str | None = None
        inside: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            fence = _FENCE.match(line)
            if fence and language is None:
                language, inside = fence[1], []
            elif fence:
                blocks.append((language or "", "\n".join(inside)))
                language = None
            else:
                (prose if language is None else inside).append(line)
        assert language is None, f"{path}: a code block does not end"
        return cls(path, "\n".join(prose), blocks)

    def headings(self) -> list[tuple[int, str]]:
        """The headings as they are written, with their levels."""
        found = re.findall(r"^(#+) +(.+?) *$", self.prose, re.MULTILINE)
        return [(len(marks), text) for marks, text in found]

    def anchors(self) -> set[str]:
        """The anchors that GitHub makes of the headings; a second one of the same words gets a number."""
        found: dict[str, int] = {}
        anchors = set()
        for _level, heading in self.headings():
            text = _MARKUP.sub(lambda match: match[1] or "", heading)
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = found.get(slug, 0)
            found[slug] = count + 1
            anchors.add(f"{slug}-{count}" if count else slug)
        return anchors

    def links(self) -> list[str]:
        """Where links and images lead, without those to other sites."""
        targets = _LINK.findall(_CODE.sub("", self.prose))
        return [target for target in targets if not re.match(r"[a-z]+:", target)]

    def code(self) -> list[str]:
        """What is written as code within sentences and tables."""
        return _CODE.findall(self.prose)

    def commands(self) -> Iterator[str]:
        """The lines of blocks of commands, each with the lines that continue it, without comments."""
        for language, text in self.blocks:
            if language == "console":
                for line in re.sub(r"\\\n\s*", " ", text).splitlines():
                    if command := line.split(" #")[0].strip():
                        yield command

    def settings(self) -> Iterator[str]:
        """The variables that blocks of YAML set."""
        for language, text in self.blocks:
            if language == "yaml":
                yield from re.findall(r"^ *([a-z_]+):", text, re.MULTILINE)


@cache
def specs() -> dict[str, dict[str, Any]]:
    """The entry point `main` of each role."""
    return {
        path.parents[1].name: yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]
        for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))
    }


@cache
def module_options(name: str) -> set[str]:
    """The options of a module, those of its fragments among them."""
    text = (ROOT / f"plugins/modules/{name}.py").read_text(encoding="utf-8")
    about = _documentation(text, "DOCUMENTATION")
    options = set(about.get("options") or {})
    for fragment in about.get("extends_documentation_fragment") or []:
        _namespace, _collection, file, *section = fragment.split(".")
        text = (ROOT / f"plugins/doc_fragments/{file}.py").read_text(encoding="utf-8")
        name = section[0].upper() if section else "DOCUMENTATION"
        options |= set(_documentation(text, name).get("options") or {})
    return options


@cache
def returned(name: str) -> dict[str, Any]:
    """What a module returns, as its documentation has it."""
    return _documentation((ROOT / f"plugins/modules/{name}.py").read_text(encoding="utf-8"), "RETURN")


def _documentation(text: str, name: str) -> dict[str, Any]:
    """What a constant of a module, or of a class in it, holds."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return dict(yaml.safe_load(ast.literal_eval(node.value)))
    raise LookupError(name)
