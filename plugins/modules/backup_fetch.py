#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of an action that runs on the controller: plugins/action/backup_fetch.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_fetch
short_description: Fetch a backup of a cluster to the controller
version_added: 0.2.0
description:
  - Brings one backup that the program of the role P(kubewright.cluster.etcd_backup#role) saved on a host, and its
    record, into a folder of the controller. It gets its name there after its SHA-256 was compared with the record.
  - It reads with the privileges of the task and in pieces, so that neither memory nor a copy that others could read is
    needed on either side. M(ansible.builtin.fetch) with privileges holds the whole file in memory.
  - What is too old is removed from the folder after that, and never the newest one.
options:
  path:
    description: The backup on the host.
    type: str
    required: true
  folder:
    description: The folder of the controller. It is made where it is missing, for its owner only.
    type: path
    required: true
  prefix:
    description: What the names of the backups of this cluster begin with.
    type: str
    required: true
  keep:
    description:
      - How many of the newest ones are kept whatever their age. V(0) keeps none for their number.
      - With O(keep) and O(keep_days) both V(0) nothing is removed.
    type: int
    default: 0
  keep_days:
    description: How many days one is kept whatever their number. V(0) keeps none for its age.
    type: float
    default: 0
attributes:
  check_mode:
    support: full
    details:
      - What would be removed is not told.
  diff_mode:
    support: none
    details: A backup holds the keys of the cluster.
  idempotent:
    support: full
    details:
      - One that is there and whole is read again, and left alone.
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
- name: Fetch a backup
  kubewright.cluster.backup_fetch:
    path: /var/backups/kubewright/production-20261122T120000Z.tar.age
    folder: /srv/backups/production
    prefix: production
    keep: 7
    keep_days: 30
"""

RETURN = r"""
path:
  description: Where the backup is on the controller.
  returned: success
  type: str
  sample: /srv/backups/production/production-20261122T120000Z.tar.age
pruned:
  description: The backups that were removed there.
  returned: success
  type: list
  elements: str
  sample: [/srv/backups/production/production-20261022T120000Z.tar.age]
"""
