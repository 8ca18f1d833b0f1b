# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release files and other single files of a mirror, with the files of digests that belong to them.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import (
    Checksum,
    file_name,
    find_digest,
    named_digest,
    parse_checksum,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Artefact, Store
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers


def wanted(
    files: Iterable[Mapping[str, str]], store: Store, servers: Servers, deadline: Deadline
) -> Iterator[Artefact]:
    """Return the files, and the files of digests next to them, from which hosts take the digests again.

    Where both are there and agree, nobody is asked.
    """
    for one in files:
        yield from _file(one["url"], one["path"], parse_checksum(one["checksum"]), store, servers, deadline)


def _file(
    url: str, path: str, checksum: Checksum, store: Store, servers: Servers, deadline: Deadline
) -> Iterator[Artefact]:
    digest = checksum.digest
    if checksum.sums_url:
        name = file_name(checksum.sums_url)
        sums_path = posixpath.join(posixpath.dirname(path), name)
        sums = store.content(sums_path)
        held = sums is not None and _agree(sums, checksum, url, path, store)
        if sums is None or not held:
            sums = servers.fetcher(checksum.sums_url, deadline).read(checksum.sums_url)
        digest = named_digest(sums.decode("utf-8", errors="replace"), checksum, url)
        sums_digest = f"sha256:{hashlib.sha256(sums).hexdigest()}"
        held = held or store.holds(sums_path, sums_digest)
        yield Artefact("file", name, "", sums_path, checksum.sums_url, sums_digest, len(sums), held=held)
    whole = f"{checksum.algorithm}:{digest}"
    held = store.holds(path, whole)
    size = store.size(path) if held else servers.fetcher(url, deadline).length(url) or 0
    yield Artefact("file", file_name(url), "", path, url, whole, size, held=held)


def _agree(sums: bytes, checksum: Checksum, url: str, path: str, store: Store) -> bool:
    digest = find_digest(sums.decode("utf-8", errors="replace"), checksum.algorithm, file_name(url))
    return digest is not None and store.holds(path, f"{checksum.algorithm}:{digest}")
