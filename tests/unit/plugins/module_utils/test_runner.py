# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner, search_path


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A runner with the real run_command of ansible-core."""
    with patch_module_args():
        yield Runner(AnsibleModule(argument_spec={}).run_command, env={"COLOUR": "none"})


def test_output_and_exit_code(runner: Runner) -> None:
    done = runner.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.rc, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_environment(runner: Runner) -> None:
    assert runner.run(["sh", "-c", "echo $LC_ALL $COLOUR"]).stdout == "C none\n"


def test_proxies_of_the_host_are_not_passed_on(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    assert "proxy.example" not in runner.run(["env"]).stdout


def test_path_keeps_its_own_order_and_gains_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/opt/bin:/usr/bin")
    assert search_path() == "/opt/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin"


def test_arguments_and_input_are_passed_unchanged(runner: Runner) -> None:
    assert runner.run(["printf", "%s|", "$HOME", "~", "a b", "*"]).stdout == "$HOME|~|a b|*|"
    assert runner.run(["cat"], stdin="no newline").stdout == "no newline"


def test_failure_names_the_last_thing_said(runner: Runner) -> None:
    with pytest.raises(CommandError, match="sh failed with exit code 4: the cause") as caught:
        runner.run(["sh", "-c", "echo noise >&2; echo the cause >&2; echo >&2; exit 4"])
    assert caught.value.rc == 4
    assert not caught.value.transient


@pytest.mark.parametrize("timeout", [None, 5])
def test_a_missing_program_is_named_with_a_remedy(runner: Runner, timeout: float | None) -> None:
    with pytest.raises(CommandError, match=r"cannot be started.*Install no-such-tool on this host") as caught:
        runner.run(["/opt/no-such-tool"], timeout=timeout, check=False)
    assert caught.value.cmd == ["/opt/no-such-tool"]


def test_a_file_that_is_not_executable(runner: Runner, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("text")
    with pytest.raises(CommandError, match="Permission denied"):
        runner.run([str(tool)])


def test_timeout_ends_the_program(runner: Runner) -> None:
    begin = time.monotonic()
    with pytest.raises(CommandError, match=r"sleep did not end in 0\.2 seconds") as caught:
        runner.run(["sleep", "20"], timeout=0.2)
    assert time.monotonic() - begin < 5
    assert caught.value.transient


def test_json(runner: Runner) -> None:
    assert runner.json(["echo", '{"id": 18446744073709551615}']) == {"id": 18446744073709551615}
    with pytest.raises(CommandError, match="echo did not print JSON: Expecting value") as caught:
        runner.json(["echo", "plain"])
    assert caught.value.stdout == "plain\n"


@pytest.mark.parametrize("script", ["echo hunter2; exit 1", "echo hunter2 >&2; exit 1", "echo hunter2"])
def test_secret_output_is_in_no_error(runner: Runner, script: str, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o700)
    with pytest.raises(CommandError) as caught:
        runner.json([str(tool)], secret=True)
    assert "hunter2" not in repr((str(caught.value), caught.value.facts))
    # The error of the JSON decoder holds the whole document.
    assert caught.value.__cause__ is None
