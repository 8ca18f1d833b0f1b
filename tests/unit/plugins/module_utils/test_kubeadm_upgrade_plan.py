# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of an upgrade: its order, what is skipped, what is finished, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_upgrade_plan import (
    CONTROL_PLANE,
    Host,
    Plan,
    Rules,
    Target,
    batches,
    plan,
)

CPS, WORKERS = ("cp1", "cp2", "cp3"), ("w1", "w2")
OLD, NEW = "1.36.3", "1.37.1"
TARGET = Target(NEW, {"etcd": "3.7.0-0", "coredns": "v1.14.6", "pause": "3.10.2"})
RULES = Rules(minors=("1.36", "1.37"), etcd_steps={"3.6": "3.6.16-0"}, canary=1, batch="10%")


def node(name: str, version: str = OLD, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "ready": True,
        "reason": None,
        "control_plane": name.startswith("cp"),
        "schedulable": True,
        "cordoned_by_us": False,
        "deleting": False,
        "pressure": [],
        "kubelet_version": version,
        **more,
    }


def pods(name: str, version: str = OLD, etcd: str = "3.6.8-0") -> list[dict[str, Any]]:
    tags = {**dict.fromkeys(CONTROL_PLANE, version), "etcd": etcd}
    return [
        {"node": name, "component": component, "version": tag, "ready": True, "message": None}
        for component, tag in tags.items()
    ]


def member(name: str, version: str = "3.6.8") -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "peer_urls": [f"https://{name}:2380"],
        "is_learner": False,
        "is_leader": name == "cp1",
        "healthy": True,
        "alarms": [],
        "version": version,
        "error": None,
    }


def cluster(control_planes: tuple[str, ...] = CPS, **more: Any) -> dict[str, Any]:
    count = len(control_planes)
    return {
        "answers": True,
        "error": None,
        "version": OLD,
        "kubeadm_version": OLD,
        "topology": "stacked",
        "nodes": [node(name) for name in (*control_planes, *WORKERS)],
        "control_plane": [pod for name in control_planes for pod in pods(name)],
        "etcd": {
            "members": [member(name) for name in control_planes],
            "voters": count,
            "needed": count // 2 + 1,
            "healthy": count,
            "tolerance": count - count // 2 - 1,
            "present": True,
            "leader": "cp1",
            "alarms": [],
            "error": None,
        },
        "addons": [],
        "pending_csrs": [],
        "skew": {"ok": True, "problems": []},
        "upgrade": {"kube_proxy": OLD, "coredns": "1.14.2", "etcd_tag": ""},
        **more,
    }


def facts(name: str, version: str = OLD, **upgrade: Any) -> dict[str, Any]:
    control_plane = name.startswith("cp")
    return {
        "hostname": name,
        "kubeadm": "control_plane" if control_plane else "worker",
        "interrupted": None,
        "evidence": ["/etc/kubernetes/kubelet.conf"],
        "system": {"package_manager": "apt"},
        "services": {"kubelet": {"active": True, "enabled": True}},
        "ntp_synchronized": True,
        "certificates": [],
        "versions": {"kubelet": version, "etcdctl": "3.6.8" if control_plane else None},
        "packages": {
            "installed": {one: {"version": f"{version}-1.1"} for one in ("kubeadm", "kubelet", "kubectl")}
        },
        "upgrade": {
            "manifests": dict.fromkeys(CONTROL_PLANE, version) if control_plane else {},
            "lost": {},
            "etcd_mib": 200,
            "old_log": False,
            "free_mib": {"/etc/kubernetes": 50000, "/var/lib/containerd": 50000},
            **upgrade,
        },
    }


def hosts(*names: str) -> list[Host]:
    return [Host(name, name, name.startswith("cp"), facts(name)) for name in names or (*CPS, *WORKERS)]


def written(*names: str) -> list[Host]:
    """Return all hosts, of which some have their new manifests."""
    new = dict.fromkeys(CONTROL_PLANE, NEW)
    return [
        replace(one, facts=facts(one.name, manifests=new)) if one.name in names else one for one in hosts()
    ]


