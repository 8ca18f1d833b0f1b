"""A cluster that site.yml made with its defaults is closed, and what has to stay open is open."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import ssl
from collections.abc import Iterator

import pytest
from hardlab import (
    CONFIG,
    INVENTORY,
    addresses,
    anonymous,
    arguments,
    control_planes,
    group,
    keys,
    kubectl,
    members,
    objects,
    prefixes,
    raw_value,
    shell,
)
from labtools import Notes, playbook, wait_until

NAME = "kubewright-hardening"
AUDIT = "/var/log/kubernetes/audit"


@pytest.fixture(scope="module")
def secret() -> Iterator[str]:
    """A Secret in the namespace default; return what it holds."""
    content = secrets.token_hex(24)
    kubectl("create", "secret", "generic", NAME, f"--from-literal=content={content}")
    yield content
    kubectl("delete", "secret", NAME, "--ignore-not-found")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/livez", 200),
        ("/readyz", 200),
        ("/healthz", 200),
        ("/livez?exclude=etcd", 200),
        ("/api/v1/namespaces/kube-public/configmaps/cluster-info", 200),
        ("/version", 401),
        ("/api", 401),
        ("/apis", 401),
        ("/metrics", 401),
        ("/openapi/v2", 401),
        ("/livez/ping", 401),
        ("/api/v1/namespaces/kube-public/configmaps", 401),
        ("/api/v1/namespaces/default/secrets", 401),
    ],
)
def test_without_credentials_only_health_and_joining(path: str, status: int) -> None:
    """Every API server answers exactly the paths of kube_control_plane_anonymous_paths."""
    assert {host: anonymous(host, path) for host in control_planes()} == dict.fromkeys(
        control_planes(), status
    )


def test_a_host_joins_over_the_open_path() -> None:
    """A worker is taken back to nothing and joins again; kubeadm reads cluster-info without credentials."""
    worker = group("workers")[-1]
    before = next(one for one in objects("nodes") if one["metadata"]["name"] == worker)["metadata"]["uid"]
    kubectl("delete", "node", worker)
    cluster = shell(
        control_planes()[0],
        "kubectl --kubeconfig /etc/kubernetes/admin.conf config view -o jsonpath='{.clusters[0].name}'",
    )
    assert (
        playbook("reset", "--limit", worker, "-e", f"reset_cluster={cluster}", inventory=INVENTORY).total(
            "failed"
        )
        == 0
    )
    joined = playbook("site", "--limit", worker, inventory=INVENTORY)
    assert joined.hosts[worker]["failed"] == 0 and "Join this host" in joined.output, joined.output

    def ready() -> bool:
        node = next(one for one in objects("nodes") if one["metadata"]["name"] == worker)
        conditions = {one["type"]: one["status"] for one in node["status"]["conditions"]}
        return node["metadata"]["uid"] != before and conditions["Ready"] == "True"

    wait_until(ready, 90, f"{worker} is ready again")


def test_etcd_holds_no_secret_in_clear(secret: str) -> None:
    """Read past the API server: the value begins with the key's name, and what it holds is nowhere in it."""
    value = raw_value(f"/registry/secrets/default/{NAME}")
    name = keys(control_planes()[0]).order[0]
    assert value.startswith(f"k8s:enc:secretbox:v1:{name}:".encode())
    for clear in (secret.encode(), base64.b64encode(secret.encode()), NAME.encode()):
        assert clear not in value
    assert set(prefixes("secrets")) == {f"k8s:enc:secretbox:v1:{name}:"}
    # The same look finds what is not encrypted, so it would find a Secret.
    assert b"kube-root-ca.crt" in raw_value("/registry/configmaps/default/kube-root-ca.crt")


def test_every_control_plane_has_the_same_key() -> None:
    """The files are the same bytes, closed, and each API server says that it uses this very file."""
    found = {host: keys(host) for host in control_planes()}
    [same] = {one.sha256 for one in found.values()}
    for host in control_planes():
        assert shell(host, f"stat -c '%a %U:%G' {CONFIG}").strip() == "600 root:root"
        metrics = kubectl("get", "--raw", "/metrics", host=host)
        [line] = [
            one for one in metrics.splitlines() if "encryption_config_controller_last_config_info{" in one
        ]
        assert f'hash="sha256:{same}"' in line


def test_the_audit_log_tells_who_and_never_what(secret: str) -> None:
    """The Secret's creation is in the log of one API server; what it holds is in none of them."""
    events = []
    for host in control_planes():
        text = shell(host, f"cat {AUDIT}/*.log")
        assert secret not in text and base64.b64encode(secret.encode()).decode() not in text
        events += [json.loads(line) for line in text.splitlines()]
    about = [
        one
        for one in events
        if one["verb"] == "create"
        and one.get("objectRef", {}).get("resource") == "secrets"
        and one.get("objectRef", {}).get("name", NAME) == NAME
        and one["user"].get("username") == "kubernetes-admin"
    ]
    assert about and all(one["level"] == "Metadata" and "requestObject" not in one for one in about)
    bodies = {one.get("objectRef", {}).get("apiGroup", "") for one in events if "requestObject" in one}
    assert bodies <= {"rbac.authorization.k8s.io"}
    leases = [one for one in events if one.get("objectRef", {}).get("resource") == "leases"]
    assert not [one for one in leases if one["user"].get("username", "").startswith("system:node:")]
    for host in control_planes():
        assert shell(host, f"stat -c %a {AUDIT}").strip() == "700"
        assert shell(host, f"stat -c %a {AUDIT}/audit.log").strip() == "600"


