# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API says of pods, read for people: whether one is ready, where it is, and what keeps it.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_EVENTS = 3


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod is ready and stays."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def pod_node(pod: Mapping[str, Any]) -> str:
    """Return the node of a pod; one of a DaemonSet that is not scheduled yet names it in its affinity."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    values = [value for term in terms for entry in term.get("matchFields") or [] for value in entry["values"]]
    return str(values[0]) if len(values) == 1 else ""


def pod_reasons(pod: Mapping[str, Any]) -> list[str]:
    """Return what the pod itself says: why it is not scheduled, what its containers wait for or died of."""
    status = pod.get("status") or {}
    reasons = [
        f"{entry.get('reason')}: {entry.get('message')}"
        for entry in status.get("conditions") or []
        if entry.get("type") == "PodScheduled" and entry.get("status") != "True"
    ]
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            for kind in ("waiting", "terminated"):
                if state.get(kind) and state[kind].get("reason") != "Completed":
                    code = state[kind].get("exitCode")
                    parts = [
                        state[kind].get("reason"),
                        f"exit code {code}" if code else "",
                        state[kind].get("message"),
                    ]
                    reasons.append(": ".join(filter(None, parts)))
    if pod["metadata"].get("deletionTimestamp"):
        reasons.append(f"it is being deleted since {pod['metadata']['deletionTimestamp']}")
    return [reason for reason in reasons if reason] or [f"the pod is {status.get('phase') or 'unknown'}"]


def last_messages(events: Iterable[Mapping[str, Any]], involved: Iterable[str]) -> list[str]:
    """Return what the newest events about some objects say, each sentence once."""
    names = set(involved)

    def when(event: Mapping[str, Any]) -> str:
        # One format (RFC 3339, UTC), so that the order of the texts is the order of the times.
        return str(event.get("lastTimestamp") or event.get("eventTime") or "")

    own = [event for event in events if (event.get("involvedObject") or {}).get("name") in names]
    messages = [f"{event.get('reason')}: {event.get('message')}" for event in sorted(own, key=when)]
    return list(dict.fromkeys(reversed(messages)))[:_EVENTS][::-1]
