# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._background import background
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError

ENV = {"PATH": os.environ["PATH"]}


def test_what_it_says_and_how_it_ends() -> None:
    with background(["sh", "-c", "echo out; echo err >&2; exit 3"], env=ENV) as program:
        program.wait(30)
        assert program.rc == 3 and program.said() == "out\nerr"


def test_it_is_ended_with_the_block() -> None:
    with background(["sleep", "60"], env=ENV) as program:
        assert program.rc is None
        program.wait(0.01)
    assert program.rc == -15


def test_it_gets_no_other_environment() -> None:
    os.environ["ETCD_NAME"] = "of the host"
    try:
        with background(["env"], env=ENV) as program:
            program.wait(30)
            assert "ETCD_NAME" not in program.said()
    finally:
        del os.environ["ETCD_NAME"]


def test_a_program_that_is_missing() -> None:
    with (
        pytest.raises(CommandError, match="Install nothing on this host"),
        background(["/nowhere/nothing"], env=ENV),
    ):
        pass


def test_it_dies_with_the_module(tmp_path: Path) -> None:
    """The module is killed, so that it ends nothing itself; the pipe closes when its child is gone, too."""
    script = tmp_path / "module.py"
    script.write_text(
        "import os, signal, sys\n"
        "from ansible_collections.kubewright.cluster.plugins.module_utils._background import background\n"
        "with background(['sh', '-c', 'exec sleep 60 >' + sys.argv[1]], env=dict(os.environ)):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, str(script), f"/proc/{os.getpid()}/fd/{write}"])
    process.wait(30)
    os.close(write)
    # An end of file, and no wait of a minute: nobody holds the other end any more.
    assert os.read(read, 1) == b""
    os.close(read)
