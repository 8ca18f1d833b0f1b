#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out whether a host can get what it is going to install."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_sources
short_description: Find out whether a host can get what it is going to install
version_added: 0.1.0
description:
  - Asks the servers of packages and releases for the files that the next tasks will fetch, and compares checksums,
    before anything on the host is changed.
  - Does not fail when a file is missing or wrong. It returns RV(problems), so that one task can judge the whole host.
options:
  sources:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      variable:
        description: The variable that a problem is reported under.
        type: str
        required: true
      url:
        description: Where the file is.
        type: str
        required: true
      checksum:
        description:
          - Its checksum, as M(kubewright.cluster.release_file) takes it. Empty means that nobody gave one.
          - A file of digests must name the file. A digest is compared with that of the file itself, with O(whole).
        type: str
        default: ""
      contains:
        description:
          - What the file must hold. It is for indexes of packages, and one that the server does not have (404) is no
            problem, because some mirrors have only packed ones.
        type: str
        default: ""
      value:
        description: The value of the variable that asks for O(sources[].contains).
        type: str
        default: ""
  whole:
    description:
      - Whether to read a file to its end where its digest was given. One host of a play is enough, because the file is
        the same for all.
    type: bool
    default: true
  timeout:
    description: The time, in seconds, in which all of it must end.
    type: int
    default: 300
  access:
    description:
      - What a server wants or needs, by its name with its port as they stand in the URLs.
      - Each value may have C(username) and C(password) for basic authentication, and C(ca_certificates), the text in
        PEM of the authorities that vouch for the server.
    type: dict
    default: {}
extends_documentation_fragment:
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
seealso:
  - module: kubewright.cluster.release_file
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Find out whether the host gets its packages and releases
  kubewright.cluster.check_sources:
    sources:
      - variable: kube_host_package_key_url
        url: https://mirror.example.com/kubernetes/v1.36/deb/Release.key
        checksum: sha256:316d510a0428276d931023f72c09fdff1a6ba81d6cc36f31805fea6a3c88f515
      - variable: kube_cluster_version
        value: 1.36.3
        url: https://mirror.example.com/kubernetes/v1.36/deb/Packages
        contains: "Version: 1.36.3-"
  register: sources
"""

RETURN = r"""
problems:
  description: What is missing or wrong, one sentence each.
  returned: success
  type: list
  elements: str
  sample:
    - >-
      kube_host_package_key_url is https://mirror.example.com/Release.key, but the server answers 404 Not Found:
      check that the server or mirror holds this version for this
      architecture.
"""

import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access, Fetcher, passwords
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._sources import Source, problems, server

SOURCE = {
    "variable": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "checksum": {"type": "str", "default": ""},
    "contains": {"type": "str", "default": ""},
    "value": {"type": "str", "default": ""},
}


def access_to(options: dict[str, Any], folder: str) -> Access:
    """Return how to get into a server; its authorities go to a file below *folder*."""
    path = None
    if options.get("ca_certificates"):
        descriptor, path = tempfile.mkstemp(dir=folder, suffix=".pem")
        with os.fdopen(descriptor, "w") as stream:
            stream.write(options["ca_certificates"])
    return Access(ca_path=path, url_username=options.get("username"), url_password=options.get("password"))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "sources": {"type": "list", "elements": "dict", "options": SOURCE, "required": True},
            "whole": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 300},
            "access": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    module.no_log_values = passwords(options["access"])
    deadline = Deadline(options["timeout"])
    sources = [Source(**source) for source in options["sources"]]
    # Ansible removes this folder when the module ends.
    access = {name: access_to(given, module.tmpdir) for name, given in options["access"].items()}
    found = problems(
        sources, lambda url: Fetcher(access.get(server(url), Access()), deadline), whole=options["whole"]
    )
    module.exit_json(changed=False, problems=found)


if __name__ == "__main__":
    main()
