# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials with real keys by openssl; only the cluster that signs is a fake, with a real authority."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils import _credentials
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    CommandError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_request

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make keys")

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


class Command:
    """Runs programs as AnsibleModule.run_command does, and keeps what could be seen of them from outside."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        done = subprocess.run(argv, input=options.get("data"), capture_output=True, text=True)
        self.seen.append(" ".join(argv) + json.dumps(options))
        return done.returncode, done.stdout, done.stderr


class FakeCluster:
    """Signs approved requests with an authority of its own, `delay` looks after the approval."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.delay = 2
        self.condition: dict[str, str] | None = None
        self.held: dict[str, Any] | None = None
        self.asked: list[str] = []
        self.delete_fails = False
        argv = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        argv += ["-subj", "/CN=kubernetes", "-keyout", "ca.key", "-out", "ca.crt"]
        subprocess.run(argv, cwd=folder, check=True, capture_output=True)

    def request(self, method: str, path: str, *, body: Any) -> Any:
        self.asked.append(f"{method} {path}")
        if method == "POST" and path == REQUESTS:
            self.held = {**body, "metadata": {**body["metadata"], "name": "kubewright-access-x1"}}
        elif method == "PUT" and path == f"{REQUESTS}/kubewright-access-x1/approval":
            assert self.held and body["spec"] == self.held["spec"]
            self.held = body
        else:
            raise AssertionError(path)
        return self.held

    def get(self, path: str) -> Any:
        assert path == f"{REQUESTS}/kubewright-access-x1" and self.held
        conditions = self.held["status"]["conditions"]
        assert conditions[0]["type"] == "Approved"
        if self.condition:
            return {**self.held, "status": {"conditions": [*conditions, self.condition]}}
        self.delay -= 1
        if self.delay < 0:
            return {**self.held, "status": {"conditions": conditions, "certificate": self.signed()}}
        return self.held

    def delete(self, path: str) -> None:
        self.asked.append(f"DELETE {path}")
        if self.delete_fails:
            raise ApiError("DELETE was refused", status=500, transient=True)

    def signed(self) -> str:
        assert self.held
        request = base64.b64decode(self.held["spec"]["request"])
        argv = [
            "openssl",
            "x509",
            "-req",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "90",
        ]
        done = subprocess.run(argv, cwd=self.folder, input=request, check=True, capture_output=True)
        return base64.b64encode(done.stdout).decode()


@pytest.fixture
def cluster(tmp_path: Path) -> FakeCluster:
    return FakeCluster(tmp_path)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, clock=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def issue(cluster: FakeCluster, request: str, seconds: float = 60) -> str:
    deadline = Clock().deadline(seconds)
    return _credentials.issue_certificate(cluster, request, "person/jane", 7776000, deadline)  # type: ignore[arg-type]


def test_a_key_and_a_request_that_belong_together() -> None:
    command = Command()
    name, groups = "jane+x@example.com", ["dev:team", "ops", "9-to-5"]
    key, request = _credentials.make_request(Runner(command), name, groups)
    read = parse_request(request)
    assert (read.subject_cn, read.subject_orgs, read.subject_other) == (name, groups, [])
    assert (read.extensions, read.dns_names) == ([], [])
    publics = [
        subprocess.run(["openssl", *argv], input=text, capture_output=True, text=True, check=True).stdout
        for argv, text in ((["pkey", "-pubout"], key), (["req", "-noout", "-pubkey"], request))
    ]
    assert publics[0] == publics[1]
    assert "PUBLIC KEY" in publics[0]
    assert not any(key.split()[3] in seen for seen in command.seen)
    assert _credentials.make_request(Runner(command), name, groups)[0] != key


def test_openssl_that_fails_shows_nothing() -> None:
    secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n"
    with pytest.raises(CommandError) as failed:
        _credentials.make_request(Runner(lambda argv, **_options: (1, secret, secret)), "jane", [])
    assert "c2VjcmV0" not in str(failed.value) + json.dumps(failed.value.facts)
    with pytest.raises(KubewrightError, match="made no key and request") as odd:
        _credentials.make_request(Runner(lambda argv, **_options: (0, secret, secret)), "jane", [])
    assert "c2VjcmV0" not in str(odd.value) + json.dumps(odd.value.facts)


