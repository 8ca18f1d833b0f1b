#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for certificates of etcd and put them in place, with keys that never leave their host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_certificates
short_description: Ask for certificates of etcd and put them in place
version_added: 0.2.0
description:
  - Looks at the certificates of this host, makes the private keys that are missing, and returns a request for each
    certificate that is missing, about to expire, or not as it should be. M(kubewright.cluster.etcd_authority) signs
    them on another host, and with O(certificates) this module puts them in place.
  - A private key is made on the host that uses it, and no module ever reads it out. A renewed certificate is for the
    same key. Remove the file of a key to have another one made.
  - A certificate is put in place only when it is for the key of this host, signed by the authority, and has every
    name. etcd and the API server read their certificates anew at each handshake, so that nothing has to be restarted.
options:
  ca_cert:
    description: Where the certificate of the authority is, or is put.
    type: path
    required: true
  authority:
    description:
      - The certificate of the authority in PEM. It is written where there is none; another one that is there is
        refused without O(replace_authority).
      - Without it, nothing is asked for, and what is wrong is only told.
    type: str
    default: ''
  replace_authority:
    description:
      - Replace another authority that is there, and with it all certificates that it signed. Who has a certificate of
        the old one is cut off.
    type: bool
    default: false
  leaves:
    description: The certificates of this host.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the request is called.
        type: str
        required: true
      cert:
        description: Where the certificate is.
        type: path
        required: true
      key:
        description: Where its key is.
        type: path
        required: true
      common_name:
        description: Its common name.
        type: str
        required: true
      usages:
        description: What it is good for.
        type: list
        elements: str
        choices: [server, client]
        default: [client]
      dns_names:
        description: The DNS names that it must have.
        type: list
        elements: str
        default: []
      ip_addresses:
        description: The IP addresses that it must have.
        type: list
        elements: str
        default: []
  renew_days:
    description: A certificate that ends in fewer days is asked for anew.
    type: int
    default: 30
  certificates:
    description: The certificates that came back, by the name of the request. With them, nothing is asked for.
    type: dict
    default: {}
  owner:
    description: The user that the keys and certificates belong to.
    type: str
    default: root
  group:
    description: The group that they belong to.
    type: str
    default: root
attributes:
  check_mode:
    support: full
    details:
      - No key is made, so that there is no request to return; RV(leaves) tells what would be asked for.
  diff_mode:
    support: none
    details: A certificate says nothing to people.
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
    details: The host needs C(openssl).
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_authority
"""

EXAMPLES = r"""
- name: Ask for the certificate of the API server as a client of etcd
  kubewright.cluster.etcd_certificates:
    ca_cert: /etc/kubernetes/pki/etcd/ca.crt
    authority: "{{ authority.certificate }}"
    leaves:
      - name: cp1-apiserver-etcd-client
        cert: /etc/kubernetes/pki/apiserver-etcd-client.crt
        key: /etc/kubernetes/pki/apiserver-etcd-client.key
        common_name: kube-apiserver-etcd-client
  register: asked
"""

RETURN = r"""
requests:
  description: The requests in PEM by their names; empty in check mode.
  returned: success
  type: dict
  sample: {}
needed:
  description: The names of the certificates that are missing or not as they should be.
  returned: success
  type: list
  elements: str
  sample: [server]
leaves:
  description: By name what was found, before anything was put in place.
  returned: success
  type: dict
  contains:
    problem:
      description: Why a new one is needed, empty when it is good.
      type: str
      sample: it ends in 12 days
    days_left:
      description: Days until it expires; V(null) without one.
      type: float
      sample: 12.5
    not_after:
      description: When it expires.
      type: str
      sample: "2027-11-22T08:00:00Z"
installed:
  description: The paths of the certificates that were put in place.
  returned: success
  type: list
  elements: str
  sample: []
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_pki import (
    USAGES,
    Leaves,
    Openssl,
    ensure_authority_here,
    now,
    parse_leaves,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._host_files import parse_owner
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

LEAF = {
    "name": {"type": "str", "required": True},
    "cert": {"type": "path", "required": True},
    "key": {"type": "path", "required": True, "no_log": False},
    "common_name": {"type": "str", "required": True},
    "usages": {"type": "list", "elements": "str", "choices": list(USAGES), "default": ["client"]},
    "dns_names": {"type": "list", "elements": "str", "default": []},
    "ip_addresses": {"type": "list", "elements": "str", "default": []},
}
ARGUMENTS = {
    "ca_cert": {"type": "path", "required": True},
    "authority": {"type": "str", "default": ""},
    "replace_authority": {"type": "bool", "default": False},
    "leaves": {"type": "list", "elements": "dict", "required": True, "options": LEAF},
    "renew_days": {"type": "int", "default": 30},
    "certificates": {"type": "dict", "default": {}},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}


def work(params: dict[str, Any], runner: Runner, *, act: bool) -> dict[str, Any]:
    """Look, and ask for or install what is needed."""
    wanted = parse_leaves(params["leaves"])
    owner = parse_owner(params["owner"], params["group"], may_be_missing=not act)
    ids = (owner.uid, owner.gid) if owner.uid is not None and owner.gid is not None else None
    changed = ensure_authority_here(
        params["ca_cert"], params["authority"], ids, act=act, replace=params["replace_authority"]
    )
    leaves = Leaves(Openssl(runner), params["ca_cert"], now(), ids)
    found = {leaf.name: leaves.look(leaf, params["renew_days"]) for leaf in wanted}
    needed = [leaf for leaf in wanted if found[leaf.name].problem]
    requests: dict[str, str] = {}
    installed: list[str] = []
    if params["certificates"]:
        for leaf in needed:
            if leaf.name in params["certificates"]:
                if act:
                    leaves.install(leaf, params["certificates"][leaf.name])
                installed.append(leaf.cert)
    elif params["authority"] and act:
        changed = changed or any(not os.path.exists(leaf.key) for leaf in needed)
        requests = {leaf.name: leaves.request(leaf) for leaf in needed}
    elif params["authority"]:
        changed = changed or bool(needed)
    return {
        "changed": changed or bool(installed),
        "requests": requests,
        "needed": [leaf.name for leaf in needed],
        "leaves": {name: one.returned() for name, one in found.items()},
        "installed": installed,
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
