# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Secrets of a logging namespace, with the openssl of this machine and a fake API server."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_pki as pki
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_realm as realm
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_secrets as secrets
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")

NOW = datetime.now(timezone.utc)
BASE = "/api/v1/namespaces/logging/secrets"
Held = dict[str, secrets.Held]


class FakeKubeApi:
    """Keeps Secrets, counts versions, and refuses what is not newest."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        self.version = 0
        self.errors: list[ApiError] = []

    def get(self, path: str) -> dict[str, Any]:
        name = path.removeprefix(f"{BASE}/")
        if name not in self.held:
            raise ApiError("GET was refused", status=404, reason="NotFound")
        return json.loads(json.dumps(self.held[name]))

    def request(self, method: str, path: str, *, body: dict[str, Any], query: dict[str, Any]) -> None:
        assert query == {"fieldManager": "kubewright"}
        if self.errors:
            raise self.errors.pop(0)
        about = body["metadata"]
        exists = about["name"] in self.held
        assert (method, path) == (("PUT", f"{BASE}/{about['name']}") if exists else ("POST", BASE))
        if exists and self.held[about["name"]]["metadata"]["resourceVersion"] != about["resourceVersion"]:
            raise ApiError("PUT was refused", status=409, reason="Conflict")
        self.version += 1
        self.writes.append(about["name"])
        stored = {**body, "metadata": {**about, "resourceVersion": str(self.version)}}
        self.held[about["name"]] = stored

    def edit(self, name: str, **texts: str | None) -> None:
        data = self.held[name]["data"]
        for key, text in texts.items():
            data.pop(key.replace("_", "."), None)
            if text is not None:
                data[key.replace("_", ".")] = base64.b64encode(text.encode()).decode()

    def text(self, name: str, key: str) -> str:
        return base64.b64decode(self.held[name]["data"][key]).decode()

    def texts(self) -> set[str]:
        """Everything that must not be seen: keys, passwords and tokens."""
        found = {
            self.text(name, "password") for name in (secrets.OPERATOR, secrets.PERSON, secrets.COLLECTOR)
        }
        found |= {self.text(secrets.KIBANA_KEYS, key) for key in self.held[secrets.KIBANA_KEYS]["data"]}
        found |= {self.text(secrets.KIBANA, "token"), realm.token_secret(self.text(secrets.KIBANA, "token"))}
        keys = [(secrets.AUTHORITY, "ca.key"), (secrets.TLS, "tls.key"), (secrets.KIBANA_TLS, "tls.key")]
        return found | {self.text(*key).splitlines()[1] for key in keys}


def shell(argv: list[str], *, data: str | None = None, **_: Any) -> tuple[int, str, str]:
    done = subprocess.run(argv, input=data, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


RUNNER = Runner(shell)


class Run:
    """One run of the module's work."""

    def __init__(self, api: FakeKubeApi, now: datetime = NOW, check: bool = False) -> None:
        held = secrets.observe(api, "logging")
        self.verdicts = secrets.judge(held, "logging", now)
        data = secrets.make(held, self.verdicts, RUNNER, "logging", 300, now)
        if not check:
            deadline = Deadline(5, sleep=lambda seconds: None)
            secrets.apply(api, "logging", held, self.verdicts, data, deadline, "kubewright")
        self.digests = secrets.digests(data)
        self.ends = secrets.ends(data)
        self.diff = secrets.diff(held, self.verdicts, data)

    @property
    def touched(self) -> dict[str, str]:
        return {one.name: one.action for one in self.verdicts if one.action != "unchanged"}

    def reasons(self, name: str) -> str:
        return " ".join(next(one.reasons for one in self.verdicts if one.name == name))


@pytest.fixture
def api() -> FakeKubeApi:
    made = FakeKubeApi()
    Run(made)
    made.writes.clear()
    return made


def test_everything_is_made_once_and_kept() -> None:
    api = FakeKubeApi()
    foretold = Run(api, check=True)
    assert foretold.touched == dict.fromkeys(secrets.NAMES, "created") and not api.held
    assert Run(api).touched == foretold.touched and set(api.held) == set(secrets.NAMES)
    first = Run(api)
    assert first.touched == {} and first.diff == {"before": "", "after": ""}
    for at, check in ((timedelta(days=199), False), (timedelta(0), True)):
        again = Run(api, NOW + at, check)
        assert (again.touched, again.digests, again.ends) == ({}, first.digests, first.ends)
    assert len(api.writes) == len(secrets.NAMES)


