# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificates of an etcd of its own, with the real openssl: what is asked for, signed, refused and renewed."""

from __future__ import annotations

import os
import stat
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _etcd_pki as pki
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate
from ansible_collections.kubewright.cluster.plugins.modules import etcd_authority, etcd_certificates

SEEN: list[list[str]] = []


def run_command(argv: list[str], **options: Any) -> tuple[int, str, str]:
    SEEN.append(argv)
    done = subprocess.run(
        argv,
        input=options.get("data"),
        capture_output=True,
        text=True,
        env={**os.environ, **options["environ_update"]},
    )
    return done.returncode, done.stdout, done.stderr


RUNNER = Runner(run_command)


class Host:
    """A host of an etcd cluster: its folder, and the two modules as the role calls them."""

    def __init__(self, folder: Path, name: str = "etcd1", address: str = "192.0.2.31") -> None:
        self.folder, self.name = folder, name
        self.leaves = [
            {
                "name": "server",
                "cert": str(folder / "server.crt"),
                "key": str(folder / "server.key"),
                "common_name": name,
                "usages": ["server", "client"],
                "dns_names": ["localhost", name],
                "ip_addresses": ["127.0.0.1", address],
            },
            {
                "name": "client",
                "cert": str(folder / "client.crt"),
                "key": str(folder / "client.key"),
                "common_name": "someone",
                "usages": ["client"],
                "dns_names": [],
                "ip_addresses": [],
            },
        ]

    def certificates(self, act: bool = True, **options: Any) -> dict[str, Any]:
        defaults = {name: one.get("default") for name, one in etcd_certificates.ARGUMENTS.items()}
        user, group = str(os.getuid()), str(os.getgid())
        params = {
            **defaults,
            "ca_cert": str(self.folder / "ca.crt"),
            "leaves": self.leaves,
            "owner": user,
            "group": group,
        }
        return etcd_certificates.work({**params, **options}, RUNNER, act=act)

    def authority(self, act: bool = True, **options: Any) -> dict[str, Any]:
        defaults = {name: one.get("default") for name, one in etcd_authority.ARGUMENTS.items()}
        return etcd_authority.work({**defaults, "folder": str(self.folder), **options}, RUNNER, act=act)

    def renew(self, holder: Host, **options: Any) -> list[str]:
        """Go the whole way once; return the paths of the certificates that were put in place."""
        authority = holder.authority(create=True)["certificate"]
        asked = self.certificates(authority=authority, **options)
        signed = holder.authority(requests=asked["requests"], leaves=self.leaves)
        return list(
            self.certificates(authority=authority, certificates=signed["certificates"], **options)[
                "installed"
            ]
        )


@pytest.fixture
def holder(tmp_path: Path) -> Host:
    return Host(tmp_path / "holder")


@pytest.fixture
def other(tmp_path: Path) -> Host:
    return Host(tmp_path / "other", "etcd2", "192.0.2.32")


def test_a_host_gets_certificates_for_keys_that_it_made(holder: Host, other: Host) -> None:
    SEEN.clear()
    assert other.renew(holder) == [str(other.folder / "server.crt"), str(other.folder / "client.crt")]
    found = parse_certificate((other.folder / "server.crt").read_text())
    assert (found.subject_cn, found.issuer_cn) == ("etcd2", "etcd-ca")
    assert set(found.dns_names) == {"localhost", "etcd2"} and set(found.ip_addresses) == {
        "127.0.0.1",
        "192.0.2.32",
    }
    assert 364 < (found.not_after - found.not_before).days <= 366
    for key in (other.folder / "server.key", holder.folder / "ca.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    # No key is an argument, and the authority's is on its host only.
    assert not any("PRIVATE" in word for argv in SEEN for word in argv)
    assert not (other.folder / "ca.key").exists() and (other.folder / "ca.crt").exists()
    text = subprocess.run(
        ["openssl", "x509", "-in", other.folder / "server.crt", "-noout", "-text"],
        capture_output=True,
        text=True,
    ).stdout
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text and "CA:FALSE" in text


def test_another_authority_is_replaced_only_when_somebody_says_so(
    holder: Host, other: Host, tmp_path: Path
) -> None:
    other.renew(holder)
    anew = Host(tmp_path / "anew").authority(create=True)["certificate"]
    before = (other.folder / "ca.crt").read_text()
    with pytest.raises(KubewrightError, match="trusts another authority"):
        other.certificates(authority=anew)
    assert other.certificates(authority=anew, replace_authority=True, act=False)["changed"]
    assert (other.folder / "ca.crt").read_text() == before
    # All that the old one signed is asked for, and what comes back is taken.
    assert len(other.renew(Host(tmp_path / "anew"), replace_authority=True)) == len(other.leaves)
    assert (other.folder / "ca.crt").read_text() == anew
    again = other.certificates(authority=anew, replace_authority=True)
    assert (again["changed"], again["needed"]) == (False, [])


def test_a_second_run_asks_for_nothing(holder: Host, other: Host) -> None:
    other.renew(holder)
    again = other.certificates(authority=holder.authority()["certificate"])
    assert (again["changed"], again["requests"], again["needed"]) == (False, {}, [])
    assert 364 < again["leaves"]["server"]["days_left"] <= 365
    assert holder.authority()["changed"] is False


def test_check_mode_makes_nothing_and_says_what_it_would(holder: Host, other: Host) -> None:
    would = holder.authority(act=False, create=True)
    assert (would["changed"], would["created"], would["certificate"]) == (True, True, "")
    asked = other.certificates(act=False)
    assert (
        asked["needed"] == ["server", "client"] and not other.folder.exists() and not holder.folder.exists()
    )
    real = holder.authority(create=True)["certificate"]
    assert other.certificates(act=False, authority=real)["changed"] and not other.folder.exists()


def test_a_renewal_keeps_the_key_and_touches_only_what_ends_soon(holder: Host, other: Host) -> None:
    other.renew(holder)
    key, before = (other.folder / "server.key").read_bytes(), (other.folder / "server.crt").read_text()
    assert other.renew(holder, renew_days=300) == []
    assert len(other.renew(holder, renew_days=366)) == 2
    assert (other.folder / "server.key").read_bytes() == key
    assert (
        parse_certificate(before).serial
        != parse_certificate((other.folder / "server.crt").read_text()).serial
    )


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda host: (host.folder / "server.crt").unlink(), "there is none"),
        (lambda host: (host.folder / "server.crt").write_text("no certificate"), "cannot be read"),
        (lambda host: (host.folder / "server.key").unlink(), "its key is missing"),
        (
            lambda host: os.replace(host.folder / "client.key", host.folder / "server.key"),
            "its key is another one",
        ),
        (lambda host: host.leaves[0].update(ip_addresses=["192.0.2.99"]), "does not name 192.0.2.99"),
        (lambda host: host.leaves[0].update(common_name="etcd9"), "it is that of etcd2"),
    ],
)
def test_what_is_not_as_it_should_be_is_asked_for_anew(
    holder: Host, other: Host, damage: Any, why: str
) -> None:
    other.renew(holder)
    damage(other)
    assert why in other.certificates()["leaves"]["server"]["problem"]
    assert str(other.folder / "server.crt") in other.renew(holder)
    assert other.certificates()["leaves"]["server"]["problem"] == ""


