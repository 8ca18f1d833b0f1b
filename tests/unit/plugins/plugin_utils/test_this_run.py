# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.plugin_utils._this_run import is_gone, name


def test_a_process_that_runs_is_not_gone() -> None:
    assert not is_gone(name(os.getpid()))


def test_one_that_has_ended_is_gone_also_before_its_parent_asked() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        run = name(process.pid)
        assert not is_gone(run)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(run)
    assert is_gone(run)


def test_another_process_with_its_number_is_not_it() -> None:
    machine, space, pid, started = name(os.getpid()).split("/")
    assert is_gone("/".join((machine, space, pid, f"{started}1")))


def test_nobody_knows_of_the_processes_of_another_machine_or_container() -> None:
    machine, space, _pid, _started = name(os.getpid()).split("/")
    for foreign in (f"other/{space}/999999999/1", f"{machine}/other/999999999/1", "", "somebody"):
        assert not is_gone(foreign)


def test_without_proc_a_process_has_a_name_too(tmp_path: Path) -> None:
    run = name(os.getpid(), tmp_path)
    assert run.split("/")[1:] == ["", str(os.getpid()), ""] and not is_gone(run, tmp_path)
