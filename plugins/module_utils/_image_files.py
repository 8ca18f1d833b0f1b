# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy programs out of a container image that containerd holds.

PRIVATE to the collection: this interface can change in any release.

    ROOT/NAME/VERSION/           the programs
    ROOT/NAME/VERSION.part-*     a run that is under way, or that was killed
    /run/kubewright/images/*     where the image is mounted meanwhile

Facts about `ctr images mount REF TARGET`, from its source (containerd 1.7 to 2.4): without --rw the snapshot
is a read-only view; TARGET, which must exist, is also the name of the snapshot and of a lease that ends after
an hour; `unmount --rm TARGET` removes all three and is content with a TARGET where nothing is mounted. ctr
does not know the mirrors of the CRI plugin, so that only `crictl pull` gets an image from where the kubelet
gets it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import (
    installing,
    make_folder,
    switch,
    sync,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    CommandError,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import step
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

MOUNTS = "/run/kubewright/images"
SOCKET = "unix:///run/containerd/containerd.sock"
CRI_NAMESPACE = "k8s.io"
PART = ".part-"
REPLACED = ".replaced"
MODE = 0o755

# As many as the kernel follows, see path_resolution(7).
MAX_LINKS = 40

_NOT_FOUND = 127


@dataclass(frozen=True)
class Wanted:
    """`files` leads from paths in the image to file names."""

    image: str
    files: Mapping[str, str]
    name: str
    version: str
    dest_root: str = "/opt/kubewright"
    links_dir: str = "/usr/local/bin"
    replace: bool = False
    namespace: str = CRI_NAMESPACE
    pull: bool = True

    @property
    def home(self) -> str:
        return os.path.join(self.dest_root, self.name)

    @property
    def folder(self) -> str:
        return os.path.join(self.home, self.version)

    @property
    def links(self) -> dict[str, str]:
        """Where each link must lead."""
        return {
            os.path.join(self.links_dir, name): os.path.join(self.folder, name)
            for name in sorted(self.files.values())
        }


@dataclass(frozen=True)
class State:
    """`files` are the programs that are in place; `links` where each link leads, None where there is none,
    empty where a file is that may be replaced; `leftovers` what a run that was killed did not remove."""

    files: tuple[str, ...]
    links: Mapping[str, str | None]
    leftovers: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    copy: bool
    switch: Mapping[str, str]
    clean: bool

    @property
    def changed(self) -> bool:
        return self.copy or bool(self.switch)


def check_options(wanted: Wanted) -> None:
    """Refuse what would lead out of the folders that are meant."""
    names = list(wanted.files.values())
    for option, value in [("name", wanted.name), ("version", wanted.version), *(("files", n) for n in names)]:
        if not isinstance(value, str) or not value or "/" in value or value[0] == "." or PART in value:
            raise KubewrightError(f"{value!r} is not a plain name", where=f"option {option}")
    for option, value in [("dest_root", wanted.dest_root), ("links_dir", wanted.links_dir)]:
        if not os.path.isabs(value):
            raise KubewrightError(f"{value!r} is not an absolute path", where=f"option {option}")
    if not names or len(set(names)) != len(names):
        raise KubewrightError(
            "Each file needs a name of its own, and there must be one", where="option files"
        )


def observe(wanted: Wanted, mounts: str = MOUNTS) -> State:
    """Look at the host; containerd is not asked."""
    files = [name for name in wanted.files.values() if _is_program(os.path.join(wanted.folder, name))]
    return State(
        files=tuple(sorted(files)),
        links={link: _leads_to(link, wanted.replace) for link in wanted.links},
        leftovers=(*_parts(wanted), *_mount_points(mounts)),
    )


def _is_program(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == MODE


def _leads_to(link: str, replace: bool) -> str | None:
    if not os.path.lexists(link):
        return None
    if os.path.islink(link):
        return os.readlink(link)
    if replace and os.path.isfile(link):
        return ""
    raise KubewrightError(
        "Something that is not a link is where a link must go",
        where=link,
        why="something else installed it",
        remedy="Remove it, or what installed it, or choose another links_dir",
    )


def _parts(wanted: Wanted) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(wanted.home), f"*{PART}*")))


def _mount_points(mounts: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(mounts), "*")))


def plan(wanted: Wanted, state: State) -> Plan:
    return Plan(
        copy=set(state.files) != set(wanted.files.values()),
        switch={link: target for link, target in wanted.links.items() if state.links[link] != target},
        clean=bool(state.leftovers),
    )


class Installer:
    """Carries a plan out, within one deadline; `pulled` tells whether the image had to be fetched."""

    def __init__(self, runner: Runner, deadline: Deadline, *, mounts: str = MOUNTS) -> None:
        self._runner = runner
        self._deadline = deadline
        self._mounts = mounts
        self.pulled = False

    def apply(self, wanted: Wanted, planned: Plan) -> None:
        with installing(f"{wanted.name} {wanted.version}", wanted.home), step("write", wanted.folder):
            if planned.copy or planned.clean:
                with self._alone():
                    self._clean(wanted)
                    if planned.copy:
                        self._copy(wanted)
            # Last, so that a link never leads to something that is not there, and a killed run has work left.
            for link, target in planned.switch.items():
                if os.path.lexists(link) and not os.path.islink(link):
                    _keep(link)
                switch(link, target)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One run at a time on this host, so that whatever is found mounted is left over."""
        os.makedirs(self._mounts, mode=0o700, exist_ok=True)
        lock = os.open(self._mounts, os.O_RDONLY | os.O_CLOEXEC)

        def taken() -> bool:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        try:
            wait_for(
                taken, self._deadline, what="another run that copies files out of an image", interval=0.5
            )
            yield
        finally:
            os.close(lock)

    def _clean(self, wanted: Wanted) -> None:
        for target in _mount_points(self._mounts):
            self._unmount(wanted.namespace, target)
        for part in _parts(wanted):
            shutil.rmtree(part)

    def _ctr(self, namespace: str, *words: str) -> str:
        argv = ["ctr", f"--namespace={namespace}", "images", *words]
        try:
            asks = words[0] == "list"
            return self._runner.run(argv, timeout=max(1.0, self._deadline.remaining()), asks=asks).stdout
        except CommandError as error:
            error.remedy = error.remedy or "Make sure that containerd runs, and run the task again"
            raise

    def _unmount(self, namespace: str, target: str) -> None:
        self._ctr(namespace, "unmount", "--rm", target)
        # Never a whole tree: if the image were still mounted, that would reach into it.
        os.rmdir(target)

    @contextlib.contextmanager
    def _mounted(self, wanted: Wanted) -> Iterator[str]:
        target = tempfile.mkdtemp(dir=self._mounts)
        try:
            self._ctr(wanted.namespace, "mount", wanted.image, target)
            yield target
        except BaseException:
            # What went wrong is worth more than a second failure, which the next run would repair.
            with contextlib.suppress(KubewrightError, OSError):
                self._unmount(wanted.namespace, target)
            raise
        self._unmount(wanted.namespace, target)

    def _copy(self, wanted: Wanted) -> None:
        self._ensure_image(wanted)
        make_folder(wanted.home)
        with self._mounted(wanted) as root:
            part = tempfile.mkdtemp(prefix=f"{wanted.version}{PART}", dir=wanted.home)
            try:
                for path, name in wanted.files.items():
                    _copy_program(_resolve(root, path, wanted.image), os.path.join(part, name))
                os.chmod(part, 0o755)
                sync(part)
                _settle(part, wanted)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            sync(wanted.home)

    def _ensure_image(self, wanted: Wanted) -> None:
        if wanted.image in self._ctr(wanted.namespace, "list", "--quiet").split():
            return
        if not wanted.pull or wanted.namespace != CRI_NAMESPACE:
            raise KubewrightError(
                "containerd does not hold the image",
                where=f"{wanted.image}, namespace {wanted.namespace}",
                why="" if not wanted.pull else f"crictl pulls into the namespace {CRI_NAMESPACE} only",
                remedy="Pull or import it first" + ("" if wanted.pull else ", or set pull: true"),
            )
        argv = ["crictl", f"--runtime-endpoint={SOCKET}", "pull", wanted.image]
        try:
            self._runner.run(argv, timeout=max(1.0, self._deadline.remaining()))
        except CommandError as error:
            error.where = wanted.image
            error.remedy = (
                "Install crictl, or bring the image to the host with 'ctr images import'"
                if error.rc == _NOT_FOUND
                else "Make sure that containerd runs and that the registry, or its mirror, has the image"
            )
            raise
        self.pulled = True


def _resolve(root: str, path: str, image: str) -> str:
    """Follow the links of the image as they are meant, inside it: an absolute one must not reach the host."""
    done: list[str] = []
    ahead = path.split("/")[::-1]
    links = 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            done = done[:-1]
        elif part not in ("", "."):
            place = os.path.join(root, *done, part)
            if not os.path.islink(place):
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise KubewrightError("Too many links in the image", where=f"{path} in {image}")
            target = os.readlink(place)
            done = [] if target.startswith("/") else done
            ahead.extend(target.split("/")[::-1])
    found = os.path.join(root, *done)
    if not os.path.isfile(found):
        raise KubewrightError(
            "The image holds no such file",
            where=f"{path} in {image}",
            remedy="Correct the path in files, or use an image that has it",
        )
    return found


def _keep(path: str) -> None:
    """Give a file that a link is about to replace a second name, so that it is missing at no moment."""
    kept = f"{path}{REPLACED}"
    with step("write", kept):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(kept)
        os.link(path, kept)


def _copy_program(source: str, destination: str) -> None:
    with open(source, "rb") as reader, open(destination, "xb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        os.fchmod(writer.fileno(), MODE)
        writer.flush()
        os.fsync(writer.fileno())


def _settle(part: str, wanted: Wanted) -> None:
    """Give what is finished its name; a folder that lacks a file is completed, file by file."""
    if not os.path.lexists(wanted.folder):
        os.rename(part, wanted.folder)
        return
    for name in os.listdir(part):
        os.replace(os.path.join(part, name), os.path.join(wanted.folder, name))
    sync(wanted.folder)


def diff(wanted: Wanted, state: State) -> dict[str, dict[str, Any]]:
    """Files and links before and after, as Ansible's diff mode shows them."""
    return {
        "before": {"path": wanted.folder, "files": list(state.files), "links": dict(state.links)},
        "after": {"path": wanted.folder, "files": sorted(wanted.files.values()), "links": wanted.links},
    }
