# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static pods that are stopped and started; the kubelet and the container runtime are faked."""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _held_pods as held_pods
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._held_pods import (
    COMPONENTS,
    Pod,
    Switch,
    need_restored,
    plan_end,
    plan_start,
    plan_stop,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


class FakeHost:
    """A kubelet that starts what its folder holds, and a runtime that ends what it is told to end."""

    def __init__(self, root: Path) -> None:
        self.manifests, self.held = root / "manifests", root / "held"
        self.manifests.mkdir()
        for name in COMPONENTS:
            (self.manifests / f"{name}.yaml").write_text(f"{name}\n")
        self.kubelet = "active"
        self.running = set(COMPONENTS)
        self.ended: list[str] = []
        self.graces: dict[str, int] = {}
        self.calls: list[list[str]] = []

    def run(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        words = argv[3:] if argv[0] == "timeout" else argv
        self.calls.append(words)
        if words[0] == "systemctl":
            return 0, self._systemctl(words), ""
        component = next(
            (one.rpartition("=")[2] for one in words if "component=" in one or "name=" in one), ""
        )
        found = [{"id": f"id-{component}"}] if component in self.running else []
        if words[1] == "ps":
            return 0, json.dumps({"containers": found}), ""
        if words[1] == "pods":
            return 0, json.dumps({"items": found}), ""
        if words[1] == "stop":
            self.graces[words[-1].removeprefix("id-")] = int(words[2].rpartition("=")[2])
        if words[1] == "rmp":
            # A kubelet that runs would make it anew at once.
            name = words[-1].removeprefix("id-")
            self.ended.append(name)
            if self.kubelet == "inactive":
                self.running.discard(name)
        return 0, "", ""

    def _systemctl(self, words: list[str]) -> str:
        if words[1:] == ["stop", "kubelet.service"]:
            self.kubelet = "inactive"
        if words[1] == "restart":
            self.kubelet = "active"
            self.running |= {path.stem for path in self.manifests.iterdir()}
        return f"{self.kubelet}\n" if words[1] == "show" else ""

    def switch(self) -> Switch:
        deadline = Deadline(5, sleep=lambda _seconds: None)
        return Switch(Runner(self.run), deadline, manifests=str(self.manifests), held=str(self.held))

    def stop(self, components: tuple[str, ...] = COMPONENTS) -> bool:
        switch = self.switch()
        planned = plan_stop(switch.look(components), kubelet_runs=switch.kubelet_runs())
        if planned.changed:
            switch.stop(planned, components, 30)
        return planned.changed

    def start(self, components: tuple[str, ...] = COMPONENTS) -> bool:
        switch = self.switch()
        planned = plan_start(switch.look(components), kubelet_runs=switch.kubelet_runs())
        if planned.changed:
            switch.start(planned)
        return planned.changed


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def test_stopped_in_order_and_started_again(host: FakeHost) -> None:
    assert host.stop() and not host.running and host.kubelet == "inactive"
    assert host.ended == list(COMPONENTS) and not list(host.manifests.iterdir())
    assert host.held.stat().st_mode & 0o777 == 0o700
    assert not host.stop()
    assert host.start() and host.running == set(COMPONENTS) and not list(host.held.iterdir())
    assert not host.start()


@pytest.mark.parametrize(
    ("argument", "seconds"),
    [
        ("", 10),
        ("    - --shutdown-delay-duration=5s\n", 15),
        ('    - "--shutdown-delay-duration=1m5s"\n', 30),
        ("    - --shutdown-delay-duration=1.5s\n", 30),
        ("    - --shutdown-delay-duration=500ms\n", 30),
    ],
)
def test_an_api_server_gets_its_delay_and_time_for_its_last_answers(
    host: FakeHost, argument: str, seconds: int
) -> None:
    """It would wait for its watches until it is killed; never longer than was asked for, and the others just that."""
    (host.manifests / "kube-apiserver.yaml").write_text(f"    - kube-apiserver\n{argument}    - --v=2\n")
    host.stop()
    assert host.graces == {name: seconds if name == "kube-apiserver" else 30 for name in COMPONENTS}


def test_etcd_goes_last_and_comes_first(host: FakeHost) -> None:
    assert host.stop(COMPONENTS[:3]) and host.running == {"etcd"}
    assert host.stop(("etcd",)) and not host.running
    assert host.start(("etcd",)) and host.running == {"etcd"}
    assert host.start() and host.running == set(COMPONENTS)


def test_a_kubelet_that_came_back_is_stopped_again(host: FakeHost) -> None:
    host.stop()
    host.kubelet = "active"
    assert host.stop() and host.kubelet == "inactive"


def test_a_host_without_a_control_plane_is_left_alone() -> None:
    pods = [Pod(name, "") for name in COMPONENTS]
    assert not plan_stop(pods, kubelet_runs=True).changed
    with pytest.raises(KubewrightError, match="no manifest of kube-apiserver"):
        plan_start(pods, kubelet_runs=True)


def test_a_manifest_that_somebody_made_meanwhile(host: FakeHost) -> None:
    host.stop()
    (host.manifests / "etcd.yaml").write_text("another\n")
    with pytest.raises(KubewrightError, match="two manifests of etcd"):
        host.start()
    # What the kubelet would run is what is held back.
    assert host.stop() and (host.held / "etcd.yaml").read_text() == "another\n"


def test_pods_that_do_not_end(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(argv: list[str], **options: Any) -> tuple[int, str, str]:
        return (1, "", "busy") if "rmp" in argv else host.run(argv, **options)

    clock = iter(range(1000))
    switch = Switch(
        Runner(stuck),
        Deadline(5, clock=lambda: float(next(clock)), sleep=lambda _seconds: None),
        manifests=str(host.manifests),
        held=str(host.held),
    )
    with pytest.raises(KubewrightError, match="to end on this host"):
        switch.stop(plan_stop(switch.look(COMPONENTS), kubelet_runs=True), COMPONENTS, 1)


def test_etcd_starts_only_with_the_data_that_was_restored(tmp_path: Path) -> None:
    with pytest.raises(KubewrightError, match="lab-1 is wanted, and none is there"):
        need_restored(str(tmp_path), "marker.json", "lab-1")
    (tmp_path / "member").mkdir()
    (tmp_path / "member" / "marker.json").write_text('{"token": "lab-0"}')
    with pytest.raises(KubewrightError, match="lab-0 is there"):
        need_restored(str(tmp_path), "marker.json", "lab-1")
    need_restored(str(tmp_path), "marker.json", "lab-0")
    assert held_pods.HELD != held_pods.MANIFESTS


def test_what_is_ended_comes_back_with_the_kubelet(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    switch = host.switch()
    planned = plan_end(switch.look(COMPONENTS), kubelet_runs=switch.kubelet_runs())
    assert planned.changed and not planned.move
    switch.stop(planned, COMPONENTS, 30)
    assert host.ended == list(COMPONENTS) and host.kubelet == "inactive" and not host.running
    assert not plan_end(switch.look(COMPONENTS), kubelet_runs=switch.kubelet_runs()).changed
    host.run(["systemctl", "restart", "kubelet.service"])
    assert host.running == set(COMPONENTS)


def test_systemd_starts_the_kubelet_of_a_process_that_was_killed(host: FakeHost) -> None:
    """It watches the process with a program that ends with it, and starts the kubelet at the end of that program."""
    held_pods.stop_kubelet(Runner(host.run))
    guard, stopped = host.calls
    assert guard[0] == "systemd-run" and stopped == ["systemctl", "stop", "kubelet.service"]
    assert "--property=ExecStopPost=systemctl start kubelet.service" in guard
    watch = guard[guard.index("tail") :]
    assert f"--pid={os.getpid()}" in watch
    with subprocess.Popen(["sleep", "60"]) as process:
        watch[1] = f"--pid={process.pid}"
        with subprocess.Popen(watch) as program:
            with pytest.raises(subprocess.TimeoutExpired):
                program.wait(1)
            process.kill()
            process.wait()
            assert program.wait(10) == 0


def test_a_kubelet_that_was_started_has_no_guard_any_more(host: FakeHost) -> None:
    for _turn in range(2):
        held_pods.stop_kubelet(Runner(host.run))
        held_pods.start_kubelet(Runner(host.run))
    units = [word.partition("=")[2] for call in host.calls for word in call if word.startswith("--unit=")]
    ended = host.calls[-1][-1]
    assert len(set(units)) == 2 and all(fnmatch.fnmatch(f"{unit}.service", ended) for unit in units)


def test_nothing_is_ended_on_a_host_without_a_control_plane() -> None:
    assert not plan_end([Pod(name, "") for name in COMPONENTS], kubelet_runs=True).changed
