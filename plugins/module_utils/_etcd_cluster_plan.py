# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done to an etcd cluster of its own, from what its hosts say. Pure functions.

PRIVATE to the collection: this interface can change in any release.

Members are recognised by their peer URL. Five rules hold whatever is asked for:

* A new cluster begins only where none ever was: every host of the group has been looked at, and none has data,
  was a member before, or stands below a Kubernetes that has kept something, unless somebody says that all is lost.
* A host with data that is no member is never touched.
* As long as a restore is open, members of two clusters may lie side by side, and only restore.yml starts any.
* A member keeps its address: its certificates and the list of members name it.
* A running version is changed by upgrade_etcd.yml only, one minor at a time, and never back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The oldest patch of a minor from which etcd's guides let a cluster go to the next one. Where two of its pages differ,
# the newer patch stands here.
#   https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/ and the release notes of 3.6: a member of 3.5 before 3.5.26 brings
#   members back that were removed, and promotes no learners (etcd 19557, 20967); the guide now asks for 3.5.32.
#   https://etcd.io/docs/v3.7/upgrades/upgrade_3_7/: 3.6.11 keeps the flags that 3.7 dropped from ending the process.
LEAST_PATCH = {"3.6": "3.5.32", "3.7": "3.6.11"}
MINORS = ("3.5", "3.6", "3.7")

Look = Mapping[str, Any]


def peer_url(address: str) -> str:
    return f"https://[{address}]:2380" if ":" in address else f"https://{address}:2380"


def plan(looks: Mapping[str, Look], wanted: Mapping[str, Mapping[str, str]], remains: bool) -> dict[str, Any]:
    """Decide for every host.

    *looks* are what the hosts said that answered, *wanted* is the whole group: each host's address, name, version
    and what it replaces. *remains* tells whether a control plane holds what only a cluster leaves behind.
    """
    living = [host for host, look in looks.items() if (look["etcd"]["quorum"] or {}).get("present")]
    silent = [host for host in wanted if host not in looks]
    found: dict[str, Any] = {
        "state": "living",
        "members": looks[living[0]]["etcd"]["members"] if living else [],
        "problems": [],
        "notices": [],
        "actions": {},
        "initial_cluster": "",
        "replaces": {},
    }
    _authority(found, looks, silent)
    if living:
        _living(found, looks, wanted)
    else:
        _not_living(found, looks, wanted, silent, remains)
    found["problems"] += _open_restore(looks, living=bool(living))
    found["versions"] = {
        host: _version_of(looks[host], found, wanted[host]["version"]) for host in wanted if host in looks
    }
    for host, look in looks.items():
        if not look["openssl"]:
            found["problems"].append(
                f"{host} has no openssl, which makes its keys: install the package openssl."
            )
        address = wanted[host]["address"]
        if look["addresses"] and address not in look["addresses"]:
            found["problems"].append(
                f"kube_cluster_host_address of {host} is {address}, but no interface of the host has it: "
                "correct it."
            )
    return found


def _open_restore(looks: Mapping[str, Look], *, living: bool) -> list[str]:
    """Refuse while a restore is open, but for the end of one, which runs site.yml for the members that were lost."""
    stages = {host: look["restoring"] for host, look in looks.items() if look["restoring"]}
    if not stages or (living and set(stages.values()) == {"starting"}):
        return []
    return [
        f"A restore of etcd was interrupted ({_list(stages)}), and members of the cluster before it and of the "
        "restored one must not run together: run the playbook restore.yml again, which goes on."
    ]


def _authority(found: dict[str, Any], looks: Mapping[str, Look], silent: Sequence[str]) -> None:
    """Find the one host with the authority's key, by looking and never by its place in the inventory."""
    known = {host: look["authority"] for host, look in looks.items() if look["authority"]["fingerprint"]}
    holders = [host for host, one in known.items() if one["key"]]
    found["authority"] = holders[0] if holders else ""
    found["new_authority"] = not known and not silent
    if found["new_authority"]:
        found["authority"] = next(
            (host for host, look in looks.items() if look["authority"]["key"]), next(iter(looks), "")
        )
    if len({one["fingerprint"] for one in known.values()}) > 1:
        parts = ", ".join(f"{host} {one['fingerprint'][:12]}" for host, one in known.items())
        found["problems"].append(
            f"The hosts trust different authorities (/etc/etcd/pki/ca.crt: {parts}): find out which one "
            "the members have, "
            "and give every host that file."
        )
    if len(holders) > 1:
        found["notices"].append(
            f"The key of etcd's authority is on {' and '.join(holders)}: keep /etc/etcd/pki/ca.key on one "
            "of them only."
        )


