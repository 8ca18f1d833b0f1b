# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""host_files as Ansible calls it: check mode, diff, results and failures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.modules import host_files

OWN = {"owner": str(os.getuid()), "group": str(os.getgid())}


def run(capsys: pytest.CaptureFixture[str], options: dict[str, Any], check: bool = False) -> dict[str, Any]:
    arguments = {**OWN, **options, "_ansible_check_mode": check, "_ansible_inject_invocation": True}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        host_files.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_check_run_check_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "conf.d" / "a"
    options = {"files": [{"path": str(path), "content": "one\n"}]}

    foretold = run(capsys, options, check=True)
    assert foretold["changed"]
    assert os.listdir(tmp_path) == []

    done = run(capsys, options)
    assert path.read_text() == "one\n"
    assert {**done, "invocation": None} == {**foretold, "invocation": None}
    assert done["changed_paths"] == [str(path)]
    assert done["created_folders"] == [str(path.parent)]
    assert done["diff"][0]["after"] == "one\n"

    for check in (True, False):
        again = run(capsys, options, check=check)
        assert (again["changed"], again["changed_paths"], again["diff"]) == (False, [], [])


@pytest.mark.parametrize("faulty", [False, True])
def test_a_secret_does_not_come_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, faulty: bool
) -> None:
    secret = {"path": str(tmp_path / "key"), "content": "s3cr3t", "mode": "600" if faulty else "0600"}
    result = run(capsys, {"files": [secret]})
    assert bool(result.get("failed")) is faulty
    assert "s3cr3t" not in json.dumps(result)
    assert result["invocation"]["module_args"]["files"] == [str(tmp_path / "key")]


def test_no_content_reaches_the_system_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the task says of no_log: a file with the password of a mirror was in the journals of all hosts."""
    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _module, text, **_more: logged.append(str(text)))
    path = str(tmp_path / "a")
    run(capsys, {"files": [{"path": path, "content": "password hunter2\n"}], "_ansible_no_log": False})
    assert "hunter2" not in "".join(logged)
    # The switch in use is one that ansible-core knows.
    assert "_log_invocation" in vars(AnsibleModule)


def test_a_refusal_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    result = run(capsys, {"files": [{"path": str(tmp_path / "a"), "content": ""}]}, check=True)
    assert result["failed"]
    assert "A symbolic link is where a file must go" in result["msg"]


def test_an_account_that_an_earlier_task_creates(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = {"files": [{"path": str(tmp_path / "a"), "content": ""}], "owner": "kubewright-nobody"}
    assert run(capsys, options, check=True)["changed"]
    result = run(capsys, options)
    assert result["failed"]
    assert "There is no user kubewright-nobody" in result["msg"]


def test_files_of_a_former_list_are_removed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def write(name: str, content: str) -> Path:
        path = tmp_path / name / "hosts.toml"
        path.parent.mkdir()
        path.write_text(content)
        path.chmod(0o600)
        return path

    kept, gone, own = write("kept", "# ours\n"), write("gone", "# ours\nsecret\n"), write("own", "other\n")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/hosts.toml").symlink_to(gone)
    options = {
        "files": [{"path": str(kept), "content": "# ours\n", "mode": "0600"}],
        "obsolete": [{"pattern": f"{tmp_path}/*/hosts.toml", "mark": "# ours"}],
    }
    foretold = run(capsys, options, check=True)
    assert foretold["changed_paths"] == [str(gone)] and gone.exists()
    assert run(capsys, options)["changed_paths"] == [str(gone)]
    assert "secret" not in json.dumps(foretold)
    assert [path.exists() for path in (kept, gone, own)] == [True, False, True]
    assert (tmp_path / "linked/hosts.toml").is_symlink()
    assert not run(capsys, options)["changed"]
    assert run(capsys, {**options, "obsolete": [{"pattern": "*.toml"}]})["failed"]
