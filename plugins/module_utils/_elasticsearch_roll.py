# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace the pods of Elasticsearch that are not up to date, one after the other, without losing a copy of a line.

``observe`` reads, ``plan`` says which pods in which order, and ``Roll`` does one after the other.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import Elasticsearch
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch_settings import (
    ALLOCATION,
    HELD_BACK,
    health,
    when_formed,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_rollout import (
    pod_trouble,
    remedy_for,
    trouble_text,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._pods import is_ready
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

# Masters last: they lead the roll of the others, and an older master could not lead newer nodes anyway.
ORDER = ("data", "client", "node", "master")
COMPONENT = "app.kubernetes.io/component"
SELECTOR = "app.kubernetes.io/name=elasticsearch"

_HASH = "controller-revision-hash"
_SETTINGS = "/_cluster/settings"
_HOLDERS = ("node", "data")
_NOT_FOUND, _CONFLICT = 404, 409
# A replica may not go to a node of an older version, nor beside its own primary. Such a one waits for the roll.
_WAITS_FOR_THE_ROLL = "node_version"
_NO_MATTER = (_WAITS_FOR_THE_ROLL, "same_shard")
# So many shards are asked about: more unassigned ones than this are no new index of these minutes.
_ASKED = 20
# However short the time for a pod is, the allocation gets this much to be restored.
_RESTORE_SECONDS = 120


@dataclass(frozen=True)
class Member:
    """One pod of Elasticsearch. ``due`` says that its StatefulSet wants another revision of it."""

    name: str
    uid: str
    component: str
    ready: bool
    due: bool

    @property
    def holds_data(self) -> bool:
        return self.component in _HOLDERS


@dataclass(frozen=True)
class Observed:
    """The pods of all StatefulSets of Elasticsearch, and how many there should be."""

    members: Sequence[Member]
    wanted: int

    @property
    def complete(self) -> bool:
        return len(self.members) == self.wanted and all(member.ready for member in self.members)


@dataclass
class Report:
    """What was done; it grows while the roll goes on, so that a failure tells it too.

    ``left`` says that the allocation of replicas could not be restored.
    """

    rolled: list[str] = field(default_factory=list)
    restored: bool = False
    left: bool = False
    waiting_replicas: int = 0


# --- observe and plan --------------------------------------------------------------------------------------


def observe(api: KubeApi, namespace: str) -> Observed:
    """Read StatefulSets and pods. What the controller has not seen yet is a transient error."""
    sets = api.list(f"/apis/apps/v1/namespaces/{namespace}/statefulsets", labelSelector=SELECTOR)
    pods = api.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=SELECTOR)
    revisions = {}
    for one in sets:
        status = one.get("status") or {}
        if (status.get("observedGeneration") or 0) < (one["metadata"].get("generation") or 0):
            raise KubewrightError(
                f"The controller of StatefulSets has not seen the last change of {one['metadata']['name']}",
                where=namespace,
                remedy="Look at kube-controller-manager if this lasts",
                transient=True,
            )
        revisions[one["metadata"]["uid"]] = str(status.get("updateRevision") or "")
    wanted = sum(int(one["spec"].get("replicas", 1)) for one in sets)
    return Observed([member for pod in pods if (member := _member(pod, revisions))], wanted)


def _member(pod: Mapping[str, Any], revisions: Mapping[str, str]) -> Member | None:
    about = pod["metadata"]
    labels = about.get("labels") or {}
    owners = [owner.get("uid") for owner in about.get("ownerReferences") or []]
    wanted = next((revisions[owner] for owner in owners if owner in revisions), None)
    if wanted is None:
        return None
    due = labels.get(_HASH) != wanted
    return Member(about["name"], about["uid"], labels.get(COMPONENT, ""), is_ready(pod), due)


def plan(members: Sequence[Member], named: Sequence[str] = (), leader: str = "") -> list[Member]:
    """Return the pods to be replaced, in order.

    What is due and not ready comes first, whatever it is: the new revision may be its cure, and nothing is lost
    with it. The elected master comes last, so that there is one election and no more.
    """
    unknown = sorted(set(named) - {member.name for member in members})
    if unknown:
        raise KubewrightError(
            f"There is no pod {', '.join(unknown)} of Elasticsearch",
            why=f"There are {', '.join(sorted(member.name for member in members)) or 'none'}",
            remedy="Correct the names",
        )
    due = [member for member in members if member.due or member.name in named]
    return sorted(
        due,
        key=lambda member: (
            member.ready,
            ORDER.index(member.component) if member.component in ORDER else len(ORDER),
            member.name == leader,
            -_ordinal(member.name),
        ),
    )


def _away(observed: Observed) -> str:
    if observed.complete:
        return ""
    late = [member.name for member in observed.members if not member.ready]
    return f", {len(observed.members)} of {observed.wanted} pods are there, not ready: {', '.join(late) or 'none'}"


def _ordinal(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


# --- apply -------------------------------------------------------------------------------------------------


class Roll:
    """Replaces pods. *deadline* makes one for each of them, of *seconds*."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        connect: Callable[[], Elasticsearch],
        deadline: Callable[[float], Deadline],
        seconds: float,
    ) -> None:
        self.report = Report()
        self._api = api
        self._namespace = namespace
        self._connect = connect
        self._deadline = deadline
        self._seconds = seconds
        self._known: Elasticsearch | None = None

    def _client(self) -> Elasticsearch:
        self._known = self._known or self._connect()
        return self._known

    def leader(self) -> str:
        """Return the name of the elected master, empty when nobody can say."""
        with suppress(KubewrightError):
            answer = self._client().get("/_cat/master", format="json", h="node")
            return str(answer[0]["node"]) if answer else ""
        return ""

    def run(self, members: Sequence[Member]) -> None:
        """Replace pods in this order.

        Those that are not ready are replaced at once and not waited for: it may take all of them to form a cluster.
        """
        for member in members:
            if not member.ready:
                self._delete(member, self._deadline(self._seconds))
                self.report.rolled.append(member.name)
        ready = [member for member in members if member.ready]
        if ready:
            self._known = when_formed(self._connect, self._deadline(self._seconds))
            # Without the replicas that an earlier roll left unallocated there would be no green to wait for.
            self.restore()
        for member in ready:
            self._replace_safely(member, self._deadline(self._seconds))

    def _replace_safely(self, member: Member, deadline: Deadline) -> None:
        """Take a node that works out of a cluster that works, and wait until the cluster is whole again."""
        self._wait_whole(deadline, f"Elasticsearch to be whole before {member.name} is replaced")
        if member.holds_data:
            self._hold_back(deadline)
        failed = True
        try:
            self._replace(member, deadline)
            failed = False
        finally:
            if member.holds_data:
                self._restore_after(failed)
        self._wait_whole(deadline, f"Elasticsearch to be whole after {member.name} was replaced")

    def _hold_back(self, deadline: Deadline) -> None:
        def taken() -> bool:
            # What somebody else has set holds more back, and is not ours to restore.
            if self._allocation() in ("", "all"):
                self._client().request("PUT", _SETTINGS, {"persistent": {ALLOCATION: HELD_BACK}})
            return True

        try:
            wait_for(taken, deadline, what="Elasticsearch to hold replicas back")
        except BaseException:
            # The answer may be lost and the setting not.
            self._restore_after(True)
            raise
        with suppress(KubewrightError):
            # What is in the segments need not be replayed when the node is back.
            self._client().request("POST", "/_flush")

    def _restore_after(self, failed: bool) -> None:
        """Restore; after a failure that one is the news, and that this failed too is a part of the report."""
        try:
            self.restore()
        except KubewrightError:
            self.report.left = True
            if not failed:
                raise

    def restore(self) -> None:
        """Let replicas be allocated again, where this or an earlier roll has stopped that."""

        def restored() -> bool:
            if self._allocation() == HELD_BACK:
                self._client().request("PUT", _SETTINGS, {"persistent": {ALLOCATION: None}})
                self.report.restored = True
            return True

        try:
            what = "Elasticsearch to allocate replicas again"
            wait_for(restored, self._deadline(_RESTORE_SECONDS), what=what)
        except DeadlineExpired as error:
            error.remedy = "Bring Elasticsearch back and run logging.yml, which restores it"
            raise

    def _allocation(self) -> str:
        persistent = self._client().get(_SETTINGS, flat_settings=True).get("persistent") or {}
        return str(persistent.get(ALLOCATION) or "")

    def _delete(self, member: Member, deadline: Deadline) -> None:
        def deleted() -> bool:
            try:
                # Not a pod that has the name by now.
                body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": member.uid}}
                self._api.delete(self._path(member), body=body)
            except ApiError as error:
                if error.status not in (_NOT_FOUND, _CONFLICT):
                    raise
            return True

        wait_for(deleted, deadline, what=f"the API server to delete pod {member.name}")

    def _replace(self, member: Member, deadline: Deadline) -> None:
        self._delete(member, deadline)
        self.report.rolled.append(member.name)
        seen: dict[str, Any] = {}

        def back() -> bool:
            try:
                seen["pod"] = self._api.get(self._path(member))
            except ApiError as error:
                if error.status == _NOT_FOUND:
                    return False
                raise
            return seen["pod"]["metadata"]["uid"] != member.uid and is_ready(seen["pod"])

        try:
            wait_for(back, deadline, what=f"pod {member.name} to be ready again")
        except DeadlineExpired as error:
            if "pod" in seen:
                trouble = pod_trouble(self._api, self._namespace, seen["pod"])
                error.why = trouble_text(trouble)
                error.remedy = f"{remedy_for(error.why)}. The pods after it are as they were"
                error.facts["pods"] = [trouble]
            raise

    def _path(self, member: Member) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods/{member.name}"

    def _wait_whole(self, deadline: Deadline, what: str) -> None:
        """Wait until all pods are ready and all shards have their copies."""

        def whole() -> bool:
            away = _away(observe(self._api, self._namespace))
            client = self._client()
            found = health(client)
            status = str(found["status"])
            if not away and status == "green":
                return True
            waiting = 0 if away else self._waits_for_the_roll(client, found)
            self.report.waiting_replicas = max(self.report.waiting_replicas, waiting)
            if waiting:
                return True
            numbers = (
                f"{found['unassigned_shards']} unassigned shards, {found['initializing_shards']} being made"
            )
            raise KubewrightError(
                f"Elasticsearch is {status} with {found['number_of_nodes']} nodes",
                why=f"{numbers}{away}",
                transient=True,
            )

        try:
            wait_for(whole, deadline, what=what)
        except DeadlineExpired as error:
            error.remedy = (
                "Ask Elasticsearch why (GET /_cluster/allocation/explain), mend that, and run again: "
                "a node that goes while shards miss a copy may take the last one with it"
            )
            raise

    def _waits_for_the_roll(self, client: Elasticsearch, found: Mapping[str, Any]) -> int:
        """Return how many replicas only wait for nodes of the new version; 0 when anything else is missing.

        An index that was made during an upgrade may have its primary on a new node, and then no older one takes the
        replica: waiting for green would never end.
        """
        count = int(found.get("unassigned_shards") or 0)
        moving = int(found.get("initializing_shards") or 0) + int(found.get("relocating_shards") or 0)
        if found["status"] != "yellow" or moving or not 0 < count <= _ASKED:
            return 0
        shards = client.get("/_cat/shards", format="json", h="index,shard,prirep,state")
        missing = [shard for shard in shards if shard["state"] == "UNASSIGNED"]
        return len(missing) if all(_is_version_only(client, shard) for shard in missing) else 0


def _is_version_only(client: Elasticsearch, shard: Mapping[str, Any]) -> bool:
    body = {"index": shard["index"], "shard": int(shard["shard"]), "primary": shard["prirep"] == "p"}
    answer = client.request("GET", "/_cluster/allocation/explain", body)
    reasons = set()
    for node in answer.get("node_allocation_decisions") or []:
        against = {one["decider"] for one in node.get("deciders") or [] if one.get("decision") == "NO"}
        if not against <= set(_NO_MATTER):
            return False
        reasons |= against
    return _WAITS_FOR_THE_ROLL in reasons
