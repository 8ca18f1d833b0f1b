#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a host of an etcd cluster of its own."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_host_info
short_description: Look at a host of an etcd cluster of its own
version_added: 0.2.0
description:
  - Tells what a host of an external etcd has, and what its etcd says. The role P(kubewright.cluster.etcd_cluster#role)
    decides from this what has to be done.
  - It never fails because something is missing, and reads no private key.
options:
  count_keys:
    description: Whether etcd is asked how many keys it holds.
    type: bool
    default: false
extends_documentation_fragment:
  - kubewright.cluster._etcd
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_member_info
"""

EXAMPLES = r"""
- name: Look at the host
  kubewright.cluster.etcd_host_info:
    endpoints: [https://192.0.2.31:2379]
    ca_cert: /etc/etcd/pki/ca.crt
    client_cert: /etc/etcd/pki/healthcheck-client.crt
    client_key: /etc/etcd/pki/healthcheck-client.key
"""

RETURN = r"""
architecture:
  description: The architecture, as release files name it.
  returned: success
  type: str
  sample: amd64
addresses:
  description: The addresses of the host; none where C(ip) is missing.
  returned: success
  type: list
  elements: str
  sample: [192.0.2.31]
openssl:
  description: Whether C(openssl) is installed.
  returned: success
  type: bool
  sample: true
unit:
  description: Whether there is a unit file C(/etc/systemd/system/etcd.service).
  returned: success
  type: bool
  sample: true
version:
  description: The version that the unit starts; empty for a unit that is not one of this collection.
  returned: success
  type: str
  sample: 3.6.16
advertised:
  description: The peer URL that the unit gives the member.
  returned: success
  type: str
  sample: https://192.0.2.31:2380
member_name:
  description: The name that the unit gives the member.
  returned: success
  type: str
  sample: etcd1
running:
  description: The version of the process; empty where none runs, V(unknown) for a program of somebody else.
  returned: success
  type: str
  sample: 3.6.16
data:
  description: Whether the data folder has the data of a member.
  returned: success
  type: bool
  sample: true
began:
  description: The members of a new cluster that this host was to start and that was not whole yet.
  returned: success
  type: str
  sample: ""
born:
  description: Whether this host was a member of a cluster that was whole once.
  returned: success
  type: bool
  sample: true
restoring:
  description: How far a restore came that did not end, V(restoring) or V(starting); empty where there is none.
  returned: success
  type: str
  sample: ""
authority:
  description: Which authority the host trusts (C(fingerprint)), whether it has its C(key), and its C(days_left).
  returned: success
  type: dict
  sample: {fingerprint: 9f86d081884c7d65, key: false, days_left: 3649.5}
certificates:
  description: The days that each certificate in C(/etc/etcd/pki) has left, by the name of its file.
  returned: success
  type: dict
  sample: {server: 364.5}
etcd:
  description:
    - The members, the quorum and the leader as M(kubewright.cluster.etcd_member_info) returns them, the minor that all
      members agree on as C(cluster_version), and C(error), which says why etcd could not be asked.
    - With O(count_keys) the number of keys as C(key_count), V(null) where it is not known.
  returned: success
  type: dict
  sample: {members: [], quorum: null, leader: null, cluster_version: "3.6", key_count: null, error: null}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_host import observe
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_options import CONNECTION
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_service import System
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


def main() -> None:
    module = AnsibleModule(
        argument_spec={**CONNECTION, "count_keys": {"type": "bool", "default": False}},
        supports_check_mode=True,
    )
    runner = Runner(module.run_command)
    try:
        result = observe(module.params, runner, System(runner).look(), Path("/"))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
