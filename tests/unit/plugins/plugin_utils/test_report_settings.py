# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_settings import (
    Settings,
    read,
    roles,
    secrets,
)

DEFAULTS = Path(__file__).parents[4] / "roles/kube_report/defaults/main.yml"


def test_the_callback_has_the_defaults_of_the_role() -> None:
    role = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    assert {f"kube_report_{name}": value for name, value in asdict(Settings()).items()} == role


def test_what_cannot_be_read_has_its_default() -> None:
    variables = {
        "kube_report_dest": "/srv",
        "kube_report_host": None,
        "kube_report_keep": "-3",
        "kube_report_progress_seconds": "soon",
        "kube_report_probe_seconds": "0.5",
    }
    assert read(variables) == Settings(dest="/srv", keep=0, probe_seconds=0.5)


def test_groups_tell_what_hosts_are() -> None:
    variables = {
        "kube_cluster_worker_group": "blue",
        "groups": {
            "control_plane": ["cp1"],
            "workers": ["other"],
            "blue": ["w1"],
            "all": ["cp1", "w1", "other"],
        },
    }
    assert roles(variables) == {"cp1": "control plane", "w1": "worker"}


class EncryptedString:
    """Stands for a string of ansible-vault."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    def __str__(self) -> str:
        if not self.text:
            raise AnsibleError("no vault password")
        return self.text


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"ansible_become_password": "longenough"}, {"longenough"}),
        (
            {"my_token": "longenough", "token_file": "/a/path", "ansible_user": "administrator"},
            {"longenough"},
        ),
        ({"my_token": "{{ vaulted_token }}", "pin_password": "1234"}, set()),
        ({"anything": EncryptedString("longenough"), "locked": EncryptedString()}, {"longenough"}),
        (
            {"kube_cluster_mirror_access": {"mirror": {"user": "somebody", "password": "longenough"}}},
            {"longenough"},
        ),
        ({"etcd_backup_copies": [{"secret": "longenough"}, "plain"]}, {"longenough"}),
        ({"kube_monitoring_receivers": [{"pagerduty": {"routing_key": "longenough"}}]}, {"longenough"}),
        ({"groups": {"password": ["longenough"]}, "hostvars": {"a": {"password": "longenough"}}}, set()),
    ],
)
def test_secrets_are_known_by_their_names_and_by_their_vault(
    variables: dict[str, Any], found: set[str]
) -> None:
    assert secrets(variables) == found
