#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan an upgrade of a kubeadm cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_upgrade_info
short_description: Plan an upgrade of a kubeadm cluster
version_added: 0.2.0
description:
  - Says what an upgrade to a version would do to each component and to each host, in which order, and everything that
    forbids it with its reason.
  - The target's own kubeadm is asked which images it brings, and rehearses the upgrade in a dry run. It comes from the
    package repository into a temporary folder, with the repository's signature verified by C(apt), and is never
    installed for a plan. Neither the package sources of the host nor its package lists are touched.
  - C(kubeadm upgrade plan) itself is not run, because it starts a Job in the cluster.
  - What forbids an upgrade does not make the module fail. It is in RV(problems).
options:
  gather:
    description:
      - V(host) looks at the host that the module runs on, once nothing that a run which was cut off has started works
        there any more. V(plan) makes the plan, on a living control plane, of what the API says and of what O(hosts)
        have told.
    type: str
    choices: [host, plan]
    default: plan
  version:
    description:
      - The wanted version of Kubernetes. Needed with O(gather=plan).
    type: str
  hosts:
    description:
      - The hosts of the inventory. A node that is none of them is told of, and a control plane that is none of them
        forbids the upgrade.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name of the host in the inventory.
        type: str
        required: true
      node:
        description: Its name as a node.
        type: str
        required: true
      control_plane:
        description: Whether it is one.
        type: bool
        required: true
      facts:
        description: RV(host) of that host. Leave it out for one that is not part of the run.
        type: dict
      problems:
        description: What else forbids an upgrade of this host, one sentence each.
        type: list
        elements: str
        default: []
  repository_url:
    description:
      - The package repository of the wanted minor, with its folder C(deb).
    type: str
    default: ''
  key_url:
    description:
      - Where its public key is. By default C(Release.key) in O(repository_url).
    type: str
    default: ''
  key_checksum:
    description:
      - The checksum of the key, such as V(sha256:...). Without one the key is trusted as it is received.
    type: str
    default: ''
  access:
    description:
      - What a server wants or needs, as O(kubewright.cluster.check_sources#module:access). It counts for the key;
        C(apt) knows the host's own settings.
    type: dict
    default: {}
  kubeadm:
    description:
      - The path of a C(kubeadm) of the wanted version, where there is one already. Nothing is fetched then.
      - By default the installed one is used if it has the wanted version.
    type: path
  supported_minors:
    description:
      - The minor versions that may be wanted. All, by default.
    type: list
    elements: str
    default: []
  etcd_steps:
    description:
      - The tag of the etcd image that members of a minor go to before the next minor, by minor, such as V(3.6.16-0) for
        C(3.6). It is used where etcd's guide asks for a newer patch than the one that runs.
    type: dict
    default: {}
  renew_certificates:
    description:
      - Whether kubeadm renews certificates on its way, so that one which ends soon does not forbid the upgrade.
    type: bool
    default: true
  accept_not_ready_workers:
    description:
      - Leave out workers that are not ready, instead of refusing the upgrade. They stay at their version.
    type: bool
    default: false
  ignore_preflight_errors:
    description:
      - Names of kubeadm's preflight checks whose failures are let pass.
    type: list
    elements: str
    default: []
  canary:
    description:
      - How many workers go alone first, for the words of the plan.
    type: int
    default: 1
  batch:
    description:
      - How many workers go together afterwards, a number or per cent, for the words of the plan.
    type: str
    default: "1"
  kubeconfig:
    description:
      - The kubeconfig on the host that the API server is asked with.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The address of the API server to ask, in place of the one in O(kubeconfig).
    type: str
  etcdctl:
    description:
      - The path of C(etcdctl) on the host.
    type: path
    default: /usr/local/bin/etcdctl
  timeout:
    description:
      - Seconds in which the target's kubeadm must be there; with O(gather=host), in which an earlier run must be done
        with the host.
    type: int
    default: 300
extends_documentation_fragment:
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
requirements:
  - Root on the host.
  - With O(gather=plan) C(kubectl) and C(etcdctl), and C(apt) where kubeadm is to be fetched.
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.kubeadm_upgrade
  - module: kubewright.cluster.cluster_info
"""

EXAMPLES = r"""
- name: Look at every host
  kubewright.cluster.kubeadm_upgrade_info:
    gather: host
  register: seen

- name: Plan the upgrade
  kubewright.cluster.kubeadm_upgrade_info:
    version: 1.37.1
    repository_url: https://pkgs.k8s.io/core:/stable:/v1.37/deb
    hosts:
      - name: cp1
        node: cp1
        control_plane: true
        facts: "{{ hostvars['cp1'].seen.host }}"
  delegate_to: cp1
  run_once: true
  register: planned

- name: Show it
  ansible.builtin.debug:
    msg: "{{ planned.lines }}"
"""

RETURN = r"""
host:
  description:
    - RV(kubewright.cluster.cluster_info#module:host), and C(upgrade) with the tags of the C(manifests), those that are
      C(lost) to a kubeadm that was killed, the size of etcd's data (C(etcd_mib)), whether its log still holds requests
      of 3.5 (C(old_log)), C(free_mib) by folder, and the C(backups) that kubeadm left.
  returned: with O(gather=host)
  type: dict
version:
  description: The wanted version.
  returned: with O(gather=plan)
  type: str
  sample: 1.37.1
from_version:
  description: The oldest version of an API server.
  returned: with O(gather=plan)
  type: str
  sample: 1.36.3
idle:
  description: Whether there is nothing to do.
  returned: with O(gather=plan)
  type: bool
  sample: false
images:
  description: The images of the wanted version, as the cluster's repositories name them.
  returned: with O(gather=plan)
  type: list
  elements: str
  sample: ["registry.k8s.io/kube-apiserver:v1.37.1"]
components:
  description: Every component with its version before and after; C(node) is empty for an add-on.
  returned: with O(gather=plan)
  type: list
  elements: dict
  sample: [{component: etcd, node: cp1, from: 3.6.8-0, to: 3.7.0-0}]
hosts:
  description:
    - The C(actions) on each node in their order, whether its pods have to leave (C(drain)), and what a run that was cut
      off has left there (C(half_done)).
  returned: with O(gather=plan)
  type: list
  elements: dict
  sample: [{host: cp1, node: cp1, control_plane: true, actions: [kubeadm upgrade apply], drain: true, half_done: []}]
etcd:
  description:
    - The image tag that etcd will have (C(to)), the one that members go to first (C(step)), and whether a pinned tag is
      taken out of ClusterConfiguration (C(unpin)).
  returned: with O(gather=plan)
  type: dict
  sample: {to: 3.7.0-0, step: 3.6.16-0, unpin: false}
turns:
  description: The hosts that have something to do, in their order, by what it is.
  returned: with O(gather=plan)
  type: dict
  sample: {etcd: [cp1], control_plane: [cp1], kubelet: [cp1], workers: [worker1]}
apply:
  description: The host that runs C(kubeadm upgrade apply), empty where the cluster has been told already.
  returned: with O(gather=plan)
  type: str
  sample: cp1
addons:
  description: The host that finishes kube-proxy and CoreDNS where the last control plane was cut off before them.
  returned: with O(gather=plan)
  type: str
  sample: ""
left_out:
  description: The nodes that stay behind, with O(accept_not_ready_workers).
  returned: with O(gather=plan)
  type: list
  elements: str
  sample: []
problems:
  description: What forbids the upgrade, as M(kubewright.cluster.cluster_info) gives reasons.
  returned: with O(gather=plan)
  type: list
  elements: dict
  sample:
    - what: No minor version is skipped
      where: kube_cluster_version
      why: it is 1.37.1, and the oldest API server runs 1.35.8
      remedy: Upgrade to the newest patch of 1.36 first
notices:
  description: What does not forbid it and should be known.
  returned: with O(gather=plan)
  type: list
  elements: dict
  sample: []
lines:
  description: The whole plan for people, a line a step.
  returned: with O(gather=plan)
  type: list
  elements: str
  sample: ["1. all hosts: fetch the packages of 1.37.1, pull the images"]
"""

import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _half_done as half_done
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_info import observe_cluster
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import passwords
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import STATE, alone
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import etcd_access, observe_host
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_upgrade_plan import (
    PACKAGES,
    Host,
    Rules,
    Target,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._target_kubeadm import (
    Question,
    Repository,
    ask,
    with_etcd,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._upgrade_observe import (
    observe_cluster_upgrade,
    observe_host_upgrade,
)

HOST = {
    "name": {"type": "str", "required": True},
    "node": {"type": "str", "required": True},
    "control_plane": {"type": "bool", "required": True},
    "facts": {"type": "dict"},
    "problems": {"type": "list", "elements": "str", "default": []},
}
ARGUMENTS = {
    "gather": {"type": "str", "choices": ["host", "plan"], "default": "plan"},
    "version": {"type": "str"},
    "hosts": {"type": "list", "elements": "dict", "options": HOST, "default": []},
    "repository_url": {"type": "str", "default": ""},
    "key_url": {"type": "str", "default": ""},
    "key_checksum": {"type": "str", "default": ""},
    "access": {"type": "dict", "default": {}, "no_log": True},
    "kubeadm": {"type": "path"},
    "supported_minors": {"type": "list", "elements": "str", "default": []},
    "etcd_steps": {"type": "dict", "default": {}},
    "renew_certificates": {"type": "bool", "default": True},
    "accept_not_ready_workers": {"type": "bool", "default": False},
    "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
    "canary": {"type": "int", "default": 1},
    "batch": {"type": "str", "default": "1"},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "etcdctl": {"type": "path", "default": "/usr/local/bin/etcdctl"},
    "timeout": {"type": "int", "default": 300},
}


def look_at_host(params: dict[str, Any], runner: Runner) -> dict[str, Any]:
    """Return what this host says of itself."""
    deadline = Deadline(params["timeout"])
    # What a controller that was killed has started goes on, and a host in the middle of it would look broken.
    with alone(deadline, STATE, make=False):
        wait_for(
            lambda: not half_done.running(),
            deadline,
            what="the kubeadm that an earlier run started on this host",
        )
        now = datetime.now(timezone.utc)
        seen = observe_host(runner, now, etcdctl=params["etcdctl"], packages=PACKAGES)
        return {"host": {**seen, "upgrade": observe_host_upgrade()}}


def make_plan(module: AnsibleModule, private: Path) -> dict[str, Any]:
    """Look at the cluster, ask the target's kubeadm, and plan."""
    params, runner = module.params, Runner(module.run_command)

    def connect() -> KubeApi:
        return KubeApi.from_kubeconfig(params["kubeconfig"], runner, server=params["api_server"])

    cluster = observe_cluster(
        connect,
        runner,
        datetime.now(timezone.utc),
        access=etcd_access(Path("/")),
        etcdctl=params["etcdctl"],
    )
    images: list[str] = []
    target = Target(params["version"])
    if cluster["answers"]:
        cluster["upgrade"], text = observe_cluster_upgrade(connect())
        question = Question(
            params["version"],
            Repository(params["repository_url"], params["key_url"], params["key_checksum"]),
            params["kubeadm"],
            params["access"],
            params["ignore_preflight_errors"],
            params["timeout"],
        )
        told = cluster["kubeadm_version"] == params["version"]
        target, images = ask(module.run_command, question, text, private, rehearse=not told)
    rules = Rules(
        params["supported_minors"],
        {str(key): str(tag) for key, tag in params["etcd_steps"].items()},
        params["renew_certificates"],
        params["accept_not_ready_workers"],
        params["canary"],
        params["batch"],
    )
    made = plan(target, cluster, [Host(**host) for host in params["hosts"]], rules)
    return {**made.returned(), "images": with_etcd(images, made.etcd.to)}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, required_if=[("gather", "plan", ["version"])]
    )
    module.no_log_values = passwords(module.params["access"])
    try:
        if module.params["gather"] == "host":
            result = look_at_host(module.params, Runner(module.run_command))
        else:
            with tempfile.TemporaryDirectory(dir=module.tmpdir, prefix="upgrade-") as folder:
                result = make_plan(module, Path(folder))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
