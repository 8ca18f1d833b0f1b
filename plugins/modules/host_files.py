#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write many small text files of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Write many small text files of a host in one call
version_added: 0.1.0
description:
  - Brings a list of text files of a host into their wanted state, with one round trip for all of them.
    A loop over M(ansible.builtin.copy) needs several round trips for each file.
  - All files are looked at before the first one is written, so that a refusal leaves everything as it was.
  - A file gets its content, mode, ownership and SELinux context under a temporary name in its own folder, and
    then its name. A reader finds the old file or the new file, never a part of one.
  - A file whose content, mode and ownership are as they should be is not touched. A file of which only the
    mode or the ownership differs keeps its modification time.
notes:
  - The content of a file that not everyone may read, before or after, is not shown in the diff. No content is
    written to the host's system log or returned among the arguments of the module.
attributes:
  check_mode:
    support: full
    details:
      - A parent folder, user or group that does not exist yet counts as one that an earlier task would
        create.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  files:
    description:
      - The files, in the order in which they are written.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - The absolute path of the file.
          - A symbolic link, a folder or a special file at this path is refused.
            Parents may be symbolic links.
        type: str
        required: true
      content:
        description:
          - The content of the file, a text, which is written exactly as given.
            A newline at the end is not added.
          - It is required unless O(files[].state=absent).
          - Data, such as a dictionary or a number, is refused. Ansible can turn a template that renders JSON
            into data. An expression that ends with C(| string) stays a text.
        type: raw
      mode:
        description:
          - The mode of the file, octal and in quotes.
        type: str
        default: '0644'
      state:
        description:
          - Whether the file is to be there.
        type: str
        choices: [present, absent]
        default: present
  folders:
    description:
      - Folders with the mode and the ownership that they have to have, whether they are there already or not.
      - All other folders are made with O(directory_mode) where they are missing, and otherwise left alone.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description:
          - The absolute path of the folder.
        type: str
        required: true
      mode:
        description:
          - The mode of the folder, octal and in quotes.
        type: str
        default: '0755'
  obsolete:
    description:
      - Which files are removed when they are not in O(files). They are removed last.
    type: list
    elements: dict
    default: []
    suboptions:
      pattern:
        description:
          - The absolute path of the files, with the wildcards C(*), C(?) and C([...]).
            Symbolic links, folders and names that begin with a dot never match.
        type: str
        required: true
      mark:
        description:
          - What a file must begin with to be removed, so that files of somebody else stay.
          - Without it all that match are removed, which suits a folder of one's own.
        type: str
        default: ''
  owner:
    description:
      - The name or the number of the user that owns the files, and the folders that are created for them.
    type: str
    default: root
  group:
    description:
      - The name or the number of the group of the files, and of the folders that are created for them.
    type: str
    default: root
  directory_mode:
    description:
      - The mode, octal and in quotes, of the parent folders that are created because they are missing.
      - Folders that exist are not changed, unless they are in O(folders).
    type: str
    default: '0755'
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: ansible.builtin.copy
  - module: ansible.builtin.template
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Write the kernel settings of a node
  kubewright.cluster.host_files:
    files:
      - path: /etc/modules-load.d/kubernetes.conf
        content: |
          br_netfilter
          overlay
      - path: /etc/sysctl.d/90-kubernetes.conf
        content: |
          net.ipv4.ip_forward = 1
      - path: /etc/sysctl.d/99-old.conf
        state: absent

- name: Write the registry mirrors of containerd
  kubewright.cluster.host_files:
    files:
      - path: /etc/containerd/certs.d/registry.k8s.io/hosts.toml
        content: "{{ lookup('ansible.builtin.template', 'hosts.toml.j2') }}"
      - path: /etc/containerd/certs.d/docker.io/hosts.toml
        content: "{{ lookup('ansible.builtin.template', 'hosts.toml.j2') }}"

- name: Write the files of a list, and remove those of a former list
  kubewright.cluster.host_files:
    files:
      - path: /etc/example/a.conf
        content: "# Written by Ansible.\nanswer = 42\n"
    obsolete:
      - pattern: /etc/example/*.conf
        mark: "# Written by Ansible."

- name: Write a configuration that only root may read
  kubewright.cluster.host_files:
    files:
      - path: /etc/kubernetes/encryption.yaml
        content: "{{ encryption_configuration }}"
        mode: '0600'
    directory_mode: '0700'
"""

RETURN = r"""
changed_paths:
  description:
    - The paths of the folders that were changed in mode or ownership, then of the files that were written, changed
      in mode or ownership, or removed, or that would be in check mode, in the order of O(folders), O(files) and
      O(obsolete).
  returned: success
  type: list
  elements: str
  sample: [/etc/sysctl.d/90-kubernetes.conf]
created_folders:
  description:
    - The folders that were created, or would be in check mode, outermost first.
  returned: success
  type: list
  elements: str
  sample: [/etc/containerd/certs.d, /etc/containerd/certs.d/docker.io]
"""

import os

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._host_files import (
    apply,
    diff,
    observe,
    observe_folders,
    obsolete,
    parse_files,
    parse_folders,
    parse_mode,
    parse_owner,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._quiet_module import QuietModule

FILE = {
    "path": {"type": "str", "required": True},
    "content": {"type": "raw"},
    "mode": {"type": "str", "default": "0644"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
FOLDER = {"path": {"type": "str", "required": True}, "mode": {"type": "str", "default": "0755"}}
OBSOLETE = {"pattern": {"type": "str", "required": True}, "mark": {"type": "str", "default": ""}}
ARGUMENTS = {
    "files": {"type": "list", "elements": "dict", "required": True, "options": FILE},
    "folders": {"type": "list", "elements": "dict", "default": [], "options": FOLDER},
    "obsolete": {"type": "list", "elements": "dict", "default": [], "options": OBSOLETE},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "directory_mode": {"type": "str", "default": "0755"},
}


def main() -> None:
    # What keeps the arguments, which may hold secrets, out of the output is `invocation`.
    module = QuietModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params

    def place(temporary: str, path: str) -> None:
        # AnsibleModule.atomic_move would set mode and ownership anew, after the rename.
        known = module.selinux_context if os.path.exists(path) else module.selinux_default_context
        module.set_context_if_different(temporary, known(path), False)
        os.replace(temporary, path)

    invocation = {"module_args": {**options, "files": [item["path"] for item in options["files"]]}}
    try:
        owner = parse_owner(options["owner"], options["group"], may_be_missing=module.check_mode)
        directory_mode = parse_mode(options["directory_mode"], "directory_mode")
        files = parse_files(options["files"])
        files += obsolete(options["obsolete"], files)
        folder_modes = parse_folders(options["folders"])
        found, missing = observe(files)
        corrected, without = observe_folders(folder_modes, owner)
        planned = plan(files, found, [*missing, *without], owner, directory_mode, folder_modes, corrected)
        if not module.check_mode:
            apply(planned, place)
    except KubewrightError as error:
        module.fail_json(msg=str(error), invocation=invocation, **error.facts)
    module.exit_json(
        changed=bool(planned.changed_paths or planned.folders),
        changed_paths=planned.changed_paths,
        created_folders=[path for path, _mode in planned.folders],
        diff=diff(planned),
        invocation=invocation,
    )


if __name__ == "__main__":
    main()
