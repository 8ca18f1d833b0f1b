# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare what kubeadm would write with what is there, setting by setting. Pure functions.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

# The digest of the files that a static pod mounts: a pod is made anew when its manifest changes, and nothing
# else tells a component that the file behind one of its arguments has another content.
FILES_ANNOTATION = "kubewright.cluster/mounted-files"

# kubeadm writes these when a member is made, and etcd reads them then and never again.
_BIRTH_FLAGS = ("--initial-cluster=", "--initial-cluster-state=")

# What a living control plane cannot be moved to by a restart: the argument, where its value comes from, and
# what to do instead.
FIXED_ARGUMENTS = {
    ("etcd", "--data-dir"): (
        "kube_control_plane_etcd_extra_args",
        "etcd would start with an empty folder, which loses the member's data. Remove the argument again",
    ),
    ("etcd", "--name"): (
        "kube_cluster_node_name",
        "A member keeps its name. Name the host as it is called in the cluster, or remove it and join it again",
    ),
    ("etcd", "--initial-advertise-peer-urls"): (
        "kube_cluster_host_address",
        "Give the host its address back, or remove it from the cluster and join it again",
    ),
    ("kube-apiserver", "--advertise-address"): (
        "kube_cluster_host_address",
        "Give the host its address back, or remove it from the cluster and join it again",
    ),
    ("kube-apiserver", "--secure-port"): (
        "kube_cluster_api_port",
        "Every kubeconfig and load balancer names the port. Set the variable back",
    ),
    ("kube-apiserver", "--service-cluster-ip-range"): (
        "kube_cluster_service_cidr",
        "Services keep their addresses, so a range is added with a ServiceCIDR object. Set the variable back",
    ),
    ("kube-apiserver", "--etcd-servers"): (
        "the etcd group",
        "The API server would leave its data behind. Keep one member at least of those that it knows in the group",
    ),
    ("kube-apiserver", "--etcd-prefix"): (
        "kube_control_plane_api_server_extra_args",
        "The API server would find none of its objects. Set the argument back",
    ),
    ("kube-apiserver", "--service-account-issuer"): (
        "kube_control_plane_api_server_extra_args",
        "The tokens of every pod name the issuer and would be refused. Set the argument back",
    ),
    ("kube-apiserver", "--encryption-provider-config"): (
        "kube_control_plane_api_server_extra_args",
        "What is encrypted with the keys of that file could not be read any more. Set the argument back. To change "
        "keys, change the content of the file; to give it up, decrypt everything, take the argument out of the "
        "manifest on every control plane by hand, and out of the variable",
    ),
    ("kube-controller-manager", "--cluster-cidr"): (
        "kube_cluster_pod_cidr",
        "Nodes keep the ranges that they were given. Set the variable back",
    ),
    ("kube-controller-manager", "--service-cluster-ip-range"): (
        "kube_cluster_service_cidr",
        "Services keep their addresses. Set the variable back",
    ),
}

# The value of an argument that is not given, where setting it for the first time is a change like any other.
_DEFAULTS = {("kube-apiserver", "--etcd-prefix"): "/registry"}

# The role gives this file up only when it has no keys any more.
_GIVEN_UP = {("kube-apiserver", "--encryption-provider-config"): "/etc/kubernetes/kubewright/encryption.yaml"}

_ABSENT = "(absent)"
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True)
class Change:
    """One setting; None is: not there."""

    setting: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.setting}: {_shown(self.before)} -> {_shown(self.after)}"


@dataclass(frozen=True)
class Step:
    """What has to be done to one part of a host or of the cluster.

    *prove* is true where an earlier run replaced something and was stopped before it knew whether it works.
    """

    target: str
    changes: tuple[Change, ...]
    prove: bool = False


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return every setting of a document by its path. What is empty is not there.

    Arguments of a command are settings by their flag, and items that have a name are settings by their name,
    so that an order that means nothing is no difference.
    """
    if isinstance(value, Mapping):
        pairs = [(f"{path}.{key}" if path else str(key), one) for key, one in value.items()]
    elif isinstance(value, list) and value:
        pairs = _items(value, path)
    else:
        return {} if value in (None, [], {}) else {path: value}
    return {key: one for at, inner in pairs for key, one in flatten(inner, at).items()}


def _items(items: list[Any], path: str) -> list[tuple[str, Any]]:
    if all(isinstance(item, str) for item in items[1:]) and any(str(item).startswith("--") for item in items):
        flags: dict[str, list[str]] = {}
        for item in items:
            name, _equals, content = str(item).partition("=")
            flags.setdefault(name, []).append(content)
        return [(f"{path} {name}", ", ".join(contents) or "set") for name, contents in flags.items()]
    if not any(isinstance(item, (Mapping, list)) for item in items):
        return [(path, ", ".join(map(str, items)))]
    names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
    if all(names) and len(set(names)) == len(names):
        return [
            (f"{path}[{name}]", {key: one for key, one in item.items() if key != "name"} or "set")
            for name, item in zip(names, items)
        ]
    return [(f"{path}[{index}]", item) for index, item in enumerate(items)]


def compare(before: Any, after: Any) -> tuple[Change, ...]:
    """Return the settings that differ, sorted."""
    old, new = flatten(before), flatten(after)
    return tuple(
        Change(key, old.get(key), new.get(key))
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    )


def command(pod: Mapping[str, Any]) -> list[str]:
    """Return the command of a static pod's only container."""
    return list(pod["spec"]["containers"][0].get("command") or [])


