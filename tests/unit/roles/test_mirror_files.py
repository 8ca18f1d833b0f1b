# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files by which a host gets into mirrors and through a proxy, as the role kube_host writes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROLES = Path(__file__).parents[3] / "roles"
NEEDED = {
    "kube_cluster_version": "1.36.3",
    "kube_cluster_host_address": "192.0.2.11",
    "kube_cluster_endpoint_address": "192.0.2.100",
    "__kube_host_seen": {"host": {"system": {"package_manager": "apt"}}},
}
CASES: dict[str, dict[str, Any]] = {
    "upstream": {},
    "locked": {
        "kube_cluster_package_url": "https://mirror.example:8443/deb/v{minor}",
        "kube_cluster_image_repository": "images.example/kubernetes",
        "kube_cluster_registry_mirrors": {
            "ghcr.io": "https://mirror.example:8443/v2/ghcr.io",
            "quay.io": "https://open.example/v2/quay.io",
        },
        "kube_cluster_mirror_access": {
            "mirror.example:8443": {"username": "kube", "password": "s3cret", "ca_certificates": "PEM\n\n"},
            "images.example": {"ca_certificates": "OTHER"},
        },
        "kube_cluster_http_proxy": "http://proxy.example:3128",
        "kube_cluster_no_proxy": [".example"],
    },
}
WRITTEN = "__kube_host_access_files + __kube_host_mirror_files + __kube_host_proxy_files"
Files = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files by case and path."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "templates").symlink_to(ROLES / "kube_host" / "templates")
    (folder / "group_vars" / "all").mkdir(parents=True)
    for role in ("kube_cluster", "kube_host"):
        shutil.copy(ROLES / role / "defaults" / "main.yml", folder / "group_vars" / "all" / f"{role}.yml")
    hosts = {name: {**NEEDED, **variables} for name, variables in CASES.items()}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLES / role / "vars" / "main.yml") for role in ("kube_cluster", "kube_host")],
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": f"{{{{ ({WRITTEN}) | to_json }}}}",
                    "dest": str(folder / "{{ inventory_hostname }}.json"),
                    "mode": "0600",
                }
            }
        ],
    }
    (folder / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts.json", "play.yml"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        name: {file["path"]: file for file in json.loads((folder / f"{name}.json").read_text())}
        for name in CASES
    }


APT_LOGIN = "/etc/apt/auth.conf.d/kubewright.conf"
APT_AUTHORITY = "/etc/apt/apt.conf.d/90kubewright"
DROP_IN = "/etc/systemd/system/containerd.service.d/kubewright-proxy.conf"
MARK = "# Written by kubewright.cluster, which removes it when the registry is not in its variables any more."
AUTHORITY = "/etc/kubewright/mirrors/mirror.example_8443.pem"


def test_nothing_is_left_where_nothing_is_asked(files: Files) -> None:
    assert {path: file["state"] for path, file in files["upstream"].items()} == {
        APT_LOGIN: "absent",
        APT_AUTHORITY: "absent",
        DROP_IN: "absent",
    }


def test_authorities_are_files_of_their_servers(files: Files) -> None:
    locked = files["locked"]
    assert locked[AUTHORITY]["content"] == "PEM\n"
    assert locked["/etc/kubewright/mirrors/images.example.pem"]["content"] == "OTHER\n"


def test_apt_knows_the_server_of_the_packages_only(files: Files) -> None:
    locked = files["locked"]
    assert locked[APT_LOGIN] == {
        "path": APT_LOGIN,
        "mode": "0600",
        "content": "machine https://mirror.example:8443 login kube password s3cret\n",
    }
    assert locked[APT_AUTHORITY]["content"] == f'Acquire::https::mirror.example::CAInfo "{AUTHORITY}";\n'


def test_containerd_gets_into_each_mirror_in_its_way(files: Files) -> None:
    locked = files["locked"]
    assert locked["/etc/containerd/certs.d/ghcr.io/hosts.toml"] == {
        "path": "/etc/containerd/certs.d/ghcr.io/hosts.toml",
        "mode": "0600",
        "content": f"""\
{MARK}
server = "https://mirror.example:8443/v2/ghcr.io"

[host."https://mirror.example:8443/v2/ghcr.io"]
  capabilities = ["pull", "resolve"]
  override_path = true
  ca = "{AUTHORITY}"
  [host."https://mirror.example:8443/v2/ghcr.io".header]
    authorization = ["Basic a3ViZTpzM2NyZXQ="]
""",
    }
    assert locked["/etc/containerd/certs.d/quay.io/hosts.toml"] == {
        "path": "/etc/containerd/certs.d/quay.io/hosts.toml",
        "mode": "0644",
        "content": f"""\
{MARK}
server = "https://open.example/v2/quay.io"

[host."https://open.example/v2/quay.io"]
  capabilities = ["pull", "resolve"]
  override_path = true
""",
    }


def test_a_private_registry_of_the_images_is_trusted_too(files: Files) -> None:
    file = files["locked"]["/etc/containerd/certs.d/images.example/hosts.toml"]
    assert 'server = "https://images.example/v2"\n' in file["content"]
    assert 'ca = "/etc/kubewright/mirrors/images.example.pem"\n' in file["content"]


def test_containerd_goes_through_the_proxy(files: Files) -> None:
    file = files["locked"][DROP_IN]
    assert file["state"] == "present"
    lines = file["content"].splitlines()
    assert 'Environment="HTTP_PROXY=http://proxy.example:3128"' in lines
    assert 'Environment="HTTPS_PROXY=http://proxy.example:3128"' in lines
    (unproxied,) = (line for line in lines if "NO_PROXY=" in line)
    for name in (
        "localhost",
        ".svc",
        ".cluster.local",
        "10.244.0.0/16",
        "192.0.2.100",
        "192.0.2.11",
        ".example",
    ):
        assert name in unproxied.rstrip('"').partition("NO_PROXY=")[2].split(",")
