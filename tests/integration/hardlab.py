"""What the tests of hardening and encryption share: the hosts of a lab, and looks at them from outside."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import shlex
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from labtools import INVENTORY, ROOT, run

from lab import nodes

CONFIG = "/etc/kubernetes/kubewright/encryption.yaml"
ETCDCTL = (
    "etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt "
    "--cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key"
)


@cache
def addresses() -> dict[str, str]:
    """Return the address of every host."""
    return {host.name: host.address for host in nodes.inventory_hosts(ROOT / INVENTORY)}


@cache
def group(name: str) -> list[str]:
    """Return the hosts of a group."""
    listing = json.loads(run(nodes.ansible_tool("ansible-inventory"), "-i", INVENTORY, "--list"))
    return sorted(listing.get(name, {}).get("hosts", []))


def control_planes() -> list[str]:
    """Return the control planes."""
    return group("control_plane")


def members() -> list[str]:
    """Return every host that is a node."""
    return control_planes() + group("workers")


def shell(host: str, script: str, check: bool = True) -> str:
    """Run a script as root on a host."""
    return run("podman", "exec", f"{nodes.PREFIX}{host}", "sh", "-c", script, check=check)


def kubectl(*words: str, host: str = "", check: bool = True) -> str:
    """Run kubectl on a control plane, against its own API server."""
    host = host or control_planes()[0]
    config = ["--kubeconfig", "/etc/kubernetes/admin.conf", "--server", f"https://{addresses()[host]}:6443"]
    return run("podman", "exec", f"{nodes.PREFIX}{host}", "kubectl", *config, *words, check=check)


def admin(folder: Path) -> tuple[str, ssl.SSLContext]:
    """Return the URL of the cluster, and how its admin speaks to it; the pair of the admin is kept in a folder."""
    config = json.loads(kubectl("config", "view", "--raw", "--flatten", "--minify", "-o", "json"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    pair = folder / "client.pem"
    pair.touch(0o600)
    pair.write_bytes(
        base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"])
    )
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    tls.load_cert_chain(pair)
    return cluster["server"], tls


def anonymous(host: str, path: str, port: int = 6443) -> int:
    """Return the status of a request without credentials."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(addresses()[host], port, timeout=10, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def raw_value(path: str, host: str = "") -> bytes:
    """Return what etcd holds under a path."""
    answer = json.loads(shell(host or control_planes()[0], f"{ETCDCTL} get {path} -w json"))
    [item] = answer["kvs"]
    return base64.b64decode(item["value"])


def prefixes(resource: str) -> dict[str, int]:
    """Return how many values of a resource etcd holds, by the first letters of what they are."""
    answer = json.loads(shell(control_planes()[0], f"{ETCDCTL} get /registry/{resource}/ --prefix -w json"))
    found: dict[str, int] = {}
    for item in answer.get("kvs", []):
        match = re.match(rb"k8s:enc:secretbox:v1:[^:]+:", base64.b64decode(item["value"]))
        name = match[0].decode() if match else "not encrypted"
        found[name] = found.get(name, 0) + 1
    return found


def raise_alarm(host: str, member: str, alarm: str) -> None:
    """Raise an alarm of a member, by its hexadecimal id: etcd's gateway can, etcdctl cannot."""
    script = (
        "import json, ssl, urllib.request as u; c = ssl.create_default_context("
        "cafile='/etc/kubernetes/pki/etcd/ca.crt'); c.verify_flags &= ~ssl.VERIFY_X509_STRICT; "
        "c.load_cert_chain('/etc/kubernetes/pki/etcd/server.crt', '/etc/kubernetes/pki/etcd/server.key'); "
        f"b = json.dumps({{'action': 'ACTIVATE', 'memberID': '{int(member, 16)}', 'alarm': '{alarm}'}}).encode(); "
        "u.urlopen(u.Request('https://127.0.0.1:2379/v3/maintenance/alarm', data=b), context=c)"
    )
    shell(host, f"python3 -c {shlex.quote(script)}")


@dataclass(frozen=True)
class Keys:
    """The file of one host."""

    sha256: str
    secrets: dict[str, str]
    order: list[str]


def keys(host: str) -> Keys:
    """Read the file of a host: the test looks at the real keys, to search for them."""
    text = shell(host, f"cat {CONFIG}")
    entry = next(one for one in json.loads(text)["resources"] if one["resources"] == ["secrets"])
    found: dict[str, str] = {}
    order: list[str] = []
    for provider in entry["providers"]:
        for key in provider.get("secretbox", {}).get("keys", []):
            found[key["name"]] = key["secret"]
            order.append(key["name"])
        order += ["identity"] if "identity" in provider else []
    return Keys(hashlib.sha256(text.encode()).hexdigest(), found, order)


def arguments(host: str, component: str) -> dict[str, str]:
    """Return the arguments that a component runs with."""
    script = f"tr '\\0' '\\n' < /proc/$(pgrep -x -o {component[:15]})/cmdline"
    words = [line.removeprefix("--").partition("=") for line in shell(host, script).splitlines()[1:]]
    return {name: value for name, _equals, value in words}


def objects(*words: str) -> list[dict[str, Any]]:
    """Return the objects of a kind."""
    return list(json.loads(kubectl("get", *words, "-o", "json"))["items"])
