# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_lock import (
    PATH,
    RUN,
    Claim,
    ClusterLock,
    read,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

ALICE = Claim("alice@a, process 1", "boot/ns/1/7", 60)
BOB = Claim("bob@b, process 2", "boot/ns/2/8", 60)


class FakeApi:
    """Keeps one Lease, as an API server does: with a version that every write has to name."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.before_write: list[Any] = []

    def get(self, path: str) -> Any:
        assert path == f"{PATH}/kubewright"
        if self.lease is None:
            raise self.error(404)
        return self.lease

    def request(self, method: str, path: str, *, body: dict[str, Any]) -> Any:
        while self.before_write:
            self.before_write.pop()()
        named = body["metadata"].get("resourceVersion")
        if method == "POST":
            assert path == PATH
            if self.lease is not None:
                raise self.error(409)
        else:
            assert path == f"{PATH}/kubewright"
            self.compare(named)
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}

    def delete(self, path: str, *, body: dict[str, Any]) -> None:
        self.compare(body["preconditions"]["resourceVersion"])
        self.lease = None

    def compare(self, named: str | None) -> None:
        if self.lease is None:
            raise self.error(404)
        if self.lease["metadata"]["resourceVersion"] != named:
            raise self.error(409)

    @staticmethod
    def error(status: int) -> ApiError:
        return ApiError("refused", status=status)

    def age(self, seconds: float) -> None:
        assert self.lease
        stamp = datetime.now(timezone.utc) - timedelta(seconds=seconds)
        self.lease["spec"]["renewTime"] = stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def lock(api: FakeApi) -> ClusterLock:
    return ClusterLock(api, Deadline(5, sleep=lambda _seconds: None))


def holder(api: FakeApi) -> str:
    held = read(api.lease, datetime.now(timezone.utc))
    return held.holder if held else ""


def test_one_run_keeps_the_others_away_until_it_lets_them_in(api: FakeApi) -> None:
    assert lock(api).hold(ALICE, act=True) is None
    with pytest.raises(
        KubewrightError, match="Another run works on this cluster: alice@a, process 1"
    ) as info:
        lock(api).hold(BOB, act=True)
    assert info.value.facts["run"] == ALICE.run and "ends in 60 seconds" in str(info.value)
    assert not lock(api).release(BOB.run, act=True) and holder(api) == ALICE.holder
    assert lock(api).release(ALICE.run, act=True)
    assert lock(api).hold(BOB, act=True) is None and holder(api) == BOB.holder


def test_it_is_renewed_and_remembers_since_when(api: FakeApi) -> None:
    lock(api).hold(ALICE, act=True)
    assert api.lease
    since = api.lease["spec"]["acquireTime"]
    api.age(50)
    before = lock(api).hold(ALICE, act=True)
    assert before and before.seconds <= 11
    now = read(api.lease, datetime.now(timezone.utc))
    assert now and now.seconds > 55 and api.lease["spec"]["acquireTime"] == since


def test_one_that_nobody_renews_ends(api: FakeApi) -> None:
    lock(api).hold(ALICE, act=True)
    api.age(61)
    assert lock(api).hold(BOB, act=True) is None and holder(api) == BOB.holder


def test_that_of_a_run_that_is_gone_is_taken_over(api: FakeApi) -> None:
    lock(api).hold(ALICE, act=True)
    before = lock(api).hold(Claim("bob", "2", 60, gone=[ALICE.run]), act=True)
    assert before and before.holder == ALICE.holder and holder(api) == "bob"


def test_it_is_taken_over_where_that_is_wanted(api: FakeApi) -> None:
    lock(api).hold(ALICE, act=True)
    lock(api).hold(Claim("bob", "2", 60, take_over=True), act=True)
    assert holder(api) == "bob"
    # Whose lock was taken begins no other turn.
    with pytest.raises(KubewrightError, match="bob"):
        lock(api).hold(ALICE, act=True)


def test_without_acting_nothing_is_written(api: FakeApi) -> None:
    lock(api).hold(ALICE, act=False)
    assert api.lease is None
    lock(api).hold(ALICE, act=True)
    kept = api.version
    with pytest.raises(KubewrightError):
        lock(api).hold(BOB, act=False)
    assert lock(api).release(ALICE.run, act=False)
    assert api.version == kept and holder(api) == ALICE.holder


@pytest.mark.parametrize("exists", [False, True])
def test_the_quicker_one_of_two_has_it(api: FakeApi, exists: bool) -> None:
    if exists:
        lock(api).hold(ALICE, act=True)
        api.age(61)
    api.before_write = [lambda: lock(api).hold(BOB, act=True)]
    with pytest.raises(KubewrightError, match="bob@b"):
        lock(api).hold(ALICE, act=True)


def test_a_lease_of_another_client_is_read() -> None:
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    spec = {"holderIdentity": "x", "renewTime": stamp, "leaseDurationSeconds": 30}
    held = read({"metadata": {"annotations": {RUN: "r"}}, "spec": spec}, datetime.now(timezone.utc))
    assert held and (held.holder, held.run, held.since) == ("x", "r", stamp)
    assert read({"metadata": {}, "spec": {}}, datetime.now(timezone.utc)) is None