def test_a_certificate_of_another_authority_is_seen(holder: Host, other: Host, tmp_path: Path) -> None:
    other.renew(holder)
    stranger = Host(tmp_path / "stranger")
    stranger.authority(create=True)
    (other.folder / "ca.crt").write_text((stranger.folder / "ca.crt").read_text())
    assert other.certificates()["leaves"]["server"]["problem"] == "the authority did not sign it"
    with pytest.raises(KubewrightError, match="trusts another authority"):
        other.certificates(authority=holder.authority()["certificate"])


def test_an_expired_certificate_is_told(holder: Host, other: Host) -> None:
    other.renew(holder)
    [leaf] = pki.parse_leaves(other.leaves[:1])
    later = pki.now() + timedelta(days=400)
    held = pki.Leaves(pki.Openssl(RUNNER), str(other.folder / "ca.crt"), later).look(leaf)
    assert held.problem == "it has expired" and held.days_left is not None and held.days_left < -30


def test_the_authority_signs_no_other_name_and_nothing_that_the_request_adds(
    holder: Host, other: Host
) -> None:
    authority = holder.authority(create=True)["certificate"]
    asked = other.certificates(authority=authority)
    server, [leaf, client] = {"server": asked["requests"]["server"]}, other.leaves
    with pytest.raises(KubewrightError, match="another name"):
        holder.authority(requests=server, leaves=[{**leaf, "common_name": "etcd3"}])
    with pytest.raises(KubewrightError, match="Nobody may ask"):
        holder.authority(requests=server, leaves=[client])
    # What the request says of names counts for nothing: the description of the host does.
    signed = holder.authority(
        requests=server, leaves=[{**leaf, "ip_addresses": ["192.0.2.50"], "dns_names": []}]
    )
    assert parse_certificate(signed["certificates"]["server"]).ip_addresses == ["192.0.2.50"]
    with pytest.raises(KubewrightError, match="not the one that was asked for"):
        other.certificates(authority=authority, certificates=signed["certificates"])


def test_a_lost_key_of_the_authority_is_never_replaced_by_a_new_authority(holder: Host, other: Host) -> None:
    other.renew(holder)
    (holder.folder / "ca.key").unlink()
    with pytest.raises(KubewrightError, match="from a backup"):
        holder.authority()
    assert holder.authority(required=False)["certificate"] == ""
    with pytest.raises(KubewrightError, match="without its key"):
        holder.authority(create=True)
    # What is valid stays in use all the same.
    assert other.certificates()["needed"] == []


def test_a_key_of_another_authority_signs_nothing(holder: Host, tmp_path: Path) -> None:
    holder.authority(create=True)
    stranger = Host(tmp_path / "stranger")
    stranger.authority(create=True)
    os.replace(stranger.folder / "ca.key", holder.folder / "ca.key")
    with pytest.raises(KubewrightError, match="not that of its certificate"):
        holder.authority()


def test_an_interrupted_creation_goes_on_with_its_key(holder: Host) -> None:
    holder.folder.mkdir()
    pki.Openssl(RUNNER).make_key(str(holder.folder / "ca.key"))
    key = (holder.folder / "ca.key").read_bytes()
    assert holder.authority(create=True)["created"]
    assert (holder.folder / "ca.key").read_bytes() == key
    assert [path.name for path in holder.folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["a b", "x\nbasicConstraints=CA:TRUE", "", "/etc/passwd", "-out"])
def test_a_name_that_would_be_a_setting_of_openssl_is_refused(holder: Host, name: str) -> None:
    holder.leaves[0]["dns_names"] = [name]
    with pytest.raises(KubewrightError, match="cannot stand in a certificate"):
        pki.parse_leaves(holder.leaves)
    holder.leaves[0].update(dns_names=[], ip_addresses=["192.0.2.256"])
    with pytest.raises(KubewrightError, match="cannot stand"):
        pki.parse_leaves(holder.leaves)
