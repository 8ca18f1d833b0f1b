# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mirror_artefacts_info and mirror_artefacts as Ansible calls them: one makes the list, the other brings it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubewright.cluster.plugins.module_utils import _fetch
from ansible_collections.kubewright.cluster.plugins.modules import mirror_artefacts, mirror_artefacts_info
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_upstream import (
    FakePrograms,
    FakeUpstream,
    publish,
)

VERSION = "1.36.3"
PAUSE = "registry.k8s.io/pause:3.10"
PASSWORD = "s3cret-of-the-mirror"


class Site:
    """Upstream, a mirror with its registry, and the two modules."""

    def __init__(
        self,
        upstream: FakeUpstream,
        local: FakeUpstream,
        root: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.upstream, self.root, self.capsys = upstream, root, capsys
        self.programs = FakePrograms(upstream, local)
        names = [f"{name}={VERSION}-1.1" for name in ("kubeadm", "kubelet", "kubectl")]
        publish(upstream, "1.36", [*names, "cri-tools=1.36.0-1.1", "kubernetes-cni=1.9.1-1.1"])
        upstream.image("pause", "3.10")
        self.programs.images[VERSION] = [PAUSE]
        self.common: dict[str, Any] = {"root": str(root), "registry": f"{local.url}/v2"}

    def call(self, module: Any, check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {**self.common, **options, "_ansible_check_mode": check}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        output = self.capsys.readouterr().out
        assert PASSWORD not in output
        result: dict[str, Any] = json.loads(output)
        return result

    def info(self, check: bool = False, **options: Any) -> dict[str, Any]:
        wanted = {
            "versions": [VERSION],
            "package_url": f"{self.upstream.url}/core/v{{minor}}",
            "registries": {"registry.k8s.io": f"{self.upstream.url}/v2"},
            "access": {"other.example": {"username": "kube", "password": PASSWORD}},
        }
        return self.call(mirror_artefacts_info, check, **{**wanted, **options})

    def bring(self, artefacts: list[dict[str, Any]], check: bool = False) -> dict[str, Any]:
        return self.call(mirror_artefacts, check, artefacts=artefacts)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    yield from FakeUpstream().serve()


@pytest.fixture
def local() -> Iterator[FakeUpstream]:
    yield from FakeUpstream().serve()


@pytest.fixture
def site(
    upstream: FakeUpstream,
    local: FakeUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    made = Site(upstream, local, tmp_path / "mirror", capsys)

    def run_command(_module: Any, argv: list[str], **options: Any) -> tuple[int, str, str]:
        return made.programs.run_command(argv, **options)

    monkeypatch.setattr(AnsibleModule, "run_command", run_command)
    return made


def test_list_fill_and_again(site: Site) -> None:
    foretold = site.info(check=True)
    assert not foretold["changed"] and not site.root.exists()
    missing = [one for one in foretold["artefacts"] if not one["held"]]
    assert len(missing) == len(foretold["artefacts"]) == len(foretold["lines"]) == 9
    assert foretold["missing_bytes"] > 0 and foretold["free_bytes"] > 0

    paths = [one["path"] for one in missing]
    would = site.bring(missing, check=True)
    assert would["changed"] and would["brought"] == paths
    assert not site.root.exists()
    done = site.bring(missing)
    assert done["changed"] and done["brought"] == paths

    again = site.info()
    assert all(one["held"] for one in again["artefacts"]) and again["missing_bytes"] == 0
    assert (again["manifest"], again["lines"]) == (foretold["manifest"], foretold["lines"])
    assert not site.bring([one for one in again["artefacts"] if not one["held"]])["changed"]
    # What somebody else brought meanwhile is not brought again.
    files = [one for one in missing if one["kind"] != "image"]
    assert site.bring(files)["brought"] == []


def test_a_folder_by_disk_needs_no_versions(site: Site) -> None:
    made = site.info()
    site.bring(made["artefacts"])
    (site.root / "public/manifest.json").write_text(made["manifest"])
    found = site.call(mirror_artefacts_info, fill=False)
    assert found["manifest"] == made["manifest"] and all(one["held"] for one in found["artefacts"])


def test_to_fill_it_needs_versions(site: Site) -> None:
    failed = site.call(mirror_artefacts_info)
    assert failed["failed"] and "versions" in failed["msg"]


def test_a_registry_that_does_not_run_is_an_error_unless_in_check_mode(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_fetch, "ATTEMPTS", 1)
    nobody = {"registry": "http://127.0.0.1:1/v2"}
    failed = site.info(**nobody)
    assert failed["failed"] and "journalctl -u docker-registry" in failed["msg"]
    assert len(site.info(check=True, **nobody)["artefacts"]) == 9


def test_a_failure_carries_its_facts(site: Site) -> None:
    [one] = [one for one in site.info()["artefacts"] if one["name"] == "kubelet"]
    failed = site.bring([{**one, "digest": f"sha256:{'0' * 64}"}])
    assert failed["failed"] and failed["expected"] == "0" * 64
    assert "does not have its checksum" in failed["msg"]
    assert not (site.root / "public" / one["path"]).exists()
