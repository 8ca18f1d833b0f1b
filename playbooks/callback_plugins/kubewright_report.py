# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible loads callbacks that lie beside a playbook, so that these playbooks need no setting to report."""

from __future__ import annotations

from ansible_collections.kubewright.cluster.plugins.callback import report

DOCUMENTATION = r"""
name: kubewright_report
type: aggregate
short_description: The callback kubewright.cluster.report, for the playbooks that lie beside it
description:
  - Is documented there.
author:
  - kubewright.cluster contributors (@kubewright)
"""


class CallbackModule(report.CallbackModule):
    """Is loaded without being enabled."""

    CALLBACK_NAME = "kubewright_report"
    CALLBACK_NEEDS_ENABLED = False
