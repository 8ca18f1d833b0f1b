# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host of an etcd cluster of its own has: unit, data, certificates, and what its etcd says.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_pki import (
    days_left,
    fingerprint,
    now,
    read,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_service import (
    INITIAL,
    UNIT_FILE,
    Service,
    flag,
    parse,
    version,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import (
    RESTORE_PLAN,
    addresses,
    system,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate

DATA = "/var/lib/etcd"
# In the folder of the data on purpose: who loses the one loses the other.
BEGAN = f"{DATA}/.kubewright-new-cluster"
PKI = "/etc/etcd/pki"

_STATE = re.compile(r"^ETCD_INITIAL_CLUSTER_STATE=(\w+)$", re.MULTILINE)


def observe(params: Mapping[str, Any], runner: Runner, service: Service, root: Path) -> dict[str, Any]:
    """Return what the module etcd_host_info returns."""
    text = read(str(root / UNIT_FILE.lstrip("/")))
    command = parse(text)
    pki = root / PKI.lstrip("/")
    return {
        "architecture": system(root)["architecture"],
        "addresses": sorted(addresses(runner)),
        "openssl": runner.find("openssl") is not None,
        "unit": bool(text),
        "version": version(command),
        "advertised": flag(command, "initial-advertise-peer-urls"),
        "member_name": flag(command, "name"),
        "running": version(service.command) or ("unknown" if service.command else ""),
        "data": has_data(root),
        "began": read(str(root / BEGAN.lstrip("/"))).strip(),
        "born": was_born(read(str(root / INITIAL.lstrip("/")))),
        "restoring": restoring(read(str(root / RESTORE_PLAN.lstrip("/")))),
        "authority": authority(pki),
        "certificates": certificates(pki),
        "etcd": ask(params, runner),
    }


def has_data(root: Path) -> bool:
    try:
        return any((root / DATA.lstrip("/") / "member").iterdir())
    except OSError:
        return False


def was_born(initial: str) -> bool:
    """Tell whether this host was a member of a cluster that was whole once."""
    found = _STATE.search(initial)
    return bool(found and found.group(1) == "existing")


def restoring(plan: str) -> str:
    """Return how far a restore came that did not end; empty where there is none."""
    if not plan:
        return ""
    try:
        return str(json.loads(plan)["stage"])
    except (ValueError, KeyError, TypeError):
        return "unknown"


def authority(pki: Path) -> dict[str, Any]:
    """Return which authority the host trusts, and whether it has its key. The key itself is not read."""
    text = read(str(pki / "ca.crt"))
    try:
        left = days_left(parse_certificate(text).not_after, now()) if text else None
        return {"fingerprint": fingerprint(text), "key": (pki / "ca.key").exists(), "days_left": left}
    except ValueError as error:
        raise KubewrightError(
            "The certificate of etcd's authority cannot be read",
            where=str(pki / "ca.crt"),
            why=str(error),
            remedy="Bring it from another host of the cluster, or from a backup",
        ) from error


def certificates(pki: Path) -> dict[str, float | None]:
    """Return the days that each certificate has left; None for one that cannot be read."""
    found: dict[str, float | None] = {}
    for path in sorted(pki.glob("*.crt")):
        try:
            found[path.stem] = days_left(parse_certificate(path.read_bytes()).not_after, now())
        except ValueError:
            found[path.stem] = None
    return found


def ask(params: Mapping[str, Any], runner: Runner) -> dict[str, Any]:
    """Ask etcd through every endpoint; the error is a part of the answer."""
    nothing: dict[str, Any] = {
        "members": [], "quorum": None, "leader": None, "cluster_version": "", "key_count": None,
    }  # fmt: skip
    paths = (params["ca_cert"], params["client_cert"], params["client_key"])
    if not all(os.access(path, os.R_OK) for path in paths) or not runner.find(params["etcdctl"]):
        return {**nothing, "error": "this host has no etcdctl, or no certificate for it"}
    client = EtcdCtl(runner, params["endpoints"], *paths, params["etcdctl"])
    try:
        etcd = client.observe()
        keys = client.count() if params["count_keys"] else None
    except KubewrightError as error:
        return {**nothing, "error": str(error)}
    urls = [url for member in etcd.members if member.healthy for url in member.client_urls]
    found = (cluster_version(url, paths) for url in urls)
    return {
        "members": [asdict(member) for member in etcd.members],
        "quorum": asdict(etcd.quorum),
        "leader": etcd.leader,
        "cluster_version": next((one for one in found if one), ""),
        "key_count": keys,
        "error": None,
    }


def cluster_version(url: str, tls: tuple[str, str, str], timeout: float = 3) -> str:
    """Return the minor that all members agree on, as /version tells it; it rises when the last one has come."""
    parts = urlsplit(url)
    try:
        context = ssl.create_default_context(cafile=tls[0])
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", ssl.VerifyFlags(0))
        context.load_cert_chain(tls[1], tls[2])
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 2379, timeout=timeout, context=context
        )
        try:
            connection.request("GET", "/version")
            said = json.loads(connection.getresponse().read())
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    told = str(said.get("etcdcluster") or "") if isinstance(said, dict) else ""
    return ".".join(told.split(".")[:2])
