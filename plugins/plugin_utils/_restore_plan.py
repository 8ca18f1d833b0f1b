# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide how a cluster is brought back: whether at all, from which data, on which hosts.

`decide` is asked twice. Before anything is stopped it says what is wrong, and whose data is saved first; after that
it makes the plan. The plan is written to the hosts before any data is replaced, and a run that finds one goes on with
it: the same file, the same members, the same token.

A plan has two stages. While it is "restoring", no etcd of it was started, so that its file may still be restored.
From "starting" on clients may have written, so that it is never restored from again: it can be finished only where
all its members have their data.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RESTORING, STARTING = "restoring", "starting"
BUMP = 1_000_000_000
# How many times the size of the snapshot has to be free: the copy that is brought, what is unpacked from it, and the
# new data folder, which etcdutl writes twice.
_ROOM = 4

Seen = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `hosts` are all that run a member by the inventory; `given` is the record of a named file.

    `api_hosts` are the control planes where etcd has hosts of its own, none otherwise. `without` is a text with commas
    where it comes from a command line.

    `rescued` is what was saved from surviving data, by host; it is None before that was tried. `unrescued` are the
    reasons why the data of a host could not be saved.
    """

    cluster: str
    hosts: list[str]
    names: dict[str, str]
    urls: dict[str, str]
    stamp: str
    api_hosts: list[str] = field(default_factory=list)
    without: list[str] | str = field(default_factory=list)
    rewind: bool = False
    anew: bool = False
    identity: bool = False
    given: dict[str, Any] = field(default_factory=dict)
    rescued: dict[str, Any] | None = None
    unrescued: dict[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> list[str]:
        """The names in `without`."""
        names = self.without.split(",") if isinstance(self.without, str) else self.without
        return [name.strip() for name in names if name.strip()]


def decide(seen: Seen, wanted: Wanted) -> dict[str, Any]:
    """Return problems, or what to do; *seen* is what the module etcd_restore_info saw, by host."""
    open_plan = {} if wanted.anew else _open_plan(seen)
    stage = open_plan.get("stage")
    if stage == STARTING and not _has_data_of(open_plan, seen):
        open_plan, stage = {}, None
    problems = _silent(seen, wanted)
    if open_plan:
        problems += _unfinished(open_plan, seen, wanted)
        mode = "finish" if stage == STARTING else "resume"
        return _answer(mode, problems, open_plan, [], seen, wanted)
    whole, empty = _such("whole", wanted.hosts, seen), _such("empty", wanted.hosts, seen)
    survivors = [host for host in whole if seen[host]["data"]["there"] and not _given_up(seen[host])]
    problems += _still_there(seen, wanted)
    problems += _half(seen, [*wanted.hosts, *wanted.api_hosts])
    problems += _differ(seen, "etcd_ca", whole)
    problems += _differ(seen, "cluster_ca", _such("whole", wanted.api_hosts or wanted.hosts, seen))
    problems += _foreign(seen, whole or empty[:1])
    problems += _nobody(seen, wanted, whole, empty)
    choice, refused = _choose(seen, wanted, survivors, seed=not whole)
    problems += refused
    plan = _plan(seen, wanted, whole, empty, choice) if not problems and choice else {}
    if choice:
        problems += _room(seen, list(plan.get("hosts", {})), choice["size"])
        problems += _version(seen, whole, choice)
    else:
        largest = max((seen[host]["data"]["size"] for host in survivors), default=0)
        problems += _room(seen, whole, largest)
    return _answer("new", problems, plan, survivors, seen, wanted)


def _such(what: str, hosts: Iterable[str], seen: Seen) -> list[str]:
    """Return the hosts that are reached and V(whole), or V(empty)."""
    return [host for host in hosts if host in seen and seen[host][what]]


def _answer(
    mode: str, problems: list[str], plan: dict[str, Any], survivors: list[str], seen: Seen, wanted: Wanted
) -> dict[str, Any]:
    return {
        "mode": mode,
        "problems": problems,
        "plan": {} if problems else plan,
        "survivors": survivors,
        # Data is replaced in the first two modes only, and for that everything has to stand still.
        "replaces": mode != "finish",
        "newer": [] if mode == "finish" else _newer(seen, wanted, plan),
        "earlier": [_told(one) for one in _offered(seen) if _is_earlier(one, seen, wanted)],
        "encryption_keys": _common_keys(seen, wanted),
        "left_out": [host for host in wanted.left_out if host not in seen],
    }


def _common_keys(seen: Seen, wanted: Wanted) -> list[str]:
    """Return the keys that every control plane can decrypt with, where others than those look at the backup."""
    held = [set(seen[host]["encryption_keys"]) for host in _such("whole", wanted.api_hosts, seen)]
    return sorted(set.intersection(*held)) if held else []


def _open_plan(seen: Seen) -> dict[str, Any]:
    """Return the plan that an earlier run left open; the furthest stage that any host knows of it counts."""
    plans = [dict(one["plan"]) for one in seen.values() if one.get("plan")]
    if not plans:
        return {}
    newest = max(plans, key=lambda one: str(one["made_at"]))
    started = any(one["token"] == newest["token"] and one["stage"] == STARTING for one in plans)
    return {**newest, "stage": STARTING if started else RESTORING}


def _has_data_of(plan: Mapping[str, Any], seen: Seen) -> bool:
    return all(
        host in seen and seen[host]["data"]["marker"].get("token") == plan["token"] for host in plan["hosts"]
    )


def _given_up(host: Mapping[str, Any]) -> bool:
    """Data that a restore made which was given up before its etcd was started: nobody has written to it."""
    plan, marker = host.get("plan") or {}, host["data"]["marker"]
    return bool(marker) and plan.get("stage") == RESTORING and marker.get("token") == plan.get("token")


def _silent(seen: Seen, wanted: Wanted) -> list[str]:
    def missing(hosts: Iterable[str]) -> str:
        return ", ".join(host for host in hosts if host not in seen and host not in wanted.left_out)

    problems = []
    if missing(wanted.hosts):
        problems.append(
            f"{missing(wanted.hosts)} cannot be reached. A member that lives there, or comes back, would still belong "
            "to the cluster of before, and with a majority of them there would be two clusters under one address. "
            "Switch these hosts on, or make sure that they stay off, name them in etcd_restore_without, and reset "
            "them with the playbook reset.yml before they get their network back."
        )
    if missing(wanted.api_hosts):
        problems.append(
            f"{missing(wanted.api_hosts)} cannot be reached. An API server that goes on there would answer from what "
            "it remembers, and write it over what is restored. Switch these hosts on, or make sure that they stay off, "
            "name them in etcd_restore_without, and reset them before they get their network back."
        )
    return problems


def _still_there(seen: Seen, wanted: Wanted) -> list[str]:
    """A cluster that works, or that would work if it were started, is not restored."""
    working = [one["etcd"] for one in seen.values() if one["etcd"]["present"]]
    strangers = _strangers(seen, wanted, working)
    if working and not wanted.rewind:
        sick = sorted({name for one in working for name in one["sick"]})
        if strangers:
            return [
                f"An etcd answers that does not know {', '.join(strangers)}, and there is data, too. An etcd that lost "
                "its data may have begun an empty cluster. If it is that one, set etcd_restore_rewind to true: the "
                "newest of all that data is restored then."
            ]
        return [
            "etcd works: a quorum of its members is there"
            + (f", and {', '.join(sick)} is not healthy" if sick else "")
            + ". A restore would undo what was written since the snapshot. A member that is lost is replaced by "
            "the playbook replace_etcd_member.yml, a host by remove_node.yml and site.yml. To go back to an earlier "
            "state all the same, set etcd_restore_rewind to true and name the file in etcd_restore_from."
        ]
    if working and not wanted.given and not strangers:
        return [
            "etcd works. To go back to an earlier state all the same, name it: etcd_restore_from is the file, "
            "and etcd_restore_from_host the host that has it."
        ]
    if wanted.rewind:
        return []
    needed = len(wanted.hosts) // 2 + 1
    having = [host for host in wanted.hosts if host in seen and seen[host]["data"]["there"]]
    fresh = [host for host in having if not _given_up(seen[host])]
    if len(fresh) >= needed and wanted.rescued is None:
        held = [host for host in fresh if seen[host]["held"]]
        advice = "look at their kubelet and at the log of their etcd"
        if held:
            advice = f"an earlier run stopped {', '.join(held)}, and etcd_restore_undo=true starts everything again"
        return [
            f"The data of {', '.join(fresh)} is there, and {needed} of {len(wanted.hosts)} are a quorum. Nothing is "
            f"lost when these members are started: {advice}. Where that data is damaged, set etcd_restore_rewind."
        ]
    return []


def _strangers(seen: Seen, wanted: Wanted, working: list[Mapping[str, Any]]) -> list[str]:
    """Return hosts with data that the etcd which works does not know: theirs is of another cluster than its own."""
    known = {url for one in working for url in one["urls"]}
    return [
        host
        for host in wanted.hosts
        if host in seen and seen[host]["data"]["there"] and wanted.urls[host] not in known
    ]


def _half(seen: Seen, hosts: Iterable[str]) -> list[str]:
    return [
        f"{host} is neither whole nor empty: it lacks {', '.join(seen[host]['missing'][:5])}, and has "
        f"{', '.join(seen[host]['evidence'][:3])}. Save what you need of it, reset it with the playbook reset.yml and "
        "--limit, and run again."
        for host in hosts
        if host in seen and not seen[host]["whole"] and not seen[host]["empty"]
    ]


def _differ(seen: Seen, what: str, hosts: Iterable[str]) -> list[str]:
    found = {host: str(seen[host]["authorities"].get(what) or "none") for host in hosts}
    if len(set(found.values())) < 2:
        return []
    told = ", ".join(f"{host} {one[:12]}" for host, one in found.items())
    return [
        f"The hosts are not of one cluster: their certificate authorities differ ({told}). Take the hosts of "
        "other clusters out of the inventory, or reset them."
    ]


def _foreign(seen: Seen, hosts: Iterable[str]) -> list[str]:
    return [
        f"{seen[host]['data']['path']} of {host} holds {', '.join(seen[host]['data']['foreign'][:5])}, which is no "
        "part of an etcd. Move that away."
        for host in hosts
        if seen[host]["data"]["foreign"]
    ]


def _nobody(seen: Seen, wanted: Wanted, whole: list[str], empty: list[str]) -> list[str]:
    """Say whom a restore needs and who is not there."""
    problems = []
    if not whole and not empty:
        problems.append("No host of the cluster can be reached.")
    if not whole and wanted.api_hosts:
        problems.append(
            "No host of etcd has its certificates and its unit any more. Let site.yml make etcd anew with "
            "-e etcd_cluster_accept_empty=true, and run restore.yml then with -e etcd_restore_rewind=true and the "
            "backup in etcd_restore_from."
        )
    if wanted.api_hosts and not _such("whole", wanted.api_hosts, seen):
        problems.append(
            "No control plane has its files any more, and the data alone is no cluster. Bring one of them back with "
            "its disk, or with the files of a backup in their places; the others are joined."
        )
    return problems


def _offered(seen: Seen) -> list[dict[str, Any]]:
    return [{**one, "host": host} for host, each in seen.items() for one in each["backups"]]


def _is_earlier(one: Mapping[str, Any], seen: Seen, wanted: Wanted) -> bool:
    """A file from before the cluster had its authority is of an earlier cluster of that name on the same hosts."""
    hosts = _such("whole", wanted.api_hosts or wanted.hosts, seen)
    return str(one.get("saved_at") or "") < max((str(seen[host]["since"]) for host in hosts), default="")


def _candidates(seen: Seen, wanted: Wanted) -> list[dict[str, Any]]:
    """All verified data of this cluster that there is, the best last."""
    found = [one for one in _offered(seen) if not _is_earlier(one, seen, wanted)]
    found += [{**one, "host": host, "kind": "rescued"} for host, one in (wanted.rescued or {}).items()]
    return sorted(found, key=_worth)


def _worth(one: Mapping[str, Any]) -> tuple[bool, int, bool, str]:
    # The revision of a restored folder is raised by the restore, not by anybody who wrote.
    untouched = one.get("written_since_restore") is False
    return not untouched, int(one["revision"]), one["kind"] == "rescued", str(one.get("saved_at") or "")


def _choose(
    seen: Seen, wanted: Wanted, survivors: list[str], *, seed: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return the data to restore; nothing while data that survived is still to be saved and could be newer."""
    if wanted.given:
        return _usable(dict(wanted.given), wanted, seed=seed)
    if wanted.unrescued:
        told = "; ".join(f"{host}: {why}" for host, why in wanted.unrescued.items())
        return {}, [
            f"Data that survived could not be saved, and may be the newest: {told} Mend that and run again, or name "
            "the backup to restore in etcd_restore_from; that data is moved aside then, not deleted."
        ]
    if survivors and wanted.rescued is None:
        return {}, []
    able = [one for one in _candidates(seen, wanted) if not seed or one["kind"] == "bundle"]
    if not able:
        what = "No backup with its certificates" if seed else "Neither data that survived nor a backup"
        return {}, [
            f"{what} of this cluster is on any host. Name one in etcd_restore_from, a file of this controller"
            + (", that the playbook backup.yml made." if seed else ".")
        ]
    return _usable(able[-1], wanted, seed=seed)


