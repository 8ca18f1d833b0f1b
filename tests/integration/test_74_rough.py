"""Rough ground: a cluster on hosts as they are found, and the proof that each rough thing was there and was used."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import ssl

import pytest
from labtools import ROOT, Notes, playbook, run

from lab import nodes

INVENTORY = "extensions/molecule/inventories/rough"
NODES = ("cp1", "worker1", "worker2")
OTHERS = ("cp2", "cp3", "lb1")


@pytest.fixture(scope="module", autouse=True)
def lab_state() -> None:
    """The inventory looks for the lab's keys and passwords where its lookups are told to."""
    os.environ["KUBEWRIGHT_LAB_STATE"] = str(nodes.STATE)


def on(host: str, *words: str, check: bool = True) -> str:
    """Run a command as root on a host, past SSH."""
    return run("podman", "exec", f"{nodes.PREFIX}{host}", *words, check=check).strip()


def by_ssh(host: str, command: str, become: bool) -> list[str]:
    """Run a command on a host the way that Ansible goes; return the lines that it printed."""
    options = ["-m", "ansible.builtin.raw", "-a", command, "-e", json.dumps({"ansible_become": become})]
    return run("ansible", "-i", INVENTORY, host, *options).splitlines()


def addresses() -> dict[str, str]:
    """Return the addresses of the hosts."""
    return {host.name: host.address for host in nodes.inventory_hosts(ROOT / INVENTORY)}


def secrets() -> tuple[str, str]:
    """Return the origin's password, and the form in which it goes over the wire."""
    password = (nodes.STATE / "origin-password").read_text()
    return password, base64.b64encode(f"kubewright:{password}".encode()).decode()


def kubectl(*words: str) -> str:
    """Run kubectl on the control plane."""
    return on("cp1", "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", *words)


def test_the_ground_is_rough() -> None:
    """Fresh hosts, and each of them is as unpleasant as the inventory asks."""
    run("python3", "-m", "lab", "remove", *NODES, *OTHERS)
    run("python3", "-m", "lab", "up", "--inventory", INVENTORY)
    for become in (False, True):
        assert {"0027", "https_proxy=http://proxy.lab:3128"} <= set(by_ssh("cp1", "umask; env", become))
    on("worker1", "sh", "-c", "printf '#!/bin/sh\\n' > /tmp/program && chmod 755 /tmp/program")
    assert "permission denied" in on("worker1", "/tmp/program", check=False).lower()
    assert on("worker1", "hostname") == "db-17"
    (route,) = json.loads(on("cp1", "ip", "-json", "route", "get", "192.0.2.1"))
    assert route["dev"] == "eth1"
    assert addresses()["cp1"] in on("cp1", "ip", "address", "show", "eth0")
    for host in NODES:
        assert on(host, "getent", "hosts", "origin.lab", check=False) == ""
        assert nodes.IPV6_PREFIX in on(host, "ip", "-6", "address", "show", "scope", "global")
    neighbour = f"{nodes.IPV6_PREFIX}{addresses()['worker2'].rpartition('.')[2]}"
    on("cp1", "ping", "-6", "-c", "1", "-W", "5", neighbour)


def test_only_the_bastion_reaches_the_host_behind_it() -> None:
    """The controller's connections are never answered, the bastion's are."""
    with pytest.raises(TimeoutError):
        socket.create_connection((addresses()["worker2"], 22), timeout=3)
    connect = f"import socket; socket.create_connection(('{addresses()['worker2']}', 22), timeout=3)"
    on("bastion1", "python3", "-c", connect)


