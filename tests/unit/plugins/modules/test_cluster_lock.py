# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_lock import Held
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.modules.cluster_lock import OPTIONS, read_options, work


def params(**given: Any) -> dict[str, Any]:
    defaults = {name: about.get("default") for name, about in OPTIONS.items()}
    return {**defaults, "holder": "alice@a", "run": "1", **given}


class FakeLock:
    def hold(self, claim: Any, *, act: bool) -> Held | None:
        return Held("bob", "2", "", "", 3)

    def release(self, run: str, *, act: bool) -> bool:
        return run == "1"


def test_people_are_told_who_and_what_for() -> None:
    claim = read_options(params(purpose="upgrade"))
    assert (claim.holder, claim.run, claim.seconds) == ("alice@a (upgrade)", "1", 900)


def test_a_time_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(KubewrightError, match="seconds cannot be 0"):
        read_options(params(seconds=0))


def test_whose_it_was_is_returned() -> None:
    lock: Any = FakeLock()
    assert work(params(), lock, act=True) == {"holder": "bob", "run": "2"}
    assert work(params(state="released"), lock, act=True)["holder"] == "alice@a"
    assert work(params(state="released", run="3"), lock, act=True) == {"holder": "", "run": ""}
