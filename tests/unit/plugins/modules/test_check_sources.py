# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.modules.check_sources import access_to


def test_a_server_without_anything_special(tmp_path: Path) -> None:
    access = access_to({}, str(tmp_path))
    assert (access.ca_path, access.url_username, access.url_password) == (None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_credentials_and_authorities(tmp_path: Path) -> None:
    given = {"username": "u", "password": "w", "ca_certificates": "-----BEGIN CERTIFICATE-----\n"}
    access = access_to(given, str(tmp_path))
    assert (access.url_username, access.url_password) == ("u", "w")
    [file] = tmp_path.iterdir()
    assert access.ca_path == str(file)
    assert file.read_text() == given["ca_certificates"]
    assert file.stat().st_mode & 0o777 == 0o600
