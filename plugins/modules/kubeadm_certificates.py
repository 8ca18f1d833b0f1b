#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renew the certificates of a control plane that kubeadm made."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_certificates
short_description: Renew the certificates of a control plane, and restart who runs by the old ones
version_added: 0.2.0
description:
  - Renews those of kubeadm's certificates on this control plane that have fewer than O(days) left, with kubeadm, and
    restarts the components that use them, one after the other, each of which is seen to serve before the next.
  - A component that still runs by an older file than the one on the disk is restarted too, whoever renewed it. So a run
    that was cut off between a renewal and a restart is finished by the next one.
  - The kubelet's certificates are none of kubeadm's, the kubelet renews them itself. Authorities are not renewed.
  - Copies of C(admin.conf) get the new certificate.
options:
  days:
    description:
      - Renew what has fewer than this many days left. kubeadm's certificates are valid for 365 days, so that V(366)
        renews all of them. Where C(certificateValidityPeriod) of ClusterConfiguration is shorter, give less than it is.
    type: float
    default: 180
  lend_etcd:
    description:
      - The client URLs of the other members of etcd, which the API server of this host asks too while its own etcd is
        restarted. One that still asks them, because a run was cut off, is restarted to ask its own only. Left out,
        nothing is lent.
    type: list
    elements: str
    default: []
  kubeconfigs:
    description:
      - Files on this host that may be copies of C(/etc/kubernetes/admin.conf). One that differs in more than the
        certificate is left alone.
    type: list
    elements: path
    default: [/root/.kube/config]
  timeout:
    description:
      - Seconds in which each component must serve again.
    type: int
    default: 240
extends_documentation_fragment:
  - kubewright.cluster._etcd
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.cluster_info
    description: Shows when certificates end.
"""

EXAMPLES = r"""
- name: Renew what ends within half a year
  kubewright.cluster.kubeadm_certificates:

- name: Renew everything
  kubewright.cluster.kubeadm_certificates:
    days: 366
"""

RETURN = r"""
renewed:
  description: The certificates that were renewed, or would be, by kubeadm's names.
  returned: success
  type: list
  elements: str
  sample: [apiserver, admin.conf]
restarted:
  description: The components that were restarted, or would be, in this order.
  returned: success
  type: list
  elements: str
  sample: [kube-apiserver]
foreign:
  description: Certificates that end soon and cannot be renewed here, because the key of their authority is elsewhere.
  returned: success
  type: list
  elements: str
  sample: []
refreshed:
  description: The copies of C(admin.conf) that got the new certificate, or would.
  returned: success
  type: list
  elements: str
  sample: [/root/.kube/config]
days_left:
  description: How many days each certificate had left before.
  returned: success
  type: dict
  sample: {apiserver: 12.5}
"""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_options import CONNECTION, client
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import STATE, alone
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import ADMIN_CONF, certificates
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_certificates import (
    Plan,
    observe,
    plan,
    refresh_copies,
    renew,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kubectl_yaml import Translator
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._stacked_etcd import LentEtcd, StackedEtcd
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import MANIFESTS, StaticPods

OWN = {
    "days": {"type": "float", "default": 180},
    "lend_etcd": {"type": "list", "elements": "str", "default": []},
    "kubeconfigs": {"type": "list", "elements": "path", "default": ["/root/.kube/config"]},
    "timeout": {"type": "int", "default": 240},
}
ROOT = Path("/")


def apply(planned: Plan, params: dict[str, Any], runner: Runner, pods: StaticPods) -> None:
    """Renew, and restart one component after the other."""
    # Its own credentials for etcd may be among those that are renewed: the member is looked at before.
    etcd: StackedEtcd | None = None
    lent = LentEtcd(runner, pods) if params["lend_etcd"] else None
    if "etcd" in planned.restart:
        etcd = StackedEtcd(runner, client(runner, params), lambda: Deadline(params["timeout"]), pods=pods)
        seen = etcd.look()
        etcd.gate(seen)
        if lent:
            lent.lend(params["lend_etcd"])
    renew(runner, planned.renew)
    for component in planned.restart:
        if etcd and component == "etcd":
            etcd.restart(seen)
            continue
        # The manifest with the own etcd only makes the API server anew, which is a restart, too.
        if lent and component == "kube-apiserver" and lent.take_back(params["lend_etcd"]):
            continue
        text = (MANIFESTS / f"{component}.yaml").read_text(encoding="utf-8")
        [pod] = Translator(runner).read([text])
        pods.restart(component, pod, lambda: True)
    if etcd and lent:
        lent.take_back(params["lend_etcd"])


def work(params: dict[str, Any], runner: Runner, *, act: bool) -> dict[str, Any]:
    """Look, plan, and act outside check mode."""
    pods = StaticPods(runner, lambda: Deadline(params["timeout"]))
    seen = observe(ROOT, certificates(ROOT, datetime.now(timezone.utc)), pods.running_since)
    if not seen.days_left:
        raise KubewrightError(
            "This host has none of kubeadm's certificates", remedy="Run this on control planes"
        )
    lent = LentEtcd(runner, pods).has(params["lend_etcd"])
    planned = plan(seen, params["days"], lent=lent)
    if act:
        apply(planned, params, runner, pods)
    copies = map(Path, params["kubeconfigs"])
    due = not act and "admin.conf" in planned.renew
    refreshed = refresh_copies(Path(ADMIN_CONF), copies, act=act, due=due)
    return {
        "changed": planned.changed or bool(refreshed),
        "renewed": list(planned.renew),
        "restarted": list(planned.restart),
        "foreign": list(planned.foreign),
        "refreshed": refreshed,
        "days_left": dict(seen.days_left),
        "diff": {
            "before": "".join(f"{name}: {seen.days_left[name]:.0f} days\n" for name in planned.renew),
            "after": "".join(f"{name}: renewed\n" for name in planned.renew),
        },
    }


def main() -> None:
    module = AnsibleModule(argument_spec={**CONNECTION, **OWN}, supports_check_mode=True)
    params = module.params
    try:
        with alone(Deadline(params["timeout"]), STATE, make=not module.check_mode):
            result = work(params, Runner(module.run_command), act=not module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    for name in result["foreign"]:
        module.warn(
            f"{name} ends in {result['days_left'][name]:.0f} days, and the key of its authority is not here."
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