def _living(
    found: dict[str, Any], looks: Mapping[str, Look], wanted: Mapping[str, Mapping[str, str]]
) -> None:
    members = found["members"]
    by_url = {url: member for member in members for url in member["peer_urls"]}
    for host, look in looks.items():
        mine = peer_url(wanted[host]["address"])
        member = by_url.get(mine)
        old = next(
            (one for one in members if one["name"] == wanted[host]["name"] and one is not member), None
        )
        action, problem = _action(host, look, wanted[host], member, old)
        if problem:
            found["problems"].append(problem)
        found["actions"][host] = action
        replaces = wanted[host]["replaces"]
        if action == "join" and member and member["name"] and not look["data"]:
            # Its disk is lost, and its old self stands in its way.
            found["replaces"][host] = mine
        elif action == "join" and replaces:
            found["replaces"][host] = replaces
        elif action == "join" and old and not member:
            found["replaces"][host] = old["peer_urls"][0]
    urls = {peer_url(one["address"]) for one in wanted.values()}
    strangers = [one for one in members if not urls.intersection(one["peer_urls"])]
    claimed = set(found["replaces"].values())
    for one in strangers:
        if not claimed.intersection([one["id"], *one["peer_urls"]]):
            found["notices"].append(
                f"{_label(one)} is a member and no host of the group. If its host is gone for good, remove "
                "it with the "
                f"playbook remove_etcd_host.yml and -e remove_etcd_host={one['peer_urls'][0]}."
            )
    joining = [host for host, action in found["actions"].items() if action == "join"]
    dead = [
        one
        for one in members
        if not one["healthy"] and not claimed.intersection([one["id"], *one["peer_urls"]])
    ]
    if joining and dead and not any(one["is_learner"] or not one["name"] for one in dead):
        found["notices"].append(
            f"{', '.join(map(_label, dead))} is not healthy. If {joining[0]} takes its place, set "
            "etcd_cluster_replaces to "
            f"{dead[0]['peer_urls'][0]} for it."
        )


def _action(
    host: str,
    look: Look,
    wanted: Mapping[str, str],
    member: Mapping[str, Any] | None,
    old: Mapping[str, Any] | None,
) -> tuple[str, str]:
    """Return what is done to a host while the cluster lives, and what stands in the way."""
    mine = peer_url(wanted["address"])
    if look["data"] and look["advertised"] not in ("", mine):
        return "", (
            f"kube_cluster_host_address of {host} is {wanted['address']}, but its member of etcd has "
            f"{look['advertised']}, "
            "and its certificates and the list of members name that: it would be cut off. Set the address "
            "back, or remove "
            f"the member with the playbook remove_etcd_host.yml (-e remove_etcd_host={look['advertised']}) "
            "and add the host "
            "again."
        )
    if look["data"] and not look["unit"]:
        return "", (
            f"{host} has the data of an etcd (/var/lib/etcd/member), but not the unit of this collection: "
            "move the data "
            "away if it is not needed any more."
        )
    if member and look["data"]:
        return ("join" if member["is_learner"] or not member["name"] else "member"), ""
    if member:
        if member["healthy"] and member["name"]:
            return "", (
                f"A healthy member of etcd has the address of {host}, {mine}, but this host has no data: "
                "another host "
                "answers there. Correct kube_cluster_host_address."
            )
        return "join", ""
    if look["data"]:
        return "", (
            f"{host} has the data of an etcd member, but {mine} is no member of the cluster. If it was "
            "removed, move "
            "/var/lib/etcd/member away and run again; it then joins as a new member."
        )
    if old and old["healthy"] and not wanted["replaces"]:
        return "", (
            f"etcd has a healthy member named {wanted['name']} with the address "
            f"{', '.join(old['peer_urls'])}, and {host} "
            f"would be another one of that name. Give {host} another name, or set etcd_cluster_replaces to "
            f"{old['peer_urls'][0]} if it takes its place."
        )
    return "join", ""


def _not_living(
    found: dict[str, Any],
    looks: Mapping[str, Look],
    wanted: Mapping[str, Mapping[str, str]],
    silent: Sequence[str],
    remains: bool,
) -> None:
    data = [host for host, look in looks.items() if look["data"]]
    begun = [host for host, look in looks.items() if look["began"]]
    born = [host for host, look in looks.items() if look["born"]]
    found["initial_cluster"] = ",".join(
        f"{one['name']}={peer_url(one['address'])}" for _host, one in sorted(wanted.items())
    )
    if not set(data) - set(begun) and not born:
        found["state"] = "new"
        _new(found, looks, silent, begun, remains and not begun)
        return
    found["state"] = "down"
    found["actions"] = {
        host: "start" if look["data"] and look["unit"] else "" for host, look in looks.items()
    }
    if not any(found["actions"].values()):
        found["problems"].append(
            f"{_list(born or data)} had members of etcd, and no host has the data of one any more. A new "
            "cluster would be "
            "an empty one: restore a snapshot with the playbook restore.yml, or reset the hosts with "
            "reset.yml if nothing "
            "is needed."
        )


