# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive kubeadm: make a host a node, and make the secrets that the next node joins with.

Configurations reach kubeadm through its standard input, so that no token or certificate key is written to a
disk or shown in a process list.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ADMIN_KUBECONFIG = "/etc/kubernetes/admin.conf"

# Bootstrap tokens ("abcdef.0123456789abcdef") and certificate keys (32 bytes in hex); kubeadm prints both.
_SECRET = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b|(?<!sha256:)\b[0-9a-f]{64}\b")

# kubeadm lets everybody read them, and keeps the mode of a file that it writes again.
_KUBELET_FILES = ("config.yaml", "instance-config.yaml", "kubeadm-flags.env")

_PHASE = re.compile(r"^\[([a-z][a-z-]+)\]", re.M)


def redact(text: str) -> str:
    """Return kubeadm's output without the secrets that it prints."""
    return _SECRET.sub("********", text)


def phases(output: str) -> list[str]:
    """Return the phases that an output of kubeadm names, in their order."""
    return list(dict.fromkeys(_PHASE.findall(output)))


@dataclass(frozen=True)
class NodePlan:
    """What is to be done to make a host a node: a kubeadm subcommand, or nothing."""

    action: str
    reason: str


def plan_node(wanted: str, state: str, evidence: list[str]) -> NodePlan:
    """Decide from the host's state; *wanted* is C(seed), C(control_plane) or C(worker).

    A host that kubeadm left half way is refused here: a second C(kubeadm join) over the remains of the first
    one fails in ways that are hard to read, and a reset of what might be a member loses data.
    """
    if state == "incomplete":
        raise KubewrightError(
            "kubeadm was interrupted on this host",
            why="found " + ", ".join(evidence),
            remedy="If it is neither a node nor an etcd member of the cluster, reset it with the playbook "
            "reset.yml and --limit, then run again",
        )
    if wanted == "seed":
        if state != "none":
            raise KubewrightError(
                "This host already belongs to a cluster, so it cannot start a new one",
                why="found " + ", ".join(evidence),
                remedy="Find out why its API server does not answer, or reset it with the playbook reset.yml",
            )
        return NodePlan("init", "no cluster exists")
    if state == "none":
        return NodePlan("join", f"this host is to be a {wanted.replace('_', ' ')}")
    if state != wanted:
        raise KubewrightError(
            f"This host is a {state.replace('_', ' ')}, not a {wanted.replace('_', ' ')}",
            remedy="kubeadm cannot change a node's role: remove the node and reset the host first, or put it "
            "into the other inventory group",
        )
    return NodePlan("", f"this host is already a {state.replace('_', ' ')}")


def close_kubelet_files(folder: Path) -> None:
    """Let only root read the kubelet's configuration."""
    for name in _KUBELET_FILES:
        with contextlib.suppress(FileNotFoundError):
            (folder / name).chmod(0o600)


class Kubeadm:
    """Runs kubeadm on this host."""

    def __init__(self, runner: Runner, binary: str = "kubeadm") -> None:
        self._runner = runner
        self._binary = binary

    def init(self, config: str, ignore_preflight_errors: list[str], timeout: float) -> str:
        """Start a cluster on this host; return kubeadm's output without secrets."""
        # The join command that kubeadm prints last holds a token and the certificate key.
        extra = ["--upload-certs", "--skip-token-print", "--skip-certificate-key-print"]
        return self._long(["init", *extra], config, ignore_preflight_errors, timeout)

    def join(self, config: str, ignore_preflight_errors: list[str], timeout: float) -> str:
        """Join this host to the cluster; return kubeadm's output without secrets."""
        return self._long(["join"], config, ignore_preflight_errors, timeout)

    def _long(self, words: list[str], config: str, ignored: list[str], timeout: float) -> str:
        argv = [self._binary, *words, "--config=/dev/stdin"]
        if ignored:
            argv.append("--ignore-preflight-errors=" + ",".join(ignored))
        done = self._runner.run(argv, check=False, stdin=config, timeout=timeout, secret=True)
        stdout, stderr = redact(done.stdout), redact(done.stderr)
        if done.rc != 0:
            reached = phases(stdout)
            raise CommandError(
                f"kubeadm {words[0]} failed" + (f" in phase {reached[-1]}" if reached else ""),
                cmd=argv,
                rc=done.rc,
                stdout=stdout,
                stderr=stderr,
                why=failure(stderr) or failure(stdout),
                remedy="Mend the cause; then reset this host with the playbook reset.yml and --limit, "
                "and run again",
            )
        return stdout

    def create_token(self, ttl: str) -> tuple[str, str]:
        """Return a new bootstrap token and the hash of the cluster's CA key for pinning.

        kubeadm makes the token itself and prints it: given as an argument it would be in the process list.
        """
        argv = [self._binary, "token", "create", "--ttl", ttl, "--print-join-command"]
        argv += ["--description", "made by kubewright.cluster for joins", "--kubeconfig", ADMIN_KUBECONFIG]
        done = self._runner.run(argv, timeout=60, secret=True)
        token = re.search(r"--token (\S+)", done.stdout)
        ca_hash = re.search(r"--discovery-token-ca-cert-hash (sha256:[0-9a-f]{64})", done.stdout)
        if not token or not ca_hash:
            raise KubewrightError(
                "kubeadm token create printed no join command",
                remedy="Run it by hand on this control plane to see what it prints",
            )
        return token[1], ca_hash[1]

    def upload_certificates(self, cluster_configuration: str) -> str:
        """Store the control plane's certificates in the cluster, encrypted; return the key.

        The Secret lives two hours (kubeadm's own limit, kubernetes/kubeadm issues 2386 and 1510), so every
        late join makes a new one. The cluster's own configuration goes along: kubeadm would take its defaults
        for a stacked etcd otherwise.
        """
        key = secrets.token_hex(32)
        head = f"apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\ncertificateKey: {key}\n"
        argv = [self._binary, "init", "phase", "upload-certs", "--upload-certs", "--config=/dev/stdin"]
        argv.append("--skip-certificate-key-print")
        self._runner.run(argv, stdin=f"{head}---\n{cluster_configuration}", timeout=60, secret=True)
        return key


def failure(output: str) -> str:
    """Return the lines of an output that tell why kubeadm gave up."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # The last line of a failed preflight is advice ("If you know what you are doing ..."), not the cause.
    telling = [line for line in lines if re.match(r"\[ERROR |error|.*\berror execution phase\b", line)]
    return "; ".join(telling[-4:]) if telling else (lines[-1] if lines else "")
