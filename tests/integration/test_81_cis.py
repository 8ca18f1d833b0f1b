"""The CIS Kubernetes Benchmark on the cluster that runs: nothing fails that docs/cis.md does not justify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cis_checks import API, Cluster, Failure, Host, failures, tables
from labtools import ROOT, Notes, run

from lab import nodes

PAGE = ROOT / "docs" / "cis.md"
FACTS = Path(__file__).parent / "cis_facts.py"


def kubectl(container: str, *words: str, check: bool = True) -> str:
    """Run kubectl on a control plane."""
    config = ["--kubeconfig", "/etc/kubernetes/admin.conf"]
    return run("podman", "exec", container, "kubectl", *config, *words, check=check)


def items(container: str, *words: str) -> list[dict[str, Any]]:
    """Return the objects of a kind."""
    return list(json.loads(kubectl(container, "get", *words, "-o", "json"))["items"])


def observe_hosts() -> tuple[list[Host], str]:
    """Return what is true on every node of the lab, and the container of one control plane."""
    seen = {}
    for container in sorted(nodes.running() - {nodes.ORIGIN}):
        run("podman", "cp", str(FACTS), f"{container}:/run/cis_facts.py")
        facts = json.loads(run("podman", "exec", container, "python3", "/run/cis_facts.py"))
        if "kubelet" in facts["processes"]:
            seen[container] = facts
    control = next(container for container, facts in seen.items() if API in facts["processes"])
    hosts = []
    for container, facts in seen.items():
        name = container.removeprefix(nodes.PREFIX)
        kubelet = json.loads(kubectl(control, "get", "--raw", f"/api/v1/nodes/{name}/proxy/configz"))
        hosts.append(Host(name=name, kubelet=kubelet["kubeletconfig"], **facts))
    return hosts, control


def observe_cluster(control: str) -> Cluster:
    """Return what the API server says about rights and pods."""
    administrators = [
        f"{subject['kind']} {subject['name']}"
        for binding in items(control, "clusterrolebindings")
        if binding["roleRef"]["name"] == "cluster-admin"
        for subject in binding.get("subjects", [])
    ]
    anybody = ["--as=system:nobody", "--as-group=system:authenticated", "--all-namespaces"]
    may = [
        action
        for action in ("list secrets", "create pods")
        if kubectl(control, "auth", "can-i", *action.split(), *anybody, check=False).strip() == "yes"
    ]
    return Cluster(administrators, may, items(control, "pods", "--all-namespaces"))


@pytest.fixture(scope="module")
def found() -> list[Failure]:
    """Judge the cluster once."""
    hosts, control = observe_hosts()
    assert hosts
    return failures(hosts, observe_cluster(control))


def test_no_failure_without_a_justification(found: list[Failure], notes: Notes) -> None:
    """Every recommendation is followed on every node, or docs/cis.md says why not."""
    justified, _judged = tables(PAGE)
    open_ = [one for one in found if one.number not in justified]
    notes.add(
        f"CIS benchmark 1.12: {len({one.number for one in found})} checks not followed, {len(open_)} open"
    )
    assert not open_, "\n".join(f"{one.number} {one.title}: {one.where}: {one.seen}" for one in open_)


def test_no_justification_that_is_not_needed(found: list[Failure]) -> None:
    """What is followed now needs no excuse."""
    justified, _judged = tables(PAGE)
    assert set(justified) <= {one.number for one in found}
