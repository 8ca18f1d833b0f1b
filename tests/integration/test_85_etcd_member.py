"""etcd_member and etcd_member_info against real three-member TLS clusters of every supported minor."""

from __future__ import annotations

import json
import select
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import trouble
from etcdlab import VERSIONS, Authority, Cluster, Slow, run_module
from labtools import Notes, wait_until


@pytest.fixture(params=VERSIONS)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Three members, one cluster for each test, ended whatever happens."""
    made = Cluster(request.param, tmp_path / "etcd", net=1 + VERSIONS.index(request.param))
    try:
        made.up(3)
        yield made
    finally:
        made.down()


@pytest.fixture
def newest(tmp_path: Path) -> Iterator[Cluster]:
    """One cluster of 3.6, for what does not depend on the version."""
    made = Cluster("3.6", tmp_path / "etcd", net=9)
    try:
        made.up(3)
        yield made
    finally:
        made.down()


def four_runs(cluster: Cluster, **options: Any) -> list[dict[str, Any]]:
    """Check, run, check again, run again."""
    results = [cluster.run("etcd_member", check_mode=mode, **options) for mode in (True, False, True, False)]
    assert not any(one.get("failed") for one in results), results
    assert [one["changed"] for one in results] == [True, True, False, False], results
    check, done, *later = results
    assert [step["action"] for step in check["steps"]] == [step["action"] for step in done["steps"]]
    assert check["diff"]["before"] == done["diff"]["before"] != done["diff"]["after"]
    assert check["quorum"]["voters"] == len([one for one in check["members"] if not one["is_learner"]])
    assert all(one["steps"] == [] and one["diff"]["before"] == one["diff"]["after"] for one in later)
    return results


def number_of(cluster: Cluster, *, leader: bool) -> int:
    """Return the number of the leader, or of a follower."""
    members = cluster.run("etcd_member_info")["members"]
    return next(int(one["name"][1:]) for one in members if one["is_leader"] == leader)


def test_a_member_is_announced_started_promoted_and_removed(cluster: Cluster) -> None:
    """From three members to four and back, with the leader removed in the end."""
    check, done, *_ = four_runs(cluster, state="learner", peer_url=cluster.peer(4), name="n4")
    assert check["diff"]["after"] == done["diff"]["after"]
    assert cluster.run("etcd_member_info")["quorum"]["voters"] == 3
    cluster.start(4, initial=[1, 2, 3, 4], state="existing")
    four_runs(cluster, state="voter", peer_url=cluster.peer(4))
    cluster.wait(4)
    leader = number_of(cluster, leader=True)
    results = four_runs(cluster, state="absent", peer_url=cluster.peer(leader))
    assert [step["action"] for step in results[1]["steps"]] == ["move_leader", "remove"]
    assert results[1]["leader_moved"]
    assert leader not in [int(one["name"][1:]) for one in results[1]["members"]]
    cluster.wait(3)


def test_leadership_is_moved(cluster: Cluster) -> None:
    """To a member, and away from it."""
    follower = number_of(cluster, leader=False)
    four_runs(cluster, state="leader", peer_url=cluster.peer(follower))
    assert number_of(cluster, leader=True) == follower
    four_runs(cluster, state="follower", peer_url=cluster.peer(follower))
    assert number_of(cluster, leader=True) != follower


def test_a_dead_member_is_replaced_by_itself_without_its_data(cluster: Cluster) -> None:
    """Removed first, then announced anew; running it again in between changes nothing."""
    dead = number_of(cluster, leader=False)
    cluster.kill(dead)
    cluster.wipe(dead)
    old = next(one["id"] for one in cluster.run("etcd_member_info")["members"] if one["name"] == f"n{dead}")
    results = four_runs(cluster, state="learner", peer_url=cluster.peer(dead), replaces=old)
    assert [step["action"] for step in results[1]["steps"]] == ["remove", "add"]
    cluster.start(dead, initial=[1, 2, 3], state="existing")
    four_runs(cluster, state="voter", peer_url=cluster.peer(dead), replaces=old)
    cluster.wait(3)


def test_a_living_member_is_replaced_by_another(cluster: Cluster) -> None:
    """The new one comes first; the old one goes when the new one votes."""
    old = cluster.peer(2)
    results = four_runs(cluster, state="learner", peer_url=cluster.peer(4), replaces=old)
    assert [step["action"] for step in results[1]["steps"]] == ["add"]
    cluster.start(4, initial=[1, 2, 3, 4], state="existing")
    results = four_runs(cluster, state="voter", peer_url=cluster.peer(4), replaces=old)
    assert results[1]["steps"][0]["action"] == "promote"
    assert sorted(one["name"] for one in results[1]["members"]) == ["n1", "n3", "n4"]


def fill(cluster: Cluster, mebibytes: int) -> None:
    """Write and delete values, so that the files are mostly free space after a compaction."""
    for number in range(mebibytes * 2):
        cluster.etcdctl("put", f"filler{number % 4}", stdin="x" * 500_000)


def compact(cluster: Cluster) -> None:
    """Forget the history, and wait until each member has freed its pages.

    bbolt counts a page as free when the next transaction is written, so something is written meanwhile.
    """
    revision = max(one["revision"] for one in cluster.run("etcd_member_info")["members"])
    cluster.etcdctl("compaction", str(revision), "--physical")

    def freed() -> bool:
        cluster.etcdctl("put", "tick", "tack")
        members = cluster.run("etcd_member_info")["members"]
        return all(one["db_size"] and one["db_size_in_use"] < one["db_size"] / 2 for one in members)

    wait_until(freed, 120, "the compaction is done everywhere")


def test_files_are_defragmented(cluster: Cluster) -> None:
    """Followers first, the leader last, and every member gives its space back."""
    fill(cluster, 12)
    compact(cluster)
    leader = number_of(cluster, leader=True)
    results = four_runs(cluster, state="defragmented")
    order = [int(step["name"][1:]) for step in results[1]["steps"]]
    assert sorted(order) == [1, 2, 3] and order[-1] == leader
    sizes = [(one["db_size"], one["db_size_in_use"]) for one in results[1]["members"]]
    assert all(size - used < 2 * 1024**2 for size, used in sizes), sizes


def test_a_member_that_dies_while_it_is_defragmented(newest: Cluster, tmp_path: Path) -> None:
    """etcd 14685: the others go on, nothing hangs, and when it is back the same run finishes what is left."""
    fill(newest, 8)
    compact(newest)
    victim = number_of(newest, leader=False)
    process = newest.processes.pop(victim)
    killer = tmp_path / "etcdctl"
    killer.write_text(
        f'#!/bin/sh\ncase "$*" in *{newest.address(victim)}:2379*defrag*) kill -9 {process.pid};; esac\n'
        f'exec {newest.tools}/etcdctl "$@"\n'
    )
    killer.chmod(0o755)
    endpoints = [newest.client(one) for one in sorted(newest.processes)]
    begun = time.monotonic()
    failed = newest.run(
        "etcd_member", state="defragmented", etcdctl=str(killer), endpoints=endpoints, timeout=20
    )
    assert failed["failed"] and time.monotonic() - begun < 60, failed
    process.wait()
    newest.etcdctl("put", "meanwhile", "served", number=min(newest.processes))
    newest.restart(victim)
    newest.wait(3)
    assert newest.run("etcd_member", state="defragmented")["changed"]
    assert not newest.run("etcd_member", state="defragmented")["changed"]


def fill_up(cluster: Cluster) -> None:
    """Write until etcd takes no more."""
    said = ""
    for _number in range(100):
        said = cluster.etcdctl("put", "filler", stdin="x" * 900_000, check=False)
        if "space exceeded" in said:
            return
    raise AssertionError(said)


@pytest.mark.parametrize("version", VERSIONS)
def test_nospace_is_cured(tmp_path: Path, version: str) -> None:
    """A cluster that is full takes writes again (etcd 9992, 17318: the alarm stays until it is disarmed)."""
    quota = 16 * 1024**2
    cluster = Cluster(version, tmp_path / "etcd", net=8, quota=quota)
    try:
        cluster.up(3)
        fill_up(cluster)
        assert any(one["alarms"] == ["NOSPACE"] for one in cluster.run("etcd_member_info")["members"])
        results = four_runs(cluster, state="disarmed", quota=quota)
        assert [step["action"] for step in results[1]["steps"]] == ["compact", *["defragment"] * 3, "disarm"]
        cluster.etcdctl("put", "again", "yes")
    finally:
        cluster.down()


def test_the_alarm_of_a_removed_member(cluster: Cluster) -> None:
    """etcd 14379, 14849: it goes on refusing writes, and nobody lists whose it was; removal clears it, or disarming."""
    cluster.kill(3)
    cluster.quota = 16 * 1024**2
    cluster.restart(3)
    cluster.wait(3)
    if number_of(cluster, leader=True) == 3:
        cluster.run("etcd_member", state="leader", peer_url=cluster.peer(1))
    fill_up(cluster)
    assert [one["name"] for one in cluster.run("etcd_member_info")["members"] if one["alarms"]] == ["n3"]
    cluster.kill(3)
    third = next(one["id"] for one in cluster.run("etcd_member_info")["members"] if one["name"] == "n3")
    cluster.etcdctl("member", "remove", third)
    seen = cluster.run("etcd_member_info")
    assert seen["stale_alarms"] == [{"id": third, "alarms": ["NOSPACE"]}]
    assert "space exceeded" in cluster.etcdctl("put", "refused", "yes", check=False)
    results = four_runs(cluster, state="absent", peer_url=third)
    assert [step["action"] for step in results[1]["steps"]] == ["disarm"]
    assert f"{third} (no member) NOSPACE" in results[0]["diff"]["before"]
    assert results[1]["stale_alarms"] == []
    cluster.etcdctl("put", "taken", "yes")


def test_a_member_with_an_alarm_is_removed_with_it(newest: Cluster) -> None:
    """One run does both, and check mode says so."""
    newest.kill(3)
    newest.quota = 16 * 1024**2
    newest.restart(3)
    newest.wait(3)
    newest.run("etcd_member", state="leader", peer_url=newest.peer(1))
    fill_up(newest)
    results = four_runs(newest, state="absent", peer_url=newest.peer(3))
    assert [step["action"] for step in results[1]["steps"]] == ["remove", "disarm"]
    newest.etcdctl("put", "taken", "yes")


def test_removal_that_would_lose_the_quorum_is_refused(newest: Cluster) -> None:
    """With one of three dead, no living one may go; the refusal shows the arithmetic and the table."""
    dead = number_of(newest, leader=False)
    newest.kill(dead)
    newest.wait(2)
    living = next(one for one in (1, 2, 3) if one != dead)
    refused = newest.run("etcd_member", state="absent", peer_url=newest.peer(living))
    assert refused["failed"] and "of 2 voters 1 would be healthy, and 2 are needed" in refused["msg"]
    assert "STATE" in refused["msg"] and refused["rule"] == "UNHEALTHY_COUNTS"
    refused = newest.run("etcd_member", state="learner", peer_url=newest.peer(4))
    assert refused["failed"] and refused["rule"] == "ANNOUNCED_COUNTS_AS_UNHEALTHY"
    assert f"Remove n{dead} first: ansible HOST" in refused["msg"]


def test_nothing_is_changed_without_a_quorum(newest: Cluster) -> None:
    """Two of three dead: not even the list can be read, and the remedy says what to look at."""
    newest.kill(1)
    newest.kill(2)
    time.sleep(3)
    refused = newest.run("etcd_member", state="absent", peer_url=newest.peer(1))
    assert refused["failed"] and "member" in refused["msg"]


def test_two_additions_at_once(newest: Cluster) -> None:
    """The second is refused until the first one votes or is removed."""
    newest.run("etcd_member", state="learner", peer_url=newest.peer(4))
    refused = newest.run("etcd_member", state="learner", peer_url=newest.peer(5))
    assert refused["failed"] and refused["rule"] == "ONE_LEARNER_AT_A_TIME"
    assert f"etcd_member -a 'state=absent peer_url={newest.peer(4)}'" in refused["msg"]
    refused = newest.run("etcd_member", state="absent", peer_url=newest.peer(1))
    assert refused["failed"] and refused["rule"] == "ONE_LEARNER_AT_A_TIME"


def test_two_additions_in_the_same_moment(newest: Cluster) -> None:
    """Nobody has announced a member when both look: one is, at most, and who loses says so (k3s 8496, 7510)."""
    newest.wait(3)
    results: dict[int, dict[str, Any]] = {}

    def add(number: int) -> None:
        results[number] = newest.run("etcd_member", state="learner", peer_url=newest.peer(number), timeout=15)

    threads = [threading.Thread(target=add, args=(number,)) for number in (4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    added = [number for number, one in results.items() if not one.get("failed")]
    learners = [one for one in newest.run("etcd_member_info")["members"] if one["is_learner"]]
    assert len(added) == len(learners) == 1, results
    assert learners[0]["peer_urls"] == [newest.peer(added[0])]
    (lost,) = (one for one in results.values() if one.get("failed"))
    assert lost.get("rule") == "ONE_LEARNER_AT_A_TIME" or "too many learner" in lost["msg"], lost
    newest.etcdctl("put", "still", "writes")


def test_a_member_left_unstarted_by_someone_else_is_removed(newest: Cluster) -> None:
    """A learner that never started has no name; its peer URL finds it (kubeadm 3269, CAPI 13221)."""
    newest.add_by_hand(7, "--learner")
    waiting = newest.run("etcd_member", state="voter", peer_url=newest.peer(7), timeout=3)
    assert waiting["failed"] and "never started" in waiting["msg"]
    assert f"etcd_member -a 'state=absent peer_url={newest.peer(7)}'" in waiting["msg"]
    four_runs(newest, state="absent", peer_url=newest.peer(7))


def test_an_unstarted_voter_counts_as_unhealthy(newest: Cluster) -> None:
    """Somebody added a voter without a learner: it is one vote less in every count, and it can go."""
    newest.add_by_hand(7)
    seen = newest.run("etcd_member_info")
    assert seen["quorum"] == {"voters": 4, "needed": 3, "healthy": 3, "tolerance": 0, "present": True}
    four_runs(newest, state="absent", peer_url=newest.peer(7))


def test_the_last_member_is_never_removed(tmp_path: Path) -> None:
    """Without it there is no cluster."""
    cluster = Cluster("3.6", tmp_path / "etcd", net=7)
    try:
        cluster.up(1)
        refused = cluster.run("etcd_member", state="absent", peer_url=cluster.peer(1))
        assert refused["failed"] and refused["rule"] == "LAST_MEMBER_STAYS"
        fill(cluster, 6)
        cluster.etcdctl(
            "compaction", str(cluster.run("etcd_member_info")["members"][0]["revision"]), "--physical"
        )
        refused = cluster.run("etcd_member", state="defragmented", fragmentation=10)
        assert refused["failed"] and refused["rule"] == "MAINTENANCE_NEEDS_A_SPARE"
        four_runs(cluster, state="defragmented", fragmentation=10, accept_interruption=True)
        four_runs(cluster, state="learner", peer_url=cluster.peer(2))
    finally:
        cluster.down()


def test_a_dead_endpoint_first_in_the_list(newest: Cluster) -> None:
    """kubeadm 1432, kubernetes 81071: the others answer for it, in bounded time."""
    newest.kill(1)
    begun = time.monotonic()
    seen = newest.run("etcd_member_info", endpoints=[newest.client(one) for one in (1, 2, 3)])
    assert not seen.get("failed"), seen
    assert seen["quorum"] == {"voters": 3, "needed": 2, "healthy": 2, "tolerance": 0, "present": True}
    assert time.monotonic() - begun < 15


def test_a_paused_member_is_unhealthy_not_a_hang(newest: Cluster) -> None:
    """Its kernel still accepts connections; the call ends in bounded time and names it."""
    follower = number_of(newest, leader=False)
    newest.pause(follower)
    begun = time.monotonic()
    seen = newest.run("etcd_member_info")
    assert time.monotonic() - begun < 25
    assert not seen.get("failed"), seen
    assert [one["name"] for one in seen["members"] if not one["healthy"]] == [f"n{follower}"]
    newest.thaw(follower)
    newest.wait(3)


def test_a_slow_endpoint_first_in_the_list(newest: Cluster) -> None:
    """One that answers each packet 300 ms late is no reason to call anybody unhealthy."""
    with Slow(newest.address(1), 0.3) as slow:
        begun = time.monotonic()
        seen = newest.run("etcd_member_info", endpoints=[f"https://127.0.0.1:{slow.port}", newest.client(2)])
    assert not seen.get("failed") and seen["quorum"]["healthy"] == 3, seen
    assert time.monotonic() - begun < 30


def test_a_user_without_permission(newest: Cluster, tmp_path: Path) -> None:
    """etcd's own access control is on: the certificate's user may look, and what else it tries is refused at once."""
    for words in (
        ["user", "add", "root", "--no-password"],
        ["user", "grant-role", "root", "root"],
        ["user", "add", "client", "--no-password"],
        ["auth", "enable"],
    ):
        newest.etcdctl(*words)
    assert newest.run("etcd_member_info")["quorum"]["healthy"] == 3
    for state, number in (("absent", 1), ("learner", 4)):
        refused = newest.run("etcd_member", state=state, peer_url=newest.peer(number), timeout=600)
        assert refused.get("failed") and "permission denied" in refused["msg"], refused
    refused = newest.run("etcd_snapshot", folder=str(tmp_path / "backups"))
    assert refused.get("failed") and "permission denied" in refused["msg"], refused
    assert list((tmp_path / "backups").iterdir()) == []
    cert, key = newest.authority.issue("root", ["127.0.0.1"])
    seen = newest.run("etcd_member_info", client_cert=str(cert), client_key=str(key))
    assert not seen.get("failed") and seen["quorum"]["healthy"] == 3, seen


@pytest.mark.parametrize("fault", ["expired", "another authority", "missing"])
def test_certificates_that_do_not_do(newest: Cluster, fault: str, tmp_path: Path) -> None:
    """The error comes in bounded time and says why, or which file."""
    if fault == "expired":
        cert, key = newest.authority.issue("old", ["127.0.0.1"], days=0)
    elif fault == "another authority":
        cert, key = Authority(tmp_path / "other", "other").issue("client", ["127.0.0.1"])
    else:
        cert = key = tmp_path / "nothing.crt"
    begun = time.monotonic()
    refused = newest.run("etcd_member_info", client_cert=str(cert), client_key=str(key))
    assert refused["failed"] and time.monotonic() - begun < 20
    expected = {
        "expired": "certificate expired",
        "another authority": "refuses the client certificate",
        "missing": "client_cert cannot be read",
    }
    assert expected[fault] in refused["msg"], refused["msg"]


def test_a_refusal_that_crosses_the_question(tmp_path: Path) -> None:
    """With TLS 1.3 the refusal comes after the handshake: a server that takes its time, and closes as Go's does."""
    own, other = Authority(tmp_path / "own", "own"), Authority(tmp_path / "other", "other")
    cert, key = own.issue("server", ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(own.cert))
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _address = listener.accept()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        refused = False
        while not refused:
            # Record by record, so that a question which came too early stays unread.
            header = connection.recv(5, socket.MSG_WAITALL)
            incoming.write(header + connection.recv(int.from_bytes(header[3:], "big"), socket.MSG_WAITALL))
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                refused = True
                select.select([connection], [], [], 0.3)
            connection.sendall(outgoing.read())
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = other.issue("client", ["127.0.0.1"])
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    said = trouble(url, (str(own.cert), str(client[0]), str(client[1])))
    thread.join()
    listener.close()
    assert "refuses the client certificate" in said and "unknown ca" in said, said


