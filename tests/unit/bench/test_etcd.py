# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from bench.etcd import Figures, aims, text

GOOD = {
    "size": 1040,
    "plain": [10, 12, 11],
    "saved": [12, 40, 13],
    "together": 60,
    "largest": 34,
    "info": [0.4],
}


def test_the_median_counts_and_the_report_names_every_round() -> None:
    figures = Figures(**GOOD)
    assert figures.ratio == pytest.approx(13 / 11)
    written = text(["Machine: one"], figures)
    assert "rounds: 12.00 40.00 13.00" in written and "MISSED" not in written
    assert "60 MiB in all processes at once, 34 MiB in the largest" in written


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"saved": [15, 15, 15]}, "save to etcdctl"),
        ({"together": 64}, "resident"),
        ({"info": [1.0]}, "etcd_member_info"),
    ],
)
def test_a_missed_aim_is_said(change: dict[str, object], missed: str) -> None:
    (aim,) = [one for one in aims(Figures(**{**GOOD, **change})) if not one.met]
    assert aim.what.startswith(missed)
