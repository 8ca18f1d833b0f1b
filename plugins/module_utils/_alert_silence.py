# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Silences in an Alertmanager of the cluster, which is reached through the API server.

A silence of ours is known by who made it and by its comment, so that a run that was cut off leaves one that the next
run finds, and that ends by itself in any case.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi

AUTHOR = "kubewright"
_NOT_FOUND = 404


@dataclass(frozen=True)
class Wanted:
    """One silence: alerts whose labels match all of these expressions."""

    comment: str
    matchers: tuple[tuple[str, str], ...]

    def body(self, begins: datetime, ends: datetime, known: str) -> dict[str, Any]:
        return {
            **({"id": known} if known else {}),
            "matchers": [
                {"name": name, "value": value, "isRegex": True, "isEqual": True}
                for name, value in self.matchers
            ],
            "startsAt": begins.isoformat(),
            "endsAt": ends.isoformat(),
            "createdBy": AUTHOR,
            "comment": self.comment,
        }


def wanted(name: str, silences: Sequence[Mapping[str, str]]) -> list[Wanted]:
    """Return what is wanted; the number in the comment tells several of one name apart."""
    return [
        Wanted(f"{name} ({number})", tuple((key, str(value)) for key, value in one.items()))
        for number, one in enumerate(silences, start=1)
    ]


class Alertmanager:
    """Its API, version 2."""

    def __init__(self, api: KubeApi, namespace: str, service: str, now: datetime) -> None:
        self._api = api
        self._base = f"/api/v1/namespaces/{namespace}/services/http:{service}/proxy/api/v2/silences"
        self._now = now

    def find(self, silences: Sequence[Wanted]) -> dict[str, dict[str, Any]] | None:
        """Return our silences that have not ended, by their comments; None where there is no Alertmanager."""
        try:
            found = self._api.get(self._base)
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        comments = {one.comment for one in silences}
        return {
            one["comment"]: one
            for one in found
            if one["createdBy"] == AUTHOR
            and one["comment"] in comments
            and one["status"]["state"] in ("active", "pending")
        }

    def begin(self, silences: Sequence[Wanted], known: Mapping[str, Any], seconds: int) -> None:
        """Let them last so long from now on."""
        ends = self._now + timedelta(seconds=seconds)
        for one in silences:
            before = known.get(one.comment)
            body = one.body(self._now, ends, before["id"] if before else "")
            self._api.request("POST", self._base, body=body)

    def end(self, known: Mapping[str, Any], linger: int) -> int:
        """Let those that are there end after *linger* seconds. Return how many that shortens."""
        ends = self._now + timedelta(seconds=linger)
        later = [one for one in known.values() if moment(one["endsAt"]) > ends + timedelta(seconds=1)]
        for one in later:
            fields = ("id", "matchers", "startsAt", "createdBy", "comment")
            body = {**{key: one[key] for key in fields}, "endsAt": ends.isoformat()}
            self._api.request("POST", self._base, body=body)
        return len(later)


def moment(text: str) -> datetime:
    """Read a time as Alertmanager writes it, with or without a fraction, in UTC."""
    return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
