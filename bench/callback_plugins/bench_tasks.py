# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what a playbook run cost: every task that was started with its seconds, and the results of every host."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: bench_tasks
type: aggregate
short_description: Writes the tasks of a run with their seconds, and the results of every host
description:
  - A task's seconds end where the next one begins, so they hold all hosts, and Ansible's own work between two tasks.
  - The file is named by the environment variable C(BENCH_TASKS_FILE).
requirements:
  - enabled by C(ANSIBLE_CALLBACKS_ENABLED)
"""


class CallbackModule(CallbackBase):
    """Counts tasks and takes their time."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "bench_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._tasks: list[tuple[str, float]] = []

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Note a task."""
        self._tasks.append((task.get_name(), time.monotonic()))

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Note a handler."""
        self._tasks.append((task.get_name(), time.monotonic()))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write everything."""
        ends = [begun for _name, begun in self._tasks[1:]] + [time.monotonic()]
        found = {
            "tasks": [
                {"name": name, "seconds": end - begun}
                for (name, begun), end in zip(self._tasks, ends, strict=True)
            ],
            "hosts": {host: stats.summarize(host) for host in sorted(stats.processed)},
        }
        Path(os.environ["BENCH_TASKS_FILE"]).write_text(json.dumps(found))
