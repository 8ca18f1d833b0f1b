# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._access import (
    parse_grants,
    problems,
    seconds,
)

ROLE = {"cluster_role": "edit", "namespaces": ["shop"]}
PERSON = {
    "kind": "person",
    "name": "jane@example.com",
    "groups": ["developers"],
    "roles": [ROLE],
    "state": "present",
    "create_namespaces": False,
    "accept_cluster_wide_rights": False,
}
PIPELINE = {**PERSON, "kind": "pipeline", "name": "deployer", "namespace": "shop", "groups": []}
RULES = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch"]}]


def found(*items: dict[str, Any]) -> list[str]:
    return problems(items, parse_grants(items))


@pytest.mark.parametrize(("text", "length"), [("600s", 600), ("10m", 600), ("1h", 3600), ("90d", 7776000)])
def test_durations(text: str, length: int) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "90", "1.5h", "-1h", "0d", "1w", "1h30m", " 1h", "1h\n"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a number followed by"):
        seconds(text)


@pytest.mark.parametrize(
    "item",
    [
        PERSON,
        PIPELINE,
        {**PERSON, "name": "oidc:jane+test@example.com", "roles": [], "groups": []},
        {**PERSON, "roles": [{"name": "restarter", "rules": RULES, "namespaces": ["a", "b"]}]},
        {**PIPELINE, "roles": [{"cluster_role": "edit"}]},
        {
            **PERSON,
            "accept_cluster_wide_rights": True,
            "roles": [
                {"cluster_role": "cluster-admin", "cluster_wide": True},
                {"cluster_role": "system:node-reader", "namespaces": ["kube-system"]},
            ],
        },
        {**PERSON, "lifetime": "600s", "renew_before": "599s"},
        # What an absent access once could do is of no interest.
        {**PERSON, "state": "absent", "roles": [{"cluster_role": "edit", "cluster_wide": True}]},
    ],
)
def test_nothing_to_refuse(item: dict[str, Any]) -> None:
    assert found(item) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "system:admin"}, "the name system:admin: names that begin with system:"),
        ({"name": "kubernetes-admin"}, "the name of the administrator that kubeadm makes"),
        ({"groups": ["system:masters"]}, "the group system:masters: names that begin with system:"),
        ({"groups": ["kubeadm:cluster-admins"]}, "the group kubeadm:cluster-admins: names that begin"),
        ({"groups": ["a", "a"]}, "a group twice"),
        ({"name": "jane\nO = system:masters"}, "give 1 to 64 characters"),
        ({"name": "$ENV::HOME"}, "give 1 to 64 characters"),
        ({"name": "a/b"}, "give 1 to 64 characters"),
        ({"name": "j" * 65}, "give 1 to 64 characters"),
        ({"groups": ["développeurs"]}, "give 1 to 64 characters"),
        ({"groups": ["a, b"]}, "the group 'a, b'"),
        ({"namespace": "shop"}, "a person belongs to none"),
        ({"lifetime": "9m"}, "lifetime 9m: give one from 600s"),
        ({"lifetime": "9999d"}, "lifetime 9999d: give one from 600s"),
        ({"lifetime": "soon"}, "lifetime 'soon', which is not a number followed by"),
        ({"renew_before": "soon"}, "renew_before 'soon', which is not a number followed by"),
        ({"renew_before": "90d"}, "every run would renew"),
        ({"roles": [{"cluster_role": "edit"}]}, "in no namespace: give namespaces"),
        ({"roles": [{"cluster_role": "edit", "namespaces": ["Shop"]}]}, "'Shop', which cannot be the name"),
        ({"roles": [{"namespaces": ["shop"]}]}, "neither a cluster_role nor a name with rules"),
        ({"roles": [{**ROLE, "name": "x", "rules": RULES}]}, "neither a cluster_role nor a name with rules"),
        ({"roles": [{"name": "x", "namespaces": ["shop"]}]}, "neither a cluster_role nor a name with rules"),
        ({"roles": [{"name": "x", "rules": [], "namespaces": ["shop"]}]}, "neither a cluster_role nor"),
        ({"roles": [{"name": "x/y", "rules": RULES, "namespaces": ["shop"]}]}, "the role name 'x/y'"),
        ({"roles": [{**ROLE, "cluster_wide": True}]}, "decide for one of the two"),
        ({"roles": [ROLE, ROLE]}, "the role edit 2 times in shop"),
        (
            {"roles": [{"cluster_role": "view", "cluster_wide": True}]},
            "which is bound cluster_wide: that can lead",
        ),
        (
            {"roles": [{"cluster_role": "cluster-admin", "namespaces": ["shop"]}]},
            "which is cluster-admin: that can",
        ),
        ({"roles": [{"cluster_role": "system:node", "namespaces": ["shop"]}]}, "is one of Kubernetes' own"),
        (
            {"roles": [{"cluster_role": "view", "namespaces": ["kube-system"]}]},
            "which is in kube-system: that can",
        ),
    ],
)
def test_people_refused(change: dict[str, Any], said: str) -> None:
    sentences = found({**PERSON, **change})
    assert any(said in sentence for sentence in sentences), sentences
    assert all(sentence.startswith("person ") for sentence in sentences)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"groups": ["developers"]}, "the groups of a service account are fixed"),
        ({"name": "Deployer"}, "the name 'Deployer': give 1 to 63 small letters"),
        ({"namespace": "a/b"}, "the namespace 'a/b'"),
        ({"namespace": ""}, "the namespace ''"),
        ({"namespace": "kube-system", "roles": [{"cluster_role": "edit"}]}, "which is in kube-system"),
    ],
)
def test_pipelines_refused(change: dict[str, Any], said: str) -> None:
    sentences = found({**PIPELINE, **change})
    assert any(said in sentence for sentence in sentences), sentences


def test_everything_is_said_at_once() -> None:
    sentences = found(PERSON, PERSON, {**PIPELINE, "name": "X"})
    assert len(sentences) == 2
    assert "person jane@example.com is described 2 times" in sentences[0]


def test_who_is_who() -> None:
    person, pipeline = parse_grants([PERSON, PIPELINE])
    assert (person.id, person.username, person.home) == (
        "person/jane@example.com",
        "jane@example.com",
        "shop",
    )
    assert (pipeline.id, pipeline.username) == (
        "pipeline/shop/deployer",
        "system:serviceaccount:shop:deployer",
    )
    assert (person.lifetime, pipeline.lifetime) == ("90d", "1h")
