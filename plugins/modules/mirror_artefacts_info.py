#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what a mirror is to hold for some versions of Kubernetes, and what of it is there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_artefacts_info
short_description: Find out what a mirror is to hold, and what of it is there
version_added: 0.2.0
description:
  - Makes the list of all artefacts of some versions of Kubernetes, with their digests, and compares it with what the
    mirror holds. The role P(kubewright.cluster.kube_mirror#role) runs it.
  - Reads the package repository of each minor, whose signature apt verifies with settings and lists of its own, and
    chooses kubeadm, kubelet, kubectl in each version and the newest of the packages that they need. Asks the kubeadm of
    each version for its images; where the mirror does not have it yet, it is downloaded into a folder that goes away.
  - Files that are in the mirror are read and compared with their digests. Of images the registry is asked for the
    manifest and for the sizes of all blobs. What is there and right is not asked for anywhere else, except the indexes
    of packages.
  - Changes nothing, not even the package lists of the host.
options:
  root:
    description: The folder of the mirror.
    type: path
    default: /srv/kubewright-mirror
  versions:
    description: Full versions of Kubernetes, for example V(1.37.1). Required unless O(fill) is V(false).
    type: list
    elements: str
  architectures:
    description: The architectures of the hosts, as Debian names them.
    type: list
    elements: str
    choices: [amd64, arm64]
    default: [amd64]
  package_url:
    description: The package repository without its last folder C(deb); C({minor}) is replaced by each minor.
    type: str
    default: https://pkgs.k8s.io/core:/stable:/v{minor}
  package_key_checksum:
    description: What C(deb/Release.key) must have, as M(kubewright.cluster.release_file) takes it. Empty means any.
    type: str
    default: ""
  rpm:
    description:
      - Whether the rpm repository of each minor is wanted too. Its signature is verified by C(gpgv), which check mode
        does without where it is not installed yet.
    type: bool
    default: false
  files:
    description: Single files.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: Where the file is.
        type: str
        required: true
      path:
        description: Where the mirror is to give it out, below its root.
        type: str
        required: true
      checksum:
        description:
          - Its checksum, as M(kubewright.cluster.release_file) takes it. A file of digests comes along, next to the
            file.
        type: str
        required: true
  images:
    description: Images beside those of kubeadm, with registry and tag, or with a digest.
    type: list
    elements: str
    default: []
  registries:
    description: Where the images of a registry come from, by the name of the registry, as C(https://HOST/v2/PATH).
    type: dict
    default: {}
  registry:
    description: The mirror's own registry.
    type: str
    default: http://127.0.0.1:5000/v2
  access:
    description: What servers want or need, as O(kubewright.cluster.check_sources#module:access) has it.
    type: dict
    default: {}
  fill:
    description:
      - With V(false) nobody is asked. The list is the one that an earlier run left in the mirror, which may have come
        by disk.
    type: bool
    default: true
  timeout:
    description: The time, in seconds, in which all of it must end.
    type: int
    default: 900
extends_documentation_fragment:
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
requirements:
  - apt and dpkg on the host, as on Debian; C(gpgv) with O(rpm).
seealso:
  - module: kubewright.cluster.mirror_artefacts
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: List what a mirror for an upgrade is to hold
  kubewright.cluster.mirror_artefacts_info:
    versions: [1.36.3, 1.37.1]
    images: [ghcr.io/flannel-io/flannel:v0.26.7]
  register: mirror

- name: Show it
  ansible.builtin.debug:
    msg: "{{ mirror.lines }}"
"""

RETURN = r"""
artefacts:
  description:
    - All artefacts, in the order in which they are to come. Each has its C(kind) (V(package), V(file), V(image) or
      V(index)), C(name), C(version), the C(path) below the mirror's root, the C(url) it comes from, C(digest), C(size)
      in bytes, the C(versions) of Kubernetes that need it (none where all do), and whether it is C(held).
  returned: success
  type: list
  elements: dict
  sample:
    - kind: image
      name: registry.k8s.io/pause:3.10.2
      version: 3.10.2
      path: v2/registry.k8s.io/pause/manifests/3.10.2
      url: https://registry.k8s.io/v2/pause/manifests/sha256:316d510a0428276d931023f72c09fdff1a6ba81d6cc36f31805fea6a3c88f515
      digest: sha256:316d510a0428276d931023f72c09fdff1a6ba81d6cc36f31805fea6a3c88f515
      size: 320368
      versions: [1.36.3]
      held: false
lines:
  description: The same for people, a line an artefact.
  returned: success
  type: list
  elements: str
  sample: ["sha256:316d...  320368  1.36.3  image  registry.k8s.io/pause:3.10.2"]
manifest:
  description: The same for programs, as a text of JSON that the mirror can serve and O(fill=false) reads.
  returned: success
  type: str
missing_bytes:
  description: What has to be downloaded.
  returned: success
  type: int
  sample: 1143210987
free_bytes:
  description: What is free where the mirror is, or will be.
  returned: success
  type: int
  sample: 51539607552
"""

import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils import _mirror_images
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access, passwords
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror import Store, lines, manifest
from ansible_collections.kubewright.cluster.plugins.module_utils._mirror_plan import (
    Plan,
    Tools,
    Wish,
    plan,
    plan_from,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._registry import Registry
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers, outside

FILE = {
    "url": {"type": "str", "required": True},
    "path": {"type": "str", "required": True},
    "checksum": {"type": "str", "required": True},
}
ARGUMENTS = {
    "root": {"type": "path", "default": "/srv/kubewright-mirror"},
    "versions": {"type": "list", "elements": "str"},
    "architectures": {
        "type": "list",
        "elements": "str",
        "choices": ["amd64", "arm64"],
        "default": ["amd64"],
    },
    "package_url": {"type": "str", "default": "https://pkgs.k8s.io/core:/stable:/v{minor}"},
    "package_key_checksum": {"type": "str", "default": "", "no_log": False},
    "rpm": {"type": "bool", "default": False},
    "files": {"type": "list", "elements": "dict", "options": FILE, "default": []},
    "images": {"type": "list", "elements": "str", "default": []},
    "registries": {"type": "dict", "default": {}},
    "registry": {"type": "str", "default": "http://127.0.0.1:5000/v2"},
    "access": {"type": "dict", "default": {}, "no_log": True},
    "fill": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 900},
}


def own_registry(module: AnsibleModule, deadline: Deadline) -> Registry | None:
    """Return the mirror's registry; before the first run there is none, and check mode does not start it."""
    registry = Registry(module.params["registry"], Access(use_proxy=False), deadline)
    if registry.answers():
        return registry
    if module.check_mode:
        return None
    raise KubewrightError(
        "The registry of the mirror does not answer",
        where=registry.url,
        remedy="See 'journalctl -u docker-registry' on the mirror",
    )


def make_plan(module: AnsibleModule, store: Store, folder: Path) -> Plan:
    """Return what is wanted and what is there."""
    options: dict[str, Any] = module.params
    deadline = Deadline(options["timeout"])
    servers = Servers(options["access"], str(folder))
    images = _mirror_images.Images(
        _mirror_images.sources(options["registries"], servers, deadline),
        own_registry(module, deadline),
        options["architectures"],
    )
    if not options["fill"]:
        return plan_from(store, images)
    names = ("versions", "architectures", "package_url", "package_key_checksum", "rpm", "files", "images")
    wish = Wish(**{name: options[name] for name in names})
    run_command = module.run_command
    tools = Tools(
        run_command, outside(run_command), servers, store, images, folder, deadline, module.check_mode
    )
    return plan(wish, tools)


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, required_if=[("fill", True, ["versions"])]
    )
    module.no_log_values = passwords(module.params["access"])
    store = Store(module.params["root"])
    try:
        with tempfile.TemporaryDirectory(dir=module.tmpdir, prefix="mirror-") as folder:
            made = make_plan(module, store, Path(folder))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(
        changed=False,
        artefacts=[one.told() for one in made.artefacts],
        lines=lines(made.artefacts),
        manifest=manifest(made.artefacts),
        missing_bytes=made.missing_bytes,
        free_bytes=store.free(),
    )


if __name__ == "__main__":
    main()
