# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack what a cluster is to be restored from, and see that it is of this cluster.

The members that a snapshot knew, and the names of the keys that its values are encrypted with, stand in its file in
plain text: bbolt neither compresses nor encrypts. What was deleted may still be there, so that only their absence
proves something.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_bundle as bundle
from ansible_collections.kubewright.cluster.plugins.module_utils._backup_files import NEEDED
from ansible_collections.kubewright.cluster.plugins.module_utils._durable import make_folder
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._restore_host import (
    ENCRYPTION,
    fingerprint,
    key_names,
    sha256_of,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import (
    Snapshot,
    check_sum,
    examine,
    read_record,
    snapshots,
)

# Below the folder of the backups: what was saved from data folders of members that were stopped.
RESCUED = "rescued"
# What a cluster is made of besides its data, and what kubeadm would otherwise make anew, for another cluster. The
# certificates that these sign are of one host, and kubeadm makes them for the host that begins.
IDENTITY = (
    *(f"/etc/kubernetes/pki/{name}" for name in ("ca.crt", "ca.key", "sa.key", "sa.pub")),
    *(f"/etc/kubernetes/pki/{name}" for name in ("front-proxy-ca.crt", "front-proxy-ca.key")),
    *(f"/etc/kubernetes/pki/etcd/{name}" for name in ("ca.crt", "ca.key")),
)
_URLS = re.compile(rb'"peerURLs":\[([^\]]*)\]')
_KEYS = re.compile(rb"k8s:enc:[a-z]+:v[0-9]:([A-Za-z0-9._-]{1,128}):")
_NAME = re.compile(r"(.+)-\d{8}T\d{6}Z\.tar(?:\.(?:age|gpg))?$")
_BLOCK, _OVERLAP = 1 << 20, 4096


@dataclass(frozen=True)
class Wanted:
    """`authorities` and `keys` are those of the cluster; without any, nothing is known to compare with."""

    path: str
    sha256: str
    kind: str
    folder: str
    urls: tuple[str, ...] = ()
    authorities: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Content:
    """What the snapshot tells of the cluster that it is from."""

    urls: frozenset[str]
    keys: frozenset[str]


def backups(folder: str, prefix: str) -> list[dict[str, Any]]:
    """Return what a folder has that could be restored, with what survived and was saved; the oldest first."""
    found = [told(one) for one in bundle.backups(folder, prefix)]
    for place in (folder, os.path.join(folder, RESCUED)):
        found += [_of_snapshot(one) for one in snapshots(place, prefix)]
    return sorted(found, key=lambda one: str(one["saved_at"]))


def told(one: bundle.Backup) -> dict[str, Any]:
    """Return what the record of a backup says."""
    of_file = {"path": one.path, "size": one.size, "sha256": one.sha256, "encryption": one.encryption}
    # backup.yml names them after the cluster; a name that somebody changed says nothing.
    named = _NAME.match(os.path.basename(one.path))
    return {**_of_snapshot(one.snapshot), **of_file, "kind": "bundle", "cluster": named[1] if named else ""}


def _of_snapshot(one: Snapshot) -> dict[str, Any]:
    known = asdict(one)
    keys = ("path", "size", "sha256", "revision", "saved_at", "etcd_version", "storage_version", "member")
    return {
        **{key: known[key] for key in keys},
        "kind": "snapshot",
        "encryption": "",
        "written_since_restore": known.get("written_since_restore"),
    }


def given(path: str) -> dict[str, Any]:
    """Return what is known of a file that somebody names; a snapshot may be without its record, a backup may not."""
    if not os.path.isfile(path):
        raise KubewrightError(
            "There is no such file", where=path, remedy="Correct etcd_restore_from and etcd_restore_from_host"
        )
    record = bundle.read_record(path)
    if record:
        bundle.verify(path, record)
        return told(record)
    snapshot = read_record(path)
    if snapshot:
        return _of_snapshot(snapshot)
    if not path.endswith(".db"):
        raise KubewrightError(
            "The record of this backup is missing, or is not that of this file",
            where=f"{path}.json",
            remedy="Bring the record along; the playbook backup.yml leaves it beside the backup",
        )
    return _of_snapshot(examine(path))


def scan(path: str) -> Content:
    """Read the members and the names of keys; memory does not grow with the file."""
    urls: set[str] = set()
    keys: set[str] = set()
    tail = b""
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            text = tail + block
            for found in _URLS.findall(text):
                urls.update(one.decode("ascii", "replace") for one in re.findall(rb'"([^"]+)"', found))
            keys.update(one.decode("ascii") for one in _KEYS.findall(text))
            tail = text[-_OVERLAP:]
    return Content(frozenset(urls), frozenset(keys))


def bring(wanted: Wanted) -> dict[str, Any]:
    """Verify the file, unpack it where it is a backup, and refuse what is of another cluster."""
    found = sha256_of(wanted.path)
    if wanted.sha256 and found != wanted.sha256:
        raise KubewrightError(
            "This is not the file that is meant",
            where=wanted.path,
            why=f"its SHA-256 is {found}, and {wanted.sha256} is wanted",
            remedy="Run again: it is copied again. If that does not help, use another backup",
        )
    snapshot = wanted.path
    if wanted.kind == "bundle":
        snapshot = _unpack(wanted)
    sha256 = check_sum(snapshot)
    content = scan(snapshot)
    _check_members(wanted, content.urls)
    authorities = {
        "etcd_ca": fingerprint(_packed(wanted.folder, "/etc/kubernetes/pki/etcd/ca.crt")),
        "cluster_ca": fingerprint(_packed(wanted.folder, "/etc/kubernetes/pki/ca.crt")),
    }
    if wanted.kind == "bundle":
        _check_authorities(wanted, authorities)
    return {
        "snapshot": snapshot,
        "sha256": sha256,
        "members": sorted(content.urls),
        "encryption_keys": sorted(content.keys),
        "encryption": _encryption(wanted, content.keys),
        "identity": _identity(wanted) if wanted.whole else [],
    }


def _packed(folder: str, path: str) -> str:
    return os.path.join(folder, "files", path.lstrip("/"))


def _unpack(wanted: Wanted) -> str:
    # What a run that was killed left of it may be a part.
    shutil.rmtree(wanted.folder, ignore_errors=True)
    make_folder(os.path.dirname(wanted.folder))
    os.mkdir(wanted.folder, 0o700)
    bundle.unpack(wanted.path, wanted.folder)
    return os.path.join(wanted.folder, "snapshot.db")


def _check_members(wanted: Wanted, urls: Iterable[str]) -> None:
    if urls and wanted.urls and not set(urls) & set(wanted.urls):
        raise KubewrightError(
            "This is a snapshot of another cluster",
            where=wanted.path,
            why=f"its members were {', '.join(sorted(urls))}, and those of this cluster are "
            f"{', '.join(sorted(wanted.urls))}",
            remedy="Name a backup of this cluster. If all its hosts have got new addresses, set "
            "etcd_restore_accept_other_members to true",
        )


def _check_authorities(wanted: Wanted, found: Mapping[str, str]) -> None:
    for name, value in wanted.authorities.items():
        if value and found.get(name) and found[name] != value:
            raise KubewrightError(
                "This is a backup of another cluster, or of this one before it got new certificate authorities",
                where=wanted.path,
                why=f"its {name.replace('_', ' of the ').replace('ca', 'authority')} is {found[name][:12]}, and the "
                f"hosts have {value[:12]}",
                remedy="Name a backup of this cluster",
            )


def _encryption(wanted: Wanted, used: Iterable[str]) -> str:
    """Return the encryption configuration that has to be put in place, empty where that of the host will do."""
    used = set(used)
    if not used or used & set(wanted.keys):
        return ""
    packed = _packed(wanted.folder, ENCRYPTION)
    if wanted.kind == "bundle" and used & set(key_names(packed)):
        return packed
    if not wanted.keys and not wanted.whole:
        # Nothing of ours encrypts here: the site's own configuration is not known.
        return ""
    raise KubewrightError(
        "What is encrypted in this snapshot could not be read",
        where=wanted.path,
        why=f"it was encrypted with {', '.join(sorted(used))}, and the key is neither on the hosts nor in the backup",
        remedy=f"Bring the {ENCRYPTION} of that time back to the control planes, or use another backup",
    )


def _identity(wanted: Wanted) -> list[str]:
    # Keys of authorities that somebody keeps elsewhere are in no backup.
    needed = [f"/etc/kubernetes/{path}" for path in NEEDED]
    missing = [path for path in needed if not os.path.exists(_packed(wanted.folder, path))]
    if missing:
        raise KubewrightError(
            f"The backup lacks {', '.join(missing)}",
            where=wanted.path,
            why="no host has them any more, and without them it would be another cluster",
            remedy="Use another backup",
        )
    return [path for path in (*IDENTITY, ENCRYPTION) if os.path.exists(_packed(wanted.folder, path))]
