#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add, promote, replace, remove and maintain members of an etcd cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member
short_description: Add, promote, replace, remove and maintain members of an etcd cluster
version_added: 0.2.0
description:
  - Changes the membership of an etcd cluster, moves its leadership, and cures what fills its files.
  - A change is refused when no quorum is present now, or when the votes that are healthy would be no quorum of the
    voters after it. The refusal shows the arithmetic and the members.
  - It starts and stops no process, and touches no data folder.
options:
  state:
    description:
      - V(learner) announces a member without a vote, which is the state in which its process has to be started
        (with C(--initial-cluster-state=existing)). A member that votes already satisfies it.
      - V(voter) waits until an announced and started learner has caught up, and lets it vote.
      - V(absent) takes the leadership from the member if it has it, removes the member through another one, and waits
        until it is gone from the list. Its data folder has to be emptied before it can ever be added again. Alarms
        that etcd keeps of it, or of members that were removed before, are disarmed, because NOSPACE goes on refusing
        every write; not while a member has an alarm of its own, which V(disarmed) is for.
      - V(leader) gives the leadership to the member, V(follower) takes it away.
      - V(defragmented) gives free space inside the files back, followers first and the leader last, one at a time. A
        member answers nothing while it does that.
      - V(disarmed) ends the alarm NOSPACE - compacts the history, defragments every member, and disarms the alarm when
        there is room again. An alarm that belongs to no member is only disarmed. Nothing is done without an alarm. An
        alarm CORRUPT is refused.
    type: str
    choices: [learner, voter, absent, leader, follower, defragmented, disarmed]
    required: true
  peer_url:
    description:
      - The member, by its peer URL, for example V(https://192.0.2.11:2380). For O(state=absent), O(state=leader),
        O(state=follower) and O(state=defragmented) its id will do, too. Names are never used, because nothing keeps two
        members from having the same.
      - Without it, O(state=defragmented) is for all members.
    type: str
    default: ''
  name:
    description:
      - The name that the new member will have, for the message of etcd only. The process gives itself its name.
    type: str
    default: ''
  replaces:
    description:
      - The member that a new one takes the place of, by id or peer URL, with O(state=learner) and then O(state=voter).
      - A dead one is removed before the new one is added, a living one after the new one votes.
      - It may have the same peer URL, when a host comes back without its data.
    type: str
    default: ''
  fragmentation:
    description:
      - With O(state=defragmented), the share of a file in per cent that has to be free for it to be worth it.
    type: int
    default: 30
  quota:
    description:
      - With O(state=disarmed), the quota of the members in bytes. By default etcd is asked; before 3.6 it does not
        tell, and its own default of 2 GiB is assumed.
    type: int
    default: 0
  accept_interruption:
    description:
      - Defragment even where the other members are no quorum, as in a cluster of one or two. Clients get no answer
        meanwhile.
    type: bool
    default: false
  timeout:
    description:
      - Seconds for everything together. Catching up and defragmenting take longer the larger the database is.
    type: int
    default: 120
notes:
  - The rule is stricter than that of etcd itself in some cases, on purpose. A new member counts as unhealthy until it
    votes; nothing else is changed while a learner catches up; a member that never started, has an alarm or sees
    another leader counts as unhealthy; the last voter is never removed; and maintenance is for clusters that can
    spare a member.
attributes:
  check_mode:
    support: full
    details:
      - Whether a learner will catch up is not known before it is waited for.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
extends_documentation_fragment:
  - kubewright.cluster._etcd
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_member_info
  - name: Runtime reconfiguration of etcd
    link: https://etcd.io/docs/v3.6/op-guide/runtime-configuration/
    description: Why a member is announced before it is started.
"""

EXAMPLES = r"""
- name: Announce a new member
  kubewright.cluster.etcd_member:
    state: learner
    peer_url: https://192.0.2.14:2380

# Start its process with --initial-cluster-state=existing.

- name: Let it vote once it has caught up
  kubewright.cluster.etcd_member:
    state: voter
    peer_url: https://192.0.2.14:2380

- name: Remove a member, whether or not it lives
  kubewright.cluster.etcd_member:
    state: absent
    peer_url: https://192.0.2.11:2380

- name: Give free space back where it is worth it
  kubewright.cluster.etcd_member:
    state: defragmented
    timeout: 600
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description: V(add), V(promote), V(remove), V(move_leader), V(compact), V(defragment) or V(disarm).
      type: str
      sample: remove
    member:
      description: The id of the member, for V(move_leader) of the one that shall lead. Empty for a new one.
      type: str
      sample: 8e9e05c52164694d
    name:
      description: Its name.
      type: str
      sample: cp1
    peer_url:
      description: Its peer URL.
      type: str
      sample: https://192.0.2.11:2380
leader_moved:
  description: The id of the member that leads since then; empty when the leadership was not moved.
  returned: success
  type: str
  sample: ''
members:
  description: The members afterwards, as M(kubewright.cluster.etcd_member_info) returns them.
  returned: success
  type: list
  elements: dict
quorum:
  description: The votes afterwards, as M(kubewright.cluster.etcd_member_info) returns them.
  returned: success
  type: dict
stale_alarms:
  description: The alarms that belong to no member afterwards, as M(kubewright.cluster.etcd_member_info) returns them.
  returned: success
  type: list
  elements: dict
leader:
  description: The id of the leader afterwards.
  returned: success
  type: str
  sample: 8e9e05c52164694d
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_member import (
    STATES,
    Operator,
    Outcome,
    Wanted,
    check_options,
    diff,
    plan,
    returned,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_options import CONNECTION, client
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

OWN = {
    "state": {"type": "str", "required": True, "choices": list(STATES)},
    "peer_url": {"type": "str", "default": ""},
    "name": {"type": "str", "default": ""},
    "replaces": {"type": "str", "default": ""},
    "fragmentation": {"type": "int", "default": 30},
    "quota": {"type": "int", "default": 0},
    "accept_interruption": {"type": "bool", "default": False},
}


def change(params: dict[str, Any], runner: Runner, *, check_mode: bool) -> dict[str, Any]:
    """Observe, plan, and apply outside check mode; return the result of the module."""
    wanted = Wanted(**{key: params[key] for key in OWN})
    check_options(wanted)
    etcdctl = client(runner, params)
    etcd = etcdctl.observe()
    planned = plan(wanted, etcd)
    before, outcome, after = etcd, Outcome(list(planned.steps)), list(planned.after)
    if planned.steps and not check_mode:
        operator = Operator(etcdctl, wanted, Deadline(params["timeout"]))
        etcd = operator.apply(planned)
        outcome, after = operator.outcome, etcd.members
    return {
        "changed": bool(planned.steps),
        "steps": [asdict(step) for step in outcome.steps],
        "leader_moved": outcome.leader_moved,
        "diff": diff(planned, before, after),
        **returned(etcd),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={**CONNECTION, **OWN, "timeout": {"type": "int", "default": 120}},
        supports_check_mode=True,
    )
    try:
        result = change(module.params, Runner(module.run_command), check_mode=module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
