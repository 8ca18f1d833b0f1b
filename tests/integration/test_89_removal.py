"""Hosts are removed and replaced, alive, dead and gone; members of etcd are replaced.

Needs a whole cluster of three control planes and two workers, and leaves one. `make test` takes the inventory's first
control plane, alive and the leader of etcd; `make soak` (KUBEWRIGHT_ALL_FAULTS) takes everything.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hardlab import ETCDCTL, addresses, kubectl, raise_alarm, shell
from labtools import ROOT, VIP, Notes, Recap, kill, kill_in_step, playbook, run, start, wait_until
from probe import Probe

from lab.nodes import STATE

EVERYTHING = bool(os.environ.get("KUBEWRIGHT_ALL_FAULTS"))
soak = pytest.mark.skipif(not EVERYTHING, reason="takes long; make soak runs it")
CONTROL_PLANES = ["cp1", "cp2", "cp3"]
WORKERS = ["worker1", "worker2"]
NAMESPACE = "kubewright-removal"
KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"
NOT_CHANGED = "Nothing was changed"


@pytest.fixture
def turned(tmp_path: Path) -> Path:
    """The inventory in another order."""
    return inventory(tmp_path, ["cp3", "cp1", "cp2"], WORKERS)


def inventory(folder: Path, control_planes: list[str], workers: list[str]) -> Path:
    """Write an inventory of some of the hosts."""
    groups = {
        "control_plane": {"hosts": {name: {"ansible_host": addresses()[name]} for name in control_planes}},
        "workers": {"hosts": {name: {"ansible_host": addresses()[name]} for name in workers}},
    }
    path = folder / "-".join(["i", *control_planes, *workers])
    path.mkdir()
    (path / "hosts.yml").write_text(yaml.safe_dump(groups, sort_keys=False))
    shutil.copytree(ROOT / "inventories/lab/group_vars", path / "group_vars")
    return path


def remove(names: str, *options: str, where: Path | str = "inventories/lab", check: bool = True) -> Recap:
    """Run the playbook."""
    words = ["-e", f"remove_node={names}", "-e", f"lab_state={STATE}", *options]
    return playbook("remove_node", *words, inventory=str(where), check=check)


def cut_off(names: str, step: str) -> None:
    """Run the playbook and kill it as a step begins."""
    kill_in_step("remove_node", step, "-e", f"remove_node={names}", inventory="inventories/lab", after=0)


def site(where: Path | str = "inventories/lab", check: bool = True) -> Recap:
    """Let the hosts of the inventory join."""
    return playbook("site", "-e", f"lab_state={STATE}", inventory=str(where), check=check)


def verify() -> None:
    """See that the cluster is whole."""
    playbook("verify", inventory="inventories/lab")


def etcd(host: str, *words: str) -> str:
    """Run etcdctl on a control plane."""
    return shell(host, f"{ETCDCTL} {shlex.join(words)}")


def members(host: str) -> dict[str, str]:
    """Return the ids of the members, hexadecimal, by their names."""
    found = json.loads(etcd(host, "member", "list", "-w", "json"))["members"]
    return {one.get("name", ""): format(one["ID"], "x") for one in found}


def lead(host: str) -> None:
    """Give a member the leadership."""
    endpoints = ",".join(f"https://{addresses()[name]}:2379" for name in CONTROL_PLANES)
    shell(host, f"{ETCDCTL} --endpoints {endpoints} move-leader {members(host)[host]} || true")
    status = json.loads(etcd(host, "endpoint", "status", "-w", "json"))[0]["Status"]
    assert status["leader"] == status["header"]["member_id"]


def nodes(host: str) -> set[str]:
    """Return the names of the nodes."""
    return set(kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}", host=host).split())


def assert_gone(name: str, host: str) -> None:
    """See that neither the cluster nor the load balancer knows a host any more."""
    assert name not in nodes(host) and name not in members(host)
    if name in CONTROL_PLANES:
        assert f"server {name} " not in shell(host, "cat /etc/haproxy/haproxy.cfg")
        assert addresses()[name] not in shell(host, "cat /etc/keepalived/keepalived.conf")
    assert not json.loads(etcd(host, "alarm", "list", "-w", "json")).get("alarms")


def assert_clean(name: str) -> None:
    """See that nothing of Kubernetes runs or lies on a host."""
    left = (
        "/etc/kubernetes/*.conf /etc/kubernetes/manifests/* /var/lib/etcd/member /etc/cni/net.d/10-flannel.conflist "
        "/etc/haproxy/haproxy.cfg /etc/keepalived/keepalived.conf /sys/class/net/cni0 "
        "/var/lib/kubewright/kubeadm-began.json"
    )
    assert shell(name, f"ls -d {left} 2>/dev/null; crictl ps -q; true").strip() == ""


def wait_up(name: str) -> None:
    """Wait for a host whose power came back."""
    asked = "systemctl is-system-running --wait || true"
    wait_until(lambda: shell(name, asked).strip() in ("running", "degraded"), 90, f"{name} is up")


def make_anew(*names: str) -> None:
    """Take the disks away: the hosts are there again, with nothing on them."""
    run("python3", "-m", "lab", "remove", *names)
    run("python3", "-m", "lab", "up", "--inventory", "inventories/lab")


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def test_what_may_not_go_stays() -> None:
    """Refusals change nothing, and a look that got no answer is no empty cluster."""
    everybody = ",".join(CONTROL_PLANES)
    for names, why in (
        (everybody, "No control plane would be left"),
        (",".join(addresses()[name] for name in CONTROL_PLANES), "No control plane would be left"),
        # -e ends the names at the space.
        ("worker1, worker2", "without spaces"),
    ):
        refused = remove(names, check=False)
        assert why in refused.said, refused.said[-3000:]
        assert refused.total("changed") == 0 and refused.total("failed") > 0
    unknown = remove("nobody")
    assert "Nothing to do" in unknown.said and unknown.total("changed") == 0
    assert nodes("cp1") == {*CONTROL_PLANES, *WORKERS} and len(members("cp1")) == 3


def test_the_first_control_plane_goes_alive_and_comes_back(notes: Notes) -> None:
    """The inventory's first, which leads etcd. No request through the virtual IP may notice."""
    lead("cp1")
    checked = remove("cp1", "--check")
    assert "cp1 (control plane): taken out of the load balancers, drained" in checked.said
    assert nodes("cp2") == {*CONTROL_PLANES, *WORKERS} and "cp1" in members("cp2")
    with Probe(VIP) as probe:
        removed = remove("cp1")
    assert_gone("cp1", "cp2")
    assert_clean("cp1")
    again = remove("cp1")
    assert again.total("changed") == 0 and "Nothing to do" in again.said
    joined = site()
    assert len(members("cp1")) == 3
    verify()
    notes.add(
        f"removal of the first control plane, alive and the leader: {minutes(removed.seconds)}, again "
        f"{again.seconds:.0f} s, back by site.yml {minutes(joined.seconds)}; "
        f"{len(probe.failed)} of {len(probe.failed) + len(probe.answered)} requests failed meanwhile"
        f"{': ' if probe.failed else ''}{', '.join(why for _at, why in probe.failed)}"
    )
    # One that was under way on a connection of the API server that ended may fail.
    assert len(probe.failed) <= 3, probe.failed


