# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the member of one host run by a command line, and back by the old one when it does not come up.

The unit file names the program by its version, so that one file decides both the version and the settings: no
start of the host finds the settings of one version and the program of another. What runs is read from the
process itself, so that a run that was cut off between the file and the restart is finished by the next one.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import _quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, EtcdCtl, Member
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_member import (
    Operator,
    Wanted,
    find,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_member import plan as plan_member
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import write_file
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

UNIT = "etcd.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
INITIAL = "/etc/etcd/initial.env"
RELEASES = "/opt/kubewright/etcd"

# A process that ends by itself this often does not like its arguments or its data.
_CRASHES = 3
_SECONDS = 60.0
_LOG_LINES = 8

_UNIT = """# Written by kubewright.cluster: the playbooks site.yml and upgrade_etcd.yml replace it.
[Unit]
Description=etcd, a member of the cluster that Kubernetes keeps its data in
Documentation=https://etcd.io/docs/
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
# It says that it is ready when it sees a leader, which may take as long as its peers are away.
Type=notify
TimeoutStartSec=infinity
User=etcd
Group=etcd
EnvironmentFile=-{initial}
ExecStart={command}
Restart=always
RestartSec=2
LimitNOFILE=65536
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ReadWritePaths={data}

[Install]
WantedBy=multi-user.target
"""


def render(command: Sequence[str]) -> str:
    """Return the unit file for a command line."""
    data = flag(command, "data-dir") or "/var/lib/etcd"
    return _UNIT.format(initial=INITIAL, command=" ".join(map(_quote, command)), data=data)


def _quote(word: str) -> str:
    """Write a word as systemd reads it (systemd.service(5), "Command lines")."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if re.search(r"[\s\"';]", word) else word


def parse(text: str) -> list[str]:
    """Return the command line of a unit file, empty where there is none."""
    found = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    if not found:
        return []
    words = shlex.split(found.group(1))
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


def flag(command: Sequence[str], name: str) -> str:
    """Return the value of a flag, empty where it is not given."""
    head = f"--{name}="
    return next((word[len(head) :] for word in command if word.startswith(head)), "")


def version(command: Sequence[str]) -> str:
    """Return the version that a command line starts, empty for a program that is not one of ours."""
    found = re.fullmatch(rf"{re.escape(RELEASES)}/([^/]+)/etcd", command[0]) if command else None
    return found.group(1) if found else ""


def needs_snapshot(running: Sequence[str], wanted: Sequence[str]) -> bool:
    """Tell whether the log of a member has to begin anew before another version reads it.

    3.7 gave up the requests by which members of 3.5 told their names. A log that still holds one, as it does until
    10,000 writes after the step from 3.5 to 3.6, ends every start of 3.7 ("unmarshal should never fail").
    """
    before, after = _minor(version(running)), _minor(version(wanted))
    return bool(before) and before < (3, 7) <= after


def _minor(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2]) if re.match(r"\d+\.\d+", text) else ()


def with_snapshots(command: Sequence[str]) -> list[str]:
    """Return a command line by which a member saves a snapshot of its log after every few entries."""
    return [*(word for word in command if not word.startswith("--snapshot-count=")), "--snapshot-count=1"]


def newest_snapshot(data: Path) -> int:
    """Return the index up to which a member needs its log no more; etcd names its snapshots TERM-INDEX."""
    names = [
        re.fullmatch(r"[0-9a-f]{16}-([0-9a-f]{16})\.snap", path.name)
        for path in (data / "member/snap").glob("*")
    ]
    return max((int(name[1], 16) for name in names if name), default=0)


@dataclass(frozen=True)
class Service:
    """The unit as it is. *command* is that of the running process, empty where none runs."""

    text: str
    command: tuple[str, ...]
    enabled: bool
    stale: bool = False
    restarts: int = 0


@dataclass(frozen=True)
class Plan:
    """What has to be done. *start* is for a member that does not run, *restart* for one that runs otherwise."""

    write: bool
    enable: bool
    start: bool
    restart: bool

    @property
    def actions(self) -> list[str]:
        return [name for name in ("write", "enable", "start", "restart") if getattr(self, name)]


def plan(service: Service, command: Sequence[str]) -> Plan:
    return Plan(
        write=service.text != render(command),
        enable=not service.enabled,
        start=not service.command,
        restart=bool(service.command) and list(service.command) != list(command),
    )


def diff(service: Service, command: Sequence[str]) -> dict[str, str]:
    """The command line that runs and the wanted one, a flag a line."""
    return {
        "before": "".join(f"{word}\n" for word in service.command),
        "after": "".join(f"{word}\n" for word in command),
    }


def may_restart(etcd: Etcd, member: Member) -> None:
    """Raise where a restart could stop the cluster. With one or two members every restart does, for a moment."""
    voters = [one for one in etcd.members if not one.is_learner]
    if len(voters) <= 2 and all(one.healthy for one in etcd.members):
        return
    _quorum.require(
        _quorum.may_pause(etcd.members, member), f"{member.name or member.id} is not restarted", etcd
    )


class System:
    """systemd and the processes of this host."""

    def __init__(self, runner: Runner, unit_file: Path = Path(UNIT_FILE), proc: Path = Path("/proc")) -> None:
        self._runner = runner
        self.unit_file = unit_file
        self._proc = proc

    def look(self) -> Service:
        names = "MainPID,UnitFileState,NeedDaemonReload,NRestarts"
        argv = ["systemctl", "show", f"--property={names}", "--", UNIT]
        said = self._runner.run(argv, timeout=_SECONDS, check=False, asks=True).stdout
        values = dict(line.partition("=")[::2] for line in said.splitlines())
        return Service(
            text=self.unit_file.read_text(encoding="utf-8") if self.unit_file.exists() else "",
            command=self._command(values.get("MainPID") or "0"),
            enabled=values.get("UnitFileState") == "enabled",
            stale=values.get("NeedDaemonReload") == "yes",
            restarts=int(values.get("NRestarts") or 0),
        )

    def _command(self, pid: str) -> tuple[str, ...]:
        if pid == "0":
            return ()
        try:
            content = (self._proc / pid / "cmdline").read_bytes()
        except OSError:
            return ()
        return tuple(word.decode("utf-8", "replace") for word in content.split(b"\0")[:-1])

    def write(self, text: str) -> None:
        write_file(self.unit_file, text.encode(), 0o644)
        self._systemctl("daemon-reload")

    def enable(self) -> None:
        self._systemctl("enable", UNIT)

    def act(self, action: str) -> None:
        # It is ready only when it sees a leader: who waits for that here waits for ever when it is the first.
        self._systemctl("reset-failed", UNIT, check=False)
        self._systemctl("--no-block", action, UNIT)

    def _systemctl(self, *words: str, check: bool = True) -> None:
        self._runner.run(["systemctl", *words], timeout=_SECONDS, check=check)

    def log(self) -> str:
        """Return why it ended, from the last lines of its journal."""
        argv = ["journalctl", f"--unit={UNIT}", "--lines=200", "--no-pager", "--output=cat"]
        return complaints(self._runner.run(argv, timeout=_SECONDS, check=False, asks=True).stdout)


def complaints(log: str) -> str:
    """Return the last complaints in the log of etcd, and its last lines where it complains about nothing."""
    lines = [line for line in log.splitlines() if line.strip()]
    told = [told for told in map(_complaint, lines) if told] or lines
    return " | ".join(list(dict.fromkeys(told))[-_LOG_LINES:])


def _complaint(line: str) -> str:
    """Return what a line of etcd's log complains about, empty for one that does not."""
    try:
        entry: Any = json.loads(line)
    except ValueError:
        return line if line.startswith(("flag provided", "Error", "panic")) else ""
    if not isinstance(entry, dict) or entry.get("level") not in ("error", "fatal", "panic"):
        return ""
    return ": ".join(str(entry[key]) for key in ("msg", "error") if entry.get(key))


class MemberService:
    """Carries out the plan for this host's member, within one deadline."""

    def __init__(
        self, system: System, client: EtcdCtl, peer_url: str, deadline: Deadline, expected_version: str = ""
    ) -> None:
        self._system = system
        self._client = client
        self._peer_url = peer_url
        self._deadline = deadline
        self._version = expected_version
        self._needed: set[str] = set()

    def gate(self) -> Etcd:
        """Refuse a restart that could stop the cluster; return what was seen."""
        etcd = self._client.observe()
        member = find(etcd.members, self._peer_url)
        if member is None:
            raise KubewrightError(
                f"No member of the cluster has the peer URL {self._peer_url} of this host, and its etcd runs",
                remedy="Find out which cluster it belongs to before it is restarted. Members:\n"
                + _quorum.table(etcd.members),
            )
        may_restart(etcd, member)
        return etcd

    def refusal(self) -> str:
        """Return why a restart would be refused now."""
        try:
            self.gate()
        except KubewrightError as error:
            return str(error)
        return ""

    def apply(self, planned: Plan, command: Sequence[str], *, wait: bool) -> None:
        """Start or restart the member, and see it healthy, with everybody else who was."""
        before = self._system.look()
        if planned.restart:
            etcd = self.gate()
            self._needed = {one.id for one in etcd.members if one.healthy}
            self._give_leadership_away(etcd)
        if planned.restart and needs_snapshot(before.command, command):
            self._begin_log_anew(before)
        if planned.write or before.stale:
            self._system.write(render(command))
        if planned.enable:
            self._system.enable()
        if planned.start or planned.restart:
            self._system.act("restart" if planned.restart else "start")
        if not wait:
            return
        try:
            self._wait(command, before.restarts if not planned.actions else 0)
        except KubewrightError as error:
            if planned.restart and before.text and planned.write:
                self._put_back(before, error)
            raise

    def _begin_log_anew(self, before: Service) -> None:
        """Let the member save a snapshot of all that it has, so that the next version reads nothing from before."""
        applied = self._applied(before.command)
        command = with_snapshots(before.command)
        data = Path(flag(command, "data-dir"))

        def saved() -> bool:
            if newest_snapshot(data) >= applied:
                return True
            raise KubewrightError(
                f"Its newest snapshot does not reach {applied}", where=str(data), transient=True
            )

        self._system.write(render(command))
        self._system.act("restart")
        version, self._version = self._version, ""
        try:
            self._wait(command, 0)
            wait_for(saved, self._deadline, what="the member to save a snapshot of its log", interval=0.5)
        except KubewrightError as error:
            self._put_back(before, error)
            raise
        self._version = version
        self._give_leadership_away(self.gate())

    def _applied(self, command: Sequence[str]) -> int:
        """Return the index of the last entry that this member has applied."""
        url = flag(command, "advertise-client-urls").split(",")[0]

        def parse_index(document: Any) -> int:
            return int(document[0]["Status"]["raftAppliedIndex"])

        return self._client.at([url]).read(parse_index, "endpoint", "status")

    def _give_leadership_away(self, etcd: Etcd) -> None:
        """A leader that just ends leaves its clients waiting for an election."""
        member = find(etcd.members, self._peer_url)
        others = [one for one in etcd.members if one.healthy and not one.is_learner and not one.is_leader]
        if member and member.is_leader and others:
            wanted = Wanted(state="follower", peer_url=self._peer_url)
            Operator(self._client, wanted, self._deadline).apply(plan_member(wanted, etcd))

    def _wait(self, command: Sequence[str], restarts: int) -> None:
        def serves() -> bool:
            now = self._system.look()
            if now.restarts - restarts >= _CRASHES:
                raise KubewrightError("etcd ends by itself again and again", why=self._system.log())
            if list(now.command) != list(command):
                raise KubewrightError("The new process does not run yet", transient=True)
            try:
                etcd = self._client.observe()
            except KubewrightError as error:
                error.transient = True
                raise
            return self._is_well(etcd)

        wait_for(serves, self._deadline, what="the member of this host to be healthy", interval=0.5)

    def _is_well(self, etcd: Etcd) -> bool:
        member = find(etcd.members, self._peer_url)
        if member is None:
            raise KubewrightError(f"No member has the peer URL {self._peer_url}", transient=True)
        missing = [one for one in etcd.members if one.id in self._needed and not one.healthy]
        sick = missing if member.healthy else [member]
        if sick:
            raise KubewrightError(
                f"{sick[0].name or sick[0].id} is not healthy", why=sick[0].error or "", transient=True
            )
        if self._version and member.version != self._version:
            raise KubewrightError(f"It runs {member.version}", transient=True)
        return True

    def _put_back(self, before: Service, error: KubewrightError) -> None:
        """Let it run as before. Its data is still that of the old version until all members have the new one."""
        old = parse(before.text)
        log = self._system.log()
        if log not in error.why:
            error.why = f"{error.why or 'it does not become healthy'}. Its log: {log}"
        self._deadline = Deadline(self._deadline.seconds)
        self._version = ""
        self._system.write(before.text)
        self._system.act("restart")
        try:
            self._wait(old, 0)
        except KubewrightError as second:
            error.facts["rolled_back"] = False
            error.remedy = (
                f"The old {self._system.unit_file} was put back, but that does not work either: {second} "
                "Look at this host before anything else"
            )
            return
        error.facts["rolled_back"] = True
        error.remedy = (
            "The member runs as before, and the hosts that come after this one were not touched. Correct the settings "
            "and run again"
        )
