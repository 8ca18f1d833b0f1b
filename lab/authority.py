"""The origin's private certificate authority, its certificate and its password: made once for a lab."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from lab.shell import run

USER = "kubewright"

# What a strict verifier (Python 3.13 is one) wants to see in both.
CONFIGURATION = """\
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:%s
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def ensure(state: Path, name: str) -> Path:
    """Return the folder that the origin serves TLS with; STATE/origin-password is for the inventory."""
    folder = state / "origin"
    if not folder.exists():
        password = secrets.token_urlsafe(24)
        with tempfile.TemporaryDirectory(dir=state) as scratch:
            part = Path(scratch) / "part"
            part.mkdir()
            _certificates(part, name)
            digest = run(["openssl", "passwd", "-apr1", "-stdin"], stdin=f"{password}\n").strip()
            (part / "htpasswd").write_text(f"{USER}:{digest}\n")
            secret = state / "origin-password"
            secret.touch(mode=0o600)
            secret.write_text(password)
            part.rename(folder)
    return folder


def _certificates(folder: Path, name: str) -> None:
    """Write ca.pem, server.pem and server.key; the authority's own key stays outside the folder."""
    settings = "../openssl.cnf"
    (folder / settings).write_text(CONFIGURATION % name)
    new = ["-config", settings, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-extensions", "authority", "-keyout", "../ca.key", "-out", "ca.pem", "-days", "3650"]
    run(["openssl", "req", "-x509", *new, *authority, "-subj", "/CN=authority of the lab"], cwd=folder)
    server = ["-keyout", "server.key", "-out", "../server.csr", "-subj", f"/CN={name}"]
    run(["openssl", "req", *new, *server], cwd=folder)
    sign = ["-CA", "ca.pem", "-CAkey", "../ca.key", "-set_serial", "1", "-days", "3650", "-out", "server.pem"]
    sign += ["-extfile", settings, "-extensions", "server"]
    run(["openssl", "x509", "-req", "-in", "../server.csr", *sign], cwd=folder)
