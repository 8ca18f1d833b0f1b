# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificates of an etcd cluster of its own: leaves on every host, the authority's key on one.

A private key is made where it is used and stays there. What travels is a request, of which the authority takes
the public key and the common name only, and the certificate that comes back. Names and usages are those of the
description, so that no host can ask for those of another one.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import step
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import (
    parse_certificate,
    parse_request,
    pem_blocks,
)

USAGES = {"server": "serverAuth", "client": "clientAuth"}

_DAY = 86400
_SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*$")
_CONFIG = "[req]\ndistinguished_name=none\n[none]\n"
_AUTHORITY_CONFIG = """[req]
distinguished_name=none
x509_extensions=authority
[none]
[authority]
basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
"""


@dataclass(frozen=True)
class Leaf:
    """One certificate with its key, as it should be."""

    name: str
    cert: str
    key: str
    common_name: str
    usages: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()

    @property
    def addresses(self) -> set[str]:
        return {str(ipaddress.ip_address(one)) for one in self.ip_addresses}


@dataclass(frozen=True)
class Held:
    """One certificate as it is. *problem* says why a new one is needed; it is empty for a good one."""

    problem: str
    days_left: float | None
    not_after: str = ""
    has_key: bool = False

    def returned(self) -> dict[str, Any]:
        return {"problem": self.problem, "days_left": self.days_left, "not_after": self.not_after}


def parse_leaves(items: list[Mapping[str, Any]]) -> list[Leaf]:
    """Check what the user gave; it ends up in a configuration of openssl, where a line feed would be a setting."""
    leaves = []
    for item in items:
        names = [item["name"], item["common_name"], *item["dns_names"]]
        wrong = [name for name in names if not _NAME.match(name) or "\n" in name]
        for text in item["ip_addresses"]:
            try:
                ipaddress.ip_address(text)
            except ValueError:
                wrong.append(text)
        if wrong:
            raise KubewrightError(
                f"{wrong[0]!r} cannot stand in a certificate",
                where=f"leaf {item['name']!r}",
                remedy="Give DNS names, and IP addresses as such",
            )
        leaves.append(
            Leaf(
                item["name"],
                item["cert"],
                item["key"],
                item["common_name"],
                tuple(item["usages"]),
                tuple(item["dns_names"]),
                tuple(item["ip_addresses"]),
            )
        )
    return leaves


def fingerprint(pem: str) -> str:
    """Return the SHA-256 of the first certificate of a text, empty where there is none."""
    blocks = pem_blocks(pem, "CERTIFICATE")
    return hashlib.sha256(blocks[0]).hexdigest() if blocks else ""


def read(path: str) -> str:
    """Return a text file, empty where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def days_left(not_after: datetime, now: datetime) -> float:
    return round((not_after - now).total_seconds() / _DAY, 2)


class Openssl:
    """Runs openssl. No secret is ever an argument or an output: keys are files."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        if not runner.find("openssl"):
            raise KubewrightError(
                "openssl is not installed",
                where="this host",
                remedy="Install the package openssl: the keys of this host are made with it",
            )

    def run(self, *words: str, stdin: str | None = None, check: bool = True, asks: bool = True) -> str | None:
        """Return what one call prints; None where it fails and *check* is false."""
        done = self._runner.run(["openssl", *words], stdin=stdin, check=check, timeout=_SECONDS, asks=asks)
        return done.stdout if done.rc == 0 else None

    def public_of_key(self, key: str) -> str | None:
        return self.run("pkey", "-in", key, "-pubout", check=False)

    def public_of_certificate(self, cert: str) -> str | None:
        return self.run("x509", "-in", cert, "-noout", "-pubkey", check=False)

    def signed_by(self, cert: str, authority: str) -> bool:
        """Tell whether the authority signed it, whatever the time is."""
        return self.run("verify", "-no_check_time", "-CAfile", authority, cert, check=False) is not None

    def make_key(self, path: str) -> None:
        with _finished(path, 0o600) as new:
            self.run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", new)


