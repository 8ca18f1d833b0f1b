# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback in runs of ansible-playbook, on two hosts that are this machine, and in one that is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._report_files import look

ROOT = Path(__file__).parents[4]
SECRET = "correct-horse-battery"
TOKEN = "abcdef.0123456789abcdef"

# Says, judges, changes, waits until the third look, does what is kept secret, and fails on one host if told so.
PLAY = """
- name: Look
  hosts: all
  gather_facts: false
  tasks:
    - name: Say what will be done
      ansible.builtin.debug:
        msg: ["1. {{ inventory_hostname }} works", "2. <b>{{ my_password }}</b>"]
      run_once: true
    - name: Judge
      ansible.builtin.assert:
        that: true
        quiet: true

- name: Work one by one
  hosts: all
  gather_facts: false
  serial: 1
  tasks:
    - name: Work on {{ inventory_hostname }}
      ansible.builtin.command: sleep {{ seconds | default(0) }}
    - name: Wait
      ansible.builtin.command: sh -c 'echo x >> {{ looks }}; test $(wc -l < {{ looks }}) -ge 3'
      vars:
        looks: "{{ folder }}/{{ inventory_hostname }}"
      changed_when: false
      register: waited
      until: waited.rc == 0
      retries: 5
      delay: 0
      delegate_to: one
    - name: Do what is kept secret
      ansible.builtin.command: "false"
      no_log: true
      ignore_errors: true
    - name: Try and be saved
      block:
        - name: Try
          ansible.builtin.fail:
            msg: The token abcdef.0123456789abcdef is old.
      rescue:
        - name: Say what is next
          ansible.builtin.debug:
            msg: Saved.
    - name: Fail when told so
      ansible.builtin.assert:
        that: inventory_hostname != failing | default('')
        fail_msg: "{{ inventory_hostname }} was to fail. Tell it to do better."
        quiet: true

- name: Sum the run up
  hosts: all
  gather_facts: false
  roles:
    - role: kubewright.cluster.kube_report
"""


