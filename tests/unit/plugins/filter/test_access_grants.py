# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.filter.access_grants import FilterModule

access_grants = FilterModule().filters()["access_grants"]

KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
ENTRY = {"kind": "person", "name": "jane", "path": "/home/jane/.kube/config", "host": "desk", "owner": "jane"}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def token(claims: Any) -> str:
    parts = [json.dumps({"alg": "RS256"}), json.dumps(claims), "s3cr3t-signature"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


def config(user: dict[str, Any]) -> dict[str, Any]:
    cluster = {"server": "https://192.0.2.10:8443", "certificate-authority-data": encoded("CA")}
    return {
        "clusters": [{"name": "example", "cluster": cluster}],
        "users": [{"name": "other", "user": {}}, {"name": "jane", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "example", "user": "jane"}}],
        "current-context": "c",
    }


def held(content: str) -> dict[str, Any]:
    look = {"stat": {"exists": True, "isreg": True}}
    [grant] = access_grants([ENTRY], [(look, {"content": encoded(content)})])
    result: dict[str, Any] = grant["held"]
    return result


def test_a_certificate_without_its_key() -> None:
    said = held(
        yaml.safe_dump(config({"client-certificate-data": encoded("CERT"), "client-key-data": encoded(KEY)}))
    )
    assert said == {
        "problem": "",
        "cluster": "example",
        "server": "https://192.0.2.10:8443",
        "authority": "CA",
        "certificate": "CERT",
        "has_key": True,
        "claims": {},
    }


def test_a_token_without_its_signature() -> None:
    claims = {"sub": "system:serviceaccount:shop:deployer", "exp": 2, "iat": 1, "jti": "x"}
    text = token(claims)
    said = held(json.dumps(config({"token": text})))
    assert said["claims"] == {"sub": claims["sub"], "exp": 2, "iat": 1}
    assert text.split(".")[2] not in json.dumps(said)
    assert text not in json.dumps(said)


@pytest.mark.parametrize(
    "content",
    [
        "not: [yaml",
        "just text",
        "[]",
        "42",
        "{}",
        yaml.safe_dump({**config({}), "current-context": "nowhere"}),
        yaml.safe_dump({**config({}), "users": None}),
        yaml.safe_dump(config({"client-certificate-data": "***"})),
        yaml.safe_dump(config({"token": "one-part"})),
        yaml.safe_dump(config({"token": "a.!!!.b"})),
        yaml.safe_dump(config({"token": token([])})) + KEY,
    ],
)
def test_what_is_no_kubeconfig_is_not_quoted(content: str) -> None:
    assert held(content) == {"problem": "it is no kubeconfig that holds its credentials itself"}


def test_no_file_an_empty_file_and_a_folder() -> None:
    entries = [ENTRY, {**ENTRY, "name": "joe"}, {**ENTRY, "name": "jim"}, {"kind": "person", "name": "jo"}]
    folder = {"stat": {"exists": True, "isreg": False}}
    empty = {"stat": {"exists": True, "isreg": True}}
    skipped: dict[str, Any] = {"skipped": True}
    found = [
        ({"stat": {"exists": False}}, skipped),
        (empty, {"content": ""}),
        (folder, skipped),
        (skipped, skipped),
    ]
    grants = access_grants(entries, iter(found))
    assert [grant["held"] for grant in grants] == [{}, {}, {"problem": "it is no regular file"}, {}]
    assert [grant["place"] for grant in grants] == ["desk:/home/jane/.kube/config"] * 3 + [""]
    assert not {"path", "host", "owner"} & set(grants[0])


def test_a_host_that_cannot_be_reached() -> None:
    """Nothing is known of its file: it is neither missing nor ours."""
    [grant] = access_grants([{"name": "ci", "host": "lost", "path": "/x"}], [({"unreachable": True}, {})])
    assert grant["held"] == {"problem": "its host cannot be reached"}


def test_pairs_that_do_not_fit() -> None:
    with pytest.raises(AnsibleFilterError, match="a pair for each of 1 entries, not 0"):
        access_grants([ENTRY], [])
