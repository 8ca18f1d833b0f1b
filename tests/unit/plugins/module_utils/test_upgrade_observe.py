# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade reads of a host and of the cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _upgrade_observe as observe
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError

MANIFEST = """\
spec:
  containers:
  - command:
    - {name}
    - --data-dir=/var/lib/etcd
    image: registry.example.com:5000/{name}:{tag}
    imagePullPolicy: IfNotPresent
"""
TAGS = {
    "etcd": "3.6.8-0",
    "kube-apiserver": "v1.36.3",
    "kube-controller-manager": "v1.36.3",
    "kube-scheduler": "v1.36.3",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "etc/kubernetes/manifests"
    folder.mkdir(parents=True)
    for name, tag in TAGS.items():
        (folder / f"{name}.yaml").write_text(MANIFEST.format(name=name, tag=tag))
    return tmp_path


def left(root: Path, name: str, time: int, **files: str) -> Path:
    folder = root / "etc/kubernetes/tmp" / name
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / f"{file.replace('_', '-')}.yaml").write_text(text)
    os.utime(folder, (time, time))
    return folder


def test_the_tags_of_the_manifests(root: Path) -> None:
    assert observe.manifests(root) == {
        "etcd": "3.6.8-0",
        "kube-apiserver": "1.36.3",
        "kube-controller-manager": "1.36.3",
        "kube-scheduler": "1.36.3",
    }
    assert observe.manifests(root / "nowhere") == {}


def test_what_kubeadm_leaves_behind_the_oldest_first(root: Path) -> None:
    left(root, "kubeadm-backup-manifests-2026-11-22-10-00-00", 200)
    left(root, "kubeadm-backup-etcd-2026-11-22-10-00-00", 100)
    left(root, "kubeadm-upgraded-manifests123456", 300)
    left(root, "somebody-elses", 50)
    assert [(path.name, kind) for path, kind in observe.left_behind(root)] == [
        ("kubeadm-backup-etcd-2026-11-22-10-00-00", "kubeadm-backup-etcd"),
        ("kubeadm-backup-manifests-2026-11-22-10-00-00", "kubeadm-backup-manifests"),
        ("kubeadm-upgraded-manifests123456", "kubeadm-upgraded-manifests"),
    ]


def test_a_manifest_that_was_moved_away_and_not_replaced(root: Path) -> None:
    assert observe.lost_manifests(root) == {}
    left(root, "kubeadm-backup-manifests-1", 100, kube_scheduler="old", etcd="old")
    left(root, "kubeadm-backup-manifests-2", 200, kube_scheduler="newer")
    # All of them are in place.
    assert observe.lost_manifests(root) == {}
    (root / "etc/kubernetes/manifests/kube-scheduler.yaml").unlink()
    path = "/etc/kubernetes/tmp/kubeadm-backup-manifests-2/kube-scheduler.yaml"
    assert observe.lost_manifests(root) == {"kube-scheduler": path}


def test_a_manifest_that_is_held_back_is_not_lost(root: Path) -> None:
    left(root, "kubeadm-backup-manifests-1", 100, etcd="old")
    held = root / "etc/kubernetes/kubewright-held"
    held.mkdir()
    (root / "etc/kubernetes/manifests/etcd.yaml").rename(held / "etcd.yaml")
    assert observe.lost_manifests(root) == {}


@pytest.mark.parametrize(
    ("content", "old"),
    [
        (b"\0" * 4096 + b"\x12\x1c/0/members/8e9e05c52164694d/attributes" + b"\0" * 4096, True),
        (b"\0" * 100 + b"PUT /0/version" + b"\0" * 100, True),
        (b"\0" * 100 + b"/registry/pods/default/members" + b"\0" * 100, False),
        (b"", False),
    ],
)
def test_a_log_of_3_5(tmp_path: Path, content: bytes, old: bool) -> None:
    wal = tmp_path / "member/wal"
    wal.mkdir(parents=True)
    (wal / "0000000000000000-0000000000000000.wal").write_bytes(b"\0" * 1000)
    (wal / "0000000000000001-00000000000000ff.wal").write_bytes(content)
    (wal / "0.tmp").write_bytes(b"/0/members/")
    assert observe.log_of_3_5(tmp_path / "member") is old


def test_a_host_in_one_look(root: Path) -> None:
    data = root / "var/lib/etcd/member"
    (data / "wal").mkdir(parents=True)
    (data / "wal/0.wal").write_bytes(b"x" * 3 * 2**20)
    found = observe.observe_host_upgrade(root)
    assert found["etcd_mib"] == 3 and found["old_log"] is False
    assert found["manifests"]["etcd"] == "3.6.8-0" and found["lost"] == {} and found["backups"] == []
    assert set(found["free_mib"]) == {"/etc/kubernetes", "/var/lib/containerd"}


def test_a_worker_has_none_of_it(tmp_path: Path) -> None:
    left(tmp_path, "kubeadm-backup-manifests-1", 1, etcd="of a control plane that it was")
    found = observe.observe_host_upgrade(tmp_path)
    assert (found["manifests"], found["lost"], found["etcd_mib"], found["old_log"]) == ({}, {}, 0, None)


class FakeApi:
    """An API with some objects; the others are not there."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.objects = objects

    def get(self, path: str, **_query: Any) -> Any:
        name = path.rpartition("/")[2]
        if name not in self.objects:
            raise ApiError("not there", status=404)
        if isinstance(self.objects[name], int):
            raise ApiError("refused", status=self.objects[name])
        return self.objects[name]

    def list(self, _path: str, **_query: Any) -> list[dict[str, Any]]:
        return []


def workload(container: str, image: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": container, "image": image}]}}}}


def test_the_cluster_without_and_with_add_ons() -> None:
    text = "etcd:\n  local:\n    imageTag: 3.6.16-0\nkubernetesVersion: v1.36.3\n"
    config = {"data": {"ClusterConfiguration": text}}
    found, said = observe.observe_cluster_upgrade(FakeApi({"kubeadm-config": config}))
    assert said == text and found["etcd_tag"] == "3.6.16-0"
    assert (found["kube_proxy"], found["coredns"]) == (None, None)
    objects = {
        "kubeadm-config": config,
        "kube-proxy": workload("kube-proxy", "registry.k8s.io/kube-proxy:v1.36.3"),
        "coredns": workload("other", "example.com/other-dns:v9"),
    }
    found, _said = observe.observe_cluster_upgrade(FakeApi(objects))
    assert (found["kube_proxy"], found["coredns"]) == ("1.36.3", None)
    with pytest.raises(ApiError):
        observe.observe_cluster_upgrade(FakeApi({"kubeadm-config": 500}))
