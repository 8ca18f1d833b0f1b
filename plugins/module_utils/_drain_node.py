# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cordon, drain and uncordon a node over the API, inside one deadline.

A drain works in passes: list the pods of the node, evict those that are due, a few at a time, and look again. So a
pod that cannot leave keeps nobody else, and each eviction is for the very pod that was seen last.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, TypeVar

from ansible_collections.kubewright.cluster.plugins.module_utils import _cordon, _drain
from ansible_collections.kubewright.cluster.plugins.module_utils._drain import (
    EVICT,
    REFUSE,
    SKIP,
    Answer,
    Budget,
    Judged,
    Pod,
    Rules,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

T = TypeVar("T")

# Evictions at once. On busy hosts each waits for its turn several times: a hundred pods were asked to leave in
# 9 seconds with 64, in 13 with 16.
WORKERS = 64
INTERVAL = 1.0
# A blocked eviction is repeated after 1, 2, 4 and then every 5 seconds, as kubectl's.
SLOWEST = 5.0
_NOT_FOUND, _CONFLICT = 404, 409
_MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class Wanted:
    """What is asked for; ``grace_period`` in seconds, None for each pod's own."""

    name: str
    state: str = "drained"
    rules: Rules = field(default_factory=Rules)
    grace_period: int | None = None
    pod_selector: str = ""
    disable_eviction: bool = False
    accept_unconfirmed_deletion: bool = False
    accept_foreign_cordon: bool = False
    on_failure: str = "keep"


@dataclass
class Outcome:
    """What was seen and done. Times are seconds since the eviction was accepted, None for a pod that is still there."""

    exists: bool = True
    was_unschedulable: bool = False
    schedulable: bool = True
    cordoned: bool = False
    uncordoned: bool = False
    ready: bool = True
    evicted: dict[str, tuple[Pod, float | None]] = field(default_factory=dict)
    deleted: dict[str, tuple[Pod, float | None]] = field(default_factory=dict)
    skipped: list[Judged] = field(default_factory=list)
    refused: list[Judged] = field(default_factory=list)
    blocked: list[dict[str, Any]] = field(default_factory=list)
    waiting_for: list[dict[str, Any]] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.cordoned or self.uncordoned or self.evicted or self.deleted)

    def returned(self) -> dict[str, Any]:
        """Return the result of the module."""
        return {
            "changed": self.changed,
            "exists": self.exists,
            "ready": self.ready,
            "was_unschedulable": self.was_unschedulable,
            "schedulable": self.schedulable,
            "cordoned": self.cordoned,
            "uncordoned": self.uncordoned,
            "evicted": _timed(self.evicted.values()),
            "deleted": _timed(self.deleted.values()),
            "skipped_pods": [{"pod": one.pod.path, "reason": one.reason} for one in self.skipped],
            "refused_pods": [{"pod": one.pod.path, "reason": one.reason} for one in self.refused],
            "blocked": self.blocked,
            "waiting_for": self.waiting_for,
            "pending": self.pending,
        }


def _timed(pods: Iterable[tuple[Pod, float | None]]) -> list[dict[str, Any]]:
    return [
        {"pod": pod.path, "uid": pod.uid, "seconds": None if seconds is None else round(seconds, 1)}
        for pod, seconds in pods
    ]


