# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose turn it is to save: an agreement of all control planes in etcd itself.

PRIVATE to the collection: this interface can change in any release.

    /kubewright.cluster/backup/claim    who saves now; bound to a lease, so that it goes when the saver dies
    /kubewright.cluster/backup/last     the newest backup: who has it, and when it was saved

Time is cut into slots that are the same for every host, counted from midnight UTC. All timers fire in a slot, and one
host saves. The worst that a wrong clock or a lost lease does is one backup too many.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import NOT_STARTED, Completed, Runner

PREFIX = "/kubewright.cluster/backup/"
CLAIM, LAST = f"{PREFIX}claim", f"{PREFIX}last"
# Seconds until the claim of a saver that died is gone. It is renewed three times in that time.
LEASE = 30
# Seconds that a clock may be ahead. What was saved later than that was not saved.
SKEW = 600
# Seconds in which etcd has to answer one question, whatever a single member does.
PATIENCE = 30

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}\Z")


@dataclass(frozen=True)
class Last:
    """The newest backup of the cluster. `saved_at` is Unix time, `size` is in bytes."""

    host: str
    file: str
    saved_at: float
    size: int
    sha256: str
    revision: int


def slot(now: float, minutes: int) -> int:
    """Return the number of the slot that a time is in. Unix time begins at midnight UTC."""
    return int(now // (minutes * 60))


def is_done(last: Last | None, now: float, minutes: int) -> bool:
    """Tell whether the backup of this slot is there. One from the future says that a clock was wrong."""
    return (
        last is not None
        and last.saved_at <= now + SKEW
        and slot(last.saved_at, minutes) >= slot(now, minutes)
    )


def parse_last(text: str) -> Last | None:
    """Read the record; None for what is none."""
    try:
        told = json.loads(text)
        return Last(
            str(told["host"]), str(told["file"]), float(told["saved_at"]), int(told["size"]), str(told["sha256"]),
            int(told["revision"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return None


class Turn:
    """The agreement, as one host sees it. `client` asks members that are healthy."""

    def __init__(
        self,
        client: EtcdCtl,
        runner: Runner,
        host: str,
        make_deadline: Callable[[float], Deadline] = Deadline,
    ) -> None:
        if not _HOST.match(host):
            raise KubewrightError(f"{host!r} cannot be the name of a host in a claim")
        self._client = client
        self._runner = runner
        self._host = host
        self._make_deadline = make_deadline
        self._lease = ""
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None

    def last(self) -> Last | None:
        """Return the newest backup of the cluster, as far as etcd knows."""
        return parse_last(self._get(LAST))

    def holder(self) -> str:
        """Return who saves now, empty for nobody."""
        return self._get(CLAIM).split(" ")[0]

    def claim(self) -> bool:
        """Become the one who saves; False where somebody is it already."""
        if not self._lease:
            granted = json.loads(self._ask("lease", "grant", str(LEASE), "--write-out=json"))
            self._lease = format(int(granted["ID"]), "x")
        mine = f"{self._host} {self._lease}"
        # An answer can be lost on its way, so that the second try finds the claim of the first.
        text = f'create("{CLAIM}") = "0"\n\nput --lease={self._lease} {CLAIM} "{mine}"\n\n\n'
        if "FAILURE" in self._ask("txn", stdin=text) and self._get(CLAIM) != mine:
            # Nobody renews a lease without a claim: the next try needs one that is still there.
            self.release()
            return False
        self._stop.clear()
        self._renewer = threading.Thread(target=self._renew, daemon=True)
        self._renewer.start()
        return True

    def publish(self, last: Last) -> None:
        """Tell all hosts of a new backup."""
        self._ask("put", LAST, stdin=json.dumps(asdict(last), separators=(",", ":")))

    def release(self) -> None:
        """Let the next one save. What etcd does not hear now, it forgets with the lease."""
        self._stop.set()
        if self._renewer:
            self._renewer.join()
            self._renewer = None
        lease, self._lease = self._lease, ""
        if lease:
            with contextlib.suppress(CommandError):
                self._call("lease", "revoke", lease)

    def _renew(self) -> None:
        while not self._stop.wait(LEASE / 3):
            # One that etcd did not hear is followed by the next, which is early enough.
            with contextlib.suppress(CommandError):
                self._call("lease", "keep-alive", "--once", self._lease)

    def _get(self, key: str) -> str:
        return self._ask("get", key, "--print-value-only").strip()

    def _call(self, *words: str, stdin: str | None = None) -> Completed:
        # Only a question for the log of the run: what is a step is the backup, and these go on all the time.
        argv = self._client.argv(*words, command_timeout=4)
        return self._runner.run(argv, check=False, timeout=8, stdin=stdin, asks=True)

    def _ask(self, *words: str, stdin: str | None = None) -> str:
        """Return an answer; a member that hangs, or an election, costs a second try."""

        def answered() -> tuple[str] | None:
            try:
                done = self._call(*words, stdin=stdin)
            except CommandError as error:
                error.transient = error.rc != NOT_STARTED
                raise
            if done.rc == 0:
                return (done.stdout,)
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise KubewrightError(_said(lines[-1] if lines else ""), transient=True)

        what = f"etcd to answer about {PREFIX}"
        return wait_for(answered, self._make_deadline(PATIENCE), what=what, interval=1)[0]


class NoTurn(Turn):
    """Without any agreement: etcd without room (NOSPACE) grants no lease and stores nothing."""

    def claim(self) -> bool:
        return True

    def publish(self, last: Last) -> None:
        """Tell nobody."""


def _said(line: str) -> str:
    """Return what etcdctl means: it logs as JSON, and the cause is one of the fields."""
    try:
        told: Any = json.loads(line)
        return str(told.get("error") or told.get("msg") or line)
    except (ValueError, AttributeError):
        return line or "etcdctl said nothing"


def wait_for_turn(
    turn: Turn,
    minutes: int,
    deadline: Deadline,
    now: Callable[[], float] = time.time,
) -> Last | None:
    """Wait until this slot's backup is there, and return it; None when this host is the one to save.

    With 0 minutes no earlier backup counts: this host saves as soon as nobody else does.
    """
    holder = ""

    def decided() -> tuple[Last | None] | None:
        nonlocal holder
        last = turn.last() if minutes else None
        if minutes and is_done(last, now(), minutes):
            return (last,)
        if not turn.claim():
            holder = turn.holder()
            return None
        # Between the look and the claim the one who held it may have ended.
        last = turn.last() if minutes else None
        if minutes and is_done(last, now(), minutes):
            turn.release()
            return (last,)
        return (None,)

    try:
        return wait_for(decided, deadline, what="the turn to save", interval=2)[0]
    except KubewrightError as error:
        if not holder or error.what.startswith("Gave up waiting for etcd"):
            raise
        raise KubewrightError(
            f"{holder} is saving a backup of this cluster now",
            where=CLAIM,
            why=f"it was not ready after {deadline.seconds:g} seconds" if deadline.seconds else "",
            remedy=f"Wait until it has ended. If {holder} is dead, its claim goes {LEASE} seconds after it",
        ) from error
