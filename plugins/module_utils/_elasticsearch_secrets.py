# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Secrets of a logging namespace: made once, kept, completed, and renewed when it is time.

``observe`` reads, ``judge`` says what is missing or due, ``make`` makes it, ``apply`` writes. What the Secrets hold
leaves this file in no message and no result.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_pki as pki
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_realm as realm
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._manifests import HIDDEN
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate

AUTHORITY = "elasticsearch-authority"
TLS = "elasticsearch-tls"
KIBANA_TLS = "kibana-tls"
OPERATOR = "elasticsearch-operator"
PERSON = "elasticsearch-person"
COLLECTOR = "collector-elasticsearch"
KIBANA = "kibana-elasticsearch"
KIBANA_KEYS = "kibana-keys"
REALM = "elasticsearch-realm"
# In the order in which they are written. The hashes come last: until then the old passwords are the ones that work.
NAMES = (AUTHORITY, TLS, KIBANA_TLS, OPERATOR, PERSON, COLLECTOR, KIBANA, KIBANA_KEYS, REALM)

_USERS = {OPERATOR: realm.OPERATOR, PERSON: realm.PERSON, COLLECTOR: realm.COLLECTOR}
_WITH_AUTHORITY = (TLS, KIBANA_TLS, COLLECTOR, KIBANA)
# What Kibana calls them behind its own names.
_KEYS = ("security", "encryptedSavedObjects", "reporting")
_SHORTEST_KEY = 32
_AUTHORITY_NAME = "Logging of kubewright"
_CREATE, _CHANGE, _KEEP = "created", "changed", "unchanged"
_NOT_FOUND, _CONFLICT, _UNPROCESSABLE = 404, 409, 422

Data = dict[str, str]


@dataclass(frozen=True)
class Held:
    """A Secret as it is. *item* is the object of the API, None where there is none; *data* its texts."""

    item: Mapping[str, Any] | None
    data: Mapping[str, str]


@dataclass
class Verdict:
    """What is to be done about one Secret, and why."""

    name: str
    action: str
    reasons: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        reasons = [] if self.action == _CREATE else self.reasons
        return {"name": self.name, "action": self.action, "reasons": reasons}


def leaves(namespace: str) -> dict[str, pki.Leaf]:
    """Return the certificates that the namespace needs, by their Secrets."""

    def names(service: str) -> tuple[str, ...]:
        return service, f"{service}.{namespace}", f"{service}.{namespace}.svc", "localhost"

    return {TLS: pki.Leaf(names("elasticsearch"), True), KIBANA_TLS: pki.Leaf(names("kibana"), False)}


# --- observe -----------------------------------------------------------------------------------------------


def observe(api: KubeApi, namespace: str) -> dict[str, Held]:
    """Read the Secrets. A text that cannot be read counts as one that is missing."""
    return {name: _read(api, _path(namespace, name)) for name in NAMES}


def _read(api: KubeApi, path: str) -> Held:
    try:
        item: dict[str, Any] = api.get(path)
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return Held(None, {})
        raise
    data = {}
    for key, value in (item.get("data") or {}).items():
        with suppress(ValueError, binascii.Error):
            data[key] = base64.b64decode(value or "").decode()
    return Held(item, data)


# --- judge -------------------------------------------------------------------------------------------------


def judge(held: Mapping[str, Held], namespace: str, now: datetime) -> list[Verdict]:
    """Say what is missing or due, in the order of the work."""
    authority = _judge_authority(held[AUTHORITY], now)
    reasons: dict[str, list[str]] = {AUTHORITY: authority} | {name: [] for name in NAMES[1:]}
    certificate = held[AUTHORITY].data.get("ca.crt", "")
    for name, leaf in leaves(namespace).items():
        anew = authority and held[AUTHORITY].item is None
        why = "the authority is new" if anew else pki.leaf_problem(held[name].data, certificate, leaf, now)
        if why:
            reasons[name].append(f"certificate: {why}")
    for name in _WITH_AUTHORITY:
        if authority or held[name].data.get("ca.crt") != certificate:
            reasons[name].append("ca.crt: it is not the authority's, or that is renewed")
    for name, user in _USERS.items():
        reasons[name] += [] if held[name].data.get("username") == user else [f"username: it is not {user}"]
        reasons[name] += [] if held[name].data.get("password") else ["password: there is none"]
    if not realm.token_secret(held[KIBANA].data.get("token", "")):
        reasons[KIBANA].append("token: there is none that can be read")
    reasons[KIBANA_KEYS] += [
        f"{key}: there is none of {_SHORTEST_KEY} characters"
        for key in _KEYS
        if len(held[KIBANA_KEYS].data.get(key, "")) < _SHORTEST_KEY
    ]
    reasons[REALM] += _judge_realm(held)
    return [Verdict(name, _action(held[name], reasons[name]), reasons[name]) for name in NAMES]


