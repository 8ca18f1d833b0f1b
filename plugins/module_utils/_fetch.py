# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download a file and prove that it is the right one.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import posixpath
import re
import urllib.error
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Callable, TypeVar

from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

T = TypeVar("T")

BLOCK = 1 << 20

# Hexadecimal digits of a digest.
ALGORITHMS = {"sha256": 64, "sha512": 128}

# A file of checksums is text of some kilobytes; a server that answers with more does not serve one.
SUMS_LIMIT = 1 << 20
# The index of a repository. Upstream's has some kilobytes; that of a mirror which holds a whole distribution, 60 MB.
INDEX_LIMIT = 1 << 28

# Seconds in which a server must send the next byte.
SILENCE = 60.0

# A server that is restarted answers again after seconds. What lasts longer is for a person to see.
ATTEMPTS = 3

# HTTP: request timeout, too many requests. The errors of servers (5xx) come on top.
TRANSIENT = (408, 429)


def passwords(access: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Return what of the options of servers is secret: set a module's no_log_values to it.

    Otherwise Ansible masks the name of a user as well, wherever that word stands in what the module returns.
    """
    return {wants["password"] for wants in access.values() if wants.get("password")}


@dataclass(frozen=True)
class Access:
    """How to reach a server, in the names of the arguments of `open_url`."""

    headers: Mapping[str, str] = field(default_factory=dict)
    ca_path: str | None = None
    use_proxy: bool = True
    url_username: str | None = None
    url_password: str | None = None

    def open(self, url: str, timeout: float) -> Any:
        # decompress=False: the checksum is that of the bytes on the server.
        return open_url(
            url,
            headers=dict(self.headers),
            ca_path=self.ca_path,
            use_proxy=self.use_proxy,
            url_username=self.url_username,
            url_password=self.url_password,
            force_basic_auth=self.url_username is not None,
            # Mirrors redirect to storage of somebody else, whom the password is not for.
            unredirected_headers=["Authorization"],
            timeout=timeout,
            decompress=False,
            http_agent="kubewright.cluster",
        )

    def without_credentials(self) -> Access:
        return replace(self, url_username=None, url_password=None)


@dataclass(frozen=True)
class Checksum:
    """An algorithm and a digest, or the URL of a file with lines of digest and file name."""

    algorithm: str
    digest: str = ""
    sums_url: str = ""


def parse_checksum(text: str) -> Checksum:
    algorithm, _colon, value = text.partition(":")
    digits = ALGORITHMS.get(algorithm)
    if digits and "://" in value:
        return Checksum(algorithm, sums_url=value)
    if digits and re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", value):
        return Checksum(algorithm, digest=value.lower())
    raise KubewrightError(
        f"The checksum {public(text)!r} cannot be used",
        remedy="Give sha256 or sha512, a colon, and all digits of a digest or the URL of a file of digests",
    )


def public(url: str) -> str:
    """A URL without what may be secret in it: user, password, query. Other text stays as it is."""
    before, separator, rest = url.rpartition("://")
    return before + separator + rest.partition("?")[0].rpartition("@")[2] if separator else url


def server(url: str) -> tuple[str, str]:
    """The scheme and the host with its port: who is spoken to."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2].lower()


def file_name(url: str) -> str:
    return posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))


def find_digest(sums: str, algorithm: str, name: str) -> str | None:
    """The digest of a file in the output of sha256sum and its like, or in a file that is only one digest."""
    line = re.compile(rf"([0-9a-fA-F]{{{ALGORITHMS[algorithm]}}})(?:\s+\*?(.+))?")
    lines = [match.groups() for text in sums.splitlines() if (match := line.fullmatch(text.strip()))]
    if len(lines) == 1 and lines[0][1] is None:
        return str(lines[0][0]).lower()
    named = {posixpath.basename(found): digest.lower() for digest, found in lines if found}
    return named.get(name)


def named_digest(sums: str, checksum: Checksum, url: str) -> str:
    """The digest that a file of digests has for the file of `url`."""
    digest = find_digest(sums, checksum.algorithm, file_name(url))
    if digest is None:
        raise KubewrightError(
            f"There is no {checksum.algorithm} digest of {file_name(url)}",
            where=public(checksum.sums_url),
            why="no line of this file names it",
            remedy="Compare the version and the architecture in both URLs",
        )
    return digest


