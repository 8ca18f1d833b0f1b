# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host of an etcd of its own tells, beside what only a real etcd can."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_host import restoring
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


@pytest.mark.parametrize(
    ("plan", "stage"),
    [
        ("", ""),
        (json.dumps({"stage": "restoring", "token": "lab-1"}), "restoring"),
        (json.dumps({"stage": "starting"}), "starting"),
        # Torn, or somebody else's: there was one.
        ("{", "unknown"),
        ("[]", "unknown"),
        ("{}", "unknown"),
    ],
)
def test_a_restore_that_did_not_end_is_told(plan: str, stage: str) -> None:
    assert restoring(plan) == stage


@pytest.mark.parametrize(("said", "count"), [({}, 0), ({"count": 7}, 7), ({"count": "7"}, 7)])
def test_all_keys_are_counted_and_none_is_read(said: dict[str, Any], count: int) -> None:
    calls: list[list[str]] = []

    def run_command(argv: list[str], **_options: Any) -> tuple[int, str, str]:
        calls.append(argv)
        return 0, json.dumps({"header": {}, **said}), ""

    client = EtcdCtl(Runner(run_command), ["https://192.0.2.31:2379"], "ca", "cert", "key")
    assert client.count() == count
    assert calls[0][calls[0].index("get") :][:5] == ["get", "", "--prefix", "--keys-only", "--limit=1"]
