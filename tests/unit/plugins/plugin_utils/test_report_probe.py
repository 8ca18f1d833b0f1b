# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that asks the API, against a server that speaks TLS with a certificate that nobody trusts."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_probe import (
    PATIENCE,
    Probe,
    Tally,
    ask,
)

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")


class FakeApi(BaseHTTPRequestHandler):
    """Answers by the status that the test has set."""

    status = 200
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        FakeApi.asked.append(self.path)
        self.send_response(FakeApi.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def api(tmp_path: Path) -> Iterator[str]:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=a"]
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", *kind, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeApi)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    FakeApi.status, FakeApi.asked = 200, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@needs_openssl
@pytest.mark.parametrize(
    ("status", "answered"), [(200, True), (401, True), (403, True), (429, False), (503, False)]
)
def test_whatever_the_api_itself_says_is_an_answer(api: str, status: int, answered: bool) -> None:
    FakeApi.status = status
    assert ask(api) == ("" if answered else f"HTTP {status}")
    assert FakeApi.asked == ["/version"]


def test_nobody_there_is_no_answer() -> None:
    assert "refused" in ask("127.0.0.1:1").lower()


def until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_openssl
def test_it_asks_and_tells_until_it_is_ended(api: str) -> None:
    probe = Probe(api, 0.05)
    try:
        until(lambda: probe.data(PATIENCE)["asked"] > 3)
        FakeApi.status = 503
        until(lambda: bool(probe.data(PATIENCE)["gaps"]))
        FakeApi.status = 200
        until(lambda: probe.data(PATIENCE)["answered"] > 6)
        found = probe.data(PATIENCE)
        # It says what it knows also when it is gone, and holds nobody up.
        probe._process.kill()
        probe._process.wait()
        assert probe.data(PATIENCE) == found
    finally:
        probe.end()
    (gap,) = found["gaps"]
    assert gap[2] == "HTTP 503" and found["began"] <= gap[0] <= gap[1] <= found["ended"]
    assert found["where"] == api and found["answered"] < found["asked"]


def test_who_never_got_an_answer_has_measured_nothing() -> None:
    probe = Probe("127.0.0.1:1", 0.05)
    until(lambda: "refused" in probe.data(PATIENCE)["why"].lower())
    assert probe.data(PATIENCE)["asked"] == 0
    probe.end()


def test_it_does_not_outlive_who_started_it() -> None:
    probe = Probe("127.0.0.1:1", 0.05)
    process = probe._process
    assert process.stdin
    process.stdin.close()
    assert process.wait(10) == 0


def test_a_silence_ends_with_the_question_that_was_answered() -> None:
    tally = Tally()
    for at, why in ((1.0, ""), (2.0, "refused"), (3.0, "HTTP 503"), (4.0, ""), (5.0, "refused")):
        tally.note(at, at + 0.5, why)
    assert tally.data() == {
        "asked": 5,
        "answered": 2,
        "began": 1.0,
        "ended": 5.5,
        "gaps": [[2.0, 4.0, "refused"], [5.0, 5.5, "refused"]],
    }
