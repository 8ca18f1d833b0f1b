"""etcd_snapshot and etcd_snapshot_info against real TLS clusters of every supported minor, with damaged files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etcdlab import VERSIONS, Cluster, killed, started, users
from labtools import Notes, wait_until

KEYS = 2000
# How many steps are left out between two that are cut off.
STRIDE = 1 if os.environ.get("KUBEWRIGHT_ALL_FAULTS") else 4


@pytest.fixture(params=VERSIONS)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Three members with 2,000 known keys."""
    made = Cluster(request.param, tmp_path / "etcd", net=21 + VERSIONS.index(request.param))
    try:
        made.up(3)
        fill(made)
        yield made
    finally:
        made.down()


@pytest.fixture
def newest(tmp_path: Path) -> Iterator[Cluster]:
    """One member of 3.6, for what does not depend on the version."""
    made = Cluster("3.6", tmp_path / "etcd", net=29)
    try:
        made.up(1)
        fill(made, 200)
        yield made
    finally:
        made.down()


def fill(cluster: Cluster, count: int = KEYS) -> None:
    """Write known keys, a hundred in a transaction."""
    for first in range(0, count, 100):
        puts = "".join(f"put key{number:05d} value{number}\n" for number in range(first, first + 100))
        cluster.etcdctl("txn", stdin=f"\n{puts}\n\n")


def save(cluster: Cluster, folder: Path, **options: Any) -> dict[str, Any]:
    """Save a snapshot."""
    return cluster.run("etcd_snapshot", folder=str(folder), etcdutl=str(cluster.tools / "etcdutl"), **options)


def verify(cluster: Cluster, path: Path) -> dict[str, Any]:
    """Verify a file."""
    return cluster.run("etcd_snapshot_info", path=str(path), etcdutl=str(cluster.tools / "etcdutl"))


def restore(
    cluster: Cluster, number: int, snapshot: str, members: list[int], **options: Any
) -> dict[str, Any]:
    """Restore a snapshot into a member's folder."""
    return cluster.run(
        "etcd_snapshot",
        state="restored",
        snapshot=snapshot,
        data_dir=str(cluster.data(number)),
        name=f"n{number}",
        members={f"n{one}": cluster.peer(one) for one in members},
        etcdutl=str(cluster.tools / "etcdutl"),
        **{"token": "after", **options},
    )


