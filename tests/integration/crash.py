"""Cut runs of site.yml off at chosen moments, from outside: nothing in the product knows of it.

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
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from labtools import ROOT, Recap, kill_tree, recap, run

from lab import nodes
from lab.nodes import NUMBER, PREFIX, STATE

SESSION = "sshd-session"
POLL = 0.005
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

    def reach(self, there: Callable[[], bool], seconds: float = 600) -> bool:
        """Wait for a moment; return whether it came before the run ended."""
        until = time.monotonic() + seconds
        while self.runs:
            self.watch.poll()
            if there():
                return True
            assert time.monotonic() < until, f"not reached in {seconds:.0f} s: {self.tail()}"
            time.sleep(POLL)
        return False

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
