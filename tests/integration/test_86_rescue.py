"""Snapshots out of the data folders of members that are dead, and what the data of a dead member says."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etcdlab import VERSIONS, Cluster, started, users
from labtools import wait_until

# The database is written when so much or so long has passed, so that what came last is only in the log.
LAZY = ("--backend-batch-interval=1h", "--backend-batch-limit=100000")


@pytest.fixture(params=VERSIONS)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Three members with a few keys."""
    made = Cluster(request.param, tmp_path / "etcd", net=101 + VERSIONS.index(request.param))
    try:
        made.up(3)
        made.etcdctl("put", "before", "the end")
        yield made
    finally:
        made.down()


@pytest.fixture
def newest(tmp_path: Path) -> Iterator[Cluster]:
    """One member of 3.6, for what does not depend on the version."""
    made = Cluster("3.6", tmp_path / "etcd", net=109)
    try:
        made.up(1)
        made.etcdctl("put", "before", "the end")
        yield made
    finally:
        made.down()


def rescue(cluster: Cluster, number: int, folder: Path, **options: Any) -> dict[str, Any]:
    """Save what a dead member has."""
    tools = {name: str(cluster.tools / name) for name in ("etcd", "etcdctl", "etcdutl")}
    return cluster.run(
        "etcd_snapshot",
        **{
            "state": "rescued",
            "data_dir": str(cluster.data(number)),
            "folder": str(folder),
            **tools,
            **options,
        },
    )


def restore(cluster: Cluster, snapshot: str, **options: Any) -> dict[str, Any]:
    """Restore a snapshot as a cluster of one."""
    return cluster.run(
        "etcd_snapshot",
        **{
            "state": "restored", "snapshot": snapshot, "data_dir": str(cluster.data(1)), "name": "n1", "token": "after",
            "members": {"n1": cluster.peer(1)}, "etcdutl": str(cluster.tools / "etcdutl"), "replace": True, **options,
        },
    )  # fmt: skip


