"""The checks of the CIS Kubernetes Benchmark 1.12 that a machine can decide, as pure functions of what was observed.

The numbers and what is asked are the published benchmark's; the words and the code are ours. kube-bench would have been
the tool, but its module is not to be had with a checksum that the Go checksum database knows, and the lab builds
nothing without. Where the published audit reads a file or a flag, these checks read what is in force: the arguments
of the running process, and the configuration that kubelet and kube-proxy say they run with, defaults included. What
the benchmark calls manual counts like the rest wherever a machine can decide it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

# How many recommendations each section has.
SECTIONS = {
    "1.1": 21,
    "1.2": 30,
    "1.3": 7,
    "1.4": 2,
    "2": 7,
    "3.1": 3,
    "3.2": 2,
    "4.1": 10,
    "4.2": 14,
    "4.3": 1,
    "5.1": 13,
    "5.2": 12,
    "5.3": 2,
    "5.4": 2,
    "5.5": 1,
    "5.6": 4,
}
PUBLISHED = [f"{section}.{number}" for section, count in SECTIONS.items() for number in range(1, count + 1)]

STRONG = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    *(
        f"TLS_ECDHE_{key}_WITH_{cipher}"
        for key in ("ECDSA", "RSA")
        for cipher in (
            "AES_128_GCM_SHA256",
            "AES_256_GCM_SHA384",
            "CHACHA20_POLY1305",
            "CHACHA20_POLY1305_SHA256",
        )
    ),
}
SYSTEM_NAMESPACES = ("kube-system", "kube-flannel")


@dataclass(frozen=True)
class Host:
    """What was observed on one node."""

    name: str
    processes: dict[str, list[str]]
    files: dict[str, dict[str, Any]]
    kubelet: dict[str, Any]
    proxy: dict[str, Any]
    providers: list[str] = field(default_factory=list)

    def flags(self, process: str) -> dict[str, str]:
        """Return the flags of a component."""
        found = {}
        for word in self.processes.get(process, []):
            name, equals, value = word.removeprefix("--").partition("=")
            found[name] = value if equals else "true"
        return found


@dataclass(frozen=True)
class Cluster:
    """What the API server says."""

    # Subjects that are bound to cluster-admin.
    administrators: list[str]
    # What any authenticated user may do, of "list secrets" and "create pods" in all namespaces.
    anybody_may: list[str]
    pods: list[dict[str, Any]]


# A judge returns what it saw when that is not what the benchmark wants, otherwise nothing.
HostJudge = Callable[[Host], str]
ClusterJudge = Callable[[Cluster], str]


@dataclass(frozen=True)
class Check:
    """One recommendation: where it applies is decided by its table."""

    number: str
    title: str
    judge: Any


@dataclass(frozen=True)
class Failure:
    """A recommendation that is not followed somewhere."""

    number: str
    title: str
    where: str
    seen: str


def _named(host: Host, patterns: tuple[str, ...], folders: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, status in host.files.items():
        if (folders or not status["folder"]) and any(fnmatch(path, pattern) for pattern in patterns):
            yield path, status


def _mode(limit: int, *patterns: str, optional: bool = False, folders: bool = False) -> HostJudge:
    """Nothing is allowed to anybody beyond the limit."""

    def judge(host: Host) -> str:
        found = list(_named(host, patterns, folders))
        if not found and not optional:
            return f"there is no {' or '.join(patterns)}"
        return ", ".join(
            f"{path} has mode {status['mode']:o}" for path, status in found if status["mode"] & ~limit
        )

    return judge


def _owner(wanted: str, *patterns: str, optional: bool = False, folders: bool = False) -> HostJudge:
    def judge(host: Host) -> str:
        found = list(_named(host, patterns, folders))
        if not found and not optional:
            return f"there is no {' or '.join(patterns)}"
        return ", ".join(
            f"{path} belongs to {status['owner']}" for path, status in found if status["owner"] != wanted
        )

    return judge


def _flag(process: str, *names: str, is_: str | None = None, unset: bool = False) -> HostJudge:
    """Every flag is set, to a value if one is named; with *unset* one that is not set will do."""

    def judge(host: Host) -> str:
        flags = host.flags(process)
        for name in names:
            if name not in flags:
                if not unset:
                    return f"--{name} is not set"
            elif is_ is not None and flags[name] != is_:
                return f"--{name} is {flags[name]}"
        return ""

    return judge


def _not_flag(process: str, name: str) -> HostJudge:
    return lambda host: f"--{name} is set" if name in host.flags(process) else ""


def _at_least(process: str, name: str, least: int) -> HostJudge:
    def judge(host: Host) -> str:
        value = host.flags(process).get(name, "")
        return "" if value.isdigit() and int(value) >= least else f"--{name} is {value or 'not set'}"

    return judge


def _listed(process: str, name: str, item: str, wanted: bool) -> HostJudge:
    """A comma-separated flag holds an item, or does not."""

    def judge(host: Host) -> str:
        value = host.flags(process).get(name, "")
        return "" if (item in value.split(",")) == wanted else f"--{name} is {value or 'not set'}"

    return judge


def _local(process: str) -> HostJudge:
    return _flag(process, "bind-address", is_="127.0.0.1", unset=True)


def _strong(suites: list[str], minimum: str) -> str:
    # In TLS 1.3 suites cannot be chosen, and all are strong.
    if minimum == "VersionTLS13":
        return ""
    weak = [suite for suite in suites if suite not in STRONG]
    return f"weak: {', '.join(weak)}" if weak else "" if suites else "the cipher suites are not set"


def _api_ciphers(host: Host) -> str:
    flags = host.flags("kube-apiserver")
    suites = [suite for suite in flags.get("tls-cipher-suites", "").split(",") if suite]
    return _strong(suites, flags.get("tls-min-version", ""))


def _providers(host: Host) -> str:
    first = host.providers[0] if host.providers else "none"
    return "" if first in ("aescbc", "kms", "secretbox") else f"the first encryption provider is {first}"


def _own_ca(host: Host) -> str:
    trusted = host.flags("etcd").get("trusted-ca-file", "")
    clients = host.flags("kube-apiserver").get("client-ca-file", "")
    return "" if trusted and trusted != clients else f"etcd trusts {trusted or 'no CA of its own'}"


def _data_folder(judge: Callable[[str], HostJudge]) -> HostJudge:
    return lambda host: judge(host.flags("etcd").get("data-dir", ""))(host)


def _units(judge: Callable[..., HostJudge], wanted: Any) -> HostJudge:
    return lambda host: judge(wanted, *(path for path, status in host.files.items() if status["unit"]))(host)


def _client_ca(judge: Callable[..., HostJudge], wanted: Any) -> HostJudge:
    return lambda host: judge(wanted, _at(host.kubelet, "authentication.x509.clientCAFile") or "CA")(host)


def _at(configuration: dict[str, Any], path: str) -> Any:
    """Return what stands at a dotted path; names are compared without case, as kube-proxy's have another."""
    found: Any = configuration
    for name in path.split("."):
        if not isinstance(found, dict):
            return None
        found = next((value for key, value in found.items() if key.lower() == name.lower()), None)
    return found


