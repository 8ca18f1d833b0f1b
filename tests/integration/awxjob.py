"""Jobs of AWX without AWX: a project is synced, and ansible-runner runs a private data directory, both as AWX does it.

AWX writes project/, requirements_collections/, inventory/hosts as a program, and env/ with the answers of a survey as
texts that are no templates, the key of the machine credential and what to say when ssh-add asks for its passphrase.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from labtools import ROOT

from lab import nodes

# What AWX lets ansible-runner answer.
ASKS_PASSPHRASE = r"Enter passphrase for .*:\s*?$"
PASSPHRASE = "no key of AWX is without one"
LONGEST = 3600
DATA = ROOT / "awx"


class _Unsafe(str):
    """A text that is no template, as AWX marks every answer."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style="'")
)


class _Loader(yaml.SafeLoader):
    """Reads !unsafe as the text under it."""


_Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def data(name: str) -> list[dict[str, Any]]:
    """Return a list of awx/, such as controller_templates, whichever file has it."""
    for path in sorted(DATA.glob("*.yml")):
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        if name in found:
            return list(found[name])
    raise LookupError(f"awx/ has no {name}")


def template(playbook: str) -> dict[str, Any]:
    """Return the job template of a playbook."""
    [found] = [one for one in data("controller_templates") if one["playbook"] == f"playbooks/{playbook}.yml"]
    return found


def checkout(project: Path) -> None:
    """Copy what is in version control, or is going to be, as a clone has it."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(argv, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in names:
        source, target = ROOT / name, project / name
        if name and (source.is_symlink() or source.is_file()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def described(inventory: Path) -> dict[str, Any]:
    """Return an inventory as an inventory source of AWX imports it."""
    argv = ["ansible-inventory", "-i", str(inventory), "--list", "--export"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=True, text=True)
    return dict(json.loads(done.stdout))


@dataclass
class Job:
    """A private data directory. `inside` is where the run sees it: elsewhere, when it is in a container."""

    folder: Path
    inside: str = ""
    # The user that runs the job; nobody says root where it matters.
    user: int | None = None
    # The folder with the programs of Ansible.
    programs: str = ""
    # A container has the number in its name.
    number: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.inside = self.inside or str(self.folder)
        for name in ("project", "requirements_collections", "inventory", "env", "artifacts", "cp", "home"):
            (self.folder / name).mkdir(mode=0o700, parents=True)

    def path(self, *found: str) -> str:
        """Return PATH with the programs of the job first."""
        return os.pathsep.join([word for word in (self.programs, *found) if word] + ["/usr/bin", "/bin"])

    def own(self) -> None:
        """Give the whole folder to the user of the job."""
        if self.user is not None:
            for path in (self.folder, *self.folder.rglob("*")):
                # A connection that nobody used for a while takes its socket away.
                with suppress(FileNotFoundError):
                    os.chown(path, self.user, self.user, follow_symlinks=False)

    def call(self, argv: list[str], env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command as the user of the job, with nobody at the keyboard."""
        who = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        return subprocess.run(
            argv,
            cwd=cwd,
            env={"LANG": "C.UTF-8", **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            **who,
        )

    def sync(self) -> str:
        """Bring the project, and what its collections/requirements.yml asks for; return what ansible-galaxy said."""
        project, stage = self.folder / "project", self.folder / "stage"
        checkout(project)
        stage.mkdir()
        self.own()
        env = {
            "PATH": self.path(os.environ["PATH"]),
            "HOME": str(stage),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "requirements_collections"),
            "ANSIBLE_LOCAL_TEMP": str(stage / "tmp"),
        }
        argv = ["ansible-galaxy", "collection", "install", "-r", f"{project}/collections/requirements.yml"]
        done = self.call(argv, env, project)
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.rmtree(stage)
        return done.stdout

    def bring_inventory(self, found: dict[str, Any]) -> None:
        """Write the inventory as AWX does: a program that prints it."""
        program = self.folder / "inventory" / "hosts"
        program.write_text(
            f"#! /usr/bin/env python3\n# -*- coding: utf-8 -*-\nprint({json.dumps(found)!r})\n"
        )
        program.chmod(0o700)

    def bring_key(self, key: Path) -> None:
        """Write a copy of a key as the machine credential's, with a passphrase that ansible-runner has to give."""
        target = self.folder / "env" / "ssh_key"
        shutil.copy(key, target)
        target.chmod(0o600)
        argv = ["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSPHRASE, "-f", str(target)]
        subprocess.run(argv, check=True, capture_output=True)
        (self.folder / "env" / "passwords").write_text(yaml.safe_dump({ASKS_PASSPHRASE: PASSPHRASE}))

    def run(
        self, playbook: str, answers: Mapping[str, Any] | None = None, *options: str, **settings: Any
    ) -> Run:
        """Run a playbook of the project with the answers of a survey, by ansible-runner."""
        self.number += 1
        number = str(self.number)
        env = self.folder / "env"
        extra = {"awx_job_id": self.number, "awx_job_launch_type": "manual", **(answers or {})}
        marked = {key: _Unsafe(value) if isinstance(value, str) else value for key, value in extra.items()}
        (env / "extravars").write_text(yaml.dump(marked, Dumper=_Dumper))
        (env / "cmdline").write_text(shlex.join(["-u", "kubewright", *options]))
        (env / "settings").write_text(
            json.dumps({"job_timeout": LONGEST, "suppress_ansible_output": True, **settings})
        )
        places = ["requirements_collections", "project/.ansible/collections"]
        (env / "envvars").write_text(
            yaml.safe_dump(
                {
                    "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(
                        [f"{self.inside}/{place}" for place in places] + ["/usr/share/ansible/collections"]
                    ),
                    "ANSIBLE_FORCE_COLOR": "0",
                    "ANSIBLE_NOCOLOR": "1",
                    "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{self.inside}/cp",
                    "ANSIBLE_RETRY_FILES_ENABLED": "False",
                    "JOB_ID": number,
                }
            )
        )
        self.own()
        argv = ["ansible-runner", "run", str(self.folder), "--ident", number, "-p", playbook]
        surroundings = {"PATH": self.path(os.environ["PATH"]), "HOME": str(self.folder / "home")}
        done = self.call(argv, surroundings, self.folder)
        return Run(self.folder / "artifacts" / number, done.returncode, done.stdout + done.stderr)


