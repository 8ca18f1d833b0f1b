"""Everybody who could notice that a cluster is worked on: they call all the time, and nobody may be failed.

Through the virtual IP: reads and writes with the admin's certificate, each on fresh and on kept connections, and a
watch on what is written. Inside: reads through the Service `kubernetes`, and calls of a workload (nightpods.py). How
often, and how long a call may take, steady.py says; it may be tried once more within that, but for the workload's.
Fresh and kept connections share the calls of a kind: a handshake costs milliseconds, and the cluster under watch runs
on the same cores.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import nightpods
from configmaps import Watcher, missing, read_all, writer
from hardlab import admin, control_planes
from httpline import Line
from labtools import OUTPUT, wait_until
from nightpods import PATH, SEED
from steady import PACE, Attempt, Caller, Figures

# Connections that are kept, so that every API server has some.
KEPT = 6
# Seconds between two calls on fresh connections, and between two on kept ones.
EVERY = 2 * PACE
# Seconds that the watch and the clients have for the end.
PATIENCE = 20
# Seconds without a failure in which what the start of the clients has cost is over, and how long that is waited for.
CALM = 5.0
UNREST = 60


@dataclass
class Report:
    """What was seen. *changed* are clients that do not know all, *lost* and *missed* confirmed writes."""

    figures: list[Figures] = field(default_factory=list)
    reopened: int = 0
    lists: int = 0
    written: int = 0
    lost: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Say what somebody has noticed, or that nothing was measured."""
        found = [problem for one in self.figures for problem in one.problems()]
        for names, what in ((self.lost, "lost"), (self.missed, "never seen by the watch")):
            if names:
                found.append(
                    f"{len(names)} of {self.written} confirmed writes {what}: {', '.join(names[:20])}"
                )
        found += [f"the client on {change}" for change in self.changed]
        return found

    def summary(self) -> str:
        """Say it in one line, for the notes."""
        calls, retried, failed = (
            sum(getattr(one, name) for one in self.figures) for name in ("calls", "retried", "failed")
        )
        worst: dict[str, float] = {}
        for one in self.figures:
            kind = one.kind.partition(" on ")[0]
            worst[kind] = max(worst.get(kind, 0.0), one.gap)
        gaps = ", ".join(f"{kind} {gap:.1f} s" for kind, gap in worst.items())
        return (
            f"{calls} calls, {retried} tried again, {failed} failed; longest gaps: {gaps}; watch opened again "
            f"{self.reopened} times, with {self.lists} lists; {self.written} writes, {len(self.lost)} lost, "
            f"{len(self.missed)} not seen"
        )


class Nightwatch:
    """Watches while a block runs; *report* has what was seen when the block has ended well.

    Every try that failed is a line of tests/output/nightwatch.txt in any case.
    """

    def __init__(self, folder: Path, what: str, *, inside: bool = True) -> None:
        """Without *inside* nobody calls from hosts of the cluster, which is for what restarts them."""
        self.report = Report()
        self._what = what
        self._inside = inside
        self._troubles: list[str] = []
        url, tls = admin(folder)
        place = urlsplit(url)
        self._place = (place.hostname or "", place.port or 443, tls)
        self._confirmed: set[str] = set()
        fresh, kept = Line(*self._place), Line(*self._place, keep=KEPT)
        told = self._troubles.append
        self._callers = [
            Caller(kind, attempt, told, every=EVERY)
            for kind, attempt in (
                ("read fresh", _reader(fresh)),
                ("read kept", _reader(kept)),
                ("write fresh", writer(fresh, PATH, "fresh", self._confirmed)),
                ("write kept", writer(Line(*self._place, keep=KEPT), PATH, "kept", self._confirmed)),
            )
        ]
        self._watcher = Watcher(*self._place, PATH, told)
        self._clients: dict[str, nightpods.Client] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Nightwatch:
        with ExitStack() as stack:
            stack.callback(self._remove)
            stack.callback(self._write_down)
            try:
                nightpods.start(clients=self._inside)
                for caller in self._callers:
                    stack.enter_context(caller)
                stack.enter_context(self._watcher)
                wait_until(self._all_succeed, 90, f"every kind of call succeeds before {self._what}")
            except BaseException:
                self._troubles.append(nightpods.state())
                raise
            self._settle()
            self._clients = nightpods.clients()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            ended = time.monotonic()
            for caller in self._callers:
                caller.stop()
            try:
                self._collect(ended)
            except Exception:
                # What went wrong before says more.
                if kind is None:
                    raise

    def check(self) -> None:
        """Fail when anybody has noticed."""
        problems = self.report.problems()
        assert not problems, "\n".join([*problems, self.report.summary(), *sorted(self._troubles)[:60]])

    def _all_succeed(self) -> bool:
        now = time.monotonic()
        figures = [caller.tally.figures(now) for caller in self._callers]
        inside = nightpods.logs()
        figures += [one for log in inside.values() for one in log.figures]
        return (
            set(inside) == (set(control_planes()) if self._inside else set())
            and all(log.figures for log in inside.values())
            and all(one.calls > one.failed for one in figures)
            and bool(self._watcher.seen & self._confirmed)
        )

    def _settle(self) -> None:
        until = time.monotonic() + UNREST
        while time.monotonic() < until:
            before = len(self._troubles)
            time.sleep(CALM)
            if len(self._troubles) == before:
                return

    def _collect(self, ended: float) -> None:
        now, report = time.time(), self.report
        report.figures = [caller.tally.figures(ended) for caller in self._callers]
        report.reopened, report.lists = self._watcher.reopened, self._watcher.lists
        report.written = len(self._confirmed)
        there, _revision = read_all(Line(*self._place), PATH)
        report.lost = missing(self._confirmed, there)
        until = time.monotonic() + PATIENCE
        while missing(self._confirmed, self._watcher.seen) and time.monotonic() < until:
            time.sleep(0.5)
        report.missed = missing(self._confirmed, self._watcher.seen)
        inside, until = nightpods.logs(), time.monotonic() + PATIENCE
        while any(log.at < now for log in inside.values()) and time.monotonic() < until:
            time.sleep(1)
            inside = nightpods.logs()
        there_now = nightpods.clients()
        for node, old in self._clients.items():
            log, new = inside.get(node), there_now.get(node)
            if not log or not new or log.at < now:
                report.changed.append(f"{node} is silent")
            elif new.pod != old.pod or new.restarts > 1:
                report.changed.append(f"{node} was made anew and has forgotten")
        for log in inside.values():
            report.figures += log.figures
            self._troubles += log.troubles

    def _write_down(self) -> None:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        with (OUTPUT / "nightwatch.txt").open("a") as file:
            file.writelines(f"{line}\n" for line in (f"== {self._what}", *sorted(self._troubles)))

    def _remove(self) -> None:
        """Ask whoever answers: a test that was aborted may have left a control plane down."""
        for host in control_planes():
            try:
                nightpods.remove(host)
                return
            except Exception as error:
                print(f"{host}: {error}")
                if "timed out" in str(error):
                    return


def _reader(line: Line) -> Attempt:
    def attempt(_number: int, until: float, again: bool) -> None:
        line.ask("GET", f"{PATH}/{SEED}", until, again=again)

    return attempt
