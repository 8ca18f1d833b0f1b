# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Elasticsearch and the local storage class, as the role kube_logging makes them of its variables."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.loader import lookup_loader
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_prepare as prepare
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_roll as roll
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_secrets as secrets
from ansible_collections.kubewright.cluster.plugins.module_utils._quantity import bytes_of
from roletexts import evaluate_in

ROLE = Path(__file__).parents[3] / "roles/kube_logging"
PROFILES = ("single", "three", "tiers")
Objects = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(autouse=True)
def builtin_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find lookups by their full names without Ansible's loader of collections, which would take these tests' place."""
    find = lookup_loader.get
    monkeypatch.setattr(
        lookup_loader, "get", lambda name, **more: find(name.removeprefix("ansible.builtin."), **more)
    )


def evaluate(text: str, **changes: Any) -> Any:
    """Work a text out with the role's defaults and variables."""
    given = {"kube_cluster_api_port": 6443, "ansible_search_path": [str(ROLE)]}
    return evaluate_in(ROLE, text, {**given, **changes})


def render(template: str, **changes: Any) -> Objects:
    text = evaluate((ROLE / "templates" / template).read_text(encoding="utf-8"), **changes)
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(text)}


def objects(profile: str, bootstrap: bool = False, **changes: Any) -> Objects:
    changes = {"kube_logging_profile": profile, "__kube_logging_bootstrap": bootstrap, **changes}
    return render("elasticsearch_settings.yaml.j2", **changes) | render("elasticsearch.yaml.j2", **changes)


def sets(found: Objects) -> dict[str, dict[str, Any]]:
    return {name: item for (kind, name), item in found.items() if kind == "StatefulSet"}


def settings(found: Objects, name: str) -> dict[str, Any]:
    """Return elasticsearch.yml as the container puts it together."""
    data = found["ConfigMap", name]["data"]
    read: dict[str, Any] = yaml.safe_load(data["elasticsearch.yml"] + data["bootstrap.yml"])
    return read


