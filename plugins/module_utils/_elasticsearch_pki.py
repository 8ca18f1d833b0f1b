# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority of a logging namespace and the certificates that it signs.

Keys are made by openssl and travel through pipes: they are in no file, no argument and no message. What openssl wants
as files - its configuration, a request, a certificate - is public.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import os
import re
import secrets
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import Certificate, parse_certificate

AUTHORITY_DAYS = 3650

_SECONDS = 30.0
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----\n[A-Za-z0-9+/=\n]+-----END \1-----\n")
_AUTHORITY = """basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_LEAF = """basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {usages}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


@dataclass(frozen=True)
class Leaf:
    """A certificate as it should be; the first of its names is its common name.

    One for clients too lets its owner join the nodes of Elasticsearch, which trust the authority alone.
    """

    dns_names: tuple[str, ...]
    for_clients: bool

    @property
    def usages(self) -> str:
        return "serverAuth, clientAuth" if self.for_clients else "serverAuth"

    @property
    def alt_names(self) -> str:
        return ", ".join([*(f"DNS:{name}" for name in self.dns_names), "IP:127.0.0.1"])


# --- look --------------------------------------------------------------------------------------------------


def is_due(certificate: Certificate, now: datetime) -> bool:
    """Tell whether a certificate is in the last third of its life."""
    return now > certificate.not_after - (certificate.not_after - certificate.not_before) / 3


def leaf_problem(held: Mapping[str, str], authority: str, leaf: Leaf, now: datetime) -> str:
    """Return why a new certificate is needed, empty for a good one. *held* is the data of its Secret."""
    if not held.get("tls.crt") or not held.get("tls.key"):
        return "there is none"
    try:
        certificate = parse_certificate(held["tls.crt"])
    except ValueError as error:
        return f"it cannot be read: {error}"
    if set(certificate.dns_names) != set(leaf.dns_names):
        return f"its names are {', '.join(certificate.dns_names) or 'none'}"
    if is_due(certificate, now):
        return f"it ends on {certificate.not_after:%Y-%m-%d}"
    return _handshake_problem(held["tls.crt"], held["tls.key"], authority, leaf)


def authority_problem(certificate: str, key: str) -> str:
    """Return what is wrong with an authority whose certificate and key belong together; empty for a good one."""
    try:
        parse_certificate(certificate)
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
    except (ValueError, ssl.SSLError) as error:
        return _told(error)
    return ""


def _handshake_problem(certificate: str, key: str, authority: str, leaf: Leaf) -> str:
    """Make the handshake that clients will make, in memory. It finds another key, authority, name or usage."""
    try:
        client = ssl.create_default_context(cadata=authority)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority)
        _load(server, certificate, key)
        if leaf.for_clients:
            server.verify_mode = ssl.CERT_REQUIRED
            _load(client, certificate, key)
        _shake_hands(client, server, leaf.dns_names[0])
    except (ValueError, ssl.SSLError) as error:
        return _told(error)
    return ""


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        waiting = []
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(end)
        if waiting == ends and not to_client.pending and not to_server.pending:
            raise ValueError("the handshake does not end")
        ends = waiting


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load certificate and key from anonymous memory; with a password an encrypted key is an error, not a prompt."""
    descriptor = os.memfd_create("kubewright-certificate")
    try:
        with open(descriptor, "w", encoding="ascii", closefd=False) as file:
            file.write(f"{certificate}\n{key}")
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)


def _told(error: Exception) -> str:
    """Name an error without what OpenSSL or Python may quote of a key."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "unreadable").lower().replace("_", " ")
    return "unreadable" if isinstance(error, UnicodeError) else str(error)


# --- make --------------------------------------------------------------------------------------------------


def new_key(runner: Runner) -> str:
    """Make a private key (P-256, PKCS #8)."""
    argv = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    return _only(_openssl(runner, argv), "PRIVATE KEY")


def new_authority(runner: Runner, key: str, name: str) -> str:
    """Make the certificate of an authority. With the key of the old one it is the same authority, for longer."""
    with tempfile.TemporaryDirectory() as folder:
        config = _write(folder, "config", _config(name, _AUTHORITY))
        argv = ["openssl", "req", "-x509", "-new", "-sha256", "-key", "/dev/stdin", "-config", config]
        argv += ["-extensions", "extensions", "-days", str(AUTHORITY_DAYS), "-set_serial", _serial()]
        return _only(_openssl(runner, argv, key), "CERTIFICATE")


def issue(
    runner: Runner, authority: str, authority_key: str, leaf: Leaf, key: str, days: int, now: datetime
) -> str:
    """Make the certificate of *key*, for *days*, but not for longer than the authority's own lives."""
    # openssl counts from a moment after this one.
    left = parse_certificate(authority).not_after - now - timedelta(hours=1)
    days = min(days, left // timedelta(days=1))
    extensions = _LEAF.format(usages=leaf.usages, names=leaf.alt_names)
    with tempfile.TemporaryDirectory() as folder:
        config = _write(folder, "config", _config(leaf.dns_names[0], extensions))
        argv = ["openssl", "req", "-new", "-sha256", "-key", "/dev/stdin", "-config", config]
        request = _write(folder, "request", _only(_openssl(runner, argv, key), "CERTIFICATE REQUEST"))
        argv = [
            "openssl",
            "x509",
            "-req",
            "-sha256",
            "-in",
            request,
            "-set_serial",
            _serial(),
            "-days",
            str(days),
        ]
        argv += ["-CA", _write(folder, "authority", authority), "-CAkey", "/dev/stdin"]
        argv += ["-extfile", config, "-extensions", "extensions"]
        return _only(_openssl(runner, argv, authority_key), "CERTIFICATE")


def _config(name: str, extensions: str) -> str:
    return (
        "[req]\nprompt = no\nstring_mask = utf8only\ndistinguished_name = subject\n"
        f"[subject]\nCN = {name}\n[extensions]\n{extensions}"
    )


def _serial() -> str:
    # RFC 5280 allows 20 octets, and the highest bit must not be set.
    return f"0x{secrets.token_hex(15)}"


def _write(folder: str, name: str, text: str) -> str:
    path = Path(folder, name)
    path.write_text(text, encoding="ascii")
    return str(path)


def _openssl(runner: Runner, argv: list[str], stdin: str | None = None) -> str:
    return runner.run(argv, stdin=stdin, timeout=_SECONDS, secret=True, asks=True).stdout


def _only(output: str, label: str) -> str:
    found = _PEM.search(output)
    if not found or found[1] != label:
        raise KubewrightError(
            f"openssl made no {label.lower()}",
            why="its output, which may be secret, does not have that form",
            remedy="Install openssl 1.1.1 or newer on the control planes",
        )
    return found.group()
