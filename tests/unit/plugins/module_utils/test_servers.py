# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._servers import Servers, outside

LOCKED = {
    "Mirror.example:8443": {
        "username": "kube",
        "password": "s3cret",
        "ca_certificates": "-----BEGIN CERTIFICATE-----\n",
    }
}
URL = "https://mirror.example:8443/kubernetes/v1.36/deb"


def value(options: list[str], name: str) -> str:
    [found] = [option.partition(f"{name}=")[2] for option in options if f"{name}=" in option]
    return found


def test_a_server_that_asks_for_nothing_gets_nothing(tmp_path: Path) -> None:
    servers = Servers(LOCKED, str(tmp_path))
    other = "https://other.example/x"
    assert servers.apt_options(other) == servers.skopeo_options(other) == []
    access = servers.access(other)
    assert (access.ca_path, access.url_username, access.url_password) == (None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_no_secret_is_on_a_command_line(tmp_path: Path) -> None:
    servers = Servers(LOCKED, str(tmp_path))
    words = servers.apt_options(URL) + servers.skopeo_options(URL)
    encoded = base64.b64encode(b"kube:s3cret").decode()
    assert not any("s3cret" in word or encoded in word for word in words)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_apt_gets_the_password_of_the_server_and_its_authority(tmp_path: Path) -> None:
    options = Servers(LOCKED, str(tmp_path)).apt_options(URL)
    login = Path(value(options, "Dir::Etc::netrc")).read_text()
    assert login == "machine https://mirror.example:8443 login kube password s3cret\n"
    # apt names a server without its port.
    assert Path(value(options, "Acquire::https::mirror.example::CAInfo")).read_text().startswith("-----BEGIN")


def test_skopeo_gets_them_in_its_own_files(tmp_path: Path) -> None:
    options = Servers(LOCKED, str(tmp_path)).skopeo_options(URL)
    known = json.loads(Path(value(options, "--src-authfile")).read_text())["auths"]
    assert known == {"mirror.example:8443": {"auth": base64.b64encode(b"kube:s3cret").decode()}}
    folder = Path(value(options, "--src-cert-dir"))
    # A file of another name, or a key, would mean something else to it.
    assert [path.name for path in folder.iterdir()] == ["ca.crt"]
    assert Servers({}, str(tmp_path)).skopeo_options("http://mirror.example/v2") == ["--src-tls-verify=false"]


def test_only_what_leaves_the_site_has_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    environment = outside(lambda *_words, **_options: (0, "", "")).environment
    assert environment["https_proxy"] == "http://proxy.example:3128" and environment["HTTPS_PROXY"] == ""
