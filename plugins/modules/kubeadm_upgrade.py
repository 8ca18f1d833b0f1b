#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade the part of a cluster that is on this host, with kubeadm."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_upgrade
short_description: Upgrade the part of a kubeadm cluster that is on this host
version_added: 0.2.0
description:
  - Runs C(kubeadm upgrade apply) or C(kubeadm upgrade node) where something is left to do, and does nothing elsewhere.
    What is done is read from the manifests, the ConfigMap C(kubeadm-config) and the node, never remembered.
  - A host on which a kubeadm was killed is recognised. A kubeadm that still runs, because only its controller was
    ended, is waited for; a manifest that was moved away and not replaced is put back before kubeadm begins again.
  - Kubeadm begins when the API shows the static pods as they run, so that it does not take a late word of the kubelet
    for the pod that it has just changed.
  - Where kubeadm fails, the result says which components it has put back and which are new already.
  - It neither installs packages nor drains. The playbook C(upgrade.yml) does all that belongs to it, in the order that
    Kubernetes asks for.
options:
  part:
    description:
      - V(control_plane) upgrades the static pods of a control plane, with etcd among them where kubeadm made it.
      - V(addons) upgrades kube-proxy and CoreDNS, which kubeadm does by itself with the last control plane. It is for a
        run that was cut off in between.
      - V(kubelet_config) writes the kubelet's configuration for the wanted version. Take the pods off the node first.
      - V(kubelet) restarts the kubelet where another version is installed than the one that runs, and waits until the
        node is Ready with it. A kubelet of another minor makes all static pods of a control plane anew in one moment,
        so they end in their order before, the API server first.
    type: str
    choices: [control_plane, addons, kubelet_config, kubelet]
    required: true
  version:
    description:
      - The wanted version. kubeadm of this very version has to be installed, because it decides the version of etcd;
        for O(part=kubelet) the kubelet of it.
    type: str
    required: true
  apply:
    description:
      - With O(part=control_plane), be the one control plane that tells the cluster of the version, when all the rest is
        done. Nothing is applied where the cluster has been told.
    type: bool
    default: false
  node_name:
    description:
      - The name of this host as a node.
    type: str
    required: true
  lend_etcd:
    description:
      - With O(part=control_plane), the client URLs of the other members of etcd. The API server of this host asks them
        too while its own etcd is restarted, so that clients which reach it by the Service C(kubernetes) do not notice.
        This costs one restart of the API server, of which it warns its clients itself.
      - Left out, nothing is lent. The manifest that kubeadm writes names the own etcd only.
    type: list
    elements: str
    default: []
  renew_certificates:
    description:
      - Let kubeadm renew the certificates of what it upgrades.
    type: bool
    default: true
  patches_folder:
    description:
      - Where kubeadm finds patches of manifests and of the kubelet's configuration. A folder that is missing or empty
        is none.
    type: path
    default: /etc/kubernetes/patches
  ignore_preflight_errors:
    description:
      - Names of kubeadm's preflight checks whose failures are let pass.
    type: list
    elements: str
    default: []
  keep_backups:
    description:
      - How many of the newest folders of each kind that kubeadm leaves in C(/etc/kubernetes/tmp) stay when it has done
        its work. Each upgrade of etcd leaves a copy of its data there. With V(-1) all of them stay.
    type: int
    default: -1
  api_server:
    description:
      - The API server to ask, such as V(https://192.0.2.11:6443). The one of the kubeconfig by default.
    type: str
  manifest_timeout:
    description:
      - Seconds that kubeadm waits for a component to come back with its new manifest, before it puts the old one back.
    type: int
    default: 300
  timeout:
    description:
      - Seconds after which kubeadm is ended. As long is waited for one that is found running, and for the kubelet.
    type: int
    default: 1800
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: partial
    details:
      - Says what would be run. kubeadm's own dry run is what M(kubewright.cluster.kubeadm_upgrade_info) does.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(part=addons) runs kubeadm each time.
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.kubeadm_upgrade_info
  - module: kubewright.cluster.drain_node
"""

EXAMPLES = r"""
- name: Upgrade the first control plane
  kubewright.cluster.kubeadm_upgrade:
    part: control_plane
    version: 1.37.1
    apply: true
    node_name: cp1

- name: Upgrade the kubelet of a node that was drained, when its packages were installed
  kubewright.cluster.kubeadm_upgrade:
    part: kubelet
    version: 1.37.1
    node_name: worker1
"""

RETURN = r"""
command:
  description: The kubeadm command that was run or would be run; empty when there is nothing to do.
  returned: success
  type: str
  sample: upgrade apply
skipped_phases:
  description: The phases of kubeadm that are not run.
  returned: success
  type: list
  elements: str
  sample: [kubelet-config]
put_back:
  description: Manifests that were missing and were put back from kubeadm's backups, or would be.
  returned: success
  type: list
  elements: str
  sample: []
unpinned:
  description: Whether a tag for etcd that would hold it back was taken out of ClusterConfiguration, or would be.
  returned: success
  type: bool
  sample: false
lent:
  description: Whether the API server was given the other members of etcd for the time of the upgrade.
  returned: when kubeadm was run
  type: bool
  sample: true
components:
  description: What became of each static pod.
  returned: when kubeadm was run, also when it failed
  type: list
  elements: dict
  contains:
    name:
      description: The component.
      type: str
      sample: kube-apiserver
    from:
      description: Its version before.
      type: str
      sample: 1.36.3
    to:
      description: Its version now.
      type: str
      sample: 1.37.1
    action:
      description: What kubeadm did to it.
      type: str
      choices: [upgraded, unchanged, rolled back]
      sample: upgraded
phases:
  description: The phases of kubeadm that ran, in their order.
  returned: when kubeadm was run, also when it failed
  type: list
  elements: str
  sample: [upgrade]
certificates_renewed:
  description: The certificates that kubeadm renewed, by its names.
  returned: when kubeadm was run, also when it failed
  type: list
  elements: str
  sample: [apiserver, apiserver-kubelet-client]
backup_paths:
  description: What kubeadm has left in C(/etc/kubernetes/tmp), this time and earlier.
  returned: when kubeadm was run, also when it failed
  type: list
  elements: str
  sample: [/etc/kubernetes/tmp/kubeadm-backup-etcd-2026-11-22-10-00-00]
pruned:
  description: What of it was deleted.
  returned: when kubeadm was run
  type: list
  elements: str
  sample: []
kubelet:
  description: The version of the kubelet before (C(from)) and now (C(to)), and whether it was restarted (C(restarted)).
  returned: with O(part=kubelet)
  type: dict
  sample: {from: 1.36.3, to: 1.37.1, restarted: true}
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 92.4
stdout:
  description: What kubeadm printed.
  returned: when kubeadm was run
  type: str
  sample: "[upgrade] SUCCESS!"
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _half_done as half_done
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import STATE, alone
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import (
    ADMIN_CONF,
    KUBELET_CONF,
    image_tags,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_upgrade import (
    PARTS,
    Run,
    Seen,
    Upgrader,
    Wanted,
    etcd_after,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kubelet_upgrade import (
    restart_kubelet,
    wake_kubelet,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._stacked_etcd import LentEtcd, OldEtcd
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import StaticPods
from ansible_collections.kubewright.cluster.plugins.module_utils._upgrade_etcd import minor
from ansible_collections.kubewright.cluster.plugins.module_utils._upgrade_observe import observe_part

ARGUMENTS = {
    "part": {"type": "str", "choices": list(PARTS), "required": True},
    "version": {"type": "str", "required": True},
    "apply": {"type": "bool", "default": False},
    "node_name": {"type": "str", "required": True},
    "lend_etcd": {"type": "list", "elements": "str", "default": []},
    "renew_certificates": {"type": "bool", "default": True},
    "patches_folder": {"type": "path", "default": "/etc/kubernetes/patches"},
    "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
    "keep_backups": {"type": "int", "default": -1},
    "api_server": {"type": "str"},
    "manifest_timeout": {"type": "int", "default": 300},
    "timeout": {"type": "int", "default": 1800},
}
ROOT = Path("/")
# What the static pods may take to come up before kubeadm begins.
SECONDS = 240


def observe(params: dict[str, Any], runner: Runner, api: KubeApi) -> tuple[Wanted, Seen]:
    """Look at the host and at the cluster, once no kubeadm works here any more."""
    wait_for(
        lambda: not half_done.running(ROOT),
        Deadline(params["timeout"]),
        what="the kubeadm that an earlier run started on this host",
    )
    seen = Seen(**observe_part(runner, api, params["node_name"], ROOT))
    folder = Path(params["patches_folder"])
    brings = image_tags(runner, seen.kubeadm or None).get("etcd", "") if "etcd" in seen.manifests else ""
    wanted = Wanted(
        params["part"],
        params["version"],
        params["apply"],
        brings,
        params["renew_certificates"],
        str(folder) if folder.is_dir() and any(folder.iterdir()) else "",
        params["ignore_preflight_errors"],
        params["manifest_timeout"],
        params["timeout"],
    )
    return wanted, seen


def act(
    params: dict[str, Any], runner: Runner, api: KubeApi, wanted: Wanted, seen: Seen, run: Run
) -> dict[str, Any]:
    """Carry the run out."""
    if run.restart:
        # One of the same minor leaves the pods as they are.
        anew = bool(seen.manifests) and minor(seen.kubelet) != minor(wanted.version)
        restart_kubelet(
            runner, api, params["node_name"], wanted.version, params["timeout"], control_plane=anew
        )
    if not run.command:
        return {}
    if seen.manifests:
        wake_kubelet(
            runner, lambda: bool(KubeApi.from_kubeconfig(KUBELET_CONF, runner).get("/readyz")), SECONDS
        )
    upgrader = Upgrader(runner, api, ROOT)
    upgrader.prepare(run)
    pods = StaticPods(runner, lambda: Deadline(SECONDS))
    old_etcd = OldEtcd(runner, pods)
    lent = False
    if run.moves_pods:
        lent = LentEtcd(runner, pods).lend(params["lend_etcd"]) if params["lend_etcd"] else False
        upgrader.settle(pods, params["node_name"], run.put_back, Deadline(SECONDS))
    done = upgrader.kubeadm(wanted, run, seen.manifests, old_etcd.bring_back)
    pruned = upgrader.prune(params["keep_backups"]) if params["keep_backups"] >= 0 else []
    return {**done, "lent": lent, "pruned": pruned}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params, begun = module.params, time.monotonic()
    runner = Runner(module.run_command)
    try:
        with alone(Deadline(params["timeout"]), STATE, make=not module.check_mode):
            kubeconfig = ADMIN_CONF if Path(ADMIN_CONF).exists() else KUBELET_CONF
            api = KubeApi.from_kubeconfig(kubeconfig, runner, server=params["api_server"])
            wanted, seen = observe(params, runner, api)
            run = plan(wanted, seen)
            result: dict[str, Any] = {
                "changed": run.changed,
                "command": " ".join(["upgrade", run.command, *run.words]) if run.command else "",
                "skipped_phases": list(run.skip),
                "put_back": list(run.put_back),
                "unpinned": run.unpin,
                "diff": diff(wanted, seen, run),
            }
            if params["part"] == "kubelet":
                result["kubelet"] = {"from": seen.kubelet, "to": wanted.version, "restarted": run.restart}
            if not module.check_mode:
                result.update(act(params, runner, api, wanted, seen, run))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(seconds=round(time.monotonic() - begun, 1), **result)


def diff(wanted: Wanted, seen: Seen, run: Run) -> dict[str, str]:
    """Return the versions before and after."""
    before = dict(seen.manifests) if run.moves_pods else {"kubelet": seen.kubelet} if run.restart else {}
    after = {name: etcd_after(wanted, seen) if name == "etcd" else wanted.version for name in before}
    lines = ["".join(f"{name} {tag}\n" for name, tag in side.items()) for side in (before, after)]
    return {"before": lines[0], "after": lines[1]}


if __name__ == "__main__":
    main()
