# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit of a member, and when it is restarted. Real restarts are in tests/integration/test_90_external.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _etcd_service as service
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, Member, quorum

COMMAND = [
    "/opt/kubewright/etcd/3.6.16/etcd",
    "--name=etcd1",
    "--data-dir=/var/lib/etcd",
    '--odd=50% of $HOME "quoted" \\ back',
    "--feature-gates=InitialCorruptCheck=true",
]


def test_a_command_line_survives_the_way_through_a_unit() -> None:
    text = service.render(COMMAND)
    assert service.parse(text) == COMMAND
    assert "50%% of $$HOME" in text and "ReadWritePaths=/var/lib/etcd\n" in text
    assert service.version(COMMAND) == "3.6.16" and service.flag(COMMAND, "name") == "etcd1"
    assert service.version(["/usr/bin/etcd"]) == "" and service.version([]) == "" and service.parse("") == []


@pytest.mark.parametrize(
    ("text", "running", "enabled", "actions"),
    [
        ("", (), False, ["write", "enable", "start"]),
        (service.render(COMMAND), tuple(COMMAND), True, []),
        (service.render(COMMAND), (), True, ["start"]),
        # The run before was stopped between the unit and the restart.
        (service.render(COMMAND), (*COMMAND[:-1], "--old"), True, ["restart"]),
        (service.render(COMMAND[:-1]), tuple(COMMAND[:-1]), True, ["write", "restart"]),
    ],
)
def test_what_runs_decides(text: str, running: tuple[str, ...], enabled: bool, actions: list[str]) -> None:
    found = service.Service(text, running, enabled)
    assert service.plan(found, COMMAND).actions == actions


def etcd(*healthy: bool) -> Etcd:
    members = [
        Member(str(n), f"m{n}", [f"https://h{n}:2380"], [], healthy=one) for n, one in enumerate(healthy)
    ]
    return Etcd(members, quorum(members), "0")


@pytest.mark.parametrize(
    ("healthy", "allowed"),
    [
        ((True, True, True), True),
        ((False, True, True), True),
        ((True, False, True), False),
        ((True,), True),
        ((True, True), True),
        ((True, False), False),
    ],
)
def test_a_restart_needs_the_votes_of_the_others(healthy: tuple[bool, ...], allowed: bool) -> None:
    seen = etcd(*healthy)
    if allowed:
        service.may_restart(seen, seen.members[0])
    else:
        with pytest.raises(KubewrightError, match="m0 is not restarted"):
            service.may_restart(seen, seen.members[0])


@pytest.mark.parametrize(
    ("before", "after", "needed"),
    [
        ("3.5.35", "3.6.16", False),
        ("3.6.16", "3.7.3", True),
        ("3.7.0", "3.7.3", False),
        ("3.6.8", "3.6.16", False),
    ],
)
def test_a_log_begins_anew_before_a_version_that_does_not_read_the_old_one(
    before: str, after: str, needed: bool
) -> None:
    assert (
        service.needs_snapshot(*([f"/opt/kubewright/etcd/{one}/etcd"] for one in (before, after))) is needed
    )
    assert service.needs_snapshot([], COMMAND) is False


def test_the_newest_snapshot_is_told_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "member/snap"
    assert service.newest_snapshot(tmp_path) == 0
    folder.mkdir(parents=True)
    for name in (
        "0000000000000003-00000000000000ff.snap",
        "0000000000000002-0000000000000010.snap",
        "db",
        "x.snap",
    ):
        (folder / name).touch()
    assert service.newest_snapshot(tmp_path) == 255
    assert service.with_snapshots(["etcd", "--snapshot-count=5"]) == ["etcd", "--snapshot-count=1"]
