#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign certificates of etcd on the one host that has the key of the authority."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_authority
short_description: Sign certificates of etcd on the host that has the authority's key
version_added: 0.2.0
description:
  - Makes the certificate authority of an etcd cluster on one host, and signs the requests that
    M(kubewright.cluster.etcd_certificates) made on others.
  - Of a request only the public key and the common name count. Usages, names and addresses are those of the task, so
    that a host cannot get a certificate for another one.
  - Its key is readable by root only and stays on this host. Put it into a backup - without it no certificate can be
    renewed, and no member added.
options:
  folder:
    description: Where C(ca.crt) and C(ca.key) are.
    type: path
    default: /etc/etcd/pki
  create:
    description: Make the authority where there is none. Without it, a missing one is an error.
    type: bool
    default: false
  common_name:
    description: The name of a new authority.
    type: str
    default: etcd-ca
  authority_days:
    description: How long a new authority is valid, in days.
    type: int
    default: 3650
  days:
    description: How long certificates are valid, in days. None is valid for longer than the authority.
    type: int
    default: 365
  required:
    description: Whether a missing key is an error. Without it, RV(certificate) is empty where the key is not.
    type: bool
    default: true
  requests:
    description: The requests in PEM, by the names of O(leaves).
    type: dict
    default: {}
  leaves:
    description:
      - The certificates that may be asked for. It may be the list that M(kubewright.cluster.etcd_certificates) takes;
        those without a request are passed over.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the certificate is called in O(requests) and in RV(certificates).
        type: str
        required: true
      common_name:
        description: The common name that the request must have.
        type: str
        required: true
      usages:
        description: What the certificate is good for.
        type: list
        elements: str
        choices: [server, client]
        default: [client]
      dns_names:
        description: Its DNS names.
        type: list
        elements: str
        default: []
      ip_addresses:
        description: Its IP addresses.
        type: list
        elements: str
        default: []
      cert:
        description: It means nothing here.
        type: path
        default: ''
      key:
        description: It means nothing here.
        type: path
        default: ''
attributes:
  check_mode:
    support: full
    details:
      - Nothing is made, so that RV(certificate) is empty before the authority exists.
  diff_mode:
    support: none
    details: A certificate says nothing to people.
  idempotent:
    support: partial
    details:
      - Each request is signed each time; M(kubewright.cluster.etcd_certificates) asks only for what is needed.
  platform:
    platforms: linux
    support: full
    details: The host needs C(openssl).
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_certificates
"""

EXAMPLES = r"""
- name: Sign what another host asked for
  kubewright.cluster.etcd_authority:
    requests: "{{ asked.requests }}"
    leaves:
      - name: server
        common_name: etcd2
        usages: [server, client]
        ip_addresses: [192.0.2.32, 127.0.0.1]
  register: signed
"""

RETURN = r"""
certificate:
  description: The certificate of the authority in PEM.
  returned: success
  type: str
  sample: "-----BEGIN CERTIFICATE-----\n..."
certificates:
  description: The certificates in PEM, by the names of the requests.
  returned: success
  type: dict
  sample: {}
created:
  description: Whether the authority was made, or would be in check mode.
  returned: success
  type: bool
  sample: false
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_pki import (
    USAGES,
    Authority,
    Openssl,
    now,
    parse_leaves,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

LEAF = {
    "name": {"type": "str", "required": True},
    "common_name": {"type": "str", "required": True},
    "usages": {"type": "list", "elements": "str", "choices": list(USAGES), "default": ["client"]},
    "dns_names": {"type": "list", "elements": "str", "default": []},
    "ip_addresses": {"type": "list", "elements": "str", "default": []},
    "cert": {"type": "path", "default": ""},
    "key": {"type": "path", "default": "", "no_log": False},
}
ARGUMENTS = {
    "folder": {"type": "path", "default": "/etc/etcd/pki"},
    "create": {"type": "bool", "default": False},
    "common_name": {"type": "str", "default": "etcd-ca"},
    "authority_days": {"type": "int", "default": 3650},
    "days": {"type": "int", "default": 365},
    "required": {"type": "bool", "default": True},
    "requests": {"type": "dict", "default": {}},
    "leaves": {"type": "list", "elements": "dict", "default": [], "options": LEAF},
}


def work(params: dict[str, Any], runner: Runner, *, act: bool) -> dict[str, Any]:
    """Make the authority where that is asked for, and sign."""
    leaves = {leaf.name: leaf for leaf in parse_leaves(params["leaves"])}
    authority = Authority(Openssl(runner), params["folder"], now())
    if not authority.exists and not params["create"]:
        if params["required"] or params["requests"]:
            raise KubewrightError(
                "The key of etcd's authority is not here",
                where=authority.key,
                remedy="Bring ca.key and ca.crt back to this folder of any one host of the etcd cluster, from a backup",
            )
        return {"changed": False, "created": False, "certificate": "", "certificates": {}}
    creates = not authority.exists
    if creates and act:
        authority.create(params["common_name"], params["authority_days"])
    certificate = authority.check() if authority.exists else ""
    strange = sorted(set(params["requests"]) - set(leaves))
    if strange:
        raise KubewrightError(f"Nobody may ask for {strange[0]!r}", where="option requests")
    signed: dict[str, str] = {}
    if act:
        for name, request in params["requests"].items():
            signed[name] = authority.sign(leaves[name], request, params["days"])
    return {
        "changed": creates or bool(params["requests"]),
        "created": creates,
        "certificate": certificate,
        "certificates": signed,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = work(module.params, Runner(module.run_command), act=not module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
