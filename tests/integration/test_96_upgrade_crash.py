"""Kill upgrade.yml anywhere, run it again: it ends with everything at the new version, and cordoned is who was before.

`make test` cuts one upgrade off at four moments in a row, `make soak` at eight. And `make soak`
(KUBEWRIGHT_ALL_CRASHES) makes the table of all steps from a clean run, and cuts runs off at each of them. One upgrade
takes many cuts, so that few clusters at OLD have to be made. The table is kept until it is done
(tests/soak/crash-table-upgrade-3+2.json): a soak that was interrupted goes on with the steps that are left.
"""

from __future__ import annotations

import json
import os
import re
import time
from functools import partial
from pathlib import Path

import pytest
from crash import (
    CONTROLLER,
    POWER,
    SESSIONS,
    Course,
    Hosts,
    Moment,
    Playbook,
    Step,
    asked_for,
    file,
    make_inventory,
    step,
    whole_table,
)
from labtools import Notes
from upgradelab import KUBECTL, NEW, NEW_ETCD, OLD, trouble

ALL = bool(os.environ.get("KUBEWRIGHT_ALL_CRASHES"))
VERSION = ("-e", f"kube_cluster_version={NEW}")
# Cordoned by its owner before the upgrade, and after it.
CORDONED = "worker1"
# What names a host, a pod, a moment or a version. Who leads etcd, and so comes last, differs from cluster to
# cluster, and so does who is asked.
NAMES = re.compile(r"[\w.-]*\d[\w.-]*")

# In the order in which a run comes to them. The control planes take their turns by who leads etcd.
MOMENTS = [
    Moment("packages are fetched", step("worker1", "task Fetch the packages"), SESSIONS, 1),
    Moment(
        "etcd goes to its patch", step("", "etcd_static_pod write /etc/kubernetes/manifests/etcd.yaml"), POWER
    ),
    # kubeadm itself goes on, and the next run waits for it.
    Moment("kubeadm applies", step("", "kubeadm_upgrade run kubeadm upgrade apply --config"), CONTROLLER, 15),
    Moment("kubeadm follows", step("", "kubeadm_upgrade run kubeadm upgrade node --config"), SESSIONS, 15),
    Moment("a control plane is cordoned", step("", "drain_node api PATCH"), CONTROLLER),
    Moment("static pods end", step("", "kubeadm_upgrade run systemctl stop kubelet"), SESSIONS, 2),
    Moment("apt unpacks a worker's kubelet", file("worker1", "/usr/bin/kubelet.dpkg-new"), POWER),
    Moment(
        "the new kubelet starts",
        step("worker2", "kubeadm_upgrade run systemctl restart kubelet"),
        CONTROLLER,
        1,
    ),
]
# Each costs a minute or more. Among every second one are all three ways to be cut off.
CUT_AT = MOMENTS if os.environ.get("KUBEWRIGHT_ALL_FAULTS") else MOMENTS[::2]


def at_the_old_version(hosts: Hosts, folder: Path) -> None:
    """Make a cluster anew, one of whose nodes its owner has cordoned."""
    hosts.bare()
    made = Playbook(hosts, folder / "site", options=("-e", f"kube_cluster_version={OLD}"))
    made.end()
    assert made.code == 0, made.tail()
    hosts.shell("cp1", f"{KUBECTL} cordon {CORDONED}")


def wait_as_an_operator_does(hosts: Hosts) -> None:
    """Let hosts come back before the next run, which refuses a cluster that is not whole.

    What an upgrade that was cut off has left broken does not come back by itself, and nothing of that is refused.
    """
    until = time.monotonic() + 180
    while time.monotonic() < until:
        try:
            if not trouble("cp1", hosts.shell):
                return
        except (AssertionError, json.JSONDecodeError):
            pass
        time.sleep(2)


def converged(hosts: Hosts, folder: Path) -> None:
    """Prove that everything is at the new version, and that nothing is left over."""
    verified = Playbook(hosts, folder / "verify", "verify", VERSION)
    verified.end()
    assert verified.code == 0, verified.tail()
    again = Playbook(hosts, folder / "again", "upgrade", VERSION)
    counts = again.end()
    assert again.code == 0 and counts.total("changed") == 0, again.tail()
    # The settings are those of the inventory still.
    same = Playbook(hosts, folder / "same", "site", VERSION)
    counts = same.end()
    assert same.code == 0 and counts.total("changed") == 0, same.tail()

    nodes = json.loads(hosts.shell("cp1", f"{KUBECTL} get nodes -o json"))["items"]
    assert {one["status"]["nodeInfo"]["kubeletVersion"] for one in nodes} == {f"v{NEW}"}
    assert [one["metadata"]["name"] for one in nodes if one["spec"].get("unschedulable")] == [CORDONED]
    for host in hosts.control_planes:
        manifests = hosts.shell(host, "cat /etc/kubernetes/manifests/*.yaml")
        tags = dict(re.findall(r"image: \S+/([a-z-]+):v?(\S+)", manifests))
        servers = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        assert tags == {**dict.fromkeys(servers, NEW), "etcd": NEW_ETCD}
        assert re.findall(r"--etcd-servers=(\S+)", manifests) == ["https://127.0.0.1:2379"]
        assert "--snapshot-count=1\n" not in manifests
        balancer = hosts.shell(host, "echo 'show stat' | socat stdio /run/haproxy/admin.sock")
        assert "DRAIN" not in balancer
    for host in hosts.names:
        assert hosts.shell(host, "dpkg --audit") == ""
        assert hosts.shell(host, "apt-mark showhold").split() == ["kubeadm", "kubectl", "kubelet"]


def course(hosts: Hosts) -> Course:
    """From a cluster at OLD to the same at NEW."""
    return Course(
        hosts,
        partial(at_the_old_version, hosts),
        partial(converged, hosts),
        "upgrade",
        VERSION,
        wait=partial(wait_as_an_operator_does, hosts),
        kind=kind,
    )


def kind(one: Step) -> str:
    """Return what a step is, whatever it is done to."""
    return NAMES.sub("*", str(one))


def test_an_upgrade_that_is_killed_again_and_again_converges(
    tmp_path: Path, records: Path, notes: Notes
) -> None:
    """Moment after moment of one upgrade; the last run finishes it, and the next changes nothing."""
    begun = time.monotonic()
    course(Hosts(make_inventory(tmp_path / "inventory", 3, 2))).cut_at(CUT_AT, records)
    took = time.monotonic() - begun
    notes.add(
        f"upgrade.yml killed at {len(CUT_AT)} moments in a row on 3 + 2 hosts, then converged: {took:.0f} s, with the "
        "making of the cluster"
    )


@pytest.mark.skipif(not ALL, reason="for soak: every step of an upgrade, hours")
def test_the_whole_crash_table(tmp_path: Path, records: Path, notes: Notes) -> None:
    """The table is made from the run logs of a clean run; runs are cut off at each of its steps on each host."""
    hosts = Hosts(make_inventory(tmp_path / "inventory", *asked_for()))
    whole_table(course(hosts), records, notes)
