#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out whether the hosts of a cluster to be reach each other, before anything is installed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_reach
short_description: Find out whether the hosts of a cluster reach each other
version_added: 0.1.0
description:
  - Finds out over the network what kubeadm would only discover half way, namely a port that another host cannot reach,
    a clock that is off, and a virtual IP that somebody else has.
  - With O(phase=listen) a host opens the ports that it will serve on. With O(phase=connect), when all hosts listen,
    each host connects to its peers, and the module fails with one sentence for each thing that is wrong.
notes:
  - The listeners run in a process of their own, C(kube-host-reach), as the user nobody. It ends as soon as every
    visitor has said bye, and after O(lifetime) in any case. It answers only who knows RV(listener.nonce).
  - Only ports that nothing listens on are opened, and only on O(address). Where something else listens, a plain TCP
    connection has to do.
  - With more hosts than forks the first listeners wait until the last host has connected. A listener that is within 10
    seconds of its end is not asked any more, and the peer is returned in RV(unchecked) with a warning.
attributes:
  check_mode:
    support: full
    details:
      - Listens and connects in check mode too. Nothing that lasts is changed in either mode.
  diff_mode:
    support: N/A
    details:
      - Nothing is changed.
  idempotent:
    support: full
    details:
      - Nothing is changed.
  platform:
    platforms: linux
    support: full
options:
  phase:
    description:
      - V(listen) opens ports, V(connect) probes those of others.
    type: str
    choices: [listen, connect]
    required: true
  name:
    description:
      - The name of this host, as the messages are to call it.
    type: str
    required: true
  address:
    description:
      - The address by which the other hosts reach this one.
    type: str
    required: true
  control_planes:
    description:
      - The names of the hosts that are to be control planes. It decides what a host serves, and whom it must reach.
    type: list
    elements: str
    required: true
  ports:
    description:
      - The ports of the services that the cluster will use. A service that is missing here is not checked.
    type: dict
    required: true
    suboptions:
      api:
        description: The API server on control planes, TCP.
        type: int
      endpoint:
        description: The load balancer on control planes, TCP. Leave it out where other hosts carry the load balancer.
        type: int
      etcd_client:
        description: The clients' port of etcd on control planes, TCP. Leave it out where other hosts carry etcd.
        type: int
      etcd_peer:
        description: The members' port of etcd on control planes, TCP. The same holds for it.
        type: int
      kubelet:
        description: The kubelet on every node, TCP.
        type: int
      vxlan:
        description: The vxlan device of flannel on every node, UDP. Leave it out with another pod network.
        type: int
  ignore_preflight_errors:
    description:
      - With O(phase=listen), what kubeadm is going to be told to let pass. Ports of the cluster that something else
        holds are refused, because kubeadm would, unless V(Port-NUMBER) or V(all) is in here.
    type: list
    elements: str
    default: []
  hosts:
    description:
      - With O(phase=listen), the names of all hosts of this run that become nodes, in the same order on each of them.
        Control planes and other hosts connect to each other, workers to three others.
    type: list
    elements: str
    default: []
  visitor:
    description:
      - With O(phase=listen), the name of one more host that will connect, such as a control plane that lives.
    type: str
  lifetime:
    description:
      - With O(phase=listen), the most seconds that the listeners live, up to 60.
    type: int
    default: 60
  controller_time:
    description:
      - The time on the controller, in seconds. The age of a listener is the difference between the values in both
        phases, because the hosts' own clocks are not to be trusted yet.
    type: float
    required: true
  listeners:
    description:
      - With O(phase=connect), RV(listener) of the hosts to connect to.
    type: list
    elements: dict
    default: []
  servers:
    description:
      - With O(phase=connect), addresses by name of the control planes of a cluster that exists. Plain TCP connections
        to what the cluster itself listens on there have to do.
    type: dict
    default: {}
  serving:
    description:
      - The names of those O(servers) whose API server answers. Only there a refused connection counts.
    type: list
    elements: str
    default: []
  members:
    description:
      - The addresses of healthy etcd members. An O(servers) host that is neither here nor in O(serving) is taken for
        dead and not probed.
    type: list
    elements: str
    default: []
  endpoint:
    description:
      - With O(phase=connect), where the API server's load balancer must accept connections already.
    type: dict
    suboptions:
      address:
        description: Its address or name.
        type: str
        required: true
      port:
        description: Its TCP port.
        type: int
        required: true
  max_clock_offset:
    description:
      - With O(phase=connect), how many seconds the clocks of two hosts may differ. Half of the time that an answer
        took is allowed on top, because it is not known better.
    type: float
    default: 1
  free_address:
    description:
      - With O(phase=connect), an IPv4 address that nobody but the O(neighbours) may have. It is asked for with ARP on
        the interface that holds O(address).
    type: str
  neighbours:
    description:
      - The addresses of the hosts that may hold O(free_address), because they are its load balancers.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kubewright.cluster._attributes
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Listen where this host will serve
  kubewright.cluster.host_reach:
    phase: listen
    name: "{{ inventory_hostname }}"
    address: "{{ kube_cluster_host_address }}"
    control_planes: "{{ groups.control_plane }}"
    ports: {api: 6443, etcd_client: 2379, etcd_peer: 2380, kubelet: 10250}
    hosts: "{{ ansible_play_hosts }}"
    controller_time: "{{ now().timestamp() }}"
  register: opened

