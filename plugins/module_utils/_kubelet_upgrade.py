# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the kubelet of this host run in the version that is installed.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._kubectl_yaml import Translator
from ansible_collections.kubewright.cluster.plugins.module_utils._kubelet_settings import CONFIG, Kubelet
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

_TIMEOUT = 90.0  # seconds


def restart_kubelet(runner: Runner, api: Any, node: str, version: str, seconds: float) -> None:
    """Restart the kubelet, and wait until its node is Ready and reports the version."""
    deadline = Deadline(seconds)
    # Its package, or kubeadm's, may have brought another unit.
    runner.run(["systemctl", "daemon-reload"], timeout=_TIMEOUT)
    [config] = Translator(runner).read([CONFIG.read_text(encoding="utf-8")])
    try:
        Kubelet(runner, api, node, lambda: deadline).restart(config)
        wait_for(
            lambda: reported(api.get(f"/api/v1/nodes/{node}")) == version,
            deadline,
            what=f"the node {node} to report the kubelet {version}",
        )
    except Unproven as error:
        raise KubewrightError(
            f"The kubelet {version} does not come up",
            where=node,
            why=error.why,
            remedy=f"Read 'journalctl -u kubelet' on {node} and mend the cause, then run again",
            **error.facts,
        ) from error


def reported(node: dict[str, Any]) -> str:
    """Return the version of the kubelet that a node reports."""
    info = (node.get("status") or {}).get("nodeInfo") or {}
    return str(info.get("kubeletVersion") or "").lstrip("v")
