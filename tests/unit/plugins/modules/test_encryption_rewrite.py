# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""encryption_rewrite as Ansible calls it; etcd and the API server are faked."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import EtcdAccess
from ansible_collections.kubewright.cluster.plugins.modules import encryption_rewrite

LISTED = {
    "secrets": [{"metadata": {"namespace": "default", "name": name, "uid": "u"}} for name in ("one", "two")],
    "configmaps": [],
}
STORED = {
    "/registry/secrets/default/one": b"k8s:enc:secretbox:v1:old:x",
    "/registry/secrets/default/two": b"k8s",
}


@pytest.fixture(autouse=True)
def _fake_etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_command(_self: AnsibleModule, argv: list[str], **_: Any) -> tuple[int, str, str]:
        first = argv[argv.index("get") + 1]
        found = [
            {"key": base64.b64encode(path.encode()).decode(), "value": base64.b64encode(value).decode()}
            for path, value in STORED.items()
            if path.startswith(first)
        ]
        return 0, json.dumps({"kvs": found, "count": len(found)}), ""

    monkeypatch.setattr(AnsibleModule, "run_command", run_command)
    access = EtcdAccess(["https://127.0.0.1:2379"], "ca", "crt", "key", True)
    monkeypatch.setattr(encryption_rewrite, "etcd_access", lambda _root: access)
    monkeypatch.setattr(encryption_rewrite.KubeApi, "from_kubeconfig", lambda *_args, **_options: FakeApi())


class FakeApi:
    """Lists, and fails where something would be written."""

    def get(self, path: str, **_: Any) -> dict[str, Any]:
        return {"items": LISTED[path.rpartition("/")[2]], "metadata": {}}


def run(capsys: pytest.CaptureFixture[str], goals: dict[str, Any], check: bool) -> dict[str, Any]:
    options = {"goals": goals, "api_server": "https://10.0.0.11:6443", "_ansible_check_mode": check}
    with patch_module_args(options), pytest.raises(SystemExit):
        encryption_rewrite.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_without_a_goal_values_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    counted = run(capsys, {"secrets": "", "configmaps": None}, check=False)
    assert not counted["changed"] and counted["written"] == 0
    assert counted["before"] == {"secrets": {"identity": 1, "old": 1}, "configmaps": {}}


def test_check_mode_counts_what_would_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    checked = run(capsys, {"secrets": "new"}, check=True)
    assert checked["changed"] and checked["written"] == 2 and checked["after"] == checked["before"]


def test_a_resource_whose_place_in_etcd_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    refused = run(capsys, {"pods": "new"}, check=True)
    assert refused["failed"] and "pods" in refused["msg"]


def test_a_host_without_an_api_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption_rewrite, "etcd_access", lambda _root: None)
    refused = run(capsys, {"secrets": ""}, check=True)
    assert refused["failed"] and "control plane" in refused["msg"]


def test_resources_in_several_etcd_clusters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    access = EtcdAccess(
        ["https://127.0.0.1:2379"], "ca", "crt", "key", True, overrides="/secrets#https://10.0.0.9:2379"
    )
    monkeypatch.setattr(encryption_rewrite, "etcd_access", lambda _root: access)
    refused = run(capsys, {"secrets": ""}, check=True)
    assert refused["failed"] and "/secrets#https://10.0.0.9:2379" in refused["msg"]
