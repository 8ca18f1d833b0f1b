# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects the description of a cluster on the controller; plugin_utils/_description.py judges it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _report_summary
from ansible_collections.kubewright.cluster.plugins.plugin_utils._description import (
    Description,
    problems,
    warnings,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._values import HIDDEN, Unresolved

ROLES = Path(__file__).resolve().parents[2] / "roles"
CLUSTER = "kube_cluster_"
PARTS = ("control_plane", "worker", "etcd", "load_balancer")

# Anything else is a secret that ansible-vault keeps.
_PLAIN = (str, int, float, list, dict, type(None))
_SSH = ("ssh", "smart", "paramiko", "paramiko_ssh")
_SSH_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_TRUST = "trusted_as_template" in inspect.signature(DataLoader.load_from_file).parameters

# By far the most common template of a host's value: another variable as it is. The template engine takes a
# millisecond or two for a value, which counts with hundreds of hosts.
_REFERENCE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class ActionModule(ActionBase):
    """Reads variables and never connects to a host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            {
                "supported_minors": {"type": "list", "elements": "str", "required": True},
                "problems": {"type": "list", "elements": "str", "default": []},
            }
        )
        description = self._describe(task_vars or {}, arguments["supported_minors"])
        found = problems(description) + arguments["problems"]
        result.update(changed=False, warnings=warnings(description), **_report_summary.told())
        if found:
            result.update(failed=True, msg="\n".join(found))
        return result

    def _describe(self, task_vars: Mapping[str, Any], supported_minors: list[str]) -> Description:
        options, defaults, prefixes = self._roles()
        reader = _Reader(self._templar, options, defaults, prefixes)
        settings = {
            name: reader.value(name, task_vars)
            for name in options
            if name.startswith(CLUSTER) and name in task_vars
        }
        groups = task_vars["groups"]
        members = [groups.get(str(settings.get(f"{CLUSTER}{part}_group")), []) for part in PARTS]
        hosts, connections = {}, {}
        for host in dict.fromkeys(host for names in members for host in names):
            variables = task_vars["hostvars"].raw_get(host)
            hosts[host] = reader.host(variables, in_play=host in task_vars["ansible_play_hosts_all"])
            place = ssh_place(host, variables)
            if place:
                connections[host] = place
        return Description(settings, groups, hosts, options, supported_minors, connections)

    def _roles(self) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
        """Return the options of all our roles, their defaults, and what the names of their variables begin with."""
        options: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        folders = [file.parents[1] for file in sorted(ROLES.glob("*/meta/argument_specs.yml"))]
        for folder in folders:
            specs = self._loader.load_from_file(str(folder / "meta/argument_specs.yml"))
            for entry in specs["argument_specs"].values():
                options.update(entry.get("options") or {})
            if (folder / "defaults/main.yml").exists():
                # Without this a template in a default would not be worked out (ansible-core 2.19 and newer).
                trust = {"trusted_as_template": True} if _TRUST else {}
                defaults.update(self._loader.load_from_file(str(folder / "defaults/main.yml"), **trust) or {})
        return options, defaults, tuple(f"{folder.name}_" for folder in folders)


class _Reader:
    """Reads variables, the cheap way where nothing has to be worked out."""

    # These differ between hosts even where a group sets them for all with one template.
    OWN = ("kube_cluster_host_address", "kube_cluster_node_name")

    def __init__(
        self, templar: Any, options: Mapping[str, Any], defaults: Mapping[str, Any], prefixes: tuple[str, ...]
    ) -> None:
        self._templar = templar
        self._options = options
        self._defaults = defaults
        self._prefixes = prefixes
        # Values of templates that hosts have in common, worked out for the first of them.
        self._common: dict[tuple[str, int], Any] = {}

    def host(self, variables: Mapping[str, Any], *, in_play: bool) -> dict[str, Any]:
        """Return the variables of a host that begin with the name of a role."""
        values = {}
        for name in variables:
            if name.startswith(self._prefixes):
                value = self._shared(name, variables)
                # What needs the facts of a host can be worked out only where they were gathered.
                values[name] = HIDDEN if isinstance(value, Unresolved) and not in_play else value
        return values

    def _shared(self, name: str, variables: Mapping[str, Any]) -> Any:
        if name in self.OWN or not has_template(variables[name]):
            return self.value(name, variables)
        key = (name, id(variables[name]))
        if key not in self._common:
            self._common[key] = self.value(name, variables)
        return self._common[key]

    def value(self, name: str, variables: Mapping[str, Any]) -> Any:
        """Return the value of a variable with its templates worked out; a secret stays hidden."""
        value = variables[name]
        if self._options.get(name, {}).get("no_log") or not isinstance(value, _PLAIN):
            return HIDDEN
        if not has_template(value):
            return value
        reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        other = variables.get(reference.group(1)) if reference else None
        if isinstance(other, str) and not has_template(other):
            return other
        try:
            templar = self._templar.copy_with_new_env(available_variables={**self._defaults, **variables})
            return templar.template(value)
        except AnsibleError as error:
            return Unresolved(" ".join(str(error).split()))


def has_template(value: Any) -> bool:
    """Tell whether there is something to work out in a value."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    parts = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, (Mapping, list, tuple)) and any(map(has_template, parts))


def ssh_place(host: str, variables: Mapping[str, Any]) -> str:
    """Return where Ansible finds a host; nothing where that is not told by address and port alone."""
    if variables.get("ansible_connection", "ssh") not in _SSH:
        return ""
    # Behind different bastions one address is not one machine.
    arguments = " ".join(str(variables.get(name, "")) for name in _SSH_ARGUMENTS)
    if "proxy" in arguments.lower() or "-J" in arguments:
        return ""
    address = variables.get("ansible_host", host)
    port = variables.get("ansible_port", 22)
    return "" if has_template(address) or has_template(port) else f"{address}:{port}"
