"""What a Prometheus of the role kube_monitoring costs: for the nodes of the lab, and for many that are simulated.

The first is read from the Prometheus of a cluster of the lab. The second runs on this machine alone, with the same
program, the same rules, and series that are copies of the lab's under other names.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from bench import crowd, measure
from bench.measure import ROOT, BenchError, Site
from bench.report import Aim, finish
from lab import monitoring
from lab.cache import Cache
from lab.shell import say
from lab.stacks import Stacks

NODES = 500
# Seconds until everything was scraped and judged often enough, and seconds that are measured.
WARM, WINDOW = 600, 600
NAMESPACE = "monitoring"
ROLE = ROOT / "roles/kube_monitoring"
SETTINGS: dict[str, Any] = {
    "kube_monitoring_accept_no_volumes": True,
    "kube_monitoring_grafana": False,
    "kube_monitoring_node_exporter_mount_propagation": "None",
}
_OWN = '{job="prometheus", pod=~"|prometheus-kubewright-0"}'
QUESTIONS = {
    "processors": f"sum(rate(process_cpu_seconds_total{_OWN}[{WINDOW}s]))",
    "memory": f"max(max_over_time(process_resident_memory_bytes{_OWN}[{WINDOW}s])) / 2 ^ 20",
    "series": f"max(prometheus_tsdb_head_series{_OWN})",
    "samples": f"sum(rate(prometheus_tsdb_head_samples_appended_total{_OWN}[{WINDOW}s]))",
    "rules": f"sum(rate(prometheus_rule_group_duration_seconds_sum{_OWN}[{WINDOW}s])) * {crowd.INTERVAL}",
    "missed": f"sum(increase(prometheus_rule_group_iterations_missed_total{_OWN}[{WINDOW}s]))",
    "down": "count(up == 0) or vector(0)",
}

Ask = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True)
class Cost:
    """What one Prometheus takes: processors, MiB, series, samples a second, seconds of rules in each interval.

    *missed* are evaluations that came too late, *down* targets that did not answer.
    """

    nodes: int
    processors: float
    memory: float
    series: float
    samples: float
    rules: float
    missed: float
    down: float

    @classmethod
    def read(cls, nodes: int, ask: Ask) -> Cost:
        """Ask a Prometheus about itself."""
        found = {}
        for name, question in QUESTIONS.items():
            answer = ask(question)
            if not answer:
                raise BenchError(f"Prometheus has no answer to {question}")
            found[name] = float(answer[0]["value"][1])
        return cls(nodes, **found)


def aims(costs: list[Cost]) -> list[Aim]:
    """Judge the figures."""
    few, many = costs
    room = limit()
    return [
        Aim(
            f"{few.nodes} nodes take {few.memory:.0f} MiB, under the role's limit of {room:.0f}",
            few.memory < room,
        ),
        Aim(
            f"{many.nodes} nodes: {many.missed:.0f} evaluations of rules came too late, none",
            many.missed == 0,
        ),
        Aim(f"{few.down + many.down:.0f} targets did not answer, none", few.down + many.down == 0),
    ]


def text(head: list[str], costs: list[Cost]) -> str:
    """Write the report."""
    titles = "".join(f"{f'{one.nodes} nodes':>14}" for one in costs)
    rows = {
        "processors": "{:.3f}",
        "memory": "{:.0f}",
        "series": "{:.0f}",
        "samples": "{:.0f}",
        "rules": "{:.2f}",
    }
    named = {
        "processors": "processors",
        "memory": "resident memory at most, MiB",
        "series": "series",
        "samples": "samples a second",
        "rules": f"seconds of rules in {crowd.INTERVAL} s",
    }
    lines = [
        *head,
        f"One Prometheus, {WINDOW} s after {WARM} s; {crowd.PODS} pods on each of {costs[-1].nodes} simulated nodes",
        "",
        f"{'':<34}{titles}",
        *(
            f"{named[name]:<34}" + "".join(f"{shown.format(getattr(one, name)):>14}" for one in costs)
            for name, shown in rows.items()
        ),
    ]
    return finish(lines, aims(costs))


def limit() -> float:
    """Return the MiB that the role gives Prometheus."""
    size = str(yaml.safe_load((ROLE / "defaults/main.yml").read_text())["kube_monitoring_prometheus_memory"])
    return float(size[:-2]) * {"Mi": 1, "Gi": 1024}[size[-2:]]


def take(site: Site, scratch: Path, rest: Callable[[bool], None]) -> list[Cost]:
    """Measure on a cluster of the lab, keep its series, and measure on their copies."""
    measure.run(["python3", "-m", "lab", "build", "--stacks"])
    measure.fresh(site, site.hosts)
    rest(False)
    measure.playbook(site, scratch)
    measure.playbook(site, scratch, "-e", json.dumps(SETTINGS), name="monitoring", wait=False)
    say(f"Monitoring is there; waiting {WARM + WINDOW} s")
    time.sleep(WARM + WINDOW)

    def in_the_lab(question: str) -> list[dict[str, Any]]:
        pod = f"/api/v1/namespaces/{NAMESPACE}/pods/prometheus-kubewright-0:9090/proxy"
        told = measure.kubectl(site, "get", "--raw", f"{pod}/api/v1/query?{urlencode({'query': question})}")
        return list(json.loads(told)["data"]["result"])

    few = Cost.read(len(site.hosts), in_the_lab)
    say(f"{few.nodes} nodes: {few.memory:.0f} MiB, {few.samples:.0f} samples a second")
    folder = scratch / "crowd"
    folder.mkdir()
    port = free_port()
    configuration = crowd.lay_out(folder, in_the_lab, NODES, port, ROLE / "files/rules")
    # What is measured next is alone on the machine.
    measure.run(["python3", "-m", "lab", "clean"])
    with simulated(folder, configuration, port) as ask:
        say(f"{NODES} nodes are simulated; waiting {WARM + WINDOW} s")
        time.sleep(WARM + WINDOW)
        return [few, Cost.read(NODES, ask)]


@contextmanager
def simulated(folder: Path, configuration: Path, port: int) -> Iterator[Ask]:
    """Run the server of the copies, and a Prometheus that asks it."""
    stacks = Stacks(Cache())
    program = stacks.built(monitoring.programs(stacks.tags)["prometheus"]) / "prometheus"
    own = free_port()
    settings = json.loads(configuration.read_text())
    target = {"targets": [f"127.0.0.1:{own}"], "labels": {"pod": ""}}
    settings["scrape_configs"].append({"job_name": "prometheus", "static_configs": [target]})
    configuration.write_text(json.dumps(settings))
    data = folder / "data"
    commands = [
        [sys.executable, "-m", "bench.crowd", str(port), str(folder)],
        [
            str(program),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{own}",
        ],
    ]
    running: list[subprocess.Popen[bytes]] = []
    with (folder / "log").open("wb") as log:
        try:
            for command in commands:
                running.append(
                    subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
                )

            def ask(question: str) -> list[dict[str, Any]]:
                url = f"http://127.0.0.1:{own}/api/v1/query?{urlencode({'query': question})}"
                with urllib.request.urlopen(url, timeout=60) as answer:
                    return list(json.load(answer)["data"]["result"])

            yield ask
            for command, process in zip(commands, running, strict=True):
                if process.poll() is not None:
                    said = (folder / "log").read_text()[-2000:]
                    raise BenchError(f"{command[0]} ended with {process.returncode}: {said}")
        finally:
            for process in running:
                process.kill()
                process.wait()
            shutil.rmtree(data, ignore_errors=True)


def free_port() -> int:
    """Return a port of loopback that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
