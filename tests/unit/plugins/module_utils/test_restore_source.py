# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused as the source of a restore, and what is found out about the rest."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_bundle as bundle
from ansible_collections.kubewright.cluster.plugins.module_utils import _restore_source as source
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._restore_host import (
    fingerprint_of,
    key_names,
    sha256_of,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._restore_source import (
    IDENTITY,
    Wanted,
    backups,
    bring,
    given,
    scan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import Snapshot, write_record

OURS = "https://10.0.0.1:2380"
MEMBERS = b'{"id":1,"peerURLs":["https://10.0.0.1:2380"],"name":"cp1"}'
KEY = b"k8s:enc:secretbox:v1:key-1:" + bytes(16)


def certificate(name: str) -> str:
    body = base64.b64encode(name.encode()).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def snapshot(folder: Path, content: bytes = MEMBERS) -> Snapshot:
    """A file with the form of a snapshot: pages, and their sum at the end."""
    pages = content.ljust(-(-len(content) // 512) * 512 or 512, b"\0")
    path = folder / "lab-20261122T070000Z.db"
    path.write_bytes(pages + hashlib.sha256(pages).digest())
    return Snapshot(
        str(path), path.stat().st_size, sha256_of(str(path)), revision=7, saved_at="20261122T070000Z"
    )


def backup(folder: Path, content: bytes = MEMBERS, key: str = "key-1", lacks: str = "") -> bundle.Backup:
    saved = snapshot(folder, content)
    files = {
        path: certificate(path) if path.endswith(".crt") else "secret" for path in IDENTITY if path != lacks
    }
    files["/etc/kubernetes/kubewright/encryption.yaml"] = f'{{"keys": [{{"name": "{key}", "secret": "x"}}]}}'
    root = folder / "root"
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    path = folder / "lab-20261122T070000Z.tar"
    with path.open("wb") as target:
        names = bundle.pack(target, saved, bundle.digests(str(root / one.lstrip("/")) for one in files), {})
    # pack() names files by where they were; here that is below the test's folder.
    rename(path, str(root))
    made = bundle.Backup(
        str(path), path.stat().st_size, sha256_of(str(path)), snapshot=saved, names=tuple(names)
    )
    bundle.write_record(made, f"{path}.json")
    return made


def rename(path: Path, root: str) -> None:
    import io
    import tarfile

    made = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=made, mode="w") as new:
        for member in old:
            content = old.extractfile(member)
            member.name = member.name.replace(root.lstrip("/") + "/", "")
            member.pax_headers = {}
            new.addfile(member, content)
    path.write_bytes(made.getvalue())


def wanted(one: Any, tmp_path: Path, **changes: Any) -> Wanted:
    kind = "bundle" if one.path.endswith(".tar") else "snapshot"
    known = Wanted(one.path, one.sha256, kind, str(tmp_path / "unpacked"), urls=(OURS,), keys=("key-1",))
    return replace(known, **changes)


def test_a_backup_is_unpacked_and_looked_at(tmp_path: Path) -> None:
    made = backup(tmp_path, MEMBERS + KEY)
    found = bring(wanted(made, tmp_path, whole=True))
    assert found["members"] == [OURS] and found["encryption_keys"] == ["key-1"] and found["encryption"] == ""
    assert set(IDENTITY) < set(found["identity"])
    assert sha256_of(found["snapshot"]) == found["sha256"] == made.snapshot.sha256
    assert (tmp_path / "unpacked").stat().st_mode & 0o777 == 0o700
    # What a run that was killed left is replaced.
    (tmp_path / "unpacked" / "snapshot.db").write_bytes(b"a part")
    assert bring(wanted(made, tmp_path))["sha256"] == made.snapshot.sha256


def test_members_across_two_blocks(tmp_path: Path) -> None:
    """The file is read in blocks of a MiB; what lies across two of them is found."""
    saved = snapshot(tmp_path, bytes((1 << 20) - 30) + MEMBERS + KEY)
    assert scan(saved.path).urls == {OURS} and scan(saved.path).keys == {"key-1"}


def test_another_cluster_is_refused(tmp_path: Path) -> None:
    other = snapshot(tmp_path, MEMBERS.replace(b"10.0.0.1", b"10.0.9.1"))
    with pytest.raises(KubewrightError, match="snapshot of another cluster"):
        bring(wanted(other, tmp_path))
    assert bring(wanted(other, tmp_path, urls=()))["members"] == ["https://10.0.9.1:2380"]


def test_other_authorities_are_refused(tmp_path: Path) -> None:
    made = backup(tmp_path)
    ours = fingerprint_of(certificate("/etc/kubernetes/pki/etcd/ca.crt"))
    assert bring(wanted(made, tmp_path, authorities={"etcd_ca": ours, "cluster_ca": ""}))
    with pytest.raises(KubewrightError, match="backup of another cluster"):
        bring(wanted(made, tmp_path, authorities={"etcd_ca": "0" * 64}))


def test_a_backup_without_a_key_of_the_cluster(tmp_path: Path) -> None:
    made = backup(tmp_path, lacks="/etc/kubernetes/pki/sa.key")
    assert bring(wanted(made, tmp_path))
    with pytest.raises(KubewrightError, match=r"lacks /etc/kubernetes/pki/sa\.key"):
        bring(wanted(made, tmp_path, whole=True))


def test_keys_of_authorities_are_kept_elsewhere(tmp_path: Path) -> None:
    """backup.yml packs such a cluster without them; what it needs is there."""
    made = backup(tmp_path, lacks="/etc/kubernetes/pki/ca.key")
    found = bring(wanted(made, tmp_path, whole=True))["identity"]
    assert "/etc/kubernetes/pki/ca.key" not in found and "/etc/kubernetes/pki/sa.key" in found


def test_the_encryption_configuration_of_the_time(tmp_path: Path) -> None:
    made = backup(tmp_path, MEMBERS + KEY)
    found = bring(wanted(made, tmp_path, keys=("key-2",)))
    assert found["encryption"].endswith("files/etc/kubernetes/kubewright/encryption.yaml")
    lost = backup(tmp_path, MEMBERS + KEY, key="key-3")
    with pytest.raises(KubewrightError, match="encrypted with key-1"):
        bring(wanted(lost, tmp_path, keys=("key-2",)))


@pytest.mark.parametrize("where", [0, 600, -1])
def test_a_flipped_bit(tmp_path: Path, where: int) -> None:
    saved = snapshot(tmp_path, bytes(2000))
    content = bytearray(Path(saved.path).read_bytes())
    content[where] ^= 1
    Path(saved.path).write_bytes(content)
    with pytest.raises(KubewrightError, match="not the file that is meant"):
        bring(wanted(saved, tmp_path))
    # Also where nobody knows the sum of the file.
    with pytest.raises(KubewrightError, match="no snapshot that could be restored"):
        bring(wanted(saved, tmp_path, sha256=""))


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_a_truncated_or_empty_file(tmp_path: Path, size: int) -> None:
    made = backup(tmp_path)
    for path in (made.path, made.snapshot.path):
        with open(path, "r+b") as stream:
            stream.truncate(size)
    for one in (made, made.snapshot):
        with pytest.raises(KubewrightError):
            bring(wanted(one, tmp_path))
        with pytest.raises(KubewrightError):
            bring(wanted(one, tmp_path, sha256=""))


def test_what_a_folder_offers(tmp_path: Path) -> None:
    made = backup(tmp_path)
    (tmp_path / "rescued").mkdir()
    saved = replace(snapshot(tmp_path / "rescued"), saved_at="20261122T080000Z", written_since_restore=False)
    write_record(saved, f"{saved.path}.json")
    offered = backups(str(tmp_path), "lab")
    assert [(one["kind"], one["path"]) for one in offered] == [
        ("bundle", made.path),
        ("snapshot", saved.path),
    ]
    assert offered[1]["written_since_restore"] is False and offered[0]["revision"] == 7
    assert backups(str(tmp_path), "other") == []


def test_a_file_that_is_named(tmp_path: Path) -> None:
    made = backup(tmp_path)
    assert given(made.path)["kind"] == "bundle" and given(made.path)["revision"] == 7
    # It is named after its cluster, unless somebody gave it another name.
    assert given(made.path)["cluster"] == "lab"
    with pytest.raises(KubewrightError, match="no such file"):
        given(str(tmp_path / "none.tar"))
    Path(f"{made.path}.json").unlink()
    with pytest.raises(KubewrightError, match="record of this backup is missing"):
        given(made.path)


def test_a_snapshot_without_a_record_is_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version and its revision have to be known before anything is stopped."""
    bare = snapshot(tmp_path)
    with pytest.raises(KubewrightError, match="no snapshot that could be restored"):
        given(bare.path)
    found = replace(bare, saved_at="", storage_version="3.7.0")
    monkeypatch.setattr(source, "examine", lambda path: found if path == bare.path else None)
    assert given(bare.path)["storage_version"] == "3.7.0" and given(bare.path)["revision"] == 7


def test_names_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "encryption.yaml"
    path.write_text(
        '{"resources": [{"providers": [{"secretbox": {"keys": [{"name": "key-1", "secret": "c2Vj"}]}}]}]}'
    )
    assert key_names(str(path)) == ("key-1",)
    path.write_text("keys:\n  - name: key-2\n    secret: c2Vj\n")
    assert key_names(str(path)) == ("key-2",)
    assert key_names(str(tmp_path / "none")) == ()
