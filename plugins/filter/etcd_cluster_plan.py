# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what has to be done to an etcd cluster of its own."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_cluster_plan import plan, upgrade

DOCUMENTATION = r"""
name: etcd_cluster_plan
short_description: Decide what has to be done to an etcd cluster of its own
version_added: 0.2.0
description:
  - Compares what M(kubewright.cluster.etcd_host_info) saw on the hosts of the group with the description, and says for
    every host whether its member is started, joins, or stays. With O(target) it decides about an upgrade instead.
positional: wanted, remains, target
options:
  _input:
    description: The result of M(kubewright.cluster.etcd_host_info) by host, for every host that answered.
    type: dict
    required: true
  wanted:
    description:
      - For the whole group C(address), C(name) and C(replaces), each by host, and C(version), which is the same for
        all.
    type: dict
    required: true
  remains:
    description: Whether a control plane has what only a cluster leaves behind.
    type: bool
    default: false
  target:
    description: The version to upgrade to.
    type: str
    default: ""
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_host_info
"""

EXAMPLES = r"""
- name: Decide what is to be done
  ansible.builtin.set_fact:
    plan: "{{ looks | kubewright.cluster.etcd_cluster_plan(wanted, false) }}"
"""

RETURN = r"""
_value:
  description: What is to be done.
  type: dict
  contains:
    problems:
      description: What stands in the way, one sentence each.
      type: list
      elements: str
    notices:
      description: What a person should know, one sentence each.
      type: list
      elements: str
    state:
      description: V(living) where a quorum answers, V(down) where it should, V(new) where none ever was.
      type: str
    actions:
      description: By host V(bootstrap), V(start), V(join) or V(member).
      type: dict
    order:
      description: With O(target), the hosts to upgrade, the leader last.
      type: list
      elements: str
"""


def etcd_cluster_plan(
    looks: Any, wanted: dict[str, Any], remains: bool = False, target: str = ""
) -> dict[str, Any]:
    """Return the plan; the documentation above says what goes in."""
    if not isinstance(looks, dict) or not looks or not isinstance(wanted, dict):
        raise AnsibleFilterError(
            "etcd_cluster_plan (its input): give the results of kubewright.cluster.etcd_host_info by host"
        )
    by_host = {
        host: {
            "address": str(address),
            "name": str(wanted["name"][host]),
            "replaces": str(wanted["replaces"][host]),
            "version": str(wanted["version"]),
        }
        for host, address in wanted["address"].items()
    }
    return upgrade(looks, by_host, target) if target else plan(looks, by_host, remains)


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"etcd_cluster_plan": etcd_cluster_plan}
