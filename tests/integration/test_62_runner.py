"""A cluster provisioned, upgraded, backed up and drained out of an execution environment, by ansible-runner.

Each job is a container of its own, as with AWX on a machine: process isolation by podman, the private data directory at
/runner. The image is made of Debian packages, by the definitions of ee/ and meta/. Needs bare hosts of the lab, and
leaves a cluster of NEW. The tests follow each other. Run by `make soak`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from awxjob import Job, Run, bring_lab, data, template
from hardlab import group, kubectl, shell
from labtools import ROOT, Notes, nodes_ready, run, wait_until
from upgradelab import NEW, OLD, cordoned, versions

from lab import ee, nodes, recipes
from lab.cache import Cache

WORKFLOW = data("controller_workflows")[0]
REPORTS = {"kube_report_dest": "/var/log/kubewright-reports", "kube_report_host": "cp1"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The execution environment, with an artefact of this checkout in it."""
    folder = tmp_path_factory.mktemp("artefact")
    run("ansible-galaxy", "collection", "build", "--output-path", str(folder), str(ROOT))
    (artefact,) = folder.glob("*.tar.gz")
    cache = Cache()
    with cache.lock():
        archive = ee.build(cache, recipes.lock()["debian"]["suite"])
        return ee.ensure_image(cache, archive, artefact)


@pytest.fixture(scope="module")
def isolation(image: str) -> dict[str, Any]:
    """What AWX sets for a job on a machine; the lab's hosts are on a network of this one."""
    # How containers start on this machine: with limits that it has, and with the lab's label.
    words = nodes.run_command()
    options = [word for word in words[words.index("run") + 1 :] if word != "--detach"]
    return {
        "process_isolation": True,
        "process_isolation_executable": "podman",
        "container_image": image,
        "container_options": ["--user=root", "--network=host", *options],
    }


@pytest.fixture(scope="module")
def programs() -> Iterator[str]:
    """A podman that starts containers as the lab does, which ansible-runner finds first."""
    with TemporaryDirectory(prefix="kubewright-") as folder:
        words = nodes.run_command()
        before = " ".join(words[: words.index("run")])
        program = Path(folder) / "podman"
        program.write_text(f'#!/bin/sh\nexec {shutil.which("podman")} {before} "$@"\n')
        program.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def job(programs: str, isolation: dict[str, Any]) -> Iterator[Job]:
    """A job of the lab's inventory, with its project synced."""
    with TemporaryDirectory(dir="/var/tmp", prefix="awx-") as folder:
        made = Job(Path(folder) / "job", inside="/runner", programs=programs)
        made.sync()
        bring_lab(made)
        yield made


def done_well(job: Job, playbook: str, isolation: dict[str, Any], **answers: Any) -> Run:
    """Run a playbook in the container; nothing may fail."""
    done = job.run(playbook, answers, **isolation)
    assert done.code == 0, done.said[-6000:]
    totals = done.totals()
    assert not totals["failures"] and not totals["dark"], totals
    assert "podman" in (done.artifacts / "command").read_text()
    return done


def summary(done: Run) -> dict[str, Any]:
    """Return what a run tells the next job, which agrees with the counts of its end and with the page that it left."""
    [stats] = done.events("playbook_on_stats")
    told: dict[str, Any] = stats["artifact_data"]["kubewright_report"]
    assert told["changed"] == sorted(host for host, count in done.totals()["changed"].items() if count)
    host, _, path = told["report"].partition(":")
    found = re.search(r'id="kubewright-run">(.*)</script>', shell(host, f"cat {path}"))
    assert found
    page = json.loads(found[1])
    counts = {name: row["counts"].get("changed", 0) for name, row in page["hosts"].items()}
    assert page["state"] == "done"
    assert {name: count for name, count in counts.items() if count} == done.totals()["changed"]
    return told


def test_the_image_holds_what_was_asked_for(image: str) -> None:
    """Programs of all definitions, the collection, and no other user than the one of an execution environment."""
    script = (
        "set -e; id -u; ansible-runner --version; ssh-add -h 2>&1 | head -1; gpg --version | head -1; age --version; "
        "sshpass -V | head -1; ansible-playbook --version | head -1; ansible-galaxy collection list 2>/dev/null"
    )
    words = nodes.run_command()
    argv = ["podman", *(word for word in words if word != "--detach"), "--rm", image, "sh", "-c", script]
    said = run(*argv).splitlines()
    assert said[0] == "1000"
    assert any(line.startswith("ansible-playbook [core 2.") for line in said), said
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    assert ["kubewright.cluster", version] in [line.split() for line in said]


