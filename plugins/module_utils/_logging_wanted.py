# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the variables of the role kube_logging, and which nodes of Elasticsearch they ask for.

Names are those of the variables without ``kube_logging_``. Types and choices are checked with the whole description
of a cluster; this is about ranges, units and forms. Pure functions.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._quantity import bytes_of

PREFIX = "kube_logging_"
MASTERS = "elasticsearch-master"
DATA = "elasticsearch-data"
CLIENTS = "elasticsearch-client"
ALL_ROLES = "elasticsearch"
PROFILES = {"single": (ALL_ROLES,), "three": (ALL_ROLES,), "tiers": (MASTERS, DATA, CLIENTS)}

_MIB, _GIB = 1024**2, 1024**3
# Above 31 GiB the JVM's pointers get twice as long, and the heap holds less than before.
_HEAP_LEAST, _HEAP_MOST = 256 * _MIB, 31 * _GIB
_HEAP = re.compile(r"([1-9][0-9]*)([mg])", re.ASCII)
# Elasticsearch needs as much memory beside its heap, for what is not on it and for the page cache.
_MEMORY_PER_HEAP = 2

_RANGES = {
    "data_nodes": (2, 100),
    "retention_days": (1, 3650),
    "total_fields": (200, 10000),
    "kibana_replicas": (1, 10),
    "canary_seconds": (10, 3600),
    "certificate_days": (30, 3650),
}
# Stricter than Kubernetes: the configurations of Elasticsearch's and the collectors' own need them in units of theirs.
_QUANTITY = re.compile(r"[1-9][0-9]*[MGT]i", re.ASCII)
_QUANTITIES = {
    "volume_size": "1Gi",
    "master_volume_size": "1Gi",
    "collector_buffer": "64Mi",
    "collector_memory": "128Mi",
    "kibana_memory": "1Gi",
}
_HEAPS = ("heap", "master_heap", "client_heap")
_TOLERATION = {"key", "operator", "value", "effect", "tolerationSeconds"}
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_BASE_PATH = re.compile(r"(?:/[A-Za-z0-9._~:-]+)+")
_RESERVED = re.compile(r"default|kube-.*")
_MAJOR = "9"
# cluster.max_shards_per_node is 1000 by default; a tenth is left to Kibana and to what else makes indices.
_SHARDS_PER_NODE = 900


@dataclass(frozen=True)
class NodeSet:
    """Nodes of Elasticsearch that are alike: one StatefulSet.

    ``volume`` is empty for those without one. Those that are ``apart`` have a node of the cluster each.
    """

    name: str
    replicas: int
    memory: int
    volume: str
    apart: bool = True


def is_namespace(text: str) -> bool:
    """Tell whether a namespace can have a name."""
    return bool(_NAMESPACE.fullmatch(text))


def heap_bytes(text: Any) -> int:
    """Return the bytes of a heap; what is none is a ValueError."""
    found = _HEAP.fullmatch(str(text))
    if not found:
        raise ValueError(f"{text} is no heap")
    return int(found[1]) * (_GIB if found[2] == "g" else _MIB)


def node_sets(wanted: Mapping[str, Any]) -> list[NodeSet]:
    """Return the StatefulSets that variables without a problem ask for."""
    memory = {name: _MEMORY_PER_HEAP * heap_bytes(wanted[name]) for name in _HEAPS}
    volume = str(wanted["volume_size"])
    if wanted["profile"] == "tiers":
        return [
            NodeSet(MASTERS, 3, memory["master_heap"], str(wanted["master_volume_size"])),
            NodeSet(DATA, int(wanted["data_nodes"]), memory["heap"], volume),
            NodeSet(CLIENTS, 2, memory["client_heap"], "", apart=False),
        ]
    return [NodeSet(ALL_ROLES, 1 if wanted["profile"] == "single" else 3, memory["heap"], volume)]


def finding(what: str, *, where: str = "", why: str = "", remedy: str = "") -> dict[str, str]:
    """Return something that is wrong, as cluster_info gives reasons."""
    return {"what": what, "where": where, "why": why, "remedy": remedy}


