#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install one artefact of a release, verified and atomically."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_file
short_description: Install one artefact of a release, verified and atomically
version_added: 0.1.0
description:
  - Downloads a tarball or a single file, verifies its checksum, unpacks it into a folder of its own for each
    version, and switches symbolic links to it.
  - The folder gets its name only when its content is whole and on the disk, and links are switched in one
    step. A run that is stopped at any moment leaves the old version in use or the new one, and the next run
    removes what it left behind.
  - When the version is installed already and the links are right, nothing is downloaded, not even a file of
    checksums.
notes:
  - Archives are refused when a member has an absolute name, a name with C(..), a link that leads out of the
    folder, or is neither a file nor a folder nor a link.
  - Unpacked files belong to the user that runs the module. They have the mode 0755 when they are executable
    in the archive and 0644 when they are not. Their times are those of the installation.
  - Older versions stay in place. They can be removed when no link leads to them.
  - A download is tried three times when the server cannot be reached or answers with the status 408, 429 or
    5xx.
attributes:
  check_mode:
    support: full
    details:
      - Nothing is downloaded, so that a wrong URL or checksum is not found.
      - What a pattern in O(links) will match is not known before the archive is unpacked.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  url:
    description:
      - Where the artefact is.
      - A file whose name ends in C(.tar), C(.tar.gz), C(.tgz), C(.tar.bz2), C(.tbz2), C(.tar.xz) or C(.txz)
        is unpacked; any other is installed as it is.
    type: str
    required: true
  checksum:
    description:
      - The algorithm, V(sha256) or V(sha512), a colon, and either the digest in hexadecimal digits or the
        URL of a file of digests.
      - In a file of digests, the line counts that ends in the file name of O(url). A file that holds nothing
        but one digest may name no file.
      - The artefact is installed again when this changes. When it is a digest, a new O(url) alone changes
        nothing.
    type: str
    required: true
  name:
    description:
      - The name of the program, which is also the name of a folder.
    type: str
    required: true
  version:
    description:
      - The version of the program, which is also the name of a folder.
    type: str
    required: true
  dest_root:
    description:
      - The folder under which all releases are installed, each in C(name/version).
    type: path
    default: /opt/kubewright
  strip:
    description:
      - The number of leading path components to take off the names in a tarball.
      - Members that have no more components are left out.
    type: int
    default: 0
  include:
    description:
      - Shell patterns of the members of a tarball to unpack, matched after O(strip). V(*) also matches a
        slash.
      - Without patterns everything is unpacked.
    type: list
    elements: str
    default: []
  links:
    description:
      - The symbolic links to make. A key is the path of a link, its value a path relative to the unpacked
        folder.
      - When the key ends with a slash, the value is a shell pattern, and everything that it matches is
        linked under its own name into that folder.
    type: dict
    default: {}
  replace:
    description:
      - Whether a link may replace a regular file. A file that another installation put there is lost.
      - Without it, such a file is an error. A folder always is.
    type: bool
    default: false
  mode:
    description:
      - The mode of an artefact that is a single file, in octal digits.
    type: str
    default: "0755"
  binary_name:
    description:
      - The name that an artefact that is a single file gets. By default it is the last part of O(url).
    type: str
    default: ""
  headers:
    description:
      - Headers to send with each request.
    type: dict
    default: {}
  ca_path:
    description:
      - A file with the certificates of the authorities to trust, in PEM format.
    type: path
  timeout:
    description:
      - The time, in seconds, in which all downloads of this task must end.
      - A server that sends nothing for 60 seconds is given up earlier.
    type: int
    default: 600
  use_proxy:
    description:
      - Whether to use the proxy that the environment names.
    type: bool
    default: true
  url_username:
    description:
      - The user for basic authentication. It is sent to the server of O(url) only, also where O(checksum) or a
        redirection leads to another one.
    type: str
  url_password:
    description:
      - The password for basic authentication.
    type: str
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: ansible.builtin.get_url
  - module: ansible.builtin.unarchive
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Install containerd
  kubewright.cluster.release_file:
    name: containerd
    version: 2.1.4
    url: https://github.com/containerd/containerd/releases/download/v2.1.4/containerd-2.1.4-linux-amd64.tar.gz
    checksum: "sha256:https://github.com/containerd/containerd/releases/download/v2.1.4/\
      containerd-2.1.4-linux-amd64.tar.gz.sha256sum"
    links:
      /usr/local/bin/: bin/*

- name: Install runc, which is a single file, from a mirror
  kubewright.cluster.release_file:
    name: runc
    version: 1.3.0
    url: https://mirror.example.org/runc/v1.3.0/runc.amd64
    checksum: sha256:https://mirror.example.org/runc/v1.3.0/runc.sha256sum
    binary_name: runc
    links:
      /usr/local/sbin/runc: runc
    ca_path: /etc/ssl/certs/mirror.pem

- name: Install only the clients of etcd
  kubewright.cluster.release_file:
    name: etcd
    version: 3.6.14
    url: https://mirror.example.org/etcd/etcd-v3.6.14-linux-amd64.tar.gz
    checksum: sha256:https://mirror.example.org/etcd/SHA256SUMS
    strip: 1
    include: [etcdctl, etcdutl]
    links:
      /usr/local/bin/etcdctl: etcdctl
      /usr/local/bin/etcdutl: etcdutl
"""

RETURN = r"""
path:
  description:
    - The folder of this version.
  returned: success
  type: str
  sample: /opt/kubewright/containerd/2.1.4
digest:
  description:
    - The algorithm and digest of the artefact that is installed. It is empty in check mode before the
      installation.
  returned: success
  type: str
  sample: sha256:316d510a0428276d931023f72c09fdff1a6ba81d6cc36f31805fea6a3c88f515
links:
  description:
    - The links and the absolute paths that they lead to.
    - In check mode, before the installation, a pattern stands for what it will match.
  returned: success
  type: dict
  sample: {"/usr/local/bin/containerd": "/opt/kubewright/containerd/2.1.4/bin/containerd"}
previous_versions:
  description:
    - The versions that the links led to before. Without links, this version, if it was installed.
    - They are more than one when a run was stopped while it switched the links.
  returned: success
  type: list
  elements: str
  sample: [2.1.3]
expected:
  description:
    - The digest that the download should have.
  returned: when the checksum differs
  type: str
  sample: 316d510a0428276d931023f72c09fdff1a6ba81d6cc36f31805fea6a3c88f515
actual:
  description:
    - The digest that the download has.
  returned: when the checksum differs
  type: str
  sample: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
status:
  description:
    - The HTTP status that the server answered with.
  returned: when the server refuses the download
  type: int
  sample: 404
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access, Fetcher
from ansible_collections.kubewright.cluster.plugins.module_utils._release import (
    Artefact,
    apply,
    diff,
    observe,
    parse_mode,
    plan,
    versions,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

ACCESS_ARGUMENTS = {
    "headers": {"type": "dict", "default": {}},
    "ca_path": {"type": "path"},
    "use_proxy": {"type": "bool", "default": True},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
}
ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "checksum": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "dest_root": {"type": "path", "default": "/opt/kubewright"},
    "strip": {"type": "int", "default": 0},
    "include": {"type": "list", "elements": "str", "default": []},
    "links": {"type": "dict", "default": {}},
    "replace": {"type": "bool", "default": False},
    "mode": {"type": "str", "default": "0755"},
    "binary_name": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 600},
    **ACCESS_ARGUMENTS,
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    access = Access(**{key: options[key] for key in ACCESS_ARGUMENTS})
    same = ("url", "checksum", "name", "version", "strip", "links", "replace", "binary_name")
    try:
        artefact = Artefact(
            **{key: options[key] for key in same},
            root=options["dest_root"],
            include=tuple(options["include"]),
            mode=parse_mode(options["mode"]),
        )
        before = after = observe(artefact)
        planned = plan(artefact, before)
        if planned.changed and not module.check_mode:
            after = apply(artefact, planned, Fetcher(access, Deadline(options["timeout"])))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)

    module.exit_json(
        changed=planned.changed,
        path=artefact.folder,
        digest=after.digest,
        links=dict(after.links),
        previous_versions=versions(artefact, before),
        diff=diff(artefact, before, after, planned),
    )


if __name__ == "__main__":
    main()
