"""An etcd of its own, in the lab: built, left alone, damaged, upgraded under a writer, grown, shrunk, renewed.

The tests follow each other on one cluster. `make soak` (KUBEWRIGHT_ALL_FAULTS) runs those that are long too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from etcdwriter import PREFIX as WRITTEN
from etcdwriter import EtcdWriter
from labtools import ROOT, Notes, Recap, kill, playbook, run, start, wait_until

from lab import nodes

INVENTORY = "extensions/molecule/inventories/external"
MEMBERS = {"etcd1": "10.198.0.41", "etcd2": "10.198.0.42", "etcd3": "10.198.0.43"}
# A host that takes a dead one's place, and one that makes the cluster grow.
SPARES = {"etcd4": "10.198.0.44"}
CONTROL_PLANES = {"cp1": "10.198.0.11", "cp2": "10.198.0.12"}
ALL = [*MEMBERS, *SPARES, *CONTROL_PLANES, "worker1"]
OTHERS = ["cp3", "worker2", "lb1"]
PKI = "/etc/etcd/pki"
ETCDCTL = (
    f"etcdctl --cacert {PKI}/ca.crt --cert {PKI}/healthcheck-client.crt --key {PKI}/healthcheck-client.key "
    "--endpoints "
)
SOAK = pytest.mark.skipif(not os.environ.get("KUBEWRIGHT_ALL_FAULTS"), reason="runs in `make soak`")
FINGERPRINT = "find /etc /usr /opt /var/lib -xdev -type f -printf '%p %s %T@\\n' | sort | sha256sum"


@pytest.fixture(scope="module", autouse=True)
def lab_state() -> Iterator[None]:
    """Let copies of the inventory find the lab's keys, and leave no host of this file behind."""
    os.environ["KUBEWRIGHT_LAB_STATE"] = str(nodes.STATE)
    yield
    if not os.environ.get("KUBEWRIGHT_KEEP"):
        run("python3", "-m", "lab", "remove", *ALL)


class Inventory:
    """The inventory of these tests, with what a test makes of it."""

    def __init__(self, folder: Path) -> None:
        self.content: dict[str, Any] = yaml.safe_load((ROOT / INVENTORY / "hosts.yml").read_text())
        self._folder = folder / "external"
        self._folder.mkdir()
        (self._folder / "group_vars").symlink_to(ROOT / "inventories/lab/group_vars")

    @property
    def etcd(self) -> dict[str, dict[str, Any]]:
        """The hosts of etcd."""
        hosts: dict[str, dict[str, Any]] = self.content["etcd"]["hosts"]
        return hosts

    def run(self, name: str, *options: str, check: bool = True) -> Recap:
        """Run a playbook with it as it is now."""
        (self._folder / "hosts.yml").write_text(yaml.safe_dump(self.content))
        done = playbook(name, *options, inventory=str(self._folder), check=check)
        assert not check or not done.total("failed"), done.output[-4000:]
        return done

    def up(self) -> None:
        """Start the hosts that it has and that do not run."""
        (self._folder / "hosts.yml").write_text(yaml.safe_dump(self.content))
        run("python3", "-m", "lab", "up", "--inventory", str(self._folder))


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    """One inventory for all tests, because they change it as a person would."""
    made = Inventory(tmp_path_factory.mktemp("inventory"))
    if os.environ.get("KUBEWRIGHT_KEEP"):
        # Somebody works on one of these tests, on a cluster that may be there.
        with suppress(AssertionError, ValueError):
            made.content["all"]["vars"]["etcd_cluster_version"] = versions().pop()
    return made


def on(host: str, script: str, check: bool = True) -> str:
    """Run a script as root on a host, past SSH."""
    return run("podman", "exec", f"{nodes.PREFIX}{host}", "sh", "-c", script, check=check).strip()


def kubectl(*words: str, host: str = "cp1", check: bool = True) -> str:
    """Run kubectl on a control plane, against its own API server."""
    config = [
        "--kubeconfig",
        "/etc/kubernetes/admin.conf",
        "--server",
        f"https://{CONTROL_PLANES[host]}:6443",
    ]
    return run("podman", "exec", f"{nodes.PREFIX}{host}", "kubectl", *config, *words, check=check)


