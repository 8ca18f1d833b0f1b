# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.plugin_utils._host_fitness import Accepted, judge

ADVICE = "Give it more, or set kube_host_accept_small to true."


def seen(system: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    """Return what cluster_info says of a large host that nothing is wrong with, changed by a test."""
    return {
        "system": {
            "id": "debian",
            "version_id": "13",
            "architecture": "amd64",
            "package_manager": "apt",
            **(system or {}),
        },
        "kubeadm": "none",
        "interrupted": None,
        "cgroup": 2,
        "cpus": 8,
        "memory_mib": 32000,
        "disk_free_mib": {"/var/lib/containerd": 90000, "/var/lib/etcd": 90000, "/var/lib/kubelet": 90000},
        **facts,
    }


def verdict(
    facts: dict[str, Any], *, control_plane: bool = True, **accepted: Any
) -> tuple[list[str], list[str]]:
    return judge(
        "h1", facts, control_plane=control_plane, tested=["debian 13"], accepted=Accepted(**accepted)
    )


def disks(free: int, **others: int) -> dict[str, int]:
    return {f"/var/lib/{name}": others.get(name, free) for name in ("containerd", "etcd", "kubelet")}


@pytest.mark.parametrize("control_plane", [True, False])
def test_a_good_host(control_plane: bool) -> None:
    assert verdict(seen(), control_plane=control_plane) == ([], [])


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (
            seen({"id": "ubuntu", "version_id": "24.04"}),
            "h1 runs ubuntu 24, which was never tested, only debian 13 was: take such a host, or set "
            "kube_host_accept_untested to true.",
        ),
        (
            seen({"version_id": None}),
            "h1 runs debian, which was never tested, only debian 13 was: take such a host, or set "
            "kube_host_accept_untested to true.",
        ),
        (
            seen({"id": "alpine", "version_id": "3.22", "package_manager": None}),
            "h1 runs alpine 3 and has neither apt nor dnf: take a host with Debian 13.",
        ),
        (seen({"architecture": "s390x"}), "h1 is a machine of s390x: take one of amd64 or arm64."),
        (
            seen(cgroup=1),
            "h1 runs on cgroup v1, which the kubelet refuses by default since 1.35: boot it with "
            "systemd.unified_cgroup_hierarchy=1, or set kube_cluster_allow_cgroup_v1 to true.",
        ),
        (seen(cpus=1), f"h1 has 1 CPU, and a control plane needs 2. {ADVICE}"),
        (
            seen(memory_mib=1699),
            f"h1 has 1699 MiB of memory, and a control plane needs 1700 MiB. {ADVICE}",
        ),
        (
            seen(disk_free_mib=disks(90000, etcd=4095)),
            f"h1 has 4095 MiB free for /var/lib/etcd, and a control plane needs 4096 MiB there. {ADVICE}",
        ),
        (
            seen(disk_free_mib=disks(90000, containerd=100)),
            f"h1 has 100 MiB free for /var/lib/containerd, and a control plane needs 4096 MiB there. "
            f"{ADVICE}",
        ),
    ],
)
def test_a_control_plane_that_is_refused(facts: dict[str, Any], told: str) -> None:
    assert verdict(facts) == ([told], [])


def test_a_worker_needs_less() -> None:
    small = seen(cpus=1, memory_mib=900, disk_free_mib=disks(4096, etcd=0))
    refused, warned = verdict(small, control_plane=False)
    assert refused == []
    assert warned == [
        "h1 has 900 MiB of memory; 1700 MiB are advised for a worker.",
        "h1 has 4096 MiB free for /var/lib/containerd; 20480 MiB are advised.",
    ]
    assert verdict(seen(memory_mib=899), control_plane=False) == (
        [f"h1 has 899 MiB of memory, and a worker needs 900 MiB. {ADVICE}"],
        [],
    )


def test_less_than_is_advised_is_a_warning() -> None:
    facts = seen(cpus=2, memory_mib=4000, disk_free_mib=disks(10000))
    assert verdict(facts) == (
        [],
        [
            "h1 has 2 CPUs; 4 are advised for a control plane.",
            "h1 has 4000 MiB of memory; 15000 MiB are advised for a control plane.",
            "h1 has 10000 MiB free for /var/lib/containerd; 20480 MiB are advised.",
        ],
    )


@pytest.mark.parametrize("kubeadm", ["worker", "control_plane"])
def test_a_node_keeps_the_size_that_it_has(kubeadm: str) -> None:
    assert verdict(seen(kubeadm=kubeadm, cpus=1, memory_mib=1, disk_free_mib=disks(1))) == ([], [])


def test_what_broke_off_is_asked_like_a_new_host() -> None:
    refused, _warned = verdict(seen(kubeadm="incomplete", cpus=1))
    assert refused == [f"h1 has 1 CPU, and a control plane needs 2. {ADVICE}"]


@pytest.mark.parametrize("begun", [{"interrupted": "seed"}, {"kubeadm": "incomplete"}])
def test_what_an_earlier_run_put_onto_the_disks_is_not_asked_for_again(begun: dict[str, Any]) -> None:
    full = disks(3000)
    assert verdict(seen(disk_free_mib=full))[0]
    refused, warned = verdict(seen(disk_free_mib=full, **begun))
    assert (refused, warned) == ([], ["h1 has 3000 MiB free for /var/lib/containerd; 20480 MiB are advised."])


def test_an_accepted_host_that_kubeadm_would_refuse() -> None:
    small = seen(cpus=1, memory_mib=1024)
    told = (
        "h1 is accepted by kube_host_accept_small, but kubeadm refuses it by its check {0}: put {0} into "
        "kube_cluster_ignore_preflight_errors too."
    )
    warned = [
        "h1 has 1 CPU, and a control plane needs 2.",
        "h1 has 1024 MiB of memory, and a control plane needs 1700 MiB.",
    ]
    assert verdict(small, small=True) == ([told.format("NumCPU"), told.format("Mem")], warned)
    assert verdict(small, small=True, ignored_preflight=["numcpu"]) == ([told.format("Mem")], warned)
    assert verdict(small, small=True, ignored_preflight=["all"]) == ([], warned)
    # It asks no such thing of a worker.
    assert verdict(small, small=True, control_plane=False)[0] == []


@pytest.mark.parametrize(
    ("facts", "accepted"),
    [
        (seen({"id": "rocky", "version_id": "10.0", "package_manager": "dnf"}), {"untested": True}),
        (seen(cgroup=1), {"cgroup_v1": True}),
        (seen(disk_free_mib=disks(0)), {"small": True}),
    ],
)
def test_overrides(facts: dict[str, Any], accepted: dict[str, Any]) -> None:
    assert verdict(facts)[0]
    assert verdict(facts, **accepted)[0] == []


def test_everything_is_told_at_once() -> None:
    refused, _warned = verdict(seen({"architecture": "s390x"}, cgroup=1, cpus=1, memory_mib=1))
    assert [sentence.split()[1] for sentence in refused] == ["is", "runs", "has", "has"]
