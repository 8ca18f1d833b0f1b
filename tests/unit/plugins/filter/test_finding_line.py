# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.filter.finding_line import FilterModule, finding_line


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (
            {"what": "A node is not ready", "where": "w1", "why": "It stopped.", "remedy": "Look at it"},
            "A node is not ready (w1): It stopped. Look at it.",
        ),
        ({"what": "It is not reached.", "where": "w1", "why": None, "remedy": ""}, "It is not reached (w1)."),
        ({"what": "Short"}, "Short."),
    ],
)
def test_a_line_with_what_is_known(finding: dict[str, Any], line: str) -> None:
    assert FilterModule().filters()["finding_line"](finding) == line


def test_anything_else_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="as cluster_info returns it"):
        finding_line("a sentence")
