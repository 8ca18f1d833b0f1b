# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the credentials of people and pipelines: certificates by the CSR API, tokens by the TokenRequest API.

PRIVATE to the collection: this interface can change in any release.

A key is made by openssl and comes back through a pipe: it is in no file, no argument and no message. The
authority's key stays with kube-controller-manager, which signs.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate

SIGNER = "kubernetes.io/kube-apiserver-client"
_REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_UNAUTHORIZED = 401

_OPENSSL = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha256"]
_KEY = re.compile(r"-----BEGIN PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+-----END PRIVATE KEY-----\n")
_REQUEST = re.compile(
    r"-----BEGIN CERTIFICATE REQUEST-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE REQUEST-----\n"
)


def make_request(runner: Runner, name: str, groups: Sequence[str]) -> tuple[str, str]:
    """Make a key (P-256) and the request of a certificate for *name*; return both as PEM.

    The names must be free of what openssl's configuration gives a meaning, see ``_access.problems``.
    """
    subject = [f"CN = {name}", *(f"{at}.O = {group}" for at, group in enumerate(groups))]
    lines = ["[req]", "prompt = no", "encrypt_key = no", "string_mask = utf8only", "distinguished_name = dn"]
    # Without a file to write to, openssl writes both to its output.
    config = "\n".join([*lines, "[dn]", *subject, ""])
    done = runner.run([*_OPENSSL, "-config", "/dev/stdin"], stdin=config, timeout=30, secret=True)
    key, request = _KEY.search(done.stdout), _REQUEST.search(done.stdout)
    if not key or not request:
        raise KubewrightError(
            "openssl made no key and request",
            why="its output, which is secret, does not have the form of both",
            remedy="Install openssl 3 on the control planes",
        )
    return key.group(), request.group()


def issue_certificate(api: KubeApi, request: str, access: str, lifetime: int, deadline: Deadline) -> str:
    """Have the cluster sign *request* for *lifetime* seconds and return the certificate as PEM.

    The object of the request is removed afterwards, however it ends.
    """
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {
            "generateName": "kubewright-access-",
            "labels": {"app.kubernetes.io/managed-by": "kubewright-user-access"},
            "annotations": {"kubewright.cluster/access": access},
        },
        "spec": {
            "request": base64.b64encode(request.encode()).decode(),
            "signerName": SIGNER,
            "expirationSeconds": lifetime,
            "usages": ["client auth", "digital signature"],
        },
    }
    made = api.request("POST", _REQUESTS, body=body)
    path = f"{_REQUESTS}/{quote(made['metadata']['name'], safe='')}"
    try:
        condition = {
            "type": "Approved",
            "status": "True",
            "reason": "KubewrightUserAccess",
            "message": f"Described as {access} to the playbook user_access.yml.",
        }
        api.request("PUT", f"{path}/approval", body={**made, "status": {"conditions": [condition]}})
        what = "kube-controller-manager to sign the certificate"
        return wait_for(lambda: _signed(api.get(path)), deadline, what=what, interval=0.2)
    finally:
        # Kubernetes removes it within the hour if this cannot.
        with suppress(KubewrightError):
            api.delete(path)


def _signed(request: dict[str, Any]) -> str | None:
    """Return the certificate of a request that is signed, None when it is not yet."""
    status = request.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition["type"] in ("Denied", "Failed"):
            raise KubewrightError(
                f"The request of the certificate was {condition['type'].lower()}",
                where=request["metadata"]["name"],
                why=condition.get("message") or condition.get("reason") or "",
                remedy="Look at the admission policies and at the log of kube-controller-manager",
            )
    encoded = status.get("certificate")
    return base64.b64decode(encoded).decode("ascii") if encoded else None


def check_certificate(certificate: str, name: str, groups: Sequence[str]) -> datetime:
    """Make sure that a certificate is for whom it was asked, and return when it expires."""
    try:
        read = parse_certificate(certificate)
    except ValueError as error:
        raise KubewrightError("The certificate from the cluster cannot be read", why=str(error)) from error
    if (read.subject_cn, sorted(read.subject_orgs)) != (name, sorted(groups)):
        raise KubewrightError(
            "The certificate from the cluster is for somebody else",
            where=read.subject_cn,
            why=f"{name} was asked for, with the groups {', '.join(groups) or 'none'}",
            remedy=f"Find out who signs for {SIGNER}",
        )
    return read.not_after


def issue_token(api: KubeApi, namespace: str, name: str, lifetime: int) -> tuple[str, datetime]:
    """Make a token of a service account that expires by itself; return it and when that is."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": lifetime},
    }
    status = api.request("POST", path, body=body)["status"]
    expires = datetime.strptime(status["expirationTimestamp"], "%Y-%m-%dT%H:%M:%SZ")
    return status["token"], expires.replace(tzinfo=timezone.utc)


def decoded(
    cluster: str, server: str, authority: str, user: str, credential: dict[str, str], namespace: str
) -> dict[str, Any]:
    """Return a kubeconfig as data. *credential* is what stands below its user."""
    context: dict[str, str] = {"cluster": cluster, "user": user}
    if namespace:
        context["namespace"] = namespace
    name = f"{user}@{cluster}"
    reach = {"server": server, "certificate-authority-data": encode(authority)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": reach}],
        "users": [{"name": user, "user": credential}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }


def encode(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()


def rendered(config: dict[str, Any]) -> str:
    """Write a kubeconfig as YAML. Not as JSON, though it is YAML too: Ansible may turn such a text into data."""
    return "".join(f"{line}\n" for line in _lines(config, ""))


def _lines(value: dict[str, Any], indent: str) -> Iterator[str]:
    for key, held in value.items():
        if isinstance(held, str):
            yield f"{indent}{key}: {json.dumps(held)}"
            continue
        yield f"{indent}{key}:"
        if isinstance(held, dict):
            yield from _lines(held, f"{indent}  ")
            continue
        for item in held:
            first, *rest = _lines(item, f"{indent}    ")
            yield f"{indent}  - {first.lstrip()}"
            yield from rest


def prove(config: dict[str, Any], api_server: str | None, username: str, deadline: Deadline) -> None:
    """Log in with a new kubeconfig, and make sure that the API server knows its owner by *username*."""
    api = KubeApi.from_config(config, "the new kubeconfig", server=api_server)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}

    def whoami() -> str:
        try:
            review = api.request("POST", _REVIEWS, body=body)
        except ApiError as error:
            # An API server learns of a new service account, and of a clock that differs, a little later.
            error.transient = error.transient or error.status == _UNAUTHORIZED
            raise
        return str(review["status"]["userInfo"]["username"])

    seen = wait_for(whoami, deadline, what=f"the API server to know {username} by the new credential")
    if seen != username:
        raise KubewrightError(
            "The new credential belongs to somebody else", where=seen, why=f"it was made for {username}"
        )
