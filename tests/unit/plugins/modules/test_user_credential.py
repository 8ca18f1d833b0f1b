# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""user_credential as Ansible calls it. Making credentials is tested in module_utils."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from unittest import mock

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils import _credentials
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.modules import user_credential

PIPELINE = {
    "kind": "pipeline",
    "name": "deployer",
    "namespace": "shop",
    "lifetime": "1h",
    "home": "shop",
    "cluster": "example",
    "server": "https://192.0.2.10:8443",
    "api_server": "https://192.0.2.11:6443",
}


class FakeKubeApi:
    """Gives out one token, unless it refuses."""

    refusing = False

    def get(self, path: str) -> Any:
        return {"data": {"ca.crt": "CA"}}

    def request(self, method: str, path: str, *, body: Any) -> Any:
        if self.refusing:
            raise ApiError("POST was refused", status=403, why="not for you")
        assert path == "/api/v1/namespaces/shop/serviceaccounts/deployer/token"
        assert body["spec"]["expirationSeconds"] == 3600
        return {"status": {"token": "t0k3n", "expirationTimestamp": "2026-05-01T01:00:00Z"}}


def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    api: FakeKubeApi | None = None,
    check: bool = False,
) -> tuple[dict[str, Any], mock.Mock]:
    prove = mock.Mock()
    monkeypatch.setattr(_credentials, "prove", prove)
    with (
        patch_module_args({**options, "_ansible_check_mode": check}),
        mock.patch.object(user_credential.KubeApi, "from_kubeconfig", return_value=api) as connect,
        pytest.raises(SystemExit),
    ):
        user_credential.main()
    assert connect.called == (api is not None)
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result, prove


def test_a_pipeline(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result, prove = run(capsys, monkeypatch, PIPELINE, FakeKubeApi())
    config = yaml.safe_load(result["content"])
    assert config["users"] == [{"name": "deployer", "user": {"token": "t0k3n"}}]
    assert config["clusters"][0]["cluster"]["server"] == "https://192.0.2.10:8443"
    assert config["contexts"][0]["context"]["namespace"] == "shop"
    assert (result["changed"], result["expires"]) == (True, "2026-05-01T01:00:00Z")
    used, server, username, _deadline = prove.call_args.args
    assert (used, server, username) == (
        config,
        "https://192.0.2.11:6443",
        "system:serviceaccount:shop:deployer",
    )


def test_a_person(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    until = datetime(2026, 5, 1, tzinfo=timezone.utc)
    monkeypatch.setattr(
        _credentials, "make_request", lambda _runner, name, groups: ("KEY", f"{name} {groups}")
    )
    monkeypatch.setattr(
        _credentials,
        "issue_certificate",
        lambda _api, request, access, lifetime, _deadline: f"{request} {access} {lifetime}",
    )
    monkeypatch.setattr(_credentials, "check_certificate", lambda *_args: until)
    options = {**PIPELINE, "kind": "person", "name": "jane", "groups": ["ops"], "lifetime": "90d"}
    del options["namespace"]
    result, prove = run(capsys, monkeypatch, options, FakeKubeApi())
    [user] = yaml.safe_load(result["content"])["users"]
    assert user["user"] == {
        "client-certificate-data": _credentials.encode("jane ('ops',) person/jane 7776000"),
        "client-key-data": _credentials.encode("KEY"),
    }
    assert result["expires"] == "2026-05-01T00:00:00Z"
    assert prove.called


def test_check_mode_makes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _prove = run(capsys, monkeypatch, PIPELINE, check=True)
    assert (result["changed"], result["content"], result["expires"]) == (True, "", "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "person", "namespace": "", "groups": ["system:masters"]}, "the group system:masters"),
        ({"namespace": ""}, "the namespace ''"),
        ({"lifetime": "5m"}, "the lifetime 5m"),
    ],
)
def test_refusals_come_before_anything(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    said: str,
) -> None:
    result, _prove = run(capsys, monkeypatch, {**PIPELINE, **change})
    assert result["failed"]
    assert said in result["msg"]


def test_what_the_server_says_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = FakeKubeApi()
    api.refusing = True
    result, _prove = run(capsys, monkeypatch, PIPELINE, api)
    assert result["failed"]
    assert "not for you" in result["msg"]
    assert "content" not in result
