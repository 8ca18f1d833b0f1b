# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm_node as Ansible calls it; kubeadm itself and the host's state are faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils import _half_done as half_done
from ansible_collections.kubewright.cluster.plugins.module_utils._half_done import Began
from ansible_collections.kubewright.cluster.plugins.modules import kubeadm_node

TOKEN = "abcdef.0123456789abcdef"
CONFIG = f"kind: JoinConfiguration\ntoken: {TOKEN}\n"


class FakeHost:
    """A host in some state, with a kubeadm that answers the same whatever it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.root = root
        (root / "proc").mkdir()
        self.state: tuple[str, list[str]] = ("none", [])
        self.notes: list[Began | None] = []
        self.answer = (0, "[preflight] Running\n[kubelet-start] Starting\n", "")
        self.calls: list[tuple[list[str], str]] = []
        monkeypatch.setattr(kubeadm_node, "ROOT", root)
        monkeypatch.setattr(kubeadm_node, "kubeadm_state", lambda root: self.state)
        monkeypatch.setattr(AnsibleModule, "run_command", self.run_command)

    def run_command(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        self.calls.append((argv, options.get("data", "")))
        self.notes.append(half_done.read(self.root))
        if "reset" in argv:
            self.state = ("none", [])
        return self.answer


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHost:
    return FakeHost(monkeypatch, tmp_path)


def run(capsys: pytest.CaptureFixture[str], options: dict[str, Any], check: bool = False) -> dict[str, Any]:
    with patch_module_args({**options, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        kubeadm_node.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize(
    ("role", "action"), [("seed", "init"), ("control_plane", "join"), ("worker", "join")]
)
def test_check_mode_foretells_and_runs_nothing(
    capsys: pytest.CaptureFixture[str], host: FakeHost, role: str, action: str
) -> None:
    foretold = run(capsys, {"role": role}, check=True)
    assert (foretold["changed"], foretold["action"]) == (True, action)
    assert not host.calls
    done = run(capsys, {"role": role, "config": CONFIG})
    assert (done["changed"], done["action"], done["reason"]) == (True, action, foretold["reason"])
    assert done["phases"] == ["preflight", "kubelet-start"]
    [(argv, stdin)] = host.calls
    assert argv[argv.index("kubeadm") + 1] == action
    assert stdin == CONFIG
    assert TOKEN not in " ".join(argv)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("role", ["control_plane", "worker"])
def test_a_node_is_left_alone(
    capsys: pytest.CaptureFixture[str], host: FakeHost, role: str, check: bool
) -> None:
    host.state = (role, ["/etc/kubernetes/kubelet.conf"])
    result = run(capsys, {"role": role, "config": CONFIG}, check=check)
    assert (result["changed"], result["action"]) == (False, "")
    assert not host.calls


REMAINS = ["/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/pki/kubelet-client-current.pem"]
NOBODY: dict[str, Any] = {
    "nodes": [],
    "etcd": {"members": [{"id": "1", "name": "cp1", "peer_urls": ["https://10.0.0.1:2380"]}], "error": None},
}
ITSELF = {**NOBODY, "nodes": [{"name": "worker1", "ready": True, "addresses": ["10.0.0.9"]}]}
WORKER = {"role": "worker", "config": CONFIG, "node_name": "worker1", "address": "10.0.0.9"}


@pytest.mark.parametrize("check", [True, False])
def test_remains_that_nobody_left_a_note_of_are_refused(
    capsys: pytest.CaptureFixture[str], host: FakeHost, check: bool
) -> None:
    host.state = ("incomplete", REMAINS)
    failed = run(capsys, {**WORKER, "cluster": NOBODY}, check=check)
    assert failed["failed"]
    assert "found /etc/kubernetes/kubelet.conf" in failed["msg"]
    assert not host.calls


def test_the_key_of_somebodys_authority_is_not_reset(
    capsys: pytest.CaptureFixture[str], host: FakeHost
) -> None:
    host.state = ("incomplete", ["/etc/kubernetes/bootstrap-kubelet.conf"])
    key = host.root / "etc/kubernetes/pki/ca.key"
    key.parent.mkdir(parents=True)
    key.write_text("")
    failed = run(capsys, {**WORKER, "cluster": NOBODY})
    assert "/etc/kubernetes/pki/ca.key" in failed["msg"]
    assert not host.calls
    key.unlink()
    assert run(capsys, {**WORKER, "cluster": NOBODY})["reset"]


def test_the_note_is_there_while_kubeadm_works_and_goes_with_its_success(
    capsys: pytest.CaptureFixture[str], host: FakeHost
) -> None:
    run(capsys, WORKER)
    assert host.notes == [Began("worker")]
    assert half_done.read(host.root) is None


def test_the_note_stays_when_kubeadm_fails(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    host.answer = (1, "", "error execution phase preflight: no\n")
    assert run(capsys, WORKER)["failed"]
    assert half_done.read(host.root) == Began("worker")


def test_check_mode_leaves_no_note(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    run(capsys, WORKER, check=True)
    assert half_done.read(host.root) is None


@pytest.mark.parametrize("check", [True, False])
def test_a_host_that_the_cluster_does_not_know_is_reset_and_joined(
    capsys: pytest.CaptureFixture[str], host: FakeHost, check: bool
) -> None:
    half_done.note("worker", host.root)
    undo = host.root / "var/lib/kubewright/settings/undo/config.yaml"
    undo.parent.mkdir(parents=True)
    undo.write_text("of the node that it was")
    host.state = ("incomplete", REMAINS)
    result = run(capsys, {**WORKER, "cluster": NOBODY}, check=check)
    assert (result["changed"], result["interrupted"], result["reset"]) == (True, True, True)
    assert undo.exists() == check
    words = [argv[argv.index("kubeadm") + 1] for argv, _stdin in host.calls]
    assert words == ([] if check else ["reset", "join"])
    assert bool(half_done.read(host.root)) == check


def test_a_reset_takes_the_members_data_and_nothing_that_was_moved_aside(
    capsys: pytest.CaptureFixture[str], host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done.note("seed", host.root)
    data = host.root / "var/lib/etcd"
    aside = data / "before-restore-20261121T120000Z"
    for folder in (data / "member/wal", aside / "member"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(kubeadm_node, "kubeadm_state", lambda root: ("incomplete", ["/var/lib/etcd/member"]))
    result = run(capsys, {**WORKER, "role": "control_plane", "cluster": NOBODY})
    assert result["reset"] and "failed" not in result, result
    assert not (data / "member").exists() and (aside / "member").exists()
    assert "--ignore-preflight-errors=DirAvailable--var-lib-etcd" in host.calls[-1][0]


def test_a_folder_of_somebody_else_is_refused_by_kubeadm_itself(
    capsys: pytest.CaptureFixture[str], host: FakeHost
) -> None:
    (host.root / "var/lib/etcd/before-restore-20261121T120000Z").mkdir(parents=True)
    (host.root / "var/lib/etcd/postgres").mkdir()
    run(capsys, {"role": "control_plane", "config": CONFIG})
    assert not any("DirAvailable" in word for word in host.calls[0][0])


def test_a_reset_that_leaves_something_is_an_error(
    capsys: pytest.CaptureFixture[str], host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done.note("worker", host.root)
    monkeypatch.setattr(kubeadm_node, "kubeadm_state", lambda root: ("incomplete", REMAINS))
    failed = run(capsys, {**WORKER, "cluster": NOBODY})
    assert "kubeadm reset left something behind (/etc/kubernetes/kubelet.conf" in failed["msg"]
    assert len(host.calls) == 1


def test_a_node_of_the_cluster_is_finished(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    half_done.note("worker", host.root)
    host.state = ("worker", REMAINS)
    result = run(capsys, {**WORKER, "cluster": ITSELF})
    assert (result["changed"], result["reset"]) == (True, False)
    assert result["skipped_phases"] == ["preflight", "kubelet-start"]
    (start, _), (join, stdin) = host.calls
    assert start[-3:] == ["systemctl", "start", "kubelet.service"]
    assert join[-1] == "--skip-phases=preflight,kubelet-start"
    assert stdin == CONFIG
    assert half_done.read(host.root) is None


def test_a_kubeadm_that_still_works_is_waited_for(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    process = host.root / "proc/7"
    process.mkdir()
    (process / "cmdline").write_bytes(b"kubeadm\0join\0")
    failed = run(capsys, {**WORKER, "timeout": 0}, check=True)
    assert "the kubeadm that an earlier run started on this host" in failed["msg"]
    assert not host.calls


def test_a_configuration_is_needed_to_act(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    failed = run(capsys, {"role": "worker"})
    assert failed["failed"]
    assert "config is needed to join" in failed["msg"]
    assert not host.calls


def test_options_reach_kubeadm(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    options = {"ignore_preflight_errors": ["Mem", "Swap"], "timeout": 77}
    run(capsys, {"role": "worker", "config": CONFIG, **options})
    argv, _stdin = host.calls[0]
    assert argv[:3] == ["timeout", "--kill-after=5", "77"]
    assert "--ignore-preflight-errors=Mem,Swap" in argv


def test_a_failure_has_its_facts_and_no_secret(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    host.answer = (1, f"[preflight] with {TOKEN}\n", f"error execution phase preflight: {TOKEN} is unknown\n")
    failed = run(capsys, {"role": "worker", "config": CONFIG})
    assert failed["failed"]
    assert failed["rc"] == 1
    assert "kubeadm join failed in phase preflight" in failed["msg"]
    assert "is unknown" in failed["stderr"]
    assert TOKEN not in json.dumps(failed)
