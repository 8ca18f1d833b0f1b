# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renew the certificates that kubeadm made on this control plane, and restart who still runs by the old ones.

`kubeadm certs renew` writes files and restarts nothing, and a process that has read a certificate at its start goes on
with it until it ends (kubernetes/website 28875). Whether a process is older than its files is read from both, so that
a run that was cut off between them is finished by the next one.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import write_file
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

# In the order in which they are restarted.
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

_PKI = "/etc/kubernetes/pki"
_AUTHORITY, _ETCD_AUTHORITY = f"{_PKI}/ca.key", f"{_PKI}/etcd/ca.key"
_TIMEOUT = 60.0  # seconds

_SECRETS = re.compile(r"^([ ]+client-(?:certificate|key)-data:).*$", re.MULTILINE)


@dataclass(frozen=True)
class Certificate:
    """One of kubeadm's: its file, the key that signs it, and who uses it.

    ``reloads`` is true where the process takes a new file over by itself, as the API server does with the one that it
    shows (DynamicCertKeyPairContent in k8s.io/apiserver).
    """

    path: str
    authority: str
    user: str = ""
    reloads: bool = False


# By kubeadm's names (renewal.NewManager in cmd/kubeadm/app/phases/certs/renewal/manager.go).
CERTIFICATES = {
    "etcd-server": Certificate(f"{_PKI}/etcd/server.crt", _ETCD_AUTHORITY, "etcd"),
    "etcd-peer": Certificate(f"{_PKI}/etcd/peer.crt", _ETCD_AUTHORITY, "etcd"),
    "etcd-healthcheck-client": Certificate(f"{_PKI}/etcd/healthcheck-client.crt", _ETCD_AUTHORITY),
    "apiserver": Certificate(f"{_PKI}/apiserver.crt", _AUTHORITY, "kube-apiserver", reloads=True),
    "apiserver-kubelet-client": Certificate(
        f"{_PKI}/apiserver-kubelet-client.crt", _AUTHORITY, "kube-apiserver"
    ),
    "apiserver-etcd-client": Certificate(
        f"{_PKI}/apiserver-etcd-client.crt", _ETCD_AUTHORITY, "kube-apiserver"
    ),
    "front-proxy-client": Certificate(
        f"{_PKI}/front-proxy-client.crt", f"{_PKI}/front-proxy-ca.key", "kube-apiserver"
    ),
    "controller-manager.conf": Certificate(
        "/etc/kubernetes/controller-manager.conf", _AUTHORITY, "kube-controller-manager"
    ),
    "scheduler.conf": Certificate("/etc/kubernetes/scheduler.conf", _AUTHORITY, "kube-scheduler"),
    "admin.conf": Certificate("/etc/kubernetes/admin.conf", _AUTHORITY),
    "super-admin.conf": Certificate("/etc/kubernetes/super-admin.conf", _AUTHORITY),
}


@dataclass(frozen=True)
class Seen:
    """What there is: days that are left and times of the files by kubeadm's names, and since when components run."""

    days_left: Mapping[str, float]
    written: Mapping[str, float]
    signable: frozenset[str]
    running_since: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """``foreign`` are certificates that end soon and whose authority's key is not on this host."""

    renew: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.renew or self.restart)


def observe(
    root: Path, certificates: Iterable[Mapping[str, Any]], since: Callable[[str], float | None]
) -> Seen:
    """Put together what is known. *certificates* are those of observe_host, *since* asks the container runtime."""
    left = {one["path"]: one["days_left"] for one in certificates if one["days_left"] is not None}
    there = {name: one for name, one in CERTIFICATES.items() if one.path in left}
    running = {name: since(name) for name in COMPONENTS}
    return Seen(
        days_left={name: float(left[one.path]) for name, one in there.items()},
        written={name: _under(root, one.path).stat().st_mtime for name, one in there.items()},
        signable=frozenset(name for name, one in there.items() if _under(root, one.authority).exists()),
        running_since={name: at for name, at in running.items() if at is not None},
    )


def _under(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def plan(seen: Seen, days: float, *, lent: bool = False) -> Plan:
    """Decide what is renewed, and who is restarted for it or still runs by an older file.

    *lent* says that the API server still asks members of etcd that a run which was cut off has lent it.
    """
    due = [name for name, left in seen.days_left.items() if left < days]
    renew = tuple(name for name in due if name in seen.signable)
    old = {CERTIFICATES[name].user for name in renew} | {
        CERTIFICATES[name].user
        for name, written in seen.written.items()
        if not CERTIFICATES[name].reloads
        and written > seen.running_since.get(CERTIFICATES[name].user, written)
    }
    if lent:
        old.add("kube-apiserver")
    return Plan(
        renew,
        tuple(name for name in COMPONENTS if name in old and name in seen.running_since),
        tuple(name for name in due if name not in seen.signable),
    )


def renew(runner: Runner, names: Sequence[str], root: Path = Path("/")) -> None:
    """Renew certificates. kubeadm ends well too where it has none of a name, or not the key of its authority."""
    for name in names:
        file = _under(root, CERTIFICATES[name].path)
        before = file.read_bytes()
        said = runner.run(["kubeadm", "certs", "renew", name], timeout=_TIMEOUT).stdout.strip()
        if file.read_bytes() == before:
            raise KubewrightError(
                f"kubeadm has not renewed {name}",
                where=str(file),
                why=said.rpartition("\n")[2],
                remedy="Compare ClusterConfiguration in the ConfigMap kubeadm-config with what is on this host",
            )


def refresh_copies(source: Path, copies: Iterable[Path], *, act: bool = True, due: bool = False) -> list[str]:
    """Give copies of a kubeconfig its new certificate; one that differs in anything else is somebody's own.

    Without *act* only tell which ones would get it; those that are up to date too, where *source* is *due* itself.
    """
    if not source.exists():
        return []
    text = source.read_text(encoding="utf-8")
    refreshed = []
    for copy in copies:
        try:
            before = copy.read_text(encoding="utf-8")
        except OSError:
            continue
        if (before != text or due) and _SECRETS.sub(r"\1", before).strip() == _SECRETS.sub(
            r"\1", text
        ).strip():
            if act:
                owner = copy.stat()
                write_file(copy, text.encode(), 0o600)
                _give(copy, owner.st_uid, owner.st_gid)
            refreshed.append(str(copy))
    return refreshed


def _give(path: Path, user: int, group: int) -> None:
    if (path.stat().st_uid, path.stat().st_gid) != (user, group):
        os.chown(path, user, group)
