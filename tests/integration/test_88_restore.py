"""A cluster comes back after two, or all, of its etcd members were lost: unattended, and however often it is cut off.

`make soak` (KUBEWRIGHT_ALL_FAULTS) loses all three disks, and ends the restore in every step.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from crash import Hosts
from hardlab import INVENTORY, addresses, admin, control_planes, group, kubectl, objects, shell
from labtools import ROOT, Notes, Recap, kill, kill_in_step, playbook, run, wait_until

from lab.nodes import STATE

NAMESPACE = "kubewright-restore"
KEYS = 2000
BUMP = 1_000_000_000
# Steps of the role that touch something, in their order.
STEPS = [
    "Bring the tools of the etcd that runs here",
    "Stop the API servers and the controllers",
    "Stop etcd",
    "Save the data that survived",
    "Copy it to every host that lacks it",
    "Verify it, unpack it, and see that it is of this cluster",
    "Write the plan",
    "Restore the data of this member, and move aside what was there",
    "Note that the data is in place everywhere",
    "Start etcd",
    "Start the API servers and the controllers",
    "Restart the kubelet",
    "Make the pods of the cluster's own network and DNS anew",
    "Save a first snapshot of what there is now",
    "Put the plan away",
]
ALL = bool(os.environ.get("KUBEWRIGHT_ALL_FAULTS"))
KILLED_IN = STEPS if ALL else [STEPS[7]]


class Client:
    """Talks to the API server of a host with the admin's certificate; it survives the cluster."""

    def __init__(self, folder: Path) -> None:
        _url, self._tls = admin(folder)
        self._local = threading.local()

    def request(self, method: str, path: str, body: Any = None, host: str = "", timeout: float = 10) -> Any:
        """Send one request, on a connection that is kept as long as it works."""
        address = addresses()[host or control_planes()[0]]
        kept: dict[str, http.client.HTTPSConnection] = getattr(self._local, "kept", {})
        self._local.kept = kept
        old = kept.pop(address, None)
        connection = old or http.client.HTTPSConnection(address, 6443, timeout=timeout, context=self._tls)
        text, headers = json.dumps(body) if body else None, {"Content-Type": "application/json"}
        try:
            connection.request(method, path, body=text, headers=headers)
            answer = connection.getresponse()
        except (http.client.HTTPException, OSError):
            connection.close()
            if not old:
                raise
            # The API server of this connection was stopped since.
            return self.request(method, path, body, host, timeout)
        text = answer.read().decode()
        kept[address] = connection
        if answer.status >= 300:
            raise AssertionError(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text)

    def watch_ends(self, revision: str) -> str:
        """Watch from a revision; return the first thing that is said, an error's reason or an event's type."""
        connection = http.client.HTTPSConnection(
            addresses()[control_planes()[0]], 6443, timeout=30, context=self._tls
        )
        try:
            path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&timeoutSeconds=20&resourceVersion={revision}"
            connection.request("GET", path)
            answer = connection.getresponse()
            line = answer.readline().decode()
        finally:
            connection.close()
        if answer.status != 200:
            return str(json.loads(line)["reason"])
        event = json.loads(line)
        return str(event["object"].get("reason") if event["type"] == "ERROR" else event["type"])


class Writer:
    """Changes one object all the time, through whichever control plane answers; keeps what was confirmed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.confirmed = 0

    def _work(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            body = {"metadata": {"name": f"w{number:06}"}, "data": {"number": str(number)}}
            for host in control_planes():
                with suppress(OSError, http.client.HTTPException, AssertionError, ValueError):
                    self._client.request(
                        "POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", body, host=host, timeout=3
                    )
                    self.confirmed = number
                    break
            self._stop.wait(0.05)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


class Cluster:
    """The cluster of the inventory with 2,000 keys that are known, and a Deployment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = Client(folder)
        self.content = {f"k{number:05}": f"{number * 7919:x}" for number in range(KEYS)}
        self.revision = ""

    def fill(self) -> None:
        """Make the keys, half of them Secrets, which are encrypted."""
        kubectl("create", "namespace", NAMESPACE)

        def make(item: tuple[str, str]) -> None:
            kind = "secrets" if int(item[0][1:]) % 2 else "configmaps"
            body = {
                "metadata": {"name": item[0]},
                "stringData" if kind == "secrets" else "data": {"content": item[1]},
            }
            self.client.request("POST", f"/api/v1/namespaces/{NAMESPACE}/{kind}", body)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(make, self.content.items()))
        image = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
        kubectl("-n", NAMESPACE, "create", "deployment", "web", f"--image={image}", "--", "/agnhost", "pause")
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=60s")
        listed = self.client.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps?limit=1")
        self.revision = listed["metadata"]["resourceVersion"]

    def read(self) -> tuple[dict[str, str], int]:
        """Return the keys, and the highest number of the writer."""
        found, written = {}, 0
        for kind in ("configmaps", "secrets"):
            for item in self.client.request("GET", f"/api/v1/namespaces/{NAMESPACE}/{kind}", timeout=60)[
                "items"
            ]:
                name, content = item["metadata"]["name"], item.get("data", {})
                if name.startswith("w"):
                    written = max(written, int(name[1:]))
                elif name.startswith("k") and "content" in content:
                    raw = content["content"]
                    found[name] = base64.b64decode(raw).decode() if kind == "secrets" else raw
        return found, written

    def check(self) -> int:
        """See that it was restored: it works, and nobody takes it for what it was before."""
        listed = self.client.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps?limit=1")
        # However often it was restored, and to whatever: nobody finds a revision again that was there before.
        revision = listed["metadata"]["resourceVersion"]
        assert int(revision) > int(self.revision) + BUMP
        # Whoever watched before is told so, and lists again.
        assert self.client.watch_ends(self.revision) in ("Expired", "Gone")
        self.revision = revision
        return self.works()

    def works(self) -> int:
        """See that it holds what it held, and that it works; return the highest number of the writer."""
        found, written = self.read()
        assert found == self.content
        replicas = len(objects("pods", "-n", NAMESPACE)) % 3 + 2
        kubectl("-n", NAMESPACE, "scale", "deployment/web", f"--replicas={replicas}")
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=120s")
        playbook("verify", inventory=INVENTORY)
        return written


