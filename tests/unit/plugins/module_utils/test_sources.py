# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _fetch
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access, Fetcher
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._sources import Source, problems
from ansible_collections.kubewright.cluster.plugins.module_utils._sources import server as server_of

KEY = b"a key\n"
PROGRAM = b"\x7fELF" * 1000
FILES = {
    "/Release.key": KEY,
    "/runc.amd64": PROGRAM,
    "/runc.sha256sum": f"{hashlib.sha256(PROGRAM).hexdigest()}  runc.amd64\n".encode(),
    "/Packages": b"Package: kubeadm\nVersion: 1.36.3-1.1\n",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve FILES on the loopback interface."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = FILES.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()


def told(*sources: Source, whole: bool = True) -> list[str]:
    deadline = Deadline(30, sleep=lambda _seconds: None)
    return problems(sources, lambda _url: Fetcher(Access(), deadline), whole=whole)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_what_is_there_and_right(server: str) -> None:
    assert (
        told(
            Source("key", f"{server}/Release.key"),
            Source("key", f"{server}/Release.key", sha256(KEY)),
            Source("runc", f"{server}/runc.amd64", f"sha256:{server}/runc.sha256sum"),
            Source("version", f"{server}/Packages", contains="Version: 1.36.3-", value="1.36.3"),
        )
        == []
    )


def test_a_missing_file_is_told_with_its_variable(server: str) -> None:
    url = f"{server}/No.key"
    answer = "the server answers 404 Not Found"
    remedy = "check that the server or mirror holds this version for this architecture."
    assert told(Source("kube_host_package_key_url", url)) == [
        f"kube_host_package_key_url is {url}, but {answer}: {remedy}"
    ]
    # A file of digests that is missing is another address than the variable's.
    sums = f"{server}/no.sha256sum"
    assert told(Source("runc", f"{server}/runc.amd64", f"sha256:{sums}")) == [
        f"runc is {server}/runc.amd64, but {answer} ({sums}): {remedy}"
    ]


def test_a_file_of_digests_that_does_not_name_the_file(server: str) -> None:
    assert told(Source("runc", f"{server}/Release.key", f"sha256:{server}/runc.sha256sum")) == [
        f"runc is {server}/Release.key, but no line of {server}/runc.sha256sum names this file: compare the "
        f"version and "
        "the architecture in both URLs."
    ]


def test_a_wrong_digest_is_found_by_reading_the_file(server: str) -> None:
    source = Source("kube_host_runc_url", f"{server}/runc.amd64", sha256(b"another"))
    assert told(source) == [
        f"The checksum that goes with kube_host_runc_url is {sha256(b'another')}, but {server}/runc.amd64 "
        f"has "
        f"{sha256(PROGRAM)}: compare both with what the project publishes."
    ]
    # Other hosts of the play only see that it is there.
    assert told(source, whole=False) == []


def test_a_version_that_the_repository_does_not_hold(server: str) -> None:
    source = Source("kube_cluster_version", f"{server}/Packages", contains="Version: 1.36.9-", value="1.36.9")
    assert told(source) == [
        f"kube_cluster_version is 1.36.9, but {server}/Packages does not name it: choose a version that "
        f"this repository "
        "holds, or fill the mirror."
    ]


def test_an_index_may_be_larger_than_a_file_of_digests(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"Version: 1.36.3-"
    monkeypatch.setitem(FILES, "/Packages", b"x" * 2 * _fetch.SUMS_LIMIT + text)
    assert told(Source("version", f"{server}/Packages", contains=text.decode(), value="1.36.3")) == []
    # A block of a download may end in the middle of what is looked for.
    monkeypatch.setattr(_fetch, "BLOCK", 20)
    for offset in range(len(text) + 1):
        monkeypatch.setitem(FILES, "/Packages", b"x" * (20 - offset) + text + b"x" * 20)
        assert told(Source("version", f"{server}/Packages", contains=text.decode(), value="1.36.3")) == []
    missing = Source("version", f"{server}/Packages", contains="Version: 1.36.4-", value="1.36.4")
    assert "does not name it" in told(missing)[0]


def test_an_index_without_an_end_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetch, "INDEX_LIMIT", 10)
    [problem] = told(Source("version", f"{server}/Packages", contains="x", value="1.36.3"))
    assert "it is longer than 10 bytes: open this URL" in problem


def test_an_index_that_a_mirror_has_only_packed_is_no_problem(server: str) -> None:
    assert told(Source("kube_cluster_version", f"{server}/no/Packages", contains="x", value="1.36.9")) == []


def test_a_server_that_is_not_there_is_told_without_what_is_secret() -> None:
    [problem] = told(Source("kube_host_package_key_url", "http://user:word@127.0.0.1:1/Release.key"))
    assert problem.startswith("kube_host_package_key_url is http://127.0.0.1:1/Release.key, but ")
    assert problem.endswith(": check that this host reaches the server, or set the URL of a mirror.")
    assert "word" not in problem


def test_all_are_told_at_once(server: str) -> None:
    sources = [Source(name, f"{server}/{name}") for name in ("a", "Release.key", "b")]
    assert [problem.split()[0] for problem in told(*sources)] == ["a", "b"]


def test_each_server_is_asked_with_its_own_credentials(server: str) -> None:
    asked = []

    def fetcher_of(url: str) -> Fetcher:
        asked.append(url)
        return Fetcher(Access(), Deadline(30))

    sums = server.replace("127.0.0.1", "localhost") + "/runc.sha256sum"
    assert problems([Source("runc", f"{server}/runc.amd64", f"sha256:{sums}")], fetcher_of, whole=True) == []
    assert asked == [f"{server}/runc.amd64", sums]
    assert server_of("http://user:word@Mirror.example:8080/a") == "mirror.example:8080"
