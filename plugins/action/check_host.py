# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses a host on the controller, by what was observed of it; plugin_utils/_host_fitness.py judges."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.kubewright.cluster.plugins.plugin_utils._host_fitness import Accepted, judge

_ARGUMENTS = {
    "host": {"type": "dict", "required": True},
    "control_plane": {"type": "bool", "required": True},
    "tested": {"type": "list", "elements": "str", "required": True},
    "accept_untested": {"type": "bool", "default": False},
    "accept_small": {"type": "bool", "default": False},
    "accept_cgroup_v1": {"type": "bool", "default": False},
    "ignored_preflight": {"type": "list", "elements": "str", "default": []},
    "problems": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ActionBase):
    """Judges what it is given and never connects to a host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(_ARGUMENTS)
        name = (task_vars or {})["inventory_hostname"]
        refused, warnings = judge(
            name,
            arguments["host"],
            control_plane=arguments["control_plane"],
            tested=arguments["tested"],
            accepted=Accepted(
                arguments["accept_untested"],
                arguments["accept_small"],
                arguments["accept_cgroup_v1"],
                arguments["ignored_preflight"],
            ),
        )
        refused += [f"{name}: {problem}" for problem in arguments["problems"]]
        result.update(changed=False, warnings=warnings)
        if refused:
            result.update(failed=True, msg="\n".join(refused))
        return result
