#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the report of a run on this host, or look at those of before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report_file
short_description: Keep the report of a run on this host
version_added: 0.2.0
description:
  - Writes the report of a run into a folder of this host, or looks at what earlier runs have left there.
  - The callback P(kubewright.cluster.report#callback) uses it where
    O(kubewright.cluster.kube_report#role:main:kube_report_host) names a host. There is no need to call it.
options:
  folder:
    description:
      - The folder, which is made where it is missing.
    type: path
    required: true
  name:
    description:
      - The name of the file, which is C(CLUSTER-OPERATION-TIME.html).
    type: str
    required: true
  content:
    description:
      - The page, compressed as gzip does and in base64. Without it the folder is only looked at.
    type: str
    default: ""
  keep:
    description:
      - How many reports of the same cluster and operation stay, the newest; V(0) keeps all.
    type: int
    default: 0
  cluster:
    description:
      - The cluster whose reports are looked at.
    type: str
    default: ""
  operation:
    description:
      - The operation whose usual times are wanted.
    type: str
    default: ""
extends_documentation_fragment:
  - kubewright.cluster._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: A report is new every time.
  idempotent:
    support: none
    details: A report is new every time.
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: See which runs never told their end
  kubewright.cluster.report_file:
    folder: /var/log/kubewright-reports
    name: example-upgrade-20261123T021405Z.html
    cluster: example
"""

RETURN = r"""
path:
  description: Where the report is, or would be.
  returned: success
  type: str
  sample: /var/log/kubewright-reports/example-upgrade-20261123T021405Z.html
untold:
  description: The data of reports whose run has not told its end, by the names of their files.
  returned: success, without O(content)
  type: dict
  sample: {}
usual:
  description: How many seconds each task took in the last run of O(operation) that ended.
  returned: success, without O(content)
  type: dict
  sample: {Upgrade the control plane: 84.2}
"""

import base64
import binascii
import gzip
import os
import zlib

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._quiet_module import QuietModule
from ansible_collections.kubewright.cluster.plugins.module_utils._report_files import look, put

ARGUMENTS = {
    "folder": {"type": "path", "required": True},
    "name": {"type": "str", "required": True},
    "content": {"type": "str", "default": ""},
    "keep": {"type": "int", "default": 0},
    "cluster": {"type": "str", "default": ""},
    "operation": {"type": "str", "default": ""},
}


def unpack(content: str) -> bytes:
    """Return the page that was packed."""
    try:
        return gzip.decompress(base64.b64decode(content, validate=True))
    except (binascii.Error, OSError, EOFError, zlib.error) as error:
        raise KubewrightError("The report did not arrive whole", why=str(error)) from error


def main() -> None:
    module = QuietModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    folder, name = params["folder"], params["name"]
    try:
        page = unpack(params["content"]) if params["content"] else b""
        if page and not module.check_mode:
            put(folder, name, page, params["keep"])
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    found = {} if page else look(folder, params["cluster"], params["operation"], name)._asdict()
    module.exit_json(changed=bool(page), path=os.path.join(folder, name), **found)


if __name__ == "__main__":
    main()
