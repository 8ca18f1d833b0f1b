#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify and unpack what etcd is to be restored from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_restore_source
short_description: Verify and unpack what etcd is to be restored from
version_added: 0.2.0
description:
  - Verifies a file that was brought to the host, unpacks it where it is a backup of the playbook C(backup.yml), and
    refuses a file that is damaged, that is not the one that is meant, or that is of another cluster.
  - It restores nothing; M(kubewright.cluster.etcd_snapshot) does that with RV(snapshot).
options:
  path:
    description:
      - The file, not encrypted.
    type: path
    required: true
  sha256:
    description:
      - The SHA-256 that it must have; empty where none is known.
    type: str
    default: ''
  kind:
    description:
      - V(bundle) for a backup with certificates and keys, V(snapshot) for data only.
    type: str
    choices: [bundle, snapshot]
    required: true
  folder:
    description:
      - Where a backup is unpacked, for root only. What is there before is replaced.
    type: path
    required: true
  members:
    description:
      - The peer URLs of the cluster. A snapshot that knows none of them is of another cluster; with an empty list that
        is not looked at.
    type: list
    elements: str
    default: []
  authorities:
    description:
      - The SHA-256 of the certificates of the cluster's authorities, as
        RV(kubewright.cluster.etcd_restore_info#module:host.authorities).
        Empty ones are not compared.
    type: dict
    default: {}
  encryption_keys:
    description:
      - The names of the keys that the API servers have, as
        RV(kubewright.cluster.etcd_restore_info#module:host.encryption_keys), where
        those run on other hosts. What this host has itself is known.
    type: list
    elements: str
    default: []
  whole:
    description:
      - Whether the backup must hold what the cluster is made of besides its data, because no host has it any more.
    type: bool
    default: false
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - It never reports a change; what it unpacks is the run's own and goes with it.
  platform:
    platforms: linux
    support: full
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_snapshot
"""

EXAMPLES = r"""
- name: Unpack the backup
  kubewright.cluster.etcd_restore_source:
    path: /var/lib/kubewright/restore/9f86d081.source
    kind: bundle
    folder: /var/lib/kubewright/restore/unpacked
  register: source
"""

RETURN = r"""
snapshot:
  description: The snapshot to restore.
  returned: success
  type: str
  sample: /var/lib/kubewright/restore/unpacked/snapshot.db
sha256:
  description: Its SHA-256.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
members:
  description: The peer URLs of the members that the snapshot knew, those that were removed perhaps among them.
  returned: success
  type: list
  elements: str
  sample: [https://192.0.2.11:2380]
encryption_keys:
  description: The names of the keys that values in it are encrypted with, those of deleted values perhaps among them.
  returned: success
  type: list
  elements: str
  sample: [key-20261121-080000]
encryption:
  description: The encryption configuration that has to be put in place to read it; empty where the host's own will do.
  returned: success
  type: str
  sample: ''
identity:
  description: With O(whole), the files that make the cluster what it is, by the paths where they belong. Keys of
    authorities that are kept outside of the cluster are not among them.
  returned: success
  type: list
  elements: str
  sample: [/etc/kubernetes/pki/ca.crt]
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._restore_host import ENCRYPTION, key_names
from ansible_collections.kubewright.cluster.plugins.module_utils._restore_source import Wanted, bring


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "sha256": {"type": "str", "default": ""},
            "kind": {"type": "str", "choices": ["bundle", "snapshot"], "required": True},
            "folder": {"type": "path", "required": True},
            "members": {"type": "list", "elements": "str", "default": []},
            "authorities": {"type": "dict", "default": {}},
            "encryption_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "whole": {"type": "bool", "default": False},
        },
    )
    # Keys are unpacked: for root only from their first byte on.
    os.umask(0o077)
    params = module.params
    wanted = Wanted(
        path=params["path"],
        sha256=params["sha256"],
        kind=params["kind"],
        folder=os.path.abspath(params["folder"]),
        urls=tuple(params["members"]),
        authorities=params["authorities"],
        keys=(*key_names(ENCRYPTION), *params["encryption_keys"]),
        whole=params["whole"],
    )
    try:
        result = bring(wanted)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
