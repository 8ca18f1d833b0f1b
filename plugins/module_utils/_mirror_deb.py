# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The package repository of one minor, as pkgs.k8s.io lays it out: flat, signed, one index for all its versions.

PRIVATE to the collection: this interface can change in any release.

apt itself fetches the index and verifies its signature, with settings and lists of its own that go away. The mirror
gives out the same signed index, so that hosts verify what upstream signed, and the packages that the versions need.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import parse_checksum, public, verify
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Artefact
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers
from ansible_collections.kubewright.cluster.plugins.module_utils._target_kubeadm import apt_get, private_apt

# In the version of the cluster; and the newest, which is what a package manager takes.
PINNED = ("kubeadm", "kubelet", "kubectl")
NEWEST = ("cri-tools", "kubernetes-cni")

REMEDY = "Compare kube_mirror_source_package_url and the versions with what the repository holds"


@dataclass(frozen=True)
class Package:
    """A package that an index names."""

    name: str
    version: str
    architecture: str
    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class DebRepository:
    """A repository whose signature was verified."""

    url: str
    place: str  # in the mirror
    key: bytes
    in_release: bytes
    packages: tuple[Package, ...]

    def indexes(self) -> Iterator[Artefact]:
        """Return what apt reads before it knows of any package."""
        for name, content in (("Release.key", self.key), ("InRelease", self.in_release)):
            yield self._index(name, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
        for name, (digest, size) in _listed(self.in_release.decode("utf-8", errors="replace")).items():
            if re.fullmatch(r"Packages(\.gz|\.xz)?", name):
                yield self._index(name, f"sha256:{digest}", size)

    def _index(self, name: str, digest: str, size: int) -> Artefact:
        path = posixpath.join(self.place, name)
        return Artefact("index", name, "", path, f"{self.url}/{name}", digest, size)

    def artefact(self, package: Package, versions: Sequence[str]) -> Artefact:
        url = f"{self.url}/{urllib.parse.quote(package.path, safe='/:~+=@')}"
        path = posixpath.join(self.place, package.path)
        digest = f"sha256:{package.digest}"
        return Artefact(
            "package", package.name, package.version, path, url, digest, package.size, tuple(versions)
        )


def read(
    runner: Runner,
    servers: Servers,
    url: str,
    place: str,
    key_checksum: str,
    folder: Path,
    deadline: Deadline,
) -> DebRepository:
    """Return a repository, with its key and its index as they are on its server."""
    folder.mkdir(mode=0o700)
    key = folder / "repository.asc"
    key_url = f"{url}/Release.key"
    fetcher = servers.fetcher(key_url, deadline)
    key.write_bytes(fetcher.read(key_url))
    if key_checksum:
        checksum = parse_checksum(key_checksum)
        actual = hashlib.new(checksum.algorithm, key.read_bytes()).hexdigest()
        verify(str(key), key_url, checksum, fetcher.expected_digest(checksum, key_url), actual)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={key}] {url}/ /\n", encoding="utf-8")
    for name in ("lists", "cache/archives"):
        (folder / name / "partial").mkdir(parents=True)
    options = [
        *private_apt(folder, sources),
        *servers.apt_options(url),
        "--option=Acquire::GzipIndexes=false",
    ]
    what = "The package repository cannot be read"
    apt_get(runner, [*options, "update"], folder, deadline, what, REMEDY)
    found = {name: list((folder / "lists").glob(f"*_{name}")) for name in ("InRelease", "Packages")}
    for name, files in found.items():
        if len(files) != 1:
            raise KubewrightError(f"The package repository has no {name}", where=public(url), remedy=REMEDY)
    return DebRepository(
        url,
        place,
        key.read_bytes(),
        found["InRelease"][0].read_bytes(),
        tuple(_packages(found["Packages"][0].read_text(encoding="utf-8"))),
    )


def _listed(text: str) -> dict[str, tuple[str, int]]:
    """Return digest and size of each file that a Release file lists."""
    block = re.search(r"^SHA256:[ ]*\n((?:[ ].*\n?)*)", text, re.M)
    rows = [line.split() for line in (block[1].splitlines() if block else [])]
    return {posixpath.normpath(row[2]): (row[0].lower(), int(row[1])) for row in rows if len(row) == 3}


def _packages(text: str) -> Iterator[Package]:
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+):[ \t]*(.*?)[ \t]*$", stanza, re.M))
        if fields:
            try:
                yield Package(
                    fields["Package"],
                    fields["Version"],
                    fields["Architecture"],
                    posixpath.normpath(fields["Filename"]),
                    fields["SHA256"].lower(),
                    int(fields["Size"]),
                )
            except (KeyError, ValueError) as error:
                raise KubewrightError(
                    "The index of the package repository cannot be read",
                    where=f"package {fields.get('Package', '?')}",
                    why=f"{error} is missing or wrong",
                ) from error


def select(
    packages: Iterable[Package],
    versions: Sequence[str],
    architectures: Sequence[str],
    where: str,
    remedy: str = REMEDY,
) -> list[tuple[Package, tuple[str, ...]]]:
    """Return what the versions of one minor need, each with the versions that need it."""
    known = list(packages)
    chosen: list[tuple[Package, tuple[str, ...]]] = []
    for architecture in architectures:
        usable = [one for one in known if one.architecture in (architecture, "all", "noarch")]
        usable.sort(key=lambda one: order(one.version))
        for version in versions:
            for name in PINNED:
                # All builds of it: a package manager that is asked for 1.36.3-* takes the newest.
                builds = [one for one in usable if one.name == name and one.version.startswith(f"{version}-")]
                _need(builds, name, version, architecture, where, remedy)
                chosen += [(one, (version,)) for one in builds]
        for name in NEWEST:
            builds = [one for one in usable if one.name == name]
            _need(builds, name, "", architecture, where, remedy)
            chosen.append((builds[-1], tuple(versions)))
    return chosen


def _need(
    builds: Sequence[Package], name: str, version: str, architecture: str, where: str, remedy: str
) -> None:
    if not builds:
        raise KubewrightError(
            f"The package repository has no {' '.join(filter(None, [name, version]))} for {architecture}",
            where=public(where),
            remedy=remedy,
        )


def order(version: str) -> list[int]:
    """Return what versions of these packages are compared by: upstream's hold nothing but numbers."""
    return [int(part) for part in re.findall(r"\d+", version)]
