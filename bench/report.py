"""From measured runs to the report: medians, ratios, and whether each aim was met. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

# What the project holds itself to.
RATIO = 1.5
REPEAT = 0.25
TASKS = 150
WORKER_RESULTS = 80
# Runs that do the same differ by this much on a quiet machine; growth has to stay within it, or within the spread of
# its own rounds where that is larger.
NOISE = 0.1


@dataclass(frozen=True)
class Run:
    """One run of a command: its seconds, and for a playbook what it did."""

    seconds: float
    # Seconds from the start of the command until every node was Ready.
    ready: float = 0.0
    tasks: list[tuple[str, float]] = field(default_factory=list)
    hosts: dict[str, dict[str, int]] = field(default_factory=dict)

    def results(self, host: str) -> int:
        """Return the task results of a host: `ok` holds what changed and what was ignored."""
        counts = self.hosts[host]
        return counts["ok"] + counts["skipped"] + counts["failures"] + counts["unreachable"]

    @property
    def all_results(self) -> int:
        """Return the task results of all hosts."""
        return sum(self.results(host) for host in self.hosts)

    @property
    def changed(self) -> int:
        """Return how many results changed something."""
        return sum(counts["changed"] for counts in self.hosts.values())


@dataclass
class Figures:
    """Everything that was measured."""

    plain: list[Run] = field(default_factory=list)
    site: list[Run] = field(default_factory=list)
    again: list[Run] = field(default_factory=list)
    # Runs that added one worker, by the number of hosts that the inventory described.
    grown: dict[int, list[Run]] = field(default_factory=dict)


@dataclass(frozen=True)
class Aim:
    """Something the project holds itself to, and whether it was met."""

    what: str
    met: bool


def seconds(runs: list[Run]) -> float:
    """Return the median of the seconds."""
    return median(run.seconds for run in runs)


def aims(figures: Figures, workers: list[str]) -> list[Aim]:
    """Judge what was measured."""
    found = []
    if figures.plain and figures.site:
        ratio = seconds(figures.site) / seconds(figures.plain)
        found.append(Aim(f"site.yml takes {ratio:.2f} of plain.sh, at most {RATIO}", ratio <= RATIO))
    if figures.site:
        tasks = max(len(run.tasks) for run in figures.site)
        found.append(Aim(f"site.yml starts {tasks} tasks, under {TASKS}", tasks < TASKS))
        for worker in workers:
            most = max(run.results(worker) for run in figures.site)
            what = f"{worker} has {most} task results, under {WORKER_RESULTS}"
            found.append(Aim(what, most < WORKER_RESULTS))
    if figures.site and figures.again:
        ratio = seconds(figures.again) / seconds(figures.site)
        found.append(
            Aim(f"site.yml again takes {ratio:.2f} of the first run, at most {REPEAT}", ratio <= REPEAT)
        )
        changed = sum(run.changed for run in figures.again)
        found.append(Aim(f"site.yml again changes {changed} things, none", changed == 0))
    if len(figures.grown) > 1:
        found += _growth(figures.grown)
    return found


def _growth(grown: dict[int, list[Run]]) -> list[Aim]:
    results = {size: sorted({run.all_results for run in runs}) for size, runs in grown.items()}
    same = len({tuple(counts) for counts in results.values()}) == 1
    shown = ", ".join(f"{size}: {'/'.join(map(str, counts))}" for size, counts in results.items())
    medians = {size: seconds(runs) for size, runs in grown.items()}
    smallest = min(medians)
    spread = max(
        max(run.seconds for run in runs) - min(run.seconds for run in runs) for runs in grown.values()
    )
    allowed = max(NOISE * medians[smallest], spread)
    slower = max(medians.values()) - medians[smallest]
    return [
        Aim(f"adding a worker has as many task results whatever the inventory describes ({shown})", same),
        Aim(f"adding a worker takes at most {slower:.1f} s longer, noise {allowed:.1f} s", slower <= allowed),
    ]


def text(head: list[str], figures: Figures, workers: list[str]) -> str:
    """Return the report."""
    lines = [*head, "", HEADING]
    for name, runs in _rows(figures):
        lines.append(row(name, [run.seconds for run in runs]))
        if any(run.ready for run in runs):
            lines.append(row("  until every node is Ready", [run.ready for run in runs]))
    for title, runs in (("site.yml", figures.site), ("site.yml again", figures.again)):
        if runs:
            last = runs[-1]
            each = ", ".join(f"{host} {last.results(host)}" for host in last.hosts)
            lines += [
                "",
                f"{title}: {len(last.tasks)} tasks, {last.all_results} task results over all hosts ({each})",
            ]
    for size, runs in figures.grown.items():
        lines.append(
            f"worker added, {size} hosts described: {len(runs[-1].tasks)} tasks, {runs[-1].all_results} results"
        )
    if figures.site:
        lines += ["", "The slowest tasks of site.yml, median seconds", *slowest(figures.site)]
    if figures.again:
        lines += ["", "The slowest tasks of site.yml again, median seconds", *slowest(figures.again, 8)]
    return finish(lines, aims(figures, workers))


HEADING = f"{'seconds':<38}{'median':>8}   rounds"


def row(name: str, values: list[float]) -> str:
    """Return a line of the table."""
    return f"{name:<38}{median(values):>8.1f}   {' '.join(f'{value:.1f}' for value in values)}"


def finish(lines: list[str], judged: list[Aim]) -> str:
    """Return the report with the aims at its end."""
    lines += ["", "Aims", *(f"{'met' if aim.met else 'MISSED':<8}{aim.what}" for aim in judged)]
    return "\n".join(lines) + "\n"


def _rows(figures: Figures) -> list[tuple[str, list[Run]]]:
    rows = [("plain.sh", figures.plain), ("site.yml", figures.site), ("site.yml again", figures.again)]
    rows += [(f"worker added, {size} hosts described", runs) for size, runs in figures.grown.items()]
    return [(name, runs) for name, runs in rows if runs]


def slowest(runs: list[Run], count: int = 20) -> list[str]:
    """Return the tasks that took longest; one that is started several times is added up."""
    sums: list[dict[str, float]] = []
    for run in runs:
        one: dict[str, float] = {}
        for name, taken in run.tasks:
            one[name] = one.get(name, 0.0) + taken
        sums.append(one)
    middle = {name: median(one.get(name, 0.0) for one in sums) for name in sums[-1]}
    starts = {name: sum(task == name for task, _taken in runs[-1].tasks) for name in middle}
    worst = sorted(middle, key=lambda name: -middle[name])[:count]
    return [
        f"{middle[name]:>8.2f}   {name}" + (f" ({starts[name]} times)" if starts[name] > 1 else "")
        for name in worst
    ]