- name: Reach the others
  kubewright.cluster.host_reach:
    phase: connect
    name: "{{ inventory_hostname }}"
    address: "{{ kube_cluster_host_address }}"
    control_planes: "{{ groups.control_plane }}"
    ports: {api: 6443, etcd_client: 2379, etcd_peer: 2380, kubelet: 10250}
    listeners: "{{ opened.peers | map('extract', hostvars) | map(attribute='opened.listener') | list }}"
    controller_time: "{{ now().timestamp() }}"
"""

RETURN = r"""
listener:
  description:
    - What O(listeners) of other hosts takes.
  returned: with O(phase=listen)
  type: dict
  contains:
    name:
      description: O(name) of this host.
      type: str
      sample: cp1
    address:
      description: O(address) of this host.
      type: str
      sample: 10.0.0.11
    control_plane:
      description: Whether this host is to be a control plane.
      type: bool
      sample: true
    listening:
      description: The services whose ports were opened. On the others something else listens.
      type: list
      elements: str
      sample: [api, etcd_client, etcd_peer, kubelet]
    nonce:
      description: What proves to these listeners, and to no others, that a visitor is meant. It dies with them.
      type: str
      sample: 7c1f0c6f2f9a4d0b9d6e2b8f3a5c7e91
    since:
      description: O(controller_time) at which they were started.
      type: float
      sample: 1790000000.25
    lifetime:
      description: How many seconds they live at most.
      type: int
      sample: 60
peers:
  description:
    - The names of those O(hosts) that this host is to connect to.
  returned: with O(phase=listen)
  type: list
  elements: str
  sample: [cp2, cp3]
reached:
  description:
    - How many probes were answered.
  returned: with O(phase=connect)
  type: int
  sample: 12
clock_offsets:
  description:
    - How many seconds the clocks of the listeners' hosts are ahead of this one.
  returned: with O(phase=connect)
  type: dict
  sample:
    cp2: -0.0021
unchecked:
  description:
    - The names of peers whose listeners were too old to be asked.
  returned: with O(phase=connect)
  type: list
  elements: str
  sample: []
problems:
  description:
    - One sentence for each thing that is wrong. RV(msg) is all of them.
  returned: with O(phase=connect)
  type: list
  elements: str
  sample: []
msg:
  description:
    - What is wrong, in one line.
  returned: on failure
  type: str
  sample: >-
    worker1 cannot reach cp1 (10.0.0.11) on 6443/tcp (API server): no answer, so a packet filter probably drops it.
    Open it on cp1 and on the way for worker1.
