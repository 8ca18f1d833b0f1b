# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which mounted files count, and when a pod has not read them."""

from __future__ import annotations

import copy
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _mounted_files
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._mounted_files import (
    changed_since,
    digest,
    missing_paths,
    read_once,
)

POD = json.loads((Path(__file__).parents[2] / "fixtures" / "settings" / "kube-apiserver.json").read_text())


def mounting(
    folder: Path, *arguments: str, kind: str = "DirectoryOrCreate", read_only: bool = True
) -> dict[str, Any]:
    """A real API server's pod that mounts one more folder, under another path."""
    pod: dict[str, Any] = copy.deepcopy(POD)
    container = pod["spec"]["containers"][0]
    container["command"] += list(arguments)
    container["volumeMounts"].append({"name": "own", "mountPath": "/own", "readOnly": read_only})
    pod["spec"]["volumes"].append({"name": "own", "hostPath": {"path": str(folder), "type": kind}})
    return pod


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name in ("policy.yaml", "deep/admission.yaml", "encryption.yaml", "authentication.yaml"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_kubeadms_own_mounts_do_not_count() -> None:
    assert read_once(POD) == []
    assert digest([]) is None


def test_every_file_of_a_read_only_mount_counts(folder: Path) -> None:
    assert [os.path.relpath(path, folder) for path in read_once(mounting(folder))] == [
        "authentication.yaml",
        "deep/admission.yaml",
        "encryption.yaml",
        "policy.yaml",
    ]
    assert read_once(mounting(folder, read_only=False)) == []


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        (["--authentication-config=/own/authentication.yaml"], {"authentication.yaml"}),
        (["--encryption-provider-config=/own/encryption.yaml"], set()),
        (
            [
                "--encryption-provider-config=/own/encryption.yaml",
                "--encryption-provider-config-automatic-reload=true",
            ],
            {"encryption.yaml"},
        ),
    ],
)
def test_what_the_api_server_reads_again_does_not_count(
    folder: Path, arguments: list[str], left_out: set[str]
) -> None:
    found = {os.path.relpath(path, folder) for path in read_once(mounting(folder, *arguments))}
    assert {
        "authentication.yaml",
        "encryption.yaml",
        "policy.yaml",
        "deep/admission.yaml",
    } - found == left_out


def test_digest_follows_content_and_name(folder: Path) -> None:
    files = read_once(mounting(folder))
    first = digest(files)
    os.utime(folder / "policy.yaml", (1, 1))
    assert digest(files) == first
    (folder / "policy.yaml").write_text("other")
    second = digest(files)
    (folder / "policy.yaml").rename(folder / "renamed.yaml")
    assert len({first, second, digest(read_once(mounting(folder)))}) == 3


def test_a_change_after_the_moment_is_seen(folder: Path) -> None:
    files = read_once(mounting(folder))
    later = time.time() + 5
    assert changed_since(files, later - 60) and not changed_since(files, later)
    # A file that was moved here keeps its old mtime; its ctime tells.
    os.utime(folder / "policy.yaml", (1, 1))
    assert changed_since([str(folder / "policy.yaml")], later - 60)


def test_paths_that_must_be_there_before(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    assert missing_paths(mounting(tmp_path / "none", kind="File")) == [missing]
    assert missing_paths(mounting(tmp_path / "none")) == []
    assert missing_paths(mounting(tmp_path, kind="Directory")) == []


def test_a_folder_with_too_many_files_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mounted_files, "_MOST_FILES", 3)
    with pytest.raises(KubewrightError, match="more than 3"):
        read_once(mounting(folder))
