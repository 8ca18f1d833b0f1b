# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _host_files
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption import Configuration
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption_file import (
    EncryptionFile,
    describe,
    loaded_hash,
    wait_until_loaded,
    wanted,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import DeadlineExpired
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

KEY = base64.b64encode(b"k" * 32).decode()
CONFIGURATION = Configuration({"secrets": ["a", "identity"]}, {"a": KEY})
OPTIONS = {"layout": None, "keys": {}, "generate": "", "drop": [], "replace": True}
METRICS = """\
# HELP apiserver_encryption_config_controller_last_config_info [ALPHA] Information about the last applied encryption
# TYPE apiserver_encryption_config_controller_last_config_info gauge
apiserver_encryption_config_controller_last_config_info{{apiserver_id_hash="sha256:00ff",hash="{hash}"}} 1
apiserver_encryption_config_controller_other{{hash="sha256:bad"}} 1
"""


@pytest.fixture
def file(tmp_path: Path) -> EncryptionFile:
    return EncryptionFile(tmp_path / "kubewright" / "encryption.yaml")


def write(file: EncryptionFile, configuration: Configuration) -> None:
    _host_files.apply(file.plan(configuration), os.replace)


def test_a_file_that_is_not_there(file: EncryptionFile) -> None:
    assert file.read() is None and file.sha256() == "" and not file.plan(None).steps


def test_only_the_owner_can_read_it(file: EncryptionFile) -> None:
    write(file, CONFIGURATION)
    assert file.read() == CONFIGURATION
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert not file.plan(CONFIGURATION).steps


def test_a_file_that_says_the_same_in_other_words_stays(file: EncryptionFile) -> None:
    write(file, CONFIGURATION)
    file.path.write_text(json.dumps(json.loads(file.path.read_text())))
    assert not file.plan(CONFIGURATION).steps


def test_a_mode_that_was_opened_is_closed_again(file: EncryptionFile) -> None:
    write(file, CONFIGURATION)
    file.path.chmod(0o644)
    assert file.plan(CONFIGURATION).changed_paths
    write(file, CONFIGURATION)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_second_run_waits_for_the_first(file: EncryptionFile) -> None:
    """Another process cannot take the lock while this one is between reading and writing."""
    attempt = (
        "import fcntl, os, sys\nfcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    argv = [sys.executable, "-c", attempt, str(file.path.parent)]
    with file.locked(make_folder=True):
        assert b"BlockingIOError" in subprocess.run(argv, capture_output=True).stderr
    assert subprocess.run(argv).returncode == 0


def test_no_folder_is_made_to_look(file: EncryptionFile) -> None:
    with file.locked(make_folder=False):
        pass
    assert not file.path.parent.exists()


def test_without_replace_only_a_missing_file_is_made() -> None:
    options = {**OPTIONS, "layout": {"secrets": ["b", "identity"]}, "generate": "b", "replace": False}
    assert wanted(CONFIGURATION, options, "file") is CONFIGURATION
    made = wanted(None, options, "file")
    assert made is not None and made.layout == {"secrets": ["b", "identity"]}


def test_without_a_layout_nothing_changes() -> None:
    assert wanted(None, OPTIONS, "file") is None
    assert wanted(CONFIGURATION, OPTIONS, "file") is CONFIGURATION


def test_what_the_api_server_was_told(file: EncryptionFile, tmp_path: Path) -> None:
    assert describe(file, None, tmp_path)["serves"] is False
    manifest = tmp_path / "etc/kubernetes/manifests/kube-apiserver.yaml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(f"    - --encryption-provider-config={file.path}\n")
    seen = describe(file, CONFIGURATION, tmp_path)
    assert (seen["serves"], seen["used"], seen["reloads"]) == (True, True, False)
    manifest.write_text(
        "    - --encryption-provider-config-automatic-reload=true\n"
        f"    - --encryption-provider-config={file.path}.old\n"
    )
    seen = describe(file, CONFIGURATION, tmp_path)
    assert (seen["serves"], seen["used"], seen["reloads"]) == (True, False, True)
    assert KEY not in str(seen)


class FakeApi:
    """An API server that loads its file at the third question."""

    server = "https://10.0.0.11:6443"

    def __init__(self, file: EncryptionFile, questions: int) -> None:
        self.file, self.left = file, questions

    def get(self, path: str) -> Any:
        if path == "/readyz":
            return "ok"
        self.left -= 1
        old = "sha256:" + hashlib.sha256(b"old").hexdigest()
        return METRICS.format(hash=self.file.sha256() if self.left <= 0 else old)


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def deadline(seconds: float) -> Deadline:
    fake = FakeTime()
    return Deadline(seconds, clock=fake.clock, sleep=fake.sleep)


def test_the_hash_that_the_api_server_reports() -> None:
    assert loaded_hash(METRICS.format(hash="sha256:abc0")) == "sha256:abc0"
    assert loaded_hash("") == ""


def test_it_waits_until_the_file_is_loaded(file: EncryptionFile) -> None:
    write(file, CONFIGURATION)
    api = FakeApi(file, 3)
    wait_until_loaded(api, file, deadline(60))  # type: ignore[arg-type]
    assert api.left == 0


def test_an_api_server_that_does_not_load_it_is_named(file: EncryptionFile) -> None:
    write(file, CONFIGURATION)
    with pytest.raises(DeadlineExpired) as caught:
        wait_until_loaded(FakeApi(file, 1000), file, deadline(60))  # type: ignore[arg-type]
    message = str(caught.value)
    assert FakeApi.server in message and file.sha256() in message and "goes on from here" in message