@contextmanager
def filled(folder: Path) -> Iterator[Cluster]:
    """A whole cluster with known content."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    made = Cluster(folder)
    made.fill()
    yield made
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One for a test that loses it."""
    with filled(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path]]:
    """One for all tests that go back to the same backup."""
    folder = tmp_path_factory.mktemp("saved")
    with filled(folder) as made:
        yield made, backup(folder)


def backup(folder: Path) -> Path:
    """Back the cluster up to this machine."""
    there = folder / "fetched"
    words = [f"etcd_backup_fetch_to={there}", "etcd_backup_timer=false"]
    playbook("backup", *(f"-e{word}" for word in words), inventory=INVENTORY)
    return max(there.glob("**/*.tar"))


def lose_data(host: str) -> None:
    """The disk of etcd is gone, and nothing is started on this host any more."""
    # A kubelet that runs would start etcd without data. One that joined last gets it back from a member that has it.
    stop = "crictl ps -q --name '^etcd$' | xargs -r crictl stop"
    shell(host, f"systemctl stop kubelet; {stop}; rm -rf /var/lib/etcd/member")


def replace(*hosts: str) -> None:
    """The machines are gone with their disks, and there are new, empty ones."""
    run("python3", "-m", "lab", "remove", *hosts)
    run("python3", "-m", "lab", "up", "--inventory", str(ROOT / INVENTORY))


def restore(*options: str, check: bool = True) -> Recap:
    """Run the playbook."""
    return playbook("restore", *options, inventory=INVENTORY, check=check)


def plans() -> tuple[set[str], set[str]]:
    """Return the plans that are open on any control plane, and those that were put away."""
    found = [
        f"{host} {name}"
        for host in control_planes()
        for name in shell(host, "ls /var/lib/kubewright/restore 2>/dev/null", check=False).split()
    ]
    return (
        {one for one in found if one.endswith(" plan.json")},
        {one for one in found if " closed-" in one},
    )


def finish(*options: str, closed: set[str] | None = None) -> Recap:
    """Run it again; one that was killed in its very last step had nothing left to do.

    *closed* are the plans that were put away before: where all of the new one was, the words would begin another.
    """
    now_open, now_closed = plans()
    ended = closed is not None and not now_open and now_closed > closed
    done = restore(*(() if ended else options), check=False)
    assert done.total("failed") == 0 or "etcd works" in done.output, done.output[-6000:]
    return done


def lost_quorum() -> bool:
    """Whether no API server can read from etcd any more."""
    for host in control_planes():
        with suppress(AssertionError):
            kubectl("get", "--raw", "/readyz/etcd", "--request-timeout=3s", host=host)
            return False
    return True


def run_until(step: str, *options: str) -> str:
    """Run the playbook and kill it in a step, with everything it started here and on the hosts."""
    # The last one takes no longer than a moment.
    after = 0.1 if step == STEPS[-1] else 1.0
    try:
        return kill_in_step("restore", step, *options, inventory=INVENTORY, after=after)
    finally:
        hosts = Hosts(ROOT / INVENTORY)
        for host in hosts.names:
            hosts.end_sessions(host)


def aside(host: str) -> list[str]:
    """Return the folders with data from before."""
    return shell(host, "ls -d /var/lib/etcd/before-restore-*/member/snap/db 2>/dev/null", check=False).split()


def test_a_cluster_that_works_is_not_restored() -> None:
    """Nothing is touched, and the message names what replaces a member."""
    refused = restore(check=False)
    assert refused.total("failed") >= 1 and refused.total("changed") == 0
    assert "replace_etcd_member.yml" in refused.output and "Nothing was changed" in refused.output
    damaged = Path("/dev/shm/kubewright-none.tar")
    told = restore("-e", "etcd_restore_rewind=true", "-e", f"etcd_restore_from={damaged}", check=False)
    assert "There is no such file" in told.output and told.total("changed") == 0


