# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mirror is to hold for some versions of Kubernetes, and what of it is there.

PRIVATE to the collection: this interface can change in any release.

Packages decide about images: kubeadm of each version, from the verified package, is asked for those of its version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils import (
    _mirror_deb,
    _mirror_files,
    _mirror_rpm,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import parse_checksum, verify
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Artefact, Store, merged
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_deb import DebRepository
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_images import (
    Images,
    recheck,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers
from ansible_collections.kubewright.cluster.plugins.module_utils._target_kubeadm import TargetKubeadm

# Below the mirror's root, where docs/settings.md has them.
PACKAGES = "kubernetes/v{minor}"
MANIFEST = "manifest.json"

_CONFIGURATION = (
    "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v{version}\n"
)


@dataclass(frozen=True)
class Wish:
    """What somebody wants of a mirror."""

    versions: Sequence[str]
    architectures: Sequence[str]
    package_url: str
    package_key_checksum: str = ""
    rpm: bool = False
    files: Sequence[Mapping[str, str]] = ()
    images: Sequence[str] = ()


@dataclass(frozen=True)
class Tools:
    """What the plan is made with; *folder* goes away afterwards."""

    run_command: Callable[..., tuple[int, str, str]]
    outside: Runner
    servers: Servers
    store: Store
    images: Images
    folder: Path
    deadline: Deadline
    check_mode: bool = False


@dataclass(frozen=True)
class Plan:
    """All artefacts, in the order in which they come."""

    artefacts: tuple[Artefact, ...]
    missing_bytes: int


def plan(wish: Wish, tools: Tools) -> Plan:
    """Ask upstream, or another mirror, and compare it with what is there."""
    found: list[Artefact] = []
    images: dict[str, list[str]] = {name: [] for name in wish.images}
    for minor, versions in _by_minor(wish.versions).items():
        repository = _deb(minor, wish, tools)
        chosen = _mirror_deb.select(repository.packages, versions, wish.architectures, repository.url)
        found += [repository.artefact(package, wanted_by) for package, wanted_by in chosen]
        found += [replace(one, versions=tuple(versions)) for one in repository.indexes()]
        if wish.rpm:
            found += _rpm(minor, versions, wish, tools)
        for version in versions:
            for name in _images_of(version, repository, tools):
                images.setdefault(name, []).append(version)
                # What is wanted anyway is wanted by all.
                if name in wish.images:
                    images[name] = []
    found = [replace(one, held=tools.store.holds(one.path, one.digest)) for one in found]
    found += _mirror_files.wanted(wish.files, tools.store, tools.servers, tools.deadline)
    found += [tools.images.wanted(name, versions) for name, versions in images.items()]
    return _plan(found, sum(tools.images.coming.values()))


def plan_from(store: Store, images: Images) -> Plan:
    """Compare the list that an earlier run left in the mirror with what is there, and ask nobody."""
    text = store.content(MANIFEST)
    if text is None:
        raise KubewrightError(
            "There is no list of what the mirror holds",
            where=store.path(MANIFEST),
            remedy="Bring the whole folder of a mirror that was filled, or fill this one with kube_mirror_fill: true",
        )
    try:
        listed: list[dict[str, Any]] = json.loads(text)["artefacts"]
        known = [Artefact.read({**one, "held": False}) for one in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise KubewrightError(
            "The list of what the mirror holds cannot be read",
            where=store.path(MANIFEST),
            why=str(error),
            remedy="Bring the folder again",
        ) from error
    found = [
        recheck(one, images) if one.kind == "image" else replace(one, held=store.holds(one.path, one.digest))
        for one in known
    ]
    return _plan(found, sum(one.size for one in found if one.kind == "image" and not one.held))


def _plan(found: Sequence[Artefact], image_bytes: int) -> Plan:
    artefacts = tuple(merged(found))
    files = sum(one.size for one in artefacts if one.kind != "image" and not one.held)
    return Plan(artefacts, files + image_bytes)


def _by_minor(versions: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for version in sorted(set(versions), key=_mirror_deb.order):
        found.setdefault(".".join(version.split(".")[:2]), []).append(version)
    return found


def _place(minor: str, wish: Wish, kind: str) -> tuple[str, str]:
    """Return where a repository is, and where it is to be in the mirror."""
    url = wish.package_url.replace("{minor}", minor).rstrip("/")
    return f"{url}/{kind}", f"{PACKAGES.format(minor=minor)}/{kind}"


def _deb(minor: str, wish: Wish, tools: Tools) -> DebRepository:
    url, place = _place(minor, wish, "deb")
    folder = tools.folder / f"deb-{minor}"
    return _mirror_deb.read(
        tools.outside, tools.servers, url, place, wish.package_key_checksum, folder, tools.deadline
    )


def _rpm(minor: str, versions: Sequence[str], wish: Wish, tools: Tools) -> Iterator[Artefact]:
    url, place = _place(minor, wish, "rpm")
    repository = _mirror_rpm.read(
        tools.outside,
        tools.servers,
        url,
        place,
        tools.folder / f"rpm-{minor}",
        tools.deadline,
        # Check mode lists what a host would get that has no gpgv yet.
        verified=not tools.check_mode or tools.outside.find("gpgv") is not None,
    )
    names = [_mirror_rpm.ARCHITECTURES[one] for one in wish.architectures]
    for package, wanted_by in _mirror_deb.select(repository.packages, versions, names, url):
        yield repository.artefact(package, wanted_by)
    for one in repository.metadata:
        yield replace(one, versions=tuple(versions))


def _images_of(version: str, repository: DebRepository, tools: Tools) -> list[str]:
    """Ask kubeadm of a version, which has to run on this machine, whatever the mirror is for."""
    runner = Runner(tools.run_command)
    own = runner.run(["dpkg", "--print-architecture"], asks=True).stdout.strip()
    chosen = _mirror_deb.select(repository.packages, [version], [own], repository.url)
    package = next(one for one, _versions in reversed(chosen) if one.name == "kubeadm")
    artefact = repository.artefact(package, [version])
    path = tools.store.path(artefact.path)
    if not tools.store.holds(artefact.path, artefact.digest):
        path = str(tools.folder / f"kubeadm-{version}.deb")
        checksum = parse_checksum(artefact.digest)
        fetcher = tools.servers.fetcher(artefact.url, tools.deadline)
        actual = fetcher.download(artefact.url, path, checksum.algorithm)
        verify(path, artefact.url, checksum, checksum.digest, actual)
    unpacked = tools.folder / f"kubeadm-{version}"
    runner.run(["dpkg-deb", "--extract", path, str(unpacked)], timeout=120, asks=True)
    kubeadm = TargetKubeadm(tools.run_command, str(unpacked / "usr/bin/kubeadm"))
    return kubeadm.images(_CONFIGURATION.format(version=version), version)
