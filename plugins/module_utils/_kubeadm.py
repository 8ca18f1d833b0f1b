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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import redact
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

ADMIN_KUBECONFIG = "/etc/kubernetes/admin.conf"

CRI_SOCKET = "unix:///run/containerd/containerd.sock"

# With one of these kubeadm reset would ask the cluster, and could take a member out of it.
_KUBECONFIGS = (ADMIN_KUBECONFIG, "/etc/kubernetes/super-admin.conf")

# kubeadm lets everybody read them, and keeps the mode of a file that it writes again.
_KUBELET_FILES = ("config.yaml", "instance-config.yaml", "kubeadm-flags.env")

# Only an external etcd has such settings. kubeadm stores nothing for a missing file, and writes nothing for what
# was not stored (getDataFromDisk and DownloadCerts in cmd/kubeadm/app/phases/copycerts/copycerts.go).
_CLIENT_PAIR = re.compile(r"^([ ]+(?:certFile|keyFile):[ ]*)\S+$", re.M)
_NOWHERE = "/var/lib/kubewright/no-such-file"

_PHASE = re.compile(r"^\[([a-z][a-z-]+)\]", re.M)
_TELLING = re.compile(r"\[ERROR |error|- |.*\berror execution phase\b")


def phases(output: str) -> list[str]:
    """Return the phases that an output of kubeadm names, in their order."""
    return list(dict.fromkeys(_PHASE.findall(output)))


def close_kubelet_files(folder: Path) -> None:
    """Let only root read the kubelet's configuration."""
    for name in _KUBELET_FILES:
        with contextlib.suppress(FileNotFoundError):
            (folder / name).chmod(0o600)


@dataclass(frozen=True)
class Ran:
    """What kubeadm printed, without secrets, and how it ended."""

    argv: list[str]
    rc: int
    stdout: str
    stderr: str

    def error(self, message: str, remedy: str, **facts: Any) -> CommandError:
        """Return its failure as an error, with *facts* for the caller of the module."""
        return CommandError(
            message,
            cmd=self.argv,
            rc=self.rc,
            stdout=self.stdout,
            stderr=self.stderr,
            why=failure(self.stderr) or failure(self.stdout),
            remedy=remedy,
            **facts,
        )


def run_kubeadm(runner: Runner, argv: list[str], config: str, timeout: float) -> Ran:
    """Run kubeadm with a configuration on its standard input; *timeout* is in seconds.

    What it prints may hold tokens and keys, so nothing of it is kept unredacted.
    """
    done = runner.run(argv, check=False, stdin=config, timeout=timeout, secret=True)
    return Ran(argv, done.rc, redact(done.stdout), redact(done.stderr))


class Kubeadm:
    """Runs kubeadm on this host."""

    def __init__(self, runner: Runner, binary: str = "kubeadm") -> None:
        self._runner = runner
        self._binary = binary

    def init(self, config: str, ignored: list[str], timeout: float, skip: Sequence[str] = ()) -> str:
        """Start a cluster on this host; return kubeadm's output without secrets.

        *ignored* are names of preflight checks, *skip* are phases that are not run.
        """
        # The join command that kubeadm prints last holds a token and the certificate key.
        extra = ["--upload-certs", "--skip-token-print", "--skip-certificate-key-print"]
        return self._long(["init", *extra], config, ignored, timeout, skip)

    def join(self, config: str, ignored: list[str], timeout: float, skip: Sequence[str] = ()) -> str:
        """Join this host to the cluster; return kubeadm's output without secrets."""
        return self._long(["join"], config, ignored, timeout, skip)

    def _long(
        self, words: list[str], config: str, ignored: list[str], timeout: float, skip: Sequence[str]
    ) -> str:
        argv = [self._binary, *words, "--config=/dev/stdin"]
        if ignored:
            argv.append("--ignore-preflight-errors=" + ",".join(ignored))
        if skip:
            argv.append("--skip-phases=" + ",".join(skip))
        ran = run_kubeadm(self._runner, argv, config, timeout)
        if ran.rc != 0:
            reached = phases(ran.stdout)
            raise ran.error(
                f"kubeadm {words[0]} failed" + (f" in phase {reached[-1]}" if reached else ""),
                "Mend the cause, then run again: it goes on from here. To begin anew instead, reset this host with the "
                "playbook reset.yml and --limit first",
            )
        return ran.stdout

    def reset(self, timeout: float, root: Path = Path("/")) -> None:
        """Take the remains of an interrupted init or join away, on this host only, but for the data of etcd.

        Its phase for the member would empty the whole data folder, with what a restore has moved aside in it.
        """
        for path in _KUBECONFIGS:
            (root / path.lstrip("/")).unlink(missing_ok=True)
        argv = [self._binary, "reset", "--force", "--cleanup-tmp-dir", f"--cri-socket={CRI_SOCKET}"]
        argv.append("--skip-phases=remove-etcd-member")
        self._runner.run(argv, timeout=timeout)

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
        for a stacked etcd otherwise. The pair by which this API server is a client of an external etcd stays here:
        every control plane has one of its own.
        """
        key = secrets.token_hex(32)
        head = f"apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\ncertificateKey: {key}\n"
        argv = [self._binary, "init", "phase", "upload-certs", "--upload-certs", "--config=/dev/stdin"]
        argv.append("--skip-certificate-key-print")
        self._runner.run(
            argv, stdin=f"{head}---\n{_without_pair(cluster_configuration)}", timeout=60, secret=True
        )
        return key


def _without_pair(cluster_configuration: str) -> str:
    """Name files that are not there as the client's pair of an external etcd: kubeadm uploads nothing for them."""
    return _CLIENT_PAIR.sub(rf"\g<1>{_NOWHERE}", cluster_configuration)


def failure(output: str) -> str:
    """Return the lines of an output that tell why kubeadm gave up."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # The last line of a failed preflight is advice ("If you know what you are doing ..."), not the cause. What a
    # version breaks is listed below its heading, a line each.
    telling: list[str] = []
    listed = False
    for line in lines:
        if _TELLING.match(line):
            telling.append(line)
            listed = line.endswith(":")
        elif listed and not _PHASE.match(line):
            telling[-1] += f" {line}"
        else:
            listed = False
    return "; ".join(telling[-4:]) if telling else (lines[-1] if lines else "")
