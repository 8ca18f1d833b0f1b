"""Backups: what is packed comes back, and what is no backup is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_bundle as bundle
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import Snapshot, read_record

NOON = 1795348800.0
DAY = 86400


def a_snapshot(folder: Path, content: bytes = b"database" * 5000) -> Snapshot:
    path = folder / "lab-20261122T120000Z.db"
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return Snapshot(
        str(path), len(content), sha256, hash="ab", revision=7, member="cp2", saved_at="20261122T120000Z"
    )


def a_backup(folder: Path, days_ago: float = 0, prefix: str = "lab", content: bytes = b"x") -> bundle.Backup:
    path = folder / bundle.name_at(prefix, NOON - days_ago * DAY)
    path.write_bytes(content)
    snapshot = Snapshot("snapshot.db", 3, "cd", revision=9, saved_at=path.name[len(prefix) + 1 : -4])
    backup = bundle.Backup(
        str(path), len(content), hashlib.sha256(content).hexdigest(), "", "cp1", snapshot, ("snapshot.db",)
    )
    bundle.write_record(backup, f"{path}.json")
    return backup


def packed(tmp_path: Path) -> Path:
    key = tmp_path / "ca.key"
    key.write_text("secret")
    key.chmod(0o600)
    target = tmp_path / "lab-20261122T120000Z.tar"
    with target.open("wb") as stream:
        bundle.pack(
            stream, a_snapshot(tmp_path), bundle.digests([str(key)]), {"kubeadm-config.yaml": b"a: 1\n"}
        )
    return target


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    target = packed(tmp_path)
    new = tmp_path / "new"
    names = bundle.unpack(str(target), str(new))
    inside = f"files{tmp_path}/ca.key"
    assert names == [inside, "documents/kubeadm-config.yaml", "snapshot.db.json", "snapshot.db"]
    assert (new / inside).read_text() == "secret"
    assert (new / inside).stat().st_mode & 0o777 == 0o600
    assert (new / "files").stat().st_mode & 0o777 == 0o700
    assert (new / "snapshot.db").read_bytes() == b"database" * 5000
    record = read_record(str(new / "snapshot.db"))
    assert record is not None
    assert (record.revision, record.member) == (7, "cp2")


def test_a_file_that_belongs_to_it_and_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubewrightError, match=r"cannot be read \(/nowhere/ca.key\)"):
        bundle.digests(["/nowhere/ca.key"])


def test_a_snapshot_that_changed_since_is_not_packed(tmp_path: Path) -> None:
    snapshot = a_snapshot(tmp_path)
    Path(snapshot.path).write_bytes(b"short")
    with pytest.raises(KubewrightError, match="changed after"):
        bundle.pack(io.BytesIO(), snapshot, {}, {})


def test_keys_that_were_rotated_after_the_snapshot_are_not_packed_with_it(tmp_path: Path) -> None:
    keys = tmp_path / "encryption.yaml"
    keys.write_text("old and new")
    known = bundle.digests([str(keys)])
    snapshot = a_snapshot(tmp_path)
    keys.write_text("new alone")
    with pytest.raises(KubewrightError, match=r"encryption.yaml.*Try again"):
        bundle.pack(io.BytesIO(), snapshot, known, {})


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (member("/etc/passwd"), "leads out"),
        (member("files/../../etc/passwd"), "leads out"),
        (member("files//x"), "leads out"),
        (member("files/link", tarfile.SYMTYPE, "/etc"), "no plain file"),
        (member("files/link", tarfile.LNKTYPE, "snapshot.db"), "no plain file"),
        (member("files/device", tarfile.CHRTYPE), "no plain file"),
        (member("files/pipe", tarfile.FIFOTYPE), "no plain file"),
        (member("files/folder", tarfile.DIRTYPE), "no plain file"),
        (member("elsewhere"), "no such member"),
    ],
)
def test_members_that_lead_elsewhere_are_refused(tmp_path: Path, info: tarfile.TarInfo, why: str) -> None:
    path = archive(tmp_path / "a.tar", (info, b""))
    with pytest.raises(KubewrightError, match=why):
        bundle.unpack(str(path), str(tmp_path / "new"))


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", (member("files/x"), b"1"), (member("files/x"), b"2"))
    with pytest.raises(KubewrightError, match="another member"):
        bundle.unpack(str(path), str(tmp_path / "new"))


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / "snapshot.db.json").symlink_to(tmp_path / "victim")
    with pytest.raises(KubewrightError, match="cannot be unpacked"):
        bundle.unpack(str(packed(tmp_path)), str(new))
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("rest", [0, 100, 2000, 20000])
def test_a_backup_that_was_cut_off_is_refused(tmp_path: Path, rest: int) -> None:
    target = packed(tmp_path)
    target.write_bytes(target.read_bytes()[:rest])
    with pytest.raises(KubewrightError, match=r"cannot be unpacked|not what was saved"):
        bundle.unpack(str(target), str(tmp_path / "new"))


def test_one_flipped_bit_in_the_snapshot_is_found(tmp_path: Path) -> None:
    target = packed(tmp_path)
    data = bytearray(target.read_bytes())
    data[data.rindex(b"database")] ^= 1
    target.write_bytes(data)
    with pytest.raises(KubewrightError, match="not the one that was packed"):
        bundle.unpack(str(target), str(tmp_path / "new"))


def test_what_is_encrypted_is_not_taken_for_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.age"
    path.write_bytes(b"age-encryption.org/v1\n" + os.urandom(5000))
    with pytest.raises(KubewrightError, match="decrypt it first"):
        bundle.unpack(str(path), str(tmp_path / "new"))


def test_the_record_says_all_and_no_secret(tmp_path: Path) -> None:
    backup = a_backup(tmp_path)
    assert bundle.read_record(backup.path) == backup
    told = json.loads(Path(f"{backup.path}.json").read_text())
    assert told["file"] == "lab-20261122T120000Z.tar"
    assert told["saved_at"] == "20261122T120000Z"
    assert Path(f"{backup.path}.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        {"file": "other-20261122T120000Z.tar"},
        {"encryption": "rot13"},
        {"snapshot": None},
        {"snapshot": {"saved_at": "yesterday"}},
        {"size": "many"},
    ],
)
def test_a_record_that_says_something_else_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    backup = a_backup(tmp_path)
    path = Path(f"{backup.path}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert bundle.read_record(backup.path) is None
    assert bundle.backups(str(tmp_path), "lab") == []


def test_the_record_of_a_newer_version_is_read(tmp_path: Path) -> None:
    backup = a_backup(tmp_path)
    path = Path(f"{backup.path}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "more": 1}))
    assert bundle.read_record(backup.path) == backup


def test_only_whole_backups_of_this_cluster_are_listed_oldest_first(tmp_path: Path) -> None:
    older, newer = a_backup(tmp_path, 2), a_backup(tmp_path, 1)
    a_backup(tmp_path, 3, prefix="lab-2")
    shorter = a_backup(tmp_path, 4)
    Path(shorter.path).write_bytes(b"")
    (tmp_path / "lab-20261101T000000Z.tar").write_bytes(b"no record")
    (tmp_path / "lab-20261102T000000Z.tar.part").write_bytes(b"half")
    assert bundle.backups(str(tmp_path), "lab") == [older, newer]
    assert bundle.backups(str(tmp_path / "missing"), "lab") == []


def test_the_names_say_how_they_are_encrypted() -> None:
    assert bundle.name_at("lab", NOON, "age") == "lab-20261122T120000Z.tar.age"
    assert bundle.pattern("lab").match("lab-20261122T120000Z.tar.gpg")
    assert not bundle.pattern("lab").match("lab-20261122T120000Z.tar.zip")


@pytest.mark.parametrize("content", [b"y", b"", b"xx"])
def test_a_copy_that_differs_is_found(tmp_path: Path, content: bytes) -> None:
    backup = a_backup(tmp_path)
    bundle.verify(backup.path, backup)
    Path(backup.path).write_bytes(content)
    with pytest.raises(KubewrightError, match="not what was saved"):
        bundle.verify(backup.path, backup)


def test_old_ones_may_go_and_the_newest_never(tmp_path: Path) -> None:
    kept = [a_backup(tmp_path, days) for days in (9, 5, 3, 1)]
    assert bundle.outdated(kept, keep=2, keep_days=4, now=NOON) == kept[:2]
    assert bundle.outdated(kept, keep=3, keep_days=0, now=NOON) == kept[:1]
    assert bundle.outdated(kept, keep=0, keep_days=0.5, now=NOON) == kept[:3]
    assert bundle.outdated(kept, keep=0, keep_days=0, now=NOON) == []
