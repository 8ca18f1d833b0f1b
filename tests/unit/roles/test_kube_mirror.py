# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role kube_mirror makes of an inventory: what it asks for, what it refuses, what it serves with."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ROLE = ROOT / "roles" / "kube_mirror"
EXPRESSIONS = {
    "versions": "__kube_mirror_versions",
    "files": "__kube_mirror_files",
    "images": "__kube_mirror_images",
    "problems": "__kube_mirror_problems",
    "configuration": "__kube_mirror_configuration",
    "environment": "__kube_mirror_environment",
    "url": "__kube_mirror_url",
    "salt": "__kube_mirror_salt",
    "batches": "__kube_mirror_batches",
}
CLUSTER = {"kube_cluster_version": "1.36.3", "kube_cluster_network": "flannel"}
CERTIFICATE = {"kube_mirror_certificate": "CERTIFICATE\n\n", "kube_mirror_key": "KEY"}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"kube_mirror_source_release_url": "https://files.example", **CLUSTER},
    "upgrade": {
        **CLUSTER,
        "kube_cluster_network": "none",
        "kube_mirror_versions": ["1.36.3", "1.37.1"],
        "kube_mirror_images": ["docker.io/library/nginx:1.29.4"],
        "kube_mirror_etcd_versions": ["3.6.16"],
        "kube_mirror_architectures": ["amd64", "arm64"],
        "kube_mirror_source_proxy": "http://proxy.example:3128",
    },
    "locked": {
        **CLUSTER,
        **CERTIFICATE,
        "kube_mirror_username": "kube",
        "kube_mirror_password": "s3cret",
        "kube_mirror_port": 8443,
        "kube_mirror_name": "mirror.example",
    },
    "alone": {"kube_mirror_versions": ["1.37.1"]},
    # As answers of a survey, or what -e gives.
    "texts": {**CLUSTER, "kube_mirror_versions": "1.37.1,1.36.3", "kube_mirror_architectures": "arm64"},
    "stacks": {
        **CLUSTER,
        "kube_mirror_stacks": ["logging", "monitoring"],
        "kube_logging_elasticsearch_version": "9.9.9",
        "kube_monitoring_grafana_image": "registry.example/grafana:1",
    },
    "nothing": {},
    "by_disk": {"kube_mirror_fill": False},
    "wrong": {
        "kube_mirror_versions": ["1.37"],
        "kube_mirror_certificate": "CERTIFICATE",
        "kube_mirror_password": "s3cret word",
        "kube_mirror_root": "/srv/a mirror",
        "kube_mirror_source_release_url": "http://u:s3cret@files.example",
        "kube_mirror_source_registries": {"ghcr.io": "http://mirror.example/v2"},
        "kube_mirror_source_access": {
            "mirror.example": {"username": "u", "password": "s3cret"},
            "half.example": {"username": "u"},
            "odd.example": {"user": "u"},
        },
    },
}
# The two hosts of the cluster that the inventory of most cases has beside the mirror.
HOSTS = {
    "cp1": {"kube_host_containerd_version": "2.4.9"},
    "worker1": {"kube_host_containerd": "distribution"},
}
INFO = {
    "artefacts": [
        {"kind": kind, "name": name, "held": held, "size": 1}
        for kind, name, held in (
            ("package", "kubeadm", False),
            ("file", "runc", False),
            ("file", "sums", True),
            ("image", "registry.k8s.io/pause:3", False),
            ("image", "ghcr.io/flannel:1", False),
            ("index", "InRelease", False),
        )
    ]
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The values of EXPRESSIONS by case."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "templates").symlink_to(ROLE / "templates")
    (folder / "group_vars" / "all").mkdir(parents=True)
    defaults = (ROLE / "defaults/main.yml").read_text()
    (folder / "group_vars" / "all" / "defaults.yml").write_text(defaults)
    hosts = {
        name: {"__kube_mirror_info": INFO, "role_path": str(ROLE), **variables}
        for name, variables in CASES.items()
    }
    inventory: dict[str, Any] = {"mirrors": {"hosts": hosts}}
    inventory["control_plane"] = {"hosts": {"cp1": HOSTS["cp1"]}}
    inventory["workers"] = {"hosts": {"worker1": HOSTS["worker1"]}}
    (folder / "hosts.json").write_text(json.dumps(inventory))
    pairs = ", ".join(f"'{name}': {expression}" for name, expression in EXPRESSIONS.items())
    play = {
        "hosts": "mirrors",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / "vars/main.yml")],
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": f"{{{{ {{{pairs}}} | to_json }}}}",
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
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in CASES}


