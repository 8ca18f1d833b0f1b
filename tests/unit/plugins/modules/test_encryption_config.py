# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""encryption_config as Ansible calls it, on a real file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.modules import encryption_config

FIRST = {"secrets": ["key-1", "identity"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubewright" / "encryption.yaml"


def run(
    capsys: pytest.CaptureFixture[str], path: Path, check: bool = False, **options: Any
) -> dict[str, Any]:
    with (
        patch_module_args({"path": str(path), **options, "_ansible_check_mode": check}),
        pytest.raises(SystemExit),
    ):
        encryption_config.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def secrets(path: Path) -> list[str]:
    """Return the secrets in the file, in their order."""
    document = json.loads(path.read_text())
    providers = [one for entry in document["resources"] for one in entry["providers"]]
    return [key["secret"] for one in providers for key in one.get("secretbox", {}).get("keys", [])]


def test_a_look_makes_nothing(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    seen = run(capsys, path)
    assert not seen["changed"] and not seen["present"] and not path.parent.exists()


def test_the_first_key_is_made_once_and_shown_to_nobody(
    capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    made = run(capsys, path, layout=FIRST, generate="key-1")
    [secret] = secrets(path)
    assert made["changed"] and made["present"] and secret not in json.dumps(made)
    assert made["fingerprints"]["key-1"] in made["diff"]["after"]
    assert made["sha256"].startswith("sha256:")
    again = run(capsys, path, layout=FIRST, generate="key-1")
    assert not again["changed"] and secrets(path) == [secret]


def test_check_mode_says_so_and_makes_nothing(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    checked = run(capsys, path, check=True, layout=FIRST, generate="key-1")
    assert checked["changed"] and checked["layout"] == FIRST and not path.exists()


def test_a_key_is_handed_over_only_on_request(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    run(capsys, path, layout=FIRST, generate="key-1")
    given = run(capsys, path, reveal=True)
    assert given["secrets"] == {"key-1": secrets(path)[0]}
    other = tmp_path / "other" / "encryption.yaml"
    taken = run(capsys, other, layout=given["layout"], keys=given["secrets"])
    assert taken["changed"] and secrets(path)[0] not in json.dumps(taken)
    assert other.read_bytes() == path.read_bytes()


def test_a_rotation_on_one_host(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    run(capsys, path, layout=FIRST, generate="key-1")
    [old] = secrets(path)
    run(capsys, path, layout={"secrets": ["key-1", "key-2", "identity"]}, generate="key-2")
    new = secrets(path)[1]
    assert secrets(path) == [old, new] and old != new
    run(capsys, path, layout={"secrets": ["key-2", "key-1", "identity"]})
    assert secrets(path) == [new, old]
    refused = run(capsys, path, layout={"secrets": ["key-2", "identity"]})
    assert refused["failed"] and "key-1" in refused["msg"] and old not in json.dumps(refused)
    assert secrets(path) == [new, old]
    run(capsys, path, layout={"secrets": ["key-2", "identity"]}, drop=["key-1"])
    assert secrets(path) == [new]


def test_a_file_of_somebody_else_stays(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    path.parent.mkdir()
    path.write_text("kind: EncryptionConfiguration\n")
    refused = run(capsys, path, layout=FIRST, generate="key-1")
    assert refused["failed"] and "not written by this collection" in refused["msg"]
    assert path.read_text() == "kind: EncryptionConfiguration\n"
