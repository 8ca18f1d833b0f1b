"""A member of a real three-member cluster is moved to other settings and to other versions under a writer.

The processes are started here instead of by systemd; everything else is what runs on hosts. The whole way through
playbooks and systemd is in test_90_external.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import etcdlab
import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _etcd_service
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_host import cluster_version
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_service import (
    MemberService,
    Service,
    complaints,
    parse,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from etcdwriter import PREFIX, EtcdWriter
from labtools import Notes, wait_until

WAY = ["3.5.35", "3.6.16", "3.7.3"]


def run_command(argv: list[str], **options: Any) -> tuple[int, str, str]:
    done = subprocess.run(argv, input=options.get("data"), capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


class FakeSystem:
    """Does what systemd does for one member: one process, begun again when it ends by itself."""

    def __init__(self, cluster: etcdlab.Cluster, number: int) -> None:
        self.cluster, self.number = cluster, number
        self.unit_file = cluster.folder / f"n{number}.service"
        self.restarts = 0

    def look(self) -> Service:
        process = self.cluster.processes[self.number]
        if process.poll() is not None:
            self.restarts += 1
            self._start(parse(self.unit_file.read_text()))
        words = (
            Path(f"/proc/{self.cluster.processes[self.number].pid}/cmdline").read_bytes().split(b"\0")[:-1]
        )
        text = self.unit_file.read_text() if self.unit_file.exists() else ""
        return Service(text, tuple(word.decode() for word in words), True, restarts=self.restarts)

    def write(self, text: str) -> None:
        self.unit_file.write_text(text)

    def enable(self) -> None:
        raise AssertionError("it is enabled")

    def act(self, action: str) -> None:
        assert action == "restart"
        process = self.cluster.processes[self.number]
        process.terminate()
        process.wait(60)
        self.restarts = 0
        self._start(parse(self.unit_file.read_text()))

    def _start(self, words: list[str]) -> None:
        log = (self.cluster.folder / f"n{self.number}.log").open("ab")
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        self.cluster.processes[self.number] = process

    def log(self) -> str:
        return complaints((self.cluster.folder / f"n{self.number}.log").read_text())


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[etcdlab.Cluster]:
    """Three members of the oldest version."""
    monkeypatch.setattr(_etcd_service, "RELEASES", str(tmp_path / "releases"))
    made = etcdlab.Cluster(WAY[0], tmp_path, net=87)
    try:
        made.up(3)
        yield made
    finally:
        made.down()


def client(cluster: etcdlab.Cluster) -> EtcdCtl:
    pki = cluster.authority.folder
    urls = [cluster.client(number) for number in (1, 2, 3)]
    binary = str(cluster.tools / "etcdctl")
    return EtcdCtl(
        Runner(run_command),
        urls,
        str(pki / "ca.crt"),
        str(pki / "client.crt"),
        str(pki / "client.key"),
        binary,
    )


def writer(cluster: etcdlab.Cluster) -> EtcdWriter:
    pki = cluster.authority.folder
    urls = [cluster.client(number) for number in (1, 2, 3)]
    return EtcdWriter(urls, pki / "ca.crt", pki / "client.crt", pki / "client.key")


def move(cluster: etcdlab.Cluster, number: int, command: list[str], version: str = "") -> None:
    """Do what the module does on one host."""
    system = FakeSystem(cluster, number)
    service = MemberService(system, client(cluster), cluster.peer(number), Deadline(60), version)  # type: ignore[arg-type]
    service.apply(plan(system.look(), command), command, wait=True)


def command(cluster: etcdlab.Cluster, number: int) -> list[str]:
    return list(FakeSystem(cluster, number).look().command)


def program(cluster: etcdlab.Cluster, version: str) -> str:
    """Return the program of a version under the name that it has on hosts, which the name of its folder tells."""
    link = cluster.folder / "releases" / version
    link.parent.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(etcdlab.binaries(version))
    return str(link / "etcd")


def stored(cluster: etcdlab.Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.etcdctl("get", "--prefix", PREFIX, "-w", "json"))
    return found


def followers_first(cluster: etcdlab.Cluster) -> list[int]:
    members = client(cluster).observe().members
    return sorted((1, 2, 3), key=lambda one: next(m.is_leader for m in members if m.name == f"n{one}"))


def test_three_minors_under_a_hundred_writes_a_second(cluster: etcdlab.Cluster, notes: Notes) -> None:
    """No write fails after one retry, none is lost, and the members agree on the new minor in the end.

    Without a snapshot of their logs before the second step, members would not start: 3.7 does not read what 3.5 wrote.
    """
    with writer(cluster) as writes:
        wait_until(lambda: len(writes.written) > 100, 30, "the writer works")
        for version in WAY[1:]:
            for number in followers_first(cluster):
                words = [program(cluster, version), *command(cluster, number)[1:]]
                move(cluster, number, words, version)
            pki = cluster.authority.folder
            tls = (str(pki / "ca.crt"), str(pki / "client.crt"), str(pki / "client.key"))
            minor = version.rpartition(".")[0]
            wait_until(
                lambda minor=minor, tls=tls: cluster_version(cluster.client(1), tls) == minor,
                30,
                f"all agree on {minor}",
            )
            assert {member.version for member in client(cluster).observe().members} == {version}
    notes.add(f"etcd {' to '.join(WAY)} on loopback: {writes.summary}")
    writes.check(stored(cluster))


def test_settings_move_and_a_wrong_one_is_taken_back(cluster: etcdlab.Cluster, notes: Notes) -> None:
    """A flag that etcd does not know costs nothing: the member runs as before, and the error shows why."""
    old = command(cluster, 2)
    FakeSystem(cluster, 2).write(f"ExecStart={' '.join(old)}\n")
    with writer(cluster) as writes:
        wait_until(lambda: len(writes.written) > 100, 30, "the writer works")
        for number in followers_first(cluster):
            move(cluster, number, [*command(cluster, number), "--max-request-bytes=2097152"])
        with pytest.raises(KubewrightError, match="no-such-flag") as caught:
            move(cluster, 2, [*command(cluster, 2), "--no-such-flag"])
        assert caught.value.facts["rolled_back"] is True
        assert "--max-request-bytes=2097152" in command(cluster, 2)
        assert client(cluster).observe().quorum.healthy == 3
    notes.add(f"etcd settings moved on loopback: {writes.summary}")
    writes.check(stored(cluster))


def test_no_restart_without_the_votes_of_the_others(cluster: etcdlab.Cluster) -> None:
    """One member is down already: another one is not restarted, and its process goes on."""
    cluster.kill(3)
    before = cluster.processes[1].pid
    # It may have been the leader.
    wait_until(lambda: "OK" in cluster.etcdctl("put", "x", "y"), 30, "the others have a leader")
    with pytest.raises(KubewrightError, match="of 3 voters 1 would be healthy"):
        move(cluster, 1, [*command(cluster, 1), "--max-request-bytes=2097152"])
    assert cluster.processes[1].pid == before
