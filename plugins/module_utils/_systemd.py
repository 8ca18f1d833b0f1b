# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep systemd units running with the configuration that is on the disk.

PRIVATE to the collection: this interface can change in any release.

The question is whether what a unit read when it started is what its files hold now. Two observations answer
it:

* The stamp. Whenever this module starts, restarts or reloads a unit, it notes, in /run, the digest of every
  file as it was just before, together with the unit's InvocationID. While that invocation runs, a file is
  stale if its digest is another. This is exact whatever the clocks say, so that a second run never repeats
  the first.
* The clock, for a unit that somebody else started, or that systemd started again. A file is stale if it, or
  a link on the way to it, was changed after the moment the start began (not the moment the unit became
  active: what changes in between may or may not have been read), less `CLOCK_SLACK`. A doubtful case counts
  as stale. That costs one restart, after which the stamp answers.

The start is taken from systemd's monotonic time. CLOCK_MONOTONIC is its clock, also in containers and after a
suspend, which /proc/uptime (CLOCK_BOOTTIME) is not.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

STAMPS = "/run/kubewright"

# Seconds. The kernel gives files the time of its last tick (up to 10 ms ago, where HZ is 100) while systemd
# reads the exact time: a file that is written just after the start can look that much older than the start.
CLOCK_SLACK = 0.02

# systemd.unit(5): the types of units; a name with none of these suffixes is a service.
UNIT_TYPES = (
    "automount",
    "device",
    "mount",
    "path",
    "scope",
    "service",
    "slice",
    "socket",
    "swap",
    "target",
    "timer",
)

# systemd.unit(5): the characters of a unit's name. Any other could make systemctl take it for a pattern.
UNIT_NAME = re.compile(r"[A-Za-z0-9:_\\@-][A-Za-z0-9:_.\\@-]*")

# Units that systemd writes itself at every daemon-reload: their times say nothing about their content.
GENERATED = ("/run/systemd/generator", "/run/systemd/transient/")

# The actions after which a unit runs with its present configuration.
LIFE = frozenset(("start", "restart", "reload"))

PROPERTIES = (
    "ActiveEnterTimestampMonotonic",
    "ActiveState",
    "DropInPaths",
    "FragmentPath",
    "InactiveExitTimestampMonotonic",
    "InvocationID",
    "Job",
    "LoadState",
    "MainPID",
    "NeedDaemonReload",
    "ReloadResult",
    "RemainAfterExit",
    "Result",
    "SubState",
    "Type",
    "UnitFileState",
)


@dataclass(frozen=True)
class Unit:
    """What systemd says about a unit; times are Unix seconds, None where it never happened."""

    name: str
    load_state: str
    active_state: str
    sub_state: str
    file_state: str
    type: str
    result: str
    reload_result: str
    remain_after_exit: bool
    need_daemon_reload: bool
    job_pending: bool
    main_pid: str
    invocation: str
    definition: tuple[str, ...]
    start_began: float | None
    active_since: float | None

    @property
    def found(self) -> bool:
        return self.load_state != "not-found"

    @property
    def unread(self) -> bool:
        """Whether systemd must be told to read the unit files before it knows this unit as it is now."""
        return self.need_daemon_reload or not self.found

    @property
    def active(self) -> bool:
        return self.active_state in ("active", "reloading", "refreshing")

    @property
    def ends(self) -> bool:
        """Whether it is inactive again when its work is done."""
        return self.type == "oneshot" and not self.remain_after_exit

    @property
    def settled(self) -> bool:
        """Whether it is as a started unit of its kind stays: active, or a oneshot that did its work."""
        ran_once = self.ends and self.start_began is not None
        return self.active or (ran_once and self.active_state == "inactive" and self.result == "success")

    @property
    def starting(self) -> bool:
        return self.active_state == "activating" and self.sub_state != "auto-restart"


@dataclass(frozen=True)
class Mark:
    """What tells one content of a file from another, and when it got there (Unix seconds)."""

    digest: str
    changed: float


@dataclass(frozen=True)
class Wanted:
    name: str
    files: tuple[str, ...] = ()
    action_when_stale: str = "restart"
    enabled: bool = True
    running: bool = True


@dataclass(frozen=True)
class State:
    """One look at everything that the plan for a unit depends on."""

    unit: Unit
    marks: Mapping[str, Mark]
    stale_files: tuple[str, ...]


