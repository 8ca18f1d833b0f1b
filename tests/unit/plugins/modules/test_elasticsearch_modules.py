# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules around Elasticsearch as Ansible calls them. Their work is tested in module_utils."""

from __future__ import annotations

import json
import shutil
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.modules import (
    elasticsearch_prepare,
    elasticsearch_roll,
    elasticsearch_secrets,
    elasticsearch_settings,
    kube_rollout,
)


class FakeKubeApi:
    """A cluster in which nothing exists, not even the namespace; it keeps what is written."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.items: dict[str, Any] = {}

    def get(self, path: str, **_: Any) -> Any:
        if path in self.items:
            return self.items[path]
        raise ApiError(f"GET {path} was refused with status 404", status=404, reason="NotFound")

    def list(self, path: str, **_: Any) -> list[Any]:
        return []

    def request(self, method: str, path: str, *, body: Any, **_: Any) -> None:
        self.written.append(f"{method} {body['metadata']['name']}")
        self.items[f"{path}/{body['metadata']['name']}"] = body


def run(
    capsys: pytest.CaptureFixture[str],
    module: ModuleType,
    api: FakeKubeApi,
    check: bool = False,
    **options: Any,
) -> dict[str, Any]:
    arguments = {"namespace": "logging", "_ansible_check_mode": check, "_ansible_diff": True, **options}
    with (
        patch_module_args({**arguments, "api_server": "https://192.0.2.1:6443"}),
        mock.patch.object(module.KubeApi, "from_kubeconfig", return_value=api) as connect,  # type: ignore[attr-defined]
        pytest.raises(SystemExit),
    ):
        module.main()  # type: ignore[attr-defined]
    assert connect.call_args.kwargs["server"] == "https://192.0.2.1:6443"
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_secrets_in_check_mode_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeKubeApi()
    foretold = run(capsys, elasticsearch_secrets, api, check=True)
    assert foretold["changed"] and api.written == []
    made = run(capsys, elasticsearch_secrets, api)
    assert made["changed"] and made["secrets"] == foretold["secrets"] and len(api.written) == 9
    for check in (True, False):
        again = run(capsys, elasticsearch_secrets, api, check=check)
        assert not again["changed"] and again["digests"] == made["digests"]
    assert set(made["digests"]) == {entry["name"] for entry in made["secrets"]}
    assert "password" not in str(made["digests"]) and "PRIVATE KEY" not in str(made)


def test_prepare_where_nothing_is(capsys: pytest.CaptureFixture[str]) -> None:
    options = {"masters": ["elasticsearch"], "volumes": {"elasticsearch": "50Gi"}}
    result = run(capsys, elasticsearch_prepare, FakeKubeApi(), check=True, **options)
    assert (result["changed"], result["bootstrap"], result["replaced"]) == (False, True, [])


def test_settings_where_nothing_is(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, elasticsearch_settings, FakeKubeApi(), check=True, replicas=1)
    assert (result["changed"], result["changes"], result["retention"]) == (
        True,
        ["policy", "template"],
        "applied",
    )
    # Ansible keeps those of other modules that ran in this process.
    told = str(result.get("warnings"))
    assert "cannot be asked" not in told and "has no ILM" not in told
    failed = run(capsys, elasticsearch_settings, FakeKubeApi(), replicas=1)
    assert failed["failed"] and "There is no Service logging/elasticsearch" in failed["msg"]


def test_settings_where_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    api = mock.Mock()
    api.get.side_effect = ApiError("No answer", status=0, transient=True)
    result = run(capsys, elasticsearch_settings, api, check=True, replicas=1)
    assert result["changed"] and "cannot be asked" in str(result["warnings"])


def test_a_server_without_ilm_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    observed = elasticsearch_settings.Observed(has_ilm=False)
    with mock.patch.object(elasticsearch_settings, "foresee", return_value=observed):
        result = run(capsys, elasticsearch_settings, FakeKubeApi(), check=True, replicas=0)
    assert result["retention"] == "unavailable" and "has no ILM" in str(result["warnings"])


def test_roll_where_nothing_is(capsys: pytest.CaptureFixture[str]) -> None:
    for check in (True, False):
        result = run(capsys, elasticsearch_roll, FakeKubeApi(), check=check)
        assert (result["changed"], result["due"], result["allocation"]) == (False, [], "untouched")
    failed = run(capsys, elasticsearch_roll, FakeKubeApi(), pods=["elasticsearch-9"])
    assert failed["failed"] and "no pod elasticsearch-9" in failed["msg"] and failed["rolled"] == []


def test_rollout_in_check_mode_does_not_wait(capsys: pytest.CaptureFixture[str]) -> None:
    workloads = [{"kind": "StatefulSet", "name": "elasticsearch"}]
    result = run(capsys, kube_rollout, FakeKubeApi(), check=True, workloads=workloads)
    assert not result["changed"] and result["msg"] == "Would wait for StatefulSet elasticsearch."
    failed = run(capsys, kube_rollout, FakeKubeApi(), workloads=workloads)
    assert failed["failed"] and "404" in failed["msg"]


def test_nodes_that_are_not_ready_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    daemons = kube_rollout.Workload("DaemonSet", "collector")
    state = kube_rollout.wait.__globals__["State"](daemons, 2, 2, True, ("w3",))
    with mock.patch.object(kube_rollout, "wait", return_value=[state]):
        result = run(
            capsys, kube_rollout, FakeKubeApi(), workloads=[{"kind": "DaemonSet", "name": "collector"}]
        )
    assert "Node w3 is not Ready" in str(result["warnings"])
    assert result["workloads"][0]["not_ready_nodes"] == ["w3"]
