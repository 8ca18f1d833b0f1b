"""What the tests of monitoring share: runs of the playbook, its Prometheus, a receiver of notifications, faults."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hardlab import control_planes, group, kubectl, members, objects, shell
from labtools import INVENTORY, Notes, Recap, playbook, run, wait_until
from upgradelab import versions

from lab import nodes
from lab.nodes import NUMBER, STATE

NAMESPACE = "monitoring"
# Pods that go wrong.
VICTIMS = "kubewright-victims"
RECEIVER = f"{nodes.PREFIX}receiver"
RECEIVER_ADDRESS = f"10.198.{NUMBER}.9"
SETTINGS: dict[str, Any] = {
    "kube_monitoring_namespace": NAMESPACE,
    "kube_monitoring_accept_no_volumes": True,
    "kube_monitoring_volume_size": "2Gi",
    "kube_monitoring_prometheus_memory": "1Gi",
    # It cannot be had in the lab.
    "kube_monitoring_grafana": False,
    # The root of a container is no mount that others share.
    "kube_monitoring_node_exporter_mount_propagation": "None",
    # All nodes share one machine: its clock, which nobody sets, its load, and a disk that others fill.
    "kube_monitoring_disabled_alerts": [
        "NodeClockNotSynchronising",
        "NodeSystemSaturation",
        "NodeFilesystemFillingUp",
    ],
    "kube_monitoring_receivers": [
        {"name": "tests", "webhook": {"url": f"http://{RECEIVER_ADDRESS}:8080/tests"}},
    ],
    "kube_monitoring_dead_man_url": f"http://{RECEIVER_ADDRESS}:8080/dead-man",
    "kube_monitoring_dead_man_interval": "1m",
    "kube_monitoring_group_wait": "5s",
    "kube_monitoring_group_interval": "10s",
    "kube_metrics_server_replicas": 1,
}
# What it has outside its namespace, by labels.
CLUSTER_WIDE = ("app.kubernetes.io/part-of=kubewright-monitoring", "app.kubernetes.io/name=metrics-server")
# Seconds in which a healthy target is asked and judged: two intervals of scraping, and a scrape.
SCRAPED = 120


def monitoring(*options: str, check: bool = True, **changed: Any) -> Recap:
    """Run the playbook with the settings of these tests, some of them *changed*."""
    version = min(versions().values()).removeprefix("v")
    words = ["-e", f"kube_cluster_version={version}", "-e", f"lab_state={STATE}"]
    words += ["-e", json.dumps({**SETTINGS, **changed})]
    done = playbook("monitoring", *words, *options, inventory=INVENTORY, check=check)
    assert not check or not done.total("failed"), done.output[-6000:]
    return done


# --- Prometheus ----------------------------------------------------------------------------------------------


def ask(path: str, replica: int = 0, **parameters: str) -> Any:
    """Return what a Prometheus answers to a question, asked through the API server."""
    pod = f"/api/v1/namespaces/{NAMESPACE}/pods/prometheus-kubewright-{replica}:9090/proxy"
    answer = json.loads(kubectl("get", "--raw", f"{pod}/api/v1/{path}?{urlencode(parameters)}"))
    assert answer["status"] == "success", answer
    return answer["data"]


def query(expression: str, replica: int = 0) -> list[dict[str, Any]]:
    """Return the series of an expression, each with its labels and its value."""
    found = ask("query", replica, query=expression)["result"]
    return [{**one["metric"], "value": float(one["value"][1])} for one in found]


def wanted_targets() -> Counter[str]:
    """Return how many targets each job has to have."""
    planes, every = len(control_planes()), len(members())
    etcd = len(group("etcd")) or planes
    outside = len(set(group("etcd") + group("load_balancers")) - set(members()))
    return Counter(
        {
            "apiserver": planes,
            "kubelet": every,
            "kubelet-cadvisor": every,
            "coredns": 2,
            # Of the objects, and of itself.
            "kube-state-metrics": 2,
            "prometheus": 2,
            "alertmanager": 3,
            "config-reloader": 5,
            "prometheus-operator": 1,
            "kubewright-host": every + outside,
            "kube-scheduler": planes,
            "kube-controller-manager": planes,
            "kube-proxy": every,
            "etcd": etcd,
            "haproxy": len(group("load_balancers")) or planes,
            "node-exporter": every,
        }
    )


def lacking(replica: int = 0) -> list[str]:
    """Return what is wrong with the targets of a Prometheus: those that are down, those that are not there."""
    targets = ask("targets", replica, state="active")["activeTargets"]
    found = Counter(one["labels"]["job"] for one in targets)
    wanted = wanted_targets()
    wrong = [
        f"{job}: {found[job]} targets, not {wanted[job]}"
        for job in sorted({*found, *wanted})
        if found[job] != wanted[job]
    ]
    return wrong + [
        f"{one['labels']['job']} {one['scrapeUrl']}: {one['health']} {one['lastError']}"
        for one in targets
        if one["health"] != "up"
    ]


def unquiet(replica: int = 0) -> list[str]:
    """Return the alerts that are pending or firing but the dead man's."""
    return sorted(
        f"{one['state']} {one['labels']['alertname']} {json.dumps(one['labels'])}"
        for one in ask("alerts", replica)["alerts"]
        if one["labels"]["alertname"] != "Watchdog"
    )


