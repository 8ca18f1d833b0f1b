# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.plugin_utils._description import (
    Description,
    problems,
    warnings,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._values import HIDDEN, Unresolved

ROLES = Path(__file__).parents[4] / "roles"
OPTIONS: dict[str, Any] = {
    name: option
    for file in ROLES.glob("*/meta/argument_specs.yml")
    for name, option in yaml.safe_load(file.read_text())["argument_specs"]["main"]["options"].items()
}
DEFAULTS = {
    name: option["default"]
    for name, option in OPTIONS.items()
    if name.startswith("kube_cluster_") and "default" in option
}
SET = {
    "kube_cluster_name": "example",
    "kube_cluster_version": "1.36.3",
    "kube_cluster_network": "flannel",
    "kube_cluster_endpoint_address": "192.0.2.10",
}


def described(
    control_planes: int = 3,
    workers: int = 2,
    per_host: dict[str, dict[str, Any]] | None = None,
    groups: dict[str, list[str]] | None = None,
    connections: dict[str, str] | None = None,
    without: str = "",
    **variables: Any,
) -> Description:
    """Describe a good cluster, and then what a test makes of it: *variables* are set for all hosts."""
    members = {
        "control_plane": [f"cp{number}" for number in range(1, control_planes + 1)],
        "workers": [f"worker{number}" for number in range(1, workers + 1)],
        "etcd": [],
        "load_balancers": [],
        **(groups or {}),
    }
    names = dict.fromkeys(
        members["control_plane"] + members["workers"] + members["etcd"] + members["load_balancers"]
    )
    common = {name: value for name, value in {**SET, **variables}.items() if name != without}
    own = {
        name: {"kube_cluster_host_address": f"192.0.{2 + i // 200}.{11 + i % 200}"}
        for i, name in enumerate(names)
    }
    hosts = {name: {**common, **own[name], **(per_host or {}).get(name, {})} for name in names}
    for values in hosts.values():
        if without == "kube_cluster_host_address":
            del values[without]
    settings = {**DEFAULTS, "kube_cluster_endpoint_port": 8443, **common}
    return Description(settings, members, hosts, OPTIONS, ["1.36", "1.37"], connections or {})


def only(description: Description) -> str:
    """Return the one problem of a description."""
    [told] = problems(description)
    assert "\n" not in told and told.endswith(".")
    return told


@pytest.mark.parametrize(
    "description",
    [
        described(),
        described(1, 0),
        described(5, 200),
        described(groups={"load_balancers": ["lb1"]}, kube_cluster_endpoint_port=6443),
        described(kube_cluster_load_balancer="external", kube_cluster_endpoint_address="api.example.com"),
        described(
            1,
            kube_cluster_load_balancer="external",
            kube_cluster_endpoint_address="192.0.2.11",
            kube_cluster_endpoint_port=6443,
        ),
        described(300, 300, kube_cluster_network="none"),
        described(2, kube_cluster_accept_two_control_planes=True),
        described(2, kube_cluster_accept_two_control_planes="yes"),
        described(
            kube_cluster_registry_mirrors={"docker.io": "https://user:word@mirror.example.com/v2/docker.io"}
        ),
        described(per_host={"worker1": {"kube_host_containerd": "distribution"}}),
        described(kube_host_package_key_checksum="sha256:" + "a" * 64),
        described(kube_host_runc_checksum="sha256:https://mirror.example.com/runc.sha256sum"),
        described(kube_load_balancer_advert_interval="0.5", kube_network_mtu=1400),
        described(my_own="x", __kube_internal=1, kube_cluster_accept_unknown_variables=["kube_host_mine"]),
        described(
            per_host={"worker2": {"kube_cluster_host_address": HIDDEN, "kube_cluster_node_name": HIDDEN}}
        ),
        described(kube_cluster_endpoint_port="8443", kube_cluster_api_port="6443"),
    ],
)
def test_good_descriptions(description: Description) -> None:
    known = {
        host: {name: value for name, value in values.items() if name.startswith("kube_")}
        for host, values in description.hosts.items()
    }
    assert problems(Description(**{**description.__dict__, "hosts": known})) == []


