#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give the etcd of a control plane another image, or let its log begin anew."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_static_pod
short_description: Move the etcd of a control plane to another patch, or let its log begin anew
version_added: 0.2.0
description:
  - Changes the image in the manifest of the etcd that kubeadm runs on this control plane. It is for the patch that
    etcd's guide asks for before its next minor; the minor itself comes with kubeadm.
  - Lets the member save a snapshot of its log and go on as before, so that the next version reads nothing that members
    of 3.5 wrote. 3.7 ends every start with C(unmarshal should never fail) on such a log.
  - The API server of this host ends before its etcd and starts with it, while the kubelet stands still. One that a run
    which was cut off has left standing is started (C(kubelet)).
  - Each restart needs a quorum without this member, takes the leadership away first, and is seen to work. One that does
    not gets the old manifest back, and the module fails.
options:
  tag:
    description:
      - The tag of the image, such as V(3.6.16-0). Empty, the image stays.
    type: str
    default: ''
  begin_log_anew:
    description:
      - V(if_needed) lets the log begin anew where it still holds requests of 3.5; V(always) does so in any case.
    type: str
    choices: [never, if_needed, always]
    default: never
  lend_etcd:
    description:
      - The client URLs of the other members. The API server of this host asks them too from then on, so that it does
        not miss its own etcd. C(kubeadm upgrade) and the playbook C(site.yml) write the own etcd only again.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - Seconds that each restart may take.
    type: int
    default: 240
extends_documentation_fragment:
  - kubewright.cluster._etcd
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - With O(begin_log_anew=always) the log begins anew each time.
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.kubeadm_upgrade
  - module: kubewright.cluster.etcd_service
"""

EXAMPLES = r"""
- name: Move etcd to the patch that comes before the next minor
  kubewright.cluster.etcd_static_pod:
    tag: 3.6.16-0
"""

RETURN = r"""
actions:
  description: What was done, or would be, in this order.
  returned: success
  type: list
  elements: str
  choices: [kubelet, image, log]
  sample: [image]
from_tag:
  description: The tag before.
  returned: success
  type: str
  sample: 3.6.8-0
refusal:
  description: In check mode, why the restart would be refused now.
  returned: success
  type: str
  sample: ''
component:
  description: V(etcd), where it did not come up.
  returned: when a restart failed
  type: str
log:
  description: Its last log lines.
  returned: when a restart failed
  type: list
  elements: str
rolled_back:
  description: Whether it works again with the old manifest.
  returned: when a restart failed
  type: bool
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_options import CONNECTION, client
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import STATE, alone
from ansible_collections.kubewright.cluster.plugins.module_utils._held_pods import Switch, start_kubelet
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._stacked_etcd import (
    LentEtcd,
    Seen,
    StackedEtcd,
    Wishes,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import StaticPods
from ansible_collections.kubewright.cluster.plugins.module_utils._upgrade_observe import log_of_3_5

OWN = {
    "tag": {"type": "str", "default": ""},
    "begin_log_anew": {"type": "str", "choices": ["never", "if_needed", "always"], "default": "never"},
    "lend_etcd": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 240},
}


def wishes(params: dict[str, Any], seen: Seen) -> Wishes:
    """Return what is asked for, of what the host is like."""
    anew = params["begin_log_anew"]
    needed = anew == "always" or (anew == "if_needed" and log_of_3_5(Path(seen.data) / "member"))
    return Wishes(params["tag"], needed)


def work(params: dict[str, Any], runner: Runner, *, act: bool) -> dict[str, Any]:
    """Look, plan, and act outside check mode."""

    def deadline() -> Deadline:
        return Deadline(params["timeout"])

    etcd = StackedEtcd(runner, client(runner, params), deadline)
    seen = etcd.look()
    wanted = wishes(params, seen)
    steps = plan(wanted, seen)
    # A run that was cut off may have stopped it, with the manifests in place or not.
    asleep = not Switch(runner, deadline()).kubelet_runs()
    refusal = ""
    if act and asleep:
        start_kubelet(runner)
    if act and steps:
        # Before the API server is restarted for it.
        etcd.gate(seen)
        lent, urls = LentEtcd(runner, StaticPods(runner, deadline)), params["lend_etcd"]
        if "image" in steps:
            etcd.apply(wanted, steps, seen, lent.change(urls) if urls else None)
        else:
            lent.lend(urls)
            etcd.apply(wanted, steps, seen)
    elif steps:
        try:
            etcd.gate(seen)
        except KubewrightError as error:
            refusal = str(error)
    after = params["tag"] if "image" in steps else seen.tag
    return {
        "changed": asleep or bool(steps),
        "actions": [*(["kubelet"] if asleep else []), *steps],
        "from_tag": seen.tag,
        "refusal": refusal,
        "diff": {"before": f"etcd {seen.tag}\n", "after": f"etcd {after}\n"},
    }


def main() -> None:
    module = AnsibleModule(argument_spec={**CONNECTION, **OWN}, supports_check_mode=True)
    params = module.params
    try:
        with alone(Deadline(params["timeout"]), STATE, make=not module.check_mode):
            result = work(params, Runner(module.run_command), act=not module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
