# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Elasticsearch itself keeps for the logging, against a fake that keeps it as the real one does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _elasticsearch_settings as settings
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import ElasticsearchError
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, DeadlineExpired
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

OPTIONS = settings.Options(replicas=1, retention_days=30, total_fields=2000)


def error(status: int, transient: bool = False) -> ElasticsearchError:
    return ElasticsearchError("refused", status=status, transient=transient)


def texts(value: Any) -> Any:
    """Give settings back as Elasticsearch does: every leaf is a text."""
    if isinstance(value, dict):
        return {key: texts(one) for key, one in value.items()}
    return json.dumps(value) if isinstance(value, (bool, int)) else value


class FakeElasticsearch:
    """Keeps templates, policies and settings; adds to what it was given what the real one adds."""

    def __init__(self, *, has_ilm: bool = True) -> None:
        self.has_ilm = has_ilm
        self.templates: dict[str, Any] = {}
        self.policies: dict[str, Any] = {}
        self.persistent: dict[str, Any] = {}
        self.indices: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        self.health: list[Any] = []
        self.failures: list[ElasticsearchError] = []

    def find(self, path: str) -> Any:
        if path.startswith("/_ilm/"):
            if not self.has_ilm:
                raise error(400)
            name = path.rpartition("/")[2]
            return {name: {"version": 1, "policy": self.policies[name]}} if name in self.policies else None
        name = path.removeprefix("/_index_template/")
        if name not in self.templates:
            return None
        return {"index_templates": [{"name": name, "index_template": self.templates[name]}]}

    def get(self, path: str, **query: Any) -> Any:
        if path == "/_cluster/health":
            found = self.health.pop(0) if self.health else {"status": "green"}
            if isinstance(found, Exception):
                raise found
            return found
        assert query["flat_settings"] is True
        if path == "/_cluster/settings":
            return {"persistent": dict(self.persistent), "transient": {}}
        assert path == "/logstash-*/_settings" and query["allow_no_indices"] is True
        return {name: {"settings": dict(found)} for name, found in self.indices.items()}

    def request(self, method: str, path: str, body: Any) -> None:
        assert method == "PUT"
        if self.failures:
            raise self.failures.pop(0)
        self.writes.append(path)
        body = json.loads(json.dumps(body))
        if path == "/_cluster/settings":
            self.persistent |= body["persistent"]
            self.persistent = {key: one for key, one in self.persistent.items() if one is not None}
        elif path == "/logstash-*/_settings":
            for found in self.indices.values():
                found.update(body)
        elif path.startswith("/_ilm/"):
            body["policy"]["phases"]["delete"]["actions"]["delete"] = {"delete_searchable_snapshot": True}
            self.policies[path.rpartition("/")[2]] = body["policy"]
        else:
            lifecycle = body["template"]["settings"]["index"].get("lifecycle")
            assert self.has_ilm or lifecycle is None, "an unknown setting is refused"
            body["template"]["settings"] = texts(body["template"]["settings"])
            self.templates[path.rpartition("/")[2]] = {**body, "composed_of": [], "created_date_millis": 1}


def run(server: FakeElasticsearch, options: settings.Options = OPTIONS, *, check: bool = False) -> list[str]:
    changes = settings.plan(settings.observe(server), options)
    if not check:
        settings.apply(server, changes, Deadline(5, sleep=lambda seconds: None))
    return [change.what for change in changes]


def test_everything_is_made_once() -> None:
    server = FakeElasticsearch()
    assert run(server, check=True) == ["policy", "template"] and server.writes == []
    assert run(server) == ["policy", "template"]
    assert run(server) == run(server, check=True) == []
    assert server.policies["logstash-retention"]["phases"]["delete"]["min_age"] == "30d"
    index = server.templates["logstash"]["template"]["settings"]["index"]
    assert (index["number_of_replicas"], index["lifecycle"]) == ("1", {"name": "logstash-retention"})


def test_the_template_refuses_no_line() -> None:
    made = settings.template(OPTIONS, has_ilm=True)
    index, mappings = made["template"]["settings"]["index"], made["template"]["mappings"]
    assert made["index_patterns"] == ["logstash-*"] and index["number_of_shards"] == "1"
    assert index["mapping"] == {
        "total_fields": {"limit": "2000", "ignore_dynamic_beyond_limit": "true"},
        "ignore_malformed": "true",
    }
    assert (mappings["date_detection"], mappings["numeric_detection"]) == (False, False)
    assert mappings["properties"]["kubernetes"]["properties"]["labels"] == {"type": "flattened"}
    assert mappings["properties"]["@timestamp"] == {"type": "date"}
    # Longer terms than Lucene's limit of 32,766 octets would refuse the line.
    (dynamic,) = mappings["dynamic_templates"]
    assert dynamic["texts"]["mapping"]["ignore_above"] * 4 < 32766


