"""A cluster that bench/plain.sh made and site.yml never saw: looked at, backed up, upgraded.

Most users run kubeadm already. Makes the hosts of the inventory anew, and leaves their cluster at NEW. The tests follow
each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hardlab import control_planes, kubectl, members, shell
from labtools import INVENTORY, ROOT, Notes, Recap, playbook, run

from bench import measure
from lab import nodes, recipes

OLD, NEW = recipes.lock()["kubernetes"][-2:]
# What the collection leaves on hosts, and what a plan has to leave alone.
OURS = "/opt/kubewright /etc/kubewright /var/lib/kubewright /usr/local/lib/kubewright /usr/local/sbin/kubewright-backup"
OURS += " /etc/kubernetes/kubewright /etc/kubernetes/patches /var/backups/kubewright"
FILES = "/etc/kubernetes /etc/apt /usr/local/bin /var/lib/dpkg/status /var/lib/kubelet/config.yaml"
FINGERPRINT = f"find {FILES} -type f -printf '%p %s %T@\\n' 2>/dev/null | sort | sha256sum"
TOOLS = ("etcdctl", "etcdutl")


def play(name: str, *options: str, version: str = OLD["version"], check: bool = True) -> Recap:
    """Run a playbook with the settings of the cluster; the pods have the range of the measurements."""
    words = ["-e", f"kube_cluster_version={version}", "-e", f"lab_state={nodes.STATE}", *measure.PODS]
    return playbook(name, *words, *options, check=check)


@pytest.fixture(scope="module", autouse=True)
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The cluster."""
    site = measure.Site.read((ROOT / INVENTORY).resolve()).at(OLD["version"])
    measure.fresh(site, site.hosts)
    measure.plain(site, tmp_path_factory.mktemp("plain"))
    yield


def test_site_yml_never_saw_it() -> None:
    """Otherwise nothing below means anything."""
    assert {
        host: shell(host, f"ls -d {OURS} 2>/dev/null", check=False) for host in members()
    } == dict.fromkeys(members(), "")


def test_it_is_looked_at_and_used() -> None:
    """verify.yml finds nothing wrong."""
    assert play("verify").total("failed") == 0


def test_without_the_tools_of_etcd_it_is_said_how_they_come() -> None:
    """kubeadm leaves them in its image. What the documentation says brings them; elsewhere they stay as files."""
    *others, last = control_planes()
    for host in control_planes():
        shell(host, f"mkdir /root/tools; cd /usr/local/bin; mv {' '.join(TOOLS)} /root/tools")
    try:
        for refused in (
            play("verify", "-e", "verify_wait=3", check=False),
            play("upgrade", "--check", version=NEW["version"], check=False),
        ):
            assert refused.total("failed") and refused.total("changed") == 0
            assert "as docs/upgrade.md shows" in refused.said, refused.output[-3000:]
        options = {
            "name": "etcd",
            "version": OLD["etcd"],
            "image": f"registry.k8s.io/etcd:{OLD['etcd']}",
            "files": {f"/usr/local/bin/{tool}": tool for tool in TOOLS},
        }
        tool = nodes.ansible_tool("ansible")
        run(
            tool,
            "-i",
            INVENTORY,
            last,
            "-b",
            "-m",
            "kubewright.cluster.image_files",
            "-a",
            json.dumps(options),
        )
    finally:
        for host in others:
            shell(host, "mv /root/tools/* /usr/local/bin")


def test_it_is_backed_up_and_not_restored_while_it_works() -> None:
    """A backup holds what no host can make again."""
    assert "Saved " in play("backup", "-e", '{"etcd_backup_timer": false}').said
    refused = play("restore", "--check", check=False)
    assert refused.total("failed") and refused.total("changed") == 0
    assert "Nothing was changed" in refused.said, refused.output[-3000:]


def test_the_plan_of_its_upgrade_changes_nothing() -> None:
    """And has all the steps."""
    before = {host: shell(host, FINGERPRINT) for host in members()}
    said = play("upgrade", "--check", version=NEW["version"]).said
    for part in ("kubeadm upgrade apply", "kubeadm upgrade node", "drain, kubelet, uncordon"):
        assert part in said, said[-3000:]
    assert {host: shell(host, FINGERPRINT) for host in members()} == before


def test_it_is_upgraded(notes: Notes) -> None:
    """The administrator's own tools of etcd stay beside those of the new one."""
    done = play("upgrade", version=NEW["version"])
    notes.add(f"adopted: upgrade.yml of a cluster of plain.sh: {done.seconds:.0f} s")
    items = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    assert {one["status"]["nodeInfo"]["kubeletVersion"] for one in items} == {f"v{NEW['version']}"}
    assert not any(one["spec"].get("unschedulable") for one in items)
    *others, _last = control_planes()
    for host in control_planes():
        for tool in TOOLS:
            leads = shell(host, f"readlink /usr/local/bin/{tool}").strip()
            assert leads == f"/opt/kubewright/etcd/{NEW['etcd']}/{tool}"
            kept = shell(host, f"/usr/local/bin/{tool}.replaced version", check=False)
            assert (OLD["etcd"].rpartition("-")[0] in kept) == (host in others), f"{host}: {kept}"
    for host in members():
        assert shell(host, "apt-mark showhold").split() == ["kubeadm", "kubectl", "kubelet"]


def test_afterwards_it_is_a_cluster_like_any_other() -> None:
    """A second run has nothing to do; verify.yml and backup.yml pass in the new version."""
    again = play("upgrade", version=NEW["version"])
    assert again.total("changed") == 0 and "Nothing to do" in again.said
    assert play("verify", version=NEW["version"]).total("failed") == 0
    backup = play("backup", "-e", '{"etcd_backup_timer": false}', version=NEW["version"])
    assert "Saved " in backup.said
