# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one host says of itself: its part in the cluster, versions, services, certificates.

Files are read below *root*, which is only ever another folder than / in tests. Nothing here fails on a host
where nothing is installed.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import _dpkg as dpkg
from ansible_collections.kubewright.cluster.plugins.module_utils import _half_done as half_done
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError
from ansible_collections.kubewright.cluster.plugins.module_utils._host_certificates import (
    KUBELET_CLIENT,
    certificates,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
BOOTSTRAP_CONF = "/etc/kubernetes/bootstrap-kubelet.conf"
ADMIN_CONF = "/etc/kubernetes/admin.conf"
APISERVER_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
ETCD_MANIFEST = "/etc/kubernetes/manifests/etcd.yaml"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
# A restore that has not ended: a host with it is never one on which a new cluster may be started.
RESTORE_PLAN = "/var/lib/kubewright/restore/plan.json"

# What kubeadm writes first, as patterns below the root.
_KUBEADM_FILES = (
    "etc/kubernetes/admin.conf",
    "etc/kubernetes/super-admin.conf",
    "etc/kubernetes/controller-manager.conf",
    "etc/kubernetes/scheduler.conf",
    "etc/kubernetes/manifests/*.yaml",
    "etc/kubernetes/pki/*.*",
    "etc/kubernetes/pki/etcd/*.*",
    "var/lib/kubelet/*.*",
)

# A unit of this name means that etcd's data belongs to an etcd of its own, not to kubeadm.
_ETCD_UNITS = (
    "/etc/systemd/system/etcd.service",
    "/usr/lib/systemd/system/etcd.service",
    "/lib/systemd/system/etcd.service",
)

_VERSION_COMMANDS = {
    "kubeadm": ["kubeadm", "version", "--output=short"],
    "kubelet": ["kubelet", "--version"],
    "kubectl": ["kubectl", "version", "--client"],
    "containerd": ["containerd", "--version"],
    "containerd-shim-runc-v2": ["containerd-shim-runc-v2", "-v"],
    "ctr": ["ctr", "--version"],
    "runc": ["runc", "--version"],
    "etcdctl": ["etcdctl", "version"],
    "etcdutl": ["etcdutl", "version"],
    "etcd": ["etcd", "--version"],
}
_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+[^\s,]*)")

# Go's name of an architecture, which images and release files carry, by the kernel's.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_PACKAGE_MANAGERS = {"apt": "/usr/bin/apt-get", "dnf": "/usr/bin/dnf"}

# What a node fills. Each may be a filesystem of its own.
_DATA_FOLDERS = ("/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet")

# The kernel's own bound, in microseconds, above which systemd calls the clock unsynchronized (adjtimex(2)).
_MAX_CLOCK_ERROR = 16_000_000


@dataclass(frozen=True)
class EtcdAccess:
    """How the API server of this host reaches etcd; ``local`` when that etcd is a static pod of the host.

    ``prefix`` is what the names of its values begin with, ``overrides`` the resources that it keeps in another etcd,
    as its flag has them.
    """

    endpoints: list[str]
    cacert: str
    cert: str
    key: str
    local: bool
    prefix: str = "/registry"
    overrides: str = ""


