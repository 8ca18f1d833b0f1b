# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop static pods of a control plane so that they stay stopped, and let them start again.

The manifest is moved out of the kubelet's folder, and what still runs is ended through the container runtime. The
kubelet stands still meanwhile: it looks at its folder once in a while only, and would start a container again that
ended. A host that loses its power comes back with the pods stopped, because their manifests are not there.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import step
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

API_SERVER = "kube-apiserver"
# In this order they are stopped: what writes first, what it writes to last.
COMPONENTS = (API_SERVER, "kube-controller-manager", "kube-scheduler", "etcd")
MANIFESTS = "/etc/kubernetes/manifests"
# On the same disk, so that a manifest moves in one step; not below the folder, of which the kubelet reads all files.
HELD = "/etc/kubernetes/kubewright-held"
KUBELET = "kubelet.service"

# What the kubelet itself gives a static pod to end (terminationGracePeriodSeconds), in seconds.
GRACE = 30

# After its shutdown delay an API server listens no more, has sent every client elsewhere, and waits for watches that
# nobody ends: measured until the runtime kills it. What is no watch gets this many seconds.
_LAST_ANSWERS = 10

# Units of systemd that start the kubelet when the process ends that has stopped it, with its id and a number.
_GUARD = "kubewright-kubelet-guard"
_GUARDS = itertools.count()

_ASK = 30.0  # seconds, for one question to the container runtime
_BUSY = 60.0  # seconds, for what systemd does

_DELAY = re.compile(r"--shutdown-delay-duration=[\"']?([^\s\"']+)")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def api_server_seconds(manifest: str) -> int:
    """Return how long an API server may take to end; one with a delay in fractions gets what any pod gets."""
    written = _DELAY.search(manifest)
    delay = written[1] if written else "0s"
    if not re.fullmatch(r"([0-9]+[hms])+", delay):
        return GRACE
    parts = re.findall(r"([0-9]+)([hms])", delay)
    return _LAST_ANSWERS + sum(int(number) * _SECONDS[unit] for number, unit in parts)


@dataclass(frozen=True)
class Pod:
    """One component of this host. `place` is V(placed), V(held), V(both) or empty; `sandboxes` are of the runtime."""

    component: str
    place: str
    containers: tuple[str, ...] = ()
    sandboxes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """`move` are components whose manifest moves, `end` those of which something runs."""

    move: tuple[str, ...]
    end: tuple[Pod, ...]
    kubelet: str

    @property
    def changed(self) -> bool:
        return bool(self.move or self.end or self.kubelet)


def places(components: Sequence[str], manifests: str = MANIFESTS, held: str = HELD) -> dict[str, str]:
    """Say of each component where its manifest is."""
    found = {}
    for name in components:
        there = {
            "placed": os.path.exists(os.path.join(manifests, f"{name}.yaml")),
            "held": os.path.exists(os.path.join(held, f"{name}.yaml")),
        }
        names = [place for place, is_there in there.items() if is_there]
        found[name] = "both" if len(names) > 1 else "".join(names)
    return found


def plan_stop(pods: Sequence[Pod], *, kubelet_runs: bool) -> Plan:
    """The kubelet is stopped only where there is anything to stop: a host without a control plane is left alone."""
    move = tuple(one.component for one in pods if one.place in ("placed", "both"))
    return replace(plan_end(pods, kubelet_runs=kubelet_runs), move=move)


def plan_end(pods: Sequence[Pod], *, kubelet_runs: bool) -> Plan:
    """Their manifests stay where they are, so that the kubelet starts them when it starts itself."""
    end = tuple(one for one in pods if one.containers or one.sandboxes)
    held = any(one.place for one in pods)
    return Plan((), end, "stop" if kubelet_runs and (end or held) else "")


def plan_start(pods: Sequence[Pod], *, kubelet_runs: bool) -> Plan:
    """A manifest that is in its place stays; the kubelet reads the folder when it starts."""
    twice = [one.component for one in pods if one.place == "both"]
    if twice:
        raise KubewrightError(
            f"There are two manifests of {', '.join(twice)}",
            where=f"{MANIFESTS} and {HELD}",
            why="somebody made one while the other was held back",
            remedy="Compare them, remove the one that is not wanted, and run again",
        )
    move = tuple(one.component for one in pods if one.place == "held")
    missing = [one.component for one in pods if not one.place]
    if missing:
        raise KubewrightError(
            f"There is no manifest of {', '.join(missing)}",
            where=MANIFESTS,
            remedy="This host is no control plane, or kubeadm did not finish here: reset it with the playbook "
            "reset.yml and --limit, and let site.yml join it",
        )
    return Plan(move, (), "restart" if move or not kubelet_runs else "")


def need_restored(data_dir: str, marker: str, token: str) -> None:
    """Refuse to start an etcd without the data that was restored: it could begin a new, empty cluster."""
    path = os.path.join(data_dir, "member", marker)
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream).get("token")
    except (OSError, ValueError, AttributeError):
        found = None
    if found != token:
        raise KubewrightError(
            "etcd is not started, because its data is not what was restored",
            where=path,
            why=f"the restore {token} is wanted, and {found or 'none'} is there",
            remedy="Run restore.yml again: it restores this member, or says what is wrong",
        )


def end_in_order(runner: Runner, deadline: Deadline, components: Sequence[str]) -> None:
    """Stop the kubelet, and end these pods one after the other; their manifests stay. Who calls it starts the kubelet.

    Many manifests that the kubelet meets at once end many pods at once, etcd before the API server has told anybody
    that it goes. Where one does not end, the kubelet is started again.
    """
    switch = Switch(runner, deadline)
    planned = plan_end(switch.look(components), kubelet_runs=switch.kubelet_runs())
    if planned.kubelet:
        stop_kubelet(runner)
    try:
        switch.stop(replace(planned, kubelet=""), components, GRACE)
    except KubewrightError:
        # Where this is the only control plane, the next run would find no cluster that answers, and not come so far.
        start_kubelet(runner)
        raise


