"""A worker with a hundred pods drained by kubectl, by drain_node and by kubernetes.core's k8s_drain, in turn.

The pods go to another worker, which the next tool drains: nobody has to fill a worker again, and each tool gets both.
They go there once the drain is over: that worker shares the processors, and what is measured is not its start of pods.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import measure
from bench.measure import BenchError, Site
from bench.report import HEADING, Aim, finish, row
from lab import recipes
from lab.shell import say

PODS = 100
# What a pod has that says nothing about it. agnhost ends at once, so that what is waited for are the kubelets.
GRACE = 30
LAST, WHOLE = 0.25, 1.0
NAMESPACE = "bench-drain"
IMAGE = f"registry.k8s.io/e2e-test-images/agnhost:{recipes.lock()['agnhost']['version']}"
PATIENCE = 600

KUBECTL, OURS, CORE = "kubectl drain", "drain_node", "k8s_drain"
TOOLS = (KUBECTL, OURS, CORE)


@dataclass(frozen=True)
class Drain:
    """Seconds since the command was started: until the last eviction was accepted, and until it ended.

    *lag* is how late evictions were seen at most, by the API server's own times.
    """

    last: float
    whole: float
    lag: float = 0.0


@dataclass
class Figures:
    """The drains of each tool."""

    drains: dict[str, list[Drain]] = field(default_factory=lambda: {tool: [] for tool in TOOLS})

    def last(self, tool: str) -> float:
        """Return the median of the seconds until the last eviction was accepted."""
        return statistics.median(drain.last for drain in self.drains[tool])

    def whole(self, tool: str) -> float:
        """Return the median of the seconds of everything."""
        return statistics.median(drain.whole for drain in self.drains[tool])


def aims(figures: Figures) -> list[Aim]:
    """Judge the figures."""
    last = figures.last(OURS) / figures.whole(KUBECTL)
    whole = figures.whole(OURS) / figures.whole(CORE)
    return [
        Aim(
            f"drain_node's last eviction is accepted in {last:.2f} of kubectl drain's time, at most {LAST}",
            last <= LAST,
        ),
        Aim(f"drain_node takes {whole:.2f} of k8s_drain with waiting, at most {WHOLE:g}", whole <= WHOLE),
    ]


def text(head: list[str], figures: Figures) -> str:
    """Write the report."""
    lines = [
        *head,
        f"{PODS} pods on a worker, agnhost pause, terminationGracePeriodSeconds {GRACE}",
        "",
        HEADING,
    ]
    for tool in TOOLS:
        drains = figures.drains[tool]
        lines.append(row(f"{tool}, last eviction accepted", [drain.last for drain in drains]))
        lines.append(row(f"{tool}, the whole", [drain.whole for drain in drains]))
    ratio = figures.last(OURS) / figures.last(KUBECTL)
    lag = max(drain.lag for drains in figures.drains.values() for drain in drains)
    lines += [
        "",
        f"drain_node's last eviction to kubectl drain's last eviction: {ratio:.2f}",
        f"Evictions were seen at most {lag:.1f} s after the second in which they were accepted",
    ]
    return finish(lines, aims(figures))


def take(site: Site, rounds: int, scratch: Path, rest: Callable[[bool], None]) -> Figures:
    """Take all figures."""
    if len(site.workers) < 2:
        raise BenchError(f"{site.inventory} has fewer than two workers, so that no pod could leave one")
    full, spare = list(site.workers)[:2]
    measure.fresh(site, site.hosts)
    rest(False)
    measure.plain(site, scratch)
    seed = next(iter(site.control_planes))
    kubeconfig = scratch / "admin.conf"
    kubeconfig.touch(0o600)
    kubeconfig.write_text(measure.run(site.on(seed, "cat", "/etc/kubernetes/admin.conf")))
    _fill(site, full, spare)
    figures = Figures()
    for number in range(rounds):
        # Nobody is always the first one.
        at = number % len(TOOLS)
        for tool in TOOLS[at:] + TOOLS[:at]:
            _settled(site, full)
            rest(True)
            drain = _drain(site, _command(tool, site, full, kubeconfig), scratch)
            figures.drains[tool].append(drain)
            say(f"Round {number + 1}: {tool} {drain.last:.1f} s to the last eviction, {drain.whole:.1f} s")
            full, spare = spare, full
            measure.kubectl(site, "uncordon", full)
    return figures


def _command(tool: str, site: Site, node: str, kubeconfig: Path) -> list[str]:
    """Return how a tool drains a node: emptied of all but DaemonSets, waited for until the pods are gone."""
    seed = next(iter(site.control_planes))
    if tool == KUBECTL:
        words = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={PATIENCE}s"]
        return site.on(seed, "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *words)
    options: dict[str, Any]
    if tool == OURS:
        options = {"name": node, "delete_emptydir_data": True, "timeout": PATIENCE}
        where = ["-i", str(site.inventory), seed, "-b", "-m", "kubewright.cluster.drain_node"]
    else:
        # It runs where its Python library is. By default it looks every 5 seconds; its best is what counts.
        deletes = {"ignore_daemonsets": True, "delete_emptydir_data": True}
        waits = {"wait_timeout": PATIENCE, "wait_sleep": 1}
        options = {"name": node, "kubeconfig": str(kubeconfig), "delete_options": {**deletes, **waits}}
        where = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
        where += ["localhost", "-m", "kubernetes.core.k8s_drain"]
    return ["ansible", *where, "-a", json.dumps(options)]


def _drain(site: Site, command: list[str], scratch: Path) -> Drain:
    """Run one drain, and see when each eviction was accepted."""
    with _Watch(site) as watch:
        begun = time.monotonic()
        measure.run(command, env=measure.own_connections(scratch))
        whole = time.monotonic() - begun
        watch.expect(lambda: len(watch.ending) == PODS, f"{PODS} pods to be evicted")
    return Drain(max(watch.ending.values()) - begun, whole, watch.lag)


class _Watch:
    """Sees when pods are asked to end.

    The API server gives a pod its deletion time when it accepts the eviction. That time is cut to whole seconds, so
    what counts is when the change comes here, over a watch that begins with the pods that are there. The report says
    how far the two differ. An API server may end a watch at any time: it is opened again then, and begins with the pods
    that are there still, among them those that are ending.
    """

    FIELDS = "{.metadata.uid} {.metadata.deletionTimestamp} {.metadata.deletionGracePeriodSeconds}"

    def __init__(self, site: Site) -> None:
        get = f"get pods --namespace={NAMESPACE} --watch --output=jsonpath='{self.FIELDS}{{\"\\n\"}}'"
        # It ends when its input does: what podman has started in a container outlives podman.
        ends = "exec 3<&0; (cat <&3; kill $$) >/dev/null 2>&1 &"
        script = f"{ends} exec kubectl --kubeconfig=/etc/kubernetes/admin.conf {get}"
        container = site.on(next(iter(site.control_planes)))[-1]
        self._argv = ["podman", "exec", "--interactive", container, "sh", "-c", script]
        self.known: set[str] = set()
        self.ending: dict[str, float] = {}
        self.lag = 0.0
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def _open(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> _Watch:
        self._process = self._open()
        self._reader.start()
        self.expect(lambda: len(self.known) == PODS, f"the watch to begin with {PODS} pods")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._close()
        self._reader.join(10)

    def _close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _read(self) -> None:
        while not self._over.is_set():
            assert self._process.stdout
            for line in self._process.stdout:
                self.note(line, time.monotonic(), time.time())
            if not self._over.is_set():
                self._close()
                say("The watch of the pods has ended, and is opened again")
                self._process = self._open()
                if self._over.is_set():
                    self._close()

    def note(self, line: str, clock: float, wall: float) -> None:
        """Note a line of the watch, which came at these times."""
        uid, *ends = line.split()
        self.known.add(uid)
        if len(ends) == 2 and uid not in self.ending:
            self.ending[uid] = clock
            accepted = datetime.fromisoformat(ends[0]).timestamp() - int(ends[1])
            self.lag = max(self.lag, wall - accepted - 1)

    @staticmethod
    def expect(check: Callable[[], bool], what: str) -> None:
        """Wait a little until something was seen."""
        until = time.monotonic() + 30
        while not check():
            if time.monotonic() > until:
                raise BenchError(f"waited in vain for {what}")
            time.sleep(0.1)


def _deployment(workers: list[str]) -> dict[str, Any]:
    """Return the pods, which run on these workers."""
    label = {"app": "bench-drain"}
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": workers}
    pod = {
        "terminationGracePeriodSeconds": GRACE,
        "automountServiceAccountToken": False,
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [here]}]
                }
            }
        },
        "containers": [{"name": "pause", "image": IMAGE, "args": ["pause"]}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "bench-drain", "namespace": NAMESPACE},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": label},
            "template": {"metadata": {"labels": label}, "spec": pod},
        },
    }


def _fill(site: Site, full: str, spare: str) -> None:
    """Put all pods on one worker; the other one has their image too, and is cordoned."""
    for worker in (full, spare):
        measure.run(site.on(worker, "crictl", "pull", IMAGE))
    measure.kubectl(site, "create", "namespace", NAMESPACE)
    measure.kubectl(site, "cordon", spare)
    script = 'printf %s "$1" | kubectl --kubeconfig=/etc/kubernetes/admin.conf apply --filename -'
    words = ["sh", "-c", script, "sh", json.dumps(_deployment([full, spare]))]
    measure.run(site.on(next(iter(site.control_planes)), *words))
    _settled(site, full)


def _settled(site: Site, worker: str) -> None:
    """Wait until all pods are ready on a worker, and none is left anywhere else."""
    until = time.monotonic() + PATIENCE
    while True:
        found = measure.kubectl(site, "get", "pods", f"--namespace={NAMESPACE}", "-o", "json", check=False)
        items = json.loads(found)["items"] if found else []
        good = sum(one["spec"].get("nodeName") == worker and _ready(one) for one in items)
        if good == len(items) == PODS:
            return
        if time.monotonic() > until:
            raise BenchError(f"after {PATIENCE} s {good} of {len(items)} pods are ready on {worker}")
        time.sleep(1)


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
