# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls at a steady pace: what is counted as tried again, as failed, and as a gap."""

from __future__ import annotations

import time

import pytest
import steady
from steady import Attempt, Caller, Figures, Tally


def test_the_longest_gap_is_between_calls_that_succeeded() -> None:
    """Failures in between do not end it, and a silence at the end is one too."""
    told: list[str] = []
    tally = Tally("read", 0.1, told.append)
    for at in (100.0, 100.1, 100.4):
        tally.succeeded(at)
    assert tally.figures(100.5).gap == pytest.approx(0.3)
    tally.went_wrong(100.5, "refused", for_good=False)
    tally.went_wrong(100.5, "refused", for_good=True)
    tally.succeeded(101.0)
    seen = tally.figures(101.1)
    assert (seen.calls, seen.retried, seen.failed) == (5, 1, 1) and seen.gap == pytest.approx(0.6)
    assert tally.figures(103.0).gap == pytest.approx(2.0)
    assert [line.split(" ", 1)[1] for line in told] == ["read: again: refused", "read: FAILED: refused"]


def test_answers_that_cross_each_other_make_no_gap() -> None:
    """Two threads: the one that was answered earlier counts later."""
    tally = Tally("read", 0.1, print)
    for at in (100.0, 100.2, 100.1, 100.3):
        tally.succeeded(at)
    assert tally.figures(100.3).gap == pytest.approx(0.2)


def test_a_tally_begins_with_the_first_success() -> None:
    """What does not serve yet has not failed anybody; what never serves was not measured."""
    told: list[str] = []
    tally = Tally("workload", 0.1, told.append)
    tally.went_wrong(1.0, "no endpoint", for_good=True)
    assert tally.figures(2.0).problems() == ["workload: only 0 of 0 calls were made, nothing is proven"]
    tally.succeeded(3.0)
    assert tally.figures(3.0).problems() == [] and told == []


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        (Figures("read", 0.1, seconds=60, calls=600), []),
        (Figures("read", 0.1, seconds=60, calls=600, retried=9), []),
        (Figures("read", 0.1, seconds=60, calls=600, failed=1), ["read: 1 of 600 calls failed"]),
        (Figures("read", 0.1, seconds=60, calls=100), ["read: only 100 of 600 calls"]),
        (Figures("read", 0.1, seconds=1, calls=9, failed=9), ["read: 9 of 9", "read: only 9 of 10"]),
    ],
)
def test_a_failure_and_an_empty_measurement_are_problems(figures: Figures, says: list[str]) -> None:
    """A call that was tried again is none."""
    found = figures.problems()
    assert len(found) == len(says)
    assert all(problem.startswith(begin) for problem, begin in zip(found, says, strict=True))


class FakeServer:
    """Answers the tries of each call as a test wants."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = answers
        self.tries: list[tuple[int, float, bool]] = []

    def __call__(self, number: int, until: float, again: bool) -> None:
        tried = sum(one[0] == number for one in self.tries)
        self.tries.append((number, until - time.monotonic(), again))
        # The first call succeeds: a tally begins with it.
        answer = self.answers[tried] if number > 1 else None
        if answer:
            raise answer


def measured(server: Attempt, tries: int = 2) -> tuple[Figures, list[str]]:
    """Call a server until some calls are over."""
    told: list[str] = []
    until = time.monotonic() + 10
    with Caller("read", server, told.append, every=0.02, tries=tries) as caller:
        while caller.tally.figures(0.0).calls < 3 and time.monotonic() < until:
            time.sleep(0.01)
    return caller.tally.figures(time.monotonic()), told


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(steady, "RETRY_AFTER", 0.0)


def test_a_call_is_tried_again_once_within_its_time() -> None:
    """The first try leaves time for the second."""
    server = FakeServer(OSError("reset"), None)
    figures, told = measured(server)
    assert figures.calls > 1 and figures.retried == figures.calls - 1 and figures.failed == 0
    first, second = (one for one in server.tries if one[0] == 2)
    assert not first[2] and 0.4 * steady.LIMIT < first[1] <= steady.LIMIT / 2
    assert second[2] and 0.75 * steady.LIMIT < second[1] <= steady.LIMIT
    assert all("read: again: OSError reset" in line for line in told)


def test_a_call_that_fails_twice_has_failed() -> None:
    """Both reasons are told."""
    figures, told = measured(FakeServer(OSError("reset"), TimeoutError("timed out")))
    assert figures.failed == figures.calls - 1 > 0
    assert "FAILED: TimeoutError timed out" in " ".join(told)


def test_a_mistake_of_the_probe_itself_is_a_failure() -> None:
    """And not a thread that ends without a word."""
    figures, _told = measured(FakeServer(KeyError("metadata"), KeyError("metadata")))
    assert figures.failed > 0


def test_who_tries_once_fails_at_once() -> None:
    """The users of a workload; the one try has all the time."""
    server = FakeServer(OSError("reset"))
    figures, _told = measured(server, tries=1)
    assert figures.failed == figures.calls - 1 > 0 and figures.retried == 0
    assert all(
        not again and 0.75 * steady.LIMIT < seconds <= steady.LIMIT
        for _number, seconds, again in server.tries
    )


def test_an_answer_that_comes_too_late_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says."""
    monkeypatch.setattr(steady, "LIMIT", 0.05)

    def slow(number: int, _until: float, _again: bool) -> None:
        time.sleep(0.1 if number > 1 else 0.0)

    figures, told = measured(slow)
    assert figures.failed >= figures.calls - 1 > 0 and figures.retried == 0
    assert "FAILED: answered after 0." in told[0]
