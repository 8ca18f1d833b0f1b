# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say something that is wrong in one sentence or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: finding_line
short_description: Say something that is wrong in one sentence or two
version_added: 0.2.0
description:
  - Renders a reason or notice of M(kubewright.cluster.cluster_info), or a problem of
    M(kubewright.cluster.kubeadm_upgrade_info), for a person.
options:
  _input:
    description: What is wrong, with C(what), C(where), C(why) and C(remedy), of which all but the first may be empty.
    type: dict
    required: true
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Say what is wrong
  ansible.builtin.debug:
    msg: "{{ gate.reasons | map('kubewright.cluster.finding_line') | list }}"
"""

RETURN = r"""
_value:
  description: The sentences.
  type: str
  sample: "A node is not ready (worker2): Kubelet stopped posting node status. Look at its kubelet."
"""


def finding_line(finding: Any) -> str:
    """Return the line of one finding."""
    if not isinstance(finding, Mapping) or "what" not in finding:
        raise AnsibleFilterError("finding_line (its input): give a reason as cluster_info returns it")
    parts = {
        key: str(finding.get(key) or "").strip().rstrip(".") for key in ("what", "where", "why", "remedy")
    }
    place = f" ({parts['where']})" if parts["where"] else ""
    cause = f": {parts['why']}" if parts["why"] else ""
    step = f" {parts['remedy']}." if parts["remedy"] else ""
    return f"{parts['what']}{place}{cause}.{step}"


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"finding_line": finding_line}
