# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host must reach which port of which other host, and what an answer means.

Everything here is pure: it plans probes, and turns what they found into sentences.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# What a probe found.
REACHED = ""
TIMED_OUT = "timed out"
REFUSED = "refused"
NO_ROUTE = "no route"
FORBIDDEN = "forbidden"
STRANGER = "stranger"

# A listener that is this close to its end, in seconds, is not asked any more: it might end meanwhile.
_MARGIN = 10.0


# A worker visits this many other new hosts besides the control planes: enough to find a filter between workers,
# and no more work with more workers.
_SUCCESSORS = 3


@dataclass(frozen=True)
class Service:
    """A row of the port matrix: what listens, whether on workers too, and whether workers connect to it too."""

    name: str
    protocol: str
    on_workers: bool
    from_workers: bool
    title: str


# The port matrix, after https://kubernetes.io/docs/reference/networking/ports-and-protocols/; docs/ports.md shows it.
# Every node is a client of every API server, because the Service `kubernetes` leads there past the endpoint. The
# virtual IP may be on any control plane, so every node must reach the endpoint's port on each of them.
MATRIX = (
    Service("api", "tcp", False, True, "API server"),
    Service("endpoint", "tcp", False, True, "load balancer"),
    Service("etcd_client", "tcp", False, False, "etcd's clients"),
    Service("etcd_peer", "tcp", False, False, "etcd's members"),
    Service("kubelet", "tcp", True, False, "kubelet"),
    Service("vxlan", "udp", True, True, "flannel's vxlan"),
)
SERVICES = tuple(service.name for service in MATRIX)

_ENDPOINT = "the endpoint"

# kubeadm refuses a host on which one of these is taken (its preflight check is called Port-NUMBER).
_KUBEADM_WANTS = ("api", "etcd_client", "etcd_peer", "kubelet")
# Where an API server answers, these listen for certain: a refusal is not their own.
_SERVE_TOGETHER = ("api", "etcd_client", "etcd_peer")


@dataclass(frozen=True)
class Target:
    """One probe. With *key* a listener of ours must answer; *sure* when something listens there for certain."""

    peer: str
    address: str
    port: int
    protocol: str
    title: str
    key: str = ""
    sure: bool = True


@dataclass
class Plan:
    """The probes of one host, and the names of the peers whose listeners are too old to be asked."""

    targets: list[Target] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def peers_of(me: str, hosts: list[str], control_planes: list[str]) -> list[str]:
    """Return which of *hosts*, all new, *me* connects to.

    Every host connects to the control planes, and these to every host. A worker takes its successors in the ring of
    workers besides.
    """
    if me in control_planes:
        return [host for host in hosts if host != me]
    workers = [host for host in hosts if host not in control_planes]
    place = workers.index(me)
    near = (workers + workers)[place + 1 : place + 1 + _SUCCESSORS]
    return [host for host in hosts if host != me and (host in control_planes or host in near)]


def visitors_of(me: str, hosts: list[str], control_planes: list[str]) -> list[str]:
    """Return which of *hosts* connect to *me*."""
    return [host for host in hosts if me in peers_of(host, hosts, control_planes)]


def served(control_plane: bool, ports: dict[str, int]) -> list[Service]:
    """Return what a host will listen on in a cluster that uses *ports*."""
    return [service for service in MATRIX if service.name in ports and (control_plane or service.on_workers)]


def _used(mine: bool, theirs: bool, ports: dict[str, int]) -> list[Service]:
    """Return what a host uses of another; *mine* and *theirs* tell whether they are control planes."""
    return [service for service in served(theirs, ports) if mine or service.from_workers]


def wanted_by_kubeadm(ports: dict[str, int], ignored: list[str]) -> list[str]:
    """Return the services whose ports kubeadm would not find taken without a word."""
    ignored = [check.lower() for check in ignored]
    return [
        name
        for name in _KUBEADM_WANTS
        if name in ports and "all" not in ignored and f"port-{ports[name]}" not in ignored
    ]


def plan_listeners(
    me: str, control_plane: bool, ports: dict[str, int], listeners: list[dict[str, Any]], now: float
) -> Plan:
    """Plan the probes of the listeners that phase V(listen) started on other hosts.

    On a port that something else held there, a plain connection has to do, and only over TCP.
    """
    plan = Plan()
    for peer in listeners:
        if now - peer["since"] > peer["lifetime"] - _MARGIN:
            plan.unchecked.append(peer["name"])
            continue
        for service in _used(control_plane, peer["control_plane"], ports):
            ours = service.name in peer["listening"]
            if peer["name"] != me and (ours or service.protocol == "tcp"):
                plan.targets.append(
                    Target(
                        peer["name"],
                        peer["address"],
                        ports[service.name],
                        service.protocol,
                        service.title,
                        key=peer["nonce"] if ours else "",
                        sure=ours,
                    )
                )
    return plan


