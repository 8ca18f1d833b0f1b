# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which variables of the role kube_logging are refused, whatever the cluster; its own defaults are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._logging_wanted import (
    PREFIX,
    NodeSet,
    node_sets,
    value_problems,
)

ROLE = Path(__file__).parents[4] / "roles/kube_logging"
DEFAULTS = {
    name.removeprefix(PREFIX): value
    for name, value in yaml.safe_load((ROLE / "defaults/main.yml").read_text()).items()
}
GIB = 1024**3


def problems(**changes: Any) -> list[dict[str, str]]:
    return value_problems({**DEFAULTS, **changes})


def test_the_defaults_are_accepted() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    "changes",
    [
        # As Ansible hands them over that has no native types.
        {"retention_days": "45", "data_nodes": "3"},
        {"heap": "31g", "master_heap": "256m"},
        {"volume_size": "2Ti", "collector_buffer": "64Mi"},
        {"kibana_base_path": "/tools/kibana", "kibana_ingress_host": "logs.example.com"},
        {"storage_class": "ceph-rbd.fast"},
        {"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]},
        {"node_selector": {"disk": "fast"}},
        {"elasticsearch_version": "9.6.0"},
    ],
)
def test_good_values(changes: dict[str, Any]) -> None:
    assert problems(**changes) == []


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("data_nodes", 1, "from 2 to 100"),
        ("retention_days", 0, "from 1 to 3650"),
        ("retention_days", "7d", "from 1 to 3650"),
        ("retention_days", -1, "from 1 to 3650"),
        ("total_fields", 100, "from 200"),
        ("kibana_replicas", 0, "from 1 to 10"),
        ("canary_seconds", 5, "from 10"),
        ("certificate_days", 7, "from 30"),
        ("heap", "32g", "from 256m to 31g"),
        ("heap", "1Gi", "in m or g"),
        ("heap", "1.5g", "in m or g"),
        ("master_heap", "255m", "from 256m"),
        ("client_heap", "", "from 256m"),
        ("volume_size", "50GB", "in whole Mi, Gi or Ti"),
        ("volume_size", "512Mi", "too little"),
        ("collector_buffer", "1Mi", "too little"),
        ("collector_memory", "0.5Gi", "in whole Mi, Gi or Ti"),
        ("kibana_memory", "512Mi", "Give 1Gi or more"),
        ("namespace", "Logging", "lower case"),
        ("namespace", "", "lower case"),
        ("namespace", "kube-system", "Kubernetes' own"),
        ("namespace", "default", "Kubernetes' own"),
        ("storage_class", "Fast", "lower case"),
        ("kibana_ingress_host", "https://logs.example.com", "without scheme"),
        ("kibana_ingress_class", "my class", "lower case"),
        ("kibana_ingress_secret", "tls/logs", "lower case"),
        ("kibana_base_path", "kibana", "Begin it with a slash"),
        ("kibana_base_path", "/kibana/", "end it with none"),
        ("elasticsearch_version", "8.19.18", "only Elasticsearch 9"),
        ("elasticsearch_version", "10.0.0", "only Elasticsearch 9"),
        ("tolerations", [{"operater": "Exists"}], "nobody knows operater"),
        ("collector_tolerations", [{"operater": "Exists"}], "nobody knows operater"),
        ("node_selector", {"fast": True}, "into quotes"),
        ("kibana_ingress_annotations", {"example.com/tls": True}, "into quotes"),
    ],
)
def test_a_value_that_is_refused(name: str, value: Any, part: str) -> None:
    """It names the variable, what it is, and what to do."""
    (found,) = problems(**{name: value})
    assert found["what"].startswith(f"kube_logging_{name} is ")
    assert part in f"{found['why']}. {found['remedy']}"
    assert found["remedy"]


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(problems(heap="2t", namespace="X", retention_days=0)) == 3


def test_more_shards_than_the_nodes_carry() -> None:
    """A day is an index with a copy, and Elasticsearch refuses new indices above 1000 shards a node."""
    assert problems(profile="tiers", data_nodes=2, retention_days=800) == []
    (found,) = problems(profile="tiers", data_nodes=2, retention_days=900)
    assert "2 nodes carry 1800" in found["why"] and "Give 898 or less" in found["remedy"]
    assert problems(profile="tiers", data_nodes=2, retention_days=898) == []
    assert problems(profile="single", retention_days=898) == []
    assert problems(profile="single", retention_days=899) != []
    assert problems(profile="three", retention_days=1348) == []
    assert problems(profile="three", retention_days=1349) != []


def test_the_nodes_of_each_profile() -> None:
    assert node_sets({**DEFAULTS, "profile": "single"}) == [NodeSet("elasticsearch", 1, 2 * GIB, "50Gi")]
    assert node_sets({**DEFAULTS, "profile": "three"}) == [NodeSet("elasticsearch", 3, 2 * GIB, "50Gi")]
    assert node_sets({**DEFAULTS, "profile": "tiers", "data_nodes": "4", "heap": "8g"}) == [
        NodeSet("elasticsearch-master", 3, GIB, "5Gi"),
        NodeSet("elasticsearch-data", 4, 16 * GIB, "50Gi"),
        NodeSet("elasticsearch-client", 2, GIB, "", apart=False),
    ]