@dataclass
class Run:
    """What ansible-runner kept of a run."""

    artifacts: Path
    code: int
    said: str

    def __post_init__(self) -> None:
        stdout = self.artifacts / "stdout"
        if stdout.exists():
            self.said = stdout.read_text(encoding="utf-8", errors="replace") + self.said

    @property
    def line(self) -> str:
        """What was printed, in one line: Ansible wraps its lines."""
        return " ".join(self.said.split())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the data of the events of a kind, in their order."""
        found = [json.loads(path.read_text()) for path in self.artifacts.glob("job_events/*.json")]
        found.sort(key=lambda one: one["counter"])
        return [one["event_data"] for one in found if one["event"] == name]

    def totals(self) -> dict[str, dict[str, int]]:
        """Return the counts of the end: ok, changed, failures and so on, each by host."""
        [stats] = self.events("playbook_on_stats")
        return {key: value for key, value in stats.items() if isinstance(value, dict)}

    def seconds(self) -> float:
        """Return how long the playbook ran."""
        times = [datetime.fromisoformat(one["end"]) for one in self.events("runner_on_ok") if one.get("end")]
        return (max(times) - min(times)).total_seconds()


def bring_lab(job: Job, inventory: Path = ROOT / "inventories/lab") -> None:
    """Give a job the lab's hosts and the key to them, as its inventory and its machine credential."""
    found = described(inventory)
    known = job.folder / "known_hosts"
    shutil.copy(nodes.KNOWN_HOSTS, known)
    options = (
        f"-o UserKnownHostsFile={job.inside}/known_hosts -o StrictHostKeyChecking=yes -o ConnectTimeout=5"
    )
    places = [one.get("vars", {}) for one in found.values() if isinstance(one, dict)]
    for variables in (*places, *found["_meta"]["hostvars"].values()):
        # The key is the credential's; nothing of the machine that the lab is on is there in a job.
        for name in ("ansible_ssh_private_key_file", "lab_state"):
            variables.pop(name, None)
        if "ansible_ssh_common_args" in variables:
            variables["ansible_ssh_common_args"] = options
            # ansible-runner switches it off, and a variable switches it on again: docs/awx.md.
            variables["ansible_ssh_host_key_checking"] = True
    job.bring_inventory(found)
    job.bring_key(nodes.KEY)
