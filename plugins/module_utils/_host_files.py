# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring many small text files of a host into their wanted state.

PRIVATE to the collection: this interface can change in any release.

Everything is looked at, and refused, before anything is written. A file gets its content, mode and ownership
under a temporary name in its own folder and then its name, so that a reader finds the old one or the new one,
never a half of it and never one that is open to more readers than it should be.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import grp
import os
import posixpath
import pwd
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils import _run_log
from ansible_collections.kubewright.cluster.plugins.module_utils._durable import is_full, sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

# Moves a finished file or folder to its name. A parameter because the security label of SELinux, which goes
# with the name, can be set only through AnsibleModule.
Place = Callable[[str, str], None]

TEMPORARY = ".kubewright-"
NOT_SHOWN = "(not shown: not everyone may read this file)\n"


@dataclass(frozen=True)
class Owner:
    """Numeric user and group; None for a name that this host does not know yet."""

    uid: int | None
    gid: int | None


@dataclass(frozen=True)
class Wanted:
    """One file as it should be; `content` is None for a file that should not be there."""

    path: str
    content: bytes | None
    mode: int


@dataclass(frozen=True)
class Found:
    """One file as it is."""

    content: bytes
    mode: int
    owner: Owner


@dataclass(frozen=True)
class Step:
    """What has to be done to one file. None in `before` or in the content of `wanted`: no file."""

    wanted: Wanted
    before: Found | None
    write: bool
    attributes: bool


@dataclass(frozen=True)
class Folder:
    """A folder that is there and has another mode or owner than it should."""

    path: str
    mode: int
    before_mode: int
    before_owner: Owner


@dataclass(frozen=True)
class Plan:
    """`folders` are the missing ones with their modes, outermost first; `corrected` those that are not as wanted."""

    owner: Owner
    folders: tuple[tuple[str, int], ...]
    corrected: tuple[Folder, ...]
    steps: tuple[Step, ...]

    @property
    def changed_paths(self) -> list[str]:
        return [folder.path for folder in self.corrected] + [step.wanted.path for step in self.steps]


def parse_mode(text: str, where: str) -> int:
    """Read an octal mode. Without its quotes 0644 arrives here as 420, which is another mode."""
    if not re.fullmatch(r"0[0-7]{3,4}", text):
        raise KubewrightError(
            f"{text} is not a file mode", where=where, remedy="Give it octal and in quotes, such as '0644'"
        )
    return int(text, 8)


def parse_owner(user: str, group: str, *, may_be_missing: bool) -> Owner:
    """Look the names up; numbers are taken as they are.

    `may_be_missing` is for check mode: an earlier task would have created the account.
    """

    def number(name: str, kind: str, look_up: Callable[[str], int]) -> int | None:
        if name.isdigit():
            return int(name)
        try:
            return look_up(name)
        except KeyError:
            if may_be_missing:
                return None
            raise KubewrightError(
                f"There is no {kind} {name} on this host", remedy=f"Create the {kind} first"
            ) from None

    return Owner(
        number(user, "user", lambda name: pwd.getpwnam(name).pw_uid),
        number(group, "group", lambda name: grp.getgrnam(name).gr_gid),
    )


def _check_path(path: str, kind: str) -> None:
    if not path.startswith("/") or posixpath.normpath(path) != path or path == "/":
        raise KubewrightError(
            f"{path!r} is not the absolute path of a {kind}",
            remedy="Give the whole path, without '..', doubled slashes or a slash at its end",
        )


