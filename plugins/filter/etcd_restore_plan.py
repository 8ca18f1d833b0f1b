# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide how a cluster is brought back."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._restore_source import given
from ansible_collections.kubewright.cluster.plugins.plugin_utils._restore_plan import Wanted, decide

DOCUMENTATION = r"""
name: etcd_restore_plan
short_description: Decide how a cluster is brought back
version_added: 0.2.0
description:
  - Compares what M(kubewright.cluster.etcd_restore_info) saw on every host with what is asked for, and returns why
    nothing can be done, or from which data which hosts are restored.
  - The playbook C(restore.yml) asks it before anything is stopped, and again when data that survived was saved.
positional: wanted
options:
  _input:
    description: RV(kubewright.cluster.etcd_restore_info#module:host) by host, of those that are reached.
    type: dict
    required: true
  wanted:
    description:
      - What is asked for, the variables of the role P(kubewright.cluster.etcd_restore#role), and what was saved from
        surviving data.
    type: dict
    required: true
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - module: kubewright.cluster.etcd_restore_info
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    decision: "{{ seen | kubewright.cluster.etcd_restore_plan(wanted) }}"
"""

RETURN = r"""
_value:
  description: What is to be done.
  type: dict
  contains:
    problems:
      description: Why nothing can be done, a few sentences each.
      type: list
      elements: str
    mode:
      description: V(new), V(resume) for a restore that was begun, or V(finish) for one whose data is in place.
      type: str
    plan:
      description: What is restored, where; empty while data that survived has to be saved first.
      type: dict
    survivors:
      description: The hosts whose data is saved first.
      type: list
      elements: str
    replaces:
      description: Whether data will be replaced, and everything has to stand still for it.
      type: bool
    newer:
      description: What is newer than what is restored.
      type: list
      elements: dict
    earlier:
      description: Files that are older than the cluster's authority, so that they are of an earlier cluster of its
        name. None of them is chosen.
      type: list
      elements: dict
    keys:
      description: The names of the keys that every control plane has, where etcd has hosts of its own.
      type: list
      elements: str
    left_out:
      description: The hosts that are not reached and that are to be left out.
      type: list
      elements: str
"""


def etcd_restore_plan(seen: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what leads from *seen* to a cluster that works."""
    if not isinstance(seen, dict):
        raise AnsibleFilterError("etcd_restore_plan needs what etcd_restore_info returned, by host")
    path, host = wanted.get("from") or "", wanted.get("from_host") or ""
    known = {key: value for key, value in wanted.items() if key not in ("from", "from_host")}
    try:
        named = _named(seen, path, host) if path else {}
        return decide(seen, Wanted(**known, given=named))
    except KubewrightError as error:
        raise AnsibleFilterError(str(error)) from error


def _named(seen: dict[str, Any], path: str, host: str) -> dict[str, Any]:
    """Return the file that is named: one of the controller, or one of the verified ones of a host."""
    if not host:
        return {**given(path), "host": ""}
    there = seen.get(host, {}).get("backups", [])
    for one in there:
        if path in (one["path"], one["path"].rpartition("/")[2]):
            return {**one, "host": host}
    have = ", ".join(one["path"] for one in there) or "none"
    raise KubewrightError(
        f"{host} has no verified backup {path}",
        why=f"it has {have}",
        remedy="Correct etcd_restore_from and etcd_restore_from_host",
    )


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Any]:
        return {"etcd_restore_plan": etcd_restore_plan}
