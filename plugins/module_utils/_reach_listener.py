# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners that answer for a service which is not there yet, in a process of their own that ends by itself.

A message is one line of ASCII words. The last word proves that the sender knows the listener's key, so a
stranger gets no answer: a listener is no help in scanning, nor in flooding others.

    kubewright ask CHALLENGE PROOF                      answered by
    kubewright time CHALLENGE RECEIVED ANSWERED PROOF   with the listener's clock, in seconds
    kubewright bye VISITOR PROOF                        answered by
    kubewright ok VISITOR PROOF

When every expected visitor has said bye, the listener ends.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import errno
import hmac
import ipaddress
import os
import selectors
import socket
import struct
import time
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

# The most seconds that a listener can live.
MAX_LIFETIME = 60
_MAX_MESSAGE = 512
_MAX_CONNECTIONS = 512
_IDLE = 10.0
_NOBODY = 65534
_NAME = "kube-host-reach"
# An abstract address of Unix sockets: it needs no file, and is gone with the process.
_CONTROL = "\0kubewright.cluster/host_reach"
_CREDENTIALS = struct.Struct("3i")


def now() -> float:
    """Return this host's wall clock, which both sides of an exchange compare."""
    return time.time()


def seal(key: str, *words: str) -> bytes:
    """Make a message."""
    text = " ".join(("kubewright", *words))
    return f"{text} {_proof(key, text)}\n".encode("ascii", "replace")


def unseal(key: str, message: bytes) -> list[str]:
    """Return the words of a message; none when its sender did not know *key*."""
    text, _, proof = message.decode("ascii", "replace").rstrip("\r\n").rpartition(" ")
    known = hmac.compare_digest(proof.encode(), _proof(key, text).encode())
    return text.split(" ")[1:] if known and text.startswith("kubewright ") else []


def word(name: str) -> str:
    """Return *name* as one word of a message."""
    return "_".join(name.encode("ascii", "backslashreplace").decode().split())


def _proof(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode("ascii", "replace"), "sha256").hexdigest()


def new_socket(address: str, protocol: str) -> socket.socket:
    """Open a socket of the family of *address* for V(tcp) or V(udp)."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)


def bind(address: str, port: int, protocol: str) -> socket.socket | None:
    """Listen on a port; None when something else does."""
    opened = new_socket(address, protocol)
    try:
        if protocol == "tcp":
            # A connection of a moment ago must not count as somebody who listens.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, port))
        if protocol == "tcp":
            opened.listen(256)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            return None
        if error.errno == errno.EADDRNOTAVAIL:
            raise KubewrightError(
                f"The address {address} is on no interface of this host",
                remedy="Set kube_cluster_host_address to an address that the host has",
            ) from error
        raise KubewrightError(
            f"Cannot listen on {address}, port {port}/{protocol}", why=str(error)
        ) from error
    return opened


class Listener:
    """Answers on sockets until every one of *visitors* said bye, *lifetime* is over, or :func:`stop` is called."""

    def __init__(
        self,
        sockets: list[socket.socket],
        key: str,
        visitors: set[str],
        lifetime: float,
        clock: Callable[[], float] = now,
    ) -> None:
        self._key = key
        self._visitors = {word(name) for name in visitors}
        self._end = time.monotonic() + min(lifetime, MAX_LIFETIME)
        self._clock = clock
        self._told = False
        self._selector = selectors.DefaultSelector()
        # The last sign of life of every open connection, in monotonic seconds.
        self._connections: dict[socket.socket, float] = {}
        for one in sockets:
            stream = one.type == socket.SOCK_STREAM
            self._selector.register(one, selectors.EVENT_READ, self._accept if stream else self._datagram)

    def obey(self, control: socket.socket) -> None:
        """End when root connects to *control*."""
        self._selector.register(control, selectors.EVENT_READ, self._order)

    def serve(self) -> None:
        """Answer until the end."""
        while self._visitors and not self._told and (left := self._end - time.monotonic()) > 0:
            for ready, _ in self._selector.select(min(left, 1.0)):
                try:
                    ready.data(ready.fileobj)
                except OSError:
                    self._drop(ready.fileobj)  # type: ignore[arg-type]
            for connection, seen in list(self._connections.items()):
                if time.monotonic() - seen > _IDLE:
                    self._drop(connection)

    def _accept(self, listening: socket.socket) -> None:
        connection, _ = listening.accept()
        if len(self._connections) >= _MAX_CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection] = time.monotonic()
        self._selector.register(connection, selectors.EVENT_READ, self._stream)

    def _stream(self, connection: socket.socket) -> None:
        answer = self._answer(connection.recv(_MAX_MESSAGE))
        if answer:
            self._connections[connection] = time.monotonic()
            connection.send(answer)
        else:
            self._drop(connection)

    def _datagram(self, opened: socket.socket) -> None:
        message, sender = opened.recvfrom(_MAX_MESSAGE)
        answer = self._answer(message)
        if answer:
            opened.sendto(answer, sender)

    def _answer(self, message: bytes) -> bytes:
        received = self._clock()
        words = unseal(self._key, message)
        if len(words) == 2 and words[0] == "ask":
            return seal(self._key, "time", words[1], f"{received:.6f}", f"{self._clock():.6f}")
        if len(words) == 2 and words[0] == "bye":
            self._visitors.discard(words[1])
            return seal(self._key, "ok", words[1])
        return b""

    def _order(self, control: socket.socket) -> None:
        connection, _ = control.accept()
        with connection:
            self._told = _owner(connection) in (0, os.geteuid())

    def _drop(self, connection: socket.socket) -> None:
        if self._connections.pop(connection, None) is not None:
            self._selector.unregister(connection)
            connection.close()


def _owner(connection: socket.socket) -> int:
    """Return the user at the other end of a Unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    owner: int = _CREDENTIALS.unpack(raw)[1]
    return owner


def stop(seconds: float = 5) -> None:
    """End the listener that an interrupted run may have left on this host, and wait until it is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(1)
        try:
            control.connect(_CONTROL)
        except OSError:
            return
    wait_for(_ended, Deadline(seconds), what="the listeners of an earlier run on this host", interval=0.05)


def _ended() -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        try:
            control.bind(_CONTROL)
        except OSError:
            return False
    return True


def detach(sockets: list[socket.socket], key: str, visitors: set[str], lifetime: float) -> None:
    """Serve *sockets* in a process that outlives this one, and close them here.

    Nothing may be imported in that process: the code of a module is gone when the module ends.
    """
    control = _control()
    kept = [*sockets, control] if control else sockets
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        for one in kept:
            one.close()
        return
    # Whatever happens in the child, it must never run on in the caller's code.
    try:
        os.setsid()
        if os.fork() == 0:
            _leave({one.fileno() for one in kept})
            listener = Listener(sockets, key, visitors, lifetime)
            if control:
                listener.obey(control)
            listener.serve()
    finally:
        os._exit(0)


def _control() -> socket.socket | None:
    """Open what :func:`stop` connects to; None when somebody has that name, and then the lifetime has to do."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        control.bind(_CONTROL)
        control.listen(1)
        control.setblocking(False)
    except OSError:
        control.close()
        return None
    return control


def _leave(keep: set[int]) -> None:
    """Let go of everything of the process that started this one: folder, files, and the rights of root."""
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                # The descriptor that listed the folder.
                continue
    # What ps and ss show.
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(_NAME)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
