# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _access_plan
from ansible_collections.kubewright.cluster.plugins.module_utils._access import Grant, parse_grants
from ansible_collections.kubewright.cluster.plugins.module_utils._access_held import Target
from ansible_collections.kubewright.cluster.plugins.module_utils._access_plan import (
    OWNER,
    Key,
    Observed,
    Plan,
    delete,
    key_of,
    observe,
    other_rights,
    path_of,
    plan,
    summary,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError

NOW = datetime(2026, 5, 1, tzinfo=timezone.utc)
TARGET = Target("example", "https://192.0.2.10:8443", "CA")
RULES = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]}]
OPTIONS = {"state": "present", "create_namespaces": False, "accept_cluster_wide_rights": False}
JANE = {
    **OPTIONS,
    "kind": "person",
    "name": "jane",
    "groups": ["developers"],
    "roles": [{"cluster_role": "edit", "namespaces": ["shop", "shop-test"]}],
    "place": "localhost:/j",
}
DEPLOYER = {
    **OPTIONS,
    "kind": "pipeline",
    "name": "deployer",
    "namespace": "shop",
    "roles": [{"name": "restarter", "rules": RULES}],
}


def grants(*items: dict[str, Any]) -> list[Grant]:
    return parse_grants(items)


def cluster(*objects: dict[str, Any], namespaces: tuple[str, ...] = ("shop", "shop-test")) -> Observed:
    roles: dict[Key, dict[str, Any]] = {
        ("ClusterRole", "", name): {"metadata": {"name": name}} for name in ("view", "edit", "cluster-admin")
    }
    held = {key_of(item["kind"], item): item for item in objects}
    return Observed({**roles, **held}, frozenset(namespaces), "CA")


def planned(observed: Observed, *items: dict[str, Any]) -> Plan:
    return plan(grants(*items), observed, TARGET, NOW)


def keys(made: Plan) -> list[Key]:
    return [key_of(one["kind"], one) for one in made.definitions]


def made_by(*items: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {**one, "metadata": {**one["metadata"], "uid": f"uid-{at}"}}
        for at, one in enumerate(planned(cluster(), *items).definitions)
    ]


def test_a_person_is_bound_in_each_namespace() -> None:
    made = planned(cluster(), JANE)
    assert made.problems == []
    assert keys(made) == [
        ("RoleBinding", name, "kubewright:person:jane:edit") for name in ("shop", "shop-test")
    ]
    binding = made.definitions[0]
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "edit",
    }
    assert binding["subjects"] == [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]
    assert binding["metadata"]["annotations"] == {OWNER: "person/jane"}
    assert [verdict.action for verdict in made.verdicts] == ["issue"]


def test_a_pipeline_has_an_account_own_rules_and_a_binding_in_its_namespace() -> None:
    made = planned(cluster(), DEPLOYER)
    name = "kubewright:pipeline:shop:deployer:own:restarter"
    assert keys(made) == [
        ("ServiceAccount", "shop", "deployer"),
        ("Role", "shop", name),
        ("RoleBinding", "shop", name),
    ]
    account, role, binding = made.definitions
    assert account["automountServiceAccountToken"] is False
    assert role["rules"] == RULES
    assert binding["roleRef"]["name"] == name
    assert binding["roleRef"]["kind"] == "Role"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "deployer", "namespace": "shop"}]


def test_cluster_wide() -> None:
    roles = [
        {"cluster_role": "view", "cluster_wide": True},
        {"name": "nodes", "rules": RULES, "cluster_wide": True},
    ]
    made = planned(cluster(), {**JANE, "roles": roles})
    assert [kind for kind, _namespace, _name in keys(made)] == [
        "ClusterRoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
    ]
    assert all("namespace" not in one["metadata"] for one in made.definitions)
    assert made.definitions[2]["roleRef"]["kind"] == "ClusterRole"


def test_namespaces_that_are_missing() -> None:
    made = planned(cluster(namespaces=("shop",)), JANE, DEPLOYER)
    [sentence] = made.problems
    assert "person jane: there is no namespace shop-test." in sentence

    made = planned(
        cluster(namespaces=()), {**JANE, "create_namespaces": True}, {**DEPLOYER, "create_namespaces": True}
    )
    assert made.problems == []
    created = [key for key in keys(made) if key[0] == "Namespace"]
    assert created == [("Namespace", "", "shop"), ("Namespace", "", "shop-test")]
    assert keys(made)[:2] == created


def test_a_role_that_is_not_there() -> None:
    made = planned(cluster(), {**JANE, "roles": [{"cluster_role": "edti", "namespaces": ["shop"]}]})
    assert made.problems == [
        "person jane: there is no ClusterRole edti. Correct the name, for example to view, edit or admin."
    ]


def test_objects_of_others_are_refused_and_never_deleted() -> None:
    account = {"kind": "ServiceAccount", "metadata": {"name": "deployer", "namespace": "shop", "uid": "u"}}
    made = planned(cluster(account), DEPLOYER)
    assert ["is there already and does not belong to this access" in one for one in made.problems] == [True]

    gone = planned(cluster(account), {**DEPLOYER, "state": "absent"})
    assert (gone.problems, gone.deletions) == ([], [])

    # The same name by another access: joined by colons, the two cannot be told apart.
    other = made_by({**JANE, "name": "jane:x", "roles": [{"cluster_role": "edit", "namespaces": ["shop"]}]})
    twin = {**JANE, "roles": [{"cluster_role": "x:edit", "namespaces": ["shop"]}]}
    assert any("is there already" in one for one in planned(cluster(*other), twin).problems)


