# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the kubelet of this host run by a new configuration, and by the old one again if it does not.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Protocol

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import GuardedFile, Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import while_it_starts
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import url_answers

CONFIG = Path("/var/lib/kubelet/config.yaml")

_UNIT = "kubelet.service"
_DEFAULT_HEALTHZ_PORT = 10248
_LOG_LINES = 20
_TIMEOUT = 90.0  # seconds; systemd's own limit for stopping a unit


class Nodes(Protocol):
    """The part of KubeApi that is used here."""

    def get(self, path: str, **query: Any) -> Any: ...


class Kubelet:
    """The kubelet of this host, which is the node *node_name*. *deadline* begins the time that a start may take."""

    def __init__(
        self,
        runner: Runner,
        api: Nodes,
        node_name: str,
        deadline: Callable[[], Deadline],
        *,
        answers: Callable[[str], bool] | None = None,
    ) -> None:
        self._runner = runner
        self._api = api
        self._node_name = node_name
        self._deadline = deadline
        self._answers = answers or url_answers

    def replace(
        self, file: GuardedFile, text: str, wanted: Mapping[str, Any], live: Mapping[str, Any]
    ) -> None:
        """Write the configuration and restart; with the old one again if the node does not become Ready."""
        file.replace(text, lambda: self.restart(wanted), lambda: self.restart(live))

    def prove(self, file: GuardedFile, live: Mapping[str, Any]) -> None:
        """Restart by the file that an earlier run put in place, or by the one before it."""
        file.prove(lambda: self.restart(live), lambda: self.restart(live))

    def restart(self, config: Mapping[str, Any]) -> None:
        """Restart the kubelet and wait until it is healthy and has reported the node as Ready since."""
        # The node's times have whole seconds.
        begun = int(time.time())
        # After too many failures in a short time systemd refuses a start until this.
        self._systemctl("reset-failed", _UNIT, check=False)
        self._systemctl("restart", _UNIT)
        url = healthz_url(config)

        def ready() -> bool:
            shown = self._systemctl("show", "--property=ActiveState,SubState,NRestarts", "--", _UNIT)
            state = dict(line.partition("=")[::2] for line in shown.splitlines())
            if state.get("SubState") == "auto-restart" or int(state.get("NRestarts") or 0) > 0:
                raise self._failure("it ended by itself right after its start")
            if not self._answers(url):
                raise KubewrightError("The kubelet does not answer", where=url, transient=True)
            return reported_ready(self._node(), begun)

        try:
            wait_for(ready, self._deadline(), what=f"the node {self._node_name} to be Ready again")
        except Unproven:
            raise
        except KubewrightError as error:
            raise self._failure(str(error)) from error

    def _node(self) -> Any:
        # The API server may have been started with this kubelet.
        with while_it_starts():
            return self._api.get(f"/api/v1/nodes/{self._node_name}")

    def _systemctl(self, *words: str, check: bool = True) -> str:
        return self._runner.run(["systemctl", *words], check=check, timeout=_TIMEOUT).stdout

    def _failure(self, why: str) -> Unproven:
        argv = ["journalctl", f"--unit={_UNIT}", f"--lines={_LOG_LINES}", "--no-pager", "--output=cat"]
        lines = self._runner.run(argv, check=False, timeout=_TIMEOUT).stdout.splitlines()
        telling = [line for line in lines if "failed" in line or "rror" in line] or lines
        said = f". Its last lines: {' | '.join(telling[-2:])}" if telling else ""
        return Unproven(
            "The kubelet does not work with its new settings",
            where=self._node_name,
            why=f"{why}{said}",
            component="kubelet",
            log=lines,
        )


def healthz_url(config: Mapping[str, Any]) -> str:
    host = config.get("healthzBindAddress") or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{config.get('healthzPort') or _DEFAULT_HEALTHZ_PORT}/healthz"


def reported_ready(node: Mapping[str, Any], since: int) -> bool:
    """Tell whether the kubelet has said since a moment (Unix seconds) that its node is Ready."""
    for condition in (node.get("status") or {}).get("conditions") or []:
        if (
            condition["type"] == "Ready"
            and condition["status"] == "True"
            and condition.get("lastHeartbeatTime")
        ):
            heard = datetime.strptime(condition["lastHeartbeatTime"], "%Y-%m-%dT%H:%M:%SZ")
            return heard.replace(tzinfo=timezone.utc).timestamp() >= since
    return False
