# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read an etcd cluster through etcdctl: members, health, alarms, quorum.

Member ids are unsigned 64-bit numbers in the JSON of etcdctl; here they are lower-case hexadecimal text, as
etcd itself prints them. Sizes are in bytes.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import select
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Callable, TypeVar
from urllib.parse import urlsplit

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import NOT_STARTED, Completed, Runner

T = TypeVar("T")

# kubeadm by itself leaves etcd's tools in its image only.
BRING_ETCDCTL = "The module image_files takes it out of the image of etcd, as docs/upgrade.md shows"

_ALARMS = {0: "NONE", 1: "NOSPACE", 2: "CORRUPT"}


@dataclass(frozen=True)
class Member:
    """One member; ``error`` says why it is not healthy.

    ``version``, the sizes, ``revision`` and ``raft_term`` are None when the member's status cannot be read;
    ``quota`` in bytes also before etcd 3.6, which began to tell it.
    """

    id: str
    name: str
    peer_urls: list[str]
    client_urls: list[str]
    is_learner: bool = False
    is_leader: bool = False
    healthy: bool = False
    version: str | None = None
    db_size: int | None = None
    db_size_in_use: int | None = None
    revision: int | None = None
    raft_term: int | None = None
    quota: int | None = None
    alarms: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True)
class Status:
    """What one member says of itself. ``leader`` is the id of the leader that it sees, empty for none."""

    id: str
    leader: str
    version: str
    db_size: int
    db_size_in_use: int
    revision: int
    raft_term: int
    quota: int | None = None


@dataclass(frozen=True)
class Quorum:
    """``needed`` of ``voters`` must be healthy; ``tolerance`` more may fail before quorum is lost.

    Learners do not count.
    """

    voters: int
    needed: int
    healthy: int
    tolerance: int
    present: bool


@dataclass(frozen=True)
class Etcd:
    """An etcd cluster as it was observed. ``leader`` is a member id, or None without a leader.

    ``stale_alarms`` are of ids that no member has: etcd keeps the alarms of members that were removed, and NOSPACE goes
    on refusing every write (etcd 14379, 14849).
    """

    members: list[Member]
    quorum: Quorum
    leader: str | None
    stale_alarms: dict[str, list[str]] = field(default_factory=dict)


def quorum(members: Iterable[Member]) -> Quorum:
    """Count votes: a majority of the voters, healthy or not, has to be healthy."""
    voters = [member for member in members if not member.is_learner]
    healthy = sum(member.healthy for member in voters)
    needed = len(voters) // 2 + 1
    return Quorum(len(voters), needed, healthy, max(0, healthy - needed), healthy >= needed)


def member_id(number: int | str) -> str:
    """Return an id as etcd prints it; protobuf's own JSON has such numbers as decimal text."""
    return format(int(number), "x")


def parse_members(document: dict[str, Any]) -> list[Member]:
    """Read ``etcdctl member list -w json``. A member that never started has no name and no client URLs."""
    return [
        Member(
            id=member_id(item["ID"]),
            name=item.get("name") or "",
            peer_urls=list(item.get("peerURLs") or []),
            client_urls=list(item.get("clientURLs") or []),
            is_learner=bool(item.get("isLearner")),
        )
        for item in document.get("members") or []
    ]


def parse_status(document: list[dict[str, Any]] | None) -> list[Status]:
    """Read ``etcdctl endpoint status -w json``; endpoints that do not answer are missing in it."""
    statuses = []
    for item in document or []:
        status, header = item["Status"], item["Status"]["header"]
        leader = int(status.get("leader") or 0)
        statuses.append(
            Status(
                id=member_id(header["member_id"]),
                leader=member_id(leader) if leader else "",
                version=status.get("version") or "",
                db_size=int(status.get("dbSize") or 0),
                db_size_in_use=int(status.get("dbSizeInUse") or 0),
                revision=int(header.get("revision") or 0),
                raft_term=int(status.get("raftTerm") or header.get("raft_term") or 0),
                quota=int(status["dbSizeQuota"]) if status.get("dbSizeQuota") else None,
            )
        )
    return statuses


def parse_health(document: list[dict[str, Any]] | None) -> dict[str, str]:
    """Read ``etcdctl endpoint health -w json`` as endpoint -> why it is unhealthy, empty when healthy.

    With an alarm every endpoint calls itself unhealthy. Whose alarm it is, `alarm list` says.
    """
    return {
        item["endpoint"]: ""
        if item.get("health") or "Active Alarm" in item.get("error", "")
        else item.get("error") or "it did not commit a proposal"
        for item in document or []
    }


