#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether a cluster has the logging of this collection, and what keeps a wanted one from being."""

from __future__ import annotations

DOCUMENTATION = r"""
module: logging_info
short_description: Tell whether a cluster has its logging, and what keeps a wanted one from being
version_added: 0.2.0
description:
  - Looks for the logging that the role P(kubewright.cluster.kube_logging#role) installs.
  - With O(wanted) it judges the variables of that role, and holds them against the cluster - the namespace and what
    others have put into it, storage classes, ingress classes, the memory that the nodes have left, and what an
    Elasticsearch that is there cannot become.
  - What is wrong does not make the module fail. It returns RV(problems).
options:
  kubeconfig:
    description: The kubeconfig on the host, with the rights of a cluster administrator.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example V(https://192.0.2.11:6443).
    type: str
  timeout:
    description: How many seconds a single request to the API server may take.
    type: int
    default: 15
  namespace:
    description:
      - The namespace to look into without O(wanted). Where Elasticsearch of this collection is in another one, it is
        that one.
    type: str
    default: logging
  wanted:
    description:
      - The variables of the role P(kubewright.cluster.kube_logging#role) by their names without C(kube_logging_). All
        that the role documents for values that can be out of range must be there.
      - Without it nothing is judged.
    type: dict
extends_documentation_fragment:
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
requirements:
  - C(kubectl) on the host.
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.log_canary
"""

EXAMPLES = r"""
- name: Look for the logging of the cluster
  kubewright.cluster.logging_info:
  register: logging

- name: Say where it is
  ansible.builtin.debug:
    msg: "{{ logging.profile }} in {{ logging.namespace }}"
  when: logging.installed
"""

RETURN = r"""
installed:
  description: Whether Elasticsearch of this collection is there.
  returned: success
  type: bool
  sample: true
namespace:
  description:
    - The namespace with Elasticsearch of this collection, empty where there is none.
  returned: success
  type: str
  sample: logging
profile:
  description: What is installed, V(single), V(three) or V(tiers); empty where nothing is.
  returned: success
  type: str
  sample: three
storage_class:
  description: The storage class that volumes of O(wanted) get, empty where there is none.
  returned: with O(wanted)
  type: str
  sample: kubewright-local
problems:
  description: What keeps the wanted logging from being, as M(kubewright.cluster.cluster_info) gives reasons.
  returned: with O(wanted)
  type: list
  elements: dict
  sample:
    - what: kube_logging_storage_class is fast
      where: ""
      why: there is no such storage class. The cluster has none
      remedy: Name one that is there, or set kube_logging_local_storage to true for folders of the nodes
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._logging_info import (
    class_in_effect,
    judge,
    observe,
    profile_of,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 15},
    "namespace": {"type": "str", "default": "logging"},
    "wanted": {"type": "dict"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    wanted = options["wanted"]
    try:
        api = KubeApi.from_kubeconfig(
            options["kubeconfig"],
            Runner(module.run_command),
            server=options["api_server"],
            timeout=options["timeout"],
        )
        result = look(api, options["namespace"], wanted)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, **result)


def look(api: KubeApi, namespace: str, wanted: dict[str, Any] | None) -> dict[str, Any]:
    """Return the keys of the result."""
    observed = observe(api, wanted["namespace"] if wanted else namespace, everything=wanted is not None)
    result: dict[str, Any] = {
        "installed": bool(observed.sets),
        "namespace": observed.home,
        "profile": profile_of(observed),
    }
    if wanted is not None:
        result["storage_class"] = class_in_effect(wanted, observed)
        result["problems"] = judge(wanted, observed)
    return result


if __name__ == "__main__":
    main()
