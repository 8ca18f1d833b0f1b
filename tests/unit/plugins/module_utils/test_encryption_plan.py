# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption_plan import (
    goals,
    new_name,
    plan,
    sequence,
)

STAMP = "20261121-080000"
OLD, NEW = "key-20260101-000000", f"key-{STAMP}"
ENCRYPTED = {"secrets": {OLD: 3}, "configmaps": {"identity": 5}}

BEFORE = {"secrets": [OLD, "identity"]}
READ = {"secrets": [OLD, NEW, "identity"]}
WRITE = {"secrets": [NEW, OLD, "identity"]}
DROP = {"secrets": [NEW, "identity"]}
WAY = [BEFORE, READ, WRITE, DROP]


def host(layout: dict[str, list[str]], **changes: Any) -> dict[str, Any]:
    """What encryption_config returns for a layout."""
    keys = {name for order in layout.values() for name in order if name != "identity"}
    return {
        "present": bool(layout),
        "used": True,
        "reloads": True,
        "layout": layout,
        "fingerprints": {name: f"sha256:{name}" for name in sorted(keys)},
        **changes,
    }


def decide(
    layouts: list[dict[str, list[str]]],
    values: dict[str, dict[str, int]] | None = None,
    resources: list[str] | None = None,
    rotate: str = "",
) -> dict[str, Any]:
    seen = {f"cp{number}": host(layout) for number, layout in enumerate(layouts, 1)}
    wanted = ["secrets"] if resources is None else resources
    return plan(seen, ENCRYPTED if values is None else values, wanted, rotate, STAMP)


def test_nothing_is_done_without_a_wish() -> None:
    decided = decide([BEFORE] * 3)
    assert decided["idle"] and decided["key"] == OLD and not decided["generate"] and not decided["again"]


@pytest.mark.parametrize("wish", ["key-20250101-000000", "nonsense"])
def test_a_key_that_is_not_in_use_is_not_rotated_away_from_again(wish: str) -> None:
    """The same command, given a second time, changes nothing."""
    assert decide([BEFORE] * 3, rotate=wish)["idle"]


def test_the_key_in_use_is_rotated_away_from_when_it_is_named() -> None:
    decided = decide([BEFORE] * 3, rotate=OLD)
    assert not decided["idle"] and decided["generate"] == NEW and decided["dropped"] == [OLD]
    assert [decided[step] for step in ("read", "write", "drop")] == [READ, WRITE, DROP]
    assert decided["goals"] == {"secrets": NEW} and decided["stale"] == 3


def test_every_step_can_be_read_by_the_one_before_and_the_one_after() -> None:
    """At each moment two control planes are at most one step apart: what one writes the other reads."""
    for one, two in zip(WAY, WAY[1:]):
        assert one["secrets"][0] in two["secrets"] and two["secrets"][0] in one["secrets"]


@pytest.mark.parametrize("wish", ["", OLD])
@pytest.mark.parametrize(("one", "two"), [*zip(range(3), range(1, 4)), *[(n, n) for n in range(1, 3)]])
def test_an_interrupted_rotation_is_finished_and_no_other_begun(one: int, two: int, wish: str) -> None:
    """Wherever a run was ended, with files of one step or of two: the next run goes on to the same key."""
    for order in product((WAY[one], WAY[two]), repeat=3):
        if {WAY.index(layout) for layout in order} != {one, two}:
            continue
        decided = decide(list(order), {"secrets": {OLD: 1, NEW: 1}, "configmaps": {}}, rotate=wish)
        assert not decided["problems"] and not decided["generate"] and not decided["idle"]
        assert decided["drop"] == DROP and decided["goals"] == {"secrets": NEW}
        assert bool(decided["read"]) == (two <= 1)
        assert bool(decided["write"]) == (two <= 2)
        assert not decided["again"]


def test_values_that_were_not_written_again_are_found() -> None:
    decided = decide([DROP] * 3, {"secrets": {NEW: 2, "identity": 1}, "configmaps": {}})
    assert not decided["idle"] and decided["stale"] == 1 and not decided["generate"]


def test_a_wish_for_the_key_that_an_unfinished_rotation_leads_to_says_so() -> None:
    decided = decide([WRITE] * 3, rotate=NEW)
    assert decided["again"] and not decided["generate"] and decided["drop"] == DROP


