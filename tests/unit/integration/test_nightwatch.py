# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a night watch reports, and what it brings into the cluster."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import configmaps
import nightpods
import nightwatch
import pytest
from nightwatch import Nightwatch, Report
from steady import PACE, Figures

GOOD = [Figures("read kept", 0.1, seconds=60, calls=600, gap=0.4)]


def test_a_report_says_everything_that_somebody_noticed() -> None:
    """A write that was lost, an event that was not seen, a client that forgot."""
    assert Report(GOOD, written=3).problems() == []
    noticed = Report(GOOD, written=3, lost=["kept-1"], missed=["kept-2", "kept-3"], changed=["cp1 is silent"])
    assert noticed.problems() == [
        "1 of 3 confirmed writes lost: kept-1",
        "2 of 3 confirmed writes never seen by the watch: kept-2, kept-3",
        "the client on cp1 is silent",
    ]


def test_the_summary_has_the_longest_gap_of_each_kind() -> None:
    """Over all nodes."""
    figures = [*GOOD, *(Figures(f"workload on cp{at}", 0.3, calls=at, gap=at) for at in (1, 2))]
    said = Report(figures, written=3).summary()
    assert "603 calls, 0 tried again, 0 failed; longest gaps: read kept 0.4 s, workload 2.0 s;" in said


def test_the_last_figures_of_a_log_count_and_every_failure() -> None:
    """What Python says itself is a failure."""
    first, last = (Figures("workload on cp1", 0.3, calls=calls) for calls in (1, 2))
    lines = [
        json.dumps({"at": 5.0, "figures": [asdict(first)]}),
        json.dumps({"trouble": "12:00 workload on cp1: FAILED: reset"}),
        "Traceback (most recent call last):",
        json.dumps({"at": 7.0, "figures": [asdict(last)]}),
    ]
    log = nightpods.read_log("\n".join(lines))
    assert (log.at, log.figures) == (7.0, [last])
    assert log.troubles == ["12:00 workload on cp1: FAILED: reset", "Traceback (most recent call last):"]


