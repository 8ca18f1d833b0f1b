#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a line of every node in Elasticsearch."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_canary
short_description: Find a line of every node in Elasticsearch
version_added: 0.2.0
description:
  - Proves that the logging of the role P(kubewright.cluster.kube_logging#role) works, by using it. A small pod on every
    node that is Ready writes one line and ends, and the module looks for these lines in Elasticsearch until all are
    there. Then it removes the pods.
  - Nodes that take no new pods, such as cordoned ones and control planes, write a line, too.
  - When a line does not come, the module says what a person would look up next - whether the pod ran, how the
    collector of that node is and how its log ends, whether Elasticsearch takes what the collectors send with their own
    password, and whether its disks are full.
notes:
  - A run takes at most about O(timeout) plus a minute for the diagnosis.
  - The lines stay in Elasticsearch as long as all others.
  - Pods of runs that were cut off are removed by the next run after their time is over.
attributes:
  check_mode:
    support: full
    details:
      - Reads the nodes and returns RV(plan). Elasticsearch need not be there.
  diff_mode:
    support: N/A
    details:
      - The cluster is after a run as it was before.
  idempotent:
    support: full
    details:
      - A run creates pods and removes them again, and so reports no change.
  platform:
    platforms: linux
    support: full
    details:
      - The host must have C(kubectl), and must reach the addresses of Services, as nodes of the cluster do.
options:
  namespace:
    description: The namespace of the logging. The pods run in it, too.
    type: str
    default: logging
  image:
    description:
      - The image of the pods. It must behave as agnhost of the Kubernetes project does.
    type: str
    default: registry.k8s.io/e2e-test-images/agnhost:2.63.0
  timeout:
    description:
      - The time, in seconds, in which all pods must have run and all lines must be found.
    type: int
    default: 120
  kubeconfig:
    description: The kubeconfig on the host, with the rights of a cluster administrator.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example V(https://192.0.2.11:6443).
    type: str
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubewright.cluster.logging_info
  - module: kubewright.cluster.cluster_acceptance
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Prove that the lines of all nodes arrive
  kubewright.cluster.log_canary:

- name: The same, with an image from the mirror of the site and more time
  kubewright.cluster.log_canary:
    namespace: logs
    image: mirror.example.com/e2e-test-images/agnhost:2.63.0
    timeout: 300
"""

RETURN = r"""
passed:
  description: Whether all lines were found. The module fails when they were not.
  returned: when lines were looked for
  type: bool
  sample: true
plan:
  description: What a run does, or would do in check mode.
  returned: when the nodes could be read
  type: dict
  contains:
    namespace:
      description: The namespace of the pods.
      type: str
      sample: logging
    image:
      description: The image of the pods.
      type: str
      sample: registry.k8s.io/e2e-test-images/agnhost:2.63.0
    token:
      description: The word by which the lines are found.
      type: str
      sample: canary3f9a1c52d4e6
    pods:
      description: The pods by their nodes.
      type: dict
      sample: {"worker-1": "kubewright-canary-canary3f9a1c52d4e6-0"}
    not_ready_nodes:
      description: The nodes that are not Ready and write no line.
      type: list
      elements: str
      sample: []
    leftovers:
      description: The runs that were cut off, whose pods are removed.
      type: list
      elements: str
      sample: []
nodes:
  description: What is known of the line of each node. Seconds are counted from the beginning of the run.
  returned: when lines were looked for
  type: list
  elements: dict
  contains:
    node:
      description: The name of the node.
      type: str
    pod:
      description: The name of the pod that wrote the line.
      type: str
    found:
      description: Whether the line was found.
      type: bool
    seconds_to_write:
      description: When the pod was seen to have ended, or V(null) where it was not.
      type: float
    seconds_to_find:
      description: When the line was found, or V(null) where it was not.
      type: float
  sample:
    - node: worker-1
      pod: kubewright-canary-canary3f9a1c52d4e6-0
      found: true
      seconds_to_write: 2.1
      seconds_to_find: 5.2
failures:
  description: What keeps lines, with where, why, and what to look at.
  returned: when lines were looked for
  type: list
  elements: str
  sample: []
seconds:
  description: How long the run took.
  returned: when lines were looked for
  type: float
  sample: 6.4
msg:
  description: How long the lines took, what would be looked for, or the first failure.
  returned: always
  type: str
  sample: The lines of 5 nodes are in Elasticsearch, the last one after 6.1 seconds.
"""

import secrets
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import Elasticsearch
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._log_canary import (
    Options,
    execute,
    new_token,
    observe,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "namespace": {"type": "str", "default": "logging"},
    "image": {"type": "str", "default": "registry.k8s.io/e2e-test-images/agnhost:2.63.0"},
    "timeout": {"type": "int", "default": 120},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    options = Options(namespace=params["namespace"], image=params["image"], timeout=params["timeout"])
    try:
        api = KubeApi.from_kubeconfig(
            params["kubeconfig"], Runner(module.run_command), server=params["api_server"]
        )
        planned = plan(observe(api, options.namespace), options, new_token(secrets.token_hex(8)))
        result = {"changed": False, "plan": asdict(planned)}
        if module.check_mode:
            module.exit_json(
                msg=f"Would write a line on each of {len(planned.pods)} nodes and look for it.", **result
            )
        elasticsearch = Elasticsearch.from_cluster(api, options.namespace)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)

    report = execute(api, elasticsearch, planned, options)
    for name in planned.not_ready_nodes:
        module.warn(f"Node {name} is not Ready and wrote no line.")
    for warning in report.warnings:
        module.warn(warning)
    if report.failures:
        module.fail_json(msg=report.summary(), **result, **report.result())
    module.exit_json(msg=report.summary(), **result, **report.result())


if __name__ == "__main__":
    main()
