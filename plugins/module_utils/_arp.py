# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a network who has an IPv4 address, as RFC 5227 asks before it takes one.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import time
from dataclasses import dataclass

ETHERTYPE_ARP = 0x0806
_ETHERTYPE_IPV4 = 0x0800
_ETHERNET = 1
_REQUEST, _REPLY = 1, 2
_BROADCAST = b"\xff" * 6
_HEADER = struct.Struct("!6s6sH")
_BODY = struct.Struct("!HHBBH6s4s6s4s")

# RFC 5227 sends three probes over seconds. A host that holds an address answers at once; a lost probe is repeated.
_PROBES = 3
_INTERVAL = 0.35


@dataclass(frozen=True)
class Arp:
    """What an ARP packet says: its kind, and who it is from."""

    operation: int
    mac: str
    sender: str
    target: str


def probe_packet(mac: bytes, address: str) -> bytes:
    """Build an ARP probe: a request whose sender address is 0.0.0.0, so that nobody's cache is changed by it."""
    frame = _HEADER.pack(_BROADCAST, mac, ETHERTYPE_ARP)
    wanted = ipaddress.IPv4Address(address).packed
    return frame + _BODY.pack(_ETHERNET, _ETHERTYPE_IPV4, 6, 4, _REQUEST, mac, bytes(4), bytes(6), wanted)


def parse(frame: bytes) -> Arp | None:
    """Read an Ethernet frame; None when it is no ARP packet about IPv4."""
    if len(frame) < _HEADER.size + _BODY.size:
        return None
    _to, _from, kind = _HEADER.unpack_from(frame)
    hardware, protocol, hardware_size, size, operation, mac, sender, _mac, target = _BODY.unpack_from(
        frame, _HEADER.size
    )
    if (kind, hardware, protocol, hardware_size, size) != (ETHERTYPE_ARP, _ETHERNET, _ETHERTYPE_IPV4, 6, 4):
        return None
    return Arp(
        operation, mac.hex(":"), str(ipaddress.IPv4Address(sender)), str(ipaddress.IPv4Address(target))
    )


def who_has(interface: str, addresses: list[str]) -> dict[str, str]:
    """Return the MAC addresses that answer for *addresses* on *interface*, after a second at most.

    Needs the right to open raw sockets (CAP_NET_RAW); OSError without it, or without the interface.
    """
    wanted = set(addresses)
    found: dict[str, str] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ARP)) as raw:
        raw.bind((interface, ETHERTYPE_ARP))
        mac: bytes = raw.getsockname()[4]
        for _ in range(_PROBES):
            for address in sorted(wanted - found.keys()):
                raw.send(probe_packet(mac, address))
            until = time.monotonic() + _INTERVAL
            while wanted - found.keys() and (left := until - time.monotonic()) > 0:
                if not select.select([raw], [], [], left)[0]:
                    break
                packet = parse(raw.recv(2048))
                # A holder may also announce itself unasked: any packet that claims the address counts.
                if packet and packet.sender in wanted and packet.mac != mac.hex(":"):
                    found[packet.sender] = packet.mac
    return found
