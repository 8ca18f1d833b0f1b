#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: encryption_config
short_description: Manage the keys that a control plane encrypts Secrets with
version_added: 0.1.0
description:
  - Looks at the C(EncryptionConfiguration) of a control plane, and brings it to a layout, the order of its keys.
  - Results and diffs show names, order and fingerprints of keys. The keys themselves are returned only with
    O(reveal).
  - A key that the file has is lost only when O(drop) names it, so that a run which does not know a key cannot
    destroy it.
  - The file is written under a temporary name and renamed, and belongs to root with the mode 0600, in a folder
    with the mode 0700.
notes:
  - Every control plane needs the same file before one of its API servers uses it.
options:
  path:
    description:
      - The file on the host.
    type: path
    default: /etc/kubernetes/kubewright/encryption.yaml
  layout:
    description:
      - The names of the keys for each resource, in their order, with V(identity) for values that are not
        encrypted. The first one writes, all of them read.
      - Resources are V(secrets) and V(configmaps). Every list needs V(identity).
      - Without this option the file is only looked at.
    type: dict
  keys:
    description:
      - Keys in base64 by name, for a host that does not have them all.
    type: dict
    default: {}
  generate:
    description:
      - The name of a key in O(layout) that is made on this host if neither the file nor O(keys) has it.
    type: str
    default: ""
  drop:
    description:
      - Names of keys that may be removed.
    type: list
    elements: str
    default: []
  replace:
    description:
      - Whether a file that is there is brought to O(layout). With V(false) only a missing one is made.
    type: bool
    default: true
  reveal:
    description:
      - Return the keys. Use C(no_log) on the task and on every task that uses the result.
    type: bool
    default: false
  api_server:
    description:
      - The address of this host's own API server, for example V(https://10.0.0.11:6443).
      - With it, the module waits until this API server has loaded the file.
    type: str
  timeout:
    description:
      - How many seconds to wait for O(api_server). An API server looks at its file once a minute.
    type: int
    default: 180
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
    details:
      - A key that would be made has no fingerprint.
  diff_mode:
    support: full
    details:
      - Shows names, order and fingerprints.
  idempotent:
    support: full
requirements:
  - Root on the host.
  - For O(api_server), C(kubectl) on the host.
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.encryption_rewrite
  - plugin: kubewright.cluster.encryption_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at the keys of this control plane
  kubewright.cluster.encryption_config:
  register: seen

- name: Make the first key
  kubewright.cluster.encryption_config:
    layout: {secrets: [key-20261121-080000, identity]}
    generate: key-20261121-080000
    replace: false

- name: Let this API server write with the new key, and wait until it does
  kubewright.cluster.encryption_config:
    layout: {secrets: [key-20261121-080000, key-20260301-080000, identity]}
    api_server: https://10.0.0.11:6443
"""

RETURN = r"""
present:
  description: Whether the file is there.
  returned: success
  type: bool
  sample: true
layout:
  description: The layout of the file; in check mode as it would be.
  returned: success
  type: dict
  sample: {secrets: [key-20261121-080000, identity]}
fingerprints:
  description: The fingerprints of the keys by name.
  returned: success
  type: dict
  sample:
    key-20261121-080000: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
sha256:
  description: The hash of the file, empty without one. An API server reports this hash of the file that it uses.
  returned: success
  type: str
  sample: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
time:
  description: The time on the host, in UTC, as names of keys carry it.
  returned: success
  type: str
  sample: 20261121-080000
used:
  description: Whether the manifest of this host's API server names the file.
  returned: success
  type: bool
  sample: true
reloads:
  description: Whether the API server is told to reload the file.
  returned: success
  type: bool
  sample: true
serves:
  description: Whether the host has the manifest of an API server.
  returned: success
  type: bool
  sample: true
secrets:
  description: The keys in base64 by name. Secret.
  returned: success and O(reveal)
  type: dict
  sample: {}
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _host_files
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption import shown
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption_file import (
    EncryptionFile,
    describe,
    wait_until_loaded,
    wanted,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import ADMIN_KUBECONFIG
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "path": {"type": "path", "default": "/etc/kubernetes/kubewright/encryption.yaml"},
    "layout": {"type": "dict"},
    "keys": {"type": "dict", "default": {}, "no_log": True},
    # The names of keys are no secrets.
    "generate": {"type": "str", "default": "", "no_log": False},
    "drop": {"type": "list", "elements": "str", "default": []},
    "replace": {"type": "bool", "default": True},
    "reveal": {"type": "bool", "default": False},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 180},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params, act = module.params, not module.check_mode
    file = EncryptionFile(Path(params["path"]))
    try:
        with file.locked(make_folder=act and bool(params["layout"])):
            before = file.read()
            after = wanted(before, params, params["path"])
            planned = file.plan(after)
            if act:
                _host_files.apply(planned, os.replace)
        if params["api_server"] and act:
            runner = Runner(module.run_command)
            api = KubeApi.from_kubeconfig(ADMIN_KUBECONFIG, runner, server=params["api_server"])
            wait_until_loaded(api, file, Deadline(params["timeout"]))
        result = describe(file, after, Path("/"))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    if params["reveal"] and after:
        result["secrets"] = after.secrets
    difference = {"before": shown(before), "after": shown(after)}
    module.exit_json(changed=bool(planned.changed_paths), diff=difference, **result)


if __name__ == "__main__":
    main()
