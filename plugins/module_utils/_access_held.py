# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a kubeconfig that was handed over is still what it should be. Pure, and without any secret.

PRIVATE to the collection: this interface can change in any release.

What a kubeconfig says comes from the filter ``access_grants``, as a dict: ``problem`` (why it cannot be read),
``cluster`` (its name), ``server``, ``authority`` and ``certificate`` (PEM), ``claims`` (of its token), and
``has_key``. An empty dict stands for a file that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._access import Grant, seconds
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate

# The signer sets the beginning back by 5 minutes for clocks that differ (signer.go of kube-controller-manager).
_SLACK = timedelta(minutes=10)


@dataclass(frozen=True)
class Target:
    """What a kubeconfig has to lead to. *authority* is PEM."""

    cluster: str
    server: str
    authority: str


@dataclass(frozen=True)
class Verdict:
    """What to do with a kubeconfig: ``issue`` a new one, ``keep`` it, or leave a ``foreign`` file alone."""

    action: str
    why: str
    expires: datetime | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Credential:
    """What the held certificate or token says of itself."""

    user: str
    begins: datetime
    expires: datetime
    groups: tuple[str, ...] = ()
    account: str = ""


def judge(grant: Grant, target: Target, account: str, now: datetime) -> Verdict:
    """Judge what the kubeconfig of *grant* says; *account* is the uid of its service account, if it has one."""
    held = grant.held
    if not held:
        return Verdict("issue", "there is no kubeconfig yet")
    try:
        credential = _read(grant, held)
    except ValueError as error:
        return Verdict("foreign", str(error))
    if held.get("cluster") != target.cluster:
        return Verdict("foreign", f"it is for the cluster {held.get('cluster')!r}")
    if credential.user != grant.username:
        return Verdict("foreign", f"it belongs to {credential.user!r}")
    why = _worn(grant, held, credential, target, account, now)
    return Verdict("issue" if why else "keep", why, credential.expires, credential.groups)


def _read(grant: Grant, held: dict[str, Any]) -> _Credential:
    if held.get("problem"):
        raise ValueError(held["problem"])
    if grant.kind == "person":
        if not held.get("certificate"):
            raise ValueError("it holds no client certificate")
        certificate = parse_certificate(held["certificate"])
        groups = tuple(certificate.subject_orgs)
        return _Credential(certificate.subject_cn, certificate.not_before, certificate.not_after, groups)
    claims = held.get("claims") or {}
    if not claims.get("sub"):
        raise ValueError("it holds no token of a service account")
    begins, expires = _moment(claims.get("iat")), _moment(claims.get("exp"))
    account = ((claims.get("kubernetes.io") or {}).get("serviceaccount") or {}).get("uid") or ""
    return _Credential(str(claims["sub"]), begins, expires, account=str(account))


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromtimestamp(float(value), timezone.utc)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ValueError("its token does not say from when until when it is valid") from None


def _worn(
    grant: Grant, held: dict[str, Any], credential: _Credential, target: Target, account: str, now: datetime
) -> str:
    """Return why a new credential is due, or nothing."""
    length = credential.expires - credential.begins
    # As described, or a third of the life: soon enough to try often, late enough to be worth it.
    margin = timedelta(seconds=seconds(grant.renew_before)) if grant.renew_before else length / 3
    reasons = (
        (held.get("server") != target.server, f"it leads to {held.get('server')}, not to {target.server}"),
        (
            _text(held.get("authority")) != _text(target.authority),
            "the authority of the cluster is another one",
        ),
        (grant.kind == "person" and not held.get("has_key"), "it holds no key"),
        (set(credential.groups) != set(grant.groups), "its groups are not those described"),
        (grant.kind == "pipeline" and credential.account != account, "its service account is gone"),
        (credential.expires <= now, f"it expired at {stamp(credential.expires)}"),
        (credential.expires - now <= margin, f"it expires at {stamp(credential.expires)}"),
        (
            length > timedelta(seconds=seconds(grant.lifetime)) + _SLACK,
            f"it lives longer than the {grant.lifetime} described",
        ),
    )
    return next((why for applies, why in reasons if applies), "")


def _text(pem: Any) -> str:
    return "".join(str(pem or "").split())


def stamp(moment: datetime) -> str:
    """Write a time as Kubernetes does."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
