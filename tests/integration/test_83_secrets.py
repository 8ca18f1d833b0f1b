"""No secret of a cluster is in the output, the diffs, the journals, the run logs or the process list.

Runs on the hosts that test_82_crash provisioned, whose output is searched too.
"""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import pytest
from crash import Hosts, Playbook, make_inventory
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from labtools import OUTPUT, Notes
from secrets_found import ProcessList, bootstrap_tokens, certificate_keys, leaks, opens, private_keys

ETCDCTL = (
    "etcdctl --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt "
    "--key=/etc/kubernetes/pki/etcd/server.key --endpoints=https://127.0.0.1:2379"
)
KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"


def test_the_search_finds_what_is_there() -> None:
    """A secret in a text is found, as it is and in base64, and its report does not repeat it."""
    needles = {"token": "0123456789abcdef"}
    (plain,) = leaks(needles, {"output": "join --token abcdef.0123456789abcdef --now"})
    assert plain.startswith("token in output") and "0123456789abcdef" not in plain
    assert leaks(needles, {"output": base64.b64encode(b"0123456789abcdef").decode()})
    assert not leaks(needles, {"output": "nothing"})
    key = os.urandom(32)
    stored = bytes(12) + AESGCM(key).encrypt(bytes(12), b"a private key", None)
    assert opens(key.hex(), stored) and not opens("0f" * 32, stored)


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    """Return the hosts of test_82_crash with cp2 and worker1 taken out of the cluster."""
    found = Hosts(make_inventory(tmp_path / "inventory", 2, 1))
    leaving = ("cp2", "worker1")
    members = json.loads(found.shell("cp1", f"{ETCDCTL} member list -w json"))["members"]
    member = next(one for one in members if one["name"] == "cp2")
    found.shell("cp1", f"{ETCDCTL} member remove {member['ID']:x}")
    # Through cp1's own API server: the one of cp2 has lost its etcd.
    server = f"--server=https://{found.addresses['cp1']}:6443"
    found.shell("cp1", f"{KUBECTL} {server} delete node {' '.join(leaving)}")
    reset = Playbook(
        found,
        tmp_path / "reset",
        "reset",
        ("--limit", ",".join(leaving), "-e", "reset_cluster=lab", "-e", "reset_accept_member_loss=true"),
    )
    reset.end()
    assert reset.code == 0, reset.tail()
    return found


def test_no_secret_is_shown(hosts: Hosts, tmp_path: Path, notes: Notes) -> None:
    """A control plane and a worker join with -vvv --diff, and the run is repeated: the real values are nowhere."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with ProcessList() as processes:
        joined = Playbook(hosts, tmp_path / "join", options=("-vvv", "--diff"))
        joined.end()
        assert joined.code == 0, joined.tail()
        needles = {**bootstrap_tokens(hosts), **private_keys(hosts)}
        again = Playbook(hosts, tmp_path / "again", options=("-vvv", "--diff"))
        again.end()
    assert again.code == 0, again.tail()

    places = {f"output of {run.folder.name}": run.output.read_text() for run in (joined, again)}
    places["process list"] = "\n".join(processes.seen)
    for host in hosts.names:
        places[f"journal of {host}"] = hosts.shell(host, "journalctl --no-pager --output=cat")
        for log in sorted(hosts.path(host, "/var/log/kubewright").iterdir()):
            places[f"{log.name} of {host}"] = log.read_text()
    for log in (OUTPUT / "crash").glob("*/*/output.txt"):
        places[f"output {log.parent.name} of the interrupted runs"] = log.read_text()

    # A search that looks in the wrong place finds nothing either.
    assert "kubeadm join" in places["process list"] and "kubelet" in places["journal of cp2"], since
    assert '"kubeadm", "join"' in places["steps.log of worker1"]
    assert "TASK [kubewright.cluster.kube_worker : Join this host]" in places["output of join"]
    for name in (
        "token ",
        "ca.key",
        "sa.key",
        "admin.conf client-key-data",
        "front-proxy-ca.key",
        "etcd/ca.key",
    ):
        assert any(name in needle for needle in needles), f"no value of {name} to search for"

    found = leaks(needles, places)
    found += [
        f"certificate key in {place}" for place, text in places.items() if certificate_keys(hosts, text)
    ]
    notes.add(f"secrets: {len(needles)} values searched for in {sum(map(len, places.values())) >> 20} MiB")
    assert not found, "\n".join(found)
