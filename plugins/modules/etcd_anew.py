#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the stopped etcd of a control plane begin anew."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_anew
short_description: Let the stopped etcd of a control plane begin anew
version_added: 0.2.0
description:
  - Moves the data of an etcd aside, and tells it in its manifest which members there are, so that it joins them with
    no data when it is started. Nothing is deleted.
  - It is one step of a replacement. The member is announced with M(kubewright.cluster.etcd_member) before, and the pod
    is stopped and started with M(kubewright.cluster.static_pods).
options:
  peer_url:
    description:
      - The peer URL of the member that begins, for example V(https://192.0.2.11:2380).
    type: str
    required: true
  members:
    description:
      - The members of the cluster, as RV(kubewright.cluster.etcd_member#module:members). The one with O(peer_url) may
        be among them.
    type: list
    elements: dict
    required: true
  manifest:
    description:
      - The manifest of etcd, by default where M(kubewright.cluster.static_pods) keeps it while the pod is stopped.
    type: path
    default: /etc/kubernetes/kubewright-held/etcd.yaml
  data_dir:
    description:
      - The data folder of etcd. What it has goes to C(before-replacement-TIME) in it.
    type: path
    default: /var/lib/etcd
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_member
  - module: kubewright.cluster.static_pods
"""

EXAMPLES = r"""
- name: Announce the member in place of the dead one
  kubewright.cluster.etcd_member:
    state: learner
    peer_url: https://192.0.2.11:2380
    replaces: https://192.0.2.11:2380
  delegate_to: cp2
  register: announced

- name: Let it begin anew
  kubewright.cluster.etcd_anew:
    peer_url: https://192.0.2.11:2380
    members: "{{ announced.members }}"
"""

RETURN = r"""
aside:
  description: Where the former data is now; empty where there was none, and in check mode.
  returned: success
  type: str
  sample: /var/lib/etcd/before-replacement-20261122T083000Z
moved:
  description: Whether there was data that was moved aside, or would be.
  returned: success
  type: bool
  sample: true
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_anew import apply, look, plan


def begin(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Look, plan, and prepare."""
    manifest, data_dir = params["manifest"], params["data_dir"]
    found = look(manifest, data_dir)
    planned = plan(found, params["members"], params["peer_url"], manifest)
    aside = apply(planned, manifest, data_dir, time.time()) if planned.changed and not check_mode else ""
    after = planned.manifest or found.manifest
    return {
        "changed": planned.changed,
        "moved": planned.aside,
        "aside": aside,
        "diff": {
            "before": found.manifest + ("member\n" if planned.aside else ""),
            "after": after,
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "peer_url": {"type": "str", "required": True},
            "members": {"type": "list", "elements": "dict", "required": True},
            "manifest": {"type": "path", "default": "/etc/kubernetes/kubewright-held/etcd.yaml"},
            "data_dir": {"type": "path", "default": "/var/lib/etcd"},
        },
        supports_check_mode=True,
    )
    try:
        result = begin(module.params, check_mode=module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