def etcdctl(words: str, host: str = "etcd1", check: bool = True) -> str:
    """Run etcdctl on a host of etcd against its own member."""
    return on(host, f"{ETCDCTL} https://127.0.0.1:2379 {words}", check=check)


def members(host: str = "etcd1") -> list[dict[str, Any]]:
    """Return the list of members."""
    return list(json.loads(etcdctl("member list -w json", host))["members"])


def names(host: str = "etcd1") -> list[str]:
    """Return the names of the members that vote."""
    return sorted(one.get("name", "") for one in members(host) if not one.get("isLearner"))


def statuses(host: str = "etcd1") -> list[dict[str, Any]]:
    """Return what every member says of itself."""
    return [one["Status"] for one in json.loads(etcdctl("endpoint status --cluster -w json", host))]


def versions(host: str = "etcd1") -> set[str]:
    """Return the versions that run."""
    return {one["version"] for one in statuses(host)}


def pids(hosts: Any = MEMBERS) -> dict[str, str]:
    """Return the process of each member."""
    return {host: on(host, "systemctl show -p MainPID --value etcd") for host in hosts}


def hold(folder: Path, hosts: Any = MEMBERS) -> EtcdWriter:
    """Return a writer with a client's certificate of the first host."""
    for name in ("ca.crt", "healthcheck-client.crt", "healthcheck-client.key"):
        path = folder / name
        path.touch(0o600)
        path.write_text(on("etcd1", f"cat {PKI}/{name}") + "\n")
    return EtcdWriter(
        [f"https://{ {**MEMBERS, **SPARES}[host] }:2379" for host in hosts],
        folder / "ca.crt",
        folder / "healthcheck-client.crt",
        folder / "healthcheck-client.key",
    )


def under_a_writer(folder: Path, work: Callable[[], Recap], notes: Notes, what: str) -> Recap:
    """Do something while a writer writes, and hold what etcd has against what it wrote."""
    etcdctl(f"del --prefix {WRITTEN}")
    with hold(folder) as writer:
        wait_until(lambda: len(writer.written) > 100, 30, "the writer works")
        done = work()
    notes.add(f"{what}: {done.seconds:.0f} s; {writer.summary}")
    writer.check(json.loads(etcdctl(f"get --prefix {WRITTEN} -w json")))
    return done


def serves(host: str = "cp1") -> bool:
    """Tell whether an API server reads and writes."""
    kubectl("get", "--raw", "/readyz", host=host)
    kubectl("create", "configmap", "probe", "-n", "default", host=host, check=False)
    return "configmap" in kubectl("delete", "configmap", "probe", "-n", "default", host=host)


def test_check_mode_on_empty_hosts(inventory: Inventory) -> None:
    """It ends well, announces etcd, and touches nothing."""
    run("python3", "-m", "lab", "remove", *ALL, *OTHERS)
    inventory.up()
    before = {host: on(host, FINGERPRINT) for host in MEMBERS}
    checked = inventory.run("site", "--check")
    assert all(checked.hosts[host]["changed"] > 0 for host in MEMBERS)
    assert {host: on(host, FINGERPRINT) for host in MEMBERS} == before