def _judge_authority(held: Held, now: datetime) -> list[str]:
    if held.item is None:
        return ["ca.crt: there is none"]
    certificate = held.data.get("ca.crt", "")
    problem = pki.authority_problem(certificate, held.data.get("ca.key", ""))
    if problem:
        raise KubewrightError(
            "The authority of the logging cannot be used",
            where=f"Secret {held.item['metadata']['namespace']}/{AUTHORITY}",
            why=f"ca.crt and ca.key: {problem}",
            remedy=(
                "Put back what was there, or delete the Secret: then a new authority is made, with new certificates, "
                "and Elasticsearch's nodes do not trust each other until all have read them"
            ),
        )
    ends = parse_certificate(certificate)
    return [f"ca.crt: it ends on {ends.not_after:%Y-%m-%d}"] if pki.is_due(ends, now) else []


def _judge_realm(held: Mapping[str, Held]) -> list[str]:
    """Compare with what the files would be; a hash that is to be made anew differs from every one that is there."""
    wanted = realm.realm_files(_passwords(held), held[KIBANA].data.get("token", ""), held[REALM].data)
    return [
        f"{key}: it is not up to date" for key, text in wanted.items() if held[REALM].data.get(key) != text
    ]


def _passwords(held: Mapping[str, Held]) -> dict[str, str]:
    return {user: held[name].data.get("password", "") for name, user in _USERS.items()}


def _action(held: Held, reasons: list[str]) -> str:
    if held.item is None:
        return _CREATE
    return _CHANGE if reasons else _KEEP


# --- make --------------------------------------------------------------------------------------------------


def make(
    held: Mapping[str, Held],
    verdicts: list[Verdict],
    runner: Runner,
    namespace: str,
    days: int,
    now: datetime,
) -> dict[str, Data]:
    """Return what every Secret holds from now on; what has no reason to change stays."""
    due = {verdict.name: verdict.reasons for verdict in verdicts}
    data = {name: dict(held[name].data) for name in NAMES}
    authority = data[AUTHORITY]
    if due[AUTHORITY]:
        # An authority that ends keeps its key: what it has signed stays good, and so do clients that know it.
        if held[AUTHORITY].item is None:
            authority["ca.key"] = pki.new_key(runner)
        authority["ca.crt"] = pki.new_authority(runner, authority["ca.key"], _AUTHORITY_NAME)
    for name, leaf in leaves(namespace).items():
        if any(reason.startswith("certificate:") for reason in due[name]):
            key = pki.new_key(runner)
            signed = pki.issue(runner, authority["ca.crt"], authority["ca.key"], leaf, key, days, now)
            data[name].update({"tls.crt": signed, "tls.key": key})
    for name in _WITH_AUTHORITY:
        data[name]["ca.crt"] = authority["ca.crt"]
    for name, user in _USERS.items():
        data[name].update(username=user, password=data[name].get("password") or realm.new_password())
    if not realm.token_secret(data[KIBANA].get("token", "")):
        data[KIBANA]["token"] = realm.new_token()
    for key in _KEYS:
        if len(data[KIBANA_KEYS].get(key, "")) < _SHORTEST_KEY:
            data[KIBANA_KEYS][key] = secrets.token_hex(32)
    passwords = {user: data[name]["password"] for name, user in _USERS.items()}
    data[REALM] = realm.realm_files(passwords, data[KIBANA]["token"], held[REALM].data)
    return data


