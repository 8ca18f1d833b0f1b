# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what the hosts that are to be removed from a cluster are, and whether they may go: a pure function.

A host is known in three places: the inventory (which may have forgotten it), the nodes and the members of etcd. A
name or an address that leads to two different ones is refused, so that no way of naming a host leads around a
safeguard.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kubewright.cluster.plugins.module_utils import _quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Member

_MEMBER_KEYS = {one.name for one in fields(Member)}


@dataclass(frozen=True)
class Host:
    """A host of the inventory. ``authority`` identifies the cluster whose files are on it, where it was looked at.

    ``remains`` says that Kubernetes' files, or data of etcd, are on it.
    """

    name: str
    node: str
    address: str = ""
    control_plane: bool = False
    reachable: bool = False
    remains: bool = False
    authority: str = ""


@dataclass(frozen=True)
class Target:
    """One host to be removed. ``host``, ``node`` and ``member`` are empty where it is not known there.

    ``drain`` is C(evict) for a node whose kubelet works, C(delete) for one that nothing confirms pods for, and empty
    without a node.
    """

    name: str
    host: str = ""
    node: str = ""
    control_plane: bool = False
    reachable: bool = False
    ready: bool = False
    drain: str = ""
    member: str = ""
    peer_urls: Sequence[str] = ()
    clean: bool = False
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def gone(self) -> bool:
        return not (self.node or self.member or self.clean)

    @property
    def settled(self) -> bool:
        """Whether the node tells the truth: a host that has just lost its power, or its disk, is still called ready."""
        return self.clean or not self.ready


@dataclass
class Removal:
    """The targets in the order in which they go, what forbids it, and what will be done, for people."""

    targets: list[Target] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def returned(self) -> dict[str, Any]:
        return {
            "targets": [{**asdict(one), "gone": one.gone, "settled": one.settled} for one in self.targets],
            "problems": self.problems,
            "lines": self.lines,
        }


def plan(
    names: Sequence[str],
    hosts: Sequence[Host],
    cluster: Mapping[str, Any],
    *,
    authority: str = "",
    accept_running: bool = False,
) -> Removal:
    """Plan the removal of the hosts with these names from a cluster that was just looked at.

    *cluster* is what cluster_info says, *authority* identifies it. With *accept_running* a host that works and that
    Ansible does not reach may be removed, and goes on running.
    """
    if not cluster.get("answers"):
        # A look without an answer must never pass for a cluster without nodes.
        why = cluster.get("error") or "no control plane was asked"
        return Removal(
            problems=[f"The cluster does not answer, so that nothing can be removed from it: {why}"]
        )
    etcd = cluster.get("etcd") or {}
    stacked = cluster.get("topology") != "external"
    if stacked and (etcd.get("error") or not etcd.get("members")):
        why = etcd.get("error") or "none are named"
        return Removal(problems=[f"The members of etcd cannot be read: {why}"])
    members = [_member(one) for one in etcd.get("members") or []] if stacked else []
    found: dict[tuple[str, str, str], Target] = {}
    for name in dict.fromkeys(names):
        target = _target(name, hosts, cluster["nodes"], members, authority, accept_running)
        # Two names of one host are one host.
        key = (target.host, target.node, target.member)
        found.setdefault(key if any(key) else (name, "", ""), target)
    targets = sorted(found.values(), key=lambda one: _turn(one, members))
    problems = [problem for one in targets for problem in one.problems]
    if not problems:
        problems = _last_control_plane(targets, cluster) + _votes(targets, members)
    return Removal(targets, problems, [line for one in targets for line in _lines(one, cluster["nodes"])])


def _member(facts: Mapping[str, Any]) -> Member:
    return Member(**{key: value for key, value in facts.items() if key in _MEMBER_KEYS})


def _peers(member: Member) -> set[str]:
    return {urlsplit(url).hostname or "" for url in member.peer_urls}


def _turn(target: Target, members: Iterable[Member]) -> tuple[int, str]:
    """Workers, then control planes without a healthy vote, then the others, and the leader last."""
    member = next((one for one in members if one.id == target.member), None)
    if not target.control_plane:
        return 0, target.name
    if member is None or not member.healthy:
        return 1, target.name
    return (3 if member.is_leader else 2), target.name


def _target(
    name: str,
    hosts: Sequence[Host],
    nodes: Sequence[Mapping[str, Any]],
    members: Sequence[Member],
    authority: str,
    accept_running: bool,
) -> Target:
    some_hosts = [one for one in hosts if name in (one.name, one.node, one.address)]
    names = {name, *(one.node for one in some_hosts)}
    # A name decides, an address only where no name does: a host that was made anew has the name of the dead one.
    some_nodes = [one for one in nodes if one["name"] in names]
    if not some_nodes:
        addresses = {name, *(one.address for one in some_hosts)} - {""}
        some_nodes = [one for one in nodes if addresses & set(one["addresses"])]
    if not some_hosts:
        some_hosts = [
            one for one in hosts for node in some_nodes if node["name"] == one.node or _is_at(one, node)
        ]
    elsewhere = [one for one in nodes for host in some_hosts if _is_at(host, one) and one not in some_nodes]
    if len({one.name for one in some_hosts}) > 1 or len(some_nodes) > 1 or (some_nodes and elsewhere):
        known = [f"host {one.name}" for one in some_hosts]
        known += [f"node {one['name']}" for one in [*some_nodes, *elsewhere]]
        return Target(name, problems=[f"{name} is not one host: it leads to {', '.join(known)}"])
    host = some_hosts[0] if some_hosts else None
    node = some_nodes[0] if some_nodes else None
    return _describe(name, host, node, nodes, hosts, members, authority, accept_running)


