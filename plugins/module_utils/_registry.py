# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a registry says of images: manifests, and the blobs that belong to them.

PRIVATE to the collection: this interface can change in any release.

A name of an image and the place where it comes from are two things: registry.k8s.io/pause:3.10.2 may come from
https://mirror.example.com/v2/registry.k8s.io. Images themselves are copied by skopeo; this only looks.
"""

from __future__ import annotations

import hashlib
import json
import re
import urllib.error
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Callable, TypeVar

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access, Fetcher, public
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

T = TypeVar("T")

# A URL of the registry API, whose path skopeo can name: it puts v2 in front of every name itself.
BASE = re.compile(r"(https?)://([^/@\s]+)/v2(?:/([^\s]*[^/\s]))?/?")
_MANIFEST = re.compile(r"https?://([^/@\s]+)/v2/(\S+)/manifests/([^/\s]+)")
_REFERENCE = re.compile(
    r"(?P<registry>[^/@:\s]+)/(?P<name>[a-z0-9._/-]+?)(?::(?P<tag>[\w.-]{1,128}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ACCEPTED = (
    *_INDEXES,
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# Registries refuse manifests that are larger.
_LIMIT = 4 << 20
_UNAUTHORIZED, _NOT_FOUND = 401, 404


@dataclass(frozen=True)
class Reference:
    """The whole name of an image."""

    registry: str
    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        match = _REFERENCE.fullmatch(text)
        # Without a dot the first part is no registry: docker.io/library/ is left out in such names. One with a port
        # cannot be a part of a name in the mirror's registry.
        if not match or "." not in match["registry"]:
            raise KubewrightError(
                f"{text!r} is not the whole name of an image",
                remedy="Begin with the registry and end with the tag, such as docker.io/library/nginx:1.29.4",
            )
        if not match["tag"] and not match["digest"]:
            raise KubewrightError(
                f"{text!r} has no tag", remedy="Name the version: what has no tag is another image every day"
            )
        return cls(match["registry"], match["name"], match["tag"] or "", match["digest"] or "")

    @property
    def wanted(self) -> str:
        """What a registry is asked for."""
        return self.digest or self.tag

    @property
    def place(self) -> str:
        """The name of the image in the mirror's registry."""
        return f"{self.registry}/{self.name}"


