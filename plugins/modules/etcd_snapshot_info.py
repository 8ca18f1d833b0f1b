#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show snapshots of etcd, and what is in the data folder of a member."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_snapshot_info
short_description: Show the snapshots of a folder, verify one file, or look into the data of a member
version_added: 0.2.0
description:
  - Lists the verified snapshots that M(kubewright.cluster.etcd_snapshot) saved into a folder.
  - With O(path) it verifies one file completely, wherever it comes from, and fails when it could not be restored. The
    sum at its end is compared with its content, which C(etcdutl snapshot status) does not do, and C(etcdutl) reads
    every page of its database.
  - With O(data_dir) it looks into the data folder of a member, without changing anything. A few pages of the database
    are read, so that it takes no time whatever the size.
options:
  folder:
    description:
      - The folder to list.
    type: path
  prefix:
    description:
      - What the names of the snapshots begin with.
    type: str
    default: etcd
  path:
    description:
      - The file to verify.
    type: path
  data_dir:
    description:
      - The data folder to look into.
    type: path
  etcdutl:
    description:
      - Where C(etcdutl) is. It has to be as new as the etcd that wrote the file.
    type: path
    default: /usr/local/bin/etcdutl
  timeout:
    description:
      - Seconds that C(etcdutl) may read.
    type: int
    default: 600
extends_documentation_fragment:
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_snapshot
"""

EXAMPLES = r"""
- name: List the snapshots
  kubewright.cluster.etcd_snapshot_info:
    folder: /var/backups/etcd
  register: backups

- name: Verify a file before trusting it
  kubewright.cluster.etcd_snapshot_info:
    path: /tmp/etcd.db

- name: See what the data of a stopped member is worth
  kubewright.cluster.etcd_snapshot_info:
    data_dir: /var/lib/etcd
  register: found
"""

RETURN = r"""
snapshots:
  description:
    - The verified snapshots, oldest first; with O(path) the one that was verified now. Empty with O(data_dir).
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
      sample: /var/backups/etcd/lab-20261121T114500Z.db
    size:
      description: Its size in bytes.
      type: int
      sample: 20971552
    sha256:
      description: The SHA-256 of the file, to compare a copy with.
      type: str
      sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    hash:
      description: etcd's own hash of the content. Empty without O(path), because C(etcdutl) has to read everything.
      type: str
      sample: 7ef846e
    revision:
      description: The newest revision in it.
      type: int
      sample: 12345
    total_keys:
      description: How many revisions of keys it holds, as etcd counts them.
      type: int
      sample: 1642
    storage_version:
      description: The version of its format; empty before etcd 3.6.
      type: str
      sample: 3.6.0
    etcd_version:
      description: The version of the member that it was saved from.
      type: str
      sample: 3.6.16
    cluster_id:
      description: The id of the cluster that it was saved from.
      type: str
      sample: cdf818194e3a8c32
    member:
      description: The name of the member that it was saved from.
      type: str
      sample: cp2
    saved_at:
      description: When it was saved, in UTC.
      type: str
      sample: 20261121T114500Z
    rescued_from:
      description: What stands for the state of the data that it was rescued from; empty for one that was saved.
      type: str
      sample: ''
    written_since_restore:
      description:
        - Whether anybody wrote a value after the data that it was rescued from had been restored.
        - V(null) for data that was not made by O(kubewright.cluster.etcd_snapshot#module:state=restored), and for one
          that was saved.
      type: bool
      sample: null
data:
  description: What is in the data folder.
  returned: with O(data_dir)
  type: dict
  contains:
    has_data:
      description: Whether a member's data is there.
      type: bool
      sample: true
    in_use:
      description: Whether a process has it open. Then what the database says is V(null), because it changes meanwhile.
      type: bool
      sample: false
    size:
      description: The bytes of everything that belongs to the data, which is what a copy of it takes.
      type: int
      sample: 148897792
    revision:
      description:
        - The newest revision in the database. What was written in the last moments, a tenth of a second as a rule, is
          only in the log beside it; O(kubewright.cluster.etcd_snapshot#module:state=rescued) brings that, too.
      type: int
      sample: 12345
    cluster_version:
      description: The version that all members had agreed on; empty before they did.
      type: str
      sample: 3.6.0
    restored:
      description:
        - What says that it was made by O(kubewright.cluster.etcd_snapshot#module:state=restored), with C(sha256) of the
          snapshot, the C(revision) it was given, C(token), C(name) and C(members). Empty for other data.
      type: dict
      sample: {}
    written_since_restore:
      description:
        - Whether anybody wrote a value since that restore, as far as the database shows it. Where nobody did, the
          revision is only that of the restore. Deletions alone do not count, because expired leases make them.
        - V(null) for data that was not restored.
      type: bool
      sample: null
    error:
      description: Why the database cannot be read, empty when it can.
      type: str
      sample: ''
    aside:
      description: The folders in which restores left the data from before, oldest first.
      type: list
      elements: str
      sample: [/var/lib/etcd/before-restore-20261121T120000Z]
    foreign:
      description: What is there and belongs to no member.
      type: list
      elements: str
      sample: []
"""

import os
from dataclasses import asdict, replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import look
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import (
    Snapshot,
    inspect,
    read_record,
    snapshots,
)


def verify(path: str, runner: Runner, etcdutl: str, timeout: float) -> Snapshot:
    """Return what is in a file now; what only its record can tell is taken from there."""
    found = inspect(path, runner, etcdutl, timeout)
    record = read_record(path)
    if record is None:
        return found
    if record.sha256 != found.sha256:
        raise KubewrightError(
            "The file is not what was saved", where=path, why=f"its record says SHA-256 {record.sha256}"
        )
    told = ("etcd_version", "cluster_id", "member", "saved_at", "rescued_from", "written_since_restore")
    return replace(found, **{key: asdict(record)[key] for key in told})


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path"},
            "prefix": {"type": "str", "default": "etcd"},
            "path": {"type": "path"},
            "data_dir": {"type": "path"},
            "etcdutl": {"type": "path", "default": "/usr/local/bin/etcdutl"},
            "timeout": {"type": "int", "default": 600},
        },
        required_one_of=[("folder", "path", "data_dir")],
        mutually_exclusive=[("folder", "path", "data_dir")],
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params
    found: list[Snapshot] = []
    more: dict[str, Any] = {}
    try:
        if params["data_dir"]:
            more["data"] = asdict(look(os.path.abspath(params["data_dir"])))
        elif params["path"]:
            path = os.path.abspath(params["path"])
            found = [verify(path, Runner(module.run_command), params["etcdutl"], params["timeout"])]
        else:
            found = snapshots(params["folder"], params["prefix"])
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, snapshots=[asdict(one) for one in found], **more)


if __name__ == "__main__":
    main()
