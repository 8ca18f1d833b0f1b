# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster says of itself: nodes, control plane, etcd, add-ons, certificate requests.

A few list requests to one API server and four calls of etcdctl. What cannot be read becomes an error inside
the answer, because the answer is needed most when something is broken.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, Callable, Protocol

from ansible_collections.kubewright.cluster.plugins.module_utils._cordon import is_our_cordon
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, EtcdCtl, quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import EtcdAccess
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._skew import oldest, skew

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
# A request that the controller-manager or the approver has not signed in this time is stuck (in seconds).
CSR_PATIENCE = 120

_NOT_FOUND = 404
_CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
_ETCD_URLS_ANNOTATION = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
_SYSTEM = "/api/v1/namespaces/kube-system"
_NODE_USER = "system:node:"


class Api(Protocol):
    """The part of KubeApi that is used here."""

    def get(self, path: str, **query: Any) -> Any: ...

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]: ...


def observe_cluster(
    connect: Callable[[], Api],
    runner: Runner,
    now: datetime,
    *,
    access: EtcdAccess | None,
    etcdctl: str = "etcdctl",
) -> dict[str, Any]:
    """Return what the module cluster_info returns as ``cluster``.

    *access* is how this host reaches etcd; it works without the API server.
    """
    facts: dict[str, Any] = {
        "answers": False,
        "error": None,
        "id": None,
        "version": None,
        "versions": [],
        "kubeadm_version": None,
        "endpoint": None,
        "networking": {"pod_subnet": None, "service_subnet": None, "dns_domain": None},
        "topology": _topology(access),
        "nodes": [],
        "control_plane": [],
        "addons": [],
        "pending_csrs": [],
        "skew": {"ok": True, "problems": []},
    }
    urls: list[str] = []
    try:
        api = connect()
        _require_ready(api)
        urls = _read_api(api, now, facts)
        facts["answers"] = True
    except KubewrightError as error:
        facts["error"] = str(error)
    facts["etcd"] = observe_etcd(runner, access, urls, etcdctl)
    return facts


def _topology(access: EtcdAccess | None) -> str | None:
    if access is None:
        return None
    return "stacked" if access.local else "external"


def _require_ready(api: Api) -> None:
    try:
        api.get("/readyz")
    except ApiError as error:
        # The answer of an API server that is not ready has a line for each of its checks.
        failed = [line[3:] for line in error.why.splitlines() if line.startswith("[-]")]
        if not failed:
            raise
        raise KubewrightError(
            "The API server is not ready",
            where=error.where,
            why="; ".join(failed),
            remedy="Wait, or look at the log of kube-apiserver",
            transient=True,
        ) from error


def _read_api(api: Api, now: datetime, facts: dict[str, Any]) -> list[str]:
    """Fill *facts* in the order of the answers; return the client URLs of stacked etcd members."""
    facts["id"] = api.get("/api/v1/namespaces/kube-system")["metadata"]["uid"]
    facts["nodes"] = sorted(map(node_facts, api.list("/api/v1/nodes")), key=_name)
    pods = api.list(f"{_SYSTEM}/pods", labelSelector="tier=control-plane")
    # The mirror pods of a node that was deleted stay for a minute, until the garbage collector finds them.
    names = {node["name"] for node in facts["nodes"]}
    pods = [pod for pod in pods if (pod.get("spec") or {}).get("nodeName") in names]
    facts["control_plane"] = control_plane_facts(pods)
    servers = [pod for pod in facts["control_plane"] if pod["component"] == "kube-apiserver"]
    facts["versions"] = sorted({pod["version"] for pod in servers if pod["version"]} or {_own_version(api)})
    facts["version"] = oldest(facts["versions"])
    facts["skew"] = skew(facts["nodes"], facts["control_plane"])
    facts.update(_kubeadm_config(api, facts["topology"]))
    facts["addons"] = [
        *(workload_facts("DaemonSet", item) for item in _apps(api, "kube-system", "daemonsets")),
        *(workload_facts("DaemonSet", item) for item in _apps(api, "kube-flannel", "daemonsets")),
        *(workload_facts("Deployment", item) for item in _apps(api, "kube-system", "deployments")),
    ]
    requests = api.list("/apis/certificates.k8s.io/v1/certificatesigningrequests")
    facts["pending_csrs"] = pending_requests(requests, now)
    return etcd_urls(pods)


