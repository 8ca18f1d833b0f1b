#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Silence alerts for a while, in an Alertmanager of the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_silence
short_description: Silence alerts for a while, in an Alertmanager of the cluster
version_added: 0.2.0
description:
  - Makes silences in an Alertmanager that runs in the cluster, and lets them end. It is reached through the API
    server, so that the host needs no way to it.
  - Playbooks that take hosts out of service silence so what they cause, for as long as they cause it.
  - A silence ends by itself after O(seconds). A run that is cut off leaves nothing silent for longer, and the next one
    goes on with the same silence.
notes:
  - Where there is no such Service, nothing is done. Where it does not answer, the module warns and goes on, because
    whoever takes a host out of service does not depend on it.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: A silence says what it is in the task.
  idempotent:
    support: partial
    details:
      - With O(state=present) a silence that is there is made to last longer each time.
  platform:
    platforms: linux
    support: full
    details: The host must have C(kubectl).
options:
  name:
    description: What it is for. Silences are found again by it.
    type: str
    required: true
  silences:
    description:
      - The silences. Each names labels with regular expressions, all of which an alert has to match as a whole.
    type: list
    elements: dict
    required: true
  state:
    description:
      - V(present) makes them, or lets them last for O(seconds) from now on.
      - V(absent) lets them end after O(linger) seconds, in which alerts may resolve.
    type: str
    choices: [present, absent]
    default: present
  seconds:
    description: How long they last.
    type: int
    default: 3600
  linger:
    description: How much longer they last when they are to end.
    type: int
    default: 300
  namespace:
    description: The namespace of Alertmanager.
    type: str
    default: monitoring
  service:
    description: Its Service with the port.
    type: str
    default: alertmanager:9093
  kubeconfig:
    description: The kubeconfig on the host, with the right to reach the Service through the API server.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig). Its certificate is verified against the
        authority in O(kubeconfig).
    type: str
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Say nothing of a host that is being worked on
  kubewright.cluster.alert_silence:
    name: turn of worker1
    silences:
      - node: worker1
        alertname: TargetDown|KubeNodeNotReady
"""

RETURN = r"""
reached:
  description: Whether an Alertmanager answered.
  returned: success
  type: bool
  sample: true
"""

import os
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._alert_silence import Alertmanager, wanted
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "silences": {"type": "list", "elements": "dict", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "seconds": {"type": "int", "default": 3600},
    "linger": {"type": "int", "default": 300},
    "namespace": {"type": "str", "default": "monitoring"},
    "service": {"type": "str", "default": "alertmanager:9093"},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
}
TIMEOUT = 10.0


def work(params: dict[str, Any], api: KubeApi, now: datetime, *, act: bool) -> dict[str, Any]:
    """Make them, or let them end."""
    silences = wanted(params["name"], params["silences"])
    alertmanager = Alertmanager(api, params["namespace"], params["service"], now)
    known = alertmanager.find(silences)
    if known is None:
        return {"changed": False, "reached": False}
    if params["state"] == "present":
        if act:
            alertmanager.begin(silences, known, params["seconds"])
        return {"changed": True, "reached": True}
    changed = bool(known) if not act else alertmanager.end(known, params["linger"]) > 0
    return {"changed": changed, "reached": True}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        if not os.path.exists(params["kubeconfig"]):
            module.exit_json(changed=False, reached=False)
        api = KubeApi.from_kubeconfig(
            params["kubeconfig"], Runner(module.run_command), server=params["api_server"], timeout=TIMEOUT
        )
        result = work(params, api, datetime.now(timezone.utc), act=not module.check_mode)
    except KubewrightError as error:
        module.warn(f"Alerts are not silenced. {error}")
        result = {"changed": False, "reached": False}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
