# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run `kubeadm upgrade` on one host, and say what became of it.

What is done is read from the manifests and from the cluster, never remembered: kubeadm puts old manifests back where a
component does not come up, and one that was killed has left anything between none and all of them.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import sync
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    CommandError,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_cluster_plan import numbers
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import (
    close_kubelet_files,
    phases,
    run_kubeadm,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_upgrade_plan import CONTROL_PLANE
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for
from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import step as log_step
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import StaticPods
from ansible_collections.kubewright.cluster.plugins.module_utils._target_kubeadm import (
    upgrade_configuration,
    without_etcd_tag,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._upgrade_etcd import behind
from ansible_collections.kubewright.cluster.plugins.module_utils._upgrade_observe import (
    CONFIG_MAP,
    TEMPORARY,
    left_behind,
    lost_manifests,
    manifests,
)

PARTS = ("control_plane", "addons", "kubelet_config", "kubelet")

# The kubelet's configuration comes in a part of its own, right before the kubelet that it is for.
_KUBELET_CONFIG = "kubelet-config"
# What tells the cluster of the version comes last: a cluster that was told is one on which all of `apply` was done. By
# itself kubeadm tells it in the middle, and whoever is cut off after that would never get what it does to rights of
# nodes and of API servers.
_TELLING = "upload-config/kubeadm"
# What `kubeadm upgrade node` does beside it on a control plane that is done.
_BESIDE_KUBELET = ("preflight", "control-plane", "kubeconfig", "addon")

_RENEWED = re.compile(r"^\[upgrade/staticpods\] Renewing (\S+) certificate$", re.MULTILINE)
# It says both of one whose authority's key is elsewhere.
_FOREIGN = re.compile(r"External CA detected, (\S+) certificate can't be renewed")
_MERGE_PATCH = "application/merge-patch+json"
_NOT_FOUND = 404
_CONFIG = "--config=/dev/stdin"
_TELL_SECONDS = 120.0


@dataclass(frozen=True)
class Wanted:
    """What the module was asked for. *etcd_tag* is what this kubeadm brings, empty with an external etcd."""

    part: str
    version: str
    apply: bool = False
    etcd_tag: str = ""
    renew: bool = True
    patches: str = ""
    ignored: Sequence[str] = ()
    manifest_seconds: int = 300
    timeout: float = 1800


@dataclass(frozen=True)
class Seen:
    """What there is. *told* is the version in the ConfigMap kubeadm-config; *kubelet* the one that the node reports."""

    kubeadm: str
    manifests: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    told: str = ""
    pinned: str = ""
    kubelet: str = ""
    installed: str = ""


@dataclass(frozen=True)
class Run:
    """One call of kubeadm, none where *command* is empty. *put_back* are manifests that are missing."""

    command: str = ""
    words: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    put_back: Mapping[str, str] = field(default_factory=dict)
    unpin: bool = False
    restart: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.command or self.put_back or self.unpin or self.restart)

    @property
    def moves_pods(self) -> bool:
        return bool(self.command) and "control-plane" not in self.skip and not self.words


def plan(wanted: Wanted, seen: Seen) -> Run:
    """Decide what is left to do; raise where the host is not ready for it."""
    if wanted.part == "kubelet":
        return _plan_kubelet(wanted, seen)
    # kubeadm takes the version of etcd from its own, whatever version it is told to upgrade to.
    if seen.kubeadm != wanted.version:
        raise KubewrightError(
            f"kubeadm {seen.kubeadm or '(none)'} is installed, and {wanted.version} is wanted",
            remedy=f"Install the package kubeadm in version {wanted.version} first",
        )
    # Only who applies writes the version into the ConfigMap, from which everybody else takes it.
    applies = wanted.part == "control_plane" and wanted.apply and seen.told != wanted.version
    if not applies and seen.told != wanted.version:
        raise KubewrightError(
            f"The cluster was told of {seen.told or 'no version'}, and {wanted.version} is wanted",
            where="ConfigMap kubeadm-config",
            remedy="Let one control plane apply the upgrade first",
        )
    if wanted.part == "control_plane":
        return _plan_control_plane(wanted, seen, applies)
    if wanted.part == "addons":
        return Run("node", words=("phase", "addon", "all"))
    if seen.kubelet == wanted.version:
        return Run()
    beside = _BESIDE_KUBELET if seen.manifests else ()
    return Run("node", skip=beside)


def _plan_control_plane(wanted: Wanted, seen: Seen, applies: bool) -> Run:
    if not seen.manifests and not seen.lost:
        raise KubewrightError(
            "This host is no control plane",
            where="/etc/kubernetes/manifests",
            remedy="Upgrade its kubelet instead",
        )
    unpin = bool(seen.pinned) and bool(wanted.etcd_tag) and behind(seen.pinned, wanted.etcd_tag)
    current = not seen.lost and all(seen.manifests.get(name) == wanted.version for name in CONTROL_PLANE)
    if etcd_after(wanted, seen) != seen.manifests.get("etcd", ""):
        current = False
    if current and not applies:
        return Run()
    skip = (_KUBELET_CONFIG, *([_TELLING] if applies else []), *(["control-plane"] if current else []))
    return Run("apply" if applies else "node", skip=skip, put_back=seen.lost, unpin=unpin)


def etcd_after(wanted: Wanted, seen: Seen) -> str:
    """Return the tag of etcd afterwards: kubeadm takes that of ClusterConfiguration, and leaves a newer etcd alone."""
    runs = seen.manifests.get("etcd", "")
    if not runs or not wanted.etcd_tag:
        return runs
    return max([runs, wanted.etcd_tag, *filter(None, [seen.pinned])], key=numbers)


def _plan_kubelet(wanted: Wanted, seen: Seen) -> Run:
    if seen.installed != wanted.version:
        raise KubewrightError(
            f"kubelet {seen.installed or '(none)'} is installed, and {wanted.version} is wanted",
            remedy=f"Install the package kubelet in version {wanted.version} first",
        )
    return Run(restart=seen.kubelet != wanted.version)


@dataclass(frozen=True)
class Component:
    """What became of one static pod."""

    name: str
    before: str
    after: str
    rolled_back: bool = False

    def returned(self) -> dict[str, Any]:
        action = (
            "rolled back" if self.rolled_back else "upgraded" if self.before != self.after else "unchanged"
        )
        return {"name": self.name, "from": self.before, "to": self.after, "action": action}


def compare(
    before: Mapping[str, str], after: Mapping[str, str], output: str, *, failed: bool
) -> list[Component]:
    """Say what became of each static pod, from its manifest and from what kubeadm printed about it.

    A manifest that kubeadm has put in place before it failed, and that is the old one again, was rolled back. Where it
    did not fail, one of the same version has other arguments.
    """
    tried = set(re.findall(r"Moving new manifest to \"\S*/([a-z-]+)\.yaml\"", output)) if failed else set()
    return [
        Component(name, tag, after.get(name, ""), rolled_back=name in tried and after.get(name) == tag)
        for name, tag in before.items()
    ]


class Upgrader:
    """Carries a run out on this host. *root* is another folder than / in tests only."""

    def __init__(self, runner: Runner, api: Any, root: Path = Path("/")) -> None:
        self._runner = runner
        self._api = api
        self._root = root

    def prepare(self, run: Run) -> None:
        """Put back what is missing, and take out of the ConfigMap what would hold etcd back."""
        for component, backup in run.put_back.items():
            target = self._root / f"etc/kubernetes/manifests/{component}.yaml"
            with log_step("write", str(target)):
                # Beside it first: the kubelet passes over names that begin with a dot.
                beside = target.with_name(f".kubewright-{target.name}")
                shutil.copyfile(self._root / backup.lstrip("/"), beside)
                beside.chmod(0o600)
                sync(str(beside))
                beside.replace(target)
                sync(str(target.parent))
        if run.unpin:
            self._unpin()

    def settle(self, pods: StaticPods, node: str, put_back: Collection[str], deadline: Deadline) -> None:
        """Wait until the API shows the static pods that run.

        kubeadm reads the hash of a mirror pod before it moves a manifest, and takes any other one afterwards for that
        of the new pod. One that the kubelet has not renewed yet would let it see its work done before it has begun.
        """

        def shown() -> bool:
            for component in manifests(self._root):
                runs = pods.running_pod(component)
                # One that does not run may be what the upgrade is to mend.
                if (runs or component in put_back) and runs != self._mirror(f"{component}-{node}"):
                    raise KubewrightError(f"It does not show the {component} that runs", transient=True)
            return True

        wait_for(shown, deadline, what="the API to show the static pods of this host as they run")

    def _mirror(self, name: str) -> str | None:
        """Return the id of the static pod that a mirror pod stands for (applyDefaults in pkg/kubelet/config)."""
        try:
            found = self._api.get(f"/api/v1/namespaces/kube-system/pods/{name}")
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return None
        noted: str | None = (found["metadata"].get("annotations") or {}).get("kubernetes.io/config.hash")
        return noted

    def _unpin(self) -> None:
        found = self._api.get(CONFIG_MAP)
        text = without_etcd_tag(found["data"]["ClusterConfiguration"])
        version = found["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "data": {"ClusterConfiguration": text}}
        self._api.request("PATCH", CONFIG_MAP, body=body, content_type=_MERGE_PATCH)

    def kubeadm(
        self, wanted: Wanted, run: Run, before: Mapping[str, str], mend: Callable[[], str] = lambda: ""
    ) -> dict[str, Any]:
        """Run kubeadm; return what became of it, or raise with that.

        Where it fails, *mend* brings back what it has left broken, and returns what that was.
        """
        argv = ["kubeadm", "upgrade", run.command, *run.words, _CONFIG]
        argv += ["--yes"] if run.command == "apply" else []
        document = upgrade_configuration(
            run.command,
            wanted.version,
            ignored=wanted.ignored,
            renew=wanted.renew,
            patches=wanted.patches,
            skip=run.skip,
            manifest_seconds=wanted.manifest_seconds,
        )
        try:
            ran = run_kubeadm(self._runner, argv, document, wanted.timeout)
        except CommandError as error:
            if error.transient:  # Its time was over: it puts nothing back.
                mended = mend()
                components = compare(before, manifests(self._root), "", failed=True)
                error.facts.update(self._facts(components, ""))
                error.remedy = _remedy(components, lost_manifests(self._root), wanted.version, mended)
            raise
        close_kubelet_files(self._root / "var/lib/kubelet")
        mended = mend() if ran.rc != 0 else ""
        components = compare(before, manifests(self._root), ran.stdout, failed=ran.rc != 0)
        facts = self._facts(components, ran.stdout)
        if ran.rc != 0:
            remedy = _remedy(components, lost_manifests(self._root), wanted.version, mended)
            raise ran.error(f"kubeadm upgrade {run.command} failed", remedy, **facts)
        told = self._tell(wanted, facts) if run.command == "apply" else ""
        return {**facts, "stdout": ran.stdout + told}

    def _tell(self, wanted: Wanted, facts: Mapping[str, Any]) -> str:
        """Write the version into the ConfigMap, from which all others take it; return what kubeadm printed."""
        argv = ["kubeadm", "upgrade", "apply", "phase", *_TELLING.split("/"), _CONFIG]
        document = upgrade_configuration("apply", wanted.version)
        ran = run_kubeadm(self._runner, argv, document, _TELL_SECONDS)
        if ran.rc != 0:
            raise ran.error(
                f"The cluster cannot be told of {wanted.version}",
                "This host is done but for that. Mend the cause and run again: it goes on from here",
                **facts,
            )
        return ran.stdout

    def _facts(self, components: Sequence[Component], stdout: str) -> dict[str, Any]:
        foreign = _FOREIGN.findall(stdout)
        return {
            "components": [one.returned() for one in components],
            "phases": phases(stdout),
            "certificates_renewed": [
                name for name in dict.fromkeys(_RENEWED.findall(stdout)) if name not in foreign
            ],
            "backup_paths": [f"{TEMPORARY}/{path.name}" for path, _kind in left_behind(self._root)],
        }

    def prune(self, keep: int) -> list[str]:
        """Delete what kubeadm left behind, but for the newest *keep* of each kind; return what went."""
        by_kind: dict[str, list[Path]] = {}
        for path, kind in left_behind(self._root):
            by_kind.setdefault(kind, []).append(path)
        gone = [path for paths in by_kind.values() for path in (paths[:-keep] if keep else paths)]
        for path in gone:
            with log_step("write", str(path)):
                shutil.rmtree(path)
        return [f"{TEMPORARY}/{path.name}" for path in gone]


def _remedy(components: Sequence[Component], lost: Mapping[str, str], version: str, mended: str) -> str:
    """Say what runs now, and what to do. *mended* is what had to be brought back after kubeadm."""
    back = [one.name for one in components if one.rolled_back]
    moved = [one.name for one in components if one.before != one.after]
    said = [mended] if mended else []
    if back:
        said.append(f"the old {', '.join(back)} {'is' if len(back) == 1 else 'are'} back")
    if moved:
        said.append(f"{', '.join(moved)} {'is' if len(moved) == 1 else 'are'} of {version} already")
    if lost:
        said.append(
            f"the manifest of {', '.join(lost)} is missing, and its backup is {', '.join(lost.values())}"
        )
    state = "; ".join(said) or "No static pod of this host was changed"
    return f"{state[:1].upper()}{state[1:]}. Mend the cause and run again: it goes on from here"
