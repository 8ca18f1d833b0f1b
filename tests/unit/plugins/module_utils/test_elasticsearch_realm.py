# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, roles and tokens as Elasticsearch reads them from files."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_realm as realm

HASH = re.compile(r"\{PBKDF2\}10000\$([A-Za-z0-9+/]{43}=)\$([A-Za-z0-9+/]{43}=)")
PASSWORDS = {"kubewright": "p\u00e4ss w\u00f6rd", "elastic-admin": "x" * 40, "collector": "-y$:\n"}


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
@pytest.mark.parametrize("password", PASSWORDS.values())
def test_a_hash_is_what_openssl_makes_of_it(password: str) -> None:
    """PBKDF2 with HMAC-SHA512, 10,000 rounds, 32 octets of salt and of key (Hasher.java)."""
    found = HASH.fullmatch(realm.hashed(password))
    assert found
    options = {
        "digest": "SHA512",
        "iter": "10000",
        "hexpass": password.encode().hex(),
        "hexsalt": base64.b64decode(found[1]).hex(),
    }
    argv = ["openssl", "kdf", "-binary", "-keylen", "32"]
    for name, value in options.items():
        argv += ["-kdfopt", f"{name}:{value}"]
    done = subprocess.run([*argv, "PBKDF2"], capture_output=True, check=True)
    assert base64.b64encode(done.stdout).decode() == found[2]


def test_a_hash_verifies_its_own_password_only() -> None:
    held = realm.hashed("right")
    assert realm.verifies("right", held) and not realm.verifies("wrong", held)
    assert realm.hashed("right") != held


@pytest.mark.parametrize(
    "held",
    [
        "",
        "$",
        "{PBKDF2}10000$$",
        "{PBKDF2}10000$%%$AAAA",
        "{PBKDF2}1$AAAA$AAAA",
        "{PBKDF2}x$\u00e9$AAAA",
        "right",
        "{bcrypt}$2a$10$" + "a" * 53,
    ],
)
def test_what_is_no_hash_of_ours_is_made_anew(held: str) -> None:
    assert not realm.verifies("right", held)


def test_files_keep_the_hashes_that_verify() -> None:
    token = realm.new_token()
    first = realm.realm_files(PASSWORDS, token, {})
    assert realm.realm_files(PASSWORDS, token, first) == first
    changed = realm.realm_files({**PASSWORDS, "collector": "new"}, token, first)
    before, after = first["users"].splitlines(), changed["users"].splitlines()
    assert before[:2] == after[:2] and before[2] != after[2]
    assert changed["service_tokens"] == first["service_tokens"]


def test_files_have_the_form_that_elasticsearch_reads() -> None:
    files = realm.realm_files(PASSWORDS, realm.new_token(), {})
    assert set(files) == {"users", "users_roles", "roles.yml", "service_tokens"}
    users = dict(line.split(":", 1) for line in files["users"].splitlines())
    assert list(users) == list(PASSWORDS) and all(map(HASH.fullmatch, users.values()))
    name, _, value = files["service_tokens"].strip().partition(":")
    assert name == "elastic/kibana/kubewright" and HASH.fullmatch(value)
    roles = yaml.safe_load(files["roles.yml"])
    given = dict(line.split(":") for line in files["users_roles"].splitlines())
    # Every role is one of Elasticsearch's own or one of the file, and every user has one.
    assert set(given) - {"superuser"} == set(roles)
    assert sorted(",".join(given.values()).split(",")) == sorted(PASSWORDS)


def test_a_collector_can_add_lines_and_do_nothing_else() -> None:
    role = yaml.safe_load(realm.realm_files(PASSWORDS, realm.new_token(), {})["roles.yml"])[
        "kubewright_collector"
    ]
    (indices,) = role["indices"]
    assert role["cluster"] == ["monitor"] and indices["names"] == ["logstash-*"]
    assert set(indices["privileges"]) == {"auto_configure", "create_doc", "view_index_metadata"}


def test_a_token_is_read_as_elasticsearch_reads_it() -> None:
    """Four octets, the name of account and token, a colon and the secret, in base64 (ServiceAccountToken.java)."""
    token = realm.new_token()
    assert token.startswith("AAEAAWVsYXN0aWMva2liYW5hL2t1YmV3cmlnaHQ6") and not token.endswith("=")
    content = base64.b64decode(token + "=" * (-len(token) % 4))
    assert content == b"\x00\x01\x00\x01elastic/kibana/kubewright:" + realm.token_secret(token).encode()
    assert len(realm.token_secret(token)) == 32
    files = realm.realm_files(PASSWORDS, token, {})
    held = realm.hash_of("elastic/kibana/kubewright", files["service_tokens"])
    assert realm.verifies(realm.token_secret(token), held)


@pytest.mark.parametrize(
    "token", ["", "no base64!", "AAEAAQ", base64.b64encode(b"\x00\x01\x00\x01a/b/c:d").decode(), "\u00e9"]
)
def test_what_is_no_token_of_ours_has_no_secret(token: str) -> None:
    assert realm.token_secret(token) == ""


def test_passwords_are_long_and_differ() -> None:
    made = {realm.new_password() for _ in range(20)}
    assert len(made) == 20 and all(len(one) == 32 for one in made)