def test_saved_verified_and_restored_on_all_members(cluster: Cluster, tmp_path: Path) -> None:
    """All disks lost: every key is back, the revision is far ahead, and a watcher from before gets a clean error."""
    folder = tmp_path / "backups"
    check = save(cluster, folder, check_mode=True, unless_newer_than=3600)
    assert check["changed"] and check["snapshot"] is None and not folder.exists()
    done = save(cluster, folder, unless_newer_than=3600)
    assert done["changed"] and done["diff"]["after"] == f"{done['snapshot']['path']}\n", done
    assert (
        check["diff"] == {"before": "", "after": f"{folder}/etcd-TIME.db\n"} and done["diff"]["before"] == ""
    )
    snapshot = done["snapshot"]
    path = Path(snapshot["path"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert snapshot["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert snapshot["total_keys"] >= KEYS and snapshot["cluster_id"]
    assert sorted(one.name for one in folder.iterdir()) == [path.name, f"{path.name}.json"]
    info = cluster.run("etcd_snapshot_info", folder=str(folder))
    assert info["snapshots"] == [snapshot]
    (verified,) = verify(cluster, path)["snapshots"]
    assert verified["hash"] and {**verified, "hash": ""} == snapshot
    said = subprocess.run(
        [str(cluster.tools / "etcdutl"), "snapshot", "status", str(path), "--write-out=json"],
        capture_output=True,
        check=True,
    )
    status = json.loads(said.stdout)
    assert status["revision"] == snapshot["revision"]
    assert status.get("version", "") == snapshot["storage_version"]
    # etcd 3.5 counts what is in its other buckets, too.
    assert 0 <= status["totalKey"] - snapshot["total_keys"] <= (20 if cluster.version == "3.5" else 0)
    for mode in (True, False):
        again = save(cluster, folder, unless_newer_than=3600, check_mode=mode)
        assert not again["changed"] and again["snapshot"] == snapshot
        assert again["diff"] == {"before": "", "after": ""}

    cluster.etcdctl("put", "after the snapshot", "is lost")
    before = cluster.etcdctl("get", "key", "--prefix")
    for number in (1, 2, 3):
        cluster.kill(number)
        refused = restore(cluster, number, str(path), [1, 2, 3])
        assert refused["failed"] and "There is data in the folder already" in refused["msg"]
        runs = [
            restore(cluster, number, str(path), [1, 2, 3], replace=True, check_mode=mode)
            for mode in (True, False, True, False)
        ]
        assert [one["changed"] for one in runs] == [True, True, False, False], runs
        assert "(moved aside)" in runs[0]["diff"]["before"] and runs[0]["diff"] == runs[1]["diff"]
        assert all(one["diff"]["before"] == one["diff"]["after"] for one in runs[2:])
        aside = Path(runs[1]["aside"])
        assert (aside / "member" / "snap" / "db").exists()
    for number in (1, 2, 3):
        cluster.start(number, initial=[1, 2, 3])
    cluster.wait(3)
    assert cluster.etcdctl("get", "key", "--prefix") == before
    assert "is lost" not in cluster.etcdctl("get", "after the snapshot")
    revision = cluster.run("etcd_member_info")["members"][0]["revision"]
    assert revision >= snapshot["revision"] + 1_000_000_000
    # TestIssue6361: who comes to a restored cluster has what the others have, and says so by itself.
    cluster.etcdctl("put", "written after the restore", "yes")
    assert cluster.run("etcd_member", state="learner", peer_url=cluster.peer(4))["changed"]
    cluster.start(4, initial=[1, 2, 3, 4], state="existing")
    assert cluster.run("etcd_member", state="voter", peer_url=cluster.peer(4))["changed"]
    own = cluster.etcdctl("get", "key", "--prefix", "--consistency=s", number=4)
    assert own == before
    assert "yes" in cluster.etcdctl("get", "written", "--prefix", "--consistency=s", number=4)
    watched = cluster.etcdctl("watch", "key00001", f"--rev={snapshot['revision']}", check=False)
    assert "compacted" in watched


def damage(path: Path, kind: str) -> None:
    """Damage a file in one of many ways."""
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "cut by a block":
        content = content[:-512]
    elif kind == "empty":
        content = bytearray()
    elif kind == "without its sum":
        content = content[:-32]
    else:
        place = {
            "bit in the header": 20,
            "bit in the body": len(content) // 2,
            "bit in the sum": len(content) - 5,
        }[kind]
        content[place] ^= 1
    path.write_bytes(content)


KINDS = [
    "truncated", "cut by a block", "empty", "without its sum", "bit in the header", "bit in the body", "bit in the sum",
]  # fmt: skip


def test_damaged_files_are_no_backups(newest: Cluster, tmp_path: Path) -> None:
    """Each kind of damage is found when the file is verified and before it is restored (etcd 14668)."""
    good = Path(save(newest, tmp_path / "backups")["snapshot"]["path"])
    for kind in KINDS:
        bad = tmp_path / "bad.db"
        shutil.copy(good, bad)
        damage(bad, kind)
        seen = verify(newest, bad)
        assert seen["failed"] and "no snapshot that could be restored" in seen["msg"], (kind, seen)
        refused = restore(newest, 5, str(bad), [5])
        assert refused["failed"] and not newest.data(5).exists(), kind


def test_the_wrong_file_or_folder(newest: Cluster, tmp_path: Path) -> None:
    """Another sum than wanted, somebody else's folder, a folder in use: all refused before anything is touched."""
    good = save(newest, tmp_path / "backups")["snapshot"]
    refused = restore(newest, 5, good["path"], [5], sha256="0" * 64)
    assert refused["failed"] and "not the snapshot that is meant" in refused["msg"]
    newest.data(5).mkdir()
    (newest.data(5) / "postgres").mkdir()
    refused = restore(newest, 5, good["path"], [5], replace=True)
    assert refused["failed"] and "it holds postgres" in refused["msg"]
    refused = restore(newest, 1, good["path"], [1], replace=True)
    assert refused["failed"] and "An etcd process uses the data folder" in refused["msg"]
    newest.etcdctl("get", "key00001")
    (record := Path(good["path"] + ".json")).write_text(
        json.dumps({**json.loads(record.read_text()), "sha256": "0" * 64})
    )
    seen = verify(newest, Path(good["path"]))
    assert seen["failed"] and "not what was saved" in seen["msg"]


def test_a_file_of_a_newer_etcd(tmp_path: Path) -> None:
    """etcd 3.6 does not restore what 3.7 wrote; the message says with what it can be."""
    new, old = (Cluster(minor, tmp_path / minor, net=30) for minor in ("3.7", "3.6"))
    try:
        new.up(1)
        done = save(new, tmp_path / "backups")
        assert "failed" not in done, done
    finally:
        new.down()
    assert done["snapshot"]["total_keys"] == 0
    refused = restore(old, 5, done["snapshot"]["path"], [5])
    assert refused["failed"], refused
    assert "etcd 3.7 wrote the snapshot" in refused["msg"] or "cannot read its database" in refused["msg"], (
        refused["msg"]
    )


def test_pruning(newest: Cluster, tmp_path: Path) -> None:
    """By number and by age, never the newest, and only what was verified counts."""
    folder = tmp_path / "backups"
    first = Path(save(newest, folder)["snapshot"]["path"])
    record = json.loads(Path(f"{first}.json").read_text())
    for days in (1, 5, 9):
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - days * 86400))
        copy = folder / f"etcd-{moment}.db"
        shutil.copy(first, copy)
        Path(f"{copy}.json").write_text(json.dumps({**record, "saved_at": moment}))
    unverified = folder / "etcd-20200101T000000Z.db"
    shutil.copy(first, unverified)
    check = save(newest, folder, keep=2, keep_days=7, unless_newer_than=3600, check_mode=True)
    assert check["changed"] and len(check["pruned"]) == 1 and Path(check["pruned"][0]).exists()
    done = save(newest, folder, keep=2, keep_days=7, unless_newer_than=3600)
    assert done["pruned"] == check["pruned"] and not Path(done["pruned"][0]).exists()
    assert unverified.exists()
    for mode in (True, False):
        again = save(newest, folder, keep=2, keep_days=7, unless_newer_than=3600, check_mode=mode)
        assert not again["changed"] and again["pruned"] == []


def test_a_full_disk_leaves_nothing(newest: Cluster, tmp_path: Path) -> None:
    """A real small file system: refused before it begins, and cleaned when it fills in the middle."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=True)
    try:
        refused = save(newest, disk)
        assert refused["failed"] and "are free" in refused["msg"], refused
        # Something else fills the disk between the look and the save.
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        filler = tmp_path / "fill-and-save"
        filler.write_text(
            f'#!/bin/sh\ncase "$*" in *"snapshot save"*) head -c 3000000 /dev/zero >{disk}/other;; esac\n'
            f'exec {newest.tools}/etcdctl "$@"\n'
        )
        filler.chmod(0o755)
        refused = save(newest, disk, etcdctl=str(filler))
        assert refused["failed"] and "no space left" in refused["msg"].lower(), refused
        assert [one.name for one in disk.iterdir()] == ["other"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_second_save_while_one_runs(newest: Cluster, tmp_path: Path) -> None:
    """The member is frozen, so that the first save hangs; the second is refused; a killed one is cleaned up."""
    folder = tmp_path / "backups"
    save(newest, folder)
    results: list[dict[str, Any]] = []
    (tmp_path / "slow").write_text(
        f'#!/bin/sh\ncase "$*" in *"snapshot save"*) touch {tmp_path}/saving; sleep 8;; esac\n'
        f'exec {newest.tools}/etcdctl "$@"\n'
    )
    (tmp_path / "slow").chmod(0o755)
    thread = threading.Thread(
        target=lambda: results.append(save(newest, folder, etcdctl=str(tmp_path / "slow")))
    )
    thread.start()
    wait_until((tmp_path / "saving").exists, 30, "the first save")
    second = save(newest, folder)
    thread.join()
    assert second["failed"] and "Another run is saving" in second["msg"], second
    assert results[0]["changed"], results


def test_killed_in_the_middle(newest: Cluster, tmp_path: Path) -> None:
    """Whatever a killed save or restore left behind is no backup and no data, and the next run removes it."""
    folder = tmp_path / "backups"
    good = save(newest, folder)["snapshot"]
    half = folder / ".saving-etcd-20260101T000000Z.db"
    half.mkdir()
    (half / "etcd-20260101T000000Z.db.part").write_bytes(b"half")
    assert len(newest.run("etcd_snapshot_info", folder=str(folder))["snapshots"]) == 1
    time.sleep(1)
    assert save(newest, folder)["changed"]
    assert not half.exists()
    leftover = newest.data(5) / ".restoring" / "member"
    leftover.mkdir(parents=True)
    done = restore(newest, 5, good["path"], [5])
    assert done["changed"], done
    assert not (newest.data(5) / ".restoring").exists()


def connection(cluster: Cluster) -> dict[str, Any]:
    """The options by which a module reaches a cluster."""
    pki = cluster.authority.folder
    return {
        "endpoints": [cluster.client(1)], "ca_cert": str(pki / "ca.crt"), "client_cert": str(pki / "client.crt"),
        "client_key": str(pki / "client.key"), "etcdctl": str(cluster.tools / "etcdctl"),
    }  # fmt: skip


def test_a_save_that_is_killed(newest: Cluster, tmp_path: Path) -> None:
    """While etcdctl writes: it dies too, nothing is listed, and the next save removes what was left."""
    folder, reached = tmp_path / "backups", tmp_path / "reached"
    slow = tmp_path / "slow"
    slow.write_text(
        "#!/bin/sh\nfor word; do last=$word; done\n"
        f'case "$*" in *"snapshot save"*) head -c 5000 /dev/zero >$last.part; touch {reached}; exec sleep 60;; esac\n'
        f'exec {newest.tools}/etcdctl "$@"\n'
    )
    slow.chmod(0o755)
    process = started("etcd_snapshot", {**connection(newest), "folder": str(folder), "etcdctl": str(slow)})
    wait_until(reached.exists, 30, "the save is in the middle")
    process.kill()
    process.wait()
    wait_until(lambda: not users(str(slow)), 10, "etcdctl is gone")
    assert [one.name[:8] for one in folder.iterdir()] == [".saving-"]
    assert newest.run("etcd_snapshot_info", folder=str(folder))["snapshots"] == []
    assert save(newest, folder)["changed"]
    assert sorted(one.suffix for one in folder.iterdir()) == [".db", ".json"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_restore_that_is_killed(newest: Cluster, tmp_path: Path, moment: str) -> None:
    """Around etcdutl's own work; the steps after it are cut off one by one in the unit tests."""
    good = save(newest, tmp_path / "backups")["snapshot"]["path"]
    newest.kill(1)
    reached, slow = tmp_path / "reached", tmp_path / "slow"
    real = f'{newest.tools}/etcdutl "$@"'
    slow.write_text(
        '#!/bin/sh\ncase "$*" in *"snapshot restore"*) '
        f"{real if moment == 'after' else ':'}; touch {reached}; exec sleep 60;; esac\nexec {real}\n"
    )
    slow.chmod(0o755)
    options = {
        "state": "restored", "snapshot": good, "data_dir": str(newest.data(1)), "name": "n1", "token": "after",
        "members": {"n1": newest.peer(1)}, "etcdutl": str(slow), "replace": True,
    }  # fmt: skip
    process = started("etcd_snapshot", options)
    wait_until(reached.exists, 60, "the restore is in the middle")
    process.kill()
    process.wait()
    assert (newest.data(1) / "member" / "snap" / "db").exists()
    assert not list(newest.data(1).glob("before-restore-*"))
    done = restore(newest, 1, good, [1], replace=True)
    assert done["changed"] and (Path(done["aside"]) / "member" / "snap" / "db").exists(), done
    assert not restore(newest, 1, good, [1], replace=True)["changed"]
    newest.start(1, initial=[1])
    newest.wait(1)
    assert "value7" in newest.etcdctl("get", "key00007")


def test_a_save_that_is_killed_at_each_step(newest: Cluster, tmp_path: Path) -> None:
    """Whatever has the name of a backup is one, and the next save leaves nothing but backups."""
    after, cut_off = 0, True
    while cut_off:
        folder = tmp_path / f"backups{after}"
        cut_off = killed("etcd_snapshot", {**connection(newest), "folder": str(folder)}, after)
        for path in folder.glob("[!.]*.db"):
            record = json.loads(Path(f"{path}.json").read_text())
            assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest(), after
            assert not verify(newest, path).get("failed"), after
        time.sleep(1.1)  # The name of a snapshot is its second.
        done = save(newest, folder)
        assert done["changed"], (after, done)
        assert not list(folder.glob(".*")), after
        after += STRIDE
    assert after > STRIDE


def test_a_restore_that_is_killed_at_each_step(newest: Cluster, tmp_path: Path) -> None:
    """The data from before is somewhere at every moment, and the next run ends with that of the snapshot."""
    good = save(newest, tmp_path / "backups")["snapshot"]["path"]
    newest.etcdctl("put", "after the snapshot", "is lost")
    newest.kill(1)
    newest.data(1).rename(tmp_path / "original")
    before = hashlib.sha256((tmp_path / "original/member/snap/db").read_bytes()).hexdigest()
    options = {
        "state": "restored", "snapshot": good, "data_dir": str(newest.data(1)), "name": "n1", "token": "after",
        "members": {"n1": newest.peer(1)}, "etcdutl": str(newest.tools / "etcdutl"), "replace": True,
    }  # fmt: skip
    after, cut_off = 0, True
    while cut_off:
        shutil.rmtree(newest.data(1), ignore_errors=True)
        shutil.copytree(tmp_path / "original", newest.data(1))
        cut_off = killed("etcd_snapshot", options, after)
        found = [newest.data(1) / "member/snap/db", *newest.data(1).glob("before-restore-*/member/snap/db")]
        sums = {hashlib.sha256(one.read_bytes()).hexdigest() for one in found if one.exists()}
        assert before in sums, after
        again = restore(newest, 1, good, [1], replace=True)
        assert not again.get("failed") and again["changed"] in (cut_off, False), (after, again)
        after += STRIDE
    assert after > STRIDE
    newest.start(1, initial=[1])
    newest.wait(1)
    assert "value7" in newest.etcdctl("get", "key00007")
    assert "is lost" not in newest.etcdctl("get", "after the snapshot")


def test_what_is_done_needs_no_room(newest: Cluster, tmp_path: Path) -> None:
    """A restore that is done is no change on a full disk; one that is not says how much it needs."""
    good = save(newest, tmp_path / "backups")["snapshot"]["path"]
    disk = newest.data(5)
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(disk)], check=True)
    try:
        assert restore(newest, 5, good, [5])["changed"]
        # What it holds, and hardly more.
        room = shutil.disk_usage(disk).used // 2**20 + 4
        subprocess.run(["mount", "-o", f"remount,size={room}m", str(disk)], check=True)
        again = restore(newest, 5, good, [5])
        assert again.get("changed") is False, again
        refused = restore(newest, 5, good, [5], token="another", replace=True)
        assert refused["failed"] and "are needed" in refused["msg"], refused
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_settings_of_an_administrator(
    newest: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/etc/environment often has them, and etcdctl refuses an option that is also in the environment."""
    for name in ("ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY", "ETCDCTL_ENDPOINTS"):
        monkeypatch.setenv(name, "/elsewhere")
    assert newest.run("etcd_member_info")["quorum"]["present"]
    assert save(newest, tmp_path / "backups")["changed"]


def test_speed_and_memory(newest: Cluster, tmp_path: Path, notes: Notes) -> None:
    """The ratio to the plain tool, and the memory of what runs."""
    for number in range(60):
        newest.etcdctl("put", f"big{number}", stdin="x" * 1_000_000)
    begun = time.monotonic()
    newest.etcdctl("snapshot", "save", str(tmp_path / "plain.db"))
    plain = time.monotonic() - begun
    begun = time.monotonic()
    saved = save(newest, tmp_path / "backups")
    ours = time.monotonic() - begun
    assert saved["changed"]
    notes.add(
        f"saving {saved['snapshot']['size'] >> 20} MiB, verified: {ours:.1f} s, etcdctl alone {plain:.1f} s"
    )