def _kubelet(path: str, good: Callable[[Any], bool]) -> HostJudge:
    """What the kubelet says it runs with."""

    def judge(host: Host) -> str:
        value = _at(host.kubelet, path)
        return "" if good(value) else f"{path} is {'not set' if value is None else value}"

    return judge


def _kubelet_ciphers(host: Host) -> str:
    return _strong(_at(host.kubelet, "tlsCipherSuites") or [], _at(host.kubelet, "tlsMinVersion") or "")


def _proxy_metrics(host: Host) -> str:
    address = _at(host.proxy, "metricsBindAddress")
    return "" if address and address.startswith("127.0.0.1") else f"metricsBindAddress is {address}"


def _pods(described: str, bad: Callable[[dict[str, Any]], bool]) -> ClusterJudge:
    """No pod outside the system's namespaces; those of the system are the components themselves."""

    def judge(cluster: Cluster) -> str:
        names = [
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            for pod in cluster.pods
            if pod["metadata"]["namespace"] not in SYSTEM_NAMESPACES and bad(pod["spec"])
        ]
        return f"{described}: {', '.join(names)}" if names else ""

    return judge


def _any_container(name: str) -> Callable[[dict[str, Any]], bool]:
    def bad(spec: dict[str, Any]) -> bool:
        containers = spec.get("initContainers", []) + spec["containers"]
        return any(one.get("securityContext", {}).get(name) for one in containers)

    return bad


def _administrators(cluster: Cluster) -> str:
    others = sorted(set(cluster.administrators) - {"Group system:masters", "Group kubeadm:cluster-admins"})
    return f"cluster-admin is bound to {', '.join(others)}" if others else ""


def _may(action: str) -> ClusterJudge:
    return lambda cluster: f"any user may {action}" if action in cluster.anybody_may else ""


