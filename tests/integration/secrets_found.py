"""The secrets of a cluster by their real values, and the search for them in what a run leaves behind."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from contextlib import suppress

from crash import Hosts
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf --namespace=kube-system"
# Kinds of files with secrets: keys in PEM, kubeconfigs with keys inside, the keys of encryption at rest.
KEYS = "/etc/kubernetes/pki/*.key /etc/kubernetes/pki/etcd/*.key /var/lib/kubelet/pki/*.pem /var/lib/kubelet/pki/*.key"
KUBECONFIGS = "/etc/kubernetes/*.conf"
ENCRYPTION = "/etc/kubernetes/kubewright/encryption.yaml"
# kubeadm's own: the nonce stands before the encrypted text.
NONCE = 12


class ProcessList:
    """Looks at the command line of every process of this machine, its containers among them, every 50 ms."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProcessList:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    with suppress(OSError), open(f"/proc/{entry.name}/cmdline", "rb") as file:
                        self.seen.add(file.read().decode("utf-8", "replace").replace("\0", " "))


def bootstrap_tokens(hosts: Hosts) -> dict[str, str]:
    """Return the second halves of the bootstrap tokens that live; the first half is no secret."""
    found = json.loads(hosts.shell("cp1", f"{KUBECTL} get secrets -o json"))["items"]
    tokens = [one["data"] for one in found if one["type"] == "bootstrap.kubernetes.io/token"]
    return {
        f"token {base64.b64decode(data['token-id']).decode()}": base64.b64decode(
            data["token-secret"]
        ).decode()
        for data in tokens
    }


def private_keys(hosts: Hosts) -> dict[str, str]:
    """Return a line out of the middle of every private key on every host, by its file."""
    needles: dict[str, str] = {}
    for host in hosts.names:
        listing = hosts.shell(host, f"ls {KEYS} {KUBECONFIGS} {ENCRYPTION} 2>/dev/null", check=False).split()
        for path in listing:
            # Past the links: a path that one holds is one of the host.
            text = hosts.shell(host, f"cat {path}")
            where = f"{host}:{path}"
            for number, data in enumerate(re.findall(r"client-key-data: (\S+)", text)):
                needles[f"{where} client-key-data {number}"] = data[len(data) // 2 :][:40]
                text += "\n" + base64.b64decode(data).decode()
            for number, body in enumerate(re.findall(r"PRIVATE KEY-----\n(.*?)\n-----END", text, re.S)):
                lines = body.splitlines()
                # The first lines of keys of one kind are alike.
                needles[f"{where} private key {number}"] = lines[len(lines) // 2]
            for number, value in enumerate(re.findall(r"secret: ['\"]?([A-Za-z0-9+/=]{20,})", text)):
                needles[f"{where} encryption key {number}"] = value
            for number, value in enumerate(re.findall(r"\btoken: ['\"]?(\S+\.\S{16})", text)):
                needles[f"{where} token {number}"] = value
    return needles


def certificate_keys(hosts: Hosts, text: str) -> list[str]:
    """Return what in a text is the certificate key: what opens the certificates that kubeadm stored with it."""
    secret = json.loads(hosts.shell("cp1", f"{KUBECTL} get secret kubeadm-certs -o json"))["data"]
    stored = base64.b64decode(secret["ca.key"])
    return [
        candidate
        for candidate in set(re.findall(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", text))
        if opens(candidate, stored)
    ]


def opens(key: str, stored: bytes) -> bool:
    """Tell whether a key decrypts what kubeadm stored."""
    try:
        AESGCM(bytes.fromhex(key)).decrypt(stored[:NONCE], stored[NONCE:], None)
    except InvalidTag:
        return False
    return True


def leaks(needles: dict[str, str], places: dict[str, str]) -> list[str]:
    """Say which secret is in which place, and what stands around it there, without the secret."""
    found = []
    for place, text in places.items():
        for name, value in needles.items():
            for form in (value, base64.b64encode(value.encode()).decode().rstrip("=")):
                at = text.find(form)
                if at >= 0:
                    around = text[max(0, at - 200) : at] + "<SECRET>" + text[at + len(form) :][:80]
                    found.append(f"{name} in {place}: {around!r}")
    return found