def test_a_certificate_is_asked_for_approved_fetched_and_its_request_removed(cluster: FakeCluster) -> None:
    _key, request = _credentials.make_request(Runner(Command()), "jane", ["ops"])
    certificate = issue(cluster, request)
    assert cluster.held is not None
    assert cluster.held["spec"] == {
        "request": base64.b64encode(request.encode()).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client",
        "expirationSeconds": 7776000,
        "usages": ["client auth", "digital signature"],
    }
    assert cluster.asked == [
        f"POST {REQUESTS}",
        f"PUT {REQUESTS}/kubewright-access-x1/approval",
        f"DELETE {REQUESTS}/kubewright-access-x1",
    ]
    until = _credentials.check_certificate(certificate, "jane", ["ops"])
    assert 89 <= (until - datetime.now(timezone.utc)).days <= 90


@pytest.mark.parametrize(("name", "groups"), [("joe", ["ops"]), ("jane", []), ("jane", ["ops", "x"])])
def test_a_certificate_for_somebody_else(cluster: FakeCluster, name: str, groups: list[str]) -> None:
    _key, request = _credentials.make_request(Runner(Command()), "jane", ["ops"])
    with pytest.raises(KubewrightError, match="for somebody else"):
        _credentials.check_certificate(issue(cluster, request), name, groups)


@pytest.mark.parametrize("type_", ["Denied", "Failed"])
def test_a_request_that_is_not_signed(cluster: FakeCluster, type_: str) -> None:
    cluster.condition = {"type": type_, "message": "the policy says no"}
    with pytest.raises(KubewrightError, match=f"{type_.lower()} .*the policy says no"):
        issue(cluster, "REQUEST")
    assert cluster.asked[-1].startswith("DELETE")


def test_nobody_signs(cluster: FakeCluster) -> None:
    cluster.delay = 10**6
    cluster.delete_fails = True
    with pytest.raises(
        DeadlineExpired, match="kube-controller-manager to sign the certificate after 60 seconds"
    ):
        issue(cluster, "REQUEST")


def test_a_token() -> None:
    asked = []

    class FakeApi:
        def request(self, method: str, path: str, *, body: Any) -> Any:
            asked.append((method, path, body["spec"]))
            return {"status": {"token": "t0k3n", "expirationTimestamp": "2026-05-01T00:10:00Z"}}

    token, expires = _credentials.issue_token(FakeApi(), "shop", "deployer", 600)  # type: ignore[arg-type]
    assert (token, expires) == ("t0k3n", datetime(2026, 5, 1, 0, 10, tzinfo=timezone.utc))
    assert asked == [
        ("POST", "/api/v1/namespaces/shop/serviceaccounts/deployer/token", {"expirationSeconds": 600})
    ]


def config(namespace: str = "shop") -> dict[str, Any]:
    server = "https://192.0.2.10:8443"
    return _credentials.decoded("example", server, 'CA: "é"\n', "jane@x", {"token": "t"}, namespace)


@pytest.mark.parametrize("namespace", ["shop", ""])
def test_what_is_written_is_what_is_meant(namespace: str) -> None:
    made = config(namespace)
    text = _credentials.rendered(made)
    assert yaml.safe_load(text) == made
    assert not text.startswith(("{", "["))
    assert ("namespace" in made["contexts"][0]["context"]) == bool(namespace)
    assert made["current-context"] == "jane@x@example"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the API server answers to the questions who one is, in their order."""
    queue: list[Any] = []

    class FakeApi:
        def request(self, method: str, path: str, *, body: Any) -> Any:
            assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews")
            answer = queue.pop(0) if len(queue) > 1 else queue[0]
            if isinstance(answer, ApiError):
                raise answer
            return {"status": {"userInfo": {"username": answer}}}

    monkeypatch.setattr(KubeApi, "from_config", lambda *_args, **_options: FakeApi())
    return queue


def prove(seconds: float = 5) -> None:
    _credentials.prove(config(), None, "jane@x", Clock().deadline(seconds))


def test_proof_waits_for_an_api_server_that_does_not_know_yet(answers: list[Any]) -> None:
    answers.extend(
        [ApiError("refused", status=401), ApiError("no answer", status=0, transient=True), "jane@x"]
    )
    prove()
    assert answers == ["jane@x"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("joe", "belongs to somebody else"),
        (ApiError("refused", status=401), "Gave up waiting for the API server to know jane@x"),
        (ApiError("forbidden", status=403), "forbidden"),
    ],
)
def test_proof_fails(answers: list[Any], answer: Any, said: str) -> None:
    answers.append(answer)
    with pytest.raises(KubewrightError, match=said):
        prove()