def wrong_value(name: str, value: Any, why: str, remedy: str) -> dict[str, str]:
    """Return what is wrong with one variable."""
    return finding(f"{PREFIX}{name} is {value if value != '' else 'empty'}", why=why, remedy=remedy)


def value_problems(wanted: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return everything that is wrong with the variables, whatever the cluster."""
    found = [*_numbers(wanted), *_sizes(wanted), *_names(wanted), *_forms(wanted)]
    return found or list(_shards(wanted))


def _numbers(wanted: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for name, (least, most) in _RANGES.items():
        value = wanted[name]
        if not (re.fullmatch("[0-9]+", str(value), re.ASCII) and least <= int(value) <= most):
            yield wrong_value(
                name, value, "that is not in its range", f"Give a whole number from {least} to {most}"
            )


def _sizes(wanted: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for name in _HEAPS:
        try:
            good = _HEAP_LEAST <= heap_bytes(wanted[name]) <= _HEAP_MOST
        except ValueError:
            good = False
        if not good:
            yield wrong_value(
                name, wanted[name], "that is no heap of Elasticsearch", "Give it in m or g, from 256m to 31g"
            )
    for name, least in _QUANTITIES.items():
        value = str(wanted[name])
        remedy = f"Give {least} or more, in whole Mi, Gi or Ti"
        if not _QUANTITY.fullmatch(value):
            yield wrong_value(name, value, "that is no size with a unit", remedy)
        elif bytes_of(value) < bytes_of(least):
            yield wrong_value(name, value, "that is too little", remedy)


def _names(wanted: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    namespace = str(wanted["namespace"])
    if not is_namespace(namespace):
        remedy = "Use up to 63 lower case letters, digits and dashes, as in logging"
        yield wrong_value("namespace", namespace, "that is no name of a namespace", remedy)
    elif _RESERVED.fullmatch(namespace):
        why = "that namespace is Kubernetes' own, and the collectors need one that allows privileged pods"
        yield wrong_value("namespace", namespace, why, "Give a namespace of its own, as in logging")
    for name in ("storage_class", "kibana_ingress_host", "kibana_ingress_class", "kibana_ingress_secret"):
        value = str(wanted[name])
        if value and not _DNS_NAME.fullmatch(value):
            remedy = "Use lower case letters, digits, dashes and dots, without scheme and port"
            yield wrong_value(name, value, "nothing in Kubernetes can have that name", remedy)


def _forms(wanted: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    version = str(wanted["elasticsearch_version"])
    if version.partition(".")[0] != _MAJOR:
        why = f"only Elasticsearch {_MAJOR} is supported"
        yield wrong_value(
            "elasticsearch_version", version, why, f"Choose a version that begins with {_MAJOR}"
        )
    path = str(wanted["kibana_base_path"])
    if path and not _BASE_PATH.fullmatch(path):
        remedy = "Begin it with a slash, end it with none, as in /kibana"
        yield wrong_value("kibana_base_path", path, "that is no path for Kibana", remedy)
    for name in ("tolerations", "collector_tolerations"):
        for entry in wanted[name]:
            unknown = sorted(set(entry) - _TOLERATION)
            if unknown:
                remedy = f"A toleration has {', '.join(sorted(_TOLERATION))}"
                yield wrong_value(name, entry, f"nobody knows {', '.join(unknown)}", remedy)
    for name in ("node_selector", "kibana_ingress_annotations"):
        for key, text in wanted[name].items():
            if not isinstance(text, str):
                yield wrong_value(
                    name, f"{key}: {text}", "Kubernetes takes texts only", "Put the value into quotes"
                )


def _shards(wanted: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Elasticsearch refuses new indices, and so all lines of the next day, above a number of shards."""
    holders = {"single": 1, "three": 3}.get(wanted["profile"]) or int(wanted["data_nodes"])
    copies = 1 if holders == 1 else 2
    days = int(wanted["retention_days"])
    # Today's index, and those that are due and not deleted yet.
    shards = (days + 2) * copies
    if shards > holders * _SHARDS_PER_NODE:
        yield wrong_value(
            "retention_days",
            days,
            f"a day makes {copies} shards, and {holders} nodes carry {holders * _SHARDS_PER_NODE}",
            f"Give {holders * _SHARDS_PER_NODE // copies - 2} or less, or more nodes",
        )