def done(name: str, found: dict[str, Any]) -> None:
    """Let a control plane have its new static pods."""
    others = [pod for pod in found["control_plane"] if pod["node"] != name]
    found["control_plane"] = [*others, *pods(name, NEW, "3.7.0-0")]


def make(found: dict[str, Any] | None = None, there: list[Host] | None = None, **rules: Any) -> Plan:
    return plan(TARGET, found or cluster(), hosts() if there is None else there, replace(RULES, **rules))


def told(found: Plan) -> str:
    """Return everything that forbids the upgrade."""
    assert found.problems
    return " | ".join(" ".join(map(str, one.values())) for one in found.problems)


def test_a_minor_upgrade_in_its_order() -> None:
    found = make()
    assert not found.problems
    # The leader of etcd is last.
    assert found.etcd_turns == ["cp2", "cp3", "cp1"]
    assert found.control_plane_turns == ["cp2", "cp3", "cp1"] and found.apply == "cp2"
    assert found.kubelet_turns == ["cp2", "cp3", "cp1"] and found.worker_turns == ["w1", "w2"]
    assert found.lines == [
        " 1. all hosts: fetch the packages of 1.37.1, pull the images",
        " 2. a control plane: save and verify a snapshot of etcd",
        " 3. cp2: etcd to 3.6.16-0, the patch that comes before the next minor",
        " 4. cp3: etcd to 3.6.16-0, the patch that comes before the next minor",
        " 5. cp1: etcd to 3.6.16-0, the patch that comes before the next minor",
        " 6. cp2: kubeadm upgrade apply",
        " 7. cp3: kubeadm upgrade node",
        " 8. cp1: kubeadm upgrade node",
        " 9. cp2: drain, kubelet, uncordon",
        "10. cp3: drain, kubelet, uncordon",
        "11. cp1: drain, kubelet, uncordon",
        "12. w1: drain, kubelet, uncordon",
        "13. w2: drain, kubelet, uncordon",
        "14. the cluster is looked at and used as an application would",
    ]


def test_every_component_from_and_to() -> None:
    rows = {(one["component"], one["node"]): (one["from"], one["to"]) for one in make().components}
    assert rows["kube-apiserver", "cp1"] == (OLD, NEW)
    assert rows["etcd", "cp3"] == ("3.6.8-0", "3.7.0-0")
    assert rows["kubelet", "w2"] == (OLD, NEW)
    assert rows["kube-proxy", ""] == (OLD, NEW) and rows["coredns", ""] == ("1.14.2", "1.14.6")


def test_a_cluster_that_is_done_has_nothing_to_do() -> None:
    found = cluster(kubeadm_version=NEW, version=NEW)
    for name in CPS:
        done(name, found)
    found["nodes"] = [node(name, NEW) for name in (*CPS, *WORKERS)]
    found["upgrade"] = {"kube_proxy": NEW, "coredns": "1.14.6", "etcd_tag": ""}
    there = [Host(name, name, name.startswith("cp"), facts(name, NEW)) for name in (*CPS, *WORKERS)]
    result = make(found, there)
    assert result.idle and not result.problems and result.lines == [f"Nothing to do: every host runs {NEW}."]


def test_a_run_that_was_cut_off_goes_on_with_who_is_left() -> None:
    found = cluster(kubeadm_version=NEW)
    done("cp2", found)
    result = make(found, written("cp2"))
    assert result.control_plane_turns == ["cp3", "cp1"] and result.apply == ""
    assert result.lines[4:6] == [" 5. cp3: kubeadm upgrade node", " 6. cp1: kubeadm upgrade node"]


def test_an_apply_that_was_cut_off_is_finished_where_it_was_begun() -> None:
    found = cluster()
    done("cp3", found)
    result = make(found, written("cp3"))
    assert result.apply == "cp3" and result.control_plane_turns == ["cp3", "cp2", "cp1"]
    assert "kubeadm upgrade apply has not come to its end" in " ".join(one["why"] for one in result.notices)


def test_static_pods_of_several_versions_come_first() -> None:
    found = cluster()
    for pod in found["control_plane"]:
        if (pod["node"], pod["component"]) == ("cp3", "kube-apiserver"):
            pod["version"] = NEW
    result = make(found)
    assert result.control_plane_turns[0] == result.apply == "cp3"
    row = next(one for one in result.hosts if one["node"] == "cp3")
    assert "several versions: kube-apiserver 1.37.1" in row["half_done"][0]


