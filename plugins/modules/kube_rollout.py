#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until workloads are rolled out, or say what keeps them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_rollout
short_description: Wait until workloads are rolled out, or say what keeps them
version_added: 0.2.0
description:
  - Waits until every pod that the named Deployments, StatefulSets and DaemonSets want is there, up to date and ready.
  - When the time is over it fails with what a person would look up next - which pods are not ready, on which nodes,
    what their containers wait for or died of, the last events about them and their volumes, and the last lines of
    their logs.
  - A node that is not Ready does not hold a DaemonSet up. It is named in a warning.
  - One that does not exist is waited for, too, because an operator may be about to make it.
  - A StatefulSet that the Prometheus operator keeps is rolled out when the operator has seen its object as it is now.
  - A StatefulSet with the update strategy C(OnDelete) is rolled out when its pods are ready, whatever their revision,
    because nobody replaces them.
attributes:
  check_mode:
    support: full
    details:
      - Looks and does not wait. A workload that does not exist yet is no error.
  diff_mode:
    support: N/A
    details:
      - This module does not change anything.
  idempotent:
    support: full
    details:
      - This module does not change anything.
  platform:
    platforms: linux
    support: full
    details:
      - The host must have C(kubectl).
options:
  namespace:
    description: The namespace of the workloads.
    type: str
    required: true
  workloads:
    description: What to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: The kind of the workload.
        type: str
        choices: [Deployment, StatefulSet, DaemonSet]
        required: true
      name:
        description: The name of the workload.
        type: str
        required: true
  kubeconfig:
    description: The kubeconfig on the host, with the right to read workloads, pods, their logs, events and nodes.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example V(https://192.0.2.11:6443).
    type: str
  timeout:
    description: The time, in seconds, in which all of them must be rolled out.
    type: int
    default: 600
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubewright.cluster.kube_apply
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Wait for the collectors and for Kibana
  kubewright.cluster.kube_rollout:
    namespace: logging
    workloads:
      - kind: DaemonSet
        name: collector
      - kind: Deployment
        name: kibana
    timeout: 300
"""

RETURN = r"""
workloads:
  description: How far each workload is.
  returned: success, and when the time is over
  type: list
  elements: dict
  contains:
    kind:
      description: V(Deployment), V(StatefulSet) or V(DaemonSet).
      type: str
    name:
      description: The name of the workload.
      type: str
    wanted:
      description: How many pods it is to have.
      type: int
    ready:
      description: How many of them are ready, in their newest form.
      type: int
    done:
      description: Whether nothing is waited for any more.
      type: bool
    not_ready_nodes:
      description: The nodes that are not Ready and on which a DaemonSet wants a pod.
      type: list
      elements: str
  sample:
    - kind: DaemonSet
      name: collector
      wanted: 4
      ready: 4
      done: true
      not_ready_nodes: [worker-3]
pods:
  description:
    - The pods that were not ready, with reasons, events and the last lines of their logs; at most three a workload.
  returned: when the time is over
  type: list
  elements: dict
  contains:
    pod:
      description: The name of the pod.
      type: str
    node:
      description: Where it runs, or nothing where it has no node yet.
      type: str
    reasons:
      description: What keeps it, as the API server says.
      type: list
      elements: str
    events:
      description: Its last events.
      type: list
      elements: str
    log:
      description: The last lines of its log.
      type: list
      elements: str
  sample:
    - pod: elasticsearch-0
      node: worker-1
      reasons: ["CrashLoopBackOff: back-off 40s restarting failed container"]
      events: ["BackOff: Back-off restarting failed container elasticsearch in pod elasticsearch-0"]
      log: ["bootstrap check failure [1] of [1]: max virtual memory areas vm.max_map_count [65530] is too low"]
msg:
  description: What check mode did not wait for, or what keeps the workloads.
  returned: in check mode and on failure
  type: str
  sample: Would wait for DaemonSet collector.
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_rollout import (
    PLURALS,
    Workload,
    look,
    wait,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "namespace": {"type": "str", "required": True},
    "workloads": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "kind": {"type": "str", "required": True, "choices": list(PLURALS)},
            "name": {"type": "str", "required": True},
        },
    },
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    namespace = options["namespace"]
    workloads = [Workload(one["kind"], one["name"]) for one in options["workloads"]]
    try:
        api = KubeApi.from_kubeconfig(
            options["kubeconfig"], Runner(module.run_command), server=options["api_server"]
        )
        if module.check_mode:
            states = look(api, namespace, workloads)
        else:
            states = wait(api, namespace, workloads, Deadline(options["timeout"]))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    for node in sorted({node for state in states for node in state.left_out}):
        module.warn(f"Node {node} is not Ready: its pods are not waited for.")
    result = {"changed": False, "workloads": [state.summary() for state in states]}
    if module.check_mode:
        late = [str(state.workload) for state in states if not state.done]
        result["msg"] = f"Would wait for {', '.join(late)}." if late else "All are rolled out."
    module.exit_json(**result)


if __name__ == "__main__":
    main()
