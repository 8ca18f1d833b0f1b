# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, roles and tokens as Elasticsearch reads them from files: pure functions, apart from what is random.

Files, not the API of Elasticsearch: they work while its nodes still form a cluster, and nobody can lock the
collection out by what is in an index.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping

OPERATOR = "kubewright"
PERSON = "elastic-admin"
COLLECTOR = "collector"
TOKEN = "elastic/kibana/kubewright"

_COLLECTOR_ROLE = "kubewright_collector"
_USERS_ROLES = f"superuser:{OPERATOR},{PERSON}\n{_COLLECTOR_ROLE}:{COLLECTOR}\n"
# With create_doc alone a collector can add lines, and neither change nor delete any.
_ROLES = f"""{_COLLECTOR_ROLE}:
  cluster: [monitor]
  indices:
    - names: ['logstash-*']
      privileges: [auto_configure, create_doc, view_index_metadata]
"""

_HASH = "{PBKDF2}"
_ROUNDS = 10000
_OCTETS = 32
# A zero, the type of the token, a zero, the version of the format (ServiceAccountToken.java).
_TOKEN_PREFIX = b"\x00\x01\x00\x01"


def new_password() -> str:
    return secrets.token_urlsafe(24)


def hashed(password: str) -> str:
    """Return a password as the files hold it, under a salt of its own."""
    return _hash(password, secrets.token_bytes(_OCTETS))


def verifies(password: str, held: str) -> bool:
    """Tell whether a hash is one that is made here, of this password."""
    try:
        salt = base64.b64decode(held.rpartition("$")[0].rpartition("$")[2], validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(_hash(password, salt).encode(), held.encode())


def _hash(password: str, salt: bytes, rounds: int = _ROUNDS) -> str:
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, _OCTETS)
    return f"{_HASH}{rounds}${_base64(salt)}${_base64(key)}"


def new_token() -> str:
    """Make the token with which Kibana logs in, in the form in which it sends it."""
    text = f"{TOKEN}:{secrets.token_urlsafe(24)}"
    return _base64(_TOKEN_PREFIX + text.encode()).rstrip("=")


def token_secret(token: str) -> str:
    """Return the part of a token whose hash Elasticsearch holds, empty for what is no token of ours."""
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), validate=True)
        name, _, secret = content[len(_TOKEN_PREFIX) :].decode().partition(":")
    except ValueError:
        return ""
    return secret if content.startswith(_TOKEN_PREFIX) and name == TOKEN else ""


def realm_files(passwords: Mapping[str, str], token: str, held: Mapping[str, str]) -> dict[str, str]:
    """Return the files of the realm. Hashes that still verify stay, so that nothing changes without a reason."""
    users = _lines(passwords, held.get("users", ""))
    tokens = _lines({TOKEN: token_secret(token)}, held.get("service_tokens", ""))
    return {"users": users, "users_roles": _USERS_ROLES, "roles.yml": _ROLES, "service_tokens": tokens}


def hash_of(name: str, held: str) -> str:
    """Return the hash that a file has for a name, empty where it has none."""
    return dict(line.partition(":")[::2] for line in held.splitlines()).get(name, "")


def _lines(passwords: Mapping[str, str], held: str) -> str:
    lines = []
    for name, password in passwords.items():
        old = hash_of(name, held)
        lines.append(f"{name}:{old if verifies(password, old) else hashed(password)}\n")
    return "".join(lines)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
