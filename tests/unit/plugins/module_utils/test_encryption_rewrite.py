# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _encryption_rewrite
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption_rewrite import (
    Value,
    count,
    encrypted_with,
    observe,
    observe_all,
    read_values,
    settle,
    stale,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

GOALS = {"secrets": "new"}
PREFIX = "/registry"


class FakeEtcd:
    """Answers `etcdctl get FIRST END --limit=N` from a mapping, as etcd does."""

    def __init__(self, **values: bytes) -> None:
        self.values = {
            f"/registry/secrets/{name.replace('__', '/')}": value for name, value in values.items()
        }
        self.calls = 0

    def __call__(self, argv: list[str], **_: Any) -> tuple[int, str, str]:
        self.calls += 1
        words = argv[argv.index("get") :]
        limit = int(words[3].partition("=")[2])
        found = sorted(path for path in self.values if words[1] <= path < words[2])
        shown = [
            {
                "key": base64.b64encode(path.encode()).decode(),
                "value": base64.b64encode(self.values[path]).decode(),
            }
            for path in found[:limit]
        ]
        return 0, json.dumps({"kvs": shown, "more": len(found) > limit, "count": len(found)}), ""

    def client(self) -> EtcdCtl:
        return EtcdCtl(Runner(self), ["https://127.0.0.1:2379"], "ca", "crt", "key")


class FakeApi:
    """Writes an object of a FakeEtcd again with the new key; *trouble* is raised before, a name at a time."""

    server = "https://10.0.0.11:6443"

    def __init__(
        self, etcd: FakeEtcd, trouble: dict[str, list[int]] | None = None, key: bytes = b"new"
    ) -> None:
        self.etcd, self.trouble, self.key = etcd, trouble or {}, key
        self.written: list[str] = []

    def get(self, path: str, **_: Any) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": "7", "name": path}}

    def request(self, method: str, path: str, *, body: Any) -> None:
        assert method == "PUT" and body == self.get(path)
        name = path.rpartition("/")[2]
        statuses = self.trouble.get(name, [])
        if statuses:
            status = statuses.pop(0)
            raise ApiError("refused", status=status, why=f"status {status}", transient=status >= 500)
        stored = path.replace("/api/v1/namespaces/", "").replace("secrets/", "")
        self.etcd.values[f"/registry/secrets/{stored}"] = b"k8s:enc:secretbox:v1:" + self.key + b":\x00\x01"
        self.written.append(name)


def deadline() -> Deadline:
    return Deadline(60, sleep=lambda _seconds: None)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"k8s:enc:secretbox:v1:key-20261121-080000:\x93\xff", "key-20261121-080000"),
        (b"k8s:enc:aescbc:v1:key1:\x93", "aescbc:key1"),
        (b"k8s:enc:kms:v2:vault:\x93", "kms:vault"),
        (b"k8s\x00\n\x0c\n\x02v1\x12\x06Secret", "identity"),
        (b"", "identity"),
    ],
)
def test_what_a_value_is_encrypted_with(value: bytes, key: str) -> None:
    assert encrypted_with(value) == key


def test_all_pages_are_read_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encryption_rewrite, "PAGE", 3)
    etcd = FakeEtcd(**{f"default__s{number:02}": b"" for number in range(10)})
    found = [value.name for value in read_values(etcd.client(), "secrets", PREFIX)]
    assert found == [f"s{number:02}" for number in range(10)]
    assert etcd.calls > 2


def test_other_resources_are_not_read() -> None:
    etcd = FakeEtcd(default__mine=b"")
    etcd.values["/registry/secretsmore/default/other"] = b""
    etcd.values["/registry/configmaps/default/other"] = b""
    assert [value.name for value in read_values(etcd.client(), "secrets", PREFIX)] == ["mine"]


def test_counts_and_what_is_left() -> None:
    etcd = FakeEtcd(
        a__one=b"k8s:enc:secretbox:v1:new:x", a__two=b"k8s:enc:secretbox:v1:old:x", b__three=b"plain"
    )
    values = observe(etcd.client(), ["secrets"], PREFIX)
    assert count(values) == {"secrets": {"identity": 1, "new": 1, "old": 1}}
    assert {value.name for value in stale(values, GOALS)} == {"two", "three"}
    assert stale(values, {"secrets": ""}) == []


def run(etcd: FakeEtcd, api: FakeApi) -> tuple[dict[str, list[Value]], int]:
    values = observe(etcd.client(), ["secrets"], PREFIX)
    return settle(etcd.client(), api, values, GOALS, PREFIX, deadline())  # type: ignore[arg-type]


