# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority of the doors to metrics: kept in a Secret of the cluster, so that no host is special.

It signs for doors, for those who read through them, and for metrics-server, and for nothing else. Its key is in
files only while something is signed, in a folder of memory that only root enters.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_pki import (
    Authority,
    Leaf,
    Leaves,
    Openssl,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi

NAMESPACE = "kube-system"
NAME = "kubewright-metrics-door"
MANAGER = "kubewright"
AUTHORITY_DAYS = 3650
_LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": MANAGER}
_CERTIFICATE, _KEY, _CA = "tls.crt", "tls.key", "ca.crt"
_NOT_FOUND, _CONFLICT = 404, 409


@dataclass(frozen=True)
class Reader:
    """Who reads through the doors: the Secret that gets a client certificate, and *files* beside it.

    With *serves* it is a server that is called so instead, such as metrics-server.
    """

    namespace: str
    name: str
    files: Mapping[str, str]
    serves: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"Secret {self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.name}"

    def leaf(self, folder: str) -> Leaf:
        cert, key = os.path.join(folder, "reader.crt"), os.path.join(folder, "reader.key")
        if self.serves:
            return Leaf(self.name, cert, key, self.serves[0], ("server",), self.serves)
        return Leaf(self.name, cert, key, "kubewright-metrics-reader", ("client",))


class DoorAuthority:
    """Works in *folder*, which is gone afterwards; without *act* it only looks."""

    def __init__(self, api: KubeApi, openssl: Openssl, folder: str, now: datetime, *, act: bool) -> None:
        self._api = api
        self._openssl = openssl
        self._folder = folder
        self._now = now
        self._act = act
        self._authority = Authority(openssl, folder, now)

    def load(self) -> bool:
        """Bring the authority here, made where there is none. Return whether it was made, or would be."""
        held = self._data(f"/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}")
        if held is None and not self._act:
            return True
        if held is not None:
            self._unpack(held)
            return False
        self._authority.create("kubewright-metrics-door", AUTHORITY_DAYS)
        data = {"ca.crt": self._authority.cert, "ca.key": self._authority.key}
        body = _secret(
            NAMESPACE, NAME, "Opaque", {key: Path(path).read_bytes() for key, path in data.items()}
        )
        try:
            # Not applied: another run that was faster by a moment has made the one that counts.
            self._api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", body=body)
        except ApiError as error:
            if error.status != _CONFLICT:
                raise
            held = self._data(f"/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}")
            self._unpack(held or {})
            return False
        return True

    def certificate(self) -> str:
        """Return the certificate of the authority; nothing where it was not made."""
        return self._authority.check() if self._authority.exists else ""

    def sign(self, leaves: Sequence[Leaf], requests: Mapping[str, str], days: int) -> dict[str, str]:
        """Sign what hosts ask for: each leaf by its name."""
        known = {leaf.name: leaf for leaf in leaves}
        strange = sorted(set(requests) - set(known))
        if strange:
            raise KubewrightError(f"Nobody may ask for {strange[0]!r}", where="option requests")
        if not self._act:
            return {}
        return {name: self._authority.sign(known[name], request, days) for name, request in requests.items()}

    def give(self, reader: Reader, days: int, renew_days: int) -> str:
        """Let a reader have a certificate that is good. Return created, changed or unchanged."""
        held = self._data(reader.path)
        if not self._authority.exists:
            return "created" if held is None else "changed"
        leaf = reader.leaf(self._folder)
        for path, key in ((leaf.cert, _CERTIFICATE), (leaf.key, _KEY)):
            _put(path, (held or {}).get(key, b""))
        leaves = Leaves(self._openssl, self._authority.cert, self._now)
        problem = leaves.look(leaf, renew_days).problem
        wanted = {key: text.encode() for key, text in reader.files.items()}
        wanted[_CA] = Path(self._authority.cert).read_bytes()
        same = (
            held is not None
            and {key: value for key, value in held.items() if key not in (_CERTIFICATE, _KEY)} == wanted
        )
        if same and not problem:
            return "unchanged"
        if self._act:
            if problem:
                _put(leaf.key, b"")
                leaves.install(leaf, self._authority.sign(leaf, leaves.request(leaf), days))
            wanted[_CERTIFICATE], wanted[_KEY] = Path(leaf.cert).read_bytes(), Path(leaf.key).read_bytes()
            body = _secret(reader.namespace, reader.name, "kubernetes.io/tls", wanted)
            try:
                self._api.apply(reader.path, body, MANAGER)
            except ApiError as error:
                if error.status == _NOT_FOUND:
                    error.remedy = f"Make the namespace {reader.namespace} first"
                # The answer may quote the Secret.
                error.why = "" if error.status not in (0, 401, 403, 404, 409, 429) else error.why
                raise
        return "created" if held is None else "changed"

    def _data(self, path: str) -> dict[str, bytes] | None:
        try:
            data = self._api.get(path).get("data") or {}
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        try:
            return {key: base64.b64decode(value) for key, value in data.items()}
        except (binascii.Error, TypeError) as error:
            raise KubewrightError("A Secret does not hold what it should", where=path) from error

    def _unpack(self, held: Mapping[str, bytes]) -> None:
        if not held.get("ca.crt") or not held.get("ca.key"):
            raise KubewrightError(
                "The authority of the doors to metrics is not whole",
                where=f"Secret {NAMESPACE}/{NAME}",
                why="it needs ca.crt and ca.key",
                remedy="Delete the Secret and run again: a new authority is made, and every door and reader gets a "
                "certificate of it",
            )
        _put(self._authority.cert, held["ca.crt"])
        _put(self._authority.key, held["ca.key"])


def _put(path: str, content: bytes) -> None:
    """Write a file of the folder; nothing to write is no file."""
    if not content:
        Path(path).unlink(missing_ok=True)
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(content)


def _secret(namespace: str, name: str, kind: str, data: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": namespace, "name": name, "labels": _LABELS},
        "type": kind,
        "data": {key: base64.b64encode(value).decode() for key, value in sorted(data.items())},
    }
