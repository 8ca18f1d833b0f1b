"""The machine that everything is measured on: what it is, and whether it does something else meanwhile."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

from bench.measure import ROOT, BenchError

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
