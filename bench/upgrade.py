"""A cluster upgraded by plain-upgrade.sh and by upgrade.yml in turn, both made by plain.sh on hosts made anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench import measure
from bench.measure import ROOT, Site
from bench.report import HEADING, Aim, Run, finish, row, seconds, slowest
from lab import recipes
from lab.shell import say

RATIO = 1.1
_OLD, _NEW = recipes.lock()["kubernetes"][-2:]
OLD, NEW = _OLD["version"], _NEW["version"]


@dataclass
class Figures:
    """The rounds of both."""

    plain: list[Run] = field(default_factory=list)
    playbook: list[Run] = field(default_factory=list)


def aims(figures: Figures) -> list[Aim]:
    """Judge the figures."""
    ratio = seconds(figures.playbook) / seconds(figures.plain)
    return [Aim(f"upgrade.yml takes {ratio:.2f} of plain-upgrade.sh, at most {RATIO}", ratio <= RATIO)]


def text(head: list[str], figures: Figures) -> str:
    """Write the report."""
    tasks = len(figures.playbook[-1].tasks)
    lines = [
        *head,
        "",
        HEADING,
        row("plain-upgrade.sh", [run.seconds for run in figures.plain]),
        row("upgrade.yml", [run.seconds for run in figures.playbook]),
        "",
        f"upgrade.yml: {tasks} tasks, {figures.playbook[-1].all_results} task results over all hosts",
        "",
        "The slowest tasks of upgrade.yml, median seconds",
        *slowest(figures.playbook),
    ]
    return finish(lines, aims(figures))


def take(site: Site, rounds: int, scratch: Path, rest: Callable[[bool], None]) -> Figures:
    """Take all figures; every pair begins with clusters of the same kind."""
    figures = Figures()
    old, new = site.at(OLD), site.at(NEW)

    def cluster() -> None:
        measure.fresh(site, site.hosts)
        rest(False)
        measure.plain(old, scratch)
        # It brings the image, too, with which upgrade.yml uses the cluster in the end.
        measure.verify(old, scratch, "-e", f"kube_cluster_version={OLD}")
        rest(True)

    for number in range(1, rounds + 1):
        for name, upgrade, kept in (
            ("plain-upgrade.sh", _plain, figures.plain),
            ("upgrade.yml", _playbook, figures.playbook),
        ):
            cluster()
            kept.append(upgrade(new, scratch))
            say(f"Round {number}: {name} {kept[-1].seconds:.1f} s")
            measure.verify(new, scratch, "-e", f"kube_cluster_version={NEW}")
    return figures


def _plain(site: Site, scratch: Path) -> Run:
    """Run the baseline."""
    settings = measure.plain_settings(site, scratch / "flannel.yaml")
    begun = time.monotonic()
    output = measure.run(["bench/plain-upgrade.sh"], env={**settings, "ETCD_STEP": etcd_step()})
    taken = time.monotonic() - begun
    print(output, end="", flush=True)
    return Run(taken)


def _playbook(site: Site, scratch: Path) -> Run:
    """Run the playbook."""
    options = ("-e", f"kube_cluster_version={NEW}")
    return measure.playbook(site, scratch, *options, name="upgrade", wait=False)


def etcd_step() -> str:
    """Return the patch of etcd that comes before its next minor, as the role has it; empty where the minor stays."""
    defaults = yaml.safe_load((ROOT / "roles/kube_upgrade/defaults/main.yml").read_text())
    before, after = (entry["etcd"].rpartition(".")[0] for entry in (_OLD, _NEW))
    return "" if before == after else str(defaults["kube_upgrade_etcd_steps"].get(before, ""))