def test_only_what_is_left_is_written() -> None:
    etcd = FakeEtcd(
        a__done=b"k8s:enc:secretbox:v1:new:x", a__old=b"k8s:enc:secretbox:v1:old:x", b__plain=b"plain"
    )
    api = FakeApi(etcd)
    values, written = run(etcd, api)
    assert sorted(api.written) == ["old", "plain"] and written == 2
    assert count(values) == {"secrets": {"new": 3}}


def test_a_conflict_and_a_restarting_api_server_are_waited_for() -> None:
    etcd = FakeEtcd(a__one=b"plain", a__two=b"plain")
    api = FakeApi(etcd, {"one": [409, 409], "two": [503]})
    assert run(etcd, api)[1] == 2


def test_one_that_was_deleted_meanwhile_is_left_alone() -> None:
    etcd = FakeEtcd(a__gone=b"plain", a__there=b"plain")

    class Deleting(FakeApi):
        def get(self, path: str, **_: Any) -> dict[str, Any]:
            if path.endswith("/gone"):
                etcd.values.pop("/registry/secrets/a/gone", None)
                raise ApiError("gone", status=404)
            return super().get(path)

    assert count(run(etcd, Deleting(etcd))[0]) == {"secrets": {"new": 1}}


def test_one_that_is_refused_keeps_no_other_from_it_and_is_named() -> None:
    etcd = FakeEtcd(a__bad=b"plain", a__good=b"plain")
    api = FakeApi(etcd, {"bad": [403]})
    with pytest.raises(KubewrightError, match=r"1 of 2 .*a/bad: status 403"):
        run(etcd, api)
    assert api.written == ["good"]


def test_etcd_decides_and_not_the_answer_of_the_api_server() -> None:
    """An API server that writes with another key answers 200 all the same."""
    etcd = FakeEtcd(a__one=b"plain")
    with pytest.raises(KubewrightError, match=r"a/one \(old\)"):
        run(etcd, FakeApi(etcd, key=b"old"))


class FakeLister:
    """Lists objects in pages of two as an API server does; *gone* are deleted as soon as they were listed."""

    server = "https://10.0.0.11:6443"

    def __init__(self, *names: str, gone: tuple[str, ...] = (), statuses: tuple[int, ...] = ()) -> None:
        self.names, self.gone, self.statuses = names, gone, list(statuses)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        if self.statuses:
            status = self.statuses.pop(0)
            raise ApiError("refused", status=status, transient=status >= 500)
        if path != "/api/v1/secrets":
            if path.rpartition("/")[2] in self.gone:
                raise ApiError("gone", status=404)
            return {"metadata": {"uid": "another" if path.endswith("/anew") else "u"}}
        begin = int(query["continue"] or 0)
        end = begin + 2
        items = [{"metadata": {"namespace": "a", "name": name, "uid": "u"}} for name in self.names[begin:end]]
        return {"items": items, "metadata": {"continue": str(end) if end < len(self.names) else ""}}


def look(etcd: FakeEtcd, api: FakeLister, prefix: str = PREFIX) -> list[str]:
    values = observe_all(etcd.client(), api, ["secrets"], prefix, deadline())  # type: ignore[arg-type]
    return [value.name for value in values["secrets"]]


def test_values_below_another_prefix_are_found() -> None:
    etcd = FakeEtcd()
    etcd.values = {"/k8s/secrets/a/one": b"plain"}
    assert look(etcd, FakeLister("one"), "/k8s") == ["one"]


def test_values_that_the_api_server_keeps_elsewhere_stop_the_run() -> None:
    """Without this a look at the wrong place in etcd finds nothing to write again, and the old key is dropped."""
    etcd = FakeEtcd(a__one=b"plain", a__two=b"plain")
    with pytest.raises(KubewrightError, match=r"not show all secrets .*/registry/secrets/ .*: a/three\."):
        look(etcd, FakeLister("one", "two", "three"))


def test_what_was_deleted_after_it_was_listed_is_not_missed() -> None:
    assert look(FakeEtcd(a__one=b"plain"), FakeLister("one", "two", gone=("two",))) == ["one"]
    assert look(FakeEtcd(a__one=b"plain"), FakeLister("one", "anew")) == ["one"]


def test_an_api_server_that_restarts_is_asked_again() -> None:
    assert look(FakeEtcd(a__one=b"plain"), FakeLister("one", statuses=(503, 503))) == ["one"]


def test_a_value_that_the_api_server_cannot_decrypt_is_left_to_the_plan_unless_etcd_shows_none() -> None:
    assert look(FakeEtcd(a__lost=b"k8s:enc:secretbox:v1:lost:x"), FakeLister(statuses=(500,))) == ["lost"]
    with pytest.raises(KubewrightError, match="some that it cannot read"):
        look(FakeEtcd(), FakeLister(statuses=(500,)))
