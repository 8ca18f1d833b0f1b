# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays runs for the tests of reports, and writes their pages into a folder so that somebody can look at them.

The tasks, gates and messages are those of the playbooks; how long they take is made up.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_page import render
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import (
    CUT_OFF,
    DONE,
    FAILED,
    Record,
    Task,
)

# 23 November 2026, 02:14:05 UTC
BEGAN = 1795400045.0
CONTROL_PLANES, WORKERS = ["cp1", "cp2", "cp3"], ["worker1", "worker2"]
NODES = CONTROL_PLANES + WORKERS
OLD, NEW = "1.36.3", "1.37.1"
PLAN = f"""\
Kubernetes {OLD} -> {NEW}
 1. all hosts: fetch the packages of {NEW}, pull the images
 2. a control plane: save and verify a snapshot of etcd
 3. cp2: etcd to 3.6.16-0, the patch that comes before the next minor
 4. cp3: etcd to 3.6.16-0, the patch that comes before the next minor
 5. cp1: etcd to 3.6.16-0, the patch that comes before the next minor
 6. cp2: kubeadm upgrade apply
 7. cp3: kubeadm upgrade node
 8. cp1: kubeadm upgrade node, kube-proxy and CoreDNS
 9. cp2: drain, kubelet, uncordon
10. cp3: drain, kubelet, uncordon
11. cp1: drain, kubelet, uncordon
12. worker1: drain, kubelet, uncordon
13. worker2: drain, kubelet, uncordon
14. the cluster is looked at and used as an application would"""
WORKERS_PHASE = "Upgrade the workers, one alone and then in batches"


MOVE = "Move etcd to the patch that comes before its next minor"


class Broken(Exception):
    """Ends a night where it was told to."""


