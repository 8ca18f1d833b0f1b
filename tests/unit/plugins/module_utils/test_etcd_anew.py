# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_anew import (
    Found,
    apply,
    edit,
    look,
    plan,
)

NOW = 1_800_000_000
URL = "https://10.0.0.11:2380"
FIRST = """spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://10.0.0.11:2379
    - --initial-cluster=cp1=https://10.0.0.11:2380
    - --name=cp1
"""
MEMBERS: list[dict[str, Any]] = [
    {"name": "cp3", "peer_urls": ["https://10.0.0.13:2380"]},
    {"name": "cp2", "peer_urls": ["https://10.0.0.12:2380"]},
    {"name": "", "peer_urls": [URL]},
]
WHOLE = "cp1=https://10.0.0.11:2380,cp2=https://10.0.0.12:2380,cp3=https://10.0.0.13:2380"


def test_the_first_one_is_told_that_the_cluster_exists() -> None:
    """What kubeadm init wrote would begin a cluster of its own."""
    text = edit(FIRST, MEMBERS, URL, "etcd.yaml")
    assert (
        f"    - --initial-cluster={WHOLE}\n    - --initial-cluster-state=existing\n    - --name=cp1\n" in text
    )
    assert edit(text, MEMBERS, URL, "etcd.yaml") == text


def test_one_that_joined_is_told_who_is_there_now() -> None:
    before = FIRST.replace(
        "cp1=https://10.0.0.11:2380\n", "cp1=https://10.0.0.11:2380,x=https://y\n"
    ).replace("    - --name", "    - --initial-cluster-state=new\n    - --name")
    text = edit(before, MEMBERS, URL, "etcd.yaml")
    assert f"--initial-cluster={WHOLE}\n" in text and text.count("--initial-cluster-state=existing") == 1
    assert "=new" not in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "There is no manifest"),
        (FIRST.replace("--name=cp1", "--nom=cp1"), "--name 0 times"),
        (FIRST + "    - --initial-cluster=a=b\n", "--initial-cluster 2 times"),
        (FIRST.replace("--name=cp1", "--name=cp2"), "Another member is named cp2"),
    ],
)
def test_a_manifest_that_cannot_be_told_is_refused(text: str, why: str) -> None:
    with pytest.raises(KubewrightError, match=why):
        plan(Found(text, False, False), MEMBERS, URL, "etcd.yaml")


def test_data_is_moved_aside_and_nothing_is_deleted(tmp_path: Path) -> None:
    manifest, data = tmp_path / "etcd.yaml", tmp_path / "data"
    manifest.write_text(FIRST)
    (data / "member/snap").mkdir(parents=True)
    (data / "member/snap/db").write_text("precious")
    planned = plan(look(str(manifest), str(data)), MEMBERS, URL, str(manifest))
    aside = apply(planned, str(manifest), str(data), NOW)
    assert (Path(aside) / "member/snap/db").read_text() == "precious" and not (data / "member").exists()
    assert aside.endswith("before-replacement-20270115T080000Z") and Path(aside).stat().st_mode & 0o77 == 0
    assert WHOLE in manifest.read_text() and manifest.stat().st_mode & 0o777 == 0o600
    again = plan(look(str(manifest), str(data)), MEMBERS, URL, str(manifest))
    assert not again.changed


def test_data_that_an_etcd_uses_is_left_alone(tmp_path: Path) -> None:
    manifest, database = tmp_path / "etcd.yaml", tmp_path / "data/member/snap/db"
    manifest.write_text(FIRST)
    database.parent.mkdir(parents=True)
    with database.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(KubewrightError, match="still runs"):
            plan(look(str(manifest), str(tmp_path / "data")), MEMBERS, URL, str(manifest))
