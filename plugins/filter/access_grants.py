# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join descriptions of access with what the kubeconfigs at their places say, leaving out every secret."""

from __future__ import annotations

import base64
import json
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: access_grants
short_description: Join descriptions of access with what their kubeconfigs say, without secrets
version_added: 0.1.0
description:
  - Makes the O(kubewright.cluster.user_access#module:grants) of M(kubewright.cluster.user_access) from descriptions,
    and from the files that are at the places of their kubeconfigs.
  - It runs on the controller, because hosts have no YAML parser. Neither a key nor a token is in the result; of a
    token there are the claims, which are no secret.
options:
  _input:
    description: The descriptions, each with its C(kind). What says where a kubeconfig is becomes C(place).
    type: list
    elements: dict
    required: true
  found:
    description:
      - The results of M(ansible.builtin.stat) and M(ansible.builtin.slurp), pairs in the order of O(_input). A skipped
        one stands for a file that is not there; one of a host that cannot be reached says so.
    type: list
    elements: list
    required: true
positional: found
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Bring the accesses into the cluster
  kubewright.cluster.user_access:
    cluster: example
    server: https://192.0.2.10:8443
    grants: "{{ people | kubewright.cluster.access_grants(looked.results | zip(read.results)) }}"
"""

RETURN = r"""
_value:
  description:
    - The grants. C(held) of each has C(problem), C(cluster), C(server), C(authority), C(certificate), C(claims) and
      C(has_key), and is empty where there is no file.
  type: list
  elements: dict
"""

# What says where the kubeconfig is, which is no matter of the cluster.
_PLACE = ("path", "host", "owner", "group")


def access_grants(entries: list[dict[str, Any]], found: Any) -> list[dict[str, Any]]:
    """Return one grant for each entry."""
    pairs = list(found)
    if len(pairs) != len(entries):
        raise AnsibleFilterError(
            f"access_grants takes a pair for each of {len(entries)} entries, not {len(pairs)}"
        )
    return [_grant(entry, look, read) for entry, (look, read) in zip(entries, pairs)]


def _grant(entry: dict[str, Any], look: dict[str, Any], read: dict[str, Any]) -> dict[str, Any]:
    grant = {key: value for key, value in entry.items() if key not in _PLACE}
    grant["place"] = f"{entry.get('host', 'localhost')}:{entry['path']}" if entry.get("path") else ""
    stat = look.get("stat") or {}
    if look.get("unreachable"):
        # Whoever has lost a host can still take its rights away.
        grant["held"] = {"problem": "its host cannot be reached"}
    elif not stat.get("exists"):
        grant["held"] = {}
    elif not stat.get("isreg"):
        grant["held"] = {"problem": "it is no regular file"}
    else:
        grant["held"] = public_part(base64.b64decode(read.get("content") or ""))
    return grant


def public_part(content: bytes) -> dict[str, Any]:
    """Return what a kubeconfig says without its secrets; C(problem) says why it says nothing. Empty for no text."""
    if not content.strip():
        return {}
    try:
        config = yaml.safe_load(content)
        current = _named(config, "contexts", "context", config["current-context"])
        cluster = _named(config, "clusters", "cluster", current["cluster"])
        user = _named(config, "users", "user", current["user"])
        return {
            "problem": "",
            "cluster": str(current["cluster"]),
            "server": str(cluster.get("server") or ""),
            "authority": _pem(cluster.get("certificate-authority-data")),
            "certificate": _pem(user.get("client-certificate-data")),
            "has_key": bool(user.get("client-key-data")),
            "claims": _claims(str(user.get("token") or "")),
        }
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError):
        # The cause is left out on purpose: it could quote key material.
        return {"problem": "it is no kubeconfig that holds its credentials itself"}


def _named(config: dict[str, Any], plural: str, singular: str, name: str) -> dict[str, Any]:
    by_name: dict[str, dict[str, Any]] = {item["name"]: item[singular] for item in config[plural]}
    return by_name[name]


def _pem(data: Any) -> str:
    return base64.b64decode(str(data or ""), validate=True).decode("ascii")


def _claims(token: str) -> dict[str, Any]:
    """Read the middle part of a token, which everybody may read who has it; the last part is its signature."""
    if not token:
        return {}
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return {key: claims[key] for key in ("sub", "iat", "exp", "kubernetes.io") if key in claims}


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"access_grants": access_grants}