ETC = "/etc/kubernetes"
API, MANAGER, SCHEDULER = "kube-apiserver", "kube-controller-manager", "kube-scheduler"
# Configurations, results, and the addresses that host-local gave away; its empty lock file holds nothing.
NETWORK_FILES = (
    "/etc/cni/net.d/*.conf*",
    "/var/lib/cni/results/*",
    "/var/lib/cni/networks/*/[0-9]*",
    "/var/lib/cni/networks/*/last_reserved_ip*",
)
PLUGINS, DISABLED = "enable-admission-plugins", "disable-admission-plugins"

CONTROL_PLANE = [
    Check("1.1.1", "mode of the API server's manifest", _mode(0o600, f"{ETC}/manifests/kube-apiserver.yaml")),
    Check(
        "1.1.2",
        "owner of the API server's manifest",
        _owner("root:root", f"{ETC}/manifests/kube-apiserver.yaml"),
    ),
    Check(
        "1.1.3",
        "mode of the manager's manifest",
        _mode(0o600, f"{ETC}/manifests/kube-controller-manager.yaml"),
    ),
    Check(
        "1.1.4",
        "owner of the manager's manifest",
        _owner("root:root", f"{ETC}/manifests/kube-controller-manager.yaml"),
    ),
    Check("1.1.5", "mode of the scheduler's manifest", _mode(0o600, f"{ETC}/manifests/kube-scheduler.yaml")),
    Check(
        "1.1.6",
        "owner of the scheduler's manifest",
        _owner("root:root", f"{ETC}/manifests/kube-scheduler.yaml"),
    ),
    Check("1.1.7", "mode of etcd's manifest", _mode(0o600, f"{ETC}/manifests/etcd.yaml")),
    Check("1.1.8", "owner of etcd's manifest", _owner("root:root", f"{ETC}/manifests/etcd.yaml")),
    Check(
        "1.1.9",
        "mode of the pod network's files",
        _mode(0o600, *NETWORK_FILES, optional=True),
    ),
    Check(
        "1.1.10",
        "owner of the pod network's files",
        _owner("root:root", *NETWORK_FILES, optional=True),
    ),
    Check("1.1.11", "mode of etcd's data", _data_folder(lambda folder: _mode(0o700, folder, folders=True))),
    Check(
        "1.1.12",
        "owner of etcd's data",
        _data_folder(lambda folder: _owner("etcd:etcd", folder, folders=True)),
    ),
    Check(
        "1.1.13",
        "mode of the administrators' kubeconfigs",
        _mode(0o600, f"{ETC}/admin.conf", f"{ETC}/super-admin.conf"),
    ),
    Check(
        "1.1.14",
        "owner of the administrators' kubeconfigs",
        _owner("root:root", f"{ETC}/admin.conf", f"{ETC}/super-admin.conf"),
    ),
    Check("1.1.15", "mode of the scheduler's kubeconfig", _mode(0o600, f"{ETC}/scheduler.conf")),
    Check("1.1.16", "owner of the scheduler's kubeconfig", _owner("root:root", f"{ETC}/scheduler.conf")),
    Check("1.1.17", "mode of the manager's kubeconfig", _mode(0o600, f"{ETC}/controller-manager.conf")),
    Check(
        "1.1.18", "owner of the manager's kubeconfig", _owner("root:root", f"{ETC}/controller-manager.conf")
    ),
    Check(
        "1.1.19",
        "owner of certificates and keys",
        _owner("root:root", f"{ETC}/pki", f"{ETC}/pki/*", folders=True),
    ),
    Check("1.1.20", "mode of certificates", _mode(0o644, f"{ETC}/pki/*.crt")),
    Check("1.1.21", "mode of keys", _mode(0o600, f"{ETC}/pki/*.key")),
    Check("1.2.1", "no anonymous requests", _flag(API, "anonymous-auth", is_="false")),
    Check("1.2.2", "no tokens from a file", _not_flag(API, "token-auth-file")),
    Check(
        "1.2.3",
        "external addresses of Services denied",
        _listed(API, PLUGINS, "DenyServiceExternalIPs", True),
    ),
    Check(
        "1.2.4",
        "client certificate for kubelets",
        _flag(API, "kubelet-client-certificate", "kubelet-client-key"),
    ),
    Check("1.2.5", "kubelets' certificates verified", _flag(API, "kubelet-certificate-authority")),
    Check("1.2.6", "authorization", _listed(API, "authorization-mode", "AlwaysAllow", False)),
    Check("1.2.7", "authorization of nodes", _listed(API, "authorization-mode", "Node", True)),
    Check("1.2.8", "authorization by roles", _listed(API, "authorization-mode", "RBAC", True)),
    Check("1.2.9", "limits of events", _listed(API, PLUGINS, "EventRateLimit", True)),
    Check("1.2.10", "no admission of everything", _listed(API, PLUGINS, "AlwaysAdmit", False)),
    Check("1.2.11", "images pulled for every pod", _listed(API, PLUGINS, "AlwaysPullImages", True)),
    Check("1.2.12", "admission of service accounts", _listed(API, DISABLED, "ServiceAccount", False)),
    Check("1.2.13", "admission by the namespace's life", _listed(API, DISABLED, "NamespaceLifecycle", False)),
    Check("1.2.14", "nodes restricted to themselves", _listed(API, PLUGINS, "NodeRestriction", True)),
    Check("1.2.15", "no profiling of the API server", _flag(API, "profiling", is_="false")),
    Check("1.2.16", "audit log", _flag(API, "audit-log-path")),
    Check("1.2.17", "days of the audit log", _at_least(API, "audit-log-maxage", 30)),
    Check("1.2.18", "files of the audit log", _at_least(API, "audit-log-maxbackup", 10)),
    Check("1.2.19", "size of the audit log", _at_least(API, "audit-log-maxsize", 100)),
    Check(
        "1.2.21",
        "deleted service accounts refused",
        _flag(API, "service-account-lookup", is_="true", unset=True),
    ),
    Check("1.2.22", "own key for service accounts", _flag(API, "service-account-key-file")),
    Check("1.2.23", "client certificate for etcd", _flag(API, "etcd-certfile", "etcd-keyfile")),
    Check("1.2.24", "certificate of the API server", _flag(API, "tls-cert-file", "tls-private-key-file")),
    Check("1.2.25", "CA of clients", _flag(API, "client-ca-file")),
    Check("1.2.26", "CA of etcd", _flag(API, "etcd-cafile")),
    Check("1.2.27", "encryption at rest", _flag(API, "encryption-provider-config")),
    Check("1.2.28", "encryption that encrypts", _providers),
    Check("1.2.29", "strong ciphers of the API server", _api_ciphers),
    Check(
        "1.2.30",
        "tokens of service accounts not extended",
        _flag(API, "service-account-extend-token-expiration", is_="false"),
    ),
    Check("1.3.1", "ended pods collected", _flag(MANAGER, "terminated-pod-gc-threshold")),
    Check("1.3.2", "no profiling of the manager", _flag(MANAGER, "profiling", is_="false")),
    Check(
        "1.3.3",
        "an account for each controller",
        _flag(MANAGER, "use-service-account-credentials", is_="true"),
    ),
    Check("1.3.4", "key of service accounts", _flag(MANAGER, "service-account-private-key-file")),
    Check("1.3.5", "CA for service accounts", _flag(MANAGER, "root-ca-file")),
    Check(
        "1.3.6",
        "kubelets' serving certificates rotated",
        _listed(MANAGER, "feature-gates", "RotateKubeletServerCertificate=false", False),
    ),
    Check("1.3.7", "the manager listens on the host only", _local(MANAGER)),
    Check("1.4.1", "no profiling of the scheduler", _flag(SCHEDULER, "profiling", is_="false")),
    Check("1.4.2", "the scheduler listens on the host only", _local(SCHEDULER)),
    Check("2.1", "certificate of etcd", _flag("etcd", "cert-file", "key-file")),
    Check("2.2", "etcd asks clients for certificates", _flag("etcd", "client-cert-auth", is_="true")),
    Check(
        "2.3", "etcd makes no certificates for clients", _flag("etcd", "auto-tls", is_="false", unset=True)
    ),
    Check("2.4", "certificate of etcd's peers", _flag("etcd", "peer-cert-file", "peer-key-file")),
    Check("2.5", "etcd asks peers for certificates", _flag("etcd", "peer-client-cert-auth", is_="true")),
    Check(
        "2.6", "etcd makes no certificates for peers", _flag("etcd", "peer-auto-tls", is_="false", unset=True)
    ),
    Check("2.7", "a CA of etcd's own", _own_ca),
    Check("3.2.1", "audit policy", _flag(API, "audit-policy-file")),
]

