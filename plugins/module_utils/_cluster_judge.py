# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide from observed facts whether a cluster is healthy, and say why it is not.

Pure: facts as cluster_info returns them go in, reasons and notices come out. A reason is something that must
not be true before the next disruptive step; a notice is for a person.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# The order in which reasons are told: what breaks the whole cluster first.
_API, _ETCD, _MEMBER, _COMPONENT, _NODE, _SKEW, _HOST, _CERTIFICATE, _ADDON, _REQUEST = range(10)
_NOTICE = 100

# A certificate that has less left than this is no longer a mere notice (days).
_LAST_DAYS = 7
# Short-lived certificates are renewed by their owner late in their life: one that has less than this part of
# its life left was not renewed.
_LAST_PART = 0.1
_LATE_PART = 0.2

_REPLACE_MEMBER = "Look at the log of this etcd; if it does not come back, replace the member"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; ``rank`` orders findings and tells reasons from notices."""

    rank: int
    what: str
    where: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Expected:
    """What the inventory says; None where it says nothing."""

    nodes: list[str] | None = None
    control_plane: list[str] | None = None
    certificate_warning_days: int = 30


def judge(host: dict[str, Any] | None, cluster: dict[str, Any] | None, expected: Expected) -> dict[str, Any]:
    """Return ``healthy``, ``reasons`` (worst first) and ``notices``; a part that is None is not judged."""
    findings: list[Finding] = []
    if host:
        findings += _host(host)
        findings += _certificates(host, expected.certificate_warning_days)
    if cluster:
        findings += _etcd(cluster)
        if cluster["answers"]:
            findings += _nodes(cluster["nodes"])
            findings += _inventory(cluster["nodes"], expected)
            findings += _components(cluster)
            findings += _members_and_nodes(cluster)
            findings += [Finding(_SKEW, **problem) for problem in cluster["skew"]["problems"]]
            findings += _addons(cluster["addons"])
            findings += _requests(cluster)
        else:
            findings.append(
                Finding(
                    _API,
                    "The API server does not answer",
                    "API server",
                    cluster["error"],
                    "Look at the kubelet and the log of kube-apiserver on this host",
                )
            )
    findings.sort(key=lambda finding: (finding.rank, finding.where, finding.what))
    reasons = [_public(finding) for finding in findings if finding.rank < _NOTICE]
    notices = [_public(finding) for finding in findings if finding.rank >= _NOTICE]
    return {"healthy": not reasons, "reasons": reasons, "notices": notices}


def _public(finding: Finding) -> dict[str, str]:
    return {"what": finding.what, "where": finding.where, "why": finding.why, "remedy": finding.remedy}


def _host(host: dict[str, Any]) -> Iterator[Finding]:
    """A host that is no node yet has nothing to be judged by."""
    if host["kubeadm"] == "none":
        return
    name = host["hostname"]
    if host["interrupted"]:
        began = host["interrupted"].replace("_", " ")
        aim = "reset the host" if began == "reset" else f"make the host a {began}"
        yield Finding(
            _HOST,
            "kubeadm was interrupted on this host",
            name,
            f"it was to {aim}, and has not come to its end",
            "Run the playbook site.yml again: it goes on from there, or says what stands in the way",
        )
    elif host["kubeadm"] == "incomplete":
        yield Finding(
            _HOST,
            "kubeadm has not finished on this host",
            name,
            f"only a part of what it leaves behind exists: {', '.join(host['evidence'])}",
            "Run the playbook site.yml again: it goes on from there, or says what stands in the way",
        )
    for service, state in sorted(host["services"].items()):
        if not state["active"]:
            yield Finding(
                _HOST,
                f"{service} does not run",
                name,
                "its unit is not active",
                f"Read 'journalctl -u {service}', correct the cause and start it",
            )
        elif not state["enabled"]:
            yield Finding(
                _NOTICE + _HOST,
                f"{service} will not start with the host",
                name,
                "its unit is not enabled",
                f"Run 'systemctl enable {service}'",
            )
    if host["ntp_synchronized"] is False:
        yield Finding(
            _NOTICE + _HOST,
            "The clock is not synchronized",
            name,
            "the kernel does not know how far it is off",
            "Set up time synchronization, for example with chrony",
        )


def _certificates(host: dict[str, Any], warning_days: int) -> Iterator[Finding]:
    for certificate in host["certificates"]:
        where = f"{host['hostname']}: {certificate['path']}"
        if certificate["error"]:
            yield Finding(
                _NOTICE + _CERTIFICATE,
                "A certificate cannot be read",
                where,
                certificate["error"],
                "Restore the file or make it again",
            )
            continue
        left, life = certificate["days_left"], certificate["lifetime_days"]
        soon = warning_days if life > warning_days else life * _LATE_PART
        urgent = left <= min(_LAST_DAYS, life * _LAST_PART)
        if left > soon and not urgent:
            continue
        what = "A certificate has expired" if left <= 0 else "A certificate expires soon"
        yield Finding(
            _CERTIFICATE if urgent else _NOTICE + _CERTIFICATE,
            what,
            where,
            f"{certificate['subject']} is valid until {certificate['not_after']}",
            _renewal(certificate["path"]),
        )


def _renewal(path: str) -> str:
    if path.startswith("/var/lib/kubelet/"):
        return "The kubelet should have renewed it: read its log and look for pending certificate requests"
    if path.startswith("/etc/etcd/") and not path.endswith("ca.crt"):
        return "Run the playbook site.yml: it renews the certificates of an etcd of its own"
    if path.endswith("ca.crt"):
        return "Plan the replacement of this certificate authority: everything that it signed changes with it"
    return "Renew it with the playbook renew_certificates.yml"


def _etcd(cluster: dict[str, Any]) -> Iterator[Finding]:
    etcd = cluster["etcd"]
    if etcd["error"]:
        yield Finding(
            _ETCD,
            "The members of etcd cannot be observed",
            "etcd",
            etcd["error"],
            "Correct this first: without it nobody knows what the cluster can afford to lose",
        )
        return
    votes = f"{etcd['healthy']} of {etcd['voters']} voters are healthy, {etcd['needed']} are needed"
    if not etcd["present"]:
        yield Finding(
            _ETCD, "etcd lacks a healthy majority", "etcd", votes, "Bring members back before anything else"
        )
    if not etcd["leader"]:
        yield Finding(
            _ETCD, "etcd has no leader", "etcd", "no member names one", "Look at the logs of its members"
        )
    known = [member["id"] for member in etcd["members"]]
    for alarm in etcd["alarms"]:
        if alarm["id"] not in known:
            yield Finding(
                _ETCD,
                f"A member that was removed has left the alarm {alarm['alarm']} in etcd",
                "etcd",
                f"no member has the id {alarm['id']}",
                "Clear it: ansible HOST -b -m kubewright.cluster.etcd_member -a state=disarmed",
            )
    for member in etcd["members"]:
        yield from _member(member)
    if etcd["voters"] % 2 == 0:
        yield Finding(
            _NOTICE + _ETCD,
            "etcd has an even number of voters",
            "etcd",
            f"{etcd['voters']} voters tolerate no more failures than {etcd['voters'] - 1}",
            "Add a control plane, or finish the replacement that is under way",
        )
    if etcd["present"] and etcd["tolerance"] == 0:
        yield Finding(
            _NOTICE + _ETCD,
            "etcd can lose no member",
            "etcd",
            votes,
            "Have at least three healthy voters before anything is taken down",
        )


def _member(member: dict[str, Any]) -> Iterator[Finding]:
    where = member["name"] or f"{member['id']} ({', '.join(member['peer_urls'])})"
    for alarm in member["alarms"]:
        remedy = (
            "Compact and defragment its database, then disarm the alarm"
            if alarm == "NOSPACE"
            else "Take a snapshot from another member, then replace this one; never disarm it before"
        )
        yield Finding(
            _ETCD, f"An etcd member has raised the alarm {alarm}", where, f"member {member['id']}", remedy
        )
    if not member["healthy"] and not member["alarms"]:
        remedy = (
            _REPLACE_MEMBER
            if member["name"]
            else "Start it, or remove the member if its host is not going to be one"
        )
        yield Finding(_MEMBER, "An etcd member is not healthy", where, member["error"], remedy)
    if member["is_learner"]:
        yield Finding(
            _MEMBER,
            "An etcd member is still a learner",
            where,
            "it has no vote yet",
            "Wait until it has caught up, then promote it, or remove it",
        )


def _members_and_nodes(cluster: dict[str, Any]) -> Iterator[Finding]:
    """In a stacked cluster each control plane has one member; kubeadm names it after the node."""
    etcd = cluster["etcd"]
    if cluster["topology"] != "stacked" or etcd["error"]:
        return
    nodes = {node["name"] for node in cluster["nodes"] if node["control_plane"]}
    members = {member["name"] for member in etcd["members"] if member["name"]}
    for name in sorted(members - nodes):
        yield Finding(
            _MEMBER,
            "An etcd member has no control plane",
            name,
            "no control-plane node has its name",
            "Remove the member if its node is gone for good",
        )
    for name in sorted(nodes - members):
        yield Finding(
            _MEMBER,
            "A control plane has no etcd member",
            name,
            "no member has its name",
            "Reset this node and join it again",
        )


def _nodes(nodes: list[dict[str, Any]]) -> Iterator[Finding]:
    for node in nodes:
        name = node["name"]
        if node["deleting"]:
            yield Finding(
                _NODE,
                "A node is being deleted",
                name,
                "its object has a deletion time",
                "Wait until it is gone",
            )
        if not node["ready"]:
            yield Finding(
                _NODE,
                "A node is not ready",
                name,
                node["reason"],
                "Look at its kubelet and container runtime, or remove the node",
            )
        if not node["schedulable"]:
            yield Finding(
                _NOTICE + _NODE,
                "A node is cordoned",
                name,
                "it takes no new pods",
                "Uncordon it when its maintenance is over",
            )
        for pressure in node["pressure"]:
            yield Finding(
                _NOTICE + _NODE,
                f"A node reports {pressure}",
                name,
                "its kubelet says so",
                "Free the resource before pods are evicted",
            )


def _inventory(nodes: list[dict[str, Any]], expected: Expected) -> Iterator[Finding]:
    names = {node["name"] for node in nodes}
    control_plane = {node["name"] for node in nodes if node["control_plane"]}
    if expected.nodes is not None:
        for name in sorted(set(expected.nodes) - names):
            yield Finding(
                _NODE,
                "A node is missing",
                name,
                "the cluster does not know it",
                "Join it, or take it out of the inventory",
            )
        for name in sorted(names - set(expected.nodes) - control_plane):
            yield Finding(
                _NOTICE + _NODE,
                "A node is not in the inventory",
                name,
                "it was not expected",
                "Add it to the inventory, or remove the node: nothing will upgrade it",
            )
    if expected.control_plane is not None:
        for name in sorted(set(expected.control_plane) - control_plane):
            why = "it is a node without that role" if name in names else "the cluster does not know it"
            yield Finding(
                _NODE, "A control plane is missing", name, why, "Join it, or take it out of the inventory"
            )
        for name in sorted(control_plane - set(expected.control_plane)):
            yield Finding(
                _NODE,
                "A control plane is not in the inventory",
                name,
                "it was not expected",
                "Add it to the inventory, or remove the node: an upgrade without it breaks the cluster",
            )


def _components(cluster: dict[str, Any]) -> Iterator[Finding]:
    wanted = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]
    if cluster["topology"] == "stacked":
        wanted.append("etcd")
    pods = {(pod["node"], pod["component"]): pod for pod in cluster["control_plane"]}
    for node in (node["name"] for node in cluster["nodes"] if node["control_plane"]):
        for component in wanted:
            pod = pods.get((node, component))
            if pod and pod["ready"]:
                if not pod["version"]:
                    yield Finding(
                        _NOTICE + _COMPONENT,
                        f"The version of {component} is unknown",
                        node,
                        "its image has no tag",
                        "Version skew cannot be judged here: check it by hand",
                    )
                continue
            yield Finding(
                _COMPONENT,
                f"{component} is not ready" if pod else f"{component} is missing",
                node,
                (pod["message"] or "its pod is not ready") if pod else "the node has no such static pod",
                f"Look at the manifest and the log of {component} on this node",
            )


def _addons(addons: list[dict[str, Any]]) -> Iterator[Finding]:
    for addon in addons:
        where = f"{addon['namespace']}/{addon['name']}"
        if addon["ready"] < addon["desired"]:
            yield Finding(
                _ADDON,
                f"A {addon['kind']} is not ready",
                where,
                f"{addon['ready']} of {addon['desired']} pods are ready",
                "Look at its pods and events",
            )
        elif not addon["current"]:
            yield Finding(
                _ADDON,
                f"A {addon['kind']} is being rolled out",
                where,
                "not every pod is of its newest revision",
                "Wait until it is done",
            )


def _requests(cluster: dict[str, Any]) -> Iterator[Finding]:
    """A request of a node that is gone, or not yet one, stays for a day and says nothing of the cluster."""
    names = {node["name"] for node in cluster["nodes"]}
    for request in cluster["pending_csrs"]:
        known = request["node"] in names
        yield Finding(
            _REQUEST if known else _NOTICE + _REQUEST,
            "A certificate request waits for approval",
            request["node"] or request["name"],
            f"{request['name']} ({request['signer']}) has waited for {request['age_seconds']} seconds",
            "Look at the approver's log, then approve or deny the request",
        )
