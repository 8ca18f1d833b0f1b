# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Back a cluster up from one of its control planes: save, pack, encrypt, verify, keep, copy, tell.

PRIVATE to the collection: this interface can change in any release.

Everything happens in `.saving-backup` below the folder, which only root may enter. What gets a name there was verified
before. A run that is killed leaves nothing but that folder, which the next one removes; its claim goes with its lease.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_copy as copying
from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_metrics as metrics
from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_seal as sealing
from ansible_collections.kubewright.cluster.plugins.module_utils._backup_bundle import (
    SNAPSHOT,
    Backup,
    backups,
    digest,
    digests,
    inspect,
    name_at,
    outdated,
    pack,
    pattern,
    write_record,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._backup_files import chosen
from ansible_collections.kubewright.cluster.plugins.module_utils._backup_turn import (
    LEASE,
    Last,
    NoTurn,
    Turn,
    is_done,
    wait_for_turn,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._durable import make_folder, sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, EtcdCtl, Member
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_snapshot import (
    SPARE,
    Saver,
    Wanted,
    check_room,
    choose,
    holding,
    lent,
    serving,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import RECORD, saved_time

WORK = ".saving-backup"
# What the cluster says of itself; all of it is in the snapshot too, where only etcd can read it.
CONFIG_MAPS = ("kubeadm-config", "kubelet-config", "kube-proxy", "coredns")

_NUMBERS: dict[str, Callable[[Any], float]] = {
    "every_minutes": int, "timeout": int, "keep": int, "keep_days": float,
}  # fmt: skip
_NO_ROOM = "etcd has run out of space (NOSPACE) and refuses every write"
_MAKE_ROOM = "Make room there and disarm the alarm, as the module etcd_member does with state=disarmed"


@dataclass(frozen=True)
class Settings:
    """What the role wrote. `recipient` is an age recipient, or the file of a GPG key; `copies` are targets."""

    cluster: str
    host: str
    folder: str
    endpoints: tuple[str, ...]
    ca_cert: str
    client_cert: str
    client_key: str
    every_minutes: int = 360
    timeout: int = 1800
    keep: int = 0
    keep_days: float = 0
    encryption: str = ""
    recipient: str = ""
    copies: tuple[copying.Target, ...] = ()
    ssh_key: str = ""
    known_hosts: str = ""
    textfile_folder: str = ""
    state: str = "/var/lib/kubewright/backup.json"
    kubernetes: str = "/etc/kubernetes"
    extra_paths: tuple[str, ...] = ()
    etcdctl: str = "/usr/local/bin/etcdctl"
    kubectl: str = "kubectl"


@dataclass
class Result:
    """What a run did. `backup` is None where another host's is the one of this slot; `found` is then that one."""

    backup: Backup | None = None
    found: Last | None = None
    pruned: list[str] = field(default_factory=list)
    copies: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0

    def as_dict(self) -> dict[str, Any]:
        """As the program prints it."""
        told = asdict(self)
        if self.backup:
            told["backup"]["saved_at"] = self.backup.saved_at
        return told


def read_settings(path: str) -> Settings:
    """Read what the role wrote."""
    try:
        with open(path, encoding="utf-8") as stream:
            told = json.load(stream)
        targets = tuple(copying.Target(**one) for one in told.pop("copies", []))
        lists = {key: tuple(told[key]) for key in ("endpoints", "extra_paths") if key in told}
        # Before ansible-core 2.19 a template in a dictionary makes a text of every number.
        numbers = {key: kind(told[key]) for key, kind in _NUMBERS.items() if key in told}
        return Settings(**{**told, **lists, **numbers, "copies": targets})
    except (OSError, ValueError, TypeError) as error:
        raise KubewrightError(
            "The settings of the backup cannot be read",
            where=path,
            why=getattr(error, "strerror", "") or str(error),
            remedy="Run the playbook backup.yml, which writes them",
        ) from error


class Program:
    """Everything that a run does, with its surroundings injected."""

    def __init__(self, settings: Settings, runner: Runner, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._runner = runner
        self._now = now

    def run(self, *, scheduled: bool, wait: float = 0) -> Result:
        """Save, or see that another host did in this slot; tell the metrics either way.

        On demand, *wait* is how long another one that saves is waited for.
        """
        begun = time.monotonic()
        state = metrics.read_state(self._settings.state)
        result = Result()
        failed = True
        try:
            self._run(result, state, scheduled=scheduled, wait=wait)
            result.seconds = round(time.monotonic() - begun, 1)
            if result.backup:
                state.duration = result.seconds
            failed = any(not copy["copied"] for copy in result.copies)
            return result
        finally:
            state.runs += 1
            state.failures += failed
            state.last_run = self._now()
            state.last_run_success = not failed
            self._tell(state, result)

    def _run(self, result: Result, state: metrics.State, *, scheduled: bool, wait: float) -> None:
        settings = self._settings
        self._check_certificates()
        files = chosen(settings.kubernetes, settings.extra_paths)
        # A first look, before anybody waits for this host: what cannot work is said by every host in every slot.
        client, etcd = self._observe()
        choose(etcd)
        voters = sorted(serving(etcd), key=lambda one: not one.is_leader)
        voices = client.at([url for one in voters for url in one.client_urls])
        if _has_room(etcd):
            turn = Turn(voices, self._runner, settings.host)
        elif scheduled:
            raise KubewrightError(
                "The control planes cannot agree on who saves",
                why=_NO_ROOM,
                remedy=f"{_MAKE_ROOM}. Until then `kubewright-backup save` saves all the same",
            )
        else:
            turn = NoTurn(voices, self._runner, settings.host)
            result.warnings.append(f"The other hosts were not told of this backup: {_NO_ROOM}. {_MAKE_ROOM}")
        # A saver that hangs is given up by itself, and then it is another one's turn.
        patience = Deadline(settings.timeout + 2 * LEASE if scheduled else wait)
        found = wait_for_turn(turn, settings.every_minutes if scheduled else 0, patience, self._now)
        if found:
            result.found = found
            self._learn(state, found)
            return
        try:
            # It may have been long until it was this host's turn.
            deadline = Deadline(settings.timeout)
            member = choose(client.observe())
            backup = self._save(client, member, files, deadline, result)
            result.backup = backup
            last = Last(
                settings.host,
                os.path.basename(backup.path),
                saved_time(backup.snapshot),
                backup.size,
                backup.sha256,
                backup.snapshot.revision,
            )
            self._learn(state, last)
            try:
                turn.publish(last)
            except KubewrightError as error:
                result.warnings.append(f"The other hosts were not told of this backup: {error}")
            # The claim stays, so that no two hosts thin one target out at once.
            self._copy(backup, result, state, deadline)
        finally:
            turn.release()

    def plan(self) -> dict[str, Any]:
        """Say what a run would do now, and change nothing."""
        settings = self._settings
        self._check_certificates()
        chosen(settings.kubernetes, settings.extra_paths)
        client, etcd = self._observe()
        member = choose(etcd)
        check_room(settings.folder, _needed(member))
        turn = Turn(client, self._runner, settings.host)
        last = turn.last()
        there = backups(settings.folder, settings.cluster)
        return {
            "member": member.name,
            "revision": member.revision,
            "db_size": member.db_size,
            "holder": turn.holder(),
            "last": asdict(last) if last else None,
            "due": not is_done(last, self._now(), settings.every_minutes),
            "backups": [one.path for one in there],
        }

    def check(self, max_age: float) -> Last:
        """Return the newest backup of the cluster, or say that it is too old."""
        client, _etcd = self._observe()
        last = Turn(client, self._runner, self._settings.host).last()
        age = self._now() - last.saved_at if last else 0
        if last is None or age > max_age:
            raise KubewrightError(
                f"The newest backup of {self._settings.cluster} is {age / 3600:.1f} hours old"
                if last
                else f"There is no backup of {self._settings.cluster} that etcd knows of",
                where=f"{last.host}:{last.file}" if last else "",
                remedy="Look at journalctl -u kubewright-backup on the control planes",
            )
        return last

    def _check_certificates(self) -> None:
        for path in (self._settings.ca_cert, self._settings.client_cert, self._settings.client_key):
            if not os.access(path, os.R_OK):
                raise KubewrightError(
                    "A certificate for etcd cannot be read",
                    where=path,
                    remedy="This host has to be a control plane of the cluster, and the program has to run as root",
                )

    def _observe(self) -> tuple[EtcdCtl, Etcd]:
        settings = self._settings
        client = EtcdCtl(
            self._runner,
            list(settings.endpoints),
            settings.ca_cert,
            settings.client_cert,
            settings.client_key,
            settings.etcdctl,
        )
        return client, client.observe()

    def _wait_for_a_name(self) -> None:
        """Let the second end in which another run has saved: the names of backups have no fractions."""
        settings = self._settings
        for _tenth in range(11):
            name = name_at(settings.cluster, self._now(), settings.encryption)
            if not os.path.lexists(os.path.join(settings.folder, name)):
                return
            time.sleep(0.1)

    def _save(
        self, client: EtcdCtl, member: Member, files: Iterable[str], deadline: Deadline, result: Result
    ) -> Backup:
        """Return the new backup, verified, under its name."""
        settings = self._settings
        with holding(settings.folder, "backup"), lent(os.path.join(settings.folder, WORK)) as work:
            sealing.check(settings.encryption, settings.recipient, _home(work))
            check_room(settings.folder, _needed(member))
            known = digests(files)
            self._wait_for_a_name()
            saver = Saver(client, self._runner, deadline)
            snapshot = saver.save(Wanted(work, settings.cluster), member, self._now)
            name = name_at(settings.cluster, saved_time(snapshot), settings.encryption)
            final = os.path.join(settings.folder, name)
            if os.path.lexists(final):
                raise KubewrightError(
                    "There is a backup of this very second", where=final, remedy="Run again"
                )
            documents = self._documents(result)
            path = os.path.join(work, name)
            names: list[str] = []
            sealing.seal(
                path,
                sealing.argv(settings.encryption, settings.recipient, _home(work))
                if settings.encryption
                else [],
                lambda stream: names.extend(pack(stream, snapshot, known, documents)),
                max(1.0, deadline.remaining()),
            )
            backup = Backup(
                final,
                os.path.getsize(path),
                digest(path),
                settings.encryption,
                settings.host,
                replace(snapshot, path=SNAPSHOT),
                tuple(names),
            )
            if not settings.encryption:
                inspect(path, backup)
            write_record(backup, path + RECORD)
            # The record first: a backup that has its name has its record.
            os.rename(path + RECORD, final + RECORD)
            os.rename(path, final)
            sync(settings.folder)
            result.pruned = self._prune()
            return backup

    def _documents(self, result: Result) -> dict[str, bytes]:
        """Read what the cluster says of itself; an API server that is down is no reason to save nothing."""
        argv = [
            self._settings.kubectl,
            f"--kubeconfig={self._settings.kubernetes}/admin.conf",
            "--request-timeout=10s",
            "--namespace=kube-system",
            "get",
            "configmaps",
            *CONFIG_MAPS,
            "--ignore-not-found",
            "--output=json",
        ]
        try:
            told = self._runner.json(argv, timeout=30)
            return {
                f"{one['metadata']['name']}.json": json.dumps(one, indent=1).encode() for one in told["items"]
            }
        except (CommandError, KeyError, TypeError) as error:
            why = error.why if isinstance(error, CommandError) else "it did not answer with a list"
            result.warnings.append(f"The API server was not asked for its configuration: {why}")
            return {}

    def _prune(self) -> list[str]:
        """Remove old backups; the file first, so that no file without its record is left to look like one."""
        settings = self._settings
        there = backups(settings.folder, settings.cluster)
        gone = outdated(there, keep=settings.keep, keep_days=settings.keep_days, now=self._now())
        for backup in gone:
            for path in (backup.path, backup.path + RECORD):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        # A killed run can leave a record alone, from between the two names.
        for name in os.listdir(settings.folder):
            whole = os.path.join(settings.folder, name[: -len(RECORD)])
            if name.endswith(RECORD) and pattern(settings.cluster).match(name[: -len(RECORD)]):
                with contextlib.suppress(FileNotFoundError):
                    if not os.path.lexists(whole):
                        os.unlink(whole + RECORD)
        sync(settings.folder)
        return [one.path for one in gone]

    def _copy(self, backup: Backup, result: Result, state: metrics.State, deadline: Deadline) -> None:
        """Copy to all targets; one that fails keeps neither the others from it nor the backup from being one."""
        settings = self._settings
        access = copying.Access(settings.ssh_key, settings.known_hosts)
        for target in settings.copies:
            told: dict[str, Any] = {"target": str(target), "copied": True, "pruned": [], "msg": ""}
            try:
                told["pruned"] = copying.copy(backup, settings.cluster, target, access, deadline)
            except KubewrightError as error:
                told.update(copied=False, msg=str(error))
            result.copies.append(told)
            before = state.copies.get(str(target), {}).get("time", 0)
            state.copies[str(target)] = {
                "success": int(told["copied"]),
                "time": self._now() if told["copied"] else before,
            }
        known = {str(target) for target in settings.copies}
        state.copies = {target: told for target, told in state.copies.items() if target in known}

    @staticmethod
    def _learn(state: metrics.State, last: Last) -> None:
        state.last_success, state.size, state.revision = last.saved_at, last.size, last.revision

    def _tell(self, state: metrics.State, result: Result) -> None:
        """Keep the state and write the metrics; where that fails, the backup is one all the same."""
        settings = self._settings
        try:
            make_folder(os.path.dirname(settings.state))
            metrics.write_state(settings.state, state)
            if settings.textfile_folder:
                metrics.write(
                    settings.textfile_folder, metrics.text(state, settings.cluster, settings.every_minutes)
                )
        except OSError as error:
            result.warnings.append(
                f"The metrics were not written to {error.filename or settings.textfile_folder}: {error.strerror}"
            )


def _has_room(etcd: Etcd) -> bool:
    """Tell whether etcd takes writes. One alarm refuses them all, even that of a member which is gone."""
    raised = [*(one.alarms for one in etcd.members), *etcd.stale_alarms.values()]
    return not any("NOSPACE" in alarms for alarms in raised)


def _needed(member: Member) -> int:
    """The snapshot, and the archive of it, are there at one time."""
    return int((member.db_size or 0) * (SPARE + 1))


def _home(work: str) -> str:
    """A folder of GPG's own, which goes with the rest."""
    home = os.path.join(work, "gnupg")
    os.makedirs(home, mode=0o700, exist_ok=True)
    return home
