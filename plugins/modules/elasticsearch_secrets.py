#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the Secrets of a logging namespace once, and keep them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: elasticsearch_secrets
short_description: Make the keys, certificates and passwords of Elasticsearch once, and keep them
version_added: 0.2.0
description:
  - Makes the Secrets that the role P(kubewright.cluster.kube_logging#role) needs, in its namespace, and keeps them.
    What is missing is completed, and certificates in the last third of their lives are renewed.
  - C(elasticsearch-authority) holds the authority (C(ca.crt), C(ca.key)). No pod mounts it. It lives ten years, and
    is renewed with its own key, so that everything it has signed stays good.
  - C(elasticsearch-tls) and C(kibana-tls) hold certificates of that authority (C(ca.crt), C(tls.crt), C(tls.key)).
  - C(elasticsearch-operator), C(elasticsearch-person) and C(collector-elasticsearch) hold a user name and a password
    each - for this collection, for a person who logs in to Kibana, and for the collectors, which may add lines and
    nothing else.
  - C(kibana-elasticsearch) holds the token with which Kibana logs in to Elasticsearch as the service account
    C(elastic/kibana), and C(kibana-keys) the keys with which it encrypts what it stores.
  - C(elasticsearch-realm) holds users, roles and tokens as files for Elasticsearch, with hashes in place of
    passwords.
  - A password that somebody changed in its Secret is taken over; its hash follows.
  - A certificate that is not of the authority, does not fit its key, or has other names, is replaced.
notes:
  - Private keys are made by C(openssl) on the control plane and reach it through pipes. They are in no file, no
    process list, no log and no result. The modules of C(community.crypto) are not used, because with them the keys
    would pass through the controller.
  - Elasticsearch reads the files of the realm and the certificates again when they change. Kubelets bring a changed
    Secret to the pods within about two minutes.
attributes:
  check_mode:
    support: full
    details:
      - Makes what is missing in memory and throws it away. RV(digests) of what would be made differ from run to run.
  diff_mode:
    support: full
    details:
      - Shows which keys of which Secrets are new, not what they hold.
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
    details:
      - The host must have C(kubectl), and C(openssl) 1.1.1 or newer.
options:
  namespace:
    description: The namespace. It must exist, but not in check mode.
    type: str
    required: true
  certificate_days:
    description: How many days new certificates of Elasticsearch and Kibana live.
    type: int
    default: 825
  kubeconfig:
    description: The kubeconfig on the host, with the right to read and write Secrets.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example V(https://192.0.2.11:6443).
    type: str
  field_manager:
    description: The name under which the server remembers who wrote the Secrets.
    type: str
    default: kubewright
  timeout:
    description: The time, in seconds, in which all Secrets must be written.
    type: int
    default: 120
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubewright.cluster.elasticsearch_settings
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Make the Secrets of the logging that are missing
  kubewright.cluster.elasticsearch_secrets:
    namespace: logging
  run_once: true
  register: secrets

- name: Show when the certificates end
  ansible.builtin.debug:
    var: secrets.ends
"""

RETURN = r"""
secrets:
  description: The Secrets, in the order in which they are written.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the Secret.
      type: str
    action:
      description: V(created), V(changed) or V(unchanged); in check mode what would happen.
      type: str
    reasons:
      description: What was missing or due in one that was there.
      type: list
      elements: str
  sample:
    - name: elasticsearch-tls
      action: changed
      reasons: ["certificate: it ends on 2027-03-01"]
digests:
  description:
    - A digest of each Secret, for the annotations of the pods that read it at their start. It changes when the Secret
      does, and nothing can be learned from it - in place of passwords and tokens, their salted hashes count.
  returned: success
  type: dict
  sample: {elasticsearch-tls: 5f8c..., collector-elasticsearch: 91ab...}
ends:
  description: The day on which each certificate ends.
  returned: success
  type: dict
  sample: {elasticsearch-authority: "2036-11-20", elasticsearch-tls: "2029-02-25", kibana-tls: "2029-02-25"}
"""

from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch_secrets import (
    apply,
    diff,
    digests,
    ends,
    judge,
    make,
    observe,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "namespace": {"type": "str", "required": True},
    "certificate_days": {"type": "int", "default": 825},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "field_manager": {"type": "str", "default": "kubewright"},
    "timeout": {"type": "int", "default": 120},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    namespace = options["namespace"]
    runner = Runner(module.run_command)
    now = datetime.now(timezone.utc)
    try:
        api = KubeApi.from_kubeconfig(options["kubeconfig"], runner, server=options["api_server"])
        held = observe(api, namespace)
        verdicts = judge(held, namespace, now)
        data = make(held, verdicts, runner, namespace, options["certificate_days"], now)
        if not module.check_mode:
            deadline = Deadline(options["timeout"])
            apply(api, namespace, held, verdicts, data, deadline, options["field_manager"])
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(
        changed=any(verdict.action != "unchanged" for verdict in verdicts),
        secrets=[verdict.summary() for verdict in verdicts],
        digests=digests(data),
        ends=ends(data),
        diff=diff(held, verdicts, data),
    )


if __name__ == "__main__":
    main()