def _own_version(api: Api) -> str:
    """Return the version of this very API server, which answers some seconds before its kubelet shows its pod."""
    return str(api.get("/version")["gitVersion"]).removeprefix("v")


def _apps(api: Api, namespace: str, kind: str) -> list[dict[str, Any]]:
    return api.list(f"/apis/apps/v1/namespaces/{namespace}/{kind}")


def _name(item: dict[str, Any]) -> str:
    return str(item["name"])


def _kubeadm_config(api: Api, topology: str | None) -> dict[str, Any]:
    try:
        config_map = api.get(f"{_SYSTEM}/configmaps/kubeadm-config")
    except ApiError as error:
        if error.status != _NOT_FOUND:
            raise
        return {}
    text = (config_map.get("data") or {}).get("ClusterConfiguration") or ""
    return parse_cluster_configuration(text) if text else {"topology": topology}


def parse_cluster_configuration(text: str) -> dict[str, Any]:
    """Read a few values of a ClusterConfiguration without a YAML parser: kubeadm itself wrote the layout."""
    version = _line(text, "kubernetesVersion")
    external = re.search(r"^etcd:\n(?:[ ]+.*\n)*?[ ]+external:", text, re.MULTILINE)
    return {
        "kubeadm_version": version.lstrip("v") if version else None,
        "endpoint": _line(text, "controlPlaneEndpoint"),
        "networking": {
            "pod_subnet": _line(text, "podSubnet", "networking"),
            "service_subnet": _line(text, "serviceSubnet", "networking"),
            "dns_domain": _line(text, "dnsDomain", "networking"),
        },
        "topology": "external" if external else "stacked",
    }


def _line(text: str, key: str, block: str = "") -> str | None:
    """Return the value of a key at the top, or one step below *block*."""
    before = rf"^{block}:\n(?:[ ]+.*\n)*?[ ]+" if block else "^"
    match = re.search(rf"{before}{key}:[ ]*[\"']?([^\s\"']+)", text, re.MULTILINE)
    return match.group(1) if match else None


def node_facts(node: dict[str, Any]) -> dict[str, Any]:
    """Reduce a Node to what is judged and shown. A condition that is Unknown is not met."""
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or []}
    ready = conditions.get("Ready") or {"status": "Unknown", "reason": "NeverReported"}
    addresses = status.get("addresses") or []
    return {
        "name": metadata["name"],
        "ready": ready["status"] == "True",
        "reason": None if ready["status"] == "True" else ready.get("message") or ready.get("reason"),
        "control_plane": _CONTROL_PLANE_LABEL in (metadata.get("labels") or {}),
        "schedulable": not spec.get("unschedulable", False),
        "cordoned_by_us": is_our_cordon(node),
        "deleting": bool(metadata.get("deletionTimestamp")),
        "pressure": [kind for kind in _PRESSURES if conditions.get(kind, {}).get("status") == "True"],
        "kubelet_version": ((status.get("nodeInfo") or {}).get("kubeletVersion") or "").lstrip("v"),
        "addresses": [item["address"] for item in addresses],
        "internal_ip": next((item["address"] for item in addresses if item["type"] == "InternalIP"), None),
        "taints": [_taint(taint) for taint in spec.get("taints") or []],
    }