def test_what_is_not_described_any_more_is_deleted() -> None:
    held = made_by(JANE, DEPLOYER)
    smaller = {**JANE, "roles": [{"cluster_role": "view", "namespaces": ["shop"]}]}
    made = planned(cluster(*held), smaller)
    assert made.problems == []
    assert keys(made) == [("RoleBinding", "shop", "kubewright:person:jane:view")]
    assert made.deletions == [
        ("RoleBinding", "shop", "kubewright:person:jane:edit"),
        ("RoleBinding", "shop-test", "kubewright:person:jane:edit"),
    ]


def test_absent_takes_everything_of_one_access_and_rights_go_first() -> None:
    held = made_by(JANE, DEPLOYER)
    made = planned(cluster(*held), {**DEPLOYER, "state": "absent"})
    assert made.definitions == []
    assert [kind for kind, _namespace, _name in made.deletions] == ["RoleBinding", "Role", "ServiceAccount"]


def test_a_file_of_somebody_else() -> None:
    foreign = {**JANE, "held": {"problem": "it is no kubeconfig"}}
    made = planned(cluster(), foreign)
    assert made.problems == [
        "person jane: localhost:/j is a file of somebody else: it is no kubeconfig. "
        "Name another path, or move that file away."
    ]
    gone = planned(cluster(), {**foreign, "state": "absent"})
    assert gone.problems == []
    told = summary(grants({**foreign, "state": "absent"})[0], gone.verdicts[0], cluster())
    assert (told["action"], told["why"]) == ("none", "it is no kubeconfig")


def binding(
    kind: str, name: str, subject: dict[str, str], namespace: str = "", role: str = "view"
) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"name": role},
        "subjects": [subject],
    }


def test_rights_that_come_from_others() -> None:
    account = {"kind": "ServiceAccount", "name": "deployer", "namespace": "shop"}
    observed = cluster(
        *made_by(JANE, DEPLOYER),
        binding("ClusterRoleBinding", "devs", {"kind": "Group", "name": "developers"}),
        binding("RoleBinding", "back-door", {"kind": "User", "name": "jane"}, "shop", "admin"),
        binding("RoleBinding", "accounts", {"kind": "Group", "name": "system:serviceaccounts:shop"}, "shop"),
        binding("RoleBinding", "named", account, "shop"),
        binding("RoleBinding", "elsewhere", {**account, "namespace": "other"}, "other"),
        binding("ClusterRoleBinding", "was", {"kind": "Group", "name": "left"}),
        {**binding("RoleBinding", "empty", {}, "shop"), "subjects": None},
    )
    jane, deployer = grants(JANE, DEPLOYER)
    assert other_rights(jane, observed, ["developers"]) == [
        "ClusterRoleBinding devs (view) by Group developers",
        "RoleBinding shop/back-door (admin) by User jane",
    ]
    # A group that only the certificate still has.
    assert "ClusterRoleBinding was (view) by Group left" in other_rights(jane, observed, ["left"])
    assert other_rights(deployer, observed, []) == [
        "RoleBinding shop/accounts (view) by Group system:serviceaccounts:shop",
        "RoleBinding shop/named (view) by ServiceAccount deployer",
    ]


class FakeKubeApi:
    """Lists by path; knows which deletions came."""

    def __init__(self, lists: dict[str, list[dict[str, Any]]] | None = None, status: int = 0) -> None:
        self.lists = lists or {}
        self.status = status
        self.deleted: list[tuple[str, Any]] = []

    def list(self, path: str) -> list[dict[str, Any]]:
        return self.lists.get(path, [])

    def get(self, path: str) -> dict[str, Any]:
        if path.endswith("/configmaps/kube-root-ca.crt"):
            return {"data": {"ca.crt": "CA"}}
        raise ApiError(f"GET {path} was refused", status=404)

    def delete(self, path: str, body: Any) -> None:
        if self.status:
            raise ApiError("refused", status=self.status)
        self.deleted.append((path, body))


def test_observe() -> None:
    items = [{"metadata": {"name": "b", "namespace": "shop"}}]
    api = FakeKubeApi(
        {
            "/apis/rbac.authorization.k8s.io/v1/rolebindings": items,
            "/api/v1/namespaces": [{"metadata": {"name": "shop"}}],
        }
    )
    observed = observe(api, grants(JANE, DEPLOYER))  # type: ignore[arg-type]
    assert observed == Observed({("RoleBinding", "shop", "b"): items[0]}, frozenset({"shop"}), "CA")


def test_deletion_is_of_the_very_object_that_was_seen() -> None:
    observed = cluster(*made_by(JANE))
    made = planned(observed, {**JANE, "state": "absent", "name": "jane"})
    api = FakeKubeApi()
    delete(api, made, observed)  # type: ignore[arg-type]
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/kubewright:person:jane:edit"
    assert api.deleted[0] == (path, {"preconditions": {"uid": "uid-0"}})
    assert len(api.deleted) == 2
    delete(FakeKubeApi(status=404), made, observed)  # type: ignore[arg-type]
    with pytest.raises(ApiError):
        delete(FakeKubeApi(status=409), made, observed)  # type: ignore[arg-type]


def test_paths_are_quoted() -> None:
    key = ("ClusterRoleBinding", "", "kubewright:person:jane+x@example.com:view")
    assert path_of(key).endswith("/clusterrolebindings/kubewright:person:jane%2Bx%40example.com:view")


def test_refusals_are_said_together() -> None:
    with pytest.raises(_access_plan.KubewrightError, match=r"^Nothing was changed: One[.] Two[.]$"):
        _access_plan.refuse(["One.", "Two."])
    _access_plan.refuse([])
