# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""haproxy_server as Ansible calls it, against a socket that speaks as HAProxy does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.modules import haproxy_server

HEAD = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n"


class FakeHAProxy:
    """Answers one command a connection, as the real one does without `prompt`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # What each does, and who took it out.
        self.states = {"cp1": [2, 0], "cp2": [2, 0], "cp3": [0, 0]}
        self.commands: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                command = connection.recv(1000).decode().strip()
                self.commands.append(command)
                connection.sendall(self._answer(command).encode())

    def _answer(self, command: str) -> str:
        if command == "show servers state kubernetes_api":
            rows = (
                f"3 kubernetes_api {number} {name} 10.0.0.1{number} {does} {out} 1 1\n"
                for number, (name, (does, out)) in enumerate(self.states.items(), 1)
            )
            return f"{HEAD}{''.join(rows)}\n"
        _set, _server, path, _state, wanted = command.split()
        name = path.partition("/")[2]
        if name not in self.states:
            return "No such server.\n"
        self.states[name][1] = 8 if wanted == "drain" else 0
        return "\n"

    def close(self) -> None:
        """Stop serving, and wait for it: a thread that still accepts could do so on the next owner of this number."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[FakeHAProxy]:
    fake = FakeHAProxy(tmp_path / "admin.sock")
    yield fake
    fake.close()


def run(
    capsys: pytest.CaptureFixture[str],
    fake: FakeHAProxy,
    name: str,
    state: str,
    check: bool = False,
    **more: Any,
) -> dict[str, Any]:
    options = {
        "names": name.split(),
        "state": state,
        "socket": str(fake.path),
        "_ansible_check_mode": check,
        **more,
    }
    with patch_module_args(options), pytest.raises(SystemExit):
        haproxy_server.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_out_and_back(capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy) -> None:
    out = run(capsys, haproxy, "cp1", "drained")
    assert (out["changed"], out["alone"]) == (True, [])
    assert out["servers"] == [{"name": "cp1", "status": "up", "changed": True}]
    assert "set server kubernetes_api/cp1 state drain" in haproxy.commands
    assert run(capsys, haproxy, "cp1", "drained")["changed"] is False
    back = run(capsys, haproxy, "cp1", "ready")
    assert back["changed"] is True and haproxy.states["cp1"] == [2, 0]
    assert run(capsys, haproxy, "cp1", "ready")["changed"] is False


def test_the_only_one_that_works_stays(capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy) -> None:
    haproxy.states["cp2"] = [2, 8]
    out = run(capsys, haproxy, "cp1", "drained")
    assert (out["changed"], out["alone"]) == (False, ["cp1"]) and haproxy.states["cp1"] == [2, 0]
    assert "no other API server works there" in str(out["warnings"])


def test_check_mode_sets_nothing(capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy) -> None:
    assert run(capsys, haproxy, "cp1", "drained", check=True)["changed"] is True
    assert haproxy.states["cp1"] == [2, 0]
    haproxy.states["cp1"] = [2, 8]
    assert run(capsys, haproxy, "cp1", "ready", check=True)["changed"] is True
    assert haproxy.states["cp1"] == [2, 8]


def test_one_that_does_not_come_back_is_an_error(
    capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy
) -> None:
    haproxy.states["cp1"] = [0, 8]
    failed = run(capsys, haproxy, "cp1", "ready", timeout=0)
    assert failed["failed"] and "HAProxy to find cp1 ready" in failed["msg"]
    # It was put back all the same: down, and not taken out any more.
    assert haproxy.states["cp1"] == [0, 0]


def test_a_server_that_is_down_is_not_one_that_was_taken_out(
    capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy
) -> None:
    assert run(capsys, haproxy, "cp3", "drained")["changed"] is True


def test_several_are_put_back_without_waiting_for_one_that_is_down(
    capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy
) -> None:
    haproxy.states["cp1"] = [2, 8]
    back = run(capsys, haproxy, "cp1 cp2 cp3", "ready", wait=False)
    assert [one["name"] for one in back["servers"] if one["changed"]] == ["cp1"]


def test_check_mode_tells_which_one_would_stay(
    capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy
) -> None:
    assert run(capsys, haproxy, "cp1 cp2", "drained", check=True)["alone"] == ["cp2"]


def test_one_that_is_out_already_does_not_stay(
    capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy
) -> None:
    haproxy.states = {"cp1": [2, 8], "cp2": [0, 0], "cp3": [0, 0]}
    out = run(capsys, haproxy, "cp1", "drained")
    assert (out["changed"], out["alone"]) == (False, [])


def test_not_even_all_of_several_are_taken_out(
    capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy
) -> None:
    out = run(capsys, haproxy, "cp1 cp2", "drained")
    assert out["alone"] == ["cp2"] and haproxy.states["cp2"] == [2, 0]


def test_an_unknown_server_and_a_silent_socket(
    capsys: pytest.CaptureFixture[str], haproxy: FakeHAProxy, tmp_path: Path
) -> None:
    assert "has no server cp9" in run(capsys, haproxy, "cp9", "drained")["msg"]
    haproxy.path.unlink()
    assert "cannot be spoken to" in run(capsys, haproxy, "cp1", "drained")["msg"]
