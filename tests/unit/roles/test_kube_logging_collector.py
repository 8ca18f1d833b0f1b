# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role kube_logging makes of its variables for the collector: objects and configurations that fit together."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "kube_logging"
PASSWORD = "collector-elasticsearch"
SOURCES = {"kube_logging_kubelet": True, "kube_logging_containerd": True, "kube_logging_audit": True}
CASES: dict[str, dict[str, Any]] = {
    "fluentd": {},
    "opentelemetry": {"kube_logging_collector": "opentelemetry"},
    "fluentd_all": {**SOURCES},
    "opentelemetry_all": {**SOURCES, "kube_logging_collector": "opentelemetry"},
    "elsewhere": {
        "kube_logging_namespace": "logs",
        "kube_logging_collector_buffer": "1536Mi",
        "kube_logging_collector_memory": "1Gi",
        "kube_logging_collector_tolerations": [],
    },
    "new_password": {"__kube_logging_secrets": {"digests": {PASSWORD: "another"}}},
    "kubelet": {"kube_logging_kubelet": True, "kube_logging_collector": "opentelemetry"},
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The objects of each case, by Ansible itself."""
    folder = tmp_path_factory.mktemp("rendered")
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": CASES}}))
    (folder / "group_vars").mkdir()
    shutil.copy(ROLE / "defaults" / "main.yml", folder / "group_vars" / "all.yml")
    (folder / "templates").symlink_to(ROLE / "templates")
    copy = {
        "content": "{{ lookup('ansible.builtin.template', 'collector.yaml.j2') }}",
        "dest": f"{folder}/{{{{ inventory_hostname }}}}.yaml",
    }
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / "vars" / "main" / "collector.yml")],
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    (folder / "play.yml").write_text(json.dumps([play]))
    argv = ["ansible-playbook", "-i", "hosts.json", "play.yml"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {case: list(yaml.safe_load_all((folder / f"{case}.yaml").read_text())) for case in CASES}


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (item for item in objects if item["kind"] == kind)
    return found


def configuration(objects: list[dict[str, Any]]) -> str:
    (text,) = one(objects, "ConfigMap")["data"].values()
    return text


def template(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return one(objects, "DaemonSet")["spec"]["template"]


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (only,) = template(objects)["spec"]["containers"]
    return only


def host_folders(objects: list[dict[str, Any]]) -> set[str]:
    volumes = template(objects)["spec"]["volumes"]
    return {volume["hostPath"]["path"] for volume in volumes if "hostPath" in volume}


@pytest.mark.parametrize("case", CASES)
def test_the_objects_belong_together(case: str, rendered: dict[str, list[dict[str, Any]]]) -> None:
    objects = rendered[case]
    kinds = [item["kind"] for item in objects]
    assert kinds == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet"]
    namespace = CASES[case].get("kube_logging_namespace", "logging")
    placed = {
        item["metadata"].get("namespace") for item in objects if not item["kind"].startswith("ClusterRole")
    }
    assert placed == {namespace}
    account = one(objects, "ServiceAccount")["metadata"]["name"]
    assert one(objects, "ClusterRoleBinding")["subjects"] == [
        {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    ]
    assert template(objects)["spec"]["serviceAccountName"] == account
    selector = one(objects, "DaemonSet")["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template(objects)["metadata"]["labels"].items()
    spec = template(objects)["spec"]
    assert {mount["name"] for mount in container(objects)["volumeMounts"]} == {
        volume["name"] for volume in spec["volumes"]
    }
    ports = {port["name"] for port in container(objects)["ports"]}
    for probe in ("readinessProbe", "livenessProbe"):
        assert container(objects)[probe]["httpGet"]["port"] in ports


@pytest.mark.parametrize("case", CASES)
def test_a_collector_may_read_and_nothing_else(case: str, rendered: dict[str, list[dict[str, Any]]]) -> None:
    objects = rendered[case]
    context = container(objects)["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert "privileged" not in context
    for rule in one(objects, "ClusterRole")["rules"]:
        assert rule["verbs"] == ["get", "list", "watch"]
        assert set(rule["resources"]) <= {"pods", "namespaces"}
    host = {volume["name"] for volume in template(objects)["spec"]["volumes"] if "hostPath" in volume}
    written = {mount["name"] for mount in container(objects)["volumeMounts"] if not mount.get("readOnly")}
    assert written & host == {"state"}


@pytest.mark.parametrize("case", CASES)
def test_credentials_are_in_the_secret_only(case: str, rendered: dict[str, list[dict[str, Any]]]) -> None:
    references = {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]
        for variable in container(rendered[case])["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    assert references == {
        "ELASTICSEARCH_USERNAME": {"name": PASSWORD, "key": "username"},
        "ELASTICSEARCH_PASSWORD": {"name": PASSWORD, "key": "password"},
    }
    text = configuration(rendered[case])
    assert re.findall(r"^ +password:? +(.+)", text, re.M) in (
        ["${env:ELASTICSEARCH_PASSWORD}"],
        ["\"#{ENV['ELASTICSEARCH_PASSWORD']}\""],
    )


def test_what_it_reads_at_its_start_rolls_it(rendered: dict[str, list[dict[str, Any]]]) -> None:
    digests = {
        case: template(objects)["metadata"]["annotations"]["kubewright.dev/config"]
        for case, objects in rendered.items()
    }
    assert len(set(digests.values())) == len(CASES)


def test_the_journal_is_mounted_where_it_is_read(rendered: dict[str, list[dict[str, Any]]]) -> None:
    common = {"/var/log"}
    state = "/var/lib/kubewright/collector-"
    assert host_folders(rendered["fluentd"]) == common | {f"{state}fluentd"}
    assert host_folders(rendered["opentelemetry"]) == common | {f"{state}opentelemetry"}
    assert host_folders(rendered["fluentd_all"]) == common | {f"{state}fluentd", "/run/log"}
    journalctl = {"/run/log", "/etc/machine-id", "/usr", "/usr/lib", "/usr/lib64"}
    assert host_folders(rendered["kubelet"]) == common | {f"{state}opentelemetry"} | journalctl


def test_variables_arrive(rendered: dict[str, list[dict[str, Any]]]) -> None:
    text = configuration(rendered["elsewhere"])
    assert f"total_limit_size {1536 * 1024**2}\n" in text
    assert "host elasticsearch.logs.svc\n" in text
    assert "/var/log/pods/logs_collector-*/*/*" in text
    assert template(rendered["elsewhere"])["spec"]["tolerations"] == []
    assert container(rendered["elsewhere"])["resources"]["limits"] == {"memory": "1Gi"}
    assert template(rendered["fluentd"])["spec"]["tolerations"] == [{"operator": "Exists"}]


@pytest.mark.parametrize("case", ["opentelemetry", "opentelemetry_all", "kubelet"])
def test_every_part_of_the_collector_is_defined_and_used(
    case: str, rendered: dict[str, list[dict[str, Any]]]
) -> None:
    settings = yaml.safe_load(configuration(rendered[case]))
    pipelines = settings["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {part for pipeline in pipelines for part in pipeline[kind]} == set(settings[kind])
    assert settings["service"]["extensions"] == list(settings["extensions"])
    for receiver in settings["receivers"].values():
        assert receiver["storage"] in settings["extensions"]
        assert receiver["start_at"] == "beginning"
        assert receiver["retry_on_failure"] == {"enabled": True, "max_elapsed_time": 0}
    for pipeline in pipelines:
        assert pipeline["processors"][0] == "memory_limiter"


def test_nothing_is_given_up(rendered: dict[str, list[dict[str, Any]]]) -> None:
    settings = yaml.safe_load(configuration(rendered["opentelemetry"]))
    exporter = settings["exporters"]["elasticsearch"]
    assert exporter["timeout"] == "0s"
    assert exporter["retry"]["max_retries"] >= 10**9
    assert {401, 403, 429, 503} <= set(exporter["retry"]["retry_on_status"])
    queue = exporter["sending_queue"]
    assert queue["storage"] in settings["extensions"]
    assert queue["block_on_overflow"] is True
    assert queue["queue_size"] == 2 * 1024**3
    for name in (queue["storage"], settings["receivers"]["file_log/containers"]["storage"]):
        assert settings["extensions"][name]["fsync"] is True
    # 0.8 of 512 MiB.
    assert settings["processors"]["memory_limiter"]["limit_mib"] == 409
    assert {"name": "GOMEMLIMIT", "value": "409MiB"} in container(rendered["opentelemetry"])["env"]
    assert "--feature-gates=stanza.synchronousLogEmitter" in container(rendered["opentelemetry"])["args"]
    buffer = configuration(rendered["fluentd"])
    for line in ("@type file", "overflow_action block", "retry_forever true", "unrecoverable_error_types []"):
        assert line in buffer
    for never in ("suppress_type_name", "remove_keys"):
        assert never not in buffer


@pytest.mark.parametrize(("case", "there"), [("fluentd", False), ("fluentd_all", True)])
def test_sources_of_fluentd_are_there_when_they_are_wanted(
    case: str, there: bool, rendered: dict[str, list[dict[str, Any]]]
) -> None:
    text = configuration(rendered[case])
    assert ("@type systemd" in text) is there
    assert ("/var/log/kubernetes/audit/audit.log" in text) is there
    labels = set(re.findall(r"^<label (@\w+)>", text, re.M))
    used = set(re.findall(r"^ +(?:@label|timeout_label) (@\w+)", text, re.M))
    # These two are fluentd's own.
    assert labels == used | {"@ERROR", "@FLUENT_LOG"}