def parse_alarms(document: dict[str, Any]) -> dict[str, list[str]]:
    """Read ``etcdctl alarm list -w json`` as member id -> names of its alarms."""
    alarms: dict[str, list[str]] = {}
    for item in document.get("alarms") or []:
        kind = item.get("alarm", 0)
        alarms.setdefault(member_id(item["memberID"]), []).append(_ALARMS.get(kind, str(kind)))
    return alarms


def combine(
    members: list[Member], statuses: list[Status], health: dict[str, str], alarms: dict[str, list[str]]
) -> Etcd:
    """Put the four answers together and decide which members are healthy."""
    by_id = {status.id: status for status in statuses}
    leader = _leader(statuses)
    judged = []
    for member in members:
        status = by_id.get(member.id)
        if status:
            member = replace(  # noqa: PLW2901
                member,
                is_leader=member.id == leader,
                version=status.version,
                db_size=status.db_size,
                db_size_in_use=status.db_size_in_use,
                revision=status.revision,
                raft_term=status.raft_term,
                quota=status.quota,
            )
        raised = alarms.get(member.id, [])
        error = _why_unhealthy(member, status, leader, health, raised)
        judged.append(replace(member, alarms=raised, healthy=error is None, error=error))
    known = {member.id for member in members}
    stale = {number: raised for number, raised in alarms.items() if number not in known}
    return Etcd(judged, quorum(judged), leader, stale)


def _leader(statuses: list[Status]) -> str | None:
    """Return the leader of the newest term: raft elects at most one a term, older claims are out of date."""
    claims = [(status.raft_term, status.leader) for status in statuses if status.leader]
    return max(claims)[1] if claims else None


def _why_unhealthy(
    member: Member, status: Status | None, leader: str | None, health: dict[str, str], alarms: list[str]
) -> str | None:
    if not member.name:
        return "it has never started"
    if status is None:
        return "its status cannot be read"
    if not status.leader:
        return "it sees no leader"
    if status.leader != leader:
        return f"it sees {status.leader} as the leader, others see {leader}"
    if alarms:
        return f"it has raised the alarm {', '.join(alarms)}"
    if member.is_learner:
        # A learner serves no linearizable read, so etcdctl always calls it unhealthy.
        return None
    errors = [health[url] for url in member.client_urls if health.get(url)]
    return errors[0] if errors else None