@soak
def test_one_that_is_switched_off_goes_and_comes_back(notes: Notes, turned: Path) -> None:
    """Dead, in another order of the inventory; then its power comes back, with all that it was."""
    kill("cp2")
    try:
        removed = remove("cp2", where=turned)
        assert_gone("cp2", "cp1")
        again = remove("cp2", where=turned)
        assert again.total("changed") == 0
    finally:
        start("cp2")
    wait_up("cp2")
    refused = site(turned, check=False)
    assert "no node cp2: it was removed" in refused.said, refused.said[-3000:]
    assert "cp2" not in nodes("cp1") and len(members("cp1")) == 2
    remove("cp2", where=turned)
    assert_clean("cp2")
    joined = site(turned)
    verify()
    notes.add(
        f"removal of a control plane that is switched off: {minutes(removed.seconds)}, again {again.seconds:.0f} s; "
        f"it came back, was cleaned, and joined anew in {minutes(joined.seconds)}"
    )


@soak
def test_one_whose_disk_is_new_goes_and_comes_back(notes: Notes) -> None:
    """The host is there and empty; its member and its node are still known."""
    make_anew("cp3")
    removed = remove("cp3")
    assert_gone("cp3", "cp1")
    joined = site()
    verify()
    notes.add(
        f"removal of a control plane with a new disk: {minutes(removed.seconds)}, back {minutes(joined.seconds)}"
    )


@soak
def test_one_that_the_inventory_has_forgotten(notes: Notes, tmp_path: Path) -> None:
    """The first one is gone, and nobody describes it any more."""
    without = inventory(tmp_path, ["cp2", "cp3"], WORKERS)
    refused = remove("cp1", where=without, check=False)
    assert "the inventory does not have it" in refused.said and refused.total("changed") == 0
    kill("cp1")
    try:
        removed = remove(addresses()["cp1"], where=without)
        assert_gone("cp1", "cp2")
    finally:
        make_anew("cp1")
    joined = site()
    verify()
    notes.add(
        f"removal of a forgotten control plane by its address: {minutes(removed.seconds)}, "
        f"a new one {minutes(joined.seconds)}"
    )


