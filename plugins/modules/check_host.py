#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of an action that runs on the controller: plugins/action/check_host.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_host
short_description: Refuse a host that cannot carry its part of a cluster
version_added: 0.1.0
description:
  - Judges what M(kubewright.cluster.cluster_info) observed of a host, and fails with one line for everything that is
    wrong. Each line names the host, what was found, and what to do.
  - Judges the distribution, the architecture, the version of cgroups, CPUs, memory and free space.
  - Sizes are not asked of a host that is a node already.
  - With C(any_errors_fatal) one refused host ends the play for all of them, before any is changed.
notes:
  - It runs on the controller and connects to no host.
attributes:
  check_mode:
    support: full
    details: It changes nothing.
  diff_mode:
    support: none
    details: It changes nothing.
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  host:
    description: What M(kubewright.cluster.cluster_info) returned as RV(kubewright.cluster.cluster_info#module:host).
    type: dict
    required: true
  control_plane:
    description: Whether the host is to be a control plane.
    type: bool
    required: true
  tested:
    description: The distributions that pass, each as its ID and its major version, for example V(debian 13).
    type: list
    elements: str
    required: true
  accept_untested:
    description: Let any other distribution pass.
    type: bool
    default: false
  accept_small:
    description:
      - Let a host pass that is too small, with a warning.
      - What kubeadm refuses too must be in O(ignored_preflight) as well.
    type: bool
    default: false
  accept_cgroup_v1:
    description: Let cgroup v1 pass.
    type: bool
    default: false
  ignored_preflight:
    description: The names of kubeadm's preflight checks whose failures are let pass.
    type: list
    elements: str
    default: []
  problems:
    description: What other checks found. Each ends the run too.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.cluster_info
"""

EXAMPLES = r"""
- name: Look at the host
  kubewright.cluster.cluster_info:
    gather: [host]
  register: seen

- name: Refuse it before anything is changed
  kubewright.cluster.check_host:
    host: "{{ seen.host }}"
    control_plane: "{{ 'control_plane' in group_names }}"
    tested: [debian 13]
  any_errors_fatal: true
"""

RETURN = r"""
msg:
  description: What is wrong, one line each.
  returned: failure
  type: str
  sample: >-
    cp1 has 1 CPU, and a control plane needs 2. Give it more, or set kube_host_accept_small to true.
"""