def test_info_is_fast(newest: Cluster, notes: Notes) -> None:
    """Three members in under a second; the best of five, because other work only adds time."""
    times = []
    for _number in range(5):
        begun = time.monotonic()
        newest.run("etcd_member_info")
        times.append(time.monotonic() - begun)
    notes.add(f"etcd_member_info of three members: {min(times):.2f} s")
    assert min(times) < 1


@pytest.mark.parametrize("alarm", ["CORRUPT", "NOSPACE"])
def test_an_alarm_of_a_member_that_is_gone_is_ended(cluster: Cluster, alarm: str) -> None:
    """etcd keeps it, and would refuse every write for good."""
    members = cluster.run("etcd_member_info")["members"]
    gone = next(one for one in members if not one["is_leader"])
    number = int(gone["name"][1:])
    asked = 1 if number != 1 else 2
    authority = cluster.authority
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(*map(str, authority.issue("client", ["127.0.0.1"])))
    body = {"action": "ACTIVATE", "memberID": str(int(gone["id"], 16)), "alarm": alarm}
    request = urllib.request.Request(
        f"{cluster.client(asked)}/v3/maintenance/alarm", data=json.dumps(body).encode()
    )
    urllib.request.urlopen(request, context=context).close()
    assert alarm in cluster.etcdctl("alarm", "list", number=asked)
    done = cluster.run("etcd_member", state="absent", peer_url=gone["id"])
    assert done["changed"], done
    assert cluster.etcdctl("alarm", "list", number=asked).strip() == ""
    cluster.etcdctl("put", "k", "v", number=asked)


