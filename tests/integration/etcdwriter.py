"""A client of etcd that writes a hundred times a second, retries once, and knows afterwards what must be there."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PREFIX = "kubewright-writer/"
# Of a single try. A member that is cut off answers nothing.
PATIENCE = 5.0


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class EtcdWriter:
    """Writes through etcd's own gateway, by several threads, each with a connection that it keeps."""

    def __init__(
        self, endpoints: list[str], ca: Path, cert: Path, key: Path, rate: int = 100, threads: int = 10
    ):
        self._endpoints = [urlsplit(url) for url in endpoints]
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._tls.load_cert_chain(cert, key)
        self._pause = threads / rate
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(threads)]
        self._lock = threading.Lock()
        self.written: set[int] = set()
        self.retried: list[str] = []
        self.failed: list[str] = []
        self.slowest = 0.0
        self.seconds = 0.0

    def _connect(self, at: int) -> http.client.HTTPSConnection:
        place = self._endpoints[at % len(self._endpoints)]
        return http.client.HTTPSConnection(
            place.hostname or "", place.port or 2379, timeout=PATIENCE, context=self._tls
        )

    def _put(self, connection: http.client.HTTPSConnection, number: int) -> None:
        body = {"key": _encoded(f"{PREFIX}{number:08}"), "value": _encoded(str(number))}
        connection.request("POST", "/v3/kv/put", json.dumps(body))
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise OSError(f"{answer.status} {said.decode(errors='replace')[:200]}")

    def _work(self, at: int) -> None:
        connection = self._connect(at)
        while not self._stop.is_set():
            number, begun = next(self._numbers), time.monotonic()
            for attempt in (1, 2):
                try:
                    self._put(connection, number)
                    with self._lock:
                        self.written.add(number)
                    break
                except (OSError, http.client.HTTPException) as error:
                    told = f"{time.strftime('%H:%M:%S')} {number} {connection.host}: {error!r}"
                    with self._lock:
                        (self.retried if attempt == 1 else self.failed).append(told)
                    connection.close()
                    at += 1
                    connection = self._connect(at)
            took = time.monotonic() - begun
            self.slowest = max(self.slowest, took)
            self._stop.wait(max(0.0, self._pause - took))
        connection.close()

    def __enter__(self) -> EtcdWriter:
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._begun

    @property
    def summary(self) -> str:
        """What happened, for people."""
        return (
            f"{len(self.written)} writes in {self.seconds:.0f} s "
            f"({len(self.written) / max(1.0, self.seconds):.0f} a second), "
            f"{len(self.retried)} retried once, {len(self.failed)} failed, the slowest took "
            f"{self.slowest:.1f} s"
        )

    def check(self, answer: dict[str, Any]) -> None:
        """Hold `get --prefix -w json` against what was written: nothing failed after a retry, nothing is "
        "lost."""
        found = {
            int(base64.b64decode(item["key"]).decode().rpartition("/")[2]): base64.b64decode(
                item["value"]
            ).decode()
            for item in answer.get("kvs", [])
        }
        assert not self.failed, (self.summary, self.failed[:5])
        lost = sorted(number for number in self.written if found.get(number) != str(number))
        assert not lost, f"{len(lost)} writes are lost: {lost[:10]}"
