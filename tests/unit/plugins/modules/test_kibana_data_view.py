# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kibana_data_view as Ansible calls it, against a stand-in that speaks TLS as Kibana does, which was never run."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils import _kibana
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.modules import kibana_data_view as module

PASSWORD = "not-to-be-seen"
VIEWS = "/api/data_views/data_view"


class FakeKibana(ThreadingHTTPServer):
    """Keeps data views by their paths. Not ready for the first ``starting`` requests."""

    def __init__(self, certificate: Path, base_path: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.base_path = base_path
        self.views: dict[str, dict[str, str]] = {}
        self.writes: list[dict[str, Any]] = []
        self.starting = 0
        self.password = PASSWORD
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust the certificate goes away in the middle of the handshake."""


class Handler(BaseHTTPRequestHandler):
    server: FakeKibana

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any] | None) -> None:
        status, content = self._act(body)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _act(self, body: dict[str, Any] | None) -> tuple[int, Any]:
        kibana = self.server
        kibana.starting -= 1
        if kibana.starting >= 0:
            return 503, {"message": "Kibana server is not ready yet."}
        login = base64.b64encode(f"kubewright:{kibana.password}".encode()).decode()
        if self.headers["Authorization"] != f"Basic {login}":
            return 401, {"statusCode": 401, "error": "Unauthorized", "message": "unable to authenticate user"}
        path = f"{kibana.base_path}{VIEWS}"
        if body is None:
            found = kibana.views.get(self.path.removeprefix(f"{path}/"))
            return (
                (200, {"data_view": found}) if found else (404, {"statusCode": 404, "message": "not found"})
            )
        if self.path != path or not self.headers["kbn-xsrf"]:
            return 400, {"message": "Request must contain a kbn-xsrf header."}
        kibana.writes.append(body)
        kibana.views[body["data_view"]["id"]] = body["data_view"]
        return 200, {"data_view": body["data_view"]}

    def log_message(self, *_words: Any) -> None:
        pass


class FakeKubeApi:
    """The Services and Secrets of the namespace, with the stand-in's address and its authority."""

    def __init__(self, authority: str) -> None:
        self.secrets = {
            "elasticsearch-operator": {"username": "kubewright", "password": PASSWORD},
            "elasticsearch-tls": {"ca.crt": authority},
        }
        self.services = ["elasticsearch", "kibana"]

    def get(self, path: str) -> Any:
        kind, name = path.split("/")[-2:]
        if kind == "services" and name in self.services:
            return {"metadata": {"name": name}, "spec": {"clusterIP": "127.0.0.1"}}
        if kind == "secrets" and name in self.secrets:
            data = {key: base64.b64encode(text.encode()).decode() for key, text in self.secrets[name].items()}
            return {"metadata": {"name": name}, "data": data}
        raise ApiError(f"GET {path} was refused with status 404", status=404, where="https://192.0.2.11:6443")


def make_certificate(folder: Path, name: str) -> Path:
    """One that signs itself, for a name."""
    certificate = folder / f"{name}.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    argv += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2"]
    argv += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    argv += ["-keyout", str(certificate.with_suffix(".key")), "-out", str(certificate)]
    subprocess.run(argv, check=True, capture_output=True)
    return certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), "kibana.logging.svc")


class Bench:
    """A stand-in, the API in front of it, and the module."""

    def __init__(self, kibana: FakeKibana, api: FakeKubeApi, capsys: pytest.CaptureFixture[str]) -> None:
        self.kibana, self.api, self._capsys = kibana, api, capsys

    def run(self, **options: Any) -> dict[str, Any]:
        with patch_module_args(options), pytest.raises(SystemExit):
            module.main()
        out, err = self._capsys.readouterr()
        assert PASSWORD not in out + err
        result: dict[str, Any] = json.loads(out)
        return result


@pytest.fixture
def bench(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Bench]:
    kibana = FakeKibana(certificate)
    api = FakeKubeApi(certificate.read_text())
    monkeypatch.setattr(_kibana, "PORT", kibana.server_address[1])
    monkeypatch.setattr(module.KubeApi, "from_kubeconfig", lambda *_a, **_k: api)
    monkeypatch.setattr(module, "Deadline", lambda seconds: Deadline(seconds, sleep=lambda _s: None))
    yield Bench(kibana, api, capsys)
    kibana.shutdown()
    kibana.server_close()


def test_it_is_made_once_when_kibana_is_ready(bench: Bench) -> None:
    bench.kibana.starting = 3
    first = bench.run()
    view = {"id": "logstash", "title": "logstash-*", "name": "logstash-*", "timeFieldName": "@timestamp"}
    assert (first["changed"], first["action"]) == (True, "created")
    assert bench.kibana.writes == [{"data_view": view, "override": True}]
    second = bench.run()
    assert (second["changed"], second["action"], len(bench.kibana.writes)) == (False, "unchanged", 1)


def test_one_that_shows_other_indices_is_corrected_and_a_name_for_people_is_left_alone(bench: Bench) -> None:
    bench.run()
    bench.kibana.views["logstash"]["name"] = "All our lines"
    assert bench.run()["changed"] is False
    bench.kibana.views["logstash"]["title"] = "filebeat-*"
    found = bench.run()
    assert found["action"] == "changed" and bench.kibana.views["logstash"]["title"] == "logstash-*"
    assert found["diff"]["before"]["title"] == "filebeat-*"


def test_check_mode_makes_none(bench: Bench) -> None:
    assert bench.run(_ansible_check_mode=True)["action"] == "created"
    bench.api.services.remove("kibana")
    assert bench.run(_ansible_check_mode=True)["action"] == "created"
    bench.api.secrets.clear()
    assert bench.run(_ansible_check_mode=True)["action"] == "created"
    assert bench.kibana.writes == []


def test_below_a_base_path(bench: Bench) -> None:
    bench.kibana.base_path = "/tools/kibana"
    assert bench.run(base_path="/tools/kibana")["changed"] is True
    assert bench.run(base_path="/tools/kibana")["changed"] is False


def test_one_that_never_gets_ready(bench: Bench) -> None:
    bench.kibana.starting = 1000
    found = bench.run(timeout=0)
    assert found["failed"] and "Gave up waiting for Kibana to answer" in found["msg"]
    assert "Kibana server is not ready yet" in found["msg"]


def test_a_wrong_password_is_no_reason_to_wait(bench: Bench) -> None:
    bench.kibana.password = "another"
    found = bench.run()
    assert found["failed"] and "status 401" in found["msg"] and "elasticsearch-operator" in found["msg"]


def test_a_certificate_for_another_name(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gets the password who cannot prove to be Kibana."""
    other = make_certificate(tmp_path, "somebody.else.svc")
    stranger = FakeKibana(other)
    monkeypatch.setattr(_kibana, "PORT", stranger.server_address[1])
    bench.api.secrets["elasticsearch-tls"]["ca.crt"] = other.read_text()
    found = bench.run()
    stranger.shutdown()
    stranger.server_close()
    assert found["failed"] and "kibana.logging.svc" in found["msg"] and stranger.writes == []
    assert "run logging.yml" in found["msg"]


def test_there_is_no_kibana(bench: Bench) -> None:
    bench.api.services.remove("kibana")
    assert "404" in bench.run()["msg"]
