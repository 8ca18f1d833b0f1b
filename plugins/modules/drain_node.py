#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cordon, drain and uncordon a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain_node
short_description: Cordon, drain and uncordon a node
version_added: 0.2.0
description:
  - Takes the pods off a node by the rules of C(kubectl drain), and says what it does and what holds it up.
  - Whether a pod may go is decided before the node is cordoned. Where one may not, nothing is changed.
  - Pods are evicted in parallel, so that one that cannot leave keeps nobody else. An eviction that is refused for now
    (a PodDisruptionBudget, an API server that restarts, a lost connection) is repeated until O(timeout) is over.
  - A pod is gone when its UID is gone from the node; another pod that has taken its name is left alone.
  - The module runs where a kubeconfig and C(kubectl) are, by default on a control plane. C(kubectl) only reads the
    kubeconfig.
options:
  name:
    description:
      - The name of the node. One that does not exist satisfies every state.
    type: str
    required: true
  state:
    description:
      - V(cordoned) lets no new pods onto the node. The node is annotated with C(kubewright.cluster/cordoned), unless
        it was cordoned already.
      - V(drained) cordons the node, and evicts its pods.
      - V(uncordoned) takes the cordon away that this module has set. One that somebody else has set stays, with a
        warning, unless O(accept_foreign_cordon) is set.
    type: str
    choices: [cordoned, drained, uncordoned]
    default: drained
  timeout:
    description:
      - Seconds for everything together. It has to be longer than the pods take to end.
      - A request that is under way when they are over has ten seconds more, and so has that which takes a cordon back.
    type: int
    default: 300
  grace_period:
    description:
      - Seconds that pods have to end. By default each pod's own C(terminationGracePeriodSeconds). V(0) kills.
    type: int
  ignore_daemonsets:
    description:
      - Leave pods of DaemonSets where they are. They would be started again on the node at once, and practically
        every cluster has some, such as the network's. V(false) refuses a node that has any.
    type: bool
    default: true
  delete_emptydir_data:
    description:
      - Evict pods with an C(emptyDir) volume, whose data is lost with the pod. V(false) refuses a node that has any.
    type: bool
    default: false
  force:
    description:
      - Evict pods that no controller manages, too, although nothing starts them again elsewhere; and those of a
        DaemonSet that does not exist any more. V(false) refuses a node that has any.
    type: bool
    default: false
  disable_eviction:
    description:
      - Delete pods instead of evicting them. PodDisruptionBudgets are not respected then.
    type: bool
    default: false
  skip_wait_for_delete:
    description:
      - Leave out pods that should have been gone for more than this many seconds already. V(0) leaves none out.
    type: int
    default: 0
  pod_selector:
    description:
      - Only evict pods with these labels, as C(kubectl) takes them, for example V(app=web,tier!=db).
    type: str
    default: ''
  accept_unconfirmed_deletion:
    description:
      - For a node that is not ready because its host is powered off. Its pods are deleted from the API at once, with
        a grace period of 0, because no kubelet will ever tell that they have ended.
      - If the host does live, its containers go on running, and a StatefulSet's pod runs twice.
      - Nothing changes for a node that is ready.
    type: bool
    default: false
  accept_foreign_cordon:
    description:
      - With O(state=uncordoned), uncordon the node whoever cordoned it.
    type: bool
    default: false
  on_failure:
    description:
      - What becomes of a node that this module has cordoned when pods could not leave it.
      - V(keep) leaves it cordoned, so that another run goes on from there.
      - V(uncordon) gives it back. A drain that fails before the first pod has left does that in any case.
    type: str
    choices: [keep, uncordon]
    default: keep
  kubeconfig:
    description:
      - The kubeconfig to use, a file on the host.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The address of the API server to ask, for example V(https://192.0.2.11:6443). By default that of the
        kubeconfig.
    type: str
attributes:
  check_mode:
    support: full
    details:
      - The API server judges every eviction in a dry run. It does not use up a PodDisruptionBudget, so see
        RV(waiting_for) for pods that will not all go at once.
      - An eviction that is refused now may be accepted later, so this is a warning in check mode and no failure.
  diff_mode:
    support: full
  idempotent:
    support: full
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - name: Safely drain a node
    link: https://kubernetes.io/docs/tasks/administer-cluster/safely-drain-node/
    description: What an eviction is, and what a PodDisruptionBudget keeps.
"""

EXAMPLES = r"""
- name: Take the pods off a node
  kubewright.cluster.drain_node:
    name: worker1
    delete_emptydir_data: true
    timeout: 600
  delegate_to: cp1

- name: Let pods onto it again
  kubewright.cluster.drain_node:
    name: worker1
    state: uncordoned
  delegate_to: cp1

- name: Say what a drain would meet
  kubewright.cluster.drain_node:
    name: worker1
  delegate_to: cp1
  check_mode: true
"""

RETURN = r"""
exists:
  description: Whether there is such a node.
  returned: always
  type: bool
  sample: true
ready:
  description: Whether its kubelet reported that it works, when the module began.
  returned: always
  type: bool
  sample: true
was_unschedulable:
  description: Whether the node was cordoned when the module began, by whomever.
  returned: always
  type: bool
  sample: false
schedulable:
  description: Whether the node takes pods afterwards.
  returned: always
  type: bool
  sample: false
cordoned:
  description: Whether this run cordoned the node, or would do so.
  returned: always
  type: bool
  sample: true
uncordoned:
  description: Whether this run uncordoned the node, or would do so.
  returned: always
  type: bool
  sample: false
evicted:
  description: The pods whose eviction was accepted, or would be.
  returned: always
  type: list
  elements: dict
  contains:
    pod:
      description: Its namespace and name.
      type: str
      sample: shop/web-7c9d
    uid:
      description: Its UID.
      type: str
      sample: 0f6e2b0e-6f4e-4f3b-9d43-2a5f8f1c6f10
    seconds:
      description: How long it took to end; V(null) in check mode and for one that is still there.
      type: float
      sample: 3.1
deleted:
  description: The pods that were deleted without an eviction, like RV(evicted).
  returned: always
  type: list
  elements: dict
  sample: []
skipped_pods:
  description: The pods that stay, each with C(pod) and C(reason).
  returned: always
  type: list
  elements: dict
  sample: [{pod: kube-system/etcd-cp1, reason: it is a static pod}]
refused_pods:
  description: The pods that forbid the drain, each with C(pod) and C(reason).
  returned: always
  type: list
  elements: dict
  sample: []
blocked:
  description: The pods whose eviction was refused to the end; in check mode, those that are refused now.
  returned: always
  type: list
  elements: dict
  contains:
    pod:
      description: Its namespace and name.
      type: str
      sample: shop/web-7c9d
    pdb:
      description: The PodDisruptionBudget that selects it, with its namespace. Empty where there is none.
      type: str
      sample: shop/web
    allowed:
      description: How many disruptions that allows, V(null) without one.
      type: int
      sample: 0
    desired:
      description: How many of its pods have to be healthy.
      type: int
      sample: 3
    healthy:
      description: How many of them are.
      type: int
      sample: 3
    expected:
      description: How many pods it selects.
      type: int
      sample: 3
    message:
      description: What the API server said.
      type: str
      sample: The disruption budget web needs 3 healthy pods and has 3 currently
waiting_for:
  description: In check mode, the PodDisruptionBudgets that do not let all of their C(pods) on this node go at once.
  returned: always
  type: list
  elements: dict
  sample: [{pdb: shop/web, allowed: 1, desired: 2, healthy: 3, expected: 3, pods: [shop/web-1, shop/web-2]}]
pending:
  description: The pods that should have left and are still there.
  returned: always
  type: list
  elements: str
  sample: []
seconds:
  description: How long it took.
  returned: always
  type: float
  sample: 4.2
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._drain import Rules
from ansible_collections.kubewright.cluster.plugins.module_utils._drain_node import Drainer, Outcome, Wanted
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import ADMIN_KUBECONFIG
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

RULES = {
    "force": {"type": "bool", "default": False},
    "ignore_daemonsets": {"type": "bool", "default": True},
    "delete_emptydir_data": {"type": "bool", "default": False},
    "skip_wait_for_delete": {"type": "int", "default": 0},
}
WANTED = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["cordoned", "drained", "uncordoned"], "default": "drained"},
    "grace_period": {"type": "int"},
    "pod_selector": {"type": "str", "default": ""},
    "disable_eviction": {"type": "bool", "default": False},
    "accept_unconfirmed_deletion": {"type": "bool", "default": False},
    "accept_foreign_cordon": {"type": "bool", "default": False},
    "on_failure": {"type": "str", "choices": ["keep", "uncordon"], "default": "keep"},
}
CONNECTION = {
    "timeout": {"type": "int", "default": 300},
    "kubeconfig": {"type": "path", "default": ADMIN_KUBECONFIG},
    "api_server": {"type": "str"},
}


