# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says for whom the module of the same name holds the lock, and whether a run that holds it is gone."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _report_summary, _this_run


class ActionModule(ActionBase):
    """Runs the module, a second time where it meets the lock of a run of this controller that has ended."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        # Each task runs in a process of its own, whose parent is the run.
        pid = os.getppid()
        asked = {"holder": _holder(task_vars or {}, pid), "run": _this_run.name(pid), **self._task.args}
        done = self._execute_module(module_args=asked, task_vars=task_vars)
        if done.get("failed") and _this_run.is_gone(str(done.get("run") or "")):
            done = self._execute_module(module_args={**asked, "gone": [done["run"]]}, task_vars=task_vars)
        result.update(done, **_report_summary.told())
        return result


def _holder(variables: dict[str, Any], pid: int) -> str:
    who = _this_run.who(variables)
    return f"{who}, process {pid}" if "@" in who else who
