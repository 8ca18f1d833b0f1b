# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what makes a host a node: nothing, kubeadm, the rest of a kubeadm that was cut off, or a refusal.

Three rules, and nothing here breaks them:

* A host is reset only when it provably is neither a member of etcd nor a node of the cluster: the living
  cluster says so, or, for a host that was to start a cluster, nothing was ever stored on it. The cluster knows
  a host by its name and its address, and both may have been corrected since. So a host that was to join and
  has the data of a member is not reset: kubeadm adds the member before etcd stores anything.
* A host that is a member or a node already is finished with the phases of kubeadm that remain. They may be
  repeated: kubeadm takes a member that it finds under the host's peer URL for its own (addMember in
  cmd/kubeadm/app/util/etcd/etcd.go), and what it writes, it writes again.
* Whatever is neither is refused, with what was found and what to do.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._half_done import Began
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import (
    KUBELET_CLIENT,
    KUBELET_CONF,
)

# kubeadm's own port for etcd peers; it cannot be changed.
PEER_PORT = 2380

_MADE_BY = {"seed": "control_plane"}


@dataclass(frozen=True)
class Host:
    """What the host's own files say. ``state`` and ``evidence`` are those of `kubeadm_state`.

    ``valuables`` are the files that a reset would delete and nothing brings back. ``external_store`` is true where an
    API server of this host may have stored something in an etcd of its own.
    """

    state: str
    evidence: Sequence[str] = ()
    began: Began | None = None
    etcd_data: bool = False
    name: str = ""
    address: str = ""
    valuables: Sequence[str] = ()
    external_store: bool = False

    @property
    def half_done(self) -> bool:
        return self.began is not None or self.state == "incomplete"

    @property
    def registered(self) -> bool:
        """Whether its kubelet got a certificate, without which no kubelet registers a node."""
        return KUBELET_CONF in self.evidence and KUBELET_CLIENT in self.evidence

    @property
    def peer_url(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"https://{host}:{PEER_PORT}"


@dataclass(frozen=True)
class Cluster:
    """What the living cluster says of this host; `known` is false where its members could not be read."""

    node: Mapping[str, Any] | None
    member: Mapping[str, Any] | None
    known: bool = True
    voters: int = 0
    healthy: int = 0
    needed: int = 0


@dataclass(frozen=True)
class NodePlan:
    """``action`` is a subcommand of kubeadm, or empty.

    With ``reset`` the remains are taken away first. ``skip`` are the phases that are not repeated, and
    ``start_kubelet`` says that kubeadm will not start it.
    """

    action: str
    reason: str
    reset: bool = False
    skip: tuple[str, ...] = ()
    start_kubelet: bool = False


def read_cluster(facts: Mapping[str, Any] | None, host: Host) -> Cluster | None:
    """Pick from what cluster_info returned what concerns this host; None where no cluster answers."""
    if not facts:
        return None
    etcd = facts.get("etcd") or {}
    members = etcd.get("members") or []
    here = [one for one in members if host.peer_url in one["peer_urls"]]
    # kubeadm names a member like its node. One that never ran has no name yet.
    named = [one for one in members if host.name and one["name"] == host.name]
    return Cluster(
        node=next((node for node in facts.get("nodes") or [] if node["name"] == host.name), None),
        member=next(iter(here + named), None),
        known=bool(members) and not etcd.get("error"),
        voters=etcd.get("voters", 0),
        healthy=etcd.get("healthy", 0),
        needed=etcd.get("needed", 0),
    )


def plan_node(wanted: str, host: Host, cluster: Cluster | None) -> NodePlan:
    """Decide; *wanted* is C(seed), C(control_plane) or C(worker).

    Without *cluster* a host that has to ask it is given the benefit of the doubt: the decision is for later.
    """
    if host.began and host.began.role == "reset":
        raise KubewrightError(
            "This host was being reset, and that has not come to its end",
            remedy="Run the playbook remove_node.yml for it again, or reset.yml with --limit, then this one",
        )
    if wanted == "seed":
        return _plan_seed(host)
    if host.began and host.began.role == "seed" and wanted == "control_plane":
        return _plan_unfinished_seed(host, cluster)
    role = wanted.replace("_", " ")
    if host.began:
        return _plan_resume(wanted, host, host.began, cluster)
    if host.state == wanted:
        return NodePlan("", f"this host is already a {role}")
    if host.state == "none":
        _refuse_taken(host, cluster)
        return NodePlan("join", f"this host is to be a {role}")
    if host.state != "incomplete":
        raise KubewrightError(
            f"This host is a {host.state.replace('_', ' ')}, not a {role}",
            remedy="kubeadm cannot change a node's role: remove the node and reset the host first, or put it "
            "into the other inventory group",
        )
    return _plan_foreign(host, cluster)


def _plan_seed(host: Host) -> NodePlan:
    if host.began and host.began.role == "seed":
        if host.etcd_data or host.external_store or host.began.own_authorities:
            return NodePlan(
                "init", "kubeadm init was interrupted; its phases are run again", skip=("preflight",)
            )
        reason = "kubeadm init was interrupted before etcd stored anything; it begins again"
        return NodePlan("init", reason, reset=bool(host.evidence))
    if host.state == "none" and not host.began:
        return NodePlan("init", "no cluster exists")
    if host.began or host.state == "incomplete":
        raise KubewrightError(
            "kubeadm was interrupted on this host, and no cluster answers that could be asked about it",
            why=_found(host, None),
            remedy="Bring the cluster back that it was to join. If there is none any more, reset it with the "
            "playbook reset.yml and --limit, then run again",
        )
    raise KubewrightError(
        "This host already belongs to a cluster, so it cannot start a new one",
        why=_found(host, None),
        remedy="Find out why its API server does not answer, or reset it with the playbook reset.yml",
    )


def _plan_unfinished_seed(host: Host, cluster: Cluster | None) -> NodePlan:
    """Tell whether the cluster that answers is the one that this host was starting."""
    if cluster:
        _refuse_moved(host, cluster)
    if cluster is None or cluster.member or host.external_store or (cluster.node and host.registered):
        return _plan_seed(host)
    _need_members(host, cluster)
    return _join_again(
        host, cluster, "kubeadm init was interrupted here, and another host has started the cluster"
    )


def _plan_resume(wanted: str, host: Host, note: Began, cluster: Cluster | None) -> NodePlan:
    """Go on where a kubeadm join of this collection was cut off."""
    if cluster is None:
        return NodePlan("join", "kubeadm was interrupted here; the cluster will be asked how to go on")
    _need_members(host, cluster)
    _refuse_taken(host, cluster)
    node = cluster.node if host.registered else None
    if not node and not cluster.member:
        return _join_again(
            host, cluster, "kubeadm was interrupted here before the host was a member or a node"
        )
    began = _MADE_BY.get(note.role, note.role)
    if began != wanted or (wanted == "worker" and cluster.member):
        raise _refusal(
            f"kubeadm was interrupted on this host while it became a {began.replace('_', ' ')}, but it is to be "
            f"a {wanted.replace('_', ' ')}",
            host,
            cluster,
            "Put it back into its group and run again, or remove its node and its member, reset it with the "
            "playbook reset.yml and --limit, and run again",
        )
    if wanted == "control_plane" and host.etcd_data and not cluster.member:
        raise _refusal(
            "This host is a node with the data of an etcd member that was removed",
            host,
            cluster,
            f"Delete the node {host.name}, reset the host with the playbook reset.yml and --limit, and run again",
        )
    skip = ["preflight"]
    if wanted == "control_plane":
        # It asks every endpoint, and the member of this host may be one that does not run yet.
        skip.append("check-etcd")
    if node:
        # It would refuse the node that this host is.
        skip.append("kubelet-start")
    if cluster.member and cluster.member["healthy"] and not cluster.member["is_learner"]:
        skip.append("etcd-join")
    return NodePlan(
        "join",
        "kubeadm was interrupted here; the phases that remain are run",
        skip=tuple(skip),
        start_kubelet=bool(node),
    )


def _join_again(host: Host, cluster: Cluster, reason: str) -> NodePlan:
    if host.began and host.began.own_authorities and host.evidence:
        raise _refusal(
            "kubeadm was interrupted on this host, which had certificate authorities of its own before",
            host,
            cluster,
            "Save what you need of /etc/kubernetes/pki, reset the host with the playbook reset.yml and --limit, "
            "and run again",
        )
    if host.began and host.began.role != "seed" and host.etcd_data:
        raise _refusal(
            "This host has the data of an etcd member, and the cluster has no member of its name or address",
            host,
            cluster,
            "If its name or its address was corrected after the join began, set it back and run again. Otherwise "
            "make sure that no member of etcd is this host, reset it with the playbook reset.yml and --limit, and "
            "run again",
        )
    return NodePlan("join", reason, reset=bool(host.evidence))


def _plan_foreign(host: Host, cluster: Cluster | None) -> NodePlan:
    """Judge remains that nobody left a note of: somebody ran kubeadm by hand, or a reset did not finish."""
    if cluster is None and not host.registered and not host.etcd_data:
        return NodePlan("join", "kubeadm was interrupted here; the cluster will be asked how to go on")
    if (
        host.registered
        or host.etcd_data
        or cluster is None
        or cluster.node
        or cluster.member
        or not cluster.known
    ):
        raise _refusal(
            "kubeadm was interrupted on this host",
            host,
            cluster,
            "If it is neither a node nor an etcd member of a cluster that is needed, reset it with the "
            "playbook reset.yml and --limit, then run again",
        )
    if host.valuables:
        raise _refusal(
            "There are remains of a kubeadm on this host, and nothing tells whose these files are: "
            + ", ".join(host.valuables),
            host,
            cluster,
            "Save what you need of them, reset the host with the playbook reset.yml and --limit, and run again",
        )
    return NodePlan("join", "kubeadm was interrupted here before the host was anything", reset=True)


def _need_members(host: Host, cluster: Cluster) -> None:
    if not cluster.known:
        raise _refusal(
            "kubeadm was interrupted on this host, and the members of etcd cannot be read",
            host,
            cluster,
            "Bring etcd back, then run again",
        )


def _refuse_taken(host: Host, cluster: Cluster | None) -> None:
    """Refuse a name or a membership that belongs to another life of this host, or to another host."""
    if cluster is None:
        return
    node, member = cluster.node, cluster.member
    if node and host.address and node["addresses"] and host.address not in node["addresses"]:
        raise _refusal(
            f"The node name {host.name} is taken by another host",
            host,
            cluster,
            "Give this host another kube_cluster_node_name, or delete the node if its host is gone. If it is this "
            "host with another kube_cluster_host_address, set the address back",
        )
    _refuse_moved(host, cluster)
    if member and member["name"] and not host.etcd_data:
        raise _refusal(
            "An etcd member with the address of this host has run before, and its data is not here",
            host,
            cluster,
            f"{_votes(cluster)}. If the data is lost for good, run on a living control plane: etcdctl member "
            f"remove {member['id']}. Then run again",
        )


def _refuse_moved(host: Host, cluster: Cluster) -> None:
    """Refuse a member with the name of this host that has another address: a join would add a second one."""
    member = cluster.member
    if not member or not host.address or host.peer_url in member["peer_urls"]:
        return
    raise _refusal(
        f"etcd has a member named {host.name}, but with another address than this host",
        host,
        cluster,
        f"If it is this host, set kube_cluster_host_address back and run again, or remove the member and reset "
        f"the host with the playbook reset.yml and --limit. If it is a host that is gone, remove the member. "
        f"{_votes(cluster)}. On another control plane, when the votes allow it: etcdctl member remove "
        f"{member['id']}. If it is another host that lives, give this one another kube_cluster_node_name",
    )


def _votes(cluster: Cluster) -> str:
    spare = cluster.healthy - cluster.needed
    return f"{cluster.healthy} of {cluster.voters} voters are healthy, {cluster.needed} are needed" + (
        f", so {spare} more may fail" if spare > 0 else ""
    )


def _refusal(what: str, host: Host, cluster: Cluster | None, remedy: str) -> KubewrightError:
    return KubewrightError(what, why=_found(host, cluster), remedy=remedy)


def _found(host: Host, cluster: Cluster | None) -> str:
    """Return the part of a refusal that tells what is on the host and what the cluster says of it."""
    found = ["found " + ", ".join(host.evidence) if host.evidence else "found no files of kubeadm"]
    if host.began:
        found.append(f"the note of a kubeadm that was to make it a {host.began.role.replace('_', ' ')}")
    if cluster:
        node, member = cluster.node, cluster.member
        ready = "ready" if node and node["ready"] else "not ready"
        where = ", ".join(node["addresses"]) if node else ""
        found.append(f"node {host.name} ({ready}, {where})" if node else "no node of that name")
        if not cluster.known:
            found.append("the list of etcd members cannot be read")
        elif member:
            kind = "learner" if member["is_learner"] else "voter"
            life = f"named {member['name']}" if member["name"] else "never started"
            found.append(f"etcd member {member['id']} ({kind}, {life}, {', '.join(member['peer_urls'])})")
        else:
            found.append(f"no etcd member of that name or at {host.peer_url}")
    return ", ".join(found)
