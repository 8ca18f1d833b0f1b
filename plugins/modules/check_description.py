#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of an action that runs on the controller: plugins/action/check_description.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_description
short_description: Refuse a cluster whose description cannot work
version_added: 0.1.0
description:
  - Judges what a user wrote, namely the groups of a cluster and the variables of its hosts, and fails with one line
    for everything that is wrong. Each line names the variable, its value, and what to do.
  - Reads all hosts of the cluster, also those outside the play (C(--limit)), so that a new host with the address or
    node name of another one is found.
  - Names that begin with the name of a role of this collection and an underscore, but that no role documents, are
    refused with the nearest right name. Known names, types and choices come from the C(meta/argument_specs.yml) of the
    roles.
  - It is meant for the role C(kube_cluster), whose defaults it sees, and runs once for a play (C(run_once)).
notes:
  - It runs on the controller and connects to no host.
  - Variables that their role keeps out of logs and values from ansible-vault are never looked at, and user and
    password in a URL are never shown.
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
  supported_minors:
    description: The minor versions of Kubernetes that are supported, for example V(1.36).
    type: list
    elements: str
    required: true
  problems:
    description: What the role found besides, one sentence each. Each ends the run too.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Check the description of the cluster
  kubewright.cluster.check_description:
    supported_minors: ["1.36", "1.37"]
  run_once: true
"""

RETURN = r"""
msg:
  description: What is wrong, one line each.
  returned: failure
  type: str
  sample: >-
    kube_cluster_host_address of cp1 and cp2 is 192.0.2.11, but every host needs an address of its own: correct one of
    them.
"""