def read_options(params: dict[str, Any]) -> Wanted:
    """Return what is wanted; refuse numbers that cannot be meant."""
    for option in ("grace_period", "skip_wait_for_delete", "timeout"):
        if (params[option] or 0) < 0:
            raise KubewrightError(f"{option} cannot be {params[option]}", remedy="Give a number from 0 on")
    rules = Rules(**{key: params[key] for key in RULES})
    return Wanted(rules=rules, **{key: params[key] for key in WANTED})


def diff(name: str, outcome: Outcome) -> dict[str, str]:
    """Return the node before and after, with the pods that leave it."""
    leaving = [pod.path for pod, _ in [*outcome.evicted.values(), *outcome.deleted.values()]]
    before = f"{name} {'cordoned' if outcome.was_unschedulable else 'schedulable'}\n"
    after = f"{name} {'schedulable' if outcome.schedulable else 'cordoned'}\n"
    return {"before": before + "".join(f"{path}\n" for path in sorted(leaving)), "after": after}


def main() -> None:
    module = AnsibleModule(argument_spec={**WANTED, **RULES, **CONNECTION}, supports_check_mode=True)
    params, begun = module.params, time.monotonic()
    warnings: list[str] = []
    try:
        wanted = read_options(params)
        api = KubeApi.from_kubeconfig(
            params["kubeconfig"], Runner(module.run_command), server=params["api_server"]
        )
        drainer = Drainer(api, wanted, Deadline(params["timeout"]), check_mode=module.check_mode)
        warnings = drainer.outcome.warnings
        outcome = drainer.run()
    except KubewrightError as error:
        for warning in warnings:
            module.warn(warning)
        module.fail_json(msg=str(error), seconds=round(time.monotonic() - begun, 1), **error.facts)
    for warning in warnings:
        module.warn(warning)
    module.exit_json(
        seconds=round(time.monotonic() - begun, 1),
        diff=diff(params["name"], outcome),
        **outcome.returned(),
    )


if __name__ == "__main__":
    main()
