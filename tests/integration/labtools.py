"""Tools of the integration tests: the lab's hosts, playbook runs, and faults made from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab import nodes
from lab.nodes import NUMBER, PREFIX

ROOT = Path(__file__).parent.parent.parent
OUTPUT = ROOT / "tests" / "output"
# The inventory of what runs in the lab.
INVENTORY = os.environ.get("KUBEWRIGHT_INVENTORY") or "inventories/lab"
ADDRESSES = {f"cp{number}": f"10.198.{NUMBER}.1{number}" for number in (1, 2, 3)}
VIP = f"10.198.{NUMBER}.100"
# Seconds in which any playbook ends: an upgrade of five hosts on two cores takes half of it.
LONGEST = 2700


def run(
    *argv: str,
    check: bool = True,
    timeout: float = 900,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
) -> str:
    """Return a command's output; with *check* a failure shows it."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", **(env or {})},
    )
    assert not check or done.returncode == 0, (
        f"{' '.join(argv)}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    )
    return done.stdout + done.stderr


def kill_tree(root: int) -> None:
    """Kill a process with all that it started. Ansible's workers are in sessions of their own."""
    found: list[int] = []
    new = [root]
    while new:
        # What is stopped starts nothing that would not be found.
        for pid in new:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        found += new
        new = [pid for pid, parent in _parents().items() if parent in found and pid not in found]
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """Return the parent of each process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return parents


@dataclass
class Recap:
    """The end of a playbook run: the counts of every host, the seconds, and all that was printed."""

    hosts: dict[str, dict[str, int]]
    seconds: float
    output: str

    @property
    def said(self) -> str:
        """What was printed, in one line: Ansible wraps its lines."""
        return " ".join(self.output.split())

    def total(self, name: str) -> int:
        """Return a count over all hosts."""
        return sum(counts[name] for counts in self.hosts.values())


def recap(output: str) -> dict[str, dict[str, int]]:
    """Read the counts of the hosts from a playbook's output."""
    tail = output.rpartition("PLAY RECAP")[2]
    found = re.findall(r"^(\S+)\s+: (ok=.*)$", tail, re.M)
    return {
        host: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in found
    }


def playbook(name: str, *options: str, inventory: str = INVENTORY, check: bool = True) -> Recap:
    """Run a playbook of the collection."""
    begun = time.monotonic()
    argv = ["ansible-playbook", "-i", inventory, f"playbooks/{name}.yml", *options]
    output = run(*argv, check=check, timeout=LONGEST)
    return Recap(recap(output), time.monotonic() - begun, output)


def kill_in_step(name: str, step: str, *options: str, inventory: str = INVENTORY, after: float = 1.0) -> str:
    """Run a playbook and kill it, with all that it started here, *after* seconds in a step; return its output.

    What was sent to the hosts goes on there, as with a controller that dies.
    """
    words = [nodes.ansible_tool("ansible-playbook"), "-i", inventory, f"playbooks/{name}.yml", *options]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    lines = []
    assert process.stdout
    for line in process.stdout:
        lines.append(line)
        if line.startswith("TASK [") and step in line:
            # Somewhere in the step.
            time.sleep(after)
            kill_tree(process.pid)
            break
    process.wait()
    if process.returncode != -signal.SIGKILL:
        pytest.fail("It ended by itself:\n" + "".join([*lines, process.stdout.read()])[-6000:])
    return "".join(lines)


def kubectl(*words: str, host: str = "cp1", check: bool = True) -> str:
    """Run kubectl on a control plane, against its own API server."""
    config = ["--kubeconfig", "/etc/kubernetes/admin.conf", "--server", f"https://{ADDRESSES[host]}:6443"]
    return run("podman", "exec", f"{PREFIX}{host}", "kubectl", *config, *words, check=check)


def nodes_ready(host: str = "cp1") -> set[str]:
    """Return the names of the Ready nodes."""
    items = json.loads(kubectl("get", "nodes", "-o", "json", host=host))["items"]
    return {
        item["metadata"]["name"]
        for item in items
        if any(one["type"] == "Ready" and one["status"] == "True" for one in item["status"]["conditions"])
    }


def wait_until(check: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll a condition; an exception counts as not yet."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if check():
                return
        except (AssertionError, subprocess.TimeoutExpired, json.JSONDecodeError):
            pass
        time.sleep(1)
    pytest.fail(f"gave up after {seconds:.0f} s: {what}")


@dataclass
class Fault:
    """A way to lose a host, and to get it back."""

    name: str
    make: Callable[[str], None]
    undo: Callable[[str], None]
    # Seconds in which requests through the virtual IP must be answered again.
    limit: float


def kill(host: str) -> None:
    """The power fails."""
    nodes.kill(f"{PREFIX}{host}")


def start(host: str) -> None:
    """The power comes back."""
    run("podman", "start", f"{PREFIX}{host}")


_bridges: dict[str, tuple[str, str]] = {}


def cut(host: str) -> None:
    """The switch forgets the host: its link stays up, nothing passes."""
    index = run("podman", "exec", f"{PREFIX}{host}", "cat", "/sys/class/net/eth0/iflink").strip()
    link = next(one for one in json.loads(run("ip", "-json", "link", "show")) if one["ifindex"] == int(index))
    _bridges[host] = (link["ifname"], link["master"])
    run("ip", "link", "set", "dev", link["ifname"], "nomaster")


def mend(host: str) -> None:
    """The switch knows the host again."""
    link, bridge = _bridges.pop(host)
    run("ip", "link", "set", "dev", link, "master", bridge)


def pause(host: str) -> None:
    """The host freezes: its kernel still accepts connections, nobody answers."""
    run("podman", "pause", f"{PREFIX}{host}")


def unpause(host: str) -> None:
    """The host thaws."""
    run("podman", "unpause", f"{PREFIX}{host}")


FAULTS = {
    "killed": Fault("killed", kill, start, 5),
    "cut off": Fault("cut off", cut, mend, 5),
    "paused": Fault("paused", pause, unpause, 15),
}


@contextmanager
def faulted(fault: Fault, host: str) -> Iterator[None]:
    """Keep a fault for the time of a block, and wait until the cluster is whole again."""
    fault.make(host)
    try:
        yield
    finally:
        fault.undo(host)


def network(host: str, *argv: str) -> str:
    """Run a command of this machine in the network namespace of a host."""
    process = run("podman", "inspect", "--format", "{{.State.Pid}}", f"{PREFIX}{host}").strip()
    return run("nsenter", "--target", process, "--net", *argv)


@contextmanager
def filtered(host: str, *rule: str, chain: str = "INPUT") -> Iterator[None]:
    """Keep a rule in a host's packet filter."""
    network(host, "iptables", "--wait", "--insert", chain, *rule)
    try:
        yield
    finally:
        network(host, "iptables", "--wait", "--delete", chain, *rule)


@dataclass
class Notes:
    """Figures that a test measured, kept for people and for the soak results."""

    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)
        print(line)
