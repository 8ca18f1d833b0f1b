# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""logging_info as Ansible calls it. What is judged, and how, is tested in module_utils."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.modules import logging_info as module

ROLE = Path(__file__).parents[4] / "roles/kube_logging"
SETS = "/apis/apps/v1/statefulsets"


class FakeKubeApi:
    def __init__(self) -> None:
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.objects: dict[str, Any] = {}
        self.down = False

    def list(self, path: str, **_query: Any) -> list[dict[str, Any]]:
        if self.down:
            raise ApiError("No answer", status=0, where="https://192.0.2.11:6443", transient=True)
        return self.lists.get(path, [])

    def get(self, path: str) -> Any:
        if path not in self.objects:
            raise ApiError("no", status=404)
        return self.objects[path]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeKubeApi:
    found = FakeKubeApi()
    monkeypatch.setattr(module.KubeApi, "from_kubeconfig", lambda *_a, **_k: found)
    return found


def run(capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    with patch_module_args(options), pytest.raises(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_look_at_a_cluster_without_and_with_a_logging(
    api: FakeKubeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(capsys)
    assert (found["installed"], found["namespace"], found["profile"]) == (False, "", "")
    assert "problems" not in found and found["changed"] is False
    metadata = {
        "name": "elasticsearch",
        "namespace": "logging",
        "labels": {"app.kubernetes.io/managed-by": "kubewright"},
    }
    api.objects["/api/v1/namespaces/logging"] = {"metadata": {"name": "logging"}}
    api.lists[SETS] = api.lists["/apis/apps/v1/namespaces/logging/statefulsets"] = [
        {"metadata": metadata, "spec": {"replicas": 1}}
    ]
    found = run(capsys)
    assert (found["installed"], found["namespace"], found["profile"]) == (True, "logging", "single")


def test_what_is_wanted_is_judged(api: FakeKubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    wanted = {name.removeprefix("kube_logging_"): value for name, value in defaults.items()}
    found = run(capsys, wanted=wanted)
    assert [one["what"] for one in found["problems"]] == [
        "There is no storage class for the volumes of Elasticsearch"
    ]
    assert (found["storage_class"], found["installed"]) == ("", False)


def test_no_answer(api: FakeKubeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.down = True
    assert run(capsys)["msg"] == "No answer (https://192.0.2.11:6443)."
