#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of an action that runs on the controller: plugins/action/report_summary.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report_summary
short_description: Sum a run up for the next job of a workflow
version_added: 0.2.0
description:
  - Sets the stat C(kubewright_report), which AWX hands to the next jobs of a workflow as a variable, as
    M(ansible.builtin.set_stats) does.
  - What it tells comes from the callback P(kubewright.cluster.report#callback). Without that it tells nothing.
  - It takes the run for one that ends here. M(kubewright.cluster.check_description) and
    M(kubewright.cluster.cluster_lock) set the same stat on the way, so that a run that fails has told what was known by
    then.
options: {}
notes:
  - It runs on the controller and connects to no host.
attributes:
  check_mode:
    support: full
    details: It changes nothing.
  diff_mode:
    support: none
    details: It changes nothing.
  idempotent:
    support: full
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Sum the run up
  kubewright.cluster.report_summary:
  run_once: true
"""

RETURN = r"""
ansible_stats:
  description: The stat; it is not set where no callback reports.
  returned: success
  type: dict
  contains:
    data:
      description: The summary, as C(kubewright_report).
      type: dict
      sample:
        kubewright_report:
          operation: upgrade
          cluster: example
          check: false
          state: done
          report: /var/log/kubewright-reports/example-upgrade-20261123T021405Z.html
          seconds: 988
          changed: [cp1, cp2, cp3, worker1, worker2]
          failed: {}
          versions: {before: {cp1: 1.36.3}, after: {cp1: 1.37.1}}
          gates: {passed: 52, failed: 0}
          api: {asked: 976, answered: 974, longest_silence: 1.1}
          next: ["Set kube_cluster_version to 1.37.1 in the inventory."]
"""
