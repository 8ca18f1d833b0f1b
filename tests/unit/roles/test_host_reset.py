"""A reset that is killed anywhere is found by the next run: its note is there before kubeadm, and goes last."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils import _half_done as half_done

TASKS = Path(__file__).parents[3] / "roles" / "kube_host" / "tasks" / "reset.yml"


def test_the_note_comes_before_kubeadm_and_goes_last() -> None:
    tasks = yaml.safe_load(TASKS.read_text())
    note, kubeadm = next(one["block"] for one in tasks if "block" in one)
    [file] = note["kubewright.cluster.host_files"]["files"]
    assert file["path"] == half_done.NOTE
    assert "kubeadm" in kubeadm["ansible.builtin.command"]["argv"]
    assert tasks[-1]["ansible.builtin.file"]["state"] == "absent"
    assert tasks[-1]["loop"][-1] == half_done.NOTE
