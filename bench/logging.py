"""Lines from the log of a pod to Elasticsearch: how many a second, and what memory the collector takes for them.

The pod writes as fast as it can, which is much faster than anything behind it. What is measured is the OpenTelemetry
Collector with the configuration of the role kube_logging, into one node of Elasticsearch; fluentd is not in the lab.
"""

from __future__ import annotations

import json
import re
import secrets
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench import measure
from bench.measure import ROOT, BenchError, Site
from bench.report import Aim, finish, row
from lab.lines import Lines, Logging
from lab.shell import say

LINES = 200_000
# About what a line of a web server has.
WIDTH = 160
NAMESPACE = "bench-logging"
WRITER = "writer"
PATIENCE = 900
SETTINGS: dict[str, Any] = {
    "kube_logging_profile": "single",
    "kube_logging_heap": "1g",
    "kube_logging_volume_size": "5Gi",
    "kube_logging_local_storage": True,
    "kube_logging_collector": "opentelemetry",
    "kube_logging_kibana": False,
    # The disk of the machine is shared, and may be nearly full.
    "kube_logging_elasticsearch_settings": {"cluster.routing.allocation.disk.threshold_enabled": False},
}


@dataclass(frozen=True)
class Round:
    """One round: seconds from the first line's time until the last one was found, and the collector's peak in MiB."""

    seconds: float
    memory: float
    missing: int = 0
    twice: int = 0

    @property
    def rate(self) -> float:
        """Lines a second."""
        return LINES / self.seconds


@dataclass
class Figures:
    """The rounds, and the memory in MiB that the collector may take."""

    limit: float
    rounds: list[Round] = field(default_factory=list)


def aims(figures: Figures) -> list[Aim]:
    """Judge the figures."""
    missing = sum(one.missing for one in figures.rounds)
    twice = sum(one.twice for one in figures.rounds)
    peak = max(one.memory for one in figures.rounds)
    return [
        Aim(f"{missing} lines are missing and {twice} are there twice, none", missing == twice == 0),
        Aim(
            f"the collector takes {peak:.0f} MiB, under its limit of {figures.limit:.0f}",
            peak < figures.limit,
        ),
    ]


def text(head: list[str], figures: Figures) -> str:
    """Write the report."""
    rounds = figures.rounds
    rate = statistics.median(one.rate for one in rounds)
    lines = [
        *head,
        f"{LINES} lines of {WIDTH} bytes by one pod, OpenTelemetry Collector, one node of Elasticsearch",
        "",
        f"{'':<38}{'median':>8}   rounds",
        row("seconds from file to searchable", [one.seconds for one in rounds]),
        row("the collector's peak memory, MiB", [one.memory for one in rounds]),
        "",
        f"From file to searchable: {rate:.0f} lines a second",
    ]
    return finish(lines, aims(figures))


def take(site: Site, rounds: int, scratch: Path, rest: Callable[[bool], None]) -> Figures:
    """Take all figures on one cluster."""
    if not site.workers:
        raise BenchError(f"{site.inventory} has no worker, so that no pod could write")
    measure.run(["python3", "-m", "lab", "build", "--stacks"])
    measure.fresh(site, site.hosts)
    rest(False)
    measure.playbook(site, scratch)
    measure.playbook(site, scratch, "-e", json.dumps(SETTINGS), name="logging", wait=False)
    logging = Logging(next(iter(site.control_planes)))
    figures = Figures(limit())
    for number in range(1, rounds + 1):
        rest(True)
        figures.rounds.append(_round(site, logging, next(iter(site.workers))))
        one = figures.rounds[-1]
        say(f"Round {number}: {one.rate:.0f} lines a second, {one.memory:.0f} MiB")
    return figures


def limit() -> float:
    """Return the MiB that the role gives the collector."""
    defaults = yaml.safe_load((ROOT / "roles/kube_logging/defaults/main.yml").read_text())
    return float(str(defaults["kube_logging_collector_memory"]).removesuffix("Mi"))


def _round(site: Site, logging: Logging, worker: str) -> Round:
    lines = Lines(f"bench{secrets.token_hex(4)}", LINES, width=WIDTH)
    process = _collector(site, worker)
    # The kernel forgets the peak that there was.
    measure.run(site.on(worker, "sh", "-c", f"echo 5 > /proc/{process}/clear_refs"))
    logging.apply(lines.pods(NAMESPACE, {WRITER: worker}))
    until = time.monotonic() + PATIENCE
    while (found := logging.count(lines.token)) < LINES:
        if time.monotonic() > until:
            raise BenchError(f"after {PATIENCE} s {found} of {LINES} lines can be found")
        time.sleep(0.2)
    ended = time.time()
    status = measure.run(site.on(worker, "cat", f"/proc/{process}/status"))
    tally = logging.tally(lines.token, LINES)[WRITER]
    begun = _first(logging, lines.token)
    measure.kubectl(site, "delete", "namespace", NAMESPACE)
    return Round(ended - begun, peak(status), tally.missing, tally.twice)


def _collector(site: Site, worker: str) -> str:
    """Return the process of the collector on a node, as the node numbers it."""
    script = "crictl inspect --output go-template --template '{{.info.pid}}' $(crictl ps --quiet --name '^collector$')"
    return measure.run(site.on(worker, "sh", "-c", script)).strip()


def _first(logging: Logging, token: str) -> float:
    """Return the time of the first line, in seconds since the epoch. The container runtime wrote it."""
    query = {"match": {"message": token}}
    ask = {"size": 0, "query": query, "aggs": {"first": {"min": {"field": "@timestamp"}}}}
    answer = logging.ask("POST", "/logstash-*/_search", ask)
    return float(answer["aggregations"]["first"]["value"]) / 1000


def peak(status: str) -> float:
    """Return the most memory in MiB that a process had resident, from its status in /proc."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
    if not found:
        raise BenchError(f"the collector has ended: {status[:200]}")
    return int(found[1]) / 1024
