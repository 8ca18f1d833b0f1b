"""What goes wrong around an upgrade: refused before anything is touched, or stopped with the rest of the cluster well.

Needs a whole cluster of three control planes and two workers at OLD, made by site.yml, and leaves one at NEW. The tests
follow each other: what is refused leaves the cluster as it was, and a run that is stopped in a turn is gone on with by
that of the next test. test_92_upgrade has the versions that nothing leads to, and runs that are killed.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hardlab import ETCDCTL, control_planes, group, kubectl, members, raise_alarm, shell
from labtools import INVENTORY, Notes, Recap, filtered, nodes_ready, playbook, run, wait_until
from upgradelab import (
    KUBECTL,
    NEW,
    NEW_ETCD,
    OLD,
    RUNS_BY,
    cordoned,
    fingerprints,
    held_by_a_budget,
    images,
    soak,
    trouble,
    upgrade,
    versions,
)

from lab.nodes import PREFIX, STATE

pytestmark = soak

NAME = "kubewright-upgrade-fault"
PKI = "/etc/kubernetes/pki"
# What a module holds while it works on a host.
LOCK = "/var/lib/kubewright/settings"


def wait_whole() -> None:
    """Wait until the cluster is as healthy as an upgrade asks for."""
    wait_until(lambda: not trouble(control_planes()[0]), 300, "the cluster is whole")


def refused(*options: str) -> Recap:
    """Run the upgrade, which must refuse, and prove that nothing was touched."""
    before = fingerprints()
    done = upgrade(*options, check=False)
    assert done.total("failed") and done.total("changed") == 0, done.output[-4000:]
    assert "Nothing was changed." in done.said, done.output[-4000:]
    assert fingerprints() == before and not cordoned()
    return done


def failed_task(done: Recap, host: str) -> str:
    """Return the name of the task that ended the run on a host."""
    told = done.output.partition(f"fatal: [{host}")[0]
    return str(re.findall(r"^TASK \[(?:\S+ : )?(.*?)\]", told, re.M)[-1])


def apply(document: dict[str, Any]) -> None:
    """Apply an object."""
    shell(control_planes()[0], f"echo {shlex.quote(json.dumps(document))} | {KUBECTL} apply -f -")


def test_the_lab_is_at_the_old_version() -> None:
    """Otherwise nothing below means anything."""
    assert set(versions().values()) == {f"v{OLD}"} and not cordoned()
    wait_whole()


# Refused before the first host


@contextmanager
def held(host: str) -> Iterator[None]:
    """Keep the lock of a host, as the module of a run does whose controller was ended."""
    note = "/run/kubewright-test-holder"
    script = f"mkdir -p {LOCK}; flock {LOCK} sh -c 'echo $$ >{note}; exec sleep 900'"
    holder = subprocess.Popen(["podman", "exec", f"{PREFIX}{host}", "sh", "-c", script])
    try:
        wait_until(lambda: shell(host, f"cat {note}").strip().isdigit(), 20, "the lock is held")
        yield
    finally:
        shell(host, f"kill $(cat {note}); rm -f {note}", check=False)
        holder.wait(30)


def test_a_lock_that_another_run_holds_is_waited_for_and_then_named() -> None:
    """The run before may still be at work on a host, although its controller is gone."""
    with held(control_planes()[1]):
        done = refused("-e", "kube_rolling_gate_timeout=10")
        assert "Gave up waiting for the run before to be done with this host after 10 seconds" in done.said
        assert "Another process moves this host to its settings" in done.said


def lease(age: int) -> dict[str, Any]:
    """Return the lock of a run on another controller, renewed some seconds ago."""
    renewed = datetime.now(UTC) - timedelta(seconds=age)
    about = {
        "name": "kubewright",
        "namespace": "kube-system",
        "annotations": {"kubewright.cluster/run": "else/1/2/3"},
    }
    spec = {
        "holderIdentity": "somebody@elsewhere",
        "leaseDurationSeconds": 600,
        "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": about, "spec": spec}


def test_another_run_is_kept_away_until_its_lock_ends() -> None:
    """Nothing is touched, unless somebody says that the other run is over."""
    apply(lease(30))
    try:
        before = fingerprints()
        stopped = upgrade(check=False)
        assert "Another run works on this cluster: somebody@elsewhere" in stopped.said, stopped.output[-4000:]
        assert stopped.total("changed") == 0 and fingerprints() == before
        for name, *options in (
            ("site", "-e", f"kube_cluster_version={OLD}"),
            ("remove_node", "-e", f"remove_node={group('workers')[0]}"),
            ("rotate_encryption_key",),
        ):
            other = playbook(name, *options, "-e", f"lab_state={STATE}", inventory=INVENTORY, check=False)
            assert "somebody@elsewhere" in other.said and other.total("changed") == 0, other.output[-4000:]
        assert (
            f"Kubernetes {OLD} -> {NEW}" in upgrade("--check", "-e", "kube_rolling_take_over_lock=true").said
        )
        apply(lease(700))
        assert f"Kubernetes {OLD} -> {NEW}" in upgrade("--check").said
    finally:
        kubectl("-n", "kube-system", "delete", "lease", "kubewright")


@contextmanager
def ending(host: str, end: str) -> Iterator[str]:
    """Let a certificate of a control plane, 300 days old, end at a time; yield its path."""
    name, kept = f"{PKI}/front-proxy-client", "/run/kubewright-test.crt"
    path = f"{name}.crt"
    stamp = "date -u +%Y%m%d%H%M%SZ -d"
    # By the same authority, for the same key.
    sign = (
        f"echo extendedKeyUsage=clientAuth >{kept}.ext && openssl x509 -x509toreq -in {kept} -signkey {name}.key | "
        f"openssl x509 -req -CA {PKI}/front-proxy-ca.crt -CAkey {PKI}/front-proxy-ca.key -set_serial 2 "
        f"-extfile {kept}.ext -not_before $({stamp} '-300 days') -not_after $({stamp} '{end}') -out {path}"
    )
    shell(host, f"cp -p {path} {kept}")
    try:
        shell(host, sign)
        yield path
    finally:
        shell(host, f"cp -p {kept} {path}; rm {kept}*")


@pytest.mark.parametrize(
    ("end", "options", "what"),
    [
        ("3 days", ["-e", "kube_upgrade_renew_certificates=false"], "A certificate expires soon"),
        ("-1 day", [], "A certificate has expired"),
    ],
)
def test_a_certificate_that_ends_is_named(end: str, options: list[str], what: str) -> None:
    """One that ends soon only where kubeadm may not renew it on its way; one that has ended in any case."""
    host = control_planes()[1]
    with ending(host, end) as path:
        assert f"{what} ({host}: {path})" in refused(*options).said


@contextmanager
def crowded(host: str, folder: str) -> Iterator[None]:
    """Let a folder of a host lie on a small disk."""
    disk = "/run/kubewright-test-disk"
    script = (
        f"mkdir {disk} && mount -t tmpfs -o size=512m tmpfs {disk} && cp -a {folder}/. {disk} && "
        f"mount --bind {disk} {folder}"
    )
    shell(host, script)
    try:
        yield
    finally:
        shell(host, f"umount -l {folder}; umount -l {disk}; rmdir {disk}", check=False)


def test_a_disk_without_room_is_named() -> None:
    """kubernetes/kubernetes 125357: kubeadm copies the data of etcd below /etc/kubernetes."""
    host = control_planes()[1]
    with crowded(host, "/etc/kubernetes"):
        said = refused().said
        assert f"There is too little room for the upgrade ({host}: /etc/kubernetes)" in said


def test_an_alarm_of_etcd_is_named() -> None:
    """With this one etcd takes no writes, so nothing could end well."""
    first, host = control_planes()[:2]
    found = json.loads(shell(first, f"{ETCDCTL} member list -w json"))["members"]
    [member] = [format(one["ID"], "x") for one in found if one["name"] == host]
    raise_alarm(first, member, "NOSPACE")
    try:
        assert f"An etcd member has raised the alarm NOSPACE ({host})" in refused().said
    finally:
        shell(first, f"{ETCDCTL} alarm disarm")
        wait_whole()


def test_an_unhealthy_member_is_named() -> None:
    """#1432, #2682: one that is frozen has an address and does not answer."""
    host = control_planes()[1]
    shell(host, "pkill -STOP -x etcd")
    try:
        assert f"An etcd member is not healthy ({host})" in refused().said
    finally:
        shell(host, "pkill -CONT -x etcd", check=False)
        wait_whole()


