# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide how the control planes get to the encryption that is wanted."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption_plan import plan

DOCUMENTATION = r"""
name: encryption_plan
short_description: Decide how the control planes get to the encryption that is wanted
version_added: 0.1.0
description:
  - Compares what M(kubewright.cluster.encryption_config) and M(kubewright.cluster.encryption_rewrite) saw with what
    is wanted, and returns the layouts that lead there, in three steps.
  - An interrupted rotation is finished. Another one begins only when O(rotate) names the key that is in use and
    nothing is left to finish.
positional: values, resources, rotate, stamp
options:
  _input:
    description: The result of M(kubewright.cluster.encryption_config) by host, for every control plane.
    type: dict
    required: true
  values:
    description: RV(kubewright.cluster.encryption_rewrite#module:before), for Secrets and ConfigMaps.
    type: dict
    required: true
  resources:
    description: What is to be encrypted; empty for nothing.
    type: list
    elements: str
    required: true
  rotate:
    description: The name of the key to rotate away from.
    type: str
    default: ""
  stamp:
    description: The present time, for the name of a new key.
    type: str
    required: true
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.encryption_config
  - module: kubewright.cluster.encryption_rewrite
"""

EXAMPLES = r"""
- name: Decide what is to be done
  ansible.builtin.set_fact:
    plan: "{{ seen | kubewright.cluster.encryption_plan(counted.before, ['secrets'], '', '20261121-080000') }}"
"""

RETURN = r"""
_value:
  description: What is to be done.
  type: dict
  contains:
    problems:
      description: Why nothing can be done, one sentence each. Without any, the other keys are there.
      type: list
      elements: str
    idle:
      description: Whether nothing is to be done.
      type: bool
    goals:
      description: What each resource is to be encrypted with.
      type: dict
    key:
      description: The key that will be in use, empty for none.
      type: str
    generate:
      description: The name of a key that has to be made, empty for none.
      type: str
    holder:
      description: A host that has the newest key.
      type: str
    read:
      description: The layout with which everybody can read the goal; empty when this step is behind.
      type: dict
    write:
      description: The layout with which everybody writes the goal; empty when this step is behind.
      type: dict
    drop:
      description: The layout that stays.
      type: dict
    dropped:
      description: The keys that are given up.
      type: list
      elements: str
    stale:
      description: How many values have to be written again.
      type: int
    again:
      description: Whether O(rotate) names the key that an unfinished rotation leads to, so that another run is needed.
      type: bool
"""


def encryption_plan(
    seen: dict[str, Any], values: dict[str, Any], resources: list[str], rotate: str, stamp: str
) -> dict[str, Any]:
    """Return what leads from *seen* and *values* to what is wanted."""
    if not isinstance(seen, dict) or not seen:
        raise AnsibleFilterError("encryption_plan needs what encryption_config returned, by host")
    return plan(seen, values, resources, rotate, stamp)


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"encryption_plan": encryption_plan}
