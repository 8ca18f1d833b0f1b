# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door over real TLS: who gets in, what is behind it, and whom the token is handed to."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_pki import (
    Authority,
    Leaf,
    Leaves,
    Openssl,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles" / "kube_metrics_door" / "files"
X509 = ROOT / "tests" / "unit" / "fixtures" / "x509"
TOKEN = "Bearer of-prometheus"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


door = load("metrics_door")
host_metrics = load("host_metrics")


def run_command(argv: list[str], **options: Any) -> tuple[int, str, str]:
    done = subprocess.run(
        argv,
        input=options.get("data"),
        capture_output=True,
        text=True,
        env={**os.environ, **options["environ_update"]},
    )
    return done.returncode, done.stdout, done.stderr


class Pki:
    """An authority in a folder, and certificates of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.openssl = Openssl(Runner(run_command))
        self.now = datetime.now(timezone.utc)
        self.authority = Authority(self.openssl, str(folder), self.now)
        self.authority.create("metrics", 30)

    def issue(self, name: str, *usages: str) -> tuple[str, str]:
        cert, key = str(self.folder / f"{name}.crt"), str(self.folder / f"{name}.key")
        leaf = Leaf(name, cert, key, name, usages, (), ("127.0.0.1",))
        leaves = Leaves(self.openssl, self.authority.cert, self.now)
        leaves.install(leaf, self.authority.sign(leaf, leaves.request(leaf), 20))
        return cert, key


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("ours") / "pki")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Another authority, as etcd's or the cluster's is one."""
    return Pki(tmp_path_factory.mktemp("foreign") / "pki")


class Component:
    """A scheduler, or etcd: remembers the headers that it got, and answers what it is told to."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.status, self.body = 200, b"up 1\n"
        component = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                component.headers.append(dict(self.headers))
                self.send_response(component.status)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(component.body if self.path == "/metrics" else b"elsewhere")

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the output of the tests clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def under_tls(self, cert: str, key: str) -> Component:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        return self


@contextmanager
def running(*servers: Any) -> Iterator[None]:
    threads = [
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        for one in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for one in servers:
            one.shutdown()
            one.server_close()


def credentials(folder: Path, pki: Pki, paths: dict[str, Any]) -> Path:
    cert, key = pki.issue("host", "server")
    folder.mkdir(exist_ok=True)
    shutil.copy(cert, folder / "tls.crt")
    shutil.copy(key, folder / "tls.key")
    shutil.copy(pki.authority.cert, folder / "ca.crt")
    settings = {"address": "127.0.0.1", "port": 0, "paths": paths}
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


class Prometheus:
    """A client; without a certificate a stranger."""

    def __init__(self, opened: Any, pki: Pki, certificate: tuple[str, str] | None) -> None:
        self.port = opened.server_port
        self.context = ssl.create_default_context(cafile=pki.authority.cert)
        self.context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if certificate:
            self.context.load_cert_chain(*certificate)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=self.context)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode(), response.getheader("Content-Type") or ""
        finally:
            connection.close()


def test_prometheus_sees_what_is_behind_each_path(pki: Pki, tmp_path: Path) -> None:
    etcd, scheduler = Component(), Component().under_tls(*pki.issue("component", "server"))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.prom").write_text("a 1\n")
    (tmp_path / "text" / "b.prom.new").write_text("half")
    paths = {
        "/etcd": {"url": f"http://127.0.0.1:{etcd.port}/metrics"},
        "/scheduler": {"url": f"https://127.0.0.1:{scheduler.port}/metrics", "token": True, "token_owner": os.getuid()},
        "/host": {"folder": str(tmp_path / "text")},
    }  # fmt: skip
    opened = door.make(str(credentials(tmp_path / "credentials", pki, paths)))
    client = Prometheus(opened, pki, pki.issue("reader", "client"))
    with running(etcd.server, scheduler.server, opened):
        assert client.get("/etcd", Authorization=TOKEN, Cookie="x") == (
            200,
            "up 1\n",
            "text/plain; version=0.0.4",
        )
        assert client.get("/scheduler", Authorization=TOKEN, Cookie="x")[:2] == (200, "up 1\n")
        status, text, kind = client.get("/host")
        scheduler.status, scheduler.body = 403, b"forbidden\n"
        assert client.get("/scheduler")[:2] == (403, "forbidden\n")
        etcd.body = b"x" * (3 * 2**20)
        assert len(client.get("/etcd")[1]) == 3 * 2**20
    assert status == 200 and kind.startswith("text/plain; version=0.0.4")
    assert text.startswith("a 1\n# HELP ")
    assert 'kubewright_textfile_mtime_seconds{file="a.prom"} 1' in text and "half" not in text
    # Nothing of a visitor goes on but the token, and that only to who asks for one.
    assert set(etcd.headers[0]) == {"Host", "Accept-Encoding", "Accept"}
    assert scheduler.headers[0]["Authorization"] == TOKEN and "Cookie" not in scheduler.headers[0]
    assert "Authorization" not in scheduler.headers[1]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/etcd/", "GET", 404),
        ("/etcd?x=1", "GET", 404),
        ("/host/../etcd", "GET", 404),
        ("http://127.0.0.1:6443/etcd", "GET", 404),
        ("/etcd", "POST", 501),
        ("/etcd", "PUT", 501),
        ("/etcd", "CONNECT", 501),
    ],
)
def test_there_is_nothing_but_get_of_fixed_paths(
    pki: Pki, tmp_path: Path, path: str, method: str, status: int
) -> None:
    etcd = Component()
    paths = {"/etcd": {"url": f"http://127.0.0.1:{etcd.port}/metrics"}}
    opened = door.make(str(credentials(tmp_path / "credentials", pki, paths)))
    client = Prometheus(opened, pki, pki.issue("reader", "client"))
    with running(etcd.server, opened):
        assert client.get(path, method)[0] == status
    assert etcd.headers == []


@pytest.mark.parametrize("who", ["nobody", "foreign", "another_host", "plain"])
def test_nobody_else_gets_in(
    pki: Pki, foreign: Pki, tmp_path: Path, who: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither with a certificate of another authority, nor with that of a host, which is for servers only."""
    etcd = Component()
    paths = {"/etcd": {"url": f"http://127.0.0.1:{etcd.port}/metrics"}}
    opened = door.make(str(credentials(tmp_path / "credentials", pki, paths)))
    shown = {
        "nobody": None,
        "plain": None,
        "foreign": foreign.issue("reader", "client"),
        "another_host": pki.issue("other-host", "server"),
    }[who]
    with running(etcd.server, opened):
        if who == "plain":
            connection = http.client.HTTPConnection("127.0.0.1", opened.server_port, timeout=5)
            with pytest.raises((OSError, http.client.HTTPException)):
                connection.request("GET", "/etcd")
                connection.getresponse()
        else:
            with pytest.raises((OSError, http.client.HTTPException)):
                Prometheus(opened, pki, shown).get("/etcd")
        # And whoever comes next is served.
        assert Prometheus(opened, pki, pki.issue("reader", "client")).get("/etcd")[0] == 200
    assert len(etcd.headers) == 1
    assert "refused 127.0.0.1: " in capsys.readouterr().out