# --- who is told ---------------------------------------------------------------------------------------------


@contextmanager
def receiver() -> Iterator[None]:
    """Have a webhook receiver beside the hosts."""
    run("podman", "rm", "--force", "--ignore", "--time", "0", RECEIVER)
    image = run(
        "podman", "inspect", "--format", "{{.ImageName}}", f"{nodes.PREFIX}{control_planes()[0]}"
    ).strip()
    program = Path(__file__).with_name("receiver.py")
    words = [*nodes.run_command(), "--name", RECEIVER]
    words += ["--network", f"{nodes.NETWORK}:ip={RECEIVER_ADDRESS}"]
    words += ["--volume", f"{program}:/receiver.py:ro", image, "python3", "/receiver.py"]
    run("podman", *words)
    try:
        yield
    finally:
        run("podman", "rm", "--force", "--ignore", "--time", "0", RECEIVER)


@dataclass(frozen=True)
class Told:
    """An alert in a notification: when it came, by which path, and what it said."""

    time: float
    path: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]


def told() -> list[Told]:
    """Return all that the receiver was told."""
    lines = run("podman", "logs", RECEIVER).splitlines()
    return [
        Told(one["time"], one["path"], alert["status"], alert["labels"], alert["annotations"])
        for one in (json.loads(line) for line in lines if line.startswith("{"))
        for alert in one["alerts"]
    ]


# --- faults --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A fault that is made for real: what it does, how it is mended, and the alert that tells of it.

    *within* are the seconds from the fault to the notification at most: what the rule waits, and what the metrics take.
    """

    alert: str
    make: Callable[[], object]
    mend: Callable[[], object]
    within: float
    labels: dict[str, str] = field(default_factory=dict)

    def heard(self, status: str, since: float) -> Told | None:
        """Return the first notification of it."""
        return next(
            (
                one
                for one in told()
                if one.path == "/tests"
                and one.time >= since
                and one.status == status
                and one.labels["alertname"] == self.alert
                and self.labels.items() <= one.labels.items()
            ),
            None,
        )


def suffer(faults: Iterable[Fault], notes: Notes, resolved_within: float = 900) -> None:
    """Make faults at once, hear of each, mend them, and hear that each is over."""
    faults = list(faults)
    begun = time.time()
    made: list[Fault] = []
    try:
        for one in faults:
            made.append(one)
            one.make()
        _hear(faults, "firing", begun, notes, {one.alert: one.within for one in faults})
    finally:
        for one in reversed(made):
            one.mend()
    _hear(faults, "resolved", time.time(), notes, {one.alert: resolved_within for one in faults})


def _hear(faults: list[Fault], status: str, since: float, notes: Notes, limits: dict[str, float]) -> None:
    """Wait until a notification of each has come."""
    missing = list(faults)
    while missing:
        for one in list(missing):
            found = one.heard(status, since)
            if found:
                missing.remove(one)
                notes.add(f"{one.alert} {status}: the receiver was told after {found.time - since:.0f} s")
        late = [one.alert for one in missing if time.time() - since > limits[one.alert]]
        assert not late, f"nobody was told of {late} ({status}); Prometheus has: {_present()}"
        time.sleep(2)


def _present() -> str:
    """Return what Prometheus judges now, where it can be asked."""
    try:
        return "; ".join(unquiet()) or "nothing"
    except AssertionError as error:
        return f"no answer: {str(error)[-300:]}"


def without_manifest(*hosts: str, name: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return how a static pod is taken away from hosts, and given back."""

    def make() -> None:
        for host in hosts:
            shell(host, f"mv /etc/kubernetes/manifests/{name}.yaml /root/")

    def mend() -> None:
        for host in hosts:
            shell(host, f"[ ! -e /root/{name}.yaml ] || mv /root/{name}.yaml /etc/kubernetes/manifests/")

    return make, mend


