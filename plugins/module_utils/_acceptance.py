# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that a cluster works: a pod on every node, every pod reaches the others and a Service by its name.

The pods run agnhost's ``netexec``, which answers ``/hostname`` and, on ``/dial``, sends a request of its own
to where it is told. The API server's pod proxy carries the orders, so that the API is all one has to reach.
How netexec answers (Kubernetes, test/images/agnhost/netexec): status 200 and JSON as ``text/plain`` with
``responses`` or ``errors``; status 400 when the name of the host cannot be resolved.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._acceptance_objects import (
    NAME,
    NAMESPACE_SELECTOR,
    POD_PORT,
    SERVICE_PORT,
    objects,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._drain import is_ready as is_node_ready
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._pods import (
    is_ready,
    last_messages,
    pod_node,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

LEFTOVER_AGE = timedelta(hours=1)
REMOVAL_SECONDS = 30.0
EVERY_PAIR_UP_TO = 10  # nodes; 90 dials
RANDOM_TARGETS = 3
THREADS = 8
NOT_FOUND = 404
BAD_REQUEST = 400
SOURCES = "{sources}"  # in a problem: where the names of all the nodes that have it come


@dataclass(frozen=True)
class Options:
    """What the user asked for. Times are in seconds; no ``nodes`` means all that are Ready."""

    image: str
    nodes: tuple[str, ...]
    dns_domain: str
    timeout: float
    settle: float


@dataclass(frozen=True)
class Observed:
    """``nodes`` maps names to whether they are Ready; ``leftovers`` are namespaces of interrupted runs."""

    nodes: dict[str, bool]
    leftovers: list[str]


@dataclass(frozen=True)
class Plan:
    """What a run will do. ``dials`` are pairs of node names: from whose pod, to whose pod."""

    namespace: str
    image: str
    nodes: list[str]
    not_ready_nodes: list[str]
    leftovers: list[str]
    dials: list[tuple[str, str]]


@dataclass
class Report:
    """What a run found. The lists of dicts are what the module returns."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    network: list[dict[str, Any]] = field(default_factory=list)
    services: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def result(self) -> dict[str, Any]:
        """Return the keys of the module's result."""
        values = asdict(self)
        del values["warnings"]
        return {"passed": not self.failures, **values}

    def summary(self) -> str:
        """Return the message of a failed check."""
        count = len(self.failures)
        more = (
            f" There {'is 1 more' if count == 2 else f'are {count - 1} more'} in failures."
            if count > 1
            else ""
        )
        return f"The cluster did not pass the acceptance check. {self.failures[0]}{more}"


# --- observe -----------------------------------------------------------------------------------------------


def observe(api: KubeApi, now: datetime | None = None) -> Observed:
    """Read the nodes, and the namespaces that interrupted runs left behind."""
    oldest = (now or datetime.now(timezone.utc)) - LEFTOVER_AGE
    nodes = {node["metadata"]["name"]: is_node_ready(node) for node in api.list("/api/v1/nodes")}
    namespaces = api.list("/api/v1/namespaces", labelSelector=NAMESPACE_SELECTOR)
    return Observed(
        nodes=nodes, leftovers=[item["metadata"]["name"] for item in namespaces if _is_old(item, oldest)]
    )


def _is_old(namespace: dict[str, Any], oldest: datetime) -> bool:
    metadata = namespace["metadata"]
    created = datetime.strptime(metadata["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(
        tzinfo=timezone.utc
    )
    return created < oldest and not metadata.get("deletionTimestamp")


# --- plan: pure --------------------------------------------------------------------------------------------


def plan(observed: Observed, options: Options, suffix: str, chance: random.Random) -> Plan:
    """Decide where pods must run and who dials whom. Nodes that were asked for may become Ready yet."""
    unknown = [name for name in options.nodes if name not in observed.nodes]
    if unknown:
        raise KubewrightError(
            "The acceptance check is asked for nodes that the cluster does not have",
            where=", ".join(unknown),
            remedy="Join them first, or correct their names",
        )
    not_ready = sorted(name for name, ready in observed.nodes.items() if not ready)
    nodes = sorted(set(options.nodes)) or [name for name in sorted(observed.nodes) if observed.nodes[name]]
    if not nodes:
        raise KubewrightError(
            "There is nothing to check",
            why="no node is Ready",
            remedy="Look at the kubelet and the pod network of the nodes first",
        )
    return Plan(
        namespace=f"{NAME}-{suffix}",
        image=options.image,
        nodes=nodes,
        not_ready_nodes=not_ready,
        leftovers=observed.leftovers,
        dials=pairs(nodes, chance),
    )


def pairs(nodes: list[str], chance: random.Random) -> list[tuple[str, str]]:
    """Return every ordered pair in a small cluster; in a large one a ring and some random others for each."""
    if len(nodes) <= EVERY_PAIR_UP_TO:
        return [(source, target) for source in nodes for target in nodes if source != target]
    found = []
    for at, source in enumerate(nodes):
        neighbour = nodes[(at + 1) % len(nodes)]
        others = [node for node in nodes if node not in (source, neighbour)]
        found += [(source, target) for target in [neighbour, *chance.sample(others, RANDOM_TARGETS)]]
    return found


# --- apply -------------------------------------------------------------------------------------------------


def execute(
    api: KubeApi,
    planned: Plan,
    options: Options,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Run the check, and remove its namespace whatever happens. Failures are in the report, not raised."""
    report = Report()
    begin = clock()
    check = _Check(api, planned, options, report, clock, sleep)
    try:
        check.remove_leftovers()
        check.create()
        check.wait_for_pods()
        check.dial()
    except KubewrightError as error:
        report.failures.append(str(error))
    finally:
        check.remove_namespace()
        report.seconds = round(clock() - begin, 1)
    return report


@dataclass(frozen=True)
class _Pod:
    name: str
    node: str
    ip: str


@dataclass(frozen=True)
class _Dial:
    """One thing to reach: ``to`` is a node or a DNS name, ``answer`` how the answering host name begins."""

    source: _Pod
    to: str
    host: str
    port: int
    answer: str
    is_service: bool = False


@dataclass(frozen=True)
class _Outcome:
    """What came of a dial; ``problem`` and ``remedy`` are the parts of a sentence, empty when all is well."""

    dial: _Dial
    attempts: int
    error: str = ""
    problem: str = ""
    remedy: str = ""


class _Check:
    def __init__(
        self,
        api: KubeApi,
        planned: Plan,
        options: Options,
        report: Report,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._api = api
        self._plan = planned
        self._options = options
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._begin = clock()
        self._end = self._deadline(options.timeout)
        self._core = f"/api/v1/namespaces/{planned.namespace}"
        self._ready: dict[str, _Pod] = {}

    def _deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, clock=self._clock, sleep=self._sleep)

    def create(self) -> None:
        for path, body in objects(self._plan.namespace, self._plan.image, self._plan.nodes):

            def applied(path: str = path, body: dict[str, Any] = body) -> Any:
                return self._api.apply(path, body)

            wait_for(applied, self._end, what=f"the API server to take {path}")

    def wait_for_pods(self) -> None:
        """Find the ready pods; a node that has none when the time is over is a failure, not an exception."""
        pods: list[dict[str, Any]] = []
        seconds: dict[str, float] = {}

        def all_ready() -> bool:
            pods[:] = self._api.list(f"{self._core}/pods")
            self._ready = {pod.node: pod for pod in filter(None, map(_ready_pod, pods))}
            for node in self._ready:
                seconds.setdefault(node, round(self._clock() - self._begin, 1))
            return all(node in self._ready for node in self._plan.nodes)

        try:
            wait_for(all_ready, self._end, what="a ready pod on every node")
        except DeadlineExpired:
            events = self._events()
            self._report.failures += [
                missing_pod(node, self._plan.image, pods, events, self._options.timeout)
                for node in self._plan.nodes
                if node not in self._ready
            ]
        for node in self._plan.nodes:
            found = self._ready.get(node)
            self._report.nodes.append(
                {
                    "node": node,
                    "pod": found.name if found else None,
                    "ip": found.ip if found else None,
                    "seconds_to_ready": seconds[node] if found else None,
                }
            )

    def dial(self) -> None:
        """Reach everything from every ready pod, with what is left of the time, but at least ``settle``."""
        end = self._deadline(max(self._end.remaining(), self._options.settle))
        service = f"{NAME}.{self._plan.namespace}.svc.{self._options.dns_domain}"
        # The dot at the end keeps the search list out, which would ask for four other names first.
        dials = [
            _Dial(pod, service, f"{service}.", SERVICE_PORT, f"{NAME}-", is_service=True)
            for _, pod in sorted(self._ready.items())
        ]
        for source, target in self._plan.dials:
            if source in self._ready and target in self._ready:
                pod = self._ready[target]
                dials.append(_Dial(self._ready[source], target, pod.ip, POD_PORT, pod.name))
        with ThreadPoolExecutor(THREADS) as pool:
            outcomes = list(pool.map(lambda dial: self._dial(dial, end), dials))
        for outcome in outcomes:
            entry = {"from": outcome.dial.source.node, "ok": not outcome.error, "error": outcome.error}
            entry["attempts"] = outcome.attempts
            if outcome.dial.is_service:
                self._report.services.append({**entry, "name": outcome.dial.to})
            else:
                self._report.network.append({**entry, "to": outcome.dial.to})
        self._report.failures += failed_dials(outcomes)

    def remove_leftovers(self) -> None:
        for name in self._plan.leftovers:
            try:
                self._api.delete(f"/api/v1/namespaces/{name}")
            except ApiError as error:
                if error.status != NOT_FOUND:
                    self._report.warnings.append(
                        f"Namespace {name} of an earlier check could not be removed: {error}"
                    )

    def remove_namespace(self) -> None:
        """Delete the namespace, and wait a little for its end; a later run removes what stays."""

        def gone() -> bool:
            try:
                namespace = self._api.get(self._core)
                if not namespace["metadata"].get("deletionTimestamp"):
                    self._api.delete(self._core)
            except ApiError as error:
                if error.status == NOT_FOUND:
                    return True
                raise
            return False

        try:
            wait_for(
                gone, self._deadline(REMOVAL_SECONDS), what=f"the end of namespace {self._plan.namespace}"
            )
        except KubewrightError as error:
            self._report.warnings.append(str(error))

    def _dial(self, dial: _Dial, end: Deadline) -> _Outcome:
        if end.expired:
            return _Outcome(dial, 0, "no time was left to try", _unreached(dial), "Give the check more time")
        deadline = self._deadline(min(self._options.settle, end.remaining()))
        attempts = 0
        while True:
            attempts += 1
            try:
                self._ask(dial)
                return _Outcome(dial, attempts)
            except KubewrightError as error:
                if deadline.expired or not error.transient:
                    return _Outcome(dial, attempts, error.why, error.what, error.remedy)
            deadline.sleep(1)

    def _ask(self, dial: _Dial) -> None:
        """Let the pod send one request; raise what is wrong with the answer."""
        node = dial.source.node
        path = f"{self._core}/pods/http:{dial.source.name}:{POD_PORT}/proxy/dial"
        query = {"host": dial.host, "port": dial.port, "request": "hostname", "protocol": "http", "tries": 1}
        try:
            error = dial_error(self._api.request("GET", path, query=query), dial.answer)
        except ApiError as refused:
            if refused.status != BAD_REQUEST:
                raise KubewrightError(
                    f"The API server could not use the pod on node {node}",
                    why=refused.why,
                    remedy=(
                        f"Look at the pod network between this control plane and node {node}: "
                        "the CNI's pods on both, and what filters packets between them"
                    ),
                    transient=refused.transient,
                ) from refused
            error = refused.why
        if error:
            raise KubewrightError(_unreached(dial), why=error, remedy=_remedy(dial, error), transient=True)

    def _events(self) -> list[dict[str, Any]]:
        """Return the events of the namespace; they only explain, so that their absence is no failure."""
        try:
            return self._api.list(f"{self._core}/events")
        except KubewrightError as error:
            self._report.warnings.append(f"The events could not be read: {error}")
            return []


# --- reading what the API says: pure -----------------------------------------------------------------------


def dial_error(answer: Any, begin: str) -> str:
    """Return what is wrong with the answer of ``/dial``, or "" when the host name that answered begins so."""
    if isinstance(answer, str):
        try:
            answer = json.loads(answer)
        except ValueError:
            return f"the answer is not JSON: {answer[:200]}"
    if not isinstance(answer, dict):
        return f"the answer is not a JSON object: {str(answer)[:200]}"
    responses = answer.get("responses") or []
    if not responses:
        return "; ".join(map(str, answer.get("errors") or ["no response"]))
    if not str(responses[0]).startswith(begin):
        return f"{responses[0]!r} answered in place of {begin!r}"
    return ""


def missing_pod(
    node: str, image: str, pods: list[dict[str, Any]], events: list[dict[str, Any]], seconds: float
) -> str:
    """Return a sentence on why this node has no ready pod, and what to look at."""
    own = [pod for pod in pods if pod_node(pod) == node]
    involved = {pod["metadata"]["name"] for pod in own} or {NAME}
    reasons = [reason for pod in own for reason in _pod_reasons(pod)]
    reasons += last_messages(events, involved)
    if not own:
        reasons.insert(0, "the DaemonSet made no pod for it")
    text = "; ".join(dict.fromkeys(reasons)) or "nothing tells why"
    if "ImagePull" in text or "ErrImage" in text:
        remedy = f"Make sure that the node can pull {image}, or name another image"
    elif "sandbox" in text.lower():
        remedy = "Look at the CNI's pod on this node and at the journal of containerd"
    else:
        remedy = "Look at the journals of kubelet and containerd on this node"
    return f"Node {node} had no ready pod after {seconds:g} seconds: {text.rstrip('.')}. {remedy}."


def failed_dials(outcomes: list[_Outcome]) -> list[str]:
    """Return one sentence for each problem, with all the nodes that had it."""
    groups: dict[tuple[str, str], list[_Outcome]] = {}
    for outcome in outcomes:
        if outcome.error:
            groups.setdefault((outcome.problem, outcome.remedy), []).append(outcome)
    sentences = []
    for (problem, remedy), group in groups.items():
        sources = ", ".join(dict.fromkeys(outcome.dial.source.node for outcome in group))
        sentences.append(f"{problem.replace(SOURCES, sources)}: {group[0].error.rstrip('.')}. {remedy}.")
    return sentences


def _unreached(dial: _Dial) -> str:
    what = f"Service {dial.to}" if dial.is_service else f"The pod on node {dial.to} ({dial.host})"
    return f"{what} was not reached from {SOURCES}"


def _remedy(dial: _Dial, error: str) -> str:
    if not dial.is_service:
        return (
            f"Look at the CNI's pods on node {dial.to} and on those that do not reach it, "
            "and at what filters packets between them"
        )
    if "lookup" in error:  # Go's resolver begins its errors with it
        return (
            "Look at CoreDNS (kubectl -n kube-system get pods -l k8s-app=kube-dns -o wide) and the way to it"
        )
    return "Look at kube-proxy, or at what stands in for it, on the nodes that do not reach it"


def _ready_pod(pod: dict[str, Any]) -> _Pod | None:
    metadata, address = pod["metadata"], (pod.get("status") or {}).get("podIP")
    if not address or not is_ready(pod):
        return None
    return _Pod(metadata["name"], pod["spec"]["nodeName"], address)


def _pod_reasons(pod: dict[str, Any]) -> list[str]:
    status = pod.get("status") or {}
    reasons = []
    for entry in status.get("conditions") or []:
        if entry["type"] == "PodScheduled" and entry["status"] != "True":
            reasons.append(f"{entry.get('reason')}: {entry.get('message')}")
    for container in status.get("containerStatuses") or []:
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            for kind in ("waiting", "terminated"):
                if kind in state:
                    reasons.append(": ".join(filter(None, map(state[kind].get, ("reason", "message")))))
    return list(filter(None, reasons)) or [f"the pod is {status.get('phase') or 'unknown'}"]
