# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificates that a host's part of a cluster depends on, where they lie and when they end.

PRIVATE to the collection: this interface can change in any release. The role kube_metrics_door copies it to hosts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate

KUBELET_CLIENT = "/var/lib/kubelet/pki/kubelet-client-current.pem"
KUBELET_SERVER = "/var/lib/kubelet/pki/kubelet-server-current.pem"

_EMBEDDED = re.compile(r"^\s*client-certificate-data:\s*(\S+)", re.MULTILINE)


def certificates(root: Path, now: datetime) -> list[dict[str, Any]]:
    """Read every certificate that this host's part of the cluster depends on, sorted by path."""
    return [certificate(path, pem, now) for path, pem in certificate_texts(root)]


def certificate_texts(root: Path) -> Iterator[tuple[str, bytes]]:
    """Find them below *root*; a kubeconfig may hold several."""
    folder = _under(root, "/etc/kubernetes")
    for conf in sorted(folder.glob("*.conf")):
        path = f"/etc/kubernetes/{conf.name}"
        for data in _EMBEDDED.findall(_text(root, path)):
            try:
                yield path, base64.b64decode(data.strip("\"'"))
            except binascii.Error:
                yield path, b""
    found = [*sorted((folder / "pki").glob("**/*.crt")), *sorted(_under(root, "/etc/etcd/pki").glob("*.crt"))]
    files = [f"/{file.relative_to(root)}" for file in found]
    for path in [*files, KUBELET_CLIENT, KUBELET_SERVER]:
        if _under(root, path).exists():
            yield path, _text(root, path).encode()


def certificate(path: str, pem: bytes, now: datetime) -> dict[str, Any]:
    """Return what is told of one; *error* says why nothing is."""
    try:
        read = parse_certificate(pem)
    except ValueError as error:
        unknown = dict.fromkeys(("subject", "issuer", "not_after", "days_left", "lifetime_days"))
        return {"path": path, **unknown, "error": str(error)}
    return {
        "path": path,
        "subject": read.subject_cn,
        "issuer": read.issuer_cn,
        "not_after": read.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "days_left": round((read.not_after - now).total_seconds() / 86400, 2),
        "lifetime_days": round((read.not_after - read.not_before).total_seconds() / 86400, 2),
        "error": None,
    }


def _under(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _text(root: Path, path: str) -> str:
    try:
        return _under(root, path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