"""

import secrets
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._arp import who_has
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._host_reach import (
    SERVICES,
    Sample,
    address_problem,
    best,
    busy_problem,
    clock_problems,
    peers_of,
    plan_endpoint,
    plan_listeners,
    plan_servers,
    port_problems,
    served,
    visitors_of,
    wanted_by_kubeadm,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._reach_listener import (
    MAX_LIFETIME,
    bind,
    detach,
    stop,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._reach_probe import probe_all
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ARGUMENTS = {
    "phase": {"type": "str", "choices": ["listen", "connect"], "required": True},
    "name": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "control_planes": {"type": "list", "elements": "str", "required": True},
    "ports": {"type": "dict", "required": True, "options": {name: {"type": "int"} for name in SERVICES}},
    "ignore_preflight_errors": {"type": "list", "elements": "str", "default": []},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "visitor": {"type": "str"},
    "lifetime": {"type": "int", "default": MAX_LIFETIME},
    "controller_time": {"type": "float", "required": True},
    "listeners": {"type": "list", "elements": "dict", "default": []},
    "servers": {"type": "dict", "default": {}},
    "serving": {"type": "list", "elements": "str", "default": []},
    "members": {"type": "list", "elements": "str", "default": []},
    "endpoint": {
        "type": "dict",
        "options": {"address": {"type": "str", "required": True}, "port": {"type": "int", "required": True}},
    },
    "max_clock_offset": {"type": "float", "default": 1},
    "free_address": {"type": "str"},
    "neighbours": {"type": "list", "elements": "str", "default": []},
}


def listen(options: dict[str, Any]) -> dict[str, Any]:
    """Open the ports of this host, and leave a process behind that answers there."""
    # One that an interrupted run left behind would look like somebody who has the ports.
    stop()
    me, ports, control_planes = options["name"], options["ports"], options["control_planes"]
    sockets = {
        one: bind(options["address"], ports[one.name], one.protocol)
        for one in served(me in control_planes, ports)
    }
    opened = [one for one in sockets.values() if one]
    needed = wanted_by_kubeadm(ports, options["ignore_preflight_errors"])
    taken = [(one, ports[one.name]) for one, has in sockets.items() if not has and one.name in needed]
    visitors = visitors_of(me, options["hosts"], control_planes) + [options["visitor"]] * bool(
        options["visitor"]
    )
    listener = {
        "name": me,
        "address": options["address"],
        "control_plane": me in control_planes,
        "listening": [one.name for one, has in sockets.items() if has],
        "nonce": secrets.token_hex(16),
        "since": options["controller_time"],
        "lifetime": min(options["lifetime"], MAX_LIFETIME),
    }
    if taken:
        raise KubewrightError(busy_problem(me, taken))
    if visitors:
        detach(opened, listener["nonce"], set(visitors), listener["lifetime"])
    return {"listener": listener, "peers": peers_of(me, options["hosts"], control_planes)}


def connect(options: dict[str, Any], runner: Runner) -> dict[str, Any]:
    """Probe the peers, and the address that must be free."""
    me, ports = options["name"], options["ports"]
    control_plane = me in options["control_planes"]
    plan = plan_listeners(me, control_plane, ports, options["listeners"], options["controller_time"])
    targets = plan.targets + plan_servers(
        me, control_plane, ports, options["servers"], options["serving"], options["members"]
    )
    if options["endpoint"]:
        targets.append(plan_endpoint(**options["endpoint"]))
    found = probe_all(me, targets)
    samples: dict[str, list[Sample]] = {}
    for target, one in zip(targets, found):
        if one.clock:
            samples.setdefault(target.peer, []).append(one.clock)
    clocks = {name: sample for name, some in samples.items() if (sample := best(some))}
    problems = port_problems(me, [(target, one.trouble) for target, one in zip(targets, found)])
    problems += clock_problems(me, clocks, options["max_clock_offset"])
    if options["free_address"]:
        problems += taken_address(options, runner)
    return {
        "reached": sum(not one.trouble for one in found),
        "clock_offsets": {name: round(sample.offset, 6) for name, sample in clocks.items()},
        "unchecked": plan.unchecked,
        "problems": problems,
    }


def taken_address(options: dict[str, Any], runner: Runner) -> list[str]:
    """Return what is wrong with the address that must be free."""
    wanted, own = options["free_address"], options["address"]
    if own in options["neighbours"] and interface_of(runner, wanted):
        return []
    others = [one for one in options["neighbours"] if one != own]
    problem = address_problem(options["name"], wanted, who_has(interface_of(runner, own), [wanted, *others]))
    return [problem] if problem else []


def interface_of(runner: Runner, address: str) -> str:
    """Return the name of the interface that holds an address of this host."""
    # Old versions of ip print an empty object for each interface that does not match.
    found = [one for one in runner.json(["ip", "-json", "address", "show", "to", address]) if one]
    return str(found[0]["ifname"]) if found else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
    )
    options = {**module.params, "ports": {key: port for key, port in module.params["ports"].items() if port}}
    try:
        listening = options["phase"] == "listen"
        result = listen(options) if listening else connect(options, Runner(module.run_command))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    except OSError as error:
        module.fail_json(msg=f"{options['name']} cannot look at its network: {error}.")
    if result.get("unchecked"):
        names = ", ".join(result["unchecked"])
        module.warn(f"{options['name']} did not check {names}: too many hosts for the forks. Raise forks.")
    if result.get("problems"):
        module.fail_json(msg=" ".join(result["problems"]), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