def test_a_budget_that_can_never_be_met_is_named() -> None:
    """kubectl 172: a drain would wait for it for ever."""
    with held_by_a_budget(NAME):
        said = refused().said
        assert f"the PodDisruptionBudget default/{NAME} never lets default/{NAME}" in said


def test_a_webhook_that_refuses_evictions_is_named() -> None:
    """One whose service is gone: the API server asks it for every eviction, also for a rehearsed one."""
    service = {"namespace": "default", "name": f"{NAME}-nowhere", "path": "/"}
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods/eviction"],
    }
    webhook = {
        "name": "evictions.kubewright.test",
        "clientConfig": {"service": service},
        "rules": [rule],
        "failurePolicy": "Fail",
        # A rehearsal asks only webhooks that say so.
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    kind = "ValidatingWebhookConfiguration"
    about = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": NAME}}
    apply({**about, "webhooks": [webhook]})
    try:
        said = refused().said
        assert "the eviction of kube-system/coredns-" in said and "evictions.kubewright.test" in said, said[
            -3000:
        ]
    finally:
        kubectl("delete", kind.lower(), NAME)


@contextmanager
def corefile(more: str) -> Iterator[None]:
    """Add a line to what CoreDNS runs by. It keeps what it has where it cannot read it."""
    name = ("-n", "kube-system", "configmap", "coredns")
    kept = json.loads(kubectl("get", *name, "-o", "json"))["data"]["Corefile"]

    def write(text: str) -> None:
        kubectl("patch", *name, "--type=merge", "-p", json.dumps({"data": {"Corefile": text}}))

    write(kept.replace("{\n", f"{{\n    {more}\n", 1))
    try:
        yield
    finally:
        write(kept)


def test_a_corefile_that_kubeadm_cannot_migrate_is_named() -> None:
    """#2371, #2830: kubeadm knows the plug-ins of its CoreDNS, and says so in the rehearsal."""
    with corefile("kubewright_no_such_plugin"):
        said = refused().said
        assert "refuses the upgrade" in said and "kubewright_no_such_plugin" in said, said[-3000:]


@contextmanager
def kubelet_stopped(host: str) -> Iterator[None]:
    """Let a node be not ready."""
    shell(host, "systemctl stop kubelet")
    try:
        wait_until(lambda: host not in nodes_ready(), 120, f"{host} is not ready")
        yield
    finally:
        shell(host, "systemctl start kubelet")
        wait_whole()


def test_a_node_that_is_not_ready_is_named_or_left_out() -> None:
    """The plan without it is one for everybody else."""
    worker, other = group("workers")[:2]
    with kubelet_stopped(worker):
        assert f"A node is not ready ({worker})" in refused().said
        before = fingerprints()
        planned = upgrade("--check", "-e", "kube_upgrade_accept_not_ready_workers=true").said
        assert f"{other}: drain, kubelet, uncordon" in planned and "Note: A node is not ready" in planned
        assert f"{worker}: drain" not in planned
        assert fingerprints() == before


# Stopped before the first host's turn


@pytest.mark.parametrize(
    ("port", "tasks"),
    [
        ("80", ["Trust the key of the package repository", "Fetch the package list", "Fetch the packages"]),
        ("5000", ["Pull the images"]),
    ],
    ids=["packages", "images"],
)
def test_a_host_that_gets_no_packages_or_images_stops_all(port: str, tasks: list[str]) -> None:
    """Although the others could go on: what one of them lacks is known before anybody has begun."""
    worker = group("workers")[1]
    before = fingerprints(RUNS_BY)
    rule = ["-p", "tcp", "--dport", port, "-j", "REJECT", "--reject-with", "tcp-reset"]
    with filtered(worker, *rule, chain="OUTPUT"):
        stopped = upgrade(check=False)
    assert stopped.hosts[worker]["failed"] == 1, stopped.output[-4000:]
    assert failed_task(stopped, worker) in tasks, stopped.output[-4000:]
    assert "PLAY [Move etcd" not in stopped.output and "PLAY [Upgrade the" not in stopped.output
    # The repository of the new minor and what was fetched are all that is new.
    assert fingerprints(RUNS_BY) == before and not cordoned()
    wait_whole()


# Stopped in a turn, and finished by the run of the next test


def configuration() -> str:
    """Return the ClusterConfiguration that kubeadm goes by."""
    found = json.loads(kubectl("-n", "kube-system", "get", "configmap", "kubeadm-config", "-o", "json"))
    return str(found["data"]["ClusterConfiguration"])


def configure(text: str) -> None:
    """Write the ClusterConfiguration, as an operator's `kubectl edit` does."""
    patch = json.dumps({"data": {"ClusterConfiguration": text}})
    kubectl("-n", "kube-system", "patch", "configmap", "kubeadm-config", "--type=merge", "-p", patch)


@pytest.mark.parametrize(
    ("part", "component"),
    [(("etcd", "local"), "etcd"), (("apiServer",), "kube-apiserver")],
    ids=["etcd", "api"],
)
def test_a_component_that_does_not_come_back_gets_its_old_manifest(
    part: Sequence[str], component: str
) -> None:
    """#2927, #740, #850, #3240: with an argument that it does not know, in what kubeadm writes manifests from."""
    before = configuration()
    broken = yaml.safe_load(before)
    about = broken
    for name in part:
        about = about.setdefault(name, {})
    about["extraArgs"] = [*(about.get("extraArgs") or []), {"name": "kubewright-no-such-flag", "value": "1"}]
    configure(yaml.safe_dump(broken, sort_keys=False))
    try:
        stopped = upgrade("-e", "kube_upgrade_manifest_timeout=150", check=False)
    finally:
        configure(before)
    [host] = [name for name, counts in stopped.hosts.items() if counts["failed"]]
    assert f"{host} failed. Upgrade the control plane:" in stopped.said, stopped.output[-4000:]
    assert re.search(rf"[Tt]he old [a-z, -]*{component}[a-z, -]* (is|are) back", stopped.said), (
        stopped.output[-4000:]
    )
    wait_whole()
    assert {images(name)["kube-apiserver"] for name in control_planes()} == {OLD}
    assert "kubewright-no-such-flag" not in shell(host, f"cat /etc/kubernetes/manifests/{component}.yaml")
    assert set(versions().values()) == {f"v{OLD}"} and not cordoned()


@contextmanager
def lost_in_its_turn(host: str, folder: Path) -> Iterator[list[str]]:
    """Freeze a host when its turn begins; yield the options for it. Nobody answers, and nothing is refused."""
    # A lookup runs here, whatever the connection of the host is. It may be asked more than once.
    freeze = f"podman pause {PREFIX}{host} >/dev/null 2>&1 || true"
    tasks = [
        {
            "name": "Freeze the host",
            "ansible.builtin.debug": {"msg": "{{ lookup('ansible.builtin.pipe', '" + freeze + "') }}"},
            "when": f"inventory_hostname == '{host}'",
        },
        {"name": "Meet the host again", "ansible.builtin.ping": {}},
    ]
    hook = folder / "freeze.yml"
    hook.write_text(yaml.safe_dump(tasks))
    # ssh itself waits for ever for a host that is silent, and a connection of an earlier run would not know better.
    connections = tempfile.mkdtemp(prefix="kubewright-", dir="/tmp")
    options = {
        "kube_rolling_before": str(hook),
        "ansible_ssh_extra_args": "-o ServerAliveInterval=5 -o ServerAliveCountMax=3",
        "ansible_control_path_dir": connections,
    }
    try:
        yield ["-e", json.dumps(options)]
    finally:
        run("podman", "unpause", f"{PREFIX}{host}", check=False)
        shutil.rmtree(connections, ignore_errors=True)


def test_a_control_plane_that_is_lost_in_its_turn_stops_the_run(tmp_path: Path) -> None:
    """Those before it are done, those after it are not begun with, and the rest of the cluster is well."""
    # One that the run before has begun with comes first.
    lost = [name for name in control_planes() if images(name)["etcd"] != NEW_ETCD][-1]
    other = next(name for name in control_planes() if name != lost)
    with lost_in_its_turn(lost, tmp_path) as options:
        stopped = upgrade(*options, check=False)
        assert stopped.hosts[lost]["unreachable"] == 1 and not stopped.total("failed"), stopped.output[-4000:]
        assert nodes_ready(other) >= set(members()) - {lost}
        assert "ok" in kubectl("get", "--raw=/readyz", host=other)
    wait_whole()
    assert images(lost)["kube-apiserver"] == OLD
    assert set(versions().values()) == {f"v{OLD}"} and not cordoned()


def test_a_worker_that_is_not_ready_stays_behind_where_that_is_accepted(notes: Notes) -> None:
    """Everybody else is upgraded, and the run ends well."""
    worker = group("workers")[0]
    with kubelet_stopped(worker):
        done = upgrade("-e", "kube_upgrade_accept_not_ready_workers=true")
        others = {version for name, version in versions().items() if name != worker}
        assert others == {f"v{NEW}"} and versions()[worker] == f"v{OLD}" and not cordoned()
        assert {images(name)["kube-apiserver"] for name in control_planes()} == {NEW}
    notes.add(f"upgrade.yml with one worker left out, after a control plane was lost: {done.seconds:.0f} s")


def stopped_at(worker: str, stopped: Recap) -> None:
    """Prove that a run has ended at a worker, which stays out of service, and that the others are well."""
    assert stopped.hosts[worker]["failed"] == 1 and cordoned() == [worker], stopped.output[-4000:]
    assert {version for name, version in versions().items() if name != worker} == {f"v{NEW}"}
    assert nodes_ready() >= set(members()) - {worker}


@contextmanager
def stuck_pods(worker: str) -> Iterator[None]:
    """Keep pods on a worker that do not go when they are asked to end; one was asked already."""
    label = {"app": NAME}
    container = {"name": "pause", "image": "registry.k8s.io/pause:3.10.2"}
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": worker},
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    template = {"metadata": {"labels": label, "finalizers": ["kubewright.test/keep"]}, "spec": spec}
    about = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}}
    apply({**about, "spec": {"replicas": 1, "selector": {"matchLabels": label}, "template": template}})

    def pods() -> list[dict[str, Any]]:
        return list(json.loads(kubectl("get", "pods", f"--selector=app={NAME}", "-o", "json"))["items"])

    def running() -> int:
        return sum(
            "deletionTimestamp" not in one["metadata"] and one["status"]["phase"] == "Running"
            for one in pods()
        )

    try:
        wait_until(lambda: running() == 1, 90, "a pod runs")
        kubectl("delete", "pod", f"--selector=app={NAME}", "--wait=false")
        wait_until(lambda: running() == 1 and len(pods()) == 2, 90, "another pod runs beside the stuck one")
        yield
    finally:
        kubectl("delete", "deployment", NAME, "--cascade=orphan")
        kubectl("delete", "replicaset", f"--selector=app={NAME}", "--cascade=orphan")
        kubectl("delete", "pod", f"--selector=app={NAME}", "--wait=false")
        for one in pods():
            patch = '{"metadata":{"finalizers":null}}'
            kubectl("patch", "pod", one["metadata"]["name"], "--type=merge", "-p", patch, check=False)


