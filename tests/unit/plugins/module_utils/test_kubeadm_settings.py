# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the observation of a node is made of, and the plan from it; kubeadm, kubectl and the API are faked."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _kubeadm_settings
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import GuardedFile
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_proxy import CONFIG_KEY
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_settings import (
    CERTIFICATE,
    KUBEADM_CONFIG,
    KUBELET,
    KUBELET_CONFIG,
    PATCHES,
    PROXY,
    Observed,
    Observer,
    Pair,
    Wanted,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._serving_certificate import certificate_names
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_diff import (
    FILES_ANNOTATION,
    annotation,
    command,
    with_annotation,
    with_command,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "settings"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def load(name: str) -> dict[str, Any]:
    if name == "kube-controller-manager":
        return json.loads(
            (FIXTURES / "kube-scheduler.json").read_text().replace("scheduler", "controller-manager")
        )
    document: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return document


CLUSTER = {
    "apiVersion": "kubeadm.k8s.io/v1beta4",
    "kind": "ClusterConfiguration",
    "controlPlaneEndpoint": "10.0.0.10:8443",
    "kubernetesVersion": "v1.36.3",
    "networking": {"dnsDomain": "cluster.local", "serviceSubnet": "10.96.0.0/12"},
    "apiServer": {"certSANs": ["api.example.com"]},
}
INIT = {
    "apiVersion": "kubeadm.k8s.io/v1beta4",
    "kind": "InitConfiguration",
    "nodeRegistration": {"name": "cp1"},
    "localAPIEndpoint": {"advertiseAddress": "10.0.0.11", "bindPort": 6443},
}
KUBELET_DOCUMENT = {"kind": "KubeletConfiguration", "maxPods": 110}
PROXY_DOCUMENT = {"kind": "KubeProxyConfiguration", "mode": "nftables"}


class FakeNode:
    """A control plane made by kubeadm 1.36.3 whose kubeadm and kubectl speak JSON, which is YAML.

    What kubeadm renders is in ``rendered`` and ``maps``; it equals what is live until a test changes it.
    """

    def __init__(self, root: Path) -> None:
        self.manifests, self.kubelet_config = root / "manifests", root / "config.yaml"
        self.state, self.private, self.patches = root / "state", root / "private", root / "patches"
        for folder in (self.manifests, self.private, self.patches):
            folder.mkdir()
        self.rendered: dict[str, Any] = {name: load(name) for name in COMPONENTS}
        for name in COMPONENTS:
            (self.manifests / f"{name}.yaml").write_text(json.dumps(load(name)))
        self.rendered["config"] = copy.deepcopy(KUBELET_DOCUMENT)
        self.kubelet_config.write_text(json.dumps(KUBELET_DOCUMENT))
        self.maps = {
            "kubeadm-config": {"ClusterConfiguration": self.cluster_text()},
            "kubelet-config": {"kubelet": json.dumps(KUBELET_DOCUMENT)},
            "kube-proxy": {CONFIG_KEY: json.dumps(PROXY_DOCUMENT)},
        }
        self.live_maps = copy.deepcopy(self.maps)
        self.kubeadm_version = "v1.36.3"
        self.made = 0.0
        self.calls: list[list[str]] = []
        self.configs: list[list[dict[str, Any]]] = []
        self.asked: list[str] = []

    @staticmethod
    def cluster_text(**changes: Any) -> str:
        # The version is read with an expression that expects kubeadm's own layout.
        cluster = {**CLUSTER, **changes}
        return "".join(f"{key}: {json.dumps(value)}\n" for key, value in cluster.items())

    def run_command(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        words = argv[argv.index("kubectl" if "kubectl" in argv else "kubeadm") :]
        self.calls.append(words)
        if words[:2] == ["kubeadm", "version"]:
            return 0, f"{self.kubeadm_version}\n", ""
        if words[0] == "kubectl":
            return 0, "\n".join(json.dumps(read(text)) for text in options["data"].split("\n---\n")), ""
        self.configs.append([json.loads(one) for one in options["data"].split("\n---\n")])
        for name, document in self.rendered.items():
            (self.private / f"{name}.yaml").write_text(json.dumps(document))
        return 0, self._printed(words), ""

    def _printed(self, words: list[str]) -> str:
        wanted = {"upload-config": ("kubeadm-config", "kubelet-config"), "addon": ("kube-proxy",)}.get(
            words[3], ()
        )
        texts = [
            json.dumps({"kind": "ConfigMap", "metadata": {"name": name}, "data": self.maps[name]})
            for name in wanted
        ]
        if words[3] == "addon":
            return "".join(f"---\nkind: ConfigMap\n#{text}\n" for text in texts)
        return "".join(
            f"[dryrun] Attached object:\nkind: ConfigMap\n#{text}\n[dryrun] next\n" for text in texts
        )

    def get(self, path: str, **_query: Any) -> Any:
        self.asked.append(path)
        if path.endswith("daemonsets/kube-proxy"):
            return {"metadata": {}, "spec": {"template": {"metadata": {}}}}
        return {"data": self.live_maps[path.rpartition("/")[2]]}

    def running_since(self, _component: str) -> float:
        return self.made

    def observe(self, role: str = "control_plane", **options: Any) -> Observed:
        documents = [INIT] if role == "worker" else [INIT, CLUSTER, KUBELET_DOCUMENT, PROXY_DOCUMENT]
        wanted = Wanted(role, documents, patches_folder=self.patches, **options)
        fake: Any = self
        observer = Observer(
            self.run_command,
            fake,
            fake,
            self.private,
            manifests=self.manifests,
            kubelet_config=self.kubelet_config,
            state=self.state,
        )
        return observer.observe(wanted)


def read(text: str) -> Any:
    """Read the three layouts that this fake writes."""
    if "\n#" in text:
        return json.loads(text.partition("\n#")[2])
    if text.startswith("{"):
        return json.loads(text)
    return {key: json.loads(value) for key, value in (line.split(": ", 1) for line in text.splitlines())}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    class FakeCertificate:
        """The certificate in the fixture, wherever it is looked for."""

        def __init__(self, _runner: Any) -> None: ...

        def names(self) -> list[str]:
            return certificate_names((FIXTURES / "apiserver.crt").read_bytes())

    monkeypatch.setattr(_kubeadm_settings, "ServingCertificate", FakeCertificate)
    return FakeNode(tmp_path)


def targets(observed: Observed) -> list[str]:
    return [step.target for step in plan(observed)]


def test_a_cluster_as_kubeadm_made_it_has_nothing_to_do(node: FakeNode) -> None:
    assert targets(node.observe(cluster=True)) == []
    assert all("--dry-run" in words or "--print-manifest" in words for words in node.calls if "init" in words)


def test_every_difference_is_a_step_in_a_safe_order(node: FakeNode) -> None:
    for name in ("kube-scheduler", "kube-apiserver", "etcd"):
        node.rendered[name] = with_command(load(name), [*command(load(name)), "--own=1"])
    node.rendered["config"]["maxPods"] = 99
    node.maps["kubeadm-config"] = {
        "ClusterConfiguration": node.cluster_text(apiServer={"certSANs": ["other"]})
    }
    node.maps["kubelet-config"] = {"kubelet": json.dumps({**KUBELET_DOCUMENT, "maxPods": 99})}
    node.maps["kube-proxy"] = {CONFIG_KEY: json.dumps({**PROXY_DOCUMENT, "mode": "iptables"})}
    (node.patches / "etcd+merge.yaml").write_text("left")
    mine = [CERTIFICATE, "etcd", "kube-apiserver", "kube-scheduler", KUBELET, PATCHES]
    assert targets(node.observe(cluster=True)) == [*mine, KUBEADM_CONFIG, KUBELET_CONFIG, PROXY]
    assert json.loads(node.observe(cluster=True).kubelet_configuration)["maxPods"] == 99


def test_only_one_host_looks_at_what_the_cluster_keeps(node: FakeNode) -> None:
    node.maps["kube-proxy"] = {CONFIG_KEY: json.dumps({**PROXY_DOCUMENT, "mode": "iptables"})}
    assert targets(node.observe()) == []
    assert [path.rpartition("/")[2] for path in node.asked] == ["kubeadm-config"]
    assert node.observe().kubelet_configuration == "", "no worker is told what nobody writes"


def test_a_stacked_member_that_joined_keeps_its_birth(node: FakeNode) -> None:
    words = [word for word in command(load("etcd")) if not word.startswith("--initial-cluster=")]
    born = [
        "--initial-cluster=a=https://a:2380,cp1=https://10.0.0.11:2380",
        "--initial-cluster-state=existing",
    ]
    (node.manifests / "etcd.yaml").write_text(json.dumps(with_command(load("etcd"), [*words, *born])))
    assert targets(node.observe()) == []


def test_external_etcd_has_no_manifest(node: FakeNode) -> None:
    (node.manifests / "etcd.yaml").unlink()
    assert "etcd" not in node.observe().pods
    assert not any(words[3] == "etcd" for words in node.calls if "init" in words)


def test_what_cannot_change_stops_the_plan(node: FakeNode) -> None:
    words = [word.replace("/var/lib/etcd", "/data") for word in command(load("etcd"))]
    node.rendered["etcd"] = with_command(load("etcd"), words)
    with pytest.raises(KubewrightError, match="--data-dir of etcd cannot change"):
        plan(node.observe())


@pytest.mark.parametrize("part", ["kubeadm", "cluster"])
@pytest.mark.parametrize("role", ["control_plane", "worker"])
def test_nothing_is_compared_while_an_upgrade_is_under_way(node: FakeNode, part: str, role: str) -> None:
    if part == "kubeadm":
        node.kubeadm_version = "v1.37.1"
    else:
        text = node.cluster_text(kubernetesVersion="v1.37.1")
        node.live_maps["kubeadm-config"] = {"ClusterConfiguration": text}
    observed = node.observe(role)
    assert "1.37.1" in observed.postponed and "1.36.3" in observed.postponed and plan(observed) == []


def mount(node: FakeNode, folder: Path) -> dict[str, Any]:
    """Let the API server mount a folder, as it runs and as it is rendered."""
    pod = load("kube-apiserver")
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    mounts.append({"name": "own", "mountPath": str(folder), "readOnly": True})
    pod["spec"]["volumes"].append(
        {"name": "own", "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"}}
    )
    node.rendered["kube-apiserver"] = pod
    (node.manifests / "kube-apiserver.yaml").write_text(json.dumps(pod))
    return pod


def test_a_mounted_file_that_changed_after_the_start_restarts_the_component(
    node: FakeNode, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "policy.yaml").write_text("first")
    pod = mount(node, tmp_path / "own")
    changed = (tmp_path / "own" / "policy.yaml").stat().st_ctime
    node.made = changed + 1
    assert targets(node.observe()) == [], "kubeadm started it after the file was written"
    node.made = changed - 1
    observed = node.observe()
    assert targets(observed) == ["kube-apiserver"]

    noted = observed.pods["kube-apiserver"].wanted
    assert annotation(noted, FILES_ANNOTATION) and with_annotation(noted, FILES_ANNOTATION, None) == pod
    (node.manifests / "kube-apiserver.yaml").write_text(json.dumps(noted))
    assert targets(node.observe()) == [], "the digest answers, whatever the clock says"
    (tmp_path / "own" / "policy.yaml").write_text("second")
    assert targets(node.observe()) == ["kube-apiserver"]
    node.made = changed + 60
    assert targets(node.observe()) == [], "it was restarted by somebody else, after the change"


def test_a_worker_follows_the_config_map(node: FakeNode) -> None:
    node.live_maps["kubelet-config"] = {"kubelet": json.dumps({**KUBELET_DOCUMENT, "maxPods": 50})}
    assert targets(node.observe("worker")) == []
    documents = {one["kind"]: one for one in node.configs[0]}
    assert documents["KubeletConfiguration"]["maxPods"] == 50
    # kubeadm would look for the key of the CA, which a worker has not.
    assert documents["ClusterConfiguration"]["certificatesDir"].startswith(str(node.private))
    assert documents["ClusterConfiguration"]["kubernetesVersion"] == "v1.36.3"
    node.rendered["config"]["maxPods"] = 50
    assert targets(node.observe("worker")) == [KUBELET]


def test_a_worker_can_be_told_what_the_config_map_will_be(node: FakeNode) -> None:
    text = json.dumps({**KUBELET_DOCUMENT, "maxPods": 77})
    observed = node.observe("worker", kubelet_configuration=text)
    assert observed.kubelet_configuration == text and "kubelet-config" not in str(node.asked)
    assert {one["kind"]: one for one in node.configs[0]}["KubeletConfiguration"]["maxPods"] == 77


def test_what_a_stopped_run_left_unproven_is_a_step(node: FakeNode) -> None:
    def kill() -> None:
        raise KeyboardInterrupt

    for path in (node.manifests / "kube-scheduler.yaml", node.kubelet_config):
        content = path.read_text()
        path.write_text("old")
        with pytest.raises(KeyboardInterrupt):
            GuardedFile(path, node.state).replace(content, kill, kill)
    assert [(step.target, step.changes, step.prove) for step in plan(node.observe())] == [
        ("kube-scheduler", (), True),
        (KUBELET, (), True),
    ]


def test_a_plan_needs_nothing_but_what_was_observed() -> None:
    pair = Pair({"a": 1}, {"a": 2})
    observed = Observed(config_maps={KUBEADM_CONFIG: pair}, kubelet=pair, names=(["a"], ["a"]))
    assert targets(observed) == [KUBELET, KUBEADM_CONFIG]
