# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._drain import Pod
from ansible_collections.kubewright.cluster.plugins.module_utils._drain_node import Outcome
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.modules.drain_node import (
    CONNECTION,
    RULES,
    WANTED,
    diff,
    read_options,
)

DEFAULTS = {
    key: option.get("default")
    for options in (CONNECTION, RULES, WANTED)
    for key, option in options.items()  # type: ignore[attr-defined]
}


def options(**given: Any) -> dict[str, Any]:
    return {**DEFAULTS, "name": "w1", **given}


@pytest.mark.parametrize("option", ["grace_period", "skip_wait_for_delete", "timeout"])
def test_a_number_below_zero_is_refused(option: str) -> None:
    with pytest.raises(KubewrightError, match=f"{option} cannot be -1"):
        read_options(options(**{option: -1}))


def test_no_grace_is_not_the_same_as_none_given() -> None:
    assert read_options(options()).grace_period is None
    assert read_options(options(grace_period=0)).grace_period == 0


def test_the_diff_shows_the_cordon_and_the_pods() -> None:
    out = Outcome(schedulable=False, cordoned=True)
    out.evicted["u"] = (Pod("shop", "web", "u"), None)
    assert diff("w1", out) == {"before": "w1 schedulable\nshop/web\n", "after": "w1 cordoned\n"}