def _is_at(host: Host, node: Mapping[str, Any]) -> bool:
    return bool(host.address) and host.address in node["addresses"]


def _describe(
    name: str,
    host: Host | None,
    node: Mapping[str, Any] | None,
    nodes: Sequence[Mapping[str, Any]],
    hosts: Sequence[Host],
    members: Sequence[Member],
    authority: str,
    accept_running: bool,
) -> Target:
    problems: list[str] = []
    notes: list[str] = []
    addresses = set(node["addresses"]) if node else {name, *([host.address] if host else [])} - {""}
    title = node["name"] if node else host.node if host else name
    at = [one for one in members if addresses & _peers(one)]
    if not at:
        # kubeadm names a member like its node. A name alone counts only where the address is nobody else's.
        others = {each for one in nodes if one is not node for each in one["addresses"]}
        others |= {one.address for one in hosts if one is not host}
        at = [one for one in members if one.name == title]
        if any(_peers(one) & others for one in at):
            problems.append(f"The etcd member named {title} is at the address of another host")
    if len(at) > 1:
        known = ", ".join(f"{one.id} ({','.join(one.peer_urls)})" for one in at)
        problems.append(f"{name} has {len(at)} members of etcd: {known}")
    member = at[0] if at else None
    same = host is not None and (node is None or not host.address or _is_at(host, node))
    reachable = host is not None and host.reachable and same
    ready = bool(node and node["ready"])
    if host and not same and node:
        notes.append(
            f"the host {host.name} of the inventory is at {host.address}, not at "
            f"{node['internal_ip'] or ', '.join(node['addresses'])}, so that it is left alone"
        )
    if ready and not reachable and not accept_running:
        problems.append(_running(name, host, same))
    clean = reachable and bool(host and host.remains)
    if clean and host and authority and host.authority and host.authority != authority:
        problems.append(
            f"{host.name} has the files of another cluster: its certificate authority is another one"
        )
    return Target(
        name,
        host.name if host and same else "",
        node["name"] if node else "",
        bool((node and node["control_plane"]) or member or (host and host.control_plane)),
        reachable,
        ready,
        "" if node is None else "evict" if ready else "delete",
        member.id if member else "",
        tuple(member.peer_urls) if member else (),
        clean,
        tuple(problems),
        tuple(notes),
    )


def _running(name: str, host: Host | None, same: bool) -> str:
    why = "the inventory does not have it" if host is None or not same else "Ansible does not reach it"
    return (
        f"{name} works, because its kubelet says so, but {why}: it could not be cleaned, and would go on running. "
        "Put it into the inventory and make it reachable, or power it off, or set "
        "kube_removal_accept_running_host to true"
    )


def _last_control_plane(targets: Sequence[Target], cluster: Mapping[str, Any]) -> list[str]:
    leaving = {one.node for one in targets if one.control_plane}
    if not any(one.control_plane and not one.gone for one in targets):
        return []
    serving = {
        one["node"]
        for one in cluster["control_plane"]
        if one["component"] == "kube-apiserver" and one["ready"]
    }
    ready = {one["name"] for one in cluster["nodes"] if one["control_plane"] and one["ready"]}
    if serving & ready - leaving:
        return []
    return [
        "No control plane would be left that is ready and serves: "
        + ", ".join(sorted(one.name for one in targets if one.control_plane))
        + " cannot be removed. Add another one with site.yml first; to end the whole cluster, use reset.yml"
    ]


def _votes(targets: Sequence[Target], members: Sequence[Member]) -> list[str]:
    """Take the members away one after the other, as the run would."""
    left = list(members)
    for target in targets:
        member = next((one for one in left if one.id == target.member), None)
        if member is None:
            continue
        verdict = _quorum.may_remove(left, member)
        if not verdict.allowed:
            others = [one.name for one in targets if one.member and one is not target]
            along = f" along with {', '.join(others)}" if others else ""
            return [
                f"{target.name} cannot be removed{along}, because etcd would lose its quorum: {verdict.why}. "
                f"Members:\n{_quorum.table(left)}"
            ]
        left = [one for one in left if one.id != member.id]
    return []


def _lines(target: Target, nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what will be done with a target."""
    if target.problems:
        return []
    if target.gone:
        known = ", ".join(one["name"] for one in nodes)
        what = "is not in the inventory"
        if target.host:
            what = "has nothing of the cluster" if target.reachable else "is not reached"
        return [
            f"{target.name}: no node, no member of etcd, and it {what}. Nothing to do. The nodes are {known}."
        ]
    steps = []
    if target.control_plane:
        steps.append("taken out of the load balancers")
    if target.drain:
        steps.append(
            "drained" if target.drain == "evict" else "its pods deleted, because the node is not ready"
        )
    if target.member:
        steps.append(f"its etcd member {target.member} removed")
    if target.clean:
        steps.append("the host cleaned")
    elif not target.reachable:
        steps.append("the host left as it is, because it is not reached")
    if target.node:
        steps.append(f"the node {target.node} deleted")
    kind = "control plane" if target.control_plane else "worker"
    return [f"{target.name} ({kind}): {', '.join([*steps, *target.notes])}."]