def content(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file of a folder with its digest and its time."""
    return {
        str(one.relative_to(folder)): (hashlib.sha256(one.read_bytes()).hexdigest(), one.stat().st_mtime_ns)
        for one in sorted(folder.rglob("*"))
        if one.is_file()
    }


def look(cluster: Cluster, number: int) -> dict[str, Any]:
    """What a data folder says of itself."""
    seen: dict[str, Any] = cluster.run("etcd_snapshot_info", data_dir=str(cluster.data(number)))["data"]
    return seen


def test_the_last_writes_of_a_dead_cluster_are_rescued(tmp_path: Path) -> None:
    """For each version: all members die at once, and one data folder is enough for every confirmed write."""
    for version in VERSIONS:
        cluster = Cluster(version, tmp_path / version, net=104, flags=LAZY)
        try:
            cluster.up(3)
            for number in range(20):
                cluster.etcdctl("put", f"late{number}", "written")
            last = cluster.run("etcd_member_info")["members"][0]
            for number in (1, 2, 3):
                cluster.kill(number)
            data, folder = cluster.data(2), tmp_path / f"rescued-{version}"
            before = content(data)
            assert look(cluster, 2)["revision"] < last["revision"]
            runs = [
                rescue(cluster, 2, folder, check_mode=mode, name="n2") for mode in (True, False, True, False)
            ]
            assert [one.get("changed") for one in runs] == [True, True, False, False], runs
            check, done, *later = runs
            assert check["snapshot"] is None and check["diff"]["before"] == "" != check["diff"]["after"]
            assert all(one["snapshot"] == done["snapshot"] for one in later)
            assert all(one["diff"]["before"] == one["diff"]["after"] for one in later)
            snapshot = done["snapshot"]
            assert snapshot["revision"] == last["revision"] and snapshot["member"] == "n2"
            assert snapshot["etcd_version"].startswith(version) and snapshot["written_since_restore"] is None
            assert content(data) == before
            assert sorted(one.name for one in folder.iterdir()) == [
                name := Path(snapshot["path"]).name,
                f"{name}.json",
            ]
            assert restore(cluster, snapshot["path"])["changed"]
            cluster.start(1, initial=[1])
            cluster.wait(1)
            assert cluster.etcdctl("get", "late19", "--print-value-only").strip() == "written"
        finally:
            cluster.down()


def test_a_restore_that_was_given_up_is_not_the_newest_data(cluster: Cluster, tmp_path: Path) -> None:
    """Its revision is that of the restore; what somebody wrote later makes it newer, an expired lease does not."""
    lease = cluster.etcdctl("lease", "grant", "3600").split()[1]
    cluster.etcdctl("put", "passing", "soon gone", f"--lease={lease}")
    tools = str(cluster.tools / "etcdutl")
    snapshot = cluster.run("etcd_snapshot", folder=str(tmp_path / "saved"), etcdutl=tools)["snapshot"]
    assert snapshot["written_since_restore"] is None
    for number in (1, 2, 3):
        cluster.kill(number)
    assert look(cluster, 1)["restored"] == {}
    assert restore(cluster, snapshot["path"])["changed"]
    bumped = snapshot["revision"] + 1_000_000_000
    fresh = look(cluster, 1)
    assert fresh["revision"] == fresh["restored"]["revision"] == bumped and len(fresh["aside"]) == 1
    assert fresh["written_since_restore"] is False

    cluster.start(1, initial=[1])
    cluster.wait(1)
    assert look(cluster, 1)["in_use"] and look(cluster, 1)["revision"] is None
    # What etcd does by itself when the time of a lease is over, without the wait.
    cluster.etcdctl("lease", "revoke", lease)
    assert not cluster.etcdctl("get", "passing")
    end(cluster, 1)
    idle = look(cluster, 1)
    assert idle["revision"] > bumped and idle["written_since_restore"] is False
    rescued = rescue(cluster, 1, tmp_path / "rescued")["snapshot"]
    assert rescued["written_since_restore"] is False and rescued["revision"] > bumped

    cluster.restart(1)
    cluster.wait(1)
    cluster.etcdctl("put", "after the restore", "counts")
    end(cluster, 1)
    assert look(cluster, 1)["written_since_restore"] is True
    rescued = rescue(cluster, 1, tmp_path / "rescued")["snapshot"]
    assert rescued["written_since_restore"] is True
    listed = cluster.run("etcd_snapshot_info", folder=str(tmp_path / "rescued"))["snapshots"]
    assert [one["written_since_restore"] for one in listed] == [False, True]


def end(cluster: Cluster, number: int) -> None:
    """End a member as systemd would."""
    process = cluster.processes.pop(number)
    process.terminate()
    process.wait(30)


def test_what_cannot_be_rescued(newest: Cluster, tmp_path: Path) -> None:
    """A folder in use, an empty one, one without its log, no program, no room: nothing is left behind."""
    folder = tmp_path / "rescued"
    refused = rescue(newest, 1, folder)
    assert refused["failed"] and "An etcd process uses the data folder" in refused["msg"]
    refused = rescue(newest, 5, folder)
    assert refused["failed"] and "There is no data of an etcd member" in refused["msg"]
    newest.kill(1)
    refused = rescue(newest, 1, folder, etcd="/nowhere/etcd")
    assert refused["failed"] and "Install etcd on this host" in refused["msg"]
    old = Cluster("3.5", tmp_path / "old", net=108)
    refused = rescue(newest, 1, folder, etcd=str(old.tools / "etcd"))
    assert refused["failed"] and "The data is of etcd 3.6" in refused["msg"], refused
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    try:
        refused = rescue(newest, 1, disk)
        assert refused["failed"] and "are free" in refused["msg"]
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    (log := newest.data(1) / "member" / "wal").rename(tmp_path / "wal")
    refused = rescue(newest, 1, folder)
    assert refused["failed"] and "log of raft is missing" in refused["msg"]
    (tmp_path / "wal").rename(log)
    assert not folder.exists()
    segment = next(log.glob("*.wal"))
    whole = segment.read_bytes()
    segment.write_bytes(b"\x07" * len(whole))
    refused = rescue(newest, 1, folder)
    assert refused["failed"] and "etcd cannot read the data of this member" in refused["msg"], refused
    assert list(folder.iterdir()) == []
    segment.write_bytes(whole)
    assert rescue(newest, 1, folder)["changed"]


@pytest.mark.parametrize("moment", ["etcdctl endpoint health", "etcdctl snapshot save"])
def test_a_rescue_that_is_killed(newest: Cluster, tmp_path: Path, moment: str) -> None:
    """The throwaway etcd dies with the module; the next run removes what was half made and finishes."""
    newest.kill(1)
    before = content(newest.data(1))
    folder, reached = tmp_path / "rescued", tmp_path / "reached"
    tool, words = moment.split(" ", 1)
    slow = tmp_path / tool
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *"{words}"*) touch {reached}; exec sleep 60;; esac\nexec {newest.tools}/{tool} "$@"\n'
    )
    slow.chmod(0o755)
    options = {
        "state": "rescued", "data_dir": str(newest.data(1)), "folder": str(folder),
        **{name: str(newest.tools / name) for name in ("etcd", "etcdctl", "etcdutl")}, tool: str(slow),
    }  # fmt: skip
    process = started("etcd_snapshot", options)
    wait_until(reached.exists, 30, "the rescue is in the middle")
    process.kill()
    process.wait()
    wait_until(lambda: not users(f"--data-dir={folder}"), 10, "the throwaway etcd is gone")
    assert any(one.name.startswith(".saving-") for one in folder.iterdir())
    done = rescue(newest, 1, folder)
    assert done["changed"], done
    assert sorted(one.suffix for one in folder.iterdir()) == [".db", ".json"]
    assert content(newest.data(1)) == before
