# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever made a cluster by hand may have etcd's tools as files: no role stops at them half way."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
MODULE = "kubewright.cluster.image_files"
FILES = (
    "kube_control_plane/tasks/prepare.yml",
    "kube_upgrade/tasks/etcd_tools.yml",
    "etcd_restore/tasks/freeze.yml",
)


@pytest.mark.parametrize("file", FILES)
def test_the_tools_of_etcd_take_the_place_of_files(file: str) -> None:
    tasks = yaml.safe_load((ROLES / file).read_text())
    [options] = [task[MODULE] for task in tasks if MODULE in task]
    assert options["replace"] is True and options["name"] == "etcd"


def test_nobody_else_installs_them() -> None:
    found = [path for path in ROLES.glob("*/tasks/*.yml") if MODULE in path.read_text()]
    assert sorted(str(path.relative_to(ROLES)) for path in found) == sorted(FILES)
