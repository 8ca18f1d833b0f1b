#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply Kubernetes objects from a control plane."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_apply
short_description: Apply Kubernetes objects from a control plane
version_added: 0.1.0
description:
  - Applies a list of Kubernetes objects with server-side apply, in one call.
  - It exists because M(kubernetes.core.k8s) needs the Python client of Kubernetes where it runs. A control
    plane, from which a cluster is set up while nothing else reaches its API, has no such client. This module
    needs nothing but Python's standard library and C(kubectl), which reads the kubeconfig.
  - For everything else use M(kubernetes.core.k8s), which can delete, patch, wait and read templates.
  - Namespaces and custom resource definitions are applied first, all other objects in the order of
    O(definitions). Before the other objects, and at the end, the module waits until each custom resource
    definition of the list is served.
  - Fields that another manager owns are taken over, as with C(kubectl apply --server-side --force-conflicts).
    Fields that were applied by the same O(field_manager) before and are not in the definition any more are
    removed.
notes:
  - An object is changed when it differs after the request from what it was before, apart from its status and
    what the server counts. What a controller changes at that very moment counts, too.
  - No definition is written to the host's system log or returned among the arguments of the module. In the
    diff, and in errors, what a Secret holds is not shown.
  - Errors that may pass, such as an API server that restarts or a webhook that does not answer, are tried
    again within O(timeout).
attributes:
  check_mode:
    support: full
    details:
      - The API server makes a dry run.
      - An object in a namespace, or of a kind, that the same list creates counts as one to be created,
        without the server being asked.
      - Where O(kubeconfig) does not exist yet, all objects count as to be created, with a warning.
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
  definitions:
    description:
      - The objects. Each needs C(apiVersion), C(kind) and C(metadata.name).
      - An object of a namespaced kind without C(metadata.namespace) goes to the namespace V(default).
    type: list
    elements: dict
    required: true
  kubeconfig:
    description:
      - The kubeconfig on the host, with the rights to apply the objects.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example
        V(https://192.0.2.11:6443). Its certificate is verified against the authority in O(kubeconfig).
    type: str
  field_manager:
    description:
      - The name under which the server remembers who applied which field.
    type: str
    default: kubewright
  timeout:
    description:
      - The time, in seconds, in which all objects must be applied.
    type: int
    default: 120
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubernetes.core.k8s
  - name: Server-side apply
    description: How field managers and conflicts work.
    link: https://kubernetes.io/docs/reference/using-api/server-side-apply/
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Give operators a namespace and a quota
  kubewright.cluster.kube_apply:
    definitions:
      - apiVersion: v1
        kind: Namespace
        metadata:
          name: operators
      - apiVersion: v1
        kind: ResourceQuota
        metadata:
          name: pods
          namespace: operators
        spec:
          hard:
            pods: "20"

- name: Apply the manifest of the network from a living control plane
  kubewright.cluster.kube_apply:
    definitions: "{{ lookup('ansible.builtin.template', 'flannel.yaml.j2') | from_yaml_all | list }}"
    timeout: 180
  run_once: true
"""

RETURN = r"""
objects:
  description:
    - The objects in the order in which they were applied. The namespace of an object that has none is empty.
    - RV(objects[].action) is V(created), V(changed) or V(unchanged); in check mode it is what would happen.
    - After a failure these are the objects that were applied before it.
  returned: success, and when the API server refuses an object
  type: list
  elements: dict
  contains:
    kind:
      description: The kind of the object.
      returned: always
      type: str
      sample: Namespace
    namespace:
      description: The namespace of the object.
      returned: always
      type: str
      sample: kube-system
    name:
      description: The name of the object.
      returned: always
      type: str
      sample: operators
    action:
      description: What was done.
      returned: always
      type: str
      sample: created
  sample: [{kind: Namespace, namespace: "", name: operators, action: created}]
"""

import os

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._manifests import (
    Applier,
    diff,
    foretell,
    parse_definitions,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._quiet_module import QuietModule
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "definitions": {"type": "list", "elements": "dict", "required": True},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "field_manager": {"type": "str", "default": "kubewright"},
    "timeout": {"type": "int", "default": 120},
}

# Seconds. The server waits for an admission webhook up to 30, and then says which one it was.
REQUEST_TIMEOUT = 35.0


def main() -> None:
    # What keeps the arguments, which may hold secrets, out of the output is `invocation`.
    module = QuietModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    invocation = {"module_args": {**options, "definitions": f"{len(options['definitions'])} objects"}}
    kubeconfig = options["kubeconfig"]
    try:
        definitions = parse_definitions(options["definitions"])
        if module.check_mode and not os.path.exists(kubeconfig):
            module.warn(f"There is no {kubeconfig} yet: all objects count as objects that would be created.")
            outcomes = foretell(definitions)
        else:
            api = KubeApi.from_kubeconfig(
                kubeconfig, Runner(module.run_command), server=options["api_server"], timeout=REQUEST_TIMEOUT
            )
            applier = Applier(
                api,
                Deadline(options["timeout"]),
                field_manager=options["field_manager"],
                dry_run=module.check_mode,
            )
            outcomes = applier.apply(definitions)
    except KubewrightError as error:
        module.fail_json(msg=str(error), invocation=invocation, **error.facts)
    objects = [outcome.summary() for outcome in outcomes]
    module.exit_json(
        changed=any(entry["action"] != "unchanged" for entry in objects),
        objects=objects,
        diff=diff(outcomes),
        invocation=invocation,
    )


if __name__ == "__main__":
    main()
