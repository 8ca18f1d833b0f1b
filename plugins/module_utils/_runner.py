# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs: an argv list in, a decoded result or a :class:`CommandError` out.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils import _run_log
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError

# Privilege escalation often leaves a short PATH (sudo's secure_path on RHEL lacks /usr/local), and the tools
# that a release archive brings (etcdctl, runc, containerd) live there.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What the collection runs on hosts talks to the cluster, where no proxy leads, and kubeadm would copy these into its
# pods. Hosts behind a proxy often have them in /etc/environment, without a no_proxy that knows the cluster. Nobody
# takes an empty one for a proxy (Go's net/http, kubeadm's GetProxyEnvVars).
_PROXIES = {
    spelling: ""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for spelling in (name, name.upper())
}

# coreutils timeout(1): the time is over; the program is missing; the program cannot be executed.
_TIMED_OUT, _CANNOT_EXECUTE, NOT_STARTED = 124, 126, 127


def search_path() -> str:
    """Return the process's own PATH, completed with the places where the tools of a cluster are installed."""
    own = os.environ.get("PATH", "")
    missing = [place for place in _PATH.split(":") if place not in own.split(":")]
    return ":".join(filter(None, [own, *missing]))


@dataclass(frozen=True)
class Completed:
    """What a program that ended left behind."""

    rc: int
    stdout: str
    stderr: str


class Runner:
    """Runs programs through an injected ``AnsibleModule.run_command``.

    The environment is the module's own plus ``LC_ALL=C``, a completed ``PATH`` and *env*, without proxies.
    """

    def __init__(
        self, run_command: Callable[..., tuple[int, str, str]], env: dict[str, str] | None = None
    ) -> None:
        self._run_command = run_command
        self._env = {"LC_ALL": "C", "PATH": search_path(), **_PROXIES, **(env or {})}

    def run(
        self,
        argv: list[str],
        *,
        check: bool = True,
        stdin: str | None = None,
        timeout: float | None = None,
        secret: bool = False,
        asks: bool = False,
    ) -> Completed:
        """Run *argv*; with *check* an exit code other than 0 is an error.

        *timeout* in seconds ends the program (``run_command`` cannot). *secret* keeps its output out of
        errors. *asks* says that the program only asks something and leaves nothing behind: it is no step of
        the run log.
        """
        limited = argv if timeout is None else ["timeout", "--kill-after=5", f"{timeout:g}", *argv]
        # expand_user_and_vars would rewrite "$" and "~" in arguments; without binary_data the input would get
        # a newline at its end.
        options: dict[str, Any] = {
            "environ_update": self._env,
            "expand_user_and_vars": False,
            "handle_exceptions": False,
        }
        if stdin is not None:
            options.update(data=stdin, binary_data=True)
        try:
            if asks:
                rc, stdout, stderr = self._run_command(limited, **options)
            else:
                with _run_log.step("run", argv) as step:
                    rc, stdout, stderr = self._run_command(limited, **options)
                    step.rc = rc
        except OSError as error:
            raise self._not_started(argv, error.strerror or str(error)) from error
        if timeout is not None and rc in (NOT_STARTED, _CANNOT_EXECUTE):
            raise self._not_started(argv, stderr.strip())
        if timeout is not None and rc == _TIMED_OUT:
            raise CommandError(
                f"{argv[0]} did not end in {timeout:g} seconds",
                cmd=argv,
                rc=rc,
                stdout="" if secret else stdout,
                stderr="" if secret else stderr,
                remedy="Look for what it waits for, then run the task again",
                transient=True,
            )
        if check and rc != 0:
            raise CommandError(
                f"{argv[0]} failed with exit code {rc}",
                cmd=argv,
                rc=rc,
                stdout="" if secret else stdout,
                stderr="" if secret else stderr,
                why="its output is secret" if secret else _last_line(stderr) or _last_line(stdout),
            )
        return Completed(rc, stdout, stderr)

    @property
    def environment(self) -> dict[str, str]:
        """Return what programs get, for one that is not run by this class."""
        return {**os.environ, **self._env}

    def find(self, program: str) -> str | None:
        """Return the path of *program* as it would be started, None when it is not installed."""
        return shutil.which(program, path=self._env["PATH"])

    def json(self, argv: list[str], *, timeout: float | None = None, secret: bool = False) -> Any:
        """Ask *argv* something, and decode the JSON that it prints."""
        done = self.run(argv, timeout=timeout, secret=secret, asks=True)
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise CommandError(
                f"{argv[0]} did not print JSON",
                cmd=argv,
                rc=done.rc,
                stdout="" if secret else done.stdout,
                stderr="" if secret else done.stderr,
                why="its output is secret" if secret else str(error),
            ) from (None if secret else error)

    @staticmethod
    def _not_started(argv: list[str], why: str) -> CommandError:
        return CommandError(
            f"{argv[0]} cannot be started",
            cmd=argv,
            rc=NOT_STARTED,
            why=why,
            remedy=f"Install {argv[0].rsplit('/', 1)[-1]} on this host, or name the path where it is",
        )


def _last_line(text: str) -> str:
    """Return the last line that says something: tools print the cause of a failure last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
