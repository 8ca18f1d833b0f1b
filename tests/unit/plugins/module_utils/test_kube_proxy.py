# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube-proxy is rolled over; the API and the DaemonSet controller are faked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_proxy import (
    ANNOTATION,
    CONFIG_KEY,
    PROVEN,
    KubeProxy,
    digest,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline


class Killed(BaseException):
    """The run is stopped here."""


class FakeCluster:
    """Rolls one pod every *pace* seconds; a pod with a configuration that has "bad" in it is restarted for ever.

    The run is stopped at the write *killed_at*, which is not done any more.
    """

    def __init__(self, nodes: int = 2, pace: float = 0) -> None:
        self.pace = pace
        self.next = 0.0
        self.killed_at = ""
        self.proven: str | None = None
        self.away = 0
        self.now = 0.0
        self.config = "old"
        self.noted: str | None = None
        self.template: str | None = None
        self.pods: list[str | None] = [None] * nodes
        self.writes: list[str] = []
        self.errors = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def proxy(self) -> KubeProxy:
        return KubeProxy(self, lambda: Deadline(30, clock=self.clock, sleep=self.sleep))

    def request(self, method: str, path: str, *, body: Any = None, content_type: str = "") -> Any:
        assert (method, content_type) == ("PATCH", "application/merge-patch+json")
        if self.errors:
            self.errors -= 1
            raise ApiError("no answer", status=0, transient=True)
        annotations = (body.get("metadata") or {}).get("annotations") or {}
        if self.killed_at and self.killed_at in json.dumps(body):
            raise Killed
        if "configmaps" in path:
            self.config = body["data"][CONFIG_KEY]
            self.writes.append(f"configuration {self.config}")
        elif "spec" in body:
            self.template = body["spec"]["template"]["metadata"]["annotations"][ANNOTATION]
            self.writes.append("pods")
        else:
            self.noted = annotations.get(ANNOTATION, self.noted)
            self.proven = annotations[PROVEN]
            self.writes.append("note" if self.proven else "proven")

    def get(self, path: str, **_query: Any) -> Any:
        if path.endswith("/log"):
            return "starting\nerror: unknown mode\n"
        late = [index for index, mark in enumerate(self.pods) if mark != self.template]
        crashing = "bad" in self.config and self.template == digest(self.config)
        if late and not (crashing and len(late) < len(self.pods)) and self.now >= self.next:
            self.pods[late[0]] = self.template
            self.next = self.now + self.pace
        updated = sum(mark == self.template for mark in self.pods)
        return {
            "metadata": {
                "generation": 3,
                "annotations": {
                    name: value for name, value in ((ANNOTATION, self.noted), (PROVEN, self.proven)) if value
                },
            },
            "spec": {
                "template": {
                    "metadata": {"annotations": {ANNOTATION: self.template} if self.template else {}}
                }
            },
            "status": {
                "observedGeneration": 3,
                "desiredNumberScheduled": len(self.pods),
                "updatedNumberScheduled": updated,
                "numberReady": len(self.pods) - (1 if crashing else self.away),
            },
        }

    def list(self, _path: str, **_query: Any) -> list[dict[str, Any]]:
        return [
            {
                "metadata": {
                    "name": f"kube-proxy-{index}",
                    "annotations": {ANNOTATION: mark} if mark else {},
                },
                "spec": {"nodeName": f"node{index}"},
                "status": {"containerStatuses": [{"restartCount": 3 if mark == digest("bad") else 0}]},
            }
            for index, mark in enumerate(self.pods)
        ]


def test_every_pod_is_replaced_and_a_silent_api_is_asked_again() -> None:
    cluster = FakeCluster()
    cluster.errors = 2
    cluster.proxy().replace("old", "new")
    assert cluster.config == "new" and cluster.pods == [digest("new")] * 2
    assert cluster.writes == ["note", "configuration new", "pods", "proven"]
    assert not cluster.proxy().unrolled()


def test_a_configuration_that_does_not_work_is_taken_back_after_the_first_pod() -> None:
    cluster = FakeCluster()
    with pytest.raises(KubewrightError) as failed:
        cluster.proxy().replace("old", "bad")
    assert cluster.config == "old" and cluster.pods == [None, None] and not cluster.proxy().unrolled()
    assert "unknown mode" in str(failed.value) and "node0" in str(failed.value)
    assert cluster.now < 10


def test_a_run_that_was_stopped_before_the_pods_is_seen() -> None:
    cluster = FakeCluster()
    cluster.noted, cluster.config = digest("new"), "new"
    assert cluster.proxy().unrolled()
    cluster.proxy().replace("new", "new")
    assert cluster.pods == [digest("new")] * 2 and not cluster.proxy().unrolled()


def test_a_large_cluster_has_the_time_that_it_needs() -> None:
    """The deadline of 30 seconds is for one pod more, not for all."""
    cluster = FakeCluster(nodes=10, pace=20)
    cluster.proxy().replace("old", "new")
    assert cluster.pods == [digest("new")] * 10 and cluster.now > 100


def test_pods_that_come_and_go_are_no_progress() -> None:
    """A node that is lost for good holds the rollout up: it ends, and so does the way back."""
    cluster = FakeCluster(nodes=3, pace=10_000)
    flapping = iter(range(10_000))
    real = cluster.get

    def get(path: str, **query: Any) -> Any:
        cluster.away = next(flapping) % 2
        return real(path, **query)

    cluster.get = get  # type: ignore[method-assign]
    with pytest.raises(KubewrightError, match="after 30 seconds"):
        cluster.proxy().replace("old", "new")
    assert cluster.now < 200


@pytest.mark.parametrize("moment", [CONFIG_KEY, '"template"', f'{{"{PROVEN}": null}}'])
def test_after_a_stop_the_way_back_leads_to_the_configuration_that_worked(moment: str) -> None:
    cluster = FakeCluster()
    cluster.killed_at = moment
    with pytest.raises(Killed):
        cluster.proxy().replace("old", "new")
    cluster.killed_at = ""
    assert cluster.proxy().unrolled(), "the rollout was never proven"
    with pytest.raises(KubewrightError):
        # What the ConfigMap has now is not what worked.
        cluster.proxy().replace(cluster.config, "bad")
    assert cluster.config == "old" and cluster.pods == [None, None] and not cluster.proxy().unrolled()


def test_a_rollout_that_was_stopped_is_proven_by_the_next_run() -> None:
    cluster = FakeCluster()
    cluster.killed_at = f'{{"{PROVEN}": null}}'
    with pytest.raises(Killed):
        cluster.proxy().replace("old", "new")
    cluster.killed_at = ""
    cluster.proxy().replace("new", "new")
    assert cluster.config == "new" and cluster.pods == [digest("new")] * 2 and not cluster.proxy().unrolled()
