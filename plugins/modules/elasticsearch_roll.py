#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restart the nodes of Elasticsearch whose settings or version changed, without losing a copy of a line."""

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch_roll
short_description: Restart the nodes of Elasticsearch that are not up to date, one after the other
version_added: 0.2.0
description:
  - Replaces the pods whose StatefulSet wants another revision of them - after a change of settings, memory or version
    - and those that O(pods) names. The StatefulSets must have the update strategy C(OnDelete).
  - First data nodes, then clients, then masters, the elected master last.
  - Each of them only when all pods are ready and Elasticsearch is green. Before a node that holds data goes, the
    allocation of replicas is held back, so that its shards are not copied elsewhere for a restart, and what is in
    memory is flushed. When the new pod is ready the allocation is restored, whatever happens, and the module waits
    until Elasticsearch is green again.
  - During an upgrade, replicas that may not go to a node of an older version are not waited for. An index that is
    made meanwhile would otherwise hold the roll up for ever.
  - Pods that are not up to date and not ready are replaced first, all at once and without asking Elasticsearch. What
    keeps them from being ready may be what the new revision cures. They are not waited for, unless others follow; see
    M(kubewright.cluster.kube_rollout).
notes:
  - An interrupted roll is finished by the next one. The allocation that it left held back is restored by the next
    roll or by M(kubewright.cluster.elasticsearch_settings), whichever comes first.
  - With a single node, Elasticsearch is away while its pod is replaced. The collectors keep the lines.
  - While a roll lasts, the PodDisruptionBudgets let no other pod of the same StatefulSet go.
attributes:
  check_mode:
    support: full
    details:
      - Says what would be replaced. What a task before it would change, and check mode did not, it does not know.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Pods that O(pods) names are replaced each time.
  platform:
    platforms: linux
    support: full
    details:
      - The host must have C(kubectl), and reach addresses of Services, as every node does.
options:
  namespace:
    description: The namespace of the logging.
    type: str
    required: true
  pods:
    description: Pods to replace although they are up to date, which restarts them.
    type: list
    elements: str
    default: []
  kubeconfig:
    description: The kubeconfig on the host, with the right to read StatefulSets and Secrets and to delete pods.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example V(https://192.0.2.11:6443).
    type: str
  timeout:
    description:
      - The time, in seconds, for each pod, from waiting for green before it goes to green after it came back.
    type: int
    default: 1800
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubewright.cluster.elasticsearch_settings
  - module: kubewright.cluster.kube_rollout
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Bring all nodes of Elasticsearch to what their StatefulSets say
  kubewright.cluster.elasticsearch_roll:
    namespace: logging

- name: Restart one node
  kubewright.cluster.elasticsearch_roll:
    namespace: logging
    pods: [elasticsearch-data-1]
"""

RETURN = r"""
due:
  description: The pods that were not up to date or named, in the order in which they are replaced.
  returned: when the pods could be read
  type: list
  elements: str
  sample: [elasticsearch-data-1, elasticsearch-data-0, elasticsearch-client-0, elasticsearch-master-2]
rolled:
  description: The pods that were replaced, after a failure those before it and the one that failed.
  returned: when the pods could be read
  type: list
  elements: str
  sample: [elasticsearch-data-1]
allocation:
  description:
    - V(restored) when the allocation of replicas was held back and is not any more, V(left) when it could not be
      restored, V(untouched) otherwise.
  returned: when the pods could be read
  type: str
  sample: restored
waiting_replicas:
  description: The replicas that were not waited for, because only a node of the new version may have them.
  returned: when the pods could be read
  type: int
  sample: 0
pods:
  description: The pod that did not become ready, with reasons, events and the last lines of its log.
  returned: when a pod does not become ready
  type: list
  elements: dict
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import Elasticsearch
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch_roll import (
    Observed,
    Roll,
    observe,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "namespace": {"type": "str", "required": True},
    "pods": {"type": "list", "elements": "str", "default": []},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 1800},
}
# Seconds. The controller of StatefulSets sees a change at once.
SEEN_BY_CONTROLLER = 60


def results(roll: Roll, due: list[str]) -> dict[str, Any]:
    report = roll.report
    allocation = "left" if report.left else "restored" if report.restored else "untouched"
    return {
        "changed": bool(report.rolled) or report.restored,
        "due": due,
        "rolled": report.rolled,
        "allocation": allocation,
        "waiting_replicas": report.waiting_replicas,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    namespace = options["namespace"]
    due: list[str] = []
    roll = None
    try:
        api = KubeApi.from_kubeconfig(
            options["kubeconfig"], Runner(module.run_command), server=options["api_server"]
        )
        roll = Roll(
            api,
            namespace,
            lambda: Elasticsearch.from_cluster(api, namespace),
            Deadline,
            options["timeout"],
        )
        observed: Observed = wait_for(
            lambda: observe(api, namespace), Deadline(SEEN_BY_CONTROLLER), what="the StatefulSets to be seen"
        )
        members = plan(observed.members, options["pods"])
        if members:
            members = plan(observed.members, options["pods"], roll.leader())
        due = [member.name for member in members]
        if not module.check_mode:
            roll.run(members)
        result = results(roll, due)
    except KubewrightError as error:
        told = results(roll, due) if roll else {}
        if told.get("allocation") == "left":
            error.remedy = (
                f"{error.remedy}. Until then replicas are not allocated: the next run restores that"
            )
        module.fail_json(msg=str(error), **{**error.facts, **told})
    if module.check_mode:
        result["changed"] = bool(due)
    shown = "".join(f"{name}\n" for name in due)
    module.exit_json(**result, diff={"before": shown and f"not up to date:\n{shown}", "after": ""})


if __name__ == "__main__":
    main()
