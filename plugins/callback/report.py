# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands what Ansible tells to _report_run.py, which makes a report of it."""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from ansible.template import Templar
from ansible_collections.kubewright.cluster.plugins.plugin_utils import (
    _report_settings,
    _report_summary,
    _this_run,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_place import Folder, Host
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import Task
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_run import Run
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_words import lines, why

DOCUMENTATION = r"""
name: report
type: aggregate
short_description: Leaves a report of each run, and says what goes on while a task takes long
version_added: 0.2.0
description:
  - Writes one page of HTML for each run of a playbook, whether it ends well, fails, or is cut off, where
    O(kubewright.cluster.kube_report#role:main:kube_report_dest) says.
  - Prints a line for a task that takes long, with the phase, the hosts, how long it has taken, and how long it usually
    takes.
  - The playbooks of this collection bring it with them. It has to be enabled only for playbooks of your own that use
    roles of this collection.
  - It has no options. Its settings are the variables of the role P(kubewright.cluster.kube_report#role), so that a job
    template of AWX can set them.
requirements:
  - for playbooks of your own, C(callbacks_enabled = kubewright.cluster.report) in C(ansible.cfg)
author:
  - kubewright.cluster contributors (@kubewright)
"""

# Their output is read by programs, which a line of ours would break.
_FOR_PROGRAMS = ("json", "jsonl", "junit", "null")

# What judges whether a run may go on. Checks of arguments are none of these.
_GATES = frozenset(
    ["ansible.builtin.assert", "assert"]
    + [
        f"kubewright.cluster.{name}"
        for name in (
            "check_description",
            "check_host",
            "check_sources",
            "cluster_acceptance",
            "cluster_lock",
            "host_reach",
            "log_canary",
        )
    ]
)
_SAYS = ("ansible.builtin.debug", "debug")
# What observes versions, and the key of its result that holds them; no key is the result itself.
_SEES = {"kubewright.cluster.cluster_info": "cluster", "kubewright.cluster.etcd_host_info": ""}
_INCLUDES = ("include_role", "include_tasks")


class CallbackModule(CallbackBase):
    """Translates the events of Ansible."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kubewright.cluster.report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._run: Run | None = None
        self._passwords: dict[str, Any] = {}
        # By the id of a task. Its name has templates in it, except while the task is announced.
        self._tasks: dict[str, Task] = {}
        self._pid = os.getpid()

    def set_play_context(self, play_context: Any) -> None:
        """Learn the passwords that were asked for; a report that is kept on a host needs them."""
        self._passwords = {"conn_pass": play_context.password, "become_pass": play_context.become_pass}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Begin a report, unless another copy of this callback does."""
        if not _report_summary.claim(self):
            self.disabled = True
            return
        if self._run is None:
            atexit.register(self._abandon)
        self._run = Run(
            {
                "operation": Path(playbook._file_name).stem,
                "cluster": "",
                "run": _this_run.name(os.getpid()),
                "who": "",
                "check": bool(context.CLIARGS.get("check")),
                "limit": str(context.CLIARGS.get("subset") or ""),
                "roles": {},
                "ansible": ansible_version,
                "collection": collection_version(),
            },
            self._say,
        )

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Begin a phase; the first one with a host tells the variables."""
        if self._run and not self._run.settled:
            self._settle(self._run, play)
        if self._run:
            self._run.phase(play.get_name().strip(), play, self._passwords)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Learn the name of a task, and leave the summary for one that tells it."""
        action = _action(task)
        self._tasks[task._uuid] = Task(str(task.name or action), _kind(task, action))
        if self._run and action in _report_summary.TELLERS:
            _report_summary.leave(self._run.summary(last=action == _report_summary.LAST))

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Learn the name of a handler."""
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins for a host."""
        if self._run and _action(task) != _report_summary.LAST:
            self._run.begins(host.get_name(), self._task(task))

    def v2_runner_retry(self, result: Any) -> None:
        """The condition of a task does not hold yet."""
        if self._run:
            self._run.tries(result._host.get_name(), int(result._result.get("attempts") or 1) + 1)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task has ended well."""
        action = _action(result._task)
        if action.rpartition(".")[2] in _INCLUDES:
            self._ends(result, "skipped")
            return
        self._ends(result, "changed" if result.is_changed() else "ok")
        for one in _items(result._result):
            if action in _SEES:
                self._sees(action, one)
            elif action in _SAYS:
                self._says(result, one)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task was not for this host."""
        self._ends(result, "skipped")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task has failed."""
        self._ends(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host was not reached."""
        self._ends(result, "ignored" if result._task.ignore_unreachable else "unreachable")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The playbook is over."""
        if self._run:
            lost = dict.fromkeys([host for host, count in stats.failures.items() if count], "failed")
            lost.update(dict.fromkeys([host for host, count in stats.dark.items() if count], "unreachable"))
            self._run.ended(lost)
            self._run = None

    def _settle(self, run: Run, play: Any) -> None:
        manager = play.get_variable_manager()
        hosts = manager._inventory.get_hosts(play.hosts)
        if not hosts:
            return
        variables = manager.get_vars(play=play, host=hosts[0])
        read = self._read(variables, Templar(loader=play.get_loader(), variables=variables))
        settings = _report_settings.read(read)
        place: Folder | Host | None = None
        if settings.dest and settings.host:
            place = Host(settings.host, settings.dest, settings.keep)
            place.use(play, self._passwords)
        elif settings.dest:
            place = Folder(settings.dest, settings.keep)
        about = {
            "cluster": str(read.get("kube_cluster_name") or ""),
            "who": _this_run.who(variables),
            "roles": _report_settings.roles(variables),
        }
        secrets = _report_settings.secrets(variables) | set(filter(None, self._passwords.values()))
        run.settle(settings, secrets, about, place)

    def _read(self, variables: Mapping[str, Any], templar: Any) -> dict[str, Any]:
        read = {}
        for name, value in variables.items():
            if name.startswith(_report_settings.PREFIX) or name == "kube_cluster_name":
                try:
                    read[name] = templar.template(value)
                except AnsibleError as error:
                    self._say(f"{name} is not regarded: {error}")
        return read

    def _task(self, task: Any) -> Task:
        action = _action(task)
        return self._tasks.get(task._uuid) or Task(str(task.name or action), _kind(task, action))

    def _ends(self, result: Any, state: str) -> None:
        # The summary is work of no host: the one that carries it may have no part in the run.
        if self._run and _action(result._task) != _report_summary.LAST:
            host, task, found = result._host.get_name(), result._task, result._result
            tries = int(found.get("attempts") or 1)
            if tries > 1:
                self._run.tries(host, tries)
            reason = "" if state in ("ok", "changed", "skipped") else why(found)
            self._run.ends(host, self._task(task), state, why=reason, on=str(task.delegate_to or ""))

    def _says(self, result: Any, one: Mapping[str, Any]) -> None:
        if self._run and "msg" in one:
            self._run.says(result._host.get_name(), self._task(result._task).name, lines(one["msg"]))

    def _sees(self, action: str, one: Mapping[str, Any]) -> None:
        key = _SEES[action]
        observed = one.get(key) if key else one
        if self._run and isinstance(observed, Mapping):
            self._run.sees(action, observed)

    def _say(self, text: str) -> None:
        if str(constants.DEFAULT_STDOUT_CALLBACK).rpartition(".")[2] in _FOR_PROGRAMS:
            return
        self._display.display(text, color=constants.COLOR_VERBOSE)
        # Ansible leaves that to the system, which keeps a line back where the output is no terminal. The display's lock
        # is held whenever a worker is forked, so that none inherits the lock of the output.
        with self._display._lock:
            sys.stdout.flush()

    def _abandon(self) -> None:
        """End the report of a run that Ctrl-C, or an error that Ansible does not know, has ended."""
        if self._run and os.getpid() == self._pid:
            self._run.abandoned()


def collection_version() -> str:
    """Return the version of this collection, from the manifest of an installed one or from a checkout."""
    root = Path(__file__).resolve().parents[2]
    if (root / "MANIFEST.json").exists():
        manifest = json.loads((root / "MANIFEST.json").read_text(encoding="utf-8"))
        return str(manifest["collection_info"]["version"])
    found = re.search(r"^version: *(\S+)", (root / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def _action(task: Any) -> str:
    return str(getattr(task, "resolved_action", None) or task.action)


def _kind(task: Any, action: str) -> str:
    return "gate" if action in _GATES else "wait" if task.until else "work"


def _items(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results of a loop, or the only one."""
    found = result.get("results")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else [result]
