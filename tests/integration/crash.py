"""Cut runs of a playbook off at chosen moments, from outside: nothing in the product knows of it.

A run is watched through what it leaves anyway: the run log of each host, the files that appear there, and a
callback that notes the start of each task. Hosts are looked into through /proc, which costs microseconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import yaml
from labtools import ROOT, Notes, Recap, kill_tree, recap, run

from lab import nodes
from lab.nodes import NUMBER, PREFIX, STATE

T = TypeVar("T")

SESSION = "sshd-session"
POLL = 0.005
# Seconds. A module has many steps that take less; where it went on, none of them would be left.
QUICK = 0.1
# Seconds in which any run ends.
LONG = 3600.0
# Ansible's modules that can leave something behind. What the collection's modules do is in the run log.
ACTIONS = (
    "apt",
    "command",
    "dnf",
    "file",
    "get_url",
    "package",
    "replace",
    "systemd_service",
    "yum_repository",
)

# Kept with the results: who goes on with an interrupted soak may do it on another machine.
KEPT = ROOT / "tests/soak"

# What differs from run to run in the name of a step.
_VARYING = re.compile(r"\btmp\w{8}\b|/[0-9a-f]{8}-[0-9a-f-]{27}\b")


@dataclass(frozen=True)
class Step:
    """A step of a run: the host, and what the run log or the callback calls it."""

    host: str
    what: str

    def __str__(self) -> str:
        return f"{self.host}: {self.what}"


@dataclass
class Event:
    """A step that begins or ends; `seconds` is known at its end."""

    step: Step
    begins: bool
    time: float
    seconds: float = 0.0


def make_inventory(folder: Path, control_planes: int, workers: int) -> Path:
    """Write an inventory of this lab from the one of the repository."""
    hosts = {
        "control_plane": {
            f"cp{i}": {"ansible_host": f"10.198.{NUMBER}.1{i}"} for i in range(1, control_planes + 1)
        },
        "workers": {f"worker{i}": {"ansible_host": f"10.198.{NUMBER}.2{i}"} for i in range(1, workers + 1)},
    }
    (folder / "group_vars").mkdir(parents=True, exist_ok=True)
    (folder / "hosts.yml").write_text(yaml.safe_dump({name: {"hosts": each} for name, each in hosts.items()}))
    described = (ROOT / "inventories/lab/group_vars/all.yml").read_text()
    accepted = "kube_cluster_accept_two_control_planes: true\n" if control_planes == 2 else ""
    (folder / "group_vars/all.yml").write_text(described.replace("10.198.0.", f"10.198.{NUMBER}.") + accepted)
    return folder


class Hosts:
    """The containers of an inventory, seen from this machine."""

    def __init__(self, inventory: Path) -> None:
        self.inventory = inventory
        groups = yaml.safe_load((inventory / "hosts.yml").read_text())
        self.control_planes = list(groups["control_plane"]["hosts"])
        self.workers = list(groups["workers"]["hosts"])
        self.addresses = {
            name: each["ansible_host"] for group in groups.values() for name, each in group["hosts"].items()
        }
        self._pids: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """All hosts."""
        return list(self.addresses)

    def bare(self) -> None:
        """Make all hosts anew, with nothing on them."""
        run("python3", "-m", "lab", "remove", *self.names)
        run("python3", "-m", "lab", "up", "--inventory", str(self.inventory))
        self._pids.clear()

    def pid(self, host: str) -> int:
        """Return the process of the host's systemd."""
        if host not in self._pids:
            self._pids[host] = int(run("podman", "inspect", "--format", "{{.State.Pid}}", PREFIX + host))
        return self._pids[host]

    def path(self, host: str, path: str) -> Path:
        """Return a path of the host as this machine sees it."""
        return Path(f"/proc/{self.pid(host)}/root{path}")

    def run_log(self, host: str) -> Path:
        """Return the file to which the host writes what it does; it may not be there yet."""
        return self.path(host, "/var/log/kubewright/steps.log")

    def shell(self, host: str, script: str, check: bool = True) -> str:
        """Run a script on the host."""
        return run("podman", "exec", PREFIX + host, "sh", "-c", script, check=check)

    def power_failure(self, host: str) -> None:
        """Take the power away and give it back; return when the host has booted."""
        nodes.kill(PREFIX + host)
        self._pids.pop(host, None)
        run("podman", "start", PREFIX + host)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            state = run(
                "podman", "exec", PREFIX + host, "systemctl", "is-system-running", check=False
            ).strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.2)
        raise AssertionError(f"{host} has not booted: {state}")

    def end_sessions(self, host: str) -> None:
        """Kill every SSH session on the host with all that it started: modules, and the programs that they run."""
        for _attempt in range(20):
            victims = sessions(self.pid(host))
            if not victims:
                return
            for pid in victims:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        raise AssertionError(f"sessions on {host} do not end: {victims}")


