#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the members of an etcd cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member_info
short_description: Show the members of an etcd cluster, their health and the quorum
version_added: 0.2.0
description:
  - Asks every member for its state and the cluster for its alarms, and counts the votes.
  - A member is healthy when it has started, tells its state, sees the same leader as the newest term has, has raised
    no alarm, and commits. A learner has no vote and cannot commit by itself.
extends_documentation_fragment:
  - kubewright.cluster._etcd
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_member
"""

EXAMPLES = r"""
- name: Look at etcd
  kubewright.cluster.etcd_member_info:
  register: etcd

- name: Show the members
  ansible.builtin.debug:
    msg: "{{ etcd.table }}"

- name: Go on only while another member may fail
  ansible.builtin.assert:
    that: etcd.quorum.tolerance > 0
"""

RETURN = r"""
members:
  description: The members in the order of etcd.
  returned: success
  type: list
  elements: dict
  contains: &member
    id:
      description: The id, hexadecimal as etcd prints it.
      type: str
      sample: 8e9e05c52164694d
    name:
      description: The name that the member's process gave itself; empty for one that never started.
      type: str
      sample: cp1
    peer_urls:
      description: Where the other members reach it.
      type: list
      elements: str
      sample: [https://192.0.2.11:2380]
    client_urls:
      description: Where clients reach it; none before it has started.
      type: list
      elements: str
      sample: [https://192.0.2.11:2379]
    is_learner:
      description: Whether it has no vote yet.
      type: bool
      sample: false
    is_leader:
      description: Whether it leads.
      type: bool
      sample: true
    healthy:
      description: Whether it is healthy.
      type: bool
      sample: true
    error:
      description: Why it is not healthy, V(null) when it is.
      type: str
      sample: its status cannot be read
    version:
      description: The version that runs, V(null) when its state cannot be read, like everything below.
      type: str
      sample: 3.6.16
    db_size:
      description: Size of its file in bytes.
      type: int
      sample: 20971520
    db_size_in_use:
      description: Bytes of the file that hold something. The rest is what a defragmentation gives back.
      type: int
      sample: 8388608
    revision:
      description: The newest revision that it has.
      type: int
      sample: 12345
    raft_term:
      description: The term that it is in.
      type: int
      sample: 4
    quota:
      description: The size in bytes at which it raises NOSPACE; V(null) before etcd 3.6, which does not tell it.
      type: int
      sample: 2147483648
    alarms:
      description: The alarms that it has raised, V(NOSPACE) or V(CORRUPT).
      type: list
      elements: str
      sample: []
quorum:
  description: The votes. Learners do not count.
  returned: success
  type: dict
  contains:
    voters:
      description: How many members vote.
      type: int
      sample: 3
    needed:
      description: How many of them must be healthy.
      type: int
      sample: 2
    healthy:
      description: How many are.
      type: int
      sample: 3
    tolerance:
      description: How many more may fail.
      type: int
      sample: 1
    present:
      description: Whether there is a quorum now.
      type: bool
      sample: true
leader:
  description: The id of the leader, V(null) without one.
  returned: success
  type: str
  sample: 8e9e05c52164694d
stale_alarms:
  description:
    - The alarms that belong to no member, because etcd keeps those of members that were removed. NOSPACE goes on
      refusing every write. M(kubewright.cluster.etcd_member) clears them, with V(disarmed) and with V(absent).
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The id of the member that is gone.
      type: str
      sample: 8e9e05c52164694d
    alarms:
      description: Its alarms.
      type: list
      elements: str
      sample: [NOSPACE]
table:
  description: The members as lines of a table, for people.
  returned: success
  type: list
  elements: str
  sample:
    - ID                NAME  PEER                      ROLE    VERSION  DB MiB  STATE
    - 8e9e05c52164694d  cp1   https://192.0.2.11:2380  leader  3.6.16   20      healthy
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_member import returned
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_options import CONNECTION, client
from ansible_collections.kubewright.cluster.plugins.module_utils._quorum import table
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


def main() -> None:
    module = AnsibleModule(argument_spec=CONNECTION, supports_check_mode=True)
    try:
        etcd = client(Runner(module.run_command), module.params).observe()
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, table=table(etcd.members).splitlines(), **returned(etcd))


if __name__ == "__main__":
    main()
