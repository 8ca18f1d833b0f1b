# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet's configuration; systemd, the kubelet and the API are faked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import GuardedFile, Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._kubelet_settings import (
    Kubelet,
    healthz_url,
    reported_ready,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


def node(status: str, heard: float) -> dict[str, Any]:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(heard))
    conditions = [{"type": "MemoryPressure", "status": "False", "lastHeartbeatTime": moment}]
    return {
        "status": {
            "conditions": [*conditions, {"type": "Ready", "status": status, "lastHeartbeatTime": moment}]
        }
    }


class FakeHost:
    """A kubelet that does not start by a file with "bad" in it, and reports with a delay of three looks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.restarts: list[str] = []
        self.looks = 0
        self.status = "True"
        self.reports = True
        self.api_errors = 0
        self.error = ApiError("no answer", status=0, transient=True)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run_command(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        if "journalctl" in argv:
            return 0, "Starting\nfailed to load kubelet config file: unknown field\n", ""
        if "restart" in argv:
            self.restarts.append(self.path.read_text())
            self.looks = 0
        if "show" in argv:
            state = "auto-restart" if "bad" in self.path.read_text() else "running"
            return 0, f"ActiveState=active\nSubState={state}\nNRestarts=0\n", ""
        return 0, "", ""

    def get(self, path: str, **_query: Any) -> Any:
        assert path == "/api/v1/nodes/worker1"
        self.looks += 1
        if self.api_errors:
            self.api_errors -= 1
            raise self.error
        fresh = self.reports and self.looks > 3
        return node(self.status, time.time() + 1 if fresh else time.time() - 60)

    def kubelet(self) -> Kubelet:
        return Kubelet(
            Runner(self.run_command),
            self,
            "worker1",
            lambda: Deadline(30, clock=self.clock, sleep=self.sleep),
            answers=lambda url: url == "http://127.0.0.1:10248/healthz",
        )


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    (tmp_path / "config.yaml").write_text("old")
    return FakeHost(tmp_path / "config.yaml")


def file(host: FakeHost) -> GuardedFile:
    return GuardedFile(host.path, host.path.parent / "state")


@pytest.mark.parametrize("status", [0, 403])
def test_the_node_must_report_again_after_the_restart(host: FakeHost, status: int) -> None:
    """An API server that has just started allows nothing for a moment."""
    host.api_errors, host.error = 2, ApiError("no", status=status, transient=status == 0)
    host.kubelet().replace(file(host), "new", {}, {})
    assert host.restarts == ["new"] and host.looks == 4
    assert host.path.read_text() == "new"


def test_a_kubelet_that_ends_gets_its_old_configuration_back(host: FakeHost) -> None:
    with pytest.raises(Unproven) as failed:
        host.kubelet().replace(file(host), "bad", {}, {})
    assert host.restarts == ["bad", "old"] and host.path.read_text() == "old"
    assert (
        "failed to load kubelet config file" in str(failed.value)
        and failed.value.facts["rolled_back"] is True
    )


@pytest.mark.parametrize("defect", ["status", "reports"])
def test_a_node_that_is_not_ready_again_fails(host: FakeHost, defect: str) -> None:
    setattr(host, defect, "False" if defect == "status" else False)
    with pytest.raises(Unproven, match="after 30 seconds"):
        host.kubelet().replace(file(host), "new", {}, {})
    assert host.restarts == ["new", "old"] and host.path.read_text() == "old"


def test_what_a_stopped_run_left_is_restarted_by(host: FakeHost) -> None:
    guard = file(host)
    guard._keep()
    host.path.write_text("new")
    host.kubelet().prove(guard, {})
    assert host.restarts == ["new"] and not guard.unproven


def test_health_is_asked_where_the_configuration_says() -> None:
    assert healthz_url({"healthzBindAddress": "::1", "healthzPort": 1}) == "http://[::1]:1/healthz"


def test_an_old_report_is_no_report() -> None:
    assert reported_ready(node("True", 100), 100)
    assert not reported_ready(node("True", 99), 100)
    assert not reported_ready(node("Unknown", 101), 100)
    assert not reported_ready({}, 0)
