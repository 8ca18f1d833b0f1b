#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what a host has that a restore of etcd needs to know of."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_restore_info
short_description: Show what a host has that a restore of etcd needs to know of
version_added: 0.2.0
description:
  - Tells whether the host is a whole control plane or an empty host, whether it has data of etcd, which backups, and
    whether a restore was begun here. It works while nothing answers, and touches nothing.
  - The playbook C(restore.yml) decides by it, with the filter P(kubewright.cluster.etcd_restore_plan#filter).
options:
  part:
    description:
      - What the host is in the cluster. A V(control_plane) runs a member of etcd, too; V(etcd) and V(api_server) are
        the hosts of a cluster whose etcd has hosts of its own.
    type: str
    choices: [control_plane, api_server, etcd, worker]
    default: control_plane
  data_dir:
    description:
      - The data folder of the member.
    type: path
    default: /var/lib/etcd
  folder:
    description:
      - Where the backups of this host are.
    type: path
    default: /var/backups/kubewright
  prefix:
    description:
      - What the names of the backups begin with, the name of the cluster.
    type: str
    required: true
  etcdutl:
    description:
      - Where C(etcdutl) is.
    type: path
    default: /usr/local/bin/etcdutl
extends_documentation_fragment:
  - kubewright.cluster._etcd
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_snapshot
  - module: kubewright.cluster.static_pods
"""

EXAMPLES = r"""
- name: Look at the host
  kubewright.cluster.etcd_restore_info:
    prefix: production
    endpoints: [https://192.0.2.11:2379, https://192.0.2.12:2379, https://192.0.2.13:2379]
  register: seen
"""

RETURN = r"""
host:
  description: What was found.
  returned: success
  type: dict
  contains:
    whole:
      description: Whether the host has all that its part of the control plane needs to start, except for data.
      type: bool
      sample: true
    empty:
      description: Whether it is, and was, no part of a cluster.
      type: bool
      sample: false
    missing:
      description: What it lacks to be whole.
      type: list
      elements: str
      sample: []
    evidence:
      description: What says that it is not empty.
      type: list
      elements: str
      sample: [/etc/kubernetes/kubelet.conf]
    interrupted:
      description: What kubeadm was to make of it when it was cut off; empty otherwise.
      type: str
      sample: ''
    held:
      description: The components that M(kubewright.cluster.static_pods) stopped.
      type: list
      elements: str
      sample: []
    authorities:
      description: The SHA-256 of the certificates of the authorities RV(host.authorities.etcd_ca) and
        RV(host.authorities.cluster_ca), empty where there is none.
      type: dict
      contains:
        etcd_ca:
          description: That of etcd.
          type: str
        cluster_ca:
          description: That of Kubernetes.
          type: str
    since:
      description: From when on the authority of Kubernetes is valid, in UTC; empty without one. A backup from before
        is of another cluster.
      type: str
      sample: 20261121T080000Z
    encryption_keys:
      description: The names of the keys that the API server encrypts with, from the file of the collection.
      type: list
      elements: str
      sample: [key-20261121-080000]
    data:
      description: The data folder.
      type: dict
      contains:
        path:
          description: Where it is.
          type: str
          sample: /var/lib/etcd
        there:
          description: Whether there is any data.
          type: bool
          sample: true
        size:
          description: The size of its database in bytes.
          type: int
          sample: 20971520
        in_use:
          description: Whether an etcd has it open.
          type: bool
          sample: false
        revision:
          description: The newest revision in it, or the one that a restore gave it where it is in use; V(0) where
            neither is known.
          type: int
          sample: 12345
        foreign:
          description: What it holds that is no part of an etcd.
          type: list
          elements: str
          sample: []
        marker:
          description: What the data was restored from; empty for data that no restore made.
          type: dict
          sample: {}
        aside:
          description: The data from before earlier restores.
          type: list
          elements: str
          sample: [/var/lib/etcd/before-restore-20261121T120000Z]
    plan:
      description: The restore that was begun and has not ended; empty without one.
      type: dict
      sample: {}
    sources:
      description: The files that were brought here to be restored, the path by SHA-256.
      type: dict
      sample: {}
    etcd:
      description: Whether etcd works, as asked from this host.
      type: dict
      contains:
        present:
          description: Whether there is a quorum, with a leader.
          type: bool
          sample: false
        sick:
          description: The members that are not healthy.
          type: list
          elements: str
          sample: []
        urls:
          description: The peer URLs of its members.
          type: list
          elements: str
          sample: [https://192.0.2.11:2380]
        revision:
          description: The newest revision.
          type: int
          sample: 0
        error:
          description: Why it could not be asked; empty when it could.
          type: str
          sample: The list of etcd members cannot be read
    tools:
      description: The version of C(etcdutl), empty where it does not run.
      type: dict
      sample: {etcdutl: 3.6.16}
    image:
      description: The image that etcd runs from; empty where kubeadm runs none here.
      type: str
      sample: registry.k8s.io/etcd:3.6.8-0
    free:
      description: The bytes that are free, where the data is and where the file to restore comes to.
      type: int
      sample: 10737418240
    pods:
      description: The pods that run here, as the container runtime has them.
      type: list
      elements: dict
      sample: [{namespace: default, name: web-1, uid: 6f2a}]
    backups:
      description: The verified backups and snapshots of this host, the oldest first.
      type: list
      elements: dict
      contains:
        kind:
          description: V(bundle) for a backup with certificates and keys, V(snapshot) for data only.
          type: str
          sample: bundle
        path:
          description: The file.
          type: str
          sample: /var/backups/kubewright/production-20261121T114500Z.tar
        size:
          description: Its size in bytes.
          type: int
        sha256:
          description: Its SHA-256.
          type: str
        encryption:
          description: V(age), V(gpg), or empty.
          type: str
        revision:
          description: The newest revision in it.
          type: int
        saved_at:
          description: When it was saved, in UTC.
          type: str
        etcd_version:
          description: The version of etcd that it is from.
          type: str
        written_since_restore:
          description: Whether anybody wrote to the data after it was itself restored; V(null) where that is not known.
          type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_options import CONNECTION
from ansible_collections.kubewright.cluster.plugins.module_utils._restore_host import (
    PARTS,
    Layout,
    observe,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._restore_source import backups
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
            "part": {"type": "str", "choices": list(PARTS), "default": "control_plane"},
            "data_dir": {"type": "path", "default": "/var/lib/etcd"},
            "folder": {"type": "path", "default": "/var/backups/kubewright"},
            "prefix": {"type": "str", "required": True},
            "etcdutl": {"type": "path", "default": "/usr/local/bin/etcdutl"},
        },
        supports_check_mode=True,
    )
    params = module.params
    layout = Layout(
        params["part"],
        params["data_dir"],
        params["endpoints"],
        params["ca_cert"],
        params["client_cert"],
        params["client_key"],
        params["etcdctl"],
        params["etcdutl"],
    )
    try:
        host = observe(Runner(module.run_command), layout)
        host["backups"] = backups(params["folder"], params["prefix"])
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, host=host)


if __name__ == "__main__":
    main()