def test_a_broken_host_does_not_forbid_its_own_repair_but_another_one_does() -> None:
    found = cluster()
    for pod in found["control_plane"]:
        if (pod["node"], pod["component"]) == ("cp3", "kube-apiserver"):
            pod.update(version=NEW, ready=False, message="CrashLoopBackOff")
    found["addons"] = [
        {
            "kind": "DaemonSet",
            "namespace": "kube-system",
            "name": "kube-proxy",
            "desired": 5,
            "ready": 4,
            "current": True,
        }
    ]
    assert not make(found).problems
    found["nodes"][3]["ready"] = False
    assert "A node is not ready w1" in told(make(found))


def test_a_node_that_we_cordoned_is_given_back_first() -> None:
    found = cluster()
    found["nodes"][4] = node("w2", NEW, schedulable=False, cordoned_by_us=True)
    there = [replace(one, facts=facts(one.name, NEW)) if one.name == "w2" else one for one in hosts()]
    assert make(found, there).worker_turns == ["w2", "w1"]


def test_packages_that_are_behind_a_kubelet_that_is_not() -> None:
    found = cluster()
    found["nodes"][3] = node("w1", NEW)
    assert make(found).worker_turns == ["w1", "w2"]
    there = [replace(one, facts=facts(one.name, NEW)) if one.name == "w1" else one for one in hosts()]
    assert make(found, there).worker_turns == ["w2"]


def test_a_host_that_lost_its_power_while_its_packages_were_unpacked_comes_first() -> None:
    # Its owner cordoned it, so no cordon of ours tells, and neither does its version. Its kubelet may not run.
    found = cluster()
    found["nodes"][4] = node("w2", schedulable=False, ready=False)
    own = facts("w2")
    own["services"]["kubelet"]["active"] = False
    there = [replace(one, facts=own) if one.name == "w2" else one for one in hosts()]
    assert "kubelet does not run w2" in told(make(found, there))
    own["packages"]["unfinished"] = True
    result = make(found, there)
    assert not result.problems and result.worker_turns == ["w2", "w1"]
    assert any("packages are half installed" in str(one["why"]) for one in result.notices)
    # Or it runs the new kubelet since, and only its packages are to be finished.
    found["nodes"][4] = node("w2", NEW, schedulable=False)
    own = facts("w2", NEW)
    there = [replace(one, facts=own) if one.name == "w2" else one for one in hosts()]
    assert make(found, there).worker_turns == ["w1"]
    own["packages"]["unfinished"] = True
    assert make(found, there).worker_turns == ["w2", "w1"]


def test_add_ons_that_the_last_control_plane_was_cut_off_before() -> None:
    found = cluster(kubeadm_version=NEW)
    for name in CPS:
        done(name, found)
    result = make(found, written(*CPS))
    assert result.control_plane_turns == [] and result.addons == "cp2"


def test_a_patch_upgrade_leaves_etcd_alone() -> None:
    result = plan(Target("1.36.9", {"etcd": "3.6.8-0"}), cluster(), hosts(), RULES)
    assert not result.problems and result.etcd_turns == [] and result.etcd.to == "3.6.8-0"
    assert result.control_plane_turns == ["cp2", "cp3", "cp1"]


@pytest.mark.parametrize(
    ("version", "runs", "why", "remedy"),
    [
        ("1.37.1", "1.35.8", "oldest API server runs 1.35.8", "the newest patch of 1.36 first"),
        ("1.36.2", "1.36.3", "A cluster is not downgraded", "Raise kube_cluster_version"),
        ("1.36.3", "1.37.1", "A cluster is not downgraded", "Raise kube_cluster_version"),
        ("1.38.0", "1.37.1", "Kubernetes 1.38 is not supported", "Choose a supported version"),
        ("1.37", "1.36.3", "The wanted version is none", "X.Y.Z"),
        ("1.37.0-rc.1", "1.36.3", "The wanted version is none", "X.Y.Z"),
        ("newest", "1.36.3", "The wanted version is none", "X.Y.Z"),
    ],
)
def test_versions_that_no_upgrade_leads_to(version: str, runs: str, why: str, remedy: str) -> None:
    found = cluster(version=runs, kubeadm_version=runs)
    found["nodes"] = [node(name, runs) for name in (*CPS, *WORKERS)]
    found["control_plane"] = [pod for name in CPS for pod in pods(name, runs)]
    found["upgrade"]["kube_proxy"] = runs
    result = plan(replace(TARGET, version=version), found, hosts(), RULES)
    assert why in told(result) and remedy in told(result)


