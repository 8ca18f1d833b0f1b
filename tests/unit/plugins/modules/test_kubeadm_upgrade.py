# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm_upgrade as Ansible calls it; the host, kubeadm and the API are faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.modules import kubeadm_upgrade

OLD, NEW = "1.36.3", "1.37.1"
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


class FakeHost:
    """A control plane whose kubeadm does what it is told, and a cluster that was told of the new version."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.root = root
        (root / "proc").mkdir()
        self.manifests(OLD, "3.6.16-0")
        self.calls: list[list[str]] = []
        self.lent: list[list[str]] = []
        self.restarted: list[str] = []
        self.told = NEW
        self.kubelet = OLD
        self.mirror = "run"
        self.rc = 0
        monkeypatch.setattr(kubeadm_upgrade, "ROOT", root)
        monkeypatch.setattr(kubeadm_upgrade, "STATE", root / "state")
        monkeypatch.setattr(kubeadm_upgrade.KubeApi, "from_kubeconfig", lambda *_a, **_k: self)
        monkeypatch.setattr(kubeadm_upgrade, "LentEtcd", lambda *_a: self)
        monkeypatch.setattr(
            kubeadm_upgrade,
            "restart_kubelet",
            lambda _r, _a, node, *_w, control_plane: self.restarted.append(f"{node} {control_plane}"),
        )
        monkeypatch.setattr(AnsibleModule, "run_command", self.run_command)
        monkeypatch.setattr(kubeadm_upgrade.Runner, "find", lambda _self, program: f"/usr/bin/{program}")

    def manifests(self, version: str, etcd: str) -> None:
        folder = self.root / "etc/kubernetes/manifests"
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            tag = etcd if name == "etcd" else f"v{version}"
            (folder / f"{name}.yaml").write_text(f"    image: registry.k8s.io/{name}:{tag}\n")

    def lend(self, urls: list[str]) -> bool:
        self.lent.append(urls)
        return True

    def get(self, path: str, **_query: Any) -> Any:
        if "configmaps" in path:
            return {
                "data": {
                    "ClusterConfiguration": f"kind: ClusterConfiguration\nkubernetesVersion: v{self.told}\n"
                }
            }
        if "/pods/" in path:
            return {"metadata": {"annotations": {"kubernetes.io/config.hash": self.mirror}}}
        return {"status": {"nodeInfo": {"kubeletVersion": f"v{self.kubelet}"}}}

    def run_command(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        words = argv[3:] if argv[0] == "timeout" else argv
        if words[1] == "version":
            return 0, f"v{NEW}\n", ""
        if words[0] == "kubelet":
            return 0, f"Kubernetes v{NEW}\n", ""
        if words[0] == "crictl":
            label = {"io.kubernetes.pod.uid": "run"}
            return (
                0,
                json.dumps({"containers": [{"id": "c", "labels": label, "state": "CONTAINER_RUNNING"}]}),
                "",
            )
        if words[0] == "systemctl":
            return 0, "active\n", ""
        if words[1] == "config":
            return 0, "registry.k8s.io/etcd:3.7.0-0\n", ""
        self.calls.append(words)
        if self.rc == 0 and "phase" not in words:
            self.manifests(NEW, "3.7.0-0")
        return self.rc, "[upgrade] works\n", "" if self.rc == 0 else "error: no\n"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHost:
    return FakeHost(monkeypatch, tmp_path)


def run(capsys: pytest.CaptureFixture[str], part: str, check: bool = False, **more: Any) -> dict[str, Any]:
    options = {"part": part, "version": NEW, "node_name": "cp1", "_ansible_check_mode": check, **more}
    with patch_module_args(options), pytest.raises(SystemExit):
        kubeadm_upgrade.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_control_plane_is_foretold_upgraded_and_left_alone(
    capsys: pytest.CaptureFixture[str], host: FakeHost
) -> None:
    foretold = run(capsys, "control_plane", check=True, lend_etcd=["https://10.0.0.12:2379"])
    assert (foretold["changed"], foretold["command"]) == (True, "upgrade node")
    assert foretold["diff"]["after"].splitlines() == [
        "etcd 3.7.0-0",
        *(f"{name} {NEW}" for name in NAMES[1:]),
    ]
    assert not host.calls and not host.lent and not (host.root / "state").exists()
    done = run(capsys, "control_plane", lend_etcd=["https://10.0.0.12:2379"])
    assert done["changed"] and done["lent"] and host.lent == [["https://10.0.0.12:2379"]]
    assert {one["action"] for one in done["components"]} == {"upgraded"}
    again = run(capsys, "control_plane")
    assert (again["changed"], again["command"]) == (False, "") and len(host.calls) == 1


def test_kubeadm_does_not_begin_while_the_api_shows_older_pods(
    capsys: pytest.CaptureFixture[str], host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeadm_upgrade, "SECONDS", 0)
    host.mirror = "before"
    failed = run(capsys, "control_plane", lend_etcd=["https://10.0.0.12:2379"])
    assert "the API to show the static pods" in failed["msg"] and not host.calls


def test_an_etcd_that_is_newer_than_kubeadms_stays_in_the_diff(
    capsys: pytest.CaptureFixture[str], host: FakeHost
) -> None:
    host.manifests(OLD, "3.7.3-0")
    assert "etcd 3.7.3-0\n" in run(capsys, "control_plane", check=True)["diff"]["after"]


def test_a_failure_tells_what_became_of_each_component(
    capsys: pytest.CaptureFixture[str], host: FakeHost
) -> None:
    host.rc = 1
    failed = run(capsys, "control_plane")
    assert failed["failed"] and {one["action"] for one in failed["components"]} == {"unchanged"}
    assert "run again: it goes on from here" in failed["msg"]


def test_the_first_one_applies(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    host.told = OLD
    assert "Let one control plane apply" in run(capsys, "control_plane")["msg"]
    assert run(capsys, "control_plane", apply=True)["command"] == "upgrade apply"
    assert host.calls[0][:3] == ["kubeadm", "upgrade", "apply"]


def test_a_kubelet_is_restarted_where_another_one_is_installed(
    capsys: pytest.CaptureFixture[str], host: FakeHost
) -> None:
    assert run(capsys, "kubelet", check=True)["changed"] is True and host.restarted == []
    done = run(capsys, "kubelet")
    assert done["kubelet"] == {"from": OLD, "to": NEW, "restarted": True} and host.restarted == ["cp1 True"]
    host.kubelet = NEW
    assert run(capsys, "kubelet")["changed"] is False and host.restarted == ["cp1 True"]


def test_a_kubelet_of_the_same_minor_leaves_the_static_pods_alone(
    capsys: pytest.CaptureFixture[str], host: FakeHost
) -> None:
    host.kubelet = "1.37.0"
    run(capsys, "kubelet")
    assert host.restarted == ["cp1 False"]


def test_backups_go_only_when_asked(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    folder = host.root / "etc/kubernetes/tmp/kubeadm-backup-etcd-2026-11-22-10-00-00"
    folder.mkdir(parents=True)
    assert run(capsys, "addons")["pruned"] == [] and folder.exists()
    done = run(capsys, "addons", keep_backups=0)
    assert (
        done["pruned"] == ["/etc/kubernetes/tmp/kubeadm-backup-etcd-2026-11-22-10-00-00"]
        and not folder.exists()
    )
