# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubeadm_settings as Ansible calls it; observing and applying are faked."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_settings import (
    KUBELET,
    Observed,
    Pair,
)
from ansible_collections.kubewright.cluster.plugins.modules import kubeadm_settings

DIFFERENT = Observed(kubelet=Pair({"maxPods": 110}, {"maxPods": 99}), kubelet_configuration="text")


class FakeParts:
    """The parts of the module that touch the host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        monkeypatch.setattr(kubeadm_settings, "STATE", folder)
        self.state = "worker"
        self.observed = DIFFERENT
        self.applied: list[list[str]] = []
        self.wanted: Any = None
        self.fails: Unproven | None = None
        parts = self

        class FakeObserver:
            def __init__(self, *_arguments: Any) -> None: ...

            def observe(self, wanted: Any) -> Observed:
                parts.wanted = wanted
                return parts.observed

        class FakeApplier:
            def __init__(self, *_arguments: Any) -> None: ...

            def apply(self, steps: Any) -> None:
                parts.applied.append([step.target for step in steps])
                if parts.fails:
                    raise parts.fails

        class FakeApi:
            @staticmethod
            def from_kubeconfig(path: str, *_arguments: Any, **options: Any) -> None:
                parts.kubeconfig = (path, options["server"])

        self.kubeconfig: Any = None
        monkeypatch.setattr(kubeadm_settings, "kubeadm_state", lambda _root: (self.state, []))
        monkeypatch.setattr(kubeadm_settings, "Observer", FakeObserver)
        monkeypatch.setattr(kubeadm_settings, "Applier", FakeApplier)
        monkeypatch.setattr(kubeadm_settings, "KubeApi", FakeApi)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeParts:
    return FakeParts(monkeypatch, tmp_path / "settings")


def run(capsys: pytest.CaptureFixture[str], *, check: bool = False, **options: Any) -> dict[str, Any]:
    arguments = {"role": "worker", "config": [{"kind": "InitConfiguration"}], **options}
    with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        kubeadm_settings.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_check_mode_says_what_would_change_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], parts: FakeParts
) -> None:
    foretold = run(capsys, check=True)
    assert foretold["changed"] and not parts.applied
    assert foretold["actions"] == [{"target": KUBELET, "changes": ["maxPods: 110 -> 99"]}]
    assert foretold["diff"][0]["after"] == "maxPods: 99\n" and foretold["kubelet_configuration"] == "text"
    done = run(capsys)
    assert parts.applied == [[KUBELET]] and done["actions"] == foretold["actions"] and done["changed"]


def test_nothing_to_do_is_no_change(capsys: pytest.CaptureFixture[str], parts: FakeParts) -> None:
    parts.observed = Observed()
    result = run(capsys)
    assert not result["changed"] and result["actions"] == []


@pytest.mark.parametrize("state", ["none", "incomplete", "control_plane"])
def test_a_host_that_is_not_in_this_role_is_left_alone(
    capsys: pytest.CaptureFixture[str], parts: FakeParts, state: str
) -> None:
    parts.state = state
    result = run(capsys)
    assert not result["changed"] and parts.wanted is None and not parts.applied


def test_each_role_uses_its_own_credentials(capsys: pytest.CaptureFixture[str], parts: FakeParts) -> None:
    run(capsys)
    assert parts.kubeconfig == ("/etc/kubernetes/kubelet.conf", None)
    parts.state = "control_plane"
    run(
        capsys,
        role="control_plane",
        api_server="https://10.0.0.11:6443",
        patches={"etcd.yaml": "x"},
        cluster=True,
    )
    assert parts.kubeconfig == ("/etc/kubernetes/admin.conf", "https://10.0.0.11:6443")
    assert parts.wanted.patches == {"etcd.yaml": "x"} and parts.wanted.cluster


def test_a_component_that_fails_is_reported_with_its_facts(
    capsys: pytest.CaptureFixture[str], parts: FakeParts
) -> None:
    parts.fails = Unproven("no", component="kubelet", log=["last words"], rolled_back=True, done=["etcd"])
    result = run(capsys)
    assert (
        result["failed"]
        and result["rolled_back"]
        and result["log"] == ["last words"]
        and result["done"] == ["etcd"]
    )


@pytest.mark.parametrize("check", [True, False])
def test_a_run_before_that_still_moves_the_host_is_waited_for(
    capsys: pytest.CaptureFixture[str], parts: FakeParts, check: bool
) -> None:
    parts.folder.mkdir()
    other = os.open(parts.folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    refused = run(capsys, check=check, timeout=0)
    assert refused["failed"] and "Another process moves this host" in refused["msg"]
    assert parts.wanted is None and not parts.applied
    os.close(other)
    assert run(capsys, check=check, timeout=0)["changed"]
    assert run(capsys, check=check, timeout=0)["changed"], "the lock goes with the run"


def test_check_mode_makes_no_folder(capsys: pytest.CaptureFixture[str], parts: FakeParts) -> None:
    assert run(capsys, check=True)["changed"] and not parts.folder.exists()


def test_a_postponed_comparison_is_a_warning(capsys: pytest.CaptureFixture[str], parts: FakeParts) -> None:
    parts.observed = Observed(postponed="an upgrade is under way")
    result = run(capsys)
    assert not result["changed"] and result["postponed"] == "an upgrade is under way"
    assert "an upgrade is under way" in str(result["warnings"])
