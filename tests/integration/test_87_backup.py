"""Backups of the lab's cluster: on demand, by the timers, copied over SSH, fetched, in check mode and a second time.

Needs a whole cluster of the lab, and takes away what it brought. `make soak` (KUBEWRIGHT_ALL_FAULTS) takes everything.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hardlab import CONFIG, INVENTORY, addresses, control_planes, group, shell
from labtools import Recap, playbook, run, wait_until

from lab import nodes

ALL = bool(os.environ.get("KUBEWRIGHT_ALL_FAULTS"))
soak = pytest.mark.skipif(not ALL, reason="takes long; make soak runs it")
AWAY = "/srv/kubewright test"
METRICS = "/var/lib/kubewright-test"
FOLDER = "/var/backups/kubewright"


class Site:
    """The variables that the operator sets, and what lies where."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "vars.json"
        self.here = folder / "fetched"
        self.target = group("workers")[0]
        listing = json.loads(run(nodes.ansible_tool("ansible-inventory"), "-i", INVENTORY, "--list"))
        self.name = listing["_meta"]["hostvars"][control_planes()[0]]["kube_cluster_name"]

    def backup(self, *options: str, check: bool = True, **changes: Any) -> Recap:
        """Run the playbook as an operator does."""
        key = shell(self.target, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
        variables = {
            # Nobody saves but this run.
            "etcd_backup_timer": False,
            "etcd_backup_fetch_to": str(self.here),
            "etcd_backup_textfile_folder": METRICS,
            "etcd_backup_copy_to": [
                {"host": addresses()[self.target], "folder": AWAY, "host_keys": [" ".join(key)], "keep": 2}
            ],
            **changes,
        }
        self.file.write_text(json.dumps(variables))
        told = playbook("backup", "-e", f"@{self.file}", *options, check=check)
        print(told.output)
        return told

    def lying(self) -> dict[str, list[str]]:
        """The backups on every control plane."""
        return {host: self.names(host, FOLDER) for host in control_planes()}

    def names(self, host: str, folder: str) -> list[str]:
        """The backups in a folder of a host."""
        there = shell(host, f"ls -1A '{folder}' 2>/dev/null || true").split()
        return [name for name in there if not name.endswith(".json")]


def reset() -> None:
    """Take away what the tests brought."""
    for host in control_planes():
        shell(
            host,
            "systemctl disable --now kubewright-backup.timer 2>/dev/null; systemctl stop kubewright-backup.service; "
            f"rm -rf {FOLDER} {METRICS} /var/lib/kubewright/backup.json /etc/kubewright/backup* "
            "/etc/systemd/system/kubewright-backup.* /usr/local/sbin/kubewright-backup "
            "/var/lib/systemd/timers/stamp-kubewright-backup.timer "
            "/usr/local/lib/kubewright/ansible_collections; systemctl daemon-reload; "
            f"mkdir -p {METRICS}; etcdctl --cacert /etc/kubernetes/pki/etcd/ca.crt "
            "--cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key "
            "del --prefix /kubewright.cluster/ >/dev/null",
            check=False,
        )
    for host in group("workers"):
        shell(
            host,
            f"rm -rf '{AWAY}'; sed -i /kubewright-backup/d /root/.ssh/authorized_keys || true",
            check=False,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster that never had a backup."""
    reset()
    yield Site(tmp_path_factory.mktemp("site"))
    reset()
    for host in control_planes():
        shell(host, f"rm -rf {METRICS}")


def test_check_mode_comes_before_everything(site: Site) -> None:
    told = site.backup("--check", "--diff")
    assert "A run would install the program first" in told.said
    assert told.total("failed") == 0
    assert not site.here.exists()
    assert all(not names for names in site.lying().values())
    assert shell(control_planes()[0], "ls /usr/local/sbin/kubewright-backup", check=False).startswith("ls: ")


def test_a_copy_that_is_not_let_in_costs_no_backup(site: Site) -> None:
    told = site.backup(check=False)
    assert "The backup is there, but not every copy of it" in told.said
    assert "public key of this host" in told.said
    [saved] = [name for names in site.lying().values() for name in names]
    assert sorted(one.name for one in site.here.iterdir()) == [saved, f"{saved}.json"]


def test_saved_on_demand_copied_and_fetched(site: Site) -> None:
    keys = [
        shell(host, "ssh-keygen -y -f /etc/kubewright/backup_ed25519").strip() for host in control_planes()
    ]
    shell(
        site.target,
        "mkdir -p -m 700 /root/.ssh; cat >> /root/.ssh/authorized_keys <<'END'\n" + "\n".join(keys) + "\nEND",
    )
    before = {name for names in site.lying().values() for name in names}
    told = site.backup()
    assert f"Copied to root@{addresses()[site.target]}" in told.said
    # One saves and fetches; nothing else changes in a second run.
    assert sorted(counts["changed"] for counts in told.hosts.values()) == [0] * (
        len(control_planes()) - 1
    ) + [2]
    [name] = {name for names in site.lying().values() for name in names} - before
    here = site.here / name
    record = json.loads(Path(f"{here}.json").read_text())
    assert hashlib.sha256(here.read_bytes()).hexdigest() == record["sha256"]
    assert here.stat().st_mode & 0o777 == 0o600
    assert shell(site.target, f"sha256sum '{AWAY}/{name}'").split()[0] == record["sha256"]
    assert record["names"][-1] == "snapshot.db"
    for path in (
        "/etc/kubernetes/pki/ca.key",
        "/etc/kubernetes/pki/sa.key",
        "/etc/kubernetes/pki/etcd/ca.crt",
        CONFIG,
    ):
        assert f"files{path}" in record["names"]
    assert "documents/kubeadm-config.json" in record["names"]
    saver = next(host for host, names in site.lying().items() if name in names)
    key = subprocess.run(
        ["tar", "-xOf", str(here), "files/etc/kubernetes/pki/ca.key"], capture_output=True, check=True
    ).stdout
    assert key.decode() == shell(saver, "cat /etc/kubernetes/pki/ca.key")
    # No key of the cluster is in what the run said, nor in the journal.
    body = "".join(key.decode().split("\n")[1:3])
    assert body[:60] not in told.said
    assert body[:60] not in shell(saver, "journalctl --no-pager | tail -n 3000")
    assert f'kubewright_backup_copy_success{{cluster="{site.name}"' in shell(
        saver, f"cat {METRICS}/kubewright_backup.prom"
    )


def test_check_mode_says_who_would_save(site: Site) -> None:
    before = site.lying()
    told = site.backup("--check")
    assert "would save revision" in told.said
    assert "Newest backup: " in told.said
    assert (told.total("changed"), told.total("failed")) == (0, 0)
    assert site.lying() == before


def test_the_timers_save_one_in_a_slot(site: Site) -> None:
    """Slots of a minute, so that the timers themselves are seen at work and not only their service."""
    before = {name for names in site.lying().values() for name in names}
    begun = int(time.time())
    site.backup(etcd_backup_timer=True, etcd_backup_every_minutes=1)
    by_hand = {name for names in site.lying().values() for name in names} - before

    def by_timers() -> set[str]:
        return {name for names in site.lying().values() for name in names} - before - by_hand

    wait_until(
        lambda: len(by_timers()) > 0 and len(ran(begun)) == len(control_planes()),
        200,
        "the timers of all hosts",
    )
    slots = [name.rsplit("-", 1)[1][:13] for name in by_timers()]
    assert len(slots) == len(set(slots)), slots
    for host in control_planes():
        assert "kubewright_backup_last_run_success{" in shell(host, f"cat {METRICS}/kubewright_backup.prom")
        assert shell(host, "systemctl is-failed kubewright-backup.service", check=False).strip() != "failed"
        assert shell(host, "kubewright-backup check").startswith("The newest backup is ")


def ran(since: int) -> list[str]:
    """The control planes whose timers have fired."""
    read = f"journalctl --no-pager --unit kubewright-backup.service --since @{since} --output cat"
    said = {host: shell(host, read) for host in control_planes()}
    return [host for host, text in said.items() if "Saved " in text or "backup of this slot" in text]


@soak
def test_the_timer_goes_when_it_is_not_wanted(site: Site) -> None:
    told = site.backup()
    assert told.total("failed") == 0
    for host in control_planes():
        assert shell(host, "systemctl is-active kubewright-backup.timer", check=False).strip() == "inactive"
        assert shell(host, "ls /etc/systemd/system/kubewright-backup.timer", check=False).startswith("ls: ")


@soak
def test_one_control_plane_is_enough(site: Site) -> None:
    """One that does not answer, and that is the first of the inventory, is left out."""
    first = control_planes()[0]
    # With the sessions that Ansible keeps open.
    shell(first, "systemctl kill --kill-whom=all --signal=KILL ssh.service; systemctl stop ssh.service")
    try:
        told = site.backup()
        assert "Saved " in told.said
        assert f"Saved {first}:" not in told.said
    finally:
        shell(first, "systemctl start ssh.service")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"etcd_backup_folder": "backups"}, "no absolute path"),
        ({"etcd_backup_encrypt_to": "jane@example.org"}, "neither an age recipient"),
        ({"etcd_backup_every_minutes": 7}, "has to divide an hour"),
        (
            {"etcd_backup_copy_to": [{"host": "h", "folder": "here", "host_keys": ["x"]}]},
            "an absolute folder",
        ),
    ][:: 1 if ALL else 4],
)
def test_what_cannot_be_meant_is_refused(site: Site, change: dict[str, Any], says: str) -> None:
    told = site.backup(check=False, **change)
    assert says in told.said
    assert told.total("changed") == 0
