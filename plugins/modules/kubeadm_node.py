#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_node
short_description: Make a host a node of a cluster, with kubeadm
version_added: 0.1.0
description:
  - Runs C(kubeadm init) or C(kubeadm join) on a host that is not a node yet, and does nothing on one that is.
  - What a host is, is read from its files, not remembered from an earlier run.
  - A host that kubeadm was interrupted on is recognised. If it provably is no member of etcd and no node of the
    cluster, it is reset and kubeadm begins again. If it is one of them, the phases of kubeadm that remain are run. In
    every other case the module fails, changes nothing and says what it found.
  - A kubeadm that still runs on the host, because only its controller was ended, is waited for.
  - The configuration is handed to kubeadm through its standard input, so this module writes it to no disk, and the
    tokens and keys that kubeadm prints are removed from what the module returns.
  - Ansible itself writes a module's arguments to a temporary file on the host unless pipelining is on.
  - Afterwards only root can read the kubelet's configuration.
options:
  role:
    description:
      - What the host is to become.
      - V(seed) starts a new cluster, V(control_plane) and V(worker) join one.
    type: str
    required: true
    choices: [seed, control_plane, worker]
  config:
    description:
      - The configuration for kubeadm as YAML documents of C(kubeadm.k8s.io/v1beta4).
      - Not needed for a host that is a node already, and in check mode.
    type: str
  node_name:
    description:
      - The name of the node, as in O(config). Needed with O(cluster).
    type: str
    default: ""
  address:
    description:
      - The address of the host, as in O(config), without which its etcd member is not recognised. Needed with
        O(cluster).
    type: str
    default: ""
  cluster:
    description:
      - What the living cluster says, as the M(kubewright.cluster.cluster_info) module returned it. Leave it out where
        no cluster answers.
      - Without it, a host on which kubeadm was interrupted is only judged by itself, and nothing is joined.
    type: dict
    suboptions:
      nodes:
        description: The nodes; only the one with O(node_name) is looked at.
        type: list
        elements: dict
        default: []
      etcd:
        description: The members of etcd and their votes.
        type: dict
        default: {}
  keep:
    description:
      - Files that kubeadm needs and did not make, such as the certificates for an external etcd. Where a half-done host
        is reset, they are put back.
    type: list
    elements: path
    default: []
  ignore_preflight_errors:
    description:
      - Names of kubeadm's preflight checks whose failures are let pass.
      - That of etcd's data folder is let pass by itself where the folder holds nothing but what a restore, a
        replacement or a removal has moved aside in it.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - Seconds after which kubeadm is ended. Images are pulled in this time if they are not there.
      - As long is waited for a kubeadm that is found running.
    type: int
    default: 900
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
    details:
      - It waits for a kubeadm that is found running in check mode too.
  diff_mode:
    support: none
    details:
      - A node is more than a text before and after.
  idempotent:
    support: full
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.kubeadm_join_secrets
"""

EXAMPLES = r"""
- name: Say whether this host would have to be joined
  kubewright.cluster.kubeadm_node:
    role: control_plane
  check_mode: true

- name: Look at the cluster from a living control plane
  kubewright.cluster.cluster_info:
    gather: [cluster]
  delegate_to: cp2
  register: seen

- name: Join this host as a worker
  kubewright.cluster.kubeadm_node:
    role: worker
    config: "{{ lookup('ansible.builtin.template', 'join.yaml.j2') }}"
    node_name: worker3
    address: 192.0.2.23
    cluster:
      nodes: "{{ seen.cluster.nodes }}"
      etcd: "{{ seen.cluster.etcd }}"
"""

RETURN = r"""
action:
  description: The kubeadm subcommand that was run or would be run; empty when there is nothing to do.
  returned: success
  type: str
  sample: join
reason:
  description: Why.
  returned: success
  type: str
  sample: this host is to be a worker
interrupted:
  description: Whether remains of a kubeadm that was interrupted are on the host.
  returned: success
  type: bool
  sample: false
reset:
  description: Whether the remains are taken away before kubeadm is run.
  returned: success
  type: bool
  sample: false
skipped_phases:
  description: The phases of kubeadm that are not run again.
  returned: success
  type: list
  elements: str
  sample: []
phases:
  description: The phases of kubeadm that ran, in their order.
  returned: when kubeadm was run
  type: list
  elements: str
  sample: [preflight, certs, kubeconfig, etcd, control-plane, kubelet-start]
