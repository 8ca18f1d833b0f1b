"""Command line of the measurements: bench/run, called by `make bench`."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import etcd, measure, report
from bench.measure import BenchError, Site
from lab.shell import LabError, require_root, say

ROOT = measure.ROOT
SIZES = (5, 50, 500)
# A machine that does something else spends its cores on that: figures would say nothing.
BUSY = 0.25
SETTLE = 120
SETTLE_CLUSTER = 15


def machine() -> str:
    """Describe the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {memory / 1024:.1f} GiB of memory, {system}"


def commit() -> str:
    """Name the commit, and say when the checkout differs from it."""
    argv = ["git", "describe", "--always", "--abbrev=10", "--dirty=, with changes", "--exclude=*"]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def refuse_busy(accepted: bool) -> float:
    """Return the load of the machine; raise when figures would be worthless."""
    load = os.getloadavg()[0]
    limit = BUSY * (os.cpu_count() or 1)
    if load > limit and not accepted:
        what = f"this machine is busy: its load is {load:.2f}, more than {limit:.2f}, so figures would be worthless"
        raise BenchError(f"{what}. End what runs on it and try again, or say --accept-load for a trial")
    return load


def busy_share(seconds: float = 3) -> float:
    """Return the part of all cores that was in use for some seconds."""

    def read() -> tuple[int, int]:
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    all_before, idle_before = read()
    time.sleep(seconds)
    all_after, idle_after = read()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)


def settle(accepted: bool, cluster: bool = False) -> None:
    """Wait until new hosts have booted and the cores are idle; a *cluster* that runs keeps them from it."""
    until = time.monotonic() + (SETTLE_CLUSTER if cluster else SETTLE)
    while (share := busy_share()) > BUSY:
        if time.monotonic() > until:
            if accepted or cluster:
                return
            raise BenchError(f"{share:.0%} of the cores are in use by something else: end it and try again")


def main() -> int:
    """Measure, print the report and keep it."""
    parser = argparse.ArgumentParser(prog="bench/run", description="Side-by-side measurements in the lab.")
    parser.add_argument(
        "what", nargs="?", choices=["site", "etcd"], default="site", help="provisioning, or the etcd modules"
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
    rounds = 1 if options.quick else options.rounds
    if options.what == "etcd":
        return of_etcd(rounds, options.size, options.accept_load)
    sizes = SIZES[::2] if options.quick else SIZES
    scratch = Path(tempfile.mkdtemp(prefix="kubewright-bench-"))
    try:
        load = refuse_busy(options.accept_load)
        site = Site.read(options.inventory.resolve())
        head = [
            f"Measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC at commit {commit()}",
            f"Machine: {machine()}; load before: {load:.2f}" + (", accepted" if options.accept_load else ""),
            f"Cluster: {len(site.control_planes)} control planes, {len(site.workers)} workers, "
            f"Kubernetes {site.variables['kube_cluster_version']}; hosts and controller share the machine",
            f"Rounds: {rounds}, alternating, each on hosts made anew",
        ]
        figures = take(site, rounds, sizes, scratch, options.accept_load)
    except (BenchError, LabError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch)
    if not options.keep:
        subprocess.run(["python3", "-m", "lab", "clean"], cwd=ROOT, capture_output=True)
    workers = list(site.workers)
    written = report.text(head, figures, workers)
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{time.strftime('%Y-%m-%d-%H%M', time.gmtime())}.txt").write_text(written)
    print(f"\n{written}", end="")
    return 0 if all(aim.met for aim in report.aims(figures, workers)) else 1


def of_etcd(rounds: int, size: int, accepted: bool) -> int:
    """Measure the etcd modules, print the report and keep it."""
    scratch = Path(tempfile.mkdtemp(prefix="kubewright-bench-"))
    try:
        load = refuse_busy(accepted)
        settle(accepted)
        head = [
            f"Measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC at commit {commit()}",
            f"Machine: {machine()}; load before: {load:.2f}" + (", accepted" if accepted else ""),
            f"Rounds: {rounds}, alternating",
        ]
        figures = etcd.take(rounds, size, scratch)
    except (BenchError, LabError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch)
    written = etcd.text(head, figures)
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{time.strftime('%Y-%m-%d-%H%M', time.gmtime())}-etcd.txt").write_text(written)
    print(f"\n{written}", end="")
    return 0 if all(aim.met for aim in etcd.aims(figures)) else 1


def take(site: Site, rounds: int, sizes: tuple[int, ...], scratch: Path, accepted: bool) -> report.Figures:
    """Take all figures: the baseline and the playbook in turn, then growth."""
    figures = report.Figures()

    def bare() -> None:
        measure.fresh(site, site.hosts)
        settle(accepted)

    for number in range(1, rounds + 1):
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
        settle(accepted, cluster=True)
        run = measure.playbook(site, scratch)
        figures.again.append(run)
        say(f"Round {number}: site.yml again {run.seconds:.1f} s")
    if not site.workers:
        return figures
    worker = list(site.workers)[-1]
    inventories = {size: measure.described(site, size, scratch / f"described-{size}") for size in sizes}
    for number in range(1, rounds + 1):
        for size, inventory in inventories.items():
            measure.forget(site, worker)
            measure.fresh(site, [worker])
            settle(accepted, cluster=True)
            run = measure.playbook(site, scratch, "--limit", worker, inventory=inventory)
            figures.grown.setdefault(size, []).append(run)
            say(f"Round {number}: {worker} added, {size} hosts described, {run.seconds:.1f} s")
    return figures


if __name__ == "__main__":
    sys.exit(main())