def sessions(container: int) -> list[int]:
    """Return the processes of the SSH sessions in a container, and their descendants."""
    namespace = os.readlink(f"/proc/{container}/ns/pid")
    parents: dict[int, int] = {}
    roots: set[int] = set()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if os.readlink(f"/proc/{entry.name}/ns/pid") != namespace:
                continue
            name, _, rest = Path(f"/proc/{entry.name}/stat").read_text().partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
                if name == SESSION:
                    roots.add(int(entry.name))
    found: set[int] = set()
    for pid in parents:
        line = pid
        while line in parents and line not in roots:
            line = parents[line]
        if line in roots:
            found.add(pid)
    return sorted(found)


class Watch:
    """What has happened since it began: the run logs of all hosts, and the starts of tasks."""

    def __init__(self, hosts: Hosts, starts: Path) -> None:
        self._hosts = hosts
        self._starts = starts
        self._offsets: dict[str, int] = {host: _size(hosts.run_log(host)) for host in hosts.names}
        self._read_of_starts = 0
        self.events: list[Event] = []

    def poll(self) -> list[Event]:
        """Return what is new."""
        new: list[Event] = []
        for host in self._hosts.names:
            text, self._offsets[host] = _read_lines(self._hosts.run_log(host), self._offsets[host])
            new += [_logged(host, json.loads(line)) for line in text]
        text, self._read_of_starts = _read_lines(self._starts, self._read_of_starts)
        for line in map(json.loads, text):
            action = line["action"].rpartition(".")[2]
            if action in ACTIONS:
                step = Step(line["host"], f"task {line['task'].rpartition(' : ')[2]}")
                new.append(Event(step, True, line["time"]))
        self.events += new
        return new

    def in_flight(self) -> set[Step]:
        """Return the logged steps that have begun and not ended."""
        open_steps: dict[Step, int] = {}
        for event in self.events:
            if not event.step.what.startswith("task "):
                open_steps[event.step] = open_steps.get(event.step, 0) + (1 if event.begins else -1)
        return {step for step, count in open_steps.items() if count > 0}


