# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a stopped etcd of a control plane begin anew: its data is moved aside, its manifest tells it whom to join.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import _run_log
from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import (
    MEMBER,
    REPLACED,
    is_locked,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._durable import sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import timestamp

_ARGUMENT = r"^(?P<lead>\s*- )(?P<quote>[\"']?)--{name}=(?P<value>[^\s\"']*)(?P=quote)\s*$"


@dataclass(frozen=True)
class Found:
    """What is on the host. ``manifest`` is its text, empty where there is none."""

    manifest: str
    has_data: bool
    in_use: bool


@dataclass(frozen=True)
class Plan:
    """``manifest`` is the new text, empty where it stays. ``aside`` says whether data has to be moved."""

    manifest: str
    aside: bool

    @property
    def changed(self) -> bool:
        return bool(self.manifest or self.aside)


def look(manifest: str, data_dir: str) -> Found:
    """Read what is on the host."""
    try:
        with open(manifest, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        text = ""
    folder = os.path.join(data_dir, MEMBER)
    has_data = os.path.isdir(folder) and bool(os.listdir(folder))
    return Found(text, has_data, is_locked(os.path.join(folder, "snap", "db")))


def plan(found: Found, members: Iterable[Mapping[str, Any]], peer_url: str, where: str) -> Plan:
    """Decide; *members* are those of the cluster, the one that begins among them or not."""
    if not found.manifest:
        raise KubewrightError(
            "There is no manifest of etcd, so that no member can begin here",
            where=where,
            remedy="Remove this control plane with the playbook remove_node.yml, and let site.yml join it anew",
        )
    if found.in_use:
        raise KubewrightError("etcd still runs, and uses its data", remedy="Stop it first")
    text = edit(found.manifest, members, peer_url, where)
    return Plan(text if text != found.manifest else "", found.has_data)


def edit(text: str, members: Iterable[Mapping[str, Any]], peer_url: str, where: str) -> str:
    """Tell etcd, in its manifest, who the members are and that they exist. It reads this where it has no data only."""
    name = _value(text, "name", where)
    others = [one for one in members if one["name"] and peer_url not in one["peer_urls"]]
    if any(one["name"] == name for one in others):
        raise KubewrightError(
            f"Another member is named {name}, too",
            where=where,
            remedy="Remove that member first, or correct --name in the manifest",
        )
    known = [f"{one['name']}={url}" for one in others for url in one["peer_urls"]] + [f"{name}={peer_url}"]
    text = _set(text, "initial-cluster", ",".join(sorted(known)), where)
    pattern = re.compile(_ARGUMENT.format(name="initial-cluster-state"), re.M)
    if pattern.search(text):
        return _set(text, "initial-cluster-state", "existing", where)
    line = re.compile(_ARGUMENT.format(name="initial-cluster"), re.M)
    return line.sub(lambda match: f"{match[0]}\n{match['lead']}--initial-cluster-state=existing", text)


def _value(text: str, name: str, where: str) -> str:
    found = re.findall(_ARGUMENT.format(name=name), text, re.M)
    if len(found) != 1:
        raise KubewrightError(
            f"The manifest of etcd has --{name} {len(found)} times, and once is expected",
            where=where,
            remedy="Compare it with that of another control plane",
        )
    return str(found[0][2])


def _set(text: str, name: str, value: str, where: str) -> str:
    _value(text, name, where)
    pattern = re.compile(_ARGUMENT.format(name=name), re.M)
    return pattern.sub(lambda match: f"{match['lead']}--{name}={value}", text)


def apply(planned: Plan, manifest: str, data_dir: str, now: float) -> str:
    """Do it; return where the data is now, empty where there was none. Killed anywhere, it can be run again."""
    aside = ""
    try:
        if planned.aside:
            aside = os.path.join(data_dir, f"{REPLACED}{timestamp(now)}")
            with _run_log.step("write", aside):
                os.mkdir(aside, 0o700)
                os.rename(os.path.join(data_dir, MEMBER), os.path.join(aside, MEMBER))
                sync(data_dir)
        if planned.manifest:
            # Not below the kubelet's folder, of which it reads every file.
            new = f"{manifest}.new"
            with _run_log.step("write", manifest):
                descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with open(descriptor, "w", encoding="utf-8") as file:
                    file.write(planned.manifest)
                sync(new)
                os.replace(new, manifest)
                sync(os.path.dirname(manifest))
    except OSError as error:
        raise KubewrightError(
            "etcd cannot be prepared to begin anew",
            where=str(error.filename or data_dir),
            why=error.strerror or str(error),
            remedy="Nothing was deleted. Mend the cause, and run again",
        ) from error
    return aside
