"""Bad input and unfit hosts: each is told in one line by a run that leaves every host untouched.

Hosts that nothing was ever installed on. What the check of the description finds ends a run before any host is
contacted; what only the hosts can tell is found on all of them before the first change on any.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from labtools import OUTPUT, recap, run

from lab.nodes import NUMBER, PREFIX

INVENTORY = os.environ.get("KUBEWRIGHT_INVENTORY") or "extensions/molecule/inventories/full"
NETWORK = f"10.198.{NUMBER}"
CONTROL_PLANES = ("cp1", "cp2", "cp3")
HOSTS = (*CONTROL_PLANES, "worker1", "worker2", "lb1")
# Files with their times and modes (some folders are volumes), packages with their states, and units.
FOLDERS = "/etc /opt /usr /root /var/lib /var/lib/containerd /var/lib/etcd /var/lib/kubelet"
FINGERPRINT = (
    f"find {FOLDERS} -xdev ! -path '/var/lib/systemd/*' -printf '%p %y %s %m %T@ %l\\n' 2>&1 | sort -u | "
    f"sha256sum; "
    "dpkg --list | sha256sum; systemctl list-units --all --plain --no-legend '*containerd*' '*kubelet*' "
    "'haproxy*'"
)
NO_URL = "that is no URL: give a URL that begins with https:// or http:// and names a host."
NO_SUCH = "no such choice is known: choose"
NODE_NAME = (
    "a node's name has at most 63 lower case letters, digits, dashes and dots, and begins and ends with a "
    "letter or "
    "digit (RFC 1123): rename the host in the inventory, or set kube_cluster_node_name for it."
)
DIGEST = hashlib.sha256(b"another file").hexdigest()


@dataclass
class Run:
    """One run of the playbook with something wrong, and the lines that it must end with."""

    name: str
    tells: list[str]
    variables: dict[str, Any] = field(default_factory=dict)
    # Groups of hosts with variables, merged over the inventory, or instead of it.
    groups: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    alone: bool = False
    warns: str = ""

    def __str__(self) -> str:
        return self.name


def variables(name: str, told: str, **values: Any) -> Run:
    return Run(name, [told], values)


def hosts(name: str, told: str, group: str = "workers", **values: dict[str, Any]) -> Run:
    return Run(name, [told], groups={group: values})


DESCRIPTIONS = [
    Run(
        "no hosts",
        [
            "kube_cluster_control_plane_group is control_plane, but this group has no hosts: put the "
            "control planes into "
            "it, or name another group with -e kube_cluster_control_plane_group=NAME."
        ],
        alone=True,
    ),
    Run(
        "a group with another name",
        [
            "kube_cluster_control_plane_group is control_plane, but this group has no hosts: put the "
            "control planes into "
            "it, or name another group with -e kube_cluster_control_plane_group=NAME. Perhaps "
            "control_planes is meant."
        ],
        groups={"control_planes": {"cp1": {}}, "workers": {"worker1": {}}},
        alone=True,
    ),
    hosts(
        "a host in two groups",
        "cp2 is in both groups control_plane and workers: take it out of one. A control plane runs ordinary "
        "pods too once "
        "its taint is removed.",
        cp2={},
    ),
    hosts(
        "a control plane among the hosts of an etcd of its own",
        "cp1 is in both groups control_plane and etcd: take it out of one. An etcd cluster of its own has hosts of its "
        "own; without any host in the group etcd, every control plane runs a member.",
        group="etcd",
        cp1={},
    ),
    hosts(
        "two hosts with one address",
        f"kube_cluster_host_address of cp1 and worker1 is {NETWORK}.11, but every host needs an address of "
        f"its own: "
        "correct one of them.",
        worker1={"kube_cluster_host_address": f"{NETWORK}.11"},
    ),
    hosts(
        "one machine under two names",
        f"ansible_host of cp1 and worker3 is {NETWORK}.11:22, but every host is a machine of its own: "
        f"correct one of "
        "them.",
        worker3={"ansible_host": f"{NETWORK}.11", "kube_cluster_host_address": f"{NETWORK}.99"},
    ),
    hosts(
        "two hosts with one node name",
        "kube_cluster_node_name of cp1 and worker1 is cp1, but every node needs a name of its own: correct "
        "one of them.",
        worker1={"kube_cluster_node_name": "cp1"},
    ),
    hosts(
        "a name that no node can have",
        f"kube_cluster_node_name of db_1 is db_1, but {NODE_NAME}",
        db_1={"ansible_host": f"{NETWORK}.99"},
    ),
    Run(
        "two control planes",
        [
            "The group control_plane has 2 hosts, cp1 and cp2: when either is lost, etcd has no majority "
            "and the cluster "
            "stops, so that two are worse than one. Take 1 or 3, or set "
            "kube_cluster_accept_two_control_planes to true, "
            "for example while the third is on its way."
        ],
        groups={
            "control_plane": {
                "cp1": {"ansible_host": f"{NETWORK}.11"},
                "cp2": {"ansible_host": f"{NETWORK}.12"},
            }
        },
        alone=True,
    ),
    variables(
        "pods in the services' range",
        "kube_cluster_pod_cidr is 10.100.0.0/16, but it overlaps kube_cluster_service_cidr 10.96.0.0/12: "
        "choose ranges "
        "that do not overlap.",
        kube_cluster_pod_cidr="10.100.0.0/16",
    ),
    variables(
        "a range without a prefix",
        "kube_cluster_service_cidr is 10.96.0.0, but that is no address range: give an address range such as "
        "10.244.0.0/16.",
        kube_cluster_service_cidr="10.96.0.0",
    ),
    variables(
        "an address for a range",
        "kube_cluster_pod_cidr is 10.244.0.1/16, but that is an address inside a range: give 10.244.0.0/16, "
        "the range "
        "itself.",
        kube_cluster_pod_cidr="10.244.0.1/16",
    ),
    variables(
        "too few ranges for the nodes",
        "kube_cluster_pod_cidr is 10.244.0.0/23, but each node gets a /24 of it, which is enough for 2 "
        "nodes, and there "
        "are 5: choose a larger range for a new cluster, or a larger node-cidr-mask-size in "
        "kube_control_plane_controller_manager_extra_args.",
        kube_cluster_pod_cidr="10.244.0.0/23",
    ),
    variables(
        "dual stack",
        "kube_cluster_service_cidr is 10.96.0.0/16,fd00::/112, but dual stack is not supported: give one "
        "range.",
        kube_cluster_service_cidr="10.96.0.0/16,fd00::/112",
    ),
    variables(
        "a version that YAML reads as a number",
        "kube_cluster_version is 1.36, but YAML reads that as a number: write a full version in quotes, for example "
        '"1.36.3".',
        kube_cluster_version=1.36,
    ),
    variables(
        "a version with a v",
        'kube_cluster_version is v1.36.3, but a version has no v here: write "1.36.3".',
        kube_cluster_version="v1.36.3",
    ),
    variables(
        "a minor that is not supported",
        "kube_cluster_version is 1.30.1, but only the minors 1.36, 1.37 are supported: choose a version of "
        "one of them.",
        kube_cluster_version="1.30.1",
    ),
    variables(
        "no version",
        'kube_cluster_version is not set: give a full version in quotes, for example "1.36.3".',
        kube_cluster_version=None,
    ),
    variables(
        "a host's own address as the endpoint",
        f"kube_cluster_endpoint_address is {NETWORK}.21, but that is the own address of worker1: give one "
        f"that no host has.",
        kube_cluster_endpoint_address=f"{NETWORK}.21",
    ),
    variables(
        "a name as the virtual IP",
        "kube_cluster_endpoint_address is api.example.com, but with kube_cluster_load_balancer haproxy it "
        "becomes a virtual "
        "IP: give a free IPv4 address in the network of the hosts.",
        kube_cluster_endpoint_address="api.example.com",
    ),
    variables(
        "an unknown pod network",
        f"kube_cluster_network is calico, but {NO_SUCH} flannel, manifests or none.",
        kube_cluster_network="calico",
    ),
    variables(
        "an unknown load balancer",
        f"kube_cluster_load_balancer is nginx, but {NO_SUCH} haproxy or external.",
        kube_cluster_load_balancer="nginx",
    ),
    variables(
        "an unknown choice of a later role",
        f"kube_control_plane_proxy_mode is ipvs, but {NO_SUCH} nftables or iptables.",
        kube_control_plane_proxy_mode="ipvs",
    ),
    variables(
        "a value of another type",
        "kube_network_mtu is large, but it must be a whole number: give it a whole number.",
        kube_network_mtu="large",
    ),
    variables(
        "a port that does not exist",
        "kube_network_vxlan_port is 84720, but no such port exists: give a port from 1 to 65535.",
        kube_network_vxlan_port=84720,
    ),
    variables(
        "a port that etcd needs",
        "kube_cluster_api_port is 2379, but etcd needs that port: give another.",
        kube_cluster_api_port=2379,
    ),
    Run(
        "one port for two on a control plane",
        [
            "kube_cluster_endpoint_port is 6443, but kube_cluster_api_port is the same, and the load "
            "balancer runs on the "
            "control planes: give the endpoint another port, for example 8443."
        ],
        {"kube_cluster_endpoint_port": 6443, "kube_cluster_load_balancer_group": "nobody"},
    ),
    variables(
        "no URL of the repository's key",
        f"kube_host_package_key_url is empty, but {NO_URL}",
        kube_host_package_key_url="",
    ),
    variables(
        "a mirror without a scheme",
        f"kube_cluster_package_url is mirror.example.com/v{{minor}}, but {NO_URL}",
        kube_cluster_package_url="mirror.example.com/v{minor}",
    ),
    variables(
        "a registry mirror without a scheme",
        f'kube_cluster_registry_mirrors is {{"docker.io": "mirror.example.com"}}, but {NO_URL}',
        kube_cluster_registry_mirrors={"docker.io": "mirror.example.com"},
    ),
    variables(
        "a checksum that is cut off",
        "kube_host_containerd_checksum is sha256:1234, but a sha256 digest has 64 hexadecimal digits, this "
        "has 4 "
        "characters: copy all of it from where the file is published.",
        kube_host_containerd_checksum="sha256:1234",
    ),
    hosts(
        "a name as a host's address",
        "kube_cluster_host_address of worker1 is worker1.example.com, but that is no IP address: give the "
        "IP address of one "
        "of its interfaces that the other hosts reach.",
        worker1={"kube_cluster_host_address": "worker1.example.com"},
    ),
    hosts(
        "a template that uses what is not set",
        "kube_cluster_host_address of worker1 is a template, but it cannot be worked out ('storage_ip' is "
        "undefined): correct "
        "the template, or set what it uses.",
        worker1={"kube_cluster_host_address": "{{ storage_ip }}"},
    ),
    variables(
        "a misspelt name",
        "kube_cluster_netwrok is set for cp1, cp2, cp3 and 3 more, but no role has a variable of that name: "
        "write "
        "kube_cluster_network if that is meant, or list it in kube_cluster_accept_unknown_variables if it "
        "is yours.",
        kube_cluster_netwrok="flannel",
    ),
    hosts(
        "a misspelt name of one host",
        "kube_worker_label is set for worker2, but no role has a variable of that name: write "
        "kube_worker_labels if that is "
        "meant, or list it in kube_cluster_accept_unknown_variables if it is yours.",
        worker2={"kube_worker_label": {"a": "b"}},
    ),
    Run(
        "an even number of control planes, which is a warning",
        [f"kube_cluster_network is calico, but {NO_SUCH} flannel, manifests or none."],
        {"kube_cluster_network": "calico"},
        {"control_plane": {"cp4": {"ansible_host": f"{NETWORK}.14"}}},
        warns="The group control_plane has 4 hosts, an even number: etcd survives the loss of 1 of them, as 3 do.",
    ),
    variables(
        "a time without a unit",
        "kube_control_plane_shutdown_delay is 5 s, but that is no time with a unit: give a number with ms, "
        "s, m or h, for "
        "example 5s.",
        kube_control_plane_shutdown_delay="5 s",
    ),
]

ORIGIN = "http://origin.lab"
ABSENT = "the server answers 404 Not Found: check that the server or mirror holds this version for this architecture."
REPOSITORY = f"{ORIGIN}/core:/stable:/v1.36/deb"
RELEASES = f"{ORIGIN}/containerd/containerd/releases/download/v2.9.9/containerd-2.9.9-linux-amd64.tar.gz"
SMALL = "Give it more, or set kube_host_accept_small to true."
# What only hosts can tell, several things in one run.
SOURCES = [
    Run(
        "sources that are not there",
        [
            f"cp1: kube_host_package_key_url is {ORIGIN}/No.key, but {ABSENT}",
            f"cp1: kube_cluster_version is 1.36.99, but {REPOSITORY}/Packages does not name it: choose a "
            f"version that "
            "this repository holds, or fill the mirror.",
            f"cp1: kube_host_containerd_url is {RELEASES}, but the server answers 404 Not Found "
            f"({RELEASES}.sha256sum): "
            "check that the server or mirror holds this version for this architecture.",
        ],
        {
            "kube_host_package_key_url": f"{ORIGIN}/No.key",
            "kube_cluster_version": "1.36.99",
            "kube_host_containerd_version": "2.9.9",
        },
    ),
    Run(
        "checksums of other files",
        [
            f"cp1: The checksum that goes with kube_host_package_key_url is sha256:{DIGEST}, but "
            f"{REPOSITORY}/Release.key has "
            "sha256:...",
            f"cp1: The checksum that goes with kube_host_runc_url is sha256:{DIGEST}, but "
            f"{ORIGIN}/opencontainers/runc/"
            "releases/download/v1.4.2/runc.amd64 has sha256:...",
        ],
        {
            "kube_host_package_key_checksum": f"sha256:{DIGEST}",
            "kube_host_runc_checksum": f"sha256:{DIGEST}",
        },
    ),
]
UNFIT = Run(
    "unfit hosts",
    [
        f"cp1 has 1 CPU, and a control plane needs 2. {SMALL}",
        f"cp2 has 1024 MiB of memory, and a control plane needs 1700 MiB. {SMALL}",
        f"cp3 has 64 MiB free for /var/lib/etcd, and a control plane needs 4096 MiB there. {SMALL}",
        "worker1 runs ubuntu 24, which was never tested, only debian 13 was: take such a host, or set "
        "kube_host_accept_untested to true.",
    ],
)


@dataclass
class Outcome:
    """What a run ended with."""

    lines: list[str]
    hosts: dict[str, dict[str, int]]
    seconds: float
    output: str


def attempt(given: Run, folder: Path) -> Outcome:
    """Run site.yml with what is wrong."""
    sources = ["-i", INVENTORY]
    if given.groups or given.alone:
        folder.mkdir()
        groups = {group: {"hosts": members} for group, members in given.groups.items()}
        (folder / "hosts.yml").write_text(yaml.safe_dump(groups or {"control_plane": {"hosts": {}}}))
        if given.alone:
            (folder / "group_vars").symlink_to(Path(INVENTORY, "group_vars").resolve())
            sources = []
        sources += ["-i", str(folder / "hosts.yml")]
    begun = time.monotonic()
    output = run(
        *("ansible-playbook", *sources, "playbooks/site.yml", "-e", json.dumps(given.variables)),
        check=False,
        env={"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
    )
    messages = [
        json.loads(found)["msg"]
        for found in re.findall(r"^fatal: \[[^]]+\]: FAILED! => (\{.*\})$", output, re.M)
    ]
    lines = [line for message in messages for line in message.splitlines()]
    return Outcome(lines, recap(output), time.monotonic() - begun, output)


def fingerprints() -> dict[str, str]:
    """Return a digest of each host's files, packages and units."""
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(
            lambda host: run("podman", "exec", f"{PREFIX}{host}", "sh", "-c", FINGERPRINT), HOSTS
        )
        return dict(zip(HOSTS, found, strict=True))