NODE = [
    Check("4.1.1", "mode of the kubelet's unit", _units(_mode, 0o600)),
    Check("4.1.2", "owner of the kubelet's unit", _units(_owner, "root:root")),
    Check(
        "4.1.3",
        "mode of kube-proxy's kubeconfig",
        _mode(0o600, "/var/lib/kube-proxy/kubeconfig", optional=True),
    ),
    Check(
        "4.1.4",
        "owner of kube-proxy's kubeconfig",
        _owner("root:root", "/var/lib/kube-proxy/kubeconfig", optional=True),
    ),
    Check("4.1.5", "mode of the kubelet's kubeconfig", _mode(0o600, f"{ETC}/kubelet.conf")),
    Check("4.1.6", "owner of the kubelet's kubeconfig", _owner("root:root", f"{ETC}/kubelet.conf")),
    Check("4.1.7", "mode of the clients' CA", _client_ca(_mode, 0o644)),
    Check("4.1.8", "owner of the clients' CA", _client_ca(_owner, "root:root")),
    Check("4.1.9", "mode of the kubelet's configuration", _mode(0o600, "/var/lib/kubelet/config.yaml")),
    Check(
        "4.1.10", "owner of the kubelet's configuration", _owner("root:root", "/var/lib/kubelet/config.yaml")
    ),
    Check(
        "4.2.1",
        "no anonymous requests",
        _kubelet("authentication.anonymous.enabled", lambda value: value is False),
    ),
    Check("4.2.2", "authorization", _kubelet("authorization.mode", lambda value: value == "Webhook")),
    Check("4.2.3", "CA of clients", _kubelet("authentication.x509.clientCAFile", bool)),
    Check("4.2.4", "no port without authentication", _kubelet("readOnlyPort", lambda value: not value)),
    Check(
        "4.2.5",
        "idle streams are closed",
        _kubelet("streamingConnectionIdleTimeout", lambda value: value not in ("0", "0s", 0)),
    ),
    Check(
        "4.2.6", "packet filter chains", _kubelet("makeIPTablesUtilChains", lambda value: value is not False)
    ),
    Check("4.2.7", "the host's own name", _not_flag("kubelet", "hostname-override")),
    Check(
        "4.2.8", "events are recorded", _kubelet("eventRecordQPS", lambda value: value is None or value >= 0)
    ),
    Check("4.2.9", "certificate of the kubelet", _kubelet("tlsCertFile", bool)),
    Check(
        "4.2.10", "client certificates rotated", _kubelet("rotateCertificates", lambda value: value is True)
    ),
    Check(
        "4.2.11",
        "serving certificates rotated",
        _kubelet("featureGates.RotateKubeletServerCertificate", lambda value: value is not False),
    ),
    Check("4.2.12", "strong ciphers of the kubelet", _kubelet_ciphers),
    Check(
        "4.2.13",
        "limit of processes in a pod",
        _kubelet("podPidsLimit", lambda value: bool(value) and value > 0),
    ),
    Check("4.2.14", "seccomp by default", _kubelet("seccompDefault", lambda value: value is True)),
    Check("4.3.1", "kube-proxy's metrics on the host only", _proxy_metrics),
]

