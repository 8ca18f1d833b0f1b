"""Jobs of AWX on a whole cluster: the templates of awx/, out of a synced project, by a user that is not root.

AWX itself does not run here: ansible-runner runs private data directories that are laid out as AWX does. Needs the
whole cluster of the demo and leaves it as it was. `make soak` (KUBEWRIGHT_ALL_FAULTS) tries every template.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from awxjob import Job, bring_lab, template
from labtools import ROOT, Notes, run
from upgradelab import NEW, OLD, fingerprints, soak

from lab import ee, nodes

# Nobody in particular; it has no home, and cannot read root's.
NOBODY = 65534
# What belongs to the cluster and to nobody's disk.
SECRETS = (b"PRIVATE KEY", b"client-key-data", b"certificate-authority-data", b"AGE-SECRET-KEY")


@pytest.fixture(scope="module")
def programs() -> Iterator[str]:
    """Ansible as the execution environment has it, where anybody can read it."""
    with TemporaryDirectory(dir="/var/tmp", prefix="kubewright-") as folder:
        os.chmod(folder, 0o755)
        uv = nodes.ansible_tool("uv")
        run(uv, "venv", "--quiet", "--python", "/usr/bin/python3", f"{folder}/python")
        run(uv, "pip", "install", "--quiet", "--python", f"{folder}/python/bin/python", *ee.needs().python)
        yield f"{folder}/python/bin"


@pytest.fixture(scope="module")
def job(programs: str) -> Iterator[Job]:
    """A job of the lab's inventory, with its project synced."""
    with TemporaryDirectory(dir="/var/tmp", prefix="awx-") as folder:
        os.chmod(folder, 0o755)
        made = Job(Path(folder) / "job", user=NOBODY, programs=programs)
        made.sync()
        bring_lab(made)
        yield made


def disk(job: Job) -> dict[str, tuple[int, int]]:
    """Return what lies on the controller and is no record of a job, with sizes and times."""
    found = {}
    for path in job.folder.rglob("*"):
        parts = path.relative_to(job.folder).parts
        if parts[0] not in ("artifacts", "cp", "env") and "__pycache__" not in parts and path.is_file():
            about = path.stat()
            found["/".join(parts)] = (about.st_size, about.st_mtime_ns)
    return found


def test_a_job_verifies_the_cluster(job: Job, notes: Notes) -> None:
    """And leaves neither state nor any secret of the cluster on the controller."""
    before = disk(job)
    done = job.run(template("verify")["playbook"], {"verify_wait": 30})
    assert done.code == 0, done.said[-4000:]
    totals = done.totals()
    assert len(totals["ok"]) == 5 and not totals["failures"] and not totals["dark"]
    assert "Every node runs pods" in done.line
    assert disk(job) == before
    records = [path for path in done.artifacts.rglob("*") if path.is_file()]
    assert len(records) > 50
    assert not [path for path in records if any(secret in path.read_bytes() for secret in SECRETS)]
    notes.add(f"verify.yml as a job of AWX: {done.seconds():.0f} s")


def test_a_job_of_the_type_check_changes_nothing(job: Job) -> None:
    """As site.yml run again: it has nothing to do."""
    done = job.run(template("site")["playbook"], {}, "--check", "--diff")
    assert done.code == 0, done.said[-4000:]
    totals = done.totals()
    assert not totals["failures"] and not totals["dark"] and not any(totals["changed"].values())


def test_answers_of_a_survey_reach_the_roles(job: Job) -> None:
    """A version as a text, numbers as numbers, and a text that says false is false."""
    answers = {
        "kube_cluster_version": NEW,
        "kube_rolling_canary": 0,
        "kube_rolling_batch": "100%",
        "kube_rolling_take_over_lock": "false",
        "kube_upgrade_accept_not_ready_workers": "false",
    }
    done = job.run(template("upgrade")["playbook"], answers, "--check")
    assert done.code == 0, done.said[-4000:]
    assert f"Kubernetes {OLD} -> {NEW}" in done.line


def test_a_kubeconfig_is_not_written_to_the_container_of_a_job(job: Job) -> None:
    person = {"name": "jane@example.com", "path": f"{job.folder}/home/jane.conf"}
    done = job.run(template("user_access")["playbook"], {"kube_user_access_people": [person]})
    assert done.code != 0 and "The kubeconfig of jane@example.com would be lost" in done.line


# By the playbook: answers, and what a check of a whole cluster says; those with a word for "refused" do not end well.
CHECKS: dict[str, tuple[dict[str, Any], str]] = {
    "backup": ({"backup_wait": 60}, ""),
    # The demo has no volumes, and no host that is a mirror.
    "logging": (
        {"kube_logging_elasticsearch_version": "9.5.3", "kube_logging_canary_seconds": 60},
        "There is no storage class for the volumes of Elasticsearch",
    ),
    "maintain_nodes": (
        {"kube_maintenance_packages": "none", "kube_maintenance_reboot": "never"},
        "Nothing to do.",
    ),
    "metrics_door": ({"kube_metrics_door_renew_days": 30}, ""),
    "mirror": (
        {"kube_mirror_versions": f"{OLD},{NEW}", "kube_mirror_fill": "true"},
        "no host in the group mirrors",
    ),
    "monitoring": (
        {"kube_monitoring_accept_no_volumes": "false", "monitoring_metrics_server": "false"},
        "The cluster has no default class of volumes",
    ),
    "remove_etcd_host": ({"remove_etcd_host": "etcd1", "etcd_cluster_removed_data": "aside"}, ""),
    "remove_node": ({"remove_node": "worker2", "kube_removal_force": "true"}, "worker2"),
    "renew_certificates": ({"kube_certificates_renew_days": 366.0}, ""),
    "replace_etcd_member": ({"replace_etcd_member": "cp2"}, "The etcd member of cp2 is healthy and votes."),
    "reset": ({"reset_cluster": "lab", "reset_accept_member_loss": "false"}, ""),
    "restore": ({}, "etcd works: a quorum of its members is there"),
    "rotate_encryption_key": ({}, "Nothing to do. To rotate"),
    "site": ({"kube_cluster_version": OLD}, ""),
    "upgrade": ({"kube_cluster_version": NEW}, f"Kubernetes {OLD} -> {NEW}"),
    "upgrade_etcd": ({"etcd_cluster_version": "3.6.16"}, ""),
    "user_access": ({}, ""),
    "verify": ({"verify_wait": 30}, "NODES"),
}
REFUSED = {"logging", "mirror", "monitoring", "restore"}


def test_every_template_is_tried() -> None:
    assert set(CHECKS) == {path.stem for path in ROOT.glob("playbooks/*.yml")}


@soak
@pytest.mark.parametrize("playbook", sorted(CHECKS))
def test_every_template_can_be_a_check(job: Job, playbook: str) -> None:
    """The job type check works, and touches no host."""
    answers, said = CHECKS[playbook]
    before = fingerprints()
    done = job.run(template(playbook)["playbook"], answers, "--check")
    assert (done.code != 0) == (playbook in REFUSED), done.said[-4000:]
    assert said in done.line, done.said[-4000:]
    assert fingerprints() == before