def test_secrets_have_what_the_pods_want(api: FakeKubeApi) -> None:
    keys = {name: set(item["data"]) for name, item in api.held.items()}
    pair = {"username", "password"}
    assert keys == {
        "elasticsearch-authority": {"ca.crt", "ca.key"},
        "elasticsearch-tls": {"ca.crt", "tls.crt", "tls.key"},
        "kibana-tls": {"ca.crt", "tls.crt", "tls.key"},
        "elasticsearch-operator": pair,
        "elasticsearch-person": pair,
        "collector-elasticsearch": {*pair, "ca.crt"},
        "kibana-elasticsearch": {"token", "ca.crt"},
        "kibana-keys": {"security", "encryptedSavedObjects", "reporting"},
        "elasticsearch-realm": {"users", "users_roles", "roles.yml", "service_tokens"},
    }
    labels = {name: item["metadata"]["labels"]["app.kubernetes.io/name"] for name, item in api.held.items()}
    assert {labels[secrets.TLS], labels[secrets.KIBANA], labels[secrets.COLLECTOR]} == {
        "elasticsearch",
        "kibana",
        "collector",
    }
    authority = api.text(secrets.AUTHORITY, "ca.crt")
    assert {api.text(name, "ca.crt") for name in (secrets.TLS, secrets.KIBANA_TLS, secrets.COLLECTOR)} == {
        authority
    }
    names = parse_certificate(api.text(secrets.TLS, "tls.crt")).dns_names
    assert {"elasticsearch", "elasticsearch.logging.svc", "localhost"} <= set(names)
    assert "kibana.logging.svc" in parse_certificate(api.text(secrets.KIBANA_TLS, "tls.crt")).dns_names


def test_the_longest_namespace_gets_certificates() -> None:
    """A common name has at most 64 characters."""
    leaf = secrets.leaves("n" * 63)[secrets.TLS]
    key = pki.new_key(RUNNER)
    authority = pki.new_authority(RUNNER, key, "Logging")
    signed = pki.issue(RUNNER, authority, key, leaf, pki.new_key(RUNNER), 300, NOW)
    assert f"elasticsearch.{'n' * 63}.svc" in parse_certificate(signed).dns_names


def test_certificates_in_the_last_third_are_renewed_by_the_same_authority(api: FakeKubeApi) -> None:
    before = json.loads(json.dumps(api.held))
    digests = Run(api).digests
    later = Run(api, NOW + timedelta(days=201))
    assert later.touched == {secrets.TLS: "changed", secrets.KIBANA_TLS: "changed"}
    assert later.reasons(secrets.TLS).startswith("certificate: it ends on")
    for name in (secrets.TLS, secrets.KIBANA_TLS):
        assert api.held[name]["data"]["tls.crt"] != before[name]["data"]["tls.crt"]
        assert api.held[name]["data"]["tls.key"] != before[name]["data"]["tls.key"]
        assert api.held[name]["data"]["ca.crt"] == before[name]["data"]["ca.crt"]
    changed = {name for name in secrets.NAMES if later.digests[name] != digests[name]}
    assert changed == {secrets.TLS, secrets.KIBANA_TLS}


def test_an_authority_in_its_last_third_keeps_its_key(api: FakeKubeApi) -> None:
    # Real certificates cannot begin in the past here, so the clock goes: leaves are renewed on the way.
    key = api.text(secrets.AUTHORITY, "ca.key")
    late = Run(api, NOW + timedelta(days=3650 * 2 / 3 + 1))
    assert late.touched[secrets.AUTHORITY] == "changed" and api.text(secrets.AUTHORITY, "ca.key") == key
    certificate = api.text(secrets.AUTHORITY, "ca.crt")
    assert {api.text(name, "ca.crt") for name in (secrets.TLS, secrets.COLLECTOR, secrets.KIBANA)} == {
        certificate
    }
    # Who reads the certificate at the start is started again.
    assert {secrets.COLLECTOR, secrets.KIBANA} <= set(late.touched)
    assert not {secrets.OPERATOR, secrets.PERSON, secrets.KIBANA_KEYS, secrets.REALM} & set(late.touched)


def test_what_is_missing_is_completed_and_the_rest_stays(api: FakeKubeApi) -> None:
    before = json.loads(json.dumps(api.held))
    del api.held[secrets.KIBANA_KEYS]
    api.edit(secrets.COLLECTOR, password=None)
    run = Run(api)
    assert run.touched == {
        secrets.KIBANA_KEYS: "created",
        secrets.COLLECTOR: "changed",
        secrets.REALM: "changed",
    }
    assert run.reasons(secrets.COLLECTOR) == "password: there is none"
    for name in (secrets.AUTHORITY, secrets.TLS, secrets.OPERATOR, secrets.KIBANA):
        assert api.held[name]["data"] == before[name]["data"]
    # The hashes of the others stay, so nobody else has to log in anew.
    old = base64.b64decode(before[secrets.REALM]["data"]["users"]).decode().splitlines()
    new = api.text(secrets.REALM, "users").splitlines()
    assert old[:2] == new[:2] and old[2] != new[2]
    assert Run(api).touched == {}


