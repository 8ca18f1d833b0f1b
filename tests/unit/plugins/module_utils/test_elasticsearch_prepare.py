# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the manifests of Elasticsearch need to know, and volumes that grow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_prepare as prepare
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

CORE, APPS = "/api/v1/namespaces/logging", "/apis/apps/v1/namespaces/logging"
VOLUMES = {"elasticsearch": "50Gi"}


class FakeKubeApi:
    """Holds objects by their paths; a StatefulSet takes a moment to go."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.writes: list[tuple[str, str]] = []

    def add(self, base: str, plural: str, name: str, **content: Any) -> None:
        self.items[f"{base}/{plural}/{name}"] = {"metadata": {"name": name}, **content}

    def claim(self, name: str, size: str) -> None:
        spec = {"resources": {"requests": {"storage": size}}}
        self.add(CORE, "persistentvolumeclaims", name, spec=spec)

    def set(self, name: str, size: str) -> None:
        template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}}
        self.add(APPS, "statefulsets", name, spec={"volumeClaimTemplates": [template]})

    def settings(self, name: str, bootstrap: str) -> None:
        self.add(CORE, "configmaps", name, data={"elasticsearch.yml": "x: 1\n", "bootstrap.yml": bootstrap})

    def pod(self, name: str, ready: bool) -> None:
        self.add(CORE, "pods", name, status={"conditions": [{"type": "Ready", "status": str(ready)}]})

    def list(self, path: str, *, labelSelector: str) -> list[dict[str, Any]]:
        assert labelSelector == "app.kubernetes.io/name=elasticsearch"
        return [item for key, item in self.items.items() if key.rpartition("/")[0] == path]

    def get(self, path: str) -> dict[str, Any]:
        if path not in self.items:
            raise ApiError("GET was refused", status=404, reason="NotFound")
        found = self.items[path]
        if found["metadata"].get("deletionTimestamp"):
            del self.items[path]
        return found

    def request(self, method: str, path: str, *, body: dict[str, Any], content_type: str) -> dict[str, Any]:
        assert (method, content_type) == ("PATCH", "application/merge-patch+json")
        self.writes.append((method, path))
        self.items[path]["spec"] = body["spec"]
        return self.items[path]

    def delete(self, path: str, *, body: dict[str, Any]) -> None:
        assert body["propagationPolicy"] == "Orphan"
        self.writes.append(("DELETE", path))
        self.items[path]["metadata"]["deletionTimestamp"] = "now"


def plan(api: FakeKubeApi, masters: tuple[str, ...] = ("elasticsearch",), **volumes: str) -> prepare.Plan:
    return prepare.plan(masters, volumes or VOLUMES, prepare.observe(api, "logging"))


def test_nothing_is_there() -> None:
    assert plan(FakeKubeApi()) == prepare.Plan(True, {}, [])


# --- who founds the cluster --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bootstrap", "ready", "founds"),
    [
        # The first start is not over: a node that lost its volume then may still found, as it may have to.
        ("cluster.initial_master_nodes: [elasticsearch-0]\n", False, True),
        # Ready means that a master is elected. The next settings come without it.
        ("cluster.initial_master_nodes: [elasticsearch-0]\n", True, False),
        # Once without it, never again, though all nodes are down.
        ("", False, False),
        ("\n", False, False),
        ("", True, False),
    ],
)
def test_who_founds_the_cluster(bootstrap: str, ready: bool, founds: bool) -> None:
    api = FakeKubeApi()
    api.settings("elasticsearch", bootstrap)
    api.pod("elasticsearch-0", ready)
    assert plan(api).bootstrap is founds


def test_only_masters_say_that_there_is_a_cluster() -> None:
    api = FakeKubeApi()
    api.settings("elasticsearch-data", "")
    api.settings("elasticsearch-master", "cluster.initial_master_nodes: [elasticsearch-master-0]\n")
    api.pod("elasticsearch-master-0", False)
    assert plan(api, ("elasticsearch-master",)).bootstrap is True
    api.pod("elasticsearch-master-1", True)
    assert plan(api, ("elasticsearch-master",)).bootstrap is False


def test_lost_settings_of_a_cluster_that_runs_found_no_second_one() -> None:
    api = FakeKubeApi()
    api.pod("elasticsearch-2", True)
    assert plan(api).bootstrap is False


# --- volumes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "grows"), [("20Gi", True), ("50Gi", False), ("51200Mi", False), ("80Gi", False)]
)
def test_volumes_grow_and_never_shrink(has: str, grows: bool) -> None:
    api = FakeKubeApi()
    api.claim("data-elasticsearch-0", has)
    assert plan(api).grow == ({"data-elasticsearch-0": (has, "50Gi")} if grows else {})


def test_each_set_has_its_own_claims() -> None:
    api = FakeKubeApi()
    for name in (
        "data-elasticsearch-data-0",
        "data-elasticsearch-0",
        "data-elasticsearch-master-0",
        "other-elasticsearch-1",
    ):
        api.claim(name, "1Gi")
    found = plan(api, **{"elasticsearch-data": "9Gi", "elasticsearch-master": "1Gi"})
    assert set(found.grow) == {"data-elasticsearch-data-0"}
    assert set(plan(api).grow) == {"data-elasticsearch-0"}


def test_a_set_with_another_size_is_made_anew_around_its_pods() -> None:
    api = FakeKubeApi()
    api.set("elasticsearch", "20Gi")
    for at in range(3):
        api.claim(f"data-elasticsearch-{at}", "20Gi")
    planned = plan(api)
    assert planned.replace == ["elasticsearch"]
    shown = prepare.diff(planned)
    assert json.loads(shown["before"])["data-elasticsearch-2"] == "20Gi"
    assert json.loads(shown["after"])["data-elasticsearch-2"] == "50Gi"

    prepare.apply(api, "logging", planned, Deadline(5, sleep=lambda seconds: None))
    assert [method for method, _ in api.writes] == ["PATCH"] * 3 + ["DELETE"]
    assert f"{APPS}/statefulsets/elasticsearch" not in api.items
    # What the manifests would make of it, and what a run that was cut off before them finds.
    assert plan(api) == prepare.Plan(True, {}, [])
    api.set("elasticsearch", "50Gi")
    assert plan(api) == prepare.Plan(True, {}, [])


def test_nothing_to_do_is_no_write_and_no_diff() -> None:
    api = FakeKubeApi()
    api.set("elasticsearch", "50Gi")
    planned = plan(api)
    prepare.apply(api, "logging", planned, Deadline(0))
    assert api.writes == [] and prepare.diff(planned) == {"before": "", "after": ""}
