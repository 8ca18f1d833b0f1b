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
  ignore_preflight_errors:
    description:
      - Names of kubeadm's preflight checks whose failures are let pass.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - Seconds after which kubeadm is ended. Images are pulled in this time if they are not there.
    type: int
    default: 900
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
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
- name: Join this host as a worker
  kubewright.cluster.kubeadm_node:
    role: worker
    config: "{{ lookup('ansible.builtin.template', 'join.yaml.j2') }}"

- name: Say whether this host would have to be joined
  kubewright.cluster.kubeadm_node:
    role: control_plane
  check_mode: true
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

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import kubeadm_state
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import (
    Kubeadm,
    close_kubelet_files,
    phases,
    plan_node,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "role": {"type": "str", "required": True, "choices": ["seed", "control_plane", "worker"]},
            "config": {"type": "str", "no_log": True},
            "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        plan = plan_node(params["role"], *kubeadm_state(Path("/")))
        result = {"changed": bool(plan.action), "action": plan.action, "reason": plan.reason}
        if plan.action and not module.check_mode:
            if not params["config"]:
                raise KubewrightError(f"config is needed to {plan.action}", remedy="Set the option config")
            kubeadm = Kubeadm(Runner(module.run_command))
            run = kubeadm.init if plan.action == "init" else kubeadm.join
            output = run(params["config"], params["ignore_preflight_errors"], params["timeout"])
            close_kubelet_files(Path("/var/lib/kubelet"))
            result.update(stdout=output, phases=phases(output))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
