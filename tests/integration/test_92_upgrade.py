"""A whole cluster upgraded in the lab: refused, planned, carried out under a watch, repeated, cut off; then maintained.

Needs a whole cluster of three control planes and two workers at OLD, made by site.yml, and leaves one at NEW. The tests
follow each other. `make test` runs one upgrade, killed once; `make soak` (KUBEWRIGHT_ALL_FAULTS) does the rest.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from hardlab import ETCDCTL, addresses, control_planes, group, kubectl, members, shell
from labtools import INVENTORY, ROOT, Notes, kill_in_step, playbook
from nightwatch import Nightwatch
from upgradelab import (
    EVERYTHING,
    NEW,
    NEW_ETCD,
    OLD,
    balancer,
    cordoned,
    fingerprints,
    held_by_a_budget,
    images,
    soak,
    upgrade,
    versions,
)

from lab.nodes import STATE

AUDIT = "/var/log/kubernetes/audit/audit.log"
# Where runs are killed, five seconds into the task.
CUT_IN = ["Upgrade the control plane"]
if EVERYTHING:
    CUT_IN = [
        "Fetch the packages",
        "Let another member lead etcd",
        *CUT_IN,
        "Install the kubelet and kubectl",
    ]
# A dry run, and the questions who somebody is and what it may do, which are created as objects that nobody keeps.
STORES_NOTHING = re.compile(r"dryRun=All|/apis/auth(entication|orization)\.k8s\.io/")


def writes_since(host: str, begun: str) -> list[str]:
    """Return the requests in the audit log that changed something, by whom our tools are."""
    found = []
    for line in shell(host, f"cat {AUDIT}").splitlines():
        event = json.loads(line)
        ours = event.get("userAgent", "").startswith(("kubewright", "kubeadm", "kubectl"))
        changes = event["verb"] in ("create", "update", "patch", "delete")
        if (
            ours
            and changes
            and event["requestReceivedTimestamp"] > begun
            and not STORES_NOTHING.search(event["requestURI"])
        ):
            found.append(f"{event['verb']} {event['requestURI']}")
    return found


def test_the_lab_is_at_the_old_version() -> None:
    """Otherwise nothing below means anything."""
    assert set(versions().values()) == {f"v{OLD}"} and not cordoned()


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("1.38.0", "1.38"),
        ("1.36.2", "A cluster is not downgraded"),
        ("1.37.99", "has no kubeadm 1.37.99"),
        ("1.37", "1.37"),
    ],
)
def test_what_no_upgrade_leads_to_is_refused(version: str, why: str) -> None:
    """Before anything is touched, with the reason."""
    before = fingerprints()
    refused = upgrade(version=version, check=False)
    assert refused.total("failed") and refused.total("changed") == 0, refused.output[-3000:]
    assert why in refused.said and fingerprints() == before


def test_etcd_that_is_too_old_without_a_step_is_refused() -> None:
    """kubeadm 1.36.3 runs 3.6.8, and etcd's guide asks for 3.6.11 before 3.7."""
    refused = upgrade("-e", '{"kube_upgrade_etcd_steps": {}}', check=False)
    assert "etcd's guide asks for 3.6.11 at least" in refused.said and refused.total("changed") == 0


def test_check_mode_prints_the_plan_and_writes_nothing() -> None:
    """Neither on a host nor through the API, where dry runs of evictions are all that is seen."""
    before, begun = fingerprints(), time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    planned = upgrade("--check")
    text = planned.said
    assert f"Kubernetes {OLD} -> {NEW}" in text and planned.total("changed") > 0
    for part in (
        "kubeadm upgrade apply",
        "kubeadm upgrade node",
        "drain, kubelet, uncordon",
        "etcd to 3.6.16-0",
    ):
        assert part in text, text[-3000:]
    assert fingerprints() == before
    assert [one for host in control_planes() for one in writes_since(host, begun)] == []


