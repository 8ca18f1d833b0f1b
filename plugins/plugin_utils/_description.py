# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the description of a cluster: its groups, its hosts and their variables.

Pure functions. Each problem is one sentence: which variable, which value, why it is wrong, and what to do.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ansible.module_utils.common.validation import check_type_bool
from ansible_collections.kubewright.cluster.plugins.plugin_utils._values import (
    Hidden,
    Unresolved,
    address,
    fault,
    is_dns_name,
    nearest,
    network,
    shown,
)

# The label kubernetes.io/hostname takes the node's name, and a label's value has at most 63 characters.
_NODE_NAME_LIMIT = 63

# kube-controller-manager: what each node gets of the pod range, and the arguments that change it.
_NODE_MASKS = {4: 24, 6: 64}
_NODE_MASK_ARGUMENTS = ("node-cidr-mask-size", "node-cidr-mask-size-ipv{version}")
# kubeadm (ValidatePodSubnetNodeMask): more bits between the pod range and a node's part are refused.
_NODE_BITS = 16
# kubeadm (MinimumAddressesInServiceSubnet): DNS takes the tenth address.
_SERVICE_ADDRESSES = 10

# https://kubernetes.io/docs/reference/networking/ports-and-protocols, and the health ports of a control plane.
_TAKEN_PORTS = {
    2379: "etcd",
    2380: "etcd",
    2381: "etcd",
    10248: "the kubelet",
    10249: "kube-proxy",
    10250: "the kubelet",
    10256: "kube-proxy",
    10257: "the controller-manager",
    10259: "the scheduler",
}

_NAMED = 3


@dataclass(frozen=True)
class Description:
    """What a user wrote, and what our roles know.

    *settings* are the variables of ``kube_cluster`` with its defaults, as one host of the play sees them.
    *hosts* holds of each host of the cluster the variables that are set for it and begin with the name of one
    of our roles, and *connections* where Ansible finds it. *options* are the options of all our roles.
    """

    settings: Mapping[str, Any]
    groups: Mapping[str, Sequence[str]]
    hosts: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Mapping[str, Any]]
    supported_minors: Sequence[str]
    connections: Mapping[str, str] = field(default_factory=dict)

    def group(self, part: str) -> list[str]:
        """Return the hosts of one of our groups: control_plane, worker, etcd or load_balancer."""
        return list(self.groups.get(str(self.settings.get(f"kube_cluster_{part}_group")), []))

    @property
    def nodes(self) -> list[str]:
        """Return the hosts that become nodes, each once."""
        return list(dict.fromkeys(self.group("control_plane") + self.group("worker")))

    def text(self, name: str) -> str:
        """Return a setting as text, nothing where it is missing or cannot be worked out."""
        value = self.settings.get(name)
        return "" if value is None or isinstance(value, (Hidden, Unresolved)) else str(value)

    def number(self, name: str) -> int:
        """Return a setting as a whole number, 0 where it is none."""
        text = self.text(name)
        return int(text) if text.isdigit() else 0

    def flag(self, name: str) -> bool:
        """Return a setting as a boolean, false where it is none."""
        try:
            return bool(check_type_bool(self.settings.get(name) or False))
        except TypeError:
            return False

    def addresses(self, hosts: Iterable[str]) -> dict[str, str]:
        """Return the addresses of hosts, without those that have none."""
        found = {host: self.hosts.get(host, {}).get("kube_cluster_host_address") for host in hosts}
        return {host: str(address(value)) for host, value in found.items() if address(value)}


def problems(description: Description) -> list[str]:
    """Return one sentence for everything that must stop a run."""
    if not description.group("control_plane"):
        # Whose settings count is not known before there is a host.
        return [_no_control_plane(description)]
    checks = (
        _unknown_names,
        _missing,
        _values,
        _groups,
        _count,
        _node_names,
        _shared_addresses,
        _shared_connections,
        _version,
        _endpoint,
        _ports,
        _families,
        _ranges,
        _pod_range,
    )
    return list(chain.from_iterable(check(description) for check in checks))


def warnings(description: Description) -> list[str]:
    """Return one sentence for everything that works but is probably not meant."""
    part = "etcd" if description.group("etcd") else "control_plane"
    group = description.settings.get(f"kube_cluster_{part}_group")
    count = len(description.group(part))
    if not count or count % 2:
        return []
    survives = (count - 1) // 2
    less = f"as {count - 1} do" if survives else "a single one is less to lose"
    return [
        f"The group {group} has {count} hosts, an even number: etcd survives the loss of {survives} of "
        f"them, {less}. "
        "Add or remove one."
    ]


