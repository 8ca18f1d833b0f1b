"""A callback of the crash tests: notes, when a task starts on a host, which one it is.

What the collection's own modules do, the run log of the host tells. This is for Ansible's modules.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_starts
type: notification
short_description: Notes which task starts on which host
description:
  - Appends a line of JSON for each task and host to the file that KUBEWRIGHT_TASK_STARTS names.
requirements:
  - enabled in configuration
"""


class CallbackModule(CallbackBase):
    """Appends a line for each task that starts on a host."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "task_starts"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Note one task, with the host that it is meant for: it is not known yet whether it is delegated."""
        line = {"time": time.time(), "host": host.get_name(), "action": task.action, "task": task.get_name()}
        with open(os.environ["KUBEWRIGHT_TASK_STARTS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
