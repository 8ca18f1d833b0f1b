#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the authority of the doors to metrics in the cluster, and sign with it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: metrics_door_authority
short_description: Keep the authority of the doors to metrics, and sign with it
version_added: 0.2.0
description:
  - The role P(kubewright.cluster.kube_metrics_door#role) puts a door on every host, through which Prometheus reads what
    that host serves on its loopback. Doors and readers know each other by certificates of an authority of their own,
    which signs for nothing else but metrics-server.
  - This module makes that authority, keeps it in the Secret C(kubewright-metrics-door) of C(kube-system), signs what
    M(kubewright.cluster.etcd_certificates) asked for on hosts, and gives each of O(readers) a client certificate in a
    Secret.
  - Of a request only the public key and the common name count. Usages, names and addresses are those of the task.
notes:
  - The key of the authority never touches a disk of the host. No key is returned, logged, or an argument of a program.
  - Delete the Secret to have a new authority made. Then every door and every reader needs a new certificate, which the
    role brings in the same run.
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
    details: The host needs C(openssl) and C(kubectl).
options:
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
        default: [server]
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
  readers:
    description:
      - Who gets a client certificate, in a Secret of type C(kubernetes.io/tls) that has C(ca.crt) too.
      - Its namespace has to be there. A certificate that is not good any more, or ends soon, is replaced with its key.
    type: list
    elements: dict
    default: []
    suboptions:
      namespace:
        description: The namespace of the Secret.
        type: str
        required: true
      name:
        description: The name of the Secret.
        type: str
        default: kubewright-metrics-door
      files:
        description: More that the Secret holds, by its keys.
        type: dict
        default: {}
      serves:
        description:
          - DNS names. With them the certificate is for a server that is called so, such as metrics-server, and opens no
            door.
        type: list
        elements: str
        default: []
  days:
    description: How long certificates are valid, in days. None outlives the authority, which has ten years.
    type: int
    default: 1095
  renew_days:
    description: A certificate of one of O(readers) that ends in fewer days is replaced.
    type: int
    default: 90
  kubeconfig:
    description: The kubeconfig on the host, with the rights to read and write these Secrets.
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
seealso:
  - module: kubewright.cluster.etcd_certificates
"""

EXAMPLES = r"""
- name: Let the Prometheus of a chart of your own read through the doors
  kubewright.cluster.metrics_door_authority:
    readers:
      - namespace: monitoring
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
readers:
  description: What became of each of O(readers).
  returned: success
  type: list
  elements: dict
  contains:
    namespace:
      description: The namespace of the Secret.
      returned: always
      type: str
      sample: monitoring
    name:
      description: The name of the Secret.
      returned: always
      type: str
      sample: kubewright-metrics-door
    action:
      description: V(created), V(changed) or V(unchanged); in check mode what would be.
      returned: always
      type: str
      sample: created
"""

import os
import tempfile
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_pki import (
    USAGES,
    Openssl,
    now,
    parse_leaves,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._metrics_door import (
    NAME,
    DoorAuthority,
    Reader,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._quiet_module import QuietModule
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

LEAF = {
    "name": {"type": "str", "required": True},
    "common_name": {"type": "str", "required": True},
    "usages": {"type": "list", "elements": "str", "choices": list(USAGES), "default": ["server"]},
    "dns_names": {"type": "list", "elements": "str", "default": []},
    "ip_addresses": {"type": "list", "elements": "str", "default": []},
    "cert": {"type": "path", "default": ""},
    "key": {"type": "path", "default": "", "no_log": False},
}
READER = {
    "namespace": {"type": "str", "required": True},
    "name": {"type": "str", "default": NAME},
    "files": {"type": "dict", "default": {}},
    "serves": {"type": "list", "elements": "str", "default": []},
}
ARGUMENTS = {
    "requests": {"type": "dict", "default": {}},
    "leaves": {"type": "list", "elements": "dict", "default": [], "options": LEAF},
    "readers": {"type": "list", "elements": "dict", "default": [], "options": READER},
    "days": {"type": "int", "default": 1095},
    "renew_days": {"type": "int", "default": 90},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
}
# Memory, on every host with systemd.
RUN = "/run"


def work(params: dict[str, Any], api: KubeApi, runner: Runner, *, act: bool) -> dict[str, Any]:
    """Make what is missing, and sign."""
    with tempfile.TemporaryDirectory(dir=RUN, prefix="kubewright-") as folder:
        authority = DoorAuthority(api, Openssl(runner), folder, now(), act=act)
        created = authority.load()
        certificate = authority.certificate()
        signed = authority.sign(parse_leaves(params["leaves"]), params["requests"], params["days"])
        readers = []
        for one in params["readers"]:
            reader = Reader(one["namespace"], one["name"], one["files"], tuple(one["serves"]))
            action = authority.give(reader, params["days"], params["renew_days"])
            readers.append({"namespace": reader.namespace, "name": reader.name, "action": action})
    return {
        "changed": created
        or bool(params["requests"])
        or any(one["action"] != "unchanged" for one in readers),
        "created": created,
        "certificate": certificate,
        "certificates": signed,
        "readers": readers,
    }


def main() -> None:
    module = QuietModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    runner = Runner(module.run_command)
    try:
        if module.check_mode and not os.path.exists(params["kubeconfig"]):
            module.warn(f"There is no {params['kubeconfig']} yet: everything counts as to be made.")
            readers = [
                {"namespace": one["namespace"], "name": one["name"], "action": "created"}
                for one in params["readers"]
            ]
            module.exit_json(changed=True, created=True, certificate="", certificates={}, readers=readers)
        api = KubeApi.from_kubeconfig(params["kubeconfig"], runner, server=params["api_server"], timeout=35.0)
        result = work(params, api, runner, act=not module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
