# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells Prometheus of its backups, through the textfile collector of node_exporter.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import sync

FILE = "kubewright_backup.prom"
_NAME = "kubewright_backup_"


@dataclass
class State:
    """What is known between two runs. Times are Unix time, 0 for never; the last backup is the cluster's.

    `copies` says for each target when the last copy succeeded, and whether the last attempt did.
    """

    last_success: float = 0
    size: int = 0
    revision: int = 0
    duration: float = 0
    runs: int = 0
    failures: int = 0
    last_run: float = 0
    last_run_success: bool = False
    copies: dict[str, dict[str, float]] = field(default_factory=dict)


def read_state(path: str) -> State:
    """Return what the last run left; a file that cannot be read costs the counters and nothing else."""
    state = State()
    with contextlib.suppress(OSError, ValueError, AttributeError), open(path, encoding="utf-8") as stream:
        for key, value in json.load(stream).items():
            if key in vars(state) and isinstance(value, (int, float, dict)):
                setattr(state, key, value)
    return state


def write_state(path: str, state: State) -> None:
    """Keep it for the next run."""
    _replace(path, json.dumps(asdict(state)) + "\n", 0o600)


def text(state: State, cluster: str, every_minutes: int) -> str:
    """Return the metrics in Prometheus' text format."""
    label = f'cluster="{_escaped(cluster)}"'
    rows: list[tuple[str, str, str, list[tuple[str, float]]]] = [
        ("last_success_timestamp_seconds", "gauge", "When the newest backup of the cluster was saved.",
         [(label, state.last_success)]),
        ("size_bytes", "gauge", "The size of the newest backup.", [(label, state.size)]),
        ("revision", "gauge", "The revision of etcd in the newest backup.", [(label, state.revision)]),
        ("duration_seconds", "gauge", "How long this host took for its last backup.", [(label, state.duration)]),
        ("interval_seconds", "gauge", "How often a backup is due.", [(label, every_minutes * 60)]),
        ("runs_total", "counter", "Runs on this host.", [(label, state.runs)]),
        ("failures_total", "counter", "Runs on this host that failed.", [(label, state.failures)]),
        ("last_run_timestamp_seconds", "gauge", "When this host last looked for a backup.", [(label, state.last_run)]),
        ("last_run_success", "gauge", "Whether that run found or saved one, and copied what it saved.",
         [(label, int(state.last_run_success))]),
    ]  # fmt: skip
    copies = {target: f'{label},target="{_escaped(target)}"' for target in sorted(state.copies)}
    rows += [
        ("copy_success", "gauge", "Whether the last copy to this target succeeded.",
         [(copies[target], int(state.copies[target].get("success", 0))) for target in copies]),
        ("copy_last_success_timestamp_seconds", "gauge", "When this host last copied a backup to this target.",
         [(copies[target], state.copies[target].get("time", 0)) for target in copies]),
    ]  # fmt: skip
    lines = []
    for name, kind, meaning, samples in rows:
        if samples:
            lines += [f"# HELP {_NAME}{name} {meaning}", f"# TYPE {_NAME}{name} {kind}"]
            lines += [f"{_NAME}{name}{{{labels}}} {value:.17g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def write(folder: str, content: str) -> None:
    """Replace the file of the metrics; node_exporter, which is not root, reads it at any time."""
    _replace(os.path.join(folder, FILE), content, 0o644)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _replace(path: str, content: str, mode: int) -> None:
    # node_exporter reads what ends in ".prom" only.
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    os.replace(new, path)
    sync(os.path.dirname(path))
