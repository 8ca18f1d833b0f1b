# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cordon import CORDONED, is_our_cordon


def node(cordoned: bool, annotated: bool, managers: list[str]) -> dict[str, Any]:
    fields = [{"manager": one, "fieldsV1": {"f:spec": {"f:unschedulable": {}}}} for one in managers]
    fields.append({"manager": "kubelet", "fieldsV1": {"f:status": {}}})
    return {
        "metadata": {"annotations": {CORDONED: "x"} if annotated else {}, "managedFields": fields},
        "spec": {"unschedulable": True} if cordoned else {},
    }


@pytest.mark.parametrize(
    ("seen", "ours"),
    [
        (node(True, True, ["kubewright"]), True),
        (node(True, True, []), True),
        (node(True, False, ["kubewright"]), False),
        (node(False, True, ["kubewright"]), False),
        # kured 314 and 791: somebody uncordoned it, and cordoned it again.
        (node(True, True, ["kubectl"]), False),
    ],
)
def test_whose_cordon_it_is(seen: dict[str, Any], ours: bool) -> None:
    assert is_our_cordon(seen) is ours