def pod(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = item["spec"]["template"]["spec"]
    return found


def container(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod(item)["containers"][0]
    return found


def digest(found: Objects, name: str) -> str:
    template = sets(found)[name]["spec"]["template"]
    return str(template["metadata"]["annotations"]["kubewright.dev/config"])


# --- the profiles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "shape"),
    [
        ("single", {"elasticsearch": (1, ["master", "data", "ingest"])}),
        ("three", {"elasticsearch": (3, ["master", "data", "ingest"])}),
        (
            "tiers",
            {
                "elasticsearch-master": (3, ["master"]),
                "elasticsearch-data": (2, ["data", "ingest"]),
                "elasticsearch-client": (2, []),
            },
        ),
    ],
)
def test_profiles(profile: str, shape: dict[str, tuple[int, list[str]]]) -> None:
    found = objects(profile)
    assert {
        name: (item["spec"]["replicas"], settings(found, name)["node.roles"])
        for name, item in sets(found).items()
    } == shape


def test_more_data_nodes() -> None:
    found = objects("tiers", kube_logging_data_nodes=5)
    assert sets(found)["elasticsearch-data"]["spec"]["replicas"] == 5


@pytest.mark.parametrize("profile", PROFILES)
def test_services_reach_whom_they_should(profile: str) -> None:
    found = objects(profile)

    def selected(service: str) -> set[str]:
        selector = found["Service", service]["spec"]["selector"]
        labels = {name: item["spec"]["template"]["metadata"]["labels"] for name, item in sets(found).items()}
        return {name for name, held in labels.items() if selector.items() <= held.items()}

    tiers = profile == "tiers"
    assert selected("elasticsearch") == {"elasticsearch-client" if tiers else "elasticsearch"}
    assert selected("elasticsearch-masters") == {"elasticsearch-master" if tiers else "elasticsearch"}
    masters = found["Service", "elasticsearch-masters"]["spec"]
    # Nodes find each other before they are ready, or they would never be.
    assert masters["clusterIP"] == "None" and masters["publishNotReadyAddresses"] is True
    for item in sets(found).values():
        assert item["spec"]["serviceName"] == "elasticsearch-masters"
        ports = {port["name"]: port["containerPort"] for port in container(item)["ports"]}
        assert ports == {"https": 9200, "transport": 9300, "readiness": 9399}
        for service in ("elasticsearch", "elasticsearch-masters"):
            assert found["Service", service]["spec"]["ports"][0]["targetPort"] in ports


@pytest.mark.parametrize("profile", PROFILES)
def test_sets_select_their_own_pods_only(profile: str) -> None:
    found = sets(objects(profile))
    selectors = [
        json.dumps(item["spec"]["selector"]["matchLabels"], sort_keys=True) for item in found.values()
    ]
    assert len(set(selectors)) == len(found)
    for item in found.values():
        labels = item["spec"]["template"]["metadata"]["labels"]
        assert item["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert labels[roll.COMPONENT] in roll.ORDER
        assert f"app.kubernetes.io/name={labels['app.kubernetes.io/name']}" == roll.SELECTOR


# --- how they become and stay a cluster --------------------------------------------------------------------


def test_only_masters_found_a_cluster_and_only_once() -> None:
    names = {
        "single": ["elasticsearch-0"],
        "three": [f"elasticsearch-{at}" for at in range(3)],
        "tiers": [f"elasticsearch-master-{at}" for at in range(3)],
    }
    for profile, masters in names.items():
        first, then = objects(profile, bootstrap=True), objects(profile)
        for name in sets(first):
            founds = settings(first, name).get("cluster.initial_master_nodes")
            assert founds == (masters if "master" in settings(first, name)["node.roles"] else None)
            assert "cluster.initial_master_nodes" not in settings(then, name)
            assert then["ConfigMap", name]["data"][prepare.BOOTSTRAP_KEY] == ""
            # That it goes restarts nobody.
            assert digest(first, name) == digest(then, name)


def test_settings() -> None:
    found = settings(objects("three"), "elasticsearch")
    assert found["discovery.seed_hosts"] == ["elasticsearch-masters"]
    assert (found["node.name"], found["network.publish_host"]) == ("${POD_NAME}", "${POD_IP}")
    assert found["readiness.port"] == 9399 and "discovery.type" not in found
    # Security is not configured by Elasticsearch itself at the first start when it is configured here.
    assert found["xpack.security.enabled"] is True
    for layer in ("transport", "http"):
        assert found[f"xpack.security.{layer}.ssl.enabled"] is True
        for key in ("key", "certificate"):
            assert found[f"xpack.security.{layer}.ssl.{key}"].startswith("tls/tls.")
        assert found[f"xpack.security.{layer}.ssl.certificate_authorities"] == ["tls/ca.crt"]
    # Pods have no lasting addresses: who has a certificate of the authority for clients is a node.
    assert found["xpack.security.transport.ssl.verification_mode"] == "certificate"


def test_settings_of_users_come_last_and_restart() -> None:
    mine = {"cluster.routing.allocation.disk.watermark.low": "90%", "network.host": "127.0.0.1"}
    found = objects("tiers", kube_logging_elasticsearch_settings=mine)
    for name in sets(found):
        assert mine.items() <= settings(found, name).items()
        assert digest(found, name) != digest(objects("tiers"), name)


@pytest.mark.parametrize("profile", PROFILES)
def test_pods_are_replaced_by_the_roll_alone(profile: str) -> None:
    for item in sets(objects(profile)).values():
        assert item["spec"]["updateStrategy"] == {"type": "OnDelete"}
        assert item["spec"]["podManagementPolicy"] == "Parallel"


@pytest.mark.parametrize("profile", PROFILES)
def test_no_budget_blocks_the_drain_of_a_healthy_cluster(profile: str) -> None:
    found = objects(profile)
    budgets = {name: item["spec"] for (kind, name), item in found.items() if kind == "PodDisruptionBudget"}
    assert set(budgets) == {name for name, item in sets(found).items() if item["spec"]["replicas"] > 1}
    for name, spec in budgets.items():
        assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
        assert spec["selector"] == sets(found)[name]["spec"]["selector"]


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_kills_a_node_that_recovers(profile: str) -> None:
    for item in sets(objects(profile)).values():
        made = container(item)
        assert "livenessProbe" not in made
        assert made["readinessProbe"]["tcpSocket"] == {"port": "readiness"}
        # This port is open before there is a cluster.
        assert made["startupProbe"]["tcpSocket"] == {"port": "transport"}
        assert made["startupProbe"]["periodSeconds"] * made["startupProbe"]["failureThreshold"] >= 1800


@pytest.mark.parametrize("profile", PROFILES)
def test_two_of_a_kind_share_no_host(profile: str) -> None:
    for name, item in sets(objects(profile)).items():
        rules = pod(item)["affinity"]["podAntiAffinity"]
        (kind,) = rules
        client = name.endswith("client")
        assert kind.startswith("preferred" if client else "required")
        term = rules[kind][0]["podAffinityTerm"] if client else rules[kind][0]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert term["labelSelector"]["matchLabels"] == item["spec"]["selector"]["matchLabels"]


def test_where_pods_may_go() -> None:
    tolerations = [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]
    found = objects("tiers", kube_logging_tolerations=tolerations, kube_logging_node_selector={"disk": "ssd"})
    for item in sets(found).values():
        assert (pod(item)["tolerations"], pod(item)["nodeSelector"]) == (tolerations, {"disk": "ssd"})


# --- memory, volumes, rights -------------------------------------------------------------------------------


@pytest.mark.parametrize(("heap", "memory"), [("1g", "2Gi"), ("512m", "1Gi"), ("31g", "62Gi")])
def test_the_memory_is_twice_the_heap(heap: str, memory: str) -> None:
    made = container(sets(objects("three", kube_logging_heap=heap))["elasticsearch"])
    resources = made["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert bytes_of(resources["limits"]["memory"]) == bytes_of(memory)
    assert "cpu" not in resources["limits"]
    options = next(one["value"] for one in made["env"] if one["name"] == "ES_JAVA_OPTS").split()
    assert options[:2] == [f"-Xms{heap}", f"-Xmx{heap}"]


def test_each_tier_has_its_heap_and_its_volume() -> None:
    found = sets(
        objects(
            "tiers",
            kube_logging_heap="4g",
            kube_logging_master_heap="600m",
            kube_logging_client_heap="700m",
            kube_logging_volume_size="99Gi",
            kube_logging_master_volume_size="9Gi",
        )
    )
    memory = {name: container(item)["resources"]["limits"]["memory"] for name, item in found.items()}
    assert memory == {
        "elasticsearch-master": "1200Mi",
        "elasticsearch-data": "8192Mi",
        "elasticsearch-client": "1400Mi",
    }
    volumes = {name: item["spec"].get("volumeClaimTemplates", []) for name, item in found.items()}
    sizes = {
        name: [one["spec"]["resources"]["requests"]["storage"] for one in held]
        for name, held in volumes.items()
    }
    assert sizes == {
        "elasticsearch-master": ["9Gi"],
        "elasticsearch-data": ["99Gi"],
        "elasticsearch-client": [],
    }
    # By this name prepare finds the claims.
    assert volumes["elasticsearch-data"][0]["metadata"]["name"] == prepare.VOLUME
    data = {"name": "data", "mountPath": "/usr/share/elasticsearch/data"}
    assert [data in container(item)["volumeMounts"] for item in found.values()] == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, None),
        ({"kube_logging_local_storage": True}, "kubewright-local"),
        ({"kube_logging_storage_class": "fast"}, "fast"),
        ({"kube_logging_storage_class": "fast", "kube_logging_local_storage": True}, "fast"),
    ],
)
def test_the_storage_class(changes: dict[str, Any], name: str | None) -> None:
    (template,) = sets(objects("three", **changes))["elasticsearch"]["spec"]["volumeClaimTemplates"]
    assert template["spec"].get("storageClassName") == name


