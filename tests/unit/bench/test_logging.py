# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import yaml

from bench.logging import SETTINGS, Figures, Round, aims, limit, peak, text
from bench.measure import ROOT, BenchError

GOOD = [Round(50.0, 180.0), Round(40.0, 200.0), Round(100.0, 190.0)]


def test_medians_and_every_round_are_in_the_report() -> None:
    written = text(["Machine: one"], Figures(512, GOOD))
    assert "seconds from file to searchable           50.0   50.0 40.0 100.0" in written
    assert "the collector's peak memory, MiB         190.0   180.0 200.0 190.0" in written
    assert "From file to searchable: 4000 lines a second" in written
    assert "met     the collector takes 200 MiB, under its limit of 512" in written
    assert "MISSED" not in written


@pytest.mark.parametrize(
    ("wrong", "missed"),
    [
        (Round(50.0, 180.0, missing=1), "1 lines are missing and 0 are there twice"),
        (Round(50.0, 180.0, twice=3), "0 lines are missing and 3 are there twice"),
        (Round(50.0, 512.0), "takes 512 MiB"),
    ],
)
def test_a_missed_aim_is_said(wrong: Round, missed: str) -> None:
    [aim] = [one for one in aims(Figures(512, [*GOOD, wrong])) if not one.met]
    assert missed in aim.what


def test_the_peak_is_what_the_kernel_says() -> None:
    assert (
        peak("Name:\totelcol-contrib\nVmPeak:\t 1500000 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  100 kB\n") == 200
    )
    with pytest.raises(BenchError, match="the collector has ended"):
        peak("")


def test_the_settings_are_the_roles() -> None:
    defaults = yaml.safe_load((ROOT / "roles/kube_logging/defaults/main.yml").read_text())
    assert set(SETTINGS) <= set(defaults)
    assert limit() == 512
