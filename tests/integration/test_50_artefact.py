"""The built artefact, installed into an empty folder, runs from anywhere."""

from __future__ import annotations

from pathlib import Path

from labtools import ROOT, recap, run


def test_artefact_installs_and_runs(tmp_path: Path) -> None:
    """ansible-playbook kubewright.cluster.site from another folder, without the checkout: nothing changes."""
    run("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), str(ROOT))
    (artefact,) = tmp_path.glob("kubewright-cluster-*.tar.gz")
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
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "inventory").symlink_to(ROOT / "inventories/lab")
    output = run(
        "ansible-playbook", "-i", "inventory", "kubewright.cluster.site", env=environment, cwd=folder
    )
    counts = recap(output)
    assert len(counts) == 5 and all(one["changed"] == 0 for one in counts.values()), output[-3000:]


def test_artefact_holds_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    """Licence, changelog, playbooks and roles are in; the work of tools and the lab's state are not."""
    run("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), str(ROOT))
    (artefact,) = tmp_path.glob("kubewright-cluster-*.tar.gz")
    names = set(run("tar", "-tzf", str(artefact)).split())
    assert {
        "LICENSE",
        "README.md",
        "meta/runtime.yml",
        "playbooks/site.yml",
        "roles/kube_host/tasks/main.yml",
    } <= names
    unwanted = [
        name
        for name in names
        if name.startswith((".lab", ".ansible/", ".git/", "tests/output/")) or "__pycache__" in name
    ]
    assert not unwanted
