#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set Elasticsearch up for the logging."""

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch_settings
short_description: Set Elasticsearch up for logging - index template, retention, replicas
version_added: 0.2.0
description:
  - Waits until the Elasticsearch of a logging namespace is a cluster, compares what it has with what is wanted, and
    sends what differs.
  - The index template C(logstash) for C(logstash-*) has one shard and no guesses at dates and numbers. Labels of pods
    are one field of the type C(flattened). A field too many, or a value of another kind, is stored and not
    searchable; the line is never refused for it.
  - The lifecycle policy C(logstash-retention) deletes an index so many days after it was made. Indices that are there
    get it too.
  - The number of replicas of indices that are there follows O(replicas).
  - Where an interrupted roll left the allocation of replicas off, it is switched on.
notes:
  - Elasticsearch is spoken to at the address of its Service, with the operator's password and the authority from the
    Secrets of the namespace. See M(kubewright.cluster.elasticsearch_secrets).
  - An Elasticsearch without ILM has no retention. That is a warning, and RV(retention) says so.
attributes:
  check_mode:
    support: full
    details:
      - Where there is no Elasticsearch yet, everything counts as to be made. Where it does not answer, too, with a
        warning.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
    details:
      - The host must have C(kubectl), and reach addresses of Services, as every node does.
options:
  namespace:
    description: The namespace of the logging.
    type: str
    required: true
  replicas:
    description: How many copies of a shard there are beside the first; V(0) for a single node.
    type: int
    required: true
  retention_days:
    description: After how many days an index is deleted, counted from its making.
    type: int
    default: 30
  total_fields:
    description: How many fields an index may have.
    type: int
    default: 2000
  kubeconfig:
    description: The kubeconfig on the host, with the right to read the Service and the Secrets.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example V(https://192.0.2.11:6443).
    type: str
  timeout:
    description: The time, in seconds, for Elasticsearch to be formed and to take everything.
    type: int
    default: 300
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubewright.cluster.elasticsearch_roll
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Keep lines for a week
  kubewright.cluster.elasticsearch_settings:
    namespace: logging
    replicas: 1
    retention_days: 7
"""

RETURN = r"""
changes:
  description:
    - What was changed, or would be - V(allocation), V(policy), V(template) and V(indices).
  returned: success
  type: list
  elements: str
  sample: [policy, template]
retention:
  description: V(applied), or V(unavailable) where Elasticsearch has no ILM.
  returned: success
  type: str
  sample: applied
status:
  description: The health of Elasticsearch, empty where it was not asked.
  returned: success
  type: str
  sample: green
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import Elasticsearch
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch_settings import (
    Observed,
    Options,
    apply,
    diff,
    health,
    observe,
    plan,
    when_formed,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "namespace": {"type": "str", "required": True},
    "replicas": {"type": "int", "required": True},
    "retention_days": {"type": "int", "default": 30},
    "total_fields": {"type": "int", "default": 2000},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 300},
}
NOT_FOUND = 404


def foresee(module: AnsibleModule, api: KubeApi, namespace: str) -> Observed:
    """Return what Elasticsearch has, or nothing while there is none."""
    try:
        return observe(Elasticsearch.from_cluster(api, namespace))
    except ApiError as error:
        if error.status != NOT_FOUND:
            module.warn(f"Elasticsearch cannot be asked, so everything counts as to be made. {error}")
        return Observed()


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    options = Options(params["replicas"], params["retention_days"], params["total_fields"])
    status = ""
    try:
        api = KubeApi.from_kubeconfig(
            params["kubeconfig"], Runner(module.run_command), server=params["api_server"]
        )
        if module.check_mode:
            observed = foresee(module, api, params["namespace"])
            changes = plan(observed, options)
        else:
            deadline = Deadline(params["timeout"])
            client = when_formed(lambda: Elasticsearch.from_cluster(api, params["namespace"]), deadline)
            observed = wait_for(lambda: observe(client), deadline, what="Elasticsearch to say what it has")
            changes = plan(observed, options)
            apply(client, changes, deadline)
            status = str(health(client)["status"])
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    if not observed.has_ilm:
        module.warn(
            "This Elasticsearch has no ILM, so no index is ever deleted by itself: "
            "delete old ones before the disks are full."
        )
    module.exit_json(
        changed=bool(changes),
        changes=[change.what for change in changes],
        retention="applied" if observed.has_ilm else "unavailable",
        status=status,
        diff=diff(changes),
    )


if __name__ == "__main__":
    main()
