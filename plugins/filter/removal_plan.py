# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what the hosts that are to be removed are, and whether they may go."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.module_utils._removal import Host, plan

DOCUMENTATION = r"""
name: removal_plan
short_description: Find out what the hosts that are to be removed are, and whether they may go
version_added: 0.2.0
description:
  - Compares the names of hosts with the inventory, the nodes and the members of etcd, and says what would have to be
    done with each, in which order, and what forbids it.
positional: hosts, cluster, authority, accept_running
options:
  _input:
    description: Names of hosts, names of nodes, or addresses.
    type: list
    elements: str
    required: true
  hosts:
    description:
      - The hosts of the inventory, each with C(name), C(node), C(address), C(control_plane), C(reachable), C(remains)
        and C(authority).
    type: list
    elements: dict
    required: true
  cluster:
    description: RV(kubewright.cluster.cluster_info#module:cluster), as a control plane that stays sees it.
    type: dict
    required: true
  authority:
    description: What identifies the cluster, compared with C(authority) of the hosts.
    type: str
    default: ''
  accept_running:
    description: Let hosts go that work and are not reached.
    type: bool
    default: false
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.cluster_info
"""

EXAMPLES = r"""
- name: Find out whether cp2 may go
  ansible.builtin.set_fact:
    removal: "{{ ['cp2'] | kubewright.cluster.removal_plan(hosts, seen.cluster) }}"
"""

RETURN = r"""
_value:
  description: What is to be done.
  type: dict
  contains:
    problems:
      description: Why nothing can be done, a sentence each.
      type: list
      elements: str
    lines:
      description: What will be done, a sentence for each target.
      type: list
      elements: str
    targets:
      description:
        - What the names stand for, in the order in which they go, each with C(name), C(host), C(node),
          C(control_plane), C(reachable), C(ready), C(drain), C(member), C(peer_urls), C(clean), C(gone), C(settled),
          C(problems) and C(notes).
      type: list
      elements: dict
"""


def removal_plan(
    names: list[str],
    hosts: list[dict[str, Any]],
    cluster: dict[str, Any],
    authority: str = "",
    accept_running: bool = False,
) -> dict[str, Any]:
    """Return the plan for the hosts with these names."""
    if not isinstance(names, list) or not isinstance(cluster, dict):
        raise AnsibleFilterError("removal_plan needs a list of names, and what cluster_info returned")
    known = [Host(**one) for one in hosts]
    found = plan(names, known, cluster, authority=authority, accept_running=accept_running)
    return found.returned()


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"removal_plan": removal_plan}
