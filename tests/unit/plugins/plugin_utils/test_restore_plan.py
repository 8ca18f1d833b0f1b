# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a cluster is restored, from what, and where."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.plugin_utils._restore_plan import (
    BUMP,
    RESTORING,
    STARTING,
    Wanted,
    decide,
)

MIB = 1 << 20
HOSTS = ["cp1", "cp2", "cp3"]
WANTED: dict[str, Any] = {
    "cluster": "lab",
    "hosts": HOSTS,
    "names": {host: host for host in HOSTS},
    "urls": {host: f"https://10.0.0.{host[-1]}:2380" for host in HOSTS},
    "stamp": "20261122T080000Z",
}


def host(**changes: Any) -> dict[str, Any]:
    """A whole control plane without data, where nothing answers."""
    seen: dict[str, Any] = {
        "whole": True,
        "empty": False,
        "missing": [],
        "evidence": ["/etc/kubernetes/kubelet.conf"],
        "held": [],
        "authorities": {"etcd_ca": "a" * 64, "cluster_ca": "b" * 64},
        "since": "20261101T000000Z",
        "encryption_keys": ["key-2"],
        "data": {
            "path": "/var/lib/etcd",
            "there": False,
            "size": 0,
            "revision": 0,
            "foreign": [],
            "marker": {},
        },
        "plan": {},
        "etcd": {"present": False, "sick": [], "urls": [], "revision": 0, "error": "down"},
        "tools": {"etcdutl": "3.6.16"},
        "free": 1000 * MIB,
        "backups": [],
    }
    return {**seen, **copy.deepcopy(changes)}


def data(token: str = "", **changes: Any) -> dict[str, Any]:
    there = {"there": True, "size": 10 * MIB, "marker": {"token": token} if token else {}}
    return {**host()["data"], **there, **changes}


def empty(**changes: Any) -> dict[str, Any]:
    lacks = {
        "whole": False,
        "empty": True,
        "missing": ["all"],
        "evidence": [],
        "authorities": {},
        "since": "",
    }
    return host(**{**lacks, "tools": {"etcdutl": ""}, **changes})


def backup(revision: int, **changes: Any) -> dict[str, Any]:
    known = {
        "kind": "bundle",
        "path": f"/var/backups/kubewright/lab-{revision}.tar",
        "size": 10 * MIB,
        "sha256": f"{revision:064x}",
        "encryption": "",
        "revision": revision,
        "saved_at": "20261122T070000Z",
        "etcd_version": "3.6.16",
    }
    return {**known, **changes}


def rescued(revision: int, **changes: Any) -> dict[str, Any]:
    return backup(revision, kind="snapshot", path=f"/rescued/{revision}.db", **changes)


def wanted(**changes: Any) -> Wanted:
    return Wanted(**{**WANTED, **changes})


def refusal(seen: dict[str, Any], **changes: Any) -> str:
    decision = decide(seen, wanted(**changes))
    assert decision["problems"] and not decision["plan"]
    return " ".join(decision["problems"])


LOST_TWO = {"cp1": host(data=data(), backups=[backup(50)]), "cp2": host(), "cp3": empty()}
LOST_ALL = {"cp1": empty(backups=[]), "cp2": empty(), "cp3": empty()}


def test_data_that_survived_is_saved_before_anything_is_chosen() -> None:
    decision = decide(LOST_TWO, wanted())
    assert decision["problems"] == [] and decision["plan"] == {}
    assert decision["survivors"] == ["cp1"] and decision["replaces"] and decision["mode"] == "new"


def test_what_survived_is_newer_than_the_backup() -> None:
    decision = decide(LOST_TWO, wanted(rescued={"cp1": rescued(70)}))
    plan = decision["plan"]
    assert plan["source"]["host"] == "cp1" and plan["source"]["path"] == "/rescued/70.db"
    assert plan["members"] == {"cp1": "https://10.0.0.1:2380", "cp2": "https://10.0.0.2:2380"}
    assert plan["lost"] == ["cp3"] and plan["seed"] == "" and plan["bump"] == BUMP
    assert plan["token"] == "lab-20261122T080000Z" and plan["stage"] == RESTORING
    assert decision["newer"] == []


