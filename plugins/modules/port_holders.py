#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell who listens on TCP ports of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: port_holders
short_description: Tell who listens on TCP ports of a host
version_added: 0.2.0
description:
  - Finds the processes that listen on ports of this host, whichever address they listen on, and says whether each is a
    systemd service or belongs to a pod.
  - So a role can refuse a port that something else has taken, before it installs what would fail to start, and tell its
    own service apart from that.
options:
  ports:
    description: The ports.
    type: list
    elements: int
    required: true
extends_documentation_fragment:
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: See who has the port of node-exporter
  kubewright.cluster.port_holders:
    ports: [9100]
  register: taken
"""

RETURN = r"""
holders:
  description: Who listens, by port and process. Empty when nobody does.
  returned: success
  type: list
  elements: dict
  contains:
    port:
      description: The port.
      type: int
      sample: 9100
    pid:
      description: The process; V(0) when it is in another PID namespace.
      type: int
      sample: 812
    program:
      description: The name of its program, as C(ps -o comm) shows it.
      type: str
      sample: node_exporter
    unit:
      description: Its systemd service; empty for what runs in a pod or was started by hand.
      type: str
      sample: prometheus-node-exporter.service
    pod:
      description: Whether it belongs to a pod of this node.
      type: bool
      sample: false
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._port_holders import holders

ARGUMENTS = {"ports": {"type": "list", "elements": "int", "required": True}}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    found = holders(set(module.params["ports"]))
    module.exit_json(changed=False, holders=[asdict(one) for one in found])


if __name__ == "__main__":
    main()
