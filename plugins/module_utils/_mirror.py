# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mirror holds, and how a file gets into it.

PRIVATE to the collection: this interface can change in any release.

    ROOT/public/      what the web server gives out; a file has its name when it is whole and has its digest
    ROOT/registry/    the registry's own
    ROOT/work/        downloads under way; emptied by the next run
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import posixpath
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import (
    installing,
    make_folder,
    sync,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import (
    Fetcher,
    parse_checksum,
    verify,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import step

KINDS = ("package", "file", "image", "index")
SIGNED = ("InRelease", "repomd.xml")


@dataclass(frozen=True)
class Artefact:
    """One thing that a mirror is to hold.

    *path* is where the web server gives it out, *digest* has the form sha256:DIGITS, *versions* are those of Kubernetes
    that need it, none where all do.
    """

    kind: str
    name: str
    version: str
    path: str
    url: str
    digest: str
    size: int
    versions: tuple[str, ...] = ()
    held: bool = False

    def __post_init__(self) -> None:
        if (
            self.path.startswith("/")
            or posixpath.normpath(self.path) != self.path
            or self.path.startswith("..")
        ):
            raise KubewrightError(
                f"{self.path!r} cannot be a path in the mirror",
                where=self.url,
                remedy="Give a path below the mirror's root, without '..'",
            )

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Artefact:
        return cls(**{**content, "versions": tuple(content["versions"])})

    def told(self) -> dict[str, Any]:
        return {**asdict(self), "versions": list(self.versions)}


def merged(artefacts: Iterable[Artefact]) -> list[Artefact]:
    """Return each artefact once, with all versions that need it; what serves all comes without any."""
    found: dict[str, Artefact] = {}
    for one in artefacts:
        other = found.setdefault(one.path, one)
        if other.digest != one.digest:
            raise KubewrightError(
                "Two files would have one name in the mirror",
                where=one.path,
                why=f"{other.url} and {one.url} differ",
                remedy="Give one of them another path",
            )
        common = not other.versions or not one.versions
        versions = () if common else tuple(sorted({*other.versions, *one.versions}))
        found[one.path] = replace(other, versions=versions)
    # An index comes last, so that nobody reads of a file before it is there, and what is signed last of all.
    return sorted(found.values(), key=lambda one: (KINDS.index(one.kind), one.name in SIGNED, one.path))


def manifest(artefacts: Sequence[Artefact]) -> str:
    """Return the list of artefacts for programs."""
    listed = [{key: value for key, value in one.told().items() if key != "held"} for one in artefacts]
    return json.dumps({"artefacts": listed}, indent=1) + "\n"


def lines(artefacts: Sequence[Artefact]) -> list[str]:
    """Return the list of artefacts for people."""
    width = max((len(", ".join(one.versions) or "all") for one in artefacts), default=0)
    return [
        f"{one.digest}  {one.size:>11}  {', '.join(one.versions) or 'all':<{width}}  {one.kind:<7}  "
        f"{one.name if one.kind == 'image' else one.path}"
        for one in artefacts
    ]


class Store:
    """The files of a mirror."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.public = os.path.join(root, "public")
        self._work = os.path.join(root, "work")

    def path(self, artefact_path: str) -> str:
        return os.path.join(self.public, artefact_path)

    def content(self, artefact_path: str) -> bytes | None:
        """Return what is in a small file, None where it is missing."""
        try:
            with open(self.path(artefact_path), "rb") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def holds(self, artefact_path: str, digest: str) -> bool:
        """See whether a file is there with its digest; it is read for that."""
        algorithm, _colon, wanted = digest.partition(":")
        found = hashlib.new(algorithm)
        try:
            with open(self.path(artefact_path), "rb") as stream:
                while block := stream.read(1 << 20):
                    found.update(block)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return found.hexdigest() == wanted

    def size(self, artefact_path: str) -> int:
        return os.path.getsize(self.path(artefact_path))

    def free(self) -> int:
        """Return the bytes that are free where the mirror is, or will be."""
        place = self.root
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        return shutil.disk_usage(place).free

    @contextlib.contextmanager
    def alone(self, deadline: Deadline) -> Iterator[None]:
        """Let one run at a time fill the mirror. One whose controller was killed goes on: it is waited for."""
        make_folder(self._work)
        lock = os.open(self._work, os.O_RDONLY | os.O_CLOEXEC)

        def taken() -> bool:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        try:
            wait_for(taken, deadline, what=f"another run that fills {self.root}", interval=1)
            for name in os.listdir(self._work):
                os.unlink(os.path.join(self._work, name))
            yield
        finally:
            os.close(lock)

    def bring(self, artefact: Artefact, fetcher: Fetcher) -> None:
        """Download a file and give it its name when it is whole and right."""
        target = self.path(artefact.path)
        part = os.path.join(self._work, hashlib.sha256(artefact.path.encode()).hexdigest())
        checksum = parse_checksum(artefact.digest)
        with installing(artefact.name, self.public), step("write", target):
            actual = fetcher.download(artefact.url, part, checksum.algorithm)
            verify(part, artefact.url, checksum, checksum.digest, actual)
            os.chmod(part, 0o644)
            sync(part)
            make_folder(os.path.dirname(target))
            os.replace(part, target)
            sync(os.path.dirname(target))