def _usable(choice: dict[str, Any], wanted: Wanted, *, seed: bool) -> tuple[dict[str, Any], list[str]]:
    if choice.get("encryption") and not wanted.identity:
        return {}, [
            f"{choice['path']} is encrypted ({choice['encryption']}), and etcd_restore_identity does not say with what "
            "it is decrypted. Name the file of the key on this controller, or another backup in etcd_restore_from."
        ]
    if seed and choice["kind"] != "bundle":
        return {}, [
            f"{choice['path']} is a snapshot without the certificates and keys of the cluster, and no host has them "
            "any more. Name a backup that the playbook backup.yml made."
        ]
    if choice.get("cluster") and choice["cluster"] != wanted.cluster:
        return {}, [
            f"{choice['path']} is a backup of {choice['cluster']}, and this cluster is {wanted.cluster}. "
            "Name a backup of this cluster."
        ]
    return choice, []


def _plan(
    seen: Seen, wanted: Wanted, whole: list[str], empty: list[str], choice: dict[str, Any]
) -> dict[str, Any]:
    # Where nobody has anything, one host begins, and any will do.
    hosts = whole or empty[:1]
    revision = int(choice["revision"])
    known = max(_known(seen, wanted), revision)
    return {
        "token": f"{wanted.cluster}-{wanted.stamp}",
        "stage": RESTORING,
        "made_at": wanted.stamp,
        "source": {
            key: choice.get(key, "") for key in ("kind", "host", "path", "sha256", "size", "encryption")
        },
        "revision": revision,
        "saved_at": choice.get("saved_at", ""),
        "hosts": {host: wanted.names[host] for host in hosts},
        "members": {wanted.names[host]: wanted.urls[host] for host in hosts},
        "seed": "" if whole else hosts[0],
        "lost": [
            *(host for host in wanted.hosts if host not in hosts),
            *(host for host in wanted.api_hosts if host not in seen or seen[host]["empty"]),
        ],
        "known": known,
        "bump": known - revision + BUMP,
    }


