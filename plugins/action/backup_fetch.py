# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a backup to the controller; plugin_utils/_backup_fetch.py does all but the reading."""

from __future__ import annotations

import base64
import binascii
import shlex
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.plugin_utils._backup_fetch import PIECE, fetch, prune

_ARGUMENTS = {
    "path": {"type": "str", "required": True},
    "folder": {"type": "path", "required": True},
    "prefix": {"type": "str", "required": True},
    "keep": {"type": "int", "default": 0},
    "keep_days": {"type": "float", "default": 0},
}


class ActionModule(ActionBase):
    """Reads with the privileges of the task, so that no copy that others could read has to be made on the host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(_ARGUMENTS)
        check_mode = self._task.check_mode
        try:
            fetched = fetch(self._read, arguments["path"], arguments["folder"], check_mode=check_mode)
            if not check_mode:
                fetched.pruned = prune(
                    arguments["folder"],
                    arguments["prefix"],
                    keep=arguments["keep"],
                    keep_days=arguments["keep_days"],
                )
        except KubewrightError as error:
            result.update(failed=True, msg=str(error), **error.facts)
            return result
        result.update(
            changed=fetched.changed or bool(fetched.pruned), path=fetched.path, pruned=fetched.pruned
        )
        return result

    def _read(self, path: str, number: int) -> bytes:
        command = f"dd if={shlex.quote(path)} bs={PIECE} skip={number} count=1 2>/dev/null | base64"
        done = self._low_level_execute_command(command)
        try:
            return base64.b64decode(done["stdout"]) if done["rc"] == 0 else b""
        except binascii.Error as error:
            raise KubewrightError(
                "A piece of the backup was lost on its way", where=path, why=str(error)
            ) from error
