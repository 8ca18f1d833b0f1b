#!/usr/bin/python
# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_info
short_description: Report the health of a kubeadm cluster and of the host
version_added: 0.1.0
description:
  - Observes a cluster made with kubeadm and the host that the module runs on, and judges both.
  - This is the gate that every operation of this collection passes before and after each disruptive step.
  - The cluster is judged by its API server, the conditions of its nodes, the static pods of its control
    planes, the members of etcd and their quorum, its add-ons, pending kubelet certificate requests and the
    version skew policy of Kubernetes.
  - The host is judged by its certificates, its services and what kubeadm left on it.
  - An unhealthy or unreachable cluster does not make the module fail. It returns RV(healthy=false) and
    RV(reasons).
options:
  gather:
    description:
      - What to observe.
      - V(host) works on every host, also on one where nothing is installed yet.
      - V(cluster) needs a kubeconfig with administrator rights, and the client certificate of etcd that a
        control plane has.
    type: list
    elements: str
    choices: [host, cluster]
    default: [host, cluster]
  kubeconfig:
    description:
      - The kubeconfig on the host that the API server is asked with.
    type: path
    default: /etc/kubernetes/admin.conf
  api_server:
    description:
      - The address of the API server to ask, for example V(https://10.0.0.11:6443). It replaces the address
        in O(kubeconfig).
      - Name the API server of the host itself here, so that no load balancer answers for it. The certificate
        of the server is verified all the same.
    type: str
  timeout:
    description:
      - How many seconds a single request to the API server may take.
    type: int
    default: 10
  expected_nodes:
    description:
      - The names of all nodes that the cluster should have.
      - A node that is missing makes the cluster unhealthy. A worker that is not in the list is a notice only.
    type: list
    elements: str
  expected_control_plane:
    description:
      - The names of all control planes that the cluster should have.
      - A control plane that is missing, or that is not in the list, makes the cluster unhealthy.
    type: list
    elements: str
  certificate_warning_days:
    description:
      - Warn of a certificate that expires within this number of days.
      - One that expires within 7 days makes the host unhealthy.
      - The last fifth and the last tenth of its life count instead for a certificate that is issued for a
        shorter time than these limits, as it is with a short C(--cluster-signing-duration).
    type: int
    default: 30
  packages:
    description:
      - The names of the packages that RV(host.packages) tells of, on a host with C(dpkg).
    type: list
    elements: str
    default: []
  etcdctl:
    description:
      - The path of C(etcdctl) on the host.
      - The cluster is unhealthy when it is not there, because nobody knows then what etcd can afford to lose.
    type: path
    default: /usr/local/bin/etcdctl
extends_documentation_fragment:
  - kubewright.cluster._attributes
  - kubewright.cluster._attributes.info_module
requirements:
  - Root on the host.
  - For V(cluster) in O(gather), C(kubectl) and C(etcdctl) on the host.
author:
  - kubewright.cluster contributors (@kubewright)
seealso:
  - plugin: kubewright.cluster.cluster_report
    plugin_type: filter
    description: Renders the result for a person.
"""

EXAMPLES = r"""
- name: Find out what kubeadm left on each host
  kubewright.cluster.cluster_info:
    gather: [host]
  register: observed

- name: Wait until the cluster is healthy, as this control plane sees it
  kubewright.cluster.cluster_info:
    api_server: "https://{{ ansible_facts['default_ipv4']['address'] }}:6443"
    expected_nodes: "{{ groups['control_plane'] + groups['workers'] }}"
    expected_control_plane: "{{ groups['control_plane'] }}"
  register: gate
  until: gate.healthy
  retries: 30
  delay: 10

- name: Show the report
  ansible.builtin.debug:
    msg: "{{ gate | kubewright.cluster.cluster_report }}"
"""

RETURN = r"""
healthy:
  description: Whether nothing was found that must stop the next disruptive step.
  returned: success
  type: bool
  sample: true
reasons:
  description: Why the cluster or the host is not healthy, the worst first.
  returned: success
  type: list
  elements: dict
  contains: &finding
    what:
      description: What is wrong.
      type: str
      sample: A node is not ready
    where:
      description: Which node, member, file or object is meant.
      type: str
      sample: worker2
    why:
      description: What was observed.
      type: str
      sample: Kubelet stopped posting node status.
    remedy:
      description: What to do next.
      type: str
      sample: Look at its kubelet and container runtime, or remove the node
notices:
  description: What does not make the cluster unhealthy but should be known.
  returned: success
  type: list
  elements: dict
  contains: *finding
host:
  description: The host that the module ran on.
  returned: success and V(host) is in O(gather)
  type: dict
  contains:
    hostname:
      description: The name of the host.
      type: str
      sample: cp1
    system:
      description: What the host runs.
      type: dict
      contains:
        id:
          description: The C(ID) in C(/etc/os-release), V(null) without one.
          type: str
          sample: ubuntu
        version_id:
          description: The C(VERSION_ID) in C(/etc/os-release), V(null) without one, as in Debian testing.
          type: str
          sample: "24.04"
        like:
          description: The C(ID_LIKE) in C(/etc/os-release), the closest relative first.
          type: list
          elements: str
          sample: [debian]
        architecture:
          description: The architecture as Go names it, V(amd64) or V(arm64), else as the kernel does.
          type: str
          sample: amd64
        package_manager:
          description: V(apt) or V(dnf), whichever is installed, V(apt) with both, V(null) with neither.
          type: str
          sample: apt
    kubeadm:
      description:
        - What the files of kubeadm say this host is.
        - V(none) is a host without any of them, V(incomplete) one with a part of what a join or init leaves
          behind.
      type: str
      choices: [none, incomplete, worker, control_plane]
      sample: control_plane
    interrupted:
      description:
        - What the M(kubewright.cluster.kubeadm_node) module was making of the host when it was cut off, or V(reset).
        - V(null) where it came to its end.
      type: str
      choices: [seed, control_plane, worker, reset, unknown]
      sample: null
    evidence:
      description: The files that were found.
      type: list
      elements: str
      sample: [/etc/kubernetes/kubelet.conf, /var/lib/kubelet/config.yaml]
    versions:
      description:
        - The versions of C(kubeadm), C(kubelet), C(kubectl), C(containerd), C(containerd-shim-runc-v2), C(ctr),
          C(runc), C(etcdctl), C(etcdutl) and C(etcd), without a leading C(v).
        - A program that is not installed has V(null).
      type: dict
      sample:
        containerd: 2.1.5
        containerd-shim-runc-v2: 2.1.5
        ctr: 2.1.5
        etcd: 3.6.10
        etcdctl: 3.6.10
        etcdutl: 3.6.10
        kubeadm: 1.36.4
        kubectl: 1.36.4
        kubelet: 1.36.4
        runc: 1.3.3
    packages:
      description: What C(dpkg) says of the packages of O(packages).
      type: dict
      contains:
        unfinished:
          description:
            - Whether one of these packages is half installed, or missing while another package of the host is half
              installed, which may be what it depends on.
            - Also where C(dpkg) was cut off in the middle, which it does not say of which package.
          type: bool
          sample: false
        installed:
          description: Those that are installed, by name.
          type: dict
          sample: {kubelet: {held: true, version: 1.36.3-1.1}}
        mode_overrides:
          description: The files whose mode outlasts an upgrade of their package. Empty without O(packages).
          type: list
          elements: str
          sample: [/usr/lib/systemd/system/kubelet.service]
    image_tags:
      description:
        - The tags of the images that the installed C(kubeadm) names for its own version, by the last part of their
          names. V({}) without it.
      type: dict
      sample: {etcd: 3.6.10-0, pause: 3.10.2}
    services:
      description: Whether the units of C(kubelet) and C(containerd) are active and enabled.
      type: dict
      sample: {containerd: {active: true, enabled: true}, kubelet: {active: true, enabled: true}}
    certificates:
      description: Every certificate of Kubernetes and etcd on the host, also those inside kubeconfigs.
      type: list
      elements: dict
      contains:
        path:
          description: The file that holds it.
          type: str
          sample: /etc/kubernetes/pki/apiserver.crt
        subject:
          description: Its common name.
          type: str
          sample: kube-apiserver
        issuer:
          description: The common name of its issuer.
          type: str
          sample: kubernetes
        not_after:
          description: When it expires, in UTC.
          type: str
          sample: "2027-11-21T08:00:00Z"
        days_left:
          description: How many days it is still valid; negative after that.
          type: float
          sample: 364.91
        lifetime_days:
          description: How many days it is valid in all.
          type: float
          sample: 365.0
        error:
          description: Why it could not be read.
          type: str
          sample: null
    addresses:
      description: The interface that holds each address of the host. V({}) without C(ip).
      type: dict
      sample: {127.0.0.1: lo, 192.0.2.11: eth0}
    cgroup:
      description: The version of the cgroup tree. A hybrid host is V(1).
      type: int
      sample: 2
    swap_kib:
      description: The size of all active swap, in KiB.
      type: int
      sample: 0
    cpus:
      description: The number of CPUs that programs of the host may use.
      type: int
      sample: 4
    memory_mib:
      description: The memory of the host as its kernel counts it, in MiB.
      type: int
      sample: 15989
    disk_free_mib:
      description: Free space in MiB where the data of containerd, etcd and the kubelet are or will be, by folder.
      type: dict
      sample: {/var/lib/containerd: 51200, /var/lib/etcd: 51200, /var/lib/kubelet: 51200}
    container:
      description: Whether the host is a container.
      type: bool
      sample: false
    ntp_synchronized:
      description: Whether the kernel's clock is synchronized, V(null) where the kernel may not be asked.
      type: bool
      sample: true
cluster:
  description: The cluster.
  returned: success and V(cluster) is in O(gather)
  type: dict
  contains:
    answers:
      description: Whether the API server is ready and answered every request.
      type: bool
      sample: true
    error:
      description: Why it did not.
      type: str
      sample: null
    id:
      description: The UID of the namespace C(kube-system), which identifies the cluster.
      type: str
      sample: 1c9e4c26-6f9a-4d5e-a6f0-0a8b6f0d2a11
    version:
      description: The lowest version of any API server.
      type: str
      sample: 1.36.4
    versions:
      description: All versions of API servers, as their pods show them; before there is a pod, that of the one asked.
      type: list
      elements: str
      sample: [1.36.4]
    kubeadm_version:
      description: The version that kubeadm was last told to install, V(null) without its ConfigMap.
      type: str
      sample: 1.36.4
    endpoint:
      description: The address of the control plane as kubeadm was told, V(null) if it was not.
      type: str
      sample: api.example.org:6443
    networking:
      description: The ranges and the domain that kubeadm was told, each V(null) if it was not.
      type: dict
      contains:
        pod_subnet:
          description: The range of the pods.
          type: str
          sample: 10.244.0.0/16
        service_subnet:
          description: The range of the services.
          type: str
          sample: 10.96.0.0/12
        dns_domain:
          description: The DNS domain.
          type: str
          sample: cluster.local
    topology:
      description: V(stacked) when etcd runs in pods of the control planes, otherwise V(external).
      type: str
      choices: [stacked, external]
      sample: stacked
    nodes:
      description: The nodes, by name.
      type: list
      elements: dict
      contains:
        name:
          description: Its name.
          type: str
          sample: cp1
        ready:
          description: Whether its condition C(Ready) is true. C(Unknown) is not.
          type: bool
          sample: true
        reason:
          description: Why it is not ready.
          type: str
          sample: null
        control_plane:
          description: Whether it has the role of a control plane.
          type: bool
          sample: true
        schedulable:
          description: Whether it is not cordoned.
          type: bool
          sample: true
        cordoned_by_us:
          description: Whether M(kubewright.cluster.drain_node) cordoned it.
          type: bool
          sample: false
        deleting:
          description: Whether its object is being deleted.
          type: bool
          sample: false
        pressure:
          description:
            - Those of the conditions C(MemoryPressure), C(DiskPressure), C(PIDPressure) and
              C(NetworkUnavailable) that it has.
          type: list
          elements: str
          sample: []
        kubelet_version:
          description: The version of its kubelet.
          type: str
          sample: 1.36.4
        addresses:
          description: All its addresses and names.
          type: list
          elements: str
          sample: [10.0.0.11, cp1]
        internal_ip:
          description: Its first internal address.
          type: str
          sample: 10.0.0.11
        taints:
          description: Its taints as C(key=value:effect).
          type: list
          elements: str
          sample: ["node-role.kubernetes.io/control-plane:NoSchedule"]
    control_plane:
      description: The static pods of the control planes.
      type: list
      elements: dict
      contains:
        node:
          description: The node that it runs on.
          type: str
          sample: cp1
        component:
          description: What it is.
          type: str
          choices: [kube-apiserver, kube-controller-manager, kube-scheduler, etcd]
          sample: kube-apiserver
        ready:
          description: Whether the pod runs and is ready.
          type: bool
          sample: true
        version:
          description: The tag of its image, V(null) where it has none.
          type: str
          sample: 1.36.4
        restarts:
          description: How often its container was restarted.
          type: int
          sample: 0
        message:
          description: Why its container does not run.
          type: str
          sample: null
    etcd:
      description: The members of etcd. Learners do not count as voters.
      type: dict
      contains:
        members:
          description: The members, with their ids in hexadecimal and sizes in bytes.
          type: list
          elements: dict
          sample:
            - id: 8e9e05c52164694d
              name: cp1
              peer_urls: ["https://10.0.0.11:2380"]
              client_urls: ["https://10.0.0.11:2379"]
              is_learner: false
              is_leader: true
              healthy: true
              version: 3.6.10
              db_size: 20979712
              db_size_in_use: 9654272
              revision: 81234
              raft_term: 4
              alarms: []
              error: null
        voters:
          description: How many members have a vote.
          type: int
          sample: 3
        needed:
          description: How many of them have to be healthy.
          type: int
          sample: 2
        healthy:
          description: How many of them are healthy.
          type: int
          sample: 3
        tolerance:
          description: How many more may fail before the majority is lost.
          type: int
          sample: 1
        present:
          description: Whether a majority is healthy.
          type: bool
          sample: true
        leader:
          description: The id of the leader, V(null) without one.
          type: str
          sample: 8e9e05c52164694d
        alarms:
          description:
            - The alarms, each with C(id) and C(name) of the member and C(alarm). Those of removed members have no name.
          type: list
          elements: dict
          sample: []
        error:
          description: Why etcd could not be observed.
          type: str
          sample: null
    addons:
      description:
        - The DaemonSets in the namespaces C(kube-system) and C(kube-flannel), and the Deployments in
          C(kube-system).
      type: list
      elements: dict
      contains:
        kind:
          description: C(DaemonSet) or C(Deployment).
          type: str
          sample: DaemonSet
        namespace:
          description: Its namespace.
          type: str
          sample: kube-system
        name:
          description: Its name.
          type: str
          sample: kube-proxy
        desired:
          description: How many pods it should have.
          type: int
          sample: 5
        ready:
          description: How many of its pods are ready.
          type: int
          sample: 5
        current:
          description: Whether all its pods are of its newest revision.
          type: bool
          sample: true
    pending_csrs:
      description: Certificate requests of kubelets that have waited for more than two minutes, oldest first.
      type: list
      elements: dict
      contains:
        name:
          description: The name of the request.
          type: str
          sample: csr-7x2lq
        signer:
          description: The signer that is asked.
          type: str
          sample: kubernetes.io/kubelet-serving
        node:
          description: The node that asks, V(null) when it is not one yet.
          type: str
          sample: worker1
        age_seconds:
          description: Its age in seconds.
          type: int
          sample: 340
    skew:
      description: Whether the versions obey the version skew policy of Kubernetes.
      type: dict
      contains:
        ok:
          description: Whether they do.
          type: bool
          sample: true
        problems:
          description: Where they do not.
          type: list
          elements: dict
          contains: *finding
"""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_info import observe_cluster
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_judge import Expected, judge
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import etcd_access, observe_host
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


def observe(params: dict[str, Any], runner: Runner, now: datetime, root: str = "/") -> dict[str, Any]:
    """Observe the parts that are asked for and judge them."""
    facts: dict[str, Any] = {}
    if "host" in params["gather"]:
        facts["host"] = observe_host(
            runner, now, root=root, etcdctl=params["etcdctl"], packages=params["packages"]
        )
    if "cluster" in params["gather"]:
        facts["cluster"] = observe_cluster(
            lambda: KubeApi.from_kubeconfig(
                params["kubeconfig"], runner, server=params["api_server"], timeout=params["timeout"]
            ),
            runner,
            now,
            access=etcd_access(Path(root)),
            etcdctl=params["etcdctl"],
        )
    expected = Expected(
        params["expected_nodes"], params["expected_control_plane"], params["certificate_warning_days"]
    )
    return {**facts, **judge(facts.get("host"), facts.get("cluster"), expected)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": ["host", "cluster"],
                "default": ["host", "cluster"],
            },
            "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
            "api_server": {"type": "str"},
            "timeout": {"type": "int", "default": 10},
            "expected_nodes": {"type": "list", "elements": "str"},
            "expected_control_plane": {"type": "list", "elements": "str"},
            "certificate_warning_days": {"type": "int", "default": 30},
            "packages": {"type": "list", "elements": "str", "default": []},
            "etcdctl": {"type": "path", "default": "/usr/local/bin/etcdctl"},
        },
        supports_check_mode=True,
    )
    try:
        result = observe(module.params, Runner(module.run_command), datetime.now(timezone.utc))
    except KubewrightError as error:
        module.fail_json(msg=str(error), **error.facts)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
