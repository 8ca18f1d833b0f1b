# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options by which the etcd modules reach etcd; documented in the fragment _etcd.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

PKI = "/etc/kubernetes/pki/etcd"

CONNECTION: dict[str, dict[str, Any]] = {
    "endpoints": {"type": "list", "elements": "str", "default": ["https://127.0.0.1:2379"]},
    "ca_cert": {"type": "path", "default": f"{PKI}/ca.crt"},
    "client_cert": {"type": "path", "default": f"{PKI}/healthcheck-client.crt"},
    "client_key": {"type": "path", "default": f"{PKI}/healthcheck-client.key"},
    "etcdctl": {"type": "path", "default": "/usr/local/bin/etcdctl"},
}


def client(runner: Runner, params: dict[str, Any]) -> EtcdCtl:
    """Return a client for the options of a module; a file that is missing is named before etcd is asked."""
    if not params["endpoints"]:
        raise KubewrightError(
            "No endpoint to ask", where="option endpoints", remedy="Give one client URL at least"
        )
    for option in ("ca_cert", "client_cert", "client_key"):
        if not os.access(params[option], os.R_OK):
            raise KubewrightError(
                f"{option} cannot be read",
                where=params[option],
                remedy="Run the task as root on a host of the etcd cluster, or give the path of the file",
            )
    return EtcdCtl(
        runner,
        params["endpoints"],
        params["ca_cert"],
        params["client_cert"],
        params["client_key"],
        params["etcdctl"],
    )
