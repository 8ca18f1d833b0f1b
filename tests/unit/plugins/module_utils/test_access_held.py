# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging kubeconfigs, with a real certificate of 90 days and the clock moved around it."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._access import Grant, parse_grants
from ansible_collections.kubewright.cluster.plugins.module_utils._access_held import Target, Verdict, judge
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make certificates")

TARGET = Target("example", "https://192.0.2.10:8443", "-----BEGIN CERTIFICATE-----\nQ0E=\n")
BEGIN = datetime(2026, 5, 1, tzinfo=timezone.utc)
NAME = "system:serviceaccount:shop:deployer"
CLAIMS = {
    "sub": NAME,
    "iat": BEGIN.timestamp(),
    "exp": (BEGIN + timedelta(hours=1)).timestamp(),
    "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "deployer", "uid": "u1"}},
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    argv = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-subj", "/CN=jane/O=developers/O=ops", "-days", "90", "-keyout", "key", "-out", "-"]
    folder = tmp_path_factory.mktemp("certificate")
    return subprocess.run(argv, cwd=folder, check=True, capture_output=True, text=True).stdout


def grant(**change: Any) -> Grant:
    [made] = parse_grants(
        [
            {
                "kind": "person",
                "name": "jane",
                "groups": ["ops", "developers"],
                "state": "present",
                "create_namespaces": False,
                "accept_cluster_wide_rights": False,
                **change,
            }
        ]
    )
    return made


def held(certificate: str, **change: Any) -> dict[str, Any]:
    said = {"problem": "", "cluster": TARGET.cluster, "server": TARGET.server, "authority": TARGET.authority}
    return {**said, "certificate": certificate, "has_key": True, "claims": {}, **change}


def person(certificate: str, day: float = 1, change: dict[str, Any] | None = None, **options: Any) -> Verdict:
    begin = parse_certificate(certificate).not_before
    held_now = {**held(certificate), **(change or {})}
    return judge(grant(held=held_now, **options), TARGET, "", begin + timedelta(days=day))


def pipeline(claims: dict[str, Any], account: str = "u1", minutes: float = 1, **options: Any) -> Verdict:
    described = {"kind": "pipeline", "name": "deployer", "namespace": "shop", "groups": [], **options}
    return judge(
        grant(held=held("", claims=claims), **described), TARGET, account, BEGIN + timedelta(minutes=minutes)
    )


def test_none_yet() -> None:
    assert judge(grant(), TARGET, "", BEGIN).why == "there is no kubeconfig yet"


def test_a_good_one_stays(certificate: str) -> None:
    verdict = person(certificate)
    assert (verdict.action, verdict.why) == ("keep", "")
    assert verdict.expires == parse_certificate(certificate).not_after
    assert verdict.groups == ("developers", "ops")
    # Line ends and blanks at the end of the authority mean nothing.
    assert person(certificate, change={"authority": TARGET.authority.strip()}).action == "keep"


@pytest.mark.parametrize(
    ("day", "renew_before", "action"),
    [
        (59.9, "", "keep"),
        (60.1, "", "issue"),
        (60.1, "10d", "keep"),
        (79.9, "10d", "keep"),
        (80.1, "10d", "issue"),
        (90.1, "10d", "issue"),
    ],
)
def test_renewal(certificate: str, day: float, renew_before: str, action: str) -> None:
    verdict = person(certificate, day, renew_before=renew_before)
    assert verdict.action == action
    assert ("expire" in verdict.why) == (action == "issue")


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        ({"server": "https://192.0.2.99:8443"}, {}, "it leads to https://192.0.2.99:8443, not to"),
        ({"authority": "another"}, {}, "the authority of the cluster is another one"),
        ({"has_key": False}, {}, "it holds no key"),
        ({}, {"groups": ["developers"]}, "its groups are not those described"),
        ({}, {"groups": []}, "its groups are not those described"),
        ({}, {"lifetime": "30d"}, "it lives longer than the 30d described"),
    ],
)
def test_one_that_does_not_fit_any_more(
    certificate: str, change: dict[str, Any], options: dict[str, Any], why: str
) -> None:
    verdict = person(certificate, 1, change, **options)
    assert verdict.action == "issue"
    assert why in verdict.why


@pytest.mark.parametrize(
    ("change", "options", "why"),
    [
        ({"problem": "it is no kubeconfig"}, {}, "it is no kubeconfig"),
        ({"cluster": "other"}, {}, "it is for the cluster 'other'"),
        ({"certificate": ""}, {}, "it holds no client certificate"),
        ({"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, {}, ""),
        ({}, {"name": "joe"}, "it belongs to 'jane'"),
    ],
)
def test_one_of_somebody_else(
    certificate: str, change: dict[str, Any], options: dict[str, Any], why: str
) -> None:
    verdict = person(certificate, 1, change, **options)
    assert verdict.action == "foreign"
    assert verdict.why
    assert why in verdict.why


@pytest.mark.parametrize(("minutes", "action"), [(39, "keep"), (41, "issue"), (61, "issue")])
def test_a_token(minutes: float, action: str) -> None:
    assert pipeline(CLAIMS, minutes=minutes).action == action


def test_a_token_of_a_deleted_service_account() -> None:
    for account in ("u2", ""):
        verdict = pipeline(CLAIMS, account)
        assert (verdict.action, verdict.why) == ("issue", "its service account is gone")


@pytest.mark.parametrize(
    "change",
    [{"sub": "system:serviceaccount:shop:other"}, {"sub": ""}, {"exp": None}, {"iat": "x"}, {"exp": 1e400}],
)
def test_a_foreign_or_broken_token(change: dict[str, Any]) -> None:
    assert pipeline({**CLAIMS, **change}).action == "foreign"


def test_a_token_that_lives_too_long() -> None:
    assert pipeline({**CLAIMS, "exp": CLAIMS["exp"] + 86400}).why == "it lives longer than the 1h described"
    assert pipeline({**CLAIMS, "exp": CLAIMS["exp"] + 86400}, lifetime="2d").action == "keep"