REACHED = "of one of its interfaces that the other hosts reach."
LOOPBACK = f"no other host reaches that address: give the IP address {REACHED}"
NO_ADDRESS = "that is no IP address: give the IP address of one of its interfaces that the other hosts reach."
NO_URL = "that is no URL: give a URL that begins with https:// or http:// and names a host."
NO_NAME = (
    "a node's name has at most 63 lower case letters, digits, dashes and dots, and begins and ends with a "
    "letter or "
    "digit (RFC 1123): rename the host in the inventory, or set kube_cluster_node_name for it."
)
PORT = "no such port exists: give a port from 1 to 65535."


@pytest.mark.parametrize(
    ("description", "told"),
    [
        (
            described(0),
            "kube_cluster_control_plane_group is control_plane, but this group has no hosts: put the "
            "control planes into "
            "it, or name another group with -e kube_cluster_control_plane_group=NAME.",
        ),
        (
            described(0, groups={"control_planes": ["cp1"]}),
            "kube_cluster_control_plane_group is control_plane, but this group has no hosts: put the "
            "control planes into "
            "it, or name another group with -e kube_cluster_control_plane_group=NAME. Perhaps "
            "control_planes is meant.",
        ),
        (
            described(groups={"workers": ["worker1", "cp2"]}),
            "cp2 is in both groups control_plane and workers: take it out of one. A control plane runs "
            "ordinary pods too "
            "once its taint is removed.",
        ),
        (
            described(groups={"etcd": ["etcd1", "cp2", "etcd3"]}),
            "cp2 is in both groups control_plane and etcd: take it out of one. An etcd cluster of its own has "
            "hosts of its own; without any host in the group etcd, every control plane runs a member.",
        ),
        (
            described(groups={"etcd": ["worker1"]}),
            "worker1 is in both groups workers and etcd: take it out of one. An etcd cluster of its own has "
            "hosts of its own; without any host in the group etcd, every control plane runs a member.",
        ),
        (
            described(2),
            "The group control_plane has 2 hosts, cp1 and cp2: when either is lost, etcd has no majority "
            "and the cluster "
            "stops, so that two are worse than one. Take 1 or 3, or set "
            "kube_cluster_accept_two_control_planes to true, "
            "for example while the third is on its way.",
        ),
        (
            described(per_host={"worker2": {"kube_cluster_host_address": "192.0.2.11"}}),
            "kube_cluster_host_address of cp1 and worker2 is 192.0.2.11, but every host needs an address of "
            "its own: "
            "correct one of them.",
        ),
        (
            described(
                connections={"cp1": "192.0.2.11:22", "worker2": "192.0.2.11:22", "cp2": "192.0.2.12:22"}
            ),
            "ansible_host of cp1 and worker2 is 192.0.2.11:22, but every host is a machine of its own: "
            "correct one of "
            "them.",
        ),
        (
            described(per_host={"worker2": {"kube_cluster_node_name": "cp1"}}),
            "kube_cluster_node_name of cp1 and worker2 is cp1, but every node needs a name of its own: "
            "correct one of "
            "them.",
        ),
        (
            described(per_host={"worker2": {"kube_cluster_node_name": "Worker2"}}),
            f"kube_cluster_node_name of worker2 is Worker2, but {NO_NAME}",
        ),
        (described(groups={"workers": ["db_1"]}), f"kube_cluster_node_name of db_1 is db_1, but {NO_NAME}"),
        (
            described(groups={"workers": ["a." * 31 + "bc"]}),
            f"kube_cluster_node_name of {'a.' * 31}bc is {'a.' * 31}bc, but {NO_NAME}",
        ),
        (
            described(kube_cluster_verison="1.36.3"),
            "kube_cluster_verison is set for cp1, cp2, cp3 and 2 more, but no role has a variable of that "
            "name: write "
            "kube_cluster_version if that is meant, or list it in kube_cluster_accept_unknown_variables if "
            "it is yours.",
        ),
        (
            described(per_host={"worker1": {"kube_worker_xyzzy_quux": "secret"}}),
            "kube_worker_xyzzy_quux is set for worker1, but no role has a variable of that name: remove it, "
            "or list it in "
            "kube_cluster_accept_unknown_variables if it is yours.",
        ),
        (
            described(without="kube_cluster_version"),
            'kube_cluster_version is not set: give a full version in quotes, for example "1.36.3".',
        ),
        (
            described(kube_cluster_name=""),
            "kube_cluster_name is not set: set it in group_vars/all.yml.",
        ),
        (
            described(per_host={"worker1": {"kube_cluster_host_address": None}}),
            "kube_cluster_host_address is not set for worker1: give each host the address that the others "
            "reach it by, "
            "for example the value of ansible_host.",
        ),
        (
            described(kube_cluster_version=1.36),
            "kube_cluster_version is 1.36, but YAML reads that as a number: write a full version in quotes, "
            "for example "
            '"1.36.3".',
        ),
        (
            described(kube_cluster_version="1.36"),
            'kube_cluster_version is 1.36, but that is no full version: write one in quotes, for example "1.36.3".',
        ),
        (
            described(kube_cluster_version="v1.36.3"),
            'kube_cluster_version is v1.36.3, but a version has no v here: write "1.36.3".',
        ),
        (
            described(kube_cluster_version="1.35.9"),
            "kube_cluster_version is 1.35.9, but only the minors 1.36, 1.37 are supported: choose a version "
            "of one of "
            "them.",
        ),
        (
            described(kube_cluster_network="calico"),
            "kube_cluster_network is calico, but no such choice is known: choose flannel, manifests or none.",
        ),
        (
            described(kube_cluster_network="flanel"),
            "kube_cluster_network is flanel, but no such choice is known: choose flannel, manifests or "
            "none, perhaps "
            "flannel.",
        ),
        (
            described(kube_cluster_load_balancer="nginx"),
            "kube_cluster_load_balancer is nginx, but no such choice is known: choose haproxy or external.",
        ),
        (
            described(kube_control_plane_proxy_mode="ipvs"),
            "kube_control_plane_proxy_mode is ipvs, but no such choice is known: choose nftables or "
            "iptables.",
        ),
        (
            described(kube_cluster_endpoint_address="192.0.2.14"),
            "kube_cluster_endpoint_address is 192.0.2.14, but that is the own address of worker1: give one "
            "that no host "
            "has.",
        ),
        (
            described(kube_cluster_load_balancer="external", kube_cluster_endpoint_address="192.0.2.11"),
            "kube_cluster_endpoint_address is 192.0.2.11, but that is the own address of cp1: give one that "
            "no host has.",
        ),
        (
            described(kube_cluster_endpoint_address="api.example.com"),
            "kube_cluster_endpoint_address is api.example.com, but with kube_cluster_load_balancer haproxy "
            "it becomes a "
            "virtual IP: give a free IPv4 address in the network of the hosts.",
        ),
        (
            described(
                kube_cluster_load_balancer="external", kube_cluster_endpoint_address="https://api:6443"
            ),
            "kube_cluster_endpoint_address is https://api:6443, but that is neither an IP address nor a DNS "
            "name: give "
            "one, without scheme and port.",
        ),
        (
            described(kube_cluster_endpoint_port=6443),
            "kube_cluster_endpoint_port is 6443, but kube_cluster_api_port is the same, and the load "
            "balancer runs on the "
            "control planes: give the endpoint another port, for example 8443.",
        ),
        (
            described(groups={"load_balancers": ["lb1", "cp1"]}, kube_cluster_endpoint_port=6443),
            "kube_cluster_endpoint_port is 6443, but kube_cluster_api_port is the same, and the load "
            "balancer runs on the "
            "control planes: give the endpoint another port, for example 8443.",
        ),
        (
            described(kube_cluster_api_port=2379),
            "kube_cluster_api_port is 2379, but etcd needs that port: give another.",
        ),
        (
            described(kube_cluster_endpoint_port=10250),
            "kube_cluster_endpoint_port is 10250, but the kubelet needs that port: give another.",
        ),
        (described(kube_cluster_api_port=0), f"kube_cluster_api_port is 0, but {PORT}"),
        (described(kube_network_vxlan_port=70000), f"kube_network_vxlan_port is 70000, but {PORT}"),
        (
            described(kube_load_balancer_health_port="http"),
            "kube_load_balancer_health_port is http, but it must be a whole number: give it a whole number.",
        ),
        (
            described(kube_cluster_swap="sometimes"),
            "kube_cluster_swap is sometimes, but it must be true or false: give it true or false.",
        ),
        (
            described(kube_cluster_name=["a"]),
            'kube_cluster_name is ["a"], but it must be a string: give it a string.',
        ),
        (
            described(kube_cluster_service_cidr="10.244.128.0/20"),
            "kube_cluster_pod_cidr is 10.244.0.0/16, but it overlaps kube_cluster_service_cidr "
            "10.244.128.0/20: choose "
            "ranges that do not overlap.",
        ),
        (
            described(kube_cluster_pod_cidr="192.0.0.0/16", kube_cluster_endpoint_address="198.51.100.1"),
            "kube_cluster_pod_cidr is 192.0.0.0/16, but it covers the address of cp1, cp2, cp3 and 2 more "
            "(192.0.2.11): "
            "choose a range that no host is in.",
        ),
        (
            described(
                kube_cluster_service_cidr="198.51.0.0/16", kube_cluster_endpoint_address="198.51.100.1"
            ),
            "kube_cluster_service_cidr is 198.51.0.0/16, but it covers kube_cluster_endpoint_address "
            "198.51.100.1: choose "
            "a range that the endpoint is not in.",
        ),
        (
            described(kube_cluster_pod_cidr="10.244.0.1/16"),
            "kube_cluster_pod_cidr is 10.244.0.1/16, but that is an address inside a range: give "
            "10.244.0.0/16, the range "
            "itself.",
        ),
        (
            described(kube_cluster_pod_cidr="10.244.0.0"),
            "kube_cluster_pod_cidr is 10.244.0.0, but that is no address range: give an address range such "
            "as "
            "10.244.0.0/16.",
        ),
        (
            described(kube_cluster_service_cidr="10.96.0.0/16,fd00::/112"),
            "kube_cluster_service_cidr is 10.96.0.0/16,fd00::/112, but dual stack is not supported: give "
            "one range.",
        ),
        (
            described(kube_cluster_service_cidr="fd00:1::/112"),
            "kube_cluster_pod_cidr 10.244.0.0/16 is IPv4, kube_cluster_service_cidr fd00:1::/112 is IPv6, "
            "the address of "
            "cp1, cp2, cp3 and 2 more is IPv4, but only IPv4 clusters are built: use IPv4 for all.",
        ),
        (
            described(kube_cluster_service_cidr="10.96.0.0/29"),
            "kube_cluster_service_cidr is 10.96.0.0/29, but it has 8 addresses, and kubeadm needs 10 or "
            "more: choose a "
            "larger range.",
        ),
        (
            described(kube_cluster_pod_cidr="10.244.0.0/22"),
            "kube_cluster_pod_cidr is 10.244.0.0/22, but each node gets a /24 of it, which is enough for 4 "
            "nodes, and "
            "there are 5: choose a larger range for a new cluster, or a larger node-cidr-mask-size in "
            "kube_control_plane_controller_manager_extra_args.",
        ),
        (
            described(kube_cluster_pod_cidr="10.244.0.0/25"),
            "kube_cluster_pod_cidr is 10.244.0.0/25, but each node gets a /24 of it, which is enough for 0 "
            "nodes, and "
            "there are 5: choose a larger range for a new cluster, or a larger node-cidr-mask-size in "
            "kube_control_plane_controller_manager_extra_args.",
        ),
        (
            described(kube_cluster_pod_cidr="16.0.0.0/7"),
            "kube_cluster_pod_cidr is 16.0.0.0/7, but kubeadm refuses more than 16 bits between it and the "
            "/24 of a node: "
            "choose a /8 or smaller.",
        ),
        (
            described(per_host={"worker1": {"kube_cluster_host_address": "worker1.example.com"}}),
            f"kube_cluster_host_address of worker1 is worker1.example.com, but {NO_ADDRESS}",
        ),
        (
            described(per_host={"worker1": {"kube_cluster_host_address": "192.0.2.300"}}),
            f"kube_cluster_host_address of worker1 is 192.0.2.300, but {NO_ADDRESS}",
        ),
        (
            described(per_host={"worker1": {"kube_cluster_host_address": "127.0.0.1"}}),
            f"kube_cluster_host_address of worker1 is 127.0.0.1, but {LOOPBACK}",
        ),
        (
            described(per_host={"worker1": {"kube_cluster_host_address": Unresolved("'nic' is undefined")}}),
            "kube_cluster_host_address of worker1 is a template, but it cannot be worked out ('nic' is "
            "undefined): "
            "correct the template, or set what it uses.",
        ),
        (
            described(kube_cluster_package_url="mirror.example.com/v{minor}"),
            f"kube_cluster_package_url is mirror.example.com/v{{minor}}, but {NO_URL}",
        ),
        (
            described(kube_host_package_key_url=""),
            f"kube_host_package_key_url is empty, but {NO_URL}",
        ),
        (
            described(kube_host_package_key_checksum="sha256:" + "a" * 63),
            f"kube_host_package_key_checksum is sha256:{'a' * 63}, but a sha256 digest has 64 hexadecimal "
            f"digits, this has "
            "63 characters: copy all of it from where the file is published.",
        ),
        (
            described(kube_host_package_key_checksum="sha256:https://mirror.example.com/key.sha256"),
            "kube_host_package_key_checksum is sha256:https://mirror.example.com/key.sha256, but the key "
            "needs the digest "
            "itself: give sha256: and the digest.",
        ),
        (
            described(kube_host_containerd_checksum="md5:" + "a" * 32),
            f"kube_host_containerd_checksum is md5:{'a' * 32}, but it names no algorithm that is known: "
            f"give sha256: or "
            "sha512: and the digest.",
        ),
        (
            described(kube_cluster_registry_mirrors={"docker.io": "mirror.example.com:5000"}),
            'kube_cluster_registry_mirrors is {"docker.io": "mirror.example.com:5000"}, but ' + NO_URL,
        ),
        (
            described(kube_cluster_registry_mirrors={"docker.io": "http://user:word@"}),
            'kube_cluster_registry_mirrors is {"docker.io": "http://***@"}, but ' + NO_URL,
        ),
        (
            described(kube_control_plane_etcd_metrics_urls=["0.0.0.0:2381"]),
            'kube_control_plane_etcd_metrics_urls is ["0.0.0.0:2381"], but ' + NO_URL,
        ),
        (
            described(kube_cluster_image_repository="https://registry.k8s.io"),
            "kube_cluster_image_repository is https://registry.k8s.io, but images are named without a "
            "scheme or blanks: "
            "give it as in registry.k8s.io/pause.",
        ),
        (
            described(kube_cluster_dns_domain="Cluster_Local"),
            "kube_cluster_dns_domain is Cluster_Local, but that is no DNS domain: use lower case letters, "
            "digits, dashes "
            "and dots, as in cluster.local.",
        ),
        (
            described(kube_load_balancer_virtual_router_id=256),
            "kube_load_balancer_virtual_router_id is 256, but VRRP knows no such router: give a number from "
            "1 to 255 that "
            "no other cluster in the network has.",
        ),
        (
            described(kube_network_mtu=100),
            "kube_network_mtu is 100, but no network works with it: give the MTU in bytes, or 0 to take the "
            "interface's, "
            "less 50.",
        ),
        (
            described(kube_control_plane_shutdown_delay="5 seconds"),
            "kube_control_plane_shutdown_delay is 5 seconds, but that is no time with a unit: give a number "
            "with ms, s, m "
            "or h, for example 5s.",
        ),
        (
            described(kube_host_containerd_version="v2.4.2"),
            "kube_host_containerd_version is v2.4.2, but that is no full version: write one in quotes and "
            "without a v, "
            'for example "2.4.2".',
        ),
        (
            described(kube_control_plane_metrics_bind_address="all"),
            "kube_control_plane_metrics_bind_address is all, but that is no IP address: give one, for "
            "example 127.0.0.1 or "
            "0.0.0.0.",
        ),
        (
            described(kube_host_packages=7.5, kube_worker_labels=["a"]),
            None,
        ),
    ],
)
def test_a_bad_description(description: Description, told: str | None) -> None:
    if told is None:
        assert problems(description) == [
            'kube_worker_labels is ["a"], but it must be a mapping: give it a mapping.',
        ]
    else:
        assert only(description) == told