@pytest.mark.parametrize("profile", PROFILES)
def test_pods_are_closed(profile: str) -> None:
    for item in sets(objects(profile)).values():
        made = pod(item)
        assert made["automountServiceAccountToken"] is False and made["enableServiceLinks"] is False
        context = made["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (1000, 0, True)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container(item)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        # kubectl drain asks for leave to delete what is in one.
        assert not any("emptyDir" in volume for volume in made["volumes"])
        mounts = {mount["name"] for mount in container(item)["volumeMounts"]}
        claims = {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
        assert mounts == {volume["name"] for volume in made["volumes"]} | claims


def test_pods_mount_the_secrets_that_are_made_and_never_the_authority() -> None:
    made = pod(sets(objects("three"))["elasticsearch"])
    mounted = {volume["secret"]["secretName"] for volume in made["volumes"] if "secret" in volume}
    assert mounted == {secrets.REALM, secrets.TLS} and secrets.AUTHORITY not in mounted
    # Group 1000 is the pod's fsGroup.
    assert all(volume["secret"]["defaultMode"] == 0o440 for volume in made["volumes"] if "secret" in volume)


@pytest.mark.skipif(not shutil.which("sh"), reason="needs a shell")
def test_the_container_s_shell_puts_the_configuration_together(tmp_path: Path) -> None:
    """With a shell, in a folder like the image's: links follow a Secret that changes, as kubelets change it."""
    found = objects("single", bootstrap=True)
    made = container(sets(found)["elasticsearch"])
    home, given = tmp_path / "home", tmp_path / "mnt"
    for folder in (home / "config" / "realm" / "..1", given):
        folder.mkdir(parents=True)
    for name, text in found["ConfigMap", "elasticsearch"]["data"].items():
        (given / name).write_text(text)
    for name in ("elasticsearch.yml", "users", "users_roles", "roles.yml"):
        (home / "config" / name).write_text("the image's")
    names = ("users", "users_roles", "roles.yml", "service_tokens")
    for name in names:
        (home / "config/realm/..1" / name).write_text("first")
        (home / "config/realm" / name).symlink_to(f"..data/{name}")
    (home / "config/realm/..data").symlink_to("..1")
    (home / "started").write_text('#!/bin/sh\necho "$@" > said\n')
    (home / "started").chmod(0o755)
    (script,) = made["args"]
    assert made["command"] == ["/bin/sh", "-ec"] and made["workingDir"] == "/usr/share/elasticsearch"
    assert script.count("/mnt/elasticsearch/") == 2 and script.count("exec /bin/tini") == 1
    script = script.replace("/mnt/elasticsearch", str(given)).replace("/bin/tini", "./started")
    for _ in range(2):  # A container that is started again finds what the last one left.
        subprocess.run([*made["command"], script], cwd=home, check=True)
    assert (home / "said").read_text() == "-- /usr/local/bin/docker-entrypoint.sh eswrapper\n"
    written = yaml.safe_load((home / "config/elasticsearch.yml").read_text())
    assert (
        written["cluster.initial_master_nodes"] == ["elasticsearch-0"] and written["readiness.port"] == 9399
    )
    (home / "config/realm/..2").mkdir()
    for name in names:
        assert (home / "config" / name).read_text() == "first"
        (home / "config/realm/..2" / name).write_text("second")
    (home / "config/realm/..new").symlink_to("..2")
    (home / "config/realm/..new").replace(home / "config/realm/..data")
    assert {(home / "config" / name).read_text() for name in names} == {"second"}


# --- what the tasks give to the modules --------------------------------------------------------------------


def test_what_the_modules_get() -> None:
    given = {
        name: evaluate("{{ [__kube_logging_rollouts, __kube_logging_replicas] }}", kube_logging_profile=name)
        for name in PROFILES
    }
    assert given["single"] == [[{"kind": "StatefulSet", "name": "elasticsearch"}], 0]
    assert given["three"][1] == given["tiers"][1] == 1
    assert [one["name"] for one in given["tiers"][0]] == [
        "elasticsearch-master",
        "elasticsearch-data",
        "elasticsearch-client",
    ]
    tasks = yaml.safe_load((ROLE / "tasks/elasticsearch.yml").read_text(encoding="utf-8"))
    asked = next(task for task in tasks if "kubewright.cluster.elasticsearch_prepare" in task)
    options = asked["kubewright.cluster.elasticsearch_prepare"]
    assert evaluate(options["volumes"], kube_logging_profile="tiers") == {
        "elasticsearch-master": "5Gi",
        "elasticsearch-data": "50Gi",
    }
    assert evaluate(options["masters"], kube_logging_profile="tiers") == ["elasticsearch-master"]


def test_check_mode_does_not_ask_about_sets_that_would_be_replaced() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/elasticsearch.yml").read_text(encoding="utf-8"))
    task = next(task for task in tasks if task["name"] == "Apply Elasticsearch")
    text = task["kubewright.cluster.kube_apply"]["definitions"]
    for check in (True, False):
        prepared = {"bootstrap": False, "replaced": ["elasticsearch-data"]}
        variables = {key: value for key, value in task["vars"].items()}
        found = evaluate(
            text,
            **variables,
            kube_logging_profile="tiers",
            __kube_logging_prepared=prepared,
            ansible_check_mode=check,
        )
        names = [item["metadata"]["name"] for item in found if item["kind"] == "StatefulSet"]
        assert ("elasticsearch-data" in names) is not check and "elasticsearch-master" in names
        assert found[0]["kind"] == "Namespace"


# --- local storage -----------------------------------------------------------------------------------------


def test_the_local_storage_class() -> None:
    found = render("storage.yaml.j2", kube_logging_storage_helper_image="example.com/busybox:1")
    storage = found["StorageClass", "kubewright-local"]
    (arguments,) = [item for item in found.values() if item["kind"] == "Deployment"]
    command = container(arguments)["command"]
    assert f"--provisioner-name={storage['provisioner']}" in command
    # The folder is made on the node that the pod was placed on.
    assert storage["volumeBindingMode"] == "WaitForFirstConsumer" and storage["allowVolumeExpansion"] is False
    data = found["ConfigMap", "local-storage"]["data"]
    assert json.loads(data["config.json"])["nodePathMap"][0]["paths"] == ["/var/lib/kubewright/volumes"]
    helper = yaml.safe_load(data["helperPod.yaml"])
    (made,) = helper["spec"]["containers"]
    assert (made["name"], made["image"]) == ("helper-pod", "example.com/busybox:1")
    # One leader is never elected.
    assert arguments["spec"]["replicas"] == 1 and arguments["spec"]["strategy"] == {"type": "Recreate"}
    assert pod(arguments)["securityContext"]["runAsNonRoot"] is True
    assert container(arguments)["securityContext"]["readOnlyRootFilesystem"] is True
    for item in found.values():
        assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kubewright"


def test_the_provisioner_s_scripts_make_and_delete_a_folder(tmp_path: Path) -> None:
    data = render("storage.yaml.j2")["ConfigMap", "local-storage"]["data"]
    folder = tmp_path / "volumes" / "a b"
    for script, there in (("setup", True), ("setup", True), ("teardown", False)):
        (tmp_path / script).write_text(data[script])
        subprocess.run(
            ["/bin/sh", script],
            cwd=tmp_path,
            env={"VOL_DIR": str(folder), "PATH": "/usr/bin:/bin"},
            check=True,
        )
        assert folder.is_dir() is there
        if there:
            assert folder.stat().st_mode & 0o777 == 0o777
            (folder / "file").write_text("x")
    missing = subprocess.run(["/bin/sh", "teardown"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"})
    assert missing.returncode != 0
