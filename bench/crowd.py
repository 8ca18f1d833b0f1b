"""Nodes that are not there: what real ones say to Prometheus, said many times under other names.

Series are read from the Prometheus of a lab. `multiplied` makes those of many nodes out of them, `lay_out` writes what
a server says and what a Prometheus is told. This module is the server: `python3 -m bench.crowd PORT FOLDER`.
"""

from __future__ import annotations

import http.server
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTERVAL = 30
# Counters go on for so many scrapes, and then begin anew, as those of a process that was started again.
TURNS = 40
PODS = 30
# Asked of every node, and of every one that serves them, through what they have of their own.
ON_NODES = ("node-exporter", "kubelet", "kubelet-cadvisor", "kube-proxy", "kubewright-host")
ON_SOME = ("apiserver", "etcd", "kube-scheduler", "kube-controller-manager", "coredns", "haproxy")
STATE = "kube-state-metrics"
# What scraping adds to a series.
_ADDED = ("job", "instance")
# Names of objects, of which there are as many more as there are nodes.
_OBJECTS = (
    "deployment",
    "replicaset",
    "statefulset",
    "daemonset",
    "job_name",
    "cronjob",
    "persistentvolumeclaim",
    "horizontalpodautoscaler",
    "poddisruptionbudget",
    "resourcequota",
)