def test_what_goes_into_the_pod_needs_nothing_else() -> None:
    """It has Python's standard library and these files."""
    folder = Path(nightpods.__file__).parent
    brought = {name.removesuffix(".py") for name in nightpods.SCRIPTS}
    for name in nightpods.SCRIPTS:
        for node in ast.walk(ast.parse((folder / name).read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert module.split(".")[0] in sys.stdlib_module_names | brought, (name, module)


def test_no_drain_is_held_up_by_the_workload_nor_takes_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas find another place even when all workers are drained at once; clients are a DaemonSet's."""
    monkeypatch.setattr(nightpods, "control_planes", lambda: ["cp1", "cp2", "cp3"])
    made = {item["kind"]: item for item in [*nightpods.base(), nightpods.client("10.96.0.7")]}
    assert made["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    web, client = (made[kind]["spec"]["template"]["spec"] for kind in ("Deployment", "DaemonSet"))
    assert web["tolerations"][0]["key"] in client["nodeSelector"]
    assert not any("emptyDir" in volume for volume in client["volumes"])
    settings = {one["name"]: one.get("value") for one in client["containers"][0]["env"]}
    assert float(settings["EVERY"] or 0) == pytest.approx(3 * PACE) and settings["WEB_ADDRESS"] == "10.96.0.7"


def test_what_is_made_reaches_kubectl_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts have line ends and backslashes, and the shell of a Debian host is dash."""
    read: list[object] = []

    def shell(_host: str, script: str) -> None:
        said = subprocess.run(["sh", "-c", script.rpartition("|")[0]], capture_output=True, check=True)
        read.append(json.loads(said.stdout)["items"])

    monkeypatch.setattr(nightpods, "control_planes", lambda: ["cp1"])
    monkeypatch.setattr(nightpods, "shell", shell)
    nightpods._create(nightpods.base())
    assert read == [nightpods.base()]


class FakeApi(ThreadingHTTPServer):
    """Keeps ConfigMaps, and shows each to whoever watches; it loses the names that it is told to lose."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHandler)
        self.items: list[dict[str, object]] = []
        self.loses: set[str] = set()


class FakeHandler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: FakeApi

    def do_POST(self) -> None:
        item = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if item["metadata"]["name"] not in self.server.loses:
            item["metadata"]["resourceVersion"] = "1"
            self.server.items.append(item)
        self.say(201, item)

    def do_GET(self) -> None:
        if "watch=1" not in self.path:
            self.say(200, {"metadata": {"resourceVersion": "1"}, "items": self.server.items})
            return
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        shown, until = 0, time.monotonic() + 10
        while time.monotonic() < until:
            for item in self.server.items[shown:]:
                self.wfile.write(json.dumps({"type": "ADDED", "object": item}).encode() + b"\n")
                shown += 1
            time.sleep(0.05)

    def say(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def removed() -> list[str]:
    """The hosts by which everything was taken away."""
    return []


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, removed: list[str]) -> Iterator[FakeApi]:
    """A cluster of two control planes, the first of which cannot be asked any more."""
    server = FakeApi()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def remove(host: str) -> None:
        if host == "cp1":
            raise AssertionError("connection refused")
        removed.append(host)

    def logs() -> dict[str, nightpods.Log]:
        figures = [Figures("workload", 0.2, seconds=9, calls=45)]
        return {host: nightpods.Log(time.time(), figures, [f"{host} told"]) for host in ("cp1", "cp2")}

    monkeypatch.setattr(
        nightwatch, "admin", lambda _folder: (f"http://127.0.0.1:{server.server_address[1]}", None)
    )
    monkeypatch.setattr(nightwatch, "control_planes", lambda: ["cp1", "cp2"])
    monkeypatch.setattr(nightwatch, "OUTPUT", tmp_path)
    monkeypatch.setattr(nightwatch, "PATIENCE", 1)
    monkeypatch.setattr(nightwatch, "CALM", 0.1)
    monkeypatch.setattr(nightwatch, "EVERY", 0.2)
    monkeypatch.setattr(configmaps, "SILENCE", 0.5)
    monkeypatch.setattr(nightpods, "start", lambda clients: None)
    monkeypatch.setattr(nightpods, "state", lambda: "what the pods were like")
    monkeypatch.setattr(nightpods, "logs", logs)
    monkeypatch.setattr(nightpods, "clients", lambda: {h: nightpods.Client(h, 0) for h in ("cp1", "cp2")})
    monkeypatch.setattr(nightpods, "remove", remove)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_night_in_which_nothing_happens(api: FakeApi, tmp_path: Path, removed: list[str]) -> None:
    """Every kind is measured, what was written is there, and everything is taken away by whoever answers."""
    with Nightwatch(tmp_path, "nothing") as watch:
        time.sleep(0.5)
    watch.check()
    kinds = {one.kind for one in watch.report.figures}
    assert kinds == {"read fresh", "read kept", "write fresh", "write kept", "workload"}
    assert watch.report.written >= 8 and removed == ["cp2"]
    # A machine that is busy may have more to tell.
    assert {"== nothing", "cp1 told", "cp2 told"} <= set(
        (tmp_path / "nightwatch.txt").read_text().splitlines()
    )


def test_a_write_that_is_lost_is_named(api: FakeApi, tmp_path: Path) -> None:
    """It was confirmed, and neither a list nor the watch has it."""
    api.loses = {"kept-000003"}
    with Nightwatch(tmp_path, "a loss") as watch:
        time.sleep(0.5)
    assert watch.report.lost == watch.report.missed == ["kept-000003"]
    with pytest.raises(AssertionError, match="confirmed writes lost: kept-000003"):
        watch.check()


def test_a_test_that_is_aborted_leaves_nothing_behind(
    api: FakeApi, tmp_path: Path, removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the block or before it; its own reason is the one that is seen, even where nothing can be collected."""

    def gone(**_options: bool) -> dict[str, nightpods.Log]:
        raise AssertionError("no API server")

    with pytest.raises(ZeroDivisionError), Nightwatch(tmp_path, "an abort"):
        monkeypatch.setattr(nightpods, "logs", gone)
        raise ZeroDivisionError
    monkeypatch.setattr(nightpods, "start", gone)
    with pytest.raises(AssertionError, match="no API server"), Nightwatch(tmp_path, "no begin"):
        raise ZeroDivisionError
    assert removed == ["cp2", "cp2"]
    written = (tmp_path / "nightwatch.txt").read_text().splitlines()
    assert written[0] == "== an abort" and written[-2:] == ["== no begin", "what the pods were like"]
