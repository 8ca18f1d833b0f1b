# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners and probes, on the loopback device of this machine."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _reach_listener as listening
from ansible_collections.kubewright.cluster.plugins.module_utils import _reach_probe as probing
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._host_reach import Target
from ansible_collections.kubewright.cluster.plugins.module_utils._reach_probe import Found, probe, probe_all
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

KEY = "key of the listener"
HERE = "127.0.0.2"


@pytest.fixture(autouse=True)
def _own_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep away from the listeners of other tests and of this machine."""
    monkeypatch.setattr(listening, "_CONTROL", f"\0{tmp_path}")


def opened(protocol: str, address: str = HERE) -> socket.socket:
    found = listening.bind(address, 0, protocol)
    assert found
    return found


def target(at: socket.socket, key: str = KEY) -> Target:
    address, port = at.getsockname()[:2]
    protocol = "tcp" if at.type == socket.SOCK_STREAM else "udp"
    return Target("peer", address, port, protocol, "service", key=key)


@contextmanager
def serving(
    *sockets: socket.socket, visitors: set[str] | None = None, lifetime: float = 20, ahead: float = 0
) -> Iterator[threading.Thread]:
    """Serve in a thread; *ahead* is a fake offset of the listener's clock, in seconds."""
    listener = listening.Listener(
        list(sockets), KEY, visitors or {"me"}, lifetime, clock=lambda: time.time() + ahead
    )
    thread = threading.Thread(target=listener.serve, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        listener._told = True
        thread.join(5)
        for one in sockets:
            one.close()


def test_messages_prove_that_the_sender_knows_the_key() -> None:
    message = listening.seal(KEY, "ask", "1234")
    assert message.endswith(b"\n") and message.isascii()
    assert listening.unseal(KEY, message) == ["ask", "1234"]
    for forged in (
        listening.seal("another key", "ask", "1234"),
        message.replace(b"1234", b"1235"),
        message[:-3],
        b"",
        b"\n",
        b" ",
        b"\xff\xfe ",
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        assert listening.unseal(KEY, forged) == []


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("ahead", [0, 30, -30])
def test_a_listener_tells_its_time(protocol: str, ahead: float) -> None:
    at = opened(protocol)
    with serving(at, ahead=ahead):
        found = probe(target(at))
    assert found.trouble == "" and found.clock
    assert found.clock.offset == pytest.approx(ahead, abs=0.5)
    assert 0 <= found.clock.delay < 1


def test_lost_and_late_datagrams_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "_ANSWER_SECONDS", {"udp": 0.2})
    at = opened("udp")
    answering = listening.Listener([], KEY, {"me"}, 20)
    at.settimeout(5)

    def careless() -> None:
        """Lose the first two questions, and answer the third when the fourth has come."""
        for _ in range(3):
            late, sender = at.recvfrom(512)
        latest, sender = at.recvfrom(512)
        at.sendto(answering._answer(late), sender)
        at.sendto(answering._answer(latest), sender)

    thread = threading.Thread(target=careless, daemon=True)
    thread.start()
    found = probe(target(at))
    thread.join(5)
    at.close()
    assert found.trouble == "" and found.clock
    # Of the late answer most is doubt; the other one is exact.
    assert abs(found.clock.offset) < 0.3 and found.clock.delay < 0.5


def test_ipv6_works_the_same() -> None:
    try:
        at = opened("tcp", "::1")
    except KubewrightError:
        pytest.skip("this machine has no IPv6")
    with serving(at):
        assert probe(target(at)).trouble == ""


def test_a_stranger_gets_no_answer() -> None:
    stream, datagrams = opened("tcp"), opened("udp")
    with serving(stream, datagrams):
        with socket.create_connection(stream.getsockname(), timeout=3) as connection:
            connection.send(listening.seal("guessed", "ask", "1"))
            assert connection.recv(100) == b""
        with listening.new_socket(HERE, "udp") as client:
            client.settimeout(0.3)
            client.connect(datagrams.getsockname())
            client.send(listening.seal("guessed", "bye", "me"))
            with pytest.raises(socket.timeout):
                client.recv(100)
        assert probe(target(stream)).trouble == "", "the stranger's bye did not end it"


def test_somebody_else_on_the_address_is_found_out() -> None:
    at = opened("tcp")
    with serving(at):
        assert probe(target(at, key="key of another host")) == Found("stranger")


def test_troubles_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = opened("tcp")
    closed = target(nobody)
    nobody.close()
    assert probe(closed) == Found("refused")
    silent = opened("udp")
    monkeypatch.setattr(probing, "_ANSWER_SECONDS", {"udp": 0.05})
    assert probe(target(silent)) == Found("timed out")
    gone = target(silent)
    silent.close()
    assert probe(gone) == Found("refused"), "the kernel says that no port is open"
    # Multicast has no connections.
    assert probe(Target("peer", "224.0.0.1", 9, "tcp", "service")).trouble == "no route"
    odd = probe(Target("peer", "no.such.host.invalid", 9, "tcp", "service")).trouble
    assert odd and odd not in ("refused", "timed out")


def test_a_plain_connection_does_for_what_is_not_ours() -> None:
    at = opened("tcp")
    assert probe(target(at, key="")) == Found()
    at.close()


def test_it_ends_when_every_visitor_has_said_bye() -> None:
    stream, datagrams = opened("tcp"), opened("udp")
    targets = [target(stream), target(datagrams)]
    with serving(stream, datagrams, visitors={"first", "second host"}) as thread:
        assert [one.trouble for one in probe_all("first", targets)] == ["", ""]
        assert [one.trouble for one in probe_all("first", targets)] == ["", ""], "one visitor counts once"
        assert thread.is_alive()
        probe_all("second host", targets)
        thread.join(3)
        assert not thread.is_alive()


def test_it_ends_with_its_lifetime_although_somebody_is_connected() -> None:
    at = opened("tcp")
    begun = time.monotonic()
    with serving(at, lifetime=0.3) as thread, socket.create_connection(at.getsockname()):
        thread.join(5)
        assert not thread.is_alive() and time.monotonic() - begun < 3


def test_no_lifetime_is_longer_than_the_bound() -> None:
    at = opened("tcp")
    listener = listening.Listener([at], KEY, {"me"}, 10**6)
    assert listener._end - time.monotonic() <= listening.MAX_LIFETIME
    at.close()


def test_a_taken_port_is_seen_and_a_wrong_address_refused() -> None:
    for protocol in ("tcp", "udp"):
        holder = opened(protocol)
        assert listening.bind(HERE, holder.getsockname()[1], protocol) is None
        holder.close()
    with pytest.raises(KubewrightError, match="is on no interface of this host"):
        listening.bind("192.0.2.1", 0, "tcp")


def children() -> set[int]:
    """The processes that are called as a detached listener, of this machine."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() == "kube-host-reach":
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def wait_for_end(pid: int, seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_a_detached_listener_has_let_go_of_everything_and_ends_when_told(tmp_path: Path) -> None:
    before = children()
    inherited = (tmp_path / "open").open("w")
    at = opened("tcp")
    there = target(at)
    listening.detach([at], KEY, {"visitor"}, 30)
    assert at.fileno() == -1, "only the child has it now"
    assert probe(there).trouble == ""
    [pid] = children() - before
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    assert os.getsid(pid) != os.getsid(0)
    assert int(status["PPid"]) != os.getpid()
    if os.geteuid() == 0:
        assert status["Uid"].split() == ["65534"] * 4 and status["Gid"].split() == ["65534"] * 4
        assert status["Groups"].split() == []
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        files = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        assert inherited.name not in files
        assert all(one == "/dev/null" or one.startswith(("socket:", "anon_inode:")) for one in files)
    listening.stop()
    assert wait_for_end(pid)
    assert probe(there).trouble == "refused"
    # Without one there is nothing to stop.
    listening.stop()


def test_a_detached_listener_ends_by_itself() -> None:
    begun = time.monotonic()
    listening.detach([opened("tcp")], KEY, {"visitor"}, 0.5)
    # It holds the name of its control socket from before it is a process of its own, and for as long as it lives.
    # Looking for the process instead would find none on a busy machine: not yet called so, or already gone.
    wait_for(listening._ended, Deadline(10), what="the end of the listener", interval=0.05)
    assert time.monotonic() - begun >= 0.5


def test_the_process_that_detaches_has_no_child_left() -> None:
    at = opened("tcp")
    listening.detach([at], KEY, {"visitor"}, 0.2)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
