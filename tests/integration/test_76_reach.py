"""What is wrong with the network ends the run in one line a host, before any host is changed.

The faults are made from outside: in the hosts' network namespaces, where a firewall of the site would be.
Run by `make soak`: minutes of waiting for answers that do not come.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from labtools import ROOT, Notes, Recap, filtered, network, playbook, run

from lab.nodes import NUMBER, ORIGIN, PREFIX, STATE, existing

NETWORK = f"10.198.{NUMBER}"
HOSTS = {"cp1": f"{NETWORK}.11", "cp2": f"{NETWORK}.12", "cp3": f"{NETWORK}.13", "worker1": f"{NETWORK}.21"}
VIP = f"{NETWORK}.100"
FILES = "find /etc /usr /opt /var/lib /root -xdev -type f -printf '%p %s %T@\\n' | sort | sha256sum"
FINGERPRINT = f"{FILES}; dpkg -l | sha256sum"


def container(host: str, *argv: str, check: bool = True) -> str:
    """Run a command on a host."""
    return run("podman", "exec", f"{PREFIX}{host}", *argv, check=check)


def fingerprints(*hosts: str) -> dict[str, str]:
    """Return a digest of each host's files and packages."""
    return {host: container(host, "sh", "-c", FINGERPRINT) for host in hosts or HOSTS}


@contextmanager
def address(host: str, wanted: str) -> Iterator[None]:
    """Give a host one more address."""
    network(host, "ip", "address", "add", f"{wanted}/24", "dev", "eth0")
    try:
        yield
    finally:
        network(host, "ip", "address", "del", f"{wanted}/24", "dev", "eth0")


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The inventory of four hosts in this machine's lab, which are up and bare."""
    folder = tmp_path_factory.mktemp("inventory")
    described = {"control_plane": ("cp1", "cp2", "cp3"), "workers": ("worker1",)}
    lines = ["---"]
    for group, hosts in described.items():
        lines += [
            f"{group}:",
            "  hosts:",
            *(f"    {host}: {{ansible_host: {HOSTS[host]}}}" for host in hosts),
        ]
    (folder / "hosts.yml").write_text("\n".join(lines) + "\n")
    (folder / "group_vars").mkdir()
    text = (ROOT / "inventories/lab/group_vars/all.yml").read_text().replace("10.198.0.", f"{NETWORK}.")
    (folder / "group_vars/all.yml").write_text(text)
    os.environ["KUBEWRIGHT_LAB_STATE"] = str(STATE)
    # Whoever is there from earlier tests: a load balancer of theirs may hold the virtual IP.
    run("python3", "-m", "lab", "remove", *(name.removeprefix(PREFIX) for name in existing() - {ORIGIN}))
    run("python3", "-m", "lab", "up", "--inventory", str(folder))
    yield str(folder)


def refused(inventory: str, *options: str, untouched: tuple[str, ...] = ()) -> Recap:
    """Run site.yml, which must fail, and prove that it changed nothing."""
    before = fingerprints(*untouched)
    done = playbook("site", *options, inventory=inventory, check=False)
    assert done.total("failed") >= 1 and done.total("changed") == 0, done.output
    assert fingerprints(*untouched) == before
    assert "PLAY [Put the load balancer" not in done.output, "no host goes on alone"
    return done