def test_the_origin_lets_nobody_in_without_password_or_authority() -> None:
    """Packages, files and images: 401 without the password, no TLS without the private authority."""
    trusting = ssl.create_default_context(cafile=nodes.STATE / "origin" / "ca.pem")
    for path in ("/core:/stable:/v1.36/deb/InRelease", "/opencontainers/runc/", "/v2/"):
        with socket.create_connection((nodes.ORIGIN_ADDRESS, 443), timeout=10) as plain:
            connection = http.client.HTTPSConnection(nodes.ORIGIN_NAME)
            connection.sock = trusting.wrap_socket(plain, server_hostname=nodes.ORIGIN_NAME)
            connection.request("GET", path)
            assert connection.getresponse().status == 401
    with (
        socket.create_connection((nodes.ORIGIN_ADDRESS, 443), timeout=10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname=nodes.ORIGIN_NAME)


def test_check_mode_passes_on_these_hosts() -> None:
    """Nothing of the mirror is known on the hosts yet."""
    checked = playbook("site", "--check", "--diff", inventory=INVENTORY)
    assert checked.total("failed") == 0 and checked.total("unreachable") == 0, checked.output
    assert not any(secret in checked.output for secret in secrets())


def test_a_healthy_cluster_comes_up(notes: Notes) -> None:
    """It provisions at -vvv without showing the password, a second run changes nothing, and verify passes."""
    first = playbook("site", "-vvv", "--diff", inventory=INVENTORY)
    assert first.total("failed") == 0 and set(first.hosts) == set(NODES), first.output[-6000:]
    assert not any(secret in first.output for secret in secrets())
    again = playbook("site", "--diff", inventory=INVENTORY)
    assert again.total("changed") == 0, again.output
    verified = playbook("verify", inventory=INVENTORY)
    assert verified.total("failed") == 0
    notes.add(f"rough ground: first run {first.seconds:.0f} s, second {again.seconds:.0f} s")


def test_the_cluster_uses_the_addresses_of_the_inventory() -> None:
    """Not those of the default route, of the hosts' own names or of IPv6."""
    listed = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    expected = {name: address for name, address in addresses().items() if name in NODES}
    assert {item["metadata"]["name"] for item in listed} == set(NODES)
    for item in listed:
        name = item["metadata"]["name"]
        internal = [one["address"] for one in item["status"]["addresses"] if one["type"] == "InternalIP"]
        assert internal == [expected[name]]
        assert item["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ip"] == expected[name]
    manifests = on("cp1", "sh", "-c", "cat /etc/kubernetes/manifests/*.yaml")
    assert f"--advertise-address={expected['cp1']}" in manifests
    assert f"--listen-peer-urls=https://{expected['cp1']}:2380" in manifests
    second = nodes.SECOND_SUBNET.rpartition(".")[0]
    assert second not in manifests
    virtual = re.search(r"server: https://([0-9.]+):8443", on("cp1", "cat", "/etc/kubernetes/admin.conf"))
    assert virtual and f"{virtual[1]}/32" in on("cp1", "ip", "address", "show", "eth0")
    assert second not in on("cp1", "cat", "/etc/keepalived/keepalived.conf")


def test_every_download_went_through_the_proxy_and_nothing_else() -> None:
    """Debian's packages, ours, files and images; never an API server."""
    log = run("podman", "logs", nodes.ORIGIN)
    for wanted in (
        r"Request .*GET http://deb\.debian\.org/",
        r"Request .*CONNECT origin\.lab:443",
        r"door 200 kubewright /core:/stable:/v1\.36/deb/Release\.key",
        r"door 200 kubewright /core:/stable:/v1\.36/deb/amd64/kubeadm_",
        r"door 200 kubewright /containerd/containerd/releases/download/.*\.tar\.gz ?$",
        r"door 200 kubewright /opencontainers/runc/releases/download/.*/runc\.amd64",
        r"door 200 kubewright /v2/registry\.k8s\.io/kube-apiserver/",
        r"door 200 kubewright /v2/ghcr\.io/flannel-io/flannel/",
    ):
        assert re.search(wanted, log, re.M), wanted
    tunnels = set(re.findall(r"CONNECT ([^ ]+:\d+)", log))
    assert tunnels == {"origin.lab:443"}


def test_what_runs_in_the_cluster_knows_no_proxy() -> None:
    """kubeadm copies the proxy variables that it sees into its pods."""
    assert "_PROXY" not in on("cp1", "sh", "-c", "cat /etc/kubernetes/manifests/*.yaml").upper()
    assert "_PROXY" not in kubectl("-n", "kube-system", "get", "pods", "-o", "json").upper()
    for host in NODES:
        assert "PROXY" not in on(host, "systemctl", "show", "--property=Environment", "kubelet").upper()
        assert "HTTPS_PROXY=" in on(host, "systemctl", "show", "--property=Environment", "containerd")


def test_the_password_is_where_root_alone_reads_it() -> None:
    """In two files of mode 0600 and in no log."""
    plain, encoded = secrets()
    for host in NODES:
        search = [
            "grep",
            "-rIlF",
            "-e",
            plain,
            "-e",
            encoded,
            "/etc",
            "/var/log",
            "/opt",
            "/home",
            "/root",
            "/tmp",
        ]
        found = on(host, *search, check=False).splitlines()
        assert "/etc/apt/auth.conf.d/kubewright.conf" in found
        assert "/etc/containerd/certs.d/registry.k8s.io/hosts.toml" in found
        for file in found:
            assert on(host, "stat", "-c", "%a %U", file) == "600 root", file
        journal = on(host, "journalctl", "--no-pager", "--output=cat")
        assert plain not in journal and encoded not in journal
        assert on(host, "sh", "-c", "find /etc/kubewright -perm /022") == ""


def test_the_files_are_readable_in_spite_of_the_umask() -> None:
    """What an unprivileged user or a service must read is not shut by the umask of root's session."""
    places = "/opt/kubewright /opt/cni/bin /etc/kubewright /usr/local/bin"
    # The marker of a complete installation is for root alone.
    unreadable = f"find {places} ! -type l ! -perm -004 ! -name .complete"
    assert on("cp1", "sh", "-c", unreadable) == ""
    folders = "find /opt/kubewright /etc/kubewright /etc/containerd -type d ! -perm -005"
    assert on("cp1", "sh", "-c", folders) == ""
