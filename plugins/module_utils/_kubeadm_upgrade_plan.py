# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade of a kubeadm cluster has to do, in which order, and what forbids it. Pure functions.

The order is that of the version skew policy (https://kubernetes.io/releases/version-skew-policy/): every API server
moves before any kubelet (kubernetes/kubeadm 2271: a kubelet that meets an older API server behind a load balancer),
control planes before workers. One minor at a time, and never back.

What is to be done follows from what is there alone: a host that is done is not named, and one that a run was cut off
on comes first. Who runs `kubeadm upgrade apply` is no matter of the inventory's order either: it is whoever it was
begun on, or else any; with the version in the ConfigMap kubeadm-config everybody takes `kubeadm upgrade node`.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._cluster_judge import Expected, judge
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import BRING_ETCDCTL
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd_cluster_plan import numbers
from ansible_collections.kubewright.cluster.plugins.module_utils._skew import release
from ansible_collections.kubewright.cluster.plugins.module_utils._upgrade_etcd import (
    EtcdPlan,
    behind,
    external_problems,
    finding,
    plan_etcd,
)

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
PACKAGES = ("kubeadm", "kubelet", "kubectl")

# Version skew policy: how many minors a kubelet and a kube-proxy may be behind.
_MAY_LAG = 3

# Room in MiB: what a set of images takes unpacked, and what is to stay free beside kubeadm's copy of etcd's data
# (kubernetes/kubernetes 125357 and kubernetes/website 46766: that copy fills /etc/kubernetes/tmp).
_IMAGES_MIB = 1536
_SPARE_MIB = 1024

# What cluster_info finds wrong with add-ons while a node is away is no reason of its own.
_OF_ADDONS = ("A DaemonSet ", "A Deployment ")
# What no upgrade leaves behind, and none may go on with.
_NEVER_LEFT = (
    "A control plane has no etcd member",
    "A control plane is not in the inventory",
    "A node is being deleted",
    "An etcd member has raised the alarm ",
    "An etcd member is still a learner",
)
_SOON = "A certificate expires soon"
# What it says of a host whose manifests are not complete, which they are not where one was lost.
_NOT_FINISHED = "kubeadm has not finished on this host"

Finding = dict[str, str]


@dataclass(frozen=True)
class Target:
    """What is to run. ``images`` are tags by the last part of the image's name, as the target's own kubeadm says.

    ``refusal`` is what that kubeadm objects to when it rehearses, ``silence`` why it could not be asked.
    """

    version: str
    images: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""
    silence: str = ""


@dataclass(frozen=True)
class Host:
    """A host of the inventory. ``facts`` are what it said of itself, None where it is not part of the run."""

    name: str
    node: str
    control_plane: bool
    facts: Mapping[str, Any] | None = None
    problems: Sequence[str] = ()


@dataclass(frozen=True)
class Rules:
    """What the user decided. ``canary`` and ``batch`` are only for the words of the plan."""

    minors: Sequence[str] = ()
    etcd_steps: Mapping[str, str] = field(default_factory=dict)
    renew_certificates: bool = True
    accept_not_ready_workers: bool = False
    canary: int = 1
    batch: str = "1"


@dataclass
class Plan:
    """The plan. The turns are names of hosts in their order; whoever has nothing to do is in none."""

    version: str
    before: str = ""
    components: list[dict[str, str]] = field(default_factory=list)
    hosts: list[dict[str, Any]] = field(default_factory=list)
    etcd: EtcdPlan = field(default_factory=EtcdPlan)
    etcd_turns: list[str] = field(default_factory=list)
    control_plane_turns: list[str] = field(default_factory=list)
    apply: str = ""
    addons: str = ""
    left_out: list[str] = field(default_factory=list)
    kubelet_turns: list[str] = field(default_factory=list)
    worker_turns: list[str] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    notices: list[Finding] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        turns = (self.etcd_turns, self.control_plane_turns, self.kubelet_turns, self.worker_turns)
        return not any(turns) and not self.addons

    def returned(self) -> dict[str, Any]:
        """Return the plan as the module returns it."""
        return {
            "version": self.version,
            "from_version": self.before,
            "idle": self.idle,
            "components": self.components,
            "hosts": self.hosts,
            "etcd": {"to": self.etcd.to, "step": self.etcd.step, "unpin": self.etcd.unpin},
            "turns": {
                "etcd": self.etcd_turns,
                "control_plane": self.control_plane_turns,
                "kubelet": self.kubelet_turns,
                "workers": self.worker_turns,
            },
            "apply": self.apply,
            "addons": self.addons,
            "left_out": self.left_out,
            "problems": self.problems,
            "notices": self.notices,
            "lines": self.lines,
        }


def plan(target: Target, cluster: Mapping[str, Any], hosts: Sequence[Host], rules: Rules) -> Plan:
    """Make the plan. *cluster* is what cluster_info returns, with ``upgrade`` beside it."""
    made = Plan(target.version)
    wanted = release(target.version)
    if wanted is None or target.version.count(".") != 2 or "-" in target.version:
        made.problems.append(
            finding("The wanted version is none", target.version, "", "Give it as X.Y.Z, for example 1.37.1")
        )
        return made
    if not cluster["answers"]:
        made.problems.append(
            finding(
                "The API server does not answer",
                "API server",
                str(cluster["error"]),
                "Bring a control plane back first: an upgrade is no repair",
            )
        )
        return made
    made.before = str(cluster["version"] or "")
    _Planner(target, wanted, cluster, hosts, rules, made).run()
    return made


class _Planner:
    """Fills a plan."""

    def __init__(
        self,
        target: Target,
        wanted: tuple[int, int, int],
        cluster: Mapping[str, Any],
        hosts: Sequence[Host],
        rules: Rules,
        made: Plan,
    ) -> None:
        self._target = target
        self._wanted = wanted
        self._cluster = cluster
        self._rules = rules
        self._made = made
        self._upgrade = cluster["upgrade"]
        self._nodes = {node["name"]: node for node in cluster["nodes"]}
        self._pods = {(pod["node"], pod["component"]): pod for pod in cluster["control_plane"]}
        self._hosts = {host.node: host for host in hosts if host.node in self._nodes}
        self._strangers = [host for host in hosts if host.node not in self._nodes]
        self._stacked = cluster["topology"] == "stacked"
        self._half_done = {name: self._unfinished(name) for name in self._nodes}

    def run(self) -> None:
        made = self._made
        made.etcd = self._etcd()
        self._versions()
        self._health()
        self._hosts_fit()
        made.problems += list(made.etcd.problems)
        made.notices += list(made.etcd.notices)
        if self._target.silence:
            what = f"kubeadm {self._target.version} cannot be asked"
            made.problems.append(finding(what, "", self._target.silence, ""))
        if self._target.refusal:
            made.problems.append(
                finding(
                    f"kubeadm {self._target.version} refuses the upgrade",
                    "kubeadm upgrade apply --dry-run",
                    self._target.refusal,
                    "Mend what it names, or name the check in kube_cluster_ignore_preflight_errors",
                )
            )
        made.components = self._components()
        self._turns()
        self._limits()
        made.hosts = [self._row(node) for node in self._order(self._nodes)]
        made.lines = describe(made, self._rules)

    # What is there

    def _facts(self, node: str) -> Mapping[str, Any]:
        host = self._hosts.get(node)
        return (host.facts if host else None) or {}

    def _version(self, node: str, component: str) -> str:
        return str((self._pods.get((node, component)) or {}).get("version") or "")

    def _manifests(self, node: str) -> Mapping[str, str]:
        found: Mapping[str, str] = self._facts(node).get("upgrade", {}).get("manifests", {})
        return found

    def _control_planes(self) -> list[str]:
        return [name for name, node in self._nodes.items() if node["control_plane"]]

    def _workers(self) -> list[str]:
        return [name for name, node in self._nodes.items() if not node["control_plane"]]

    def _current(self, node: str) -> bool:
        """Tell whether the static pods of a control plane, and their manifests, have the wanted version."""
        version = self._target.version
        written = self._manifests(node)
        return all(
            self._version(node, name) == version and written.get(name, version) == version
            for name in CONTROL_PLANE
        )

    def _unfinished(self, node: str) -> list[str]:
        """Return what an upgrade that was cut off has left on a host, a sentence each."""
        found = []
        facts = self._facts(node)
        upgrade = facts.get("upgrade", {})
        version = self._target.version
        if self._nodes[node]["control_plane"]:
            runs = {name: self._version(node, name) for name in CONTROL_PLANE}
            if len(set(runs.values())) > 1:
                found.append("its static pods have several versions: " + _pairs(runs))
            moved = {name: tag for name, tag in self._manifests(node).items() if runs.get(name, tag) != tag}
            if moved:
                found.append("its manifests are not what runs: " + _pairs(moved))
            found += [f"the manifest of {name} is missing" for name in upgrade.get("lost", {})]
            if self._current(node) and self._cluster["kubeadm_version"] != version:
                found.append("kubeadm upgrade apply has not come to its end")
        installed, running = (
            facts.get("versions", {}).get("kubelet"),
            self._nodes[node]["kubelet_version"],
        )
        if installed and installed != running:
            found.append(f"kubelet {installed} is installed and {running} runs")
        if self._torn(node):
            found.append("its packages are half installed")
        if self._nodes[node]["cordoned_by_us"]:
            found.append("it is still cordoned by an earlier run")
        return found

    def _torn(self, node: str) -> bool:
        return bool(self._facts(node).get("packages", {}).get("unfinished"))

    def _no_packages(self, node: str) -> list[str]:
        """Return what of Kubernetes this host has from elsewhere, as Kubespray leaves it below /usr/local/bin."""
        installed = self._facts(node)["packages"]["installed"]
        if self._torn(node):
            return []
        return [name for name in ("kubeadm", "kubelet") if name not in installed]

    # What forbids it

    def _problem(self, what: str, where: str, why: str, remedy: str) -> None:
        self._made.problems.append(finding(what, where, why, remedy))

    def _versions(self) -> None:
        """Refuse a skipped minor, a way back, and kubelets or proxies that would be left behind."""
        version, wanted = self._target.version, self._wanted
        text = ".".join(version.split(".")[:2])
        if self._rules.minors and text not in self._rules.minors:
            self._problem(
                f"Kubernetes {text} is not supported",
                "kube_cluster_version",
                f"this release of the collection was tested with {', '.join(self._rules.minors)}",
                "Choose a supported version, or use a release of the collection that supports it",
            )
        servers = {
            pod["node"]: release(pod["version"])
            for pod in self._cluster["control_plane"]
            if pod["component"] == "kube-apiserver"
        }
        unknown = [node for node, found in servers.items() if found is None]
        known = [found for found in servers.values() if found]
        if unknown or not known:
            self._problem(
                "The version of an API server is unknown",
                ", ".join(unknown) or "cluster",
                "its image has no tag that is a version" if unknown else "no API server is a static pod",
                "This playbook upgrades clusters that kubeadm made, with images named by tags",
            )
            return
        oldest, newest = min(known), max(known)
        promised = release(self._cluster["kubeadm_version"])
        if newest > wanted or (promised and promised > wanted):
            above = max(filter(None, [newest, promised]))
            self._problem(
                "A cluster is not downgraded",
                "kube_cluster_version",
                f"it is {version}, and the cluster has {'.'.join(map(str, above))}",
                "Raise kube_cluster_version: what newer versions have stored, older ones may not read",
            )
        elif (oldest[0], oldest[1] + 1) < wanted[:2]:
            reach = f"{oldest[0]}.{oldest[1] + 1}"
            self._problem(
                "No minor version is skipped",
                "kube_cluster_version",
                f"it is {version}, and the oldest API server runs {'.'.join(map(str, oldest))}",
                f"Upgrade to the newest patch of {reach} first",
            )
        for pod in self._cluster["control_plane"]:
            found = release(pod["version"])
            if pod["component"] in CONTROL_PLANE[1:] and found and found > wanted:
                self._problem(
                    f"{pod['component']} is newer than the wanted version",
                    pod["node"],
                    f"it runs {pod['version']}",
                    "Raise kube_cluster_version: nothing is downgraded",
                )
        for name, node in sorted(self._nodes.items()):
            self._lag("kubelet", name, node["kubelet_version"], "Upgrade this node to a newer minor first")
        self._lag(
            "kube-proxy",
            "kube-system/kube-proxy",
            self._upgrade["kube_proxy"],
            "Find out who holds it back: kubeadm upgrades it with the last control plane",
        )

    def _lag(self, component: str, where: str, version: str | None, remedy: str) -> None:
        found = release(version)
        if found is None:
            return
        if found > self._wanted:
            self._problem(
                f"A {component} is newer than the wanted version",
                where,
                f"it runs {version}",
                "Raise kube_cluster_version: nothing is downgraded",
            )
        elif found[1] < self._wanted[1] - _MAY_LAG:
            self._problem(
                f"A {component} would be more than three minor versions behind",
                where,
                f"it runs {version}, API servers would run {self._target.version}",
                remedy,
            )

    def _health(self) -> None:
        """Refuse a cluster that is not whole, apart from what an upgrade that was cut off has left."""
        judged = judge(None, dict(self._cluster), self._expected())
        broken = {name for name, left in self._half_done.items() if left}
        for found in judged["reasons"]:
            where = found["where"]
            away = bool(broken or self._made.left_out)
            excused = where in broken and not found["what"].startswith(_NEVER_LEFT)
            if excused or (away and found["what"].startswith(_OF_ADDONS)):
                self._made.notices.append(found)
            elif self._may_stay(found):
                self._made.left_out.append(where)
                self._made.notices.append(found)
            else:
                self._made.problems.append(found)
        for name in self._order(broken):
            self._made.notices.append(
                finding(
                    "An upgrade was cut off on this host",
                    name,
                    "; ".join(self._half_done[name]),
                    "Nothing: this run finishes it first",
                )
            )
        members = len(self._control_planes())
        if members < 3 and not self._quiet():
            self._made.notices.append(
                finding(
                    "The API is away for a while",
                    "cluster",
                    f"it has {members} control plane{'s' if members > 1 else ''}",
                    "Nothing, or have three control planes",
                )
            )

    def _expected(self) -> Expected:
        return Expected(control_plane=[host.node for host in self._hosts.values() if host.control_plane])

    def _may_stay(self, found: Finding) -> bool:
        node = self._nodes.get(found["where"])
        return bool(
            self._rules.accept_not_ready_workers
            and node
            and not node["control_plane"]
            and found["what"] in ("A node is not ready", "A node is being deleted")
        )

    def _quiet(self) -> bool:
        return all(self._current(name) for name in self._control_planes())

    def _hosts_fit(self) -> None:
        """Refuse hosts whose own state would end the upgrade half way."""
        going = {node: host for node, host in self._hosts.items() if node not in self._made.left_out}
        for host in [*going.values(), *self._strangers]:
            for problem in host.problems:
                self._made.problems.append({"what": problem, "where": host.name, "why": "", "remedy": ""})
        for host in self._strangers:
            if host.control_plane:
                # Every gate on the way, and every load balancer, counts on the control planes of the inventory.
                self._problem(
                    "A control plane of the inventory is no node",
                    host.name,
                    f"the cluster has no node {host.node}",
                    "Join it with the playbook site.yml at the version that the cluster runs, or take it out of the "
                    "inventory, then upgrade",
                )
                continue
            self._made.notices.append(
                finding(
                    "A host of the inventory is no node",
                    host.name,
                    f"the cluster has no node {host.node}",
                    "site.yml joins it when the upgrade is done, with the new version",
                )
            )
        for node, host in going.items():
            if host.facts:
                self._host_is_whole(node, host)
                if self._nodes[node]["control_plane"] and not self._current(node):
                    self._has_room(host)
                    self._has_tools(host)

    def _host_is_whole(self, node: str, host: Host) -> None:
        facts = dict(host.facts or {})
        state = "control_plane" if self._nodes[node]["control_plane"] else "worker"
        lost = facts["upgrade"]["lost"]
        if facts["kubeadm"] != state and not lost:
            self._problem(
                f"The files of this host are not those of a {state.replace('_', ' ')}",
                host.name,
                f"found {', '.join(facts['evidence']) or 'none'}",
                "Run the playbook site.yml first, or remove the host",
            )
            return
        if facts["system"]["package_manager"] != "apt":
            self._problem(
                "The packages of this host cannot be upgraded",
                host.name,
                f"its package manager is {facts['system']['package_manager'] or 'unknown'}",
                "Only Debian and its relatives are supported so far",
            )
        elif files := self._no_packages(node):
            self._problem(
                f"{' and '.join(files)} {'is no package' if len(files) == 1 else 'are no packages'} of this host",
                host.name,
                "something else has installed it",
                "Upgrade with what made this cluster, or first install the versions that run from their packages and "
                "remove the other files, which would hide them",
            )
        for found in judge(facts, None, Expected())["reasons"]:
            if lost and found["what"] == _NOT_FINISHED:
                continue
            if self._renewable(node, found) or (self._half_done[node] and "does not run" in found["what"]):
                self._made.notices.append(found)
            else:
                self._made.problems.append(found)

    def _renewable(self, node: str, found: Finding) -> bool:
        """Tell whether kubeadm renews a certificate on its way: its own, as long as it has not ended."""
        path = found["where"].rpartition(": ")[2]
        return (
            found["what"] == _SOON
            and self._rules.renew_certificates
            and self._nodes[node]["control_plane"]
            and not self._current(node)
            and path.startswith("/etc/kubernetes/")
            and not path.endswith(("ca.crt", "kubelet.conf"))
        )

    def _has_tools(self, host: Host) -> None:
        """Refuse a control plane as kubeadm alone leaves it, before its turn would end for that."""
        if not (host.facts or {})["versions"]["etcdctl"]:
            why = "each control plane asks etcd with its own"
            self._problem("etcdctl is not there, or does not run", host.name, why, BRING_ETCDCTL)

    def _has_room(self, host: Host) -> None:
        upgrade = (host.facts or {})["upgrade"]
        copied = upgrade["etcd_mib"] if self._stacked else 0
        for folder, needed, why in (
            ("/etc/kubernetes", copied + _SPARE_MIB, f"kubeadm copies the {copied} MiB of etcd's data there"),
            ("/var/lib/containerd", _IMAGES_MIB, "the new images go there"),
        ):
            free = upgrade["free_mib"].get(folder)
            if free is not None and free < needed:
                self._problem(
                    "There is too little room for the upgrade",
                    f"{host.name}: {folder}",
                    f"{free} MiB are free, {needed} MiB are needed: {why}",
                    "Free some, for example what earlier upgrades left in /etc/kubernetes/tmp",
                )

    # What is to be done

    def _etcd(self) -> EtcdPlan:
        if not self._stacked:
            return EtcdPlan(problems=tuple(external_problems(self._cluster["etcd"]["members"])))
        default = self._target.images.get("etcd", "")
        # One whose manifest was lost has no pod. kubeadm was at it, past all that comes before.
        tags = {
            name: self._version(name, "etcd")
            for name in self._control_planes()
            if "etcd" not in self._facts(name).get("upgrade", {}).get("lost", {})
        }
        if not default or not tags or not all(tags.values()):
            # Without tags there is no API server with one either, or the target's kubeadm could not be asked.
            return EtcdPlan()
        logs = {
            name: bool(self._facts(name)["upgrade"]["old_log"])
            for name in tags
            if self._facts(name).get("upgrade", {}).get("old_log") is not None
        }
        return plan_etcd(default, self._upgrade["etcd_tag"], tags, self._rules.etcd_steps, logs)

    def _components(self) -> list[dict[str, str]]:
        version = self._target.version
        rows = []
        for node in self._order(self._control_planes()):
            for name in CONTROL_PLANE:
                rows.append(_row(name, node, self._version(node, name), version))
            tag = self._version(node, "etcd")
            if self._stacked and tag and self._made.etcd.to:
                rows.append(_row("etcd", node, tag, max(tag, self._made.etcd.to, key=numbers)))
        rows += [
            _row("kubelet", node, self._nodes[node]["kubelet_version"], version)
            for node in self._order(self._nodes)
        ]
        for name, there in (
            ("kube-proxy", self._upgrade["kube_proxy"]),
            ("coredns", self._upgrade["coredns"]),
        ):
            if there:
                rows.append(_row(name, "", there, self._addon(name)))
        return rows

    def _addon(self, name: str) -> str:
        return (self._target.images.get(name) or "").lstrip("v") or self._target.version

    def _turns(self) -> None:
        made = self._made
        names = {node: host.name for node, host in self._hosts.items()}
        old = [node for node in self._order(self._control_planes()) if not self._done(node)]
        made.control_plane_turns = [names[node] for node in old if node in names]
        stepping = [node for node in made.etcd.step_nodes if node in names]
        made.etcd_turns = [names[node] for node in self._order(stepping)]
        # With the version in the ConfigMap the cluster has been told, and nobody tells it again.
        if self._cluster["kubeadm_version"] != self._target.version:
            # One on which it was begun, and which is done but for that, has a turn for it.
            begun = next((node for node in self._order(self._control_planes()) if self._current(node)), "")
            teller = begun or (old[0] if old else "")
            made.apply = names.get(teller, "")
            if made.apply:
                # Nobody else can begin before it.
                others = [name for name in made.control_plane_turns if name != made.apply]
                made.control_plane_turns = [made.apply, *others]
        if not made.control_plane_turns and self._addons_behind():
            living = [node for node in self._order(self._control_planes()) if node in names]
            made.addons = names[living[0]] if living else ""
        kubelets = [node for node in self._order(self._nodes) if node in names and self._kubelet_behind(node)]
        made.kubelet_turns = [names[node] for node in kubelets if self._nodes[node]["control_plane"]]
        made.worker_turns = [names[node] for node in kubelets if not self._nodes[node]["control_plane"]]

    def _done(self, node: str) -> bool:
        tag = self._version(node, "etcd")
        old_etcd = bool(self._stacked and tag and self._made.etcd.to and behind(tag, self._made.etcd.to))
        lost = self._facts(node).get("upgrade", {}).get("lost", {})
        return self._current(node) and not old_etcd and not lost

    def _addons_behind(self) -> bool:
        return any(
            there and there != self._addon(name)
            for name, there in (
                ("kube-proxy", self._upgrade["kube_proxy"]),
                ("coredns", self._upgrade["coredns"]),
            )
        )

    def _kubelet_behind(self, node: str) -> bool:
        if node in self._made.left_out:
            return False
        packages = self._facts(node).get("packages", {}).get("installed", {})
        installed = [str(packages[name]["version"]) for name in PACKAGES if name in packages]
        return (
            self._nodes[node]["kubelet_version"] != self._target.version
            or any(not one.startswith(f"{self._target.version}-") for one in installed)
            or self._nodes[node]["cordoned_by_us"]
            or self._torn(node)
        )

    def _limits(self) -> None:
        """Refuse a part of the hosts where the others have to go first, and say who is not in the inventory."""
        made = self._made
        outside = [
            host.name
            for host in self._hosts.values()
            if host.facts is None and host.name in (*made.control_plane_turns, *made.etcd_turns)
        ]
        if outside:
            self._problem(
                "The control planes come before everybody else",
                ", ".join(outside),
                "they are not part of this run",
                "Run without --limit first. The workers can be limited afterwards",
            )
        out = {host.name for host in self._hosts.values() if host.facts is None}
        made.kubelet_turns = [name for name in made.kubelet_turns if name not in out]
        made.worker_turns = [name for name in made.worker_turns if name not in out]
        unknown = sorted(set(self._workers()) - set(self._hosts))
        behind_us = [name for name in unknown if self._nodes[name]["kubelet_version"] != self._target.version]
        if behind_us:
            made.notices.append(
                finding(
                    "Nodes are not in the inventory",
                    ", ".join(behind_us),
                    "nothing upgrades them",
                    "Add them to the inventory, or remove them",
                )
            )

    def _order(self, names: Iterable[str]) -> list[str]:
        """Sort nodes: those that a run was cut off on, the others, the leader of etcd last."""
        leader = {member["name"] for member in self._cluster["etcd"]["members"] if member["is_leader"]}
        return sorted(
            names,
            key=lambda name: (
                not self._nodes[name]["control_plane"],
                not self._half_done[name],
                name in leader,
                name,
            ),
        )

    def _row(self, node: str) -> dict[str, Any]:
        made, host = self._made, self._hosts.get(node)
        name = host.name if host else ""
        actions = []
        if name and name in made.etcd_turns:
            actions.append(f"etcd {made.etcd.step}")
        if name and name in made.control_plane_turns:
            actions += ["etcd log begins anew"] if node in made.etcd.anew else []
            actions.append(f"kubeadm upgrade {'apply' if name == made.apply else 'node'}")
        if name and name in (*made.kubelet_turns, *made.worker_turns):
            actions.append("kubelet")
        return {
            "host": name,
            "node": node,
            "control_plane": self._nodes[node]["control_plane"],
            "actions": actions,
            "drain": bool(actions) and self._nodes[node]["kubelet_version"] != self._target.version,
            "half_done": self._half_done[node],
        }


def describe(made: Plan, rules: Rules) -> list[str]:
    """Return the whole plan for people, a line a step, in the order in which it is carried out."""
    if made.idle:
        return [f"Nothing to do: every host runs {made.version}."]
    steps = [f"all hosts: fetch the packages of {made.version}, pull the images"]
    if made.control_plane_turns or made.etcd_turns:
        steps.append("a control plane: save and verify a snapshot of etcd")
    steps += [
        f"{name}: etcd to {made.etcd.step}, the patch that comes before the next minor"
        for name in made.etcd_turns
    ]
    rows = {row["host"]: row for row in made.hosts}
    for name in made.control_plane_turns:
        words = [word for word in rows[name]["actions"] if word not in ("kubelet", f"etcd {made.etcd.step}")]
        steps.append(f"{name}: {', '.join(words)}")
    if made.addons:
        steps.append(f"{made.addons}: kube-proxy and CoreDNS")
    steps += [f"{name}: drain, kubelet, uncordon" for name in made.kubelet_turns]
    steps += [f"{', '.join(names)}: drain, kubelet, uncordon" for names in batches(made.worker_turns, rules)]
    steps.append("the cluster is looked at and used as an application would")
    width = len(str(len(steps)))
    return [f"{number:>{width}}. {step}" for number, step in enumerate(steps, 1)]


def batches(names: Sequence[str], rules: Rules) -> list[Sequence[str]]:
    """Return the workers as they go together, as Ansible's `serial` cuts them."""
    size = str(rules.batch)
    count = max(1, int(int(size[:-1]) / 100 * len(names))) if size.endswith("%") else max(1, int(size))
    first = rules.canary if 0 < rules.canary < len(names) else 0
    parts = [names[:first]] if first else []
    return parts + [names[at : at + count] for at in range(first, len(names), count)]


def _row(component: str, node: str, before: str, after: str) -> dict[str, str]:
    return {"component": component, "node": node, "from": before, "to": after}


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value or '(none)'}" for name, value in values.items())
