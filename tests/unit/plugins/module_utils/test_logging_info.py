# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster says to the logging that is wanted in it, from objects as the API server gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.module_utils._logging_info import (
    Observed,
    class_in_effect,
    judge,
    observe,
    profile_of,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._logging_wanted import PREFIX

ROLE = Path(__file__).parents[4] / "roles/kube_logging"
DEFAULTS = {
    name.removeprefix(PREFIX): value
    for name, value in yaml.safe_load((ROLE / "defaults/main.yml").read_text()).items()
}
OURS = {"app.kubernetes.io/managed-by": "kubewright"}
DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **more}}


def storage_class(name: str, *, default: bool = False, grows: bool = False, **more: Any) -> dict[str, Any]:
    found = meta(name, annotations=DEFAULT if default else {}, **more)
    return {**found, "provisioner": "example.com/disk", "allowVolumeExpansion": grows}


def node(name: str, memory: str = "8Gi") -> dict[str, Any]:
    return {**meta(name), "spec": {}, "status": {"allocatable": {"memory": memory}}}


def elasticsearch(
    name: str = "elasticsearch", replicas: int = 3, version: str = "9.5.3", memory: str = "2Gi"
) -> dict[str, Any]:
    container = {
        "name": "elasticsearch",
        "image": f"docker.elastic.co/elasticsearch/elasticsearch:{version}",
        "resources": {"requests": {"memory": memory}},
    }
    spec = {"replicas": replicas, "template": {"spec": {"containers": [container]}}}
    return {**meta(name, labels=OURS, namespace="logging"), "spec": spec}


def claim(name: str, size: str = "50Gi", class_name: str = "disk") -> dict[str, Any]:
    return {
        **meta(name),
        "spec": {"storageClassName": class_name, "resources": {"requests": {"storage": size}}},
    }


def seen(**changes: Any) -> Observed:
    """A cluster of three workers with a default class, and nothing of a logging."""
    found: dict[str, Any] = {
        "place": "logging",
        "namespace": None,
        "homes": [],
        "workloads": {},
        "classes": [storage_class("disk", default=True)],
        "nodes": [node("w1"), node("w2"), node("w3")],
    }
    return Observed(**{**found, **changes})


def installed(*sets: dict[str, Any], **changes: Any) -> Observed:
    return seen(
        namespace=meta("logging"), homes=["logging"], workloads={"StatefulSet": list(sets)}, **changes
    )


def problems(observed: Observed, **changes: Any) -> list[str]:
    """The sentences, with all their parts."""
    found = judge({**DEFAULTS, **changes}, observed)
    assert all(one["what"] and one["remedy"] for one in found)
    return [" | ".join(one.values()) for one in found]


def test_a_fresh_cluster_and_one_that_has_it() -> None:
    assert problems(seen()) == []
    assert problems(installed(elasticsearch())) == []


def test_wrong_values_and_what_the_cluster_lacks_are_said_at_once() -> None:
    found = problems(seen(classes=[]), heap="1Gi")
    assert len(found) == 2
    assert found[0].startswith("kube_logging_heap is 1Gi") and found[1].startswith(
        "There is no storage class"
    )


# --- storage -----------------------------------------------------------------------------------------------


def test_which_class_counts() -> None:
    """A named one, then our own, then the default: of several, the one that was made last."""
    old = storage_class("old", default=True, creationTimestamp="2026-01-01T00:00:00Z")
    new = storage_class("new", default=True, creationTimestamp="2026-06-01T00:00:00Z")
    observed = seen(classes=[new, old, storage_class("other")])
    assert class_in_effect(DEFAULTS, observed) == "new"
    assert class_in_effect({**DEFAULTS, "local_storage": True}, observed) == "kubewright-local"
    assert class_in_effect({**DEFAULTS, "local_storage": True, "storage_class": "x"}, observed) == "x"
    assert class_in_effect(DEFAULTS, seen(classes=[storage_class("other")])) == ""


def test_no_class_at_all_and_none_that_is_the_default() -> None:
    assert "The cluster has none" in problems(seen(classes=[]))[0]
    assert "The cluster has a, b" in problems(seen(classes=[storage_class("b"), storage_class("a")]))[0]
    assert problems(seen(classes=[]), local_storage=True) == []


def test_a_class_that_is_not_there() -> None:
    (found,) = problems(seen(), storage_class="fast")
    assert found.startswith("kube_logging_storage_class is fast") and "The cluster has disk" in found
    assert problems(seen(classes=[]), storage_class="kubewright-local", local_storage=True) == []


def test_our_class_in_other_hands() -> None:
    (found,) = problems(seen(classes=[storage_class("kubewright-local")]), local_storage=True)
    assert "kubewright-local is there that this collection did not make | example.com/disk" in found
    ours = storage_class("kubewright-local", labels=OURS)
    assert problems(seen(classes=[ours]), local_storage=True) == []