def unit_name(name: str) -> str:
    """The full name of a unit, as systemctl itself completes it."""
    if not UNIT_NAME.fullmatch(name):
        raise KubewrightError(
            f"{name!r} is not the name of a unit", remedy="Give a name such as containerd or etcd.service"
        )
    return name if name.rpartition(".")[2] in UNIT_TYPES else f"{name}.service"


def read_wanted(options: Iterable[Mapping[str, Any]]) -> list[Wanted]:
    """What the option `units` of the module asks for, in its order."""
    wanted = [
        Wanted(
            name=unit_name(unit["name"]),
            files=tuple(unit["files"]),
            action_when_stale=unit["action_when_stale"],
            enabled=unit["enabled"],
            running=unit["running"],
        )
        for unit in options
    ]
    names = [unit.name for unit in wanted]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise KubewrightError(
            f"Units are named more than once: {', '.join(twice)}",
            remedy="Give each unit once, with all its files",
        )
    return wanted


def parse_show(names: Sequence[str], text: str, boot: float) -> list[Unit]:
    """Read the output of `systemctl show`: a block for each name, in their order, with blank lines between.

    `boot` is the Unix time at which the monotonic clock was 0.
    """
    blocks = text.strip("\n").split("\n\n")
    if len(blocks) != len(names):
        raise KubewrightError(
            f"systemctl describes {len(blocks)} units where {len(names)} were asked for",
            where=", ".join(names),
            remedy="Run 'systemctl show' with these names to see why",
        )
    return [_parse_unit(name, block, boot) for name, block in zip(names, blocks)]


def _parse_unit(name: str, block: str, boot: float) -> Unit:
    values = dict(line.partition("=")[::2] for line in block.splitlines())

    def moment(key: str) -> float | None:
        microseconds = int(values.get(key) or 0)
        return boot + microseconds / 1e6 if microseconds else None

    definition = [values.get("FragmentPath", ""), *values.get("DropInPaths", "").split()]
    return Unit(
        name=name,
        load_state=values.get("LoadState", ""),
        active_state=values.get("ActiveState", ""),
        sub_state=values.get("SubState", ""),
        file_state=values.get("UnitFileState", ""),
        type=values.get("Type", ""),
        result=values.get("Result", ""),
        reload_result=values.get("ReloadResult", "success"),
        remain_after_exit=values.get("RemainAfterExit") == "yes",
        need_daemon_reload=values.get("NeedDaemonReload") == "yes",
        # systemctl leaves this property out where there is no job.
        job_pending=values.get("Job", "0") not in ("", "0"),
        main_pid=values.get("MainPID", "0"),
        invocation=values.get("InvocationID", ""),
        definition=tuple(path for path in definition if path and not path.startswith(GENERATED)),
        start_began=moment("InactiveExitTimestampMonotonic"),
        active_since=moment("ActiveEnterTimestampMonotonic"),
    )


def _files_under(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
    for folder, _folders, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names)


def _mark(path: str) -> Mark | None:
    """None where there is no file (any more), or where it is none that can be read to its end."""
    try:
        link, file = os.lstat(path), os.stat(path)
        if not stat.S_ISREG(file.st_mode):
            return None
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KubewrightError(
            "A file of the unit cannot be read", where=path, why=error.strerror or str(error)
        ) from error
    # A file that was moved here keeps its mtime, one that a link was switched to keeps both: take them all.
    changed = max(link.st_mtime, link.st_ctime, file.st_mtime, file.st_ctime)
    return Mark(digest.hexdigest(), changed)


def read_marks(patterns: Iterable[str]) -> dict[str, Mark]:
    """The marks of all files that the patterns match; a folder stands for every file under it."""
    paths = {
        path
        for pattern in patterns
        for match in glob.glob(pattern, recursive=True)
        for path in _files_under(match)
    }
    return {path: mark for path in sorted(paths) if (mark := _mark(path))}


def find_stale(
    unit: Unit, marks: Mapping[str, Mark], stamp: Mapping[str, str], gone: Iterable[str]
) -> list[str]:
    """The files whose present content the running unit has not read.

    `stamp` holds path and digest of what it read, as far as this module knows; `gone` the paths among them
    that exist no more.
    """
    if not unit.settled and unit.active_state != "activating":
        return []  # Nothing runs that could have read anything.

    def is_stale(path: str, mark: Mark) -> bool:
        if path in stamp:
            return stamp[path] != mark.digest
        return unit.start_began is not None and mark.changed >= unit.start_began - CLOCK_SLACK

    return sorted({path for path, mark in marks.items() if is_stale(path, mark)} | set(gone))


