"""What the tests of upgrades share: the two versions, runs of upgrade.yml, and what hosts and cluster are like."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hardlab import ETCDCTL, kubectl, members, shell
from labtools import INVENTORY, Recap, playbook

from lab import recipes
from lab.nodes import STATE

EVERYTHING = bool(os.environ.get("KUBEWRIGHT_ALL_FAULTS"))
soak = pytest.mark.skipif(not EVERYTHING, reason="takes long; make soak runs it")
OLD, NEW = (entry["version"] for entry in recipes.lock()["kubernetes"][-2:])
NEW_ETCD: str = recipes.lock()["kubernetes"][-1]["etcd"]
KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"
# Everything that decides what runs on a host, and nothing that lives there; and all that an upgrade would write to.
RUNS_BY = (
    "/etc/kubernetes /var/lib/kubelet/config.yaml /var/lib/dpkg/status /usr/bin/kubeadm /usr/bin/kubelet"
)
FILES = f"{RUNS_BY} /etc/apt"


def upgrade(*options: str, version: str = NEW, check: bool = True, where: Path | str = INVENTORY) -> Recap:
    """Run the playbook."""
    words = ["-e", f"kube_cluster_version={version}", "-e", f"lab_state={STATE}", *options]
    done = playbook("upgrade", *words, inventory=str(where), check=check)
    assert not check or not done.total("failed"), done.output[-4000:]
    return done


def versions() -> dict[str, str]:
    """Return the version of each kubelet."""
    items = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    return {one["metadata"]["name"]: one["status"]["nodeInfo"]["kubeletVersion"] for one in items}


def images(host: str) -> dict[str, str]:
    """Return the tags of the static pods of a control plane, as its manifests have them."""
    text = shell(host, "grep -h image: /etc/kubernetes/manifests/*.yaml")
    return dict(re.findall(r"/([a-z-]+):v?(\S+)", text))


def balancer(host: str, command: str) -> str:
    """Return what the HAProxy of a host says."""
    return shell(host, f"echo '{command}' | socat stdio /run/haproxy/admin.sock")


def cordoned() -> list[str]:
    """Return the nodes that take no pods."""
    items = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    return [one["metadata"]["name"] for one in items if one["spec"].get("unschedulable")]


def fingerprints(files: str = FILES) -> dict[str, str]:
    """Return what every host is like."""
    script = f"find {files} -type f -printf '%p %s %T@\\n' 2>/dev/null | sort | sha256sum"
    return {host: shell(host, script) for host in members()}


def trouble(host: str, run_on: Callable[[str, str], str] = shell) -> list[str]:
    """Return the nodes, the system's pods and the members of etcd that are not well, as a control plane sees them."""
    items = json.loads(run_on(host, f"{KUBECTL} get nodes -o json"))["items"]
    for namespace in ("kube-system", "kube-flannel"):
        items += json.loads(run_on(host, f"{KUBECTL} -n {namespace} get pods -o json"))["items"]
    found = [
        one["metadata"]["name"]
        for one in items
        if one["status"].get("phase") not in ("Succeeded", "Failed")
        and not any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in one["status"].get("conditions", [])
        )
    ]
    health = json.loads(run_on(host, f"{ETCDCTL} endpoint health --cluster -w json 2>/dev/null || true"))
    return found + [one["endpoint"] for one in health if not one["health"]]


@contextmanager
def held_by_a_budget(name: str) -> Iterator[None]:
    """Keep a pod that its PodDisruptionBudget never lets go."""
    kubectl("create", "deployment", name, "--image=registry.k8s.io/pause:3.10.2")
    kubectl("create", "poddisruptionbudget", name, f"--selector=app={name}", "--min-available=1")
    try:
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
        yield
    finally:
        kubectl("delete", "deployment,poddisruptionbudget", name)
