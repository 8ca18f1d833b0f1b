# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connections of a night watch, its writes and its watch, against a small server of HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from configmaps import Watcher, missing, read_all, writer
from httpline import Line

PATH = "/configmaps"


class FakeApi(ThreadingHTTPServer):
    """Answers what a test has put there, and knows which connections were used."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []
        self.connections: list[int] = []
        self.answers: dict[str, list[tuple[int, object]]] = {}
        self.pause = 0.0

    @property
    def place(self) -> tuple[str, int]:
        return "127.0.0.1", self.server_address[1]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: FakeApi

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.paths.append(self.path)
        self.server.connections.append(self.client_address[1])
        time.sleep(self.server.pause)
        answers = self.server.answers.get(self.path, [(200, {})])
        status, content = answers.pop(0) if len(answers) > 1 else answers[0]
        lines = content if isinstance(content, list) else [content]
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[FakeApi]:
    server = FakeApi()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def soon(seconds: float = 5) -> float:
    """Return a time of the monotonic clock."""
    return time.monotonic() + seconds


def test_every_call_has_a_connection_of_its_own(api: FakeApi) -> None:
    """Unless connections are kept."""
    line = Line(*api.place)
    for _ in range(5):
        line.ask("GET", PATH, soon())
    assert len(set(api.connections)) == 5


def test_connections_that_are_kept_take_turns(api: FakeApi) -> None:
    """So many are opened first."""
    line = Line(*api.place, keep=3)
    for _ in range(9):
        line.ask("GET", PATH, soon())
    used = api.connections
    assert len(set(used)) == 3 and used[3:6] == used[6:9]


def test_a_second_try_takes_a_fresh_connection(api: FakeApi) -> None:
    """The others that are kept may be as dead as the first one's."""
    line = Line(*api.place, keep=1)
    line.ask("GET", PATH, soon())
    line.ask("GET", PATH, soon(), again=True)
    assert len(set(api.connections)) == 2


def test_who_does_not_answer_in_time_has_failed(api: FakeApi) -> None:
    """The connection is not used again."""
    line = Line(*api.place, keep=1)
    line.ask("GET", PATH, soon())
    api.pause = 1.0
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        line.ask("GET", PATH, soon(0.1))
    assert time.monotonic() - begun < 1.0
    api.pause = 0.0
    line.ask("GET", PATH, soon())
    assert len(set(api.connections)) == 2


def test_a_status_that_is_not_wanted_is_an_error_and_keeps_the_connection(api: FakeApi) -> None:
    """As with an API server that cannot reach etcd."""
    api.answers[PATH] = [(503, {"message": "etcd"}), (200, {})]
    line = Line(*api.place, keep=1)
    with pytest.raises(OSError, match="status 503"):
        line.ask("GET", PATH, soon())
    line.ask("GET", PATH, soon())
    assert len(set(api.connections)) == 1


def test_a_write_is_confirmed_by_its_answer_or_by_the_second_try(api: FakeApi) -> None:
    """That it is there is good news only where the first try may have made it."""
    confirmed: set[str] = set()
    write = writer(Line(*api.place), PATH, "kept", confirmed)
    api.answers[PATH] = [(201, {}), (409, {}), (409, {})]
    write(1, soon(), False)
    with pytest.raises(OSError, match="409"):
        write(2, soon(), False)
    assert confirmed == {"kept-000001"}
    write(2, soon(), True)
    assert confirmed == {"kept-000001", "kept-000002"}


def item(name: str, revision: int, content: str = "") -> dict[str, object]:
    return {"metadata": {"name": name, "resourceVersion": str(revision)}, "data": {"name": content or name}}


def page(revision: int, *items: dict[str, object], token: str = "") -> tuple[int, object]:
    return 200, {"metadata": {"resourceVersion": str(revision), "continue": token}, "items": list(items)}


def test_all_pages_are_read_and_content_that_is_wrong_is_not_there(api: FakeApi) -> None:
    """What was confirmed and is not there is lost."""
    api.answers[f"{PATH}?limit=500&continue="] = [page(7, item("a", 1), item("b", 2, "other"), token="more")]
    api.answers[f"{PATH}?limit=500&continue=more"] = [page(7, item("c", 3))]
    there, revision = read_all(Line(*api.place), PATH)
    assert there == {"a", "c"} and revision == "7"
    assert missing({"a", "b", "c"}, there) == ["b"]


def watch_from(revision: int) -> str:
    return f"{PATH}?watch=1&allowWatchBookmarks=true&resourceVersion={revision}"


def test_a_watch_goes_on_where_it_ended_and_lists_when_nobody_knows_that_place(api: FakeApi) -> None:
    """Nothing is missed by either way, and both are counted."""
    api.answers[f"{PATH}?limit=500&continue="] = [
        page(5, item("a", 4)),
        page(20, item("a", 4), item("d", 19)),
    ]
    added = [{"type": "ADDED", "object": item(name, at)} for name, at in (("b", 8), ("c", 9))]
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}}
    api.answers[watch_from(5)] = [(200, added)]
    api.answers[watch_from(9)] = [(200, bookmark)]
    api.answers[watch_from(12)] = [(200, {"type": "ERROR", "object": {"code": 410, "reason": "Expired"}})]
    api.answers[watch_from(20)] = [(200, {"type": "ADDED", "object": item("e", 21)})]
    told: list[str] = []
    with Watcher(*api.place, None, PATH, told.append) as watcher:
        until = soon(10)
        while "e" not in watcher.seen and time.monotonic() < until:
            time.sleep(0.05)
    assert watcher.seen == {"a", "b", "c", "d", "e"} and watcher.lists == 2 and watcher.reopened >= 3
    assert "410 Expired" in " ".join(told)
    assert api.paths[:5] == [
        f"{PATH}?limit=500&continue=",
        watch_from(5),
        watch_from(9),
        watch_from(12),
        f"{PATH}?limit=500&continue=",
    ]
