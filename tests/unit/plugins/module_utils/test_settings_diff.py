# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences between documents of kubeadm 1.36.3, shortened."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._serving_certificate import certificate_names
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_diff import (
    FILES_ANNOTATION,
    Change,
    Step,
    annotation,
    api_server_names,
    command,
    compare,
    compare_names,
    diff,
    keep_birth_flags,
    refuse_fixed,
    with_annotation,
    with_command,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "settings"
CLUSTER = {
    "controlPlaneEndpoint": "10.0.0.10:8443",
    "networking": {"dnsDomain": "cluster.local", "serviceSubnet": "10.96.0.0/12"},
    "apiServer": {"certSANs": ["api.example.com"]},
}


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return document


def test_an_argument_that_was_added_changed_and_removed() -> None:
    live = load("kube-scheduler")
    words = [word for word in command(live) if word != "--leader-elect=true"]
    words = [word.replace("--bind-address=127.0.0.1", "--bind-address=0.0.0.0") for word in words]
    changes = compare(live, with_command(live, [*words, "--v=2"]))
    place = "spec.containers[kube-scheduler].command"
    assert list(map(str, changes)) == [
        f"{place} --bind-address: 127.0.0.1 -> 0.0.0.0",
        f"{place} --leader-elect: true -> (absent)",
        f"{place} --v: (absent) -> 2",
    ]


def test_order_emptiness_and_layout_are_no_difference() -> None:
    live = load("kube-scheduler")
    other = with_command(live, [command(live)[0], *reversed(command(live)[1:])])
    other["spec"]["volumes"] = list(reversed(other["spec"]["volumes"]))
    other["status"], other["metadata"]["creationTimestamp"] = {}, None
    assert compare(live, other) == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"certSANs": ["a"]}, {"certSANs": ["a", "b"]}),
        ({"mode": ""}, {"mode": "nftables"}),
        ({"enabled": False}, {"enabled": True}),
        ({"enabled": False}, {}),
        ({"extraArgs": [{"name": "v", "value": "1"}]}, {"extraArgs": [{"name": "v", "value": "2"}]}),
        # The same argument twice, which some take.
        ({"command": ["x", "--a=1", "--a=2"]}, {"command": ["x", "--a=2", "--a=1"]}),
        ({"command": ["x", "--a", "--b=1"]}, {"command": ["x", "--b=1"]}),
        ({"taints": [{"key": "a"}]}, {"taints": []}),
    ],
)
def test_what_differs_is_seen(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert len(compare(before, after)) == 1
    assert compare(before, copy.deepcopy(before)) == ()


def test_a_joined_member_keeps_the_cluster_it_was_born_into() -> None:
    rendered = load("etcd")
    born = [
        "--initial-cluster=cp1=https://10.0.0.11:2380,cp2=https://10.0.0.12:2380",
        "--initial-cluster-state=existing",
    ]
    words = [word for word in command(rendered) if not word.startswith("--initial-cluster=")]
    live = with_command(rendered, sorted([*words, *born], key=lambda word: (word != "etcd", word)))
    assert compare(live, rendered)
    assert keep_birth_flags(rendered, live) == live
    changed = keep_birth_flags(with_command(rendered, [*command(rendered), "--snapshot-count=1"]), live)
    assert [change.setting.rpartition(" ")[2] for change in compare(live, changed)] == ["--snapshot-count"]


@pytest.mark.parametrize(
    ("component", "flag", "variable"),
    [
        ("etcd", "--data-dir", "kube_control_plane_etcd_extra_args"),
        ("kube-apiserver", "--secure-port", "kube_cluster_api_port"),
        ("kube-apiserver", "--advertise-address", "kube_cluster_host_address"),
    ],
)
def test_what_a_living_cluster_cannot_change_is_refused(component: str, flag: str, variable: str) -> None:
    live = load(component)
    old = next(word for word in command(live) if word.startswith(f"{flag}="))
    wanted = with_command(live, [word if word != old else f"{flag}=other" for word in command(live)])
    with pytest.raises(KubewrightError) as refused:
        refuse_fixed(component, compare(live, wanted))
    for said in (flag, variable, old.partition("=")[2], "other", "No component of this host was changed"):
        assert said in str(refused.value)
    # The roles have written packages and files before the comparison.
    assert "Nothing was changed" not in str(refused.value)
    refuse_fixed("kube-scheduler", compare(live, wanted))


OURS = "/etc/kubernetes/kubewright/encryption.yaml"


@pytest.mark.parametrize(
    ("flag", "before", "after", "refused"),
    [
        ("--etcd-prefix", None, "/k8s", True),
        ("--etcd-prefix", "/k8s", None, True),
        ("--etcd-prefix", "/k8s", "/registry", True),
        ("--etcd-prefix", None, "/registry", False),
        ("--etcd-prefix", "/registry", None, False),
        ("--encryption-provider-config", "/etc/own.yaml", OURS, True),
        ("--encryption-provider-config", "/etc/own.yaml", None, True),
        ("--encryption-provider-config", None, OURS, False),
        ("--encryption-provider-config", OURS, None, False),
        ("--encryption-provider-config", None, "/etc/own.yaml", False),
        ("--service-account-issuer", "https://old.example", "https://new.example", True),
        ("--service-account-issuer", None, "https://new.example", False),
    ],
)
def test_what_would_lose_data_and_passes_every_probe_is_refused(
    flag: str, before: str | None, after: str | None, refused: bool
) -> None:
    changes = [Change(f"spec.containers[kube-apiserver].command {flag}", before, after)]
    if not refused:
        refuse_fixed("kube-apiserver", changes)
        return
    with pytest.raises(KubewrightError, match=f"{flag} of kube-apiserver cannot change") as stopped:
        refuse_fixed("kube-apiserver", changes)
    assert f"it is {before or '/registry'} on this host" in str(stopped.value)


def test_an_etcd_of_its_own_may_grow_and_shrink_and_not_be_another_one() -> None:
    setting = "spec.containers[kube-apiserver].command --etcd-servers"
    for before, after in (
        ("https://a:2379", "https://b:2379,https://a:2379"),
        ("https://a:2379,https://b:2379", "https://b:2379"),
    ):
        refuse_fixed("kube-apiserver", [Change(setting, before, after)])
    for before, after in (("https://a:2379", "https://b:2379"), ("https://127.0.0.1:2379", "https://a:2379")):
        with pytest.raises(KubewrightError, match="--etcd-servers of kube-apiserver cannot change"):
            refuse_fixed("kube-apiserver", [Change(setting, before, after)])


def test_names_of_the_api_server_are_those_that_kubeadm_makes() -> None:
    made = certificate_names((FIXTURES / "apiserver.crt").read_bytes())
    wanted = api_server_names(CLUSTER, "cp1", "10.0.0.11")
    assert set(made) == wanted
    assert compare_names(made, wanted) == ()


def test_names_that_are_missing_and_that_are_left() -> None:
    made = certificate_names((FIXTURES / "apiserver.crt").read_bytes())
    cluster = {**CLUSTER, "apiServer": {"certSANs": ["new.example.com", "192.0.2.7", "2001:db8:0::1"]}}
    changes = compare_names(made, api_server_names(cluster, "cp1", "10.0.0.11"))
    assert {(change.setting, change.before is None) for change in changes} == {
        ("api.example.com", False),
        ("new.example.com", True),
        ("192.0.2.7", True),
        ("2001:db8::1", True),
    }


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("api.example.com:6443", "api.example.com"),
        ("[2001:db8::10]:6443", "2001:db8::10"),
        ("api.local", "api.local"),
    ],
)
def test_the_endpoint_is_a_name_without_its_port(endpoint: str, name: str) -> None:
    assert name in api_server_names({**CLUSTER, "controlPlaneEndpoint": endpoint}, "cp1", "10.0.0.11")


def test_an_annotation_comes_and_goes() -> None:
    pod = load("kube-scheduler")
    noted = with_annotation(pod, FILES_ANNOTATION, "sha256:1")
    assert annotation(noted, FILES_ANNOTATION) == "sha256:1" and annotation(pod, FILES_ANNOTATION) is None
    assert with_annotation(noted, FILES_ANNOTATION, None) == pod


def test_diff_shows_what_changes_and_no_password() -> None:
    change = Change("env[HTTPS_PROXY].value", "http://user:secret@proxy:3128", None)
    shown = diff([Step("kube-apiserver", (change,)), Step("etcd", (), prove=True)])
    assert [one["before_header"] for one in shown] == ["kube-apiserver"]
    assert (
        shown[0]["before"] == "env[HTTPS_PROXY].value: http://********@proxy:3128\n"
        and shown[0]["after"] == ""
    )
    assert "secret" not in str(change)
