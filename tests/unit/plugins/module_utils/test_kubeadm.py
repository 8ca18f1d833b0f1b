# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _kubeadm
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import (
    Kubeadm,
    failure,
    phases,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import redact
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

TOKEN = "abcdef.0123456789abcdef"
KEY = "0f" * 32
CA_HASH = "sha256:" + "ab" * 32
CONFIG = f"kind: JoinConfiguration\ntoken: {TOKEN}\n"

PREFLIGHT_FAILED = """\
\t[WARNING SystemVerification]: cgroups v1 support is in maintenance mode
error execution phase preflight: [preflight] Some fatal errors occurred:
\t[ERROR Port-6443]: Port 6443 is in use
\t[ERROR Mem]: the system RAM (512 MB) is less than the minimum 1700 MB
[preflight] If you know what you are doing, you can make a check non-fatal with `--ignore-...`
To see the stack trace of this error execute with --v=5 or higher
"""


class FakeCommands:
    """Stands for run_command: answers in turn, and remembers what it was called with."""

    def __init__(self, *answers: tuple[int, str, str]) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[list[str], dict[str, Any]]] = []

    def __call__(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        self.calls.append((argv, options))
        return self.answers.pop(0)


def test_tokens_and_certificate_keys_are_redacted() -> None:
    text = f"kubeadm join lb:6443 --token {TOKEN} --certificate-key {KEY}\n[upload-certs] key:\n{KEY}\n"
    cleaned = redact(text)
    assert TOKEN not in cleaned
    assert KEY not in cleaned
    assert cleaned.count("********") == 3


@pytest.mark.parametrize(
    "harmless",
    [
        f"--discovery-token-ca-cert-hash {CA_HASH}",
        f"registry.k8s.io/pause@{CA_HASH}",
        "kubernetes.default.svc.cluster.local",
        "git commit " + "a" * 40,
        "[certs] apiserver serving cert is signed for IPs [10.96.0.1 10.0.0.11]",
    ],
)
def test_what_is_no_secret_stays(harmless: str) -> None:
    assert redact(harmless) == harmless


def test_phases_in_their_order_and_once() -> None:
    output = (
        "[preflight] Running pre-flight checks\n"
        "\t[WARNING Hostname]: hostname could not be reached\n"
        "[certs] Using certificateDir folder\n"
        "[kubelet-start] Starting the kubelet\n"
        "text [upload-certs] in a line\n"
        "[certs] again\n"
        "[mark-control-plane] Marking the node\n"
    )
    assert phases(output) == ["preflight", "certs", "kubelet-start", "mark-control-plane"]
    assert phases("") == []


def test_failure_tells_the_cause_not_the_advice() -> None:
    told = failure(PREFLIGHT_FAILED)
    assert "[ERROR Port-6443]: Port 6443 is in use" in told
    assert "[ERROR Mem]: the system RAM (512 MB) is less than the minimum 1700 MB" in told
    assert "If you know" not in told
    assert "stack trace" not in told
    assert "WARNING" not in told


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("", ""),
        ("\n \n", ""),
        ("noise\nthe last thing said\n\n", "the last thing said"),
        (
            "[ERROR CoreDNSUnsupportedPlugins]: these plugins cannot be migrated:\n[Plugin one is unknown]\n"
            "[Plugin two is]\n[preflight] If you know what you are doing\nadvice\nerror: preflight failed",
            "[ERROR CoreDNSUnsupportedPlugins]: these plugins cannot be migrated: [Plugin one is unknown] "
            "[Plugin two is]; error: preflight failed",
        ),
        (
            "[kubelet-check] waiting\nerror: error execution phase wait-control-plane: timed out\nSee -v\n",
            "error: error execution phase wait-control-plane: timed out",
        ),
    ],
)
def test_failure_of_other_outputs(output: str, told: str) -> None:
    assert failure(output) == told