def parse_folders(items: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Check the folders that the user gave; return their modes."""
    folders: dict[str, int] = {}
    for item in items:
        path = item["path"]
        _check_path(path, "folder")
        folders[path] = parse_mode(item["mode"], path)
    return folders


def parse_files(items: Sequence[Mapping[str, Any]]) -> list[Wanted]:
    """Check what the user gave, and turn it into what is wanted."""
    files: dict[str, Wanted] = {}
    for item in items:
        path = item["path"]
        _check_path(path, "file")
        if path in files:
            raise KubewrightError("A file is in the list twice", where=path, remedy="Remove one of the two")
        files[path] = Wanted(path, _parse_content(item), parse_mode(item["mode"], path))
    for path in files:
        for parent in _parents(path):
            if parent in files:
                raise KubewrightError(
                    "A path in the list is the folder of another one", where=f"{parent}, {path}"
                )
    return list(files.values())


def obsolete(items: Iterable[Mapping[str, Any]], files: Sequence[Wanted]) -> list[Wanted]:
    """Find the files that match a pattern and begin with its mark, and that nobody wants any more."""
    found: set[str] = set()
    for item in items:
        pattern, mark = item["pattern"], item["mark"].encode()
        if not pattern.startswith("/"):
            raise KubewrightError(f"{pattern!r} is not an absolute pattern", remedy="Give the whole path")
        for path in glob.glob(pattern):
            # What is no file, or a link to one, is not of ours.
            if os.path.isfile(path) and not os.path.islink(path):
                with _explained(path), open(path, "rb") as stream:
                    if stream.read(len(mark)) == mark:
                        found.add(path)
    return [Wanted(path, None, 0) for path in sorted(found - {wanted.path for wanted in files})]


def _parse_content(item: Mapping[str, Any]) -> bytes | None:
    if item["state"] == "absent":
        return None
    content = item["content"]
    if content is None:
        raise KubewrightError("A file that is to be present needs content", where=item["path"])
    if not isinstance(content, str):
        # Writing it in some form of ours would not be what the author wrote.
        raise KubewrightError(
            f"The content is not a text but a {type(content).__name__}",
            where=item["path"],
            why="some versions of Ansible turn a text that looks like data into data",
            remedy="End the expression with '| string', or with '| to_nice_json' for data",
        )
    return content.encode("utf-8", "surrogateescape")


def _parents(path: str) -> list[str]:
    """All folders above a path except the root, outermost first."""
    folders = []
    while (path := posixpath.dirname(path)) != "/":
        folders.append(path)
    return folders[::-1]


def observe(files: Iterable[Wanted]) -> tuple[dict[str, Found | None], list[str]]:
    """Return what is at each path, and the missing parents of the files that should be there."""
    found: dict[str, Found | None] = {}
    missing: dict[str, None] = {}
    for wanted in files:
        with _explained(wanted.path):
            found[wanted.path] = _look(wanted.path)
            if wanted.content is not None:
                why = f"{wanted.path} is to be in it"
                missing.update(dict.fromkeys(_missing_folders(_parents(wanted.path), why)))
    return found, sorted(missing)


def observe_folders(wanted: Mapping[str, int], owner: Owner) -> tuple[list[Folder], list[str]]:
    """Return the folders that are there and not as wanted, and those that are missing, with their missing parents."""
    wrong, missing = [], dict[str, None]()
    for path, mode in wanted.items():
        why = f"{path} is to be a folder"
        missing.update(dict.fromkeys(_missing_folders([*_parents(path), path], why)))
        if path not in missing:
            status = os.stat(path)
            before = Owner(status.st_uid, status.st_gid)
            if (stat.S_IMODE(status.st_mode), before) != (mode, owner):
                wrong.append(Folder(path, mode, stat.S_IMODE(status.st_mode), before))
    return wrong, sorted(missing)


def _look(path: str) -> Found | None:
    try:
        # Neither following a link nor waiting for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refusal(path, "symbolic link") from None
        raise
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _refusal(path, "folder" if stat.S_ISDIR(status.st_mode) else "special file")
        return Found(stream.read(), stat.S_IMODE(status.st_mode), Owner(status.st_uid, status.st_gid))


def _missing_folders(folders: Sequence[str], why: str) -> list[str]:
    for folder in folders:
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise KubewrightError(
                "A file, or a symbolic link that leads nowhere, is where a folder must be",
                where=folder,
                why=why,
                remedy="Move it away",
            )
    return [folder for folder in folders if not os.path.isdir(folder)]


def _refusal(path: str, kind: str) -> KubewrightError:
    return KubewrightError(
        f"A {kind} is where a file must go",
        where=path,
        why="replacing it, or writing through it, would change what somebody else set up",
        remedy="Remove it, or give the path of a regular file",
    )


def plan(
    files: Iterable[Wanted],
    found: Mapping[str, Found | None],
    missing: Iterable[str],
    owner: Owner,
    directory_mode: int,
    folder_modes: Mapping[str, int] | None = None,
    corrected: Iterable[Folder] = (),
) -> Plan:
    """Compare content, mode and ownership; what is as it should be has no step."""
    modes = folder_modes or {}
    steps = []
    for wanted in files:
        before = found[wanted.path]
        if wanted.content is None:
            write = attributes = before is not None
        else:
            write = before is None or before.content != wanted.content
            attributes = before is None or (before.mode, before.owner) != (wanted.mode, owner)
        if write or attributes:
            steps.append(Step(wanted, before, write, attributes))
    folders = tuple((path, modes.get(path, directory_mode)) for path in sorted(set(missing)))
    return Plan(owner, folders, tuple(corrected), tuple(steps))


def apply(planned: Plan, place: Place) -> None:
    """Carry the plan out, in its order."""
    for path, mode in planned.folders:
        with _explained(path), _run_log.step("write", path):
            _make_folder(path, mode, planned.owner, place)
    for folder in planned.corrected:
        with _explained(folder.path), _run_log.step("write", folder.path):
            _set_attributes(folder.path, folder.mode, planned.owner)
    for step in planned.steps:
        path = step.wanted.path
        with _explained(path), _run_log.step("write", path):
            if step.wanted.content is None:
                os.unlink(path)
            elif step.write:
                _write(path, step.wanted.content, step.wanted.mode, planned.owner, place)
            else:
                _set_attributes(path, step.wanted.mode, planned.owner)


def _temporary(path: str) -> str:
    """Return the name that something has before its own: a fixed one, so that what a killed run left is replaced."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f"{TEMPORARY}{name}")


def _make_folder(folder: str, mode: int, owner: Owner, place: Place) -> None:
    temporary = _temporary(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(temporary)
    os.mkdir(temporary, 0o700)
    try:
        _set_attributes(temporary, mode, owner)
        place(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(os.path.dirname(folder))


def _write(path: str, content: bytes, mode: int, owner: Owner, place: Place) -> None:
    temporary = _temporary(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    # Nobody but this user may read the file until its mode is set.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            _set_attributes(temporary, mode, owner)
            stream.flush()
            os.fsync(stream.fileno())
        place(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync(os.path.dirname(path))


def _set_attributes(path: str, mode: int, owner: Owner) -> None:
    if owner.uid is None or owner.gid is None:
        raise KubewrightError("The owner or the group does not exist", where=path, remedy="Create it first")
    status = os.lstat(path)
    if (status.st_uid, status.st_gid) != (owner.uid, owner.gid):
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    # After chown, which takes the set-user-ID bits away.
    os.chmod(path, mode)


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KubewrightError(
            "A file or folder cannot be brought into its wanted state",
            where=path,
            why=error.strerror or str(error),
            remedy="Free some space there; what is there is whole, and the next run goes on from here"
            if is_full(error)
            else "Correct the cause and run the task again; it goes on from here",
        ) from error


def diff(planned: Plan) -> list[dict[str, str]]:
    """Content, and apart from it mode and ownership, before and after; secrets are not shown."""
    entries = [
        {
            "before_header": f"{folder.path} (attributes)",
            "after_header": f"{folder.path} (attributes)",
            "before": _attributes(folder.before_mode, folder.before_owner),
            "after": _attributes(folder.mode, planned.owner),
        }
        for folder in planned.corrected
    ]
    for step in planned.steps:
        path, before = step.wanted.path, step.before
        old = f"{path} (absent)" if before is None else path
        new = f"{path} (absent)" if step.wanted.content is None else path
        if step.write:
            entries.append(
                {
                    "before_header": old,
                    "after_header": new,
                    "before": _shown(None if before is None else before.content, step),
                    "after": _shown(step.wanted.content, step),
                }
            )
        if step.attributes and before is not None and step.wanted.content is not None:
            entries.append(
                {
                    "before_header": f"{path} (attributes)",
                    "after_header": f"{path} (attributes)",
                    "before": _attributes(before.mode, before.owner),
                    "after": _attributes(step.wanted.mode, planned.owner),
                }
            )
    return entries


def _shown(content: bytes | None, step: Step) -> str:
    if content is None:
        return ""
    modes = [step.before.mode] if step.before else []
    if step.wanted.content is not None:
        modes.append(step.wanted.mode)
    if not all(mode & stat.S_IROTH for mode in modes):
        return NOT_SHOWN
    return content.decode("utf-8", "replace")


def _attributes(mode: int, owner: Owner) -> str:
    user, group = ("not known yet" if number is None else number for number in (owner.uid, owner.gid))
    return f"mode: {mode:04o}\nuser: {user}\ngroup: {group}\n"
