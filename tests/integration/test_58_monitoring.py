"""A monitoring is refused, foretold, brought, repeated, and tells of faults that are made for real.

Needs a whole cluster of three control planes and two workers, of whatever version, and leaves one without a monitoring.
It runs on the real Prometheus, Alertmanager, operator and exporters; what differs from upstream's images is in
lab/README.md, and Grafana is not among them. The short form watches a healthy cluster for five minutes and makes three
faults; `make soak` (KUBEWRIGHT_ALL_FAULTS) watches for an hour and makes all of them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hardlab import ETCDCTL, addresses, control_planes, group, kubectl, members, objects, shell
from labtools import INVENTORY, ROOT, Notes, pause, playbook, run, unpause, wait_until
from upgradelab import EVERYTHING, NEW, OLD, soak, upgrade, versions
from watchlab import (
    NAMESPACE,
    SETTINGS,
    VICTIMS,
    Fault,
    apply,
    ask,
    footprint,
    lacking,
    monitoring,
    query,
    receiver,
    remove,
    suffer,
    told,
    unquiet,
    victims,
    wait_for_targets,
    without_manifest,
)

from lab import recipes
from lab.nodes import PREFIX, STATE

QUIET = 3600 if EVERYTHING else 300
# A shell and the usual commands, in every node's store.
BUSYBOX = f"docker.io/library/busybox:{recipes.stacks_lock()['busybox']['version']}"
EVERY_MINUTES = 5


@pytest.fixture(scope="module", autouse=True)
def ground() -> Iterator[None]:
    """The origin has the images, backups are made, a receiver listens, and nothing of a monitoring is there."""
    run("python3", "-m", "lab", "up", "--stacks", "--inventory", str(ROOT / INVENTORY), timeout=3600)
    remove()
    for host in members():
        # What a container's boot has failed at is a true alert, and none of these tests.
        shell(host, "systemctl reset-failed")
    playbook("backup", "-e", f"lab_state={STATE}", "-e", f"etcd_backup_every_minutes={EVERY_MINUTES}")
    kubectl("create", "namespace", VICTIMS)
    with receiver():
        yield
    remove()
    for host in control_planes():
        shell(
            host, "systemctl disable --now kubewright-backup.timer; rm -f /var/lib/kubewright-metrics/*.prom"
        )


def test_what_cannot_end_well_is_refused() -> None:
    """Each with what to do, before anything is applied."""
    before = footprint()
    nobody = monitoring(check=False, kube_monitoring_receivers=[{"name": "shop", "webhook": {"url": "shop"}}])
    assert "wants a webhook: give it webhook.url, which begins with http:// or https://" in nobody.said
    nowhere = monitoring(check=False, kube_monitoring_accept_no_volumes=False)
    assert "The cluster has no default class of volumes" in nowhere.said
    unknown = monitoring(check=False, kube_monitoring_storage_class="fast")
    assert "kube_monitoring_storage_class is fast, and the cluster has no such class" in unknown.said
    for refused in (nobody, nowhere, unknown):
        assert refused.total("changed") == 0 and refused.total("failed"), refused.output[-3000:]
    assert footprint() == before


def test_a_port_that_is_taken_is_named_with_its_holder() -> None:
    before = footprint()
    worker = group("workers")[0]
    shell(worker, "systemd-run --quiet --unit=other-exporter python3 -m http.server --bind 127.0.0.1 9100")
    try:
        taken = monitoring(check=False)
    finally:
        shell(worker, "systemctl stop other-exporter")
    assert f"Port 9100 of {worker} is taken by python3" in taken.said, taken.output[-3000:]
    assert taken.total("changed") == 0 and footprint() == before


def test_another_operator_is_left_alone() -> None:
    before = footprint()
    labels = {"app.kubernetes.io/name": "prometheus-operator", "app.kubernetes.io/managed-by": "Helm"}
    pod = {"containers": [{"name": "operator", "image": BUSYBOX}]}
    spec = {
        "replicas": 0,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "charts-operator", "namespace": VICTIMS, "labels": labels},
            "spec": spec,
        }
    )
    try:
        refused = monitoring(check=False)
    finally:
        kubectl("-n", VICTIMS, "delete", "deployment", "charts-operator")
    assert f"a Prometheus operator already (Deployment {VICTIMS}/charts-operator)" in refused.said
    assert refused.total("changed") == 0 and footprint() == before


def test_a_rule_that_is_none_is_found_before_anything_is_applied() -> None:
    before = footprint()
    rules = [{"name": "shop", "rules": [{"alert": "ShopSlow", "expr": "rate(shop_seconds["}]}]
    refused = monitoring(check=False, kube_monitoring_extra_rules=rules)
    assert "promtool ended with exit code 1" in refused.said and "ShopSlow" in refused.said
    assert refused.total("failed") and footprint() == before


def test_check_mode_foretells_and_writes_nothing() -> None:
    """On a cluster where nothing of it is there."""
    before = footprint()
    foretold = monitoring("--check")
    assert foretold.total("changed") > 0 and not foretold.total("failed"), foretold.output[-3000:]
    assert footprint() == before


def test_it_is_brought_and_every_target_is_up(notes: Notes) -> None:
    done = monitoring()
    assert "THERE ARE NO VOLUMES" in done.said
    ended = time.monotonic()
    wait_for_targets()
    notes.add(
        f"monitoring of {len(members())} nodes brought in {done.seconds:.0f} s, all targets up "
        f"{time.monotonic() - ended:.0f} s after the end"
    )
    wait_until(
        lambda: len(kubectl("top", "nodes", "--no-headers").splitlines()) == len(members()), 120, "top"
    )


def test_again_nothing_is_changed(notes: Notes) -> None:
    again = monitoring()
    assert again.total("changed") == 0, again.output[-6000:]
    foretold = monitoring("--check")
    assert foretold.total("changed") == 0, foretold.output[-6000:]
    notes.add(f"monitoring again: changed=0 in {again.seconds:.0f} s, check mode {foretold.seconds:.0f} s")


def test_a_healthy_cluster_is_quiet(notes: Notes) -> None:
    """Nothing is pending or firing but the dead man's switch, which comes every minute."""
    until = time.monotonic() + QUIET
    wait_until(lambda: not unquiet(0) + unquiet(1), 120, "what the run has caused is over")
    begun = time.time()
    while time.monotonic() < until:
        for replica in (0, 1):
            assert unquiet(replica) == [] and lacking(replica) == []
        time.sleep(10)
    since = [one for one in told() if one.time >= begun]
    assert {one.labels["alertname"] for one in since} == {"Watchdog"}
    assert {one.path for one in since} == {"/dead-man"}
    beats = sorted({one.time for one in since})
    assert max(later - earlier for earlier, later in pairwise(beats)) < 150
    notes.add(f"healthy for {time.time() - begun:.0f} s: nothing pending, {len(beats)} signs of life")


