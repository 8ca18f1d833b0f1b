# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what this host serves on its loopback to Prometheus, and to nobody else.

On a cluster of kubeadm's, etcd, scheduler, controller-manager and kube-proxy serve their metrics on the loopback, and
an upgrade takes every other address back. This service leaves them there and passes on what they say.

Who comes in has to show a client certificate of an authority that signs for nothing else. Behind the door are some
fixed paths and GET; of a visitor's headers only the bearer token goes on, and only to those who ask for one
(scheduler and controller-manager let the API server judge it).

Everything it reads, keys and settings, lies in $CREDENTIALS_DIRECTORY, where systemd puts it. It ends on SIGTERM.
"""

from __future__ import annotations

import glob
import http.client
import http.server
import json
import os
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 5.0  # seconds, for a whole TLS handshake and for each read from a visitor
ANSWER_TIMEOUT = 8.0  # seconds; Prometheus gives up after 10 by default
MAX_VISITORS = 32  # at once; two Prometheus servers with five targets here need ten
MAX_ANSWER = 64 * 2**20  # octets
MAX_LINE = 500  # characters of the log
TEXT = "text/plain; version=0.0.4; charset=utf-8"

_LISTEN = "0A"  # of a socket, in /proc/net/tcp
_SOCKETS = ("/proc/self/net/tcp", "/proc/self/net/tcp6")


class Trouble(Exception):
    """What is behind a path cannot be shown now."""


@dataclass(frozen=True)
class Source:
    """What is behind one path: a URL of the loopback, or a folder of files in Prometheus' text format.

    ``token`` hands the visitor's bearer token on, once the listener is known to belong to ``token_owner``.
    """

    url: str = ""
    folder: str = ""
    token: bool = False
    token_owner: int = 0


@dataclass(frozen=True)
class Answer:
    """What a visitor gets."""

    status: int
    kind: str
    body: bytes


# --- what is behind the door -------------------------------------------------------------------------------


def ask(source: Source, authorization: str | None) -> Answer:
    """Ask a component. Its certificate, where it has one, is its own make: nobody could verify it."""
    url = urlsplit(source.url)
    host, port = url.hostname or "", url.port or 0
    headers = {"Accept": TEXT}
    if source.token and authorization:
        # Any process may listen on this port while the component is away, and would be given the token.
        if listeners(port) != {source.token_owner}:
            raise Trouble(f"nobody who may see the token listens on port {port}")
        headers["Authorization"] = authorization
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=ANSWER_TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=ANSWER_TIMEOUT)
    try:
        connection.request("GET", url.path, headers=headers)
        response = connection.getresponse()
        body = response.read(MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        raise Trouble(f"{host}:{port} does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if len(body) > MAX_ANSWER:
        raise Trouble(f"{host}:{port} says more than {MAX_ANSWER} octets")
    return Answer(response.status, response.getheader("Content-Type") or TEXT, body)


def listeners(port: int) -> set[int]:
    """Return the users that listen on a TCP port, on any address of this host."""
    owners = set()
    for path in _SOCKETS:
        try:
            with open(path, encoding="ascii") as stream:
                rows = [line.split() for line in stream.readlines()[1:]]
        except OSError:
            continue
        owners |= {
            int(row[7]) for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port
        }
    return owners


def gather(folder: str) -> Answer:
    """Put the files of a folder together, with the time of each, so that one that is not written any more shows."""
    parts: list[bytes] = []
    times = []
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.prom"))):
        try:
            with open(path, "rb") as stream:
                parts.append(stream.read().rstrip(b"\n"))
                times.append((os.path.basename(path), os.fstat(stream.fileno()).st_mtime))
        except OSError as error:
            raise Trouble(f"{path} cannot be read: {error.strerror}") from error
    name = "kubewright_textfile_mtime_seconds"
    lines = [f"# HELP {name} When the file was written.", f"# TYPE {name} gauge"]
    lines += [f'{name}{{file="{file}"}} {when:.3f}' for file, when in times]
    return Answer(200, TEXT, b"\n".join([*parts, *(line.encode() for line in lines)]) + b"\n")


# --- the door ----------------------------------------------------------------------------------------------


class Visit(http.server.BaseHTTPRequestHandler):
    """One request; the connection ends with it."""

    server: Door
    server_version = "kubewright-metrics-door"
    sys_version = ""
    error_content_type = "text/plain"
    error_message_format = "%(message)s\n"

    def do_GET(self) -> None:
        source = self.server.sources.get(self.path)
        if source is None:
            self.send_error(404, "There is nothing here")
            return
        try:
            answer = ask(source, self.headers.get("Authorization")) if source.url else gather(source.folder)
        except Trouble as trouble:
            log(f"{self.path}: {trouble}")
            self.send_error(502, str(trouble))
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each visit: one every few seconds is the rule."""


class Door(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Lets visitors in whose certificate is good, each in a thread, and no more of them than it can bear."""

    daemon_threads = True
    request_queue_size = MAX_VISITORS

    def __init__(
        self, address: str, port: int, sources: Mapping[str, Source], context: ssl.SSLContext
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sources = sources
        self._context = context
        self._places = threading.BoundedSemaphore(MAX_VISITORS)
        super().__init__((address, port), Visit)

    def server_bind(self) -> None:
        """Bind without asking DNS for a name, as HTTPServer would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands here, in the visitor's own thread: one that is slow keeps nobody waiting."""
        request.settimeout(PATIENCE)
        with self._context.wrap_socket(request, server_side=True) as channel:
            Visit(channel, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        log(f"refused {client_address[0]}: {error or type(error).__name__}")


def log(message: str) -> None:
    """Write one line; whatever a stranger sent begins no second one. journald adds the time."""
    line = "".join(character if character.isprintable() else "?" for character in message)
    print(line[:MAX_LINE], flush=True)


def admission(folder: str) -> ssl.SSLContext:
    """Ask every visitor for a certificate of our own authority, made for clients: OpenSSL looks at its purpose."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key"))
    context.load_verify_locations(os.path.join(folder, "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def make(folder: str) -> Door:
    """Make the door that the settings in the folder describe."""
    with open(os.path.join(folder, "settings.json"), encoding="utf-8") as stream:
        settings = json.load(stream)
    sources = {path: Source(**source) for path, source in settings["paths"].items()}
    return Door(settings["address"], int(settings["port"]), sources, admission(folder))


def main() -> int:
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    try:
        door = make(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        # What a key holds is in none of these: OpenSSL names the failure, json the place.
        print(f"The door cannot be opened with what is in {folder or 'no folder'}: {error}", file=sys.stderr)
        return 1
    log(f"open at {door.server_name} port {door.server_port}: {', '.join(sorted(door.sources))}")
    door.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