@pytest.mark.skipif(not ALL, reason="in the soak")
def test_one_member_lost(cluster: Cluster, notes: Notes) -> None:
    """A machine is gone with its disk, and a new one takes its place while everybody works on.

    Nothing is restored: two members have a quorum, so no write is lost. Who watches from before goes on, or is told
    that it has to list again.
    """
    gone = control_planes()[-1]
    lab = ("-e", f"lab_state={STATE}")
    with Writer(cluster.client) as writer:
        wait_until(lambda: writer.confirmed > 100, 60, "the writer works")
        kill(gone)
        replace(gone)
        removed = playbook("remove_node", "-e", f"remove_node={gone}", *lab, inventory=INVENTORY)
        joined = playbook("site", *lab, inventory=INVENTORY)
        meanwhile = writer.confirmed
        wait_until(lambda: writer.confirmed > meanwhile + 20, 60, "the writer works")
    assert cluster.works() >= writer.confirmed
    assert cluster.client.watch_ends(cluster.revision) in ("ADDED", "Expired", "Gone")
    notes.add(
        f"one of three lost with its disk: removed {removed.seconds:.0f} s, replaced {joined.seconds:.0f} s; "
        f"{KEYS} keys equal, {writer.confirmed} writes kept, none lost"
    )


def test_two_members_lost(cluster: Cluster, notes: Notes) -> None:
    """Two disks are gone. What the third has is used, up to the last write.

    A run is cut off on the way. In the soak one is the disk of a whole host, which is new then, and runs are cut off in
    every step; the one after that finishes.
    """
    survivor, wiped, gone = control_planes()
    with Writer(cluster.client) as writer:
        wait_until(lambda: writer.confirmed > 100, 60, "the writer works")
        if ALL:
            kill(gone)
        else:
            lose_data(gone)
        lose_data(wiped)
    confirmed = writer.confirmed
    wait_until(lost_quorum, 60, "the quorum is lost")
    if ALL:
        replace(gone)
    planned = restore("--check")
    assert planned.total("changed") == 0 and planned.total("failed") == 0 and survivor in planned.output
    for step in KILLED_IN:
        run_until(step)
    done = finish()
    written = cluster.check()
    # All that was confirmed before the quorum was lost is there.
    assert written >= confirmed - 1, (written, confirmed)
    assert aside(survivor)
    notes.add(
        f"two of three lost, restored from the survivor: the last run {done.seconds:.0f} s, after "
        f"{len(KILLED_IN)} that were killed; {KEYS} keys equal, {written} writes kept"
    )
    again = restore(check=False)
    assert again.total("changed") == 0 and "etcd works" in again.output


@pytest.mark.skipif(not ALL, reason="in the soak")
def test_all_disks_lost(cluster: Cluster, notes: Notes) -> None:
    """Three new, empty hosts, and a backup on the controller."""
    with Writer(cluster.client) as writer:
        wait_until(lambda: writer.confirmed > 20, 60, "the writer works")
        before = writer.confirmed
        kept = backup(cluster.folder)
        saved = writer.confirmed
        wait_until(lambda: writer.confirmed > saved + 20, 60, "the writer goes on")
    replace(*control_planes())
    done = restore("-e", f"etcd_restore_from={kept}")
    written = cluster.check()
    # It wrote on while the backup was made.
    assert before <= written <= saved
    notes.add(
        f"three of three lost with all disks, restored from a backup: {done.seconds:.0f} s; {KEYS} keys equal, "
        f"{writer.confirmed - written} writes after the backup lost"
    )


@pytest.mark.skipif(not ALL, reason="in the soak")
@pytest.mark.parametrize("step", STEPS)
def test_killed_in_every_step(saved: tuple[Cluster, Path], step: str, notes: Notes) -> None:
    """Back to a backup while all is well, cut off, and run again with the same words."""
    cluster, kept = saved
    before = {host: len(aside(host)) for host in control_planes()}
    _open, closed = plans()
    words = ["-e", "etcd_restore_rewind=true", "-e", f"etcd_restore_from={kept}"]
    run_until(step, *words)
    done = finish(*words, closed=closed)
    cluster.check()
    assert all(len(aside(host)) == before[host] + 1 for host in control_planes())
    notes.add(f"restore killed in '{step}', run again: {done.seconds:.0f} s")


def test_nothing_is_left_to_be_done() -> None:
    """No plan is open, no manifest is held back, and nothing of the backup lies about."""
    for host in control_planes():
        left = shell(
            host, "ls /var/lib/kubewright/restore /etc/kubernetes/kubewright-held 2>/dev/null", check=False
        )
        assert ".source" not in left and "plan.json" not in left.split() and ".yaml" not in left
    assert yaml.safe_load((ROOT / INVENTORY / "hosts.yml").read_text())
    assert len(group("control_plane")) == len(control_planes())
