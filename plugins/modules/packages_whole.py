#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: packages_whole
short_description: Finish the installation of packages that was interrupted
version_added: 0.1.0
description:
  - A C(dpkg) that is cut off leaves packages that are half installed, and from then on C(apt) installs nothing.
  - This module configures what was unpacked, and lets C(apt) unpack again what was not. Configuration files that were
    changed on the host are kept.
  - What is wrong with other packages than O(packages) is left alone when all of these are installed and whole. Where
    one of them is not, everything that is half installed is finished, because it may be what that one depends on. The
    journal of an interrupted C(dpkg) is always worked off. Nothing is removed.
  - A C(dpkg) that still runs, because only its controller was ended, is waited for.
  - Does nothing on hosts without C(dpkg).
options:
  packages:
    description:
      - The names of the packages that are going to be installed, or are.
    type: list
    elements: str
    required: true
  timeout:
    description:
      - Seconds that waiting and mending may take together.
    type: int
    default: 600
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
    details:
      - It waits for a C(dpkg) that is found running in check mode too.
  diff_mode:
    support: none
    details:
      - RV(packages) says what was mended.
  idempotent:
    support: full
requirements:
  - Root on the host.
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Finish what an interrupted run left of packages
  kubewright.cluster.packages_whole:
    packages: [kubelet, kubeadm, kubectl]
"""

RETURN = r"""
packages:
  description:
    - The packages that were not whole, without those that were left alone and those that only the journal of C(dpkg)
      knows.
  returned: success
  type: list
  elements: str
  sample: [kubelet]
installed:
  description:
    - Those of O(packages) that are installed, by name. V({}) without C(dpkg).
  returned: success
  type: dict
  contains:
    version:
      description: The version of the package, with its epoch and revision.
      type: str
    held:
      description: Whether the package is held in this version.
      type: bool
  sample: {kubelet: {held: true, version: 1.36.3-1.1}}
mode_overrides:
  description:
    - The files and folders of the host whose mode outlasts an upgrade of their package, as C(dpkg-statoverride)
      lists them.
  returned: success
  type: list
  elements: str
  sample: [/usr/lib/systemd/system/kubelet.service]
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._dpkg import FOLDER, inventory, mend, settle
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "packages": {"type": "list", "elements": "str", "required": True},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    ours, deadline = module.params["packages"], Deadline(module.params["timeout"])
    runner = Runner(module.run_command, {"DEBIAN_FRONTEND": "noninteractive"})
    try:
        state = settle(FOLDER, ours, deadline)
        if not state.whole and not module.check_mode:
            mend(runner, FOLDER, ours, deadline)
        found = inventory(runner, FOLDER, ours)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(
        changed=not state.whole,
        packages=list(state.packages),
        installed={name: asdict(package) for name, package in found.installed.items()},
        mode_overrides=list(found.mode_overrides),
    )


if __name__ == "__main__":
    main()