class Ansible:
    """Runs the playbook in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reports = folder / "reports"
        (folder / "do_things.yml").write_text(PLAY)
        common = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "kube_cluster_name": "tiny",
            "folder": str(folder),
            "my_password": SECRET,
        }
        groups = {
            "control_plane": {"hosts": {"one": None}},
            "workers": {"hosts": {"two": None}},
            "elsewhere": {"hosts": {"keeper": None}},
        }
        inventory = {"all": {"children": groups, "vars": common}}
        (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        for name in ("one", "two"):
            (self.folder / name).unlink(missing_ok=True)
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible/collections"),
            "ANSIBLE_CALLBACKS_ENABLED": "kubewright.cluster.report",
            "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CONFIG": os.devnull,
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "PYTHONUNBUFFERED": "1",
        }
        return subprocess.Popen(
            ["ansible-playbook", "-i", "hosts.yml", "--limit", "one:two", *arguments],
            cwd=self.folder,
            env={**os.environ, **settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> str:
        """Return what a run prints."""
        process = self.start(*(arguments or ("do_things.yml",)), **environment)
        return process.communicate(timeout=120)[0]

    def page(self) -> tuple[Path, str]:
        """The newest report."""
        path = max(self.reports.glob("*.html"), key=lambda one: one.stat().st_mtime_ns)
        return path, path.read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="kubewright-run">(.*)</script>', page)
    assert found
    return dict(json.loads(found[1]))


@pytest.fixture(scope="module")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    return Ansible(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def ended(ansible: Ansible) -> tuple[str, dict[str, Any]]:
    """What a run that ends well prints, and the data of its report."""
    settings = {"kube_report_dest": "{{ folder }}/reports", "kube_report_progress_seconds": 1, "seconds": 4}
    output = ansible.run("do_things.yml", "-e", json.dumps(settings))
    return output, data_of(ansible.page()[1])


def test_the_report_says_what_happened(ansible: Ansible, ended: tuple[str, dict[str, Any]]) -> None:
    output, data = ended
    path, _page = ansible.page()
    assert f"The report of this run: {path}" in output and path.name.startswith("tiny-do-things-")
    assert data["state"] == "done" and data["busy"] == []
    assert data["about"]["roles"] == {"one": "control plane", "two": "worker"}
    assert data["about"]["limit"] == "one:two"
    assert [phase["name"] for phase in data["phases"]] == ["Look", "Work one by one", "Sum the run up"]
    assert {host: row["state"] for host, row in data["hosts"].items()} == {"one": "", "two": ""}


def test_steps_have_the_names_and_times_that_they_had(ended: tuple[str, dict[str, Any]]) -> None:
    _output, data = ended
    found = [
        (host, data["tasks"][task], state)
        for host, _phase, task, began, ended_at, _kind, state, _tries in data["steps"]
        if 3.9 < ended_at - began < 30
    ]
    assert found == [("one", "Work on one", "changed"), ("two", "Work on two", "changed")]


def test_gates_and_waits_are_told(ended: tuple[str, dict[str, Any]]) -> None:
    _output, data = ended
    gates = [
        (gate["task"], gate["host"], gate["kind"], gate["tries"], gate["passed"]) for gate in data["gates"]
    ]
    assert gates == [
        ("Judge", "one", "gate", 1, True),
        ("Judge", "two", "gate", 1, True),
        ("Wait", "one", "wait", 3, True),
        ("Fail when told so", "one", "gate", 1, True),
        ("Wait", "two", "wait", 3, True),
        ("Fail when told so", "two", "gate", 1, True),
    ]


def test_what_was_said_is_kept(ended: tuple[str, dict[str, Any]]) -> None:
    _output, data = ended
    assert [(said["task"], said["planned"]) for said in data["said"]] == [
        ("Say what will be done", True),
        ("Say what is next", False),
        ("Say what is next", False),
    ]


def test_failures_that_were_dealt_with_are_told(ended: tuple[str, dict[str, Any]]) -> None:
    _output, data = ended
    found = [(one["host"], one["task"], one["state"], one["why"]) for one in data["failures"]]
    assert found[:2] == [
        ("one", "Do what is kept secret", "ignored", ""),
        ("one", "Try", "failed", "The token ******** is old."),
    ]


def test_no_secret_is_in_it(ansible: Ansible, ended: tuple[str, dict[str, Any]]) -> None:
    _path, page = ansible.page()
    assert SECRET in ended[0] and SECRET not in page and TOKEN not in page and "********" in page


def test_what_takes_long_says_so(ended: tuple[str, dict[str, Any]]) -> None:
    output, _data = ended
    lines = [line for line in output.splitlines() if line.startswith("[")]
    assert re.search(r"^\[\d+(\.\d)? s\] Work one by one \| one: Work on one \| 1 s$", lines[0])
    assert any(re.search(r"\| two: Work on two \| [123] s$", line) for line in lines)


def test_a_workflow_is_told(ended: tuple[str, dict[str, Any]]) -> None:
    output, _data = ended
    text = output[output.index("CUSTOM STATS") :]
    for word in (
        "kubewright_report",
        '"state": "done"',
        '"operation": "do_things"',
        '"cluster": "tiny"',
        '"passed": 4',
    ):
        assert word in text


def test_a_run_that_fails_leaves_its_report(ansible: Ansible) -> None:
    output = ansible.run("do_things.yml", "-e", "kube_report_dest=reports failing=two")
    path, page = ansible.page()
    data = data_of(page)
    assert f"The report of this run: {path}" in output
    assert data["state"] == "failed" and data["hosts"]["two"]["state"] == "failed"
    assert data["failures"][-1]["why"] == "two was to fail. Tell it to do better."
    assert "✕ two: Fail when told so" in page


def test_without_a_place_no_report_is_kept(ansible: Ansible) -> None:
    before = len(list(ansible.reports.iterdir()))
    output = ansible.run("do_things.yml")
    assert "The report of this run" not in output and '"state": "done"' in output
    assert len(list(ansible.reports.iterdir())) == before


def test_a_host_keeps_it_outside_of_the_limit_also_where_the_run_fails(ansible: Ansible) -> None:
    folder = ansible.folder / "kept"
    settings = {"kube_report_dest": str(folder), "kube_report_host": "keeper", "failing": "one"}
    output = ansible.run("do_things.yml", "-e", json.dumps(settings))
    (path,) = folder.iterdir()
    assert f"The report of this run: keeper:{path}" in output
    data = data_of(path.read_text(encoding="utf-8"))
    assert (
        data["state"] == "failed"
        and "Keep the report" not in output
        and list(data["hosts"]) == ["one", "two"]
    )


def test_a_host_that_takes_nothing_stops_nothing(ansible: Ansible) -> None:
    settings = {"kube_report_dest": str(ansible.folder / "hosts.yml"), "kube_report_host": "keeper"}
    output = ansible.run("do_things.yml", "-e", json.dumps(settings))
    assert (
        output.count("No report is kept: The host that kube_report_host names does not take the report") == 2
    )
    assert "failed=0" in output


def test_a_check_changes_nothing_and_leaves_what_it_planned(ansible: Ansible) -> None:
    ansible.run("do_things.yml", "--check", "-e", "kube_report_dest=reports")
    data = data_of(ansible.page()[1])
    assert data["about"]["check"] and all(said["planned"] for said in data["said"])


def test_what_programs_read_stays_readable(ansible: Ansible) -> None:
    settings = {"kube_report_dest": "reports", "kube_report_progress_seconds": 0.1, "seconds": 1.5}
    output = ansible.run(
        "do_things.yml", "-e", json.dumps(settings), ANSIBLE_STDOUT_CALLBACK="ansible.posix.json"
    )
    assert json.loads(output[output.index("{") :])["plays"]


def test_ctrl_c_leaves_a_report_and_a_kill_one_that_the_next_run_recognizes(
    ansible: Ansible, tmp_path: Path
) -> None:
    for number, kind in enumerate((signal.SIGINT, signal.SIGKILL)):
        process = ansible.start("do_things.yml", "-e", f"kube_report_dest={tmp_path}/reports seconds=60")
        assert process.stdout
        for line in process.stdout:
            if "Work on one" in line:
                break
        # Until the task has been begun, and a little longer.
        time.sleep(1)
        os.killpg(process.pid, kind)
        process.communicate(timeout=60)
        states = [data_of(path.read_text())["state"] for path in sorted((tmp_path / "reports").iterdir())]
        assert states == ["cut_off", "running"][: number + 1]
        time.sleep(1)
    killed = max((tmp_path / "reports").iterdir()).name
    output = ansible.run("do_things.yml", "-e", f"kube_report_dest={tmp_path}/reports")
    assert "has not told its end: it was cut off." in output and killed in output
    found = sorted((tmp_path / "reports").iterdir())
    assert [data_of(path.read_text())["state"] for path in found] == ["cut_off", "cut_off", "done"]
    assert look(str(tmp_path / "reports"), "tiny", "do_things", "").untold == {}


def test_the_playbooks_of_the_collection_need_no_setting(ansible: Ansible) -> None:
    """One that refuses before it does anything, called by its name and from a playbook of somebody else."""
    (ansible.folder / "mine.yml").write_text(
        "- ansible.builtin.import_playbook: kubewright.cluster.remove_node\n"
    )
    for playbook in ("kubewright.cluster.remove_node", "mine.yml"):
        ansible.run(playbook, "-e", "kube_report_dest=reports", ANSIBLE_CALLBACKS_ENABLED="")
        data = data_of(ansible.page()[1])
        assert data["about"]["operation"] == playbook.rpartition(".")[2].replace("yml", "mine")
        assert data["state"] == "failed" and "Say what to remove" in data["failures"][-1]["why"]


def test_who_only_carries_the_summary_is_not_in_it(ansible: Ansible) -> None:
    look = {"hosts": "two", "gather_facts": False, "tasks": [{"ansible.builtin.debug": None}]}
    last = {"ansible.builtin.import_playbook": str(ROOT / "playbooks/parts/summary.yml")}
    (ansible.folder / "few.yml").write_text(yaml.safe_dump([look, last]))
    output = ansible.run("few.yml", "-e", "kube_report_dest=reports")
    assert '"operation": "few"' in output and '"state": "done"' in output
    assert list(data_of(ansible.page()[1])["hosts"]) == ["two"]


def test_enabled_besides_it_reports_once(ansible: Ansible) -> None:
    output = ansible.run("kubewright.cluster.remove_node", "-e", "kube_report_dest=reports")
    assert output.count("The report of this run") == 1
