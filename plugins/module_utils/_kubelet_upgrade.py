# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the kubelet of this host run in the version that is installed.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._held_pods import (
    COMPONENTS,
    KUBELET,
    Switch,
    end_in_order,
    start_kubelet,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import while_it_starts
from ansible_collections.kubewright.cluster.plugins.module_utils._kubectl_yaml import Translator
from ansible_collections.kubewright.cluster.plugins.module_utils._kubelet_settings import CONFIG, Kubelet
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

_TIMEOUT = 90.0  # seconds


def restart_kubelet(
    runner: Runner, api: Any, node: str, version: str, seconds: float, *, control_plane: bool = False
) -> None:
    """Restart the kubelet, and wait until its node is Ready and reports the version.

    The id of a static pod is a digest of what the kubelet makes of its manifest, and kubelets of two minors make
    something else of it (applyDefaults in pkg/kubelet/config/common.go). The new one would start all of a control plane
    anew while the old pods still run, and etcd would end before the API server has told anybody that it goes. So they
    end in their order first, while no kubelet runs.
    """
    deadline = Deadline(seconds)
    # Its package, or kubeadm's, may have brought another unit.
    runner.run(["systemctl", "daemon-reload"], timeout=_TIMEOUT)
    [config] = Translator(runner).read([CONFIG.read_text(encoding="utf-8")])
    if control_plane:
        end_in_order(runner, deadline, COMPONENTS)
    try:
        Kubelet(runner, api, node, lambda: deadline).restart(config)
        if control_plane:
            start_kubelet(runner)
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


def wake_kubelet(runner: Runner, serves: Callable[[], bool], seconds: float) -> None:
    """Start the kubelet of a control plane where a run was cut off that had stopped it, and wait until this one serves.

    kubeadm asks the API server of its own host.
    """
    deadline = Deadline(seconds)

    def answers() -> bool:
        with while_it_starts():
            return serves()

    if not Switch(runner, deadline).kubelet_runs():
        runner.run(["systemctl", "start", KUBELET], timeout=_TIMEOUT)
        wait_for(answers, deadline, what="the API server of this host to serve again")


def reported(node: dict[str, Any]) -> str:
    """Return the version of the kubelet that a node reports."""
    info = (node.get("status") or {}).get("nodeInfo") or {}
    return str(info.get("kubeletVersion") or "").lstrip("v")