def test_the_token_is_for_the_component_only(pki: Pki, tmp_path: Path) -> None:
    """While a component is away, any process of the host may take its port."""
    thief = Component().under_tls(*pki.issue("component", "server"))
    paths = {
        "/scheduler": {
            "url": f"https://127.0.0.1:{thief.port}/metrics",
            "token": True,
            "token_owner": os.getuid() + 1,
        }
    }
    opened = door.make(str(credentials(tmp_path / "credentials", pki, paths)))
    with running(thief.server, opened):
        client = Prometheus(opened, pki, pki.issue("reader", "client"))
        status, text, _kind = client.get("/scheduler", Authorization=TOKEN)
    assert (status, text) == (502, f"nobody who may see the token listens on port {thief.port}\n")
    assert thief.headers == []


def test_root_is_who_may_see_the_token_unless_told_otherwise() -> None:
    assert door.Source(url="x", token=True).token_owner == 0


def test_listeners_are_those_of_every_address() -> None:
    with socket.socket() as four, socket.socket(socket.AF_INET6) as six, socket.socket() as idle:
        four.bind(("127.0.0.1", 0))
        port = four.getsockname()[1]
        idle.bind(("127.0.0.2", port))
        assert door.listeners(port) == set()
        four.listen()
        assert door.listeners(port) == {os.getuid()}
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        six.bind(("::1", 0))
        six.listen()
        assert door.listeners(six.getsockname()[1]) == {os.getuid()}


