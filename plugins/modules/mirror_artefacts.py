#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring artefacts into a mirror, each verified."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_artefacts
short_description: Bring artefacts into a mirror, each verified
version_added: 0.2.0
description:
  - Downloads files, verifies each by its digest, and gives it its name when it is whole and on the disk. Copies images
    by their digests into the mirror's registry, by C(skopeo), and sees that they are there.
  - Takes what RV(kubewright.cluster.mirror_artefacts_info#module:artefacts) lists. What is there and right is left
    alone, so a run that was cut off goes on. The role P(kubewright.cluster.kube_mirror#role) runs it.
notes:
  - One run at a time fills a mirror. Another one, such as one whose controller was killed, is waited for.
attributes:
  check_mode:
    support: full
    details:
      - What RV(kubewright.cluster.mirror_artefacts_info#module:artefacts) found missing counts as what would come.
  diff_mode:
    support: none
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  root:
    description: The folder of the mirror.
    type: path
    default: /srv/kubewright-mirror
  artefacts:
    description: What is to be brought, as M(kubewright.cluster.mirror_artefacts_info) returns it.
    type: list
    elements: dict
    required: true
  registry:
    description: The mirror's own registry.
    type: str
    default: http://127.0.0.1:5000/v2
  access:
    description: What servers want or need, as O(kubewright.cluster.check_sources#module:access) has it.
    type: dict
    default: {}
  timeout:
    description: The time, in seconds, in which all of it must end.
    type: int
    default: 3600
extends_documentation_fragment:
  - kubewright.cluster._attributes
requirements:
  - C(skopeo) on the host, for images.
seealso:
  - module: kubewright.cluster.mirror_artefacts_info
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Bring what is missing
  kubewright.cluster.mirror_artefacts:
    artefacts: "{{ mirror.artefacts | rejectattr('held') | list }}"
"""

RETURN = r"""
brought:
  description: The paths of what was brought, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [kubernetes/v1.36/deb/amd64/kubeadm_1.36.3-1.1_amd64.deb]
expected:
  description:
    - The digest that the download should have.
  returned: when the digest differs
  type: str
  sample: 316d510a0428276d931023f72c09fdff1a6ba81d6cc36f31805fea6a3c88f515
actual:
  description:
    - The digest that the download has.
  returned: when the digest differs
  type: str
  sample: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
status:
  description:
    - The HTTP status that the server answered with.
  returned: when the server refuses the download
  type: int
  sample: 404
"""

import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _mirror_images
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access, passwords
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Artefact, Store
from ansible_collections.kubewright.cluster.plugins.module_utils._registry import Registry
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers, outside

ARGUMENTS = {
    "root": {"type": "path", "default": "/srv/kubewright-mirror"},
    "artefacts": {"type": "list", "elements": "dict", "required": True},
    "registry": {"type": "str", "default": "http://127.0.0.1:5000/v2"},
    "access": {"type": "dict", "default": {}, "no_log": True},
    "timeout": {"type": "int", "default": 3600},
}


def bring(module: AnsibleModule, artefacts: list[Artefact], folder: str) -> list[str]:
    """Bring what is not there, and return its paths."""
    options: dict[str, Any] = module.params
    deadline = Deadline(options["timeout"])
    servers, store = Servers(options["access"], folder), Store(options["root"])
    local = Registry(options["registry"], Access(use_proxy=False), deadline)
    brought = []
    with store.alone(deadline):
        for one in artefacts:
            if one.kind == "image":
                _mirror_images.copy(outside(module.run_command), servers, one, local, deadline)
            # Another run may have brought it while this one waited for its end.
            elif store.holds(one.path, one.digest):
                continue
            else:
                store.bring(one, servers.fetcher(one.url, deadline))
            brought.append(one.path)
    return brought


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.no_log_values = passwords(module.params["access"])
    try:
        artefacts = [Artefact.read(one) for one in module.params["artefacts"]]
        if module.check_mode:
            brought = [one.path for one in artefacts if not one.held]
        else:
            with tempfile.TemporaryDirectory(dir=module.tmpdir, prefix="mirror-") as folder:
                brought = bring(module, artefacts, folder)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=bool(brought), brought=brought)


if __name__ == "__main__":
    main()
