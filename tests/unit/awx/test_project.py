# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A project of AWX is the top folder of the checkout: a sync makes its playbooks find their own roles and modules."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from awxjob import ROOT, Job, described


@pytest.fixture(scope="module")
def job() -> Iterator[Job]:
    """A job whose project is synced, with an inventory of hosts that nobody reaches."""
    # The path of a socket must be short.
    with TemporaryDirectory(dir="/tmp") as folder:
        made = Job(Path(folder) / "awx")
        made.sync()
        made.bring_inventory(described(ROOT / "inventories/stacked"))
        yield made


def test_a_sync_installs_the_checkout_itself(job: Job) -> None:
    installed = job.folder / "requirements_collections/ansible_collections/kubewright/cluster"
    for part in ("playbooks", "roles/kube_cluster/tasks", "plugins/modules", "meta"):
        compared = filecmp.dircmp(ROOT / part, installed / part, ignore=["__pycache__"])
        assert compared.same_files and not compared.diff_files + compared.left_only + compared.right_only, (
            part
        )


def test_a_job_runs_the_roles_of_the_checkout(job: Job) -> None:
    """An answer of the survey arrives in a role, which refuses it before any host is asked."""
    done = job.run("playbooks/site.yml", {"kube_cluster_version": "1.2.3"})
    assert done.code != 0 and "1.2.3" in done.line
    [failed] = [one for one in done.events("runner_on_failed") if not one.get("ignore_errors")]
    assert failed["task_action"] == "kubewright.cluster.check_description", failed
    [installed] = {one["task_path"].rpartition("/roles/")[0] for one in done.events("runner_on_failed")}
    assert installed == f"{job.folder}/requirements_collections/ansible_collections/kubewright/cluster"


def test_an_answer_is_no_template(job: Job) -> None:
    done = job.run("playbooks/site.yml", {"kube_cluster_version": "{{ 1 + 1 }}"})
    assert done.code != 0 and "{{ 1 + 1 }}" in done.line