def on(host: str, script: str) -> None:
    run("podman", "exec", f"{PREFIX}{host}", "sh", "-c", script)


@contextmanager
def one_cpu(host: str) -> Iterator[None]:
    """Take all CPUs but one from a host."""
    run("podman", "update", "--cpuset-cpus", "0", f"{PREFIX}{host}")
    try:
        yield
    finally:
        run("podman", "update", "--cpuset-cpus", f"0-{(os.cpu_count() or 1) - 1}", f"{PREFIX}{host}")


@contextmanager
def over(host: str, path: str, mount: str) -> Iterator[None]:
    """Mount something over a path of a host."""
    on(host, f"{mount} {path}")
    try:
        yield
    finally:
        on(host, f"umount {path}")


def fake(host: str, path: str, edit: str) -> Any:
    """Show another content of a file, where the real thing cannot be changed: a container has its host's "
    "memory."""
    copy = f"/run/fake-{Path(path).name}"
    return over(host, path, f"sed '{edit}' {path} > {copy} && mount --bind {copy}")


@contextmanager
def unfit_hosts() -> Iterator[None]:
    """Make four hosts unfit, each in another way."""
    with ExitStack() as faults:
        faults.enter_context(one_cpu("cp1"))
        faults.enter_context(fake("cp2", "/proc/meminfo", "s/^MemTotal:.*/MemTotal:        1048576 kB/"))
        faults.enter_context(over("cp3", "/var/lib/etcd", "mount -t tmpfs -o size=64m tmpfs"))
        faults.enter_context(
            fake("worker1", "/etc/os-release", 's/^ID=.*/ID=ubuntu/; s/^VERSION_ID=.*/VERSION_ID="24.04"/')
        )
        yield


