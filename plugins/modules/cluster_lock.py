#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the lock of a cluster; plugins/action/cluster_lock.py says for whom."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_lock
short_description: Keep other runs away from a cluster
version_added: 0.2.0
description:
  - Holds a Lease in the namespace C(kube-system) of the cluster, so that two runs do not take its hosts out of
    service at the same time. It fails, and says who works there, while another run holds it.
  - The same run may hold it again, which renews it. It has to do so within O(seconds).
  - A run that is cut off leaves its lock behind. Where that run was started on this controller, the next one sees
    that no process is left of it and takes the lock over. Elsewhere, such as in AWX, it ends after O(seconds), or
    with O(take_over).
notes:
  - It goes to a control plane like any other module. Who holds the lock is found out on the controller.
attributes:
  check_mode:
    support: full
    details: It fails where another run holds the lock, and takes nothing.
  diff_mode:
    support: none
    details: The lock is nothing of the cluster that anybody configures.
  idempotent:
    support: full
    details: It never reports a change, for the same reason.
  platform:
    details:
      - The host must have C(kubectl).
options:
  state:
    description:
      - V(held) takes the lock, or renews it.
      - V(released) gives it back, where this run holds it.
    type: str
    choices: [held, released]
    default: held
  purpose:
    description:
      - What the run does, for those who are kept away.
    type: str
    default: ''
  seconds:
    description:
      - How long the lock is held unless it is renewed. It should be longer than a run goes without doing so.
    type: int
    default: 900
  take_over:
    description:
      - Take the lock of a run that may still be at work. Two runs at the same time can take more hosts out of service
        than the cluster can spare.
    type: bool
    default: false
  timeout:
    description:
      - Seconds that the API server has to answer.
    type: int
    default: 60
  kubeconfig:
    description:
      - The kubeconfig on the host.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to ask in place of the one in O(kubeconfig).
    type: str
  holder:
    description:
      - Who holds it. By default the user, the controller and the process, or the job of AWX.
    type: str
  run:
    description:
      - The process that holds it. It is found out on the controller.
    type: str
  gone:
    description:
      - Processes of which nobody is left. They are found out on the controller.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - name: Leases
    description: What Kubernetes keeps them for.
    link: https://kubernetes.io/docs/concepts/architecture/leases/
"""

EXAMPLES = r"""
- name: Keep other runs away
  kubewright.cluster.cluster_lock:
    purpose: new firmware
  delegate_to: cp1
  run_once: true
"""

RETURN = r"""
holder:
  description: Who held the lock before, or holds it now, if anybody does.
  returned: always
  type: str
  sample: alice@controller, process 4711
run:
  description: The process of the RV(holder).
  returned: always
  type: str
  sample: 3f0c1f6e-7d6c-4d3e-9e8b-0a1b2c3d4e5f/4026531836/4711/88123
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_lock import Claim, ClusterLock, Held
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import ADMIN_KUBECONFIG
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

OPTIONS = {
    "state": {"type": "str", "choices": ["held", "released"], "default": "held"},
    "purpose": {"type": "str", "default": ""},
    "seconds": {"type": "int", "default": 900},
    "take_over": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
    "kubeconfig": {"type": "path", "default": ADMIN_KUBECONFIG},
    "api_server": {"type": "str"},
    "holder": {"type": "str"},
    "run": {"type": "str"},
    "gone": {"type": "list", "elements": "str", "default": []},
}


def read_options(params: dict[str, Any]) -> Claim:
    """Return who asks, and for how long."""
    if params["seconds"] < 1:
        raise KubewrightError(f"seconds cannot be {params['seconds']}", remedy="Give a number from 1 on")
    who = params["holder"] or "somebody"
    purpose = f" ({params['purpose']})" if params["purpose"] else ""
    return Claim(who + purpose, params["run"] or who, params["seconds"], params["gone"], params["take_over"])


def work(params: dict[str, Any], lock: ClusterLock, *, act: bool) -> dict[str, str]:
    """Take, renew or release the lock; return whose it was."""
    claim = read_options(params)
    whose: Claim | Held | None
    if params["state"] == "released":
        whose = claim if lock.release(claim.run, act=act) else None
    else:
        whose = lock.hold(claim, act=act)
    return {"holder": whose.holder if whose else "", "run": whose.run if whose else ""}


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    params = module.params
    try:
        api = KubeApi.from_kubeconfig(
            params["kubeconfig"], Runner(module.run_command), server=params["api_server"]
        )
        lock = ClusterLock(api, Deadline(params["timeout"]))
        result = work(params, lock, act=not module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