def test_every_problem_is_told_at_once() -> None:
    told = problems(
        described(2, kube_cluster_network="calico", kube_cluster_swap="?", kube_cluster_api_port=70000)
    )
    assert [sentence.split()[0] for sentence in told] == [
        "kube_cluster_network",
        "kube_cluster_swap",
        "kube_cluster_api_port",
        "The",
    ]


def test_a_value_of_a_group_is_told_once_and_one_of_a_host_with_its_name() -> None:
    told = problems(described(per_host={"cp1": {"kube_network_mtu": 1}, "cp2": {"kube_network_mtu": 1}}))
    assert len(told) == 1
    assert told[0].startswith("kube_network_mtu of cp1 and cp2 is 1, but ")


def test_an_option_that_is_kept_out_of_logs_is_not_shown() -> None:
    description = described(kube_cluster_name=HIDDEN)
    assert problems(description) == []


@pytest.mark.parametrize(
    ("count", "survives"),
    [(2, "0 of them, a single one is less to lose"), (4, "1 of them, as 3 do"), (6, "2 of them, as 5 do")],
)
def test_an_even_number_is_a_warning(count: int, survives: str) -> None:
    description = described(count, kube_cluster_accept_two_control_planes=True)
    assert problems(description) == []
    assert warnings(description) == [
        f"The group control_plane has {count} hosts, an even number: etcd survives the loss of {survives}. "
        f"Add or remove "
        "one."
    ]


