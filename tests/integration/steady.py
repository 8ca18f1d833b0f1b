"""Calls that begin at a steady pace, whatever became of the ones before; each may be tried twice, within two seconds.

`make soak` (KUBEWRIGHT_ALL_FAULTS) is as strict as that. In `make test`, whose machine may be slow and shared, calls
are fewer and have ten seconds: who is refused, cut off or left without an answer twice is found there too.

Needs nothing but the standard library, because nightclient.py takes it into a pod.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

STRICT = bool(os.environ.get("KUBEWRIGHT_ALL_FAULTS"))
# Seconds between two calls of a kind.
PACE = 0.1 if STRICT else 0.4
# Seconds of a call with its retry.
LIMIT = 2.0 if STRICT else 10.0
# One that hangs leaves as much to the second try.
FIRST_TRY = LIMIT / 2
# Seconds after the begin of a call before which it is not tried again: who refused at once would refuse again.
RETRY_AFTER = 0.5

# Makes one try of the call with a number, by a time of the monotonic clock; true for the second try.
Attempt = Callable[[int, float, bool], None]


def stamp(at: float) -> str:
    """Return a time of the monotonic clock as people read it, in UTC."""
    seconds = time.time() - (time.monotonic() - at)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass(frozen=True)
class Figures:
    """What became of the calls of a kind. *gap* is the longest time between two that succeeded, in seconds."""

    kind: str
    every: float
    seconds: float = 0.0
    calls: int = 0
    retried: int = 0
    failed: int = 0
    gap: float = 0.0
    gap_ended: str = ""

    def problems(self) -> list[str]:
        """Say what must not be: a failure, and a measurement that is none."""
        found = [f"{self.kind}: {self.failed} of {self.calls} calls failed"] if self.failed else []
        due = self.seconds / self.every
        # A machine that is busy makes fewer; a quarter still sees a gap of two seconds, or of ten.
        if self.calls == self.failed or self.calls < due / 4:
            found.append(f"{self.kind}: only {self.calls} of {due:.0f} calls were made, nothing is proven")
        return found


class Tally:
    """Counts the calls of a kind. It begins with the first that succeeds: what is not there yet cannot be lost."""

    def __init__(self, kind: str, every: float, told: Callable[[str], None]) -> None:
        self._kind, self._every, self._told = kind, every, told
        self._lock = threading.Lock()
        self._begun = 0.0
        self._last = 0.0
        self._calls = self._retried = self._failed = 0
        self._gap, self._gap_ended = 0.0, 0.0

    def succeeded(self, at: float) -> None:
        """Count a call that was answered at a time."""
        with self._lock:
            self._begun = self._begun or at
            self._calls += 1
            self._see_gap(at)
            self._last = max(self._last, at)

    def went_wrong(self, begun: float, why: str, for_good: bool) -> None:
        """Count a try that failed, and tell of it: the last one of its call, or one that is followed by another."""
        with self._lock:
            if not self._begun:
                return
            self._calls += for_good
            self._failed += for_good
            self._retried += not for_good
        self._told(f"{stamp(begun)} {self._kind}: {'FAILED' if for_good else 'again'}: {why}")

    def figures(self, now: float) -> Figures:
        """Return what there is by now; a silence that lasts is a gap too."""
        with self._lock:
            self._see_gap(now)
            return Figures(
                self._kind,
                self._every,
                now - self._begun if self._begun else 0.0,
                self._calls,
                self._retried,
                self._failed,
                round(self._gap, 3),
                stamp(self._gap_ended) if self._gap else "",
            )

    def _see_gap(self, at: float) -> None:
        if self._last and at - self._last > self._gap:
            self._gap, self._gap_ended = at - self._last, at


class Caller:
    """Begins calls at a pace until it is stopped."""

    def __init__(
        self,
        kind: str,
        attempt: Attempt,
        told: Callable[[str], None],
        *,
        every: float = PACE,
        tries: int = 2,
    ) -> None:
        self.tally = Tally(kind, every, told)
        self._attempt, self._every, self._tries = attempt, every, tries
        self._stop = threading.Event()
        # As many as hang at the same time.
        self._pool = ThreadPoolExecutor(int(LIMIT / every) + 4)
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Caller:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no more calls, and wait for those that were begun."""
        self._stop.set()
        self._clock.join()
        self._pool.shutdown()

    def _tick(self) -> None:
        due = time.monotonic()
        for number in itertools.count(1):
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            begun = time.monotonic()
            self._pool.submit(self._call, number, begun)
            # What this machine was too slow for is not made up for by a burst.
            due = max(due + self._every, begun)

    def _call(self, number: int, begun: float) -> None:
        for last in (False, True)[-self._tries :]:
            again = last and self._tries > 1
            if again:
                time.sleep(max(0.0, begun + RETRY_AFTER - time.monotonic()))
            why = ""
            try:
                self._attempt(number, begun + (LIMIT if last else FIRST_TRY), again)
            # Whatever it is, the call has failed.
            except Exception as error:
                why = f"{type(error).__name__} {error}"[:200]
            now = time.monotonic()
            late = now - begun > LIMIT
            if not why and not late:
                self.tally.succeeded(now)
                return
            self.tally.went_wrong(begun, why or f"answered after {now - begun:.1f} s", last or late)
            if late:
                return
