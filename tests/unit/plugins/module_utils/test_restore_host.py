# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is said to have before a restore."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils import _restore_host as restoring
from ansible_collections.kubewright.cluster.plugins.module_utils._held_pods import COMPONENTS, MANIFESTS
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

AUTHORITY = (Path(__file__).parents[2] / "fixtures" / "x509" / "certificate_ca.pem").read_text()
NEEDED, _COMPONENTS, _TRACES = restoring._PARTS["control_plane"]


def lay(root: Path, path: str, text: str = "") -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_a_control_plane_whose_authority_keeps_its_key_elsewhere(tmp_path: Path) -> None:
    for path in NEEDED:
        lay(tmp_path, path, AUTHORITY if path.endswith("ca.crt") else "")
    for name in COMPONENTS:
        lay(tmp_path, f"{MANIFESTS}/{name}.yaml")
    lay(tmp_path, restoring.ENCRYPTION, '{"keys": [{"name": "key-1", "secret": "c2Vj"}]}')
    layout = restoring.Layout("control_plane", str(tmp_path / "data"), [], "none", "none", "none")
    seen = restoring.observe(Runner(lambda argv, **_options: (1, "", "")), layout, tmp_path)
    assert seen["whole"] and not (tmp_path / "etc/kubernetes/pki/ca.key").exists()
    assert seen["encryption_keys"] == ["key-1"] and seen["authorities"]["cluster_ca"]
    # As names of backups have it, so that the two can be compared.
    assert restoring.since(str(tmp_path / "etc/kubernetes/pki/ca.crt")) == seen["since"] != ""
    (tmp_path / "etc/kubernetes/pki/sa.key").unlink()
    broken = restoring.observe(Runner(lambda argv, **_options: (1, "", "")), layout, tmp_path)
    assert broken["missing"] == ["/etc/kubernetes/pki/sa.key"]


def test_the_revision_of_a_data_folder(tmp_path: Path) -> None:
    """Where the file is in use or cannot be read, the one that a restore gave it is the least that there was."""
    lay(tmp_path, "member/snap/db", "damaged")
    lay(tmp_path, "member/kubewright-restore.json", json.dumps({"revision": 1_000_000_007, "token": "x"}))
    (tmp_path / "postgres").mkdir()
    found = restoring.data_folder(str(tmp_path))
    assert found["revision"] == 1_000_000_007 and found["foreign"] == ["postgres"]
    assert restoring.data_folder(str(tmp_path / "none"))["revision"] == 0


def test_a_time_that_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("none")
    assert restoring.since(str(tmp_path / "ca.crt")) == restoring.since(str(tmp_path / "missing")) == ""
