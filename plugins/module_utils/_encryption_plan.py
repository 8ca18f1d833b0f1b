# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide how the control planes get from the encryption that they have to the one that is wanted.

Nothing is remembered between runs: the layouts in the files and the prefixes of etcd's values say how far an
earlier run came. Every way leads over the same three layouts, in the order of the Kubernetes documentation:

* ``read``: as before, and every control plane can read the goal;
* ``write``: every control plane writes the goal and still reads what was before;
* ``drop``: only the goal is left, once nothing in etcd needs anything else.

The goal is a key for resources that are to be encrypted, and ``identity`` for the others.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._encryption import (
    IDENTITY,
    Layout,
    key_names,
)

Seen = Mapping[str, Mapping[str, Any]]


def new_name(stamp: str, newest: str) -> str:
    """Return a name for a new key that sorts after the newest one, whatever the clock says."""
    name = f"key-{stamp}"
    return name if name > newest else f"{newest}-1"


def goals(base: Layout, resources: Sequence[str], key: str) -> dict[str, str]:
    """Return what each resource, that is or was encrypted, is to be written with."""
    return {resource: key if resource in resources else IDENTITY for resource in sorted({*base, *resources})}


def sequence(base: Layout, wanted: Mapping[str, str]) -> tuple[Layout, Layout, Layout]:
    """Return the layouts read, write and drop on the way from *base* to the goals."""
    read: Layout = {}
    write: Layout = {}
    for resource, goal in wanted.items():
        order = base.get(resource) or [IDENTITY]
        keys = [name for name in order if name != IDENTITY]
        known = [*keys, *([goal] if goal not in (*keys, IDENTITY) else [])]
        read[resource] = [order[0], *[name for name in [*known, IDENTITY] if name != order[0]]]
        write[resource] = [goal, *[name for name in [*known, IDENTITY] if name != goal]]
    drop = {resource: [goal, IDENTITY] for resource, goal in wanted.items() if goal != IDENTITY}
    return read, write, drop or {resource: [IDENTITY] for resource in wanted}


def plan(
    seen: Seen, values: Mapping[str, Mapping[str, int]], resources: Sequence[str], rotate: str, stamp: str
) -> dict[str, Any]:
    """Return the way from what was seen to what is wanted.

    *seen* is the result of encryption_config by host, *values* the number of values in etcd by resource and by
    what they are encrypted with. *rotate* names the key to rotate away from. *stamp* names a new key.
    """
    result: dict[str, Any] = {
        "problems": _host_problems(seen) or _key_problems(seen) or _value_problems(seen, values)
    }
    if result["problems"]:
        return result
    layouts = _distinct([dict(one["layout"]) for one in seen.values()])
    newest = max((name for layout in layouts for name in key_names(layout)), default="")
    goal = newest
    settled = sequence(layouts[0], goals(layouts[0], resources, newest))[2] == layouts[0] and not layouts[1:]
    if resources and (not newest or (settled and rotate == newest)):
        goal = new_name(stamp, newest)
    way = _way(layouts, resources, goal)
    if way is None:
        result["problems"] = [
            "The encryption configurations of the control planes are not two steps of one rotation. "
            + _differences(seen)
            + " Find out which keys etcd's values are encrypted with, and give every control plane the same file."
        ]
        return result
    wanted, read, write, drop = way
    stale = sum(
        count
        for resource, key in wanted.items()
        for name, count in values.get(resource, {}).items()
        if name != key
    )
    return {
        **result,
        "goals": wanted,
        "key": goal if resources else "",
        "generate": goal if resources and goal != newest else "",
        # Once a host writes the goal, or has dropped the rest, the steps before are behind all of them.
        "read": read if read != write and not any(layout in (write, drop) for layout in layouts) else {},
        "write": write if write == drop or drop not in layouts else {},
        "drop": drop,
        "dropped": sorted({name for layout in layouts for name in key_names(layout)} - key_names(drop)),
        "holder": _holder(seen, newest),
        "stale": stale,
        "idle": goal == newest and layouts == [drop] and not stale,
        # A wish that came while another rotation, the one to this very key, was under way.
        "again": bool(rotate) and rotate == goal,
    }


def _way(
    layouts: list[Layout], resources: Sequence[str], goal: str
) -> tuple[dict[str, str], Layout, Layout, Layout] | None:
    """Return goals and steps that lead through every layout that was seen, at most two steps in a row."""
    for base in layouts:
        wanted = goals(base, resources, goal)
        read, write, drop = sequence(base, wanted)
        order = _distinct([base, read, write, drop])
        places = sorted(order.index(layout) for layout in layouts if layout in order)
        if len(places) == len(layouts) and places[-1] - places[0] <= 1:
            return wanted, read, write, drop
    return None


def _distinct(layouts: Sequence[Layout]) -> list[Layout]:
    found: list[Layout] = []
    for layout in layouts:
        if layout not in found:
            found.append(layout)
    return found


def _holder(seen: Seen, newest: str) -> str:
    """Return a host that has the newest key."""
    return next((host for host, one in sorted(seen.items()) if newest in one["fingerprints"]), min(seen))


def _host_problems(seen: Seen) -> list[str]:
    problems = []
    for host, one in sorted(seen.items()):
        if not one["present"]:
            problems.append(f"{host} has no encryption configuration. Run site.yml, which brings it.")
        elif not one["used"]:
            problems.append(
                f"The API server of {host} does not use the encryption configuration. Run site.yml."
            )
        elif not one["reloads"]:
            problems.append(
                f"The API server of {host} does not reload its encryption configuration: remove "
                "encryption-provider-config-automatic-reload from kube_control_plane_api_server_extra_args "
                "and run site.yml."
            )
    return problems


def _key_problems(seen: Seen) -> list[str]:
    keys: dict[str, set[str]] = {}
    for one in seen.values():
        for name, print_ in one["fingerprints"].items():
            keys.setdefault(name, set()).add(print_)
    if all(len(prints) == 1 for prints in keys.values()):
        return []
    return [
        "Control planes have different keys under one name, so each cannot read what the other wrote. "
        + _differences(seen)
        + " Find out which key etcd's values are encrypted with, before anything restarts."
    ]


def _differences(seen: Seen) -> str:
    return (
        "; ".join(
            f"{host}: "
            + ", ".join(f"{name} {print_}" for name, print_ in sorted(one["fingerprints"].items()))
            + " as "
            + ", ".join(
                f"{resource} [{' '.join(order)}]" for resource, order in sorted(one["layout"].items())
            )
            for host, one in sorted(seen.items())
        )
        + "."
    )


def _value_problems(seen: Seen, values: Mapping[str, Mapping[str, int]]) -> list[str]:
    known = {name for one in seen.values() for name in one["fingerprints"]} | {IDENTITY}
    return [
        f"{count} {resource} in etcd are encrypted with {name}, which no control plane has. Bring the key back "
        "from a backup, or delete these objects."
        for resource, counts in sorted(values.items())
        for name, count in sorted(counts.items())
        if name not in known
    ]