def test_volumes_do_not_move_to_another_class() -> None:
    classes = [storage_class("disk", default=True), storage_class("fast")]
    observed = installed(elasticsearch(), claims=[claim("data-elasticsearch-0")], classes=classes)
    (found,) = problems(observed, storage_class="fast")
    assert "volume data-elasticsearch-0 is of disk" in found and "Set it to disk" in found
    # Another default later concerns new volumes only.
    moved = [storage_class("disk"), storage_class("fast", default=True)]
    assert problems(installed(elasticsearch(), claims=[claim("data-elasticsearch-0")], classes=moved)) == []


def test_volumes_do_not_shrink_and_grow_where_their_class_lets_them() -> None:
    fixed, growing = storage_class("disk", default=True), storage_class("disk", default=True, grows=True)
    claims = [
        claim("data-elasticsearch-0"),
        claim("data-other-0", "1Ti"),
        claim("data-elasticsearch-data-0", "1Ti"),
    ]
    (found,) = problems(installed(elasticsearch(), claims=claims), volume_size="20Gi")
    assert found.startswith("kube_logging_volume_size is 20Gi") and "none shrinks" in found
    (found,) = problems(installed(elasticsearch(), claims=claims, classes=[fixed]), volume_size="60Gi")
    assert "storage class disk lets none grow" in found and "allowVolumeExpansion" in found
    assert problems(installed(elasticsearch(), claims=claims, classes=[growing]), volume_size="60Gi") == []
    tiers = installed(*TIERS, claims=[claim("data-elasticsearch-master-0", "10Gi")])
    (found,) = problems(tiers, profile="tiers", data_nodes=3)
    assert found.startswith("kube_logging_master_volume_size is 5Gi")


# --- whose is it -------------------------------------------------------------------------------------------


def test_a_namespace_that_is_being_deleted() -> None:
    gone = meta("logging", deletionTimestamp="2026-11-23T12:00:00Z")
    gone["status"] = {"conditions": [{"status": "True", "message": "2 pods are left."}, {"status": "False"}]}
    (found,) = problems(seen(namespace=gone))
    assert found.startswith("The namespace is being deleted | logging | 2 pods are left.")


def test_a_logging_of_ours_in_another_namespace() -> None:
    (found,) = problems(seen(homes=["logging"], place="logs"), namespace="logs")
    assert found.startswith("kube_logging_namespace is logs") and "has its logging in logging" in found


@pytest.mark.parametrize(
    ("kind", "name"),
    [("StatefulSet", "elasticsearch-master"), ("DaemonSet", "collector"), ("Service", "elasticsearch")],
)
def test_a_name_of_ours_in_other_hands(kind: str, name: str) -> None:
    (found,) = problems(seen(namespace=meta("logging"), workloads={kind: [meta(name)]}))
    assert f"did not make is in the namespace: {kind} {name} | logging" in found


@pytest.mark.parametrize(
    ("labels", "annotations", "maker"),
    [
        ({"common.k8s.elastic.co/type": "elasticsearch"}, {}, "the operator ECK"),
        (
            {"app.kubernetes.io/managed-by": "Helm"},
            {"meta.helm.sh/release-name": "logs"},
            "the Helm release logs",
        ),
        ({"heritage": "Helm"}, {}, "of Helm"),
    ],
)
def test_a_logging_that_helm_or_an_operator_has_made(
    labels: dict[str, str], annotations: dict[str, str], maker: str
) -> None:
    """Whatever it is called."""
    item = meta("logs-es-default", labels=labels, annotations=annotations)
    item["spec"] = {"template": {"spec": {"containers": [{"image": "example.com/elasticsearch:8.19.0"}]}}}
    (found,) = problems(seen(namespace=meta("logging"), workloads={"StatefulSet": [item]}))
    assert "StatefulSet logs-es-default" in found and maker in found


def test_what_is_no_logging_may_be_in_the_namespace() -> None:
    item = meta("web", labels={"app.kubernetes.io/managed-by": "Helm"})
    item["spec"] = {"template": {"spec": {"containers": [{"image": "example.com/web:1"}]}}}
    assert (
        problems(seen(namespace=meta("logging"), workloads={"Deployment": [item], "Service": [meta("web")]}))
        == []
    )


# --- what an Elasticsearch that is there cannot become -----------------------------------------------------


TIERS = [
    elasticsearch("elasticsearch-master", 3, memory="1Gi"),
    elasticsearch("elasticsearch-data", 3),
    elasticsearch("elasticsearch-client", 2, memory="1Gi"),
]


def test_what_is_installed() -> None:
    assert profile_of(seen()) == ""
    assert profile_of(installed(elasticsearch(replicas=1))) == "single"
    assert profile_of(installed(elasticsearch())) == "three"
    assert profile_of(installed(*TIERS)) == "tiers"
    # Half made, because a run was cut off.
    assert profile_of(installed(TIERS[0])) == "tiers"
    assert profile_of(installed(elasticsearch(replicas=0))) == ""


