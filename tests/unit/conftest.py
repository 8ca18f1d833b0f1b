"""Fixtures of all unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _run_log


@pytest.fixture(autouse=True)
def run_log(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the run log of what is tested away from this machine's own, and return where it goes."""
    folder = tmp_path_factory.mktemp("log") / "kubewright"
    monkeypatch.setattr(_run_log, "FOLDER", str(folder))
    return folder / _run_log.NAME