@dataclass(frozen=True)
class Sample:
    """A series and its value."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Sample:
        """Read one of the results of a query."""
        labels = {
            name: value for name, value in answer["metric"].items() if name not in (*_ADDED, "__name__")
        }
        return cls(answer["metric"]["__name__"], tuple(sorted(labels.items())), float(answer["value"][1]))

    def renamed(self, **labels: str) -> Sample:
        """Return it under other labels."""
        return Sample(self.name, tuple(sorted({**dict(self.labels), **labels}.items())), self.value)

    def without(self, *names: str) -> Sample:
        """Return it without some labels."""
        return Sample(self.name, tuple(one for one in self.labels if one[0] not in names), self.value)

    def line(self, turn: int = 0) -> str:
        """Return it as exporters write it, so many scrapes later."""
        value = self.value
        if self.name.endswith(("_total", "_sum", "_count", "_bucket")) and math.isfinite(value):
            value += turn * max(1.0, abs(value) / 1000)
        shown = ",".join(f"{name}={json.dumps(text, ensure_ascii=False)}" for name, text in self.labels)
        return f"{self.name}{{{shown}}} {value!r}\n"


def of_pods(samples: Iterable[Sample], pods: int) -> Iterator[Sample]:
    """Return what a node says of so many pods, out of what it says of fewer."""
    samples = list(samples)
    here = {dict(one.labels).get("pod", "") for one in samples} - {""}
    copies = math.ceil(pods / len(here)) if here else 1
    for one in samples:
        pod = dict(one.labels).get("pod", "")
        for copy in range(copies if pod else 1):
            yield one.renamed(pod=f"{pod}-{copy}") if pod else one


def multiplied(samples: Iterable[Sample], nodes: int, pods: int = PODS) -> Iterator[Sample]:
    """Return what kube-state-metrics says of so many nodes with so many pods each."""
    samples = list(samples)
    known_nodes = _values(samples, "node")
    known_pods = sorted({_pod(one) for one in samples} - {("", "")})
    of_nodes = math.ceil(nodes / len(known_nodes))
    of_all_pods = math.ceil(nodes * pods / len(known_pods))
    for one in samples:
        labels = dict(one.labels)
        kind = next((name for name in _OBJECTS if labels.get(name)), "")
        if labels.get("pod"):
            place = known_pods.index(_pod(one))
            for copy in range(of_all_pods):
                node = {"node": f"node{(place + copy * len(known_pods)) % nodes}"} if "node" in labels else {}
                uid = {"uid": f"{labels['uid']}-{copy}"} if "uid" in labels else {}
                yield one.renamed(pod=f"{labels['pod']}-{copy}", **node, **uid)
        elif labels.get("node"):
            place = known_nodes.index(labels["node"])
            for copy in range(of_nodes):
                if (number := place + copy * len(known_nodes)) < nodes:
                    yield one.renamed(node=f"node{number}")
        elif kind:
            for copy in range(of_nodes):
                yield one.renamed(**{kind: f"{labels[kind]}-{copy}"})
        else:
            yield one


def _values(samples: list[Sample], name: str) -> list[str]:
    return sorted({dict(one.labels).get(name, "") for one in samples} - {""})


def _pod(sample: Sample) -> tuple[str, str]:
    labels = dict(sample.labels)
    return labels.get("namespace", "") if labels.get("pod") else "", labels.get("pod", "")


def lay_out(
    folder: Path, read: Callable[[str], list[dict[str, Any]]], nodes: int, port: int, rules: Path
) -> Path:
    """Write what the server says, and return the configuration of a Prometheus that asks it.

    *read* asks the Prometheus of the lab. One node stands for all, that with the most series.
    """
    jobs = []
    for job in ON_NODES:
        found = read(f'{{job="{job}"}}')
        per_node: dict[str, list[Sample]] = {}
        for one in found:
            per_node.setdefault(one["metric"]["node"], []).append(Sample.read(one).without("node"))
        largest = max(per_node.values(), key=len)
        _write(folder, job, list(of_pods(largest, PODS)))
        targets = [
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {"node": f"node{number}", "instance": f"node{number}"},
            }
            for number in range(nodes)
        ]
        jobs.append({"job_name": job, "metrics_path": f"/{job}", "static_configs": targets})
    for job in ON_SOME:
        per_instance: dict[str, list[Sample]] = {}
        for one in read(f'{{job="{job}"}}'):
            per_instance.setdefault(one["metric"]["instance"], []).append(Sample.read(one))
        targets = []
        for number, (instance, samples) in enumerate(sorted(per_instance.items())):
            _write(folder, f"{job}-{number}", samples)
            labels = {"instance": instance, "__metrics_path__": f"/{job}-{number}"}
            targets.append({"targets": [f"127.0.0.1:{port}"], "labels": labels})
        jobs.append({"job_name": job, "honor_labels": True, "static_configs": targets})
    # All its pods and nodes are in one body, which is large: one turn of it.
    state = [Sample.read(one) for one in read(f'{{job="{STATE}"}}')]
    _write(folder, STATE, list(multiplied(state, nodes)), turns=1)
    asked = [{"targets": [f"127.0.0.1:{port}"]}]
    jobs.append(
        {"job_name": STATE, "honor_labels": True, "metrics_path": f"/{STATE}", "static_configs": asked}
    )
    seconds = f"{INTERVAL}s"
    configuration = {
        "global": {
            "scrape_interval": seconds,
            "scrape_timeout": seconds,
            "evaluation_interval": seconds,
            "external_labels": {"cluster": "crowd"},
        },
        "rule_files": [f"{rules}/*.yaml"],
        "scrape_configs": jobs,
    }
    file = folder / "prometheus.json"
    file.write_text(json.dumps(configuration))
    return file


def _write(folder: Path, name: str, samples: list[Sample], turns: int = TURNS) -> None:
    """Write what is said at each of some scrapes; series of a name come together."""
    samples.sort(key=lambda one: one.name)
    # They were recorded under `up` and the like, too, which scraping makes.
    samples = [one for one in samples if one.name != "up" and not one.name.startswith(("scrape_", "ALERTS"))]
    for turn in range(turns):
        (folder / f"{name}.{turn}").write_text("".join(one.line(turn) for one in samples))


def bodies(folder: Path) -> dict[str, list[bytes]]:
    """Return what is said under each path, turn by turn."""
    found: dict[str, list[bytes]] = {}
    for file in sorted(folder.glob("*.[0-9]*"), key=lambda one: int(one.suffix[1:])):
        found.setdefault(f"/{file.stem}", []).append(file.read_bytes())
    return found


def serve(port: int, folder: Path) -> None:
    """Answer until this process is ended."""
    said, begun = bodies(folder), time.monotonic()

    class Exporter(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            turns = said[self.path]
            body = turns[int((time.monotonic() - begun) / INTERVAL) % len(turns)]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Hundreds of answers a second are not told."""

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Exporter).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
