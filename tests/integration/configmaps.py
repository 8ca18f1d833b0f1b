"""ConfigMaps with names that are known: written, watched, and read back."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable

from httpline import Line, dial
from steady import Attempt, stamp

# Of a watch while others write: it is dead, whatever TCP thinks.
SILENCE = 5.0
PAGE = 500


def writer(line: Line, path: str, prefix: str, confirmed: set[str]) -> Attempt:
    """Make one ConfigMap a call, and keep the names of those that the API server has confirmed."""

    def attempt(number: int, until: float, again: bool) -> None:
        name = f"{prefix}-{number:06}"
        body = json.dumps({"metadata": {"name": name}, "data": {"name": name}}).encode()
        # It is there already where only the answer of the first try was lost.
        want = (201, 409) if again else (201,)
        headers = {"Content-Type": "application/json"}
        line.ask("POST", path, until, body=body, headers=headers, want=want, again=again)
        confirmed.add(name)

    return attempt


def read_all(line: Line, path: str, seconds: float = 60) -> tuple[set[str], str]:
    """Return the names of those that hold what was written, and the revision of the list."""
    until = time.monotonic() + seconds
    names: set[str] = set()
    token, revision = "", ""
    while True:
        page = json.loads(line.ask("GET", f"{path}?limit={PAGE}&continue={token}", until))
        revision = revision or page["metadata"]["resourceVersion"]
        for item in page["items"]:
            name = item["metadata"]["name"]
            if item.get("data", {}).get("name") == name:
                names.add(name)
        token = page["metadata"].get("continue", "")
        if not token:
            return names, revision


class Watcher:
    """Follows them as a controller does: from where the last watch ended, by a list where nobody knows that place."""

    def __init__(
        self, address: str, port: int, tls: ssl.SSLContext | None, path: str, told: Callable[[str], None]
    ) -> None:
        self.seen: set[str] = set()
        self.reopened = 0
        self.lists = 0
        self._place, self._path, self._told = (address, port, tls), path, told
        self._revision = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * SILENCE)

    def _work(self) -> None:
        while not self._stop.is_set():
            begun, why = time.monotonic(), "it ended"
            try:
                self._list()
                self._follow()
            # It is opened again, whatever it was.
            except Exception as error:
                why = f"{type(error).__name__} {error}"[:200]
            if not self._stop.is_set():
                self.reopened += 1
                self._told(
                    f"{stamp(time.monotonic())} watch: again after {time.monotonic() - begun:.0f} s: {why}"
                )
                self._stop.wait(0.2)

    def _list(self) -> None:
        if not self._revision:
            self.lists += 1
            names, self._revision = read_all(Line(*self._place), self._path)
            self.seen |= names

    def _follow(self) -> None:
        connection = dial(*self._place, time.monotonic() + SILENCE)
        try:
            connection.sock.settimeout(SILENCE)
            query = f"watch=1&allowWatchBookmarks=true&resourceVersion={self._revision}"
            connection.request("GET", f"{self._path}?{query}")
            answer = connection.getresponse()
            if answer.status != 200:
                self._forget(answer.status)
                raise OSError(f"status {answer.status}")
            while not self._stop.is_set():
                line = answer.readline()
                if not line:
                    return
                self._take(json.loads(line))
        finally:
            connection.close()

    def _take(self, event: dict[str, object]) -> None:
        item = event["object"]
        assert isinstance(item, dict)
        if event["type"] == "ERROR":
            self._forget(item.get("code"))
            raise OSError(f"{item.get('code')} {item.get('reason')}")
        if event["type"] != "BOOKMARK":
            self.seen.add(item["metadata"]["name"])
        self._revision = item["metadata"]["resourceVersion"]

    def _forget(self, status: object) -> None:
        # An API server that has just started does not know what was before.
        if status == 410:
            self._revision = ""


def missing(confirmed: set[str], there: set[str]) -> list[str]:
    """Return what was confirmed and is not there."""
    return sorted(confirmed - there)