def test_a_newer_backup_wins_over_an_old_survivor() -> None:
    """A member that was down for long, while the cluster went on."""
    plan = decide(LOST_TWO, wanted(rescued={"cp1": rescued(40)}))["plan"]
    assert plan["source"]["path"] == "/var/backups/kubewright/lab-50.tar"


def test_the_highest_revision_of_two_survivors() -> None:
    hosts = ["cp1", "cp2", "cp3", "cp4", "cp5"]
    names = {one: one for one in hosts}
    urls = {one: f"https://10.0.0.{one[-1]}:2380" for one in hosts}
    seen = {one: host(data=data()) if one in ("cp2", "cp4") else host() for one in hosts}
    decision = decide(seen, wanted(hosts=hosts, names=names, urls=urls))
    assert decision["survivors"] == ["cp2", "cp4"]
    saved = {"cp2": rescued(7), "cp4": rescued(9)}
    plan = decide(seen, wanted(hosts=hosts, names=names, urls=urls, rescued=saved))["plan"]
    assert plan["source"]["host"] == "cp4" and len(plan["members"]) == 5


def test_an_untouched_restored_folder_is_no_newer_data() -> None:
    """Its revision was raised by the bump of a restore that was given up."""
    untouched = rescued(BUMP + 10, written_since_restore=False)
    decision = decide(LOST_TWO, wanted(rescued={"cp1": untouched}))
    assert decision["plan"]["revision"] == 50 and decision["newer"] == []
    touched = rescued(BUMP + 10, written_since_restore=True)
    assert decide(LOST_TWO, wanted(rescued={"cp1": touched}))["plan"]["revision"] == BUMP + 10


def test_a_named_file_wins_and_what_is_newer_is_told() -> None:
    named = {**backup(30), "host": "", "path": "/backups/lab-30.tar"}
    before = decide(LOST_TWO, wanted(given=named))
    assert before["plan"]["revision"] == 30 and before["survivors"] == ["cp1"]
    after = decide(LOST_TWO, wanted(given=named, rescued={"cp1": rescued(70)}))
    assert after["plan"]["source"]["path"] == "/backups/lab-30.tar"
    assert [one["revision"] for one in after["newer"]] == [50, 70]


def test_all_hosts_empty() -> None:
    """One of them begins, and only a backup with certificates will do."""
    named = {**backup(30), "host": ""}
    plan = decide(LOST_ALL, wanted(given=named))["plan"]
    assert plan["seed"] == "cp1" and plan["lost"] == ["cp2", "cp3"]
    assert plan["members"] == {"cp1": "https://10.0.0.1:2380"}
    assert "without the certificates" in refusal(LOST_ALL, given={**rescued(30), "host": ""})
    assert "etcd_restore_from" in refusal(LOST_ALL)
    only_data = {**LOST_ALL, "cp2": empty(backups=[rescued(9)])}
    assert "No backup with its certificates" in refusal(only_data)


def test_a_quorum_that_works_is_not_restored() -> None:
    urls = list(WANTED["urls"].values())
    works = {"present": True, "sick": ["cp3"], "urls": urls, "revision": 9, "error": ""}
    seen = {one: host(data=data(), etcd=works) for one in HOSTS}
    said = refusal(seen)
    assert "replace_etcd_member.yml" in said and "cp3" in said and "etcd_restore_rewind" in said
    assert "etcd_restore_from" in refusal(seen, rewind=True)
    named = {**backup(5), "host": ""}
    plan = decide(seen, wanted(rewind=True, given=named))["plan"]
    assert plan["revision"] == 5 and list(plan["members"]) == HOSTS


def test_an_etcd_that_began_an_empty_cluster() -> None:
    """The one that kubeadm started with makes a cluster of its own when its data is gone."""
    began = {"present": True, "sick": [], "urls": ["https://10.0.0.1:2380"], "revision": 9, "error": ""}
    silent = {"present": False, "sick": [], "urls": [], "revision": 0, "error": "no leader"}
    seen = {
        "cp1": host(data=data(), etcd=began),
        "cp2": host(data=data(), etcd=silent),
        "cp3": empty(),
    }
    said = refusal(seen)
    assert "does not know cp2" in said and "etcd_restore_rewind" in said
    decision = decide(seen, wanted(rewind=True))
    assert decision["problems"] == [] and decision["survivors"] == ["cp1", "cp2"]
    saved = {"cp1": rescued(9), "cp2": rescued(70)}
    assert decide(seen, wanted(rewind=True, rescued=saved))["plan"]["revision"] == 70