def test_it_is_built(inventory: Inventory, notes: Notes) -> None:
    """Three members, two control planes that are clients, nobody else is; the cluster works."""
    built = inventory.run("site")
    notes.add(f"site.yml with an etcd of its own, 3 + 2 + 1 hosts: {built.seconds:.0f} s")
    assert names() == sorted(MEMBERS) and versions() == {"3.5.35"}
    inventory.run("verify")
    for host in MEMBERS:
        assert on(host, "stat -c '%a %U' /var/lib/etcd /etc/etcd/pki/server.key") == "700 etcd\n600 etcd"
        assert "existing" in on(host, "cat /etc/etcd/initial.env")
    # The authority's key is on one host, readable by root only, and nobody's key is on two hosts.
    holders = [
        host
        for host in [*MEMBERS, *CONTROL_PLANES]
        if on(host, f"ls {PKI}/ca.key", check=False).startswith("/")
    ]
    assert len(holders) == 1 and on(holders[0], f"stat -c '%a %U' {PKI}/ca.key") == "600 root"
    keys = [on(host, f"cat {PKI}/*.key | sha256sum; sha256sum < {PKI}/server.key") for host in MEMBERS]
    pairs = [on(host, "sha256sum < /etc/kubernetes/pki/apiserver-etcd-client.key") for host in CONTROL_PLANES]
    assert len(set(keys)) == len(MEMBERS) and len(set(pairs)) == len(CONTROL_PLANES)
    for host in CONTROL_PLANES:
        assert on(host, "ls /etc/kubernetes/manifests").split() == [
            "kube-apiserver.yaml",
            "kube-controller-manager.yaml",
            "kube-scheduler.yaml",
        ]
        arguments = on(host, "grep etcd- /etc/kubernetes/manifests/kube-apiserver.yaml")
        assert ",".join(f"https://{address}:2379" for address in MEMBERS.values()) in arguments


def test_a_second_run_changes_nothing(inventory: Inventory, notes: Notes) -> None:
    """Neither does check mode, and no member is restarted."""
    before = pids()
    again = inventory.run("site")
    assert again.total("changed") == 0, again.output[-3000:]
    assert inventory.run("site", "--check").total("changed") == 0
    assert pids() == before
    notes.add(f"site.yml again: {again.seconds:.0f} s")


def test_nobody_without_a_certificate_gets_in() -> None:
    """Neither a client nor a peer; metrics are where they were asked for, on loopback only."""
    bare = f"etcdctl --cacert {PKI}/ca.crt --command-timeout 3s --endpoints https://{MEMBERS['etcd1']}:2379 get x"
    assert on("etcd1", f"{bare} && echo in", check=False).endswith("in") is False
    # A certificate of another authority, such as that of the kubelet on a worker, is none.
    stranger = (
        f"openssl s_client -connect {MEMBERS['etcd1']}:2380 -cert "
        "/var/lib/kubelet/pki/kubelet-client-current.pem "
        "-key /var/lib/kubelet/pki/kubelet-client-current.pem </dev/null 2>&1; true"
    )
    assert "alert" in on("worker1", f"{{ sleep 1; echo; }} | {stranger.replace('</dev/null', '')}")
    metrics = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:2381/metrics').read().decode())"
    assert "etcd_server_has_leader 1" in on("etcd1", f'python3 -c "{metrics}"')


@pytest.mark.parametrize("host", list(MEMBERS) if os.environ.get("KUBEWRIGHT_ALL_FAULTS") else ["etcd1"])
def test_a_killed_host_stops_nobody(inventory: Inventory, host: str) -> None:
    """Every API server goes on, a run tells the truth, and the host comes back by itself."""
    kill(host)
    try:
        for control_plane in CONTROL_PLANES:
            wait_until(lambda name=control_plane: serves(name), 20, f"the API server of {control_plane}")
        if host == "etcd1":
            refused = inventory.run("upgrade_etcd", "-e", "etcd_cluster_version=3.6.16", check=False)
            assert refused.total("changed") == 0 and "is not a healthy voter" in refused.output
    finally:
        start(host)
        other = next(name for name in MEMBERS if name != host)
        wait_until(
            lambda: "unhealthy" not in etcdctl("endpoint health --cluster", other, check=False),
            60,
            "it is back",
        )


def test_a_changed_address_is_refused(inventory: Inventory) -> None:
    """Before anything is changed: it would cut the member off."""
    inventory.etcd["etcd2"]["kube_cluster_host_address"] = "10.198.0.49"
    try:
        refused = inventory.run("site", check=False)
    finally:
        del inventory.etcd["etcd2"]["kube_cluster_host_address"]
    assert refused.total("failed") and refused.total("changed") == 0, refused.output[-3000:]
    assert "it would be cut off" in refused.said


