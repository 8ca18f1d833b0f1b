# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""host_reach as Ansible calls it; the hosts are addresses of the loopback device."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils import _reach_listener as listening
from ansible_collections.kubewright.cluster.plugins.modules import host_reach

HOSTS = {"cp1": "127.0.0.11", "cp2": "127.0.0.12", "worker1": "127.0.0.21"}
CONTROL_PLANES = ["cp1", "cp2"]


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@pytest.fixture
def ports() -> dict[str, int]:
    return {"api": free_port(), "kubelet": free_port(), "vxlan": free_port(socket.SOCK_DGRAM)}


class Hosts:
    """Runs the module as if each address were a host of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, own: str) -> None:
        self._capsys, self._monkeypatch, self._own = capsys, monkeypatch, own
        self.used: set[str] = set()

    def run(self, host: str, ports: dict[str, int], check: bool = False, **options: Any) -> dict[str, Any]:
        self.used.add(host)
        self._as(host)
        arguments = {
            "name": host,
            "address": HOSTS[host],
            "control_planes": CONTROL_PLANES,
            "ports": ports,
            "controller_time": time.time(),
            "_ansible_check_mode": check,
            **options,
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            host_reach.main()
        result: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return result

    def listen(self, *names: str, ports: dict[str, int], check: bool = False) -> dict[str, dict[str, Any]]:
        return {
            name: self.run(name, ports, check=check, phase="listen", hosts=list(names), lifetime=20)
            for name in names
        }

    def _as(self, host: str) -> None:
        """Each host has its own name of the socket by which listeners are ended."""
        self._monkeypatch.setattr(listening, "_CONTROL", f"\0{self._own}/{host}")

    def end(self) -> None:
        for host in self.used:
            self._as(host)
            listening.stop()


@pytest.fixture
def hosts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Hosts]:
    some = Hosts(capsys, monkeypatch, str(tmp_path))
    yield some
    some.end()


def accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((HOSTS[host], port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("check", [False, True])
def test_hosts_that_reach_each_other(hosts: Hosts, ports: dict[str, int], check: bool) -> None:
    seen = hosts.listen(*HOSTS, ports=ports, check=check)
    assert [one["changed"] for one in seen.values()] == [False] * 3
    assert seen["cp1"]["peers"] == ["cp2", "worker1"]
    assert seen["worker1"]["listener"]["listening"] == ["kubelet", "vxlan"]
    for name in HOSTS:
        peers = [seen[peer]["listener"] for peer in seen[name]["peers"]]
        reached = hosts.run(name, ports, check=check, phase="connect", listeners=peers)
        assert not reached.get("failed"), reached
        # Three of a control plane, or two of a worker; a worker has no use for a kubelet.
        assert reached["reached"] == {"cp1": 5, "cp2": 5, "worker1": 4}[name]
        assert set(reached["clock_offsets"]) == set(HOSTS) - {name}
        assert all(abs(offset) < 0.5 for offset in reached["clock_offsets"].values())
        assert (reached["problems"], reached["unchecked"], reached["changed"]) == ([], [], False)
    until = time.monotonic() + 5
    while any(accepts(name, ports["kubelet"]) for name in HOSTS):
        assert time.monotonic() < until, "after the last visitor they are gone"
        time.sleep(0.05)


def test_a_port_that_is_not_reached_fails_with_one_line(hosts: Hosts, ports: dict[str, int]) -> None:
    seen = hosts.listen("cp1", "worker1", ports=ports)
    # Nobody listens on this port, as if a packet filter of cp1 rejected it.
    wrong = {**ports, "api": free_port()}
    failed = hosts.run("worker1", wrong, phase="connect", listeners=[seen["cp1"]["listener"]])
    assert failed["failed"] and "\n" not in failed["msg"]
    assert failed["msg"] == (
        f"worker1 cannot reach cp1 (127.0.0.11) on {wrong['api']}/tcp (API server): refused although cp1 listens, so "
        "a packet filter probably rejects it. Open it on cp1 and on the way for worker1."
    )
    assert failed["problems"] == [failed["msg"]] and failed["reached"] == 1


def test_a_clock_that_is_off_fails(hosts: Hosts, ports: dict[str, int]) -> None:
    at = listening.bind(HOSTS["cp1"], ports["api"], "tcp")
    assert at
    # A fake clock: those of one machine cannot differ.
    ahead = listening.Listener([at], "nonce", {"worker1"}, 20, clock=lambda: time.time() + 5)
    thread = threading.Thread(target=ahead.serve, daemon=True)
    thread.start()
    peer = {
        "name": "cp1",
        "address": HOSTS["cp1"],
        "control_plane": True,
        "listening": ["api"],
        "nonce": "nonce",
        "since": time.time(),
        "lifetime": 60,
    }
    options: dict[str, Any] = {"phase": "connect", "listeners": [peer]}
    few = {"api": ports["api"]}
    lenient = hosts.run("worker1", few, **options, max_clock_offset=5.5)
    assert not lenient.get("failed") and lenient["clock_offsets"]["cp1"] == pytest.approx(5, abs=0.5)
    thread.join(5)
    at.close()
    at = listening.bind(HOSTS["cp1"], ports["api"], "tcp")
    assert at
    again = listening.Listener([at], "nonce", {"worker1"}, 20, clock=lambda: time.time() + 5)
    threading.Thread(target=again.serve, daemon=True).start()
    failed = hosts.run("worker1", few, **options)
    assert failed["failed"]
    assert failed["msg"].startswith("The clock of cp1 is 5.0 s ahead of that of worker1, and 1 s are allowed")
    at.close()


def test_a_port_that_kubeadm_would_find_taken_fails_and_nothing_listens(
    hosts: Hosts, ports: dict[str, int]
) -> None:
    with socket.socket() as holder:
        holder.bind((HOSTS["cp1"], ports["kubelet"]))
        holder.listen()
        options: dict[str, Any] = {"phase": "listen", "hosts": ["cp1", "worker1"]}
        failed = hosts.run("cp1", ports, **options)
        assert failed["failed"] and "\n" not in failed["msg"]
        assert f"already listens on {ports['kubelet']}/tcp (kubelet)" in failed["msg"]
        assert not accepts("cp1", ports["api"])
        passed = hosts.run("cp1", ports, **options, ignore_preflight_errors=[f"Port-{ports['kubelet']}"])
        assert passed["listener"]["listening"] == ["api", "vxlan"]


def test_an_interrupted_run_leaves_no_obstacle(hosts: Hosts, ports: dict[str, int]) -> None:
    del ports["vxlan"]
    first = hosts.listen("cp1", "cp2", ports=ports)
    again = hosts.listen("cp1", "cp2", ports=ports)
    assert again["cp1"]["listener"]["listening"] == ["api", "kubelet"]
    stale = hosts.run("cp2", ports, phase="connect", listeners=[first["cp1"]["listener"]])
    assert stale["failed"] and "it is not cp1 who answers" in stale["msg"]
    fresh = hosts.run("cp2", ports, phase="connect", listeners=[again["cp1"]["listener"]])
    assert not fresh.get("failed")


def test_a_host_without_visitors_is_not_left_listening(hosts: Hosts, ports: dict[str, int]) -> None:
    assert hosts.listen("cp1", ports=ports)["cp1"]["peers"] == []
    assert not accepts("cp1", ports["api"])
    visited = hosts.run("cp1", ports, phase="listen", hosts=["cp1"], visitor="cp2")
    assert accepts("cp1", ports["api"])
    bye = hosts.run("cp2", ports, phase="connect", listeners=[visited["listener"]])
    assert bye["reached"] == 3


def test_a_listener_near_its_end_is_a_warning(hosts: Hosts, ports: dict[str, int]) -> None:
    seen = hosts.listen("cp1", "cp2", ports=ports)
    late = hosts.run(
        "cp2",
        ports,
        phase="connect",
        listeners=[seen["cp1"]["listener"]],
        controller_time=time.time() + 11,
    )
    assert (late["unchecked"], late["reached"]) == (["cp1"], 0)
    assert "cp2 did not check cp1" in str(late["warnings"])


def test_servers_of_a_living_cluster(hosts: Hosts, ports: dict[str, int]) -> None:
    with socket.socket() as api:
        api.bind((HOSTS["cp1"], ports["api"]))
        api.listen()
        options: dict[str, Any] = {
            "phase": "connect",
            "servers": {"cp1": HOSTS["cp1"], "cp2": HOSTS["cp2"]},
            "endpoint": {"address": "localhost", "port": ports["kubelet"]},
        }
        # cp2 is dead. The load balancer does not listen.
        failed = hosts.run("worker1", ports, **options, serving=["cp1"])
        assert failed["failed"] and failed["reached"] == 1
        assert failed["msg"].startswith(
            f"worker1 cannot reach the endpoint (localhost) on {ports['kubelet']}/tcp"
        )


class FakeNetwork:
    """Answers ARP as a network would that a unit test cannot make."""

    def __init__(self, macs: dict[str, str]) -> None:
        self.macs = macs
        self.asked: list[tuple[str, list[str]]] = []

    def who_has(self, interface: str, addresses: list[str]) -> dict[str, str]:
        self.asked.append((interface, addresses))
        return {address: mac for address, mac in self.macs.items() if address in addresses}


@pytest.mark.parametrize(
    ("holder", "refused"),
    [(None, False), ("02:00:00:00:00:12", False), ("02:00:00:00:00:99", True)],
    ids=["nobody", "a load balancer host", "a stranger"],
)
def test_the_address_that_must_be_free(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, holder: str | None, refused: bool
) -> None:
    network = FakeNetwork({HOSTS["cp2"]: "02:00:00:00:00:12", **({"127.0.0.100": holder} if holder else {})})
    monkeypatch.setattr(host_reach, "who_has", network.who_has)
    own = {HOSTS["cp1"]: "eth7"}
    monkeypatch.setattr(host_reach, "interface_of", lambda _runner, address: own.get(address, ""))
    options = {"phase": "connect", "free_address": "127.0.0.100", "neighbours": [HOSTS["cp1"], HOSTS["cp2"]]}
    result = hosts.run("cp1", {}, **options)
    assert network.asked == [("eth7", ["127.0.0.100", HOSTS["cp2"]])]
    assert bool(result.get("failed")) is refused
    if refused:
        assert "127.0.0.100 is to become the virtual IP, but it is in use: 02:00:00:00:00:99" in result["msg"]
    # The host itself holds it, since an earlier run.
    own["127.0.0.100"] = "eth7"
    assert not hosts.run("cp1", {}, **options).get("failed")
