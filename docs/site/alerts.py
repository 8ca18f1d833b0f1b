# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints docs/alerts.md, which says of every alert what the rules say of it:

python3 docs/site/alerts.py >docs/alerts.md
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).resolve().parents[2] / "roles/kube_monitoring/files/rules"
TITLES = {
    "general": "General",
    "control_plane": "Control plane",
    "etcd": "etcd",
    "nodes": "Nodes",
    "hosts": "Certificates, backups, load balancer",
    "workloads": "Workloads and volumes",
    "monitoring": "Monitoring itself",
    "logging": "Logging",
}
HEAD = """\
# Alerts

Every alert of [monitoring](monitoring.md), with when it fires, who is told and what to do. This page is made from the
rules, which are files in Prometheus' own format in
[roles/kube_monitoring/files/rules](../roles/kube_monitoring/files/rules), by `python3 docs/site/alerts.py`; a test
keeps both the same. Each alert is tested with a case in which it fires and one in which it is quiet.

**Severity.** `critical`: somebody has to act now. `warning`: somebody has to act, during the day. `none`: the
dead-man's switch, which always fires.

**Owner.** `platform`: who runs the cluster. `workloads`: who deployed what is in the namespace. Receivers are chosen by
both: [monitoring](monitoring.md#who-is-told).

Left out on purpose: alerts that cannot fire with kubeadm's settings (etcd's latency by gRPC method needs
`--metrics=extensive`), and those on client certificates that the API server sees, because certificates of people may be
short-lived; the ones on the disks are watched instead.
"""


def plain(text: str) -> str:
    """Show what stands for a value as words of the label's name."""
    text = re.sub(r"\{\{\s*\$labels\.(\w+)\s*\}\}", r"*\1*", text)
    return re.sub(r"\{\{\s*\$value[^}]*\}\}", "*value*", text).replace("|", "\\|")


def wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def section(title: str, rules: list[dict[str, Any]]) -> Iterator[str]:
    yield f"## {title}"
    for rule in rules:
        labels, notes = rule["labels"], rule["annotations"]
        window = f", {labels['window']}" if "window" in labels else ""
        yield ""
        yield f"### {rule['alert']} ({labels['severity']}{window})"
        yield ""
        yield from wrapped(plain(notes["description"]))
        yield ""
        yield from wrapped(f"- To do: {plain(notes['runbook'])}", "  ")
        yield f"- For {rule.get('for', 'no time')}, owner `{labels['owner']}`"
        yield ""
        yield "```text"
        yield from rule["expr"].strip().splitlines()
        yield "```"


def page() -> str:
    """The page, a section for each file in the order of the titles."""
    parts = [HEAD]
    for name, title in TITLES.items():
        groups = yaml.safe_load((RULES / f"{name}.yaml").read_text(encoding="utf-8"))["groups"]
        rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
        parts.append("\n".join(section(title, rules)) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