def upgrade(inventory: Inventory, folder: Path, notes: Notes, version: str) -> None:
    """Raise the version; check mode, the run under the writer, and a second run."""
    inventory.content["all"]["vars"]["etcd_cluster_version"] = version
    before, old, ids = pids(), versions(), {one["ID"] for one in members()}
    planned = inventory.run("upgrade_etcd", "--check")
    assert planned.total("changed") > 0 and pids() == before and versions() == old
    # site.yml leaves what runs alone.
    leader = next(one["leader"] for one in statuses())
    was_leader = next(one["name"] for one in members() if one["ID"] == leader)
    done = under_a_writer(
        folder, lambda: inventory.run("upgrade_etcd"), notes, f"upgrade_etcd.yml to {version}"
    )
    # Nobody is gone, and nobody has come back from the dead (etcd 20793, 20967).
    assert versions() == {version} and {one["ID"] for one in members()} == ids
    turns = re.findall(r"TASK \[.*Run the member by its settings\] \*+\s+changed: \[(\w+)\]", done.output)
    assert sorted(turns) == sorted(MEMBERS) and turns[-1] == was_leader, done.output[-3000:]
    assert on("etcd2", "etcdctl version | head -1").endswith(version)
    again = inventory.run("upgrade_etcd")
    assert again.total("changed") == 0
    notes.add(f"upgrade_etcd.yml again: {again.seconds:.0f} s")
    wait_until(serves, 20, "the API server")


def test_an_upgrade_that_etcd_does_not_support_is_refused(inventory: Inventory) -> None:
    """Two minors at once, back, and an unknown one: nothing is changed."""
    for version, why in (
        ("3.7.3", "one minor at a time"),
        ("3.5.34", "not downgraded"),
        ("3.8.0", "are supported"),
    ):
        refused = inventory.run("upgrade_etcd", "-e", f"etcd_cluster_version={version}", check=False)
        assert refused.total("changed") == 0 and refused.total("failed"), refused.output[-3000:]
        assert why in refused.said


def test_the_next_minor_under_a_writer(inventory: Inventory, tmp_path: Path, notes: Notes) -> None:
    """3.5 to 3.6 with a hundred writes a second: none fails after one retry, none is lost."""
    upgrade(inventory, tmp_path, notes, "3.6.16")


@SOAK
def test_one_more_minor_under_a_writer(inventory: Inventory, tmp_path: Path, notes: Notes) -> None:
    """3.6 to 3.7 in the same way."""
    upgrade(inventory, tmp_path, notes, "3.7.3")


@SOAK
def test_settings_move_under_a_writer(inventory: Inventory, tmp_path: Path, notes: Notes) -> None:
    """One member after the other, and a setting that does not work costs nothing."""
    inventory.content["all"]["vars"]["etcd_cluster_heartbeat_interval"] = 150
    moved = under_a_writer(tmp_path, lambda: inventory.run("site"), notes, "site.yml moves a setting of etcd")
    assert all("--heartbeat-interval=150" in on(host, "ps -C etcd -o args=") for host in MEMBERS)
    assert moved.total("changed") == len(MEMBERS)
    before = pids()
    inventory.content["all"]["vars"]["etcd_cluster_extra_args"] = {"no-such-flag": 1}
    try:
        broken = inventory.run("site", check=False)
    finally:
        del inventory.content["all"]["vars"]["etcd_cluster_extra_args"]
    assert "no-such-flag" in broken.output and "runs as before" in broken.said
    # One member was tried, and is back.
    assert len(set(before.items()) & set(pids().items())) == len(MEMBERS) - 1 and len(names()) == 3
    assert inventory.run("site").total("changed") == 0


def test_a_member_without_its_data_comes_back(inventory: Inventory, tmp_path: Path, notes: Notes) -> None:
    """Its old self is removed first, it catches up as a learner, and then votes; the writer notices nothing."""
    old = {one["name"]: one["ID"] for one in members()}
    on("etcd3", "systemctl stop etcd; rm -rf /var/lib/etcd/member")
    done = under_a_writer(
        tmp_path, lambda: inventory.run("site"), notes, "a member without its data replaced"
    )
    now = {one["name"]: one["ID"] for one in members()}
    assert sorted(now) == sorted(MEMBERS) and now["etcd3"] != old["etcd3"] and now["etcd1"] == old["etcd1"]
    assert done.hosts["cp1"]["changed"] == done.hosts["etcd1"]["changed"] == 0
    assert inventory.run("site").total("changed") == 0