@pytest.mark.parametrize(
    "fields",
    [
        {"containers": [{"name": "c", "image": "none", "securityContext": {"privileged": True}}]},
        {"hostNetwork": True, "containers": [{"name": "c", "image": "none"}]},
        {
            "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
            "containers": [{"name": "c", "image": "none"}],
        },
    ],
)
def test_a_privileged_pod_is_refused(fields: dict[str, object]) -> None:
    """In a namespace without labels Pod Security enforces the level baseline."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": fields}
    text = json.dumps(pod).replace("'", "")
    config = "--kubeconfig /etc/kubernetes/admin.conf"
    said = shell(
        control_planes()[0],
        f"echo '{text}' | kubectl {config} create --dry-run=server -f - 2>&1",
        check=False,
    )
    assert 'violates PodSecurity "baseline:latest"' in said, said


def test_kubelets_are_closed() -> None:
    """Nobody reads pods or runs commands without credentials, and there is no read-only port."""
    for host in members():
        assert anonymous(host, "/pods", 10250) == 401
        assert anonymous(host, "/run/default/pod/container", 10250) == 401
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((addresses()[host], 10255), timeout=5)


def handshake(host: str, port: int, version: ssl.TLSVersion, ciphers: str) -> str:
    """Return how a server answers to one version of TLS: the suite, or the alert that it sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    # Otherwise OpenSSL itself would refuse the old version, and the server would never be asked.
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    try:
        with (
            socket.create_connection((addresses()[host], port), timeout=10) as plain,
            context.wrap_socket(plain) as wrapped,
        ):
            return str((wrapped.cipher() or [""])[0])
    except ssl.SSLError as error:
        return error.reason or str(error)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("port", [6443, 10250, 2379, 2380])
def test_old_tls_is_refused(port: int) -> None:
    """API server, kubelet and etcd send the alert for the version, and not for TLS 1.2."""
    host = control_planes()[0]
    assert "PROTOCOL_VERSION" in handshake(host, port, ssl.TLSVersion.TLSv1_1, "ALL")
    assert "PROTOCOL_VERSION" not in handshake(host, port, ssl.TLSVersion.TLSv1_2, "ALL")


# etcd cannot be asked without a client certificate: it refuses that one with the same alert.
@pytest.mark.parametrize("port", [6443, 10250])
def test_suites_without_forward_secrecy_are_refused(port: int) -> None:
    """With TLS 1.2 only ECDHE and AES-GCM are agreed on."""
    host = control_planes()[0]
    assert "HANDSHAKE_FAILURE" in handshake(host, port, ssl.TLSVersion.TLSv1_2, "AES128-SHA:AES256-SHA")
    agreed = handshake(host, port, ssl.TLSVersion.TLSv1_2, "ALL")
    assert agreed.startswith("ECDHE-") and "AES" in agreed and "GCM" in agreed


def test_modes_of_files() -> None:
    """What holds a key or a configuration is closed."""
    closed = " ".join(
        f"/etc/kubernetes/{one}" for one in ("*.conf", "manifests/*.yaml", "pki/*.key", "kubewright/*")
    )
    everywhere = (
        "/var/lib/kubelet/config.yaml /etc/kubernetes/kubelet.conf /var/lib/kubelet/kubeadm-flags.env "
        "/usr/lib/systemd/system/kubelet.service /usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"
    )
    for host in members():
        patterns = f"{everywhere} {closed if host in control_planes() else ''}"
        listed = shell(host, f"stat -L -c '%a %U:%G %n' {patterns}").splitlines()
        assert len(listed) >= 5
        assert [line for line in listed if not line.startswith("600 root:root ")] == []
    for host in control_planes():
        folders = shell(host, "stat -c '%a %U:%G %n' /var/lib/etcd /etc/kubernetes/kubewright").splitlines()
        assert [line for line in folders if not line.startswith("700 root:root ")] == []


def test_arguments_that_run() -> None:
    """What no look from outside can tell."""
    for host in control_planes():
        api = arguments(host, "kube-apiserver")
        assert {"NodeRestriction", "EventRateLimit", "DenyServiceExternalIPs"} <= set(
            api["enable-admission-plugins"].split(",")
        )
        assert api["service-account-extend-token-expiration"] == "false"
        assert int(api["audit-log-maxbackup"]) > 0 and "kubelet-certificate-authority" in api
        etcd = arguments(host, "etcd")
        assert etcd["tls-min-version"] == "TLS1.2" and "_RSA_WITH_AES_128_GCM" in etcd["cipher-suites"]
        assert not [one for one in etcd["cipher-suites"].split(",") if not one.startswith("TLS_ECDHE_")]
        for component in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            found = arguments(host, component)
            assert found["profiling"] == "false" and found["tls-min-version"] == "VersionTLS12"
    for host in members():
        config = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{host}/proxy/configz"))["kubeletconfig"]
        assert config["protectKernelDefaults"] is True and config["seccompDefault"] is True
        assert config["podPidsLimit"] == 4096


def test_the_second_run_changes_nothing_and_shows_no_key(notes: Notes) -> None:
    """Nothing of the keys is in the output at its most talkative, in diffs, or in a journal."""
    again = playbook("site", "--diff", "-vvv", inventory=INVENTORY)
    assert again.total("changed") == 0 and again.total("failed") == 0, again.output[-3000:]
    checked = playbook("site", "--check", "--diff", inventory=INVENTORY)
    assert checked.total("changed") == 0 and checked.total("failed") == 0, checked.output[-3000:]
    found = keys(control_planes()[0]).secrets
    assert found
    for key in found.values():
        assert key not in again.output
        for host in control_planes():
            assert shell(host, f"journalctl --no-pager | grep -cF '{key}'", check=False).strip() == "0"
    notes.add(f"site.yml on a hardened cluster, again: {again.seconds:.0f} s")
