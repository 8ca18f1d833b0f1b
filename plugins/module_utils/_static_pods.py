# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move the static pods of one host to new manifests, one at a time, and back when one does not come up.

The container runtime, not the API, is asked what runs: it answers while the API server is the pod that
restarts. The id of a static pod is a digest of its manifest, so that the containers of the new one have
another id than those of the old one.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import GuardedFile, Unproven
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

MANIFESTS = Path("/etc/kubernetes/manifests")

# A component that ends by itself this often does not like its arguments. Once can be bad luck, such as an
# etcd that was not there at that moment.
_CRASHES = 2
_LOG_LINES = 20
_TIMEOUT = 30.0  # seconds, for one call of crictl
_PROBE_TIMEOUT = 3.0  # seconds
_OK = 200


Pod = Mapping[str, Any]
Check = Callable[[], bool]


@dataclass(frozen=True)
class Container:
    """One container of a component; ``made`` is in Unix seconds."""

    id: str
    pod: str
    running: bool
    made: float


@dataclass(frozen=True)
class Change:
    """A new manifest, *text*, of a component; *old* and *new* are what the old one and it say."""

    file: GuardedFile
    component: str
    old: Pod
    new: Pod
    text: str
    healthy: Check = lambda: True


class StaticPods:
    """The static pods of this host. *deadline* begins the time that one of them may take."""

    def __init__(
        self,
        runner: Runner,
        deadline: Callable[[], Deadline],
        *,
        answers: Callable[[str], bool] | None = None,
    ) -> None:
        self._runner = runner
        self._deadline = deadline
        self._answers = answers or url_answers

    def containers(self, component: str) -> list[Container]:
        """Return the containers of a component, the newest first."""
        words = ["crictl", "ps", "--all", "--label", f"io.kubernetes.container.name={component}"]
        return parse_containers(self._runner.json([*words, "--output=json"], timeout=_TIMEOUT))

    def running_since(self, component: str) -> float | None:
        """Return when the running container of a component was made, None when none runs."""
        return next((one.made for one in self.containers(component) if one.running), None)

    def running_pod(self, component: str) -> str:
        """Return the id of the pod in which a component runs, empty when none does."""
        return next((one.pod for one in self._look(component) if one.running), "")

    def serves(self, pod: Pod) -> bool:
        """Ask a component once, as the kubelet's probe does."""
        return self._answers(probe_url(pod))

    def last_lines(self, component: str) -> list[str]:
        """Return what the newest container of a component said last."""
        newest = next(iter(self.containers(component)), None)
        return self._log(newest.id) if newest else []

    def replace(self, change: Change) -> None:
        """Let a component run by a new manifest; put the old one back if it does not serve."""
        self.replace_together([change], lambda: None)

    def replace_together(self, changes: Sequence[Change], turn_over: Callable[[], None]) -> None:
        """Put all manifests in place, call *turn_over*, and see every component serve by its own, the last one first.

        One that does not serve gets its old manifest back, and so do those before it.
        """
        proofs = [self._proofs(change) for change in changes]

        def place(number: int) -> None:
            if number == len(changes):
                turn_over()
                return
            prove, restore = proofs[number]

            def others_then_this() -> None:
                place(number + 1)
                prove()

            changes[number].file.replace(changes[number].text, others_then_this, restore)

        place(0)

    def _proofs(self, change: Change) -> tuple[Callable[[], None], Callable[[], None]]:
        """Return what waits for a component by its new manifest, and what waits for it by the old one."""
        component = change.component
        before = self.containers(component)
        known = {one.id for one in before}
        old = before[0].pod if before else ""
        # The old manifest makes the old pod again, with the id that it had. Where an earlier run was stopped, the
        # pod of before is one that it tried, and nobody knows the old one's id: it is one that nobody tried.
        in_doubt = change.file.in_doubt
        tried: set[str] = set()

        def is_new(one: Container) -> bool:
            if one.id not in known:
                tried.add(one.pod)
            return one.pod != old

        def is_old(one: Container) -> bool:
            return one.pod not in tried if in_doubt or not old else one.pod == old

        return (
            lambda: self._wait(component, change.new, change.healthy, known, is_new),
            lambda: self._wait(component, change.old, change.healthy, known, is_old),
        )

    def prove(self, file: GuardedFile, component: str, pod: Pod, healthy: Check) -> None:
        """See a manifest work that an earlier run put in place; put the old one back if it does not."""
        known = {one.id for one in self.containers(component) if not one.running}

        def wait() -> None:
            self._wait(component, pod, healthy, known, lambda _one: True)

        file.prove(wait, wait)

    def restart(self, component: str, pod: Pod, healthy: Check, grace: int = 30) -> None:
        """End the running container of *component*, and see the next one serve; the manifest stays as it is."""
        before = self.containers(component)
        known = {one.id for one in before}
        for one in before:
            if one.running:
                argv = ["crictl", "stop", f"--timeout={grace}", one.id]
                self._runner.run(argv, timeout=grace + _TIMEOUT)
        self._wait(component, pod, healthy, set(known), lambda one: one.id not in known)

    def _wait(
        self,
        component: str,
        pod: Pod,
        healthy: Check,
        known: set[str],
        counts: Callable[[Container], bool],
    ) -> None:
        """Wait until a container that counts runs and serves. The *known* ones ended for other reasons.

        Those that end meanwhile are known afterwards: what comes next is not to blame for them.
        """
        url = probe_url(pod)
        # The kubelet keeps one dead container only, so they are counted over all looks.
        ended: list[str] = []
        newest = ""

        def serves() -> bool:
            nonlocal newest
            mine = [one for one in self._look(component) if counts(one)]
            newest = mine[0].id if mine else newest
            ended.extend(one.id for one in mine if not one.running and one.id not in known)
            known.update(ended)
            if len(ended) >= _CRASHES:
                raise self._failure(component, ended[-1], "it ended by itself again and again")
            if not mine or not mine[0].running or not self._answers(url):
                raise KubewrightError(
                    f"{component} does not answer",
                    where=url,
                    why="" if mine else "the kubelet has made no container for the manifest yet",
                    transient=True,
                )
            if not healthy():
                raise KubewrightError(f"{component} answers, but is not healthy", transient=True)
            return True

        try:
            wait_for(serves, self._deadline(), what=f"{component} to serve on this host")
        except Unproven:
            raise
        except KubewrightError as error:
            raise self._failure(component, newest, str(error)) from error

    def _look(self, component: str) -> list[Container]:
        """Ask the container runtime, which is busy at times: then this is no answer yet."""
        try:
            return self.containers(component)
        except CommandError as error:
            error.transient = True
            raise

    def _failure(self, component: str, container: str, why: str) -> Unproven:
        lines = self._log(container) if container else []
        said = f". Its last lines: {' | '.join(lines[-3:])}" if lines else ""
        return Unproven(
            f"{component} does not come up with its new settings",
            why=f"{why}{said}",
            component=component,
            log=lines,
        )

    def _log(self, container: str) -> list[str]:
        argv = ["crictl", "logs", f"--tail={_LOG_LINES}", container]
        done = self._runner.run(argv, check=False, timeout=_TIMEOUT)
        return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-_LOG_LINES:]


