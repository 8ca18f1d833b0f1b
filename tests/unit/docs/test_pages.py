# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages say is there: links, playbooks, options, variables, modules, targets of make."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from docpages import DOCS, ROOT, Page, module_options, specs

PAGES = sorted(DOCS.glob("*.md"))
OTHERS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("*/README.md")),
    *sorted(ROOT.glob("roles/*/README.md")),
]
INDEX = DOCS / "index.md"
COLLECTION = "kubewright.cluster"
# One that ends in an underscore stands for all that begin so.
LOOKS_LIKE_OURS = re.compile(r"(kube|etcd|backup|reset|restore|verify)_[a-z_]*[a-z]")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("path", PAGES, ids=name)
every_text = pytest.mark.parametrize("path", PAGES + OTHERS, ids=name)


@cache
def page(path: Path) -> Page:
    return Page.read(path)


@cache
def documented() -> set[str]:
    """Every variable of a role."""
    return {option for main in specs().values() for option in main.get("options") or {}}


@cache
def sources() -> str:
    """All playbooks and roles, which may take variables that no role documents, such as remove_node."""
    files = [
        *ROOT.glob("playbooks/*.yml"),
        *ROOT.glob("roles/*/tasks/*.yml"),
        *ROOT.glob("inventories/*/group_vars/*.yml"),
    ]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@cache
def inventories() -> set[str]:
    """The variables of the inventories that come along; those of the lab are among them."""
    files = ROOT.glob("inventories/*/group_vars/*.yml")
    return {variable for path in files for variable in yaml.safe_load(path.read_text(encoding="utf-8"))}


@cache
def others() -> set[str]:
    """Names of roles and plugins, which look like variables."""
    return {
        path.stem
        for place in ("roles/*", "plugins/modules/*.py", "plugins/filter/*.py")
        for path in ROOT.glob(place)
    }


def known(variable: str) -> bool:
    return variable in documented() or bool(re.search(rf"(?<![\w']){variable}\b", sources()))


@every_text
def test_links_lead_somewhere(path: Path) -> None:
    """To a file that is there, and to one of its headings."""
    for link in page(path).links():
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), f"{name(path)}: {link}"
        if anchor:
            assert anchor in page(file).anchors(), f"{name(path)}: {link}"


def test_every_page_is_in_the_index() -> None:
    assert {link.partition("#")[0] for link in page(INDEX).links()} >= {path.name for path in PAGES} - {
        "index.md"
    }


@every_page
def test_headings_have_an_order(path: Path) -> None:
    """One title, and no level is skipped: Sphinx warns of that."""
    levels = [level for level, _heading in page(path).headings()]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("playbook", sorted(ROOT.glob("playbooks/*.yml")), ids=name)
def test_every_playbook_has_a_page_with_its_command(playbook: Path) -> None:
    """And README names it."""
    fqcn = f"{COLLECTION}.{playbook.stem}"
    assert any(fqcn in command.split() for path in PAGES for command in page(path).commands()), fqcn
    assert f"`{fqcn}`" in page(ROOT / "README.md").prose


@every_text
def test_commands_name_what_is_there(path: Path) -> None:
    """Playbooks, extra variables, modules with their options, roles, inventories, targets of make."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in page(path).commands():
        for wrong in problems(command, targets):
            pytest.fail(f"{name(path)}: {command}: {wrong}")


def problems(command: str, targets: list[str]) -> list[str]:
    """What of a command is not there."""
    try:
        words = shlex.split(command)
    except ValueError:
        # A quotation that goes on in the next line: a text for a file, or a program for another one.
        return []
    found = []
    pairs = list(zip(words, [*words[1:], ""], strict=True))
    for word, after in pairs:
        if word == "make" and words[0] == "make" and re.fullmatch(r"[a-z-]+", after) and after not in targets:
            found.append(f"make has no target {after}")
        if word.startswith("playbooks/") and not (ROOT / word).exists():
            found.append(f"there is no {word}")
        if word in ("-i", "--inventory") and after.startswith("inventories/") and not (ROOT / after).exists():
            found.append(f"there is no {after}")
        if word in ("-e", "--extra-vars") and (match := re.match(r"(\w+)=", after)) and not known(match[1]):
            found.append(f"nobody reads the variable {match[1]}")
    named = [word.removeprefix(f"{COLLECTION}.") for word in words if word.startswith(f"{COLLECTION}.")]
    for one in named:
        if not any((ROOT / place).exists() for place in places(words, one)):
            found.append(f"there is no {one}")
    if "-m" in words and "-a" in words and named and not found:
        found += [f"{named[0]} has no option {option}" for option in given(words) - module_options(named[0])]
    return found


def places(words: list[str], one: str) -> list[str]:
    """Where what a command names would be."""
    if words[0].endswith("ansible-playbook"):
        return [f"playbooks/{one}.yml"]
    if "role" in words:
        return [f"roles/{one}"]
    return [f"plugins/modules/{one}.py", f"plugins/filter/{one}.py"]


def given(words: list[str]) -> set[str]:
    """The options that -a gives to a module."""
    text = words[words.index("-a") + 1]
    if text.startswith("{"):
        return set(json.loads(text))
    return {word.partition("=")[0] for word in shlex.split(text)}


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("make unicorns", "make has no target unicorns"),
        ("ansible-playbook -i inventories/none playbooks/site.yml", "there is no inventories/none"),
        ("ansible-playbook -i example kubewright.cluster.sight", "there is no sight"),
        ("ansible-playbook playbooks/sight.yml", "there is no playbooks/sight.yml"),
        (
            "ansible-playbook kubewright.cluster.reset -e reset_clutter=x",
            "nobody reads the variable reset_clutter",
        ),
        ("ansible-doc -t role kubewright.cluster.kube_upgrades", "there is no kube_upgrades"),
        (
            "ansible HOST -b -m kubewright.cluster.etcd_member -a 'state=voter url=x'",
            "etcd_member has no option url",
        ),
        ("ansible HOST -m kubewright.cluster.image_files -a '{\"nom\": 1}'", "image_files has no option nom"),
    ],
)
def test_what_is_not_there_is_noticed(command: str, wrong: str) -> None:
    assert problems(command, ["check"]) == [wrong]


@every_text
def test_variables_are_there(path: Path) -> None:
    """Whatever is given a value is a variable; any other word that looks like one may also be a role or a module."""
    text = page(path)
    given_values = [word.partition(":")[0] for word in text.code() if re.match(r"[a-z_]+: ", word)]
    for word in filter(LOOKS_LIKE_OURS.fullmatch, [*given_values, *text.settings()]):
        assert word in documented() or word in inventories(), f"{name(path)}: {word}"
    for word in filter(LOOKS_LIKE_OURS.fullmatch, text.code()):
        # A table may leave out what all of its variables begin with.
        ends = any(option.endswith(f"_{word}") for option in documented())
        assert known(word) or word in others() or ends, f"{name(path)}: {word}"
