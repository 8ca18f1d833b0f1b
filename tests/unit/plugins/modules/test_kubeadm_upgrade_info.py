# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm_upgrade_info as Ansible calls it; what it looks at, and the target's kubeadm, are faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_upgrade_plan import Target
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.modules import kubeadm_upgrade_info as module


class FakeCluster:
    """A cluster that answers or does not, and a kubeadm that notes what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.facts: dict[str, Any] = {"answers": False, "error": "no answer"}
        self.asked: list[tuple[Any, bool]] = []
        self.folders: list[Path] = []
        monkeypatch.setattr(module, "observe_cluster", lambda *_a, **_k: dict(self.facts))
        monkeypatch.setattr(
            module, "observe_cluster_upgrade", lambda _api: (UPGRADE, "kind: ClusterConfiguration\n")
        )
        monkeypatch.setattr(module.KubeApi, "from_kubeconfig", lambda *_a, **_k: self)
        monkeypatch.setattr(module, "ask", self.ask)
        monkeypatch.setattr(module, "observe_host", lambda *_a, **_k: {"hostname": "cp1"})
        monkeypatch.setattr(module, "observe_host_upgrade", lambda: {"manifests": {}})
        self.at_work: list[list[int]] = []
        monkeypatch.setattr(module.half_done, "running", lambda: self.at_work.pop() if self.at_work else [])
        monkeypatch.setattr(module, "STATE", Path("/nonexistent"))
        monkeypatch.setattr(module, "Deadline", lambda seconds: Deadline(seconds, sleep=lambda _s: None))

    def ask(
        self, _run: Any, question: Any, text: str, private: Path, *, rehearse: bool
    ) -> tuple[Target, list[str]]:
        assert text.startswith("kind:") and private.is_dir()
        self.asked.append((question, rehearse))
        self.folders.append(private)
        return Target(question.version, {"etcd": "3.6.8-0"}, "CoreDNS cannot migrate"), [
            "registry.k8s.io/etcd:3.6.8-0"
        ]


UPGRADE = {"kube_proxy": "1.36.3", "coredns": "1.14.2", "etcd_tag": ""}
ANSWERS = {
    "answers": True,
    "error": None,
    "version": "1.36.3",
    "kubeadm_version": "1.36.3",
    "topology": "external",
    "nodes": [],
    "control_plane": [
        {"node": "cp1", "component": "kube-apiserver", "version": "1.36.3", "ready": True, "message": None}
    ],
    "etcd": {
        "members": [],
        "voters": 1,
        "needed": 1,
        "healthy": 1,
        "tolerance": 0,
        "present": True,
        "leader": "1",
        "alarms": [],
        "error": None,
    },
    "addons": [],
    "pending_csrs": [],
    "skew": {"ok": True, "problems": []},
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    return FakeCluster(monkeypatch)


def run(capsys: pytest.CaptureFixture[str], options: dict[str, Any]) -> dict[str, Any]:
    with patch_module_args(options), pytest.raises(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_host(capsys: pytest.CaptureFixture[str], cluster: FakeCluster) -> None:
    found = run(capsys, {"gather": "host"})
    assert found["changed"] is False and found["host"] == {"hostname": "cp1", "upgrade": {"manifests": {}}}


def test_a_host_is_looked_at_when_what_a_killed_run_has_started_is_done(
    capsys: pytest.CaptureFixture[str], cluster: FakeCluster
) -> None:
    cluster.at_work = [[], [4711], [4711]]
    assert "host" in run(capsys, {"gather": "host"}) and cluster.at_work == []
    cluster.at_work = [[4711]] * 5
    assert "kubeadm that an earlier run started" in run(capsys, {"gather": "host", "timeout": 0})["msg"]


def test_a_plan_needs_a_version(capsys: pytest.CaptureFixture[str], cluster: FakeCluster) -> None:
    assert run(capsys, {})["failed"]


def test_a_silent_cluster_is_a_problem_and_no_failure(
    capsys: pytest.CaptureFixture[str], cluster: FakeCluster
) -> None:
    found = run(capsys, {"version": "1.36.9"})
    assert found["changed"] is False and found["problems"][0]["why"] == "no answer" and not cluster.asked


def test_the_targets_kubeadm_is_asked_in_a_folder_that_goes_away(
    capsys: pytest.CaptureFixture[str], cluster: FakeCluster
) -> None:
    cluster.facts = ANSWERS
    found = run(
        capsys,
        {
            "version": "1.36.9",
            "repository_url": "https://mirror.example.com/deb",
            "ignore_preflight_errors": ["SystemVerification"],
            "etcd_steps": {"3.6": "3.6.16-0"},
        },
    )
    [(question, rehearse)] = cluster.asked
    assert question.repository.key == "https://mirror.example.com/deb/Release.key" and rehearse is True
    assert question.ignored == ["SystemVerification"]
    assert not cluster.folders[0].exists()
    assert found["images"] == ["registry.k8s.io/etcd:3.6.8-0"]
    assert "CoreDNS cannot migrate" in [one["why"] for one in found["problems"]]


def test_a_cluster_that_was_told_is_not_rehearsed(
    capsys: pytest.CaptureFixture[str], cluster: FakeCluster
) -> None:
    cluster.facts = {**ANSWERS, "kubeadm_version": "1.36.9"}
    run(capsys, {"version": "1.36.9"})
    assert cluster.asked[0][1] is False


def test_a_password_is_masked_and_the_name_of_its_user_is_not(
    capsys: pytest.CaptureFixture[str], cluster: FakeCluster
) -> None:
    cluster.facts = {**ANSWERS, "error": "sesame is the word"}
    access = {"mirror.example.com": {"username": "registry", "password": "sesame"}}
    found = run(capsys, {"version": "1.36.9", "access": access})
    assert found["images"][0].startswith("registry.k8s.io/etcd:") and "sesame" not in json.dumps(found)
