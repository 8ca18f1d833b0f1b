# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import (
    EtcdCtl,
    Member,
    Quorum,
    Status,
    combine,
    parse_alarms,
    parse_health,
    parse_members,
    parse_status,
    quorum,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_etcdctl import (
    FakeEtcdctl,
    fixture,
)

CP1, CP2, CP3 = "8e9e05c52164694d", "ca50e9357181d758", "ff"


def load(name: str) -> Any:
    return json.loads(fixture(name))


MEMBERS = parse_members(load("member_list"))
STATUSES = parse_status(load("endpoint_status"))
HEALTH = parse_health(load("endpoint_health"))


def voter(healthy: bool = True) -> Member:
    return Member("1", "a", [], [], healthy=healthy)


LEARNER = Member("2", "b", [], [], is_learner=True, healthy=True)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([], Quorum(voters=0, needed=1, healthy=0, tolerance=0, present=False)),
        ([voter()], Quorum(voters=1, needed=1, healthy=1, tolerance=0, present=True)),
        ([voter()] * 2, Quorum(voters=2, needed=2, healthy=2, tolerance=0, present=True)),
        ([voter()] * 3, Quorum(voters=3, needed=2, healthy=3, tolerance=1, present=True)),
        ([voter()] * 4, Quorum(voters=4, needed=3, healthy=4, tolerance=1, present=True)),
        ([voter()] * 5, Quorum(voters=5, needed=3, healthy=5, tolerance=2, present=True)),
        (
            [voter()] * 2 + [voter(False)],
            Quorum(voters=3, needed=2, healthy=2, tolerance=0, present=True),
        ),
        (
            [voter()] + [voter(False)] * 2,
            Quorum(voters=3, needed=2, healthy=1, tolerance=0, present=False),
        ),
        ([voter(), LEARNER], Quorum(voters=1, needed=1, healthy=1, tolerance=0, present=True)),
    ],
)
def test_quorum(members: list[Member], expected: Quorum) -> None:
    assert quorum(members) == expected


def test_members() -> None:
    assert [(member.id, member.name) for member in MEMBERS] == [(CP1, "cp1"), (CP2, "cp2"), (CP3, "cp3")]
    assert MEMBERS[0].peer_urls == ["https://10.0.0.11:2380"]
    assert MEMBERS[0].client_urls == ["https://10.0.0.11:2379"]


def test_a_member_that_never_started_has_no_name() -> None:
    assert parse_members(load("member_list_unstarted_learner"))[2] == Member(
        CP3, "", ["https://10.0.0.13:2380"], [], is_learner=True
    )


def test_status() -> None:
    assert STATUSES[1] == Status(
        id=CP2,
        leader=CP2,
        version="3.6.10",
        db_size=20979712,
        db_size_in_use=9654272,
        revision=81234,
        raft_term=4,
        quota=2147483648,
    )


def test_ids_as_protobuf_writes_them() -> None:
    assert parse_alarms({"alarms": [{"memberID": "18446744073709551615", "alarm": "CORRUPT"}]}) == {
        "ffffffffffffffff": ["CORRUPT"]
    }


@pytest.mark.parametrize("nothing", [None, []])
def test_no_answers_at_all(nothing: Any) -> None:
    assert parse_status(nothing) == []
    assert parse_health(nothing) == {}


def test_all_is_well() -> None:
    etcd = combine(MEMBERS, STATUSES, HEALTH, {})
    assert etcd.leader == CP2
    assert [member.is_leader for member in etcd.members] == [False, True, False]
    assert [(member.healthy, member.error) for member in etcd.members] == [(True, None)] * 3
    assert etcd.quorum == Quorum(3, 2, 3, 1, True)
    assert etcd.members[0] == Member(
        CP1,
        "cp1",
        ["https://10.0.0.11:2380"],
        ["https://10.0.0.11:2379"],
        healthy=True,
        version="3.6.10",
        db_size=20979712,
        db_size_in_use=9654272,
        revision=81234,
        raft_term=4,
        quota=2147483648,
    )


def without(statuses: list[Status], member: str) -> list[Status]:
    return [status for status in statuses if status.id != member]


def changed(member: str, **values: Any) -> list[Status]:
    return [replace(status, **values) if status.id == member else status for status in STATUSES]


@pytest.mark.parametrize(
    ("statuses", "health", "alarms", "error"),
    [
        (without(STATUSES, CP3), HEALTH, {}, "its status cannot be read"),
        (changed(CP3, leader=""), HEALTH, {}, "it sees no leader"),
        (changed(CP3, leader=CP1, raft_term=3), HEALTH, {}, f"it sees {CP1} as the leader, others see {CP2}"),
        (STATUSES, HEALTH, {CP3: ["NOSPACE", "CORRUPT"]}, "it has raised the alarm NOSPACE, CORRUPT"),
        (STATUSES, parse_health(load("endpoint_health_one_dead")), {}, "context deadline exceeded"),
    ],
)
def test_one_unhealthy_member(
    statuses: list[Status], health: dict[str, str], alarms: dict[str, list[str]], error: str
) -> None:
    etcd = combine(MEMBERS, statuses, health, alarms)
    assert [member.error for member in etcd.members] == [None, None, error]
    assert [member.healthy for member in etcd.members] == [True, True, False]
    assert etcd.members[2].alarms == alarms.get(CP3, [])
    assert etcd.quorum == Quorum(3, 2, 2, 0, True)