@contextlib.contextmanager
def _finished(path: str, mode: int, owner: tuple[int, int] | None = None) -> Iterator[str]:
    """Let a file be made under another name; it gets its own when it is whole."""
    folder = os.path.dirname(path)
    descriptor, new = tempfile.mkstemp(prefix=".kubewright-", dir=folder)
    os.close(descriptor)
    try:
        with step("write", path):
            yield new
            os.chmod(new, mode)
            if owner:
                os.chown(new, *owner)
            sync(new)
            os.replace(new, path)
            sync(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)


def write(path: str, text: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Write a file so that a reader finds the old one or the new one."""
    with _finished(path, mode, owner) as new:
        Path(new).write_text(text, encoding="utf-8")


def make_folder(path: str) -> None:
    os.makedirs(path, mode=0o755, exist_ok=True)


class Leaves:
    """The certificates of this host. *owner* is user and group of the keys."""

    def __init__(
        self, openssl: Openssl, authority: str, now: datetime, owner: tuple[int, int] | None = None
    ) -> None:
        self._openssl = openssl
        self._authority = authority
        self._now = now
        self._owner = owner

    def look(self, leaf: Leaf, renew_days: int = 0) -> Held:
        """Say whether a certificate is as it should be, and why not."""
        has_key = os.path.exists(leaf.key)
        text = read(leaf.cert)
        if not text:
            return Held("there is none", None, has_key=has_key)
        try:
            found = parse_certificate(text)
        except ValueError as error:
            return Held(f"it cannot be read: {error}", None, has_key=has_key)
        left = days_left(found.not_after, self._now)
        problem = ""
        missing = [*(set(leaf.dns_names) - set(found.dns_names)), *(leaf.addresses - set(found.ip_addresses))]
        if not has_key:
            problem = "its key is missing"
        elif self._openssl.public_of_key(leaf.key) != self._openssl.public_of_certificate(leaf.cert):
            problem = "its key is another one"
        elif not os.path.exists(self._authority) or not self._openssl.signed_by(leaf.cert, self._authority):
            problem = "the authority did not sign it"
        elif found.subject_cn != leaf.common_name:
            problem = f"it is that of {found.subject_cn}"
        elif missing:
            problem = f"it does not name {', '.join(sorted(missing))}"
        elif left <= 0:
            problem = "it has expired"
        elif left < renew_days:
            problem = f"it ends in {left:.0f} days"
        return Held(problem, left, found.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"), has_key)

    def request(self, leaf: Leaf) -> str:
        """Return a request for the key of this host, which is made where there is none."""
        make_folder(os.path.dirname(leaf.key))
        if not os.path.exists(leaf.key):
            self._openssl.make_key(leaf.key)
        os.chmod(leaf.key, 0o600)
        if self._owner:
            os.chown(leaf.key, *self._owner)
        words = ["req", "-new", "-key", leaf.key, "-subj", f"/CN={leaf.common_name}", "-config", "/dev/stdin"]
        return self._openssl.run(*words, stdin=_CONFIG) or ""

    def install(self, leaf: Leaf, certificate: str) -> None:
        """Put a certificate in place when it is the one that was asked for."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "new.crt")
            Path(path).write_text(certificate, encoding="utf-8")
            candidate = Leaf(
                leaf.name, path, leaf.key, leaf.common_name, leaf.usages, leaf.dns_names, leaf.ip_addresses
            )
            problem = self.look(candidate).problem
        if problem:
            raise KubewrightError(
                "The certificate that came back is not the one that was asked for",
                where=leaf.cert,
                why=problem,
                remedy="Look at the authority's host; its certificate must be the one that this host trusts",
            )
        write(leaf.cert, certificate, 0o644, self._owner)


class Authority:
    """The authority, on the one host that has its key."""

    def __init__(self, openssl: Openssl, folder: str, now: datetime) -> None:
        self._openssl = openssl
        self.cert = os.path.join(folder, "ca.crt")
        self.key = os.path.join(folder, "ca.key")
        self._now = now

    @property
    def exists(self) -> bool:
        return os.path.exists(self.cert) and os.path.exists(self.key)

    def create(self, common_name: str, days: int) -> None:
        """Make the authority; the key first, so that a certificate is never without its key."""
        if os.path.exists(self.cert):
            raise KubewrightError(
                "There is the certificate of an authority without its key",
                where=self.cert,
                remedy="Bring the key back, from a backup or from the host that has it. Without it nothing can be "
                "signed; a new authority would cut all members off",
            )
        make_folder(os.path.dirname(self.key))
        if not os.path.exists(self.key):
            self._openssl.make_key(self.key)
        with _finished(self.cert, 0o644) as new:
            self._openssl.run(
                "req", "-x509", "-new", "-key", self.key, "-days", str(days), "-sha256",
                "-subj", f"/CN={common_name}", "-config", "/dev/stdin", "-out", new,
                stdin=_AUTHORITY_CONFIG,
            )  # fmt: skip

    def check(self) -> str:
        """Return the certificate of the authority, once it is one that can sign."""
        if self._openssl.public_of_key(self.key) != self._openssl.public_of_certificate(self.cert):
            raise KubewrightError(
                "The key of the authority is not that of its certificate",
                where=self.key,
                remedy="Bring both from the same backup",
            )
        text = read(self.cert)
        left = days_left(parse_certificate(text).not_after, self._now)
        if left <= 0:
            raise KubewrightError(
                "The authority has expired",
                where=self.cert,
                why=f"{-left:.0f} days ago",
                remedy="Make a new one by hand and give its certificates to all hosts at once",
            )
        return text

    def sign(self, leaf: Leaf, request: str, days: int) -> str:
        """Return a certificate for the public key of a request."""
        asked = parse_request(request)
        if asked.subject_cn != leaf.common_name or asked.subject_orgs or asked.subject_other:
            raise KubewrightError(
                "A request asks for another name than the one that its host has",
                where=f"request {leaf.name}",
                why=f"it is for {asked.subject_cn!r} instead of {leaf.common_name!r}",
            )
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "request.csr")
            Path(path).write_text(request, encoding="utf-8")
            # Not longer than the authority itself: what outlives it is refused all the same.
            life = parse_certificate(read(self.cert)).not_after - self._now
            signed = self._openssl.run(
                "x509", "-req", "-in", path, "-CA", self.cert, "-CAkey", self.key, "-sha256",
                "-set_serial", f"0x{secrets.randbits(120):030x}", "-days", str(max(1, min(days, life.days))),
                "-extfile", "/dev/stdin", stdin=extensions(leaf), asks=False,
            )  # fmt: skip
        return signed or ""