def test_workers_come_after_the_control_planes() -> None:
    """A limit to workers is refused as long as these are not done."""
    refused = upgrade("--limit", group("workers")[0], check=False)
    assert "Run without --limit first" in refused.said and refused.total("changed") == 0


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """The inventory with settings in its group variables, which `serial` does not see by itself, and hooks."""
    folder = tmp_path / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text((ROOT / INVENTORY / "hosts.yml").read_text())
    text = (ROOT / INVENTORY / "group_vars/all.yml").read_text()
    hook = [
        {
            "name": "Note the turn",
            "ansible.builtin.lineinfile": {"path": "/root/turns", "line": "before", "create": True},
        }
    ]
    (tmp_path / "before.yml").write_text(yaml.safe_dump(hook))
    hook[0]["ansible.builtin.lineinfile"] = {"path": "/root/turns", "line": "after"}
    (tmp_path / "after.yml").write_text(yaml.safe_dump(hook))
    more = {
        "kube_rolling_batch": "100%",
        "kube_rolling_canary": 0,
        "kube_rolling_before": str(tmp_path / "before.yml"),
        "kube_rolling_after": str(tmp_path / "after.yml"),
    }
    (folder / "group_vars/all.yml").write_text(text + yaml.safe_dump(more))
    return folder


def test_a_cluster_is_upgraded_and_nobody_notices(notes: Notes, described: Path, tmp_path: Path) -> None:
    """Control planes one by one, both workers at once, as the group variables say; runs are killed on the way."""
    # Five hosts have this machine's processors between them, and would all look at themselves at the same time.
    slowly = ("--forks", "1")
    options = ("-e", f"kube_cluster_version={NEW}", "-e", f"lab_state={STATE}", *slowly)
    begun = time.monotonic()
    with Nightwatch(tmp_path, f"upgrade.yml {OLD} -> {NEW}") as watch:
        for step in CUT_IN:
            kill_in_step("upgrade", step, *options, inventory=str(described), after=5)
        done = upgrade(*slowly, where=described)
    notes.add(
        f"upgrade.yml {OLD} -> {NEW}, 3 + 2 hosts, under a watch: {time.monotonic() - begun:.0f} s, {len(CUT_IN)} runs "
        f"killed on the way, the last one {done.seconds:.0f} s; {watch.report.summary()}"
    )
    assert set(versions().values()) == {f"v{NEW}"} and not cordoned()
    for host in control_planes():
        tags = images(host)
        assert {tags[name] for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")} == {
            NEW
        }
        assert tags["etcd"] == NEW_ETCD
        servers = shell(host, "grep etcd-servers /etc/kubernetes/manifests/kube-apiserver.yaml")
        assert servers.strip().endswith("--etcd-servers=https://127.0.0.1:2379")
        backups = shell(host, "ls -d /etc/kubernetes/tmp/kubeadm-backup-etcd-* 2>/dev/null | wc -l")
        assert int(backups) <= 1
    for host in members():
        assert shell(host, "sort -u /root/turns").split() == ["after", "before"]
        assert shell(host, "apt-mark showhold").split() == ["kubeadm", "kubectl", "kubelet"]
    health = json.loads(shell(control_planes()[0], f"{ETCDCTL} endpoint health --cluster -w json"))
    assert all(one["health"] for one in health) and len(health) == len(control_planes())
    # Both workers in one batch.
    assert len(re.findall(r"PLAY \[Upgrade the workers", done.output)) == 1
    watch.check()


def test_a_second_run_changes_nothing(notes: Notes) -> None:
    """And takes seconds."""
    again = upgrade()
    assert again.total("changed") == 0 and "Nothing to do" in again.said
    assert upgrade("--check").total("changed") == 0
    notes.add(f"upgrade.yml again: {again.seconds:.0f} s")
    assert again.seconds < 15 * len(members())


def test_an_api_server_that_a_cut_off_run_has_left_out_is_put_back() -> None:
    """Also where nobody has a turn any more, as after a renewal that was killed when its certificates were new."""
    for host in control_planes():
        balancer(host, f"set server kubernetes_api/{control_planes()[0]} state drain")
    assert "DRAIN" in balancer(control_planes()[0], "show stat")
    playbook("renew_certificates", "-e", f"lab_state={STATE}")
    assert not any("DRAIN" in balancer(host, "show stat") for host in control_planes())


def test_site_yml_agrees_with_what_the_upgrade_left() -> None:
    """The settings are those of the inventory: nothing was dropped on the way (kubernetes/kubeadm 541, 3049)."""
    done = playbook(
        "site", "-e", f"kube_cluster_version={NEW}", "-e", f"lab_state={STATE}", inventory=INVENTORY
    )
    assert done.total("changed") == 0, done.output[-3000:]


