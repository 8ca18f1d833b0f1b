#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_join_secrets
short_description: Make the short-lived secrets that hosts join a cluster with
version_added: 0.1.0
description:
  - Runs on a living control plane. Makes a bootstrap token and, for control planes, stores the shared
    certificates in the cluster, encrypted by a new key.
  - Use C(no_log) on the task and on every task that uses the result.
options:
  control_plane:
    description:
      - Whether control planes are to join, which need the shared certificates too.
      - kubeadm removes the stored certificates after two hours.
    type: bool
    default: false
  ttl:
    description:
      - How long the token lives, as a duration of Go, for example V(30m).
    type: str
    default: 30m
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
    details:
      - In check mode nothing is made, and the values are empty.
  diff_mode:
    support: none
    details:
      - Secrets are not shown.
  idempotent:
    support: none
    details:
      - Every run makes a new token.
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.kubeadm_node
"""

EXAMPLES = r"""
- name: Make what workers join with
  kubewright.cluster.kubeadm_join_secrets:
  delegate_to: cp2
  run_once: true
  no_log: true
  register: join

- name: Make what control planes join with
  kubewright.cluster.kubeadm_join_secrets:
    control_plane: true
    ttl: 10m
  delegate_to: cp2
  no_log: true
  register: join
"""

RETURN = r"""
token:
  description: The bootstrap token. Secret.
  returned: success
  type: str
  sample: abcdef.0123456789abcdef
ca_hash:
  description: The hash of the cluster's CA key, which joining hosts pin.
  returned: success
  type: str
  sample: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
certificate_key:
  description: The key of the stored certificates; empty without O(control_plane). Secret.
  returned: success
  type: str
  sample: ""
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import ADMIN_KUBECONFIG, Kubeadm
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "control_plane": {"type": "bool", "default": False},
            "ttl": {"type": "str", "default": "30m"},
        },
        supports_check_mode=True,
    )
    result = {"token": "", "ca_hash": "", "certificate_key": ""}
    runner = Runner(module.run_command)
    try:
        if not module.check_mode:
            kubeadm = Kubeadm(runner)
            result["token"], result["ca_hash"] = kubeadm.create_token(module.params["ttl"])
            if module.params["control_plane"]:
                argv = ["kubectl", "--kubeconfig", ADMIN_KUBECONFIG, "get", "configmap", "kubeadm-config"]
                argv += ["--namespace", "kube-system", "--output", "jsonpath={.data.ClusterConfiguration}"]
                configuration = runner.run(argv, timeout=60, asks=True).stdout
                result["certificate_key"] = kubeadm.upload_certificates(configuration)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
