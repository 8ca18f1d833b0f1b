# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a control plane make a snapshot of etcd usable, as observed on the host.

PRIVATE to the collection: this interface can change in any release.

The authorities and the keys that sign tokens cannot be made a second time; certificates that they sign can, and those
of one host are of no use to another, so that they are left out. What else the API server reads, its own command line
says, because only that is true: the encryption configuration above all, without which the Secrets of a snapshot are
noise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

# Below the folder of Kubernetes. Without the first ones nothing could be brought back.
NEEDED = ("pki/ca.crt", "pki/sa.key", "pki/sa.pub")
# A cluster with an authority outside has no keys of it, and one with an external etcd has its certificates elsewhere.
USUAL = (
    "pki/ca.key",
    "pki/front-proxy-ca.crt",
    "pki/front-proxy-ca.key",
    "pki/etcd/ca.crt",
    "pki/etcd/ca.key",
    "pki/apiserver-etcd-client.crt",
    "pki/apiserver-etcd-client.key",
)
# Whole folders: what this collection writes for the API server, patches, and how the components were started.
FOLDERS = ("kubewright", "patches", "manifests")

# Options of kube-apiserver that name a file which is the same on every control plane.
_OPTIONS = (
    "admission-control-config-file",
    "audit-policy-file",
    "audit-webhook-config-file",
    "authentication-config",
    "authentication-token-webhook-config-file",
    "authorization-config",
    "authorization-webhook-config-file",
    "client-ca-file",
    "egress-selector-config-file",
    "encryption-provider-config",
    "etcd-cafile",
    "etcd-certfile",
    "etcd-keyfile",
    "oidc-ca-file",
    "requestheader-client-ca-file",
    "service-account-key-file",
    "service-account-signing-key-file",
    "tracing-config-file",
)
_ARGUMENT = re.compile(r"""^\s*-\s+["']?--([a-z-]+)=([^"'\s]+)["']?\s*$""", re.MULTILINE)


def named(manifest: str) -> list[str]:
    """Return the files that the manifest of the API server names and that belong to a backup."""
    return [path for option, path in _ARGUMENT.findall(manifest) if option in _OPTIONS]


def chosen(kubernetes: str, extra: Iterable[str] = ()) -> list[str]:
    """Return the absolute paths to pack; what the API server reads and is not there is an error."""
    paths = [os.path.join(kubernetes, one) for one in NEEDED]
    paths += [path for one in USUAL if os.path.exists(path := os.path.join(kubernetes, one))]
    for folder in FOLDERS:
        paths += _below(os.path.join(kubernetes, folder))
    paths += named(_read(os.path.join(kubernetes, "manifests", "kube-apiserver.yaml")))
    for place in extra:
        if not os.path.exists(place):
            raise _missing(
                place, "It is one of the extra paths of the backup; create it, or take it off that list"
            )
        paths += _below(place) if os.path.isdir(place) else [place]
    for path in paths:
        if not os.path.isfile(path):
            raise _missing(path, "Save from a control plane that has joined, or bring the file back")
    return sorted(set(paths))


def _missing(path: str, remedy: str) -> KubewrightError:
    return KubewrightError("A file that belongs to the backup is not there", where=path, remedy=remedy)


def _read(path: str) -> str:
    """An empty text where the API server is none of kubeadm's or is stopped: then the usual places have to do."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def _below(folder: str) -> list[str]:
    """All files below a folder; temporary ones, whose names begin with a dot, are none."""
    return [
        os.path.join(place, name)
        for place, _folders, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and os.path.isfile(os.path.join(place, name))
    ]