def _sentence(name: str, value: Any, why: str, remedy: str, where: str = "") -> str:
    return f"{name}{f' of {where}' if where else ''} is {shown(value)}, but {why}: {remedy}."


def _enumerate(hosts: Sequence[str]) -> str:
    """Name some hosts and count the rest."""
    named, rest = hosts[:_NAMED], len(hosts) - _NAMED
    if rest > 0:
        return f"{', '.join(named)} and {rest} more"
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _where(description: Description, hosts: Sequence[str]) -> str:
    """Name the hosts that have a value, unless all have it."""
    return "" if len(hosts) == len(description.hosts) else _enumerate(hosts)


def _no_control_plane(description: Description) -> str:
    group = description.text("kube_cluster_control_plane_group")
    guess = nearest(
        group, (name for name, hosts in description.groups.items() if hosts and name != "ungrouped")
    )
    meant = f" Perhaps {guess} is meant." if guess else ""
    return (
        f"kube_cluster_control_plane_group is {shown(group)}, but this group has no hosts: put the control "
        f"planes into it, "
        f"or name another group with -e kube_cluster_control_plane_group=NAME.{meant}"
    )


def _unknown_names(description: Description) -> Iterator[str]:
    """Find names with the prefix of a role that no role knows: most are misspelt."""
    accepted = description.settings.get("kube_cluster_accept_unknown_variables") or []
    found: dict[str, list[str]] = {}
    for host, values in description.hosts.items():
        for name in values:
            if name not in description.options and name not in accepted:
                found.setdefault(name, []).append(host)
    for name, hosts in found.items():
        guess = nearest(name, description.options)
        # The value is not shown: it may be a secret whose name is misspelt.
        yield (
            f"{name} is set for {_enumerate(hosts)}, but no role has a variable of that name: "
            + (f"write {guess} if that is meant, " if guess else "remove it, ")
            + "or list it in kube_cluster_accept_unknown_variables if it is yours."
        )


_REMEDIES = {
    "kube_cluster_host_address": "give each host the address that the others reach it by, for example the "
    "value of "
    "ansible_host",
    "kube_cluster_version": 'give a full version in quotes, for example "1.36.3"',
    "kube_cluster_network": "choose flannel, manifests or none",
    "kube_cluster_endpoint_address": "give a free address in the network of the hosts, which becomes the "
    "virtual IP",
}


def _missing(description: Description) -> Iterator[str]:
    for name, option in description.options.items():
        if option.get("required"):
            hosts = [host for host, values in description.hosts.items() if values.get(name) in (None, "")]
            place = f" for {_enumerate(hosts)}" if _where(description, hosts) else ""
            if hosts:
                yield f"{name} is not set{place}: {_REMEDIES.get(name, 'set it in group_vars/all.yml')}."


def _values(description: Description) -> Iterator[str]:
    """Check every value once, whatever the number of hosts that have it."""
    found: dict[tuple[str, Any], tuple[Any, list[str]]] = {}
    for host, values in description.hosts.items():
        for name, value in values.items():
            # Values of groups are the same object for all their hosts.
            key = (name, (type(value), value) if isinstance(value, (str, int, float)) else id(value))
            found.setdefault(key, (value, []))[1].append(host)
    for (name, _key), (value, hosts) in found.items():
        option = description.options.get(name)
        if option is None or value is None or (option.get("required") and value == ""):
            continue
        wrong = fault(name, value, option)
        if wrong:
            text = "a template" if isinstance(value, Unresolved) else value
            yield _sentence(name, text, wrong.why, _lower(wrong.remedy), _where(description, hosts))


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _groups(description: Description) -> Iterator[str]:
    names = {
        part: description.text(f"kube_cluster_{part}_group") for part in ("control_plane", "worker", "etcd")
    }
    workers = set(description.group("worker"))
    both = [host for host in description.group("control_plane") if host in workers]
    if both:
        yield (
            f"{_enumerate(both)} is in both groups {names['control_plane']} and {names['worker']}: take it "
            f"out of one. "
            "A control plane runs ordinary pods too once its taint is removed."
        )
    members = set(description.group("etcd"))
    for part in ("control_plane", "worker"):
        shared = [host for host in description.group(part) if host in members]
        if shared:
            yield (
                f"{_enumerate(shared)} is in both groups {names[part]} and {names['etcd']}: take it out of one. "
                "An etcd cluster of its own has hosts of its own; without any host in the group "
                f"{names['etcd']}, every control plane runs a member."
            )


