#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save, prune, rescue and restore snapshots of etcd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_snapshot
short_description: Save, prune, rescue and restore snapshots of etcd
version_added: 0.2.0
description:
  - With O(state=saved) it streams a snapshot from one healthy member into a folder, a follower where there is one. The
    file gets its name only after it was verified completely, so that what has a name is a backup. Old snapshots are
    pruned after that, and never the newest one.
  - With O(state=restored) it makes the data folder of one member from a snapshot, with the revision bumped and marked
    as compacted, so that clients with a cache from before notice. Data that is there is moved aside, never deleted.
  - With O(state=rescued) it makes a snapshot from the data folder of a member that is stopped, when no majority is left
    to ask. The data is copied, and only the copy is opened - by an C(etcd) of its own that nobody else can reach, as a
    cluster of one. So everything that the member had is in the snapshot, what is only in its log included. What the
    member had received last and no majority had confirmed is in it, too.
  - It stops no process, and starts none but that one, which ends with the module. The playbooks C(backup.yml) and
    C(restore.yml) do all that belongs to it.
options:
  state:
    description:
      - Whether to save a snapshot from a cluster, to make one from the data of a stopped member, or to restore one.
    type: str
    choices: [saved, rescued, restored]
    default: saved
  folder:
    description:
      - With O(state=saved) and O(state=rescued), where the snapshots are. It is made if it is not there, for root only.
    type: path
  prefix:
    description:
      - What the names of the snapshots begin with, for example the name of the cluster. The time in UTC follows.
    type: str
    default: etcd
  unless_newer_than:
    description:
      - Save nothing when the folder has a verified snapshot that is younger than so many seconds.
    type: int
    default: 0
  keep:
    description:
      - How many of the newest snapshots are kept whatever their age. V(0) keeps none for their number.
      - With O(keep) and O(keep_days) both V(0) nothing is pruned.
    type: int
    default: 0
  keep_days:
    description:
      - How many days a snapshot is kept whatever their number. V(0) keeps none for its age.
    type: float
    default: 0
  snapshot:
    description:
      - With O(state=restored), the file.
    type: path
  sha256:
    description:
      - With O(state=restored), the SHA-256 that the file must have, so that every member is made from the same one.
    type: str
    default: ''
  data_dir:
    description:
      - With O(state=restored) and O(state=rescued), the data folder of the member.
    type: path
    default: /var/lib/etcd
  name:
    description:
      - With O(state=restored), the name of this member.
      - With O(state=rescued) it is for the record only, and not needed.
    type: str
  members:
    description:
      - With O(state=restored), all members of the new cluster, the peer URL by name. The same on every host.
    type: dict
  token:
    description:
      - With O(state=restored), a word that no cluster of these hosts had before. With the members it makes the id of
        the new cluster, so that members of the old one are turned away. The same on every host.
    type: str
  bump_revision:
    description:
      - With O(state=restored), by how much the revision grows, at least by what was written since the snapshot. V(0)
        keeps it, which is only for data that no client has seen.
    type: int
    default: 1000000000
  replace:
    description:
      - With O(state=restored), move data that is in the folder aside.
    type: bool
    default: false
  etcdutl:
    description:
      - With O(state=restored), where C(etcdutl) is. Use the one of the version that runs, or will run.
    type: path
    default: /usr/local/bin/etcdutl
  etcd:
    description:
      - With O(state=rescued), where C(etcd) is. Use the one of the minor version that the member ran. The next one
        reads the data, too, but then no older one reads the snapshot.
    type: path
    default: /usr/local/bin/etcd
  timeout:
    description:
      - Seconds for everything together. It takes longer the larger the database is.
    type: int
    default: 600
notes:
  - The memory of O(state=saved) does not grow with the size of the database. The C(etcd) that reads the copy for
    O(state=rescued) takes as much as the member did.
  - With O(state=rescued) the disk of O(folder) has to hold the data twice.
  - The data of an etcd whose own access control is on cannot be rescued, because that would need a user.
attributes:
  check_mode:
    support: full
    details:
      - The member is chosen and the disk looked at, and nothing is fetched. A snapshot to restore is verified.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(state=saved) saves each time, unless O(unless_newer_than) says otherwise.
      - O(state=rescued) changes nothing as long as the folder has the snapshot of data that nobody has touched since.
  platform:
    platforms: linux
    support: full
