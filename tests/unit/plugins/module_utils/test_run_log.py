# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import multiprocessing
import ssl
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _run_log
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import public, redact, step
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

TOKEN = "abcdef.0123456789abcdef"
KEY = "0f" * 32
CA_HASH = "sha256:" + "ab" * 32


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_step_has_a_beginning_and_an_end(run_log: Path) -> None:
    with step("run", ["kubeadm", "init"]) as running:
        begun = lines(run_log)
        running.rc = 0
    assert [line["state"] for line in begun] == ["begin"]
    [begin, end] = lines(run_log)
    assert begin["run"] == end["run"] == ["kubeadm", "init"]
    assert begin["pid"] == end["pid"]
    assert end["state"] == "end"
    assert end["rc"] == 0
    assert end["seconds"] >= 0
    assert begin["time"] <= end["time"]
    assert begin["time"].endswith("Z")


def test_only_root_may_read_it(run_log: Path) -> None:
    with step("write", "/etc/hosts"):
        pass
    assert run_log.stat().st_mode & 0o777 == 0o600
    assert run_log.parent.stat().st_mode & 0o777 == 0o700


def test_a_step_that_fails_says_so(run_log: Path) -> None:
    with pytest.raises(ValueError, match="broken"), step("write", "/etc/hosts"):
        raise ValueError("broken")
    assert lines(run_log)[1]["failed"] is True


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(_run_log, "FOLDER", str(tmp_path / "file" / "folder"))
    with step("write", "/etc/hosts"):
        done = True
    assert done


def test_a_link_is_not_followed(run_log: Path, tmp_path: Path) -> None:
    run_log.parent.mkdir()
    run_log.symlink_to(tmp_path / "elsewhere")
    with step("write", "/etc/hosts"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_it_is_rotated_by_size(run_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run_log, "LIMIT", 1000)
    for number in range(50):
        with step("write", f"/file/{number}"):
            pass
    assert sorted(path.name for path in run_log.parent.iterdir()) == ["steps.log", "steps.log.1"]
    assert all(path.stat().st_size <= 1000 for path in run_log.parent.iterdir())
    kept = lines(run_log.parent / "steps.log.1") + lines(run_log)
    assert kept[-1]["write"] == "/file/49"
    numbers = [int(line["write"].rpartition("/")[2]) for line in kept]
    assert numbers == sorted(numbers)


def log_many(folder: str) -> None:
    _run_log.FOLDER = folder
    _run_log.LIMIT = 20_000
    for number in range(100):
        with step("write", f"/file/{number}"):
            pass


def test_modules_at_the_same_time_tear_no_line(run_log: Path) -> None:
    workers = [multiprocessing.Process(target=log_many, args=(str(run_log.parent),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    for path in run_log.parent.iterdir():
        assert lines(path)
        assert path.stat().st_size <= 20_000


@pytest.mark.parametrize(
    "argv",
    [
        ["kubeadm", "join", "--token", "s3cret"],
        ["kubeadm", "join", "--token=s3cret"],
        ["kubeadm", "join", "--certificate-key", "s3cret", "--v=5"],
        ["kubeadm", "join", "--discovery-token=s3cret"],
        ["kubeadm", "join", "--tls-bootstrap-token", "s3cret"],
        ["crictl", "pull", "--creds", "s3cret", "image"],
        ["tool", "--password=s3cret"],
    ],
)
def test_secrets_in_arguments_are_masked(argv: list[str]) -> None:
    shown = public(argv)
    assert "s3cret" not in " ".join(shown)
    assert "********" in " ".join(shown)
    assert len(shown) == len(argv)


def test_tokens_and_keys_are_masked_wherever_they_are() -> None:
    assert public(["tool", f"x={TOKEN}", KEY]) == ["tool", "x=********", "********"]
    assert redact(f"--token {TOKEN} {CA_HASH}") == f"--token ******** {CA_HASH}"


@pytest.mark.parametrize(
    "argv",
    [
        ["etcdctl", "--key=/etc/kubernetes/pki/etcd/peer.key", "member", "list"],
        ["kubeadm", "init", "--skip-token-print", "--skip-certificate-key-print", "--config=/dev/stdin"],
        ["kubeadm", "token", "create", "--ttl", "30m"],
        ["systemctl", "--no-ask-password", "enable", "--", "kubelet.service"],
        ["kubeadm", "join", "--token", "--v=5"],
        ["ctr", "images", "pull", f"pause@{CA_HASH}"],
    ],
)
def test_what_is_no_secret_stays(argv: list[str]) -> None:
    assert public(argv) == argv


def test_a_program_is_a_step_unless_it_only_asks(run_log: Path) -> None:
    runner = Runner(lambda argv, **_options: (int(argv[0] == "false"), "{}", ""))
    runner.run(["systemctl", "show"], asks=True)
    runner.json(["kubectl", "config", "view"])
    assert not run_log.exists()
    with pytest.raises(CommandError):
        runner.run(["false"])
    [begin, end] = lines(run_log)
    assert begin["run"] == ["false"]
    assert end["rc"] == 1


def test_the_standard_input_is_not_logged(run_log: Path) -> None:
    Runner(lambda argv, **_options: (0, "", "")).run(["kubeadm", "join"], stdin="s3cret", timeout=9)
    assert "s3cret" not in run_log.read_text()
    assert lines(run_log)[0]["run"] == ["kubeadm", "join"]


@pytest.mark.parametrize(
    ("method", "query", "logged"),
    [
        ("GET", None, False),
        ("PATCH", {"dryRun": "All"}, False),
        ("PATCH", {"dryRun": None}, True),
        ("POST", None, True),
        ("DELETE", {"gracePeriodSeconds": 1}, True),
    ],
)
def test_a_write_to_the_api_is_a_step(
    run_log: Path, method: str, query: dict[str, Any] | None, logged: bool
) -> None:
    # Nobody listens on port 9 of this machine: the request is not answered, and was a step all the same.
    api = KubeApi("https://127.0.0.1:9", ssl.create_default_context(), timeout=1)
    with pytest.raises(KubewrightError):
        api.request(method, "/api/v1/namespaces", query=query)
    assert run_log.exists() == logged
    if logged:
        assert lines(run_log)[0]["api"] == f"{method} https://127.0.0.1:9/api/v1/namespaces"
        assert lines(run_log)[1]["failed"] is True
