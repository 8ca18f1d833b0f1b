# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan of settings on one host: each step is seen to work before the next one begins.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._guarded_file import GuardedFile
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import etcd_access
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_proxy import KubeProxy
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import failure
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_render import config_text
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_settings import (
    CERTIFICATE,
    KUBEADM_CONFIG,
    KUBELET,
    KUBELET_CONFIG,
    PATCHES,
    PROXY,
    Observed,
    Pair,
    Wanted,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kubectl_yaml import Translator
from ansible_collections.kubewright.cluster.plugins.module_utils._kubelet_settings import CONFIG, Kubelet
from ansible_collections.kubewright.cluster.plugins.module_utils._mounted_files import missing_paths
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._serving_certificate import (
    ServingCertificate,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._settings_diff import Step
from ansible_collections.kubewright.cluster.plugins.module_utils._static_pods import (
    MANIFESTS,
    Change,
    StaticPods,
)

_TIMEOUT = 120.0  # seconds, for kubeadm to write a ConfigMap


class Applier:
    """Carries out the steps of *wanted*, one after the other. The first failure ends the work."""

    def __init__(
        self,
        runner: Runner,
        api: KubeApi,
        pods: StaticPods,
        wanted: Wanted,
        observed: Observed,
        private: Path,
        deadline: Callable[[], Deadline],
    ) -> None:
        self._runner = runner
        self._api = api
        self._pods = pods
        self._wanted = wanted
        self._observed = observed
        self._private = private
        self._deadline = deadline

    def apply(self, steps: Sequence[Step]) -> None:
        """Do the steps. An error carries those that were done before it as the fact ``done``."""
        for step in steps:
            if step.target in self._observed.pods:
                self._refuse_missing(step.target)
        done: list[str] = []
        try:
            for step in steps:
                self._apply_one(step, steps)
                done.append(step.target)
        except KubewrightError as error:
            error.facts["done"] = done
            raise

    def _refuse_missing(self, component: str) -> None:
        missing = missing_paths(self._observed.pods[component].wanted)
        if missing:
            raise KubewrightError(
                f"{component} is to mount what is not on this host",
                where=", ".join(missing),
                remedy="Put it there first, or correct the volume's path. No component of this host was changed",
            )

    def _apply_one(self, step: Step, steps: Sequence[Step]) -> None:
        if step.target in self._observed.pods:
            self._pod(step)
        elif step.target == CERTIFICATE:
            self._certificate(any(other.target == "kube-apiserver" for other in steps))
        elif step.target == KUBELET:
            self._kubelet(step)
        elif step.target == PATCHES:
            for name in self._observed.left_patches:
                (self._wanted.patches_folder / name).unlink()
        elif step.target == KUBEADM_CONFIG:
            self._upload("kubeadm")
        elif step.target == KUBELET_CONFIG:
            self._upload("kubelet")
        elif step.target == PROXY:
            KubeProxy(self._api, self._deadline).replace(*self._observed.proxy_texts)

    def _certificate(self, restarted_anyway: bool) -> None:
        certificate = ServingCertificate(self._runner)
        certificate.renew(self._wanted.documents, self._private)
        if not restarted_anyway:
            certificate.wait_served(self._wanted.address, self._deadline())

    def _pod(self, step: Step) -> None:
        pair = self._observed.pods[step.target]
        file = GuardedFile(MANIFESTS / f"{step.target}.yaml")
        healthy = self._etcd_health() if step.target == "etcd" else _always
        if step.changes:
            text = Translator(self._runner).write(dict(pair.wanted))
            self._pods.replace(Change(file, step.target, pair.live, pair.wanted, text, healthy))
        else:
            self._pods.prove(file, step.target, pair.live, healthy)

    def _etcd_health(self) -> Callable[[], bool]:
        """Return a check that every member is healthy again, none is missing and all see one leader."""
        access = etcd_access(Path("/"))
        if access is None:
            return _always
        client = EtcdCtl(self._runner, access.endpoints, access.cacert, access.cert, access.key)

        def healthy() -> bool:
            try:
                members = client.observe().members
            except KubewrightError:
                return False
            return bool(members) and all(member.healthy and not member.is_learner for member in members)

        return healthy

    def _kubelet(self, step: Step) -> None:
        pair = self._observed.kubelet or Pair({}, {})
        file = GuardedFile(CONFIG)
        kubelet = Kubelet(self._runner, self._api, self._wanted.node_name, self._deadline)
        if step.changes:
            kubelet.replace(file, pair.text, pair.wanted, pair.live)
        else:
            kubelet.prove(file, pair.live)

    def _upload(self, what: str) -> None:
        argv = ["kubeadm", "init", "phase", "upload-config", what, "--config=/dev/stdin"]
        done = self._runner.run(
            argv, check=False, stdin=config_text(self._wanted.documents), timeout=_TIMEOUT
        )
        if done.rc != 0:
            raise CommandError(
                f"kubeadm did not store the configuration of {what} in the cluster",
                cmd=argv,
                rc=done.rc,
                stderr=done.stderr,
                why=failure(done.stderr) or failure(done.stdout),
                remedy="This host has its new settings. Correct the cause and run again for the rest",
            )


def _always() -> bool:
    return True
