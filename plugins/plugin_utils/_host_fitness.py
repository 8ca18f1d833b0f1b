# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a host unfit for a cluster, from what cluster_info observed of it.

Pure functions. Each finding is one sentence: which host, what was found, and what to do.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """CPUs, and memory in MiB as the kernel counts it: a little less than what the machine was given."""

    cpus: int
    memory_mib: int


# kubeadm's own preflight (cmd/kubeadm/app/constants: ControlPlaneNumCPU, ControlPlaneMem) refuses less.
CONTROL_PLANE_LEAST = Size(2, 1700)
# A number of ours: a Debian, the kubelet, containerd, kube-proxy and flannel leave nothing for pods below it.
WORKER_LEAST = Size(1, 900)
# Up to 100 nodes a control plane with etcd on it is well served with 4 CPUs and 16 GB.
CONTROL_PLANE_ADVISED = Size(4, 15000)
# https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/install-kubeadm: 2 GB or more each machine.
WORKER_ADVISED = Size(1, 1700)

# Free space, in MiB. Numbers of ours: the images of a node, unpacked beside their archives, and some logs; etcd's
# default quota of 2 GiB with as much again for its log and a snapshot.
DISK_LEAST = {"/var/lib/containerd": 4096, "/var/lib/etcd": 4096, "/var/lib/kubelet": 1024}
DISK_ADVISED = {"/var/lib/containerd": 20480}
_ETCD = "/var/lib/etcd"

_ARCHITECTURES = ("amd64", "arm64")


@dataclass(frozen=True)
class Accepted:
    """What the user lets pass."""

    untested: bool = False
    small: bool = False
    cgroup_v1: bool = False
    ignored_preflight: Sequence[str] = ()


def judge(
    name: str, host: Mapping[str, Any], *, control_plane: bool, tested: Sequence[str], accepted: Accepted
) -> tuple[list[str], list[str]]:
    """Return why a host is refused, and what should be known about one that is not."""
    refused = list(_system(name, host["system"], tested, accepted))
    if host["cgroup"] != 2 and not accepted.cgroup_v1:
        refused.append(
            f"{name} runs on cgroup v1, which the kubelet refuses by default since 1.35: boot it with "
            "systemd.unified_cgroup_hierarchy=1, or set kube_cluster_allow_cgroup_v1 to true."
        )
    if host["kubeadm"] in ("worker", "control_plane"):
        # It carries its node already, with the size that it has.
        return refused, []
    small = list(_small(name, host, control_plane))
    if small and not accepted.small:
        advice = "Give it more, or set kube_host_accept_small to true."
        return refused + [f"{sentence} {advice}" for sentence in small], []
    refused += _preflight(name, host, control_plane, accepted.ignored_preflight)
    return refused, small or list(_modest(name, host, control_plane))


def _system(name: str, system: Mapping[str, Any], tested: Sequence[str], accepted: Accepted) -> Iterator[str]:
    found = f"{system['id'] or 'an unknown system'} {(system['version_id'] or '').partition('.')[0]}".strip()
    if system["package_manager"] is None:
        yield f"{name} runs {found} and has neither apt nor dnf: take a host with Debian 13."
    elif found not in tested and not accepted.untested:
        yield (
            f"{name} runs {found}, which was never tested, only {', '.join(tested)} was: take such a host, "
            f"or set "
            "kube_host_accept_untested to true."
        )
    if system["architecture"] not in _ARCHITECTURES:
        yield f"{name} is a machine of {system['architecture']}: take one of {' or '.join(_ARCHITECTURES)}."


def _part(control_plane: bool) -> str:
    return "control plane" if control_plane else "worker"


def _began(host: Mapping[str, Any]) -> bool:
    """See whether an earlier run already put onto the disks what they must have room for."""
    return host["interrupted"] is not None or host["kubeadm"] == "incomplete"


def _small(name: str, host: Mapping[str, Any], control_plane: bool) -> Iterator[str]:
    least = CONTROL_PLANE_LEAST if control_plane else WORKER_LEAST
    part = _part(control_plane)
    if host["cpus"] < least.cpus:
        yield f"{name} has {_cpus(host['cpus'])}, and a {part} needs {least.cpus}."
    if host["memory_mib"] < least.memory_mib:
        yield f"{name} has {host['memory_mib']} MiB of memory, and a {part} needs {least.memory_mib} MiB."
    for path, free in [] if _began(host) else _disks(host, control_plane):
        if free < DISK_LEAST[path]:
            yield f"{name} has {free} MiB free for {path}, and a {part} needs {DISK_LEAST[path]} MiB there."


def _modest(name: str, host: Mapping[str, Any], control_plane: bool) -> Iterator[str]:
    advised = CONTROL_PLANE_ADVISED if control_plane else WORKER_ADVISED
    part = _part(control_plane)
    if host["cpus"] < advised.cpus:
        yield f"{name} has {_cpus(host['cpus'])}; {advised.cpus} are advised for a {part}."
    if host["memory_mib"] < advised.memory_mib:
        yield f"{name} has {host['memory_mib']} MiB of memory; {advised.memory_mib} MiB are advised for a {part}."
    for path, free in _disks(host, control_plane):
        if free < DISK_ADVISED.get(path, 0):
            yield f"{name} has {free} MiB free for {path}; {DISK_ADVISED[path]} MiB are advised."


def _disks(host: Mapping[str, Any], control_plane: bool) -> list[tuple[str, int]]:
    found = host["disk_free_mib"].items()
    return [(path, free) for path, free in found if path in DISK_LEAST and (control_plane or path != _ETCD)]


def _cpus(count: int) -> str:
    return f"{count} CPU" + ("s" if count != 1 else "")


def _preflight(
    name: str, host: Mapping[str, Any], control_plane: bool, ignored: Sequence[str]
) -> Iterator[str]:
    """Tell before anything is changed what kubeadm would refuse at its end, although we were told to go "
    "on."""
    if not control_plane or "all" in ignored:
        return
    found = {
        "NumCPU": host["cpus"] < CONTROL_PLANE_LEAST.cpus,
        "Mem": host["memory_mib"] < CONTROL_PLANE_LEAST.memory_mib,
    }
    for check, small in found.items():
        if small and check.lower() not in [one.lower() for one in ignored]:
            yield (
                f"{name} is accepted by kube_host_accept_small, but kubeadm refuses it by its check "
                f"{check}: put {check} "
                "into kube_cluster_ignore_preflight_errors too."
            )
