# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from bench.report import Run
from bench.upgrade import Figures, aims, etcd_step, text

COUNTS = {"ok": 40, "skipped": 2, "changed": 9, "failures": 0, "unreachable": 0}


def figures(*seconds: float) -> Figures:
    runs = [Run(one, 0.0, [("Upgrade the control plane", one / 2)] * 2, {"cp1": COUNTS}) for one in seconds]
    return Figures([Run(500.0), Run(480.0), Run(900.0)], runs)


def test_the_median_counts_and_the_report_names_every_round() -> None:
    [aim] = aims(figures(540, 1200, 530))
    assert aim.met and aim.what == "upgrade.yml takes 1.08 of plain-upgrade.sh, at most 1.1"
    written = text(["Machine: one"], figures(540, 1200, 530))
    assert "plain-upgrade.sh                         500.0   500.0 480.0 900.0" in written
    assert "540.00   Upgrade the control plane (2 times)" in written
    assert "upgrade.yml: 2 tasks, 42 task results over all hosts" in written


def test_a_missed_aim_is_said() -> None:
    [aim] = aims(figures(551))
    assert not aim.met
    assert "MISSED  upgrade.yml takes 1.10" in text([], figures(551))


def test_etcd_takes_its_patch_before_its_minor() -> None:
    """What kubeadm 1.36.3 runs is too old for the etcd of 1.37.1."""
    assert etcd_step() == "3.6.16-0"