class Fetcher:
    """Downloads within one deadline."""

    def __init__(self, access: Access, deadline: Deadline) -> None:
        self._access = access
        self._deadline = deadline

    @property
    def deadline(self) -> Deadline:
        return self._deadline

    def expected_digest(self, checksum: Checksum, url: str) -> str:
        """The digest that the file of `url` must have."""
        if checksum.digest:
            return checksum.digest
        # The credentials are those of the server of `url`.
        own = server(checksum.sums_url) == server(url)
        access = self._access if own else self._access.without_credentials()
        sums = self._retry(lambda: Fetcher(access, self._deadline)._read_sums(checksum.sums_url))
        return named_digest(sums, checksum, url)

    def download(self, url: str, path: str, algorithm: str) -> str:
        """Write the file of `url` to `path` and return its digest."""
        return self._retry(lambda: self._write(url, path, algorithm))

    def text(self, url: str) -> str:
        """Return a file of digests."""
        return self._retry(lambda: self._read_sums(url))

    def read(self, url: str, limit: int = SUMS_LIMIT) -> bytes:
        """Return a small file."""
        return self._retry(lambda: self._collect(url, limit))

    def length(self, url: str) -> int | None:
        """Return how long a file is, without reading it; None where the server does not say."""

        def ask() -> int | None:
            with self._open(url) as response:
                announced = response.headers.get("Content-Length")
            return None if announced is None else int(announced)

        return self._retry(ask)

    def holds(self, url: str, text: str) -> bool:
        """See whether a text is in a file, such as an index, which may be large."""
        return self._retry(lambda: self._find(url, text.encode()))

    def reach(self, url: str) -> None:
        """See that the server has a file, without reading it."""
        self._retry(lambda: self._open(url).close())

    def _read_sums(self, url: str) -> str:
        return self._collect(url, SUMS_LIMIT).decode("utf-8", errors="replace")

    def _collect(self, url: str, limit: int) -> bytes:
        blocks: list[bytes] = []
        self._stream(url, blocks.append, limit=limit)
        return b"".join(blocks)

    def _find(self, url: str, wanted: bytes) -> bool:
        found, rest = False, b""

        def take(block: bytes) -> None:
            nonlocal found, rest
            block = rest + block
            found = found or wanted in block
            # Its beginning may be the end of this block.
            rest = block[-len(wanted) :]

        self._stream(url, take, limit=INDEX_LIMIT)
        return found

    def _write(self, url: str, path: str, algorithm: str) -> str:
        digest = hashlib.new(algorithm)
        with open(path, "wb") as target:

            def take(block: bytes) -> None:
                digest.update(block)
                target.write(block)

            self._stream(url, take)
        return digest.hexdigest()

    def _stream(self, url: str, take: Callable[[bytes], Any], limit: int | None = None) -> None:
        received = 0
        with self._open(url) as response:
            while block := self._read(response, url):
                received += len(block)
                if limit is not None and received > limit:
                    raise KubewrightError(
                        "This is no file of checksums, and no index",
                        where=public(url),
                        why=f"it is longer than {limit} bytes",
                        remedy="Open this URL: another file is behind it than its name says",
                    )
                if self._deadline.expired:
                    raise DeadlineExpired(
                        f"The download did not end in {self._deadline.seconds:g} seconds",
                        where=public(url),
                        why=f"{received} bytes have come",
                        remedy="Use a nearer mirror or a longer timeout",
                    )
                take(block)
            announced = response.headers.get("Content-Length")
        if announced is not None and int(announced) != received:
            raise _unreachable(url, f"the connection ended after {received} of {announced} bytes")

    def _open(self, url: str) -> Any:
        try:
            return self._access.open(url, min(SILENCE, max(1.0, self._deadline.remaining())))
        except urllib.error.HTTPError as error:
            raise KubewrightError(
                "A file cannot be downloaded",
                where=public(url),
                why=f"the server answers {error.code} {error.reason}",
                remedy="Check that the server or mirror holds this version for this architecture",
                transient=error.code >= 500 or error.code in TRANSIENT,
                status=error.code,
            ) from error
        except urllib.error.URLError as error:
            raise _unreachable(url, str(error.reason)) from error
        except (OSError, http.client.HTTPException, UrlsConnectionError, ValueError) as error:
            raise _unreachable(url, str(error)) from error

    @staticmethod
    def _read(response: BinaryIO, url: str) -> bytes:
        try:
            return response.read(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(url, str(error)) from error

    def _retry(self, action: Callable[[], T]) -> T:
        for attempt in range(1, ATTEMPTS):
            try:
                return action()
            except KubewrightError as error:
                if not error.transient or self._deadline.expired:
                    raise
            self._deadline.sleep(attempt)
        return action()


def _unreachable(url: str, why: str) -> KubewrightError:
    return KubewrightError(
        "A file cannot be downloaded",
        where=public(url),
        why=why,
        remedy="Check that this host reaches the server, or set the URL of a mirror",
        transient=True,
    )


def verify(path: str, url: str, checksum: Checksum, expected: str, actual: str) -> None:
    """Refuse a download with another digest than it should have."""
    if expected != actual:
        raise KubewrightError(
            "A download does not have its checksum",
            where=public(url),
            why=f"{checksum.algorithm} is {actual} ({os.path.getsize(path)} bytes), but "
            f"{public(checksum.sums_url) or 'the checksum'} says {expected}",
            remedy="Compare both with what the project publishes; a mirror or proxy may serve another file",
            expected=expected,
            actual=actual,
        )
