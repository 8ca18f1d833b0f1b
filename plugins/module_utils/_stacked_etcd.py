# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the etcd that runs as a static pod of this control plane: its image, or its log, one restart at a time.

Every restart keeps a quorum, takes the leadership away first, is seen to work, and is taken back if it does not. The
manifest is changed as text, a line at a time, because kubeadm compares it with what it would write itself.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_info import image_version
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, EtcdCtl, Member
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_member import Operator, Wanted, find
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_member import plan as plan_member
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_service import (
    flag,
    may_restart,
    newest_snapshot,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import STATE, GuardedFile
from ansible_collections.kubewright.cluster.plugins.module_utils._held_pods import (
    API_SERVER,
    end_in_order,
    start_kubelet,
    stop_kubelet,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kubectl_yaml import Translator
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_diff import command, image
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import (
    MANIFESTS,
    Change,
    StaticPods,
)

ETCD = "etcd"

# With it a member saves a snapshot of its log after every entry, and begins a new one.
EVERY_ENTRY = "--snapshot-count=1"

_IMAGE = re.compile(r"^(\s*image:\s*[\"']?\S+:)[^\s\"':/]+(?=[\"']?\s*$)", re.MULTILINE)


def with_image_tag(text: str, tag: str) -> str:
    """Return a manifest that runs another tag of the same image."""
    changed, count = _IMAGE.subn(rf"\g<1>{tag}", text, count=1)
    if not count:
        raise KubewrightError(
            "The manifest names its image without a tag",
            remedy="Name the image of etcd by a tag, as kubeadm does",
        )
    return changed


def without_argument(text: str, argument: str) -> str:
    """Return a manifest whose program does not get an argument."""
    return re.sub(rf"^\s*-\s+{re.escape(argument)}$\n", "", text, flags=re.MULTILINE)


def with_argument(text: str, program: str, argument: str) -> str:
    """Return a manifest whose program gets one argument more, in place of one of the same name."""
    name = re.escape(argument.partition("=")[0])
    rest = re.sub(rf"^\s*-\s+[\"']?{name}(=.*)?$\n", "", text, flags=re.MULTILINE)
    changed, count = re.subn(
        rf"^([ ]*- ){re.escape(program)}$\n", rf"\g<0>\g<1>{argument}\n", rest, count=1, flags=re.MULTILINE
    )
    if not count:
        raise KubewrightError(
            f"The manifest does not begin its command with {program}",
            remedy="Give it the layout again that kubeadm writes",
        )
    return changed


def etcd_servers(text: str) -> list[str]:
    """Return the endpoints that an API server's manifest names."""
    match = re.search(r"^\s*-\s+[\"']?--etcd-servers=([^\s\"']*)", text, re.MULTILINE)
    return [url for url in match[1].split(",") if url] if match else []


@dataclass(frozen=True)
class Wishes:
    """What is asked for: ``tag`` is empty where the image stays."""

    tag: str = ""
    begin_log_anew: bool = False


@dataclass(frozen=True)
class Seen:
    """The member of this host, as its manifest has it."""

    tag: str
    peer_url: str
    client_url: str
    data: Path


def read(pod: dict[str, Any]) -> Seen:
    """Read a manifest of etcd."""
    words = command(pod)
    return Seen(
        image_version(image(pod)) or "",
        flag(words, "initial-advertise-peer-urls").split(",")[0],
        flag(words, "advertise-client-urls").split(",")[0],
        Path(flag(words, "data-dir") or "/var/lib/etcd"),
    )


def plan(wishes: Wishes, seen: Seen) -> list[str]:
    """Return what has to be done, in this order."""
    return [
        *(["image"] if wishes.tag and wishes.tag != seen.tag else []),
        *(["log"] if wishes.begin_log_anew else []),
    ]


class StackedEtcd:
    """The member of this control plane. *deadline* begins the time that one restart may take."""

    def __init__(
        self,
        runner: Runner,
        client: EtcdCtl,
        deadline: Callable[[], Deadline],
        *,
        pods: StaticPods | None = None,
        manifest: Path = MANIFESTS / "etcd.yaml",
        state: Path = STATE,
    ) -> None:
        self._runner = runner
        self._client = client
        self._deadline = deadline
        self._pods = pods or StaticPods(runner, deadline)
        self._translator = Translator(runner)
        self._file = GuardedFile(manifest, state)
        self._manifest = manifest

    def look(self) -> Seen:
        [pod] = self._translator.read([self._text()])
        return read(pod)

    def _text(self) -> str:
        try:
            return self._manifest.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise KubewrightError(
                "This host runs no etcd as a static pod",
                where=str(self._manifest),
                remedy="Run this on a control plane of a cluster whose etcd kubeadm made",
            ) from error

    def gate(self, seen: Seen) -> Etcd:
        """Refuse a restart that could stop the cluster; return what was seen."""
        etcd = self._client.observe()
        member = find(etcd.members, seen.peer_url)
        if member is None:
            raise KubewrightError(
                f"etcd has no member with the peer URL {seen.peer_url} of this host",
                remedy="Find out which cluster it belongs to before it is restarted",
            )
        may_restart(etcd, member)
        return etcd

    def apply(self, wishes: Wishes, steps: Iterable[str], seen: Seen, lending: Change | None = None) -> None:
        """Take the steps; *lending* is a new manifest of the API server that another image comes together with."""
        for step in steps:
            if step == "image":
                self._restart(with_image_tag(self._text(), wishes.tag), seen, lending)
            else:
                self._begin_log_anew(seen)

    def _begin_log_anew(self, seen: Seen) -> None:
        """Let the member save a snapshot of all that it has applied, and then run as before."""
        # A run that was cut off may have left it there. The same manifest again would make no other pod to wait for.
        here = self._text()
        before = without_argument(here, EVERY_ENTRY)
        applied = self._applied(seen)
        if here == before:
            self._restart(with_argument(before, "etcd", EVERY_ENTRY), seen)

        def saved() -> bool:
            if newest_snapshot(seen.data) >= applied:
                return True
            raise KubewrightError(
                f"Its newest snapshot does not reach {applied}", where=str(seen.data), transient=True
            )

        try:
            wait_for(saved, self._deadline(), what="the member to save a snapshot of its log", interval=0.5)
        finally:
            # A member that goes on like this would write a file for every entry.
            self._restart(before, seen)

    def _applied(self, seen: Seen) -> int:
        """Return the index of the last entry that this member has applied."""

        def parse(document: Any) -> int:
            return int(document[0]["Status"]["raftAppliedIndex"])

        return self._client.at([seen.client_url]).read(parse, "endpoint", "status")

    def restart(self, seen: Seen) -> None:
        """Restart the member as it is."""
        healthy = self._ready_to_restart(seen)
        [pod] = self._translator.read([self._text()])
        self._pods.restart(ETCD, pod, healthy)

    def _restart(self, text: str, seen: Seen, lending: Change | None = None) -> None:
        healthy = self._ready_to_restart(seen)
        live, wanted = self._translator.read([self._text(), text])
        change = Change(self._file, ETCD, live, wanted, text, healthy)
        if lending:
            self._in_one_stop([change, lending])
        else:
            self._pods.replace(change)

    def _in_one_stop(self, changes: Sequence[Change]) -> None:
        """Bring both manifests while no kubelet sees them: the API server ends first, and both start in one moment.

        One after the other, each would wait for the kubelet to see the manifest, to end the pod, and to make the next.
        """

        def turn_over() -> None:
            end_in_order(self._runner, self._deadline(), (API_SERVER, ETCD))
            start_kubelet(self._runner)

        stop_kubelet(self._runner)
        try:
            self._pods.replace_together(changes, turn_over)
        finally:
            start_kubelet(self._runner)

    def _ready_to_restart(self, seen: Seen) -> Callable[[], bool]:
        """Refuse what could stop the cluster, and take the leadership away; return the check for afterwards."""
        etcd = self.gate(seen)
        needed = {one.id for one in etcd.members if one.healthy}
        self._give_leadership_away(etcd, seen)

        def healthy() -> bool:
            try:
                now = self._client.observe().members
            except KubewrightError:
                return False
            return needed <= {one.id for one in now if one.healthy}

        return healthy

    def _give_leadership_away(self, etcd: Etcd, seen: Seen) -> None:
        """A leader that just ends leaves its clients waiting for an election."""
        member = find(etcd.members, seen.peer_url)
        if member and member.is_leader and _heirs(etcd.members):
            wanted = Wanted(state="follower", peer_url=seen.peer_url)
            Operator(self._client, wanted, self._deadline()).apply(plan_member(wanted, etcd))


def _heirs(members: Iterable[Member]) -> list[Member]:
    return [one for one in members if one.healthy and not one.is_learner and not one.is_leader]


class LentEtcd:
    """Lets the API server of this host ask the other members too, while its own etcd is restarted.

    kubeadm gives an API server no other etcd than that of its host, and restarts it under the API server. Taken out of
    the load balancer, that one goes on being an endpoint of the Service `kubernetes`, where nobody looks whether it
    answers: clients inside the cluster would meet it. A restart of the API server itself is one that nobody notices,
    because it withdraws its endpoint and serves on for a while (--shutdown-delay-duration).
    kubeadm writes the manifest anew when it upgrades the API server, and with it only the own etcd again.
    """

    def __init__(
        self,
        runner: Runner,
        pods: StaticPods,
        *,
        manifest: Path = MANIFESTS / "kube-apiserver.yaml",
        state: Path = STATE,
    ) -> None:
        self._translator = Translator(runner)
        self._pods = pods
        self._manifest = manifest
        self._file = GuardedFile(manifest, state)

    def has(self, urls: Iterable[str]) -> bool:
        """Tell whether the API server asks any of these endpoints; without a manifest there is none that would."""
        return self._manifest.exists() and not set(urls).isdisjoint(etcd_servers(self._text()))

    def lend(self, urls: Iterable[str]) -> bool:
        """Add the endpoints that the API server does not have; tell whether there were any."""
        return self._make(self.change(urls))

    def change(self, urls: Iterable[str]) -> Change | None:
        """Return the manifest with the endpoints that the API server does not have, None where it has all."""
        own = etcd_servers(self._text())
        more = [url for url in urls if url not in own]
        return self._with([*own, *more]) if own and more else None

    def take_back(self, urls: Iterable[str]) -> bool:
        """Leave the API server without these endpoints; tell whether it had any of them."""
        lent = set(urls)
        has = etcd_servers(self._text())
        own = [url for url in has if url not in lent]
        return self._make(self._with(own) if own and own != has else None)

    def _text(self) -> str:
        try:
            return self._manifest.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise KubewrightError(
                "This host runs no API server as a static pod",
                where=str(self._manifest),
                remedy="Look whether something holds its manifest back, or run this on a control plane",
            ) from error

    def _with(self, urls: Iterable[str]) -> Change:
        text = self._text()
        changed = re.sub(
            r"^(\s*-\s+[\"']?--etcd-servers=)[^\s\"']*",
            lambda match: f"{match[1]}{','.join(urls)}",
            text,
            count=1,
            flags=re.MULTILINE,
        )
        live, wanted = self._translator.read([text, changed])
        return Change(self._file, API_SERVER, live, wanted, changed)

    def _make(self, change: Change | None) -> bool:
        if change:
            self._pods.replace(change)
        return change is not None


class OldEtcd:
    """Brings the etcd of before back where `kubeadm upgrade` has failed and left one that does not serve.

    kubeadm was seen to take a new etcd for healthy that ends at every start, by an argument that its version does not
    know (kubernetes/kubeadm 3240). The new API server then misses its own etcd, and only that one is put back
    (upgradeComponent in cmd/kubeadm/app/phases/upgrade/staticpods.go). A member that has never served in the new
    version has not let the version of the cluster rise, so its data is as it was.
    """

    def __init__(
        self,
        runner: Runner,
        pods: StaticPods,
        *,
        manifest: Path = MANIFESTS / "etcd.yaml",
        state: Path = STATE,
    ) -> None:
        self._translator = Translator(runner)
        self._pods = pods
        self._file = GuardedFile(manifest, state)
        self._before = self._text()

    def _text(self) -> str:
        return self._file.path.read_text(encoding="utf-8") if self._file.path.exists() else ""

    def bring_back(self) -> str:
        """Return why the old one had to come back, empty where it had not."""
        here = self._text()
        if not here or not self._before or here == self._before:
            return ""
        new, old = self._translator.read([here, self._before])
        if self._pods.serves(new):
            return ""
        said = " | ".join(self._pods.last_lines(ETCD)[-3:])
        why = f"etcd does not serve by its new manifest, and says last: {said}"
        try:
            self._pods.replace(Change(self._file, ETCD, new, old, self._before))
        except KubewrightError as error:
            return f"{why}. The old manifest did not help either: {error}"
        return why
