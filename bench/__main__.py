"""Command line of the measurements: bench/run, called by `make bench`."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import drain, etcd, logging, measure, monitoring, report, upgrade
from bench.machine import commit, machine, refuse_busy, settle
from bench.measure import BenchError, Site
from bench.report import Aim
from lab.shell import LabError, require_root, say

ROOT = measure.ROOT
SIZES = (5, 50, 500)


@dataclass(frozen=True)
class Job:
    """What is asked for, and the first lines of the report."""

    inventory: Path
    rounds: int
    quick: bool
    size: int
    accepted: bool
    scratch: Path
    head: list[str]

    def rest(self, cluster: bool = False) -> None:
        """Wait for idle cores."""
        settle(self.accepted, cluster)

    def introduce(self, site: Site, version: str, fresh: str) -> list[str]:
        """Return the first lines of the report of a cluster."""
        return [
            *self.head,
            f"Cluster: {len(site.control_planes)} control planes, {len(site.workers)} workers, "
            f"Kubernetes {version}; hosts and controller share the machine",
            f"Rounds: {self.rounds}, alternating, {fresh}",
        ]


Measured = tuple[str, list[Aim]]


def of_site(job: Job) -> Measured:
    """Provision, again, and a worker more."""
    site = Site.read(job.inventory)
    head = job.introduce(site, site.variables["kube_cluster_version"], "each on hosts made anew")
    figures = take(site, job)
    workers = list(site.workers)
    return report.text(head, figures, workers), report.aims(figures, workers)


def of_etcd(job: Job) -> Measured:
    """Save a database, and look at members."""
    job.rest()
    figures = etcd.take(job.rounds, job.size, job.scratch)
    return etcd.text([*job.head, f"Rounds: {job.rounds}, alternating"], figures), etcd.aims(figures)


def of_upgrade(job: Job) -> Measured:
    """Upgrade a cluster."""
    site = Site.read(job.inventory)
    head = job.introduce(site, f"{upgrade.OLD} -> {upgrade.NEW}", "each on a cluster made anew by plain.sh")
    figures = upgrade.take(site, job.rounds, job.scratch, job.rest)
    return upgrade.text(head, figures), upgrade.aims(figures)


def of_drain(job: Job) -> Measured:
    """Drain a worker."""
    site = Site.read(job.inventory)
    head = job.introduce(site, site.variables["kube_cluster_version"], "all on one cluster made by plain.sh")
    figures = drain.take(site, job.rounds, job.scratch, job.rest)
    return drain.text(head, figures), drain.aims(figures)


def of_logging(job: Job) -> Measured:
    """Bring lines into a logging."""
    site = Site.read(job.inventory)
    head = job.introduce(site, site.variables["kube_cluster_version"], "all on one cluster made by site.yml")
    figures = logging.take(site, job.rounds, job.scratch, job.rest)
    return logging.text(head, figures), logging.aims(figures)


def of_monitoring(job: Job) -> Measured:
    """See what a Prometheus costs."""
    site = Site.read(job.inventory)
    head = job.introduce(site, site.variables["kube_cluster_version"], "on a cluster made by site.yml")[:-1]
    costs = monitoring.take(site, job.scratch, job.rest)
    return monitoring.text(head, costs), monitoring.aims(costs)


KINDS: dict[str, Callable[[Job], Measured]] = {
    "site": of_site,
    "etcd": of_etcd,
    "upgrade": of_upgrade,
    "drain": of_drain,
    "logging": of_logging,
    "monitoring": of_monitoring,
}


def main() -> int:
    """Measure, print the report and keep it."""
    parser = argparse.ArgumentParser(prog="bench/run", description="Side-by-side measurements in the lab.")
    parser.add_argument(
        "what", nargs="?", choices=list(KINDS), default="site", help="provisioning, or one of the others"
    )
    parser.add_argument("--inventory", type=Path, default=ROOT / "inventories" / "lab")
    parser.add_argument(
        "--rounds", type=int, default=3, help="alternating rounds, of which the median counts"
    )
    parser.add_argument("--quick", action="store_true", help="one round, inventories of 5 and 500 hosts only")
    parser.add_argument("--accept-load", action="store_true", help="go on although the machine is busy")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the database, for etcd")
    parser.add_argument("--keep", action="store_true", help="leave the last cluster running")
    options = parser.parse_args()
    require_root()
    # `timeout` and CI systems stop a job with SIGTERM: what runs then is ended too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    scratch = Path(tempfile.mkdtemp(prefix="kubewright-bench-"))
    try:
        load = refuse_busy(options.accept_load)
        job = Job(
            options.inventory.resolve(),
            1 if options.quick else options.rounds,
            options.quick,
            options.size,
            options.accept_load,
            scratch,
            [
                f"Measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC at commit {commit()}",
                f"Machine: {machine()}; load before: {load:.2f}"
                + (", accepted" if options.accept_load else ""),
            ],
        )
        written, aims = KINDS[options.what](job)
    except (BenchError, LabError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch)
    if options.what != "etcd" and not options.keep:
        subprocess.run(["python3", "-m", "lab", "clean"], cwd=ROOT, capture_output=True)
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    suffix = "" if options.what == "site" else f"-{options.what}"
    (folder / f"{time.strftime('%Y-%m-%d-%H%M', time.gmtime())}{suffix}.txt").write_text(written)
    print(f"\n{written}", end="")
    return 0 if all(aim.met for aim in aims) else 1


def take(site: Site, job: Job) -> report.Figures:
    """Take all figures: the baseline and the playbook in turn, then growth."""
    figures, scratch = report.Figures(), job.scratch

    def bare() -> None:
        measure.fresh(site, site.hosts)
        job.rest()

    for number in range(1, job.rounds + 1):
        bare()
        run = measure.plain(site, scratch)
        figures.plain.append(run)
        say(f"Round {number}: plain.sh {run.seconds:.1f} s")
        measure.verify(site, scratch)
        bare()
        run = measure.playbook(site, scratch)
        figures.site.append(run)
        say(f"Round {number}: site.yml {run.seconds:.1f} s")
        measure.verify(site, scratch)
        job.rest(cluster=True)
        run = measure.playbook(site, scratch)
        figures.again.append(run)
        say(f"Round {number}: site.yml again {run.seconds:.1f} s")
    if not site.workers:
        return figures
    worker = list(site.workers)[-1]
    sizes = SIZES[::2] if job.quick else SIZES
    inventories = {size: measure.described(site, size, scratch / f"described-{size}") for size in sizes}
    for number in range(1, job.rounds + 1):
        for size, inventory in inventories.items():
            measure.forget(site, worker)
            measure.fresh(site, [worker])
            job.rest(cluster=True)
            run = measure.playbook(site, scratch, "--limit", worker, inventory=inventory)
            figures.grown.setdefault(size, []).append(run)
            say(f"Round {number}: {worker} added, {size} hosts described, {run.seconds:.1f} s")
    return figures


if __name__ == "__main__":
    sys.exit(main())
