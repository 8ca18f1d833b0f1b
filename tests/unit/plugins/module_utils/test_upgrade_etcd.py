# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an upgrade takes the etcd of a stacked cluster."""

from __future__ import annotations

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._upgrade_etcd import (
    EtcdPlan,
    external_problems,
    plan_etcd,
)

NODES = ("cp1", "cp2", "cp3")
STEPS = {"3.6": "3.6.16-0"}


def plan(
    runs: str | dict[str, str], brings: str, pinned: str = "", old: dict[str, bool] | None = None, **more: str
) -> EtcdPlan:
    tags = dict.fromkeys(NODES, runs) if isinstance(runs, str) else runs
    steps = {key.replace("_", "."): tag for key, tag in more.items()} or STEPS
    return plan_etcd(brings, pinned, tags, steps, old if old is not None else dict.fromkeys(tags, False))


def said(found: EtcdPlan) -> str:
    return " ".join(f"{one['what']} {one['where']} {one['why']} {one['remedy']}" for one in found.problems)


def test_nothing_happens_to_an_etcd_that_kubeadm_leaves_alone() -> None:
    found = plan("3.6.8-0", "3.6.8-0")
    assert found == EtcdPlan("3.6.8-0")


def test_a_patch_needs_no_step() -> None:
    found = plan("3.6.6-0", "3.6.8-0", old={})
    assert (found.to, found.step_nodes, found.anew, found.problems) == ("3.6.8-0", (), (), ())


def test_the_next_minor_from_a_patch_that_is_too_old_takes_a_step_first() -> None:
    found = plan({"cp1": "3.6.8-0", "cp2": "3.6.16-0", "cp3": "3.6.8-0"}, "3.7.0-0")
    assert (found.to, found.step, found.step_nodes, found.problems) == (
        "3.7.0-0",
        "3.6.16-0",
        ("cp1", "cp3"),
        (),
    )


def test_the_next_minor_from_a_patch_that_will_do_takes_none() -> None:
    assert plan("3.6.16-0", "3.7.0-0").step == ""


@pytest.mark.parametrize("step", ["", "3.6.10-0", "3.7.0-0", "newest"])
def test_without_a_step_that_fits_it_is_refused(step: str) -> None:
    found = plan("3.6.8-0", "3.7.0-0", **{"3_6": step})
    assert "3.6.8-0 runs, etcd's guide asks for 3.6.11 at least" in said(found)
    assert "kube_upgrade_etcd_steps" in said(found) and "cp1, cp2, cp3" in said(found)


def test_a_minor_is_not_skipped() -> None:
    found = plan("3.5.35-0", "3.7.0-0")
    assert "one minor version at a time" in said(found) and not found.step_nodes


def test_a_log_with_requests_of_3_5_begins_anew_before_3_7_and_only_then() -> None:
    old = {"cp1": True, "cp2": False}
    # Nobody has looked into the log of cp3.
    assert plan("3.6.16-0", "3.7.0-0", old=old).anew == ("cp1", "cp3")
    assert plan("3.5.35-0", "3.6.8-0", old=old).anew == ()
    assert plan({"cp1": "3.7.0-0", "cp2": "3.6.16-0"}, "3.7.0-0", old={}).anew == ("cp2",)


def test_a_newer_etcd_stays_and_is_told_of() -> None:
    found = plan("3.6.16-0", "3.6.8-0")
    assert found.to == "3.6.8-0" and not found.problems and not found.step_nodes
    assert [one["where"] for one in found.notices] == list(NODES)


def test_a_pin_that_is_newer_than_kubeadms_etcd_stays() -> None:
    found = plan("3.6.16-0", "3.6.8-0", pinned="3.6.16-0")
    assert (found.to, found.unpin, found.notices) == ("3.6.16-0", False, ())


def test_a_pin_that_would_hold_etcd_back_is_taken_out() -> None:
    found = plan("3.6.16-0", "3.7.0-0", pinned="3.6.16-0")
    assert (found.to, found.unpin, found.step) == ("3.7.0-0", True, "")
    assert "it says 3.6.16-0, which is older than 3.7.0-0" in found.notices[0]["why"]


@pytest.mark.parametrize(("runs", "pinned"), [("latest", ""), ("3.6.8-0", "stable")])
def test_a_tag_that_is_no_version_is_refused(runs: str, pinned: str) -> None:
    assert "is no version" in said(plan(runs, "3.6.8-0", pinned))


def test_an_external_etcd_that_kubeadm_would_refuse() -> None:
    members = [
        {"id": "1", "name": "etcd1", "version": "3.5.24"},
        {"id": "2", "name": "etcd2", "version": "3.5.21"},
        {"id": "3", "name": "", "version": None},
    ]
    [found] = external_problems(members)
    assert found["where"] == "etcd2" and "upgrade_etcd.yml" in found["remedy"]