@pytest.mark.parametrize(
    "layouts",
    [
        [BEFORE, WRITE],
        [BEFORE, DROP],
        [READ, DROP],
        [BEFORE, READ, WRITE],
        [BEFORE, {"secrets": ["x", "identity"]}],
    ],
)
def test_files_that_are_not_two_steps_of_one_rotation_are_refused(
    layouts: list[dict[str, list[str]]],
) -> None:
    [problem] = decide(layouts)["problems"]
    assert "cp1" in problem
    assert all(f"sha256:{name}" in problem for order in layouts[-1].values() for name in order[:-1])


def test_different_keys_under_one_name_are_refused_with_fingerprints() -> None:
    seen = {"cp1": host(BEFORE), "cp2": host(BEFORE, fingerprints={OLD: "sha256:another"})}
    [problem] = plan(seen, ENCRYPTED, ["secrets"], "", STAMP)["problems"]
    assert "sha256:another" in problem and f"sha256:{OLD}" in problem


def test_a_value_that_nobody_can_read_is_refused_before_anything_changes() -> None:
    [problem] = decide([BEFORE] * 3, {"secrets": {"lost": 2, OLD: 1}, "configmaps": {}}, rotate=OLD)[
        "problems"
    ]
    assert "2 secrets" in problem and "lost" in problem


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"present": False}, "has no encryption configuration"),
        ({"used": False}, "does not use"),
        ({"reloads": False}, "does not reload"),
    ],
)
def test_a_control_plane_that_cannot_follow_is_named(changes: dict[str, Any], said: str) -> None:
    seen = {"cp1": host(BEFORE), "cp2": host(BEFORE, **changes)}
    [problem] = plan(seen, ENCRYPTED, ["secrets"], OLD, STAMP)["problems"]
    assert said in problem and "cp2" in problem and "cp1" not in problem


def test_the_first_encryption_of_a_cluster() -> None:
    """site.yml brought a key that only reads; the playbook lets it write, and encrypts what is there."""
    first = {"secrets": ["identity", OLD]}
    decided = decide([first] * 3, {"secrets": {"identity": 7}, "configmaps": {"identity": 5}})
    assert not decided["generate"] and decided["stale"] == 7
    assert decided["read"] == first
    assert decided["write"] == decided["drop"] == BEFORE and decided["dropped"] == []


def test_the_end_of_encryption() -> None:
    decided = decide([BEFORE] * 3, resources=[])
    assert decided["write"] == {"secrets": ["identity", OLD]}
    assert decided["drop"] == {"secrets": ["identity"]} and decided["dropped"] == [OLD]
    assert decided["goals"] == {"secrets": "identity"} and decided["stale"] == 3 and decided["key"] == ""
    plain = {"secrets": {"identity": 3}, "configmaps": {}}
    assert decide([{"secrets": ["identity"]}] * 3, plain, resources=[])["idle"]


def test_encryption_after_its_end_begins_with_a_new_key() -> None:
    plain = {"secrets": {"identity": 3}, "configmaps": {}}
    decided = decide([{"secrets": ["identity"]}] * 3, plain)
    assert decided["generate"] == NEW
    assert decided["read"] == {"secrets": ["identity", NEW]} and decided["drop"] == DROP


def test_another_resource_is_read_before_it_is_written() -> None:
    decided = decide([BEFORE] * 3, resources=["secrets", "configmaps"])
    assert not decided["generate"] and decided["stale"] == 5
    assert decided["read"] == {"configmaps": ["identity", OLD], "secrets": [OLD, "identity"]}
    assert decided["write"] == {name: [OLD, "identity"] for name in ("configmaps", "secrets")}


def test_a_resource_that_is_not_to_be_encrypted_any_more() -> None:
    both = {name: [OLD, "identity"] for name in ("configmaps", "secrets")}
    decided = decide([both] * 3, {"secrets": {OLD: 1}, "configmaps": {OLD: 2}})
    assert decided["write"] == {"configmaps": ["identity", OLD], "secrets": [OLD, "identity"]}
    assert decided["drop"] == BEFORE and decided["dropped"] == [] and decided["stale"] == 2


def test_a_new_key_sorts_last_even_when_the_clock_was_wrong() -> None:
    assert new_name(STAMP, "") == NEW
    late = "key-20990101-000000"
    assert new_name(STAMP, late) > late
    assert new_name(STAMP, new_name(STAMP, late)) > new_name(STAMP, late)


def test_the_way_is_the_same_from_each_of_its_steps() -> None:
    for base in WAY[:3]:
        assert sequence(base, goals(base, ["secrets"], NEW))[1:] == (WRITE, DROP)
