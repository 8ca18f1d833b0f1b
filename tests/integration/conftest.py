"""Fixtures of the integration tests."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from labtools import OUTPUT, Notes


@pytest.fixture(scope="session", autouse=True)
def _own_connections() -> Iterator[None]:
    """Use no connection that an earlier file left open: the host behind its address may have been made anew since.

    Ansible keeps connections for two minutes, so a quick machine still has those that a slow one has closed.
    """
    # The path of a socket must be short.
    folder = tempfile.mkdtemp(prefix="kubewright-", dir="/tmp")
    os.environ["ANSIBLE_SSH_CONTROL_PATH_DIR"] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def notes() -> Iterator[Notes]:
    """Collect figures; they are appended to tests/output/figures.txt."""
    kept = Notes()
    yield kept
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with (OUTPUT / "figures.txt").open("a") as file:
        file.writelines(f"{line}\n" for line in kept.lines)


@pytest.fixture
def records() -> Path:
    """Return an empty folder for what the runs of a crash test print."""
    folder = OUTPUT / "crash" / time.strftime("%H%M%S")
    folder.mkdir(parents=True)
    return folder