def _count(description: Description) -> Iterator[str]:
    # With an etcd of its own a control plane has no vote, and two are better than one.
    hosts = [] if description.group("etcd") else description.group("control_plane")
    if len(hosts) == 2 and not description.flag("kube_cluster_accept_two_control_planes"):
        group = description.text("kube_cluster_control_plane_group")
        yield (
            f"The group {group} has 2 hosts, {_enumerate(hosts)}: when either is lost, etcd has no majority "
            f"and the "
            "cluster stops, so that two are worse than one. Take 1 or 3, or set "
            "kube_cluster_accept_two_control_planes "
            "to true, for example while the third is on its way."
        )


def _node_names(description: Description) -> Iterator[str]:
    owners: dict[str, list[str]] = {}
    for host in description.nodes:
        name = description.hosts.get(host, {}).get("kube_cluster_node_name", host.lower())
        if isinstance(name, (Hidden, Unresolved)):
            continue
        owners.setdefault(str(name), []).append(host)
        if not is_dns_name(name) or len(name) > _NODE_NAME_LIMIT:
            yield _sentence(
                "kube_cluster_node_name",
                name,
                f"a node's name has at most {_NODE_NAME_LIMIT} lower case letters, digits, dashes and dots, "
                f"and begins "
                "and ends with a letter or digit (RFC 1123)",
                "rename the host in the inventory, or set kube_cluster_node_name for it",
                host,
            )
    for name, hosts in owners.items():
        if len(hosts) > 1:
            yield _sentence(
                "kube_cluster_node_name",
                name,
                "every node needs a name of its own",
                "correct one of them",
                _enumerate(hosts),
            )


def _shared_addresses(description: Description) -> Iterator[str]:
    owners: dict[str, list[str]] = {}
    for host, value in description.addresses(description.hosts).items():
        owners.setdefault(value, []).append(host)
    for value, hosts in owners.items():
        if len(hosts) > 1:
            yield _sentence(
                "kube_cluster_host_address",
                value,
                "every host needs an address of its own",
                "correct one of them",
                _enumerate(hosts),
            )


def _shared_connections(description: Description) -> Iterator[str]:
    """Find one machine under two names, where the addresses in the cluster do not already tell."""
    told = description.addresses(description.hosts)
    owners: dict[str, list[str]] = {}
    for host, place in description.connections.items():
        owners.setdefault(place, []).append(host)
    for place, hosts in owners.items():
        if len(hosts) > 1 and len({told.get(host, host) for host in hosts}) == len(hosts):
            yield _sentence(
                "ansible_host",
                place,
                "every host is a machine of its own",
                "correct one of them",
                _enumerate(hosts),
            )


def _version(description: Description) -> Iterator[str]:
    found = re.fullmatch(r"(\d+\.\d+)\.\d+", description.text("kube_cluster_version"))
    if found and found.group(1) not in description.supported_minors:
        minors = ", ".join(description.supported_minors)
        yield _sentence(
            "kube_cluster_version",
            found.group(),
            f"only the minors {minors} are supported",
            "choose a version of one of them",
        )


def _endpoint(description: Description) -> Iterator[str]:
    name = "kube_cluster_endpoint_address"
    value = description.text(name)
    mode = description.text("kube_cluster_load_balancer")
    found = address(value)
    if not value or mode not in ("haproxy", "external"):
        return
    if mode == "haproxy" and (not found or found.version == 6):
        yield _sentence(
            name,
            value,
            "with kube_cluster_load_balancer haproxy it becomes a virtual IP",
            "give a free IPv4 address in the network of the hosts",
        )
    elif not found and not is_dns_name(value.lower()):
        yield _sentence(
            name, value, "that is neither an IP address nor a DNS name", "give one, without scheme and port"
        )
    # An external load balancer may be one of the hosts that only carry one, and a single control plane needs none.
    hosts = (
        description.nodes
        + description.group("etcd")
        + (description.group("load_balancer") if mode == "haproxy" else [])
    )
    alone = mode == "external" and len(description.group("control_plane")) == 1
    owners = [host for host, own in description.addresses(hosts).items() if found and own == str(found)]
    if owners and not (alone and owners == description.group("control_plane")):
        yield _sentence(
            name, value, f"that is the own address of {_enumerate(owners)}", "give one that no host has"
        )


def _ports(description: Description) -> Iterator[str]:
    api = description.number("kube_cluster_api_port")
    endpoint = description.number("kube_cluster_endpoint_port")
    built = description.text("kube_cluster_load_balancer") == "haproxy"
    dedicated = set(description.group("load_balancer"))
    shared = [host for host in description.group("control_plane") if not dedicated or host in dedicated]
    if api in _TAKEN_PORTS:
        yield _sentence("kube_cluster_api_port", api, f"{_TAKEN_PORTS[api]} needs that port", "give another")
    if built and shared:
        if endpoint in _TAKEN_PORTS:
            yield _sentence(
                "kube_cluster_endpoint_port",
                endpoint,
                f"{_TAKEN_PORTS[endpoint]} needs that port",
                "give another",
            )
        if endpoint and endpoint == api:
            yield _sentence(
                "kube_cluster_endpoint_port",
                endpoint,
                "kube_cluster_api_port is the same, and the load balancer runs on the control planes",
                "give the endpoint another port, for example 8443",
            )