extends_documentation_fragment:
  - kubewright.cluster._etcd
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_snapshot_info
  - name: Disaster recovery of etcd
    link: https://etcd.io/docs/v3.6/op-guide/recovery/
    description: Why the revision is bumped.
"""

EXAMPLES = r"""
- name: Save a snapshot and keep a week of them, three at least
  kubewright.cluster.etcd_snapshot:
    folder: /var/backups/etcd
    prefix: production
    keep: 3
    keep_days: 7

- name: Save what a member has whose cluster is lost
  kubewright.cluster.etcd_snapshot:
    state: rescued
    data_dir: /var/lib/etcd
    folder: /var/lib/kubewright/rescued
  register: rescued

- name: Make the data folder of one of three members
  kubewright.cluster.etcd_snapshot:
    state: restored
    snapshot: /var/backups/etcd/production-20261121T114500Z.db
    name: cp1
    members:
      cp1: https://192.0.2.11:2380
      cp2: https://192.0.2.12:2380
      cp3: https://192.0.2.13:2380
    token: production-20261121
"""

RETURN = r"""
snapshot:
  description:
    - The snapshot that was saved or rescued, that is there already, or that was restored.
    - V(null) in check mode of a save or a rescue that would make one.
  returned: success
  type: dict
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
      description: etcd's own hash of the content. Only M(kubewright.cluster.etcd_snapshot_info) with a path tells it.
      type: str
      sample: ''
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
        - Whether anybody wrote a value after the data that it was rescued from had been restored. Where nobody did, its
          high revision is only that of the restore, and it is no newer than the snapshot which was restored.
        - V(null) for data that was not made by O(state=restored), and for one that was saved.
      type: bool
      sample: null
pruned:
  description: The files that were pruned, or would be in check mode.
  returned: O(state=saved)
  type: list
  elements: str
  sample: [/var/backups/etcd/production-20261113T114500Z.db]
member:
  description: The name of the member that it is saved from; empty when a snapshot is new enough.
  returned: O(state=saved)
  type: str
  sample: cp2
aside:
  description: Where the data from before is; empty where there was none.
  returned: O(state=restored)
  type: str
  sample: /var/lib/etcd/before-restore-20261121T120000Z
revision:
  description: The revision that the member will begin with.
  returned: O(state=restored)
  type: int
  sample: 1000012345
