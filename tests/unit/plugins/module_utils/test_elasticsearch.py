# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of Elasticsearch against a real TLS server that answers from a script."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch as elasticsearch
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_pki as pki
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make certificates")

NAME = "elasticsearch.logging.svc"
PASSWORD = "s3cret"


def shell(argv: list[str], *, data: str | None = None, **_: Any) -> tuple[int, str, str]:
    done = subprocess.run(argv, input=data, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def make_pair(name: str) -> tuple[str, str, str]:
    """Return an authority, and a certificate of it with its key."""
    runner = Runner(shell)
    key, authority_key = pki.new_key(runner), pki.new_key(runner)
    authority = pki.new_authority(runner, authority_key, "Logging")
    leaf = pki.Leaf((name,), for_clients=False)
    return (
        authority,
        pki.issue(runner, authority, authority_key, leaf, key, 30, datetime.now(timezone.utc)),
        key,
    )


class FakeElasticsearch:
    """Answers with ``answer(method, path)`` to whom it knows, and keeps what it was asked."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self.authority, certificate, key = make_pair(name)
        (folder / "pair").write_text(certificate + key)
        self.requests: list[dict[str, Any]] = []
        self.answer: Callable[[str, str], tuple[int, Any]] = lambda method, path: (200, {"ok": True})
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                outer.requests.append(
                    {"method": self.command, "path": self.path, "body": body, "headers": dict(self.headers)}
                )
                status, content = outer.answer(self.command, self.path)
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = handle_one

            def log_message(self, format: str, *args: Any) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "pair")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class FakeKubeApi:
    """Has the Service and the Secrets of a logging namespace."""

    def __init__(self, authority: str) -> None:
        self.items: dict[str, dict[str, Any]] = {
            "services/elasticsearch": {"spec": {"clusterIP": "127.0.0.1"}},
            "secrets/elasticsearch-operator": secret(username="kubewright", password=PASSWORD),
            "secrets/elasticsearch-tls": secret(**{"ca.crt": authority}),
        }

    def get(self, path: str) -> dict[str, Any]:
        key = path.removeprefix("/api/v1/namespaces/logging/")
        if key not in self.items:
            raise ApiError(f"GET {path} was refused with status 404", status=404, reason="NotFound")
        return {"metadata": {"name": key.partition("/")[2]}, **self.items[key]}


def secret(**texts: str) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeElasticsearch]:
    made = FakeElasticsearch(tmp_path_factory.mktemp("server"))
    yield made
    made.close()


@pytest.fixture
def server(shared: FakeElasticsearch, monkeypatch: pytest.MonkeyPatch) -> FakeElasticsearch:
    shared.requests.clear()
    shared.answer = lambda method, path: (200, {"ok": True})
    monkeypatch.setattr(elasticsearch, "PORT", shared.port)
    return shared


def client(server: FakeElasticsearch, **items: Any) -> elasticsearch.Elasticsearch:
    api = FakeKubeApi(server.authority)
    api.items.update(items)
    return elasticsearch.Elasticsearch.from_cluster(api, "logging", timeout=5)


def test_a_request_goes_to_the_address_and_verifies_the_name(server: FakeElasticsearch) -> None:
    found = client(server).get("/_cluster/health", flat_settings=True, level=None)
    assert found == {"ok": True}
    (request,) = server.requests
    assert (request["method"], request["path"]) == ("GET", "/_cluster/health?flat_settings=true")
    pair = base64.b64decode(request["headers"]["Authorization"].removeprefix("Basic ")).decode()
    assert pair == f"kubewright:{PASSWORD}"


def test_a_search_has_a_body_and_a_write_is_a_step(server: FakeElasticsearch, run_log: Path) -> None:
    asked = client(server)
    asked.request("GET", "/logstash-*/_search", {"size": 1})
    assert json.loads(server.requests[0]["body"]) == {"size": 1} and not run_log.exists()
    asked.request("PUT", "/_cluster/settings", {"persistent": {}})
    lines = [json.loads(line) for line in run_log.read_text().splitlines()]
    assert [line["api"] for line in lines] == [f"PUT https://{NAME}:{server.port}/_cluster/settings"] * 2
    assert lines[1]["rc"] == 200 and PASSWORD not in run_log.read_text()


def test_a_text_is_returned_as_it_is(server: FakeElasticsearch) -> None:
    server.answer = lambda method, path: (200, "green\n")
    assert client(server).get("/_cat/health") == "green\n"


def test_what_elasticsearch_does_not_have(server: FakeElasticsearch) -> None:
    error = {"type": "resource_not_found_exception", "reason": "no such policy"}
    server.answer = lambda method, path: (404, {"error": error, "status": 404})
    assert client(server).find("/_ilm/policy/x") is None
    with pytest.raises(elasticsearch.ElasticsearchError) as caught:
        client(server).get("/_ilm/policy/x")
    assert (caught.value.status, caught.value.reason, caught.value.transient) == (404, error["type"], False)
    assert "no such policy" in str(caught.value) and NAME in str(caught.value)


def test_no_handler_is_said_as_a_text(server: FakeElasticsearch) -> None:
    server.answer = lambda method, path: (
        400,
        {"error": "no handler found for uri [/_ilm/policy/x]", "status": 400},
    )
    with pytest.raises(elasticsearch.ElasticsearchError, match="no handler found") as caught:
        client(server).find("/_ilm/policy/x")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("status", "transient"), [(429, True), (503, True), (500, True), (403, False), (409, False)]
)
def test_what_may_pass(server: FakeElasticsearch, status: int, transient: bool) -> None:
    server.answer = lambda method, path: (status, {"error": {"type": "x", "reason": "y"}})
    with pytest.raises(elasticsearch.ElasticsearchError) as caught:
        client(server).get("/")
    assert (caught.value.status, caught.value.transient) == (status, transient)


def test_a_wrong_password_says_which_secrets_to_compare(server: FakeElasticsearch) -> None:
    server.answer = lambda method, path: (
        401,
        {"error": {"type": "security_exception", "reason": "unable to"}},
    )
    with pytest.raises(elasticsearch.ElasticsearchError) as caught:
        client(server).get("/")
    said = str(caught.value)
    assert "elasticsearch-operator" in said and "elasticsearch-realm" in said and PASSWORD not in said


def test_a_foreign_authority_is_refused_for_good(server: FakeElasticsearch) -> None:
    asked = client(server, **{"secrets/elasticsearch-tls": secret(**{"ca.crt": make_pair(NAME)[0]})})
    with pytest.raises(elasticsearch.ElasticsearchError, match="certificate verify failed") as caught:
        asked.get("/")
    assert (caught.value.status, caught.value.reason, caught.value.transient) == (0, "Unverified", False)
    assert server.requests == []  # The password was not sent.


def test_another_name_is_refused_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = FakeElasticsearch(tmp_path, "elasticsearch.other.svc")
    monkeypatch.setattr(elasticsearch, "PORT", other.port)
    try:
        with pytest.raises(elasticsearch.ElasticsearchError, match=r"[Hh]ostname mismatch") as caught:
            client(other).get("/")
    finally:
        other.close()
    assert not caught.value.transient and other.requests == []


def test_nobody_there_may_pass(server: FakeElasticsearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elasticsearch, "PORT", 1)
    with pytest.raises(elasticsearch.ElasticsearchError, match="kube-proxy") as caught:
        client(server).get("/")
    assert (caught.value.status, caught.value.transient) == (0, True)


@pytest.mark.parametrize(
    "missing", ["services/elasticsearch", "secrets/elasticsearch-operator", "secrets/elasticsearch-tls"]
)
def test_what_is_missing_in_the_namespace_is_named(server: FakeElasticsearch, missing: str) -> None:
    api = FakeKubeApi(server.authority)
    del api.items[missing]
    with pytest.raises(
        ApiError, match=f"There is no S[a-z]+ logging/{missing.partition('/')[2]}.*logging.yml"
    ) as caught:
        elasticsearch.Elasticsearch.from_cluster(api, "logging")
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("item", "value", "told"),
    [
        ("services/elasticsearch", {"spec": {"clusterIP": "None"}}, "has no address"),
        ("secrets/elasticsearch-operator", secret(username="kubewright"), "no password that can be read"),
        ("secrets/elasticsearch-operator", {"data": {"username": "eA==", "password": "//4="}}, "no password"),
        (
            "secrets/elasticsearch-tls",
            secret(**{"ca.crt": "nonsense"}),
            "authority of Elasticsearch cannot be read",
        ),
    ],
)
def test_what_is_broken_in_the_namespace_is_named(
    server: FakeElasticsearch, item: str, value: dict[str, Any], told: str
) -> None:
    with pytest.raises(KubewrightError, match=told):
        client(server, **{item: value})