def test_the_newest_term_decides_who_leads() -> None:
    etcd = combine(MEMBERS, changed(CP1, leader=CP1, raft_term=5), HEALTH, {})
    assert etcd.leader == CP1
    assert [member.healthy for member in etcd.members] == [True, False, False]
    assert not etcd.quorum.present


def test_no_leader_at_all() -> None:
    etcd = combine(MEMBERS, [replace(status, leader="") for status in STATUSES], HEALTH, {})
    assert etcd.leader is None
    assert etcd.quorum.healthy == 0


def test_an_unstarted_learner_is_unhealthy_and_has_no_vote() -> None:
    members = parse_members(load("member_list_unstarted_learner"))
    etcd = combine(members, without(STATUSES, CP3), HEALTH, {})
    assert etcd.members[2].error == "it has never started"
    assert etcd.quorum == Quorum(2, 2, 2, 0, True)


def test_a_started_learner_is_healthy_though_it_serves_no_reads() -> None:
    """https://github.com/etcd-io/etcd/issues/18801"""
    members = [*MEMBERS[:2], replace(MEMBERS[2], is_learner=True)]
    health = {**HEALTH, "https://10.0.0.13:2379": "etcdserver: rpc not supported for learner"}
    assert combine(members, STATUSES, health, {}).members[2].healthy


def etcdctl(fake: FakeEtcdctl) -> EtcdCtl:
    return EtcdCtl(Runner(fake), ["https://127.0.0.1:2379", "https://10.0.0.12:2379"], "/ca", "/crt", "/key")


def test_command_lines() -> None:
    fake = FakeEtcdctl()
    etcdctl(fake).observe()
    common = [
        "/usr/local/bin/etcdctl",
        "--endpoints=https://127.0.0.1:2379,https://10.0.0.12:2379",
        "--cacert=/ca",
        "--cert=/crt",
        "--key=/key",
        "--dial-timeout=2s",
        "--command-timeout=5s",
    ]
    assert fake.calls == [
        [*common, "member", "list", "--write-out=json"],
        [*common, "endpoint", "status", "--cluster", "--write-out=json"],
        [
            common[0],
            "--endpoints=https://10.0.0.11:2379,https://10.0.0.12:2379,https://10.0.0.13:2379",
            *common[2:],
            *("endpoint", "health", "--write-out=json"),
        ],
        [*common, "alarm", "list", "--write-out=json"],
    ]


def test_a_longer_call_to_one_endpoint() -> None:
    argv = etcdctl(FakeEtcdctl()).argv("defrag", command_timeout=60, endpoints=["https://10.0.0.13:2379"])
    assert "--endpoints=https://10.0.0.13:2379" in argv
    assert "--command-timeout=60s" in argv


def test_one_dead_member_does_not_hide_the_others() -> None:
    noise = "Failed to get the status of endpoint https://10.0.0.13:2379 (context deadline exceeded)\n"
    fake = FakeEtcdctl(
        endpoint_status=(1, fixture("endpoint_status_one_dead"), noise),
        endpoint_health=(1, fixture("endpoint_health_one_dead"), "Error: unhealthy cluster\n"),
    )
    etcd = etcdctl(fake).observe()
    assert [member.error for member in etcd.members] == [None, None, "its status cannot be read"]
    assert etcd.quorum == Quorum(3, 2, 2, 0, True)


def test_alarms_are_read() -> None:
    etcd = etcdctl(FakeEtcdctl(alarm_list=(0, fixture("alarm_list_nospace"), ""))).observe()
    assert [member.alarms for member in etcd.members] == [[], ["NOSPACE"], []]


def test_no_quorum_is_an_error_that_says_so() -> None:
    fake = FakeEtcdctl(member_list=(1, "", '{"level":"warn"}\nError: context deadline exceeded\n'))
    with pytest.raises(KubewrightError, match="list of etcd members cannot be read") as caught:
        etcdctl(fake).observe()
    # Nothing of the certificate files exists here, which is what the look behind etcdctl's words finds.
    assert "https://127.0.0.1:2379 cannot be reached: [Errno 2]" in str(caught.value)
    assert "without a majority" in str(caught.value)
    assert len(fake.calls) == 1


def test_no_etcdctl_is_an_error_with_its_remedy() -> None:
    fake = FakeEtcdctl(member_list=(127, "", "timeout: failed to run command: No such file or directory"))
    with pytest.raises(KubewrightError, match="Install etcdctl on this host") as caught:
        etcdctl(fake).observe()
    assert "image_files takes it out of the image of etcd, as docs/upgrade.md shows" in str(caught.value)


@pytest.mark.parametrize("printed", ["", "{}{}", "[]", '{"alarms": [{}]}', '{"alarms": [{"memberID": "x"}]}'])
def test_unknown_output_is_an_error(printed: str) -> None:
    with pytest.raises(CommandError, match="alarm list did not return what is expected"):
        etcdctl(FakeEtcdctl(alarm_list=(0, printed, ""))).observe()


def test_a_failed_partial_call_without_json_names_the_cause() -> None:
    fake = FakeEtcdctl(endpoint_status=(1, "", "Error: failed to fetch endpoints\n"))
    with pytest.raises(CommandError, match="failed to fetch endpoints") as caught:
        etcdctl(fake).observe()
    assert caught.value.transient
