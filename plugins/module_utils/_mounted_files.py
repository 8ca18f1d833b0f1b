# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether a static pod has read the files that it mounts as they are now.

The API server reads an audit policy or an admission configuration once, when it starts. Two observations
answer whether it must start again:

* The annotation that this collection writes into a manifest: the digest of the mounted files as they were when
  the manifest was written. As long as it is the digest of the files as they are, nothing is stale, whatever the
  clocks say.
* The clock, where there is no annotation (kubeadm wrote the manifest) or another one: a file is stale if it
  changed after the container was made. A container that the kubelet restarted after the change has read it.

Counted are the files behind read-only mounts, except those that kubeadm mounts by itself (certificates, which
the components read again on their own, and kubeconfigs), and except the configurations that the API server
takes over while it runs.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

# Volumes of kubeadm's own manifests (cmd/kubeadm/app/phases/controlplane/volumes.go and phases/etcd/local.go).
_KUBEADMS_OWN = ("k8s-certs", "ca-certs", "kubeconfig", "flexvolume-dir", "etcd-data", "etcd-certs")
_KUBEADMS_PREFIXES = ("etc-pki", "etc-ca-certificates", "usr-share-ca", "usr-local-share-ca", "etcd-certs-")

# What the API server reads again by itself (Kubernetes documentation, "Authenticating", "Authorization", and
# "Encrypting Confidential Data at Rest", which asks for a second argument).
_RELOADED = ("--authentication-config", "--authorization-config")
_ENCRYPTION = "--encryption-provider-config"

# A folder with more than this is not one of configuration files.
_MOST_FILES = 1000


def reloaded_paths(pod: Mapping[str, Any]) -> list[str]:
    """Return the paths on the host of the files that the component takes over while it runs."""
    container = pod["spec"]["containers"][0]
    arguments = dict(word.partition("=")[::2] for word in container.get("command") or [])
    names = [*_RELOADED]
    if arguments.get(f"{_ENCRYPTION}-automatic-reload") == "true":
        names.append(_ENCRYPTION)
    return [_on_host(pod, arguments[name]) for name in names if arguments.get(name)]


def _on_host(pod: Mapping[str, Any], path: str) -> str:
    """Return where a path in the container is on the host, which is usually the same."""
    volumes = {
        volume["name"]: volume["hostPath"]["path"]
        for volume in pod["spec"].get("volumes") or []
        if "hostPath" in volume
    }
    mounts = pod["spec"]["containers"][0].get("volumeMounts") or []
    for mount in sorted(mounts, key=lambda one: len(one["mountPath"]), reverse=True):
        inside = mount["mountPath"].rstrip("/")
        if mount["name"] in volumes and (path == inside or path.startswith(inside + "/")):
            return str(volumes[mount["name"]]).rstrip("/") + path[len(inside) :]
    return path


def mounted_paths(pod: Mapping[str, Any]) -> list[str]:
    """Return the paths on the host that the pod only reads, without kubeadm's own."""
    spec = pod["spec"]
    read_only = {
        mount["name"]
        for container in spec["containers"]
        for mount in container.get("volumeMounts") or []
        if mount.get("readOnly")
    }
    return sorted(
        volume["hostPath"]["path"]
        for volume in spec.get("volumes") or []
        if volume["name"] in read_only
        and "hostPath" in volume
        and volume["name"] not in _KUBEADMS_OWN
        and not volume["name"].startswith(_KUBEADMS_PREFIXES)
    )


def missing_paths(pod: Mapping[str, Any]) -> list[str]:
    """Return the paths that must be on the host before the pod can start, and are not."""
    return sorted(
        volume["hostPath"]["path"]
        for volume in pod["spec"].get("volumes") or []
        if (volume.get("hostPath") or {}).get("type") in ("File", "Directory")
        and not os.path.exists(volume["hostPath"]["path"])
    )


def read_once(pod: Mapping[str, Any]) -> list[str]:
    """Return the files on the host that the component reads at its start and never again."""
    reloaded = set(reloaded_paths(pod))
    return [path for path in _files(mounted_paths(pod)) if path not in reloaded]


def digest(files: list[str]) -> str | None:
    """Return one digest of all files, None where there are none."""
    whole, found = hashlib.sha256(), False
    for path in files:
        found = True
        whole.update(f"{path}\0{hashlib.sha256(_content(path)).hexdigest()}\0".encode())
    return f"sha256:{whole.hexdigest()}" if found else None


def changed_since(files: list[str], moment: float) -> bool:
    """Tell whether a file changed at or after a moment (Unix seconds). A doubtful case counts as changed."""
    for path in files:
        status = os.stat(path)
        if max(status.st_mtime, status.st_ctime) >= moment:
            return True
    return False


def _files(paths: list[str]) -> Iterator[str]:
    count = 0
    for path in paths:
        inside = [path] if not os.path.isdir(path) else sorted(_below(path))
        for file in inside:
            if os.path.exists(file) and stat.S_ISREG(os.stat(file).st_mode):
                count += 1
                if count > _MOST_FILES:
                    raise KubewrightError(
                        "A static pod mounts too many files to watch them",
                        where=path,
                        why=f"more than {_MOST_FILES}",
                        remedy="Mount a folder that holds configuration files only",
                    )
                yield file


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise KubewrightError(
            "A file that a static pod mounts cannot be read", where=path, why=error.strerror or str(error)
        ) from error


def _below(folder: str) -> Iterator[str]:
    for place, _folders, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in names)
