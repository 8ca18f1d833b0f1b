#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs of container images once, with files, in a pod of the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_command
short_description: Run programs of container images once, with files, in a pod of the cluster
version_added: 0.2.0
description:
  - Runs a pod whose containers each run one program to its end, and returns exit codes and the end of what they said.
  - The role P(kubewright.cluster.kube_monitoring#role) lets C(promtool) and C(amtool) judge rules and configuration so,
    with the very version that will read them, before anything is applied.
notes:
  - The files are in a Secret that belongs to the Job, and the Job is deleted at the end. A run that is cut off leaves
    nothing behind for longer than O(timeout) and a minute.
  - Neither the files nor what they hold are returned or logged. What the programs say is returned.
attributes:
  check_mode:
    support: none
    details:
      - Nothing is run, and the task is skipped.
  diff_mode:
    support: none
    details: Nothing is changed for good.
  idempotent:
    support: full
    details: It leaves nothing behind, so that it never counts as a change.
  platform:
    platforms: linux
    support: full
    details: The host must have C(kubectl).
options:
  namespace:
    description: The namespace, which has to be there.
    type: str
    required: true
  name:
    description: What the name of the Job begins with.
    type: str
    required: true
  programs:
    description: The containers, which run beside each other.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the container.
        type: str
        required: true
      image:
        description: Its image.
        type: str
        required: true
      command:
        description: The program and its words. The files are in C(/files).
        type: list
        elements: str
        required: true
  files:
    description: The files, by their names.
    type: dict
    default: {}
  kubeconfig:
    description: The kubeconfig on the host, with the rights to make Jobs and Secrets and to read pods and their logs.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig). Its certificate is verified against the
        authority in O(kubeconfig).
    type: str
  timeout:
    description: The time, in seconds, in which all programs must have ended, their images pulled.
    type: int
    default: 300
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: See whether the rules are rules
  kubewright.cluster.pod_command:
    namespace: monitoring
    name: check
    programs:
      - name: promtool
        image: quay.io/prometheus/prometheus:v3.14.0
        command: [promtool, check, rules, /files/rules.yaml]
    files:
      rules.yaml: "{{ rules }}"
"""

RETURN = r"""
programs:
  description: How the programs ended, in their order.
  returned: when they ended
  type: list
  elements: dict
  contains:
    name:
      description: The name of the container.
      returned: always
      type: str
      sample: promtool
    rc:
      description: Its exit code.
      returned: always
      type: int
      sample: 0
    log:
      description: The last 40 lines that it said.
      returned: always
      type: str
      sample: "Checking /files/rules.yaml\n  SUCCESS: 3 rules found"
  sample: []
"""

import secrets
from dataclasses import asdict

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._pod_command import Program, run
from ansible_collections.kubewright.cluster.plugins.module_utils._quiet_module import QuietModule
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

PROGRAM = {
    "name": {"type": "str", "required": True},
    "image": {"type": "str", "required": True},
    "command": {"type": "list", "elements": "str", "required": True},
}
ARGUMENTS = {
    "namespace": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "programs": {"type": "list", "elements": "dict", "required": True, "options": PROGRAM},
    "files": {"type": "dict", "default": {}},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 300},
}


def main() -> None:
    # What keeps the files, which may hold secrets, out of the output is `invocation`.
    module = QuietModule(argument_spec=ARGUMENTS, supports_check_mode=False)
    options = module.params
    invocation = {"module_args": {**options, "files": sorted(options["files"])}}
    programs = [Program(one["name"], one["image"], tuple(one["command"])) for one in options["programs"]]
    name = f"{options['name']}-{secrets.token_hex(4)}"
    try:
        api = KubeApi.from_kubeconfig(
            options["kubeconfig"], Runner(module.run_command), server=options["api_server"], timeout=35.0
        )
        files = {key: str(text) for key, text in options["files"].items()}
        ended = run(api, name, options["namespace"], programs, files, Deadline(options["timeout"]))
    except KubewrightError as error:
        module.fail_json(msg=str(error), invocation=invocation, **error.facts)
    result = {"changed": False, "programs": [asdict(one) for one in ended], "invocation": invocation}
    failed = [one for one in ended if one.rc != 0]
    if failed:
        said = " ".join(f"{one.name} ended with exit code {one.rc}: {one.log}" for one in failed)
        module.fail_json(msg=said, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
