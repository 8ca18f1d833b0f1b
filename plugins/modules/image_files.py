#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy programs out of a container image that containerd holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_files
short_description: Copy programs out of a container image
version_added: 0.1.0
description:
  - Copies programs out of a container image of this host's containerd into a folder of their own, one for
    each version, and lets links in a folder of the search path lead to them.
  - It is meant for tools that must have the version of what runs in a container, such as C(etcdctl) and
    C(etcdutl), which the image of etcd holds.
  - The image is mounted read-only for the time of the copy. Nothing in it is executed.
  - A folder gets its name when it is whole. A link is switched in one step, after the folder is there.
    What a run that was killed left behind, mounts included, is removed by the next one.
notes:
  - The content of a folder that has all files is not compared with the image. A version that is rebuilt needs
    another O(version).
  - C(ctr) does not know the registry mirrors that containerd's CRI plugin is configured with. For this reason
    a missing image is pulled with C(crictl), which goes the way that the kubelet goes.
attributes:
  check_mode:
    support: full
    details:
      - Containerd is not asked. An image that does not exist is not noticed.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
    details:
      - The host must run containerd with its socket at C(/run/containerd/containerd.sock), and have C(ctr).
options:
  image:
    description:
      - The reference of the image, complete with its registry and its tag, as containerd lists it.
    type: str
    required: true
  files:
    description:
      - What to copy. The keys are paths in the image, the values are file names in the folder.
      - Symbolic links are followed inside the image.
    type: dict
    required: true
  name:
    description:
      - The name of the software, which is the name of a folder in O(dest_root).
    type: str
    required: true
  version:
    description:
      - The version, which is the name of the folder that receives the files.
    type: str
    required: true
  dest_root:
    description:
      - The folder that holds the software.
    type: path
    default: /opt/kubewright
  links_dir:
    description:
      - The folder of the links to the files.
        A link in the way is switched. Anything else in the way is refused, see O(replace).
    type: path
    default: /usr/local/bin
  replace:
    description:
      - Let a link take the place of a file that something else installed. The file stays beside it, with
        C(.replaced) at the end of its name. Whoever used it gets the program of the image from then on.
    type: bool
    default: false
    version_added: 0.2.0
  namespace:
    description:
      - The namespace of containerd that has the image. Kubernetes uses V(k8s.io).
    type: str
    default: k8s.io
  pull:
    description:
      - Whether an image that is not there is pulled, which needs C(crictl). Otherwise it is an error.
      - Pulling is possible for the namespace V(k8s.io) only.
    type: bool
    default: true
  timeout:
    description:
      - The time, in seconds, in which everything must be done, the pull included.
    type: int
    default: 600
extends_documentation_fragment:
  - kubewright.cluster._attributes
seealso:
  - module: kubewright.cluster.release_file
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Install the tools of the etcd that runs
  kubewright.cluster.image_files:
    image: registry.k8s.io/etcd:3.6.5-0
    name: etcd-tools
    version: 3.6.5-0
    files:
      /usr/local/bin/etcdctl: etcdctl
      /usr/local/bin/etcdutl: etcdutl

- name: Take a program out of an image that was imported, and fail if it was not
  kubewright.cluster.image_files:
    image: registry.example.com/tools/jq:1.8.1
    name: jq
    version: 1.8.1
    files:
      /jq: jq
    pull: false
"""

RETURN = r"""
path:
  description:
    - The folder that holds the files.
  returned: success
  type: str
  sample: /opt/kubewright/etcd-tools/3.6.5-0
links:
  description:
    - The links, each with the file that it leads to.
  returned: success
  type: dict
  sample: {/usr/local/bin/etcdctl: /opt/kubewright/etcd-tools/3.6.5-0/etcdctl}
pulled:
  description:
    - Whether the image had to be pulled. It is V(false) in check mode.
  returned: success
  type: bool
  sample: false
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._image_files import (
    Installer,
    Wanted,
    check_options,
    diff,
    observe,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "image": {"type": "str", "required": True},
    "files": {"type": "dict", "required": True},
    "name": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "dest_root": {"type": "path", "default": "/opt/kubewright"},
    "links_dir": {"type": "path", "default": "/usr/local/bin"},
    "replace": {"type": "bool", "default": False},
    "namespace": {"type": "str", "default": "k8s.io"},
    "pull": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 600},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = dict(module.params)
    installer = Installer(Runner(module.run_command), Deadline(options.pop("timeout")))
    wanted = Wanted(**options)
    try:
        check_options(wanted)
        state = observe(wanted)
        planned = plan(wanted, state)
        if not module.check_mode:
            installer.apply(wanted, planned)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(
        changed=planned.changed,
        path=wanted.folder,
        links=wanted.links,
        pulled=installer.pulled,
        diff=diff(wanted, state),
    )


if __name__ == "__main__":
    main()