def _families(description: Description) -> Iterator[str]:
    """Refuse IPv6, alone or mixed: the pod network is built and tested with IPv4 only."""
    names = ("kube_cluster_pod_cidr", "kube_cluster_service_cidr")
    found = {name: ranged.version for name in names if (ranged := network(description.settings.get(name)))}
    hosts: dict[int, list[str]] = {}
    for host, value in description.addresses(description.hosts).items():
        hosts.setdefault(ipaddress.ip_address(value).version, []).append(host)
    versions = set(found.values()) | set(hosts)
    if 6 in versions:
        parts = [
            f"{name} {shown(description.settings[name])} is IPv{version}" for name, version in found.items()
        ]
        parts += [f"the address of {_enumerate(owners)} is IPv{version}" for version, owners in hosts.items()]
        yield f"{', '.join(parts)}, but only IPv4 clusters are built: use IPv4 for all."


def _ranges(description: Description) -> Iterator[str]:
    """Find ranges and addresses that lie in each other.

    A service range that covers the hosts' addresses makes kube-proxy drop what the hosts send to each other, and
    a pod range that does sends it into the pod network.
    """
    names = ("kube_cluster_pod_cidr", "kube_cluster_service_cidr")
    ranges = {name: ranged for name in names if (ranged := network(description.settings.get(name)))}
    if len(ranges) == len(names):
        pods, services = ranges.values()
        if pods.overlaps(services):
            yield _sentence(
                names[0], pods, f"it overlaps {names[1]} {services}", "choose ranges that do not overlap"
            )
    addresses = {
        host: ipaddress.ip_address(value) for host, value in description.addresses(description.hosts).items()
    }
    endpoint = address(description.text("kube_cluster_endpoint_address"))
    for name, ranged in ranges.items():
        covered = [host for host, found in addresses.items() if found in ranged]
        if covered:
            yield _sentence(
                name,
                ranged,
                f"it covers the address of {_enumerate(covered)} ({addresses[covered[0]]})",
                "choose a range that no host is in",
            )
        if endpoint and endpoint in ranged:
            yield _sentence(
                name,
                ranged,
                f"it covers kube_cluster_endpoint_address {endpoint}",
                "choose a range that the endpoint is not in",
            )


def _node_mask(description: Description, version: int) -> int:
    """Return how many bits of the pod range name a node, as the controller managers are told."""
    for host in description.group("control_plane"):
        arguments = description.hosts.get(host, {}).get("kube_control_plane_controller_manager_extra_args")
        if isinstance(arguments, Mapping):
            given = (str(arguments.get(name.format(version=version), "")) for name in _NODE_MASK_ARGUMENTS)
            for text in given:
                if text.isdigit():
                    return int(text)
    return _NODE_MASKS[version]


def _pod_range(description: Description) -> Iterator[str]:
    services = network(description.settings.get("kube_cluster_service_cidr"))
    if services and services.num_addresses < _SERVICE_ADDRESSES:
        yield _sentence(
            "kube_cluster_service_cidr",
            services,
            f"it has {services.num_addresses} addresses, and kubeadm needs {_SERVICE_ADDRESSES} or more",
            "choose a larger range",
        )
    pods = network(description.settings.get("kube_cluster_pod_cidr"))
    # A pod network of the user's own may share the range out in another way.
    if not pods or description.text("kube_cluster_network") != "flannel":
        return
    mask = _node_mask(description, pods.version)
    parts = 2 ** (mask - pods.prefixlen) if pods.prefixlen <= mask else 0
    count = len(description.nodes)
    if parts < count:
        yield _sentence(
            "kube_cluster_pod_cidr",
            pods,
            f"each node gets a /{mask} of it, which is enough for {parts} nodes, and there are {count}",
            "choose a larger range for a new cluster, or a larger node-cidr-mask-size in "
            "kube_control_plane_controller_manager_extra_args",
        )
    elif mask - pods.prefixlen > _NODE_BITS:
        yield _sentence(
            "kube_cluster_pod_cidr",
            pods,
            f"kubeadm refuses more than {_NODE_BITS} bits between it and the /{mask} of a node",
            f"choose a /{mask - _NODE_BITS} or smaller",
        )
