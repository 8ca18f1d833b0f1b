# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same repository for dnf: repomd.xml with its signature, and what it lists.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import lzma
import posixpath
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import INDEX_LIMIT, public
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Artefact
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_deb import Package
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers

# What Debian and Kubernetes call an architecture, and what rpm does.
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}

_REPO = "{http://linux.duke.edu/metadata/repo}"
_COMMON = "{http://linux.duke.edu/metadata/common}"
_SIGNED = ("repodata/repomd.xml.key", "repodata/repomd.xml.asc", "repodata/repomd.xml")
_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress, ".xml": bytes}
_ARMOR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.S)


@dataclass(frozen=True)
class RpmRepository:
    """A repository and what it lists."""

    url: str
    place: str  # in the mirror
    metadata: tuple[Artefact, ...]
    packages: tuple[Package, ...]

    def artefact(self, package: Package, versions: tuple[str, ...]) -> Artefact:
        return _artefact(self.url, self.place, "package", package, versions)


def _artefact(url: str, place: str, kind: str, one: Package, versions: tuple[str, ...] = ()) -> Artefact:
    quoted = urllib.parse.quote(one.path, safe="/:~+=@")
    path = posixpath.join(place, one.path)
    digest = f"sha256:{one.digest}"
    return Artefact(kind, one.name, one.version, path, f"{url}/{quoted}", digest, one.size, versions)


def read(
    runner: Runner,
    servers: Servers,
    url: str,
    place: str,
    folder: Path,
    deadline: Deadline,
    *,
    verified: bool = True,
) -> RpmRepository:
    """Return a repository, with its metadata as they are on its server; *verified* only with its signature."""
    folder.mkdir(mode=0o700)
    signed = {name: servers.fetcher(url, deadline).read(f"{url}/{name}") for name in _SIGNED}
    key, signature, repomd = (signed[name] for name in _SIGNED)
    if verified:
        _verify(runner, key, signature, repomd, folder, f"{url}/{_SIGNED[2]}")
    listed = {kind: one for kind, one in _listed(repomd, url)}
    if "primary" not in listed:
        raise KubewrightError("The rpm repository lists no packages", where=public(url))
    primary = listed["primary"]
    body = servers.fetcher(url, deadline).read(f"{url}/{primary.path}", INDEX_LIMIT)
    if hashlib.sha256(body).hexdigest() != primary.digest:
        raise KubewrightError(
            "The list of packages does not have the digest that the signed index names",
            where=public(f"{url}/{primary.path}"),
            remedy="Run again: the repository may have changed in this moment",
        )
    own = [
        Package(posixpath.basename(name), "", "", name, _sha256(body), len(body))
        for name, body in signed.items()
    ]
    metadata = [_artefact(url, place, "index", one) for one in (*listed.values(), *own)]
    return RpmRepository(url, place, tuple(metadata), tuple(_packages(_unpacked(primary.path, body), url)))


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _verify(runner: Runner, key: bytes, signature: bytes, text: bytes, folder: Path, where: str) -> None:
    files = {"key.gpg": keyring(key), "repomd.xml.asc": signature, "repomd.xml": text}
    for name, body in files.items():
        (folder / name).write_bytes(body)
    argv = ["gpgv", f"--keyring={folder}/key.gpg", f"{folder}/repomd.xml.asc", f"{folder}/repomd.xml"]
    try:
        runner.run(argv, asks=True, timeout=60)
    except CommandError as error:
        error.where = public(where)
        raise


def keyring(armored: bytes) -> bytes:
    """Return the keys of a text as gpgv reads them; it knows no armour (RFC 9580, section 6)."""
    blocks = _ARMOR.findall(armored.replace(b"\r", b""))
    try:
        return b"".join(
            # The headers end with an empty line, the line of the checksum begins with "=".
            base64.b64decode(re.sub(rb"^=.*$", b"", block.partition(b"\n\n")[2], flags=re.M), validate=False)
            for block in blocks
        )
    except binascii.Error as error:
        raise KubewrightError("The key of the rpm repository cannot be read", why=str(error)) from error


def _unpacked(path: str, body: bytes) -> bytes:
    unpack = _UNPACK.get(posixpath.splitext(path)[1])
    if unpack is None:
        raise KubewrightError(
            "The list of packages of the rpm repository is packed in an unknown way",
            where=path,
            why="gz and xz are known",
        )
    return unpack(body)


def _listed(repomd: bytes, url: str) -> Iterator[tuple[str, Package]]:
    for data in _parsed(repomd, url).iter(f"{_REPO}data"):
        checksum, location, size = (data.find(f"{_REPO}{name}") for name in ("checksum", "location", "size"))
        if checksum is not None and location is not None and checksum.get("type") == "sha256":
            path = posixpath.normpath(location.get("href", ""))
            length = int(size.text or 0) if size is not None else 0
            name = posixpath.basename(path)
            yield data.get("type", ""), Package(name, "", "", path, checksum.text or "", length)


def _packages(primary: bytes, url: str) -> Iterator[Package]:
    for one in _parsed(primary, url).iter(f"{_COMMON}package"):
        name, architecture, version, checksum, location, size = (
            one.find(f"{_COMMON}{part}")
            for part in ("name", "arch", "version", "checksum", "location", "size")
        )
        if (
            name is not None
            and architecture is not None
            and version is not None
            and checksum is not None
            and checksum.get("type") == "sha256"
            and location is not None
        ):
            yield Package(
                name.text or "",
                f"{version.get('ver')}-{version.get('rel')}",
                architecture.text or "",
                posixpath.normpath(location.get("href", "")),
                checksum.text or "",
                int(size.get("package", 0)) if size is not None else 0,
            )


def _parsed(text: bytes, url: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise KubewrightError(
            "The index of the rpm repository cannot be read", where=public(url), why=str(error)
        ) from error
