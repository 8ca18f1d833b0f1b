# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's kinds of objects come out of its module, and are served where its repository shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab import golang, monitoring
from lab.cache import Cache
from lab.shell import LabError


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the operator in place of the one that Go would fetch."""
    folder = tmp_path / "module"
    (folder / monitoring.DEFINITIONS).mkdir(parents=True)

    def go(argv: list[str | Path], **_: Any) -> str:
        assert argv[-1] == "github.com/prometheus-operator/prometheus-operator@v0.93.1"
        return json.dumps({"Dir": str(folder)})

    monkeypatch.setattr(golang, "run", go)
    return folder


def test_the_definitions_are_served_where_the_repository_has_them(
    cache: Cache, module: Path, tmp_path: Path
) -> None:
    definition = module / monitoring.DEFINITIONS / "monitoring.coreos.com_probes.yaml"
    definition.write_text("definition")
    # Go's own copy can only be read, what is cached can be removed.
    definition.chmod(0o444)
    (module / monitoring.DEFINITIONS / "crd.go").write_text("package crd\n")
    kept = monitoring.definitions(cache, "0.93.1")
    assert [file.name for file in kept.iterdir()] == ["monitoring.coreos.com_probes.yaml"]
    monitoring.write_files(tmp_path / "files", kept, "0.93.1")
    path = "prometheus-operator/prometheus-operator/raw/v0.93.1/example/prometheus-operator-crd"
    served = tmp_path / "files" / path / "monitoring.coreos.com_probes.yaml"
    assert served.read_text() == "definition" and served.stat().st_mode & 0o200


def test_a_module_without_definitions_is_told(cache: Cache, module: Path) -> None:
    assert module.exists()
    with pytest.raises(LabError, match="no definitions"):
        monitoring.definitions(cache, "0.93.1")
