# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubeadm would write for the wanted settings, beside what this host and the cluster have.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_info import (
    parse_cluster_configuration,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import STATE, GuardedFile
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_proxy import CONFIG_KEY, KubeProxy
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_render import (
    COMPONENTS,
    Renderer,
    config_map_texts,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kubectl_yaml import Translator
from ansible_collections.kubewright.cluster.plugins.module_utils._kubelet_settings import CONFIG
from ansible_collections.kubewright.cluster.plugins.module_utils._mounted_files import (
    changed_since,
    digest,
    read_once,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._serving_certificate import (
    ServingCertificate,
    in_folder,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_diff import (
    FILES_ANNOTATION,
    Change,
    Step,
    annotation,
    api_server_names,
    compare,
    compare_names,
    keep_birth_flags,
    refuse_fixed,
    with_annotation,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import MANIFESTS, StaticPods

KUBELET = "kubelet"
CERTIFICATE = "certificate of kube-apiserver"
KUBEADM_CONFIG = "ConfigMap kubeadm-config"
KUBELET_CONFIG = "ConfigMap kubelet-config"
PROXY = "kube-proxy"
PATCHES = "patches that are not wanted any more"

_CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"
_CLUSTER_KEY, _KUBELET_KEY = "ClusterConfiguration", "kubelet"


@dataclass(frozen=True)
class Wanted:
    """What the module was asked for.

    *documents* are kubeadm's. *kubelet_configuration* is the text that the ConfigMap kubelet-config will have,
    where it does not have it yet. *cluster* is true on the one host that also writes what the cluster keeps.
    """

    role: str
    documents: Sequence[Mapping[str, Any]]
    patches: Mapping[str, str] = field(default_factory=dict)
    patches_folder: Path = Path("/etc/kubernetes/patches")
    cluster: bool = False
    kubelet_configuration: str | None = None

    def document(self, kind: str) -> Mapping[str, Any]:
        return next((one for one in self.documents if one.get("kind") == kind), {})

    @property
    def node_name(self) -> str:
        return str(self.document("InitConfiguration")["nodeRegistration"]["name"])

    @property
    def address(self) -> tuple[str, int]:
        """Where the API server of this host listens."""
        endpoint = self.document("InitConfiguration")["localAPIEndpoint"]
        return str(endpoint["advertiseAddress"]), int(endpoint.get("bindPort") or 6443)


@dataclass(frozen=True)
class Pair:
    """One document as it is and as it should be, and the text to write."""

    live: Mapping[str, Any]
    wanted: Mapping[str, Any]
    text: str = ""


@dataclass(frozen=True)
class Observed:
    """Everything that the plan depends on.

    *postponed* says why nothing is compared: an upgrade that is under way decides the versions.
    """

    pods: Mapping[str, Pair] = field(default_factory=dict)
    kubelet: Pair | None = None
    names: tuple[Sequence[str], Sequence[str]] = ((), ())
    config_maps: Mapping[str, Pair] = field(default_factory=dict)
    proxy_texts: tuple[str, str] = ("", "")
    kubelet_configuration: str = ""
    left_patches: Sequence[str] = ()
    unproven: frozenset[str] = frozenset()
    postponed: str = ""


def plan(observed: Observed) -> list[Step]:
    """Return what has to be done, in the order in which it is safe: this host first, the cluster's memory last.

    A setting that does not work then never reaches the ConfigMaps, from which other hosts take it.
    """
    steps = [Step(CERTIFICATE, compare_names(*observed.names))]
    for component, pair in observed.pods.items():
        changes = compare(pair.live, pair.wanted)
        refuse_fixed(component, changes)
        steps.append(Step(component, changes, component in observed.unproven))
    if observed.kubelet:
        changes = compare(observed.kubelet.live, observed.kubelet.wanted)
        steps.append(Step(KUBELET, changes, KUBELET in observed.unproven))
    steps.append(Step(PATCHES, tuple(Change(name, "there", None) for name in observed.left_patches)))
    for target, pair in observed.config_maps.items():
        steps.append(Step(target, compare(pair.live, pair.wanted), target in observed.unproven))
    return [step for step in steps if step.changes or step.prove]


class Observer:
    """Looks at this host and at the cluster, and lets kubeadm render in *private*, a folder of its own."""

    def __init__(
        self,
        run_command: Callable[..., tuple[int, str, str]],
        api: KubeApi,
        pods: StaticPods,
        private: Path,
        *,
        manifests: Path = MANIFESTS,
        kubelet_config: Path = CONFIG,
        state: Path = STATE,
    ) -> None:
        self._run_command = run_command
        self._runner = Runner(run_command)
        self._translator = Translator(self._runner)
        self._api = api
        self._pods = pods
        self._private = private
        self._manifests = manifests
        self._kubelet_config = kubelet_config
        self._state = state

    def observe(self, wanted: Wanted) -> Observed:
        cluster = self._config_map("kubeadm-config")[_CLUSTER_KEY]
        in_force = parse_cluster_configuration(cluster)["kubeadm_version"]
        here = (
            self._runner.run(["kubeadm", "version", "--output=short"], timeout=30).stdout.strip().lstrip("v")
        )
        asked = str(wanted.document("ClusterConfiguration").get("kubernetesVersion") or in_force).lstrip("v")
        if not here == in_force == asked:
            return Observed(
                postponed=f"kubeadm on this host is {here}, the cluster's configuration says {in_force} and "
                f"the API servers run {asked}: settings are compared when the upgrade is done"
            )
        if wanted.role == "worker":
            return self._worker(wanted, in_force)
        return self._control_plane(wanted, cluster)

    def _config_map(self, name: str) -> dict[str, str]:
        return dict(self._api.get(f"{_CONFIG_MAPS}/{name}").get("data") or {})

    def _worker(self, wanted: Wanted, version: str) -> Observed:
        text = wanted.kubelet_configuration or self._config_map("kubelet-config")[_KUBELET_KEY]
        # With the certificates of a worker kubeadm would take this for a control plane without the CA's key.
        cluster = {
            "apiVersion": wanted.document("InitConfiguration")["apiVersion"],
            "kind": "ClusterConfiguration",
            "kubernetesVersion": f"v{version}",
        }
        documents = in_folder([wanted.document("InitConfiguration"), cluster], self._private / "pki")
        [base] = self._translator.read([text])
        rendered = Renderer(self._run_command, self._private, [*documents, base], wanted.patches).kubelet()
        live, new = self._translator.read([self._kubelet_config.read_text(encoding="utf-8"), rendered])
        return Observed(
            kubelet=Pair(live, new, rendered), kubelet_configuration=text, unproven=self._unproven(())
        )

    def _control_plane(self, wanted: Wanted, cluster: str) -> Observed:
        renderer = Renderer(self._run_command, self._private, wanted.documents, wanted.patches)
        rendered = renderer.manifests(etcd=(self._manifests / "etcd.yaml").exists())
        components = [name for name in COMPONENTS if name in rendered]
        kubelet = renderer.kubelet()
        live = [(self._manifests / f"{name}.yaml").read_text(encoding="utf-8") for name in components]
        maps = renderer.config_maps()
        read = self._translator.read(
            [
                *live,
                *(rendered[name] for name in components),
                *maps,
                kubelet,
                self._kubelet_config.read_text(encoding="utf-8"),
            ]
        )
        count = len(components)
        new_maps = config_map_texts(read[2 * count : 2 * count + len(maps)])
        [canonical] = self._translator.read([new_maps["kubeadm-config"][_CLUSTER_KEY]])
        certificate = ServingCertificate(self._runner).names()
        pods = {
            name: self._pod(name, before, after)
            for name, before, after in zip(components, read[:count], read[count : 2 * count])
        }
        pairs, proxy_texts = self._cluster(new_maps, cluster) if wanted.cluster else ({}, ("", ""))
        unproven = set(self._unproven(components))
        if wanted.cluster and KubeProxy(self._api, _never).unrolled():
            unproven.add(PROXY)
        return Observed(
            pods=pods,
            kubelet=Pair(read[-1], read[-2], kubelet),
            names=(certificate, sorted(api_server_names(canonical, wanted.node_name, wanted.address[0]))),
            config_maps=pairs,
            proxy_texts=proxy_texts,
            kubelet_configuration=new_maps["kubelet-config"][_KUBELET_KEY] if wanted.cluster else "",
            left_patches=_left_in(wanted.patches_folder, wanted.patches),
            unproven=frozenset(unproven),
        )

    def _pod(self, component: str, live: dict[str, Any], rendered: dict[str, Any]) -> Pair:
        """Complete what kubeadm rendered by what only this host knows, and write it as text."""
        pod = keep_birth_flags(rendered, live) if component == "etcd" else rendered
        files = read_once(pod)
        now, noted = digest(files), annotation(live, FILES_ANNOTATION)
        same = with_annotation(pod, FILES_ANNOTATION, noted if now else None)
        if now and (compare(live, same) or self._stale(component, files, now, noted)):
            same = with_annotation(pod, FILES_ANNOTATION, now)
        return Pair(live, same)

    def _stale(self, component: str, files: list[str], now: str, noted: str | None) -> bool:
        if now == noted:
            return False
        made = self._pods.running_since(component)
        return made is None or changed_since(files, made)

    def _cluster(
        self, new: Mapping[str, Mapping[str, str]], cluster: str
    ) -> tuple[dict[str, Pair], tuple[str, str]]:
        kubelet = self._config_map("kubelet-config")[_KUBELET_KEY]
        proxy = self._config_map("kube-proxy")[CONFIG_KEY]
        after = [
            new["kubeadm-config"][_CLUSTER_KEY],
            new["kubelet-config"][_KUBELET_KEY],
            new["kube-proxy"][CONFIG_KEY],
        ]
        read = self._translator.read([cluster, kubelet, proxy, *after])
        targets = (KUBEADM_CONFIG, KUBELET_CONFIG, PROXY)
        pairs = {target: Pair(live, wanted) for target, live, wanted in zip(targets, read[:3], read[3:])}
        return pairs, (proxy, after[2])

    def _unproven(self, components: Sequence[str]) -> frozenset[str]:
        files = {name: GuardedFile(self._manifests / f"{name}.yaml", self._state) for name in components}
        files[KUBELET] = GuardedFile(self._kubelet_config, self._state)
        return frozenset(name for name, file in files.items() if file.unproven)


def _left_in(folder: Path, patches: Mapping[str, str]) -> list[str]:
    """Return the patch files of the folder that are not wanted, which an upgrade would apply."""
    return sorted(path.name for path in folder.glob("*") if path.is_file() and path.name not in patches)


def _never() -> Any:
    raise AssertionError("observing waits for nothing")
