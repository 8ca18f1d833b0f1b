# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Silences against a fake Alertmanager behind a fake API: begun, gone on with, ended, and never in the way."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._alert_silence import moment
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.modules import alert_silence

PLACE = "/api/v1/namespaces/monitoring/services/http:alertmanager:9093/proxy/api/v2/silences"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
TURN = {"name": "turn of w1", "silences": [{"node": "w1", "alertname": "A|B"}, {"server": "w1"}]}


class FakeAlertmanager:
    """Keeps silences; an id that it knows is changed, as the real one does while the matchers stay."""

    def __init__(self, error: ApiError | None = None) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.error = error

    def get(self, path: str) -> Any:
        assert path == PLACE
        if self.error:
            raise self.error
        return list(self.held.values())

    def request(self, method: str, path: str, *, body: dict[str, Any]) -> Any:
        assert (method, path) == ("POST", PLACE)
        known = body.get("id") or f"s{len(self.held) + 1}"
        if body.get("id"):
            assert self.held[known]["matchers"] == body["matchers"]
        # It writes times with a fraction and Z.
        times = {key: moment(body[key]).strftime("%Y-%m-%dT%H:%M:%S.000Z") for key in ("startsAt", "endsAt")}
        self.held[known] = {**body, **times, "id": known, "status": {"state": "active"}}

    def ends(self) -> list[datetime]:
        return [moment(one["endsAt"]) for one in self.held.values()]


def work(api: FakeAlertmanager, now: datetime = NOW, act: bool = True, **options: Any) -> dict[str, Any]:
    defaults = {name: one.get("default") for name, one in alert_silence.ARGUMENTS.items()}
    return alert_silence.work({**defaults, **TURN, **options}, api, now, act=act)  # type: ignore[arg-type]


def test_what_is_caused_is_silenced_and_nothing_else() -> None:
    api = FakeAlertmanager()
    assert work(api) == {"changed": True, "reached": True}
    first, second = api.held.values()
    assert [(one["name"], one["value"]) for one in first["matchers"]] == [
        ("node", "w1"),
        ("alertname", "A|B"),
    ]
    assert all(one["isRegex"] and one["isEqual"] for one in first["matchers"])
    assert [one["name"] for one in second["matchers"]] == ["server"]
    assert api.ends() == [NOW + timedelta(hours=1)] * 2


def test_a_run_that_was_cut_off_is_gone_on_with() -> None:
    api = FakeAlertmanager()
    work(api)
    later = NOW + timedelta(minutes=30)
    work(api, later)
    assert len(api.held) == 2 and api.ends() == [later + timedelta(hours=1)] * 2


def test_it_ends_a_little_after_the_work() -> None:
    api = FakeAlertmanager()
    work(api)
    assert work(api, state="absent") == {"changed": True, "reached": True}
    assert api.ends() == [NOW + timedelta(minutes=5)] * 2
    assert work(api, state="absent") == {"changed": False, "reached": True}


def test_silences_of_others_are_left_alone() -> None:
    api = FakeAlertmanager()
    work(api, name="turn of w2")
    of_a_person = {"createdBy": "jane", "comment": "turn of w1 (1)", "status": {"state": "active"}}
    api.held["jane"] = {**of_a_person, "endsAt": "2027-01-01T00:00:00.000Z"}
    assert work(api, state="absent") == {"changed": False, "reached": True}
    api.held["s1"] = {**api.held["s1"], "comment": "turn of w1 (1)", "status": {"state": "expired"}}
    assert not work(api, state="absent")["changed"]


def test_check_mode_silences_nothing() -> None:
    api = FakeAlertmanager()
    assert work(api, act=False)["changed"] and api.held == {}
    work(api)
    before = api.ends()
    assert work(api, act=False, state="absent")["changed"] and api.ends() == before


def test_without_monitoring_nothing_is_done() -> None:
    missing = ApiError("GET was refused", status=404, reason="NotFound")
    assert work(FakeAlertmanager(missing)) == {"changed": False, "reached": False}


def test_one_that_does_not_answer_is_told_of() -> None:
    with pytest.raises(KubewrightError):
        work(FakeAlertmanager(ApiError("GET was refused", status=503, reason="ServiceUnavailable")))
