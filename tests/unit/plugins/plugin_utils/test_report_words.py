# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_words import (
    clean,
    duration,
    lines,
    moment,
    prose,
    some,
    stamp,
    why,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0 s"),
        (0.44, "0.4 s"),
        (3.0, "3 s"),
        (42.4, "42 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (988, "16 min 28 s"),
        (3600, "1 h"),
        (3719.7, "1 h 2 min"),
        (7325, "2 h 2 min"),
    ],
)
def test_durations_have_the_units_that_matter(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_times_are_utc_and_names_of_files_sort_by_them() -> None:
    assert moment(1795400045.9) == "02:14:05"
    assert stamp(1795400045.0) == "20261123T021405Z" < stamp(1795400046.0) < stamp(1827000000.0)


def test_many_names_are_counted_but_never_only_one() -> None:
    assert some(["a", "b", "c", "d"]) == "a, b, c, d"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 others"


@pytest.mark.parametrize(
    "secret",
    [
        "abcdef.0123456789abcdef",
        "0f" * 32,
        "https://user:hunter2@mirror.example.com/v2",
        "the wrong word is correcthorse",
    ],
)
def test_secrets_are_masked(secret: str) -> None:
    shown = clean(f"refused: {secret}.", {"correcthorse", "horse"})
    assert "********" in shown and "refused" in shown
    for part in ("0123456789abcdef", "0f0f", "hunter2", "horse"):
        assert part not in shown


def test_what_is_public_stays() -> None:
    image = f"registry.k8s.io/etcd@sha256:{'0f' * 32}"
    assert clean(image, set()) == image


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"msg": "The API does not answer. Look at it."}, "The API does not answer. Look at it."),
        (
            {"msg": "non-zero return code", "stderr": "one\ntwo\nthree\nfour\n", "stdout": "no"},
            "non-zero return code\ntwo\nthree\nfour",
        ),
        (
            {"msg": "MODULE FAILURE\nSee stdout", "module_stderr": "KeyError: 'a'"},
            "MODULE FAILURE\nSee stdout\nKeyError: 'a'",
        ),
        (
            {
                "msg": "One or more items failed",
                "results": [{"msg": "fine"}, {"failed": True, "msg": "a"}, {"failed": True, "msg": "a"}],
            },
            "a",
        ),
        ({"censored": "the output has been hidden"}, ""),
    ],
)
def test_a_failure_is_told_in_its_own_words(result: dict[str, Any], words: str) -> None:
    assert why(result) == words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\nb", ["a", "b"]),
        (["a", ["b", "c\nd"]], ["a", "b", "c", "d"]),
        ({"from": "3.5", "order": ["e1", "e2"]}, ["from: 3.5", "order: e1, e2"]),
        (42, ["42"]),
    ],
)
def test_whatever_a_task_says_becomes_lines(value: Any, said: list[str]) -> None:
    assert lines(value) == said


def test_prose_is_no_html() -> None:
    assert prose("<b>\n&") == "&lt;b&gt;<br>&amp;"