POLICIES = [
    Check("5.1.1", "cluster-admin only where required", _administrators),
    Check("5.1.2", "access to Secrets", _may("list secrets")),
    Check("5.1.4", "access to create pods", _may("create pods")),
    Check("5.2.2", "privileged containers", _pods("privileged", _any_container("privileged"))),
    Check("5.2.3", "process ids of the host", _pods("hostPID", lambda spec: spec.get("hostPID", False))),
    Check("5.2.4", "IPC of the host", _pods("hostIPC", lambda spec: spec.get("hostIPC", False))),
    Check("5.2.5", "network of the host", _pods("hostNetwork", lambda spec: spec.get("hostNetwork", False))),
]


def failures(hosts: list[Host], cluster: Cluster) -> list[Failure]:
    """Judge a cluster; a host with an API server is a control plane."""
    found = []
    for host in hosts:
        checks = (CONTROL_PLANE if API in host.processes else []) + NODE
        for check in checks:
            seen = check.judge(host)
            if seen:
                found.append(Failure(check.number, check.title, host.name, seen))
    for check in POLICIES:
        seen = check.judge(cluster)
        if seen:
            found.append(Failure(check.number, check.title, "the cluster", seen))
    return sorted(found, key=lambda one: ([int(part) for part in one.number.split(".")], one.where))


def decided() -> set[str]:
    """Return the numbers of all checks."""
    return {check.number for check in (*CONTROL_PLANE, *NODE, *POLICIES)}


def tables(page: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return what the documentation says: failures that are justified, and what a person has to judge."""
    text = page.read_text()
    found = []
    for heading in ("Justified", "For a person to judge"):
        section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
        rows = re.findall(r"^\| ([0-9.]+) \| (.+) \|$", section[1], re.M) if section else []
        found.append(dict(rows))
    return found[0], found[1]