def _taint(taint: dict[str, Any]) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def control_plane_facts(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reduce the static pods of the control plane, sorted by node and component."""
    facts = []
    for pod in pods:
        component = (pod["metadata"].get("labels") or {}).get("component")
        if component not in COMPONENTS:
            continue
        status = pod.get("status") or {}
        conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
        containers = status.get("containerStatuses") or []
        facts.append(
            {
                "node": pod["spec"]["nodeName"],
                "component": component,
                "ready": status.get("phase") == "Running" and conditions.get("Ready") == "True",
                "version": image_version(pod["spec"]["containers"][0]["image"]),
                "restarts": sum(item.get("restartCount", 0) for item in containers),
                "message": _trouble(status, containers),
            }
        )
    return sorted(facts, key=lambda pod: (pod["node"], COMPONENTS.index(pod["component"])))


def _trouble(status: dict[str, Any], containers: list[dict[str, Any]]) -> str | None:
    """Return why a container of the pod does not run, as the kubelet says it."""
    for container in containers:
        state = container.get("state") or {}
        stopped = state.get("waiting") or state.get("terminated")
        if stopped:
            return (
                ": ".join(filter(None, [stopped.get("reason"), stopped.get("message")])) or "it does not run"
            )
    return status.get("message") or status.get("reason")


def image_version(image: str) -> str | None:
    """Return the tag of an image without a leading v; None where there is only a digest."""
    name, colon, tag = image.partition("@")[0].rpartition(":")
    # The colon of a registry's port is followed by a path.
    return (tag[1:] if tag.startswith("v") else tag) if colon and name and "/" not in tag else None


def etcd_urls(pods: list[dict[str, Any]]) -> list[str]:
    """Return where the etcd members of a stacked cluster serve clients; kubeadm notes it on their pods."""
    urls = []
    for pod in pods:
        noted = (pod["metadata"].get("annotations") or {}).get(_ETCD_URLS_ANNOTATION) or ""
        urls += [url for url in noted.split(",") if url]
    return sorted(urls)


def workload_facts(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    """Reduce a DaemonSet or Deployment; ``current`` is false while a newer revision is being rolled out."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    if kind == "DaemonSet":
        desired, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
        by_hand = (spec.get("updateStrategy") or {}).get("type") == "OnDelete"
        updated = desired if by_hand else status.get("updatedNumberScheduled", 0)
    else:
        desired, ready = spec.get("replicas", 1), status.get("readyReplicas", 0)
        updated = status.get("updatedReplicas", 0)
    seen = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    return {
        "kind": kind,
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "desired": desired,
        "ready": ready,
        "current": seen and updated >= desired,
    }


def pending_requests(requests: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Return kubelet certificate requests that nobody has answered for two minutes, the oldest first."""
    pending = []
    for request in requests:
        metadata, spec = request["metadata"], request["spec"]
        age = int((now - _time(metadata["creationTimestamp"])).total_seconds())
        answered = (request.get("status") or {}).get("conditions")
        if spec.get("signerName") not in _SIGNERS or answered or age <= CSR_PATIENCE:
            continue
        user = spec.get("username") or ""
        pending.append(
            {
                "name": metadata["name"],
                "signer": spec["signerName"],
                "node": user[len(_NODE_USER) :] if user.startswith(_NODE_USER) else None,
                "age_seconds": age,
            }
        )
    return sorted(pending, key=lambda request: -request["age_seconds"])


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def observe_etcd(runner: Runner, access: EtcdAccess | None, urls: list[str], etcdctl: str) -> dict[str, Any]:
    """Ask etcd with the API server's own client certificate, through every endpoint that is known."""
    if access is None:
        return _etcd_facts(None, "This host has no API server, so it holds no client certificate of etcd")
    endpoints = list(dict.fromkeys([*access.endpoints, *(urls if access.local else [])]))
    client = EtcdCtl(runner, endpoints, access.cacert, access.cert, access.key, etcdctl)
    try:
        return _etcd_facts(client.observe(), None)
    except KubewrightError as error:
        return _etcd_facts(None, str(error))


def _etcd_facts(etcd: Etcd | None, error: str | None) -> dict[str, Any]:
    members = etcd.members if etcd else []
    votes = asdict(etcd.quorum) if etcd else {**asdict(quorum([])), "needed": 0}
    return {
        "members": [asdict(member) for member in members],
        **votes,
        "leader": etcd.leader if etcd else None,
        "alarms": [
            {"id": member.id, "name": member.name, "alarm": alarm}
            for member in members
            for alarm in member.alarms
        ]
        + [
            {"id": number, "name": "", "alarm": alarm}
            for number, raised in (etcd.stale_alarms.items() if etcd else ())
            for alarm in raised
        ],
        "error": error,
    }
