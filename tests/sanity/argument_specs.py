# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proves that what a role documents is what it does.

Ansible does not take defaults from meta/argument_specs.yml, it only shows them, so that nothing but this
check keeps them equal to defaults/main.yml. For every role:

* each variable in defaults/main.yml is an option of the entry point `main` with an equal default; but one that is a
  template and becomes a number, a list or the like has none there, because antsibull-docs takes a default for a value
  of the option's type: its description says it;
* each option with a default is in defaults/main.yml;
* a required option has no default, in neither file;
* each variable starts with the role's name.

Usage: argument_specs.py [ROLES_FOLDER]. Prints one line a mismatch; exits 1 if there is any.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DEFAULTS = Path("defaults/main.yml")
SPECS = Path("meta/argument_specs.yml")
TEXTS = ("str", "path", "raw")


class RoleLoader(yaml.SafeLoader):
    """Reads Ansible's own tags (!unsafe, !vault) as the plain value under them."""


RoleLoader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty where the file is missing or empty."""
    if not path.exists():
        return {}
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=RoleLoader) or {}
    if not isinstance(content, dict):
        raise TypeError(f"{path}: is not a mapping")
    return content


def shown(value: Any) -> str:
    """One spelling a value, which keeps true, 1, 1.0 and "1" apart and ignores the order of keys."""
    return json.dumps(value, sort_keys=True, default=str)


def worked_out(value: Any, option: dict[str, Any]) -> bool:
    """Whether a default is a template whose result, not whose text, has the option's type."""
    return isinstance(value, str) and "{{" in value and option.get("type", "str") not in TEXTS


def mismatches(role: Path) -> Iterator[str]:
    """One line, with file and variable, for each way in which the role's two files disagree."""
    defaults = load(role / DEFAULTS)
    main = load(role / SPECS).get("argument_specs", {}).get("main")
    if main is None:
        yield f"{role / SPECS}: has no argument_specs.main"
        return
    options = main.get("options") or {}

    for name in sorted({*defaults, *options}):
        source = role / (SPECS if name in options else DEFAULTS)
        if not name.startswith(f"{role.name}_"):
            yield f"{source}: {name}: does not start with {role.name}_"

        option = options.get(name)
        if option is None:
            yield f"{role / SPECS}: {name}: missing, but has a default in {DEFAULTS}"
            continue
        if option.get("required"):
            if "default" in option:
                yield f"{role / SPECS}: {name}: is required and has a default"
            if name in defaults:
                yield f"{role / DEFAULTS}: {name}: has a default, but is required in {SPECS}"
        elif name in defaults and worked_out(defaults[name], option):
            if "default" in option:
                yield f"{role / SPECS}: {name}: the default is a template, and no {option['type']}: describe it instead"
        elif name in defaults and "default" not in option:
            yield f"{role / SPECS}: {name}: has no default, but {DEFAULTS} has {shown(defaults[name])}"
        elif "default" in option and name not in defaults:
            yield f"{role / DEFAULTS}: {name}: missing, but {SPECS} has default {shown(option['default'])}"
        elif name in defaults and shown(defaults[name]) != shown(option["default"]):
            yield (
                f"{role / SPECS}: {name}: default {shown(option['default'])} differs from "
                f"{shown(defaults[name])} in {DEFAULTS}"
            )


def main(argv: list[str]) -> int:
    folder = Path(argv[1]) if len(argv) > 1 else Path(__file__).resolve().parents[2] / "roles"
    found = [line for role in sorted(folder.glob("*/")) for line in mismatches(role)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
