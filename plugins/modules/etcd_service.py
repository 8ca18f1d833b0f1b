#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the etcd of a host run by a command line, without risk for its cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_service
short_description: Let the etcd of a host run by a command line, without risk for its cluster
version_added: 0.2.0
description:
  - Writes the unit C(etcd.service), starts a member that does not run, and restarts one that runs by another command
    line. The program is named by its version, so that a new version is a new command line like any other change.
  - A restart is refused when the votes of the other members are no quorum. Before it, the leadership is given to
    another member. After it, this member has to be healthy, and so has everyone who was before. If it does not become
    so, the old unit is put back and seen to work.
  - What runs is read from the process, not remembered, so that an interrupted run is finished by the next.
options:
  command:
    description: The program with its arguments, each as C(--name=value).
    type: list
    elements: str
    required: true
  peer_url:
    description: The peer URL of this host's member.
    type: str
    required: true
  version:
    description: The version that the member has to say that it is.
    type: str
    default: ''
  wait:
    description: Whether to wait until the member is healthy. Members of a new cluster are healthy only together.
    type: bool
    default: true
  timeout:
    description: Seconds for everything together. The way back, where it is needed, may take as long again.
    type: int
    default: 180
notes:
  - In a cluster of one or two members a restart interrupts the cluster for some seconds. There it is done all the same,
    when all members are healthy.
attributes:
  check_mode:
    support: full
    details:
      - That the votes do not allow a restart now is told in RV(refusal) only, because they may by then.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
    details: The host must run systemd.
extends_documentation_fragment:
  - kubewright.cluster._etcd
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_member
"""

EXAMPLES = r"""
- name: Run the member by its present settings
  kubewright.cluster.etcd_service:
    command:
      - /opt/kubewright/etcd/3.6.16/etcd
      - --name=etcd1
      - --data-dir=/var/lib/etcd
    peer_url: https://192.0.2.31:2380
    version: 3.6.16
    ca_cert: /etc/etcd/pki/ca.crt
    client_cert: /etc/etcd/pki/healthcheck-client.crt
    client_key: /etc/etcd/pki/healthcheck-client.key
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode - V(write), V(enable), V(start), V(restart).
  returned: success
  type: list
  elements: str
  sample: [write, restart]
refusal:
  description: In check mode, why a restart would be refused now; empty when it would not.
  returned: success
  type: str
  sample: ''
rolled_back:
  description: Whether the member runs by its old command line again.
  returned: when a restart failed
  type: bool
  sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_options import CONNECTION, client
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_service import (
    MemberService,
    System,
    diff,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

OWN = {
    "command": {"type": "list", "elements": "str", "required": True},
    "peer_url": {"type": "str", "required": True},
    "version": {"type": "str", "default": ""},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 180},
}


def work(params: dict[str, Any], runner: Runner, *, act: bool) -> dict[str, Any]:
    """Look, plan, and act outside check mode."""
    system = System(runner)
    service = system.look()
    planned = plan(service, params["command"])
    refusal = ""
    if act or planned.restart:
        etcdctl = client(runner, params)
        deadline = Deadline(params["timeout"])
        member = MemberService(system, etcdctl, params["peer_url"], deadline, params["version"])
        if act:
            member.apply(planned, params["command"], wait=params["wait"])
        else:
            refusal = member.refusal()
    return {
        "refusal": refusal,
        "changed": bool(planned.actions),
        "actions": planned.actions,
        "diff": diff(service, params["command"]),
    }


def main() -> None:
    module = AnsibleModule(argument_spec={**CONNECTION, **OWN}, supports_check_mode=True)
    try:
        result = work(module.params, Runner(module.run_command), act=not module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