def digests(data: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return a digest of each Secret that changes with it and tells nothing of it.

    In place of passwords and tokens, which a person may have chosen, their hashes count.
    """
    files = data[REALM]
    users = {name: realm.hash_of(user, files.get("users", "")) for name, user in _USERS.items()}
    public = {
        **{
            name: [data[name].get("ca.crt", ""), data[name].get("tls.crt", "")]
            for name in (AUTHORITY, TLS, KIBANA_TLS)
        },
        OPERATOR: [users[OPERATOR]],
        PERSON: [users[PERSON]],
        COLLECTOR: [data[COLLECTOR].get("ca.crt", ""), users[COLLECTOR]],
        KIBANA: [data[KIBANA].get("ca.crt", ""), files.get("service_tokens", "")],
        KIBANA_KEYS: [data[KIBANA_KEYS].get(key, "") for key in _KEYS],
        REALM: [files.get(key, "") for key in sorted(files)],
    }
    return {name: hashlib.sha256("\n".join(parts).encode()).hexdigest() for name, parts in public.items()}


def ends(data: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return when the certificates end, by their Secrets."""
    keys = {AUTHORITY: "ca.crt", TLS: "tls.crt", KIBANA_TLS: "tls.crt"}
    return {name: f"{parse_certificate(data[name][key]).not_after:%Y-%m-%d}" for name, key in keys.items()}


def diff(held: Mapping[str, Held], verdicts: list[Verdict], data: Mapping[str, Data]) -> dict[str, str]:
    """Return which keys of which Secrets are new, without what they hold."""
    before: dict[str, Data] = {}
    after: dict[str, Data] = {}
    for verdict in verdicts:
        if verdict.action == _KEEP:
            continue
        old = held[verdict.name].data
        if verdict.action == _CHANGE:
            before[verdict.name] = dict.fromkeys(old, HIDDEN)
        after[verdict.name] = {
            key: HIDDEN if old.get(key) == text else f"{HIDDEN}, new"
            for key, text in data[verdict.name].items()
        }
    return {"before": _pretty(before), "after": _pretty(after)}


def _pretty(shown: Mapping[str, Data]) -> str:
    return json.dumps(shown, indent=2, sort_keys=True) + "\n" if shown else ""


# --- apply -------------------------------------------------------------------------------------------------


def apply(
    api: KubeApi,
    namespace: str,
    held: Mapping[str, Held],
    verdicts: list[Verdict],
    data: Mapping[str, Data],
    deadline: Deadline,
    field_manager: str,
) -> None:
    """Write what is created or changed. A Secret that somebody else wrote meanwhile is not overwritten."""
    for verdict in verdicts:
        if verdict.action != _KEEP:
            body = _body(namespace, verdict.name, held[verdict.name], data[verdict.name])
            _write(api, namespace, body, deadline, field_manager)


def _body(namespace: str, name: str, held: Held, data: Data) -> dict[str, Any]:
    about = dict((held.item or {}).get("metadata") or {})
    labels = {
        **(about.get("labels") or {}),
        "app.kubernetes.io/name": name.partition("-")[0],
        "app.kubernetes.io/managed-by": "kubewright",
    }
    kept = {key: about[key] for key in ("annotations", "resourceVersion") if key in about}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": (held.item or {}).get("type") or "Opaque",
        "metadata": {**kept, "name": name, "namespace": namespace, "labels": labels},
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }


def _write(
    api: KubeApi, namespace: str, body: dict[str, Any], deadline: Deadline, field_manager: str
) -> None:
    name = body["metadata"]["name"]
    exists = "resourceVersion" in body["metadata"]
    path = _path(namespace, name if exists else "")

    def written() -> bool:
        try:
            api.request("PUT" if exists else "POST", path, body=body, query={"fieldManager": field_manager})
        except ApiError as error:
            error.where = f"Secret {namespace}/{name}"
            if error.status == _CONFLICT:
                error.what = "Somebody else wrote the Secret at the same moment"
                error.remedy = "Run the playbook again, when no other run works on this namespace"
            elif error.status >= _UNPROCESSABLE:
                error.why = "the answer is not shown because it may quote the Secret"
            raise
        return True

    wait_for(written, deadline, what=f"the API server to take Secret {name}")


def _path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets" + (f"/{name}" if name else "")
