# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With the real openssl: what it writes is what a strict client must accept."""

from __future__ import annotations

import http.server
import ssl
import stat
import threading
import urllib.request
from pathlib import Path

import pytest

from lab import authority


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return authority.ensure(tmp_path, "localhost")


def test_a_strict_client_trusts_the_server_and_only_through_this_authority(folder: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"https://localhost:{server.server_port}/"
        strict = ssl.create_default_context(cafile=folder / "ca.pem")
        strict.verify_flags |= ssl.VERIFY_X509_STRICT
        with urllib.request.urlopen(url, context=strict, timeout=10) as answer:
            assert answer.status == 200
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(url, context=ssl.create_default_context(), timeout=10)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_password_is_kept_out_of_what_the_origin_holds(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "origin-password"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secret.read_text()) >= 24
    assert (folder / "htpasswd").read_text().startswith("kubewright:$apr1$")
    assert all(secret.read_text() not in file.read_text() for file in folder.iterdir())
    assert {file.name for file in folder.iterdir()} == {"ca.pem", "htpasswd", "server.key", "server.pem"}


def test_it_is_made_once(folder: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_text() for file in folder.iterdir()}
    assert authority.ensure(tmp_path, "localhost") == folder
    assert {file.name: file.read_text() for file in folder.iterdir()} == before