Rendered = dict[str, dict[str, Any]]


def default(role: str, name: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text())[name]


def test_what_the_hosts_of_the_inventory_ask_for(rendered: Rendered) -> None:
    """A version of their own, none of the distribution's containerd, and the defaults of their roles."""
    plain = rendered["plain"]
    assert plain["versions"] == ["1.36.3"] and plain["problems"] == []
    names = [one["path"] for one in plain["files"]]
    runc = default("kube_host", "kube_host_runc_version")
    assert names == [
        "github/containerd/containerd/releases/download/v2.4.9/containerd-2.4.9-linux-amd64.tar.gz",
        f"github/opencontainers/runc/releases/download/v{runc}/runc.amd64",
    ]
    for one in plain["files"]:
        assert one["url"] == f"https://files.example/{one['path'].removeprefix('github/')}"
    assert plain["images"][0] == default("kube_network", "kube_network_flannel_image")


def test_the_image_of_verify_comes_along(rendered: Rendered) -> None:
    named = re.findall(r"/(e2e-test-images/agnhost:[\d.]+)", (ROOT / "playbooks/verify.yml").read_text())
    assert named and all(f"registry.k8s.io/{one}" in rendered["plain"]["images"] for one in named)


def test_an_upgrade_brings_the_patch_that_etcd_takes_first(rendered: Rendered) -> None:
    upgrade = rendered["upgrade"]
    assert upgrade["versions"] == ["1.36.3", "1.37.1"]
    step = default("kube_upgrade", "kube_upgrade_etcd_steps")["3.6"]
    assert f"registry.k8s.io/etcd:{step}" in upgrade["images"]
    assert not any("/etcd:" in one for one in rendered["plain"]["images"])
    assert upgrade["images"][-1] == "docker.io/library/nginx:1.29.4"
    assert not any("flannel" in one for one in upgrade["images"])
    assert upgrade["environment"]["no_proxy"] == "localhost,127.0.0.1"
    assert rendered["plain"]["environment"] == {}


FILES = {
    "containerd": ("kube_host", "kube_host_containerd_url", "kube_host_containerd_checksum"),
    "runc": ("kube_host", "kube_host_runc_url", "kube_host_runc_checksum"),
    "etcd": ("etcd_cluster", "etcd_cluster_url", "etcd_cluster_checksum"),
}


@pytest.mark.parametrize("program", FILES)
def test_files_are_where_the_hosts_look_for_them(rendered: Rendered, program: str) -> None:
    """The roles' own URLs, below the release URL that the mirror's hosts have."""
    role, url, checksum = FILES[program]
    version = {"containerd": "2.4.9", "etcd": "3.6.16"}.get(program) or default(role, f"{role}_runc_version")
    values = {
        "kube_cluster_release_url": "MIRROR/github",
        f"kube_host_{program}_version": version,
        "kube_host_runc_version": version,
    }

    def fill(text: str) -> str:
        for _round in range(2):
            text = re.sub(
                r"{{\s*(\w+)( \| dirname)?\s*}}", lambda match: value(match[1], bool(match[2])), text
            )
        return text.replace("{arch}", "arm64").replace("{version}", version).replace(" ", "").strip()

    def value(name: str, folder: bool) -> str:
        text = fill(str(values.get(name) or default(role, name)))
        return text.rpartition("/")[0] if folder else text

    [found] = [
        one for one in rendered["upgrade"]["files"] if f"/{program}" in one["path"] and "arm64" in one["path"]
    ]
    assert fill(default(role, url)) == f"MIRROR/{found['path']}"
    sums = fill(default(role, checksum)).removeprefix("sha256:MIRROR/github/")
    assert found["checksum"] == f"sha256:https://github.com/{sums}"


def test_a_mirror_of_its_own_inventory(rendered: Rendered) -> None:
    assert rendered["alone"]["versions"] == ["1.37.1"] and rendered["alone"]["problems"] == []
    assert any("flannel" in one for one in rendered["alone"]["images"])


def test_versions_may_be_one_text_and_nothing_else_may(rendered: Rendered) -> None:
    assert rendered["texts"]["versions"] == ["1.36.3", "1.37.1"]
    [problem] = rendered["texts"]["problems"]
    assert problem.startswith("kube_mirror_architectures is a text, and has to be a list.")