def test_init_and_join_get_their_configuration_through_standard_input() -> None:
    commands = FakeCommands((0, "[certs] made\n", ""), (0, "[preflight] fine\n", ""))
    kubeadm = Kubeadm(Runner(commands), binary="/opt/kubeadm")
    assert kubeadm.init(CONFIG, [], 900) == "[certs] made\n"
    assert kubeadm.join(CONFIG, ["Mem", "SystemVerification"], 60) == "[preflight] fine\n"
    limit = ["timeout", "--kill-after=5"]
    unprinted = ["--upload-certs", "--skip-token-print", "--skip-certificate-key-print"]
    ignored = "--ignore-preflight-errors=Mem,SystemVerification"
    assert [argv for argv, _options in commands.calls] == [
        [*limit, "900", "/opt/kubeadm", "init", *unprinted, "--config=/dev/stdin"],
        [*limit, "60", "/opt/kubeadm", "join", "--config=/dev/stdin", ignored],
    ]
    assert all(options["data"] == CONFIG for _argv, options in commands.calls)


def test_phases_that_are_not_repeated_are_named() -> None:
    commands = FakeCommands((0, "", ""), (0, "", ""))
    kubeadm = Kubeadm(Runner(commands))
    kubeadm.init(CONFIG, [], 900, ["preflight"])
    kubeadm.join(CONFIG, [], 900, ["preflight", "kubelet-start"])
    assert [argv[-1] for argv, _options in commands.calls] == [
        "--skip-phases=preflight",
        "--skip-phases=preflight,kubelet-start",
    ]


def test_a_reset_cannot_ask_the_cluster(tmp_path: Path) -> None:
    """kubeadm reset removes an etcd member when it finds a kubeconfig, and waits for an API that is not there."""
    folder = tmp_path / "etc/kubernetes"
    folder.mkdir(parents=True)
    for name in ("admin.conf", "super-admin.conf", "kubelet.conf"):
        (folder / name).write_text("")
    commands = FakeCommands((0, "", ""))
    Kubeadm(Runner(commands)).reset(60, tmp_path)
    assert [path.name for path in folder.iterdir()] == ["kubelet.conf"]
    [(argv, _options)] = commands.calls
    assert argv[argv.index("kubeadm") :] == [
        "kubeadm",
        "reset",
        "--force",
        "--cleanup-tmp-dir",
        "--cri-socket=unix:///run/containerd/containerd.sock",
        "--skip-phases=remove-etcd-member",
    ]


def test_the_output_comes_without_secrets() -> None:
    commands = FakeCommands((0, f"join with --token {TOKEN} --certificate-key {KEY} {CA_HASH}\n", ""))
    output = Kubeadm(Runner(commands)).init(CONFIG, [], 900)
    assert output == f"join with --token ******** --certificate-key ******** {CA_HASH}\n"


def test_a_failure_tells_the_phase_and_no_secret() -> None:
    stdout = f"[preflight] Running\n[certs] Generating\nwith {TOKEN}\n"
    stderr = f"error execution phase certs: bad token {TOKEN}, key {KEY}\n"
    commands = FakeCommands((1, stdout, stderr))
    with pytest.raises(CommandError, match="kubeadm join failed in phase certs") as caught:
        Kubeadm(Runner(commands)).join(CONFIG, [], 900)
    error = caught.value
    assert "error execution phase certs: bad token" in str(error)
    assert error.rc == 1
    told = f"{error} {error.facts}"
    assert TOKEN not in told
    assert KEY not in told
    assert "JoinConfiguration" not in told


def test_a_failure_before_the_first_phase() -> None:
    commands = FakeCommands((3, "", "unknown flag: --what\n"))
    with pytest.raises(CommandError, match=r"^kubeadm init failed: unknown flag"):
        Kubeadm(Runner(commands)).init(CONFIG, [], 900)


def test_a_timeout_shows_no_output() -> None:
    commands = FakeCommands((124, f"[certs] {TOKEN}", TOKEN))
    with pytest.raises(CommandError, match="did not end in 9 seconds") as caught:
        Kubeadm(Runner(commands)).join(CONFIG, [], 9)
    assert TOKEN not in f"{caught.value} {caught.value.facts}"


