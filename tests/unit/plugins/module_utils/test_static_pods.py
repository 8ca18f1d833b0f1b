# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Static pods that are replaced; the container runtime and the clock are faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import GuardedFile, Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_diff import command, with_command
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import (
    Change,
    StaticPods,
    parse_containers,
    probe_url,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "settings"
OLD, NEW, BAD = "old manifest\n", "new manifest\n", "bad manifest\n"
SECOND = 10**9


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return document


POD = load("kube-scheduler")


class FakeHost:
    """A kubelet and a container runtime in one: each manifest gets a pod id, one look at a time.

    A manifest that is *bad* makes a container that has ended at the next look, again and again. The kubelet
    keeps the last dead container of a pod only, unless it *hoards*. A *stuck* kubelet makes no container at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.made: list[dict[str, Any]] = []
        self.bad = {BAD}
        self.hoards = False
        self.stuck: set[str] = set()
        self.mute: set[str] = set()
        self.looks = 0
        self.broken: set[int] = set()
        self.calls: list[list[str]] = []
        self.look()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def look(self) -> list[dict[str, Any]]:
        text = self.path.read_text()
        running = next((one for one in self.made if one["state"] == "CONTAINER_RUNNING"), None)
        if running and (running["text"] != text or text in self.bad):
            running["state"] = "CONTAINER_EXITED"
            running = None
        if not running and text not in self.stuck:
            number = len(self.made)
            self.made.append(
                {
                    "id": f"container-{number}",
                    "state": "CONTAINER_RUNNING",
                    "createdAt": str(number * SECOND),
                    "labels": {"io.kubernetes.pod.uid": f"pod of {text.strip()}"},
                    "text": text,
                }
            )
        dead = {
            one["id" if self.hoards else "text"]: one
            for one in self.made
            if one["state"] == "CONTAINER_EXITED"
        }
        return [one for one in self.made if one["state"] == "CONTAINER_RUNNING"] + list(dead.values())

    def run_command(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        words = argv[argv.index("crictl") :]
        self.calls.append(words)
        if words[1] == "stop":
            for one in self.made:
                if one["id"] == words[-1]:
                    one["state"] = "CONTAINER_EXITED"
            return 0, "", ""
        if words[1] == "logs":
            return 0, "", "flags registered\nError: unknown flag: --no-such-flag\n"
        self.looks += 1
        if self.looks in self.broken:
            return 1, "", "context deadline exceeded\n"
        return 0, json.dumps({"containers": self.look()}), ""

    def answers(self, url: str) -> bool:
        assert url == "https://127.0.0.1:10259/readyz"
        return self.path.read_text() not in self.mute | self.bad

    def pods(self) -> StaticPods:
        return StaticPods(
            Runner(self.run_command),
            lambda: Deadline(60, clock=self.clock, sleep=self.sleep),
            answers=self.answers,
        )


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    (tmp_path / "kube-scheduler.yaml").write_text(OLD)
    return FakeHost(tmp_path / "kube-scheduler.yaml")


def file(host: FakeHost) -> GuardedFile:
    return GuardedFile(host.path, host.path.parent / "state")


def replace(host: FakeHost, text: str) -> None:
    host.pods().replace(Change(file(host), "kube-scheduler", POD, POD, text))


def test_a_manifest_that_works_is_waited_for_and_stays(host: FakeHost) -> None:
    replace(host, NEW)
    assert host.path.read_text() == NEW and not file(host).unproven
    assert [one["text"] for one in host.made] == [OLD, NEW]


def test_a_runtime_that_is_busy_is_asked_again(host: FakeHost) -> None:
    host.broken = {2, 3}
    replace(host, NEW)
    assert host.path.read_text() == NEW and host.looks == 4


def test_a_manifest_that_ends_at_once_is_rolled_back_with_its_last_words(host: FakeHost) -> None:
    with pytest.raises(Unproven) as failed:
        replace(host, BAD)
    assert host.path.read_text() == OLD and not file(host).unproven
    assert "unknown flag: --no-such-flag" in str(failed.value) and "back in place and works" in str(
        failed.value
    )
    assert failed.value.facts["rolled_back"] is True and failed.value.facts["component"] == "kube-scheduler"
    assert host.now < 20, "a crash is seen long before the deadline"
    # The log is that of a container of the bad manifest.
    logged = next(words[-1] for words in host.calls if words[1] == "logs")
    assert next(one for one in host.made if one["id"] == logged)["text"] == BAD
    assert [one["text"] for one in host.made][-1] == OLD


@pytest.mark.parametrize("defect", ["stuck", "mute"])
def test_a_manifest_that_never_serves_is_rolled_back_at_the_deadline(host: FakeHost, defect: str) -> None:
    getattr(host, defect).add(NEW)
    with pytest.raises(Unproven, match="after 60 seconds"):
        replace(host, NEW)
    assert host.path.read_text() == OLD and not file(host).unproven
    assert 60 <= host.now < 70


def test_an_unhealthy_component_is_rolled_back(host: FakeHost) -> None:
    healthy = iter([False] * 61)
    with pytest.raises(Unproven, match="not healthy"):
        host.pods().replace(Change(file(host), "kube-scheduler", POD, POD, NEW, lambda: next(healthy, True)))
    assert host.path.read_text() == OLD


def test_the_answer_of_the_old_container_does_not_count(host: FakeHost) -> None:
    """The kubelet may be slow: until it made the new container, the old one still answers."""
    looks: list[int] = []
    fast = host.look

    def slow() -> list[dict[str, Any]]:
        looks.append(1)
        if len(looks) < 5:
            return [one for one in host.made if one["state"] == "CONTAINER_RUNNING"]
        return fast()

    host.look = slow  # type: ignore[method-assign]
    replace(host, NEW)
    assert len(looks) >= 5 and host.made[-1]["text"] == NEW


class Killed(BaseException):
    """The run is stopped here."""


def stopped(host: FakeHost, text: str) -> None:
    """Put a manifest in place and be stopped before it is known to work."""

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        file(host).replace(text, kill, kill)


@pytest.mark.parametrize("second", [BAD, NEW])
def test_a_second_attempt_that_fails_is_rolled_back_to_what_ran_before_the_first(
    host: FakeHost, second: str
) -> None:
    """The pod of the first attempt is not the one that comes back."""
    stopped(host, "first attempt\n")
    host.look()
    host.mute.add(NEW)
    with pytest.raises(Unproven) as failed:
        replace(host, second)
    assert host.path.read_text() == OLD and host.made[-1]["text"] == OLD
    assert failed.value.facts["rolled_back"] is True and not file(host).unproven
    assert host.now < 70, "the way back is not waited for in vain"


class TwoHosts:
    """Two components of one host, each with a manifest of its own."""

    def __init__(self, folder: Path) -> None:
        self.hosts = {}
        for name in ("etcd", "kube-apiserver"):
            (folder / f"{name}.yaml").write_text(OLD)
            self.hosts[name] = FakeHost(folder / f"{name}.yaml")
        self.asked = ""

    def run_command(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        self.asked = next((name for name in self.hosts if any(name in word for word in argv)), self.asked)
        return self.hosts[self.asked].run_command(argv, **options)

    def answers(self, url: str) -> bool:
        return self.hosts[self.asked].answers(url)

    def changes(self) -> list[Change]:
        return [
            Change(GuardedFile(host.path, host.path.parent / "state"), name, POD, POD, NEW)
            for name, host in self.hosts.items()
        ]

    def replace(self, turn_over: Any) -> None:
        clock = self.hosts["etcd"]
        StaticPods(
            Runner(self.run_command),
            lambda: Deadline(60, clock=clock.clock, sleep=clock.sleep),
            answers=self.answers,
        ).replace_together(self.changes(), turn_over)


def test_two_manifests_are_in_place_before_the_pods_turn_over(tmp_path: Path) -> None:
    both, seen = TwoHosts(tmp_path), []
    both.replace(lambda: seen.extend(host.path.read_text() for host in both.hosts.values()))
    assert seen == [NEW, NEW]
    assert all(host.made[-1]["text"] == NEW for host in both.hosts.values())
    assert not any(change.file.unproven for change in both.changes())


@pytest.mark.parametrize(("mute", "left"), [("etcd", [OLD, NEW]), ("kube-apiserver", [OLD, OLD])])
def test_of_two_manifests_the_one_that_does_not_serve_goes_back_with_those_before_it(
    tmp_path: Path, mute: str, left: list[str]
) -> None:
    both = TwoHosts(tmp_path)
    both.hosts[mute].mute.add(NEW)
    with pytest.raises(Unproven, match=f"{mute} does not come up"):
        both.replace(lambda: None)
    assert [host.path.read_text() for host in both.hosts.values()] == left
    assert not any(change.file.unproven for change in both.changes())


def test_containers_of_an_attempt_that_ended_do_not_count_against_the_way_back(host: FakeHost) -> None:
    host.hoards = True
    stopped(host, BAD)
    host.look()
    host.look()
    with pytest.raises(Unproven) as failed:
        host.pods().prove(file(host), "kube-scheduler", POD, lambda: True)
    assert failed.value.facts["rolled_back"] is True


def test_what_a_stopped_run_left_is_proved_or_rolled_back(host: FakeHost) -> None:
    guard = file(host)
    stopped(host, BAD)
    with pytest.raises(Unproven):
        host.pods().prove(guard, "kube-scheduler", POD, lambda: True)
    assert host.path.read_text() == OLD and not guard.unproven
    stopped(host, NEW)
    host.pods().prove(guard, "kube-scheduler", POD, lambda: True)
    assert host.path.read_text() == NEW and not guard.unproven


@pytest.mark.parametrize(
    ("component", "url"),
    [
        ("kube-apiserver", "https://10.0.0.11:6443/readyz"),
        ("kube-scheduler", "https://127.0.0.1:10259/readyz"),
        ("etcd", "http://127.0.0.1:2381/readyz"),
    ],
)
def test_components_are_asked_where_the_kubelet_asks_them(component: str, url: str) -> None:
    assert probe_url(load(component)) == url


def test_containers_of_crictl() -> None:
    text = (FIXTURES / "crictl_ps.json").read_text()
    newest, oldest = parse_containers(json.loads(text))
    assert newest.running and not oldest.running and newest.made > oldest.made
    assert newest.pod == oldest.pod and newest.id != oldest.id and len(newest.id) == 64
    assert parse_containers({}) == []


def test_a_manifest_without_a_readiness_probe_is_asked_by_its_liveness_probe() -> None:
    pod = with_command(load("kube-scheduler"), command(load("kube-scheduler")))
    del pod["spec"]["containers"][0]["readinessProbe"]
    assert probe_url(pod) == "https://127.0.0.1:10259/livez"


def test_a_restart_ends_the_container_and_waits_for_the_next_one(host: FakeHost) -> None:
    """The manifest stays, so that the pod is the same one."""
    before = host.made[0]["id"]
    host.pods().restart("kube-scheduler", POD, lambda: True)
    assert ["crictl", "stop", "--timeout=30", before] in host.calls
    assert [one["state"] for one in host.made] == ["CONTAINER_EXITED", "CONTAINER_RUNNING"]
    assert host.path.read_text() == OLD


def test_a_restart_after_which_nothing_comes_is_an_error(host: FakeHost) -> None:
    host.stuck = {OLD}
    with pytest.raises(Unproven, match="kube-scheduler does not come up"):
        host.pods().restart("kube-scheduler", POD, lambda: True)
