# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let kubeadm say what it would write for a configuration, without writing it anywhere that counts.

kubeadm's dry run of single phases writes the files that it would write into the folder of the environment
variable ``KUBEADM_INIT_DRYRUN_DIR`` and prints the objects that it would create (kubeadm of 1.36,
cmd/kubeadm/app: constants, cmd/init.go, util/apiclient/dryrun.go). A call takes some hundredths of a second
and asks no server. What kubeadm itself renders stays right when kubeadm changes its mind about a default.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import failure
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
COMPONENTS = ("etcd", *CONTROL_PLANE)

_TIMEOUT = 60.0  # seconds

# The dry run of upload-config loads a kubeconfig from its folder. Nobody listens at this address: kubeadm
# then pretends that the objects do not exist yet, and prints them.
_NOWHERE = """\
apiVersion: v1
kind: Config
clusters: [{name: nowhere, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
users: [{name: nobody, user: {}}]
current-context: nowhere
"""


class Renderer:
    """Runs kubeadm's phases dry in *folder*, which must be private and empty.

    *documents* are the documents of a kubeadm configuration; *patches* are the contents of kubeadm's patch
    files by their names.
    """

    def __init__(
        self,
        run_command: Callable[..., tuple[int, str, str]],
        folder: Path,
        documents: Sequence[Mapping[str, Any]],
        patches: Mapping[str, str],
    ) -> None:
        self._runner = Runner(run_command, env={"KUBEADM_INIT_DRYRUN_DIR": str(folder)})
        self._folder = folder
        if patches:
            documents = with_patches(documents, _write_patches(folder / "patches", patches))
        self._config = config_text(documents)

    def manifests(self, *, etcd: bool) -> dict[str, str]:
        """Return the static pod manifest of each component."""
        self._run("control-plane", "all")
        if etcd:
            self._run("etcd", "local")
        names = COMPONENTS if etcd else CONTROL_PLANE
        return {name: self._text(f"{name}.yaml") for name in names}

    def kubelet(self) -> str:
        """Return the kubelet's configuration file."""
        self._run("kubelet-start")
        return self._text("config.yaml")

    def config_maps(self) -> list[str]:
        """Return the ConfigMaps kubeadm-config, kubelet-config and kube-proxy."""
        (self._folder / "admin.conf").write_text(_NOWHERE, encoding="utf-8")
        found = attached(self._run("upload-config", "all"))
        found += self._run("addon", "kube-proxy", "--print-manifest", dry=False).split("---")
        return [text for text in found if re.search(r"^kind: ConfigMap$", text, re.MULTILINE)]

    def _text(self, name: str) -> str:
        return (self._folder / name).read_text(encoding="utf-8")

    def _run(self, *words: str, dry: bool = True) -> str:
        argv = ["kubeadm", "init", "phase", *words, "--config=/dev/stdin", *(["--dry-run"] if dry else [])]
        done = self._runner.run(argv, check=False, stdin=self._config, timeout=_TIMEOUT)
        if done.rc != 0:
            raise CommandError(
                "kubeadm does not accept the settings",
                cmd=argv,
                rc=done.rc,
                stderr=done.stderr,
                why=failure(done.stderr) or failure(done.stdout),
                remedy="Correct the variable that kubeadm's message is about. No component of this host was changed",
            )
        return done.stdout


def config_text(documents: Sequence[Mapping[str, Any]]) -> str:
    """Return the documents as kubeadm reads them; JSON is YAML."""
    return "\n---\n".join(json.dumps(document) for document in documents) + "\n"


def with_patches(documents: Sequence[Mapping[str, Any]], folder: Path) -> list[Mapping[str, Any]]:
    """Name the folder of the patches in InitConfiguration: kubeadm takes no flag for it beside a configuration."""
    return [
        {**document, "patches": {"directory": str(folder)}}
        if document.get("kind") == "InitConfiguration"
        else document
        for document in documents
    ]


def _write_patches(folder: Path, patches: Mapping[str, str]) -> Path:
    folder.mkdir(mode=0o700)
    for name, content in patches.items():
        if os.path.basename(name) != name or name.startswith("."):
            raise KubewrightError(f"{name!r} is not a file name", remedy="Name the patch without a folder")
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def attached(output: str) -> list[str]:
    """Return the objects that a dry run of kubeadm prints among its messages, which begin with a bracket."""
    objects = re.findall(r"^\[dryrun\] Attached object:\n((?:(?!\[).*\n)+)", output, re.MULTILINE)
    return [str(text) for text in objects]


def config_map_texts(config_maps: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return name -> data of ConfigMaps."""
    return {one["metadata"]["name"]: dict(one.get("data") or {}) for one in config_maps}
