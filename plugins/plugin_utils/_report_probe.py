# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the API for its version again and again while a run works, from the controller, and counts the answers.

It is a process of its own, started from this same file: a thread would hold locks while Ansible forks its workers.
Each line that it gets is answered by what it has seen so far, as a line of JSON. It ends when nobody can send one any
more, so that it does not outlive the run.

It asks as anybody may: without credentials, and without looking at the certificate, because nothing secret is sent and
nothing is believed. Every question makes a connection of its own, as a client does that has just begun.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import socket
import ssl
import subprocess
import sys
import time
from typing import Any, Callable

# Seconds for an answer of the API, and for one of the process, which may be waiting for that.
TIMEOUT = 3.0
PATIENCE = 2 * TIMEOUT
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


class Tally:
    """What was asked and answered, and the silences: from the first question without an answer to the next answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.answered = 0
        self.began = 0.0
        self.ended = 0.0
        self.gaps: list[list[Any]] = []
        self._silent = False

    def note(self, at: float, now: float, why: str) -> None:
        """Note one question, asked *at* and over *now*; *why* is empty where it was answered."""
        self.began = self.began or at
        self.ended = now
        self.asked += 1
        if not why:
            self.answered += 1
            if self._silent:
                self.gaps[-1][1] = at
        elif self._silent:
            self.gaps[-1][1] = now
        else:
            self.gaps.append([at, now, why])
        self._silent = bool(why)

    def data(self) -> dict[str, Any]:
        """Return it as JSON knows it. Who was never answered does not reach the API, and has measured nothing."""
        if not self.answered:
            why = self.gaps[0][2] if self.gaps else "it was not asked yet"
            return {"asked": 0, "why": f"the controller does not reach it: {why}" if self.gaps else why}
        return {
            "asked": self.asked,
            "answered": self.answered,
            "began": round(self.began, 1),
            "ended": round(self.ended, 1),
            "gaps": [[round(first, 1), round(last, 1), why] for first, last, why in self.gaps],
        }


class Probe:
    """The process that asks."""

    def __init__(self, where: str, every: float) -> None:
        self._about = {"where": where, "from": socket.gethostname(), "every": every}
        self._seen: dict[str, Any] = {"asked": 0, "why": "it was not asked yet"}
        self._words = b""
        self._process = subprocess.Popen(
            [sys.executable, "-I", os.path.abspath(__file__), where, str(every)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # Ctrl-C is for the run.
            start_new_session=True,
        )

    def data(self, patience: float = 0.0) -> dict[str, Any]:
        """Return what it has seen; without *patience* what it answered to the question before this one."""
        self._listen(0.0)
        with contextlib.suppress(OSError):
            os.write(self._process.stdin.fileno(), b"\n")  # type: ignore[union-attr]
        self._listen(patience)
        return {**self._about, **self._seen}

    def _listen(self, patience: float) -> None:
        """Read its answers; the last one counts."""
        answers = self._process.stdout.fileno()  # type: ignore[union-attr]
        while select.select([answers], [], [], patience)[0]:
            piece = os.read(answers, 65536)
            if not piece:
                return
            *whole, self._words = (self._words + piece).split(b"\n")
            if whole:
                self._seen = json.loads(whole[-1])
                patience = 0.0

    def end(self) -> None:
        """End it."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=PATIENCE)
        self._process.kill()
        self._process.wait()


def ask(where: str) -> str:
    """Ask once; return why there was no answer, nothing where there was one."""
    host, _, port = where.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host.strip("[]"), int(port), timeout=TIMEOUT, context=context)
    try:
        connection.request("GET", "/version", headers={"Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(getattr(error, "strerror", "") or error or type(error).__name__)
    finally:
        connection.close()
    return f"HTTP {status}" if status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR else ""


def watch(every: float, question: Callable[[], str], clock: Callable[[], float] = time.time) -> None:
    """Ask until standard input ends, and answer each line of it."""
    tally, due = Tally(), 0.0
    while True:
        pause = max(0.0, due - time.monotonic())
        if select.select([sys.stdin], [], [], pause)[0]:
            if not sys.stdin.readline():
                return
            print(json.dumps(tally.data()), flush=True)
            continue
        due = time.monotonic() + every
        at = clock()
        why = question()
        tally.note(at, clock(), why)


if __name__ == "__main__":
    watch(float(sys.argv[2]), lambda: ask(sys.argv[1]))