def ends(host: str) -> dict[str, str]:
    """Return when the certificates of a control plane end."""
    files = "/etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt"
    script = f"for f in {files}; do echo $f $(openssl x509 -enddate -noout -in $f); done"
    return dict(line.split(" ", 1) for line in shell(host, script).splitlines())


def started(host: str) -> dict[str, str]:
    """Return the containers of the control plane by component."""
    found = {}
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        found[name] = shell(host, f"crictl ps --quiet --label io.kubernetes.container.name={name}").strip()
    return found


@soak
def test_certificates_are_renewed_and_processes_restarted(notes: Notes, tmp_path: Path) -> None:
    """One control plane at a time, nobody notices, and a second run has nothing to do."""
    before = {host: (ends(host), started(host)) for host in control_planes()}
    with Nightwatch(tmp_path, "renew_certificates.yml") as watch:
        done = playbook(
            "renew_certificates", "-e", "kube_certificates_renew_days=366", "-e", f"lab_state={STATE}"
        )
    notes.add(f"renew_certificates.yml: {done.seconds:.0f} s; {watch.report.summary()}")
    assert not done.total("failed"), done.output[-3000:]
    for host in control_planes():
        old, new = before[host][0], ends(host)
        same = {path for path in old if old[path] == new[path]}
        assert {Path(path).name for path in same} == {"ca.crt", "front-proxy-ca.crt"}, same
        now = started(host)
        assert all(now[name] and now[name] != before[host][1][name] for name in now)
    assert playbook("renew_certificates", "-e", f"lab_state={STATE}").total("changed") == 0
    watch.check()


@soak
def test_a_node_that_the_user_cordoned_stays_cordoned(notes: Notes, tmp_path: Path) -> None:
    """Maintenance takes every host its turn, and brings back only what it took out."""
    worker = group("workers")[0]
    tasks = tmp_path / "work.yml"
    tasks.write_text(
        yaml.safe_dump([{"name": "Work", "ansible.builtin.command": "true", "changed_when": False}])
    )
    options = ["-e", f"kube_maintenance_tasks={tasks}", "-e", "kube_maintenance_packages=none"]
    options += ["-e", "kube_maintenance_reboot=never", "-e", f"lab_state={STATE}"]
    kubectl("cordon", worker)
    try:
        done = playbook("maintain_nodes", *options, inventory=INVENTORY)
        assert cordoned() == [worker]
    finally:
        kubectl("uncordon", worker)
    notes.add(f"maintain_nodes.yml without packages: {done.seconds:.0f} s")


@soak
def test_a_host_that_fails_stays_cordoned_until_a_run_brings_it_back(tmp_path: Path) -> None:
    """Nobody after it begins; the next run gives it back, although nothing else is left to do on it."""
    first, second = group("workers")[:2]
    task = {
        "name": "Bring the firmware",
        "ansible.builtin.fail": {"msg": "There is none."},
        "when": f"inventory_hostname == '{first}'",
    }
    (tmp_path / "work.yml").write_text(yaml.safe_dump([task]))
    options = ["--limit", f"{first},{second}", "-e", "kube_maintenance_packages=none"]
    options += ["-e", "kube_maintenance_reboot=never", "-e", f"lab_state={STATE}"]
    tasks = ["-e", f"kube_maintenance_tasks={tmp_path / 'work.yml'}"]
    failed = playbook("maintain_nodes", *options, *tasks, inventory=INVENTORY, check=False)
    assert f"{first} failed. Bring the firmware: There is none." in failed.said, failed.output[-3000:]
    assert cordoned() == [first] and failed.hosts[second]["failed"] == 0
    playbook("maintain_nodes", *options, inventory=INVENTORY)
    assert cordoned() == []


@soak
def test_a_budget_that_never_lets_a_pod_go_is_named_before_the_first_host() -> None:
    """Nothing is touched; every host of it is named."""
    name = "kubewright-upgrade"
    with held_by_a_budget(name):
        options = ["-e", "kube_maintenance_reboot=always", "-e", f"lab_state={STATE}"]
        refused = playbook("maintain_nodes", *options, inventory=INVENTORY, check=False)
        assert "never lets" in refused.said and name in refused.said
        assert refused.total("changed") == 0 and not cordoned()


def test_the_cluster_is_whole_in_the_end() -> None:
    """As verify.yml sees it."""
    playbook("verify", "-e", f"kube_cluster_version={NEW}", "-e", f"lab_state={STATE}", inventory=INVENTORY)
    assert set(addresses()) >= set(members())
