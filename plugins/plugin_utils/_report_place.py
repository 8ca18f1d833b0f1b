# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a report is kept: in a folder of the controller, or in one of a host.

A host is reached by a play of one task beside the run, with the run's own inventory, variables and passwords: nothing
else works where a run has failed, because Ansible begins no task after that. It is only played while the run itself has
no task at work, so between two plays and at the end.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import gzip
import os
import signal
from collections.abc import Mapping
from typing import Any

from ansible.executor.task_queue_manager import TaskQueueManager
from ansible.playbook.play import Play
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._report_files import (
    Found,
    look,
    put,
)

# Seconds in which the host has to take the report, lest a host that froze holds the run up.
_TIMEOUT = 60


class Folder:
    """A folder of the controller."""

    # Seconds between two reports while the run works.
    pause = 15.0

    def __init__(self, path: str, keep: int) -> None:
        self._path = os.path.abspath(os.path.expanduser(path))
        self._keep = keep

    def use(self, play: Any, passwords: Mapping[str, Any]) -> None:
        """Nothing of a play is needed here."""

    def put(self, report: str, page: str) -> str:
        """Write a report, and return where it is."""
        return put(self._path, report, page.encode(), self._keep)

    def look(self, report: str, cluster: str, operation: str) -> Found:
        """Return what earlier runs have left."""
        return look(self._path, cluster, operation, report)


class Host:
    """A folder of a host of the inventory."""

    pause = 60.0

    def __init__(self, host: str, path: str, keep: int) -> None:
        self._host = host
        self._path = path
        self._keep = keep
        self._play: Any = None
        self._passwords: dict[str, Any] = {}
        self._asked = 0

    def use(self, play: Any, passwords: Mapping[str, Any]) -> None:
        """Take inventory, variables and passwords from a play of the run."""
        self._play = play
        self._passwords = dict(passwords)

    def put(self, report: str, page: str) -> str:
        """Write a report, and return where it is."""
        packed = base64.b64encode(gzip.compress(page.encode(), mtime=0)).decode("ascii")
        return f"{self._host}:{self._ask(name=report, content=packed, keep=self._keep)['path']}"

    def look(self, report: str, cluster: str, operation: str) -> Found:
        """Return what earlier runs have left."""
        result = self._ask(name=report, cluster=cluster, operation=operation)
        return Found(result["untold"], result["usual"])

    def _ask(self, **arguments: Any) -> dict[str, Any]:
        result = self._run({"kubewright.cluster.report_file": {"folder": self._path, **arguments}})
        if "path" not in result:
            raise KubewrightError(
                "The host that kube_report_host names does not take the report",
                where=self._host,
                why=str(result.get("msg") or "Ansible does not reach it"),
                remedy="See whether Ansible reaches it, and may write there",
            )
        return result

    def _run(self, task: dict[str, Any]) -> dict[str, Any]:
        variables, loader = self._play.get_variable_manager(), self._play.get_loader()
        # Who carries the task matters to nobody: it is the host's by delegation, which --limit does not forbid.
        carriers = variables._inventory.get_hosts() or variables._inventory.get_hosts("localhost")
        if not carriers:
            return {"msg": "the inventory has no hosts"}
        carrier = carriers[0]
        self._asked += 1
        answer = f"__kube_report_answer_{self._asked}"
        play = Play().load(
            {
                "name": "Keep the report",
                "hosts": [carrier.name],
                "gather_facts": False,
                "become": True,
                "tasks": [
                    {
                        **task,
                        "name": "Keep the report",
                        "delegate_to": self._host,
                        "check_mode": False,
                        "diff": False,
                        "tags": ["always"],
                        "timeout": _TIMEOUT,
                        "register": answer,
                    }
                ],
            },
            variable_manager=variables,
            loader=loader,
        )
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        quiet = _Quiet(variables._inventory, variables, loader, self._passwords)
        try:
            quiet.run(play)
        finally:
            quiet.cleanup()
            # They were the run's own, for its workers.
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return dict(variables.get_vars(play=play, host=carrier).get(answer) or {})


class _Quiet(TaskQueueManager):
    """Plays without a word. --start-at-task is none of its business."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._start_at_done = True

    def load_callbacks(self) -> None:
        """There are none: what this play does is no part of the run's output."""

    def send_callback(self, method_name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""
