# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down what nobody else tells Prometheus of this host: when its certificates end, which units of systemd have
failed, and how full etcd's disk is.

A timer runs it. It needs to read keys' neighbours and kubeconfigs, so it runs as root, without a network; the door,
which is nobody in particular, reads what it wrote.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

# The modules import each other by the collection's name, so that they lie below it.
sys.path.insert(0, os.environ.get("KUBEWRIGHT_LIBRARY", "/usr/local/lib/kubewright"))

from ansible_collections.kubewright.cluster.plugins.module_utils._host_certificates import (
    certificate,
    certificates,
)

FILE = "kubewright_host.prom"
OWN = "etc/kubewright/metrics-door/*.crt"
ETCD_DATA = "var/lib/etcd"
FAILED_UNITS = ["systemctl", "list-units", "--state=failed", "--all", "--plain", "--no-legend", "--no-pager"]


def text(root: Path, now: datetime, failed: list[str]) -> str:
    """Return the metrics of the host below *root*, which is / but in tests; *failed* are units of systemd."""
    found = certificates(root, now)
    found += [
        certificate(f"/{file.relative_to(root)}", file.read_bytes(), now) for file in sorted(root.glob(OWN))
    ]
    # A kubeconfig may hold several certificates; the one that ends first counts.
    ends: dict[str, dict[str, Any]] = {}
    for one in found:
        known = ends.get(one["path"])
        if known is None or one["error"] or (not known["error"] and one["not_after"] < known["not_after"]):
            ends[one["path"]] = one
    families = [
        (
            "kubewright_certificate_expiry_timestamp_seconds",
            "When the certificate ends.",
            [
                (f'path="{escaped(path)}",subject="{escaped(one["subject"])}"', seconds(one["not_after"]))
                for path, one in ends.items()
                if not one["error"]
            ],
        ),
        (
            "kubewright_certificate_unreadable",
            "Whether the certificate cannot be read.",
            [(f'path="{escaped(path)}"', int(bool(one["error"]))) for path, one in ends.items()],
        ),
    ]
    families.append(
        (
            "kubewright_unit_failed",
            "Units that systemd has given up.",
            [(f'unit="{escaped(unit)}"', 1) for unit in failed],
        )
    )
    if (root / ETCD_DATA).is_dir():
        disk = os.statvfs(root / ETCD_DATA)
        label = f'path="/{ETCD_DATA}"'
        families += [
            (
                "kubewright_disk_size_bytes",
                "The size of the filesystem.",
                [(label, disk.f_blocks * disk.f_frsize)],
            ),
            (
                "kubewright_disk_available_bytes",
                "What is free on it.",
                [(label, disk.f_bavail * disk.f_frsize)],
            ),
        ]
    lines = []
    for name, meaning, samples in families:
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
        lines += [f"{name}{{{labels}}} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def failed_units() -> list[str]:
    """Ask systemd; nothing where it does not answer, as in a container without it."""
    try:
        done = subprocess.run(FAILED_UNITS, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return (
        [line.split()[0] for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
    )


def seconds(moment: str) -> int:
    parsed = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return int(parsed.timestamp())


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def write(folder: str, content: str) -> None:
    """Replace the file; a reader finds the old one or the new one."""
    path = os.path.join(folder, FILE)
    new = f"{path}.new"
    with open(new, "w", encoding="utf-8") as stream:
        stream.write(content)
        os.fchmod(stream.fileno(), 0o644)
    os.replace(new, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the metrics of this host.")
    parser.add_argument("folder", help="where the file goes")
    parser.add_argument("--root", default="/", help="the host, other than / only in tests")
    words = parser.parse_args(argv)
    write(words.folder, text(Path(words.root), datetime.now(timezone.utc), failed_units()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