@SOAK
def test_a_dead_member_is_replaced_by_another_host(inventory: Inventory, notes: Notes) -> None:
    """The host is gone for good; one of another name and address says whom it replaces. The API servers "
    "follow."""
    lost = next(host for host in MEMBERS if "ca.key" not in on(host, f"ls {PKI}"))
    reader = next(host for host in MEMBERS if host != lost)
    run("python3", "-m", "lab", "remove", lost)
    kept = inventory.etcd.pop(lost)
    inventory.etcd["etcd4"] = {"ansible_host": SPARES["etcd4"]}
    inventory.up()
    refused = inventory.run("site", check=False)
    assert refused.total("failed") and "etcd_cluster_replaces" in refused.output, refused.output[-3000:]
    inventory.etcd["etcd4"]["etcd_cluster_replaces"] = f"https://{MEMBERS[lost]}:2380"
    done = inventory.run("site")
    notes.add(f"a dead member replaced by another host: {done.seconds:.0f} s")
    assert names(reader) == sorted({*MEMBERS, "etcd4"} - {lost})
    for host in CONTROL_PLANES:
        manifest = on(host, "cat /etc/kubernetes/manifests/kube-apiserver.yaml")
        assert SPARES["etcd4"] in manifest and f"{MEMBERS[lost]}:2379" not in manifest
    assert inventory.run("site").total("changed") == 0
    inventory.run("verify")
    # And back to the hosts of before, which is growing to four and shrinking to three.
    inventory.etcd[lost] = kept
    inventory.up()
    grown = inventory.run("site")
    assert names(reader) == sorted({*MEMBERS, "etcd4"})
    notes.add(f"one member more: {grown.seconds:.0f} s")


@SOAK
def test_a_living_member_is_removed(inventory: Inventory, notes: Notes) -> None:
    """The leader too: its leadership goes first, it is gone from the list, and its host keeps no "
    "certificate."""
    if "etcd4" not in inventory.etcd:
        inventory.etcd["etcd4"] = {"ansible_host": SPARES["etcd4"]}
        inventory.up()
        inventory.run("site")
    mine = next(one["ID"] for one in members() if one["name"] == "etcd4")
    etcdctl(
        f"move-leader {mine:x} --endpoints " + ",".join(f"https://{one}:2379" for one in MEMBERS.values()),
        check=False,
    )
    checked = inventory.run("remove_etcd_host", "-e", "remove_etcd_host=etcd4", "--check")
    assert checked.total("changed") and len(names()) == 4
    done = inventory.run("remove_etcd_host", "-e", "remove_etcd_host=etcd4")
    assert names() == sorted(MEMBERS)
    assert on("etcd4", "systemctl is-active etcd; ls /etc/etcd /var/lib/etcd/member", check=False).startswith(
        "inactive"
    )
    assert "removed-" in on("etcd4", "ls /var/lib/etcd")
    assert inventory.run("remove_etcd_host", "-e", "remove_etcd_host=etcd4").total("changed") <= 1
    del inventory.etcd["etcd4"]
    inventory.run("site")
    assert inventory.run("site").total("changed") == 0
    notes.add(f"a living member removed: {done.seconds:.0f} s")


@SOAK
def test_the_key_of_the_authority_moves_when_its_host_leaves(inventory: Inventory) -> None:
    """It is on one host before and after, and certificates can be renewed all the same."""
    holder = next(host for host in MEMBERS if "ca.key" in on(host, f"ls {PKI}"))
    reader = next(host for host in MEMBERS if host != holder)
    key = on(holder, f"sha256sum < {PKI}/ca.key")
    inventory.run("remove_etcd_host", "-e", f"remove_etcd_host={holder}")
    found = [host for host in MEMBERS if on(host, f"ls {PKI}/ca.key", check=False).startswith("/")]
    assert len(found) == 1 and found != [holder] and on(found[0], f"sha256sum < {PKI}/ca.key") == key
    on(holder, "rm -rf /var/lib/etcd/removed-*")
    inventory.run("site")
    assert names(reader) == sorted(MEMBERS) and inventory.run("site").total("changed") == 0