def test_the_stacks_bring_the_images_that_their_variables_name(rendered: Rendered) -> None:
    images = rendered["stacks"]["images"]
    named = [
        variable
        for role in ("kube_logging", "kube_monitoring", "kube_metrics_server")
        for variable in yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text())
        if variable.endswith("_image")
    ]
    assert len(images) == len(named) + len(rendered["plain"]["images"]) and len(set(images)) == len(images)
    operator = default("kube_monitoring", "kube_monitoring_operator_version")
    assert {
        "docker.elastic.co/elasticsearch/elasticsearch:9.9.9",
        "docker.elastic.co/kibana/kibana:9.9.9",
        f"quay.io/prometheus-operator/prometheus-operator:v{operator}",
        "registry.example/grafana:1",
        default("kube_metrics_server", "kube_metrics_server_image"),
    } <= set(images)
    assert not any("{" in image for image in images)


def test_the_definitions_of_the_operator_are_where_the_role_looks_for_them(rendered: Rendered) -> None:
    checksums = default("kube_monitoring", "kube_monitoring_crds_checksums")
    url = default("kube_monitoring", "kube_monitoring_crds_url")
    values = {
        "kube_cluster_release_url": "MIRROR/github",
        "kube_monitoring_operator_version": default("kube_monitoring", "kube_monitoring_operator_version"),
    }
    url = re.sub(r"{{\s*(\w+)\s*}}", lambda match: values[match[1]], url)
    found = {one["path"]: one["checksum"] for one in rendered["stacks"]["files"] if "/raw/" in one["path"]}
    assert found == {
        url.replace("{name}", name).removeprefix("MIRROR/"): checksum for name, checksum in checksums.items()
    }


def test_without_a_version_there_is_nothing_to_fill(rendered: Rendered) -> None:
    [problem] = rendered["nothing"]["problems"]
    assert problem.startswith("Nothing says which versions") and rendered["by_disk"]["problems"] == []


def test_everything_that_is_wrong_is_told_at_once_and_without_a_secret(rendered: Rendered) -> None:
    problems = rendered["wrong"]["problems"]
    for words in (
        "kube_mirror_source_release_url holds a user or a password",
        "kube_mirror_source_access of mirror.example has a password, but kube_mirror_source_registries of ghcr.io",
        "kube_mirror_source_access of half.example needs both",
        "kube_mirror_source_access of odd.example may have username",
        "kube_mirror_versions has 1.37.",
        "kube_mirror_certificate and kube_mirror_key need each other",
        "kube_mirror_username and kube_mirror_password need each other",
        "white space",
        "kube_mirror_root is /srv/a mirror",
    ):
        assert any(words in problem for problem in problems), words
    assert not any("s3cret" in problem for problem in problems)


def files(case: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["path"].rpartition("/")[2]: one for one in case["configuration"]}


def test_without_a_certificate_it_serves_everybody(rendered: Rendered) -> None:
    plain = files(rendered["plain"])
    text = plain["nginx.conf"]["content"]
    assert "listen 80 default_server;" in text and "ssl" not in text and "auth_basic" not in text
    assert plain["server.pem"]["state"] == plain["server.key"]["state"] == "absent"
    assert rendered["plain"]["url"] == "http://plain"
    assert yaml.safe_load(plain["registry.yml"]["content"])["http"] == {"addr": "127.0.0.1:5000"}


def test_with_a_password_it_serves_by_tls_only(rendered: Rendered) -> None:
    locked = files(rendered["locked"])
    text = locked["nginx.conf"]["content"]
    assert "listen 8443 ssl default_server;" in text and text.count("listen") == 1
    assert "auth_basic_user_file /etc/kubewright/mirror/htpasswd;" in text
    # What it was let in with is not for the registry behind it.
    assert 'proxy_set_header Authorization "";' in text and "s3cret" not in json.dumps(locked)
    assert (locked["server.key"]["mode"], locked["server.key"]["content"]) == ("0600", "KEY\n")
    assert locked["server.pem"]["content"] == "CERTIFICATE\n"
    assert rendered["locked"]["url"] == "https://mirror.example:8443"
    assert re.fullmatch("[0-9a-f]{16}", rendered["locked"]["salt"])


def test_nobody_writes_through_the_web_server(rendered: Rendered) -> None:
    text = files(rendered["plain"])["nginx.conf"]["content"]
    assert text.count("location ") == text.count("limit_except GET { deny all; }") == 2


def test_what_comes_last_are_the_indexes(rendered: Rendered) -> None:
    batches = [[one["name"] for one in batch] for batch in rendered["plain"]["batches"]]
    assert batches == [["kubeadm", "runc"], ["registry.k8s.io/pause:3"], ["ghcr.io/flannel:1"], ["InRelease"]]