"""

import os
import time
from dataclasses import asdict, replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _etcd_snapshot as saving
from ansible_collections.kubewright.cluster.plugins.module_utils import _snapshot_rescue as rescuing
from ansible_collections.kubewright.cluster.plugins.module_utils import _snapshot_restore as restoring
from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import WORK, look
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_options import CONNECTION, client
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import examine


def save(params: dict[str, Any], runner: Runner, *, check_mode: bool) -> dict[str, Any]:
    """Save and prune."""
    wanted = saving.Wanted(
        os.path.abspath(params["folder"]),
        params["prefix"],
        params["unless_newer_than"],
        params["keep"],
        params["keep_days"],
    )
    etcdctl = client(runner, params)
    planned = saving.plan(wanted, etcdctl.observe, time.time())
    snapshot = planned.newest
    if planned.member:
        saving.check_room(wanted.folder, saving.needed_room(planned.member), saving.leftovers(wanted.folder))
    if not check_mode:
        saver = saving.Saver(etcdctl, runner, Deadline(params["timeout"]))
        if planned.member:
            snapshot = saver.save(wanted, planned.member)
        saver.prune(wanted, planned.prune)
    pruned = [one.path for one in planned.prune]
    new = (
        ""
        if planned.member is None
        else (snapshot.path if snapshot else f"{wanted.folder}/{wanted.prefix}-TIME.db")
    )
    return {
        "changed": planned.changed,
        "snapshot": asdict(snapshot) if snapshot else None,
        "member": planned.member.name if planned.member else "",
        "pruned": pruned,
        "diff": {"before": "".join(f"{path}\n" for path in pruned), "after": f"{new}\n" if new else ""},
    }


def rescue(params: dict[str, Any], runner: Runner, *, check_mode: bool) -> dict[str, Any]:
    """Copy the data of a stopped member, and save a snapshot from the copy."""
    wanted = rescuing.Wanted(
        os.path.abspath(params["folder"]), params["prefix"], os.path.abspath(params["data_dir"])
    )
    if params["name"]:
        wanted = replace(wanted, name=params["name"])
    version = rescuing.etcd_version(runner, params["etcd"])
    found = rescuing.observe(wanted)
    planned = rescuing.plan(wanted, found, version)
    snapshot = planned.there
    if planned.changed:
        saving.check_room(wanted.folder, rescuing.needed_room(found), saving.leftovers(wanted.folder))
        if not check_mode:
            rescuer = rescuing.Rescuer(runner, params, Deadline(params["timeout"]))
            snapshot = rescuer.rescue(wanted, found, version, time.time())
    new = snapshot.path if snapshot else f"{wanted.folder}/{wanted.prefix}-TIME.db"
    return {
        "changed": planned.changed,
        "snapshot": asdict(snapshot) if snapshot else None,
        "diff": {"before": "" if planned.changed else f"{new}\n", "after": f"{new}\n"},
    }


def restore(params: dict[str, Any], runner: Runner, *, check_mode: bool) -> dict[str, Any]:
    """Verify, and make the data folder."""
    wanted = restoring.Wanted(
        snapshot=params["snapshot"],
        data_dir=os.path.abspath(params["data_dir"]),
        name=params["name"],
        members={str(name): str(url) for name, url in params["members"].items()},
        token=params["token"],
        bump=params["bump_revision"],
        replace=params["replace"],
        sha256=params["sha256"],
    )
    restoring.check_options(wanted)
    deadline = Deadline(params["timeout"])
    version = restoring.utility_version(runner, params["etcdutl"])
    snapshot = examine(wanted.snapshot)
    found = look(wanted.data_dir)
    planned = restoring.plan(wanted, found, snapshot, version)
    if planned.changed:
        leftover = os.path.join(wanted.data_dir, WORK)
        saving.check_room(wanted.data_dir, restoring.needed_room(snapshot), [leftover])
    aside = ""
    if planned.changed and not check_mode:
        restorer = restoring.Restorer(runner, params["etcdutl"], max(1.0, deadline.remaining()))
        aside = restorer.apply(wanted, planned, snapshot, time.time())
    revision = snapshot.revision + wanted.bump
    before = (
        ""
        if not found.has_data
        else f"{wanted.folder} (moved aside)\n"
        if planned.changed
        else f"{wanted.folder}\n"
    )
    after = f"{wanted.folder} from {wanted.snapshot}, revision {revision}\n" if planned.changed else before
    return {
        "changed": planned.changed,
        "snapshot": asdict(snapshot),
        "aside": aside,
        "revision": revision,
        "diff": {"before": before, "after": after},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            "state": {"type": "str", "choices": ["saved", "rescued", "restored"], "default": "saved"},
            "folder": {"type": "path"},
            "prefix": {"type": "str", "default": "etcd"},
            "unless_newer_than": {"type": "int", "default": 0},
            "keep": {"type": "int", "default": 0},
            "keep_days": {"type": "float", "default": 0},
            "snapshot": {"type": "path"},
            "sha256": {"type": "str", "default": ""},
            "data_dir": {"type": "path", "default": "/var/lib/etcd"},
            "name": {"type": "str"},
            "members": {"type": "dict"},
            # Not a secret: it is in every member's command line.
            "token": {"type": "str", "no_log": False},
            "bump_revision": {"type": "int", "default": 1000000000},
            "replace": {"type": "bool", "default": False},
            "etcdutl": {"type": "path", "default": "/usr/local/bin/etcdutl"},
            "etcd": {"type": "path", "default": "/usr/local/bin/etcd"},
            "timeout": {"type": "int", "default": 600},
        },
        required_if=[
            ("state", "saved", ["folder"]),
            ("state", "rescued", ["folder"]),
            ("state", "restored", ["snapshot", "name", "members", "token"]),
        ],
        supports_check_mode=True,
    )
    # Whatever is written is for root only from its first byte on.
    os.umask(0o077)
    act = {"saved": save, "rescued": rescue, "restored": restore}
    try:
        result = act[module.params["state"]](
            module.params, Runner(module.run_command), check_mode=module.check_mode
        )
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
