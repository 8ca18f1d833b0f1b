# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of the CIS benchmark: each recommendation has its place, and each kind of check can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cis_checks import API, CONTROL_PLANE, NODE, PUBLISHED, Cluster, Host, decided, failures, tables
from cis_facts import providers

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "cis.md"
ALL = {check.number: check.judge for check in (*CONTROL_PLANE, *NODE)}
NOBODY = Cluster(administrators=["Group system:masters"], anybody_may=[], pods=[])


def file(
    mode: int = 0o600, owner: str = "root:root", folder: bool = False, unit: bool = False
) -> dict[str, Any]:
    return {"mode": mode, "owner": owner, "folder": folder, "unit": unit}


HOST = Host(
    name="cp1",
    processes={API: ["--anonymous-auth=false", "--enable-admission-plugins=NodeRestriction,EventRateLimit"]},
    files={
        "/etc/kubernetes/pki": file(0o755, folder=True),
        "/etc/kubernetes/pki/ca.crt": file(0o644),
        "/etc/kubernetes/pki/etcd/server.key": file(),
        "/usr/lib/systemd/system/kubelet.service": file(unit=True),
    },
    kubelet={
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
        }
    },
    proxy={"MetricsBindAddress": "127.0.0.1:10249"},
)


def test_every_recommendation_is_decided_once_or_given_to_a_person() -> None:
    justified, judged = tables(PAGE)
    assert len(PUBLISHED) == 131
    assert decided() | set(judged) == set(PUBLISHED)
    assert not decided() & set(judged)
    assert set(justified) <= decided()
    assert f"{len(decided())}\nof its {len(PUBLISHED)}" in PAGE.read_text()


@pytest.mark.parametrize(
    ("number", "path", "status", "seen"),
    [
        ("1.1.21", "/etc/kubernetes/pki/etcd/server.key", file(0o640), "has mode 640"),
        ("1.1.21", "/etc/kubernetes/pki/etcd/server.key", file(0o400), ""),
        ("1.1.20", "/etc/kubernetes/pki/ca.crt", file(0o664), "has mode 664"),
        ("1.1.19", "/etc/kubernetes/pki", file(0o755, "kube:root", folder=True), "belongs to kube:root"),
        ("4.1.1", "/usr/lib/systemd/system/kubelet.service", file(0o644, unit=True), "has mode 644"),
        ("4.1.7", "/etc/kubernetes/pki/ca.crt", file(0o666), "has mode 666"),
        ("4.1.5", "/etc/kubernetes/pki/ca.crt", file(), "there is no /etc/kubernetes/kubelet.conf"),
        ("4.1.3", "/etc/kubernetes/pki/ca.crt", file(), ""),
    ],
)
def test_modes_and_owners(number: str, path: str, status: dict[str, Any], seen: str) -> None:
    host = replace(HOST, files={**HOST.files, path: status})
    answer = ALL[number](host)
    assert seen in answer and bool(seen) == bool(answer)


@pytest.mark.parametrize(
    ("number", "flag", "seen"),
    [
        ("1.2.1", "--anonymous-auth=false", ""),
        ("1.2.1", "--anonymous-auth=true", "--anonymous-auth is true"),
        ("1.2.2", "--token-auth-file=/etc/tokens", "--token-auth-file is set"),
        ("1.2.4", "--kubelet-client-certificate=/a", "--kubelet-client-key is not set"),
        ("1.2.9", "--enable-admission-plugins=NodeRestriction", "is NodeRestriction"),
        ("1.2.10", "--enable-admission-plugins=AlwaysAdmit,Priority", "is AlwaysAdmit,Priority"),
        ("1.2.17", "--audit-log-maxage=7", "--audit-log-maxage is 7"),
        ("1.2.17", "--audit-log-maxage=30", ""),
        ("1.2.21", "--service-account-lookup", ""),
        ("1.2.21", "--service-account-lookup=false", "is false"),
        ("1.2.29", "--tls-min-version=VersionTLS13", ""),
        ("1.2.29", "--tls-cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA", "weak: TLS_RSA_WITH_AES_128_CBC_SHA"),
        ("1.2.29", "--tls-min-version=VersionTLS12", "not set"),
    ],
)
def test_flags(number: str, flag: str, seen: str) -> None:
    answer = ALL[number](replace(HOST, processes={API: [flag]}))
    assert seen in answer and bool(seen) == bool(answer)


