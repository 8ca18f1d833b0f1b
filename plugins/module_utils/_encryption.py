# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that tells an API server how to encrypt what it stores.

A *layout* is the file without its secrets: for each resource the names of the keys in their order, with
``identity`` for "not encrypted". The first one writes, all of them read. A name and a layout may be shown, a
secret never; two secrets are told apart by their fingerprints, which are SHA-256 of 32 random bytes.

The file is written as JSON, which is YAML, because hosts have no YAML parser to read it back with. One layout
with the same secrets always gives the same bytes, so that the files of several hosts can be compared by hash.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets as randomness
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

IDENTITY = "identity"
# What the rest of the collection can find in etcd and rewrite; other resources have irregular paths there.
RESOURCES = ("secrets", "configmaps")
# The length that the secretbox provider (XSalsa20 and Poly1305) demands, in bytes.
KEY_LENGTH = 32

Layout = dict[str, list[str]]

_HEAD = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration"}


@dataclass(frozen=True)
class Configuration:
    """Layout and secrets; the secrets are base64 by key name and never part of a representation."""

    layout: Layout
    secrets: dict[str, str] = field(repr=False)

    def fingerprints(self) -> dict[str, str]:
        """Return what the keys are known by."""
        return {name: fingerprint(secret) for name, secret in sorted(self.secrets.items())}


def fingerprint(secret: str) -> str:
    """Return a name for a secret that tells nothing about it."""
    return "sha256:" + hashlib.sha256(base64.b64decode(secret)).hexdigest()


def new_secret() -> str:
    """Make a key from the operating system's randomness."""
    return base64.b64encode(randomness.token_bytes(KEY_LENGTH)).decode()


def key_names(layout: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the names of all keys in a layout."""
    return {name for order in layout.values() for name in order if name != IDENTITY}


def check_layout(layout: Mapping[str, Any]) -> Layout:
    """Return a layout that is certain to make a file that an API server takes, or say what is wrong."""
    for resource, order in layout.items():
        problem = ""
        if resource not in RESOURCES:
            problem = f"only {' and '.join(RESOURCES)} can be encrypted"
        elif not isinstance(order, list) or not all(name and isinstance(name, str) for name in order):
            problem = "it needs a list of key names"
        elif len(set(order)) != len(order):
            problem = "a name is there twice"
        elif IDENTITY not in order:
            problem = f"without {IDENTITY} nothing that is not encrypted yet could be read"
        elif any(":" in name for name in order):
            problem = "etcd's values carry the name between colons, so it must not have one"
        if problem:
            raise KubewrightError("The layout cannot be used", where=resource, why=problem)
    if not layout:
        raise KubewrightError("The layout names no resource", remedy="Name at least secrets")
    return {resource: list(order) for resource, order in sorted(layout.items())}


def render(configuration: Configuration) -> str:
    """Return the content of the file."""
    resources = []
    for resource, order in sorted(configuration.layout.items()):
        providers: list[dict[str, Any]] = []
        for name in order:
            if name == IDENTITY:
                providers.append({IDENTITY: {}})
                continue
            if not providers or "secretbox" not in providers[-1]:
                providers.append({"secretbox": {"keys": []}})
            key = {"name": name, "secret": configuration.secrets[name]}
            providers[-1]["secretbox"]["keys"].append(key)
        resources.append({"resources": [resource], "providers": providers})
    return json.dumps({**_HEAD, "resources": resources}, indent=1) + "\n"


def parse(text: str, where: str) -> Configuration:
    """Read a file of ours. Anything else is refused: rewriting it would lose what somebody else keeps in it."""
    try:
        document = json.loads(text)
        if {key: document[key] for key in _HEAD} != _HEAD:
            raise ValueError("it is of another kind")
        layout: Layout = {}
        secrets: dict[str, str] = {}
        for entry in document["resources"]:
            [resource] = entry["resources"]
            layout[resource] = [name for one in entry["providers"] for name in _provider(one, secrets)]
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        # Not the error's own text: it could quote a secret.
        raise KubewrightError(
            "The encryption configuration was not written by this collection, or is damaged",
            where=where,
            why=f"it cannot be read as such a file ({type(error).__name__})",
            remedy="Put back the file of another control plane or of a backup. To keep one of your own, name it "
            "in kube_control_plane_api_server_extra_args as encryption-provider-config",
        ) from None
    return Configuration(check_layout(layout), secrets)


def _provider(provider: dict[str, Any], secrets: dict[str, str]) -> list[str]:
    """Return the names of one provider and put its secrets to the others."""
    [(kind, content)] = provider.items()
    if kind == IDENTITY:
        return [IDENTITY]
    if kind != "secretbox":
        raise ValueError("another provider")
    for key in content["keys"]:
        if len(base64.b64decode(key["secret"], validate=True)) != KEY_LENGTH:
            raise ValueError("a key of another length")
        if secrets.setdefault(key["name"], key["secret"]) != key["secret"]:
            raise ValueError("two keys under one name")
    return [key["name"] for key in content["keys"]]


def compose(
    found: Configuration | None,
    layout: Layout,
    given: Mapping[str, str],
    generate: str,
    drop: Sequence[str],
    where: str,
) -> Configuration:
    """Return what the file is to hold.

    *given* are secrets from another host, *generate* is the key that may be made here, and *drop* are the keys
    that may be lost. Losing any other one, or taking another secret for a name that is known, is refused:
    what was encrypted with it could never be read again.
    """
    kept = dict(found.secrets) if found else {}
    _refuse_other_keys(kept, given, where)
    lost = sorted(set(kept) - key_names(layout) - set(drop))
    if lost:
        raise KubewrightError(
            "The encryption configuration of this host has keys that this run does not know",
            where=where,
            why=", ".join(f"{name} {fingerprint(kept[name])}" for name in lost),
            remedy="Find out where it comes from. If this host never served this cluster, move the file away; "
            "otherwise the other control planes need these keys too",
        )
    secrets = {**given, **kept}
    missing = sorted(key_names(layout) - set(secrets) - {generate})
    if missing:
        raise KubewrightError(
            "This host does not have all keys",
            where=where,
            why="missing are " + ", ".join(missing),
            remedy="Hand them over from a control plane that has them",
        )
    if generate in key_names(layout) and generate not in secrets:
        secrets[generate] = new_secret()
    return Configuration(layout, {name: secrets[name] for name in sorted(key_names(layout))})


def _refuse_other_keys(kept: Mapping[str, str], given: Mapping[str, str], where: str) -> None:
    for name in sorted(set(kept) & set(given)):
        if kept[name] != given[name]:
            raise KubewrightError(
                "Two control planes have different keys under one name",
                where=where,
                why=f"{name} is {fingerprint(kept[name])} here and {fingerprint(given[name])} there",
                remedy="Find out which one etcd's values are encrypted with, before anything restarts",
            )


def shown(configuration: Configuration | None) -> str:
    """Return a configuration for people: names, order and fingerprints."""
    if configuration is None:
        return ""
    prints = configuration.fingerprints()
    lines = []
    for resource, order in configuration.layout.items():
        lines.append(f"{resource}:")
        lines += [f"  {name} {prints.get(name, '')}".rstrip() for name in order]
    return "\n".join(lines) + "\n"
