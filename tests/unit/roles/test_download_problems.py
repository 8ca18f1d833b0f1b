# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role kube_cluster refuses of mirrors, proxies and address families, in its own words.

One run of ansible-playbook shows the sentences of all cases: each is a host that is never connected to.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles" / "kube_cluster"
GOOD = {"username": "kube", "password": "s3cret", "ca_certificates": "-----BEGIN CERTIFICATE-----\n"}
MIRROR = "https://mirror.example:8443"


def access(**changes: Any) -> dict[str, Any]:
    return {"kube_cluster_mirror_access": {"mirror.example:8443": {**GOOD, **changes}}}


# The variables of a host, and a part of each sentence that they lead to.
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "everything": (
        {
            **access(),
            "kube_cluster_package_url": f"{MIRROR}/deb/v{{minor}}",
            "kube_cluster_http_proxy": "http://proxy.example:3128",
            "kube_cluster_registry_mirrors": {"ghcr.io": f"{MIRROR}/v2/ghcr.io"},
        },
        [],
    ),
    "authority_only": (
        {"kube_cluster_mirror_access": {"m": {"ca_certificates": GOOD["ca_certificates"]}}},
        [],
    ),
    "password_in_url": (
        {"kube_cluster_release_url": "https://kube:s3cret@mirror.example"},
        ["kube_cluster_release_url holds a user or a password"],
    ),
    "password_in_mirror": (
        {"kube_cluster_registry_mirrors": {"quay.io": "https://kube:s3cret@mirror.example/v2"}},
        ["kube_cluster_registry_mirrors of quay.io holds a user or a password"],
    ),
    "password_in_proxy": (
        {"kube_cluster_https_proxy": "http://kube:s3cret@proxy.example:3128"},
        ["kube_cluster_https_proxy holds a user or a password"],
    ),
    "proxy_without_scheme": (
        {"kube_cluster_http_proxy": "proxy.example:3128", "kube_cluster_https_proxy": ""},
        ["kube_cluster_http_proxy is proxy.example:3128, but it must be a URL"],
    ),
    "server_as_url": (
        {"kube_cluster_mirror_access": {f"{MIRROR}/": GOOD}},
        ["must be named as the server stands in the URLs, HOST or HOST:PORT"],
    ),
    "half_a_login": (
        {"kube_cluster_mirror_access": {"m": {"username": "kube"}}},
        ["of m needs both username"],
    ),
    "empty_password": (access(password=""), ["of mirror.example:8443 needs both username and password"]),
    "white_space": (access(password="two s3cret"), ["white space in its username or password"]),
    "colon": (access(username="a:b"), ["or a colon in its username"]),
    "unknown_key": (
        access(passwd="s3cret"),
        ["may have username, password and ca_certificates, and nothing else"],
    ),
    "no_mapping": ({"kube_cluster_mirror_access": {"m": "s3cret"}}, ["of m may have username, password"]),
    "no_certificate": (
        access(ca_certificates="/etc/ca.pem"),
        ["has ca_certificates that are no certificates"],
    ),
    "in_clear": (
        {**access(), "kube_cluster_package_url": "http://mirror.example:8443/deb"},
        ["has a password, but kube_cluster_package_url leads there without TLS"],
    ),
}


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The sentences by case."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "templates").symlink_to(ROLE / "templates")
    (folder / "group_vars").mkdir()
    shutil.copy(ROLE / "defaults" / "main.yml", folder / "group_vars" / "all.yml")
    needed = {"kube_cluster_endpoint_address": "192.0.2.100", "kube_cluster_host_address": "192.0.2.11"}
    hosts = {name: {**needed, **variables} for name, (variables, _expected) in CASES.items()}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    common = {"connection": "local", "gather_facts": False}
    judge = {
        **common,
        "vars_files": [str(ROLE / "vars" / "main.yml")],
        "tasks": [{"ansible.builtin.set_fact": {"found": "{{ __kube_cluster_download_problems }}"}}],
    }
    plays = [{"hosts": "all", **judge}]
    by_host = "dict(groups['all'] | zip(groups['all'] | map('extract', hostvars, 'found')))"
    copy = {"content": f"{{{{ {by_host} | to_json }}}}", "dest": str(folder / "found.json"), "mode": "0600"}
    plays.append({"hosts": "all", **common, "tasks": [{"ansible.builtin.copy": copy, "run_once": True}]})
    (folder / "play.yml").write_text(json.dumps(plays))
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts.json", "play.yml"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, list[str]] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_has_its_sentence(case: str, sentences: dict[str, list[str]]) -> None:
    expected = CASES[case][1]
    assert len(sentences[case]) == len(expected), sentences[case]
    for part, sentence in zip(expected, sentences[case]):
        assert part in sentence


def test_no_sentence_shows_a_password(sentences: dict[str, list[str]]) -> None:
    assert "s3cret" not in json.dumps(sentences)