@pytest.mark.parametrize(
    ("number", "kubelet", "seen"),
    [
        ("4.2.1", {"authentication": {"anonymous": {"enabled": True}}}, "is True"),
        ("4.2.4", {"readOnlyPort": 10255}, "readOnlyPort is 10255"),
        ("4.2.4", {}, ""),
        ("4.2.13", {"podPidsLimit": -1}, "podPidsLimit is -1"),
        ("4.2.13", {"podPidsLimit": 4096}, ""),
        ("4.2.14", {}, "seccompDefault is not set"),
        ("4.2.12", {"tlsCipherSuites": ["TLS_RSA_WITH_AES_128_CBC_SHA"]}, "weak"),
    ],
)
def test_what_the_kubelet_runs_with(number: str, kubelet: dict[str, Any], seen: str) -> None:
    answer = ALL[number](replace(HOST, kubelet=kubelet))
    assert seen in answer and bool(seen) == bool(answer)


def test_names_of_kube_proxy_are_read_in_either_case() -> None:
    assert ALL["4.3.1"](HOST) == ""
    assert ALL["4.3.1"](replace(HOST, proxy={"metricsBindAddress": "0.0.0.0:10249"}))
    assert ALL["4.3.1"](replace(HOST, proxy={}))


@pytest.mark.parametrize(
    ("found", "good"), [(["secretbox", "identity"], True), (["identity"], False), ([], False)]
)
def test_the_first_provider_encrypts(found: list[str], good: bool) -> None:
    assert (ALL["1.2.28"](replace(HOST, providers=found)) == "") == good


def test_etcd_has_a_ca_of_its_own() -> None:
    same = {"etcd": ["--trusted-ca-file=/pki/ca.crt"], API: ["--client-ca-file=/pki/ca.crt"]}
    other = {"etcd": ["--trusted-ca-file=/pki/etcd/ca.crt"], API: ["--client-ca-file=/pki/ca.crt"]}
    assert ALL["2.7"](replace(HOST, processes=same))
    assert ALL["2.7"](replace(HOST, processes=other)) == ""


def test_a_worker_is_asked_about_nodes_only() -> None:
    worker = replace(HOST, name="worker1", processes={"kubelet": []})
    assert {one.number.partition(".")[0] for one in failures([worker], NOBODY)} == {"4"}


def test_policies_leave_the_systems_pods_out() -> None:
    def pod(namespace: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"namespace": namespace, "name": "one"}, "spec": {"containers": [{}], **spec}}

    privileged = {"containers": [{"securityContext": {"privileged": True}}]}
    good = Cluster(["Group kubeadm:cluster-admins"], [], [pod("kube-system", hostPID=True, **privileged)])
    assert failures([], good) == []
    bad = Cluster(["User eve"], ["list secrets"], [pod("shop", hostNetwork=True, **privileged)])
    assert [one.number for one in failures([], bad)] == ["5.1.1", "5.1.2", "5.2.2", "5.2.5"]


def test_only_the_names_of_providers_leave_a_host(tmp_path: Path) -> None:
    for text in (
        "resources:\n- providers:\n  - secretbox:\n      keys: [{name: k, secret: c2VjcmV0}]\n  - identity: {}\n",
        '{"resources": [{"providers": [{"secretbox": {"keys": []}}, {"identity": {}}]}]}',
    ):
        (tmp_path / "encryption").write_text(text)
        assert providers([f"--encryption-provider-config={tmp_path}/encryption"]) == ["secretbox", "identity"]
