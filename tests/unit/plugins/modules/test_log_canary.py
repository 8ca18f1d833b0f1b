# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module log_canary returns, and that check mode writes nothing and needs no Elasticsearch."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils import basic
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.modules import log_canary


class FakeKubeApi:
    """Two nodes, one of them not Ready; pods end at once."""

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = []
        self.deleted = 0

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        if path == "/api/v1/nodes":
            return [node("cp", "True"), node("w1", "False")]
        return self.pods

    def apply(self, path: str, body: dict[str, Any]) -> Any:
        self.pods.append({**body, "status": {"phase": "Succeeded"}})
        return body

    def delete(self, path: str, **query: Any) -> Any:
        self.deleted += 1


class FakeElasticsearch:
    """Has every line at once, or refuses."""

    def __init__(self, api: FakeKubeApi, error: ApiError | None = None) -> None:
        self.api = api
        self.error = error

    def request(self, method: str, path: str, body: Any = None) -> Any:
        if self.error:
            raise self.error
        names = [pod["metadata"]["name"] for pod in self.api.pods]
        return {"hits": {"hits": [{"_source": {"kubernetes": {"pod_name": name}}} for name in names]}}


def node(name: str, ready: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def module_arguments(arguments: dict[str, Any]) -> AbstractContextManager[Any]:
    """Hand arguments to AnsibleModule, in the ways of ansible-core from 2.19 on and of 2.18."""
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:
        payload = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        return mock.patch.object(basic, "_ANSIBLE_ARGS", payload)
    return patch_module_args(arguments)


def run_module(
    api: FakeKubeApi, elasticsearch: Any, capsys: pytest.CaptureFixture[str], **arguments: Any
) -> tuple[int, dict[str, Any]]:
    with (
        module_arguments(arguments),
        mock.patch.object(log_canary.KubeApi, "from_kubeconfig", return_value=api) as connect,
        mock.patch.object(log_canary.Elasticsearch, "from_cluster", side_effect=elasticsearch),
        pytest.raises(SystemExit) as ended,
    ):
        log_canary.main()
    assert connect.call_args.kwargs["server"] == arguments.get("api_server")
    assert isinstance(ended.value.code, int)
    return ended.value.code, json.loads(capsys.readouterr().out)


def test_success(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeKubeApi()
    code, result = run_module(
        api, [FakeElasticsearch(api)], capsys, api_server="https://192.0.2.1:6443", namespace="logs"
    )
    assert code == 0
    assert result["passed"] is True
    assert result["changed"] is False
    assert result["msg"].startswith("The lines of 1 nodes are in Elasticsearch")
    assert result["plan"]["namespace"] == "logs"
    assert [entry["node"] for entry in result["nodes"]] == ["cp"]
    assert "Node w1 is not Ready" in json.dumps(result["warnings"])
    assert api.deleted == 1


def test_failure_returns_everything(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeKubeApi()
    refused = ApiError("GET was refused", status=401, why="unable to authenticate")
    code, result = run_module(api, [FakeElasticsearch(api, refused)], capsys)
    assert code == 1
    assert result["passed"] is False
    assert "unable to authenticate" in result["msg"]
    assert {"plan", "nodes", "failures", "seconds"} <= set(result)
    assert api.deleted == 1


def test_check_mode_writes_nothing_and_needs_no_elasticsearch(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeKubeApi()
    missing = ApiError("There is no Service logging/elasticsearch", status=404)
    code, result = run_module(api, missing, capsys, _ansible_check_mode=True)
    assert code == 0
    assert (api.pods, api.deleted) == ([], 0)
    assert result["msg"] == "Would write a line on each of 1 nodes and look for it."
    assert "passed" not in result


def test_without_an_elasticsearch_no_pod_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeKubeApi()
    missing = ApiError("There is no Service logging/elasticsearch", status=404)
    code, result = run_module(api, missing, capsys)
    assert code == 1
    assert "There is no Service" in result["msg"]
    assert api.pods == []


def test_documented_defaults_are_the_defaults() -> None:
    yaml = pytest.importorskip("yaml")
    documented = yaml.safe_load(log_canary.DOCUMENTATION)["options"]
    assert documented.keys() == log_canary.ARGUMENTS.keys()
    for name, argument in log_canary.ARGUMENTS.items():
        assert argument.get("default") == documented[name].get("default")
        assert argument["type"] == documented[name]["type"]