def victims(kind: str, name: str, spec: dict[str, Any]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return how an object that goes wrong is made, and deleted."""
    version = {"Job": "batch/v1", "Deployment": "apps/v1", "StatefulSet": "apps/v1", "Pod": "v1"}[kind]
    definition = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": VICTIMS},
        "spec": spec,
    }

    def make() -> None:
        apply(definition)

    def mend() -> None:
        kubectl("-n", VICTIMS, "delete", kind, name, "--ignore-not-found", "--wait=false")

    return make, mend


def apply(*definitions: dict[str, Any]) -> None:
    """Apply objects."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(definitions)})
    script = f"kubectl --kubeconfig=/etc/kubernetes/admin.conf apply --server-side -f - <<'END'\n{text}\nEND"
    shell(control_planes()[0], script)


# --- before and after ----------------------------------------------------------------------------------------


def footprint() -> dict[str, Any]:
    """Return what a run could have left on the hosts and in the cluster, but the namespace."""
    script = (
        "ls -d /etc/kubewright/metrics-door/* /etc/systemd/system/kubewright-metrics-door* "
        "/etc/systemd/system/kubewright-host-metrics* /var/lib/kubewright/monitoring 2>/dev/null || true"
    )
    kinds = "clusterroles,clusterrolebindings,customresourcedefinitions,apiservices"
    return {
        **{host: shell(host, script) for host in members()},
        "cluster": kubectl("get", kinds, "-o", "name"),
        "workloads": kubectl(
            "-n", NAMESPACE, "get", "deployments,statefulsets,daemonsets,services,secrets", "-o", "name"
        ),
    }


def remove() -> None:
    """Take the monitoring away, with all that it has outside its namespace and on the hosts."""
    kubectl("delete", "namespace", VICTIMS, NAMESPACE, "--ignore-not-found", "--timeout=300s")
    for label in CLUSTER_WIDE:
        kubectl("delete", "clusterroles,clusterrolebindings,apiservices", "-l", label)
    kinds = "deployments,services,poddisruptionbudgets,serviceaccounts,rolebindings"
    kubectl("-n", "kube-system", "delete", kinds, "-l", CLUSTER_WIDE[1])
    secrets = ("kubewright-metrics-door", "metrics-server-tls")
    kubectl("-n", "kube-system", "delete", "secrets", *secrets, "--ignore-not-found")
    ours = [
        one["metadata"]["name"]
        for one in objects("customresourcedefinitions")
        if one["spec"]["group"] == "monitoring.coreos.com"
    ]
    if ours:
        kubectl("delete", "customresourcedefinitions", *ours, "--timeout=120s")
    for host in members():
        shell(
            host,
            "systemctl disable --now kubewright-host-metrics.timer kubewright-metrics-door 2>/dev/null; "
            "rm -rf /etc/kubewright/metrics-door /etc/systemd/system/kubewright-metrics-door* "
            "/etc/systemd/system/kubewright-host-metrics* /var/lib/kubewright/monitoring; "
            "systemctl daemon-reload",
        )


def wait_for_targets(seconds: float = SCRAPED) -> None:
    """Wait until both Prometheus have all targets, and all of them are up."""
    seen: list[str] = []

    def whole() -> bool:
        seen[:] = lacking(0) + lacking(1)
        return not seen

    try:
        wait_until(whole, seconds, "all targets are up")
    except BaseException:
        print("\n".join(seen))
        raise
