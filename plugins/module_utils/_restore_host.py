# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one host has that a restore needs to know of. Nothing is touched.

    /var/lib/kubewright/restore/plan.json      the plan of a restore that has not ended; roles write it
    /var/lib/kubewright/restore/SHA256.source  the file that it restores

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import _half_done as half_done
from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import look, restored_at
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._held_pods import (
    COMPONENTS,
    HELD,
    MANIFESTS,
    places,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import (
    ADMIN_CONF,
    KUBELET_CONF,
    KUBELET_CONFIG,
    RESTORE_PLAN,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_restore import (
    utility_version,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate

FOLDER = os.path.dirname(RESTORE_PLAN)
ENCRYPTION = "/etc/kubernetes/kubewright/encryption.yaml"
SOURCE = ".source"
_PKI = "/etc/kubernetes/pki"
_OWN_PKI = "/etc/etcd/pki"
_UNIT = "/etc/systemd/system/etcd.service"
_API = (
    *(KUBELET_CONF, KUBELET_CONFIG, ADMIN_CONF),
    *(f"{_PKI}/{name}" for name in ("ca.crt", "sa.key", "sa.pub", "front-proxy-ca.crt")),
    *(f"{_PKI}/{name}" for name in ("apiserver.crt", "etcd/ca.crt")),
)
_MEMBER = ("server.crt", "server.key", "peer.crt", "peer.key")
# By what a host is: the files without which its part cannot be started again, of which kubeadm makes none anew for a
# cluster that exists; the static pods; and what only a host has that is, or was, a part of a cluster. A site may keep
# its own authorities on an empty host.
_PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "control_plane": (
        (*_API, *(f"{_PKI}/etcd/{name}" for name in _MEMBER)),
        COMPONENTS,
        (KUBELET_CONF, KUBELET_CONFIG, ADMIN_CONF),
    ),
    "api_server": (_API, COMPONENTS[:3], (KUBELET_CONF, KUBELET_CONFIG, ADMIN_CONF)),
    "etcd": (
        (_UNIT, f"{_OWN_PKI}/ca.crt", *(f"{_OWN_PKI}/{name}" for name in _MEMBER)),
        (),
        (_UNIT, f"{_OWN_PKI}/server.key"),
    ),
    "worker": ((KUBELET_CONF, KUBELET_CONFIG), (), (KUBELET_CONF, KUBELET_CONFIG)),
}
PARTS = tuple(_PARTS)
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Layout:
    """What a host is, and where things are. `endpoints` are the client URLs of all members, to ask if etcd works."""

    part: str
    data_dir: str
    endpoints: Sequence[str]
    ca_cert: str
    client_cert: str
    client_key: str
    etcdctl: str = "/usr/local/bin/etcdctl"
    etcdutl: str = "/usr/local/bin/etcdutl"


def observe(runner: Runner, layout: Layout, root: Path = Path("/")) -> dict[str, Any]:
    """Return all but the backups."""
    needed, components, traces = _PARTS[layout.part]
    where = places(components, _at(root, MANIFESTS), _at(root, HELD))
    missing = [path for path in needed if not os.path.exists(_at(root, path))]
    missing += [f"the manifest of {name}" for name, place in where.items() if not place]
    data = data_folder(layout.data_dir)
    evidence = [path for path in traces if os.path.exists(_at(root, path))]
    evidence += [f"the manifest of {name}" for name, place in where.items() if place]
    evidence += [f"{layout.data_dir}/member"] if data["there"] else []
    began = half_done.read(root)
    return {
        "whole": not missing,
        "empty": not evidence,
        "missing": missing,
        "evidence": evidence,
        "interrupted": began.role if began else "",
        "held": [name for name, place in where.items() if place in ("held", "both")],
        "authorities": {
            "etcd_ca": fingerprint(layout.ca_cert),
            "cluster_ca": fingerprint(_at(root, f"{_PKI}/ca.crt")),
        },
        "since": since(_at(root, f"{_PKI}/ca.crt")),
        "encryption_keys": list(key_names(_at(root, ENCRYPTION))),
        "data": data,
        "plan": read_plan(_at(root, RESTORE_PLAN)),
        "sources": sources(_at(root, FOLDER)),
        "etcd": ask(runner, layout),
        "tools": tools(runner, layout.etcdutl),
        "image": image(root),
        "free": min(free(_at(root, FOLDER)), free(layout.data_dir)),
        "pods": pods(runner),
    }


def _at(root: Path, path: str) -> str:
    return str(root / path.lstrip("/"))


def tools(runner: Runner, etcdutl: str) -> dict[str, str]:
    """Return the version of the tool that restores, empty where it is not there or does not run."""
    try:
        return {"etcdutl": utility_version(runner, etcdutl)}
    except CommandError:
        return {"etcdutl": ""}


def image(root: Path) -> str:
    """Return the image that the etcd of this host runs from, empty where there is no manifest."""
    for folder in (MANIFESTS, HELD):
        with contextlib.suppress(OSError):
            text = Path(_at(root, f"{folder}/etcd.yaml")).read_text(encoding="utf-8")
            match = re.search(r"^\s*image:\s*(\S+)\s*$", text, re.MULTILINE)
            if match:
                return match[1]
    return ""


def data_folder(data_dir: str) -> dict[str, Any]:
    """Look into the data folder of the member."""
    found = look(data_dir)
    return {
        "path": data_dir,
        "there": found.has_data,
        "size": found.size,
        "in_use": found.in_use,
        # That of a file which is in use is not read, but it began with the one that a restore gave it.
        "revision": max(found.revision or 0, restored_at(found.restored) or 0),
        "foreign": found.foreign,
        "marker": found.restored,
        "aside": found.aside,
    }


def fingerprint(path: str) -> str:
    """Return the SHA-256 of the first certificate of a file, empty without one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return fingerprint_of(text)


def fingerprint_of(text: str) -> str:
    """Return the SHA-256 of the first certificate of a text, empty without one."""
    match = re.search(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", text, re.DOTALL)
    return hashlib.sha256(base64.b64decode(match[1])).hexdigest() if match else ""


def since(path: str) -> str:
    """Return the time from which on a certificate is valid, as names of backups have it; empty without one."""
    try:
        read = parse_certificate(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return read.not_before.strftime("%Y%m%dT%H%M%SZ")


def key_names(path: str) -> tuple[str, ...]:
    """Return the names of the keys in an encryption configuration, none without the file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(dict.fromkeys(re.findall(r"""["']?\bname["']?:\s*["']?([A-Za-z0-9._-]+)""", text)))


def read_plan(path: str) -> dict[str, Any]:
    """Return the open plan, empty without one. One that cannot be read is an error, not none."""
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
        for key in ("token", "stage", "made_at", "source", "hosts", "members", "seed"):
            content[key]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KubewrightError(
            "The plan of an earlier restore cannot be read",
            where=path,
            why=repr(error),
            remedy="Look at the plan of another host; remove this file when that one is right, or when there is none",
        ) from error
    return dict(content)


def sources(folder: str) -> dict[str, str]:
    """Return the files that were brought to this host, the path by the SHA-256 that they really have."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(SOURCE))
    except OSError:
        return {}
    return {sha256_of(os.path.join(folder, name)): os.path.join(folder, name) for name in names}


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file; memory does not grow with it."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def ask(runner: Runner, layout: Layout) -> dict[str, Any]:
    """Ask whether etcd works: whether a quorum of its members is there, and who is not healthy."""
    answer: dict[str, Any] = {"present": False, "sick": [], "urls": [], "revision": 0, "error": ""}
    lacking = [
        path
        for path in (layout.ca_cert, layout.client_cert, layout.client_key)
        if not os.access(path, os.R_OK)
    ]
    if lacking:
        return {**answer, "error": f"{lacking[0]} cannot be read"}
    client = EtcdCtl(
        runner, list(layout.endpoints), layout.ca_cert, layout.client_cert, layout.client_key, layout.etcdctl
    )
    try:
        etcd = client.observe()
    except KubewrightError as error:
        return {**answer, "error": str(error)}
    return {
        "present": etcd.quorum.present and etcd.leader is not None,
        "sick": [one.name or one.id for one in etcd.members if not one.healthy],
        "urls": sorted(url for one in etcd.members for url in one.peer_urls),
        "revision": max((one.revision or 0 for one in etcd.members), default=0),
        "error": "",
    }


def pods(runner: Runner) -> list[dict[str, str]]:
    """Return the pods that run here, as the container runtime has them; nothing without a runtime."""
    if not runner.find("crictl"):
        return []
    try:
        document = runner.json(["crictl", "pods", "--state=ready", "--output=json"], timeout=30)
    except CommandError:
        return []
    found = [item["metadata"] for item in document.get("items") or []]
    return sorted(
        ({"namespace": one["namespace"], "name": one["name"], "uid": one["uid"]} for one in found),
        key=lambda one: (one["namespace"], one["name"]),
    )


def free(path: str) -> int:
    """Return the bytes that are free where a folder is or will be."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free
