# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report calls an operation, where its page is, and what it tells people to do next.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import (
    CUT_OFF,
    FAILED,
    RUNNING,
)

DOCS = "https://github.com/kubewright/cluster/blob/main/docs"


class Operation(NamedTuple):
    """A playbook: what people call it, and its page."""

    title: str
    page: str = ""


OPERATIONS = {
    "backup": Operation("Backup", "backup"),
    "logging": Operation("Logging", "logging"),
    "maintain_nodes": Operation("Maintenance", "maintain_nodes"),
    "metrics_door": Operation("Door to the metrics", "metrics_door"),
    "mirror": Operation("Mirror", "air_gap"),
    "monitoring": Operation("Monitoring", "monitoring"),
    "remove_etcd_host": Operation("Removal of a host of etcd", "external_etcd"),
    "remove_node": Operation("Removal of nodes", "remove_node"),
    "renew_certificates": Operation("Renewal of certificates", "renew_certificates"),
    "replace_etcd_member": Operation("Replacement of an etcd member", "replace_etcd_member"),
    "reset": Operation("Reset", "reset"),
    "restore": Operation("Restore", "restore"),
    "rotate_encryption_key": Operation("Rotation of the encryption key", "encryption"),
    "site": Operation("Provisioning", "provision"),
    "upgrade": Operation("Upgrade", "upgrade"),
    "upgrade_etcd": Operation("Upgrade of etcd", "external_etcd"),
    "user_access": Operation("User access", "user_access"),
    "verify": Operation("Verification", "verify"),
}
# After these there is nothing to verify, or it has just been done.
_NOT_VERIFIED = ("backup", "mirror", "reset", "upgrade", "user_access", "verify")


def operation(name: str) -> Operation:
    """Return what is known of an operation; a playbook of somebody else has its name only."""
    return OPERATIONS.get(name) or Operation(name.replace("_", " ").capitalize())


def next_steps(data: Mapping[str, Any]) -> list[str]:
    """Return what to do now, the first thing first."""
    if data["state"] == RUNNING:
        return ["Let it end. This page was written while it worked, and is written anew when it has ended."]
    if data["state"] == CUT_OFF:
        return list(_cut_off(data))
    if data["state"] == FAILED:
        return list(_failed(data))
    return list(_done(data))


def _cut_off(data: Mapping[str, Any]) -> Iterator[str]:
    if data["busy"]:
        hosts = ", ".join(sorted({one[0] for one in data["busy"]}))
        yield f"Look at {hosts}: what was at work there may still be, or have stopped half way."
    yield "Run the same command again: what is done is skipped, what is half done is finished or refused."
    yield (
        "If it says that another run works on the cluster, and there is none any more, add "
        "-e kube_rolling_take_over_lock=true."
    )
    yield _LOG


def _failed(data: Mapping[str, Any]) -> Iterator[str]:
    lost = [name for name, host in data["hosts"].items() if host["state"] == "unreachable"]
    if lost:
        yield f"Look at {', '.join(sorted(lost))}, and at the way from the controller to it: SSH did not get through."
    yield "Mend what is named below, then run the same command again: what is done is skipped."
    yield _LOG


def _done(data: Mapping[str, Any]) -> Iterator[str]:
    about = data["about"]
    if about.get("check"):
        yield "Nothing was changed. Run it without --check to have it done."
        return
    before, after = (_kubelets(data["versions"][when]) for when in ("before", "after"))
    if about["operation"] == "upgrade" and len(after) == 1 and after != before:
        yield f"Set kube_cluster_version to {next(iter(after))} in the inventory."
    if about["operation"] not in _NOT_VERIFIED:
        yield "See whether the whole cluster works: ansible-playbook kubewright.cluster.verify"


_LOG = (
    "Each host keeps a log of what was done on it, with times and exit codes: /var/log/kubewright/steps.log"
)


def _kubelets(versions: Mapping[str, Mapping[str, str]]) -> set[str]:
    return {row["kubelet"] for row in versions.values() if "kubelet" in row}
