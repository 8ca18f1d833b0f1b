"""A cluster whose etcd has hosts of its own comes back: from what survived, and from a backup with another key.

Run with KUBEWRIGHT_INVENTORY=extensions/molecule/inventories/external, by `make soak` only. A cluster that stands is
used; otherwise it is made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hardlab import CONFIG, INVENTORY, control_planes, group, keys, kubectl, shell
from labtools import Notes, kill, playbook, run, start, wait_until

from lab import nodes

pytestmark = pytest.mark.skipif(
    not (os.environ.get("KUBEWRIGHT_ALL_FAULTS") and "external" in INVENTORY),
    reason="in the soak, with an etcd of its own",
)
NAMESPACE = "kubewright-restore"
COUNT = 10
BUMP = 1_000_000_000


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """The cluster, with some objects that are known."""
    os.environ["KUBEWRIGHT_LAB_STATE"] = str(nodes.STATE)
    run("python3", "-m", "lab", "up", "--inventory", INVENTORY)
    playbook("site", inventory=INVENTORY)
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    kubectl("create", "namespace", NAMESPACE)
    for number in range(COUNT):
        kubectl("-n", NAMESPACE, "create", "configmap", f"k{number}", f"--from-literal=n={number}")
        kubectl("-n", NAMESPACE, "create", "secret", "generic", f"k{number}", f"--from-literal=n={number}")
    yield
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


def names(kind: str, host: str = "") -> set[str]:
    """Return the objects of a kind that an API server has."""
    listed = kubectl("-n", NAMESPACE, "get", kind, "-o", "name", host=host).split()
    return {one.rpartition("/")[2] for one in listed} - {"kube-root-ca.crt"}


def revision() -> int:
    """Return the revision of the cluster."""
    listed = json.loads(kubectl("get", "--raw", "/api/v1/namespaces?limit=1"))
    return int(listed["metadata"]["resourceVersion"])


def check(before: int) -> None:
    """Every API server has what was there, and the cluster is whole."""
    expected = {f"k{number}" for number in range(COUNT)}
    for host in control_planes():
        assert names("secrets", host) == names("configmaps", host) == expected
    assert revision() > before + BUMP
    playbook("verify", inventory=INVENTORY)
    assert playbook("site", inventory=INVENTORY).total("failed") == 0


def test_two_of_three_lost_their_data(notes: Notes) -> None:
    """The third has it; its hosts keep their certificates, so that all three are members again."""
    before = revision()
    survivor, *lost = group("etcd")
    for host in lost:
        shell(host, "systemctl stop etcd; rm -rf /var/lib/etcd/member")
    wait_until(
        lambda: "ok" not in kubectl("get", "--raw", "/readyz/etcd", "--request-timeout=3s", check=False),
        60,
        "the quorum is lost",
    )
    planned = playbook("restore", "--check", inventory=INVENTORY)
    assert planned.total("changed") == 0 and planned.total("failed") == 0 and survivor in planned.output
    done = playbook("restore", inventory=INVENTORY)
    check(before)
    for host in group("etcd"):
        assert shell(host, "stat -c %U /var/lib/etcd/member/snap/db").strip() == "etcd"
        assert shell(host, "systemctl is-enabled etcd").strip() == "enabled"
    notes.add(f"two of three hosts of etcd lost their data, restored from the third: {done.seconds:.0f} s")


def test_back_to_a_backup_with_another_key(tmp_path: Path, notes: Notes) -> None:
    """The key was rotated since: the one of that time comes back to the control planes, which have no backup."""
    words = [f"etcd_backup_fetch_to={tmp_path}", "etcd_backup_timer=false"]
    playbook("backup", *(f"-e{word}" for word in words), inventory=INVENTORY)
    kept = max(tmp_path.glob("**/*.tar"))
    host = control_planes()[0]
    encrypts = "there" in shell(host, f"test -e {CONFIG} && echo there", check=False)
    old = keys(host).order if encrypts else []
    if encrypts:
        name = next(one for one in old if one != "identity")
        playbook("rotate_encryption_key", "-e", f"rotate_encryption_key={name}", inventory=INVENTORY)
        assert name not in keys(host).order
    kubectl("-n", NAMESPACE, "delete", "secret", "k1")
    kubectl("-n", NAMESPACE, "create", "configmap", "later")
    before = revision()
    options = ["-e", "etcd_restore_rewind=true", "-e", f"etcd_restore_from={kept}"]
    done = playbook("restore", *options, inventory=INVENTORY)
    check(before)
    if encrypts:
        assert all(keys(one).order == old for one in control_planes())
    with_keys = "with its keys" if encrypts else "without keys"
    notes.add(f"an etcd of its own taken back to a backup {with_keys}: {done.seconds:.0f} s")


def test_an_api_server_that_is_not_reached() -> None:
    """It would go on with what it remembers: nothing is touched."""
    host = control_planes()[-1]
    kill(host)
    try:
        refused = playbook("restore", "-e", "etcd_restore_rewind=true", inventory=INVENTORY, check=False)
        assert refused.total("changed") == 0 and refused.total("failed")
        assert "API server that goes on" in refused.said
    finally:
        start(host)