class EtcdCtl:
    """Builds and runs etcdctl commands against *endpoints* with a client certificate.

    One call is bounded by *command_timeout* seconds for each endpoint that it asks.
    """

    def __init__(
        self,
        runner: Runner,
        endpoints: list[str],
        cacert: str,
        cert: str,
        key: str,
        binary: str = "/usr/local/bin/etcdctl",
    ) -> None:
        self._runner = runner
        self._tls = (cacert, cert, key)
        for name in [one for one in os.environ if one.startswith("ETCDCTL_")]:
            # What administrators set for themselves; etcdctl refuses an option that is given in both ways.
            del os.environ[name]
        self._connection = [f"--cacert={cacert}", f"--cert={cert}", f"--key={key}"]
        self.endpoints = endpoints
        self.binary = binary

    def at(self, endpoints: list[str]) -> EtcdCtl:
        """Return the same client, asking other endpoints."""
        client = copy.copy(self)
        client.endpoints = endpoints
        return client

    def argv(self, *words: str, command_timeout: float = 5, endpoints: list[str] | None = None) -> list[str]:
        """Return the command line of one etcdctl call."""
        where = ",".join(endpoints or self.endpoints)
        limits = ["--dial-timeout=2s", f"--command-timeout={command_timeout:g}s"]
        return [self.binary, f"--endpoints={where}", *self._connection, *limits, *words]

    def run(
        self,
        *words: str,
        check: bool = True,
        command_timeout: float = 5,
        endpoints: list[str] | None = None,
        secret: bool = False,
        asks: bool = False,
    ) -> Completed:
        """Run one etcdctl call. It never takes longer than its endpoints may take, one after another.

        *secret* keeps its output out of errors.
        """
        argv = self.argv(*words, command_timeout=command_timeout, endpoints=endpoints)
        # "--cluster" asks endpoints that are not in the list; 9 members are more than etcd recommends.
        limit = 5 + (command_timeout + 2) * max(9, len(endpoints or self.endpoints))
        return self._runner.run(argv, check=check, timeout=limit, secret=secret, asks=asks)

    def read(self, parse: Callable[[Any], T], *words: str, partial: bool = False) -> T:
        """Run a call with JSON output and parse it.

        With *partial* an exit code other than 0 is accepted as long as there is JSON: etcdctl returns 1 when
        one of several endpoints is dead and still prints what the others said.
        """
        done = self.run(*words, "--write-out=json", check=not partial, asks=True)
        try:
            return parse(json.loads(done.stdout))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            said = done.stderr.strip().splitlines()
            raise CommandError(
                f"etcdctl {' '.join(words)} did not return what is expected",
                cmd=self.argv(*words, "--write-out=json"),
                rc=done.rc,
                stdout=done.stdout,
                stderr=done.stderr,
                where=",".join(self.endpoints),
                why=said[-1] if said else repr(error),
                remedy="Run the command by hand on this host",
                transient=done.rc != 0,
            ) from error

    def members(self) -> list[Member]:
        """Return the member list without health. Needs quorum."""
        return self.read(parse_members, "member", "list")

    def count(self) -> int:
        """Return the number of all keys. Needs quorum."""
        # etcdctl refuses --count-only together with JSON; an answer with a limit has the whole count too.
        words = ["get", "", "--prefix", "--keys-only", "--limit=1"]
        return self.read(lambda said: int(said.get("count") or 0), *words)

    def cluster_id(self, endpoints: list[str]) -> str:
        """Return the id of the cluster that these endpoints are in, hexadecimal as etcd logs it."""

        def parse(document: list[dict[str, Any]]) -> str:
            return member_id(document[0]["Status"]["header"]["cluster_id"])

        return self.at(endpoints).read(parse, "endpoint", "status")

    def observe(self) -> Etcd:
        """Ask every member. Raises an error when not even the member list can be read."""
        try:
            members = self.members()
        except CommandError as error:
            raise self._no_member_list(error) from error
        statuses = self.read(parse_status, "endpoint", "status", "--cluster", partial=True)
        # Who does not tell its state is not waited for a second time.
        answering = {status.id for status in statuses}
        urls = [url for member in members if member.id in answering for url in member.client_urls]
        health = self.at(urls).read(parse_health, "endpoint", "health", partial=True) if urls else {}
        return combine(members, statuses, health, self.read(parse_alarms, "alarm", "list"))

    def _no_member_list(self, error: CommandError) -> KubewrightError:
        """Say why each endpoint does not answer: etcdctl itself says no more than that its time was over."""
        absent = error.rc == NOT_STARTED
        reasons = {} if absent else {url: trouble(url, self._tls) for url in self.endpoints}
        known = "; ".join(f"{url} {why}" for url, why in reasons.items() if why)
        return KubewrightError(
            "The list of etcd members cannot be read",
            where=",".join(self.endpoints),
            why=known or error.why or str(error),
            remedy=f"{error.remedy}. {BRING_ETCDCTL}"
            if absent
            else error.remedy
            or "Look at the etcd of each member: without a majority of them etcd answers nothing",
            transient=error.transient,
            **error.facts,
        )


def trouble(url: str, tls: tuple[str, str, str], timeout: float = 2) -> str:
    """Return why no call gets through to an endpoint, empty when the connection is fine.

    With TLS 1.3 a server refuses the client's certificate only after the handshake has ended for the client. Who asks
    at once finds the connection reset while its request is on the way, and the reason is lost: so it listens first.
    """
    parts = urlsplit(url)
    cacert, cert, key = tls
    try:
        context = ssl.create_default_context(cafile=cacert)
        # Not stricter than etcd, which accepts an authority that does not say what its key may be used for.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", ssl.VerifyFlags(0))
        context.load_cert_chain(cert, key)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 2379, timeout=timeout, context=context
        )
        try:
            connection.connect()
            _listen(connection.sock, timeout)
            connection.request("GET", "/version")
            connection.getresponse()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"has a certificate that {cacert} does not vouch for: {error.verify_message}"
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return f"refuses the client certificate {cert}: {(error.reason or '').replace('_', ' ').lower()}"
        return f"cannot be reached: {error}"
    return ""


def _listen(connection: ssl.SSLSocket, timeout: float) -> None:
    """Wait for the server's first words after the handshake: a refusal, which is raised, or a session ticket.

    A server that sends neither is asked when half the time is over.
    """
    with contextlib.suppress(ssl.SSLWantReadError):
        if select.select([connection], [], [], timeout / 2)[0]:
            connection.setblocking(False)
            connection.recv(1)
    connection.settimeout(timeout)