def test_what_the_cluster_was_told_counts_as_its_version() -> None:
    assert "not downgraded" in told(
        plan(replace(TARGET, version="1.36.9"), cluster(kubeadm_version=NEW), hosts(), RULES)
    )


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("1.33.9", "more than three minor versions behind"),
        ("1.38.0", "A kubelet is newer than the wanted version"),
    ],
)
def test_a_kubelet_that_would_not_fit(version: str, why: str) -> None:
    found = cluster()
    found["nodes"][4]["kubelet_version"] = version
    assert f"{why} w2" in told(make(found))


def test_a_kube_proxy_that_would_not_fit() -> None:
    found = cluster()
    found["upgrade"]["kube_proxy"] = "1.33.1"
    assert "A kube-proxy would be more than three minor versions behind" in told(make(found))


def test_an_unhealthy_cluster_is_refused() -> None:
    found = cluster()
    found["etcd"]["members"][2].update(healthy=False, error="its status cannot be read")
    assert "An etcd member is not healthy cp3" in told(make(found))
    found = cluster()
    found["etcd"]["members"][2].update(alarms=["NOSPACE"], healthy=False)
    assert "alarm NOSPACE" in told(make(found))
    found = cluster()
    found["nodes"][1]["ready"] = False
    assert "A node is not ready cp2" in told(make(found))
    found = cluster()
    found["control_plane"][0].update(ready=False)
    assert "kube-apiserver is not ready cp1" in told(make(found))


def test_a_host_that_a_run_was_cut_off_on_excuses_no_alarm() -> None:
    found = cluster()
    found["nodes"][2]["cordoned_by_us"] = True
    found["etcd"]["members"][2].update(alarms=["CORRUPT"], healthy=False)
    assert "alarm CORRUPT cp3" in told(make(found))


def test_nobody_begins_before_who_tells_the_cluster() -> None:
    found = cluster()
    done("cp3", found)
    # Its etcd is held back by somebody, and another host was cut off on too.
    found["control_plane"][-1]["version"] = "3.6.16-0"
    found["nodes"][1]["cordoned_by_us"] = True
    result = make(found, written("cp3"))
    assert result.apply == "cp3" and result.control_plane_turns == ["cp3", "cp2", "cp1"]


def test_an_etcd_without_its_manifest_hides_no_rule_for_the_others() -> None:
    found = cluster()
    found["control_plane"] = [
        pod for pod in found["control_plane"] if (pod["node"], pod["component"]) != ("cp3", "etcd")
    ]
    there = hosts()
    backup = "/etc/kubernetes/tmp/kubeadm-backup-manifests-1/etcd.yaml"
    there[2] = replace(there[2], facts=facts("cp3", lost={"etcd": backup}))
    result = make(found, there)
    assert result.etcd.to == "3.7.0-0" and result.etcd_turns == ["cp2", "cp1"]
    assert result.control_plane_turns[0] == "cp3"


def test_a_silent_cluster_is_refused() -> None:
    assert "no answer" in told(make(cluster(answers=False, error="no answer")))


