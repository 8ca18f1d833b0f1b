# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade of Kubernetes does to the etcd that kubeadm runs, and what forbids it. Pure functions.

Three rules of etcd are none of kubeadm's, which takes whatever tag its release names:

* One minor at a time, and never back.
* The next minor only from a patch that its guide names (LEAST_PATCH). kubeadm 1.36.3 runs 3.6.8 and kubeadm 1.37.1
  brings 3.7.0, while the guide of 3.7 asks for 3.6.11: members go to a newer patch of their own minor first. That is
  done in the manifests and nowhere else, so that nothing has to be taken back before kubeadm writes them anew.
* 3.7 ends every start with "unmarshal should never fail" while its log still holds requests of 3.5, as it does until
  10,000 writes after the step from 3.5 to 3.6: such a log has to begin anew first.

A tag in ClusterConfiguration (etcd.local.imageTag) wins over kubeadm's own. A newer one is somebody's decision and
stays. An older one would hold etcd back for good, and is taken out.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_cluster_plan import (
    LEAST_PATCH,
    MINORS,
    numbers,
)

# kubeadm of 1.36 and 1.37 (MinExternalEtcdVersion in cmd/kubeadm/app/constants/constants.go).
LEAST_EXTERNAL = "3.5.24"

# The first minor that does not read what members of 3.5 wrote.
_FORGETS = (3, 7)


@dataclass(frozen=True)
class EtcdPlan:
    """The tags are those of images. ``step`` is where ``step_nodes`` go first, ``anew`` whose log begins anew."""

    to: str = ""
    unpin: bool = False
    step: str = ""
    step_nodes: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()
    problems: tuple[dict[str, str], ...] = ()
    notices: tuple[dict[str, str], ...] = ()


def finding(what: str, where: str, why: str, remedy: str) -> dict[str, str]:
    """Return something wrong in the form that cluster_info gives it."""
    return {"what": what, "where": where, "why": why, "remedy": remedy}


def minor(tag: str) -> str:
    return ".".join(tag.split(".")[:2])


def behind(tag: str, wanted: str) -> bool:
    """Tell whether an image is older than the wanted one; kubeadm leaves a newer etcd alone, and so do we."""
    return numbers(tag) < numbers(wanted)


def plan_etcd(
    default: str,
    pinned: str,
    tags: Mapping[str, str],
    steps: Mapping[str, str],
    old_logs: Mapping[str, bool],
) -> EtcdPlan:
    """Decide for the etcd of a stacked cluster.

    *default* is the tag that the target's kubeadm brings, *pinned* that of ClusterConfiguration. *tags* are the images
    that run, *old_logs* whether a log holds requests of 3.5, both by node. *steps* are the tags to go to first, by
    minor.
    """
    try:
        for tag in (default, *tags.values(), *([pinned] if pinned else [])):
            numbers(tag)
    except ValueError:
        odd = ", ".join(f"{node} {tag}" for node, tag in tags.items())
        why = f"kubeadm brings {default}, ClusterConfiguration pins {pinned or 'nothing'}, {odd} run"
        return EtcdPlan(problems=(finding("The tag of an etcd image is no version", "etcd", why, _ODD),))
    keep = bool(pinned) and not behind(pinned, default)
    wanted = pinned if keep else default
    notices = [_newer(node, tag, wanted) for node, tag in sorted(tags.items()) if behind(wanted, tag)]
    unpin = bool(pinned) and not keep
    if unpin:
        notices.append(_unpinned(pinned, default))
    crossing = {
        node: tag for node, tag in tags.items() if behind(tag, wanted) and minor(tag) != minor(wanted)
    }
    problems = _far(crossing, wanted)
    if problems or not crossing:
        return EtcdPlan(wanted, unpin, problems=tuple(problems), notices=tuple(notices))
    least = LEAST_PATCH.get(minor(wanted), "0.0.0")
    low = sorted(node for node, tag in crossing.items() if behind(tag, least))
    source = minor(next(iter(crossing.values())))
    step = steps.get(source, "") if low else ""
    if low and not _fits(step, source, least):
        problems = [_too_old(low, crossing, wanted, least, source, step)]
    forgets = numbers(wanted)[:2] >= _FORGETS
    return EtcdPlan(
        wanted,
        unpin,
        step,
        tuple(low),
        tuple(sorted(node for node in crossing if old_logs.get(node, True))) if forgets else (),
        tuple(problems),
        tuple(notices),
    )


_ODD = "Name images of etcd by upstream's tags, such as 3.6.16-0, so that their order is known"


def _fits(step: str, source: str, least: str) -> bool:
    try:
        return bool(step) and minor(step) == source and not behind(step, least)
    except ValueError:
        return False


def _far(crossing: Mapping[str, str], wanted: str) -> list[dict[str, str]]:
    """Refuse members that are more than one minor behind."""
    order = {name: number for number, name in enumerate(MINORS)}
    far = sorted(
        node
        for node, tag in crossing.items()
        if minor(tag) not in order
        or minor(wanted) not in order
        or order[minor(wanted)] - order[minor(tag)] != 1
    )
    if not far:
        return []
    return [
        finding(
            "etcd goes one minor version at a time",
            ", ".join(far),
            f"{', '.join(sorted({crossing[node] for node in far}))} runs, and {wanted} is to come",
            "Upgrade Kubernetes to a version whose kubeadm brings the minor in between first",
        )
    ]


def _too_old(
    low: Iterable[str], tags: Mapping[str, str], wanted: str, least: str, source: str, step: str
) -> dict[str, str]:
    said = f", and kube_upgrade_etcd_steps names {step}" if step else ""
    return finding(
        f"etcd is too old for its step to {minor(wanted)}",
        ", ".join(low),
        f"{', '.join(sorted({tags[node] for node in low}))} runs, etcd's guide asks for {least} at least{said}",
        f"Set kube_upgrade_etcd_steps to an image tag of {source} that is {least} or newer, such as "
        f"{{'{source}': '{least}-0'}}, and that your registry has: the members go there first. Or go to a patch of "
        "Kubernetes whose kubeadm brings such an etcd",
    )


def _newer(node: str, tag: str, wanted: str) -> dict[str, str]:
    return finding(
        "etcd is newer than what kubeadm brings",
        node,
        f"{tag} runs, {wanted} would come",
        "Nothing: kubeadm leaves it as it is",
    )


def _unpinned(pinned: str, default: str) -> dict[str, str]:
    return finding(
        "etcd.local.imageTag of ClusterConfiguration is taken out",
        "ConfigMap kubeadm-config",
        f"it says {pinned}, which is older than {default} and would hold etcd back",
        "Set it again when the upgrade is done, if a later image is needed",
    )


def external_problems(members: Iterable[Mapping[str, object]]) -> list[dict[str, str]]:
    """Refuse an etcd of its own that kubeadm would refuse half way."""
    return [
        finding(
            "etcd is too old for this version of Kubernetes",
            str(one["name"] or one["id"]),
            f"it runs {one['version']}, kubeadm asks for {LEAST_EXTERNAL} at least",
            "Upgrade it first with the playbook upgrade_etcd.yml",
        )
        for one in members
        if one["version"] and behind(str(one["version"]), LEAST_EXTERNAL)
    ]
