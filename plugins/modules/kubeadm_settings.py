#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_settings
short_description: Move a node to changed kubeadm settings
version_added: 0.1.0
description:
  - Lets the installed kubeadm render what it would write for a configuration, compares that with what the host
    and the cluster have, and replaces what differs, one component at a time.
  - C(kubeadm init) and C(kubeadm join) write static pods, the kubelet's configuration and the ConfigMaps once.
    Nothing brings a later change to a node, not even an upgrade to the same version; an upgrade to another one
    takes what the ConfigMaps say and drops what was edited on the hosts (kubernetes/kubeadm issues 541, 950,
    1564, 2157 and 3026).
  - On a control plane these are the certificate of the API server (its names), the manifests of etcd,
    kube-apiserver, kube-controller-manager and kube-scheduler, the kubelet's configuration, and with O(cluster)
    the ConfigMaps C(kubeadm-config) and C(kubelet-config) and the configuration of kube-proxy. On a worker it is
    the kubelet's configuration, which follows the ConfigMap C(kubelet-config).
  - Every component is seen to serve before the next one is touched. One that does not come up gets its old file
    back, and the task fails with its last log lines. The ConfigMaps come last, so that a setting that does not
    work is not handed to other hosts.
  - The comparison is one of settings, not of text. Order, comments and layout make no difference.
  - A file that a component mounts read-only, such as an audit policy, counts as well. When its content changed
    after the container was made, the component is restarted, by an annotation with the digest of these files.
  - It never changes a version. While kubeadm on the host, the cluster's configuration and O(config) name
    different versions, an upgrade is under way, and the module does nothing.
  - A host that is not a node in this role is left alone.
notes:
  - Two of these never work on one host at the same time, not even where one only compares.
  - Files that a static pod mounts must be on the host before.
  - The old file of each component is kept below C(/var/lib/kubewright/settings/previous).
    It is below C(undo) as long as the new one is not proven. A run that is stopped then is finished by the next.
  - The restart that follows from a changed mounted file can be seen in check mode only when the file is changed
    already.
