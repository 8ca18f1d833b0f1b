# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority of a logging namespace and its certificates, made and judged by the openssl of this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_pki as pki
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")

NOW = datetime.now(timezone.utc)
NODE = pki.Leaf(("elasticsearch", "elasticsearch.logging.svc"), for_clients=True)
KIBANA = pki.Leaf(("kibana", "kibana.logging.svc"), for_clients=False)


class Shell:
    """Runs programs as AnsibleModule.run_command does, and keeps their arguments."""

    def __init__(self) -> None:
        self.argv: list[list[str]] = []

    def __call__(self, argv: list[str], *, data: str | None = None, **_: Any) -> tuple[int, str, str]:
        self.argv.append(argv)
        done = subprocess.run(argv, input=data, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr


class Authority:
    def __init__(self, name: str = "Logging") -> None:
        self.shell = Shell()
        self.runner = Runner(self.shell)
        self.name = name
        self.key = pki.new_key(self.runner)
        self.certificate = pki.new_authority(self.runner, self.key, name)

    def issue(self, leaf: pki.Leaf, days: int = 825) -> dict[str, str]:
        key = pki.new_key(self.runner)
        signed = pki.issue(self.runner, self.certificate, self.key, leaf, key, days, NOW)
        return {"tls.crt": signed, "tls.key": key}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def verify(tmp_path: Path, authority: str, certificate: str, *options: str) -> str:
    """Return what openssl says to a certificate."""
    (tmp_path / "ca").write_text(authority)
    (tmp_path / "leaf").write_text(certificate)
    argv = ["openssl", "verify", "-x509_strict", "-CAfile", "ca", *options, "leaf"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    return "OK" if done.returncode == 0 else done.stdout + done.stderr


def test_openssl_verifies_what_was_made(authority: Authority, tmp_path: Path) -> None:
    node = authority.issue(NODE)["tls.crt"]
    for options in (
        ["-purpose", "sslserver"],
        ["-purpose", "sslclient"],
        ["-verify_hostname", "elasticsearch.logging.svc"],
    ):
        assert verify(tmp_path, authority.certificate, node, *options) == "OK"
    assert verify(tmp_path, authority.certificate, node, "-verify_ip", "127.0.0.1") == "OK"
    assert "mismatch" in verify(tmp_path, authority.certificate, node, "-verify_hostname", "kibana")


def test_only_nodes_may_be_clients(authority: Authority, tmp_path: Path) -> None:
    """Elasticsearch's nodes let everyone join whom the authority signed for clients."""
    kibana = authority.issue(KIBANA)["tls.crt"]
    assert verify(tmp_path, authority.certificate, kibana, "-purpose", "sslserver") == "OK"
    # The sentence differs between the versions of openssl: "unsupported" or "unsuitable certificate purpose".
    assert "certificate purpose" in verify(tmp_path, authority.certificate, kibana, "-purpose", "sslclient")


def test_a_good_certificate_has_no_problem(authority: Authority) -> None:
    for leaf in (NODE, KIBANA):
        assert pki.leaf_problem(authority.issue(leaf), authority.certificate, leaf, NOW) == ""


def test_every_fault_is_found(authority: Authority) -> None:
    held, other = authority.issue(NODE), authority.issue(NODE)

    def problem(**changes: str) -> str:
        return pki.leaf_problem({**held, **changes}, authority.certificate, NODE, NOW)

    assert problem(**{"tls.crt": ""}) == "there is none"
    assert problem(**{"tls.key": ""}) == "there is none"
    assert problem(**{"tls.crt": "no PEM"}).startswith("it cannot be read")
    assert "key values mismatch" in problem(**{"tls.key": other["tls.key"]})
    assert problem(**{"tls.key": "no key"}) != ""
    assert (
        problem(**{"tls.crt": authority.issue(KIBANA)["tls.crt"]})
        == "its names are kibana, kibana.logging.svc"
    )
    foreign = Authority().issue(NODE)
    assert "certificate" in problem(**foreign)
    server_only = pki.Leaf(NODE.dns_names, for_clients=False)
    assert "purpose" in problem(**authority.issue(server_only))


def test_problems_quote_no_key(authority: Authority) -> None:
    held = authority.issue(NODE)
    middle = held["tls.key"].splitlines()[1]
    for key in (
        held["tls.key"].replace("PRIVATE", "SECRET"),
        held["tls.key"][:-40],
        "\u00e9" + held["tls.key"],
    ):
        told = pki.leaf_problem({**held, "tls.key": key}, authority.certificate, NODE, NOW)
        assert told and middle not in told
        assert middle not in pki.authority_problem(authority.certificate, key)


def test_a_certificate_is_due_in_the_last_third_of_its_life(authority: Authority) -> None:
    held = authority.issue(NODE, days=300)
    certificate = parse_certificate(held["tls.crt"])
    assert certificate.not_after - certificate.not_before == timedelta(days=300)
    assert pki.leaf_problem(held, authority.certificate, NODE, NOW + timedelta(days=199)) == ""
    assert pki.leaf_problem(held, authority.certificate, NODE, NOW + timedelta(days=201)).startswith(
        "it ends on"
    )


def test_no_certificate_outlives_its_authority(authority: Authority) -> None:
    ends = parse_certificate(authority.certificate).not_after
    assert parse_certificate(authority.issue(NODE, days=9000)["tls.crt"]).not_after <= ends


def test_a_renewed_authority_is_the_same_one(authority: Authority, tmp_path: Path) -> None:
    """Clients that know the old certificate, and leaves that the old one signed, go on."""
    old_leaf = authority.issue(NODE)
    renewed = pki.new_authority(authority.runner, authority.key, authority.name)
    assert renewed != authority.certificate
    assert pki.leaf_problem(old_leaf, renewed, NODE, NOW) == ""
    key = pki.new_key(authority.runner)
    new_leaf = pki.issue(authority.runner, renewed, authority.key, NODE, key, 825, NOW)
    assert verify(tmp_path, authority.certificate, new_leaf) == "OK"
    assert verify(tmp_path, renewed, old_leaf["tls.crt"]) == "OK"


def test_an_authority_is_judged_with_its_key(authority: Authority) -> None:
    assert pki.authority_problem(authority.certificate, authority.key) == ""
    assert "mismatch" in pki.authority_problem(authority.certificate, pki.new_key(authority.runner))
    assert pki.authority_problem("", authority.key) == "there is no PEM block CERTIFICATE"


def test_keys_are_in_no_argument_and_no_log(run_log: Path) -> None:
    authority = Authority()
    held = authority.issue(NODE)
    said = json.dumps(authority.shell.argv)
    assert "PRIVATE" not in said and authority.key.splitlines()[1] not in said
    assert held["tls.key"].splitlines()[1] not in said
    # Nothing is left behind, so nothing is a step.
    assert not run_log.exists()


def test_an_openssl_that_makes_something_else_is_an_error() -> None:
    runner = Runner(lambda argv, **_: (0, "-----BEGIN EC PARAMETERS-----", ""))
    with pytest.raises(KubewrightError, match=r"openssl made no private key.*1\.1\.1"):
        pki.new_key(runner)