def test_with_an_etcd_of_its_own_the_number_of_its_hosts_counts() -> None:
    even = described(2, groups={"etcd": ["etcd1", "etcd2"]})
    assert problems(even) == []
    [told] = warnings(even)
    assert told.startswith("The group etcd has 2 hosts, an even number")
    assert not warnings(described(2, groups={"etcd": ["etcd1", "etcd2", "etcd3"]}))


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_no_warning(count: int) -> None:
    assert warnings(described(count)) == []


@pytest.mark.parametrize(
    ("arguments", "enough"),
    [
        ({}, False),
        ({"node-cidr-mask-size": 26}, True),
        ({"node-cidr-mask-size-ipv4": "25"}, True),
        ({"node-cidr-mask-size": "23"}, False),
        ({"v": 2}, False),
    ],
)
def test_a_node_gets_the_part_of_the_pod_range_that_the_controller_managers_are_told(
    arguments: dict[str, Any], enough: bool
) -> None:
    found = problems(
        described(
            kube_cluster_pod_cidr="10.244.0.0/22", kube_control_plane_controller_manager_extra_args=arguments
        )
    )
    assert (not found) == enough, found


def test_hundreds_of_hosts_are_judged_in_a_moment() -> None:
    description = described(5, 495, kube_cluster_pod_cidr="10.240.0.0/13", kube_cluster_swap=True)
    begun = time.process_time()
    assert problems(description) == []
    assert time.process_time() - begun < 0.3