def test_every_dashboard_finds_something() -> None:
    """Each query of each panel has an answer; what has none on a healthy cluster is listed here."""
    queries = list(dashboard_queries())
    silent = [f"{name}: {expression}" for name, expression in queries if not query(expression)]
    assert len(queries) > 40
    # There is no logging here, no volume, no limit of processors; nothing waits, and nothing fires.
    absent = r"logging|.*(kubelet_volume_stats|container_cpu_cfs|waiting_reason|ALERTS)"
    assert [one for one in silent if not re.match(absent, one)] == []


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Return the queries of all dashboards, for every node, without what leaves only the unhealthy."""
    for path in sorted((ROOT / "roles/kube_monitoring/files/dashboards").glob("*.yaml")):
        for row in yaml.safe_load(path.read_text())["rows"]:
            for panel in row["panels"]:
                for expression in panel["queries"].values():
                    yield path.stem, re.sub(r" (== 1|> 0)$", "", re.sub(r"\$\w+", ".*", expression))


def test_no_pod_of_it_can_write_to_etcd() -> None:
    """The Secret that Prometheus has opens the doors, and nothing of etcd."""
    etcd = shell(control_planes()[0], "grep -h 'image:.*etcd' /etc/kubernetes/manifests/etcd.yaml").split()[
        -1
    ]
    endpoint = f"https://{addresses()[control_planes()[0]]}:2379"
    secret = "/etc/prometheus/secrets/kubewright-metrics-door"
    command = ["etcdctl", f"--endpoints={endpoint}", "--insecure-skip-tls-verify", "--command-timeout=5s"]
    command += [f"--cert={secret}/tls.crt", f"--key={secret}/tls.key", "put", "kubewright.test", "written"]
    mount = {"name": "door", "mountPath": secret}
    apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "thief", "namespace": NAMESPACE},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "thief", "image": etcd, "command": command, "volumeMounts": [mount]}],
                "volumes": [{"name": "door", "secret": {"secretName": "kubewright-metrics-door"}}],
            },
        }
    )
    try:
        words = ("-n", NAMESPACE, "get", "pod", "thief", "-o", "jsonpath={.status.phase}")
        wait_until(lambda: kubectl(*words) in ("Failed", "Succeeded"), 120, "the thief has tried")
        said = kubectl("-n", NAMESPACE, "logs", "thief")
        assert kubectl(*words) == "Failed" and re.search(r"bad certificate|unknown authority|deadline", said)
    finally:
        kubectl("-n", NAMESPACE, "delete", "pod", "thief", "--ignore-not-found", "--wait=false")
    assert shell(control_planes()[0], f"{ETCDCTL} get kubewright.test").strip() == ""


def test_nothing_of_the_keys_is_in_the_namespace() -> None:
    """No Secret of the namespace holds a key that etcd's authority has signed for."""
    authority = shell(
        control_planes()[0], "openssl x509 -in /etc/kubernetes/pki/etcd/ca.crt -noout -subject"
    ).strip()
    for secret in objects("secrets", "-n", NAMESPACE):
        for name, value in (secret.get("data") or {}).items():
            script = f"echo {value} | base64 -d | openssl x509 -noout -issuer 2>/dev/null || true"
            issuer = shell(control_planes()[0], script).strip() if name.endswith((".crt", ".pem")) else ""
            assert issuer.partition("=")[2] != authority.partition("=")[2], secret["metadata"]["name"]