class Night:
    """A record with a clock that runs as fast as it is told to."""

    def __init__(self, operation: str, **about: Any) -> None:
        self.now = BEGAN
        roles = {host: "control plane" if host in CONTROL_PLANES else "worker" for host in NODES}
        self.record = Record(
            {
                "operation": operation,
                "cluster": "example",
                "who": "admin@controller",
                "check": False,
                "limit": "",
                "roles": roles,
                "ansible": "2.21.5",
                "collection": "0.1.0",
                **about,
            },
            self.now,
        )
        self.api: dict[str, Any] = {}
        self.stops: Callable[[str, str], str] = lambda host, task: ""

    def do(self, hosts: list[str], name: str, seconds: float, state: str = "ok", **more: Any) -> None:
        """Let hosts do something at once; the second and every further one takes a little longer."""
        task = Task(name, more.get("kind", "work"))
        for host in hosts:
            self.record.begins(host, task, self.now)
            if "tries" in more:
                self.record.tries(host, more["tries"])
        failed = False
        for number, host in enumerate(hosts):
            why = self.stops(host, name)
            if why == "cut off":
                self.now += seconds * 0.6
                raise Broken
            end = self.now + seconds * (1 + number / 10)
            self.record.ends(host, task, "failed" if why else state, end, why=why, on=more.get("on", ""))
            failed = failed or bool(why)
        self.now += seconds * (1 + (len(hosts) - 1) / 10) + 0.1
        if failed:
            raise Broken

    def gate(self, hosts: list[str], name: str) -> None:
        self.do(hosts, name, 0.1, kind="gate")

    def sees(self, upgraded: list[str], kubelets: list[str], etcd: str) -> None:
        """Observe the cluster, some of whose hosts have the new version."""
        versions = {host: NEW if host in upgraded else OLD for host in CONTROL_PLANES}
        components = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        self.record.sees(
            "cluster",
            {
                "nodes": [
                    {"name": host, "kubelet_version": NEW if host in kubelets else OLD} for host in NODES
                ],
                "control_plane": [
                    {"node": host, "component": component, "version": versions[host]}
                    for host in CONTROL_PLANES
                    for component in components
                ],
                "etcd": {"members": [{"name": host, "version": etcd} for host in CONTROL_PLANES]},
            },
        )

    def data(self, earlier: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        return {**self.record.data(self.now), "api": self.api, "earlier": earlier or []}


def turn(night: Night, phase: str, hosts: list[str], work: Callable[[], None], *, drains: bool) -> None:
    """Play the turn of a host, or of a batch."""
    night.record.phase(phase, night.now)
    first = hosts[:1]
    night.do(first, "Keep other runs away from the cluster", 0.9, kind="gate", on="cp1")
    night.do(first, "Look at the cluster until all others are whole", 2.4, kind="wait", tries=1, on="cp1")
    night.gate(first, "See that nobody was lost on the way")
    night.gate(first, "Begin only while all others are whole")
    if drains:
        night.do(hosts, "Drain the node", 17.5, "changed", on="cp1")
    if hosts[0] in CONTROL_PLANES:
        night.do(hosts, "Set the API server's state in each load balancer", 1.3, "changed")
        night.do(hosts, "Let another member lead etcd", 0.8)
    work()
    if hosts[0] in CONTROL_PLANES:
        night.do(hosts, "Wait until its own API server serves", 6.2, kind="wait", tries=3)
        night.do(hosts, "Set the API server's state in each load balancer", 2.1, "changed")
    night.do(hosts, "Wait until the host is whole", 8.8, kind="wait", tries=3, on="cp1")
    night.gate(hosts, "Go on only with a host that is whole")
    if drains:
        night.do(hosts, "Uncordon the node", 0.7, "changed", on="cp1")


def upgrade(stops: Callable[[str, str], str] | None = None) -> Night:
    """Play an upgrade; *stops* says why a task of a host fails, or ``cut off``."""
    night = Night("upgrade")
    night.stops = stops or night.stops
    record = night.record
    with contextlib.suppress(Broken):
        _upgrade(night)
    answered = int(night.now - BEGAN)
    gaps = [
        [BEGAN + 351.0, BEGAN + 353.2, "ConnectionRefusedError"],
        [BEGAN + 640.4, BEGAN + 641.4, "HTTP 503"],
    ]
    gaps = [gap for gap in gaps if gap[1] < night.now]
    night.api = {
        "where": "192.0.2.10:8443",
        "from": "controller",
        "every": 1.0,
        "asked": answered,
        "answered": answered - 2 * len(gaps),
        "began": BEGAN + 12,
        "ended": night.now,
        "gaps": gaps,
    }
    if record.state == "running" and not record.busy(night.now):
        record.ends_all(DONE, night.now)
    return night


def _upgrade(night: Night) -> None:
    record = night.record
    record.phase("Look, plan, and refuse what cannot end well", night.now)
    notice = "Experimental: whole upgrades were run in the lab, its faults are not all tried."
    record.says("cp1", "Say that this is experimental", [notice], night.now)
    night.do(NODES, "Look at the host", 2.2)
    night.gate(["cp1"], "Check the description of the cluster")
    night.do(["cp1"], "Look at the cluster from a living control plane", 3.1, on="cp1")
    night.sees([], [], "3.6.8")
    night.gate(["cp1"], "Need a cluster that answers")
    night.do(["cp1"], "Let the kubeadm of the wanted version plan the upgrade", 24.6, on="cp1")
    night.gate(["cp1"], "Refuse what cannot end well")
    night.do(NODES, "Ask what a drain would meet", 1.8, on="cp1")
    night.gate(["cp1"], "Refuse what would hold a drain up for good")
    record.says("cp1", "Say what will be done", PLAN.splitlines(), night.now)
    for host in CONTROL_PLANES:
        record.phase("Bring packages and images to the control planes, one by one", night.now)
        night.do([host], "Fetch the packages", 6.4, "changed")
        night.do([host], "Pull the images", 21.7)
    record.phase("Bring packages and images to the workers", night.now)
    night.do(WORKERS, "Fetch the packages", 5.9, "changed")
    night.do(WORKERS, "Pull the images", 9.3)
    record.phase("Save a snapshot of etcd", night.now)
    night.do(["cp1"], "Save and verify a snapshot of etcd", 3.8, "changed", on="cp1")
    order = ["cp2", "cp3", "cp1"]
    for host in order:

        def etcd(host: str = host) -> None:
            night.do([host], MOVE, 31.0, "changed")

        turn(night, f"{MOVE}, one control plane at a time", [host], etcd, drains=False)
    for number, host in enumerate(order, 1):

        def control_plane(host: str = host) -> None:
            night.do([host], "Install kubeadm", 4.1, "changed")
            night.do([host], "Upgrade the control plane", 96 if host == "cp2" else 74, "changed")

        turn(night, "Upgrade the control planes, one by one", [host], control_plane, drains=False)
        night.sees(order[:number], [], "3.6.16")
    for number, host in enumerate(order, 1):
        phase = "Upgrade the kubelets of the control planes, one by one"
        turn(night, phase, [host], lambda host=host: kubelet(night, [host]), drains=True)
        night.sees(order, order[:number], "3.7.0")
    for number, host in enumerate(WORKERS, 1):
        turn(night, WORKERS_PHASE, [host], lambda host=host: kubelet(night, [host]), drains=True)
        night.sees(order, order + WORKERS[:number], "3.7.0")
    record.phase("See the whole cluster", night.now)
    night.do(["cp1"], "Look at the cluster until it is whole", 3.3, kind="wait", tries=1, on="cp1")
    night.gate(["cp1"], "Fail when it is not whole")
    night.do(["cp1"], "Use the cluster as an application would", 28.4, kind="gate", on="cp1")
    end = (
        f"example runs Kubernetes {NEW}. The snapshot of before is on cp1 in /var/backups/kubewright/upgrade."
    )
    record.says("cp1", "Say where the snapshot of before is", [end], night.now)


def kubelet(night: Night, hosts: list[str]) -> None:
    night.do(hosts, "Write the kubelet's configuration for the new version", 2.6, "changed")
    night.do(hosts, "Install the kubelet and kubectl", 7.7, "changed")
    night.do(hosts, "Run the new kubelet", 19.8, "changed")


BROKEN = (
    "kube-apiserver did not come up with its new manifest (cp3): its container ended with 1: unknown flag: --shutdown. "
    "kubeadm put the old manifest back. Correct extraArgs of the API server in the ConfigMap kubeadm-config."
)


def failed() -> Night:
    """Play an upgrade that fails on the second control plane, as the roles end such a run."""
    night = upgrade(lambda host, task: BROKEN if (host, task) == ("cp3", "Upgrade the control plane") else "")
    end = Task("End the run where a turn failed", "gate")
    night.record.begins("cp3", end, night.now)
    night.now += 0.4
    why = (
        f"cp3 failed. Upgrade the control plane: {BROKEN} It stays out of service as it is: cp3 is cordoned if it was "
        "drained, and its API server gets no new connections. Nobody after it was touched. Mend the cause and run the "
        "same playbook again: what is done is skipped."
    )
    night.record.ends("cp3", end, "failed", night.now, why=why)
    night.record.ends_all(FAILED, night.now, {"cp3": "failed"})
    return night


def cut_off() -> Night:
    """Play an upgrade whose controller was switched off in the middle."""
    night = upgrade(
        lambda host, task: "cut off" if (host, task) == ("worker1", "Run the new kubelet") else ""
    )
    night.record.state = CUT_OFF
    night.api = {}
    return night


def unreachable() -> Night:
    """Play a check of maintenance that one host does not answer."""
    night = Night("maintain_nodes", check=True, limit="workers")
    night.record.phase("Find out what is pending", night.now)
    night.do(["worker1"], "See what is pending", 4.2)
    task = Task("See what is pending")
    night.record.begins("worker2", task, night.now)
    night.now += 10
    night.record.ends("worker2", task, "unreachable", night.now, why="Failed to connect to the host via ssh")
    night.record.says("worker1", "Say what will be done", ["worker1: 3 packages, a restart"], night.now)
    night.record.ends_all(FAILED, night.now, {"worker2": "unreachable"})
    return night


NIGHTS = {"done": upgrade, "failed": failed, "cut_off": cut_off, "unreachable": unreachable}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, play in NIGHTS.items():
        (folder / f"{name}.html").write_text(render(play().data()), encoding="utf-8")
    print(f"Look at {folder}/{{{','.join(NIGHTS)}}}.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