def test_a_server_without_ilm_gets_no_setting_of_it() -> None:
    server = FakeElasticsearch(has_ilm=False)
    server.indices["logstash-2026.11.21"] = {"index.number_of_replicas": "1"}
    assert run(server) == ["template"]
    assert run(server) == []
    assert "lifecycle" not in server.templates["logstash"]["template"]["settings"]["index"]


def test_a_server_that_gets_ilm_gets_it_for_old_indices_too() -> None:
    server = FakeElasticsearch(has_ilm=False)
    server.indices["logstash-2026.11.21"] = {"index.number_of_replicas": "1"}
    run(server)
    server.has_ilm = True
    assert run(server) == ["policy", "template", "indices"]
    assert server.indices["logstash-2026.11.21"]["index.lifecycle.name"] == "logstash-retention"
    assert run(server) == []


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        (settings.Options(1, 7, 2000), ["policy"]),
        (settings.Options(1, 30, 5000), ["template"]),
        (settings.Options(0, 30, 2000), ["template", "indices"]),
    ],
)
def test_other_wishes(options: settings.Options, changes: list[str]) -> None:
    server = FakeElasticsearch()
    for day in range(2):
        server.indices[f"logstash-2026.11.2{day}"] = {}
    run(server)
    assert run(server, options) == changes
    assert run(server, options) == []


def test_what_somebody_changed_comes_back() -> None:
    server = FakeElasticsearch()
    run(server)
    server.templates["logstash"]["template"]["mappings"]["properties"]["message"] = {"type": "keyword"}
    server.policies["logstash-retention"]["phases"]["delete"]["actions"] = {}
    assert run(server) == ["policy", "template"]
    assert run(server) == []


@pytest.mark.parametrize(("value", "changes"), [("primaries", ["allocation"]), ("none", []), ("all", [])])
def test_only_what_a_roll_left_is_restored(value: str, changes: list[str]) -> None:
    server = FakeElasticsearch()
    run(server)
    server.persistent = {settings.ALLOCATION: value, "action.auto_create_index": "true"}
    assert run(server) == changes
    assert (settings.ALLOCATION in server.persistent) is not bool(changes)
    assert server.persistent["action.auto_create_index"] == "true"


def test_the_diff_has_what_changes_only() -> None:
    server = FakeElasticsearch()
    run(server)
    server.indices = {"logstash-a": {"index.number_of_replicas": "1"}, "logstash-b": {}}
    server.indices["logstash-a"]["index.lifecycle.name"] = settings.POLICY
    shown = settings.diff(settings.plan(settings.observe(server), OPTIONS))
    assert list(json.loads(shown["after"])) == ["indices"]
    assert list(json.loads(shown["before"])["indices"]) == ["logstash-b"]
    assert settings.diff([]) == {"before": "", "after": ""}


def test_what_may_pass_is_tried_again() -> None:
    server = FakeElasticsearch()
    server.failures = [error(503, transient=True)]
    assert run(server) == ["policy", "template"] and run(server) == []
    server.policies.clear()
    server.failures = [error(400)]
    with pytest.raises(ElasticsearchError):
        run(server)


def test_an_error_of_ilm_is_not_taken_for_its_absence() -> None:
    class Failing(FakeElasticsearch):
        def find(self, path: str) -> Any:
            if path.startswith("/_ilm/"):
                raise error(403)
            return super().find(path)

    with pytest.raises(ElasticsearchError):
        run(Failing())


def test_it_waits_for_a_master_and_for_the_password() -> None:
    """The kubelets bring a new hash to the nodes later than the API server had the password."""
    server = FakeElasticsearch()
    server.health = [error(503, transient=True), error(401), {"status": "red"}]
    slept: list[float] = []
    deadline = Deadline(60, clock=lambda: sum(slept), sleep=slept.append)
    assert settings.when_formed(lambda: server, deadline) is server
    assert len(slept) == 2
    server.health = [error(401) for _ in range(10)]
    with pytest.raises(DeadlineExpired):
        settings.when_formed(lambda: server, Deadline(0))
    # That it is not installed does not pass.
    with pytest.raises(ApiError):
        settings.when_formed(missing, deadline)


def missing() -> Any:
    raise ApiError("There is no Service", status=404)