def parse_containers(document: Mapping[str, Any]) -> list[Container]:
    """Read ``crictl ps --output=json``; createdAt is in nanoseconds."""
    found = [
        Container(
            id=item["id"],
            pod=(item.get("labels") or {}).get("io.kubernetes.pod.uid", ""),
            running=item.get("state") == "CONTAINER_RUNNING",
            made=int(item.get("createdAt") or 0) / 1e9,
        )
        for item in document.get("containers") or []
    ]
    return sorted(found, key=lambda one: one.made, reverse=True)


def probe_url(pod: Pod) -> str:
    """Return the address that the kubelet itself asks whether the component works."""
    container = pod["spec"]["containers"][0]
    get = (container.get("readinessProbe") or container["livenessProbe"])["httpGet"]
    ports = {item.get("name"): item["containerPort"] for item in container.get("ports") or []}
    port = ports.get(get["port"], get["port"])
    host = get.get("host") or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"{get.get('scheme', 'HTTP').lower()}://{host}:{port}{get.get('path', '/')}"


def url_answers(url: str) -> bool:
    """Ask like the kubelet's probes do: without credentials, and without verifying the certificate."""
    scheme, _separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    connection: http.client.HTTPConnection
    if scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(authority, timeout=_PROBE_TIMEOUT, context=context)
    else:
        connection = http.client.HTTPConnection(authority, timeout=_PROBE_TIMEOUT)
    try:
        connection.request("GET", slash + path)
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