def plan(state: State, wanted: Wanted) -> list[str]:
    """The actions that lead from the state to what is wanted, in order."""
    unit = state.unit
    actions = ["daemon-reload"] if unit.unread else []

    # "static", "indirect", "generated", "alias" and "transient" cannot be enabled, and need not be.
    if wanted.enabled and (
        not unit.found or unit.file_state in ("disabled", "enabled-runtime", "linked", "linked-runtime")
    ):
        actions.append("enable")
    if not wanted.enabled and unit.file_state in ("enabled", "enabled-runtime"):
        actions.append("disable")
    if not wanted.running:
        return actions

    # The files that systemd reads itself take effect at a start only: no reload of the service reaches them.
    redefined = unit.unread or bool(set(state.stale_files) & set(unit.definition))
    if unit.settled or unit.starting:
        if redefined or (state.stale_files and not unit.active):
            actions.append("restart")
        elif state.stale_files:
            actions.append(wanted.action_when_stale)
    else:
        # A unit that failed too often in a short time refuses to start until it is reset.
        if unit.active_state == "failed":
            actions.append("reset-failed")
        actions.append("start")
    return actions


def _stamp_path(name: str, folder: str) -> str:
    return os.path.join(folder, f"{name}.json")


def read_stamp(unit: Unit, folder: str) -> dict[str, str]:
    """Path and digest of what the present invocation of the unit read; empty where it is not known."""
    try:
        with open(_stamp_path(unit.name, folder), encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return {}
    return content["files"] if unit.invocation and content.get("invocation") == unit.invocation else {}


def write_stamp(unit: Unit, marks: Mapping[str, Mark], folder: str) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = _stamp_path(unit.name, folder)
    content = {"invocation": unit.invocation, "files": {name: mark.digest for name, mark in marks.items()}}
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    os.replace(f"{path}.new", path)


class Systemd:
    """Observes units and carries out their plans; `deadline` begins the time that one unit may take."""

    def __init__(self, runner: Runner, deadline: Callable[[], Deadline], *, stamps: str = STAMPS) -> None:
        self._runner = runner
        self._deadline = deadline
        self._stamps = stamps

    def _systemctl(self, deadline: Deadline, *words: str) -> str:
        argv = ["systemctl", "--no-ask-password", *words]
        return self._runner.run(argv, timeout=max(1.0, deadline.remaining()), asks=words[0] == "show").stdout

    def _show(self, names: Sequence[str], deadline: Deadline) -> list[Unit]:
        if not names:
            return []  # Without a name, systemctl would describe the manager itself.
        text = self._systemctl(deadline, "show", f"--property={','.join(PROPERTIES)}", "--", *names)
        return parse_show(names, text, time.time() - time.clock_gettime(time.CLOCK_MONOTONIC))

    def observe(self, wanted: Sequence[Wanted]) -> list[State]:
        """Look at all units; the states are in the order of `wanted`."""
        units = self._show([each.name for each in wanted], self._deadline())
        return [self._state(unit, each) for unit, each in zip(units, wanted)]

    def _state(self, unit: Unit, wanted: Wanted) -> State:
        if unit.load_state in ("masked", "error", "bad-setting"):
            raise KubewrightError(
                f"systemd does not start {unit.name}",
                why=f"its LoadState is {unit.load_state}",
                remedy=f"Run 'systemctl unmask {unit.name}'"
                if unit.load_state == "masked"
                else f"Run 'systemd-analyze verify {unit.name}', which names the faulty line",
            )
        if not wanted.running:
            return State(unit, {}, ())  # Nothing that its files hold would be acted on.
        marks = read_marks((*wanted.files, *unit.definition))
        stamp = read_stamp(unit, self._stamps)
        gone = [path for path in stamp if not os.path.lexists(path)]
        return State(unit, marks, tuple(find_stale(unit, marks, stamp, gone)))

    def apply(self, states: Sequence[State], wanted: Sequence[Wanted]) -> tuple[list[list[str]], list[State]]:
        """Do what the plans say, one unit after the other.

        Return the actions of each unit, and the state behind them with the unit as it is after them.
        """
        if any(state.unit.unread for state in states):
            states = self._read_definitions(states, wanted)
        plans = [plan(state, each) for state, each in zip(states, wanted)]
        after = [self._carry_out(state, each, actions) for state, each, actions in zip(states, wanted, plans)]
        return plans, after

    def _read_definitions(self, states: Sequence[State], wanted: Sequence[Wanted]) -> list[State]:
        """Let systemd read all unit files, once for all units, and look again."""
        self._systemctl(self._deadline(), "daemon-reload")
        fresh = self.observe(wanted)
        missing = [state.unit.name for state in fresh if not state.unit.found]
        if missing:
            raise KubewrightError(
                f"There is no unit {', '.join(missing)} on this host", remedy="Install its unit file first"
            )
        # systemd forgets, with the reload, that the running unit was made from an older definition.
        return [
            replace(new, unit=replace(new.unit, need_daemon_reload=old.unit.unread))
            for old, new in zip(states, fresh)
        ]

    def _carry_out(self, state: State, wanted: Wanted, actions: Sequence[str]) -> State:
        """Take the actions on one unit that follow a daemon-reload."""
        name = state.unit.name
        deadline = self._deadline()
        for action in actions:
            if action in ("enable", "disable", "reset-failed"):
                self._systemctl(deadline, action, "--", name)
            elif action in LIFE:
                # Without --no-block it would wait as long as the unit's own time limit, which may be
                # infinity.
                self._systemctl(deadline, "--no-block", action, "--", name)
        acted = bool(LIFE & set(actions))
        if not acted and not (wanted.running and state.unit.starting):
            return state
        unit = self._wait(state.unit, deadline)
        if "reload" in actions and unit.reload_result != "success":
            raise self._failure(unit, f"reloading it ended with {unit.reload_result}")
        if acted:
            write_stamp(unit, state.marks, self._stamps)
        return replace(state, unit=unit)

    def _wait(self, before: Unit, deadline: Deadline) -> Unit:
        """Wait until systemd has done its work on the unit and the unit stays as it is.

        A service that tells nobody when it is ready counts as active from its fork on, even if it ends at
        once: only the same process at two looks says that it runs.
        """
        seen = [before]

        def steady() -> Unit | None:
            (unit,) = self._show([before.name], deadline)
            seen.append(unit)
            if unit.job_pending or unit.active_state in ("activating", "deactivating", "reloading"):
                return None
            if not unit.settled:
                raise self._failure(
                    unit, f"it is {unit.active_state} ({unit.sub_state}), result {unit.result}"
                )
            tells = unit.type not in ("simple", "exec", "idle")
            return unit if tells or seen[-2].main_pid == unit.main_pid else None

        try:
            return wait_for(steady, deadline, what=f"{before.name} to become active", interval=0.5)
        except DeadlineExpired as error:
            unit = seen[-1]
            raise self._failure(
                unit, f"{error.what}; it is {unit.active_state} ({unit.sub_state})"
            ) from error

    def _failure(self, unit: Unit, why: str) -> KubewrightError:
        argv = ["journalctl", f"--unit={unit.name}", "--lines=15", "--no-pager", "--output=cat"]
        journal = self._runner.run(argv, check=False, timeout=10, asks=True).stdout.strip()
        return KubewrightError(
            f"{unit.name} does not run",
            why=f"{why}. The end of its journal:\n{journal or '(nothing)'}\n",
            remedy=f"Correct the cause and run the task again; 'systemctl status {unit.name}' says more",
            journal=journal.splitlines(),
        )


def diff(
    states: Sequence[State], plans: Sequence[Sequence[str]], wanted: Sequence[Wanted]
) -> dict[str, dict[str, Any]]:
    """All units before and after, by their names, as Ansible's diff mode shows them."""
    sides: dict[str, dict[str, Any]] = {"before": {}, "after": {}}
    for state, actions, each in zip(states, plans, wanted):
        before = {
            "active": state.unit.active_state,
            "enabled": state.unit.file_state,
            "stale_files": list(state.stale_files),
            "actions": [],
        }
        after = {**before, "actions": list(actions), "stale_files": []}
        if LIFE & set(actions):
            after["active"] = "inactive" if state.unit.ends else "active"
        if {"enable", "disable"} & set(actions):
            after["enabled"] = "enabled" if each.enabled else "disabled"
        sides["before"][each.name], sides["after"][each.name] = before, after
    return sides
