# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""user_access as Ansible calls it: given, given again, checked, taken away. Plans are tested in module_utils."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.modules import user_access

RBAC = "/apis/rbac.authorization.k8s.io/v1"
BINDINGS = f"{RBAC}/namespaces/shop/rolebindings"
JANE = {"kind": "person", "name": "jane", "roles": [{"cluster_role": "edit", "namespaces": ["shop"]}]}


class FakeKubeApi:
    """Holds objects by path, counts writes, and refuses own roles whose verbs are empty."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {
            "/api/v1/namespaces/shop": {"metadata": {"name": "shop"}},
            f"{RBAC}/clusterroles/edit": {"metadata": {"name": "edit"}},
            "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt": {"data": {"ca.crt": "CA"}},
        }
        self.writes = 0

    def list(self, path: str) -> list[dict[str, Any]]:
        plural = path.rpartition("/")[2]
        return [
            one for at, one in self.objects.items() if at.split("/")[-2] == plural and "configmaps" not in at
        ]

    def get(self, path: str) -> Any:
        if path == RBAC:
            kinds = {"roles": "Role", "rolebindings": "RoleBinding"}
            return {"resources": [{"name": n, "kind": k, "namespaced": True} for n, k in kinds.items()]}
        if path not in self.objects:
            raise ApiError(f"GET {path} was refused", status=404, reason="NotFound")
        return self.objects[path]

    def apply(self, path: str, body: dict[str, Any], field_manager: str, dry_run: bool) -> Any:
        if any(not rule["verbs"] for rule in body.get("rules") or []):
            raise ApiError("PATCH was refused", status=422, why="rules[0].verbs: Required value")
        held = {**body, "metadata": {**body["metadata"], "uid": "u"}}
        if not dry_run:
            self.writes += 1
            self.objects[path] = held
        return held

    def delete(self, path: str, body: Any) -> None:
        self.writes += 1
        del self.objects[path]


def run(
    capsys: pytest.CaptureFixture[str], api: FakeKubeApi, *grants: dict[str, Any], check: bool = False
) -> dict[str, Any]:
    options = {"grants": list(grants), "cluster": "example", "server": "https://192.0.2.10:8443"}
    with (
        patch_module_args({**options, "_ansible_check_mode": check}),
        mock.patch.object(user_access.KubeApi, "from_kubeconfig", return_value=api),
        pytest.raises(SystemExit),
    ):
        user_access.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_given_again_and_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeKubeApi()
    foretold = run(capsys, api, JANE, check=True)
    assert (foretold["changed"], api.writes) == (True, 0)
    done = run(capsys, api, JANE)
    assert done == foretold
    assert [entry["action"] for entry in done["objects"]] == ["created"]
    assert "kubewright:person:jane:edit" in done["diff"][0]["after"]
    assert done["grants"][0]["action"] == "issue"

    writes = api.writes
    for check in (True, False):
        again = run(capsys, api, JANE, check=check)
        assert (again["changed"], again["objects"][0]["action"]) == (False, "unchanged")
        assert all(one["before"] == one["after"] for one in again["diff"])
    assert api.writes == writes

    gone = {**JANE, "state": "absent"}
    foretold = run(capsys, api, gone, check=True)
    assert (foretold["changed"], api.writes) == (True, writes)
    done = run(capsys, api, gone)
    assert done == foretold
    assert [entry["action"] for entry in done["objects"]] == ["deleted"]
    assert "kubewright:person:jane:edit" in done["diff"][1]["before"]
    assert not any(path.startswith(BINDINGS) for path in api.objects)
    assert not run(capsys, api, gone)["changed"]


def test_a_refusal_by_the_server_comes_before_the_first_write(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeKubeApi()
    bad = {
        "name": "x",
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": []}],
        "namespaces": ["shop"],
    }
    result = run(capsys, api, JANE, {**JANE, "name": "joe", "roles": [bad]})
    assert result["failed"]
    assert "verbs: Required value" in result["msg"]
    assert api.writes == 0


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        ({**JANE, "groups": ["system:masters"]}, "the group system:masters"),
        ({**JANE, "roles": [{"cluster_role": "edit", "namespaces": ["nowhere"]}]}, "no namespace nowhere"),
    ],
)
def test_a_refusal_says_what_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], grant: dict[str, Any], said: str
) -> None:
    api = FakeKubeApi()
    result = run(capsys, api, JANE, {**grant, "name": "joe"})
    assert result["failed"]
    assert result["msg"].startswith("Nothing was changed: person joe")
    assert said in result["msg"]
    assert api.writes == 0