def test_members_that_only_need_to_be_started_are_not_restored() -> None:
    seen = {"cp1": host(data=data()), "cp2": host(data=data()), "cp3": empty()}
    assert "when these members are started" in refusal(seen)
    seen["cp1"]["held"] = ["etcd"]
    assert "etcd_restore_undo" in refusal(seen)
    assert decide(seen, wanted(rewind=True))["problems"] == []


def test_a_host_that_is_not_reached() -> None:
    seen = {"cp1": LOST_TWO["cp1"], "cp2": LOST_TWO["cp2"]}
    said = refusal(seen)
    assert "cp3 cannot be reached" in said and "etcd_restore_without" in said
    decision = decide(seen, wanted(without=["cp3"], rescued={"cp1": rescued(70)}))
    assert decision["plan"]["lost"] == ["cp3"]


def test_data_that_cannot_be_saved() -> None:
    said = refusal(LOST_TWO, rescued={}, unrescued={"cp1": "There is no room."})
    assert "There is no room." in said and "etcd_restore_from" in said
    named = {**backup(30), "host": ""}
    assert not decide(LOST_TWO, wanted(rescued={}, unrescued={"cp1": "x"}, given=named))["problems"]


def test_hosts_of_two_clusters() -> None:
    seen = {**LOST_TWO, "cp2": host(authorities={"etcd_ca": "c" * 64, "cluster_ca": "b" * 64})}
    assert "not of one cluster" in refusal(seen)


def test_a_host_that_is_neither_whole_nor_empty() -> None:
    seen = {**LOST_TWO, "cp2": host(whole=False, missing=["/etc/kubernetes/pki/ca.key"])}
    said = refusal(seen)
    assert "cp2 is neither" in said and "ca.key" in said and "reset.yml" in said


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"encryption": "age"}, "etcd_restore_identity"),
        ({"etcd_version": "3.7.3"}, "cannot read it"),
        ({"size": 300 * MIB}, "MiB are needed"),
        ({"cluster": "other"}, "is a backup of other"),
    ],
)
def test_backups_that_cannot_be_used(changes: dict[str, Any], told: str) -> None:
    assert told in refusal(LOST_TWO, given={**backup(30, **changes), "host": ""})


def test_an_encrypted_backup_with_its_key() -> None:
    named = {**backup(30, encryption="age"), "host": ""}
    assert decide(LOST_TWO, wanted(given=named, identity=True))["plan"]["source"]["encryption"] == "age"


def test_no_data_at_all() -> None:
    seen = {one: host() for one in HOSTS}
    assert "Neither data that survived nor a backup" in refusal(seen)


def a_plan(stage: str, hosts: list[str] | None = None) -> dict[str, Any]:
    restored = hosts or ["cp1", "cp2"]
    return {
        "token": "lab-1",
        "stage": stage,
        "made_at": "20261122T075000Z",
        "source": {"path": "/rescued/70.db", "sha256": f"{70:064x}", "host": "cp1"},
        "revision": 70,
        "hosts": {one: one for one in restored},
        "members": {one: WANTED["urls"][one] for one in restored},
        "seed": "",
        "lost": [one for one in HOSTS if one not in restored],
    }


