# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ARP packets, byte for byte."""

from __future__ import annotations

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._arp import Arp, parse, probe_packet

MAC = bytes.fromhex("0242c0a80001")
# As `arping -D 192.168.0.9` sends it (RFC 826, RFC 5227 section 1.1).
PROBE = bytes.fromhex("ffffffffffff0242c0a80001080600010800060400010242c0a8000100000000000000000000c0a80009")
REPLY = bytes.fromhex("0242c0a8000102aabbccddee0806000108000604000202aabbccddeec0a800090242c0a8000100000000")


def test_a_probe_claims_no_address() -> None:
    assert probe_packet(MAC, "192.168.0.9") == PROBE


def test_an_answer_is_read() -> None:
    assert parse(REPLY) == Arp(2, "02:aa:bb:cc:dd:ee", "192.168.0.9", "0.0.0.0")
    # Ethernet fills short frames up.
    assert parse(REPLY + bytes(18)) == parse(REPLY)
    assert parse(PROBE) == Arp(1, "02:42:c0:a8:00:01", "0.0.0.0", "192.168.0.9")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        REPLY[:-1],
        REPLY[:12] + bytes.fromhex("86dd") + REPLY[14:],
        REPLY[:14] + bytes.fromhex("0006") + REPLY[16:],
        REPLY[:16] + bytes.fromhex("86dd") + REPLY[18:],
        REPLY[:18] + bytes.fromhex("0806") + REPLY[20:],
    ],
    ids=["empty", "short", "IPv6", "other hardware", "other protocol", "other sizes"],
)
def test_what_is_no_arp_about_ipv4_is_nothing(frame: bytes) -> None:
    assert parse(frame) is None