@dataclass(frozen=True)
class Manifest:
    """What a registry answered: of an image, or of several for as many architectures."""

    digest: str
    content: Mapping[str, Any]

    @property
    def is_index(self) -> bool:
        return self.content.get("mediaType") in _INDEXES or "manifests" in self.content

    @property
    def children(self) -> list[Mapping[str, Any]]:
        return list(self.content.get("manifests") or [])

    def child(self, architecture: str) -> str | None:
        """Return the digest of the image for an architecture, None where there is none."""
        for one in self.children:
            platform = one.get("platform") or {}
            if (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
                return str(one["digest"])
        return None

    @property
    def config(self) -> str:
        return str((self.content.get("config") or {}).get("digest", ""))

    @property
    def blobs(self) -> dict[str, int]:
        """Return the sizes of what an image is made of, by their digests, without what lives elsewhere."""
        parts = [self.content.get("config") or {}, *(self.content.get("layers") or [])]
        return {one["digest"]: int(one["size"]) for one in parts if one.get("digest") and not one.get("urls")}


class Registry:
    """A registry, at the URL of its API with the path of its images, within one deadline."""

    def __init__(self, url: str, access: Access, deadline: Deadline) -> None:
        if not BASE.fullmatch(url):
            raise KubewrightError(
                f"{public(url)!r} is not the URL of a registry",
                remedy="Give it as https://HOST/v2, or https://HOST/v2/PATH of a mirror",
            )
        self.url = url.rstrip("/")
        self._access = replace(access, headers={**access.headers, "Accept": ", ".join(_ACCEPTED)})
        self._deadline = deadline
        self._tokens: dict[str, str] = {}

    def answers(self) -> bool:
        """See whether anybody is there."""
        try:
            Fetcher(self._access, self._deadline).reach(f"{self.url.partition('/v2')[0]}/v2/")
        except KubewrightError as error:
            return "status" in error.facts
        return True

    def manifest_url(self, name: str, wanted: str) -> str:
        return f"{self.url}/{name}/manifests/{wanted}"

    def manifest(self, name: str, wanted: str) -> Manifest | None:
        """Return the manifest of a tag or digest, None where the registry has no such image."""
        url = self.manifest_url(name, wanted)
        body = self._ask(name, lambda fetcher: fetcher.read(url, _LIMIT))
        if body is None:
            return None
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if wanted.startswith("sha256:") and wanted != digest:
            raise KubewrightError(
                "A manifest does not have its digest", where=public(url), why=f"it is {digest}"
            )
        try:
            return Manifest(digest, json.loads(body))
        except ValueError as error:
            raise KubewrightError("The registry did not answer with a manifest", where=public(url)) from error

    def length(self, name: str, digest: str) -> int | None:
        """Return the size of a blob, None where the registry does not have it."""
        return self._ask(name, lambda fetcher: fetcher.length(f"{self.url}/{name}/blobs/{digest}"))

    def config(self, name: str, manifest: Manifest) -> Mapping[str, Any]:
        """Return the configuration of an image."""
        url = f"{self.url}/{name}/blobs/{manifest.config}"
        body = self._ask(name, lambda fetcher: fetcher.read(url, _LIMIT)) if manifest.config else None
        return dict(json.loads(body)) if body else {}

    def _ask(self, name: str, action: Callable[[Fetcher], T]) -> T | None:
        try:
            try:
                return action(self._fetcher(name))
            except KubewrightError as error:
                realm = _challenge(error)
                if not realm:
                    raise
            self._tokens[name] = self._token(realm, name)
            return action(self._fetcher(name))
        except KubewrightError as error:
            if error.facts.get("status") == _NOT_FOUND:
                return None
            raise

    def _fetcher(self, name: str) -> Fetcher:
        access = self._access
        if name in self._tokens:
            headers = {**access.headers, "Authorization": f"Bearer {self._tokens[name]}"}
            access = replace(access.without_credentials(), headers=headers)
        return Fetcher(access, self._deadline)

    def _token(self, realm: str, name: str) -> str:
        """Ask the server that the registry trusts for a pass; it is the one to be told the password."""
        access = replace(self._access, headers={})
        if not realm.startswith("https://"):
            access = access.without_credentials()
        body = Fetcher(access, self._deadline).read(realm)
        try:
            answer = json.loads(body)
            return str(answer.get("token") or answer["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise KubewrightError(
                "The registry's token service did not answer with a token",
                where=public(realm),
                why=f"it was asked for {name}",
            ) from error


def _challenge(error: KubewrightError) -> str:
    """Return the URL of the token that a registry asks for, empty where it does not (RFC 6750, distribution's spec)."""
    cause = error.__cause__
    if error.facts.get("status") != _UNAUTHORIZED or not isinstance(cause, urllib.error.HTTPError):
        return ""
    scheme, _space, rest = (cause.headers.get("WWW-Authenticate") or "").partition(" ")
    fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    realm = fields.pop("realm", "")
    if scheme.lower() != "bearer" or not realm.startswith(("https://", "http://")):
        return ""
    query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
    return f"{realm}{'&' if '?' in realm else '?'}{query}"


def skopeo_name(url: str) -> str:
    """Return the URL of a manifest as skopeo names the image."""
    match = _MANIFEST.fullmatch(url)
    if not match:
        raise KubewrightError(f"{public(url)!r} is not the URL of a manifest")
    host, path, wanted = match.groups()
    return f"docker://{host}/{path}{'@' if wanted.startswith('sha256:') else ':'}{wanted}"