def test_a_restore_that_was_interrupted_goes_on() -> None:
    """The very same plan, also when only one host has got it, and one has its new data already."""
    seen = {"cp1": host(data=data("lab-1"), plan=a_plan(RESTORING)), "cp2": host(data=data()), "cp3": empty()}
    decision = decide(seen, wanted())
    assert decision["mode"] == "resume" and decision["plan"] == a_plan(RESTORING)
    assert decision["survivors"] == [] and decision["problems"] == []
    assert "not the file" in refusal(seen, given={**backup(30), "host": ""})
    works = {"present": True, "sick": [], "urls": [], "revision": 90, "error": ""}
    said = refusal({**seen, "cp2": host(data=data(), etcd=works)}, rewind=True)
    assert "etcd works now" in said and "plan.json" in said and "etcd_restore_anew" in said
    # Unless what works is what this very plan has restored.
    both = {**seen, "cp2": host(data=data("lab-1"), etcd=works)}
    assert decide(both, wanted())["problems"] == []
    assert "not as it was" in refusal({**seen, "cp2": empty()})


def test_a_restore_is_given_up() -> None:
    """What it made does not count as data that survived, and what survived was saved by the first run."""
    seen = {
        "cp1": host(data=data("lab-1"), plan=a_plan(RESTORING), backups=[rescued(70)]),
        "cp2": host(plan=a_plan(RESTORING)),
        "cp3": empty(),
    }
    decision = decide(seen, wanted(anew=True))
    assert decision["mode"] == "new" and decision["survivors"] == []
    assert decision["plan"]["revision"] == 70 and decision["plan"]["token"] != "lab-1"


def test_a_restore_whose_data_is_in_place_is_finished() -> None:
    """One host knows that etcd may have been started; nothing is replaced any more."""
    works = {"present": True, "sick": [], "urls": [], "revision": BUMP + 80, "error": ""}
    seen = {
        "cp1": host(data=data("lab-1"), plan=a_plan(STARTING), etcd=works),
        "cp2": host(data=data("lab-1"), plan=a_plan(RESTORING), etcd=works),
        "cp3": empty(),
    }
    decision = decide(seen, wanted())
    assert decision["mode"] == "finish" and not decision["replaces"] and not decision["problems"]
    assert decision["plan"]["stage"] == STARTING


def test_an_old_plan_is_never_replayed() -> None:
    """It was left open, the cluster went on, and then a disk was lost: the data of today counts, not the old file."""
    seen = {
        "cp1": host(data=data("lab-1"), plan=a_plan(STARTING)),
        "cp2": host(plan=a_plan(STARTING)),
        "cp3": empty(),
    }
    decision = decide(seen, wanted())
    assert decision["mode"] == "new" and decision["survivors"] == ["cp1"]


def test_a_second_restore_begins_behind_all_that_was_known() -> None:
    """A cluster that was restored once goes back to a backup from before that: nobody may see a revision twice."""
    urls = list(WANTED["urls"].values())
    works = {"present": True, "sick": [], "urls": urls, "revision": BUMP + 20_000, "error": ""}
    seen = {one: host(data=data(), etcd=works) for one in HOSTS}
    plan = decide(seen, wanted(rewind=True, given={**backup(9_000), "host": ""}))["plan"]
    assert plan["known"] == BUMP + 20_000 and plan["revision"] + plan["bump"] == plan["known"] + BUMP
    # What is stopped or cannot be saved, what was saved, and backups that are not taken count as well.
    named = {**backup(9_000), "host": ""}
    folder = {**LOST_TWO, "cp1": host(data=data(revision=BUMP + 5))}
    assert decide(folder, wanted(given=named))["plan"]["known"] == BUMP + 5
    saved = {"cp1": rescued(BUMP + 6)}
    assert decide(LOST_TWO, wanted(given=named, rescued=saved))["plan"]["known"] == BUMP + 6
    newer = {**LOST_TWO, "cp2": host(backups=[backup(BUMP + 7)])}
    assert decide(newer, wanted(given=named))["plan"]["known"] == BUMP + 7
    # Never below, so that a plan is the same whatever a file without its record holds.
    assert decide(LOST_TWO, wanted(given={**backup(70), "host": ""}))["plan"]["bump"] == BUMP


