# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the texts of a role come to, as Ansible works them out from its defaults and variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template


def evaluate(text: str, variables: dict[str, Any]) -> Any:
    """Work a text out with some variables."""
    return Templar(loader=DataLoader(), variables=variables).template(trust_as_template(text))


def trusted(value: Any) -> Any:
    """Texts of the role are templates; those of users in mappings and lists are too."""
    if isinstance(value, dict):
        return {key: trusted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [trusted(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


def evaluate_in(role: Path, text: str, variables: dict[str, Any]) -> Any:
    """Work a text out with the role's defaults and variables, over which some others go."""
    merged: dict[str, Any] = {}
    for file in [role / "defaults/main.yml", *sorted((role / "vars/main").glob("*.yml"))]:
        merged |= yaml.safe_load(file.read_text(encoding="utf-8"))
    return evaluate(text, trusted({**merged, **variables}))