def test_a_password_that_somebody_changed_is_taken_over(api: FakeKubeApi) -> None:
    digests = Run(api).digests
    api.edit(secrets.PERSON, password="chosen by hand")
    foretold = Run(api, check=True)
    run = Run(api)
    assert run.touched == foretold.touched == {secrets.REALM: "changed"}
    assert realm.verifies("chosen by hand", realm.hash_of("elastic-admin", api.text(secrets.REALM, "users")))
    changed = {name for name in secrets.NAMES if run.digests[name] != digests[name]}
    assert changed == {secrets.PERSON, secrets.REALM}


def test_a_foreign_certificate_is_replaced(api: FakeKubeApi) -> None:
    other = FakeKubeApi()
    Run(other)
    api.held[secrets.TLS]["data"] = other.held[secrets.TLS]["data"]
    run = Run(api)
    assert run.touched == {secrets.TLS: "changed"}
    assert "certificate: " in run.reasons(secrets.TLS) and "ca.crt: " in run.reasons(secrets.TLS)
    assert Run(api).touched == {}


def test_a_lost_authority_costs_all_certificates_and_no_password(api: FakeKubeApi) -> None:
    del api.held[secrets.AUTHORITY]
    run = Run(api)
    assert set(run.touched) == {
        secrets.AUTHORITY,
        secrets.TLS,
        secrets.KIBANA_TLS,
        secrets.COLLECTOR,
        secrets.KIBANA,
    }
    assert "the authority is new" in run.reasons(secrets.TLS)
    assert Run(api).touched == {}


@pytest.mark.parametrize("broken", [{"ca_key": None}, {"ca_crt": "nonsense"}, {"ca_key": "nonsense"}])
def test_a_broken_authority_is_not_replaced_without_being_asked(
    api: FakeKubeApi, broken: dict[str, str | None]
) -> None:
    api.edit(secrets.AUTHORITY, **broken)
    with pytest.raises(KubewrightError, match="authority of the logging cannot be used") as caught:
        Run(api)
    assert "delete the Secret" in str(caught.value) and not api.writes


def test_labels_and_annotations_of_others_stay(api: FakeKubeApi) -> None:
    about = api.held[secrets.REALM]["metadata"]
    about["labels"]["team"], about["annotations"] = "x", {"note": "y"}
    api.edit(secrets.REALM, users="broken")
    Run(api)
    about = api.held[secrets.REALM]["metadata"]
    assert about["labels"]["team"] == "x" and about["annotations"] == {"note": "y"}


def test_a_text_that_is_none_counts_as_missing(api: FakeKubeApi) -> None:
    api.held[secrets.OPERATOR]["data"]["password"] = base64.b64encode(b"\xff\xfe").decode()
    assert set(Run(api).touched) == {secrets.OPERATOR, secrets.REALM}


def test_two_runs_at_once(api: FakeKubeApi) -> None:
    api.edit(secrets.REALM, users="broken")
    held = secrets.observe(api, "logging")
    verdicts = secrets.judge(held, "logging", NOW)
    data = secrets.make(held, verdicts, RUNNER, "logging", 300, NOW)
    Run(api)
    with pytest.raises(ApiError, match="Somebody else wrote the Secret") as caught:
        secrets.apply(api, "logging", held, verdicts, data, Deadline(0), "kubewright")
    assert "elasticsearch-realm" in str(caught.value)


def test_errors_quote_no_secret(api: FakeKubeApi) -> None:
    api.edit(secrets.REALM, users=None)
    api.errors = [ApiError("PUT was refused", status=422, why="data: Invalid value: s3cret")]
    with pytest.raises(ApiError, match="may quote the Secret") as caught:
        Run(api)
    assert "s3cret" not in str(caught.value)
    # What may pass is tried again.
    api.errors = [ApiError("PUT was refused", status=503, why="s3cret", transient=True)]
    assert Run(api).touched == {secrets.REALM: "changed"}


def test_nothing_that_is_shown_tells_a_secret(run_log: Path) -> None:
    api = FakeKubeApi()
    made = Run(api)
    api.edit(secrets.COLLECTOR, password="short")
    api.edit(secrets.TLS, tls_crt=None)
    changed = Run(api)
    shown = [made.diff, changed.diff, made.digests, changed.digests, made.ends]
    shown += [one.summary() for run in (made, changed) for one in run.verdicts]
    said = json.dumps(shown) + (run_log.read_text() if run_log.exists() else "")
    assert "<hidden>, new" in changed.diff["after"]
    for text in api.texts():
        assert text not in said
    summary = {one["name"]: one for one in (verdict.summary() for verdict in made.verdicts)}
    assert summary[secrets.REALM] == {"name": "elasticsearch-realm", "action": "created", "reasons": []}