def image(pod: Mapping[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def with_command(pod: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    container = {**pod["spec"]["containers"][0], "command": list(words)}
    return {**pod, "spec": {**pod["spec"], "containers": [container, *pod["spec"]["containers"][1:]]}}


def with_annotation(pod: Mapping[str, Any], name: str, value: str | None) -> dict[str, Any]:
    """Return the pod with the annotation, or without it for None."""
    metadata = dict(pod.get("metadata") or {})
    annotations = {key: one for key, one in (metadata.get("annotations") or {}).items() if key != name}
    if value is not None:
        annotations[name] = value
    metadata.pop("annotations", None)
    return {**pod, "metadata": {**metadata, **({"annotations": annotations} if annotations else {})}}


def annotation(pod: Mapping[str, Any], name: str) -> str | None:
    return ((pod.get("metadata") or {}).get("annotations") or {}).get(name)


def keep_birth_flags(rendered: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """Give a rendered etcd the cluster that its member was born into.

    kubeadm renders what C(init) would write, a cluster of one; a member that joined has the cluster of that day.
    """
    born = [word for word in command(live) if word.startswith(_BIRTH_FLAGS)]
    rest = [word for word in command(rendered) if not word.startswith(_BIRTH_FLAGS)]
    return with_command(rendered, [*rest[:1], *sorted([*rest[1:], *born])])


def refuse_fixed(component: str, changes: Iterable[Change]) -> None:
    """Stop where an argument is to change that a living cluster cannot change."""
    for change in changes:
        flag = change.setting.rpartition(" ")[2]
        argument = (component, flag)
        default = _DEFAULTS.get(argument)
        before, after = change.before or default, change.after or default
        if argument == ("kube-apiserver", "--etcd-servers") and _same_etcd(before, after):
            continue
        if argument in FIXED_ARGUMENTS and before not in (None, after, _GIVEN_UP.get(argument)):
            variable, remedy = FIXED_ARGUMENTS[argument]
            raise KubewrightError(
                f"{flag} of {component} cannot change on a living cluster",
                where=variable,
                why=f"it is {_shown(before)} on this host and is to be {_shown(after)}",
                remedy=f"{remedy}. No component of this host was changed",
            )


def _same_etcd(before: Any, after: Any) -> bool:
    """Tell whether two lists of endpoints have one in common: then they are those of one etcd that grew or shrank."""
    old, new = ({one for one in str(value or "").split(",") if one} for value in (before, after))
    return bool(old & new)


def api_server_names(cluster: Mapping[str, Any], node_name: str, address: str) -> set[str]:
    """Return the names and addresses that kubeadm puts into the API server's certificate.

    *cluster* is a complete ClusterConfiguration. The rule is kubeadm's (GetAPIServerAltNames in
    cmd/kubeadm/app/util/pkiutil/pki_helpers.go).
    """
    networking = cluster.get("networking") or {}
    names = {node_name, "kubernetes", "kubernetes.default", "kubernetes.default.svc", address}
    if networking.get("dnsDomain"):
        names.add(f"kubernetes.default.svc.{networking['dnsDomain']}")
    first = str(networking.get("serviceSubnet") or "").partition(",")[0]
    if first:
        names.add(str(ipaddress.ip_network(first, strict=False)[1]))
    endpoint = cluster.get("controlPlaneEndpoint")
    if endpoint:
        names.add(_host_of(str(endpoint)))
    names.update(map(str, (cluster.get("apiServer") or {}).get("certSANs") or []))
    return {_canonical(name) for name in names}


def _host_of(endpoint: str) -> str:
    bracketed = re.fullmatch(r"\[(.+)\](?::\d+)?", endpoint)
    if bracketed:
        return bracketed[1]
    return endpoint.rpartition(":")[0] if endpoint.count(":") == 1 else endpoint


def _canonical(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def compare_names(found: Iterable[str], wanted: Iterable[str]) -> tuple[Change, ...]:
    """Return which names a certificate lacks, and which it has without reason."""
    have, want = {_canonical(name) for name in found}, set(wanted)
    return tuple(
        Change(name, "named" if name in have else None, "named" if name in want else None)
        for name in sorted(have ^ want)
    )


def diff(steps: Iterable[Step]) -> list[dict[str, str]]:
    """Return the settings that change, before and after, for Ansible's --diff."""
    return [
        {
            "before_header": step.target,
            "after_header": step.target,
            "before": _lines((change.setting, change.before) for change in step.changes),
            "after": _lines((change.setting, change.after) for change in step.changes),
        }
        for step in steps
        if step.changes
    ]


def _lines(settings: Iterable[tuple[str, Any]]) -> str:
    return "".join(f"{name}: {_shown(value)}\n" for name, value in settings if value is not None)


def _shown(value: Any) -> str:
    """Return a value for people; an address can carry a password (a proxy's, for example)."""
    return _ABSENT if value is None else _USER_INFO.sub("********@", str(value))
