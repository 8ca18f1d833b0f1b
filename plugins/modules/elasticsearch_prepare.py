#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a namespace for the manifests of Elasticsearch."""

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch_prepare
short_description: Prepare a namespace for the manifests of Elasticsearch
version_added: 0.2.0
description:
  - Does what has to be done before the StatefulSets of Elasticsearch are applied, and says what their settings depend
    on.
  - Volumes that are smaller than wanted grow. Kubernetes does not let the size in the template of a StatefulSet be
    changed, so the StatefulSet is removed without its pods, which run on, and is to be applied again at once. It
    takes the pods over.
  - RV(bootstrap) says whether the nodes still have to form their cluster. Only then may their settings have
    C(cluster.initial_master_nodes). A node that comes back with an empty volume could found a second cluster with it.
notes:
  - That a volume has grown is not waited for. Most storage grows while it is used.
  - Whether the storage class allows it is checked by the role P(kubewright.cluster.kube_logging#role), as are the
    wishes to have less of something.
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
    details:
      - The host must have C(kubectl).
options:
  namespace:
    description: The namespace of the logging.
    type: str
    required: true
  masters:
    description: The StatefulSets whose nodes can be elected master. Each has its settings in a ConfigMap of its name.
    type: list
    elements: str
    required: true
  volumes:
    description: The size of the volume of each node, by StatefulSet, for those whose nodes have one.
    type: dict
    required: true
  kubeconfig:
    description: The kubeconfig on the host, with the rights over StatefulSets and volume claims.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example V(https://192.0.2.11:6443).
    type: str
  timeout:
    description: The time, in seconds, for the API server to take everything.
    type: int
    default: 120
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubewright.cluster.elasticsearch_roll
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Let the volumes grow, and see whether Elasticsearch is formed
  kubewright.cluster.elasticsearch_prepare:
    namespace: logging
    masters: [elasticsearch]
    volumes:
      elasticsearch: 100Gi
  register: prepared
"""

RETURN = r"""
bootstrap:
  description: Whether the nodes still have to form their cluster.
  returned: success
  type: bool
  sample: false
grown:
  description: The volume claims that grew, or would.
  returned: success
  type: list
  elements: str
  sample: [data-elasticsearch-0]
replaced:
  description: The StatefulSets that were removed without their pods, or would be, and are to be applied again.
  returned: success
  type: list
  elements: str
  sample: [elasticsearch]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch_prepare import (
    apply,
    diff,
    observe,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "namespace": {"type": "str", "required": True},
    "masters": {"type": "list", "elements": "str", "required": True},
    "volumes": {"type": "dict", "required": True},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 120},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    namespace = options["namespace"]
    try:
        api = KubeApi.from_kubeconfig(
            options["kubeconfig"], Runner(module.run_command), server=options["api_server"]
        )
        planned = plan(options["masters"], options["volumes"], observe(api, namespace))
        if not module.check_mode:
            apply(api, namespace, planned, Deadline(options["timeout"]))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(
        changed=bool(planned.grow or planned.replace),
        bootstrap=planned.bootstrap,
        grown=list(planned.grow),
        replaced=list(planned.replace),
        diff=diff(planned),
    )


if __name__ == "__main__":
    main()
