# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption import (
    Configuration,
    check_layout,
    compose,
    fingerprint,
    new_secret,
    parse,
    render,
    shown,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

OLD, NEW, OTHER = (base64.b64encode(bytes([byte]) * 32).decode() for byte in (1, 2, 3))
TWO = Configuration({"secrets": ["new", "old", "identity"]}, {"new": NEW, "old": OLD})


def test_what_is_written_is_read_again() -> None:
    assert parse(render(TWO), "file") == TWO


def test_the_file_is_what_an_api_server_takes() -> None:
    document = json.loads(render(Configuration({"secrets": ["identity", "old"]}, {"old": OLD})))
    assert document == {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [
            {
                "resources": ["secrets"],
                "providers": [
                    {"identity": {}},
                    {"secretbox": {"keys": [{"name": "old", "secret": OLD}]}},
                ],
            }
        ],
    }


def test_keys_in_a_row_are_one_provider() -> None:
    [entry] = json.loads(render(TWO))["resources"]
    assert [key["name"] for key in entry["providers"][0]["secretbox"]["keys"]] == ["new", "old"]
    assert entry["providers"][1] == {"identity": {}}


def test_the_same_layout_gives_the_same_bytes_whatever_the_order() -> None:
    one = Configuration({"secrets": ["a", "identity"], "configmaps": ["a", "identity"]}, {"a": OLD})
    two = Configuration({"configmaps": ["a", "identity"], "secrets": ["a", "identity"]}, {"a": OLD})
    assert render(one) == render(two)


def _foreign(**changes: Any) -> str:
    document = json.loads(render(TWO))
    document.update(changes)
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n",
        "{}",
        "[]",
        render(TWO)[:-20],
        _foreign(kind="Other"),
        _foreign(resources=[{"resources": ["secrets", "configmaps"], "providers": [{"identity": {}}]}]),
        _foreign(resources=[{"resources": ["secrets"], "providers": [{"aescbc": {"keys": []}}]}]),
        _foreign(
            resources=[
                {
                    "resources": ["secrets"],
                    "providers": [
                        {"secretbox": {"keys": [{"name": "a", "secret": "AAAA"}]}},
                        {"identity": {}},
                    ],
                }
            ]
        ),
    ],
)
def test_a_file_of_somebody_else_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(KubewrightError) as caught:
        parse(text, "/etc/kubernetes/kubewright/encryption.yaml")
    assert "encryption.yaml" in str(caught.value) and "encryption-provider-config" in str(caught.value)
    assert NEW not in str(caught.value) and "AAAA" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        ({}, "no resource"),
        ({"pods": ["identity"]}, "only secrets and configmaps"),
        ({"secrets": "identity"}, "list of key names"),
        ({"secrets": ["a"]}, "without identity"),
        ({"secrets": ["a", "a", "identity"]}, "twice"),
        ({"secrets": ["a:b", "identity"]}, "colon"),
    ],
)
def test_a_layout_that_an_api_server_would_not_start_with(layout: dict[str, Any], why: str) -> None:
    with pytest.raises(KubewrightError, match=why):
        check_layout(layout)


def test_a_new_key_is_made_only_where_it_is_asked_for() -> None:
    layout = {"secrets": ["fresh", "identity"]}
    with pytest.raises(KubewrightError, match="missing are fresh"):
        compose(None, layout, {}, "", [], "file")
    made = compose(None, layout, {}, "fresh", [], "file")
    assert len(base64.b64decode(made.secrets["fresh"])) == 32
    assert compose(made, layout, {}, "fresh", [], "file") == made


def test_two_keys_are_never_the_same() -> None:
    assert new_secret() != new_secret()


def test_a_key_that_the_run_does_not_know_is_not_lost() -> None:
    """Two runs that made a key each, or a host of another cluster: the file stays as it is."""
    with pytest.raises(KubewrightError) as caught:
        compose(TWO, {"secrets": ["old", "identity"]}, {}, "", [], "file")
    assert fingerprint(NEW) in str(caught.value) and NEW not in str(caught.value)


def test_a_key_is_dropped_when_it_is_named() -> None:
    left = compose(TWO, {"secrets": ["new", "identity"]}, {}, "", ["old"], "file")
    assert left == Configuration({"secrets": ["new", "identity"]}, {"new": NEW})


def test_another_secret_under_a_known_name_is_refused_with_fingerprints() -> None:
    with pytest.raises(KubewrightError) as caught:
        compose(TWO, {"secrets": ["new", "old", "identity"]}, {"old": OTHER}, "", [], "file")
    message = str(caught.value)
    assert fingerprint(OLD) in message and fingerprint(OTHER) in message
    assert OLD not in message and OTHER not in message


def test_nothing_that_is_shown_holds_a_secret() -> None:
    for text in (shown(TWO), repr(TWO), str(TWO.fingerprints())):
        assert OLD not in text and NEW not in text
    assert shown(TWO).splitlines() == [
        "secrets:",
        f"  new {fingerprint(NEW)}",
        f"  old {fingerprint(OLD)}",
        "  identity",
    ]
