# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is let in where: passwords and authorities of servers, in the words of each program that downloads.

PRIVATE to the collection: this interface can change in any release.

Secrets go to files of mode 0600 below a folder that goes away with the module, never to a command line.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access, Fetcher, server
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def outside(run_command: Callable[..., tuple[int, str, str]]) -> Runner:
    """Return what runs programs that leave the site: what the collection runs has no proxy otherwise."""
    return Runner(run_command, env={name: os.environ[name] for name in _PROXIES if name in os.environ})


class Servers:
    """What each server wants or needs, by its name with its port, as check_sources documents it."""

    def __init__(self, access: Mapping[str, Mapping[str, str]], folder: str) -> None:
        self._access = {name.lower(): wants for name, wants in access.items()}
        self._folder = folder

    def fetcher(self, url: str, deadline: Deadline) -> Fetcher:
        """Return what downloads from the server of a URL."""
        return Fetcher(self.access(url), deadline)

    def access(self, url: str) -> Access:
        wants = self._wants(url)
        return Access(
            ca_path=self._authorities(url) or None,
            url_username=wants.get("username"),
            url_password=wants.get("password"),
        )

    def apt_options(self, url: str) -> list[str]:
        """Return the options by which apt gets into the server of a URL; those of the host's own files stay."""
        wants, name = self._wants(url), server(url)[1]
        settings = {}
        if wants.get("username"):
            login = f"machine https://{name} login {wants['username']} password {wants['password']}\n"
            settings["Dir::Etc::netrc"] = self._secret("apt.conf", login)
        if authorities := self._authorities(url):
            settings[f"Acquire::https::{name.split(':')[0]}::CAInfo"] = authorities
        return [f"--option={key}={value}" for key, value in settings.items()]

    def skopeo_options(self, url: str) -> list[str]:
        """Return the options by which skopeo reads from the registry of a URL."""
        wants, (scheme, name) = self._wants(url), server(url)
        options = ["--src-tls-verify=false"] if scheme == "http" else []
        if wants.get("username"):
            login = base64.b64encode(f"{wants['username']}:{wants['password']}".encode()).decode()
            options.append(
                f"--src-authfile={self._secret('auth.json', json.dumps({'auths': {name: {'auth': login}}}))}"
            )
        if authorities := self._authorities(url):
            options.append(f"--src-cert-dir={os.path.dirname(authorities)}")
        return options

    def _wants(self, url: str) -> Mapping[str, str]:
        return self._access.get(server(url)[1], {})

    def _authorities(self, url: str) -> str:
        """Return the file of a server's own authorities, alone in its folder as skopeo wants it."""
        text = self._wants(url).get("ca_certificates")
        if not text:
            return ""
        folder = os.path.join(self._folder, server(url)[1].replace(":", "_"))
        os.makedirs(folder, exist_ok=True)
        return self._write(os.path.join(folder, "ca.crt"), text)

    def _secret(self, name: str, text: str) -> str:
        return self._write(os.path.join(self._folder, name), text)

    @staticmethod
    def _write(path: str, text: str) -> str:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path
