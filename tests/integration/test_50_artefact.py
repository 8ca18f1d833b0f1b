"""The built artefact is what Galaxy takes, and, installed into an empty folder, runs from anywhere."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from labtools import ROOT, recap, run


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact, built from the checkout."""
    folder = tmp_path_factory.mktemp("artefact")
    run("ansible-galaxy", "collection", "build", "--output-path", str(folder), str(ROOT))
    (built,) = folder.glob("kubewright-cluster-*.tar.gz")
    return built


def test_galaxy_takes_it_without_a_warning(artefact: Path, tmp_path: Path) -> None:
    """The importer that Galaxy runs. Its lint is left out: `make check` does more, and `make artefact` has that too."""
    surroundings = {
        "GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false",
        "ANSIBLE_COLLECTIONS_PATH": "",
        "PYTHONPATH": "",
    }
    said = run(sys.executable, "-m", "galaxy_importer.main", str(artefact), cwd=tmp_path, env=surroundings)
    assert "Importer processing completed successfully" in said
    assert not re.search(r"^(WARNING|ERROR|CRITICAL)", said, re.MULTILINE), said
    found = json.loads((tmp_path / "importer_result.json").read_text())
    names = {(one["content_type"], one["name"]) for one in found["contents"]}
    assert {("module", "drain_node"), ("role", "kube_host")} <= names
    assert {("playbook", path.name) for path in ROOT.glob("playbooks/*.yml")} <= names


def test_artefact_installs_and_runs(artefact: Path, tmp_path: Path) -> None:
    """ansible-playbook kubewright.cluster.site from another folder, without the checkout: nothing changes."""
    installed = tmp_path / "installed"
    settings = tmp_path / "ansible.cfg"
    settings.write_text("")
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(installed),
        "ANSIBLE_CONFIG": str(settings),
        "ANSIBLE_PIPELINING": "1",
        "KUBEWRIGHT_LAB_STATE": str(ROOT / ".lab"),
    }
    run(
        "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "-p",
        str(installed),
        str(artefact),
        env=environment,
    )
    # It brings no other one along.
    assert [path.name for path in (installed / "ansible_collections").iterdir() if "." not in path.name] == [
        "kubewright"
    ]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "inventory").symlink_to(ROOT / "inventories/lab")
    output = run(
        "ansible-playbook", "-i", "inventory", "kubewright.cluster.site", env=environment, cwd=folder
    )
    counts = recap(output)
    assert len(counts) == 5 and all(one["changed"] == 0 for one in counts.values()), output[-3000:]


def test_artefact_holds_what_it_needs_and_nothing_else(artefact: Path) -> None:
    """Licence, changelog, playbooks and roles are in; the work of tools and the lab's state are not."""
    names = set(run("tar", "-tzf", str(artefact)).split())
    assert {
        "LICENSE",
        "README.md",
        "awx/job_templates.yml",
        "changelogs/changelog.yaml",
        "meta/execution-environment.yml",
        "meta/runtime.yml",
        "playbooks/site.yml",
        "roles/kube_host/tasks/main.yml",
    } <= names
    unwanted = [
        name
        for name in names
        if name.startswith((".lab", ".ansible/", ".git/", "collections/", "extensions/", "tests/output/"))
        or "__pycache__" in name
    ]
    assert not unwanted