@pytest.fixture
def held_back() -> Iterator[None]:
    """A pod on each worker that its budget never lets go."""
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    chosen = {"matchLabels": {"app": "held"}}
    pod = {
        "topologySpreadConstraints": [{**spread, "labelSelector": chosen}],
        "containers": [
            {"name": "c", "image": "registry.k8s.io/e2e-test-images/agnhost:2.63.0", "args": ["pause"]}
        ],
        "terminationGracePeriodSeconds": 0,
    }
    items = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "held", "namespace": NAMESPACE},
            "spec": {
                "replicas": 2,
                "selector": chosen,
                "template": {"metadata": {"labels": {"app": "held"}}, "spec": pod},
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "held", "namespace": NAMESPACE},
            "spec": {"maxUnavailable": 0, "selector": chosen},
        },
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    shell("cp1", f"echo {shlex.quote(text)} | {KUBECTL} apply -f -")
    try:
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/held", "--timeout=90s")
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--timeout=90s")


@soak
def test_a_worker_that_a_budget_holds_and_then_both(notes: Notes, held_back: None) -> None:
    """The run ends with the budget named; without the budget the next one goes on."""
    refused = remove("worker1", "-e", "kube_removal_drain_timeout=10", check=False)
    held = f"{NAMESPACE}/held allows 0 disruptions: 2 of 2 pods are healthy, 2 must be"
    assert held in refused.said, refused.said[-3000:]
    # That depends on whether other pods were there that could leave.
    cordoned = kubectl("get", "node", "worker1", "-o", "jsonpath={.spec.unschedulable}") == "true"
    assert ("The node stays cordoned" if cordoned else "The node takes pods again") in refused.said
    kubectl("-n", NAMESPACE, "delete", "pdb", "held")
    both = remove("worker1,worker2")
    assert nodes("cp1") == set(CONTROL_PLANES)
    for name in WORKERS:
        assert_clean(name)
    joined = site()
    verify()
    notes.add(f"removal of two workers: {minutes(both.seconds)}, back {minutes(joined.seconds)}")


@soak
@pytest.mark.parametrize("step", ["Clean the host", "Delete the data", "Delete the node", "Drain the node"])
def test_a_removal_that_was_cut_off_is_finished(step: str, notes: Notes) -> None:
    """CAPI 4365 and 4472: ended between the removal of the member and what follows, or before."""
    cut_off("cp2", step)
    removed = remove("cp2")
    assert_gone("cp2", "cp1")
    assert_clean("cp2")
    site()
    verify()
    notes.add(f"removal cut off in {step!r}: finished in {minutes(removed.seconds)}")


def replace(host: str, *options: str, check: bool = True) -> Recap:
    """Give a control plane a new member."""
    return playbook("replace_etcd_member", "-e", f"replace_etcd_member={host}", *options, check=check)


@soak
def test_a_member_that_lost_its_data_is_replaced(notes: Notes) -> None:
    """The first one, whose manifest would begin a cluster of its own with no data."""
    before = members("cp2")["cp1"]
    shell("cp1", "rm -rf /var/lib/etcd/member && pkill -9 -x etcd")
    wait_until(lambda: "cp1" not in healthy("cp2"), 60, "the member of cp1 is lost")
    checked = replace("cp1", "--check")
    assert members("cp2")["cp1"] == before and checked.total("failed") == 0
    done = replace("cp1")
    assert healthy("cp2") == set(CONTROL_PLANES) and members("cp2")["cp1"] != before
    assert replace("cp1").total("changed") == 0
    verify()
    notes.add(f"replacement of a member that lost its data: {minutes(done.seconds)}")


@soak
def test_a_member_with_the_alarm_corrupt_is_replaced(notes: Notes) -> None:
    """With this alarm no API server answers anything: the playbook needs none."""
    raise_alarm("cp1", members("cp1")["cp2"], "CORRUPT")
    assert "CORRUPT" in etcd("cp1", "alarm", "list")
    done = replace("cp2")
    assert not etcd("cp1", "alarm", "list").strip() and healthy("cp1") == set(CONTROL_PLANES)
    kept = shell("cp2", "ls -d /var/lib/etcd/before-replacement-*/member").split()
    assert len(kept) == 1
    verify()
    shell("cp1", "rm -rf /var/lib/etcd/before-replacement-*")
    shell("cp2", "rm -rf /var/lib/etcd/before-replacement-*")
    notes.add(f"replacement of a member with the alarm CORRUPT: {minutes(done.seconds)}")


def healthy(host: str) -> set[str]:
    """Return the names of the members that answer."""
    said = shell(host, f"{ETCDCTL} endpoint health --cluster -w json 2>/dev/null || true")
    names = {f"https://{addresses()[name]}:2379": name for name in CONTROL_PLANES}
    return {names[one["endpoint"]] for one in json.loads(said) if one["health"]}


@soak
def test_a_quorum_is_not_given_away(notes: Notes) -> None:
    """With one of three members dead, a living one stays; the arithmetic is shown."""
    kill("cp3")
    try:
        refused = remove("cp1", check=False)
        assert "of 2 voters 1 would be healthy, and 2 are needed" in refused.said
        assert refused.total("changed") == 0 and NOT_CHANGED in refused.said
    finally:
        start("cp3")
    begun = time.monotonic()
    wait_up("cp3")
    verify()
    notes.add(f"whole again {time.monotonic() - begun:.0f} s after the power came back")