@dataclass
class Table:
    """All outcomes, and the hosts before and after."""

    outcomes: dict[str, Outcome]
    before: dict[str, str]
    after: dict[str, str]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """Make all runs: those that end on the controller two at a time."""
    folder = tmp_path_factory.mktemp("inventories")
    begun = time.monotonic()
    before = fingerprints()
    with ThreadPoolExecutor(2) as pool:
        described = pool.map(lambda pair: attempt(pair[1], folder / str(pair[0])), enumerate(DESCRIPTIONS))
        outcomes = {given.name: outcome for given, outcome in zip(DESCRIPTIONS, described, strict=True)}
    for given in SOURCES:
        outcomes[given.name] = attempt(given, folder)
    with unfit_hosts():
        outcomes[UNFIT.name] = attempt(UNFIT, folder)
    yield Table(outcomes, before, fingerprints())
    slowest = max(outcomes[given.name].seconds for given in DESCRIPTIONS)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with (OUTPUT / "figures.txt").open("a") as file:
        file.write(
            f"bad input: {len(outcomes)} runs in {time.monotonic() - begun:.0f} s, refused descriptions in "
            f"at most "
            f"{slowest:.1f} s\n"
        )


@pytest.mark.parametrize("given", DESCRIPTIONS, ids=str)
def test_a_bad_description_ends_the_run_before_any_host_is_contacted(table: Table, given: Run) -> None:
    outcome = table.outcomes[given.name]
    assert outcome.lines == given.tells, outcome.output
    # The one result is the inclusion of the check, the other its failure, both on the controller.
    [counts] = outcome.hosts.values()
    assert {name: count for name, count in counts.items() if count} == {"ok": 1, "failed": 1}
    assert given.warns in " ".join(outcome.output.split())


@pytest.mark.parametrize("given", [*SOURCES, UNFIT], ids=str)
def test_an_unfit_host_ends_the_run_for_all_before_the_first_change(table: Table, given: Run) -> None:
    outcome = table.outcomes[given.name]
    for told in given.tells:
        beginning, cut, _rest = told.partition("...")
        assert [line for line in outcome.lines if line == told or (cut and line.startswith(beginning))], told
    # A host that only balances the load is in none of the plays that this run came to.
    assert set(outcome.hosts) == set(HOSTS) - {"lb1"}
    for counts in outcome.hosts.values():
        assert counts["changed"] == counts["unreachable"] == 0
    assert "TASK [kubewright.cluster.kube_host : Refuse a host" in outcome.output
    assert "packages" not in outcome.output.rpartition("Refuse a host")[2].partition("PLAY RECAP")[0]


def test_every_host_is_as_it_was(table: Table) -> None:
    assert table.after == table.before


def test_there_are_enough_cases() -> None:
    told = [line for given in (*DESCRIPTIONS, *SOURCES, UNFIT) for line in given.tells]
    assert len(set(told)) >= 30
