# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypt a stream to a public key, by age or GPG; the private key is never on a host of the cluster.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from typing import IO, Any, Callable, cast

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import NOT_STARTED, search_path


def argv(encryption: str, recipient: str, home: str) -> list[str]:
    """Return the command that encrypts its input into its output. A GPG recipient is the file of a public key."""
    if encryption == "age":
        return ["age", "--encrypt", "--recipient", recipient]
    # A home of its own: nothing of root's keys and settings is read or changed. Whoever wrote the file trusts the key.
    return [
        "gpg", "--homedir", home, "--batch", "--no-tty", "--quiet", "--no-options", "--trust-model", "always",
        "--recipient-file", recipient, "--encrypt",
    ]  # fmt: skip


def seal(path: str, command: Sequence[str], write: Callable[[IO[bytes]], Any], limit: float) -> None:
    """Let *write* fill the input of a program whose output becomes the file; with no command it writes the file.

    The program is ended after *limit* seconds.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as target:
        if command:
            _through(list(command), target, write, limit)
        else:
            write(target)
        target.flush()
        os.fsync(target.fileno())


def _through(command: list[str], target: IO[bytes], write: Callable[[IO[bytes]], Any], limit: float) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PATH": search_path()}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=target, stderr=subprocess.PIPE, env=environment
        )
    except OSError as error:
        raise CommandError(
            f"{command[0]} cannot be started", cmd=command, rc=NOT_STARTED, why=error.strerror or "",
            remedy=f"Install {command[0]} on this host",
        ) from error  # fmt: skip
    # Both are pipes, as asked for.
    stdin, complaints = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stderr)
    broken = False
    watchdog = threading.Timer(limit, process.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        with stdin:
            write(stdin)
    except BrokenPipeError:
        # Why it stopped reading, it says itself.
        broken = True
    except BaseException:
        process.kill()
        process.wait()
        watchdog.cancel()
        raise
    stderr = complaints.read().decode(errors="replace")
    complaints.close()
    rc = process.wait()
    watchdog.cancel()
    if rc or broken:
        lines = [line for line in stderr.splitlines() if line.strip()]
        raise CommandError(
            f"{command[0]} did not encrypt the backup", cmd=command, rc=rc, stderr=stderr,
            why=lines[0] if lines else f"it was ended after {limit:g} seconds" if rc == -9 else "",
            remedy="Free some space" if "no space left" in stderr.lower() else "Look at etcd_backup_encrypt_to",
        )  # fmt: skip


def check(encryption: str, recipient: str, home: str) -> None:
    """Refuse a recipient that cannot be encrypted to, before anything is saved."""
    if encryption:
        with open(os.devnull, "wb") as nowhere:
            try:
                _through(argv(encryption, recipient, home), nowhere, lambda _stream: None, 30)
            except CommandError as error:
                if error.rc != NOT_STARTED:
                    raise KubewrightError(
                        f"Backups cannot be encrypted to this recipient of {encryption}",
                        where=recipient,
                        why=error.why,
                        remedy="Correct etcd_backup_encrypt_to, and run backup.yml again",
                    ) from error
                raise
