# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""metrics-server: verified on both sides, and never in the place of somebody else's."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("rendering", HERE / "rendering.py")
assert SPEC and SPEC.loader
rendering = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(rendering)

AUTHORITY = "-----BEGIN CERTIFICATE-----\nauthority\n-----END CERTIFICATE-----\n"


def service(managed_by: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": managed_by} if managed_by else {}
    return {"stdout": json.dumps({"metadata": {"labels": labels}, "spec": {"service": {"name": "x"}}})}


CASES: dict[str, dict[str, Any]] = {
    "new": {"__kube_metrics_server_seen": {"stdout": ""}},
    "ours": {"__kube_metrics_server_seen": service("kubewright"), "kube_metrics_server_replicas": 1},
    "charts": {"__kube_metrics_server_seen": service("Helm")},
    "hands": {
        "__kube_metrics_server_seen": service(""),
        "kube_metrics_server_verify_kubelets": False,
    },
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    cases = {
        name: {**one, "__kube_metrics_server_authority": {"certificate": AUTHORITY}}
        for name, one in CASES.items()
    }
    expression = (
        "{'objects': lookup('ansible.builtin.template', 'metrics-server.yaml.j2'), "
        "'foreign': __kube_metrics_server_foreign, 'names': __kube_metrics_server_names}"
    )
    found: dict[str, dict[str, Any]] = rendering.render(
        tmp_path_factory.mktemp("server"), ["kube_cluster", "kube_metrics_server"], expression, cases
    )
    return found


def objects(rendered: dict[str, dict[str, Any]], case: str) -> dict[str, dict[str, Any]]:
    return {
        f"{one['kind']} {one['metadata']['name']}": one
        for one in yaml.safe_load_all(rendered[case]["objects"])
        if one
    }


def test_that_of_somebody_else_is_known(rendered: dict[str, dict[str, Any]]) -> None:
    assert {name: bool(one["foreign"]) for name, one in rendered.items()} == {
        "new": False,
        "ours": False,
        "charts": True,
        "hands": True,
    }


def test_both_sides_are_verified(rendered: dict[str, dict[str, Any]]) -> None:
    held = objects(rendered, "new")
    service = held["APIService v1beta1.metrics.k8s.io"]["spec"]
    assert base64.b64decode(service["caBundle"]).decode() == AUTHORITY
    assert "insecureSkipTLSVerify" not in service
    # The name by which the API server verifies it is one of the certificate's.
    name = f"{service['service']['name']}.{service['service']['namespace']}.svc"
    assert name in rendered["new"]["names"]
    args = held["Deployment metrics-server"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt" in args
    assert "--kubelet-insecure-tls" not in args
    loose = objects(rendered, "hands")["Deployment metrics-server"]["spec"]["template"]["spec"]
    assert "--kubelet-insecure-tls" in loose["containers"][0]["args"]


def test_no_budget_blocks_the_drain_of_the_only_pod(rendered: dict[str, dict[str, Any]]) -> None:
    assert "PodDisruptionBudget metrics-server" in objects(rendered, "new")
    assert "PodDisruptionBudget metrics-server" not in objects(rendered, "ours")


def test_it_may_read_nodes_and_pods_and_nothing_else(rendered: dict[str, dict[str, Any]]) -> None:
    rules = objects(rendered, "new")["ClusterRole kubewright-metrics-server"]["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert {one for rule in rules for one in rule["resources"]} == {"nodes", "nodes/metrics", "pods"}