def test_a_component_that_is_away_is_told_of(
    pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = {
        "/etcd": {"url": f"http://127.0.0.1:{port}/metrics"},
        "/host": {"folder": str(tmp_path / "none")},
    }
    opened = door.make(str(credentials(tmp_path / "credentials", pki, paths)))
    client = Prometheus(opened, pki, pki.issue("reader", "client"))
    with running(opened):
        status, text, _kind = client.get("/etcd")
        # A folder that nobody has written to yet is no trouble.
        assert client.get("/host")[0] == 200
    assert status == 502 and f"127.0.0.1:{port} does not answer" in text
    assert f"/etcd: 127.0.0.1:{port} does not answer" in capsys.readouterr().out


def test_slow_strangers_keep_nobody_waiting(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say nothing at all: each has a place for the time of a handshake, and there is an end of places."""
    monkeypatch.setattr(door, "PATIENCE", 1.0)
    etcd = Component()
    paths = {"/etcd": {"url": f"http://127.0.0.1:{etcd.port}/metrics"}}
    opened = door.make(str(credentials(tmp_path / "credentials", pki, paths)))
    client = Prometheus(opened, pki, pki.issue("reader", "client"))
    strangers = []
    with running(etcd.server, opened):
        for _ in range(door.MAX_VISITORS - 1):
            strangers.append(socket.create_connection(("127.0.0.1", opened.server_port)))
        assert client.get("/etcd")[0] == 200
        strangers.append(socket.create_connection(("127.0.0.1", opened.server_port)))
        time.sleep(0.2)
        with pytest.raises((OSError, http.client.HTTPException)):
            client.get("/etcd")
        time.sleep(1.5)
        assert client.get("/etcd")[0] == 200
    for one in strangers:
        one.close()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", FILES / "metrics_door.py"],
        env={"CREDENTIALS_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "settings.json" in done.stderr and "Traceback" not in done.stderr


def test_the_program_opens_and_ends_when_it_is_told_to(pki: Pki, tmp_path: Path) -> None:
    folder = credentials(tmp_path / "credentials", pki, {"/host": {"folder": str(tmp_path)}})
    process = subprocess.Popen(
        [sys.executable, "-I", FILES / "metrics_door.py"],
        env={"CREDENTIALS_DIRECTORY": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    line = process.stdout.readline()
    process.terminate()
    process.wait(10)
    process.stdout.close()
    assert line.startswith("open at 127.0.0.1 port ") and line.endswith(": /host\n")


# --- what the timer writes ---------------------------------------------------------------------------------


def host(folder: Path) -> Path:
    pki = folder / "etc/kubernetes/pki"
    pki.mkdir(parents=True)
    leaf = (X509 / "certificate_leaf.pem").read_text()
    (pki / "apiserver.crt").write_text(leaf)
    (pki / "broken.crt").write_text("nothing")
    own = folder / "etc/kubewright/metrics-door"
    own.mkdir(parents=True)
    (own / "tls.crt").write_text(leaf)
    (folder / "var/lib/etcd").mkdir(parents=True)
    return folder


def test_the_metrics_of_a_host(tmp_path: Path) -> None:
    text = host_metrics.text(host(tmp_path / "host"), datetime.now(timezone.utc), ["one.service"])
    samples = {
        line.partition(" ")[0]: line.rpartition(" ")[2] for line in text.splitlines() if line[0] != "#"
    }
    subject = next(key for key in samples if "apiserver.crt" in key).partition('subject="')[2].rstrip('"}')
    ends = subprocess.run(
        ["openssl", "x509", "-in", X509 / "certificate_leaf.pem", "-noout", "-enddate"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    moment = datetime.strptime(ends, "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)
    name = "kubewright_certificate_expiry_timestamp_seconds"
    for path in ("/etc/kubernetes/pki/apiserver.crt", "/etc/kubewright/metrics-door/tls.crt"):
        assert samples[f'{name}{{path="{path}",subject="{subject}"}}'] == str(int(moment.timestamp()))
        assert samples[f'kubewright_certificate_unreadable{{path="{path}"}}'] == "0"
    assert samples['kubewright_certificate_unreadable{path="/etc/kubernetes/pki/broken.crt"}'] == "1"
    assert samples['kubewright_unit_failed{unit="one.service"}'] == "1"
    size = samples['kubewright_disk_size_bytes{path="/var/lib/etcd"}']
    assert int(size) > int(samples['kubewright_disk_available_bytes{path="/var/lib/etcd"}']) > 0


def test_failed_units_are_those_that_systemd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text(
        "#!/bin/sh\n[ $1 = list-units ] && printf 'a.service loaded failed failed An a\\nb.mount x\\n'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert host_metrics.failed_units() == ["a.service", "b.mount"]
    program.write_text("#!/bin/sh\necho Failed to connect to bus >&2\nexit 1\n")
    assert host_metrics.failed_units() == []
    monkeypatch.setenv("PATH", "/nowhere")
    assert host_metrics.failed_units() == []


def test_a_host_without_anything_has_no_samples(tmp_path: Path) -> None:
    text = host_metrics.text(tmp_path, datetime.now(timezone.utc), [])
    assert all(line.startswith("# ") for line in text.splitlines())


def test_the_file_is_for_everyone_to_read_and_never_half_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    before = os.umask(0o077)
    try:
        assert host_metrics.main([str(out), "--root", str(host(tmp_path / "host"))]) == 0
    finally:
        os.umask(before)
    assert [path.name for path in out.iterdir()] == [host_metrics.FILE]
    assert (out / host_metrics.FILE).stat().st_mode & 0o777 == 0o644


def test_the_program_needs_nothing_but_what_the_role_brings(tmp_path: Path) -> None:
    place = tmp_path / "ansible_collections/kubewright/cluster/plugins/module_utils"
    place.mkdir(parents=True)
    (tmp_path / "ansible_collections/__init__.py").write_text("")
    variables = (ROOT / "roles/kube_metrics_door/vars/main.yml").read_text()
    for name in ("_host_certificates", "_x509"):
        assert name in variables
        shutil.copy(ROOT / "plugins/module_utils" / f"{name}.py", place)
    done = subprocess.run(
        [sys.executable, "-I", FILES / "host_metrics.py", str(tmp_path), "--root", str(tmp_path)],
        env={"KUBEWRIGHT_LIBRARY": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
