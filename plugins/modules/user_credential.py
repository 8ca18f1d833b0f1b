#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the kubeconfig of a person or of a pipeline."""

from __future__ import annotations

DOCUMENTATION = r"""
module: user_credential
short_description: Make the kubeconfig of a person or of a pipeline
version_added: 0.1.0
description:
  - Runs on a living control plane and returns a kubeconfig. It writes no file.
  - For a person it makes a key (P-256) in memory, has the cluster sign a certificate through the
    CertificateSigningRequest API with the signer C(kubernetes.io/kube-apiserver-client), and removes the request. The
    key of the authority is not touched.
  - For a pipeline it makes a token of the service account through the TokenRequest API. The token is bound to the
    service account and ends when that is deleted.
  - It logs in with the new kubeconfig before it returns it.
  - Rights are not its matter; see M(kubewright.cluster.user_access), which also checks names. Names that begin with
    V(system:) or V(kubeadm:) are refused here, too.
  - Use C(no_log) on the task and on every task that uses the result.
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
      - Every run makes a new credential.
  platform:
    platforms: linux
    support: full
    details:
      - The host must have C(kubectl), and C(openssl) 3 for the certificate of a person.
options:
  kind:
    description: A V(person) gets a client certificate, a V(pipeline) a token of its service account.
    type: str
    choices: [person, pipeline]
    required: true
  name:
    description: The name of the person or of the service account.
    type: str
    required: true
  namespace:
    description: The namespace of the service account. Required for a pipeline.
    type: str
    default: ""
  groups:
    description: The groups of a person, which become the organisations of the certificate.
    type: list
    elements: str
    default: []
  lifetime:
    description:
      - How long the credential lives, as a number with V(s), V(m), V(h) or V(d), at least V(600s). The signer of the
        cluster may give less, and RV(expires) says what it gave.
    type: str
    required: true
  home:
    description: The namespace that the kubeconfig names for commands that name none.
    type: str
    default: ""
  cluster:
    description: The name of the cluster in the kubeconfig.
    type: str
    required: true
  server:
    description: The URL of the API server in the kubeconfig.
    type: str
    required: true
  kubeconfig:
    description: The kubeconfig on the host, with the rights of a cluster administrator.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of those in O(kubeconfig) and O(server), for example
        V(https://192.0.2.11:6443).
    type: str
  timeout:
    description: The time, in seconds, for the cluster to sign and to know the new credential.
    type: int
    default: 60
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubewright.cluster.user_access
  - name: Certificates and certificate signing requests
    description: What the signer does with a request.
    link: https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Make a kubeconfig for a person
  kubewright.cluster.user_credential:
    kind: person
    name: jane@example.com
    groups: [developers]
    lifetime: 30d
    cluster: example
    server: https://192.0.2.10:8443
  delegate_to: cp2
  no_log: true
  register: credential
"""

RETURN = r"""
content:
  description: The kubeconfig. Secret. Empty in check mode.
  returned: success
  type: str
  sample: ""
expires:
  description: When the credential expires. Empty in check mode.
  returned: success
  type: str
  sample: "2027-01-02T03:04:05Z"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _access, _credentials
from ansible_collections.kubewright.cluster.plugins.module_utils._access_held import stamp
from ansible_collections.kubewright.cluster.plugins.module_utils._access_plan import authority, refuse
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "kind": {"type": "str", "choices": ["person", "pipeline"], "required": True},
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": ""},
    "groups": {"type": "list", "elements": "str", "default": []},
    "lifetime": {"type": "str", "required": True},
    "home": {"type": "str", "default": ""},
    "cluster": {"type": "str", "required": True},
    "server": {"type": "str", "required": True},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "timeout": {"type": "int", "default": 60},
}

REQUEST_TIMEOUT = 35.0


def make(options: dict[str, Any], grant: _access.Grant, api: KubeApi, runner: Runner) -> dict[str, str]:
    """Make a credential, log in with it, and return the kubeconfig and when it expires."""
    deadline = Deadline(options["timeout"])
    lifetime = _access.seconds(grant.lifetime)
    if grant.kind == "person":
        key, request = _credentials.make_request(runner, grant.name, grant.groups)
        certificate = _credentials.issue_certificate(api, request, grant.id, lifetime, deadline)
        expires = _credentials.check_certificate(certificate, grant.name, grant.groups)
        credential = {
            "client-certificate-data": _credentials.encode(certificate),
            "client-key-data": _credentials.encode(key),
        }
    else:
        token, expires = _credentials.issue_token(api, grant.namespace, grant.name, lifetime)
        credential = {"token": token}
    config = _credentials.decoded(
        options["cluster"], options["server"], authority(api), grant.name, credential, options["home"]
    )
    _credentials.prove(config, options["api_server"], grant.username, deadline)
    return {"content": _credentials.rendered(config), "expires": stamp(expires)}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    described = {
        **options,
        "state": "present",
        "create_namespaces": False,
        "accept_cluster_wide_rights": False,
    }
    made = {"content": "", "expires": ""}
    try:
        grants = _access.parse_grants([described])
        refuse(_access.problems([described], grants))
        if not module.check_mode:
            runner = Runner(module.run_command)
            api = KubeApi.from_kubeconfig(
                options["kubeconfig"], runner, server=options["api_server"], timeout=REQUEST_TIMEOUT
            )
            made = make(options, grants[0], api, runner)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=True, **made)


if __name__ == "__main__":
    main()
