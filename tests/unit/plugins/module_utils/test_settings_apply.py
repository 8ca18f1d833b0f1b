# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which steps are carried out; everything that they touch is faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _settings_apply
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_settings import (
    CERTIFICATE,
    KUBEADM_CONFIG,
    KUBELET,
    KUBELET_CONFIG,
    PATCHES,
    PROXY,
    Observed,
    Pair,
    Wanted,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_apply import Applier
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_diff import Change, Step

POD = json.loads((Path(__file__).parents[2] / "fixtures" / "settings" / "kube-scheduler.json").read_text())
DOCUMENTS = [
    {
        "kind": "InitConfiguration",
        "nodeRegistration": {"name": "cp1"},
        "localAPIEndpoint": {"advertiseAddress": "10.0.0.11", "bindPort": 6443},
    },
    {"kind": "ClusterConfiguration"},
]
CHANGES = (Change("a", 1, 2),)


class FakeWorld:
    """Notes what is done to it, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, patches: Path) -> None:
        self.done: list[str] = []
        self.breaks: set[str] = set()
        self.kubeadm = (0, "", "")
        world = self

        class FakeCertificate:
            def __init__(self, _runner: Any) -> None: ...

            def renew(self, _documents: Any, _private: Any) -> None:
                world.note("certificate")

            def wait_served(self, address: Any, _deadline: Any) -> None:
                world.note(f"served at {address[0]}:{address[1]}")

        class FakeKubelet:
            def __init__(self, _runner: Any, _api: Any, node_name: str, _deadline: Any) -> None:
                self.name = node_name

            def replace(self, _file: Any, text: str, _wanted: Any, _live: Any) -> None:
                world.note(f"kubelet of {self.name}: {text}")

            def prove(self, _file: Any, _live: Any) -> None:
                world.note("kubelet proved")

        class FakeProxy:
            def __init__(self, _api: Any, _deadline: Any) -> None: ...

            def replace(self, before: str, after: str) -> None:
                world.note(f"proxy {before} {after}")

        monkeypatch.setattr(_settings_apply, "ServingCertificate", FakeCertificate)
        monkeypatch.setattr(_settings_apply, "Kubelet", FakeKubelet)
        monkeypatch.setattr(_settings_apply, "KubeProxy", FakeProxy)
        monkeypatch.setattr(_settings_apply, "etcd_access", lambda _root: None)
        self.observed = Observed(
            pods={name: Pair(POD, POD) for name in ("etcd", "kube-apiserver", "kube-scheduler")},
            kubelet=Pair({}, {}, "text"),
            proxy_texts=("old", "new"),
            left_patches=["etcd+merge.yaml"],
        )
        self.wanted = Wanted("control_plane", DOCUMENTS, patches_folder=patches)

    def note(self, what: str) -> None:
        self.done.append(what)
        if what.partition(" ")[0] in self.breaks:
            raise Unproven(f"{what} does not work")

    def replace(self, change: Any) -> None:
        assert change.text == "yaml" and change.file.path.name == f"{change.component}.yaml"
        assert change.healthy()
        self.note(change.component)

    def prove(self, _file: Any, component: str, _pod: Any, _healthy: Any) -> None:
        self.note(f"{component} proved")

    def run_command(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        if "kubectl" in argv:
            return 0, "yaml", ""
        assert [json.loads(one) for one in options["data"].split("\n---\n")] == DOCUMENTS
        self.note(" ".join(argv[argv.index("upload-config") : -1]))
        return self.kubeadm

    def apply(self, *steps: Step) -> None:
        fake: Any = self
        runner = Runner(self.run_command)
        Applier(runner, fake, fake, self.wanted, self.observed, Path("/none"), lambda: Deadline(1)).apply(
            steps
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeWorld:
    (tmp_path / "etcd+merge.yaml").write_text("left")
    return FakeWorld(monkeypatch, tmp_path)


def test_every_step_in_the_order_of_the_plan(world: FakeWorld) -> None:
    targets = [CERTIFICATE, "etcd", "kube-apiserver", KUBELET, PATCHES, KUBEADM_CONFIG, KUBELET_CONFIG, PROXY]
    world.apply(*(Step(target, CHANGES) for target in targets))
    assert world.done == [
        "certificate",
        "etcd",
        "kube-apiserver",
        "kubelet of cp1: text",
        "upload-config kubeadm",
        "upload-config kubelet",
        "proxy old new",
    ]
    assert not list(world.wanted.patches_folder.iterdir())


def test_a_certificate_alone_is_waited_for(world: FakeWorld) -> None:
    world.apply(Step(CERTIFICATE, CHANGES))
    assert world.done == ["certificate", "served at 10.0.0.11:6443"]


def test_the_first_failure_ends_the_work_and_says_what_was_done(world: FakeWorld) -> None:
    world.breaks = {"kube-apiserver"}
    targets = ["etcd", "kube-apiserver", "kube-scheduler", KUBEADM_CONFIG]
    with pytest.raises(Unproven) as failed:
        world.apply(*(Step(target, CHANGES) for target in targets))
    assert world.done == ["etcd", "kube-apiserver"] and failed.value.facts["done"] == ["etcd"]


def test_what_a_stopped_run_left_is_proved_not_replaced(world: FakeWorld) -> None:
    world.apply(Step("kube-scheduler", (), prove=True), Step(KUBELET, (), prove=True))
    assert world.done == ["kube-scheduler proved", "kubelet proved"]


def test_a_mount_that_is_not_there_stops_before_the_first_step(world: FakeWorld, tmp_path: Path) -> None:
    volume = {"name": "own", "hostPath": {"path": str(tmp_path / "none"), "type": "File"}}
    pod = {**POD, "spec": {**POD["spec"], "volumes": [volume]}}
    world.observed = Observed(pods={**world.observed.pods, "kube-scheduler": Pair(POD, pod)})
    with pytest.raises(KubewrightError, match="not on this host"):
        world.apply(Step("etcd", CHANGES), Step("kube-scheduler", CHANGES))
    assert world.done == []


def test_a_config_map_that_kubeadm_does_not_store_is_an_error(world: FakeWorld) -> None:
    world.kubeadm = (1, "", "error: the API server refused\n")
    with pytest.raises(CommandError, match="the API server refused"):
        world.apply(Step(KUBEADM_CONFIG, CHANGES))