@SOAK
def test_certificates_are_renewed_without_a_restart(
    inventory: Inventory, tmp_path: Path, notes: Notes
) -> None:
    """Members and control planes, under a writer: every certificate is another one, every process the same."""
    certificates = f"cat {PKI}/server.crt {PKI}/peer.crt {PKI}/healthcheck-client.crt | sha256sum"
    clients = "sha256sum < /etc/kubernetes/pki/apiserver-etcd-client.crt"
    before = {host: on(host, certificates) for host in MEMBERS} | {
        host: on(host, clients) for host in CONTROL_PLANES
    }
    running = pids()
    soon = ["-e", "etcd_cluster_renew_days=366"]
    under_a_writer(tmp_path, lambda: inventory.run("site", *soon), notes, "all certificates of etcd renewed")
    after = {host: on(host, certificates) for host in MEMBERS} | {
        host: on(host, clients) for host in CONTROL_PLANES
    }
    assert not set(before.items()) & set(after.items()) and pids() == running
    # What is served is what lies there.
    for host, address in MEMBERS.items():
        served = on(
            host,
            f"openssl s_client -connect {address}:2379 </dev/null 2>/dev/null | openssl x509 -noout -serial",
        )
        assert served == on(host, f"openssl x509 -in {PKI}/server.crt -noout -serial")
    inventory.run("verify")
    assert inventory.run("site").total("changed") == 0


@SOAK
def test_a_lost_key_of_the_authority_is_told(inventory: Inventory) -> None:
    """What is valid goes on; what has to be signed cannot be, and the message says what to bring."""
    holder = next(host for host in MEMBERS if "ca.key" in on(host, f"ls {PKI}"))
    on(holder, f"mv {PKI}/ca.key /root/ca.key.kept")
    try:
        assert inventory.run("site").total("changed") == 0
        on("etcd2", f"mv {PKI}/healthcheck-client.crt /root/kept.crt")
        refused = inventory.run("site", check=False)
        assert refused.total("failed") and "ca.key and ca.crt from a backup" in refused.said
    finally:
        on(holder, f"mv /root/ca.key.kept {PKI}/ca.key")
    inventory.run("site")
    assert inventory.run("site").total("changed") == 0


@SOAK
def test_an_open_restore_keeps_site_away(inventory: Inventory) -> None:
    """Before anything is changed, and whatever member runs."""
    plan = "/var/lib/kubewright/restore/plan.json"
    on("etcd2", f'mkdir -p {os.path.dirname(plan)} && echo \'{{"stage": "restoring"}}\' > {plan}')
    try:
        refused = inventory.run("site", check=False)
    finally:
        on("etcd2", f"rm {plan}")
    assert refused.total("failed") and refused.total("changed") == 0, refused.output[-3000:]
    assert "run the playbook restore.yml again" in refused.said


@SOAK
def test_a_member_is_removed_by_its_id(inventory: Inventory) -> None:
    """Its host is found all the same: etcd is taken off it."""
    leaving = next(host for host in MEMBERS if "ca.key" not in on(host, f"ls {PKI}"))
    reader = next(host for host in MEMBERS if host != leaving)
    mine = next(one["ID"] for one in members(reader) if one["name"] == leaving)
    inventory.run("remove_etcd_host", "-e", f"remove_etcd_host={mine:x}")
    assert leaving not in names(reader)
    assert on(leaving, "systemctl is-active etcd; ls /etc/etcd", check=False).startswith("inactive")
    on(leaving, "rm -rf /var/lib/etcd/removed-*")
    inventory.run("site")
    assert names(reader) == sorted(MEMBERS)


