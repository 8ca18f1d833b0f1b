"""A cluster whose etcd has hosts of its own is upgraded under everybody who could notice; etcd is not touched.

Run with KUBEWRIGHT_INVENTORY=extensions/molecule/inventories/external, by `make soak` only. The cluster of the file
before is used; without one it is made. It has the newer version afterwards.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hardlab import INVENTORY, control_planes, group, kubectl, members, shell
from labtools import Notes, playbook, run
from nightwatch import Nightwatch

from lab import nodes, recipes

pytestmark = pytest.mark.skipif(
    not (os.environ.get("KUBEWRIGHT_ALL_FAULTS") and "external" in INVENTORY),
    reason="in the soak, with an etcd of its own",
)
OLD, NEW = (entry["version"] for entry in recipes.lock()["kubernetes"][-2:])
WANTED = ("-e", f"kube_cluster_version={NEW}")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    """A whole one."""
    os.environ["KUBEWRIGHT_LAB_STATE"] = str(nodes.STATE)
    run("python3", "-m", "lab", "up", "--inventory", INVENTORY)
    playbook("site", inventory=INVENTORY)


def versions() -> set[str]:
    """Return the versions of the kubelets."""
    items = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    return {one["status"]["nodeInfo"]["kubeletVersion"] for one in items}


def processes() -> dict[str, str]:
    """Return the process of each member of etcd."""
    return {host: shell(host, "systemctl show -p MainPID --value etcd").strip() for host in group("etcd")}


def test_it_is_upgraded_and_nobody_notices(notes: Notes, tmp_path: Path) -> None:
    """Two control planes and one worker, whose pods have nowhere to go but to the control planes."""
    assert versions() == {f"v{OLD}"}
    etcd = processes()
    with Nightwatch(tmp_path, f"upgrade.yml {OLD} -> {NEW}, external etcd") as watch:
        # The hosts have this machine's processors between them, and would all look at themselves at the same time.
        done = playbook("upgrade", *WANTED, "--forks", "1", inventory=INVENTORY)
    notes.add(
        f"upgrade.yml {OLD} -> {NEW}, 2 + 1 hosts and an etcd of its own, under a watch: {done.seconds:.0f} s; "
        f"{watch.report.summary()}"
    )
    assert not done.total("failed"), done.output[-4000:]
    assert versions() == {f"v{NEW}"} and processes() == etcd
    nodes_now = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    assert len(nodes_now) == len(members()) and not any(one["spec"].get("unschedulable") for one in nodes_now)
    for host in control_planes():
        images = shell(host, "grep -h image: /etc/kubernetes/manifests/*.yaml")
        assert images.count(f":v{NEW}") == 3 and "etcd" not in images
    watch.check()


def test_a_second_run_changes_nothing(notes: Notes) -> None:
    """And takes seconds."""
    again = playbook("upgrade", *WANTED, inventory=INVENTORY)
    assert again.total("changed") == 0 and again.total("failed") == 0 and "Nothing to do" in again.said
    notes.add(f"upgrade.yml with an etcd of its own again: {again.seconds:.0f} s")
    assert again.seconds < 15 * len(members())


def test_site_yml_agrees_with_what_the_upgrade_left() -> None:
    """The settings are those of the inventory, and the cluster is whole."""
    done = playbook("site", *WANTED, inventory=INVENTORY)
    assert done.total("changed") == 0 and done.total("failed") == 0, done.output[-3000:]
    playbook("verify", *WANTED, inventory=INVENTORY)