def test_a_worker_that_is_not_ready_stays_behind_only_when_that_is_accepted() -> None:
    found = cluster()
    found["nodes"][4]["ready"] = False
    found["addons"] = [
        {"kind": "DaemonSet", "namespace": "x", "name": "x", "desired": 5, "ready": 4, "current": True}
    ]
    assert "A node is not ready w2" in told(make(found))
    accepted = make(found, accept_not_ready_workers=True)
    assert not accepted.problems and accepted.worker_turns == ["w1"] and accepted.left_out == ["w2"]
    # Most often because its kubelet does not run, or its host is gone: that is no more than the same said again.
    stopped = facts("w2")
    stopped["services"]["kubelet"]["active"] = False
    for host in (
        Host("w2", "w2", False, stopped),
        Host("w2", "w2", False, problems=["It is not reached"]),
    ):
        result = make(found, [*hosts()[:4], host], accept_not_ready_workers=True)
        assert not result.problems and result.worker_turns == ["w1"]
    found["nodes"][2]["ready"] = False
    assert "A node is not ready cp3" in told(make(found, accept_not_ready_workers=True))


def test_a_control_plane_that_nobody_describes_is_refused_and_a_worker_told_of() -> None:
    without = [one for one in hosts() if one.name not in ("cp3", "w2")]
    result = make(there=without)
    assert "A control plane is not in the inventory cp3" in told(result)
    assert any(one["where"] == "w2" and "not in the inventory" in one["what"] for one in result.notices)


def test_a_host_that_is_no_node_is_left_out() -> None:
    result = make(there=[*hosts(), Host("w9", "w9", False, facts("w9"))])
    assert not result.problems and "w9" not in result.worker_turns
    assert any(one["where"] == "w9" for one in result.notices)


def test_a_control_plane_that_is_no_node_is_refused() -> None:
    """No gate on the way would let anybody begin."""
    made = make(there=[*hosts(*CPS, *WORKERS), Host("cp4", "cp4", control_plane=True)])
    assert [one["where"] for one in made.problems] == ["cp4"]


def test_a_limit_to_workers_needs_control_planes_that_are_done() -> None:
    limited = [one if one.name == "w1" else replace(one, facts=None) for one in hosts()]
    assert "Run without --limit first" in told(make(there=limited))
    found = cluster(kubeadm_version=NEW, version=NEW)
    for name in CPS:
        done(name, found)
    found["upgrade"].update(kube_proxy=NEW, coredns="1.14.6")
    result = make(found, limited)
    assert not result.problems
    assert (result.control_plane_turns, result.kubelet_turns, result.worker_turns) == ([], [], ["w1"])


def test_no_room_for_the_copy_of_etcd_or_the_images() -> None:
    there = hosts()
    there[1] = replace(
        there[1], facts=facts("cp2", free_mib={"/etc/kubernetes": 1200, "/var/lib/containerd": 100})
    )
    said = told(make(there=there))
    assert "cp2: /etc/kubernetes 1200 MiB are free, 1224 MiB are needed" in said
    assert "cp2: /var/lib/containerd 100 MiB are free" in said


def certificate(path: str, days: float) -> dict[str, Any]:
    return {
        "path": path,
        "subject": "x",
        "error": None,
        "not_after": "2026-12-01T00:00:00Z",
        "days_left": days,
        "lifetime_days": 365.0,
    }


@pytest.mark.parametrize(
    ("path", "days", "renews", "refused"),
    [
        ("/etc/kubernetes/pki/apiserver.crt", 3, True, False),
        ("/etc/kubernetes/pki/apiserver.crt", 3, False, True),
        ("/etc/kubernetes/pki/apiserver.crt", -1, True, True),
        ("/etc/kubernetes/pki/ca.crt", 3, True, True),
        ("/var/lib/kubelet/pki/kubelet-client-current.pem", 3, True, True),
        ("/etc/kubernetes/pki/apiserver.crt", 100, False, False),
    ],
)
def test_a_certificate_that_ends(path: str, days: float, renews: bool, refused: bool) -> None:
    there = hosts()
    own = facts("cp2")
    own["certificates"] = [certificate(path, days)]
    there[1] = replace(there[1], facts=own)
    result = make(there=there, renew_certificates=renews)
    assert bool(result.problems) == refused
    assert not refused or path in told(result)


def test_a_host_whose_kubelet_does_not_run_or_that_is_half_joined() -> None:
    there = hosts()
    own = facts("w1")
    own["services"]["kubelet"]["active"] = False
    there[3] = replace(there[3], facts=own)
    assert "kubelet does not run w1" in told(make(there=there))
    own = facts("w1")
    own["kubeadm"] = "incomplete"
    there[3] = replace(there[3], facts=own)
    assert "Run the playbook site.yml first" in told(make(there=there))