def test_a_backup_of_an_earlier_cluster_of_that_name() -> None:
    """The hosts were reset and the cluster was made anew; their backups stayed, with a higher revision."""
    old = backup(9_000, saved_at="20261031T235959Z")
    seen = {"cp1": host(data=data(), backups=[old]), "cp2": host(), "cp3": empty()}
    decision = decide(seen, wanted(rescued={"cp1": rescued(70)}))
    assert decision["plan"]["revision"] == 70 and decision["newer"] == []
    assert [one["path"] for one in decision["earlier"]] == [old["path"]]
    # Whoever names it means it.
    assert decide(seen, wanted(given={**old, "host": "cp1"}))["plan"]["revision"] == 9_000
    # Where all hosts are new, nobody knows since when the cluster is.
    assert decide({**LOST_ALL, "cp2": empty(backups=[old])}, wanted())["plan"]["revision"] == 9_000


def test_hosts_that_are_left_out_by_a_word_of_the_command_line() -> None:
    seen = {"cp2": LOST_TWO["cp1"]}
    said = refusal(seen, without="cp10, cp3")
    assert "cp1 cannot be reached" in said
    assert decide(seen, wanted(without="cp1, cp3"))["left_out"] == ["cp1", "cp3"]


def test_a_data_folder_with_what_is_not_of_etcd() -> None:
    seen = {**LOST_TWO, "cp2": host(data={**host()["data"], "foreign": ["postgres"]})}
    assert "/var/lib/etcd of cp2 holds postgres" in refusal(seen)


ETCD = ["etcd1", "etcd2", "etcd3"]
EXTERNAL: dict[str, Any] = {
    "hosts": ETCD,
    "api_hosts": ["cp1", "cp2"],
    "names": {one: one for one in [*ETCD, "cp1", "cp2"]},
    "urls": {one: f"https://10.0.0.4{one[-1]}:2380" for one in ETCD},
}


def external(**changes: Any) -> dict[str, Any]:
    """Two of three hosts of etcd have lost their data; the control planes have none of their own."""
    own = {"authorities": {"etcd_ca": "a" * 64, "cluster_ca": ""}, "since": ""}
    seen = {"etcd1": host(data=data(), **own), "etcd2": host(**own), "etcd3": host(**own)}
    return {**seen, "cp1": host(), "cp2": host(), **changes}


def test_an_etcd_of_its_own() -> None:
    saved = {"etcd1": rescued(70)}
    plan = decide(external(), wanted(**EXTERNAL, rescued=saved))["plan"]
    assert list(plan["hosts"]) == ETCD and plan["lost"] == []
    # Hosts of etcd have no keys: a value has to be readable on every control plane.
    rotating = external(cp2=host(keys=["key-1", "key-2"]))
    assert decide(rotating, wanted(**EXTERNAL, rescued=saved))["encryption_keys"] == ["key-2"]
    # A new, empty control plane joins again.
    plan = decide(external(cp2=empty()), wanted(**EXTERNAL, rescued=saved))["plan"]
    assert plan["lost"] == ["cp2"]
    old = external(etcd2=host(backups=[backup(9_000, saved_at="20261031T235959Z")], since=""))
    assert decide(old, wanted(**EXTERNAL, rescued=saved))["plan"]["revision"] == 70


def test_api_servers_that_would_go_on_with_what_they_remember() -> None:
    seen = external()
    del seen["cp2"]
    assert "API server that goes on" in refusal(seen, **EXTERNAL)
    assert decide(seen, wanted(**EXTERNAL, without=["cp2"]))["problems"] == []
    half = external(cp2=host(whole=False, missing=["/etc/kubernetes/pki/sa.key"]))
    assert "cp2 is neither" in refusal(half, **EXTERNAL)
    plan = {**a_plan(RESTORING), "hosts": {"etcd1": "etcd1"}}
    assert "cp2 is neither" in refusal({**half, "etcd1": host(plan=plan)}, **EXTERNAL)
    assert "No control plane has its files" in refusal(external(cp1=empty(), cp2=empty()), **EXTERNAL)
    other = host(authorities={"etcd_ca": "a" * 64, "cluster_ca": "c" * 64})
    assert "not of one cluster" in refusal(external(cp2=other), **EXTERNAL)


def test_all_hosts_of_an_etcd_of_its_own_are_lost() -> None:
    seen = external(**{one: empty() for one in ETCD})
    said = refusal(seen, **EXTERNAL, given={**backup(30), "host": ""})
    assert "etcd_cluster_accept_empty=true" in said and "etcd_restore_rewind=true" in said
