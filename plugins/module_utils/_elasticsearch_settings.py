# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Elasticsearch itself keeps for the logging: the index template, retention, replicas, and no leftover of a roll.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import (
    Elasticsearch,
    ElasticsearchError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

TEMPLATE = "logstash"
POLICY = "logstash-retention"
INDICES = "logstash-*"
ALLOCATION = "cluster.routing.allocation.enable"
# What a roll sets while a node is away.
HELD_BACK = "primaries"

_TEMPLATE_PATH = f"/_index_template/{TEMPLATE}"
_POLICY_PATH = f"/_ilm/policy/{POLICY}"
_SETTINGS_PATH = "/_cluster/settings"
_INDICES_PATH = f"/{INDICES}/_settings"
_REPLICAS, _LIFECYCLE = "index.number_of_replicas", "index.lifecycle.name"
_MANAGED = {"managed_by": "kubewright"}
_UNAUTHORIZED = 401
# A server that does not know an address says so with one of these, not with 404.
_NO_HANDLER = (400, 405)
_KEYWORD = {"type": "keyword"}


@dataclass(frozen=True)
class Options:
    replicas: int
    retention_days: int
    total_fields: int


@dataclass(frozen=True)
class Observed:
    """What Elasticsearch has. ``indices`` are flat settings by index; ``has_ilm`` says whether it knows ILM at all."""

    template: Mapping[str, Any] | None = None
    policy: Mapping[str, Any] | None = None
    has_ilm: bool = True
    indices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    persistent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One request, and what it is about: *before* and *after* are for people."""

    what: str
    path: str
    body: Mapping[str, Any]
    before: Any
    after: Any


# --- what is wanted: pure ----------------------------------------------------------------------------------


def template(options: Options, *, has_ilm: bool) -> dict[str, Any]:
    """Return the index template, in the form in which Elasticsearch gives it back."""
    index: dict[str, Any] = {
        "number_of_shards": "1",
        "number_of_replicas": str(options.replicas),
        "mapping": {
            # What is too much, or of another kind than before, is stored and not searchable. No line is refused for it.
            "total_fields": {"limit": str(options.total_fields), "ignore_dynamic_beyond_limit": "true"},
            "ignore_malformed": "true",
        },
    }
    if has_ilm:
        index["lifecycle"] = {"name": POLICY}
    names = ("namespace_name", "pod_name", "pod_id", "container_name", "host")
    kubernetes = {name: _KEYWORD for name in names} | {"labels": {"type": "flattened"}}
    return {
        "index_patterns": [INDICES],
        "template": {
            "settings": {"index": index},
            "mappings": {
                # A text that looks like a date or a number today may not do so tomorrow.
                "date_detection": False,
                "numeric_detection": False,
                "dynamic_templates": [
                    {
                        "texts": {
                            "match_mapping_type": "string",
                            "mapping": {"type": "keyword", "ignore_above": 1024},
                        }
                    }
                ],
                "properties": {
                    "@timestamp": {"type": "date"},
                    "message": {"type": "text"},
                    "stream": _KEYWORD,
                    "source": _KEYWORD,
                    # fluentd's own, which needs it in the record to send it again; it is the document's id.
                    "id": {"type": "keyword", "index": False, "doc_values": False},
                    "kubernetes": {"properties": kubernetes},
                },
            },
        },
        "priority": 200,
        "_meta": _MANAGED,
    }


def policy(options: Options) -> dict[str, Any]:
    """Return the lifecycle policy: an index is deleted so many days after it was made."""
    delete = {"min_age": f"{options.retention_days}d", "actions": {"delete": {}}}
    return {"policy": {"phases": {"delete": delete}, "_meta": _MANAGED}}


def plan(observed: Observed, options: Options) -> list[Change]:
    """Return what is to be sent, in this order."""
    changes = []
    if observed.persistent.get(ALLOCATION) == HELD_BACK:
        body = {"persistent": {ALLOCATION: None}}
        changes.append(Change("allocation", _SETTINGS_PATH, body, {ALLOCATION: HELD_BACK}, {}))
    if observed.has_ilm and _delete_age(observed.policy) != f"{options.retention_days}d":
        wanted = policy(options)
        changes.append(Change("policy", _POLICY_PATH, wanted, observed.policy, wanted["policy"]))
    wanted = template(options, has_ilm=observed.has_ilm)
    # Elasticsearch adds keys of its own beside these.
    held = {key: (observed.template or {}).get(key) for key in wanted}
    if _texts(held) != _texts(wanted):
        changes.append(Change("template", _TEMPLATE_PATH, wanted, observed.template, wanted))
    return changes + _plan_indices(observed, options)


def _plan_indices(observed: Observed, options: Options) -> list[Change]:
    """A template is for new indices; those that are there follow when the number of nodes or the server changes."""
    wanted = {_REPLICAS: str(options.replicas)} | ({_LIFECYCLE: POLICY} if observed.has_ilm else {})
    behind = {
        name: {key: settings.get(key) for key in wanted}
        for name, settings in observed.indices.items()
        if any(settings.get(key) != value for key, value in wanted.items())
    }
    return [Change("indices", _INDICES_PATH, wanted, behind, dict.fromkeys(behind, wanted))] if behind else []


def _delete_age(held: Mapping[str, Any] | None) -> str:
    delete = ((held or {}).get("phases") or {}).get("delete") or {}
    # Elasticsearch adds defaults to the action; that there is one is what counts.
    return str(delete.get("min_age")) if "delete" in (delete.get("actions") or {}) else ""


def _texts(value: Any) -> Any:
    """Return a structure with all its leaves as texts: Elasticsearch gives settings back as such."""
    if isinstance(value, Mapping):
        return {key: _texts(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_texts(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def diff(changes: Sequence[Change]) -> dict[str, str]:
    """Return what changes, before and after, as JSON."""
    return {
        "before": _pretty({change.what: change.before for change in changes}),
        "after": _pretty({change.what: change.after for change in changes}),
    }


def _pretty(shown: Mapping[str, Any]) -> str:
    return json.dumps(shown, indent=2, sort_keys=True) + "\n" if shown else ""


# --- observe and apply -------------------------------------------------------------------------------------


def observe(client: Elasticsearch) -> Observed:
    """Read what Elasticsearch has."""
    templates = (client.find(_TEMPLATE_PATH) or {}).get("index_templates") or []
    has_ilm, held = True, None
    try:
        held = client.find(_POLICY_PATH)
    except ElasticsearchError as error:
        if error.status not in _NO_HANDLER:
            raise
        has_ilm = False
    indices = client.get(_INDICES_PATH, flat_settings=True, allow_no_indices=True)
    return Observed(
        template=templates[0]["index_template"] if templates else None,
        policy=held[POLICY]["policy"] if held else None,
        has_ilm=has_ilm,
        indices={name: entry["settings"] for name, entry in indices.items()},
        persistent=client.get(_SETTINGS_PATH, flat_settings=True).get("persistent") or {},
    )


def health(client: Elasticsearch) -> dict[str, Any]:
    """Return the health of the cluster; a cluster that is not formed is a transient error."""
    # Not kept open to wait for a master: that is the caller's deadline.
    found: dict[str, Any] = client.get("/_cluster/health", master_timeout="5s")
    return found


def when_formed(connect: Callable[[], Elasticsearch], deadline: Deadline) -> Elasticsearch:
    """Wait until Elasticsearch is a cluster and knows the operator."""

    def formed() -> Elasticsearch:
        client = connect()
        try:
            health(client)
        except ElasticsearchError as error:
            # The kubelets bring a new hash to the nodes a little later than the API server had the password.
            error.transient = error.transient or error.status == _UNAUTHORIZED
            raise
        return client

    return wait_for(formed, deadline, what="Elasticsearch to be formed")


def apply(client: Elasticsearch, changes: Sequence[Change], deadline: Deadline) -> None:
    for change in changes:

        def taken(change: Change = change) -> bool:
            client.request("PUT", change.path, change.body)
            return True

        wait_for(taken, deadline, what=f"Elasticsearch to take its {change.what}")