def stop_kubelet(runner: Runner) -> None:
    """Stop the kubelet for a moment; the containers run on. If this process is killed, systemd starts it again.

    Nobody would come to do that: the next run is refused by a kubelet that does not run, and a control plane that is
    the only one would stay down.
    """
    watch = ["tail", f"--pid={os.getpid()}", "--sleep-interval=0.3", "--follow", "/dev/null"]
    unit = [
        f"--unit={_GUARD}-{os.getpid()}-{next(_GUARDS)}",
        f"--property=ExecStopPost=systemctl start {KUBELET}",
    ]
    runner.run(["systemd-run", "--quiet", "--collect", *unit, *watch], timeout=_BUSY)
    runner.run(["systemctl", "stop", KUBELET], timeout=_BUSY)


def start_kubelet(runner: Runner) -> None:
    """Start the kubelet where it does not run; one that does not come up is seen by who waits for it."""
    runner.run(["systemctl", "start", KUBELET], check=False, timeout=_BUSY)
    # Otherwise it would start the kubelet when this process ends, which somebody else may have stopped by then.
    runner.run(["systemctl", "stop", f"{_GUARD}-{os.getpid()}-*.service"], check=False, timeout=_BUSY)


class Switch:
    """Looks at the static pods of this host, stops and starts them."""

    def __init__(
        self, runner: Runner, deadline: Deadline, *, manifests: str = MANIFESTS, held: str = HELD
    ) -> None:
        self._runner = runner
        self._deadline = deadline
        self._manifests = manifests
        self._held = held

    def look(self, components: Sequence[str]) -> list[Pod]:
        """Ask the container runtime, not the API: it answers while there is none."""
        where = places(components, self._manifests, self._held)
        return [
            Pod(name, where[name], tuple(self._ids("ps", name)), tuple(self._ids("pods", name)))
            for name in components
        ]

    def _ids(self, what: str, component: str) -> list[str]:
        if what == "ps":
            argv = ["crictl", "ps", "--label", f"io.kubernetes.container.name={component}", "--output=json"]
            return [item["id"] for item in self._items(argv, "containers")]
        argv = [
            "crictl",
            "pods",
            "--namespace=kube-system",
            f"--label=component={component}",
            "--output=json",
        ]
        return [item["id"] for item in self._items(argv, "items")]

    def _items(self, argv: list[str], key: str) -> list[dict[str, Any]]:
        return self._runner.json(argv, timeout=_ASK).get(key) or []

    def kubelet_runs(self) -> bool:
        """Tell whether the kubelet runs, or is about to."""
        argv = ["systemctl", "show", "--property=ActiveState", "--value", KUBELET]
        state = self._runner.run(argv, check=False, timeout=_BUSY, asks=True).stdout.strip()
        return state not in ("inactive", "failed", "")

    def stop(self, planned: Plan, components: Sequence[str], grace: int) -> None:
        """Stop them in their order. Killed anywhere, it can be run again."""
        if planned.kubelet:
            self._runner.run(["systemctl", "stop", KUBELET], timeout=_BUSY)
        for name in planned.move:
            self._move(name, self._manifests, self._held)
        for pod in planned.end:
            self._end(pod, grace)

        def ended() -> bool:
            left = [one for one in self.look(components) if one.containers or one.sandboxes]
            for one in left:
                self._end(one, grace)
            return not left

        wait_for(ended, self._deadline, what=f"{', '.join(components)} to end on this host")

    def start(self, planned: Plan) -> None:
        """Put the manifests back, and let the kubelet read them."""
        for name in planned.move:
            self._move(name, self._held, self._manifests)
        if planned.kubelet:
            self._runner.run(["systemctl", "enable", KUBELET], timeout=_BUSY)
            self._runner.run(["systemctl", "restart", KUBELET], timeout=_BUSY)

    def _move(self, component: str, source: str, target: str) -> None:
        name = f"{component}.yaml"
        try:
            with step("write", os.path.join(target, name)):
                if not os.path.isdir(target):
                    os.mkdir(target, 0o700)
                    sync(os.path.dirname(target))
                os.rename(os.path.join(source, name), os.path.join(target, name))
                # First where it is now: after a power failure it may be in both places, never in none.
                sync(target)
                sync(source)
        except OSError as error:
            raise KubewrightError(
                f"The manifest of {component} cannot be moved",
                where=str(error.filename or target),
                why=error.strerror or str(error),
            ) from error

    def _manifest(self, component: str) -> str:
        for folder in (self._manifests, self._held):
            with (
                suppress(OSError),
                open(os.path.join(folder, f"{component}.yaml"), encoding="utf-8") as stream,
            ):
                return stream.read()
        return ""

    def _end(self, pod: Pod, grace: int) -> None:
        if pod.component == API_SERVER:
            grace = min(grace, api_server_seconds(self._manifest(API_SERVER)))
        # What has ended or is gone meanwhile is no error; that all of it is gone is looked at afterwards.
        for container in pod.containers:
            self._runner.run(
                ["crictl", "stop", f"--timeout={grace}", container], check=False, timeout=grace + _ASK
            )
        for sandbox in pod.sandboxes:
            self._runner.run(["crictl", "stopp", sandbox], check=False, timeout=grace + _ASK)
            self._runner.run(["crictl", "rmp", "--force", sandbox], check=False, timeout=grace + _ASK)
