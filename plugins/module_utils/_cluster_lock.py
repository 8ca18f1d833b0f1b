# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep other runs away from a cluster: a Lease that a run holds while it works, and renews at each of its turns.

A run that is cut off leaves its Lease behind. It ends by itself, as a lock has to whose holder may be gone (kured
137), and the machine on which the run was started knows earlier that nobody is left who could renew it.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, TypeVar

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

NAMESPACE, NAME = "kube-system", "kubewright"
PATH = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
# The process that holds it, for the machine that can look whether it still runs. Who it is, is for people.
RUN = "kubewright.cluster/run"

_CONFLICT, _NOT_FOUND = 409, 404
_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """Who asks: *holder* is for people, *run* is one process; *gone* are runs of which nobody is left."""

    holder: str
    run: str
    seconds: int
    gone: Collection[str] = ()
    take_over: bool = False


@dataclass(frozen=True)
class Held:
    """A lock that somebody has; *seconds* are what is left of it."""

    holder: str
    run: str
    since: str
    renewed: str
    seconds: int


def read(lease: Mapping[str, Any] | None, now: datetime) -> Held | None:
    """Return who holds the lock, None where nobody does any more."""
    spec = (lease or {}).get("spec") or {}
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return None
    ends = _time(spec["renewTime"]) + timedelta(seconds=spec.get("leaseDurationSeconds") or 0)
    if ends <= now:
        return None
    return Held(
        spec["holderIdentity"],
        (((lease or {}).get("metadata") or {}).get("annotations") or {}).get(RUN, ""),
        spec.get("acquireTime") or spec["renewTime"],
        spec["renewTime"],
        int((ends - now).total_seconds()) + 1,
    )


def stands_in_the_way(held: Held, claim: Claim) -> bool:
    """Tell whether a lock is somebody else's, who may still be there."""
    return held.run not in (claim.run, *claim.gone) and not claim.take_over


def lease(claim: Claim, held: Held | None, before: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    """Return the Lease of a claim in place of the one of before; it is refused where that has changed meanwhile."""
    about: dict[str, Any] = {"name": NAME, "namespace": NAMESPACE, "annotations": {RUN: claim.run}}
    if before:
        about["resourceVersion"] = before["metadata"]["resourceVersion"]
    stamp = now.strftime(_STAMP)
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": about,
        "spec": {
            "holderIdentity": claim.holder,
            "leaseDurationSeconds": claim.seconds,
            "acquireTime": held.since if held and held.run == claim.run else stamp,
            "renewTime": stamp,
        },
    }


def _time(stamp: str) -> datetime:
    """Read a MicroTime; kubectl and other clients leave the fraction out."""
    text = stamp if "." in stamp else stamp.replace("Z", ".0Z")
    return datetime.strptime(text, _STAMP).replace(tzinfo=timezone.utc)


class ClusterLock:
    """The lock of one cluster. *api* is any of its API servers."""

    def __init__(self, api: Any, deadline: Deadline) -> None:
        self._api = api
        self._deadline = deadline

    def hold(self, claim: Claim, *, act: bool) -> Held | None:
        """Take or renew the lock; return who had it before. Without *act* only look."""

        def attempt() -> Held | None:
            before = self._look()
            now = datetime.now(timezone.utc)
            held = read(before, now)
            if held and stands_in_the_way(held, claim):
                raise refusal(held)
            if act:
                self._write(lease(claim, held, before, now), replaces=before is not None)
            return held

        return self._patiently(attempt)

    def release(self, run: str, *, act: bool) -> bool:
        """Give the lock back where this run has it; tell whether it had."""

        def attempt() -> bool:
            before = self._look()
            held = read(before, datetime.now(timezone.utc))
            if before is None or held is None or held.run != run:
                return False
            if act:
                conditions = {"resourceVersion": before["metadata"]["resourceVersion"]}
                self._api.delete(f"{PATH}/{NAME}", body={"preconditions": conditions})
            return True

        return self._patiently(attempt)

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Try again where the API server cannot say, or somebody was quicker: then what there is decides."""

        def tried() -> tuple[T]:
            try:
                return (attempt(),)
            except ApiError as error:
                error.transient = error.transient or error.status in (_CONFLICT, _NOT_FOUND)
                raise

        return wait_for(tried, self._deadline, what="the lock of the cluster")[0]

    def _look(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._api.get(f"{PATH}/{NAME}")
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return None
        return found

    def _write(self, body: Mapping[str, Any], *, replaces: bool) -> None:
        if replaces:
            self._api.request("PUT", f"{PATH}/{NAME}", body=body)
        else:
            self._api.request("POST", PATH, body=body)


def refusal(held: Held) -> KubewrightError:
    """Say who works on the cluster, and how the lock ends."""
    return KubewrightError(
        f"Another run works on this cluster: {held.holder}, since {_plain(held.since)}",
        where=f"Lease {NAMESPACE}/{NAME}",
        why=f"it was heard of last at {_plain(held.renewed)}",
        remedy=f"Let it end. If nobody is left of it, its lock ends in {held.seconds} seconds, or at once with "
        "-e kube_rolling_take_over_lock=true",
        holder=held.holder,
        run=held.run,
    )


def _plain(stamp: str) -> str:
    return f"{stamp[:10]} {stamp[11:19]} UTC"