def test_a_token_is_read_from_the_join_command() -> None:
    line = f"kubeadm join 10.0.0.9:6443 --token {TOKEN} --discovery-token-ca-cert-hash {CA_HASH} \n"
    commands = FakeCommands((0, line, ""))
    assert Kubeadm(Runner(commands)).create_token("10m") == (TOKEN, CA_HASH)
    argv, options = commands.calls[0]
    words = argv[argv.index("kubeadm") :]
    assert words[:3] == ["kubeadm", "token", "create"]
    assert words[words.index("--ttl") + 1] == "10m"
    assert words[words.index("--kubeconfig") + 1] == "/etc/kubernetes/admin.conf"
    assert "--print-join-command" in words
    assert "data" not in options


@pytest.mark.parametrize(
    "printed",
    [
        "",
        f"kubeadm join 10.0.0.9:6443 --token {TOKEN}\n",
        f"kubeadm join 10.0.0.9:6443 --discovery-token-ca-cert-hash {CA_HASH}\n",
        f"kubeadm join 10.0.0.9:6443 --token {TOKEN} --discovery-token-ca-cert-hash sha256:{'a' * 63}\n",
    ],
)
def test_half_a_join_command_is_an_error_without_the_token(printed: str) -> None:
    with pytest.raises(KubewrightError, match="printed no join command") as caught:
        Kubeadm(Runner(FakeCommands((0, printed, "")))).create_token("30m")
    assert TOKEN not in f"{caught.value} {caught.value.facts}"


def test_a_failed_token_shows_no_output() -> None:
    with pytest.raises(CommandError, match="its output is secret") as caught:
        Kubeadm(Runner(FakeCommands((1, TOKEN, TOKEN)))).create_token("30m")
    assert TOKEN not in f"{caught.value} {caught.value.facts}"


def test_the_certificate_key_goes_through_standard_input_only() -> None:
    commands = FakeCommands((0, "", ""))
    key = Kubeadm(Runner(commands)).upload_certificates("kind: ClusterConfiguration\nclusterName: lab\n")
    assert re.fullmatch("[0-9a-f]{64}", key)
    argv, options = commands.calls[0]
    assert key not in " ".join(argv)
    assert key not in str(options["environ_update"])
    assert options["data"] == (
        "apiVersion: kubeadm.k8s.io/v1beta4\n"
        "kind: InitConfiguration\n"
        f"certificateKey: {key}\n"
        "---\n"
        "kind: ClusterConfiguration\n"
        "clusterName: lab\n"
    )
    words = argv[argv.index("kubeadm") :]
    assert words[:4] == ["kubeadm", "init", "phase", "upload-certs"]
    assert {"--upload-certs", "--config=/dev/stdin", "--skip-certificate-key-print"} <= set(words)


def test_the_pair_of_an_external_etcd_is_not_uploaded() -> None:
    commands = FakeCommands((0, "", ""))
    configuration = (
        "etcd:\n  external:\n    caFile: /etc/kubernetes/pki/etcd/ca.crt\n    certFile: /etc/kubernetes/pki/x.crt\n"
        "    endpoints:\n    - https://a:2379\n    keyFile: /etc/kubernetes/pki/x.key\nkind: ClusterConfiguration\n"
    )
    Kubeadm(Runner(commands)).upload_certificates(configuration)
    [(_words, options)] = commands.calls
    sent = options["data"]
    assert (
        "x.crt" not in sent and "x.key" not in sent and sent.count("/var/lib/kubewright/no-such-file\n") == 2
    )
    assert "caFile: /etc/kubernetes/pki/etcd/ca.crt\n" in sent and "- https://a:2379\n" in sent


def test_every_upload_has_a_new_key() -> None:
    kubeadm = Kubeadm(Runner(FakeCommands((0, "", ""), (0, "", ""))))
    assert kubeadm.upload_certificates("") != kubeadm.upload_certificates("")


def test_a_failed_upload_does_not_tell_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kubeadm.secrets, "token_hex", lambda size: "0f" * size)
    with pytest.raises(CommandError) as caught:
        Kubeadm(Runner(FakeCommands((1, KEY, KEY)))).upload_certificates("")
    assert KEY not in f"{caught.value} {caught.value.facts}"
