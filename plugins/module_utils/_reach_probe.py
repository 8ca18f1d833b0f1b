# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe ports of other hosts, all at once, and compare clocks with the listeners there.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import errno
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._host_reach import (
    FORBIDDEN,
    NO_ROUTE,
    REACHED,
    REFUSED,
    STRANGER,
    TIMED_OUT,
    Sample,
    Target,
    best,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._reach_listener import (
    new_socket,
    now,
    seal,
    unseal,
    word,
)

# Enough for the kernel to send the first packet of a connection three times, and for a host that is busy.
_CONNECT_SECONDS = 6.0
_ANSWER_SECONDS = {"tcp": 6.0, "udp": 1.0}
_DATAGRAMS = 6
# The shortest of a few exchanges says most about the clock.
_SAMPLES = 4
_THREADS = 32

_TROUBLES = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: REFUSED,
    errno.EHOSTUNREACH: NO_ROUTE,
    errno.ENETUNREACH: NO_ROUTE,
    errno.ETIMEDOUT: TIMED_OUT,
    errno.EPERM: FORBIDDEN,
    errno.EACCES: FORBIDDEN,
}


@dataclass(frozen=True)
class Found:
    """What a probe found: the trouble, or none, and the clock of the listener that answered."""

    trouble: str = REACHED
    clock: Sample | None = None


def probe_all(me: str, targets: list[Target], clock: Callable[[], float] = now) -> list[Found]:
    """Probe every target, then tell the listeners that answered that *me* needs them no more."""
    with ThreadPoolExecutor(max(1, min(_THREADS, len(targets)))) as pool:
        found = list(pool.map(lambda target: probe(target, clock), targets))
        reached: dict[str, list[Target]] = {}
        for target, one in zip(targets, found):
            if target.key and one.trouble == REACHED:
                reached.setdefault(target.key, []).append(target)
        list(pool.map(lambda known: _part(me, known), reached.values()))
    return found


def probe(target: Target, clock: Callable[[], float] = now) -> Found:
    """Connect to one port, and have our listener prove itself where one must be there."""
    try:
        connection = _connect(target)
    except OSError as error:
        return Found(_trouble(error))
    with connection:
        if not target.key:
            return Found()
        try:
            sample = best(_samples(connection, target, clock))
        except OSError as error:
            return Found(STRANGER if target.protocol == "tcp" else _trouble(error))
    if sample is None:
        return Found(STRANGER if target.protocol == "tcp" else TIMED_OUT)
    return Found(clock=sample)


def _trouble(error: OSError) -> str:
    if isinstance(error, socket.timeout):
        return TIMED_OUT
    return _TROUBLES.get(error.errno or 0, error.strerror or type(error).__name__)


def _connect(target: Target) -> socket.socket:
    if not target.key:
        # What is not our own listener may have a name instead of an address.
        return socket.create_connection((target.address, target.port), timeout=_CONNECT_SECONDS)
    connection = new_socket(target.address, target.protocol)
    try:
        connection.settimeout(_CONNECT_SECONDS)
        connection.connect((target.address, target.port))
        if target.protocol == "tcp":
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_ANSWER_SECONDS[target.protocol])
    except OSError:
        connection.close()
        raise
    return connection


def _samples(connection: socket.socket, target: Target, clock: Callable[[], float]) -> list[Sample]:
    """Ask the listener for its time a few times; nothing when nobody answers who knows the key."""
    samples: list[Sample] = []
    asked: dict[str, float] = {}
    # A datagram may get lost, or be late; what TCP does not deliver in time, it does not deliver.
    for _ in range(_DATAGRAMS if target.protocol == "udp" else _SAMPLES):
        challenge = secrets.token_hex(8)
        asked[challenge] = clock()
        connection.send(seal(target.key, "ask", challenge))
        sample = _answer(connection, target.key, asked, clock)
        if sample:
            samples.append(sample)
        if len(samples) == _SAMPLES or (target.protocol == "tcp" and not sample):
            break
    return samples


def _answer(
    connection: socket.socket, key: str, asked: dict[str, float], clock: Callable[[], float]
) -> Sample | None:
    """Wait for the answer to one of the questions that were *asked*, by challenge, each at its time."""
    try:
        message = connection.recv(512)
    except socket.timeout:
        return None
    back = clock()
    words = unseal(key, message)
    if len(words) != 4 or words[0] != "time" or words[1] not in asked:
        return None
    return Sample.of(asked.pop(words[1]), float(words[2]), float(words[3]), back)


def _part(me: str, known: list[Target]) -> None:
    """Say bye to one listener, over the first way that works."""
    for target in known:
        try:
            with _connect(target) as connection:
                connection.send(seal(target.key, "bye", word(me)))
                if unseal(target.key, connection.recv(512)) == ["ok", word(me)]:
                    return
        except OSError:
            # Without a bye the listener ends with its lifetime.
            continue