def observe_host(
    runner: Runner,
    now: datetime,
    *,
    root: str = "/",
    etcdctl: str = "etcdctl",
    packages: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what the module cluster_info returns as ``host``; *packages* are those that are looked up."""
    base = Path(root)
    state, evidence = kubeadm_state(base)
    found = versions(runner, etcdctl)
    return {
        "hostname": socket.gethostname(),
        "system": system(base),
        "kubeadm": state,
        "interrupted": began.role if (began := half_done.read(base)) else None,
        "evidence": evidence,
        "versions": found,
        "image_tags": image_tags(runner, found["kubeadm"]),
        "packages": package_state(runner, _under(base, str(dpkg.FOLDER)), packages),
        "services": services(runner, ["kubelet", "containerd"]),
        "certificates": certificates(base, now),
        "addresses": addresses(runner),
        "cgroup": cgroup(base),
        "swap_kib": swap_kib(base),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": memory_mib(base),
        "disk_free_mib": {path: free_mib(base, path) for path in _DATA_FOLDERS},
        "container": in_container(base, runner),
        "ntp_synchronized": clock_synchronized(),
    }


def _under(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _text(root: Path, path: str) -> str:
    try:
        return _under(root, path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def system(root: Path) -> dict[str, Any]:
    """Return the distribution (os-release(5)), the architecture and the package manager of the host."""
    release = _text(root, "/etc/os-release")
    machine = os.uname().machine
    found = [name for name, program in _PACKAGE_MANAGERS.items() if _under(root, program).exists()]
    return {
        "id": _release(release, "ID"),
        "version_id": _release(release, "VERSION_ID"),
        "like": (_release(release, "ID_LIKE") or "").split(),
        "architecture": _ARCHITECTURES.get(machine, machine),
        "package_manager": found[0] if found else None,
    }


def _release(text: str, key: str) -> str | None:
    """Return a value of os-release that needs no escapes, None when it is missing or empty."""
    match = re.search(rf"^{key}=([\"']?)(.*?)\1[ \t]*$", text, re.MULTILINE)
    return (match.group(2) or None) if match else None


def kubeadm_state(root: Path) -> tuple[str, list[str]]:
    """Tell from files alone how far kubeadm came on this host, and which files say so.

    ``worker`` and ``control_plane`` have everything that a finished join leaves behind. ``incomplete`` has a
    part of it: a join or init that was interrupted, or a reset that did not finish.

    Where this collection's kubeadm was interrupted, everything below the folders that kubeadm fills counts.
    Elsewhere certificates alone say nothing: a site may have put its own authority there for kubeadm to use.
    """
    paths = [KUBELET_CONF, ADMIN_CONF, APISERVER_MANIFEST, ETCD_MANIFEST, KUBELET_CONFIG, KUBELET_CLIENT]
    found = [path for path in [*paths, BOOTSTRAP_CONF, RESTORE_PLAN] if _under(root, path).exists()]
    if half_done.read(root):
        more = (f"/{path.relative_to(root)}" for glob in _KUBEADM_FILES for path in sorted(root.glob(glob)))
        found += [path for path in more if path not in found]
    own_etcd = any(_under(root, unit).exists() for unit in _ETCD_UNITS)
    data = etcd_data(root)
    has_data = data is not None and not own_etcd
    if data and has_data:
        found.append(data)
    if not found:
        return "none", []
    node = {KUBELET_CONF, KUBELET_CONFIG, KUBELET_CLIENT}.issubset(found)
    control = {ADMIN_CONF, APISERVER_MANIFEST}.issubset(found)
    access = etcd_access(root)
    external = access is not None and not access.local and ETCD_MANIFEST not in found
    if node and control and (external or (ETCD_MANIFEST in found and has_data)):
        return "control_plane", found
    if node and not has_data and APISERVER_MANIFEST not in found and ETCD_MANIFEST not in found:
        return "worker", found
    return "incomplete", found


def etcd_data(root: Path) -> str | None:
    """Return the member folder of the host's etcd when it holds something."""
    folder = _flag(_text(root, ETCD_MANIFEST), "data-dir") or "/var/lib/etcd"
    member = _under(root, folder) / "member"
    try:
        return f"{folder}/member" if any(member.iterdir()) else None
    except OSError:
        return None


def etcd_access(root: Path) -> EtcdAccess | None:
    """Read from its manifest how the API server of this host reaches etcd; None without that manifest."""
    manifest = _text(root, APISERVER_MANIFEST)
    endpoints = [part for part in _flag(manifest, "etcd-servers").split(",") if part]
    if not endpoints:
        return None
    local = all(re.match(r"https?://(127\.|localhost|\[::1\])", endpoint) for endpoint in endpoints)
    own_etcd = any(_under(root, unit).exists() for unit in _ETCD_UNITS)
    return EtcdAccess(
        endpoints,
        _flag(manifest, "etcd-cafile"),
        _flag(manifest, "etcd-certfile"),
        _flag(manifest, "etcd-keyfile"),
        local and not own_etcd,
        # As the API server does it: path.Join("/", prefix).
        ("/" + (_flag(manifest, "etcd-prefix") or "registry").strip("/")).rstrip("/"),
        _flag(manifest, "etcd-servers-overrides"),
    )


def _flag(manifest: str, name: str) -> str:
    """Return the value of a flag in a static pod manifest; kubeadm writes one flag a line."""
    match = re.search(rf"^\s*-\s+[\"']?--{re.escape(name)}=(.*?)[\"']?\s*$", manifest, re.MULTILINE)
    return match.group(1) if match else ""


def versions(runner: Runner, etcdctl: str) -> dict[str, str | None]:
    """Return the version of each tool without a leading v; None when it is not installed or does not run."""
    return {
        name: tool_version(runner, [etcdctl, *argv[1:]] if name == "etcdctl" else argv)
        for name, argv in _VERSION_COMMANDS.items()
    }


def tool_version(runner: Runner, argv: list[str]) -> str | None:
    """Return the version that a tool prints, None when it is not installed or does not run."""
    if not runner.find(argv[0]):
        return None
    try:
        match = _VERSION.search(runner.run(argv, timeout=10, asks=True).stdout)
    except CommandError:
        return None
    return match.group(1) if match else None


def image_tags(runner: Runner, kubeadm: str | None) -> dict[str, str]:
    """Return the tag of each image that kubeadm installs at its own version, by the last part of the image's name."""
    if kubeadm is None:
        return {}
    # With the version named it asks no server for the newest one.
    argv = ["kubeadm", "config", "images", "list", f"--kubernetes-version={kubeadm}"]
    try:
        lines = runner.run(argv, timeout=10, asks=True).stdout.split()
    except CommandError:
        return {}
    return dict(line.rsplit("/", 1)[-1].split(":", 1) for line in lines if ":" in line)


def package_state(runner: Runner, folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return what dpkg says of packages, and whether it left them half done; nothing is asked for no names."""
    unfinished = not dpkg.observe(folder, names).whole
    if not names:
        return {"unfinished": unfinished, "installed": {}, "mode_overrides": []}
    found = dpkg.inventory(runner, folder, names)
    return {
        "unfinished": unfinished,
        "installed": {name: asdict(package) for name, package in found.installed.items()},
        "mode_overrides": list(found.mode_overrides),
    }


def addresses(runner: Runner) -> dict[str, str]:
    """Return the interface that holds each address of the host; nothing without iproute2."""
    try:
        output = runner.run(["ip", "-json", "address", "show"], timeout=10, asks=True).stdout
        links = json.loads(output)
    except (CommandError, ValueError):
        return {}
    return {
        one["local"]: link["ifname"] for link in links for one in link.get("addr_info", []) if "local" in one
    }


def services(runner: Runner, names: list[str]) -> dict[str, dict[str, bool]]:
    """Return which units are active and enabled; neither without systemd or without the unit."""
    units = [f"{name}.service" for name in names]
    argv = ["systemctl", "show", "--property=Id,ActiveState,UnitFileState", "--", *units]
    try:
        output = runner.run(argv, timeout=10, check=False, asks=True).stdout
    except CommandError:
        output = ""
    properties = {}
    for block in output.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        properties[unit.get("Id")] = unit
    return {
        name: {
            "active": properties.get(unit, {}).get("ActiveState") == "active",
            "enabled": properties.get(unit, {}).get("UnitFileState", "").startswith("enabled"),
        }
        for name, unit in zip(names, units)
    }


def cgroup(root: Path) -> int:
    """Return 2 only where the whole tree is cgroup v2; a hybrid host runs its controllers on version 1."""
    for line in _text(root, "/proc/mounts").splitlines():
        fields = line.split()
        if fields[1:3] == ["/sys/fs/cgroup", "cgroup2"]:
            return 2
    return 1


def swap_kib(root: Path) -> int:
    """Return the size of all active swap; the kubelet looks at the same file."""
    rows = [line.split() for line in _text(root, "/proc/swaps").splitlines()[1:]]
    return sum(int(row[2]) for row in rows if len(row) > 2 and row[2].isdigit())


def memory_mib(root: Path) -> int:
    """Return all memory that the kernel has to give away, as kubeadm sees it through sysinfo(2)."""
    match = re.search(r"^MemTotal:\s+(\d+) kB$", _text(root, "/proc/meminfo"), re.MULTILINE)
    return int(match.group(1)) // 1024 if match else 0


def free_mib(root: Path, path: str) -> int:
    """Return what is free where a folder is or will be, without what the filesystem keeps for root."""
    folder = _under(root, path)
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize // 2**20


def in_container(root: Path, runner: Runner) -> bool:
    if _under(root, "/run/systemd/container").exists():
        return True
    try:
        argv = ["systemd-detect-virt", "--container", "--quiet"]
        return runner.run(argv, check=False, timeout=10, asks=True).rc == 0
    except CommandError:
        return False


def clock_synchronized() -> bool | None:
    """Ask the kernel, as timedatectl does but without starting a service; None where that is not allowed."""
    # struct timex begins with: int modes; long offset, freq, maxerror. 0 in modes means read only.
    buffer = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None).adjtimex(buffer) < 0:
        return None
    maxerror = struct.unpack_from("@illl", buffer)[3]
    return bool(maxerror < _MAX_CLOCK_ERROR)
