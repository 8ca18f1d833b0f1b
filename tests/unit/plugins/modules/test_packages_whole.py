# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""packages_whole as Ansible calls it; dpkg and apt are faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.modules import packages_whole


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packages_whole, "FOLDER", tmp_path)
    return tmp_path


def status(folder: Path, state: str) -> None:
    (folder / "status").write_text(f"Package: kubelet\nStatus: {state}\n")


def run(capsys: pytest.CaptureFixture[str], check: bool = False) -> dict[str, Any]:
    with (
        patch_module_args({"packages": ["kubelet"], "_ansible_check_mode": check}),
        pytest.raises(SystemExit),
    ):
        packages_whole.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize("check", [True, False])
def test_whole_packages_are_left_alone(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    monkeypatch.delattr(AnsibleModule, "run_command")
    status(folder, "hold ok installed")
    assert run(capsys, check)["changed"] is False


@pytest.mark.parametrize("check", [True, False])
def test_a_half_installed_package_is_mended(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    def dpkg(_module: AnsibleModule, argv: list[str], **options: Any) -> tuple[int, str, str]:
        assert options["environ_update"]["DEBIAN_FRONTEND"] == "noninteractive"
        assert not check
        status(folder, "install ok installed")
        return 0, "", ""

    monkeypatch.setattr(AnsibleModule, "run_command", dpkg)
    status(folder, "install ok half-configured")
    result = run(capsys, check)
    assert (result["changed"], result["packages"]) == (True, ["kubelet"])
    if not check:
        assert run(capsys)["changed"] is False
