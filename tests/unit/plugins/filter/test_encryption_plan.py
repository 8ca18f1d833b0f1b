# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.filter.encryption_plan import FilterModule

decide = FilterModule().filters()["encryption_plan"]


def test_it_returns_the_plan() -> None:
    cp1 = {
        "present": True,
        "used": True,
        "reloads": True,
        "layout": {"secrets": ["key-1", "identity"]},
        "fingerprints": {"key-1": "sha256:1"},
    }
    assert decide({"cp1": cp1}, {"secrets": {"key-1": 2}}, ["secrets"], "", "20261121-080000")["idle"]


def test_nothing_to_decide_on_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(AnsibleFilterError):
        decide({}, {}, ["secrets"], "", "20261121-080000")