def plan_servers(
    me: str,
    control_plane: bool,
    ports: dict[str, int],
    servers: dict[str, str],
    serving: list[str],
    members: list[str],
) -> list[Target]:
    """Plan the probes of the control planes of a cluster that exists: *servers* are their addresses by name.

    They count when their API server answered somebody (*serving*, names) or their etcd member is well (*members*,
    addresses): one that is dead keeps nobody from joining. Nothing can be said about UDP, which nobody there answers.
    """
    return [
        Target(
            name,
            address,
            ports[service.name],
            service.protocol,
            service.title,
            sure=name in serving and service.name in _SERVE_TOGETHER,
        )
        for name, address in servers.items()
        if name != me and (name in serving or address in members)
        for service in _used(control_plane, True, ports)
        if service.protocol == "tcp"
    ]


def plan_endpoint(address: str, port: int) -> Target:
    """Plan the probe of the load balancer in front of the API servers of a cluster that exists."""
    return Target(_ENDPOINT, address, port, "tcp", "load balancer")


def port_problems(me: str, found: list[tuple[Target, str]]) -> list[str]:
    """Return a sentence for each peer and reason out of the probes and what they found.

    A refusal where nothing may be listening proves that the packets arrive, so it is none.
    """
    groups: dict[tuple[str, str, str], list[str]] = {}
    for target, trouble in found:
        if trouble != REACHED and (trouble != REFUSED or target.sure):
            ports = groups.setdefault((target.peer, target.address, trouble), [])
            ports.append(f"{target.port}/{target.protocol} ({target.title})")
    return [
        f"{me} cannot reach {peer} ({address}) on {', '.join(ports)}: {_reason(me, peer, address, trouble)}"
        for (peer, address, trouble), ports in groups.items()
    ]


def _reason(me: str, peer: str, address: str, trouble: str) -> str:
    reasons = {
        TIMED_OUT: f"no answer, so a packet filter probably drops it. Open it on {peer} and on the way for {me}.",
        REFUSED: (
            f"refused although {peer} listens, so a packet filter probably rejects it. Open it on {peer} and on "
            f"the way for {me}."
        ),
        NO_ROUTE: (
            f"no route, or a packet filter rejects it. Mend the routes between them, open it on {peer} for {me}, or "
            "correct kube_cluster_host_address."
        ),
        FORBIDDEN: f"the packet filter of {me} forbids it. Let {me} connect to it.",
        STRANGER: (
            f"the connection opens, but it is not {peer} who answers. Look for a second host with {address}, and for "
            "a proxy or address translation between them."
        ),
    }
    if peer == _ENDPOINT and trouble == REFUSED:
        return "refused. Bring the load balancer back: the hosts join through it."
    return reasons.get(trouble, f"{trouble}.")


@dataclass(frozen=True)
class Sample:
    """How far another clock is ahead of ours, and how long the question was under way, both in seconds."""

    offset: float
    delay: float

    @classmethod
    def of(cls, sent: float, received: float, answered: float, back: float) -> Sample:
        """Compute them as NTP does (RFC 5905, section 8): *received* and *answered* are by the other clock."""
        return cls(
            ((received - sent) + (answered - back)) / 2, max(0.0, (back - sent) - (answered - received))
        )


def best(samples: list[Sample]) -> Sample | None:
    """Return the sample that was under way for the shortest time, because it is off by half of that at most."""
    return min(samples, key=lambda sample: sample.delay, default=None)


def clock_problems(me: str, clocks: dict[str, Sample], limit: float) -> list[str]:
    """Return a sentence for each peer whose clock is certainly off by more than *limit* seconds.

    etcd warns above one second (etcd, server/etcdserver/api/rafthttp/probing_status.go), and certificates and
    tokens are judged by the clock of whoever reads them.
    """
    off = {name: one for name, one in clocks.items() if abs(one.offset) - one.delay / 2 > limit}
    agree = sorted(name for name in clocks if name not in off)
    others = (
        f"the clock of {me} agrees with those of {', '.join(agree)}" if agree else "nobody else was asked"
    )
    return [
        f"The clock of {name} is {abs(one.offset):.1f} s {'ahead of' if one.offset > 0 else 'behind'} that of {me}, "
        f"and {limit:g} s are allowed ({others}). Set the wrong one right and keep it so, for example with chrony."
        for name, one in sorted(off.items())
    ]


def busy_problem(me: str, busy: list[tuple[Service, int]]) -> str:
    """Return a sentence about the ports that kubeadm would find taken, or nothing."""
    if not busy:
        return ""
    ports = ", ".join(f"{port}/{service.protocol} ({service.title})" for service, port in busy)
    return (
        f"On {me} something else already listens on {ports}, so kubeadm would refuse the host. "
        f"See what it is with: ss -lntup 'sport = :{busy[0][1]}', and stop it."
    )


def address_problem(me: str, address: str, macs: dict[str, str]) -> str:
    """Return a sentence when somebody has *address*, or nothing.

    *macs* are the MAC addresses that answered by IP address: for *address*, and for the load balancer hosts, of which
    one may hold the virtual IP since an earlier run.
    """
    holder = macs.get(address)
    if holder is None or holder in [mac for known, mac in macs.items() if known != address]:
        return ""
    return (
        f"{address} is to become the virtual IP, but it is in use: {holder} answers for it in the network of {me}. "
        "Free it, or give kube_cluster_endpoint_address an address that nobody has."
    )
