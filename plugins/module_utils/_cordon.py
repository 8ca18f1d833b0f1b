# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cordon a node so that it is known whose cordon it is: pure functions.

On its own, because every report of a cluster reads it, and needs nothing of a drain.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CORDONED = "kubewright.cluster/cordoned"
MANAGER = "kubewright"


def is_cordoned(node: Mapping[str, Any]) -> bool:
    return bool((node.get("spec") or {}).get("unschedulable"))


def is_our_cordon(node: Mapping[str, Any]) -> bool:
    """Tell whether this collection cordoned a node.

    The annotation alone would not do: somebody may have uncordoned the node and cordoned it again since, which
    leaves the annotation there. The API server keeps who wrote the field last.
    """
    about = node["metadata"]
    if not is_cordoned(node) or CORDONED not in (about.get("annotations") or {}):
        return False
    writers = [
        one.get("manager")
        for one in about.get("managedFields") or []
        if "f:unschedulable" in ((one.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return not writers or MANAGER in writers


def cordon_patch(node: Mapping[str, Any], cordon: bool, stamp: str = "") -> dict[str, Any]:
    """Return the patch that cordons or uncordons a node, for the version of it that was seen."""
    return {
        "metadata": {
            "resourceVersion": node["metadata"].get("resourceVersion"),
            "annotations": {CORDONED: stamp if cordon else None},
        },
        "spec": {"unschedulable": True if cordon else None},
    }