def test_a_cluster_is_provisioned(job: Job, isolation: dict[str, Any], notes: Notes) -> None:
    done = done_well(job, template("site")["playbook"], isolation)
    wait_until(lambda: len(nodes_ready()) == 5, 120, "five nodes are Ready")
    assert set(versions().values()) == {f"v{OLD}"}
    notes.add(f"site.yml of 3 + 2 hosts in an execution environment: {done.seconds():.0f} s")


def test_the_workflow_upgrades_it(job: Job, isolation: dict[str, Any], notes: Notes) -> None:
    """Verify, back up, upgrade, verify, in the order of awx/workflows.yml; each step gets what it asks for."""
    steps = {one["identifier"]: one for one in WORKFLOW["simplified_workflow_nodes"]}
    templates = {one["name"]: one for one in data("controller_templates")}
    step, seconds, told = steps["verify-before"], list[str](), dict[str, dict[str, Any]]()
    while step:
        found = templates[step["unified_job_template"]]
        asked = {question["variable"] for question in found["survey_spec"]["spec"]}
        answers = {key: value for key, value in {"kube_cluster_version": NEW}.items() if key in asked}
        done = done_well(job, found["playbook"], isolation, **REPORTS, **answers)
        told[step["identifier"]] = summary(done)
        seconds.append(f"{step['identifier']} {done.seconds():.0f} s")
        step = steps[step["success_nodes"][0]] if step.get("success_nodes") else {}
    assert len(seconds) == 4 and set(versions().values()) == {f"v{NEW}"} and not cordoned()
    saved = [shell(host, "ls /var/backups/kubewright/*.tar*", check=False) for host in group("control_plane")]
    assert any(saved)
    assert {one["state"] for one in told.values()} == {"done"}
    upgraded = told["upgrade"]
    assert upgraded["versions"] == {
        "before": dict.fromkeys(nodes_ready(), OLD),
        "after": dict.fromkeys(nodes_ready(), NEW),
    }
    assert upgraded["api"]["answered"] > 0.9 * upgraded["api"]["asked"] > 90, upgraded["api"]
    notes.add(f"the workflow of awx/ in an execution environment, {OLD} -> {NEW}: {', '.join(seconds)}")


DRAIN = """\
- hosts: control_plane[0]
  become: true
  gather_facts: false
  tasks:
    - kubewright.cluster.drain_node:
        name: "{{ drained }}"
        delete_emptydir_data: true
        state: "{{ wanted }}"
"""


def test_a_node_is_drained_by_a_project_of_ones_own(
    programs: str, isolation: dict[str, Any], tmp_path: Path
) -> None:
    """Its project has a playbook and nothing else: the collection is that of the image."""
    worker = group("workers")[0]
    with TemporaryDirectory(dir="/var/tmp", prefix="awx-") as folder:
        job = Job(Path(folder) / "job", inside="/runner", programs=programs)
        (job.folder / "project" / "drain.yml").write_text(DRAIN)
        # A project of one's own has settings of its own.
        (job.folder / "project" / "ansible.cfg").write_text("[ssh_connection]\npipelining = true\n")
        bring_lab(job)
        kubectl("create", "deployment", "drained", "--image=registry.k8s.io/pause:3.10.2", "--replicas=4")
        try:
            kubectl("rollout", "status", "deployment/drained", "--timeout=120s")
            done_well(job, "drain.yml", isolation, drained=worker, wanted="drained")
            assert cordoned() == [worker]
            wide = kubectl("get", "pods", "-l", "app=drained", "-o", "wide", "--no-headers").splitlines()
            assert wide and not [line for line in wide if worker in line]
            done_well(job, "drain.yml", isolation, drained=worker, wanted="uncordoned")
            assert not cordoned()
        finally:
            kubectl("delete", "deployment", "drained")


def test_no_container_is_left() -> None:
    """Each job's container went with the job."""
    names = run("podman", "ps", "--all", "--format", "{{.Names}}", "--filter", f"label={nodes.LABEL}").split()
    assert not [name for name in names if name.startswith("ansible_runner")], names
