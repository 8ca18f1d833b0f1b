# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the variables of the role kube_report say, and what else a report has to know of the variables of a run.

A callback sees no defaults of roles, so they stand here again; a test compares them with the role.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Callable

from ansible.errors import AnsibleError

PREFIX = "kube_report_"

_SECRET_NAME = re.compile(
    r"(pass(word|wd|phrase)?|secret|token|(private|routing)_key|credential)s?$", re.IGNORECASE
)
# Shorter ones would blacken ordinary words.
_SECRET_LENGTH = 6
# Strings that ansible-vault keeps, in ansible-core before 2.19 and since.
_VAULTED = ("AnsibleVaultEncryptedUnicode", "EncryptedString")
# Of variables with these names everything inside is looked at too.
_OURS = ("kube_", "etcd_", "backup_")

_ROLES = {
    "control plane": ("kube_cluster_control_plane_group", "control_plane"),
    "worker": ("kube_cluster_worker_group", "workers"),
    "etcd": ("kube_cluster_etcd_group", "etcd"),
    "load balancer": ("kube_cluster_load_balancer_group", "load_balancers"),
}


@dataclass(frozen=True)
class Settings:
    """The variables of kube_report, without its name before theirs."""

    dest: str = ""
    host: str = ""
    keep: int = 30
    progress_seconds: float = 15
    probe_seconds: float = 1


def read(variables: Mapping[str, Any]) -> Settings:
    """Return the settings; what is not set, or cannot be read, has its default."""
    found: dict[str, Any] = {}
    for field in fields(Settings):
        value = variables.get(PREFIX + field.name)
        if value is not None:
            with contextlib.suppress(TypeError, ValueError):
                found[field.name] = _KINDS[field.name](value)
    return Settings(**found)


_KINDS: dict[str, Callable[[Any], Any]] = {
    "dest": str,
    "host": str,
    "keep": lambda value: max(0, int(value)),
    "progress_seconds": float,
    "probe_seconds": float,
}


def roles(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return what the hosts of the cluster are, from the groups that they are in."""
    groups = variables.get("groups") or {}
    return {
        str(host): role
        for role, (name, default) in _ROLES.items()
        for host in groups.get(str(variables.get(name) or default)) or []
    }


def secrets(variables: Mapping[str, Any]) -> set[str]:
    """Return the values of variables whose names say that they are secret, and those that ansible-vault keeps."""
    texts = {text for name, value in variables.items() for text in _secret(str(name), value)}
    return {text for text in texts if len(text) >= _SECRET_LENGTH and "{{" not in text}


def _secret(name: str, value: Any, within: bool = False) -> Iterator[str]:
    if type(value).__name__ in _VAULTED or (isinstance(value, str) and _SECRET_NAME.search(name)):
        # The password of a vault may be missing.
        with contextlib.suppress(AnsibleError):
            yield str(value)
    elif within or name.startswith(_OURS):
        inside = value.items() if isinstance(value, dict) else ()
        inside = [(name, one) for one in value] if isinstance(value, list) else inside
        for key, one in inside:
            yield from _secret(str(key), one, within=True)