class Drainer:
    """Brings one node into the wanted state. ``wall`` is the clock that the API server's times are compared with."""

    def __init__(
        self,
        api: KubeApi,
        wanted: Wanted,
        deadline: Deadline,
        *,
        check_mode: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._wanted = wanted
        self._deadline = deadline
        self._check_mode = check_mode
        self._wall = wall
        self._path = f"/api/v1/nodes/{wanted.name}"
        self._daemonsets: dict[tuple[str, str], bool] = {}
        self._answers: dict[str, Answer] = {}
        self._accepted: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Bring the node there; every error says how far it came."""
        try:
            node = self._ask(self._node)
            if node is None:
                self.outcome.exists = False
                return self.outcome
            out = self.outcome
            out.was_unschedulable = _cordon.is_cordoned(node)
            out.schedulable, out.ready = not out.was_unschedulable, _drain.is_ready(node)
            {"cordoned": self._cordon, "uncordoned": self._uncordon, "drained": self._drain}[
                self._wanted.state
            ](node)
        except KubewrightError as error:
            self._undo_cordon()
            error.facts = {**error.facts, **self.outcome.returned()}
            raise
        return self.outcome

    def _node(self) -> dict[str, Any] | None:
        try:
            node: dict[str, Any] = self._api.get(self._path)
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return node

    def _ask(self, call: Callable[[], T]) -> T:
        """Repeat a call that may succeed the next time, until the deadline."""
        tries = 0
        while True:
            try:
                return call()
            except KubewrightError as error:
                if not error.transient or self._deadline.expired:
                    raise
                wait = error.retry_after if isinstance(error, ApiError) else None
                self._deadline.sleep(wait or min(SLOWEST, 0.5 * 2**tries))
                tries += 1

    def _set(self, cordon: bool) -> bool:
        """Cordon or uncordon the node as it is now; False where there is nothing to do any more."""
        node = self._node()
        if node is None or _cordon.is_cordoned(node) == cordon:
            return False
        if not cordon and not (self._wanted.accept_foreign_cordon or _cordon.is_our_cordon(node)):
            return False
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._wall()))
        try:
            self._api.request(
                "PATCH",
                self._path,
                body=_cordon.cordon_patch(node, cordon, stamp),
                query={
                    "fieldManager": _cordon.MANAGER,
                    "dryRun": "All" if self._check_mode else None,
                },
                content_type=_MERGE_PATCH,
            )
        except ApiError as error:
            if error.status == _CONFLICT:
                # The kubelet and the controllers write to the same object.
                error.transient = True
            raise
        return True

    def _cordon(self, node: dict[str, Any]) -> None:
        if _drain.is_control_plane(node) and not _cordon.is_cordoned(node):
            self._warn_of_last_control_plane()
        self.outcome.cordoned = self._ask(lambda: self._set(True))
        self.outcome.schedulable = False

    def _warn_of_last_control_plane(self) -> None:
        nodes = self._ask(lambda: self._api.list("/api/v1/nodes", labelSelector=_drain.CONTROL_PLANE))
        others = [
            one
            for one in nodes
            if one["metadata"]["name"] != self._wanted.name
            and _drain.is_ready(one)
            and not _cordon.is_cordoned(one)
        ]
        if not others:
            self.outcome.warnings.append(
                f"{self._wanted.name} was the last control plane that is ready and takes pods: what runs on "
                "control planes only has nowhere to go until another one is back or this one is uncordoned."
            )

    def _uncordon(self, node: dict[str, Any]) -> None:
        if not _cordon.is_cordoned(node):
            return
        self.outcome.uncordoned = self._ask(lambda: self._set(False))
        if self.outcome.uncordoned:
            self.outcome.schedulable = True
        else:
            self.outcome.warnings.append(
                f"{self._wanted.name} stays cordoned: somebody else cordoned it. accept_foreign_cordon uncordons it."
            )

    def _undo_cordon(self) -> None:
        """Take back what was done where a drain failed before any pod left, or where the user asks for it."""
        out = self.outcome
        if self._check_mode or self._wanted.state != "drained" or not self._gives_back:
            return
        try:
            undone = self._set(False)
        except KubewrightError as error:
            out.warnings.append(f"{self._wanted.name} stays cordoned: {error}")
            return
        out.cordoned, out.schedulable = not undone, undone

    @property
    def _gives_back(self) -> bool:
        """Whether a drain that fails now takes its cordon back."""
        out = self.outcome
        return out.cordoned and (self._wanted.on_failure == "uncordon" or not (out.evicted or out.deleted))

    def _pods(self) -> list[Pod]:
        items = self._api.list(
            "/api/v1/pods",
            fieldSelector=f"spec.nodeName={self._wanted.name}",
            labelSelector=self._wanted.pod_selector or None,
        )
        return [_drain.read_pod(item) for item in items]

    def _judge(self) -> dict[str, Pod]:
        """Return the pods that have to leave, by their uid; raise where one forbids it."""
        pods = self._ask(self._pods)
        now = self._wall()
        judged = [_drain.judge(pod, self._wanted.rules, orphan=self._is_orphan(pod), now=now) for pod in pods]
        self.outcome.skipped = [one for one in judged if one.action == SKIP]
        self.outcome.refused = [one for one in judged if one.action == REFUSE]
        if self.outcome.refused:
            raise KubewrightError(
                f"{self._wanted.name} is not drained",
                why="; ".join(f"{one.pod.path}: {one.reason}" for one in self.outcome.refused),
                remedy=("" if self.outcome.evicted or self.outcome.deleted else "Nothing was evicted. ")
                + "Move these pods, or allow it with the options named",
            )
        return {one.pod.uid: one.pod for one in judged if one.action == EVICT}

    def _is_orphan(self, pod: Pod) -> bool:
        kind, name = pod.controller
        if kind != "DaemonSet" or pod.finished:
            return False
        key = (pod.namespace, name)
        if key not in self._daemonsets:
            self._daemonsets[key] = self._ask(lambda: self._is_there(key))
        return not self._daemonsets[key]

    def _is_there(self, key: tuple[str, str]) -> bool:
        try:
            self._api.get(f"/apis/apps/v1/namespaces/{key[0]}/daemonsets/{key[1]}")
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return False
            raise
        return True

    def _drain(self, node: dict[str, Any]) -> None:
        goals = self._judge()
        if self._deletes:
            self._warn_of_deletion(goals)
        if self._check_mode:
            self._rehearse(node, goals)
            return
        self._cordon(node)
        # Between the first look and the cordon pods may have come.
        goals = self._judge()
        self._empty(goals)
        # The scheduler may have chosen this node for a pod before the cordon, and have said so after that look.
        late = {uid: pod for uid, pod in self._judge().items() if uid not in goals}
        if late:
            self._empty(late)

    @property
    def _unconfirmed(self) -> bool:
        """Whether pods are deleted although no kubelet tells that their containers have ended."""
        return self._wanted.accept_unconfirmed_deletion and not self.outcome.ready

    @property
    def _deletes(self) -> bool:
        return self._wanted.disable_eviction or self._unconfirmed

    def _warn_of_deletion(self, goals: dict[str, Pod]) -> None:
        if self._unconfirmed:
            self.outcome.warnings.append(
                f"{self._wanted.name} is not ready: its {len(goals)} pods are deleted without anybody telling that "
                "their containers have ended. If the host lives, they go on running there."
            )
        elif goals:
            self.outcome.warnings.append(
                "disable_eviction is set: pods are deleted, and PodDisruptionBudgets are not respected."
            )

    def _rehearse(self, node: dict[str, Any], goals: dict[str, Pod]) -> None:
        """Let the API server judge every eviction, and change nothing."""
        self._cordon(node)
        due = [pod for pod in goals.values() if pod.deleting is None]
        answers = self._send_all(due)
        budgets = self._budgets(due) if due and not self._deletes else []
        kept = self.outcome.deleted if self._deletes else self.outcome.evicted
        for pod, answer in answers:
            if answer.outcome in ("done", "gone"):
                kept[pod.uid] = (pod, None)
            else:
                self.outcome.blocked.append(_drain.blocked(pod, answer.message, budgets))
        self.outcome.waiting_for = _drain.waiting_for(due, budgets)
        self.outcome.pending = sorted(pod.path for pod in goals.values() if pod.deleting is not None)
        if self.outcome.blocked:
            self.outcome.warnings.append(
                "Evictions that the API server refuses now: "
                + "; ".join(map(_drain.blocked_text, self.outcome.blocked))
            )

    def _empty(self, goals: dict[str, Pod]) -> None:
        """Evict these pods and wait until they are gone."""
        while True:
            here = self._ask(lambda: self._left(goals))
            self._note_gone(here)
            failed = {uid for uid in here if self._answer(uid) == "never"}
            if not here.keys() - failed:
                break
            now = self._deadline.remaining()
            due = [
                pod
                for uid, pod in here.items()
                if pod.deleting is None and uid not in failed and now <= self._due.get(uid, now)
            ]
            for pod, answer in self._send_all(due):
                self._note(pod, answer)
            if self._deadline.expired:
                break
            self._deadline.sleep(INTERVAL)
        if here:
            self._fail(here)

    def _answer(self, uid: str) -> str:
        return self._answers[uid].outcome if uid in self._answers else ""

    def _left(self, goals: dict[str, Pod]) -> dict[str, Pod]:
        """Return those that are still on the node and waited for: the same pods, not others of their names."""
        now = self._wall()
        return {
            pod.uid: pod
            for pod in self._pods()
            if pod.uid in goals and not _drain.lingers(pod, self._wanted.rules, now)
        }

    def _note(self, pod: Pod, answer: Answer) -> None:
        self._answers[pod.uid] = answer
        if answer.outcome == "done":
            kept = self.outcome.deleted if self._deletes else self.outcome.evicted
            kept.setdefault(pod.uid, (pod, None))
            self._accepted.setdefault(pod.uid, self._deadline.remaining())
        elif answer.outcome == "again":
            tries = self._tries[pod.uid] = self._tries.get(pod.uid, -1) + 1
            self._due[pod.uid] = self._deadline.remaining() - min(SLOWEST, 2.0**tries)

    def _note_gone(self, here: dict[str, Pod]) -> None:
        now = self._deadline.remaining()
        for kept in (self.outcome.evicted, self.outcome.deleted):
            for uid, (pod, seconds) in kept.items():
                if seconds is None and uid not in here:
                    kept[uid] = (pod, max(0.0, self._accepted[uid] - now))

    def _send_all(self, pods: list[Pod]) -> list[tuple[Pod, Answer]]:
        if not pods:
            return []
        with ThreadPoolExecutor(min(WORKERS, len(pods))) as pool:
            return list(zip(pods, pool.map(self._send, pods)))

    def _send(self, pod: Pod) -> Answer:
        """Ask the API server to end this very pod: one that has taken its name since is left alone."""
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        grace = 0 if self._unconfirmed else self._wanted.grace_period
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": pod.uid},
        }
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        query = {"dryRun": "All"} if self._check_mode else {}
        try:
            if self._deletes:
                self._api.delete(path, body=options, **query)
            else:
                body = {
                    "apiVersion": "policy/v1",
                    "kind": "Eviction",
                    "metadata": {"name": pod.name, "namespace": pod.namespace},
                    "deleteOptions": options,
                }
                self._api.request("POST", f"{path}/eviction", body=body, query=query)
        except ApiError as error:
            return _drain.read_refusal(error)
        return Answer("done")

    def _budgets(self, pods: Iterable[Pod]) -> list[Budget]:
        """Read the budgets of the namespaces of some pods; nobody waits for what only explains."""
        found: list[Budget] = []
        for namespace in sorted({pod.namespace for pod in pods}):
            try:
                items = self._api.list(f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets")
            except KubewrightError:
                continue
            found += [_drain.read_budget(item) for item in items]
        return found

    def _fail(self, here: dict[str, Pod]) -> None:
        out = self.outcome
        out.pending = sorted(pod.path for pod in here.values())
        kept = [pod for uid, pod in here.items() if self._answer(uid) in ("again", "never")]
        budgets = self._budgets(kept) if kept else []
        out.blocked = [_drain.blocked(pod, self._answers[pod.uid].message, budgets) for pod in kept]
        ending = [pod.path for pod in here.values() if pod.deleting is not None]
        why = [f"it does not let go: {'; '.join(map(_drain.blocked_text, out.blocked))}"] if kept else []
        if ending:
            why.append(f"asked to end, but still there: {', '.join(sorted(ending))}")
        never = all(self._answer(uid) == "never" for uid in here)
        stays = "The node takes pods again. " if self._gives_back else "The node stays cordoned. "
        remedy = f"{stays}Make room for these pods, change their PodDisruptionBudget, or wait, and run again"
        if ending and not out.ready:
            remedy += (
                ". The node is not ready, so its kubelet tells nobody that containers have ended: if the host is "
                "powered off, set accept_unconfirmed_deletion"
            )
        kind = KubewrightError if never else DeadlineExpired
        raise kind(
            f"{self._wanted.name} still has {len(here)} pods that should leave"
            + ("" if never else f" after {self._deadline.seconds:g} seconds"),
            why=". ".join(why),
            remedy=remedy,
        )
