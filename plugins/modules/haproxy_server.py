#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take an API server out of the HAProxy of this host, and put it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_server
short_description: Take an API server out of the HAProxy of this host, and put it back
version_added: 0.2.0
description:
  - Speaks to a running HAProxy through its socket. No file is changed, so that a reload or a restart puts every server
    back.
  - A server that is V(drained) keeps the connections that it has, and gets no new ones. The only one that works is left
    where it is, with a warning.
  - With V(ready) it waits until HAProxy has found each server to answer.
options:
  names:
    description:
      - The names of the servers in HAProxy's configuration, which are those of the control planes in the inventory.
    type: list
    elements: str
    required: true
  state:
    description:
      - What the servers shall be.
    type: str
    choices: [drained, ready]
    required: true
  backend:
    description:
      - The backend that they are in.
    type: str
    default: kubernetes_api
  socket:
    description:
      - The socket of HAProxy, with the level C(admin).
    type: path
    default: /run/haproxy/admin.sock
  wait:
    description:
      - With O(state=ready), wait until each server answers. Leave it out to put servers back that may be down.
    type: bool
    default: true
  timeout:
    description:
      - Seconds in which the servers must be found to answer.
    type: int
    default: 60
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Send no new connections to an API server
  kubewright.cluster.haproxy_server:
    names: [cp1]
    state: drained
"""

RETURN = r"""
servers:
  description: What HAProxy said of each server before.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: cp1
    status:
      description: Whether it got connections, did not answer, or had been taken out.
      type: str
      choices: [up, down, out]
      sample: up
    changed:
      description: Whether it was taken out or put back.
      type: bool
      sample: true
alone:
  description: The servers that were left where they are, because no other one works.
  returned: success
  type: list
  elements: str
  sample: []
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._haproxy import SOCKET, HAProxy, alone
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

ARGUMENTS = {
    "names": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["drained", "ready"], "required": True},
    "backend": {"type": "str", "default": "kubernetes_api"},
    "socket": {"type": "path", "default": SOCKET},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 60},
}


def move(params: dict[str, Any], balancer: HAProxy, *, act: bool) -> dict[str, Any]:
    """Take servers out, one after the other, or put them back."""
    drains, deadline = params["state"] == "drained", Deadline(params["timeout"])
    rows: list[dict[str, Any]] = []
    only: list[str] = []
    gone: set[str] = set()
    for name in params["names"]:
        before = balancer.server(name)
        # In check mode those that would be out by now are still there.
        others = [one for one in balancer.servers() if one.name not in gone]
        stays = drains and not before.taken_out and alone(others, name)
        changed = before.taken_out != drains and not stays
        if stays:
            only.append(name)
        if changed and drains:
            gone.add(name)
        if changed and act:
            balancer.set(name, "drain" if drains else "ready")
        rows.append({"name": name, "status": before.status, "changed": changed})
    if not drains and params["wait"] and act:
        for name in params["names"]:
            balancer.wait_up(name, deadline)
    return {"servers": rows, "alone": only}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        result = move(params, HAProxy(params["socket"], params["backend"]), act=not module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    for name in result["alone"]:
        module.warn(f"{name} stays in the load balancer: no other API server works there.")
    moved = [row["name"] for row in result["servers"] if row["changed"]]
    after = f" {params['state']}\n"
    before = " ready\n" if params["state"] == "drained" else " drained\n"
    module.exit_json(
        changed=bool(moved),
        diff={
            "before": "".join(name + before for name in moved),
            "after": "".join(name + after for name in moved),
        },
        **result,
    )


if __name__ == "__main__":
    main()