@pytest.mark.parametrize(
    ("there", "wanted"), [("tiers", "three"), ("three", "tiers"), ("three", "single"), ("single", "three")]
)
def test_a_profile_does_not_become_another(there: str, wanted: str) -> None:
    sets = {"tiers": TIERS, "three": [elasticsearch()], "single": [elasticsearch(replicas=1)]}
    (found,) = problems(installed(*sets[there]), profile=wanted)
    assert found.startswith(f"kube_logging_profile is {wanted}") and f"Set it to {there}" in found


def test_data_nodes_are_added_and_not_taken_away() -> None:
    workers = [node(f"w{number}") for number in range(5)]
    assert problems(installed(*TIERS, nodes=workers), profile="tiers", data_nodes=5) == []
    (found,) = problems(installed(*TIERS), profile="tiers", data_nodes=2)
    assert found.startswith("kube_logging_data_nodes is 2") and "there are 3" in found


def test_an_older_version_is_refused() -> None:
    (found,) = problems(installed(elasticsearch(version="9.6.0")))
    assert found.startswith("kube_logging_elasticsearch_version is 9.5.3") and "9.6.0 is installed" in found
    assert problems(installed(elasticsearch(version="9.5.2"))) == []
    assert problems(installed(elasticsearch(version="9.10.1")), elasticsearch_version="9.10.2") == []
    # A tag that says nothing keeps nobody.
    assert problems(installed(elasticsearch(version="mine"))) == []


# --- room --------------------------------------------------------------------------------------------------


def test_too_little_room() -> None:
    (found,) = problems(seen(nodes=[node("w1"), node("w2")]))
    assert found.startswith("The nodes have no room for the 3 pods of elasticsearch")


def test_our_own_pods_are_in_nobodys_way() -> None:
    """They are among those that are placed."""
    spec = {"nodeName": "w1", "containers": [{"resources": {"requests": {"memory": "7Gi"}}}]}
    own = {**meta("elasticsearch-0", namespace="logging", labels=OURS), "spec": spec}
    other = {**meta("web", namespace="shop", labels=OURS), "spec": spec}
    grown = {"heap": "2g"}
    assert problems(installed(elasticsearch(), pods=[own]), **grown) == []
    assert len(problems(installed(elasticsearch(), pods=[own, other]), **grown)) == 1


def test_a_node_that_is_away_does_not_hold_up_what_runs() -> None:
    two = [node("w1"), node("w2")]
    assert problems(installed(elasticsearch(), nodes=two)) == []
    assert len(problems(installed(elasticsearch(), nodes=two), heap="2g")) == 1
    assert len(problems(installed(elasticsearch(replicas=2), nodes=two))) == 1


# --- the Ingress of Kibana ---------------------------------------------------------------------------------


def test_an_ingress_needs_a_class() -> None:
    host = {"kibana_ingress_host": "logs.example.com"}
    default = meta("nginx", annotations={"ingressclass.kubernetes.io/is-default-class": "true"})
    assert problems(seen(ingress_classes=[default]), **host) == []
    assert problems(seen(ingress_classes=[meta("nginx")]), kibana_ingress_class="nginx", **host) == []
    assert "no class is the default. The cluster has none" in problems(seen(), **host)[0]
    assert (
        "no such ingress class"
        in problems(seen(ingress_classes=[default]), kibana_ingress_class="x", **host)[0]
    )
    assert problems(seen(), kibana=False, **host) == []


# --- observe -----------------------------------------------------------------------------------------------


class FakeKubeApi:
    """Answers lists and objects by their paths; whatever else is asked is not there."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def list(self, path: str, **_query: Any) -> list[dict[str, Any]]:
        self.asked.append(path)
        return list(self.answers.get(path, []))

    def get(self, path: str) -> Any:
        self.asked.append(path)
        if path not in self.answers:
            raise ApiError("no", status=404)
        return self.answers[path]


def test_a_look_goes_where_the_logging_is() -> None:
    namespace = {"/api/v1/namespaces/logs": meta("logs")}
    sets = [{**elasticsearch(), "metadata": {**elasticsearch()["metadata"], "namespace": "logs"}}]
    paths = ["/apis/apps/v1/statefulsets", "/apis/apps/v1/namespaces/logs/statefulsets"]
    api = FakeKubeApi(**namespace, **dict.fromkeys(paths, sets))
    found = observe(api, "logging", everything=False)  # type: ignore[arg-type]
    assert (found.home, profile_of(found)) == ("logs", "three")
    assert "/api/v1/pods" not in api.asked
    # What is wanted is judged where it is wanted.
    judged = observe(api, "logging", everything=True)  # type: ignore[arg-type]
    assert judged.place == "logging" and judged.homes == ["logs"] and judged.sets == {}


def test_a_cluster_without_the_namespace_and_a_name_that_none_can_have() -> None:
    api = FakeKubeApi()
    found = observe(api, "logging", everything=True)  # type: ignore[arg-type]
    assert found.namespace is None and found.home == "" and "/api/v1/nodes" in api.asked
    api = FakeKubeApi()
    observe(api, "../kube-system", everything=True)  # type: ignore[arg-type]
    assert not any("kube-system" in path for path in api.asked)