DROP = ["-j", "DROP"]
RESET = ["-j", "REJECT", "--reject-with", "tcp-reset"]
PROHIBITED = ["-j", "REJECT", "--reject-with", "icmp-host-prohibited"]
FAULTS = {
    "etcd, dropped": (
        "cp2",
        ["-p", "tcp", "--dport", "2380", *DROP],
        f"cp1 cannot reach cp2 ({NETWORK}.12) on 2380/tcp (etcd's members): no answer, so a packet filter probably "
        "drops it. Open it on cp2 and on the way for cp1.",
    ),
    "API server and endpoint for workers, dropped": (
        "cp3",
        ["-s", f"{NETWORK}.21", "-p", "tcp", "-m", "multiport", "--dports", "6443,8443", *DROP],
        f"worker1 cannot reach cp3 ({NETWORK}.13) on 6443/tcp (API server), 8443/tcp (load balancer): no answer",
    ),
    "kubelet, rejected": (
        "worker1",
        ["-p", "tcp", "--dport", "10250", *RESET],
        f"cp3 cannot reach worker1 ({NETWORK}.21) on 10250/tcp (kubelet): refused although worker1 listens, so a "
        "packet filter probably rejects it. Open it on worker1 and on the way for cp3.",
    ),
    "flannel, dropped": (
        "worker1",
        ["-p", "udp", "--dport", "8472", *DROP],
        f"cp1 cannot reach worker1 ({NETWORK}.21) on 8472/udp (flannel's vxlan): no answer",
    ),
    "etcd, prohibited as firewalld does": (
        "cp1",
        ["-s", f"{NETWORK}.12", "-p", "tcp", "--dport", "2379", *PROHIBITED],
        f"cp2 cannot reach cp1 ({NETWORK}.11) on 2379/tcp (etcd's clients): no route, or a packet filter rejects it.",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_port_that_another_host_cannot_reach(inventory: str, fault: str) -> None:
    """Every kind of packet filter on every kind of port is named, with both hosts."""
    host, rule, expected = FAULTS[fault]
    with filtered(host, *rule):
        done = refused(inventory)
    assert expected in done.said, done.output


def test_a_virtual_ip_in_use(inventory: str) -> None:
    """A worker has the address that is to become the virtual IP: refused with its MAC address."""
    mac = container("worker1", "cat", "/sys/class/net/eth0/address").strip()
    with address("worker1", VIP):
        done = refused(inventory)
    assert f"{VIP} is to become the virtual IP, but it is in use: {mac} answers for it" in done.said, (
        done.output
    )


@pytest.mark.parametrize("holder", ["cp1", "cp2"])
def test_a_virtual_ip_of_an_interrupted_run(inventory: str, holder: str) -> None:
    """A load balancer host has it already, as when a run ended before the cluster was started: no obstacle."""
    with address(holder, VIP):
        done = playbook("site", "--check", inventory=inventory)
    assert done.total("failed") == 0


def test_a_port_that_something_else_holds(inventory: str) -> None:
    """kubeadm would refuse the host after the packages are installed; here it is known before."""
    script = "import socket, time; s = socket.create_server(('', 10250)); time.sleep(600)"
    held = subprocess.Popen(["podman", "exec", f"{PREFIX}cp3", "timeout", "90", "python3", "-c", script])
    try:
        until = time.monotonic() + 20
        while "10250" not in container("cp3", "ss", "-lnt"):
            assert time.monotonic() < until
            time.sleep(0.2)
        done = refused(inventory)
    finally:
        container(
            "cp3", "sh", "-c", "kill $(ss -lntpH 'sport = :10250' | grep -o 'pid=[0-9]*' | cut -d= -f2)"
        )
        held.wait(30)
    assert (
        "On cp3 something else already listens on 10250/tcp (kubelet), so kubeadm would refuse the host."
        in done.said
    ), done.output


def test_a_clock_that_is_off(inventory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of worker1 is 5 s ahead: refused on every host that compared, naming the hosts that agree.

    Containers share one clock. So the run takes a copy of the collection whose clock is a fake one on worker1.
    """
    copy = tmp_path / "ansible_collections/kubewright/cluster"
    for part in ("meta", "plugins", "roles", "galaxy.yml"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / part)
        copy.mkdir(parents=True, exist_ok=True)
    core = copy / "plugins/module_utils/_reach_listener.py"
    honest = "    return time.time()\n"
    fake = '    return time.time() + (5 if socket.gethostname() == "worker1" else 0)\n'
    assert core.read_text().count(honest) == 1
    core.write_text(core.read_text().replace(honest, fake))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(tmp_path))
    done = refused(inventory)
    said = done.said
    assert (
        "The clock of worker1 is 5.0 s ahead of that of cp1, and 1 s are allowed (the clock of cp1 agrees with those "
        "of cp2, cp3). Set the wrong one right and keep it so, for example with chrony." in said
    ), done.output
    assert "The clock of cp1 is 5.0 s behind that of worker1" in said
    accepted = playbook("site", "--check", "-e", "kube_host_max_clock_offset=6", inventory=inventory)
    assert accepted.total("failed") == 0


def test_the_risk_can_be_taken(inventory: str) -> None:
    """With kube_host_accept_unchecked_network nothing is asked."""
    with filtered("cp2", "-p", "tcp", "--dport", "2380", *DROP):
        done = playbook(
            "site", "--check", "-e", "kube_host_accept_unchecked_network=true", inventory=inventory
        )
    assert done.total("failed") == 0 and "Listen where this host will serve" not in done.output


def results(done: Recap, host: str) -> int:
    """Return how many results of the check a host has in a run."""
    check = done.output.partition("See that the hosts reach each other]")[2]
    check = check.partition("Know how to get into the mirrors")[0]
    included = sum(host in line.split(" for ")[1] for line in re.findall(r"^included: .*$", check, re.M))
    return included + len({task for task in check.split("TASK [")[1:] if re.search(rf"\[{host}\]", task)})


def test_a_host_that_joins(inventory: str, notes: Notes) -> None:
    """A new worker is visited by a living control plane, and it costs the cluster's own hosts nothing."""
    made = playbook("site", "--limit", "cp1", inventory=inventory)
    assert made.total("failed") == 0
    joining = ("--limit", "worker1")
    with filtered("worker1", "-s", HOSTS["cp1"], "-p", "tcp", "--dport", "10250", *DROP):
        done = refused(inventory, *joining, untouched=("worker1",))
    assert f"cp1 cannot reach worker1 ({NETWORK}.21) on 10250/tcp (kubelet): no answer" in done.said, (
        done.output
    )
    with filtered("cp1", "-s", HOSTS["worker1"], "-p", "tcp", "--dport", "6443", *DROP):
        done = refused(inventory, *joining, untouched=("worker1",))
    assert f"worker1 cannot reach cp1 ({NETWORK}.11) on 6443/tcp (API server): no answer" in done.said, (
        done.output
    )
    with filtered("cp1", "-s", HOSTS["worker1"], "-p", "tcp", "-d", VIP, "--dport", "8443", *DROP):
        done = refused(inventory, *joining, untouched=("worker1",))
    assert f"worker1 cannot reach the endpoint ({VIP}) on 8443/tcp (load balancer): no answer" in done.said

    joined = playbook("site", *joining, inventory=inventory)
    assert joined.total("failed") == 0 and joined.hosts["worker1"]["changed"] > 0
    notes.add(f"network check: {results(joined, 'worker1')} task results on a host that joins")
    assert results(joined, "worker1") == 3
    again = playbook("site", "--limit", "cp1,worker1", inventory=inventory)
    assert again.total("changed") == 0
    assert (results(again, "cp1"), results(again, "worker1")) == (1, 1), "the include that is skipped"
