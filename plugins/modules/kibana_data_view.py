#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a Kibana in the cluster a data view."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kibana_data_view
short_description: Give a Kibana in the cluster a data view
version_added: 0.2.0
description:
  - Makes a data view in the Kibana that the role P(kubewright.cluster.kube_logging#role) has installed, through
    Kibana's own API.
  - It exists because M(ansible.builtin.uri) cannot verify a certificate for the name of a Service while it connects to
    the address of that Service, which is how a host reaches one. The password would have to be brought to it, too.
  - Kibana is waited for, because it takes a minute or two after its start until it answers.
notes:
  - B(Experimental). It was written from Kibana's documentation and run against a stand-in only.
  - The password of Elasticsearch's operator is read from its Secret. It is in no argument, result or log.
attributes:
  check_mode:
    support: full
    details:
      - A Kibana that is not there yet counts as one that would get the data view.
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
    details:
      - The host must have C(kubectl), and must reach Services, as nodes with kube-proxy do.
options:
  kubeconfig:
    description: The kubeconfig on the host, with the rights to read Secrets of O(namespace).
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The URL of the API server to use in place of the one in O(kubeconfig), for example V(https://192.0.2.11:6443).
    type: str
  namespace:
    description: The namespace of the logging.
    type: str
    default: logging
  name:
    description: The identifier of the data view. One that is there is brought to what is wanted.
    type: str
    default: logstash
  title:
    description: The indices that it shows.
    type: str
    default: logstash-*
  time_field:
    description: The field with the time of a document.
    type: str
    default: "@timestamp"
  base_path:
    description: The path below which Kibana answers, for one with C(server.rewriteBasePath).
    type: str
    default: ""
  timeout:
    description: The time, in seconds, in which Kibana must have answered.
    type: int
    default: 180
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Show the logs in Kibana
  kubewright.cluster.kibana_data_view:
    title: logstash-*
    time_field: "@timestamp"
"""

RETURN = r"""
action:
  description: What was done, or would be, V(created), V(changed) or V(unchanged).
  returned: success
  type: str
  sample: created
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kibana import (
    Kibana,
    data_view,
    differs,
    observe,
    write,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "api_server": {"type": "str"},
    "namespace": {"type": "str", "default": "logging"},
    "name": {"type": "str", "default": "logstash"},
    "title": {"type": "str", "default": "logstash-*"},
    "time_field": {"type": "str", "default": "@timestamp"},
    "base_path": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 180},
}

REQUEST_TIMEOUT = 15.0
_NOT_FOUND = 404


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = module.params
    try:
        api = KubeApi.from_kubeconfig(
            options["kubeconfig"],
            Runner(module.run_command),
            server=options["api_server"],
            timeout=REQUEST_TIMEOUT,
        )
        result = bring(api, options, dry_run=module.check_mode)
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(**result)


def bring(api: KubeApi, options: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
    """Observe, plan, apply; return the keys of the result."""
    wanted = data_view(options["name"], options["title"], options["time_field"])
    try:
        kibana = Kibana.from_cluster(api, options["namespace"], REQUEST_TIMEOUT, options["base_path"])
    except ApiError as error:
        if not (dry_run and error.status == _NOT_FOUND):
            raise
        return outcome(None, wanted)
    deadline = Deadline(0 if dry_run else options["timeout"])
    # In a list, because no data view is an answer too.
    found = wait_for(lambda: [observe(kibana, wanted["id"])], deadline, what="Kibana to answer", interval=3)[
        0
    ]
    if differs(found, wanted) and not dry_run:

        def written() -> bool:
            write(kibana, wanted)
            return True

        wait_for(written, deadline, what="Kibana to take the data view", interval=3)
    return outcome(found, wanted)


def outcome(found: dict[str, Any] | None, wanted: dict[str, str]) -> dict[str, Any]:
    """Return what is told of one data view."""
    changed = differs(found, wanted)
    before = {key: found.get(key) for key in wanted} if found else {}
    return {
        "changed": changed,
        "action": "unchanged" if not changed else "changed" if found else "created",
        "diff": {"before": before, "after": wanted if changed else before},
    }


if __name__ == "__main__":
    main()
