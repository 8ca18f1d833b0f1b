# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role kube_logging makes of its variables: Kibana, kernel settings, and what is judged before all that."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._logging_wanted import (
    heap_bytes,
    node_sets,
    value_problems,
)
from roletexts import evaluate_in

ROLE = Path(__file__).parents[3] / "roles/kube_logging"
DIGESTS = {"kibana-elasticsearch": "a", "kibana-keys": "b", "kibana-tls": "c"}
PROXY = "/api/v1/namespaces/logging/services/https:kibana:5601/proxy"


def evaluate(text: str, **changes: Any) -> Any:
    """Work a text out with the role's defaults and variables."""
    given = {"kube_cluster_api_port": 6443, "__kube_logging_secrets": {"digests": DIGESTS}}
    return evaluate_in(ROLE, text, {**given, **changes})


def kibana(**changes: Any) -> dict[str, dict[str, Any]]:
    """Kibana's objects by their kinds."""
    text = evaluate((ROLE / "templates/kibana.yaml.j2").read_text(encoding="utf-8"), **changes)
    return {item["kind"]: item for item in yaml.safe_load_all(text)}


def configuration(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(objects["ConfigMap"]["data"]["kibana.yml"])
    return found


def container(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    return found


def digest(**changes: Any) -> str:
    template = kibana(**changes)["Deployment"]["spec"]["template"]
    return str(template["metadata"]["annotations"]["kubewright.dev/config"])


# --- Kibana ------------------------------------------------------------------------------------------------


def test_kibana_by_default_is_behind_the_proxy_of_the_api_server() -> None:
    """That one takes its path off before it passes a request on."""
    objects = kibana()
    assert set(objects) == {"ConfigMap", "Service", "Deployment"}
    found = configuration(objects)
    assert (found["server.basePath"], found["server.rewriteBasePath"]) == (PROXY, False)
    assert "server.publicBaseUrl" not in found
    assert container(objects)["readinessProbe"]["httpGet"]["path"] == "/login"


def test_an_ingress_at_the_root_of_its_host() -> None:
    objects = kibana(
        kube_logging_kibana_ingress_host="logs.example.com", kube_logging_kibana_ingress_class="nginx"
    )
    found = configuration(objects)
    # Kibana refuses both where there is no path.
    assert not {"server.basePath", "server.rewriteBasePath"} & set(found)
    assert found["server.publicBaseUrl"] == "https://logs.example.com"
    spec = objects["Ingress"]["spec"]
    assert spec["ingressClassName"] == "nginx" and spec["tls"] == [{"hosts": ["logs.example.com"]}]
    assert spec["rules"][0]["http"]["paths"][0]["path"] == "/"


def test_an_ingress_below_a_path_which_it_passes_on() -> None:
    objects = kibana(
        kube_logging_kibana_ingress_host="logs.example.com",
        kube_logging_kibana_base_path="/kibana",
        kube_logging_kibana_ingress_secret="logs-tls",
        kube_logging_kibana_ingress_annotations={"example.com/backend": "HTTPS"},
    )
    found = configuration(objects)
    assert (found["server.basePath"], found["server.rewriteBasePath"]) == ("/kibana", True)
    # It has to end in the path, or Kibana does not start.
    assert found["server.publicBaseUrl"] == "https://logs.example.com/kibana"
    assert container(objects)["readinessProbe"]["httpGet"]["path"] == "/kibana/login"
    ingress = objects["Ingress"]
    assert ingress["spec"]["tls"][0]["secretName"] == "logs-tls"
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["path"] == "/kibana"
    assert ingress["metadata"]["annotations"] == {"example.com/backend": "HTTPS"}


def test_kibana_s_secrets_are_in_no_configuration() -> None:
    objects = kibana()
    found = configuration(objects)
    wants = {name: re.fullmatch(r"\$\{(\w+)\}", str(value)) for name, value in found.items()}
    secrets = {match[1] for match in wants.values() if match}
    given = {
        one["name"]: one["valueFrom"]["secretKeyRef"]
        for one in container(objects)["env"]
        if "valueFrom" in one
    }
    assert set(given) == secrets and len(secrets) == 4
    assert found["elasticsearch.serviceAccountToken"] == "${TOKEN}" and "elasticsearch.username" not in found
    assert given["TOKEN"] == {"name": "kibana-elasticsearch", "key": "token"}
    keys = {one["key"] for one in given.values() if one["name"] == "kibana-keys"}
    assert keys == {"security", "encryptedSavedObjects", "reporting"}


def test_kibana_verifies_elasticsearch_and_calls_nobody_outside() -> None:
    found = configuration(kibana(kube_logging_namespace="logs"))
    assert found["elasticsearch.hosts"] == ["https://elasticsearch.logs.svc:9200"]
    assert found["elasticsearch.ssl.certificateAuthorities"] == ["/etc/kibana/elasticsearch/ca.crt"]
    assert "elasticsearch.ssl.verificationMode" not in found and found["server.ssl.enabled"] is True
    outside = ("telemetry.optIn", "newsfeed.enabled", "map.includeElasticMapsService")
    assert [found[name] for name in outside] == [False] * 3 and found["xpack.fleet.isAirGapped"] is True


def test_kibana_s_pod_is_closed() -> None:
    objects = kibana()
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]
    context = container(objects)["securityContext"]
    assert context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]}
    # What it mounts is there, and the authority of the Secret with its token comes without the token.
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert {one["name"] for one in container(objects)["volumeMounts"]} == set(volumes)
    assert volumes["elasticsearch"]["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


@pytest.mark.parametrize(("memory", "heap"), [("1Gi", 768), ("1536Mi", 1152), ("4Gi", 3072)])
def test_kibana_s_heap_is_three_quarters_of_its_memory(memory: str, heap: int) -> None:
    found = container(kibana(kube_logging_kibana_memory=memory))
    assert found["env"][0] == {"name": "NODE_OPTIONS", "value": f"--max-old-space-size={heap}"}
    assert found["resources"]["limits"]["memory"] == memory


def test_kibana_rolls_when_what_it_reads_changes() -> None:
    assert digest() == digest()
    assert digest() != digest(kube_logging_kibana_base_path="/elsewhere")
    assert digest() != digest(__kube_logging_secrets={"digests": {**DIGESTS, "kibana-tls": "d"}})
    # In check mode on a cluster without anything.
    assert digest(__kube_logging_secrets={"digests": {}})


def test_a_budget_only_where_it_can_let_a_pod_go() -> None:
    assert "PodDisruptionBudget" not in kibana()
    assert kibana(kube_logging_kibana_replicas=2)["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


# --- what is judged ----------------------------------------------------------------------------------------


def test_what_is_handed_over_is_what_is_judged() -> None:
    wanted = json.loads(json.dumps(evaluate("{{ __kube_logging_wanted }}")))
    assert value_problems(wanted) == [] and wanted["kibana"] is True and wanted["local_storage"] is False


@pytest.mark.parametrize("profile", ["single", "three", "tiers"])
def test_the_nodes_that_are_judged_are_those_that_are_made(profile: str) -> None:
    """elasticsearch.yml of the role and _logging_wanted know the profiles both."""
    changes = {"kube_logging_profile": profile, "kube_logging_data_nodes": 4, "kube_logging_heap": "3g"}
    made = evaluate("{{ __kube_logging_tiers }}", **changes)
    judged = node_sets(evaluate("{{ __kube_logging_wanted }}", **changes))
    assert [
        (one["name"], int(one["replicas"]), 2 * heap_bytes(one["heap"]), one["volume_size"]) for one in made
    ] == [(one.name, one.replicas, one.memory, one.volume) for one in judged]


# --- the hosts ---------------------------------------------------------------------------------------------


def kernel(*seen: int) -> tuple[str, bool]:
    """The file for a host that has these values, and whether they have to be loaded."""
    tasks = yaml.safe_load((ROLE / "tasks/hosts.yml").read_text(encoding="utf-8"))
    file = next(
        task["kubewright.cluster.host_files"] for task in tasks if "kubewright.cluster.host_files" in task
    )
    answer = {"stdout_lines": [str(value) for value in seen]}
    text = evaluate(file["files"][0]["content"], __kube_logging_kernel=answer)
    return text, evaluate("{{ __kube_logging_sysctls_low }}", __kube_logging_kernel=answer)


def test_a_kernel_as_it_comes() -> None:
    text, low = kernel(65530, 128, 8192)
    assert low is True
    assert text.splitlines()[1:] == [
        "vm.max_map_count = 1048576",
        "fs.inotify.max_user_instances = 8192",
        "fs.inotify.max_user_watches = 524288",
    ]


def test_the_next_run_writes_the_same_and_loads_nothing() -> None:
    text, low = kernel(1048576, 8192, 524288)
    assert text == kernel(65530, 128, 8192)[0] and low is False


def test_nothing_is_lowered() -> None:
    text, low = kernel(2097152, 128, 1000000)
    assert "vm.max_map_count = 2097152\n" in text and "max_user_watches = 1000000\n" in text and low is True


# --- the role as a whole -----------------------------------------------------------------------------------


def files() -> dict[Path, str]:
    found = [
        path
        for folder in ("tasks", "templates", "vars")
        for path in (ROLE / folder).rglob("*")
        if path.is_file()
    ]
    return {path: path.read_text(encoding="utf-8") for path in found}


def test_every_variable_that_is_read_has_a_default_and_every_default_is_read() -> None:
    known = set(yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8")))
    read = {name for text in files().values() for name in re.findall(r"(?<!\w)kube_logging_\w*[a-z]", text)}
    assert read == known


def test_every_file_that_is_included_is_there_and_no_other() -> None:
    tasks = {path.name for path in (ROLE / "tasks").glob("*.yml")}
    included = {
        name
        for path, text in files().items()
        if path.parent.name == "tasks"
        for name in re.findall(r"include_tasks: (\w+\.yml)", text)
    }
    assert included == tasks - {"main.yml"}