stdout:
  description: What kubeadm printed, without tokens and keys.
  returned: when kubeadm was run
  type: str
  sample: "[preflight] Running pre-flight checks"
"""

import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _half_done as half_done
from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import holds_only_asides
from ansible_collections.kubewright.cluster.plugins.module_utils._durable import make_folder
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import STATE, write_file
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import (
    etcd_access,
    etcd_data,
    kubeadm_state,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import (
    Kubeadm,
    close_kubelet_files,
    phases,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._node_plan import (
    Host,
    NodePlan,
    plan_node,
    read_cluster,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ROOT = Path("/")
ETCD_DATA = "/var/lib/etcd"
RESET_SECONDS = 300


def observe(params: dict[str, Any]) -> Host:
    """Read what the host is, once no kubeadm works on it any more."""
    wait_for(
        lambda: not half_done.running(ROOT),
        Deadline(params["timeout"]),
        what="the kubeadm that an earlier run started on this host",
    )
    state, evidence = kubeadm_state(ROOT)
    return Host(
        state,
        evidence,
        half_done.read(ROOT),
        etcd_data(ROOT) is not None,
        params["node_name"],
        params["address"],
        half_done.valuables(ROOT),
        external_store=(access := etcd_access(ROOT)) is not None and not access.local,
    )


def apply(plan: NodePlan, params: dict[str, Any], runner: Runner) -> dict[str, Any]:
    """Carry the plan out; the note is left before kubeadm begins, and goes when it has ended well."""
    if not params["config"]:
        raise KubewrightError(f"config is needed to {plan.action}", remedy="Set the option config")
    kubeadm = Kubeadm(runner)
    if plan.reset:
        # The settings of the node that it was lead nowhere any more.
        shutil.rmtree(ROOT / STATE.relative_to("/"), ignore_errors=True)
        kept = _read(params["keep"])
        kubeadm.reset(RESET_SECONDS, ROOT)
        left = kubeadm_state(ROOT)[1]
        # It is named there only when it is not that of an etcd of its own, which has nothing to do with this node.
        data = etcd_data(ROOT)
        if data and data in left:
            shutil.rmtree(ROOT / data.lstrip("/"))
            left.remove(data)
        if left:
            raise KubewrightError(
                "kubeadm reset left something behind",
                where=", ".join(left),
                remedy="Find out what holds it, remove it, and run again",
            )
        for path, (content, mode) in kept.items():
            make_folder(str(path.parent))
            write_file(path, content, mode)
    half_done.note(params["role"], ROOT)
    if plan.start_kubelet:
        runner.run(["systemctl", "start", "kubelet.service"], timeout=60)
    run = kubeadm.init if plan.action == "init" else kubeadm.join
    ignored = list(params["ignore_preflight_errors"])
    # To kubeadm any folder that is not empty is one that is in use.
    if holds_only_asides(str(ROOT / ETCD_DATA.lstrip("/"))):
        ignored.append("DirAvailable-" + ETCD_DATA.replace("/", "-"))
    output = run(params["config"], ignored, params["timeout"], plan.skip)
    close_kubelet_files(ROOT / "var/lib/kubelet")
    half_done.forget(ROOT)
    return {"stdout": output, "phases": phases(output)}


def _read(paths: list[str]) -> dict[Path, tuple[bytes, int]]:
    """Return content and mode of the files that are there."""
    files = [ROOT / path.lstrip("/") for path in paths]
    return {file: (file.read_bytes(), file.stat().st_mode & 0o777) for file in files if file.exists()}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "role": {"type": "str", "required": True, "choices": ["seed", "control_plane", "worker"]},
            "config": {"type": "str", "no_log": True},
            "node_name": {"type": "str", "default": ""},
            "address": {"type": "str", "default": ""},
            "cluster": {
                "type": "dict",
                "options": {
                    "nodes": {"type": "list", "elements": "dict", "default": []},
                    "etcd": {"type": "dict", "default": {}},
                },
            },
            "keep": {"type": "list", "elements": "path", "default": []},
            "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        host = observe(params)
        plan = plan_node(params["role"], host, read_cluster(params["cluster"], host))
        result = {"changed": bool(plan.action), "action": plan.action, "reason": plan.reason}
        result.update(interrupted=host.half_done, reset=plan.reset, skipped_phases=list(plan.skip))
        if plan.action and not module.check_mode:
            result.update(apply(plan, params, Runner(module.run_command)))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