def test_a_member_whose_data_is_damaged_begins_anew(newest: Cluster, tmp_path: Path) -> None:
    """By the manifest that kubeadm init wrote, which names nobody else; its old data is kept."""
    process = newest.processes[1]
    words = [str(word) for word in process.args]  # type: ignore[union-attr]
    words = [word for word in words if not word.startswith("--initial-cluster")]
    manifest = tmp_path / "etcd.yaml"
    lines = [*words[1:], f"--initial-cluster=n1={newest.peer(1)}", "--initial-cluster-token=lab9"]
    manifest.write_text("spec:\n  containers:\n  - command:\n" + "".join(f"    - {one}\n" for one in lines))
    options = {"peer_url": newest.peer(1), "manifest": str(manifest), "data_dir": str(newest.data(1))}
    seen = newest.run("etcd_member_info")
    refused = run_module("etcd_anew", {**options, "members": seen["members"]})
    assert "still runs" in refused["msg"]
    newest.kill(1)
    (newest.data(1) / "member/snap/db").write_bytes(b"rubbish")
    others = [newest.client(2), newest.client(3)]
    announced = newest.run(
        "etcd_member", state="learner", peer_url=newest.peer(1), replaces=newest.peer(1), endpoints=others
    )
    assert announced["changed"], announced
    done = run_module("etcd_anew", {**options, "members": announced["members"]})
    assert done["changed"] and (Path(done["aside"]) / "member/snap/db").read_bytes() == b"rubbish"
    told = [line.strip()[2:] for line in manifest.read_text().splitlines() if line.startswith("    - ")]
    log = (newest.folder / "n1.log").open("ab")
    newest.processes[1] = subprocess.Popen([words[0], *told], stdout=log, stderr=log, start_new_session=True)
    voter = newest.run("etcd_member", state="voter", peer_url=newest.peer(1), endpoints=others, timeout=300)
    assert voter["changed"], voter
    newest.wait(3, 120)
    assert {one["name"]: one["healthy"] for one in newest.run("etcd_member_info")["members"]} == {
        "n1": True,
        "n2": True,
        "n3": True,
    }