def _known(seen: Seen, wanted: Wanted) -> int:
    """Return the newest revision that anybody may remember: a restore begins behind it, wherever it goes back to."""
    found = [int(one["revision"]) for one in (*_offered(seen), *(wanted.rescued or {}).values())]
    found += [int(one[what]["revision"]) for one in seen.values() for what in ("etcd", "data")]
    return max(found, default=0)


def _room(seen: Seen, hosts: list[str], size: int) -> list[str]:
    needed = _ROOM * size
    return [
        f"{host} has {seen[host]['free'] >> 20} MiB free, and {(needed >> 20) + 1} MiB are needed to restore. "
        "Free some space there."
        for host in hosts
        if host in seen and seen[host]["free"] < needed
    ]


def _version(seen: Seen, whole: list[str], choice: Mapping[str, Any]) -> list[str]:
    wrote = _minor(str(choice.get("storage_version") or choice.get("etcd_version") or ""))
    problems = []
    for host in whole:
        reads = _minor(str(seen[host]["tools"].get("etcdutl") or ""))
        if not reads:
            problems.append(f"{host} has no etcdutl that runs. Install it where it was, /usr/local/bin.")
        elif wrote > reads:
            problems.append(
                f"etcd {wrote[0]}.{wrote[1]} wrote {choice['path']}, and {host} runs etcd {reads[0]}.{reads[1]}, which "
                "cannot read it. Name a backup of that version."
            )
    return problems


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _unfinished(plan: Mapping[str, Any], seen: Seen, wanted: Wanted) -> list[str]:
    """Say why the plan of an earlier run cannot be gone on with."""
    other = wanted.given.get("sha256") if wanted.given else None
    how = "To give that restore up, set etcd_restore_anew to true."
    if other and other != plan["source"]["sha256"]:
        return [
            f"An earlier run began to restore {plan['source']['path']}, which is not the file that "
            f"etcd_restore_from names. Run again without it to finish. {how}"
        ]
    if plan["stage"] == STARTING:
        return []
    # All of it was stopped before the plan was written, so that somebody has started it by other means.
    if any(one["etcd"]["present"] for one in seen.values()) and not _has_data_of(plan, seen):
        return [
            f"A run began the restore {plan['token']} of {plan['source']['path']} and did not end, and etcd works now: "
            "to go on would undo what was written since. To keep what works, remove "
            f"/var/lib/kubewright/restore/plan.json on {', '.join(plan['hosts'])}. To go back all the same, set "
            "etcd_restore_anew and etcd_restore_rewind to true and name the file in etcd_restore_from."
        ]
    gone = [
        host
        for host in plan["hosts"]
        if host not in seen or not (seen[host]["whole"] or host == plan["seed"])
    ]
    if gone:
        return [
            f"An earlier run began a restore on {', '.join(plan['hosts'])}, and {', '.join(gone)} is not as it was "
            f"then. {how}"
        ]
    return _half(seen, wanted.api_hosts)


def _newer(seen: Seen, wanted: Wanted, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not plan:
        return []
    return [
        _told(one)
        for one in _candidates(seen, wanted)
        if int(one["revision"]) > int(plan["revision"]) and one.get("written_since_restore") is not False
    ]


def _told(one: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one.get(key, "") for key in ("kind", "host", "path", "revision", "saved_at")}
