# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens: real sockets of this process, and a made-up /proc for what belongs to whom."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._port_holders import Holder, holders

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "0: 00000000:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1\n"


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_process_that_listens_is_found(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as one:
        one.bind((address, 0))
        port = one.getsockname()[1]
        assert holders([port]) == [], "bound is not listening"
        one.listen()
        (found,) = holders([port, 1])
        assert (found.port, found.pid) == (port, os.getpid())
        # A connection of it is no listener.
        with socket.create_connection((address, port)) as client:
            assert holders([client.getsockname()[1]]) == []
    assert holders([port]) == []


def process(proc: Path, pid: int, inode: int, comm: str, cgroup: str) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "fd" / "3").symlink_to(f"socket:[{inode}]")
    (folder / "fd" / "4").symlink_to("/dev/null")
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "cgroup").write_text(cgroup)


@pytest.mark.parametrize(
    ("cgroup", "unit", "pod"),
    [
        ("0::/system.slice/prometheus-node-exporter.service\n", "prometheus-node-exporter.service", False),
        ("0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/cri-containerd-2.scope\n", "", True),
        ("12:pids:/system.slice/containerd.service/kubepods-besteffort-pod1.slice:cri-containerd:2\n", "", True),
        ("3:cpu:/\n1:name=systemd:/system.slice/door.service\n0::/\n", "door.service", False),
        ("0::/user.slice/user-0.slice/session-1.scope\n", "", False),
    ],
)  # fmt: skip
def test_whose_it_is(tmp_path: Path, cgroup: str, unit: str, pod: bool) -> None:
    (tmp_path / "self/net").mkdir(parents=True)
    rows = ROW.format(port=9100, state="0A", inode=77) + ROW.format(port=9100, state="01", inode=78)
    (tmp_path / "self/net/tcp").write_text(HEADER + rows)
    process(tmp_path, 812, 77, "node_exporter", cgroup)
    assert holders([9100], tmp_path) == [Holder(9100, 812, "node_exporter", unit, pod)]
    assert holders([9101], tmp_path) == []


def test_a_listener_whose_process_nobody_sees_still_counts(tmp_path: Path) -> None:
    (tmp_path / "self/net").mkdir(parents=True)
    (tmp_path / "self/net/tcp6").write_text(HEADER + ROW.format(port=9100, state="0A", inode=77))
    assert holders([9100], tmp_path) == [Holder(9100, 0, "", "", False)]
