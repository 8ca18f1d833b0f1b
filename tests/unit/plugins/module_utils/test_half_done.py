# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _half_done as half_done
from ansible_collections.kubewright.cluster.plugins.module_utils._half_done import NOTE, Began
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import kubeadm_state
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")


def test_a_note_is_left_and_taken_away(tmp_path: Path) -> None:
    assert half_done.read(tmp_path) is None
    half_done.note("worker", tmp_path)
    assert half_done.read(tmp_path) == Began("worker", own_authorities=False)
    half_done.forget(tmp_path)
    assert half_done.read(tmp_path) is None
    half_done.forget(tmp_path)


def test_authorities_that_were_there_before_are_remembered(tmp_path: Path) -> None:
    touch(tmp_path, "/etc/kubernetes/pki/ca.key")
    half_done.note("seed", tmp_path)
    assert half_done.read(tmp_path) == Began("seed", own_authorities=True)
    half_done.note("control_plane", tmp_path)
    assert half_done.read(tmp_path) == Began("control_plane", own_authorities=True)


def test_authorities_that_kubeadm_made_are_not_the_sites_own(tmp_path: Path) -> None:
    half_done.note("seed", tmp_path)
    touch(tmp_path, "/etc/kubernetes/pki/ca.key", "/etc/kubernetes/pki/etcd/ca.key")
    half_done.note("seed", tmp_path)
    assert half_done.read(tmp_path) == Began("seed", own_authorities=False)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"role": "seed"}'])
def test_a_torn_note_is_read_with_the_greatest_care(tmp_path: Path, content: str) -> None:
    touch(tmp_path, NOTE)
    (tmp_path / NOTE.lstrip("/")).write_text(content)
    assert half_done.read(tmp_path) == Began("unknown", own_authorities=True)


def test_only_with_a_note_certificates_alone_are_remains(tmp_path: Path) -> None:
    touch(tmp_path, "/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/ca.key")
    assert kubeadm_state(tmp_path) == ("none", [])
    half_done.note("seed", tmp_path)
    assert kubeadm_state(tmp_path) == (
        "incomplete",
        ["/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/ca.key"],
    )


def test_a_note_alone_is_no_remains(tmp_path: Path) -> None:
    half_done.note("worker", tmp_path)
    touch(tmp_path, "/etc/kubernetes/cloud.conf", "/etc/kubernetes/patches/etcd.yaml")
    assert kubeadm_state(tmp_path) == ("none", [])


def test_valuables_are_keys_of_authorities_and_the_kubeconfigs_of_people(tmp_path: Path) -> None:
    assert half_done.valuables(tmp_path) == []
    kubelets = ("/etc/kubernetes/kubelet.conf", "/etc/kubernetes/bootstrap-kubelet.conf")
    others = (
        "/etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/manifests/etcd.yaml",
        "/etc/kubernetes/cloud.conf",
    )
    touch(tmp_path, *kubelets, *others)
    assert half_done.valuables(tmp_path) == []
    touch(tmp_path, "/etc/kubernetes/admin.conf", "/etc/kubernetes/pki/etcd/ca.key")
    assert half_done.valuables(tmp_path) == ["/etc/kubernetes/pki/etcd/ca.key", "/etc/kubernetes/admin.conf"]


def test_a_bootstrap_configuration_is_remains(tmp_path: Path) -> None:
    touch(tmp_path, "/etc/kubernetes/bootstrap-kubelet.conf")
    assert kubeadm_state(tmp_path) == ("incomplete", ["/etc/kubernetes/bootstrap-kubelet.conf"])


def test_a_kubeadm_that_works_is_found(tmp_path: Path) -> None:
    (tmp_path / "join").write_text("import time\ntime.sleep(30)\n")
    with subprocess.Popen(["kubeadm", "join"], executable=sys.executable, cwd=tmp_path) as joining:
        try:
            assert wait_for(lambda: joining.pid in half_done.running(), Deadline(5), what="it to start")
        finally:
            joining.kill()
    assert joining.pid not in half_done.running()


def test_processes_are_read_from_proc(tmp_path: Path) -> None:
    def process(number: str, namespace: str, *words: str) -> None:
        folder = tmp_path / "proc" / number
        (folder / "ns").mkdir(parents=True)
        (folder / "ns/pid").symlink_to(namespace)
        (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))

    process("self", "pid:[1]", "python3")
    process("7", "pid:[1]", "/usr/bin/kubeadm", "join", "--config=/dev/stdin")
    process("8", "pid:[1]", "kubeadm", "init")
    process("9", "pid:[1]", "kubeadm", "reset", "--force")
    process("10", "pid:[1]", "kubeadm", "version")
    process("11", "pid:[1]", "timeout", "900", "kubeadm", "join")
    process("12", "pid:[1]")
    process("13", "pid:[2]", "kubeadm", "join")
    (tmp_path / "proc" / "14").mkdir()
    assert half_done.running(tmp_path) == [7, 8, 9]
