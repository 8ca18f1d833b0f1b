"""Calls over HTTP to one place, on fresh connections or on some that are kept, each over by a given time.

Needs nothing but the standard library, because nightclient.py takes it into a pod.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections import deque


def left(until: float) -> float:
    """Return the seconds until a time of the monotonic clock, never none: a socket would wait for ever."""
    return max(0.001, until - time.monotonic())


def dial(address: str, port: int, tls: ssl.SSLContext | None, until: float) -> http.client.HTTPConnection:
    """Open a connection."""
    connection = http.client.HTTPConnection(address, port)
    # It would open itself again in plain HTTP, and unseen.
    connection.auto_open = 0
    plain = socket.create_connection((address, port), left(until))
    # Head and body are sent one after the other, and would wait for an acknowledgement in between.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.settimeout(left(until))
    connection.sock = tls.wrap_socket(plain, server_hostname=address) if tls else plain
    return connection


class Line:
    """Where calls go. With *keep*, so many connections stay open and take turns; otherwise each call opens its own."""

    def __init__(self, address: str, port: int, tls: ssl.SSLContext | None = None, keep: int = 0) -> None:
        self._place = (address, port, tls)
        self._keep = keep
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._open = 0
        self._lock = threading.Lock()

    def ask(
        self,
        method: str,
        path: str,
        until: float,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        want: tuple[int, ...] = (200,),
        again: bool = False,
    ) -> bytes:
        """Send one request and return what is answered. *again* takes a fresh connection in any case."""
        connection = self._take(again)
        usable = False
        try:
            if connection is None:
                connection = dial(*self._place, until)
            connection.sock.settimeout(left(until))
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            said = answer.read()
            usable = not answer.will_close
        finally:
            self._give(connection, usable)
        if answer.status not in want:
            raise OSError(f"status {answer.status} {said[:100].decode(errors='replace')}")
        return said

    def _take(self, again: bool) -> http.client.HTTPConnection | None:
        with self._lock:
            # As long as there are too few, another one is opened. Then they take turns: they lead to different servers.
            if self._idle and self._open >= self._keep and not again:
                return self._idle.popleft()
            self._open += 1
            return None

    def _give(self, connection: http.client.HTTPConnection | None, usable: bool) -> None:
        with self._lock:
            if connection and usable and self._keep:
                self._idle.append(connection)
                return
            self._open -= 1
        if connection:
            connection.close()
