# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade has to know beyond what cluster_info tells, of one host and of the cluster.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_info import (
    Api,
    image_version,
    parse_cluster_configuration,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.module_utils._held_pods import HELD
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import (
    etcd_data,
    free_mib,
    tool_version,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._target_kubeadm import etcd_tag

CONFIG_MAP = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
MANIFESTS = "/etc/kubernetes/manifests"
# Where kubeadm leaves what it has replaced.
TEMPORARY = "/etc/kubernetes/tmp"

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_KINDS = (
    "kubeadm-backup-etcd",
    "kubeadm-backup-manifests",
    "kubeadm-kubelet-config",
    "kubeadm-kubelet-env",
    "kubeadm-upgraded-manifests",
)
# A folder of kubeadm's: the kind, and a time or letters of chance.
_LEFT = re.compile(rf"({'|'.join(_KINDS)})-?(.+)$")

_NOT_FOUND = 404
_IMAGE = re.compile(r"^\s*image:\s*[\"']?([^\s\"']+)", re.MULTILINE)
# What members of 3.5 wrote to tell their names and the cluster's version; members of 3.6 use requests of another kind.
_OF_3_5 = (b"/0/members/", b"/0/version")


def observe_cluster_upgrade(api: Api) -> tuple[dict[str, Any], str]:
    """Return what an upgrade needs of the cluster, and the ClusterConfiguration."""
    text = str((_get(api, CONFIG_MAP).get("data") or {}).get("ClusterConfiguration") or "")
    system = "/apis/apps/v1/namespaces/kube-system"
    return {
        "kube_proxy": _image_of(_get(api, f"{system}/daemonsets/kube-proxy"), "kube-proxy"),
        "coredns": _image_of(_get(api, f"{system}/deployments/coredns"), "coredns"),
        "etcd_tag": etcd_tag(text),
    }, text


def _get(api: Api, path: str) -> dict[str, Any]:
    """Return an object, an empty one where there is none: an add-on may be disabled or replaced."""
    try:
        found: dict[str, Any] = api.get(path)
    except ApiError as error:
        if error.status != _NOT_FOUND:
            raise
        return {}
    return found


def _image_of(workload: dict[str, Any], container: str) -> str | None:
    """Return the version of a workload's image, None where there is none or somebody else's is in its place."""
    spec = ((workload.get("spec") or {}).get("template") or {}).get("spec") or {}
    images = [one["image"] for one in spec.get("containers") or [] if one.get("name") == container]
    return image_version(images[0]) if images else None


def observe_host_upgrade(root: Path = Path("/")) -> dict[str, Any]:
    """Return what an upgrade needs of this host beyond what observe_host tells."""
    written = manifests(root)
    control_plane = bool(written)
    data = etcd_data(root)
    folder = _under(root, data) if data else None
    return {
        "manifests": written,
        "lost": lost_manifests(root) if control_plane else {},
        "etcd_mib": _size(folder) // 2**20 if folder else 0,
        "old_log": log_of_3_5(folder) if folder else None,
        "free_mib": {path: free_mib(root, path) for path in ("/etc/kubernetes", "/var/lib/containerd")},
        "backups": [{"path": f"{TEMPORARY}/{path.name}", "kind": kind} for path, kind in left_behind(root)],
    }


def observe_part(runner: Runner, api: Api, node: str, root: Path = Path("/")) -> dict[str, Any]:
    """Return what the upgrade of this host's part depends on, of the host and of the cluster."""
    text = str((_get(api, CONFIG_MAP).get("data") or {}).get("ClusterConfiguration") or "")
    about = (_get(api, f"/api/v1/nodes/{node}").get("status") or {}).get("nodeInfo") or {}
    return {
        "kubeadm": tool_version(runner, ["kubeadm", "version", "--output=short"]) or "",
        "installed": tool_version(runner, ["kubelet", "--version"]) or "",
        "manifests": manifests(root),
        "lost": lost_manifests(root) if manifests(root) else {},
        "told": parse_cluster_configuration(text)["kubeadm_version"] or "",
        "pinned": etcd_tag(text),
        "kubelet": str(about.get("kubeletVersion") or "").lstrip("v"),
    }


def _under(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def manifests(root: Path = Path("/")) -> dict[str, str]:
    """Return the tag of each static pod of the control plane, by component; kubeadm writes one container a file."""
    found = {}
    for component in COMPONENTS:
        try:
            text = _under(root, f"{MANIFESTS}/{component}.yaml").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        image = _IMAGE.search(text)
        found[component] = (image_version(image[1]) or "") if image else ""
    return found


def lost_manifests(root: Path = Path("/")) -> dict[str, str]:
    """Return the manifests that a kubeadm which was killed has moved away and not replaced, with their newest backup.

    kubeadm moves the old manifest away before it moves the new one in (upgradeComponent in
    cmd/kubeadm/app/phases/upgrade/staticpods.go). A component that never had a manifest here has no backup either, and
    one that this collection holds back (static_pods) is not lost.
    """
    backups = [path for path, kind in left_behind(root) if kind == "kubeadm-backup-manifests"]
    found = {}
    for component in COMPONENTS:
        kept = [path / f"{component}.yaml" for path in backups if (path / f"{component}.yaml").exists()]
        places = (f"{folder}/{component}.yaml" for folder in (MANIFESTS, HELD))
        if kept and not any(_under(root, place).exists() for place in places):
            found[component] = f"{TEMPORARY}/{kept[-1].parent.name}/{component}.yaml"
    return found


def left_behind(root: Path = Path("/")) -> list[tuple[Path, str]]:
    """Return kubeadm's own folders with their kinds, the oldest first."""
    folder = _under(root, TEMPORARY)
    if not folder.is_dir():
        return []
    found = [
        (path, match[1]) for path in folder.iterdir() if (match := _LEFT.match(path.name)) and path.is_dir()
    ]
    return sorted(found, key=lambda one: (one[0].stat().st_mtime_ns, one[0].name))


def _size(folder: Path) -> int:
    """Return what the files of a folder take on the disk, in bytes; one that goes away meanwhile counts nothing."""
    return sum(blocks * 512 for blocks in _blocks(folder))


def _blocks(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        try:
            yield path.stat().st_blocks
        except OSError:
            continue


def log_of_3_5(member: Path) -> bool:
    """Tell whether the log of an etcd member still holds requests that members of 3.5 wrote.

    The log is searched for the paths in them, whatever of it is still needed: this finds one too many rather than one
    too few. Records are written as they are, uncompressed (server/storage/wal in etcd).
    """
    for path in sorted((member / "wal").glob("*.wal")):
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if any(content.find(words) >= 0 for words in _OF_3_5):
                    return True
        except (OSError, ValueError):
            # Released meanwhile, or empty: a segment that is not needed any more.
            continue
    return False
