"""An air gap: a mirror filled from the origin, the origin switched off, a second mirror and a cluster made from it.

The tests follow each other on the same hosts. Run by `make soak`.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from labtools import ROOT, Notes, kill_in_step, playbook, run

from lab import authority, nodes, recipes

INVENTORY = "extensions/molecule/inventories/mirror"
NODES = ("cp1", "cp2", "cp3", "worker1")
MIRRORS = ("mirror1", "mirror2")
OTHERS = ("worker2", "lb1", "bastion1", "etcd1", "etcd2", "etcd3", "etcd4")
NAME = "mirror1.lab"
VERSION, NEW = (entry["version"] for entry in recipes.lock()["kubernetes"][-2:])
FINGERPRINT = "find /etc /usr /opt /var/lib /srv -xdev -type f -printf '%p %s %T@\\n' | sort | sha256sum"
# Where the first mirror's authority and password are kept; lab.authority makes them as it does the origin's.
STATE = nodes.STATE / "mirror"


@pytest.fixture(scope="module", autouse=True)
def hosts() -> Iterator[None]:
    """Bare hosts that know the first mirror by its name; afterwards the origin runs again."""
    os.environ["KUBEWRIGHT_LAB_STATE"] = str(nodes.STATE)
    if not os.environ.get("KUBEWRIGHT_KEEP"):
        run("python3", "-m", "lab", "remove", *NODES, *MIRRORS, *OTHERS)
    run("python3", "-m", "lab", "up", "--inventory", INVENTORY)
    STATE.mkdir(exist_ok=True)
    authority.ensure(STATE, NAME)
    for host in (*NODES, *MIRRORS):
        line = f"{addresses()['mirror1']} {NAME}"
        on(host, f"grep -q '{line}' /etc/hosts || echo '{line}' >>/etc/hosts")
    yield
    run("podman", "start", nodes.ORIGIN)
    if not os.environ.get("KUBEWRIGHT_KEEP"):
        run("python3", "-m", "lab", "remove", *NODES, *MIRRORS)


@cache
def addresses() -> dict[str, str]:
    """Return the addresses of the hosts."""
    return {host.name: host.address for host in nodes.inventory_hosts(ROOT / INVENTORY)}


def on(host: str, script: str, check: bool = True) -> str:
    """Run a script as root on a host, past SSH."""
    return run("podman", "exec", f"{nodes.PREFIX}{host}", "sh", "-c", script, check=check).strip()


def password() -> str:
    return (STATE / "origin-password").read_text()


def ask(path: str, method: str = "GET", login: bool = True) -> tuple[int, bytes]:
    """Ask the first mirror for something, as a host would."""
    trusting = ssl.create_default_context(cafile=STATE / "origin" / "ca.pem")
    headers = {
        "Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
    }
    if login:
        encoded = base64.b64encode(f"kube:{password()}".encode()).decode()
        headers["Authorization"] = f"Basic {encoded}"
    with socket.create_connection((addresses()["mirror1"], 443), timeout=30) as plain:
        connection = http.client.HTTPSConnection(NAME)
        connection.sock = trusting.wrap_socket(plain, server_hostname=NAME)
        connection.request(method, f"/{path}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def artefacts(host: str) -> list[dict[str, Any]]:
    """Return the list that a mirror keeps."""
    return list(json.loads(on(host, "cat /srv/kubewright-mirror/public/manifest.json"))["artefacts"])


def test_the_list_is_printed_and_nothing_is_touched() -> None:
    """On a host on which neither a web server nor a registry is installed."""
    before = on("mirror1", FINGERPRINT)
    checked = playbook("mirror", "--limit", "mirror1", "--check", inventory=INVENTORY)
    assert checked.total("failed") == 0, checked.output[-4000:]
    assert on("mirror1", FINGERPRINT) == before
    for name in (f"registry.k8s.io/kube-apiserver:v{VERSION}", f"registry.k8s.io/kube-apiserver:v{NEW}"):
        assert re.search(rf"sha256:[0-9a-f]{{64}} +\d+ +[\d.]+ +image +{re.escape(name)}", checked.output), (
            name
        )
    assert re.search(rf"sha256:[0-9a-f]{{64}} .*kubelet_{re.escape(NEW)}-1\.1_amd64\.deb", checked.output)
    assert "Would install" in checked.said and password() not in checked.output


def test_the_mirror_is_filled(notes: Notes) -> None:
    """Cut off on the way, and run again."""
    limit = ("--limit", "mirror1")
    kill_in_step("mirror", "Bring what is missing", *limit, inventory=INVENTORY, after=10)
    filled = playbook("mirror", *limit, inventory=INVENTORY)
    assert filled.total("failed") == 0 and filled.total("changed") > 0, filled.output[-4000:]
    assert "Experimental" in filled.output and password() not in filled.output
    assert f"kube_cluster_package_url: https://{NAME}/kubernetes/v{{minor}}" in filled.output
    size = on("mirror1", "du -sm /srv/kubewright-mirror | cut -f1")
    notes.add(
        f"mirror.yml: {len(artefacts('mirror1'))} artefacts, {size} MiB, {filled.seconds:.0f} s after a kill"
    )
    # Neither by their own settings: the registry listens to nobody else, and nobody else's page is served.
    listening = on("mirror1", "grep -h ': 0\\{8,32\\}:\\(1388\\|0050\\)' /proc/net/tcp /proc/net/tcp6; true")
    assert listening == "", "something listens on ports 5000 or 80 of all addresses"


def test_a_second_run_changes_nothing(notes: Notes) -> None:
    again = playbook("mirror", "--limit", "mirror1", inventory=INVENTORY)
    assert again.total("changed") == 0 and again.total("failed") == 0, again.output[-4000:]
    checked = playbook("mirror", "--limit", "mirror1", "--check", "--diff", inventory=INVENTORY)
    assert checked.total("changed") == 0 and not re.search(r"^[+-]{3} ", checked.output, re.M), checked.output
    notes.add(f"mirror.yml again: {again.seconds:.0f} s")


def test_everything_in_the_list_is_served_with_its_digest() -> None:
    """To who has the password, and to be read only."""
    listed = artefacts("mirror1")
    kinds = {one["kind"] for one in listed}
    assert kinds == {"package", "file", "image", "index"}
    for one in listed:
        status, body = ask(one["path"])
        algorithm, _, digest = one["digest"].partition(":")
        assert (status, hashlib.new(algorithm, body).hexdigest()) == (200, digest), one
    assert ask("manifest.json", login=False)[0] == ask("v2/", login=False)[0] == 401
    for path in ("v2/registry.k8s.io/pause/blobs/uploads/", "manifest.json"):
        assert ask(path, "POST")[0] == ask(path, "PUT")[0] == 403
    versions = {one["name"]: one["versions"] for one in listed if one["kind"] == "image"}
    assert versions[f"registry.k8s.io/kube-proxy:v{NEW}"] == [NEW]
    assert versions["registry.k8s.io/etcd:3.6.16-0"] == []


def test_another_mirror_is_filled_from_the_first_alone(notes: Notes) -> None:
    """The origin is switched off, here and for all that follows."""
    run("podman", "stop", "--time", "2", nodes.ORIGIN)
    filled = playbook("mirror", "--limit", "mirror2", inventory=INVENTORY)
    assert filled.total("failed") == 0 and password() not in filled.output, filled.output[-4000:]
    notes.add(f"mirror.yml from another mirror: {filled.seconds:.0f} s")
    same = [{key: one[key] for key in ("path", "digest", "size", "versions")} for one in artefacts("mirror1")]
    assert [
        {key: one[key] for key in ("path", "digest", "size", "versions")} for one in artefacts("mirror2")
    ] == same
    kept = on("mirror2", f"grep -rIlF '{password()}' /etc /var/log /root /home /tmp; true")
    assert kept == "", "the password of the other mirror is used and not kept"


def test_a_folder_is_served_without_asking_and_damage_is_found() -> None:
    """As one that came by disk: it is compared with its own list."""
    limit = ("--limit", "mirror2")
    by_disk = ("-e", "kube_mirror_fill=false")
    assert playbook("mirror", *limit, *by_disk, inventory=INVENTORY).total("changed") == 0
    package = next(one["path"] for one in artefacts("mirror2") if one["name"] == "kubelet")
    on("mirror2", f"printf x >>/srv/kubewright-mirror/public/{package}")
    found = playbook("mirror", *limit, *by_disk, inventory=INVENTORY, check=False)
    assert found.total("failed") == 1 and "lacks 1 artefacts of its own list" in found.said, found.output[
        -3000:
    ]
    mended = playbook("mirror", *limit, inventory=INVENTORY)
    assert mended.total("changed") == 1 and mended.total("failed") == 0, mended.output[-3000:]
    assert playbook("mirror", *limit, *by_disk, inventory=INVENTORY).total("changed") == 0


def test_a_cluster_is_provisioned_from_the_mirror_alone(notes: Notes) -> None:
    """Three control planes and a worker; nothing of it comes from anywhere else but Debian's packages."""
    assert nodes.ORIGIN not in nodes.running()
    made = playbook("site", inventory=INVENTORY)
    assert made.total("failed") == 0 and made.total("unreachable") == 0, made.output[-6000:]
    notes.add(f"site.yml from a mirror alone, 3 + 1: {made.seconds:.0f} s")
    verified = playbook("verify", inventory=INVENTORY)
    assert verified.total("failed") == 0
    again = playbook("site", inventory=INVENTORY)
    assert again.total("changed") == 0, again.output[-4000:]
    log = on("mirror1", "cat /var/log/nginx/access.log")
    for host in NODES:
        for path in (
            r"/kubernetes/v1\.36/deb/amd64/kubelet_",
            r"/github/containerd/containerd/releases/download/.*\.tar\.gz",
            r"/github/opencontainers/runc/releases/download/.*/runc\.amd64",
            r"/v2/registry\.k8s\.io/kube-proxy/",
            r"/v2/ghcr\.io/flannel-io/flannel/",
        ):
            assert re.search(
                rf"^{re.escape(addresses()[host])} - kube .*GET {path}\S* HTTP/1.\d\" 200", log, re.M
            ), (
                host,
                path,
            )
    assert "origin.lab" not in on("cp1", "grep -rh origin /etc/apt /etc/containerd; true")


def test_the_mirror_is_ready_for_the_upgrade_to_come() -> None:
    """The target's kubeadm comes from it and rehearses, and so do the images of the new version."""
    planned = playbook("upgrade", "-e", f"kube_cluster_version={NEW}", "--check", inventory=INVENTORY)
    assert planned.total("failed") == 0 and f"{VERSION} -> {NEW}" in planned.said, planned.output[-4000:]
    for image in (f"registry.k8s.io/kube-proxy:v{NEW}", "registry.k8s.io/etcd:3.6.16-0"):
        on("worker1", f"crictl pull {image}")
