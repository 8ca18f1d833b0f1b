# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the etcd modules reach etcd, described once."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  endpoints:
    description:
      - Client URLs of members. One that answers is enough, in any order; the others are found through it.
    type: list
    elements: str
    default: [https://127.0.0.1:2379]
  ca_cert:
    description:
      - The authority that signed the members' certificates, a file on the host.
    type: path
    default: /etc/kubernetes/pki/etcd/ca.crt
  client_cert:
    description:
      - A client certificate that etcd accepts, a file on the host. Where etcd's own access control is on, its user
        must have the role V(root).
    type: path
    default: /etc/kubernetes/pki/etcd/healthcheck-client.crt
  client_key:
    description:
      - The key of O(client_cert), a file on the host.
    type: path
    default: /etc/kubernetes/pki/etcd/healthcheck-client.key
  etcdctl:
    description:
      - Where C(etcdctl) is. Use the one of the version that runs.
    type: path
    default: /usr/local/bin/etcdctl
"""
