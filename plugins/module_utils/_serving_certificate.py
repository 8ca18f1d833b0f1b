# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give the API server of this host a certificate with other names, signed by the cluster's CA.

kubeadm makes it, in a private folder. The API server watches its certificate and takes a new one over without a
restart (DynamicCertKeyPairContent in k8s.io/apiserver; it also looks once a minute).

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import write_file
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import failure
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_render import config_text
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._x509 import parse_certificate, pem_blocks

PKI = Path("/etc/kubernetes/pki")

_TIMEOUT = 60.0  # seconds
_ASK_TIMEOUT = 3.0  # seconds
_CERTIFICATE = "CERTIFICATE"


class ServingCertificate:
    """The API server's certificate in *folder*."""

    def __init__(self, runner: Runner, folder: Path = PKI) -> None:
        self._runner = runner
        self._folder = folder
        self._crt = folder / "apiserver.crt"
        self._key = folder / "apiserver.key"

    def names(self) -> list[str]:
        """Return the names and addresses in the certificate."""
        return certificate_names(self._crt.read_bytes())

    def renew(self, documents: Sequence[Mapping[str, Any]], private: Path) -> None:
        """Put a new certificate and key in place; *private* is a folder for making them."""
        crt, key = self._make(documents, private)
        # The key first: where a run is stopped in between, the certificate still lacks a name, and the next run
        # makes both again. Until then the API server goes on with the pair that it has read.
        write_file(self._key, key, 0o600)
        write_file(self._crt, crt, 0o644)

    def wait_served(self, address: tuple[str, int], deadline: Deadline) -> None:
        """Wait until the API server at *address* shows the certificate that is on the disk."""
        wanted = pem_blocks(self._crt.read_text(encoding="ascii"), _CERTIFICATE)[0]
        wait_for(
            lambda: served(address) == wanted,
            deadline,
            what="the API server of this host to take over its new certificate",
        )

    def _make(self, documents: Sequence[Mapping[str, Any]], private: Path) -> tuple[bytes, bytes]:
        if not (self._folder / "ca.key").exists():
            raise KubewrightError(
                "A certificate with other names cannot be made on this host",
                where=str(self._folder / "ca.key"),
                why="the key of the cluster's CA is kept elsewhere",
                remedy="Have the certificate made where the key is, and put it into this folder",
            )
        pki = private / "pki"
        pki.mkdir(mode=0o700)
        for name in ("ca.crt", "ca.key"):
            (pki / name).symlink_to(self._folder / name)
        argv = ["kubeadm", "init", "phase", "certs", "apiserver", "--config=/dev/stdin"]
        done = self._runner.run(
            argv, check=False, stdin=config_text(in_folder(documents, pki)), timeout=_TIMEOUT
        )
        if done.rc != 0:
            raise CommandError(
                "kubeadm did not make the API server's certificate",
                cmd=argv,
                rc=done.rc,
                stderr=done.stderr,
                why=failure(done.stderr) or failure(done.stdout),
                remedy="Correct kube_control_plane_certificate_sans. The certificate in use was not touched",
            )
        return (pki / "apiserver.crt").read_bytes(), (pki / "apiserver.key").read_bytes()


def in_folder(documents: Sequence[Mapping[str, Any]], pki: Path) -> list[Mapping[str, Any]]:
    """Let kubeadm work with the certificates of another folder."""
    return [
        {**document, "certificatesDir": str(pki)}
        if document.get("kind") == "ClusterConfiguration"
        else document
        for document in documents
    ]


def certificate_names(pem: bytes) -> list[str]:
    try:
        read = parse_certificate(pem)
    except ValueError as error:
        raise KubewrightError(
            "The certificate of the API server cannot be read",
            where=str(PKI / "apiserver.crt"),
            why=str(error),
            remedy="Renew it with 'kubeadm certs renew apiserver'",
        ) from error
    return [*read.dns_names, *read.ip_addresses]


def served(address: tuple[str, int]) -> bytes | None:
    """Return the certificate that a server shows, None when it does not answer."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        plain = socket.create_connection(address, timeout=_ASK_TIMEOUT)
        with context.wrap_socket(plain) as secured:
            return secured.getpeercert(binary_form=True)
    except OSError:
        return None
