# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the manifests of Elasticsearch need to know, and what they cannot do themselves: let volumes grow.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._pods import is_ready
from ansible_collections.kubewright.cluster.plugins.module_utils._quantity import bytes_of
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

BOOTSTRAP_KEY = "bootstrap.yml"
VOLUME = "data"

_SELECTOR = "app.kubernetes.io/name=elasticsearch"
_MERGE_PATCH = "application/merge-patch+json"
_NOT_FOUND = 404


@dataclass(frozen=True)
class Observed:
    """Objects of the API, by their names."""

    sets: Mapping[str, Mapping[str, Any]]
    claims: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Mapping[str, Any]]
    pods: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """``bootstrap`` says that the nodes have still to form their cluster, ``grow`` the new sizes of claims.

    ``replace`` are StatefulSets to be made anew around their pods: the API lets no other size into their template.
    """

    bootstrap: bool
    grow: Mapping[str, tuple[str, str]]
    replace: Sequence[str]


def observe(api: KubeApi, namespace: str) -> Observed:
    """Read everything of Elasticsearch in a namespace; there is nothing in one that does not exist."""
    core, apps = f"/api/v1/namespaces/{namespace}", f"/apis/apps/v1/namespaces/{namespace}"

    def named(path: str) -> dict[str, dict[str, Any]]:
        return {item["metadata"]["name"]: item for item in api.list(path, labelSelector=_SELECTOR)}

    return Observed(
        named(f"{apps}/statefulsets"),
        named(f"{core}/persistentvolumeclaims"),
        named(f"{core}/configmaps"),
        named(f"{core}/pods"),
    )


def plan(masters: Sequence[str], volumes: Mapping[str, str], observed: Observed) -> Plan:
    """Say what is to be done before the manifests are applied. Volumes never shrink."""
    grow: dict[str, tuple[str, str]] = {}
    replace = []
    for owner, wanted in volumes.items():
        template = _template_size(observed.sets.get(owner))
        if template and bytes_of(template) != bytes_of(wanted):
            replace.append(owner)
        own = re.compile(rf"{VOLUME}-{re.escape(owner)}-[0-9]+")
        for name, claim in sorted(observed.claims.items()):
            if own.fullmatch(name) and bytes_of(_requested(claim)) < bytes_of(wanted):
                grow[name] = (_requested(claim), wanted)
    return Plan(not any(_is_formed(name, observed) for name in masters), grow, replace)


def _is_formed(name: str, observed: Observed) -> bool:
    """Tell whether masters are, or were, a cluster: its settings are without the bootstrap, or a pod has a master."""
    settings = observed.settings.get(name)
    if settings is not None and not ((settings.get("data") or {}).get(BOOTSTRAP_KEY) or "").strip():
        return True
    pods = (pod for own, pod in observed.pods.items() if own.rpartition("-")[0] == name)
    # Elasticsearch opens the port that makes a pod ready when there is an elected master.
    return any(is_ready(pod) for pod in pods)


def _template_size(item: Mapping[str, Any] | None) -> str:
    templates = (item or {}).get("spec", {}).get("volumeClaimTemplates") or []
    return next((_requested(one) for one in templates if one["metadata"]["name"] == VOLUME), "")


def _requested(claim: Mapping[str, Any]) -> str:
    resources: Mapping[str, Any] = (claim.get("spec") or {}).get("resources") or {}
    return str((resources.get("requests") or {}).get("storage") or "0")


def diff(planned: Plan) -> dict[str, str]:
    """Return the sizes of the claims that grow, before and after, as JSON."""

    def pretty(at: int) -> str:
        sizes = {name: pair[at] for name, pair in planned.grow.items()}
        return json.dumps(sizes, indent=2, sort_keys=True) + "\n" if sizes else ""

    return {"before": pretty(0), "after": pretty(1)}


def apply(api: KubeApi, namespace: str, planned: Plan, deadline: Deadline) -> None:
    """Let claims grow, and take away the StatefulSets that are to be made anew. Their pods run on."""
    for name, (_, size) in planned.grow.items():
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"
        body = {"spec": {"resources": {"requests": {"storage": size}}}}
        patch = partial(api.request, "PATCH", path, body=body, content_type=_MERGE_PATCH)
        wait_for(patch, deadline, what=f"the API server to let volume {name} grow")
    for name in planned.replace:
        _orphan(api, f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}", name, deadline)


def _orphan(api: KubeApi, path: str, name: str, deadline: Deadline) -> None:
    body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan"}

    def gone() -> bool:
        try:
            if not api.get(path)["metadata"].get("deletionTimestamp"):
                api.delete(path, body=body)
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return True
            raise
        return False

    wait_for(gone, deadline, what=f"the end of StatefulSet {name}, whose pods stay")
