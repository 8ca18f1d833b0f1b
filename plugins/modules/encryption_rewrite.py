#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: encryption_rewrite
short_description: Encrypt what etcd holds with the key that is in use
version_added: 0.1.0
description:
  - Reads from etcd itself what each Secret, and each ConfigMap, is encrypted with, and lets the API server write
    again those that are not encrypted as they should be.
  - Nothing is changed in the objects. One that somebody else changes at the same moment is read again.
  - The module ends well only when etcd shows that every value is as wanted.
  - Every API server must write with the wanted key before, see M(kubewright.cluster.encryption_config).
  - Where in etcd the values are is read from the manifest of this host's API server, C(--etcd-prefix). The module
    fails when the API server has objects that etcd does not show there, or when C(--etcd-servers-overrides) is set.
options:
  goals:
    description:
      - The name of the key by resource, V(identity) for values that are not to be encrypted, or an empty text to
        only count. Resources are V(secrets) and V(configmaps).
    type: dict
    required: true
  api_server:
    description:
      - The address of the API server that lists and writes, for example V(https://10.0.0.11:6443).
    type: str
    required: true
  timeout:
    description:
      - How many seconds conflicts and an API server that does not answer are waited for.
    type: int
    default: 600
  etcdctl:
    description:
      - The path of C(etcdctl) on the host.
    type: path
    default: /usr/local/bin/etcdctl
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
    details:
      - Counts what would be written again.
  diff_mode:
    support: none
    details:
      - The objects do not change.
  idempotent:
    support: full
requirements:
  - Root on a control plane, with C(kubectl) and C(etcdctl).
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.encryption_config
"""

EXAMPLES = r"""
- name: Count what Secrets are encrypted with
  kubewright.cluster.encryption_rewrite:
    goals: {secrets: ""}
    api_server: https://10.0.0.11:6443
  register: seen

- name: Encrypt every Secret with the new key
  kubewright.cluster.encryption_rewrite:
    goals: {secrets: key-20261121-080000}
    api_server: https://10.0.0.11:6443
"""

RETURN = r"""
before:
  description: The number of values by resource and by what they were encrypted with.
  returned: success
  type: dict
  sample: {secrets: {identity: 12, key-20260301-080000: 30}}
after:
  description: The same, afterwards. In check mode, as before.
  returned: success
  type: dict
  sample: {secrets: {key-20261121-080000: 42}}
written:
  description: How many objects were written again; in check mode, how many would be.
  returned: success
  type: int
  sample: 42
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption import RESOURCES
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption_rewrite import (
    count,
    observe_all,
    settle,
    stale,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import EtcdAccess, etcd_access
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import ADMIN_KUBECONFIG
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "goals": {"type": "dict", "required": True},
    "api_server": {"type": "str", "required": True},
    "timeout": {"type": "int", "default": 600},
    "etcdctl": {"type": "path", "default": "/usr/local/bin/etcdctl"},
}


def find(params: dict[str, object]) -> EtcdAccess:
    """Return how this host's API server reaches the etcd that holds everything."""
    unknown = sorted(set(params["goals"]) - set(RESOURCES))  # type: ignore[call-overload]
    if unknown:
        raise KubewrightError(f"Only {' and '.join(RESOURCES)} can be written again", why=", ".join(unknown))
    access = etcd_access(Path("/"))
    if access is None:
        raise KubewrightError(
            "This host has no API server, so it holds no client certificate of etcd",
            remedy="Run this on a control plane",
        )
    if access.overrides:
        raise KubewrightError(
            "Values that are in several etcd clusters cannot be written again",
            where="--etcd-servers-overrides of this host's API server",
            why=access.overrides,
            remedy="Rotate the key by hand: kubernetes.io/docs/tasks/administer-cluster/encrypt-data",
        )
    return access


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    goals: dict[str, str] = {resource: goal or "" for resource, goal in params["goals"].items()}
    runner = Runner(module.run_command)
    try:
        access = find(params)
        etcd = EtcdCtl(runner, access.endpoints, access.cacert, access.cert, access.key, params["etcdctl"])
        api = KubeApi.from_kubeconfig(ADMIN_KUBECONFIG, runner, server=params["api_server"])
        deadline = Deadline(params["timeout"])
        values = observe_all(etcd, api, list(goals), access.prefix, deadline)
        before, written = count(values), len(stale(values, goals))
        if written and not module.check_mode:
            values, written = settle(etcd, api, values, goals, access.prefix, deadline)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=written > 0, before=before, after=count(values), written=written)


if __name__ == "__main__":
    main()
