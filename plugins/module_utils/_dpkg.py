# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finish what an interrupted dpkg left, without which apt installs nothing more.

dpkg keeps a journal below updates/ while it works, and refuses everything but ``dpkg --configure -a`` where
it finds one. A package that was cut off while its files were unpacked has to be unpacked again, which apt
does when it is asked to mend what is broken.

What is wrong with packages that nobody here asks for is their owner's business, unless it is in the way of ours.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

FOLDER = Path("/var/lib/dpkg")

# Under it. Whoever runs apt or dpkg holds it; the kernel gives it back when that process ends.
LOCK = "lock-frontend"

# dpkg(1), "Package states": those that a finished dpkg leaves no package in.
_UNFINISHED = ("half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending")

_KEEP_FILES = ("--force-confdef", "--force-confold")


@dataclass(frozen=True)
class State:
    """What dpkg left: whether its journal is there, and the packages that are not whole and keep ours from it."""

    journal: bool
    packages: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return not self.journal and not self.packages


@dataclass(frozen=True)
class Package:
    """An installed package."""

    version: str
    held: bool


@dataclass(frozen=True)
class Inventory:
    """Those of the packages asked for that are installed, and the paths whose mode outlasts an upgrade."""

    installed: dict[str, Package]
    mode_overrides: tuple[str, ...]


def parse_status(text: str) -> list[str]:
    """Return the names of the packages in dpkg's status file that are not whole."""
    found = []
    name = ""
    for line in text.splitlines():
        if line.startswith("Package: "):
            name = line[len("Package: ") :].strip()
        elif line.startswith("Status: "):
            words = line.split()
            if words[-1] in _UNFINISHED or "reinstreq" in words:
                found.append(name)
    return sorted(found)


def installed(text: str) -> set[str]:
    """Return the names of the packages in dpkg's status file that are installed, whole or not."""
    stanzas = text.split("\n\n")
    found = (dict(line.partition(": ")[::2] for line in stanza.splitlines()) for stanza in stanzas)
    return {fields["Package"] for fields in found if fields.get("Status", "").endswith(" installed")}


def observe(folder: Path, ours: Iterable[str]) -> State:
    """Look at dpkg's own files, which is quick; *folder* is /var/lib/dpkg, which other systems do not have.

    As long as one of *ours* is not whole or not there, anything half done may be what it depends on.
    """
    try:
        text = (folder / "status").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return State(False, ())
    half_done = parse_status(text)
    in_the_way = half_done and not set(ours) <= installed(text) - set(half_done)
    return State(_journal(folder), tuple(half_done) if in_the_way else ())


def _journal(folder: Path) -> bool:
    # dpkg(1) numbers the parts of its journal; a temporary file of its own is not one of them.
    updates = folder / "updates"
    return updates.is_dir() and any(path.name.isdigit() for path in updates.iterdir())


def settle(folder: Path, ours: Iterable[str], deadline: Deadline) -> State:
    """Return what is left once nobody installs packages any more."""
    state = observe(folder, ours)
    if state.whole:
        return state
    lock = folder / LOCK

    def free() -> bool:
        with lock.open("a+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            return True

    wait_for(free, deadline, what="another program that installs packages on this host")
    return observe(folder, ours)


def mend(runner: Runner, folder: Path, ours: Iterable[str], deadline: Deadline) -> None:
    """Configure what was unpacked, and unpack again what was not; nothing is removed for it."""
    # A package whose configuration fails now may be mended by what apt does next.
    argv = ["dpkg", *_KEEP_FILES, "--configure", "--pending"]
    runner.run(argv, check=False, timeout=max(1.0, deadline.remaining()))
    if observe(folder, ours).whole:
        return
    apt = ["apt-get", "--yes", "--no-install-recommends", "--no-remove"]
    apt += [f"--option=Dpkg::Options::={option}" for option in _KEEP_FILES]
    runner.run([*apt, "--fix-broken", "install"], timeout=max(1.0, deadline.remaining()))
    # What apt thinks nobody needs, it leaves half unpacked: a dependency whose dependant was not unpacked yet.
    if again := [_in_its_version(runner, name) for name in observe(folder, ours).packages]:
        argv = [*apt, "--allow-change-held-packages", "--reinstall", "install", *again]
        runner.run(argv, check=False, timeout=max(1.0, deadline.remaining()))
    left = observe(folder, ours)
    if not left.whole:
        raise KubewrightError(
            "Packages are not whole, and neither dpkg nor apt could finish them",
            where=", ".join(left.packages) or str(folder / "updates"),
            remedy="Run 'dpkg --audit' on the host, which says what each of them lacks, mend it and run again",
        )


def _in_its_version(runner: Runner, name: str) -> str:
    """Name a package with the version that was being unpacked, so that apt brings no newer one."""
    shown = runner.run(["dpkg-query", "--show", "--showformat=${Version}", name], check=False, asks=True)
    return f"{name}={shown.stdout.strip()}" if shown.stdout.strip() else name


def inventory(runner: Runner, folder: Path, ours: Iterable[str]) -> Inventory:
    """Ask dpkg what is installed; there is nothing without it."""
    if not folder.is_dir():
        return Inventory({}, ())
    # Both end with 1 where something is not known, or there is nothing to list.
    columns = "${db:Status-Status} ${db:Status-Want} ${Package} ${Version}\\n"
    query = ["dpkg-query", "--show", f"--showformat={columns}", *ours]
    lines = [line.split() for line in runner.run(query, check=False, asks=True).stdout.splitlines()]
    overrides = runner.run(["dpkg-statoverride", "--list"], check=False, asks=True).stdout.splitlines()
    # A package that is not installed has no version, so its line has three words.
    return Inventory(
        {words[2]: Package(words[3], words[1] == "hold") for words in lines if words[0] == "installed"},
        tuple(line.split()[-1] for line in overrides),
    )
