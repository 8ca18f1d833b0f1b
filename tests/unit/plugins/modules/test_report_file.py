# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""report_file as Ansible calls it."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils._report_files import DATA_BEGINS, DATA_ENDS
from ansible_collections.kubewright.cluster.plugins.modules import report_file

NAME = "example-upgrade-20261123T021405Z.html"
PAGE = "<html>{{ not_a_template }}</html>"


def pack(page: str) -> str:
    return base64.b64encode(gzip.compress(page.encode())).decode()


def call(capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        report_file.main()
    return json.loads(capsys.readouterr().out)


def test_a_report_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = call(capsys, folder=str(tmp_path), name=NAME, content=pack(PAGE))
    assert result["changed"] and result["path"] == str(tmp_path / NAME)
    assert (tmp_path / NAME).read_text() == PAGE and "untold" not in result


def test_check_mode_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = call(capsys, folder=str(tmp_path), name=NAME, content=pack(PAGE), _ansible_check_mode=True)
    assert result["changed"] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["no base64!", base64.b64encode(b"no gzip").decode(), pack(PAGE)[:40]])
def test_what_did_not_arrive_whole_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    result = call(capsys, folder=str(tmp_path), name=NAME, content=content)
    assert result["failed"] and result["msg"].startswith("The report did not arrive whole")
    assert list(tmp_path.iterdir()) == []


def test_earlier_ones_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"about": {"cluster": "example", "operation": "upgrade"}, "state": "running"}
    (tmp_path / NAME).write_text(f"{DATA_BEGINS}{json.dumps(data)}{DATA_ENDS}")
    result = call(
        capsys,
        folder=str(tmp_path),
        name=NAME.replace("0214", "0314"),
        cluster="example",
        operation="upgrade",
    )
    assert not result["changed"] and result["untold"] == {NAME: data} and result["usual"] == {}
