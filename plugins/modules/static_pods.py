#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop static pods of a control plane, and let them start again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: static_pods
short_description: Stop static pods of a control plane, and let them start again
version_added: 0.2.0
description:
  - With O(state=stopped) it stops the kubelet, moves the manifests of the components to
    C(/etc/kubernetes/kubewright-held), ends their containers through the container runtime, and returns when none is
    left. They stay stopped, also when the host loses its power, until they are started with O(state=started).
  - With O(state=ended) it stops the kubelet and ends the containers, and the manifests stay. They start again with the
    kubelet, as after the restart of the host that this is for. An API server has then told its clients that it goes.
  - With O(state=started) it moves the manifests back and restarts the kubelet. It does not wait until the components
    serve.
  - Containers of other pods go on running.
options:
  state:
    description:
      - Whether the components are to run.
    type: str
    choices: [started, stopped, ended]
    required: true
  components:
    description:
      - The components, which are stopped in this order.
    type: list
    elements: str
    choices: [kube-apiserver, kube-controller-manager, kube-scheduler, etcd]
    default: [kube-apiserver, kube-controller-manager, kube-scheduler, etcd]
  restored_as:
    description:
      - With O(state=started) and V(etcd) among O(components), the O(kubewright.cluster.etcd_snapshot#module:token)
        that its data was restored with. With other data, or none, etcd is not started, because the etcd that a control
        plane began with makes a new, empty cluster where it finds nothing.
    type: str
    default: ''
  data_dir:
    description:
      - The data folder of etcd, for O(restored_as).
    type: path
    default: /var/lib/etcd
  grace:
    description:
      - Seconds that a container has to end by itself.
      - An API server gets no more than its C(--shutdown-delay-duration) and ten seconds. It listens no more then, and
        waits for watches that nobody ends.
    type: int
    default: 30
  timeout:
    description:
      - Seconds until nothing may be left of them.
    type: int
    default: 180
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_snapshot
"""

EXAMPLES = r"""
- name: Stop the control plane of this host
  kubewright.cluster.static_pods:
    state: stopped

- name: Let it start again
  kubewright.cluster.static_pods:
    state: started
"""

RETURN = r"""
moved:
  description: The components whose manifest was moved, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [kube-apiserver, etcd]
ended:
  description: The components of which something ran that was ended, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [kube-apiserver]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import MARKER
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._held_pods import (
    COMPONENTS,
    HELD,
    MANIFESTS,
    Switch,
    need_restored,
    plan_end,
    plan_start,
    plan_stop,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

PLANS = {"started": plan_start, "stopped": plan_stop, "ended": plan_end}


def act(params: dict[str, Any], runner: Runner, *, check_mode: bool) -> dict[str, Any]:
    """Look, plan, and stop or start."""
    switch = Switch(runner, Deadline(params["timeout"]))
    components = params["components"]
    starts = params["state"] == "started"
    if starts and "etcd" in components and params["restored_as"]:
        need_restored(params["data_dir"], MARKER, params["restored_as"])
    pods = switch.look(components)
    planned = PLANS[params["state"]](pods, kubelet_runs=switch.kubelet_runs())
    if planned.changed and not check_mode:
        if starts:
            switch.start(planned)
        else:
            switch.stop(planned, components, params["grace"])
    source, target = (HELD, MANIFESTS) if starts else (MANIFESTS, HELD)
    return {
        "changed": planned.changed,
        "moved": list(planned.move),
        "ended": [one.component for one in planned.end],
        "diff": {
            "before": "".join(f"{source}/{name}.yaml\n" for name in planned.move),
            "after": "".join(f"{target}/{name}.yaml\n" for name in planned.move),
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "stopped", "ended"], "required": True},
            "components": {
                "type": "list",
                "elements": "str",
                "choices": list(COMPONENTS),
                "default": list(COMPONENTS),
            },
            "restored_as": {"type": "str", "default": ""},
            "data_dir": {"type": "path", "default": "/var/lib/etcd"},
            "grace": {"type": "int", "default": 30},
            "timeout": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    try:
        result = act(module.params, Runner(module.run_command), check_mode=module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
