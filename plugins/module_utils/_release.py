# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install one artefact of a release, so that it is there whole or not at all.

PRIVATE to the collection: this interface can change in any release.

    ROOT/NAME/VERSION/            what the artefact holds
    ROOT/NAME/VERSION/.complete   what it was made from; it is there before the folder gets its name
    ROOT/NAME/.work-*             a run that is under way, or that was killed
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import (
    installing,
    make_folder,
    switch,
    sync,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import (
    Fetcher,
    file_name,
    parse_checksum,
    public,
    verify,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import step
from ansible_collections.kubewright.cluster.plugins.module_utils._unpack import unpack

MARKER = ".complete"
WORK = ".work-"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


@dataclass(frozen=True)
class Artefact:
    """What is to be installed, and where."""

    url: str
    checksum: str
    name: str
    version: str
    root: str
    strip: int = 0
    include: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    mode: int = 0o755
    binary_name: str = ""
    replace: bool = False

    def __post_init__(self) -> None:
        parse_checksum(self.checksum)
        if not os.path.isabs(self.root):
            raise KubewrightError(f"{self.root!r} cannot be the dest_root", why="it must be an absolute path")
        for key in ("name", "version", "binary_name"):
            value = getattr(self, key)
            if "/" in value or value.startswith(".") or (not value and key != "binary_name"):
                raise KubewrightError(f"{value!r} cannot be the {key}", why="it must be the name of one file")
        for link, path in self.links.items():
            if not os.path.isabs(link) or os.path.isabs(path) or ".." in path.split("/"):
                raise KubewrightError(
                    f"{link!r}: {path!r} cannot be a link",
                    remedy="Give an absolute path, and a path relative to the unpacked folder",
                )

    @property
    def is_archive(self) -> bool:
        return file_name(self.url).endswith(ARCHIVES)

    @property
    def home(self) -> str:
        return os.path.join(self.root, self.name)

    @property
    def folder(self) -> str:
        return os.path.join(self.home, self.version)

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides about the content of the folder, as the marker holds it."""
        recipe: dict[str, Any] = {"checksum": public(self.checksum)}
        if parse_checksum(self.checksum).sums_url:
            # A digest alone says which file it is, from whatever mirror. A file of digests does not.
            recipe["url"] = public(self.url)
        if self.is_archive:
            return {**recipe, "strip": self.strip, "include": sorted(self.include)}
        return {**recipe, "binary_name": self.binary_name or file_name(self.url), "mode": f"{self.mode:04o}"}


@dataclass(frozen=True)
class State:
    """What is on the host."""

    recipe: Mapping[str, Any] | None  # of the folder; None where there is no complete one
    digest: str  # of the artefact in it, as algorithm:digits
    links: Mapping[str, str]  # wanted: path and target
    found: Mapping[str, str | None]  # what each link leads to now
    leftovers: tuple[str, ...]  # of killed runs


@dataclass(frozen=True)
class Plan:
    install: bool
    switch: Mapping[str, str]
    clean: bool

    @property
    def changed(self) -> bool:
        return self.install or self.clean or bool(self.switch)


def _read_marker(folder: str) -> dict[str, Any]:
    try:
        with open(os.path.join(folder, MARKER), "rb") as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def parse_mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 < mode <= 0o777:
        raise KubewrightError(
            f"{text!r} cannot be a mode", remedy='Give octal digits in quotation marks, such as "0755"'
        )
    return mode


def observe(artefact: Artefact) -> State:
    marker = _read_marker(artefact.folder)
    recipe = marker.get("recipe")
    # Before it is unpacked, what a pattern will match cannot be known.
    links = {link: os.path.join(artefact.folder, path) for link, path in artefact.links.items()}
    if recipe == artefact.recipe:
        try:
            links = find_links(artefact, artefact.folder)
        except KubewrightError:
            recipe = None  # Somebody removed a file from it: it has to be made again.
    return State(
        recipe=recipe,
        digest=marker.get("digest", ""),
        links=links,
        found={link: _present(link, artefact.replace) for link in links},
        leftovers=tuple(glob.glob(os.path.join(glob.escape(artefact.home), f"{WORK}*"))),
    )


def plan(artefact: Artefact, state: State) -> Plan:
    return Plan(
        install=state.recipe != artefact.recipe,
        switch={link: target for link, target in state.links.items() if state.found[link] != target},
        clean=bool(state.leftovers),
    )


def find_links(artefact: Artefact, content: str) -> dict[str, str]:
    """Path and target of each link, with the patterns resolved by what the folder `content` holds."""
    links = {}
    for link, path in artefact.links.items():
        pattern = link.endswith("/")
        base = glob.escape(content)
        matches = sorted(glob.glob(os.path.join(base, path if pattern else glob.escape(path))))
        if not matches:
            raise KubewrightError(
                f"{artefact.name} {artefact.version} holds no {path}",
                where=f"links of {public(artefact.url)}",
                why=f"it holds {', '.join(sorted(os.listdir(content)))}",
                remedy="Correct links, strip or include",
            )
        for match in matches:
            name = f"{link}{posixpath.basename(match)}" if pattern else link
            links[name] = os.path.join(artefact.folder, os.path.relpath(match, content))
    return links


def _present(link: str, replace: bool) -> str | None:
    """What is at the place of a link: its target, "a file" that may be replaced, or None."""
    if link.endswith("/") or not os.path.lexists(link):
        return None
    if os.path.islink(link):
        return os.readlink(link)
    if replace and os.path.isfile(link):
        return "a file"
    kind = "folder" if os.path.isdir(link) else "file"
    raise KubewrightError(
        f"A {kind} is where a link must go",
        where=link,
        why="something else installed it",
        remedy="Remove it, or what installed it"
        + ("; replace: true puts the link in its place" if kind == "file" else ""),
    )


def apply(artefact: Artefact, planned: Plan, fetcher: Fetcher) -> State:
    """Do what the plan says and return the state after it."""
    with installing(f"{artefact.name} {artefact.version}", artefact.home), step("write", artefact.folder):
        if planned.install or planned.clean:
            with _work_folder(artefact.home, fetcher.deadline) as work:
                # Another run may have installed it while this one waited for its end.
                if planned.install and plan(artefact, observe(artefact)).install:
                    _install(artefact, fetcher, work)
        state = observe(artefact)
        for link, target in plan(artefact, state).switch.items():
            switch(link, target)
        return observe(artefact)


@contextlib.contextmanager
def _work_folder(home: str, deadline: Deadline) -> Iterator[str]:
    """A new folder on the file system of `home`, for one run at a time; what killed runs left is removed.

    A run whose controller was killed goes on: it is waited for.
    """
    make_folder(home)
    lock = os.open(home, os.O_RDONLY | os.O_CLOEXEC)

    def taken() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        wait_for(taken, deadline, what=f"another run that installs {home}", interval=0.5)
        for leftover in glob.glob(os.path.join(glob.escape(home), f"{WORK}*")):
            shutil.rmtree(leftover)
        work = tempfile.mkdtemp(prefix=WORK, dir=home)
        try:
            yield work
        finally:
            shutil.rmtree(work)
    finally:
        os.close(lock)


def _install(artefact: Artefact, fetcher: Fetcher, work: str) -> None:
    checksum = parse_checksum(artefact.checksum)
    download, content = os.path.join(work, "download"), os.path.join(work, "content")
    expected = fetcher.expected_digest(checksum, artefact.url)
    actual = fetcher.download(artefact.url, download, checksum.algorithm)
    verify(download, artefact.url, checksum, expected, actual)

    make_folder(content)
    if artefact.is_archive:
        if not unpack(download, content, strip=artefact.strip, include=artefact.include):
            raise KubewrightError(
                f"Nothing of {artefact.name} {artefact.version} is left to install",
                where=public(artefact.url),
                why=f"strip {artefact.strip} and include {list(artefact.include)} leave out every member",
            )
    else:
        binary = os.path.join(content, artefact.binary_name or file_name(artefact.url))
        os.rename(download, binary)
        os.chmod(binary, artefact.mode)
        sync(binary)
    for link in find_links(artefact, content):
        _present(link, artefact.replace)

    marker = os.path.join(content, MARKER)
    with open(marker, "w", encoding="utf-8") as stream:
        json.dump(
            {
                "recipe": artefact.recipe,
                "url": public(artefact.url),
                "digest": f"{checksum.algorithm}:{actual}",
            },
            stream,
        )
    sync(marker)
    for folder, _folders, _files in os.walk(content):
        sync(folder)
    if os.path.lexists(artefact.folder):
        os.rename(artefact.folder, os.path.join(work, "old"))
    os.rename(content, artefact.folder)
    sync(artefact.home)


def diff(artefact: Artefact, before: State, after: State, planned: Plan) -> dict[str, dict[str, Any]]:
    """Versions, checksum and links before and after, as Ansible's diff mode shows them."""
    checksum = before.recipe["checksum"] if before.recipe else ""
    return {
        "before": {
            "versions": versions(artefact, before),
            "checksum": checksum,
            "links": dict(before.found),
            "leftovers": list(before.leftovers),
        },
        "after": {
            "versions": [artefact.version],
            "checksum": public(artefact.checksum) if planned.install else checksum,
            "links": dict(after.links),
            "leftovers": [],
        },
    }


def versions(artefact: Artefact, state: State) -> list[str]:
    """The versions that the links lead to; without links, the one in the folder."""
    if not artefact.links:
        return [artefact.version] if state.recipe else []
    start = artefact.home + "/"
    targets = [target for target in state.found.values() if target and target.startswith(start)]
    return sorted({target[len(start) :].split("/")[0] for target in targets})
