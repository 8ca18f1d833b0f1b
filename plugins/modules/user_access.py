#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give people and pipelines rights in namespaces, and take them away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: user_access
short_description: Give people and pipelines rights in namespaces, and take them away
version_added: 0.1.0
description:
  - Brings the service accounts, roles and bindings of described accesses into their wanted state, and says which of
    them need a new kubeconfig. It makes no credential itself; that is what
    M(kubewright.cluster.user_credential) is for.
  - All descriptions are checked, against each other and against the cluster, before anything is changed. A
    refusal names everything that is wrong.
  - Every object that the module makes carries the annotation C(kubewright.cluster/access) with the access that it
    belongs to, and the label C(app.kubernetes.io/managed-by=kubewright-user-access). What an access has and its
    description no longer names is deleted. Objects of others are never touched, and an object of others that is
    in the way is refused.
  - Accesses that are not among O(grants) stay as they are. Namespaces are created on request and never deleted.
notes:
  - A certificate cannot be revoked. An access that is V(absent) has no rights from here any more, but the
    certificate authenticates until it expires, and RV(grants[].other_rights) says which bindings of others still
    give rights to its name or its groups.
attributes:
  check_mode:
    support: full
    details:
      - The API server makes a dry run. An object in a namespace that would be created counts as one to be
        created, without the server being asked.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  grants:
    description:
      - The accesses, as the filter P(kubewright.cluster.access_grants#filter) makes them.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: A V(person) has a client certificate, a V(pipeline) a service account.
        type: str
        choices: [person, pipeline]
        required: true
      name:
        description:
          - The name of the person, which becomes the common name of the certificate, or of the service account.
          - Names that begin with V(system:) or V(kubeadm:) are refused.
        type: str
        required: true
      namespace:
        description: The namespace of the service account of a pipeline.
        type: str
      groups:
        description: The groups of a person, which become the organisations of the certificate.
        type: list
        elements: str
        default: []
      roles:
        description: The rights.
        type: list
        elements: dict
        default: []
        suboptions:
          cluster_role:
            description: A ClusterRole that exists, for example V(view), V(edit) or V(admin).
            type: str
          name:
            description: The name of own rules.
            type: str
          rules:
            description: Own rules, as in a Role. Required with O(grants[].roles[].name).
            type: list
            elements: dict
          namespaces:
            description: Where the role is bound. That of the pipeline itself when nothing is said.
            type: list
            elements: str
            default: []
          cluster_wide:
            description: Binds the role in every namespace, those of Kubernetes itself included.
            type: bool
            default: false
      create_namespaces:
        description: Creates the namespaces that do not exist, instead of refusing.
        type: bool
        default: false
      accept_cluster_wide_rights:
        description:
          - Accepts a role that is O(grants[].roles[].cluster_wide), C(cluster-admin), one of Kubernetes' own, or
            bound in a namespace that begins with V(kube-). Each can lead to control of the whole cluster.
        type: bool
        default: false
      state:
        description: Whether the access is to be there.
        type: str
        choices: [present, absent]
        default: present
      lifetime:
        description:
          - How long a new credential lives, as a number with V(s), V(m), V(h) or V(d). V(90d) for a person and V(1h)
            for a pipeline when nothing is said. The signer of the cluster may give less.
        type: str
      renew_before:
        description:
          - The time before the end from which on a run renews, in the same form. A third of the life when nothing is
            said.
        type: str
      place:
        description: Where the kubeconfig is, for messages.
        type: str
      held:
        description: What the kubeconfig at its place says without its secrets. Empty when there is none.
        type: dict
        default: {}
  cluster:
    description: The name of the cluster in kubeconfigs.
    type: str
    required: true
  server:
    description: The URL of the API server in kubeconfigs.
    type: str
    required: true
  kubeconfig:
    description:
      - The kubeconfig on the host, with the rights of a cluster administrator.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example
        V(https://192.0.2.11:6443).
    type: str
  timeout:
    description: The time, in seconds, in which everything must be done.
    type: int
    default: 120
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubewright.cluster.user_credential
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Let a person and a pipeline work in the namespace of the shop
  kubewright.cluster.user_access:
    cluster: example
    server: https://192.0.2.10:8443
    grants:
      - kind: person
        name: jane@example.com
        groups: [developers]
        roles:
          - cluster_role: edit
            namespaces: [shop]
      - kind: pipeline
        name: deployer
        namespace: shop
        roles:
          - cluster_role: edit
"""

RETURN = r"""
grants:
  description:
    - The accesses in the order in which they were given.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The access as the annotation of its objects names it.
      type: str
      sample: person/jane@example.com
    kind:
      description: As given.
      type: str
      sample: person
    name:
      description: As given.
      type: str
      sample: jane@example.com
    namespace:
      description: As given; empty for a person.
      type: str
      sample: ""
    username:
      description: The name by which the API server knows the access.
      type: str
      sample: jane@example.com
    groups:
      description: As given.
      type: list
      elements: str
      sample: [developers]
    home:
      description: The namespace that a kubeconfig should name.
      type: str
      sample: shop
    lifetime:
      description: How long a new credential is to live.
      type: str
      sample: 90d
    action:
      description:
        - What has to be done about the kubeconfig. V(issue) a new one, V(keep) it, V(delete) it, or V(none).
      type: str
      sample: issue
    why:
      description: Why a new kubeconfig is due, or why a file is left alone.
      type: str
      sample: there is no kubeconfig yet
    expires:
      description: When the credential that was found expires.
      type: str
      sample: ""
    other_rights:
      description: Bindings of others that give rights to the same name or to one of its groups.
      type: list
      elements: str
      sample: [ClusterRoleBinding developers (view) by Group developers]
objects:
  description:
    - The objects that were looked at.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind.
      type: str
    namespace:
      description: The namespace; empty for what is in none.
      type: str
    name:
      description: The name.
      type: str
    action:
      description: V(created), V(changed), V(unchanged) or V(deleted); in check mode it is what would happen.
      type: str
  sample: [{kind: RoleBinding, namespace: shop, name: "kubewright:person:jane@example.com:edit", action: created}]
"""

import json
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _access, _access_plan
from ansible_collections.kubewright.cluster.plugins.module_utils._access_held import Target
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._manifests import (
    Applier,
    Outcome,
    clean,
    diff,
    parse_definitions,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ROLE = {
    "cluster_role": {"type": "str"},
    "name": {"type": "str"},
    "rules": {"type": "list", "elements": "dict"},
    "namespaces": {"type": "list", "elements": "str", "default": []},
    "cluster_wide": {"type": "bool", "default": False},
}
GRANT = {
    "kind": {"type": "str", "choices": ["person", "pipeline"], "required": True},
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    "groups": {"type": "list", "elements": "str", "default": []},
    "roles": {"type": "list", "elements": "dict", "default": [], "options": ROLE},
    "create_namespaces": {"type": "bool", "default": False},
    "accept_cluster_wide_rights": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "lifetime": {"type": "str"},
    "renew_before": {"type": "str"},
    "place": {"type": "str"},
    "held": {"type": "dict", "default": {}},
}
ARGUMENTS = {
    "grants": {"type": "list", "elements": "dict", "required": True, "options": GRANT},
    "cluster": {"type": "str", "required": True},
    "server": {"type": "str", "required": True},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 120},
}

# Seconds. The server waits for an admission webhook up to 30.
REQUEST_TIMEOUT = 35.0


def bring(
    api: KubeApi, planned: _access_plan.Plan, observed: _access_plan.Observed, deadline: Deadline, check: bool
) -> list[Outcome]:
    """Apply and delete what is planned; a dry run of everything comes first, so that a refusal changes nothing."""
    wanted = parse_definitions(planned.definitions)

    def apply(dry_run: bool) -> list[Outcome]:
        return Applier(api, deadline, field_manager="kubewright-user-access", dry_run=dry_run).apply(wanted)

    outcomes = apply(dry_run=True)
    if not check:
        if any(outcome.action != "unchanged" for outcome in outcomes):
            outcomes = apply(dry_run=False)
        _access_plan.delete(api, planned, observed)
    return outcomes


def result(
    planned: _access_plan.Plan,
    observed: _access_plan.Observed,
    grants: list[_access.Grant],
    outcomes: list[Outcome],
) -> dict[str, Any]:
    """Return what the module returns."""
    objects = [outcome.summary() for outcome in outcomes]
    for kind, namespace, name in planned.deletions:
        objects.append({"kind": kind, "namespace": namespace, "name": name, "action": "deleted"})
    gone = [clean(observed.objects[key]) for key in planned.deletions]
    before = json.dumps(gone, indent=2, sort_keys=True) + "\n" if gone else ""
    return {
        "changed": any(entry["action"] != "unchanged" for entry in objects),
        "objects": objects,
        "diff": [diff(outcomes), {"before": before, "after": ""}],
        "grants": [
            _access_plan.summary(grant, verdict, observed) for grant, verdict in zip(grants, planned.verdicts)
        ],
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    try:
        grants = _access.parse_grants(options["grants"])
        _access_plan.refuse(_access.problems(options["grants"], grants))
        runner = Runner(module.run_command)
        api = KubeApi.from_kubeconfig(
            options["kubeconfig"], runner, server=options["api_server"], timeout=REQUEST_TIMEOUT
        )
        observed = _access_plan.observe(api, grants)
        target = Target(options["cluster"], options["server"], observed.authority)
        planned = _access_plan.plan(grants, observed, target, datetime.now(timezone.utc))
        _access_plan.refuse(planned.problems)
        outcomes = bring(api, planned, observed, Deadline(options["timeout"]), module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result(planned, observed, grants, outcomes))


if __name__ == "__main__":
    main()