def extensions(leaf: Leaf) -> str:
    """Return what a certificate says beside its name, as openssl reads it."""
    lines = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        f"extendedKeyUsage={','.join(USAGES[usage] for usage in leaf.usages)}",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
    ]
    names = [f"DNS:{name}" for name in leaf.dns_names] + [f"IP:{one}" for one in sorted(leaf.addresses)]
    if names:
        lines.append(f"subjectAltName={','.join(names)}")
    return "".join(f"{line}\n" for line in lines)


def now() -> datetime:
    return datetime.now(timezone.utc)


def ensure_authority_here(
    path: str, authority: str, owner: tuple[int, int] | None, *, act: bool, replace: bool = False
) -> bool:
    """Bring the authority's certificate to this host; only where *replace* says so, in the place of another one."""
    here = read(path)
    other = bool(here and authority) and fingerprint(here) != fingerprint(authority)
    if other and not replace:
        raise KubewrightError(
            "This host trusts another authority than the other hosts of its etcd cluster",
            where=path,
            remedy="If the file is a remain of another cluster, remove it with the certificates beside it, and run "
            "again. Otherwise find out which authority the members have",
        )
    if not authority or (here and not other):
        return False
    if act:
        make_folder(os.path.dirname(path))
        write(path, authority, 0o644, owner)
    return True