def test_a_pod_that_never_ends_stops_the_run_at_its_node() -> None:
    """Kubernetes 91141: it was told to go, and a finalizer keeps it."""
    worker = group("workers")[0]
    with stuck_pods(worker):
        stopped = upgrade("-e", "kube_rolling_drain_timeout=60", check=False)
        assert f"{worker} failed. Drain the node: {worker} still has 2 pods that should leave" in stopped.said
        assert f"asked to end, but still there: default/{NAME}-" in stopped.said
        stopped_at(worker, stopped)
        assert versions()[worker] == f"v{OLD}"


def test_a_kubelet_that_does_not_come_up_stops_the_run_at_its_node() -> None:
    """With an argument that it does not know; the next run finds it mended, and still cordoned."""
    worker = group("workers")[0]
    arguments, kept = "/etc/default/kubelet", "/run/kubewright-test-kubelet"
    shell(
        worker, f"cp -p {arguments} {kept} && echo KUBELET_EXTRA_ARGS=--kubewright-no-such-flag >{arguments}"
    )
    try:
        stopped = upgrade("-e", "kube_rolling_gate_timeout=120", check=False)
        assert (
            f"{worker} failed. Run the new kubelet: The kubelet {NEW} does not come up ({worker})"
            in stopped.said
        )
        assert f"'journalctl -u kubelet' on {worker}" in stopped.said.replace("''", "'")
        stopped_at(worker, stopped)
    finally:
        shell(worker, f"cp -p {kept} {arguments}; rm {kept}")


def test_the_last_run_finishes_what_is_left() -> None:
    """Everybody is at the new version and in service, and there is nothing to do any more."""
    upgrade()
    assert set(versions().values()) == {f"v{NEW}"} and not cordoned()
    again = upgrade()
    assert again.total("changed") == 0 and "Nothing to do" in again.said
    # Every run that failed has let the next one in, and the last one nobody is kept away by.
    assert "kubewright" not in kubectl("-n", "kube-system", "get", "leases", "--output=name")
    playbook("verify", "-e", f"kube_cluster_version={NEW}", "-e", f"lab_state={STATE}", inventory=INVENTORY)