@pytest.fixture(scope="module")
def kept(inventory: Inventory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a cluster with an object and a Secret in it, on the controller."""
    kubectl("create", "configmap", "kept", "-n", "default", "--from-literal=a=b", check=False)
    kubectl("create", "secret", "generic", "kept", "-n", "default", "--from-literal=a=b", check=False)
    folder = tmp_path_factory.mktemp("backup")
    inventory.run("backup", "-e", f"etcd_backup_fetch_to={folder}", "-e", "etcd_backup_timer=false")
    (found,) = folder.rglob("*.tar")
    return found


def is_back() -> None:
    """See that the cluster serves, and reads what it stored, encrypted or not."""
    wait_until(serves, 120, "the API server")
    assert kubectl("get", "configmap", "kept", "-n", "default", "-o", "jsonpath={.data.a}") == "b"
    assert kubectl("get", "secret", "kept", "-n", "default", "-o", "jsonpath={.data.a}") == "Yg=="


@SOAK
def test_data_lost_on_all_hosts_begins_no_empty_cluster(inventory: Inventory, kept: Path) -> None:
    """Under a Kubernetes that had something, an empty etcd would be its end."""
    assert kept.exists()
    for host in MEMBERS:
        on(host, "systemctl stop etcd; rm -rf /var/lib/etcd/member")
    refused = inventory.run("site", check=False)
    assert refused.total("failed") and refused.total("changed") == 0
    assert "restore.yml" in refused.output
    for host in MEMBERS:
        on(
            host,
            "systemctl disable etcd; rm -rf /etc/etcd /etc/systemd/system/etcd.service; systemctl daemon-reload",
        )
    refused = inventory.run("site", check=False)
    assert refused.total("failed") and "An empty etcd would be" in refused.said


@SOAK
def test_etcd_is_built_anew_for_a_restore_when_all_its_hosts_are_lost(
    inventory: Inventory, kept: Path, notes: Notes
) -> None:
    """With another authority; no API server sees it empty, and no pod of a worker is ended."""
    pods = "crictl ps --quiet | sort"
    before = on("worker1", pods)
    built = inventory.run("site", "-e", "etcd_cluster_accept_empty=true", check=False)
    assert "This is as far as site.yml goes" in built.said, built.output[-3000:]
    assert names() == sorted(MEMBERS) and etcdctl("get '' --prefix --keys-only") == ""
    authority = on("etcd1", f"sha256sum < {PKI}/ca.crt")
    for host in CONTROL_PLANES:
        assert not on(host, "crictl ps --quiet --name kube-apiserver")
        assert on(host, "sha256sum < /etc/kubernetes/pki/etcd/ca.crt") == authority
        pki = "/etc/kubernetes/pki"
        on(host, f"openssl verify -CAfile {pki}/etcd/ca.crt {pki}/apiserver-etcd-client.crt")
    assert on("worker1", pods) == before
    done = inventory.run("restore", "-e", "etcd_restore_rewind=true", "-e", f"etcd_restore_from={kept}")
    notes.add(f"all hosts of etcd lost: {built.seconds:.0f} s to build, {done.seconds:.0f} s to restore")
    is_back()
    inventory.run("site")
    assert inventory.run("site").total("changed") == 0
    inventory.run("verify")


@SOAK
def test_lost_control_planes_do_not_begin_anew_over_the_data(
    inventory: Inventory, kept: Path, notes: Notes
) -> None:
    """They are refused before any file of theirs is made, and come back with what the backup holds. The last test."""
    inventory.run("reset", "-e", "reset_cluster=lab", "--limit", "control_plane")
    refused = inventory.run("site", check=False)
    assert refused.total("failed") and "etcd_cluster_accept_registry=true" in refused.output
    # Nor with the promise of a backup that is not there.
    refused = inventory.run("site", "-e", "etcd_cluster_accept_registry=true", check=False)
    assert refused.total("failed") and "put /etc/kubernetes/pki" in refused.said
    assert not on("cp1", "ls /etc/kubernetes/pki /etc/kubernetes/kubewright 2>/dev/null", check=False)
    # Any of them will do. The backup has the authority that etcd had before the test above.
    run("podman", "cp", str(kept), f"{nodes.PREFIX}cp2:/root/kept.tar")
    parts = "files/etc/kubernetes/pki files/etc/kubernetes/kubewright"
    on("cp2", f"tar -xf /root/kept.tar -C / --strip-components=1 {parts}")
    done = inventory.run("site", "-e", "etcd_cluster_accept_registry=true")
    notes.add(f"all control planes lost, etcd alive: {done.seconds:.0f} s")
    is_back()
    assert inventory.run("site").total("changed") == 0
    inventory.run("verify")
