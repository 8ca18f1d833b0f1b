# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kube-proxy is rolled over; the API and the DaemonSet controller are faked."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_proxy import (
    ANNOTATION,
    CONFIG_KEY,
    KubeProxy,
    digest,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline


class FakeCluster:
    """Rolls one pod at a look; a pod with a configuration that has "bad" in it is restarted for ever."""

    def __init__(self) -> None:
        self.now = 0.0
        self.config = "old"
        self.noted: str | None = None
        self.template: str | None = None
        self.pods: list[str | None] = [None, None]
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
        if "configmaps" in path:
            self.config = body["data"][CONFIG_KEY]
            self.writes.append(f"configuration {self.config}")
        elif "spec" in body:
            self.template = body["spec"]["template"]["metadata"]["annotations"][ANNOTATION]
            self.writes.append("pods")
        else:
            self.noted = body["metadata"]["annotations"][ANNOTATION]
            self.writes.append("note")

    def get(self, path: str, **_query: Any) -> Any:
        if path.endswith("/log"):
            return "starting\nerror: unknown mode\n"
        late = [index for index, mark in enumerate(self.pods) if mark != self.template]
        crashing = "bad" in self.config and self.template == digest(self.config)
        if late and not (crashing and len(late) < len(self.pods)):
            self.pods[late[0]] = self.template
        updated = sum(mark == self.template for mark in self.pods)
        return {
            "metadata": {"generation": 3, "annotations": {ANNOTATION: self.noted} if self.noted else {}},
            "spec": {
                "template": {
                    "metadata": {"annotations": {ANNOTATION: self.template} if self.template else {}}
                }
            },
            "status": {
                "observedGeneration": 3,
                "desiredNumberScheduled": 2,
                "updatedNumberScheduled": updated,
                "numberReady": 1 if crashing else 2,
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
    assert cluster.writes == ["note", "configuration new", "pods"]
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
