# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
from typing import Any

from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_progress import Progress, lines
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import Busy


def said(*busy: Busy, usual: float = 0.0) -> list[str]:
    return list(lines(busy, lambda task: usual, 432.0, 15.0))


def busy(host: str, seconds: float, tries: int = 1) -> Busy:
    return Busy(host, "Upgrade the control plane", "Upgrade the control planes", seconds, tries)


HEAD = "[7 min 12 s] Upgrade the control planes | "


def test_a_task_that_takes_long_is_said() -> None:
    assert said(busy("cp2", 14.9)) == []
    assert said(busy("cp2", 15.7)) == [f"{HEAD}cp2: Upgrade the control plane | 15 s"]


def test_how_long_it_takes_is_said_where_that_is_known() -> None:
    assert said(busy("cp2", 45), usual=94.4) == [
        f"{HEAD}cp2: Upgrade the control plane | 45 s, usually 1 min 34 s"
    ]
    assert said(busy("cp2", 150), usual=94.4) == [
        f"{HEAD}cp2: Upgrade the control plane | 2 min 30 s, slow: usually 1 min 34 s"
    ]
    assert said(busy("cp2", 45), usual=0.3) == [f"{HEAD}cp2: Upgrade the control plane | 45 s"]


def test_hosts_at_the_same_task_are_one_line() -> None:
    hosts = [busy(f"w{number}", 20 + number, number) for number in range(1, 7)]
    assert said(*hosts) == [
        f"{HEAD}w1, w2, w3 and 3 others: Upgrade the control plane | 26 s, looked 6 times"
    ]


class Listener:
    """Waits for lines."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.event = threading.Event()

    def say(self, line: str) -> None:
        self.heard.append(line)
        self.event.set()


def test_it_is_said_by_itself_until_it_is_stopped(monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "ansible_collections.kubewright.cluster.plugins.plugin_utils._report_progress._LOOK", 0.01
    )
    listener = Listener()
    progress = Progress(0.05, lambda every: [f"slower than {every}"], listener.say)
    progress.start()
    assert listener.event.wait(10)
    progress.stop()
    heard = len(listener.heard)
    listener.event.clear()
    assert not listener.event.wait(0.3) and len(listener.heard) == heard
    assert set(listener.heard) == {"slower than 0.05"}


def test_it_waits_anew_after_something_was_said(monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "ansible_collections.kubewright.cluster.plugins.plugin_utils._report_progress._LOOK", 0.01
    )
    listener = Listener()
    progress = Progress(3600, lambda every: ["line"], listener.say)
    progress.moved()
    progress.start()
    assert not listener.event.wait(0.3)
    progress.stop()