def _new(
    found: dict[str, Any],
    looks: Mapping[str, Look],
    silent: Sequence[str],
    begun: Sequence[str],
    remains: bool,
) -> None:
    found["actions"] = dict.fromkeys(looks, "bootstrap")
    other = sorted({looks[host]["began"] for host in begun} - {found["initial_cluster"]})
    if silent:
        found["problems"].append(
            f"A new etcd cluster needs all hosts of its group, and {_list(silent)} "
            f"{'is' if len(silent) == 1 else 'are'} "
            "not in this run or did not answer: run without --limit, bring them back, or take them out of "
            "the group."
        )
    if other:
        found["problems"].append(
            f"The start of an etcd cluster of {other[0]} was interrupted, and the group is "
            f"{found['initial_cluster']} now. "
            "Set the group back and run again, or reset its hosts with the playbook reset.yml."
        )
    if remains:
        found["problems"].append(
            "Control planes have the files of a cluster, but no host of the etcd group has data. An empty "
            "etcd would be the end of that cluster. If all hosts of etcd are lost and there is a backup, run "
            "again with -e etcd_cluster_accept_empty=true, which builds an empty etcd for the playbook "
            "restore.yml to fill (docs/external_etcd.md). If nothing is needed, reset the control planes with "
            "reset.yml."
        )
    for host, look in looks.items():
        if look["running"] and host not in begun:
            found["problems"].append(
                f"An etcd that is none of this collection runs on {host}: stop it and remove it."
            )


def _version_of(look: Look, found: Mapping[str, Any], wanted: str) -> str:
    """Return the version that a host runs or joins with: site.yml never changes one that runs."""
    if look["data"] and look["version"]:
        return str(look["version"])
    running = [one["version"] for one in found["members"] if one["version"]]
    return min(running, key=numbers) if running else wanted


def upgrade(
    looks: Mapping[str, Look], wanted: Mapping[str, Mapping[str, str]], target: str
) -> dict[str, Any]:
    """Decide whether and in which order the members move to *target*: followers first, the leader last."""
    found = plan(looks, wanted, remains=False)
    problems: list[str] = list(found["problems"])
    members = found["members"]
    order: list[str] = []
    if found["state"] != "living":
        errors = "; ".join(
            sorted({str(look["etcd"]["error"]) for look in looks.values() if look["etcd"]["error"]})
        )
        problems.append(
            f"No quorum of etcd answers, so nothing is upgraded: {errors or 'no host could be asked'}."
        )
    else:
        problems += _steps(members, target)
        problems += [
            f"{_label(one)} is not a healthy voter ({one['error'] or 'it is still a learner'}): bring it "
            "back or remove it "
            "before an upgrade."
            for one in members
            if not one["healthy"] or one["is_learner"]
        ]
        by_url = {url: one for one in members for url in one["peer_urls"]}
        mine = {host: by_url.get(peer_url(wanted[host]["address"])) for host in wanted}
        missing = [one for one in members if not any(one is member for member in mine.values())]
        unseen = [host for host, member in mine.items() if member and host not in looks]
        if missing:
            problems.append(
                f"{', '.join(map(_label, missing))} is a member and no host of the group, so it would stay "
                "behind: put its "
                "host into the group, or remove it."
            )
        if unseen:
            problems.append(
                f"{_list(unseen)} did not answer, so nothing is upgraded: bring it back, or run without "
                "--limit."
            )
        behind = [
            host
            for host, member in mine.items()
            if member and host in looks and (member["version"] != target or looks[host]["version"] != target)
        ]
        order = sorted(behind, key=lambda host: (bool((mine[host] or {})["is_leader"]), host))
    return {
        "problems": problems,
        "order": order,
        "from": {one["name"] or one["id"]: one["version"] for one in members},
        "to": target,
    }


def _steps(members: Iterable[Mapping[str, Any]], target: str) -> list[str]:
    """Return why versions do not lead to the target."""
    problems = []
    minor = _minor(target)
    if minor not in MINORS:
        return [f"etcd_cluster_version is {target}, but only the minors {', '.join(MINORS)} are supported."]
    for one in members:
        version = one["version"]
        if not version:
            continue
        if numbers(version) > numbers(target):
            problems.append(
                f"{_label(one)} runs {version}, which is newer than etcd_cluster_version {target}: etcd is not "
                "downgraded, because its data may not fit any more. Raise etcd_cluster_version."
            )
        elif _minor(version) != minor:
            problems += _minor_step(one, version, minor)
    return problems


def _minor_step(member: Mapping[str, Any], version: str, minor: str) -> list[str]:
    before = MINORS[MINORS.index(minor) - 1] if MINORS.index(minor) else ""
    if _minor(version) != before:
        reach = MINORS[MINORS.index(_minor(version)) + 1] if _minor(version) in MINORS[:-1] else before
        return [
            f"{_label(member)} runs {version}, and etcd goes one minor at a time: set etcd_cluster_version "
            f"to a {reach} first."
        ]
    least = LEAST_PATCH[minor]
    if numbers(version) < numbers(least):
        return [
            f"{_label(member)} runs {version}, and etcd's guide asks for {least} at least before {minor}: set "
            f"etcd_cluster_version to the newest patch of {before} first."
        ]
    return []


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-", maxsplit=1)[0].split("."))


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _label(member: Mapping[str, Any]) -> str:
    return f"{member['name'] or 'a member without a name'} ({', '.join(member['peer_urls'])})"


def _list(hosts: Iterable[str]) -> str:
    return ", ".join(hosts)
