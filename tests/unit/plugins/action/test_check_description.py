# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.kubewright.cluster.plugins.action.check_description import (
    _Reader,
    has_template,
    ssh_place,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._values import HIDDEN, Unresolved

OPTIONS = {"kube_host_token": {"type": "str", "no_log": True}}


def reader(templar: Any = None, **defaults: Any) -> _Reader:
    templar = templar or Templar(loader=DataLoader(), variables={})
    return _Reader(templar, OPTIONS, defaults, ("kube_cluster_", "kube_host_"))


def template(text: str) -> Any:
    """Return a text as it comes from a file of variables."""
    return trust_as_template(text)


class FakeTemplarThatMustNotBeUsed:
    def copy_with_new_env(self, **_: Any) -> Any:
        raise AssertionError("a template engine was made")


class Vaulted:
    """Stands for a string of ansible-vault, which is no str before it is decrypted."""


def test_only_variables_of_roles_are_read() -> None:
    variables = {"kube_cluster_name": "a", "kube_clusters": "b", "mine": template("{{ nothing }}")}
    assert reader().host(variables, in_play=True) == {"kube_cluster_name": "a"}


def test_what_needs_no_template_engine_gets_none() -> None:
    variables = {
        "ansible_host": "192.0.2.1",
        "kube_cluster_name": "a",
        "kube_cluster_api_port": 6443,
        "kube_cluster_version": 1.36,
        "kube_cluster_registry_mirrors": {"docker.io": "http://m"},
        "kube_cluster_host_address": template("{{ ansible_host }}"),
    }
    read = reader(FakeTemplarThatMustNotBeUsed()).host(variables, in_play=True)
    assert read["kube_cluster_host_address"] == "192.0.2.1"
    assert read["kube_cluster_version"] == 1.36


def test_templates_are_worked_out_with_the_defaults_of_roles() -> None:
    variables = {
        "mirror": "http://m",
        "kube_cluster_release_url": template("{{ mirror }}/files"),
        "kube_host_runc_url": template("{{ kube_cluster_release_url }}/{{ kube_host_runc_version }}"),
        "kube_cluster_registry_mirrors": {"docker.io": template("{{ mirror }}/docker.io")},
    }
    assert reader(kube_host_runc_version="1.4.2").host(variables, in_play=True) == {
        "kube_cluster_release_url": "http://m/files",
        "kube_host_runc_url": "http://m/files/1.4.2",
        "kube_cluster_registry_mirrors": {"docker.io": "http://m/docker.io"},
    }


def test_a_template_that_cannot_be_worked_out() -> None:
    variables = {"kube_cluster_host_address": template("{{ storage_ip }}")}
    read = reader().host(variables, in_play=True)["kube_cluster_host_address"]
    assert isinstance(read, Unresolved)
    assert "'storage_ip' is undefined" in read.why and "\n" not in read.why
    # A host outside the play may need facts that nobody gathered.
    assert reader().host(variables, in_play=False) == {"kube_cluster_host_address": HIDDEN}


def test_secrets_are_not_read() -> None:
    variables = {"kube_host_token": template("{{ fail }}"), "kube_cluster_name": Vaulted()}
    read = reader(FakeTemplarThatMustNotBeUsed()).host(variables, in_play=True)
    assert read == {"kube_host_token": HIDDEN, "kube_cluster_name": HIDDEN}


def test_a_template_of_a_group_is_worked_out_once_but_one_of_a_host_for_each() -> None:
    shared = {
        "kube_cluster_name": template("{{ site | lower }}"),
        "kube_cluster_host_address": template("{{ ip | trim }}"),
    }
    one = reader()
    read = [one.host({**shared, "site": name, "ip": name}, in_play=True) for name in ("A", "B")]
    assert [host["kube_cluster_name"] for host in read] == ["a", "a"]
    assert [host["kube_cluster_host_address"] for host in read] == ["A", "B"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("{{ a }}", True),
        ("{% if a %}", True),
        (["a", {"b": "{{ c }}"}], True),
        ("v{minor}", False),
        (7, False),
        (None, False),
        ({"a": ["b", 1]}, False),
    ],
)
def test_what_is_a_template(value: Any, found: bool) -> None:
    assert has_template(value) is found


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, "h1:22"),
        ({"ansible_host": "192.0.2.1"}, "192.0.2.1:22"),
        ({"ansible_host": "192.0.2.1", "ansible_port": 2222}, "192.0.2.1:2222"),
        ({"ansible_connection": "local", "ansible_host": "192.0.2.1"}, ""),
        ({"ansible_host": "10.0.0.1", "ansible_ssh_common_args": "-o ProxyJump=bastion"}, ""),
        ({"ansible_host": "10.0.0.1", "ansible_ssh_extra_args": "-J bastion"}, ""),
        ({"ansible_host": "{{ ip }}"}, ""),
    ],
)
def test_where_a_host_is_found(variables: dict[str, Any], place: str) -> None:
    assert ssh_place("h1", variables) == place
