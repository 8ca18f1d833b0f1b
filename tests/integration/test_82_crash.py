"""Kill site.yml anywhere, run it again: it ends converged.

`make test` cuts one provisioning from bare hosts off at six moments in a row, `make soak` at eleven. And `make soak`
(KUBEWRIGHT_ALL_CRASHES) makes the table of all steps from a clean run, and cuts runs off at each of them;
KUBEWRIGHT_CRASH_HOSTS=1+1 does it on fewer hosts than 3 + 2. The table is kept beside the checkout until it is done
(tests/soak/crash-table-site-3+2.json): a soak that was interrupted goes on with the steps that are left.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from collections.abc import Callable
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
    asked_for,
    file,
    make_inventory,
    step,
    whole_table,
)
from labtools import Notes

ALL = bool(os.environ.get("KUBEWRIGHT_ALL_CRASHES"))
ETCDCTL = (
    "etcdctl --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt "
    "--key=/etc/kubernetes/pki/etcd/server.key --endpoints=https://127.0.0.1:2379"
)
KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"


def serves(host: str) -> Callable[[Playbook], str]:
    """The API server of a host is ready."""

    def there(playbook: Playbook) -> str:
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        address = playbook.hosts.addresses[host]
        connection = http.client.HTTPSConnection(address, 6443, timeout=0.5, context=tls)
        try:
            connection.request("GET", "/readyz")
            return host if connection.getresponse().status == 200 else ""
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()

    return there


# In the order in which a run comes to them.
MOMENTS = [
    Moment("apt unpacks the kubelet", file("cp1", "/usr/bin/kubelet.dpkg-new"), SESSIONS),
    Moment("containerd is installed", step("worker1", "write /opt/kubewright/containerd"), POWER),
    Moment("HAProxy is configured", step("cp2", "write /etc/haproxy/haproxy.cfg"), POWER),
    Moment("etcdctl is copied out of its image", step("cp1", "image_files write"), SESSIONS),
    Moment("kubeadm init makes certificates", file("cp1", "/etc/kubernetes/pki/etcd/ca.key"), SESSIONS),
    Moment("kubeadm init starts etcd", file("cp1", "/var/lib/etcd/member/snap/db"), POWER),
    Moment("kubeadm init: the API server answers", serves("cp1"), SESSIONS),
    Moment("the pod network is applied", step("cp1", "kube_apply api PATCH"), CONTROLLER),
    Moment(
        "the worker's kubelet bootstraps", file("worker1", "/etc/kubernetes/bootstrap-kubelet.conf"), SESSIONS
    ),
    Moment("the new etcd member is added", file("cp2", "/etc/kubernetes/manifests/etcd.yaml"), POWER),
    Moment("its join goes on", step("cp2", "kubeadm_node run kubeadm join"), CONTROLLER),
]
# Each costs most of a minute, so that `make test` takes every second one.
CUT_AT = MOMENTS if os.environ.get("KUBEWRIGHT_ALL_FAULTS") else MOMENTS[::2]


def converged(hosts: Hosts, folder: Path) -> None:
    """Prove that nothing is missing and nothing is left over."""
    verified = Playbook(hosts, folder / "verify", "verify")
    verified.end()
    assert verified.code == 0, verified.tail()
    again = Playbook(hosts, folder / "again")
    counts = again.end()
    assert again.code == 0 and counts.total("changed") == 0, again.tail()

    shown = json.loads(hosts.shell("cp1", f"{KUBECTL} get nodes -o json"))["items"]
    assert {node["metadata"]["name"] for node in shown} == set(hosts.names)
    role = "node-role.kubernetes.io/control-plane"
    control = {node["metadata"]["name"] for node in shown if role in node["metadata"]["labels"]}
    assert control == set(hosts.control_planes)
    members = json.loads(hosts.shell("cp1", f"{ETCDCTL} member list -w json"))["members"]
    assert {member["name"] for member in members} == set(hosts.control_planes)
    assert not any(member.get("isLearner") for member in members)
    taints = [node["spec"].get("taints") for node in shown if node["metadata"]["name"] in control]
    assert all(taints), "a control plane without its taint"
    for host in hosts.names:
        for path in ("/var/lib/kubewright/kubeadm-began.json", "/etc/kubernetes/bootstrap-kubelet.conf"):
            assert not hosts.path(host, path).exists(), f"{host}:{path}"
        assert hosts.shell(host, "dpkg --audit") == ""
        assert hosts.path(host, "/usr/local/bin/ctr").is_symlink(), f"{host}: links of containerd are missing"


def course(hosts: Hosts, *options: str) -> Course:
    """From bare hosts to a cluster that the next run leaves as it is."""
    return Course(
        hosts, lambda _records: hosts.bare(), lambda records: converged(hosts, records), "site", options
    )


def test_a_provisioning_that_is_killed_again_and_again_converges(
    tmp_path: Path, records: Path, notes: Notes
) -> None:
    """Moment after moment, from bare hosts; then everything is there, and the next run changes nothing."""
    begun = time.monotonic()
    # Its output is searched for secrets.
    course(Hosts(make_inventory(tmp_path / "inventory", 2, 1)), "-vvv", "--diff").cut_at(CUT_AT, records)
    took = time.monotonic() - begun
    notes.add(
        f"site.yml killed at {len(CUT_AT)} moments in a row on 2 + 1 hosts, then converged: {took:.0f} s"
    )


@pytest.mark.skipif(not ALL, reason="for soak: every step of a provisioning, hours")
def test_the_whole_crash_table(tmp_path: Path, records: Path, notes: Notes) -> None:
    """The table is made from the run logs of a clean run; runs are cut off at each of its steps on each host."""
    hosts = Hosts(make_inventory(tmp_path / "inventory", *asked_for()))
    whole_table(course(hosts), records, notes)