def _read_lines(path: Path, offset: int) -> tuple[list[str], int]:
    """Return the complete lines after *offset*, and the offset behind them."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0  # A new log has taken its name.
            file.seek(offset)
            data = file.read()
    except OSError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode().splitlines(), offset + len(whole)


def _logged(host: str, line: dict[str, object]) -> Event:
    kind = next(kind for kind in ("run", "api", "write") if kind in line)
    what = line[kind]
    text = " ".join(what) if isinstance(what, list) else str(what)
    moment = time.mktime(time.strptime(str(line["time"])[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    moment += float("0" + str(line["time"])[19:-1])
    step = Step(host, f"{line['by']} {kind} {_VARYING.sub('*', text)}")
    return Event(step, line["state"] == "begin", moment, float(str(line.get("seconds", 0))))


class Gates:
    """Lets every host write its run log one line at a time, by holding the lock that each line is written under.

    Many steps take less time than to see them and to kill. So whoever has logged that a step begins is stopped where it
    would log that it has ended.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._held: dict[str, tuple[int, str]] = {}

    def _hold(self) -> None:
        """Hold the lock of every host that has a run log and is not being written to."""
        for host in self._hosts.names:
            if host not in self._held:
                with suppress(OSError):
                    self._held[host] = self._lock(host)

    def _lock(self, host: str) -> tuple[int, str]:
        folder = os.open(self._hosts.run_log(host).parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # "lock: 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF", as in /proc/locks.
            info = Path(f"/proc/self/fdinfo/{folder}").read_text()
            return folder, re.findall(r"FLOCK .* (\S+:\S+:\d+) ", info)[0]
        except BaseException:
            os.close(folder)
            raise

    def pass_one(self) -> None:
        """Let one line be written on each host where somebody waits."""
        self._hold()
        waiting = re.findall(r"-> FLOCK .* (\S+:\S+:\d+) ", Path("/proc/locks").read_text())
        for host, (folder, identity) in self._held.items():
            if identity not in waiting:
                continue
            log = self._hosts.run_log(host)
            before, until = _size(log), time.monotonic() + 0.05
            fcntl.flock(folder, fcntl.LOCK_UN)
            while _size(log) == before and time.monotonic() < until:
                pass
            fcntl.flock(folder, fcntl.LOCK_EX)

    def open(self) -> None:
        """Let everybody go on."""
        for folder, _identity in self._held.values():
            os.close(folder)
        self._held.clear()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@dataclass
class Playbook:
    """A run of a playbook, in a process group of its own. *gated*: its hosts log one line at a time."""

    hosts: Hosts
    folder: Path
    name: str = "site"
    options: tuple[str, ...] = ()
    begun: float = field(default_factory=time.monotonic)
    gated: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.output = self.folder / "output.txt"
        starts = self.folder / "starts"
        self.watch = Watch(self.hosts, starts)
        self.gates = Gates(self.hosts)
        environment = {
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_starts",
            # A connection that a power failure broke would be used again. The path of a socket must be short.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"/tmp/kubewright-{os.getpid()}-{time.monotonic_ns() % 10**9}",
            "KUBEWRIGHT_TASK_STARTS": str(starts),
            "KUBEWRIGHT_LAB_STATE": str(STATE),
        }
        argv = [
            "ansible-playbook",
            "-i",
            str(self.hosts.inventory),
            f"playbooks/{self.name}.yml",
            *self.options,
        ]
        with self.output.open("w") as file:
            self._process = subprocess.Popen(
                argv,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def events(self) -> Iterator[Event]:
        """Return what happens, as it happens, until the run has ended."""
        while self.runs:
            yield from self.watch.poll()
            if self.gated:
                self.gates.pass_one()
            time.sleep(POLL)
        yield from self.watch.poll()

    def reach(self, there: Callable[[], T], seconds: float = 600) -> T | None:
        """Wait for a moment; return what is true then, None where the run ended before."""
        until = time.monotonic() + seconds
        while self.runs:
            self.watch.poll()
            if found := there():
                return found
            assert time.monotonic() < until, f"not reached in {seconds:.0f} s: {self.tail()}"
            time.sleep(POLL)
        return None

    def go_on(self, seconds: float) -> None:
        """Let it run for a while more."""
        until = time.monotonic() + seconds
        self.reach(lambda: time.monotonic() >= until)

    def end(self, seconds: float = 900) -> Recap:
        """Wait until it has ended."""
        try:
            self._process.wait(seconds)
        finally:
            self.kill()
            self.gates.open()
        self.watch.poll()
        text = self.output.read_text()
        return Recap(recap(text), time.monotonic() - self.begun, text)

    @property
    def code(self) -> int | None:
        """Its exit code."""
        return self._process.returncode

    def kill(self) -> None:
        """Kill the controller: ansible-playbook with its workers. What is gated stays where it is."""
        if self.runs:
            kill_tree(self._process.pid)
        self._process.wait(30)

    def tail(self) -> str:
        """Return the end of what it printed."""
        return self.output.read_text()[-4000:]


# How a run is cut off. The controller dies in all of them.
CONTROLLER = "controller killed, the hosts go on"
SESSIONS = "controller and the sessions on all hosts killed"
POWER = "controller killed, the host loses its power"


def cut_off(playbook: Playbook, how: str, host: str) -> None:
    """End a run in one of three ways; *host* is the one that loses its power."""
    if how == POWER:
        # First the host, so that nothing more happens there.
        os.kill(playbook.hosts.pid(host), signal.SIGKILL)
    playbook.kill()
    if how == SESSIONS:
        for name in playbook.hosts.names:
            playbook.hosts.end_sessions(name)
    playbook.gates.open()
    if how == POWER:
        playbook.hosts.power_failure(host)


@dataclass(frozen=True)
class Moment:
    """A moment to cut a run off at: how to know on which host it has come, how to do it, and how long after."""

    name: str
    there: Callable[[Playbook], str]
    how: str
    after: float = 0.0


def file(host: str, path: str) -> Callable[[Playbook], str]:
    """A file appears on a host."""
    return lambda playbook: host if playbook.hosts.path(host, path).exists() else ""


def step(host: str, text: str) -> Callable[[Playbook], str]:
    """A step begins whose name contains a text, on a host, or on any where none is named."""

    def there(playbook: Playbook) -> str:
        steps = (event.step for event in playbook.watch.events if event.begins)
        return next((one.host for one in steps if host in ("", one.host) and text in one.what), "")

    return there


@dataclass(frozen=True)
class Course:
    """A playbook that is cut off: where it begins, and what is true when it has ended. Both may write to a folder.

    *wait* is what an operator waits for before the next run. Steps of one *kind* count for each other.
    """

    hosts: Hosts
    begin: Callable[[Path], None]
    converged: Callable[[Path], None]
    name: str = "site"
    options: tuple[str, ...] = ()
    wait: Callable[[], None] = lambda: None
    kind: Callable[[Step], str] = str

    def playbook(self, folder: Path, *, gated: bool = False) -> Playbook:
        """Begin a run."""
        self.wait()
        return Playbook(self.hosts, folder, self.name, self.options, gated=gated)

    def cut_at(self, moments: Iterable[Moment], records: Path) -> None:
        """Cut one run after the other off, a moment each; the last run ends, and everything is there."""
        self.begin(records)
        for number, moment in enumerate(moments, 1):
            playbook = self.playbook(records / f"{number:02d}")
            host = playbook.reach(lambda playbook=playbook, moment=moment: moment.there(playbook), LONG)
            assert host, f"the run ended before: {moment.name}\n{playbook.tail()}"
            playbook.go_on(moment.after)
            assert playbook.runs, (
                f"the run ended {moment.after:.0f} s after: {moment.name}\n{playbook.tail()}"
            )
            cut_off(playbook, moment.how, host)
            after = time.monotonic() - playbook.begun
            print(f"{number:2d}. {host}, {moment.name}: {moment.how} after {after:.0f} s", flush=True)
        last = self.playbook(records / "last")
        last.end(LONG)
        assert last.code == 0, last.tail()
        self.converged(records)


@dataclass
class Table:
    """The steps of a clean run, and those at which runs were cut off. Kept in a file, so that it can go on."""

    file: Path
    course: Course
    commit: str
    seconds: dict[Step, float | None]
    cut: set[Step] = field(default_factory=set)
    runs: int = 0
    beginnings: int = 0
    never_first: bool = True

    def __post_init__(self) -> None:
        self._steps = Counter(map(self.course.kind, self.seconds))
        self._cuts = Counter(map(self.course.kind, self.cut))
        self._modules = {self.course.kind(one): one.what.split(" ")[0] for one in self.seconds}
        self._longest: dict[str, float] = {}
        for one, seconds in self.seconds.items():
            kind = self.course.kind(one)
            self._longest[kind] = max(self._longest.get(kind, 0.0), seconds or 0.0)

    @classmethod
    def load(cls, file: Path, course: Course) -> Table:
        """Return the table of an interrupted soak."""
        kept = json.loads(file.read_text())
        seconds = {Step(host, what): each for host, what, each in kept["steps"]}
        cut = {Step(*one) for one in kept["cut"]}
        return cls(file, course, kept["commit"], seconds, cut, kept["runs"], kept["beginnings"])

    @classmethod
    def of_a_clean_run(cls, files: list[Path], course: Course, records: Path) -> None:
        """Let the playbook run once, and deal out all that happened to as many tables as there are files."""
        course.begin(records / "before")
        clean = course.playbook(records / "clean")
        clean.end(LONG)
        assert clean.code == 0, clean.tail()
        seconds: dict[Step, float | None] = {event.step: None for event in clean.watch.events if event.begins}
        seconds |= {event.step: event.seconds for event in clean.watch.events if not event.begins}
        assert len(seconds) > 50, "the run log does not name the steps"
        commit = run("git", "rev-parse", "--short", "HEAD").strip()
        # The same on several hosts goes to several tables.
        steps = sorted(seconds, key=lambda one: (course.kind(one), str(one)))
        for number, file in enumerate(files):
            cls(file, course, commit, {one: seconds[one] for one in steps[number :: len(files)]}).save()

    @property
    def left(self) -> int:
        """How many steps are still to be cut off."""
        return sum((self._steps - self._cuts).values())

    def is_left(self, one: Step) -> bool:
        """Tell whether a step is still to be cut off.

        What comes in a module after a step at which it was cut off often does not come again on that host. So those of
        its steps that were cut off on no host come first.
        """
        kind = self.course.kind(one)
        if one in self.cut or self._steps[kind] <= self._cuts[kind]:
            return False
        never = self._never() if self.never_first else set()
        return kind in never or self._modules[kind] not in map(self._modules.get, never)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.file.parent.mkdir(exist_ok=True)
        part = self.file.with_suffix(".part")
        steps = [(one.host, one.what, each) for one, each in self.seconds.items()]
        cut = [(one.host, one.what) for one in self.cut]
        kept = {"commit": self.commit, "runs": self.runs, "beginnings": self.beginnings}
        part.write_text(json.dumps({**kept, "steps": steps, "cut": cut}, indent=1))
        part.rename(self.file)

    def chain(self, records: Path) -> None:
        """From the beginning, cut every run off at the first step that is still left, until one ends.

        What was in flight on the other hosts was cut off with it.
        """
        self.course.begin(records)
        self.beginnings += 1
        ways = (SESSIONS, CONTROLLER, POWER)
        for number in range(1, 2 * len(self.seconds) + 2):
            playbook = self.course.playbook(records / f"{number:03d}", gated=True)
            hit = next(
                (event for event in playbook.events() if event.begins and self.is_left(event.step)), None
            )
            if hit is None:
                playbook.end(LONG)
                assert playbook.code == 0, playbook.tail()
                self.course.converged(records)
                return
            # In its middle, as the clean run knows it.
            delay = min(20.0, self._longest[self.course.kind(hit.step)] / 2)
            playbook.go_on(delay)
            if playbook.runs:
                how = SESSIONS if delay < QUICK else ways[number % len(ways)]
                playbook.watch.poll()
                new = ({hit.step} | playbook.watch.in_flight()) - self.cut
                cut_off(playbook, how, hit.step.host)
                self._cuts.update(map(self.course.kind, new))
                self.cut |= new
                self.runs += 1
                self.save()
                print(f"{number:3d}. {self.left} left after {hit.step}: {how}", flush=True)
        pytest.fail(f"the runs do not come to an end, and {self.left} steps are left")

    def work_through(self, records: Path, notes: Notes, part: str = "") -> None:
        """Go on until every step was cut off."""
        # A step that is over before the run is cut off does not come again in this chain: the next has it first.
        while self.left:
            runs = self.runs
            self.chain(records / f"chain-{self.beginnings + 1}")
            if self.runs == runs:
                # What cannot be reached keeps others of its module waiting only as long as something else is.
                if not (self.never_first and self._never()):
                    break
                self.never_first = False
        course, steps, kinds = self.course, len(self.seconds), len(self._steps)
        left = sorted(self._steps - self._cuts)
        notes.add(
            f"crash table of {course.name}.yml on {len(course.hosts.control_planes)} + {len(course.hosts.workers)} "
            f"hosts (made at {self.commit}{part}): {steps - self.left} of {steps} steps, "
            f"of {kinds - len(self._never())} of {kinds} kinds, cut off in {self.runs} runs from {self.beginnings} "
            "beginnings; every one converged"
        )
        assert not left, f"never cut off ({self.file} keeps the table): {', '.join(left)}"
        self.file.unlink()

    def _never(self) -> set[str]:
        """Return the kinds that were cut off on no host."""
        return {kind for kind in self._steps if not self._cuts[kind]}


def whole_table(course: Course, records: Path, notes: Notes) -> None:
    """Make the table of a playbook, or take the one that a soak which was interrupted has left, and work through it.

    With KUBEWRIGHT_CRASH_PART=1/2 it is half of it. The other half is for another lab (KUBEWRIGHT_LAB) of the same
    checkout, which begins when the clean run of the first has ended.
    """
    name = f"crash-table-{course.name}-{len(course.hosts.control_planes)}+{len(course.hosts.workers)}"
    part, parts = map(int, os.environ.get("KUBEWRIGHT_CRASH_PART", "1/1").split("/"))
    files = [KEPT / f"{name}{f'-{i}of{parts}' * (parts > 1)}.json" for i in range(1, parts + 1)]
    if not files[part - 1].exists():
        Table.of_a_clean_run(files, course, records)
    Table.load(files[part - 1], course).work_through(
        records, notes, f", part {part} of {parts}" * (parts > 1)
    )


def asked_for() -> tuple[int, int]:
    """Return the control planes and workers of a whole table."""
    control_planes, workers = os.environ.get("KUBEWRIGHT_CRASH_HOSTS", "3+2").split("+")
    return int(control_planes), int(workers)
