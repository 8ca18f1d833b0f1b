# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs in a pod: what is made in which order, what is found out, and that nothing stays, against a fake API."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._pod_command import Ended, Program, run
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

JOB = "/apis/batch/v1/namespaces/monitoring/jobs/check"
SECRET = "/api/v1/namespaces/monitoring/secrets/check"
PODS = "/api/v1/namespaces/monitoring/pods"
PROGRAMS = [
    Program("promtool", "prometheus:v3", ("promtool", "check", "rules", "/files/rules.yaml")),
    Program("amtool", "alertmanager:v0", ("amtool", "check-config", "/files/am.yaml")),
]
FILES = {"rules.yaml": "groups: []\n", "am.yaml": "password: s3cr3t\n"}


class FakeApi:
    """A cluster in which a pod goes through the states that it is given, one a look."""

    def __init__(self, *looks: list[dict[str, Any]]) -> None:
        self.looks = list(looks)
        self.did: list[tuple[str, str]] = []
        self.bodies: dict[str, list[dict[str, Any]]] = {}
        self.refuses: dict[str, ApiError] = {}

    def apply(self, path: str, body: dict[str, Any], manager: str) -> Any:
        self.did.append(("apply", path))
        self.bodies.setdefault(path, []).append(body)
        if path in self.refuses:
            raise self.refuses[path]
        return {**body, "metadata": {**body["metadata"], "uid": "u-1"}}

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        assert (path, query) == (PODS, {"labelSelector": "job-name=check"})
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def get(self, path: str, **query: Any) -> Any:
        assert path == f"{PODS}/check-x1/log"
        return f"{query['container']} says\n"

    def delete(self, path: str, **query: Any) -> None:
        self.did.append(("delete", path))


def pod(*states: dict[str, Any], conditions: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    statuses = [{"name": one.name, "state": state} for one, state in zip(PROGRAMS, states)]
    status = {"phase": "Pending", "containerStatuses": statuses, "conditions": conditions or []}
    return {"metadata": {"name": "check-x1"}, "status": status}


def ended(code: int) -> dict[str, Any]:
    return {"terminated": {"exitCode": code}}


def start(api: FakeApi, seconds: float = 5) -> list[Ended]:
    deadline = Deadline(seconds, sleep=lambda _seconds: None)
    return run(api, "check", "monitoring", PROGRAMS, FILES, deadline)  # type: ignore[arg-type]


def test_programs_run_with_their_files_and_nothing_stays() -> None:
    running = pod({"running": {}}, ended(0))
    api = FakeApi([], [running], [pod(ended(0), ended(1))])
    assert start(api) == [Ended("promtool", 0, "promtool says"), Ended("amtool", 1, "amtool says")]
    made = [("apply", JOB), ("apply", SECRET), ("apply", JOB)]
    assert api.did == [*made, ("delete", SECRET), ("delete", JOB)]
    held, released = api.bodies[JOB]
    assert (held["spec"]["suspend"], released["spec"]["suspend"]) == (True, False)
    (secret,) = api.bodies[SECRET]
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert base64.b64decode(secret["data"]["am.yaml"]).decode() == FILES["am.yaml"]


def test_the_pod_may_do_nothing_else() -> None:
    api = FakeApi([pod(ended(0), ended(0))])
    start(api)
    spec = api.bodies[JOB][1]["spec"]
    assert spec["ttlSecondsAfterFinished"] == 60 and spec["activeDeadlineSeconds"] == 5
    inner = spec["template"]["spec"]
    assert inner["automountServiceAccountToken"] is False and inner["securityContext"]["runAsNonRoot"]
    assert all(one["securityContext"]["capabilities"] == {"drop": ["ALL"]} for one in inner["containers"])


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ([], "it was not made"),
        (
            [pod({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}, ended(0))],
            "promtool: ImagePullBackOff no such image",
        ),
        (
            [pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}])],
            "0/3 nodes",
        ),
    ],
)
def test_what_keeps_it_is_named_and_it_is_deleted(found: list[dict[str, Any]], reason: str) -> None:
    api = FakeApi(found)
    with pytest.raises(KubewrightError, match=reason):
        start(api, seconds=0)
    assert api.did[-1] == ("delete", JOB)


def test_a_refused_secret_is_not_quoted() -> None:
    api = FakeApi([])
    why = "password: s3cr3t is invalid"
    api.refuses[SECRET] = ApiError("PATCH was refused", status=422, reason="Invalid", why=why)
    with pytest.raises(ApiError) as caught:
        start(api)
    assert "s3cr3t" not in str(caught.value) and "Invalid" in str(caught.value)
    assert api.did[-1] == ("delete", JOB)