def test_both_judge_by_the_same_rules() -> None:
    first, second = (
        {rule["name"] for one in ask("rules", replica)["groups"] for rule in one["rules"]}
        for replica in (0, 1)
    )
    assert first == second and "Watchdog" in first


# --- faults --------------------------------------------------------------------------------------------------


def running(command: str, **more: Any) -> dict[str, Any]:
    """Return a container that runs a command of a shell."""
    return {"name": "victim", "image": BUSYBOX, "command": ["sh", "-c", command], **more}


def deployment(name: str, pod: dict[str, Any]) -> Any:
    """Return how a Deployment of one pod is made and deleted."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1, **pod}}
    return victims("Deployment", name, {"selector": {"matchLabels": labels}, "template": template})


def unit(host: str) -> Any:
    """Return how a unit of a host fails, and is forgotten."""
    return (
        lambda: shell(
            host,
            "systemd-run --quiet --unit=kubewright-victim false; sleep 1; systemctl start kubewright-host-metrics",
        ),
        lambda: shell(
            host, "systemctl reset-failed kubewright-victim; systemctl start kubewright-host-metrics"
        ),
    )


def soon_over(host: str) -> Any:
    """Return how a client certificate of a control plane gets two days more to live, and the old one comes back."""
    pki = "/etc/kubernetes/pki"
    name = f"{pki}/front-proxy-client"
    make = (
        f"cp -a {name}.crt /root/front-proxy-client.crt && "
        f"openssl req -new -key {name}.key -subj /CN=front-proxy-client -out /root/client.csr && "
        f"openssl x509 -req -in /root/client.csr -CA {pki}/front-proxy-ca.crt -CAkey {pki}/front-proxy-ca.key "
        f"-set_serial 7 -days 2 -out {name}.crt && systemctl start kubewright-host-metrics"
    )
    mend = (
        f"[ ! -e /root/front-proxy-client.crt ] || mv /root/front-proxy-client.crt {name}.crt; "
        "rm -f /root/client.csr; systemctl start kubewright-host-metrics"
    )
    return (lambda: shell(host, make), lambda: shell(host, mend))


def door(host: str) -> Any:
    """Return how the door of a host is shut and opened."""
    return (
        lambda: shell(host, "systemctl stop kubewright-metrics-door"),
        lambda: shell(host, "systemctl start kubewright-metrics-door"),
    )


def full_disk(host: str, folder: Path) -> Any:
    """Return how a small file system of a host is filled, and goes: node-exporter sees those of its start."""
    image, there = folder / "disk", "/var/lib/kubelet/kubewright-disk"

    def look_anew() -> None:
        selector = ("-l", "app.kubernetes.io/name=node-exporter", f"--field-selector=spec.nodeName={host}")
        kubectl("-n", NAMESPACE, "delete", "pods", *selector)

    def make() -> None:
        run("truncate", "--size=64M", str(image))
        run("mkfs.ext4", "-q", str(image))
        run("podman", "cp", str(image), f"{PREFIX}{host}:{there}")
        shell(host, f"mkdir -p /srv/full && mount -o loop {there} /srv/full")
        shell(host, "dd if=/dev/zero of=/srv/full/all bs=1M", check=False)
        look_anew()

    def mend() -> None:
        shell(host, f"umount /srv/full; rm -rf /srv/full {there}")
        look_anew()

    return make, mend


OUT_OF_MEMORY = Fault(
    "KubeContainerOutOfMemory",
    *deployment(
        "hungry",
        {"containers": [running("sleep 20; exec tail /dev/zero", resources={"limits": {"memory": "32Mi"}})]},
    ),
    # kube-state-metrics may watch the API server whose etcd is stopped, until that ends.
    within=480,
    labels={"namespace": VICTIMS},
)
JOB = Fault(
    "KubeJobFailed",
    *victims(
        "Job",
        "failing",
        {
            "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [running("false")]}},
        },
    ),
    within=600,
    labels={"namespace": VICTIMS},
)


def member_down() -> Fault:
    """Stop the etcd of the last control plane."""
    host = control_planes()[-1]
    make, mend = without_manifest(host, name="etcd")
    return Fault("EtcdMemberDown", make, mend, within=420, labels={"node": host})


def test_three_faults_are_told_of_and_resolved(notes: Notes) -> None:
    """What `make test` has time for: a member of etcd, a container without memory, a Job that failed."""
    suffer([member_down(), OUT_OF_MEMORY, JOB], notes)


@soak
def test_pods_and_hosts_that_go_wrong_are_told_of(notes: Notes, tmp_path: Path) -> None:
    """All at once: none of them disturbs another."""
    planes, workers = control_planes(), group("workers")
    missing = {"containers": [{"name": "victim", "image": "registry.k8s.io/pause:none"}]}
    nowhere = {"nodeSelector": {"kubewright": "nowhere"}, "containers": [running("sleep 3600")]}
    wrong = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "wrong", "namespace": VICTIMS},
        "spec": {"groups": [{"name": "wrong", "rules": [{"alert": "Wrong", "expr": "rate(x["}]}]},
    }
    faults = [
        Fault(
            "KubePodCrashLooping", *deployment("crashing", {"containers": [running("exit 1")]}), within=1200
        ),
        Fault("KubeContainerWaiting", *deployment("imageless", missing), within=1320),
        Fault("KubePodNotReady", *deployment("nowhere", nowhere), within=1320),
        Fault("KubeDeploymentReplicasMismatch", lambda: None, lambda: None, within=1320),
        Fault("NodeServiceFailed", *unit(workers[0]), within=600, labels={"node": workers[0]}),
        Fault(
            "NodeFilesystemAlmostFull",
            *full_disk(workers[0], tmp_path),
            within=720,
            labels={"node": workers[0], "severity": "critical"},
        ),
        Fault("CertificateExpiresSoon", *soon_over(planes[1]), within=1320, labels={"node": planes[1]}),
        Fault("TargetDown", *door(workers[1]), within=960, labels={"node": workers[1]}),
        Fault(
            "PrometheusOperatorRejectedResources",
            lambda: apply(wrong),
            lambda: kubectl("-n", VICTIMS, "delete", "prometheusrule", "wrong", "--ignore-not-found"),
            within=900,
        ),
    ]
    suffer(faults, notes, resolved_within=1500)


@soak
def test_the_control_plane_is_missed_part_by_part(notes: Notes) -> None:
    """No scheduler, one API server less, no controller-manager, backups that stopped."""
    planes = control_planes()
    timers = (
        lambda: [shell(host, "systemctl stop kubewright-backup.timer") for host in planes],
        lambda: [shell(host, "systemctl start kubewright-backup.timer kubewright-backup") for host in planes],
    )
    faults = [
        Fault("KubeSchedulerDown", *without_manifest(*planes, name="kube-scheduler"), within=600),
        Fault(
            "KubeControllerManagerDown",
            *without_manifest(*planes, name="kube-controller-manager"),
            within=600,
        ),
        Fault(
            "LoadBalancerBackendDown",
            *without_manifest(planes[-1], name="kube-apiserver"),
            within=600,
        ),
        Fault("BackupTooOld", *timers, within=(2 * EVERY_MINUTES + 5) * 60 + 300),
    ]
    suffer(faults, notes)


@soak
def test_a_node_that_is_lost_is_told_of_once(notes: Notes) -> None:
    """What ran on it is not told of, too."""
    worker = group("workers")[0]
    begun = time.time()
    lost = Fault(
        "KubeNodeNotReady",
        lambda: pause(worker),
        lambda: _thaw(worker),
        within=720,
        labels={"node": worker},
    )
    suffer([lost], notes)
    about = [
        one
        for one in told()
        if one.time > begun and one.path == "/tests" and one.labels.get("node") == worker
    ]
    assert {one.labels["alertname"] for one in about} == {"KubeNodeNotReady"}


def _thaw(host: str) -> None:
    # Prometheus or Alertmanager may run on it; one that is thawed twice is well.
    with suppress(AssertionError):
        unpause(host)


@soak
def test_a_cluster_without_its_quorum_tells_of_it(notes: Notes) -> None:
    """No API server answers, and the notification comes all the same."""
    planes = control_planes()
    make, mend = without_manifest(*planes[:2], name="etcd")
    faults = [
        Fault("EtcdInsufficientMembers", make, mend, within=420),
        Fault("LoadBalancerNoBackend", lambda: None, lambda: None, within=600),
        Fault("KubeAPIDown", lambda: None, lambda: None, within=720),
    ]
    suffer(faults, notes)
    wait_for_targets(300)


@soak
def test_a_receiver_that_is_out_of_order_is_told_to_the_others(notes: Notes) -> None:
    url = SETTINGS["kube_monitoring_receivers"][0]["webhook"]["url"]
    broken = {"name": "broken", "webhook": {"url": url.replace("/tests", "/fails")}}
    receivers = [*SETTINGS["kube_monitoring_receivers"], broken]
    fault = Fault(
        "AlertmanagerNotificationsFailing",
        lambda: (monitoring(kube_monitoring_receivers=receivers), JOB.make()),
        lambda: (JOB.mend(), monitoring()),
        within=1500,
    )
    suffer([fault], notes)


@soak
def test_what_it_costs(notes: Notes) -> None:
    """Processor, memory, series and samples of one Prometheus, for the nodes of the lab."""
    [cpu] = query(
        'sum(rate(process_cpu_seconds_total{job="prometheus", pod="prometheus-kubewright-0"}[10m]))'
    )
    [memory] = query('process_resident_memory_bytes{job="prometheus", pod="prometheus-kubewright-0"}')
    [series] = query('prometheus_tsdb_head_series{pod="prometheus-kubewright-0"}')
    [samples] = query(
        'sum(rate(prometheus_tsdb_head_samples_appended_total{pod="prometheus-kubewright-0"}[10m]))'
    )
    rules = query("sum(rate(prometheus_rule_group_duration_seconds_sum[10m]))")
    notes.add(
        f"one Prometheus for {len(members())} nodes: {cpu['value']:.3f} processors, "
        f"{memory['value'] / 2**20:.0f} MiB, {series['value']:.0f} series, {samples['value']:.0f} samples a second, "
        f"rules {rules[0]['value']:.3f} s a second"
    )
    assert memory["value"] < 1.5 * 2**30


@soak
def test_an_upgrade_is_silent_and_leaves_every_target_up(notes: Notes) -> None:
    """What the upgrade causes is silenced, and nothing else: a Job that fails meanwhile is told of."""
    if min(versions().values()) != f"v{OLD}":
        pytest.skip("the cluster has the newer version already")
    wait_until(lambda: not unquiet(0) + unquiet(1), 1200, "the faults are over")
    begun = time.time()
    JOB.make()
    try:
        done = upgrade(version=NEW)
        wait_for_targets(300)
        heard = JOB.heard("firing", begun)
    finally:
        JOB.mend()
    others = {one.labels["alertname"] for one in told() if one.time > begun and one.path == "/tests"}
    assert heard and others == {"KubeJobFailed"}
    # The last of them five minutes after the last turn.
    wait_until(lambda: not active_silences(), 420, "no silence is left")
    notes.add(
        f"upgraded in {done.seconds:.0f} s under monitoring: nobody was told of it; every target up again"
    )


def active_silences() -> list[dict[str, Any]]:
    """Return what is silenced now."""
    pod = f"/api/v1/namespaces/{NAMESPACE}/pods/alertmanager-kubewright-0:9093/proxy"
    silences = json.loads(kubectl("get", "--raw", f"{pod}/api/v2/silences"))
    return [one for one in silences if one["status"]["state"] == "active"]
