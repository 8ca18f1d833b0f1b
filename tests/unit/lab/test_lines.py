# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered lines: what a writer says is what is counted."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab import lines, lines_remote
from lab.lines import Lines, Logging, Tally
from lab.shell import LabError


def said(what: Lines) -> list[str]:
    script = what.script("writer-1")
    return subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize(("count", "batch"), [(1, 10), (10, 10), (25, 10)])
def test_a_writer_says_every_number_once(count: int, batch: int) -> None:
    found = said(Lines("token", count, width=3, batch=batch, pause=0.01))
    assert found == [f"token writer-1 {number} ..." for number in range(1, count + 1)]


def test_each_writer_is_on_its_node_whatever_its_taints() -> None:
    space, *pods = Lines("token", 5).pods("here", {"one": "cp1", "two": "worker1"})
    assert (space["kind"], space["metadata"]["name"]) == ("Namespace", "here")
    assert {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in pods} == {
        "one": "cp1",
        "two": "worker1",
    }
    for pod in pods:
        assert pod["spec"]["tolerations"] == [{"operator": "Exists"}]
        # Every number is written once.
        assert pod["spec"]["restartPolicy"] == "Never"
        assert pod["metadata"]["namespace"] == "here"


class FakeServer:
    """Stands for Elasticsearch: gives what it holds in pages, as a scroll does."""

    def __init__(self, messages: list[str], page: int = 2) -> None:
        self.pages = [messages[at : at + page] for at in range(0, len(messages), page)]
        self.asked: list[str] = []

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        self.asked.append(f"{method} {path}")
        hits = [{"_source": {"message": one}} for one in (self.pages.pop(0) if self.pages else [])]
        return {"status": 200, "body": {"_scroll_id": "s", "hits": {"hits": hits}}}


def test_missing_and_doubled_numbers_are_counted_by_writer() -> None:
    messages = ["token a 1 ...", "token a 3 ...", "token b 1 ...", "token a 3 ...", "token b 2", "token b 3"]
    server = FakeServer([*messages, "about token a 2 ..."])
    assert lines_remote.tally(server, "token", 3) == {
        "a": {"distinct": 2, "twice": 1, "missing": 1, "named": [2]},
        "b": {"distinct": 3, "twice": 0, "missing": 0, "named": []},
    }
    assert server.asked[-1] == "DELETE /_search/scroll"


def test_a_search_that_is_refused_is_no_count() -> None:
    class Refuses:
        def ask(self, *_arguments: Any) -> dict[str, Any]:
            return {"status": 503, "body": "no shard"}

    with pytest.raises(SystemExit, match="status 503: no shard"):
        lines_remote.tally(Refuses(), "token", 3)


class FakeHost:
    """Stands for podman: kubectl answers with Secrets and the Service, and the remote part with what it is given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.orders: list[dict[str, Any]] = []

    def __call__(self, argv: list[str | Path], stdin: str | None = None, **_options: Any) -> str:
        words = [str(word) for word in argv]
        if "kubectl" in words:
            return json.dumps({"items": [self.secret("operator"), self.secret("tls"), self.service()]})
        assert "secret-operator" not in " ".join(words) and words[-1] == lines.REMOTE.read_text()
        self.orders.append(json.loads(stdin or ""))
        return json.dumps(self.answer)

    @staticmethod
    def secret(name: str) -> dict[str, Any]:
        values = {"username": name, "password": f"secret-{name}", "ca.crt": f"authority of {name}"}
        return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}

    @staticmethod
    def service() -> dict[str, Any]:
        return {"spec": {"clusterIP": "10.96.0.7"}}


def test_elasticsearch_is_asked_as_the_operator_and_the_password_is_in_no_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = FakeHost({"status": 200, "body": {"count": 7}})
    monkeypatch.setattr(lines, "run", host)
    assert Logging("cp1").count("token") == 7
    [order] = host.orders
    assert order["address"] == "10.96.0.7" and order["authority"] == "authority of tls"
    assert (order["user"], order["password"]) == ("operator", "secret-operator")
    assert order["path"].startswith("/logstash-*/_count")
    host.answer = {"a": {"distinct": 2, "twice": 1, "missing": 1, "named": [2]}}
    assert Logging("cp1").tally("token", 3) == {"a": Tally(2, 1, 1, (2,))}
    assert host.orders[-1]["lines"] == 3


def test_what_elasticsearch_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "run", FakeHost({"status": 403, "body": {"error": "blocked"}}))
    with pytest.raises(LabError, match=r"GET /_cluster/health: 403 .*blocked"):
        Logging("cp1").ask("GET", "/_cluster/health")


def test_the_remote_part_needs_nothing_but_python() -> None:
    imported = [line for line in lines.REMOTE.read_text().splitlines() if line.startswith(("import", "from"))]
    assert not [line for line in imported if "lab" in line]
