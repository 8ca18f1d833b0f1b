# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster says to the logging that is wanted in it: is it there, whose is it, and can it be.

``observe`` reads, ``judge`` is a pure function of what was read.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._logging_room import room_problems
from ansible_collections.kubewright.cluster.plugins.module_utils._logging_wanted import (
    MASTERS,
    PROFILES,
    NodeSet,
    finding,
    is_namespace,
    node_sets,
    value_problems,
    wrong_value,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._quantity import bytes_of

MANAGED = "app.kubernetes.io/managed-by"
MANAGER = "kubewright"
SELECTOR = f"{MANAGED}={MANAGER},app.kubernetes.io/name=elasticsearch"
LOCAL_CLASS = "kubewright-local"

_NOT_FOUND = 404
_SETS = tuple(dict.fromkeys(name for names in PROFILES.values() for name in names))
_NAMES = {
    "StatefulSet": _SETS,
    "Deployment": ("kibana",),
    "DaemonSet": ("collector",),
    "Service": ("elasticsearch", "elasticsearch-masters", "kibana"),
}
_KINDS = {
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Service": "/api/v1/namespaces/{}/services",
}
_RIVALS = re.compile(r"elasticsearch|opensearch|kibana|fluentd|fluent-bit|filebeat|opentelemetry-collector")
_ECK = "common.k8s.elastic.co/type"
_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_DEFAULT_INGRESS_CLASS = ("ingressclass.kubernetes.io/is-default-class",)
_VERSION = re.compile(r":v?([0-9]+)\.([0-9]+)\.([0-9]+)[^/]*$")


@dataclass(frozen=True)
class Observed:
    """Objects as the API server gave them.

    ``place`` is the namespace that was looked into, ``namespace`` its object or None, ``workloads`` what it holds, by
    kind. ``homes`` are the namespaces that have an Elasticsearch of this collection.
    """

    place: str
    namespace: Mapping[str, Any] | None
    homes: Sequence[str]
    workloads: Mapping[str, Sequence[Mapping[str, Any]]]
    claims: Sequence[Mapping[str, Any]] = ()
    classes: Sequence[Mapping[str, Any]] = ()
    ingress_classes: Sequence[Mapping[str, Any]] = ()
    nodes: Sequence[Mapping[str, Any]] = ()
    pods: Sequence[Mapping[str, Any]] = ()

    @property
    def home(self) -> str:
        """Return the namespace of our logging, empty where there is none."""
        return self.place if self.place in self.homes else next(iter(self.homes), "")

    @property
    def sets(self) -> dict[str, Mapping[str, Any]]:
        """Return our StatefulSets of Elasticsearch by their names."""
        own = (item for item in self.workloads.get("StatefulSet", ()) if is_ours(item))
        return {name(item): item for item in own if name(item) in _SETS}


def name(item: Mapping[str, Any]) -> str:
    """Return the name of an object."""
    return str(item["metadata"]["name"])


def is_ours(item: Mapping[str, Any]) -> bool:
    """Tell whether this collection made an object."""
    return bool((item["metadata"].get("labels") or {}).get(MANAGED) == MANAGER)


# --- observe -----------------------------------------------------------------------------------------------


def observe(api: KubeApi, namespace: str, *, everything: bool) -> Observed:
    """Read what *namespace* holds and, with *everything*, what there is of classes, nodes and pods.

    Without it, our logging is looked for wherever it is.
    """
    found = api.list("/apis/apps/v1/statefulsets", labelSelector=SELECTOR)
    homes = sorted({str(item["metadata"]["namespace"]) for item in found})
    if not everything and homes and namespace not in homes:
        namespace = homes[0]
    own = _namespace(api, namespace) if is_namespace(namespace) else None
    workloads: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    claims: list[dict[str, Any]] = []
    if own is not None:
        workloads = {kind: api.list(path.format(namespace)) for kind, path in _KINDS.items()}
        claims = api.list(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
    if not everything:
        return Observed(namespace, own, homes, workloads, claims)
    return Observed(
        namespace,
        own,
        homes,
        workloads,
        claims,
        classes=api.list("/apis/storage.k8s.io/v1/storageclasses"),
        ingress_classes=api.list("/apis/networking.k8s.io/v1/ingressclasses"),
        nodes=api.list("/api/v1/nodes"),
        pods=api.list("/api/v1/pods", fieldSelector="status.phase!=Succeeded,status.phase!=Failed"),
    )


def _namespace(api: KubeApi, namespace: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = api.get(f"/api/v1/namespaces/{namespace}")
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    return found


# --- judge -------------------------------------------------------------------------------------------------


def class_in_effect(wanted: Mapping[str, Any], observed: Observed) -> str:
    """Return the storage class that the volumes get, empty where there is none."""
    if wanted["storage_class"]:
        return str(wanted["storage_class"])
    if wanted["local_storage"]:
        return LOCAL_CLASS
    # The API server takes the one that was made last, too.
    defaults = [item for item in observed.classes if _is_default(item, _DEFAULT_CLASS)]
    defaults.sort(key=lambda item: (str(item["metadata"].get("creationTimestamp") or ""), name(item)))
    return name(defaults[-1]) if defaults else ""


def judge(wanted: Mapping[str, Any], observed: Observed) -> list[dict[str, str]]:
    """Return everything that keeps the wanted logging from being."""
    values = value_problems(wanted)
    found = [*values, *_home(wanted, observed), *_foreign(wanted, observed), *_classes(wanted, observed)]
    if values:
        return found
    sets = node_sets(wanted)
    found += [*_moves(wanted, observed, sets), *_volumes(wanted, observed, sets)]
    if not found and _grows(observed, sets):
        found += room_problems(
            sets,
            observed.nodes,
            [
                pod
                for pod in observed.pods
                if not (is_ours(pod) and pod["metadata"]["namespace"] == wanted["namespace"])
            ],
            tolerations=wanted["tolerations"],
            selector=wanted["node_selector"],
            on_every_node=bytes_of(wanted["collector_memory"]),
        )
    return found


def _is_default(item: Mapping[str, Any], keys: Iterable[str]) -> bool:
    annotations = item["metadata"].get("annotations") or {}
    return any(annotations.get(key) == "true" for key in keys)


def _home(wanted: Mapping[str, Any], observed: Observed) -> Iterator[dict[str, str]]:
    namespace = str(wanted["namespace"])
    others = [home for home in observed.homes if home != namespace]
    if others:
        yield wrong_value(
            "namespace",
            namespace,
            f"this cluster has its logging in {', '.join(others)}, and a second one would read the same files",
            f"Set it to {others[0]}, or delete that namespace first, with all lines in it",
        )
    if observed.namespace is not None and observed.namespace["metadata"].get("deletionTimestamp"):
        conditions = (observed.namespace.get("status") or {}).get("conditions") or []
        left = [str(item.get("message") or "") for item in conditions if item.get("status") == "True"]
        yield finding(
            "The namespace is being deleted",
            where=namespace,
            why=" ".join(filter(None, left)),
            remedy=f"Run again when it is gone: kubectl get namespace {namespace}",
        )


def _foreign(wanted: Mapping[str, Any], observed: Observed) -> Iterator[dict[str, str]]:
    for kind, items in observed.workloads.items():
        for item in items:
            labels = item["metadata"].get("labels") or {}
            taken = name(item) in _NAMES[kind]
            maker = _maker(item, labels)
            if not is_ours(item) and (taken or (maker and _is_rival(item))):
                yield finding(
                    f"A logging that this collection did not make is in the namespace: {kind} {name(item)}",
                    where=str(wanted["namespace"]),
                    why=f"It is of {maker}" if maker else f"it has no label {MANAGED}={MANAGER}",
                    remedy="Remove it first, or give another kube_logging_namespace",
                )


def _maker(item: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    if _ECK in labels:
        return "the operator ECK"
    release = (item["metadata"].get("annotations") or {}).get("meta.helm.sh/release-name")
    if release or "Helm" in (labels.get(MANAGED), labels.get("heritage")):
        return f"the Helm release {release}" if release else "Helm"
    return ""


def _is_rival(item: Mapping[str, Any]) -> bool:
    template = (item.get("spec") or {}).get("template") or {}
    containers = (template.get("spec") or {}).get("containers") or []
    return any(_RIVALS.search(str(container.get("image"))) for container in containers)


def _classes(wanted: Mapping[str, Any], observed: Observed) -> Iterator[dict[str, str]]:
    known = [name(item) for item in observed.classes]
    there = f"The cluster has {', '.join(sorted(known))}" if known else "The cluster has none"
    local = next((item for item in observed.classes if name(item) == LOCAL_CLASS), None)
    effect = class_in_effect(wanted, observed)
    if wanted["local_storage"] and local is not None and not is_ours(local):
        yield finding(
            f"A storage class {LOCAL_CLASS} is there that this collection did not make",
            where=str(local.get("provisioner") or ""),
            remedy="Delete it, or set kube_logging_local_storage to false and kube_logging_storage_class to its name",
        )
    if not effect:
        yield finding(
            "There is no storage class for the volumes of Elasticsearch",
            where="kube_logging_storage_class",
            why=f"it is empty, and no class is the default. {there}",
            remedy="Name one, or set kube_logging_local_storage to true for folders of the nodes",
        )
    elif effect not in known and not (wanted["local_storage"] and effect == LOCAL_CLASS):
        remedy = "Name one that is there, or set kube_logging_local_storage to true for folders of the nodes"
        yield wrong_value("storage_class", effect, f"there is no such storage class. {there}", remedy)
    if wanted["kibana"] and wanted["kibana_ingress_host"]:
        yield from _ingress_class(str(wanted["kibana_ingress_class"]), observed.ingress_classes)


def _ingress_class(value: str, classes: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    known = [name(item) for item in classes]
    if value in known or (not value and any(_is_default(item, _DEFAULT_INGRESS_CLASS) for item in classes)):
        return
    why = "there is no such ingress class" if value else "no class is the default"
    there = f"The cluster has {', '.join(sorted(known))}" if known else "The cluster has none"
    yield wrong_value("kibana_ingress_class", value, f"{why}. {there}", "Name one that is there")


def _moves(
    wanted: Mapping[str, Any], observed: Observed, sets: Sequence[NodeSet]
) -> Iterator[dict[str, str]]:
    """Find changes of an Elasticsearch that is there which would cost data."""
    there = profile_of(observed)
    if there not in ("", wanted["profile"]):
        yield wrong_value(
            "profile",
            wanted["profile"],
            f"Elasticsearch is installed as {there}, and its nodes cannot be turned into others",
            f"Set it to {there}, or remove the logging first, with all lines in it",
        )
        return
    for one in sets:
        count = _replicas(observed.sets[one.name]) if one.name in observed.sets else 0
        if count > one.replicas:
            yield wrong_value(
                "data_nodes",
                one.replicas,
                f"there are {count}, and what the last ones hold would be lost",
                f"Set it to {count}",
            )
    runs = max((version for item in observed.sets.values() if (version := _version(item))), default=None)
    target = _version_of(f":{wanted['elasticsearch_version']}")
    if runs and target and target < runs:
        dotted = ".".join(map(str, runs))
        yield wrong_value(
            "elasticsearch_version",
            wanted["elasticsearch_version"],
            f"{dotted} is installed, and Elasticsearch cannot go back",
            f"Set it to {dotted} or newer",
        )


def profile_of(observed: Observed) -> str:
    """Return the profile that is installed, empty where none is, or where nobody can tell."""
    if set(observed.sets) & set(PROFILES["tiers"]):
        return "tiers"
    count = _replicas(observed.sets[PROFILES["three"][0]]) if observed.sets else 0
    return {0: "", 1: "single"}.get(count, "three")


def _replicas(item: Mapping[str, Any]) -> int:
    return int((item.get("spec") or {}).get("replicas") or 0)


def _containers(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(item["spec"]["template"]["spec"].get("containers") or [])


def _version(item: Mapping[str, Any]) -> tuple[int, ...]:
    return next((found for one in _containers(item) if (found := _version_of(str(one.get("image"))))), ())


def _version_of(image: str) -> tuple[int, ...]:
    found = _VERSION.search(image)
    return tuple(map(int, found.groups())) if found else ()


def _volumes(
    wanted: Mapping[str, Any], observed: Observed, sets: Sequence[NodeSet]
) -> Iterator[dict[str, str]]:
    effect = class_in_effect(wanted, observed)
    growing = {name(item): bool(item.get("allowVolumeExpansion")) for item in observed.classes}
    for one in sets:
        variable = "master_volume_size" if one.name == MASTERS else "volume_size"
        own = re.compile(rf"[a-z]+-{one.name}-[0-9]+")
        for claim in observed.claims if one.volume else ():
            if not own.fullmatch(name(claim)):
                continue
            has = str(claim["spec"].get("storageClassName") or "")
            size = str((claim["spec"].get("resources") or {}).get("requests", {}).get("storage") or "0")
            if wanted["storage_class"] and has != effect:
                why = f"volume {name(claim)} is of {has or 'no class'}, and volumes do not move"
                yield wrong_value("storage_class", effect, why, f"Set it to {has or 'what it was'}")
            if bytes_of(one.volume) < bytes_of(size):
                yield wrong_value(
                    variable,
                    one.volume,
                    f"volume {name(claim)} has {size}, and none shrinks",
                    f"Set it to {size}",
                )
            elif bytes_of(one.volume) > bytes_of(size) and not growing.get(has):
                why = f"volume {name(claim)} has {size}, and its storage class {has} lets none grow"
                yield wrong_value(
                    variable, one.volume, why, f"Set it to {size}, or allowVolumeExpansion in the class"
                )


def _grows(observed: Observed, sets: Sequence[NodeSet]) -> bool:
    """Tell whether Elasticsearch will want more than it has: what runs is not refused because a node is away."""
    for one in sets:
        there = observed.sets.get(one.name)
        if there is None or _replicas(there) < one.replicas:
            return True
        asked = (
            ((item.get("resources") or {}).get("requests") or {}).get("memory", "0")
            for item in _containers(there)
        )
        if sum(map(bytes_of, asked)) < one.memory:
            return True
    return False
