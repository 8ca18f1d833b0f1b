# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The encryption configuration on the disk of a control plane, and what its API server made of it.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils import _host_files
from ansible_collections.kubewright.cluster.plugins.module_utils._encryption import (
    Configuration,
    check_layout,
    compose,
    parse,
    render,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import APISERVER_MANIFEST
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

# The API server reports the hash of the file that it uses from its start on, and after each reload. Source:
# apiserver/pkg/server/options/encryptionconfig/metrics, 1.36 and 1.37.
_LOADED = re.compile(
    r'^apiserver_encryption_config_controller_last_config_info\{[^}]*\bhash="(sha256:[0-9a-f]+)"', re.M
)


class EncryptionFile:
    """The file at *path*; it belongs to the user that runs this, who is root on a host."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner = _host_files.Owner(os.geteuid(), os.getegid())

    @contextlib.contextmanager
    def locked(self, make_folder: bool) -> Iterator[None]:
        """Keep every other run from changing the file between reading and writing it.

        The run of an interrupted playbook may still be at work on the host when the next one begins.
        """
        folder = self.path.parent
        if make_folder:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.is_dir():
            yield
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> Configuration | None:
        """Return what the file holds, None without one."""
        found, _missing = _host_files.observe([self._wanted("")])
        there = found[str(self.path)]
        return None if there is None else parse(there.content.decode("utf-8", "replace"), str(self.path))

    def sha256(self) -> str:
        """Return the hash of the file as it is on the disk, empty without one."""
        try:
            return "sha256:" + hashlib.sha256(self.path.read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    def plan(self, wanted: Configuration | None) -> _host_files.Plan:
        """Compare content, mode and owner with what is wanted; None leaves everything as it is.

        A file that says the same in other words is not written again: who only looks changes nothing.
        """
        files = [] if wanted is None else [self._wanted(self._said(wanted))]
        found, missing = _host_files.observe(files)
        return _host_files.plan(files, found, missing, self._owner, 0o700)

    def _said(self, wanted: Configuration) -> str:
        return self.path.read_text(encoding="utf-8") if self.read() == wanted else render(wanted)

    def _wanted(self, content: str) -> _host_files.Wanted:
        return _host_files.Wanted(str(self.path), content.encode(), 0o600)


def wanted(found: Configuration | None, options: Mapping[str, Any], where: str) -> Configuration | None:
    """Return what the file is to hold under the options of the module, None for no file."""
    if not options["layout"] or (found and not options["replace"]):
        return found
    layout = check_layout(options["layout"])
    return compose(found, layout, options["keys"], options["generate"], options["drop"], where)


def describe(file: EncryptionFile, configuration: Configuration | None, root: Path) -> dict[str, Any]:
    """Return what may be said about the file, and how the API server of this host was told to use it."""
    try:
        manifest = (root / APISERVER_MANIFEST.lstrip("/")).read_text(encoding="utf-8")
    except FileNotFoundError:
        manifest = ""
    return {
        "present": configuration is not None,
        "layout": configuration.layout if configuration else {},
        "fingerprints": configuration.fingerprints() if configuration else {},
        "sha256": file.sha256(),
        "time": time.strftime("%Y%m%d-%H%M%S", time.gmtime()),
        "serves": bool(manifest),
        "used": f"--encryption-provider-config={file.path}\n" in manifest,
        "reloads": "--encryption-provider-config-automatic-reload=true\n" in manifest,
    }


def loaded_hash(metrics: str) -> str:
    """Return the hash of the file that an API server uses, empty when it uses none."""
    match = _LOADED.search(metrics)
    return match.group(1) if match else ""


def wait_until_loaded(api: KubeApi, file: EncryptionFile, deadline: Deadline) -> None:
    """Wait until the API server reports that it uses the file as it is now, and is ready."""
    seen = {"hash": ""}

    def loaded() -> bool:
        seen["hash"] = loaded_hash(str(api.get("/metrics")))
        return seen["hash"] == file.sha256() and api.get("/readyz") == "ok"

    try:
        wait_for(loaded, deadline, what="the API server to load its encryption configuration", interval=2)
    except KubewrightError as error:
        error.where = error.where or api.server
        error.why = error.why or (
            f"it uses {seen['hash'] or 'no encryption configuration'}, {file.path} is {file.sha256()}"
        )
        error.remedy = error.remedy or (
            "Look for 'encryption config' in the log of this API server, then run again: it goes on from here"
        )
        raise
