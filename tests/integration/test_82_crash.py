"""Kill site.yml anywhere, run it again: it ends converged.

`make test` cuts one provisioning from bare hosts off at six moments in a row, `make soak` at eleven. And `make soak`
(KUBEWRIGHT_ALL_CRASHES) makes the table of all steps from a clean run, and cuts runs off at each of them;
KUBEWRIGHT_CRASH_HOSTS=1+1 does it on fewer hosts than 3 + 2. The table is kept beside the checkout until it is done
(.cache/crash-table-3+2.json): a soak that was interrupted goes on with the steps that are left.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from crash import CONTROLLER, POWER, SESSIONS, Hosts, Playbook, Step, cut_off, make_inventory
from labtools import OUTPUT, ROOT, Notes, run

ALL = bool(os.environ.get("KUBEWRIGHT_ALL_CRASHES"))
RECORDS = OUTPUT / "crash"
ETCDCTL = (
    "etcdctl --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt "
    "--key=/etc/kubernetes/pki/etcd/server.key --endpoints=https://127.0.0.1:2379"
)
# Seconds. A module has many steps that take less; where it went on, none of them would be left.
QUICK = 0.1
KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"


@dataclass(frozen=True)
class Moment:
    """A moment to cut a run off at: on which host, how to know it, and how to do it."""

    name: str
    host: str
    there: Callable[[Playbook], bool]
    how: str


def file(host: str, path: str) -> Callable[[Playbook], bool]:
    """A file appears on a host."""
    return lambda playbook: playbook.hosts.path(host, path).exists()


def step(host: str, text: str) -> Callable[[Playbook], bool]:
    """A step begins whose name contains a text."""
    return lambda playbook: any(
        event.begins and event.step.host == host and text in event.step.what
        for event in playbook.watch.events
    )


def serves(host: str) -> Callable[[Playbook], bool]:
    """The API server of a host is ready."""

    def there(playbook: Playbook) -> bool:
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        address = playbook.hosts.addresses[host]
        connection = http.client.HTTPSConnection(address, 6443, timeout=0.5, context=tls)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return there


# In the order in which a run comes to them.
MOMENTS = [
    Moment("apt unpacks the kubelet", "cp1", file("cp1", "/usr/bin/kubelet.dpkg-new"), SESSIONS),
    Moment("containerd is installed", "worker1", step("worker1", "write /opt/kubewright/containerd"), POWER),
    Moment("HAProxy is configured", "cp2", step("cp2", "write /etc/haproxy/haproxy.cfg"), POWER),
    Moment("etcdctl is copied out of its image", "cp1", step("cp1", "image_files write"), SESSIONS),
    Moment(
        "kubeadm init makes certificates", "cp1", file("cp1", "/etc/kubernetes/pki/etcd/ca.key"), SESSIONS
    ),
    Moment("kubeadm init starts etcd", "cp1", file("cp1", "/var/lib/etcd/member/snap/db"), POWER),
    Moment("kubeadm init: the API server answers", "cp1", serves("cp1"), SESSIONS),
    Moment("the pod network is applied", "cp1", step("cp1", "kube_apply api PATCH"), CONTROLLER),
    Moment(
        "the worker's kubelet bootstraps",
        "worker1",
        file("worker1", "/etc/kubernetes/bootstrap-kubelet.conf"),
        SESSIONS,
    ),
    Moment("the new etcd member is added", "cp2", file("cp2", "/etc/kubernetes/manifests/etcd.yaml"), POWER),
    Moment("its join goes on", "cp2", step("cp2", "kubeadm_node run kubeadm join"), CONTROLLER),
]
# Each costs most of a minute, so that `make test` takes every second one.
CUT_AT = MOMENTS if os.environ.get("KUBEWRIGHT_ALL_FAULTS") else MOMENTS[::2]


def converged(hosts: Hosts, folder: Path) -> None:
    """Prove that nothing is missing and nothing is left over."""
    verified = Playbook(hosts, folder / "verify", "verify")
    verified.end()
    assert verified.code == 0, verified.tail()
    again = Playbook(hosts, folder / "again")
    counts = again.end()
    assert again.code == 0 and counts.total("changed") == 0, again.tail()

    shown = json.loads(hosts.shell("cp1", f"{KUBECTL} get nodes -o json"))["items"]
    assert {node["metadata"]["name"] for node in shown} == set(hosts.names)
    role = "node-role.kubernetes.io/control-plane"
    control = {node["metadata"]["name"] for node in shown if role in node["metadata"]["labels"]}
    assert control == set(hosts.control_planes)
    members = json.loads(hosts.shell("cp1", f"{ETCDCTL} member list -w json"))["members"]
    assert {member["name"] for member in members} == set(hosts.control_planes)
    assert not any(member.get("isLearner") for member in members)
    taints = [node["spec"].get("taints") for node in shown if node["metadata"]["name"] in control]
    assert all(taints), "a control plane without its taint"
    for host in hosts.names:
        for path in ("/var/lib/kubewright/kubeadm-began.json", "/etc/kubernetes/bootstrap-kubelet.conf"):
            assert not hosts.path(host, path).exists(), f"{host}:{path}"
        assert hosts.shell(host, "dpkg --audit") == ""
        assert hosts.path(host, "/usr/local/bin/ctr").is_symlink(), f"{host}: links of containerd are missing"


@pytest.fixture
def records() -> Path:
    """Return an empty folder for what runs print."""
    folder = RECORDS / time.strftime("%H%M%S")
    folder.mkdir(parents=True)
    return folder


def test_a_provisioning_that_is_killed_again_and_again_converges(
    tmp_path: Path, records: Path, notes: Notes
) -> None:
    """Moment after moment, from bare hosts; then everything is there, and the next run changes nothing."""
    hosts = Hosts(make_inventory(tmp_path / "inventory", 2, 1))
    hosts.bare()
    begun = time.monotonic()
    for number, moment in enumerate(CUT_AT, 1):
        playbook = Playbook(hosts, records / f"{number:02d}", options=("-vvv", "--diff"))
        reached = playbook.reach(lambda playbook=playbook, moment=moment: moment.there(playbook))
        assert reached, f"the run ended before: {moment.name}\n{playbook.tail()}"
        cut_off(playbook, moment.how, moment.host)
        after = time.monotonic() - playbook.begun
        print(f"{number:2d}. {moment.host}, {moment.name}: {moment.how} after {after:.0f} s", flush=True)
    last = Playbook(hosts, records / "last", options=("-vvv", "--diff"))
    last.end()
    assert last.code == 0, last.tail()
    converged(hosts, records)
    took = time.monotonic() - begun
    notes.add(
        f"site.yml killed at {len(CUT_AT)} moments in a row on 2 + 1 hosts, then converged: {took:.0f} s"
    )


@dataclass
class Table:
    """The steps of a provisioning, and which of them are still to be cut off. Kept in a file, so that it can go on."""

    file: Path
    commit: str
    seconds: dict[Step, float | None]
    left: set[Step]
    runs: int = 0
    provisionings: int = 0

    @classmethod
    def load(cls, file: Path) -> Table:
        """Return the table of an interrupted soak."""
        kept = json.loads(file.read_text())
        seconds = {Step(host, what): each for host, what, each in kept["steps"]}
        left = {Step(*step) for step in kept["left"]}
        return cls(file, kept["commit"], seconds, left, kept["runs"], kept["provisionings"])

    @classmethod
    def of_a_clean_run(cls, file: Path, hosts: Hosts, records: Path) -> Table:
        """Provision bare hosts, and return all that happened on them."""
        hosts.bare()
        clean = Playbook(hosts, records / "clean")
        clean.end()
        assert clean.code == 0, clean.tail()
        seconds: dict[Step, float | None] = {event.step: None for event in clean.watch.events if event.begins}
        seconds |= {event.step: event.seconds for event in clean.watch.events if not event.begins}
        assert len(seconds) > 50, "the run log does not name the steps"
        table = cls(file, run("git", "rev-parse", "--short", "HEAD").strip(), seconds, set(seconds))
        table.save()
        return table

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.file.parent.mkdir(exist_ok=True)
        part = self.file.with_suffix(".part")
        steps = [(step.host, step.what, each) for step, each in self.seconds.items()]
        left = [(step.host, step.what) for step in self.left]
        kept = {"commit": self.commit, "runs": self.runs, "provisionings": self.provisionings}
        part.write_text(json.dumps({**kept, "steps": steps, "left": left}, indent=1))
        part.rename(self.file)

    def delay(self, step: Step) -> float:
        """Return how long after its beginning a step is cut off: in its middle, as the clean run knows it."""
        return min(20.0, (self.seconds[step] or 0.0) / 2)

    def chain(self, hosts: Hosts, records: Path) -> None:
        """Provision bare hosts, and cut every run off at the first step that is still left.

        What was in flight on the other hosts was cut off with it.
        """
        hosts.bare()
        self.provisionings += 1
        ways = (SESSIONS, CONTROLLER, POWER)
        for number in range(1, 2 * len(self.seconds) + 2):
            playbook = Playbook(hosts, records / f"{number:03d}", gated=True)
            hit = next(
                (event for event in playbook.events() if event.begins and event.step in self.left), None
            )
            if hit is None:
                playbook.end()
                assert playbook.code == 0, playbook.tail()
                converged(hosts, records)
                return
            delay = self.delay(hit.step)
            until = time.monotonic() + delay
            playbook.reach(lambda until=until: time.monotonic() >= until)
            if playbook.runs:
                how = SESSIONS if delay < QUICK else ways[number % len(ways)]
                playbook.watch.poll()
                cut = {hit.step} | playbook.watch.in_flight()
                cut_off(playbook, how, hit.step.host)
                self.left -= cut
                self.runs += 1
                self.save()
                print(f"{number:3d}. {len(self.left)} left after {hit.step}: {how}", flush=True)
        pytest.fail(f"{len(self.left)} steps are left: {', '.join(map(str, self.left))}")


@pytest.mark.skipif(not ALL, reason="for soak: every step of a provisioning, hours")
def test_the_whole_crash_table(tmp_path: Path, records: Path, notes: Notes) -> None:
    """The table is made from the run logs of a clean run; runs are cut off at each of its steps on each host."""
    size = os.environ.get("KUBEWRIGHT_CRASH_HOSTS", "3+2")
    control_planes, workers = map(int, size.split("+"))
    hosts = Hosts(make_inventory(tmp_path / "inventory", control_planes, workers))
    file = ROOT / ".cache" / f"crash-table-{size}.json"
    table = Table.load(file) if file.exists() else Table.of_a_clean_run(file, hosts, records)
    # A step that is over before the run is cut off does not come again in this provisioning: the next has it first.
    for number in range(1, 5):
        table.chain(hosts, records / f"chain-{number}")
        if not table.left:
            break
    steps, left = len(table.seconds), len(table.left)
    notes.add(
        f"crash table of site.yml on {control_planes} + {workers} hosts (made at {table.commit}): {steps - left} of "
        f"{steps} steps cut off in {table.runs} runs over {table.provisionings} provisionings; every one converged"
    )
    assert not table.left, (
        f"never cut off ({file} keeps the table): {', '.join(sorted(map(str, table.left)))}"
    )
    file.unlink()