def test_another_package_manager_is_refused() -> None:
    there = hosts()
    own = facts("w1")
    own["system"] = {"package_manager": "dnf"}
    there[3] = replace(there[3], facts=own)
    assert "The packages of this host cannot be upgraded w1" in told(make(there=there))
    own = facts("w1")
    del own["packages"]["installed"]["kubelet"]
    there[3] = replace(there[3], facts=own)
    assert "kubelet is no package of this host w1" in told(make(there=there))


def test_a_manifest_that_kubeadm_was_killed_over_is_a_host_that_is_finished() -> None:
    there = hosts()
    own = facts(
        "cp3", lost={"kube-scheduler": "/etc/kubernetes/tmp/kubeadm-backup-manifests-1/kube-scheduler.yaml"}
    )
    own["kubeadm"] = "incomplete"
    there[2] = replace(there[2], facts=own)
    result = make(there=there)
    assert not result.problems and result.control_plane_turns[0] == "cp3"


def test_what_the_hosts_and_the_targets_kubeadm_object_to() -> None:
    there = hosts()
    there[3] = replace(there[3], problems=["the repository has no 1.37.1"])
    assert "the repository has no 1.37.1 w1" in told(make(there=there))
    refused = plan(replace(TARGET, refusal="CoreDNS cannot migrate"), cluster(), hosts(), RULES)
    assert f"kubeadm {NEW} refuses the upgrade" in told(refused) and "CoreDNS cannot migrate" in told(refused)
    silent = plan(replace(TARGET, silence="The repository has none."), cluster(), hosts(), RULES)
    assert f"kubeadm {NEW} cannot be asked" in told(silent) and "refuses" not in told(silent)


def test_a_control_plane_without_the_tools_of_etcd_is_refused_before_its_turn() -> None:
    """kubeadm leaves them in the image, so that a cluster made by hand may have none. Workers need none."""
    there = hosts()
    lacking = {**facts("cp2"), "versions": {"kubelet": OLD, "etcdctl": None}}
    there[1] = replace(there[1], facts=lacking)
    said = told(make(there=there))
    assert "etcdctl is not there, or does not run cp2" in said and "docs/upgrade.md" in said


def test_etcd_refusals_reach_the_plan() -> None:
    assert "etcd is too old for its step to 3.7" in told(make(etcd_steps={}))


def test_an_external_etcd_is_looked_at_and_left_alone() -> None:
    found = cluster(topology="external")
    found["control_plane"] = [pod for pod in found["control_plane"] if pod["component"] != "etcd"]
    result = make(found)
    assert not result.problems and result.etcd_turns == [] and result.etcd.to == ""
    found["etcd"]["members"][0]["version"] = "3.5.1"
    assert "upgrade_etcd.yml" in told(make(found))


def test_one_control_plane_is_told_that_the_api_goes_away() -> None:
    result = make(cluster(("cp1",)), hosts("cp1", *WORKERS))
    assert not result.problems and result.apply == "cp1"
    assert any(one["what"] == "The API is away for a while" for one in result.notices)


@pytest.mark.parametrize(
    ("count", "canary", "batch", "expected"),
    [
        (5, 1, "2", [1, 2, 2]),
        (5, 0, "2", [2, 2, 1]),
        (20, 1, "10%", [1, *[2] * 9, 1]),
        (3, 1, "10%", [1, 1, 1]),
        (2, 5, "50%", [1, 1]),
        (0, 1, "10%", []),
    ],
)
def test_the_batches_are_those_of_ansibles_serial(
    count: int, canary: int, batch: str, expected: list[int]
) -> None:
    names = [f"w{number}" for number in range(count)]
    found = batches(names, Rules(canary=canary, batch=batch))
    assert [len(one) for one in found] == expected
    assert [name for one in found for name in one] == names


def test_nothing_that_goes_in_is_changed() -> None:
    found, there = cluster(), hosts()
    before = copy.deepcopy((found, there))
    make(found, there)
    assert (found, there) == before
