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
    def asked(_module: AnsibleModule, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        said = {
            "dpkg-query": "installed hold kubelet 1.36.3-1.1\nnot-installed unknown kubeadm \n",
            "dpkg-statoverride": "root root 600 /usr/lib/systemd/system/kubelet.service\n",
        }
        return 1, said[argv[0]], "dpkg-query: no packages found matching kubectl"

    monkeypatch.setattr(AnsibleModule, "run_command", asked)
    status(folder, "hold ok installed")
    result = run(capsys, check)
    assert result["changed"] is False
    assert result["installed"] == {"kubelet": {"version": "1.36.3-1.1", "held": True}}
    assert result["mode_overrides"] == ["/usr/lib/systemd/system/kubelet.service"]


@pytest.mark.parametrize("check", [True, False])
def test_a_half_installed_package_is_mended(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    def dpkg(_module: AnsibleModule, argv: list[str], **options: Any) -> tuple[int, str, str]:
        assert options["environ_update"]["DEBIAN_FRONTEND"] == "noninteractive"
        if argv[0] in ("dpkg-query", "dpkg-statoverride"):
            return 0, "", ""
        assert not check
        status(folder, "install ok installed")
        return 0, "", ""

    monkeypatch.setattr(AnsibleModule, "run_command", dpkg)
    status(folder, "install ok half-configured")
    result = run(capsys, check)
    assert (result["changed"], result["packages"]) == (True, ["kubelet"])
    if not check:
        assert run(capsys)["changed"] is False
