# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority of the doors, with the real openssl and a fake API that holds Secrets."""

from __future__ import annotations

import base64
import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _metrics_door as metrics_door
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_pki import now
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate
from ansible_collections.kubewright.cluster.plugins.modules import etcd_certificates, metrics_door_authority

SECRETS = "/api/v1/namespaces/{}/secrets"
AUTHORITY = f"{SECRETS.format('kube-system')}/{metrics_door.NAME}"
READER = f"{SECRETS.format('monitoring')}/{metrics_door.NAME}"
RAN: list[list[str]] = []


def run_command(argv: list[str], **options: Any) -> tuple[int, str, str]:
    RAN.append(argv)
    done = subprocess.run(
        argv,
        input=options.get("data"),
        capture_output=True,
        text=True,
        env={**os.environ, **options["environ_update"]},
    )
    return done.returncode, done.stdout, done.stderr


class FakeApi:
    """Holds Secrets by their paths, in the namespaces that it has. Remembers what was written."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.written: list[str] = []
        self.namespaces = {"kube-system", "monitoring"}
        self.faster: dict[str, Any] | None = None

    def get(self, path: str) -> Any:
        if path not in self.held:
            raise ApiError("GET was refused", status=404, reason="NotFound")
        return self.held[path]

    def request(self, method: str, path: str, *, body: Any) -> Any:
        assert method == "POST"
        path = f"{path}/{body['metadata']['name']}"
        if self.faster:
            self.held[path] = self.faster
        if path in self.held:
            raise ApiError("POST was refused", status=409, reason="AlreadyExists")
        self.held[path] = body
        self.written.append(path)

    def apply(self, path: str, body: Any, field_manager: str) -> Any:
        assert path == f"{SECRETS.format(body['metadata']['namespace'])}/{body['metadata']['name']}"
        if body["metadata"]["namespace"] not in self.namespaces:
            raise ApiError("PATCH was refused", status=404, reason="NotFound", why="namespaces not found")
        self.held[path] = body
        self.written.append(path)

    def data(self, path: str, key: str) -> str:
        return base64.b64decode(self.held[path]["data"][key]).decode()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(metrics_door_authority, "RUN", str(tmp_path / "run"))
    return FakeApi()


def work(api: FakeApi, act: bool = True, **options: Any) -> dict[str, Any]:
    defaults = {name: one.get("default") for name, one in metrics_door_authority.ARGUMENTS.items()}
    result = metrics_door_authority.work({**defaults, **options}, api, Runner(run_command), act=act)  # type: ignore[arg-type]
    assert list(Path(metrics_door_authority.RUN).iterdir()) == [], "what was needed to sign is gone"
    return result


def reader(**options: Any) -> dict[str, Any]:
    return {"namespace": "monitoring", "name": metrics_door.NAME, "files": {}, "serves": [], **options}


def test_one_authority_for_all_times(api: FakeApi) -> None:
    first = work(api)
    assert first["created"] and first["changed"] and api.written == [AUTHORITY]
    again = work(api)
    assert not again["changed"] and again["certificate"] == first["certificate"]
    assert api.data(AUTHORITY, "ca.crt") == first["certificate"]
    assert "PRIVATE KEY" in api.data(AUTHORITY, "ca.key")
    life = parse_certificate(first["certificate"])
    assert life.subject_cn == "kubewright-metrics-door"
    assert life.not_after - now() > timedelta(days=3640)


def test_check_mode_makes_nothing(api: FakeApi) -> None:
    told = work(api, act=False, readers=[reader()], requests={})
    assert told["changed"] and told["created"] and told["certificate"] == ""
    assert told["readers"] == [{"namespace": "monitoring", "name": metrics_door.NAME, "action": "created"}]
    work(api)
    assert work(api, act=False, readers=[reader()])["readers"][0]["action"] == "created"
    assert api.written == [AUTHORITY]


def test_who_was_faster_by_a_moment_has_made_the_authority(api: FakeApi) -> None:
    other = FakeApi()
    theirs = work(other)
    api.faster = other.held[AUTHORITY]
    ours = work(api)
    assert ours["certificate"] == theirs["certificate"] and not ours["created"]


def test_a_host_gets_a_certificate_by_a_request_and_its_key_stays(api: FakeApi, tmp_path: Path) -> None:
    leaf = {
        "name": "cp1",
        "cert": str(tmp_path / "tls.crt"),
        "key": str(tmp_path / "tls.key"),
        "common_name": "cp1",
        "usages": ["server"],
        "dns_names": ["cp1"],
        "ip_addresses": ["192.0.2.11", "fd00::11"],
    }
    defaults = {name: one.get("default") for name, one in etcd_certificates.ARGUMENTS.items()}
    host = {
        **defaults,
        "ca_cert": str(tmp_path / "ca.crt"),
        "leaves": [leaf],
        "owner": str(os.getuid()),
        "group": str(os.getgid()),
    }
    authority = work(api)["certificate"]
    asked = etcd_certificates.work({**host, "authority": authority}, Runner(run_command), act=True)
    signed = work(api, requests=asked["requests"], leaves=[leaf])
    host = {**host, "authority": authority, "certificates": signed["certificates"]}
    assert etcd_certificates.work(host, Runner(run_command), act=True)["installed"] == [leaf["cert"]]
    with pytest.raises(KubewrightError, match="Nobody may ask for 'cp2'"):
        work(api, requests={"cp2": asked["requests"]["cp1"]}, leaves=[leaf])


def test_a_reader_gets_what_prometheus_needs(api: FakeApi) -> None:
    told = work(api, readers=[reader(files={"scrape.yaml": "- job_name: etcd\n"})])
    assert told["readers"][0]["action"] == "created"
    held = api.held[READER]
    assert held["type"] == "kubernetes.io/tls"
    assert set(held["data"]) == {"tls.crt", "tls.key", "ca.crt", "scrape.yaml"}
    assert api.data(READER, "ca.crt") == told["certificate"]
    life = parse_certificate(api.data(READER, "tls.crt"))
    assert life.subject_cn == "kubewright-metrics-reader"
    assert timedelta(days=1090) < life.not_after - now() < timedelta(days=1096)
    # The same again changes nothing.
    again = work(api, readers=[reader(files={"scrape.yaml": "- job_name: etcd\n"})])
    assert not again["changed"] and api.written == [AUTHORITY, READER]


def test_a_server_gets_a_certificate_that_opens_no_door(api: FakeApi, tmp_path: Path) -> None:
    names = ["metrics-server.kube-system.svc", "metrics-server.kube-system.svc.cluster.local"]
    options = {"readers": [reader(serves=names)]}
    work(api, **options)
    assert parse_certificate(api.data(READER, "tls.crt")).dns_names == names
    (tmp_path / "tls.crt").write_text(api.data(READER, "tls.crt"))
    argv = ["openssl", "x509", "-in", str(tmp_path / "tls.crt"), "-noout", "-ext", "extendedKeyUsage"]
    usage = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "Server Authentication" in usage and "Client" not in usage
    assert not work(api, **options)["changed"]
    # Another name is another certificate.
    assert work(api, readers=[reader(serves=["other.svc"])])["changed"]


def test_other_files_keep_the_certificate(api: FakeApi) -> None:
    work(api, readers=[reader(files={"scrape.yaml": "old"})])
    before = api.data(READER, "tls.crt")
    assert work(api, readers=[reader(files={"scrape.yaml": "new"})])["readers"][0]["action"] == "changed"
    assert api.data(READER, "tls.crt") == before and api.data(READER, "scrape.yaml") == "new"


@pytest.mark.parametrize("fault", ["ends", "another_authority", "another_key", "rubbish"])
def test_a_certificate_that_is_not_good_is_replaced(api: FakeApi, fault: str) -> None:
    work(api, readers=[reader()], days=30 if fault == "ends" else 1095, renew_days=0)
    before = api.data(READER, "tls.crt"), api.data(READER, "tls.key")
    if fault == "another_authority":
        del api.held[AUTHORITY]
    elif fault == "another_key":
        other = FakeApi()
        work(other, readers=[reader()])
        api.held[READER]["data"]["tls.key"] = other.held[READER]["data"]["tls.key"]
    elif fault == "rubbish":
        api.held[READER]["data"]["tls.crt"] = base64.b64encode(b"no certificate").decode()
    assert work(api, act=False, readers=[reader()])["readers"][0]["action"] == "changed"
    assert work(api, readers=[reader()])["readers"][0]["action"] == "changed"
    after = api.data(READER, "tls.crt"), api.data(READER, "tls.key")
    assert after[0] != before[0] and after[1] != before[1]
    assert not work(api, readers=[reader()])["changed"]


def test_a_namespace_that_is_missing_is_named(api: FakeApi) -> None:
    with pytest.raises(KubewrightError, match="Make the namespace nowhere first") as caught:
        work(api, readers=[reader(namespace="nowhere")])
    assert "PRIVATE" not in str(caught.value)


def test_an_authority_without_its_key_is_refused(api: FakeApi) -> None:
    work(api)
    del api.held[AUTHORITY]["data"]["ca.key"]
    with pytest.raises(KubewrightError, match="Delete the Secret and run again"):
        work(api)


def test_no_key_is_ever_an_argument() -> None:
    assert RAN and not [word for argv in RAN for word in argv if "PRIVATE" in word]
