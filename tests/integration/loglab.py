"""What the tests of logging share: runs of the playbook, the Elasticsearch behind it, and what is done to both."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hardlab import control_planes, kubectl, members, objects, shell
from labtools import INVENTORY, Recap, playbook, run, wait_until
from upgradelab import versions

from lab import nodes
from lab.lines import Lines, Logging
from lab.nodes import STATE
from lab.shell import LabError

NAMESPACE = "logging"
# Where the writers of numbered lines run.
WRITERS = "kubewright-lines"
ELASTICSEARCH = "app.kubernetes.io/name=elasticsearch"
TAINT = "node-role.kubernetes.io/control-plane"
SETTINGS: dict[str, Any] = {
    "kube_logging_namespace": NAMESPACE,
    "kube_logging_profile": "tiers",
    "kube_logging_heap": "512m",
    "kube_logging_volume_size": "2Gi",
    "kube_logging_master_volume_size": "1Gi",
    "kube_logging_local_storage": True,
    # Three masters want a node each, and there are two workers.
    "kube_logging_tolerations": [{"key": TAINT, "operator": "Exists", "effect": "NoSchedule"}],
    # Neither fluentd nor Kibana can be had in the lab.
    "kube_logging_collector": "opentelemetry",
    "kube_logging_kibana": False,
    # The disk of the machine is shared, and may be nearly full.
    "kube_logging_elasticsearch_settings": {"cluster.routing.allocation.disk.threshold_enabled": False},
}
# What it has outside its namespace.
CLUSTER_WIDE = {
    "clusterrolebindings": ("kubewright-collector", "kubewright-local-storage"),
    "clusterroles": ("kubewright-collector", "kubewright-local-storage"),
    "storageclasses": ("kubewright-local",),
    "namespaces": ("kubewright-storage",),
}


@cache
def elasticsearch() -> Logging:
    """Return the logging, asked from the first control plane."""
    return Logging(control_planes()[0], NAMESPACE)


def common() -> list[str]:
    """Return what every run is told: where the lab is, and the version that runs."""
    version = min(versions().values()).removeprefix("v")
    return ["-e", f"kube_cluster_version={version}", "-e", f"lab_state={STATE}"]


def logging(*options: str, check: bool = True, **changed: Any) -> Recap:
    """Run the playbook with the settings of these tests, some of them *changed*."""
    settings = json.dumps({**SETTINGS, **changed})
    done = playbook("logging", *common(), "-e", settings, *options, inventory=INVENTORY, check=check)
    assert not check or not done.total("failed"), done.output[-6000:]
    return done


def module(name: str, **options: Any) -> dict[str, Any]:
    """Run a module once on a control plane; ``said`` is all that was printed, in one line."""
    words = [nodes.ansible_tool("ansible"), "-i", INVENTORY, control_planes()[0], "-b"]
    words += ["-e", f"lab_state={STATE}", "-m", f"kubewright.cluster.{name}", "-a", json.dumps(options)]
    said = run(*words, check=False, env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"})
    head, _arrow, told = said.partition(" => ")
    assert told, said
    failed = "| FAILED!" in head
    return {**json.JSONDecoder().raw_decode(told)[0], "failed": failed, "said": " ".join(said.split())}


def canary(timeout: int = 60) -> dict[str, Any]:
    """Write a line on every node and look for it."""
    return module("log_canary", namespace=NAMESPACE, timeout=timeout)


def soon(check: Callable[[], bool]) -> Callable[[], bool]:
    """Return a check for which an Elasticsearch that does not answer is one that is not so far."""

    def tried() -> bool:
        try:
            return check()
        except LabError:
            return False

    return tried


def wait_for_green(seconds: float = 400) -> None:
    """Wait until every shard has all its copies."""

    def green() -> bool:
        return bool(elasticsearch().ask("GET", "/_cluster/health")["status"] == "green")

    wait_until(soon(green), seconds, "Elasticsearch is green")


def tiers() -> dict[str, int]:
    """Return how many nodes Elasticsearch has of each kind."""
    found = elasticsearch().ask("GET", "/_nodes?filter_path=nodes.*.name,nodes.*.roles")["nodes"].values()
    counts = {"master": 0, "data": 0, "client": 0}
    for node in found:
        roles = set(node.get("roles", []))
        kinds = [kind for kind in ("master", "data") if kind in roles] or ["client"]
        assert len(kinds) == 1, node
        counts[kinds[0]] += 1
    return counts


def footprint() -> dict[str, Any]:
    """Return what a run could have left on the hosts and in the cluster."""
    script = (
        "find /etc/sysctl.d -printf '%p %s %T@\\n' | sort; cat /proc/sys/vm/max_map_count; "
        "ls -d /var/lib/kubewright/collector-* /var/lib/kubewright/volumes 2>/dev/null || true"
    )
    return {
        **{host: shell(host, script) for host in members()},
        **{kind: sorted(one["metadata"]["name"] for one in objects(kind)) for kind in CLUSTER_WIDE},
    }


def running() -> dict[str, str]:
    """Return when each pod of Elasticsearch and of the collector was started."""
    pods = objects("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name in (elasticsearch,collector)")
    return {pod["metadata"]["name"]: pod["status"].get("startTime", "") for pod in pods}


def write(lines: Lines, writers: dict[str, str]) -> None:
    """Start writers in place of those of an earlier test."""
    kubectl("delete", "namespace", WRITERS, "--ignore-not-found", "--timeout=120s")
    elasticsearch().apply(lines.pods(WRITERS, writers))


def written() -> bool:
    """Tell whether all writers have said all."""
    phases = [pod["status"]["phase"] for pod in objects("pods", "-n", WRITERS)]
    assert "Failed" not in phases, kubectl("-n", WRITERS, "get", "pods", "-o", "wide")
    return bool(phases) and set(phases) == {"Succeeded"}


def wait_for_lines(token: str, count: int, seconds: float) -> None:
    """Wait until so many lines can be found."""
    wait_until(soon(lambda: elasticsearch().count(token) >= count), seconds, f"{count} lines of {token}")


def rotated(writers: dict[str, str]) -> int:
    """Return how many files of the writers the kubelets have put aside."""
    script = f"ls /var/log/pods/{WRITERS}_*/lines/ 2>/dev/null | grep -c '0.log\\.' || true"
    return sum(int(shell(node, script)) for node in set(writers.values()))


@contextmanager
def without_elasticsearch(component: str = "") -> Iterator[None]:
    """Have no pod of Elasticsearch, or none of a *component*: killed, and none is started in its place.

    Nobody outside reaches Elasticsearch without its clients.
    """
    selector = f"{ELASTICSEARCH},app.kubernetes.io/component={component}" if component else ELASTICSEARCH
    sets = objects("statefulsets", "-n", NAMESPACE, "-l", selector)
    replicas = {one["metadata"]["name"]: one["spec"]["replicas"] for one in sets}
    try:
        for name in replicas:
            kubectl("-n", NAMESPACE, "scale", "statefulset", name, "--replicas=0")
        words = ("-l", selector, "--grace-period=0", "--force", "--ignore-not-found")
        kubectl("-n", NAMESPACE, "delete", "pods", *words)
        wait_until(lambda: not objects("pods", "-n", NAMESPACE, "-l", selector), 60, "Elasticsearch is away")
        yield
    finally:
        for name, count in replicas.items():
            kubectl("-n", NAMESPACE, "scale", "statefulset", name, f"--replicas={count}")


def kill_collector(node: str) -> None:
    """End the collector of a node in the middle of what it does."""
    shell(
        node,
        "kill -9 $(crictl inspect --output go-template --template '{{.info.pid}}' "
        "$(crictl ps --quiet --name '^collector$'))",
    )


def node_of(pod: str) -> str:
    """Return where a pod of the logging runs."""
    return kubectl("-n", NAMESPACE, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}").strip()


def secret(name: str) -> dict[str, Any]:
    """Return the data of a Secret, encoded as it is."""
    return dict(json.loads(kubectl("-n", NAMESPACE, "get", "secret", name, "-o", "json"))["data"])


def patch_secret(name: str, data: dict[str, Any]) -> None:
    """Put other data into a Secret."""
    patch = json.dumps({"data": data})
    kubectl("-n", NAMESPACE, "patch", "secret", name, "--type=merge", "-p", patch)


@contextmanager
def another(name: str, **data: str) -> Iterator[None]:
    """Have other data in a Secret for the time of a block; keys are written with an underscore for the point."""
    kept = secret(name)
    changed = {key.replace("_", "."): value for key, value in data.items()}
    patch_secret(name, changed)
    try:
        yield
    finally:
        patch_secret(name, {key: kept[key] for key in changed})


def restart_collectors() -> None:
    """Have every collector read its Secret anew."""
    kubectl("-n", NAMESPACE, "rollout", "restart", "daemonset/collector")
    kubectl("-n", NAMESPACE, "rollout", "status", "daemonset/collector", "--timeout=120s")


def certificate(folder: Path, *, expired: bool) -> tuple[str, str]:
    """Return a certificate for Elasticsearch and its key: of a foreign authority, or of ours and *expired*."""
    settings = folder / "openssl.cnf"
    name = f"elasticsearch.{NAMESPACE}.svc"
    settings.write_text(
        f"[req]\ndistinguished_name=n\n[n]\n[a]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
        "subjectKeyIdentifier=hash\n[l]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        "extendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        f"subjectAltName=DNS:elasticsearch,DNS:elasticsearch.{NAMESPACE},DNS:{name},DNS:localhost,IP:127.0.0.1\n"
    )
    new = ["-config", str(settings), "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    if expired:
        for file, text in secret("elasticsearch-authority").items():
            (folder / file).write_bytes(base64.b64decode(text))
    else:
        foreign = [
            "-extensions",
            "a",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-days",
            "2",
            "-subj",
            "/CN=foreign",
        ]
        run("openssl", "req", "-x509", *new, *foreign, cwd=folder)
    run("openssl", "req", *new, "-keyout", "tls.key", "-out", "tls.csr", "-subj", f"/CN={name}", cwd=folder)
    # openssl takes one negative number, for this.
    sign = ["-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", "7", "-days", "-1" if expired else "2"]
    sign += ["-extfile", str(settings), "-extensions", "l", "-in", "tls.csr", "-out", "tls.crt"]
    run("openssl", "x509", "-req", *sign, cwd=folder)
    return (folder / "tls.crt").read_text(), (folder / "tls.key").read_text()


def remove() -> None:
    """Take the logging away, with its volumes and what it has outside its namespace and on the hosts."""
    kubectl("delete", "namespace", WRITERS, NAMESPACE, "--ignore-not-found", "--timeout=300s")
    # Their provisioner deletes them, and their folders.
    wait_until(lambda: not volumes(), 120, "the volumes are gone")
    for kind, names in CLUSTER_WIDE.items():
        kubectl("delete", kind, *names, "--ignore-not-found", "--timeout=120s")
    for host in members():
        shell(host, "rm -rf /var/lib/kubewright/collector-* /etc/sysctl.d/80-kubewright-logging.conf")


def volumes() -> list[str]:
    """Return the volumes of the local storage class."""
    found = objects("persistentvolumes")
    return [
        one["metadata"]["name"] for one in found if one["spec"].get("storageClassName") == "kubewright-local"
    ]
