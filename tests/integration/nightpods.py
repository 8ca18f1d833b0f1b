"""What of a nightwatch is in the cluster: a workload of three replicas, and clients that no drain takes away.

A client is a pod on each control plane, of a DaemonSet, which a drain leaves where it is. agnhost has neither a shell
nor a client of HTTPS that a test could use, so the pod mounts the Python of its host.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardlab import control_planes, kubectl, shell
from steady import PACE, STRICT, Figures

NAMESPACE = "kubewright-nightwatch"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
SEED = "seed"
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
SCRIPTS = ("nightclient.py", "steady.py", "httpline.py")
# What Python needs of a Debian host, by the names that it has in the pod.
PYTHON = {"/usr": "/usr", "/lib": "/usr/lib", "/lib64": "/usr/lib64"}
PORT = 8080
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


def base() -> list[dict[str, Any]]:
    """Return what is there first: the namespace, who the client is, and the workload behind its Service."""
    here = Path(__file__).parent
    subject = {"kind": "ServiceAccount", "name": "client", "namespace": NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "client"}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    return [
        # The client mounts folders of its host.
        _object("v1", "Namespace", NAMESPACE, labels={"pod-security.kubernetes.io/enforce": "privileged"}),
        _object("v1", "ServiceAccount", "client"),
        _object("rbac.authorization.k8s.io/v1", "Role", "client", rules=[rule]),
        _object("rbac.authorization.k8s.io/v1", "RoleBinding", "client", roleRef=role, subjects=[subject]),
        _object("v1", "ConfigMap", SEED, data={"is": "read"}),
        _object("v1", "ConfigMap", "scripts", data={name: (here / name).read_text() for name in SCRIPTS}),
        _object("v1", "Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": PORT}]}),
        _object(
            "policy/v1",
            "PodDisruptionBudget",
            "web",
            spec={"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        ),
        _object("apps/v1", "Deployment", "web", spec={"replicas": 3, **_pods("web", _web())}),
    ]


def client(address: str) -> dict[str, Any]:
    """Return the client, which calls the workload at an address."""
    return _object("apps/v1", "DaemonSet", "client", spec=_pods("client", _client(address)))


def _object(
    version: str, kind: str, name: str, labels: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    about: dict[str, Any] = {"name": name, "labels": labels or {}}
    if kind != "Namespace":
        about["namespace"] = NAMESPACE
    return {"apiVersion": version, "kind": kind, "metadata": about, **more}


def _pods(app: str, spec: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": app}
    return {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}


def _web() -> dict[str, Any]:
    container = {
        "name": "web",
        "image": IMAGE,
        "args": ["netexec", f"--http-port={PORT}"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1},
        # Until every node knows that it leaves.
        "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    return {
        "containers": [container],
        # There may be no other place when all workers are drained at once, and the budget would hold them up.
        "tolerations": [{"key": CONTROL_PLANE, "operator": "Exists"}],
        "topologySpreadConstraints": [spread],
        "terminationGracePeriodSeconds": 15,
    }


def _client(address: str) -> dict[str, Any]:
    settings = {
        "READS": f"{PATH}/{SEED}",
        # All of them together keep the pace.
        "EVERY": str(PACE * len(control_planes())),
        "KUBEWRIGHT_ALL_FAULTS": "1" if STRICT else "",
        "WEB_ADDRESS": address,
        "WEB_PORT": str(PORT),
    }
    environment: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in settings.items()]
    environment.append({"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})
    mounts = [{"name": f"python{at}", "mountPath": path, "readOnly": True} for at, path in enumerate(PYTHON)]
    volumes = [{"name": f"python{at}", "hostPath": {"path": path}} for at, path in enumerate(PYTHON.values())]
    container = {
        "name": "client",
        "image": IMAGE,
        "command": ["/usr/bin/python3", "-B", "/scripts/nightclient.py"],
        "env": environment,
        "volumeMounts": [*mounts, {"name": "scripts", "mountPath": "/scripts"}],
    }
    return {
        "serviceAccountName": "client",
        "containers": [container],
        "volumes": [*volumes, {"name": "scripts", "configMap": {"name": "scripts"}}],
        "nodeSelector": {CONTROL_PLANE: ""},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
    }


def start(*, clients: bool) -> None:
    """Make all of it, in place of what a run that was killed has left, and wait until it runs."""
    remove()
    _create(base())
    _wait("deployment/web")
    if not clients:
        return
    address = kubectl("-n", NAMESPACE, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}").strip()
    _create([client(address)])
    _wait("daemonset/client")


def remove(host: str = "") -> None:
    """Take all of it away. Thousands of objects take a while."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=600s", host=host)


def _create(objects: list[dict[str, Any]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    config = "--kubeconfig=/etc/kubernetes/admin.conf"
    # The shell's echo would read the scripts' line ends in the JSON.
    shell(control_planes()[0], f"printf %s {shlex.quote(text)} | kubectl {config} create -f -")


def _wait(what: str) -> None:
    kubectl("-n", NAMESPACE, "rollout", "status", what, "--timeout=180s")


@dataclass(frozen=True)
class Client:
    """Which pod is the client of a node, and how often its container was started again."""

    pod: str
    restarts: int


@dataclass(frozen=True)
class Log:
    """What a client has said: when last, in seconds since the epoch, its figures by then, and every failure."""

    at: float
    figures: list[Figures]
    troubles: list[str]


def read_log(text: str) -> Log:
    """Read the log of a client. What Python itself said is a failure too."""
    at, figures, troubles = 0.0, [], []
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            troubles.append(line)
            continue
        if "figures" in said:
            at, figures = said["at"], [Figures(**one) for one in said["figures"]]
        else:
            troubles.append(said["trouble"])
    return Log(at, figures, troubles)


def clients() -> dict[str, Client]:
    """Return the client of each node."""
    words = ("-n", NAMESPACE, "get", "pods", "--selector=app=client", "-o", "json")
    return {
        pod["spec"]["nodeName"]: Client(pod["metadata"]["name"], status["restartCount"])
        for pod in json.loads(kubectl(*words))["items"]
        for status in pod["status"].get("containerStatuses", [])
    }


def logs() -> dict[str, Log]:
    """Return what the client of each node has said, and before a restart: a new kubelet may restart containers."""
    found = {}
    for node, one in clients().items():
        words = ("-n", NAMESPACE, "logs", one.pod)
        log = read_log(kubectl(*words))
        if one.restarts:
            before = read_log(kubectl(*words, "--previous"))
            log = Log(log.at, before.figures + log.figures, before.troubles + log.troubles)
        found[node] = log
    return found


def state() -> str:
    """Return what shows why something does not run."""
    seen = kubectl("-n", NAMESPACE, "get", "pods,events", "-o", "wide", check=False)
    return seen + kubectl("-n", NAMESPACE, "logs", "--selector=app=client", "--tail=20", check=False)
