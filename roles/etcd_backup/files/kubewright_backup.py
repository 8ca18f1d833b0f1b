# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Back this cluster up, on a control plane and without Ansible.

    kubewright-backup run      what the timer starts: save, unless another control plane saves in this slot
    kubewright-backup save     save now
    kubewright-backup plan     say what there is and what would be done
    kubewright-backup check    fail where the newest backup is too old
    kubewright-backup list     the backups on this host
    kubewright-backup verify   read those backups again and compare them with their records

The role etcd_backup writes the settings and installs what this program imports.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import Any

# The modules import each other by the collection's name, so that they lie below it.
sys.path.insert(0, os.environ.get("KUBEWRIGHT_LIBRARY", "/usr/local/lib/kubewright"))

from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_run as backup
from ansible_collections.kubewright.cluster.plugins.module_utils._backup_bundle import (
    backups,
    verify,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner


def run_command(argv: list[str], **options: Any) -> tuple[int, str, str]:
    """Run a program as AnsibleModule would."""
    data = options.get("data")
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **options.get("environ_update", {})},
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(data)
    except BaseException:
        # Whoever is stopped leaves nobody behind who goes on writing.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, stdout, stderr


def stop(number: int, _frame: Any) -> None:
    """End in an orderly way: what is half done is removed, and the claim is given back."""
    sys.exit(f"The backup was stopped by signal {number}")


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="kubewright-backup", description="Backups of this cluster.")
    parser.add_argument("--settings", default="/etc/kubewright/backup.json", help="what the role wrote")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="save, unless another control plane saves in this slot")
    save = commands.add_parser("save", help="save now")
    save.add_argument("--wait", type=float, default=0, help="seconds to wait for another one that saves")
    commands.add_parser("plan", help="say what there is and what would be done")
    check = commands.add_parser("check", help="fail where the newest backup is too old")
    check.add_argument("--hours", type=float, help="how old it may be; by default two intervals")
    commands.add_parser("list", help="the backups on this host")
    commands.add_parser("verify", help="compare the backups on this host with their records")
    return parser.parse_args(words)


def act(words: argparse.Namespace) -> tuple[dict[str, Any], str, bool]:
    """Return the result, one line about it, and whether all went well."""
    settings = backup.read_settings(words.settings)
    program = backup.Program(settings, Runner(run_command))
    if words.command in ("run", "save"):
        result = program.run(scheduled=words.command == "run", wait=getattr(words, "wait", 0))
        return result.as_dict(), told(result), all(copy["copied"] for copy in result.copies)
    if words.command == "plan":
        plan = program.plan()
        return plan, f"Would save revision {plan['revision']} from {plan['member']}", True
    if words.command == "check":
        hours = settings.every_minutes / 30 if words.hours is None else words.hours
        last = program.check(hours * 3600)
        return asdict(last), f"The newest backup is {last.host}:{last.file}", True
    there = backups(settings.folder, settings.cluster)
    if words.command == "verify":
        for one in there:
            verify(one.path, one)
    lines = "\n".join(f"{one.path} revision {one.snapshot.revision} {one.size} bytes" for one in there)
    return {"backups": [asdict(one) for one in there]}, lines or "There is no backup on this host", True


def told(result: backup.Result) -> str:
    """One line for the journal, and one for each thing that went wrong."""
    lines = [*result.warnings, *(copy["msg"] for copy in result.copies if not copy["copied"])]
    if result.found:
        lines.insert(0, f"The backup of this slot is {result.found.host}:{result.found.file}")
    if result.backup:
        one = result.backup
        copies = [copy["target"] for copy in result.copies if copy["copied"]]
        lines.insert(
            0,
            f"Saved {one.path}: revision {one.snapshot.revision}, {one.size} bytes, {result.seconds:g} s"
            + (f", copied to {', '.join(copies)}" if copies else ""),
        )
    return "\n".join(lines)


def main() -> int:
    """Run one command."""
    words = parse(sys.argv[1:])
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        result, line, good = act(words)
    except KubewrightError as error:
        if words.json:
            print(json.dumps({"msg": str(error)}))
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result) if words.json else line)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
