# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that monitoring applies, what Prometheus scrapes, and what is refused for what the cluster has."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("rendering", HERE / "rendering.py")
assert SPEC and SPEC.loader
rendering = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(rendering)

ROLES = ["kube_cluster", "kube_monitoring"]
FILES = rendering.ROLES / "kube_monitoring" / "files"
HOOK = "https://hook.example/s3cr3t"


def cluster(*items: dict[str, Any], deployments: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What the cluster has, as kubectl prints it."""
    return {
        "__kube_monitoring_seen": {"stdout": json.dumps({"items": list(items)})},
        "__kube_monitoring_deployments": {"stdout": json.dumps({"items": deployments or []})},
    }


def storage_class(name: str, default: bool = False) -> dict[str, Any]:
    mark = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"kind": "StorageClass", "metadata": {"name": name, "annotations": mark}}


def webhook(group: str) -> dict[str, Any]:
    rules = [{"apiGroups": [group], "resources": ["*"]}]
    return {
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "admission"},
        "webhooks": [{"name": "a", "rules": rules}, {"name": "b"}],
    }


def deployment(name: str, managed_by: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": managed_by}
    return {"metadata": {"namespace": "monitoring", "name": name, "labels": labels}}


FAST = storage_class("fast", default=True)
OWN = deployment("prometheus-operator", "kubewright")
CASES: dict[str, dict[str, Any]] = {
    "usual": {
        **cluster(storage_class("slow"), FAST, webhook("example.com"), deployments=[OWN]),
        "kube_monitoring_receivers": [{"name": "one", "webhook": {"url": HOOK}}],
        "kube_monitoring_disabled_alerts": ["BackupMissing"],
        "__kube_monitoring_grafana_new": "n3w-passw0rd",
    },
    "small": {
        **cluster(),
        "kube_monitoring_accept_no_volumes": True,
        "kube_monitoring_prometheus_replicas": 1,
        "kube_monitoring_alertmanager_replicas": 1,
        "kube_monitoring_grafana": False,
        "kube_monitoring_node_exporter": False,
        "kube_monitoring_volume_size": "900Mi",
        "kube_monitoring_verify_kubelets": False,
        "kube_monitoring_logging_namespace": "",
    },
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no_class": (cluster(storage_class("slow")), "no default class"),
    "wrong_class": (
        {**cluster(storage_class("slow"), FAST), "kube_monitoring_storage_class": "gold"},
        "It has: slow, fast.",
    ),
    "chart": (
        cluster(FAST, deployments=[OWN, deployment("kps-operator", "Helm")]),
        "(Deployment monitoring/kps-operator)",
    ),
    "leftover_webhook": (
        cluster(FAST, webhook("monitoring.coreos.com")),
        "(ValidatingWebhookConfiguration admission)",
    ),
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    expression = (
        "{'objects': lookup('ansible.builtin.template', 'objects.yaml.j2'), "
        "'jobs': lookup('ansible.builtin.template', 'jobs.yaml.j2'), "
        "'refusals': __kube_monitoring_refusals, 'workloads': __kube_monitoring_workloads}"
    )
    found: dict[str, dict[str, Any]] = rendering.render(
        tmp_path_factory.mktemp("objects"), ROLES, expression, CASES
    )
    return found


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    cases = {name: variables for name, (variables, _said) in REFUSED.items()}
    found: dict[str, list[str]] = rendering.render(
        tmp_path_factory.mktemp("refused"), ROLES, "__kube_monitoring_refusals", cases
    )
    return found


def objects(rendered: dict[str, dict[str, Any]], case: str) -> dict[tuple[str, str], dict[str, Any]]:
    found = [one for one in yaml.safe_load_all(rendered[case]["objects"]) if one]
    keys = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(set(keys)) == len(keys), "each object once"
    return dict(zip(keys, found))


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_the_cluster_cannot_bear_is_refused(refusals: dict[str, list[str]], case: str) -> None:
    assert len(refusals[case]) == 1 and REFUSED[case][1] in refusals[case][0]


@pytest.mark.parametrize("case", sorted(CASES))
def test_what_it_can_is_not(rendered: dict[str, dict[str, Any]], case: str) -> None:
    assert rendered[case]["refusals"] == []


@pytest.mark.parametrize("case", sorted(CASES))
def test_all_objects_are_ours_and_in_the_namespace(rendered: dict[str, dict[str, Any]], case: str) -> None:
    everywhere = {"Namespace", "ClusterRole", "ClusterRoleBinding"}
    for (kind, name), one in objects(rendered, case).items():
        metadata = one["metadata"]
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "kubewright", name
        assert (metadata.get("namespace") == "monitoring") != (kind in everywhere), name


def test_volumes_and_what_is_kept(rendered: dict[str, dict[str, Any]]) -> None:
    usual = objects(rendered, "usual")["Prometheus", "kubewright"]["spec"]
    claim = usual["storage"]["volumeClaimTemplate"]["spec"]
    assert claim == {"storageClassName": "fast", "resources": {"requests": {"storage": "50Gi"}}}
    assert (usual["retention"], usual["retentionSize"]) == ("15d", "43520MiB")
    small = objects(rendered, "small")["Prometheus", "kubewright"]["spec"]
    assert small["storage"] == {"emptyDir": {"sizeLimit": "900Mi"}} and small["retentionSize"] == "765MiB"


def test_prometheus_takes_what_is_made_for_it_but_sends_none_of_its_files_away(
    rendered: dict[str, dict[str, Any]],
) -> None:
    spec = objects(rendered, "usual")["Prometheus", "kubewright"]["spec"]
    for kind in ("serviceMonitor", "podMonitor", "probe", "scrapeConfig", "rule"):
        assert spec[f"{kind}Selector"] == {} == spec[f"{kind}NamespaceSelector"]
    assert spec["arbitraryFSAccessThroughSMs"] == {"deny": True}
    assert spec["secrets"] == [spec["additionalScrapeConfigs"]["name"]] == ["kubewright-metrics-door"]
    assert spec["version"] == spec["image"].rpartition(":")[2] == "v3.14.0"
    assert spec["externalLabels"] == {"cluster": "example"}


def test_no_budget_blocks_the_drain_of_the_only_pod(rendered: dict[str, dict[str, Any]]) -> None:
    budgets = {name for kind, name in objects(rendered, "usual") if kind == "PodDisruptionBudget"}
    assert budgets == {"prometheus", "alertmanager"}
    assert not [kind for kind, _name in objects(rendered, "small") if kind == "PodDisruptionBudget"]


def test_secrets_are_in_secrets_only(rendered: dict[str, dict[str, Any]]) -> None:
    held = objects(rendered, "usual")
    config = base64.b64decode(
        held["Secret", "alertmanager-kubewright-config"]["data"]["alertmanager.yaml"]
    ).decode()
    assert HOOK in config
    password = base64.b64decode(held["Secret", "grafana-admin"]["data"]["password"]).decode()
    assert password == "n3w-passw0rd"
    for (kind, name), one in held.items():
        if kind != "Secret":
            assert "s3cr3t" not in json.dumps(one) and "n3w-passw0rd" not in json.dumps(one), name


def test_rules_arrive_as_they_are_in_their_files(rendered: dict[str, dict[str, Any]]) -> None:
    held = objects(rendered, "usual")
    for path in sorted((FILES / "rules").glob("*.yaml")):
        wanted = yaml.safe_load(path.read_text())["groups"]
        found = held["PrometheusRule", f"kubewright-{path.stem.replace('_', '-')}"]["spec"]["groups"]
        for group in wanted:
            group["rules"] = [rule for rule in group["rules"] if rule.get("alert") != "BackupMissing"]
        assert found == wanted
    assert held["PrometheusRule", "kubewright-extra"]["spec"]["groups"] == []


def test_what_is_left_out_leaves_nothing_behind(rendered: dict[str, dict[str, Any]]) -> None:
    small = objects(rendered, "small")
    assert not [name for _kind, name in small if name.startswith(("grafana", "node-exporter"))]
    assert {one["name"] for one in rendered["small"]["workloads"]} == {
        "prometheus-operator",
        "kube-state-metrics",
        "prometheus-kubewright",
        "alertmanager-kubewright",
    }
    made = {(one["kind"], one["name"]) for one in rendered["usual"]["workloads"]}
    ours = {key for key in objects(rendered, "usual") if key[0] in ("Deployment", "DaemonSet")}
    assert ours <= made


def pods(held: dict[tuple[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in held.values() if "template" in one.get("spec", {})]


def test_no_container_may_do_more_than_it_needs(rendered: dict[str, dict[str, Any]]) -> None:
    for pod in pods(objects(rendered, "usual")):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]


def test_node_exporter_is_for_the_door_only(rendered: dict[str, dict[str, Any]]) -> None:
    pod = objects(rendered, "usual")["DaemonSet", "node-exporter"]["spec"]["template"]["spec"]
    assert "--web.listen-address=127.0.0.1:9100" in pod["containers"][0]["args"]
    assert pod["tolerations"] == [{"operator": "Exists"}] and pod["hostNetwork"]


def test_pods_that_are_scraped_have_the_ports_that_the_jobs_ask_for(
    rendered: dict[str, dict[str, Any]],
) -> None:
    held = objects(rendered, "usual")
    ports = {
        one["metadata"]["name"]: {
            port["name"]
            for container in one["spec"]["template"]["spec"]["containers"]
            for port in container.get("ports", [])
        }
        for key, one in held.items()
        if key[0] == "Deployment"
    }
    assert ports["kube-state-metrics"] == {"http-metrics", "telemetry"}
    assert ports["prometheus-operator"] == ports["grafana"] == {"http"}


def test_jobs_have_the_names_that_rules_ask_for(rendered: dict[str, dict[str, Any]]) -> None:
    doors = {"etcd", "kube-scheduler", "kube-controller-manager", "kube-proxy", "node-exporter"}
    known = {one["job_name"] for one in yaml.safe_load(rendered["usual"]["jobs"])} | doors
    known |= {"alertmanager"}
    asked: set[str] = set()
    for path in [*(FILES / "rules").glob("*.yaml"), *(FILES / "dashboards").glob("*.yaml")]:
        for names in re.findall(r'job=~?"([^"]+)"', path.read_text()):
            asked |= set(names.split("|"))
    assert asked - known == set()


def test_kube_state_metrics_goes_on_under_one_name(rendered: dict[str, dict[str, Any]]) -> None:
    """Its pod has another address each time, and the one before may still be listed."""
    jobs = {one["job_name"]: one for one in yaml.safe_load(rendered["usual"]["jobs"])}
    rules = jobs["kube-state-metrics"]["relabel_configs"]
    assert [rule for rule in rules if rule.get("target_label") == "instance"]
    assert {"source_labels": ["__meta_kubernetes_pod_ready"], "regex": "true", "action": "keep"} in rules


def test_kubelets_are_verified_unless_told_otherwise(rendered: dict[str, dict[str, Any]]) -> None:
    for case, wanted in (("usual", {"ca_file"}), ("small", {"insecure_skip_verify"})):
        jobs = {one["job_name"]: one for one in yaml.safe_load(rendered[case]["jobs"])}
        assert set(jobs["kubelet"]["tls_config"]) == set(jobs["kubelet-cadvisor"]["tls_config"]) == wanted
        assert ("logging" in jobs) == (case == "usual")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@pytest.mark.parametrize("case", sorted(CASES))
def test_prometheus_takes_the_jobs(rendered: dict[str, dict[str, Any]], case: str, tmp_path: Path) -> None:
    jobs = yaml.safe_load(rendered[case]["jobs"])
    for job in jobs:
        # Debian's promtool is built without it.
        assert job.pop("kubernetes_sd_configs")
    config = {"scrape_configs": jobs}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    argv = ["promtool", "check", "config", "--syntax-only", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
