# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules and roles refer to in their own documentation is there. `make docs` sees the same, later."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docpages import ROOT, module_options, returned, specs

SPECS = sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))
TEXTS = SPECS + sorted(ROOT.glob("plugins/modules/*.py"))
PLACES = {
    "role": "roles/{}",
    "module": "plugins/modules/{}.py",
    "filter": "plugins/filter/{}.py",
    "callback": "plugins/callback/{}.py",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SPECS, ids=name)
def test_an_option_of_a_role_is_its_own_or_named_in_full(path: Path) -> None:
    """Only the full name, with the entry point, leads to the page of another role."""
    role = path.parents[1].name
    text = path.read_text(encoding="utf-8")
    for named in re.findall(r"\bO\(([^)=]+)", text):
        owner, _, option = named.rpartition("#role:main:")
        assert not owner or owner.startswith("kubewright.cluster."), named
        known = specs()[owner.removeprefix("kubewright.cluster.") or role]["options"]
        assert re.split(r"[\[.]", option)[0] in known, f"{name(path)}: O({named})"


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_modules_and_plugins_that_are_named_are_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = [(one, "module") for one in re.findall(r"\bM\(kubewright\.cluster\.(\w+)\)", text)]
    named += re.findall(r"\bP\(kubewright\.cluster\.(\w+)#(\w+)\)", text)
    for one, kind in named:
        assert (ROOT / PLACES[kind].format(one)).exists(), f"{name(path)}: {one}"
    for module, option in re.findall(r"\bO\(kubewright\.cluster\.(\w+)#module:(\w+)", text):
        assert option in module_options(module), f"{name(path)}: {module}: {option}"


MODULES = [path for path in TEXTS if path.suffix == ".py"]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_what_is_returned_is_documented_where_it_is_named(path: Path) -> None:
    """Level by level, as RV(objects[].action)."""
    text = path.read_text(encoding="utf-8")
    for owner, key in re.findall(r"\bRV\((?:kubewright\.cluster\.(\w+)#module:)?([\w.\[\]]+)", text):
        found = returned(owner or path.stem)
        for part in key.replace("[]", "").split("."):
            assert part in found, f"{name(path)}: RV({key})"
            found = found[part].get("contains") or {}
