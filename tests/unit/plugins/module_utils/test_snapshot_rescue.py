# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _snapshot_rescue as rescuing
from ansible_collections.kubewright.cluster.plugins.module_utils._data_folder import DataFolder
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import (
    RECORD,
    Snapshot,
    write_record,
)

DATA = DataFolder(True, False, 3 << 20, 7, "3.6.0", {}, None, [], [])
FOUND = rescuing.Found(data=DATA, has_log=True, print="abc", database_size=1 << 20)


@pytest.fixture
def wanted(tmp_path: Path) -> rescuing.Wanted:
    return rescuing.Wanted(str(tmp_path / "rescued"), "etcd", str(tmp_path / "data"))


@pytest.mark.parametrize("version", ["3.6.16", "3.7.3", ""])
def test_data_that_can_be_read(wanted: rescuing.Wanted, version: str) -> None:
    assert rescuing.plan(wanted, FOUND, version).changed


@pytest.mark.parametrize(
    ("found", "version", "why"),
    [
        (replace(FOUND, database_size=0), "3.6.16", "There is no data of an etcd member"),
        (replace(FOUND, data=replace(DATA, in_use=True)), "3.6.16", "An etcd process uses the data folder"),
        (replace(FOUND, has_log=False), "3.6.16", "log of raft is missing"),
        (FOUND, "3.5.35", "The data is of etcd 3.6, and the etcd here is 3.5.35"),
        (FOUND, "3.8.0", "The data is of etcd 3.6"),
        (FOUND, "4.6.0", "The data is of etcd 3.6"),
    ],
)
def test_refusals(wanted: rescuing.Wanted, found: rescuing.Found, version: str, why: str) -> None:
    with pytest.raises(KubewrightError, match=why):
        rescuing.plan(wanted, found, version)


def test_data_that_was_rescued_already(wanted: rescuing.Wanted) -> None:
    folder = Path(wanted.folder)
    folder.mkdir()
    path = folder / "etcd-20261121T114500Z.db"
    path.write_bytes(b"12")
    record = Snapshot(str(path), 2, "sum", saved_at="20261121T114500Z", rescued_from="abc")
    write_record(record, f"{path}{RECORD}")
    assert rescuing.plan(wanted, FOUND, "3.6.16").there == record
    # Also where the log was lost since: what is there is whole.
    assert rescuing.plan(wanted, replace(FOUND, has_log=False), "3.6.16").there == record
    assert rescuing.plan(wanted, replace(FOUND, print="other"), "3.6.16").changed


def test_the_state_of_the_data(wanted: rescuing.Wanted) -> None:
    """The same print as long as nobody writes, another one when somebody did."""
    member = Path(wanted.member)
    (member / "snap").mkdir(parents=True)
    (member / "wal").mkdir()
    (member / "snap" / "db").write_bytes(b"12345")
    assert not rescuing.observe(wanted).has_log
    (member / "wal" / "0-0.wal").write_bytes(b"1")
    (member / "wal" / "1.tmp").write_bytes(b"1")
    first = rescuing.observe(wanted)
    assert first.has_log and first.database_size == 5 and first == rescuing.observe(wanted)
    assert rescuing.needed_room(first) > 2 * 64 * 2**20
    (member / "wal" / "0-0.wal").write_bytes(b"12")
    assert rescuing.observe(wanted).print != first.print


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", ""),
        ("plain words\n\n", "plain words"),
        (
            "\n".join(
                json.dumps(line)
                for line in (
                    {"level": "fatal", "msg": "failed", "error": "no log"},
                    {"level": "warn", "msg": "later"},
                )
            ),
            "failed no log",
        ),
    ],
)
def test_why_etcd_ended(log: str, said: str) -> None:
    assert rescuing.last_words(log) == said


@pytest.mark.parametrize(
    ("said", "ready"),
    [
        ("", False),
        ("Error: context deadline exceeded", False),
        ("[]", False),
        ('[{"endpoint":"unix:///x","health":true,"took":"1ms"}]', True),
        ('[{"endpoint":"unix:///x","health":false,"error":"Active Alarm(s): NOSPACE"}]', True),
        ('[{"endpoint":"unix:///x","health":false,"error":"context deadline exceeded"}]', False),
    ],
)
def test_an_alarm_in_the_data_does_not_keep_it_from_being_read(said: str, ready: bool) -> None:
    """etcdctl calls an endpoint with an alarm unhealthy and ends with 1; its data is as good as any."""
    assert rescuing.healthy(said) is ready
