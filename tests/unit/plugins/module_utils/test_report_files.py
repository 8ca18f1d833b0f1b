# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._report_files import (
    DATA_BEGINS,
    DATA_ENDS,
    look,
    name,
    put,
)


def page(state: str, operation: str = "upgrade", cluster: str = "example", **more: Any) -> bytes:
    data = {"about": {"cluster": cluster, "operation": operation}, "state": state, **more}
    return f"<!DOCTYPE html>\n{DATA_BEGINS}{json.dumps(data)}{DATA_ENDS}</html>".encode()


def report(second: int, operation: str = "upgrade", cluster: str = "example") -> str:
    return name(cluster, operation, f"20261123T0214{second:02}Z")


def test_a_name_is_safe_whatever_the_cluster_is_called() -> None:
    assert (
        name("../my cluster", "upgrade", "20261123T021405Z") == "..-my-cluster-upgrade-20261123T021405Z.html"
    )
    assert name("", "upgrade", "20261123T021405Z") == "cluster-upgrade-20261123T021405Z.html"


def test_a_report_is_written_whole_for_its_owner_and_group(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    path = put(str(folder), report(1), b"first", 0)
    put(str(folder), report(1), b"second", 0)
    assert Path(path).read_bytes() == b"second" and os.listdir(folder) == [report(1)]
    assert Path(path).stat().st_mode & 0o137 == 0


def test_the_oldest_of_its_series_go_and_nothing_else(tmp_path: Path) -> None:
    others = [
        report(0, "backup"),
        report(0, cluster="other"),
        "notes-20261123T021400Z.txt",
        "example-upgrade-x.html",
    ]
    for other in others:
        (tmp_path / other).write_text("mine")
    for second in range(5):
        put(str(tmp_path), report(second), b"", 2)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, report(3), report(4)])


@pytest.mark.parametrize("wrong", ["a.html", "../a-b-20261123T021405Z.html", "a-b-20261123T021405Z.html/x"])
def test_no_other_file_is_ever_written(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(KubewrightError):
        put(str(tmp_path), wrong, b"", 0)


def test_what_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KubewrightError, match="choose another folder with kube_report_dest"):
        put(str(tmp_path / "file"), report(1), b"", 0)


def test_runs_that_never_told_their_end_are_found(tmp_path: Path) -> None:
    put(str(tmp_path), report(1), page("running"), 0)
    put(str(tmp_path), report(2), page("done"), 0)
    put(str(tmp_path), report(3, "backup"), page("running", "backup"), 0)
    put(str(tmp_path), report(4, cluster="example-2"), page("running", cluster="example-2"), 0)
    put(str(tmp_path), report(5), page("running"), 0)
    found = look(str(tmp_path), "example", "upgrade", besides=report(5))
    assert list(found.untold) == [report(3, "backup"), report(1)]


def test_usual_times_are_those_of_the_last_run_of_the_same_operation_that_ended(tmp_path: Path) -> None:
    put(str(tmp_path), report(1), page("done", usual={"Work": 1}), 0)
    put(str(tmp_path), report(2), page("failed", usual={"Work": 2}), 0)
    put(str(tmp_path), report(3), page("done", usual={}), 0)
    put(str(tmp_path), report(4), page("running", usual={"Work": 4}), 0)
    put(str(tmp_path), report(5, "backup"), page("done", "backup", usual={"Work": 5}), 0)
    assert look(str(tmp_path), "example", "upgrade", "").usual == {"Work": 2}


def test_what_is_no_report_is_passed_over(tmp_path: Path) -> None:
    put(str(tmp_path), report(1), b"<html></html>", 0)
    put(str(tmp_path), report(2), f"{DATA_BEGINS}[1]{DATA_ENDS}".encode(), 0)
    put(str(tmp_path), report(3), b"\xff\xfe", 0)
    assert look(str(tmp_path), "example", "upgrade", "") == ({}, {})
    assert look(str(tmp_path / "missing"), "example", "upgrade", "") == ({}, {})
