# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubelet that is restarted in another version; systemd and the API are faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _kubelet_upgrade as upgrade
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

NEW = "1.37.1"


class FakeHost:
    """Notes what is run; the node reports a version."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.calls: list[str] = []
        self.reported = f"v{NEW}"
        self.fails = False
        self.ends = True
        self.state = "active"
        self.running = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
        config = tmp_path / "config.yaml"
        config.write_text("kind: KubeletConfiguration\n")
        monkeypatch.setattr(upgrade, "CONFIG", config)
        monkeypatch.setattr(upgrade, "Kubelet", lambda *_a: self)

    def run_command(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        words = argv[3:] if argv[0] == "timeout" else argv
        if words[:2] in (["crictl", "ps"], ["crictl", "pods"]):
            name = next(word for word in words if "container.name=" in word or "component=" in word)
            found = [{"id": name.rpartition("=")[2]}] if name.rpartition("=")[2] in self.running else []
            return 0, json.dumps({"containers": found} if words[1] == "ps" else {"items": []}), ""
        if words[:2] == ["crictl", "stop"]:
            if not self.ends:
                raise KubewrightError("The container runtime does not answer")
            self.running.remove(words[-1])
        if words[:2] == ["systemctl", "show"]:
            return 0, f"{self.state}\n", ""
        if "guard" in str(words):
            words = [words[0], words[1] if words[0] == "systemctl" else "", "", "guard"]
        self.calls.append(" ".join(filter(None, [*words[:2], *words[3:]])))
        return 0, json.dumps({"kind": "KubeletConfiguration"}), ""

    def restart(self, config: dict[str, Any]) -> None:
        """Stand for the kubelet of _kubelet_settings."""
        assert config == {"kind": "KubeletConfiguration"}
        self.calls.append("restart")
        if self.fails:
            raise Unproven("no", why="it ended by itself", component="kubelet", log=["unknown flag"])

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/api/v1/nodes/w1"
        return {"status": {"nodeInfo": {"kubeletVersion": self.reported}}}

    def run(self, seconds: float = 5, control_plane: bool = False) -> None:
        upgrade.restart_kubelet(
            Runner(self.run_command), self, "w1", NEW, seconds, control_plane=control_plane
        )


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHost:
    return FakeHost(monkeypatch, tmp_path)


def test_the_units_are_read_again_before_the_restart(host: FakeHost) -> None:
    host.run()
    assert host.calls.index("systemctl daemon-reload") < host.calls.index("restart")


def test_static_pods_end_in_their_order_while_no_kubelet_runs(host: FakeHost) -> None:
    """The new one would make all of them anew in one moment, and etcd could go before the API server."""
    host.run(control_plane=True)
    assert host.calls[2:] == [
        "systemd-run guard",
        "systemctl stop",
        *(
            f"crictl stop {name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
        ),
        "restart",
        "systemctl start",
        "systemctl stop guard",
    ]


def test_the_kubelet_runs_again_where_a_pod_does_not_end(host: FakeHost) -> None:
    """Without a kubelet, the API of a cluster with one control plane would stay away."""
    host.ends = False
    with pytest.raises(KubewrightError, match="does not answer"):
        host.run(control_plane=True)
    assert host.calls[2:] == [
        "systemd-run guard",
        "systemctl stop",
        "systemctl start",
        "systemctl stop guard",
    ]


def test_pods_of_a_worker_go_on_running(host: FakeHost) -> None:
    host.run()
    assert not any(call.startswith(("crictl", "systemctl stop")) for call in host.calls)


@pytest.mark.parametrize("state", ["active", "activating", "inactive", "failed"])
def test_a_kubelet_that_a_cut_off_run_has_stopped_is_started(host: FakeHost, state: str) -> None:
    host.state = state
    asked = []
    upgrade.wake_kubelet(Runner(host.run_command), lambda: bool(asked.append(1) or True), 5)
    stood = state in ("inactive", "failed")
    assert (host.calls == ["systemctl start"]) is stood and len(asked) == stood


def test_an_api_server_that_does_not_know_its_rights_yet_is_waited_for(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "Deadline", lambda seconds: Deadline(seconds, sleep=lambda _seconds: None))
    host.state = "inactive"
    answers: list[Any] = [ApiError("refused", status=403), True]

    def serves() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return bool(answer)

    upgrade.wake_kubelet(Runner(host.run_command), serves, 5)
    assert not answers
    host.state, answers[:] = "inactive", [ApiError("not found", status=404)]
    with pytest.raises(ApiError, match="not found"):
        upgrade.wake_kubelet(Runner(host.run_command), serves, 5)


def test_a_kubelet_that_does_not_come_up_is_told_with_its_log(host: FakeHost) -> None:
    host.fails = True
    with pytest.raises(KubewrightError, match=r"The kubelet 1\.37\.1 does not come up") as caught:
        host.run()
    assert caught.value.facts["log"] == ["unknown flag"] and "journalctl" in caught.value.remedy


def test_a_node_that_goes_on_reporting_the_old_version_is_an_error(host: FakeHost) -> None:
    host.reported = "v1.36.3"
    with pytest.raises(DeadlineExpired, match=r"to report the kubelet 1\.37\.1"):
        host.run(seconds=0)


def test_a_node_without_a_report() -> None:
    assert upgrade.reported({}) == ""
