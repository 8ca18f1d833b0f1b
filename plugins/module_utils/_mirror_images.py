# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of a mirror: which manifest is wanted, whether its registry has it whole, and how skopeo copies it.

PRIVATE to the collection: this interface can change in any release.

For one architecture only its image is copied. For several, and for an image that is named by its digest, the index is
copied with all images that it lists, because the digest of an index is good for nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import public
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Artefact
from ansible_collections.kubewright.cluster.plugins.module_utils._registry import (
    Manifest,
    Reference,
    Registry,
    skopeo_name,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers

_POLICIES = ("/etc/containers/policy.json", "/usr/share/containers/policy.json")


@dataclass(frozen=True)
class Held:
    """What the mirror's registry has under a name."""

    digest: str
    size: int
    # Every blob is there, in its size; and what it was copied for is what is wanted now.
    whole: bool
    fits: bool


@dataclass
class Images:
    """Answers what is wanted and what is there; *local* is None where no registry runs yet."""

    source_of: Callable[[str], Registry]
    local: Registry | None
    architectures: Sequence[str]
    # The sizes of the blobs that have to come, each once.
    coming: dict[str, int] = field(default_factory=dict)

    def wanted(self, text: str, versions: Sequence[str]) -> Artefact:
        """Return an image as it is to be in the mirror. One that is there and whole is not asked for again."""
        reference = Reference.parse(text)
        held = self.held(reference)
        if held and held.whole and held.fits:
            return self._artefact(text, reference, held.digest, held.size, versions, held=True)
        source = self.source_of(reference.registry)
        found = source.manifest(reference.name, reference.wanted)
        if found is None:
            raise KubewrightError(
                f"There is no image {text}",
                where=public(source.manifest_url(reference.name, reference.wanted)),
                remedy="Compare the name and the tag with what the registry holds",
            )
        chosen = self._chosen(found, reference, source)
        blobs: dict[str, int] = {}
        for manifest in _images(chosen, lambda digest: source.manifest(reference.name, digest)):
            if manifest is None:
                raise KubewrightError(f"The registry has {text} in parts only", where=public(source.url))
            blobs.update(manifest.blobs)
        is_held = bool(held and held.whole and held.digest == chosen.digest)
        if not is_held:
            self.coming.update(blobs)
        size = sum(blobs.values())
        return self._artefact(text, reference, chosen.digest, size, versions, held=is_held)

    def held(self, reference: Reference) -> Held | None:
        """Look the image up in the mirror's registry."""
        if self.local is None:
            return None
        local, place = self.local, reference.place
        found = local.manifest(place, reference.wanted)
        if found is None:
            return None
        blobs: dict[str, int] = {}
        whole = True
        for manifest in _images(found, lambda digest: local.manifest(place, digest)):
            if manifest is None:
                whole = False
                continue
            blobs.update(manifest.blobs)
        whole = whole and all(local.length(place, blob) == size for blob, size in blobs.items())
        return Held(found.digest, sum(blobs.values()), whole, whole and self._fits(found, reference))

    def _fits(self, found: Manifest, reference: Reference) -> bool:
        if found.is_index or reference.digest:
            return True
        if len(self.architectures) > 1 or self.local is None:
            return False
        return self.local.config(reference.place, found).get("architecture") == self.architectures[0]

    def _chosen(self, found: Manifest, reference: Reference, source: Registry) -> Manifest:
        if not found.is_index:
            return found
        missing = [one for one in self.architectures if found.child(one) is None]
        if missing:
            raise KubewrightError(
                f"There is no image {reference.place}, {reference.wanted}, for {', '.join(missing)}",
                where=public(source.url),
                remedy="Correct kube_mirror_architectures, or take a version that is built for it",
            )
        digest = found.child(self.architectures[0])
        if len(self.architectures) > 1 or reference.digest or digest is None:
            return found
        child = source.manifest(reference.name, digest)
        return found if child is None else child

    def _artefact(
        self,
        text: str,
        reference: Reference,
        digest: str,
        size: int,
        versions: Sequence[str],
        held: bool,
    ) -> Artefact:
        return Artefact(
            "image",
            text,
            reference.tag,
            f"v2/{reference.place}/manifests/{reference.wanted}",
            self.source_of(reference.registry).manifest_url(reference.name, digest),
            digest,
            size,
            tuple(versions),
            held,
        )


def _images(manifest: Manifest, get: Callable[[str], Manifest | None]) -> Iterator[Manifest | None]:
    """Return the manifests of single images: the one, or all of an index."""
    if not manifest.is_index:
        yield manifest
        return
    for child in manifest.children:
        yield get(str(child["digest"]))


def copy(runner: Runner, servers: Servers, artefact: Artefact, local: Registry, deadline: Deadline) -> None:
    """Copy an image into the mirror's registry, and see that it is there under its name."""
    reference = Reference.parse(artefact.name)
    target = skopeo_name(local.manifest_url(reference.place, reference.wanted))
    # A policy of the host is obeyed; without any, skopeo does not run. Digests are verified in both cases.
    policy = [] if any(os.path.exists(path) for path in _POLICIES) else ["--insecure-policy"]
    argv = ["skopeo", *policy, "copy", "--quiet", "--all", "--preserve-digests", "--retry-times=3"]
    argv += [*servers.skopeo_options(artefact.url), "--dest-tls-verify=false", "--dest-no-creds"]
    argv += [skopeo_name(artefact.url), target]
    try:
        runner.run(argv, timeout=max(1.0, deadline.remaining()))
    except CommandError as error:
        error.where = artefact.name
        error.remedy = (
            "Run again, it goes on with the layers that are missing. If it says the same, see 'journalctl -u "
            "docker-registry' and whether the registry that it comes from answers"
        )
        raise
    found = local.manifest(reference.place, reference.wanted)
    if found is None or found.digest != artefact.digest:
        raise KubewrightError(
            "The registry of the mirror does not have what was copied into it",
            where=artefact.name,
            why=f"it has {found.digest if found else 'nothing'}, not {artefact.digest}",
        )


def sources(registries: Mapping[str, str], servers: Servers, deadline: Deadline) -> Callable[[str], Registry]:
    """Return what finds the registry that the images of a name come from."""
    known: dict[str, Registry] = {}

    def source_of(name: str) -> Registry:
        if name not in known:
            # The registry of this name has its API on another host.
            home = "registry-1.docker.io" if name == "docker.io" else name
            url = registries.get(name) or f"https://{home}/v2"
            known[name] = Registry(url, servers.access(url), deadline)
        return known[name]

    return source_of


def recheck(artefact: Artefact, images: Images) -> Artefact:
    """Return an image of a list that was made earlier, with whether it is there."""
    held = images.held(Reference.parse(artefact.name))
    return replace(artefact, held=bool(held and held.whole and held.digest == artefact.digest))
