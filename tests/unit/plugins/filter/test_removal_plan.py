# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.filter.removal_plan import FilterModule

removal_plan = FilterModule().filters()["removal_plan"]


def test_the_rows_of_the_role_are_taken() -> None:
    row = {"name": "w1", "node": "w1", "address": "10.0.0.21", "control_plane": False, "reachable": True}
    found = removal_plan(["w1"], [{**row, "remains": False, "authority": ""}], {"answers": False})
    assert "does not answer" in found["problems"][0] and found["targets"] == []


def test_something_else_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="a list of names"):
        removal_plan("w1", [], {})