options:
  role:
    description:
      - What the host is.
    type: str
    required: true
    choices: [control_plane, worker]
  config:
    description:
      - The documents of a kubeadm configuration.
      - For a control plane C(InitConfiguration), C(ClusterConfiguration), C(KubeletConfiguration) and
        C(KubeProxyConfiguration); for a worker C(InitConfiguration) alone.
      - C(InitConfiguration) must name the node and its address.
    type: list
    elements: dict
    required: true
  patches:
    description:
      - The contents of kubeadm's patch files by their names, such as C(kube-apiserver+strategic.yaml).
    type: dict
    default: {}
  patches_folder:
    description:
      - Where kubeadm finds the patches when the host is upgraded.
      - Files in it that are not in O(patches) are removed.
    type: path
    default: /etc/kubernetes/patches
  cluster:
    description:
      - Also bring the ConfigMaps and kube-proxy to the settings.
      - One control plane is enough for that.
    type: bool
    default: false
  kubelet_configuration:
    description:
      - The text that the ConfigMap C(kubelet-config) will have, for foretelling in check mode what a worker would do.
      - Without it the ConfigMap is read.
    type: str
  api_server:
    description:
      - The API server to ask, such as V(https://192.0.2.11:6443). The one of the node's kubeconfig by default.
    type: str
  timeout:
    description:
      - Seconds in which each component must serve again.
      - Also how long a run before that is still at work on this host is waited for.
    type: int
    default: 240
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the settings that change. Passwords in addresses are hidden.
  idempotent:
    support: full
seealso:
  - module: kubewright.cluster.kubeadm_node
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Move this control plane to its settings
  kubewright.cluster.kubeadm_settings:
    role: control_plane
    config: "{{ lookup('ansible.builtin.template', 'init.yaml.j2') | from_yaml_all | list }}"
    cluster: "{{ inventory_hostname == ansible_play_hosts | first }}"
  throttle: 1

- name: Say what would change on a worker
  kubewright.cluster.kubeadm_settings:
    role: worker
    config:
      - apiVersion: kubeadm.k8s.io/v1beta4
        kind: InitConfiguration
        nodeRegistration:
          name: worker1
          criSocket: unix:///run/containerd/containerd.sock
        localAPIEndpoint:
          advertiseAddress: 192.0.2.21
  check_mode: true
"""

RETURN = r"""
actions:
  description: What was done or would be done, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    target:
      description: The component, certificate or ConfigMap.
      type: str
      sample: kube-apiserver
    changes:
      description: Each setting that differs, with both values.
      type: list
      elements: str
      sample: ["spec.containers[kube-apiserver].command --v: (absent) -> 2"]
postponed:
  description: Why nothing was compared; empty when it was.
  returned: success
  type: str
  sample: ""
kubelet_configuration:
  description:
    - The text that the ConfigMap C(kubelet-config) has when this is done.
    - Empty on a control plane without O(cluster), which neither writes nor reads it.
  returned: success
  type: str
  sample: "apiVersion: kubelet.config.k8s.io/v1beta1\n..."
component:
  description: What did not come up with its new settings.
  returned: when a component failed
  type: str
  sample: kube-apiserver
log:
  description: Its last log lines.
  returned: when a component failed
  type: list
  elements: str
  sample: ["Error: unknown flag: --no-such-flag"]
rolled_back:
  description: Whether it serves again with its old settings.
  returned: when a component failed
  type: bool
  sample: true
done:
  description: What was moved before it.
  returned: when a component failed
  type: list
  elements: str
  sample: [etcd]
"""

import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import STATE, alone
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import (
    ADMIN_CONF,
    KUBELET_CONF,
    kubeadm_state,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_settings import (
    Observed,
    Observer,
    Wanted,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_apply import Applier
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_diff import Step, diff
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import StaticPods

ARGUMENTS = {
    "role": {"type": "str", "required": True, "choices": ["control_plane", "worker"]},
    "config": {"type": "list", "elements": "dict", "required": True},
    "patches": {"type": "dict", "default": {}},
    "patches_folder": {"type": "path", "default": "/etc/kubernetes/patches"},
    "cluster": {"type": "bool", "default": False},
    "kubelet_configuration": {"type": "str"},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 240},
}


def converge(module: AnsibleModule, private: Path) -> tuple[Observed, list[Step]]:
    """Observe, plan, and unless in check mode apply."""
    options = module.params
    wanted = Wanted(
        role=options["role"],
        documents=options["config"],
        patches=options["patches"],
        patches_folder=Path(options["patches_folder"]),
        cluster=options["cluster"],
        kubelet_configuration=options["kubelet_configuration"],
    )

    def deadline() -> Deadline:
        return Deadline(options["timeout"])

    runner = Runner(module.run_command)
    kubeconfig = ADMIN_CONF if wanted.role == "control_plane" else KUBELET_CONF
    api = KubeApi.from_kubeconfig(kubeconfig, runner, server=options["api_server"])
    pods = StaticPods(runner, deadline)
    observed = Observer(module.run_command, api, pods, private).observe(wanted)
    steps = plan(observed)
    if not module.check_mode:
        Applier(runner, api, pods, wanted, observed, private, deadline).apply(steps)
    return observed, steps


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    result: dict[str, Any] = {"changed": False, "actions": [], "postponed": "", "kubelet_configuration": ""}
    try:
        if kubeadm_state(Path("/"))[0] == module.params["role"]:
            deadline = Deadline(module.params["timeout"])
            folder = tempfile.TemporaryDirectory(dir=module.tmpdir, prefix="settings-")
            with alone(deadline, STATE, make=not module.check_mode), folder as private:
                observed, steps = converge(module, Path(private))
            if observed.postponed:
                module.warn(observed.postponed)
            result.update(
                changed=bool(steps),
                actions=[{"target": step.target, "changes": list(map(str, step.changes))} for step in steps],
                diff=diff(steps),
                postponed=observed.postponed,
                kubelet_configuration=observed.kubelet_configuration,
            )
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
