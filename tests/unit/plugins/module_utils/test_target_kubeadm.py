# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm of another version, fetched and asked; apt, the server and kubeadm itself are faked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _target_kubeadm as target
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Fetcher
from ansible_collections.kubewright.cluster.plugins.module_utils._target_kubeadm import (
    Question,
    Repository,
    ask,
)

NEW = "1.37.1"
KEY = b"the key of the repository"
CONFIGURATION = """\
apiServer:
  certSANs: []
apiVersion: kubeadm.k8s.io/v1beta4
dns:
  imageTag: v1.14.9
etcd:
  local:
    dataDir: /var/lib/etcd
    imageTag: 3.6.16-0
imageRepository: registry.example.com:5000/k8s
kind: ClusterConfiguration
kubernetesVersion: v1.36.3
"""
IMAGES = """\
registry.example.com:5000/k8s/kube-apiserver:v1.37.1
registry.example.com:5000/k8s/coredns:v1.14.9
registry.example.com:5000/k8s/etcd:3.7.0-0
"""


class FakeHost:
    """A host whose apt brings a package, and whose kubeadm has a version of its own."""

    def __init__(self, installed: str = "v1.36.3") -> None:
        self.installed = installed
        self.calls: list[tuple[list[str], str, dict[str, str]]] = []
        self.apt: dict[str, tuple[int, str, str]] = {}
        self.rehearsal = (0, "", "")
        self.names: list[str] = []

    def run_command(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        words = argv[3:] if argv[0] == "timeout" else argv
        self.calls.append((words, options.get("data", ""), options["environ_update"]))
        if words[0] == "env":
            folder = Path(words[1].partition("=")[2])
            verb = "download" if "download" in words else "update"
            if verb == "download" and verb not in self.apt:
                (folder / "kubeadm_1.37.1-1.1_amd64.deb").write_text("")
            return self.apt.get(verb, (0, "", ""))
        if words[0] == "dpkg-deb":
            return 0, "", ""
        if words[1] == "version":
            return 0, self.installed if words[0].endswith("bin/kubeadm-installed") else f"v{NEW}", ""
        if words[1] == "config":
            return 0, IMAGES, ""
        return self.rehearsal


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    fake = FakeHost()
    monkeypatch.setattr(target.Runner, "find", lambda self, program: "/usr/bin/kubeadm-installed")
    monkeypatch.setattr(
        Fetcher, "download", lambda self, url, path, algorithm: _save(fake, url, path, algorithm)
    )
    return fake


def _save(fake: FakeHost, url: str, path: str, algorithm: str) -> str:
    fake.names.append(url)
    Path(path).write_bytes(KEY)
    return hashlib.new(algorithm, KEY).hexdigest()


def question(**more: Any) -> Question:
    repository = Repository("https://mirror.example.com/v1.37/deb/", key_checksum=more.pop("checksum", ""))
    return Question(NEW, repository, ignored=["SystemVerification"], **more)


def test_a_kubeadm_that_is_fetched_tells_images_and_rehearses(host: FakeHost, tmp_path: Path) -> None:
    found, images = ask(host.run_command, question(), CONFIGURATION, tmp_path, rehearse=True)
    assert found.version == NEW and found.refusal == found.silence == ""
    assert found.images == {"kube-apiserver": "v1.37.1", "coredns": "v1.14.9", "etcd": "3.7.0-0"}
    assert images == IMAGES.split()
    assert host.names == ["https://mirror.example.com/v1.37/deb/Release.key"]
    assert (tmp_path / "sources.list").read_text() == (
        f"deb [signed-by={tmp_path}/repository.asc] https://mirror.example.com/v1.37/deb/ /\n"
    )
    apt = [words for words, _stdin, _env in host.calls if words[0] == "env"]
    # Neither the sources nor the lists of the host itself.
    assert all(f"--option=Dir::State::Lists={tmp_path}/lists" in words for words in apt)
    assert all("--option=Dir::Etc::SourceParts=/dev/null" in words for words in apt)
    assert apt[1][-2:] == ["download", "kubeadm=1.37.1-*"]
    asked = {
        words[1]: (words, stdin, env) for words, stdin, env in host.calls if words[0].endswith("/kubeadm")
    }
    assert asked["config"][0][0] == str(tmp_path / "kubeadm/usr/bin/kubeadm")
    assert "kubernetesVersion: v1.37.1" in asked["config"][1]
    words, stdin, env = asked["upgrade"]
    assert words[2:] == ["apply", "--dry-run", "--config=/dev/stdin"]
    document = json.loads(stdin)
    assert document["apply"]["kubernetesVersion"] == "v1.37.1"
    assert document["apply"]["ignorePreflightErrors"] == ["SystemVerification"]
    # Otherwise kubeadm writes what it would do to /etc/kubernetes/tmp.
    assert env["KUBEADM_UPGRADE_DRYRUN_DIR"] == str(tmp_path / "rehearsal")


def test_a_cluster_that_was_told_needs_no_rehearsal(host: FakeHost, tmp_path: Path) -> None:
    ask(host.run_command, question(), CONFIGURATION, tmp_path, rehearse=False)
    assert not [words for words, _stdin, _env in host.calls if "upgrade" in words]


def test_an_installed_kubeadm_of_the_version_is_used(host: FakeHost, tmp_path: Path) -> None:
    host.installed = f"v{NEW}"
    found, _images = ask(host.run_command, question(), CONFIGURATION, tmp_path, rehearse=True)
    assert found.images["etcd"] == "3.7.0-0" and not host.names


def test_what_kubeadm_objects_to_is_a_refusal(host: FakeHost, tmp_path: Path) -> None:
    host.rehearsal = (1, "", "W1 noise\nerror: error execution phase preflight: CoreDNS cannot migrate\n")
    found, _images = ask(host.run_command, question(), CONFIGURATION, tmp_path, rehearse=True)
    assert "CoreDNS cannot migrate" in found.refusal and found.images


@pytest.mark.parametrize(
    ("verb", "answer", "why"),
    [
        (
            "download",
            (100, "", "E: Version '1.37.1-*' for 'kubeadm' was not found\n"),
            "has no kubeadm 1.37.1",
        ),
        # apt-get ends well where a server does not answer.
        (
            "update",
            (0, "Err:1 http://mirror InRelease\n", "W: Failed to fetch http://mirror\n"),
            "cannot be fetched",
        ),
        ("update", (100, "", "E: The repository is not signed.\n"), "is not signed"),
    ],
)
def test_a_repository_that_does_not_have_it_is_told(
    host: FakeHost, tmp_path: Path, verb: str, answer: tuple[int, str, str], why: str
) -> None:
    host.apt[verb] = answer
    found, images = ask(host.run_command, question(), CONFIGURATION, tmp_path, rehearse=True)
    assert why in found.silence and "kube_cluster_package_url" in found.silence and images == []


def test_the_key_must_have_its_checksum(host: FakeHost, tmp_path: Path) -> None:
    right = f"sha256:{hashlib.sha256(KEY).hexdigest()}"
    found, _ = ask(host.run_command, question(checksum=right), CONFIGURATION, tmp_path, rehearse=True)
    assert found.silence == ""
    wrong = f"sha256:{'0' * 64}"
    found, _ = ask(host.run_command, question(checksum=wrong), CONFIGURATION, tmp_path, rehearse=True)
    assert "does not have its checksum" in found.silence


def test_no_version_asks_nobody(host: FakeHost, tmp_path: Path) -> None:
    found, _images = ask(
        host.run_command, Question("newest", Repository("")), CONFIGURATION, tmp_path, rehearse=True
    )
    assert found.version == "newest" and not host.calls


def test_no_repository_and_no_program(host: FakeHost, tmp_path: Path) -> None:
    found, _images = ask(
        host.run_command, Question(NEW, Repository("")), CONFIGURATION, tmp_path, rehearse=True
    )
    assert "no repository to fetch it from" in found.silence


def test_only_the_tag_of_etcd_is_taken_out() -> None:
    text = target.without_etcd_tag(CONFIGURATION)
    assert text == CONFIGURATION.replace("    imageTag: 3.6.16-0\n", "")
    assert target.etcd_tag(CONFIGURATION) == "3.6.16-0" and target.etcd_tag(text) == ""
    assert target.etcd_tag('etcd:\n  local:\n    imageTag: "3.6.16-0"') == "3.6.16-0"
    external = "etcd:\n  external:\n    caFile: x\nkind: ClusterConfiguration\n"
    assert (
        target.without_etcd_tag(external) == external and target.without_etcd_tag("kind: x\n") == "kind: x\n"
    )


def test_the_image_of_etcd_is_the_one_that_comes() -> None:
    images = ["registry.example.com:5000/k8s/etcd:3.7.0-0", "registry.example.com:5000/k8s/pause:3.10.2"]
    assert target.with_etcd(images, "3.7.3-0") == ["registry.example.com:5000/k8s/etcd:3.7.3-0", images[1]]
    assert target.with_etcd(images, "") == images


def test_an_upgrade_configuration() -> None:
    document = json.loads(
        target.upgrade_configuration(
            "node", NEW, renew=False, patches="/etc/kubernetes/patches", skip=["addon"], manifest_seconds=300
        )
    )
    assert document["kind"] == "UpgradeConfiguration" and document["apiVersion"] == "kubeadm.k8s.io/v1beta4"
    # `upgrade node` takes the version of the ConfigMap, and knows no field for it.
    assert "kubernetesVersion" not in document["node"]
    assert document["node"]["certificateRenewal"] is False and document["node"]["skipPhases"] == ["addon"]
    assert document["node"]["patches"] == {"directory": "/etc/kubernetes/patches"}
    assert document["timeouts"] == {"upgradeManifests": "300s"}
