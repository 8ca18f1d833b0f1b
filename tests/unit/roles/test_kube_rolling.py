# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a host may be taken out of service and given back, in the words of kube_rolling and of roles that it calls."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from roletexts import evaluate, trusted

ROLES = Path(__file__).parents[3] / "roles"
COREDNS = {"what": "A Deployment is not ready", "where": "kube-system/coredns"}
FLANNEL = {"what": "A DaemonSet is not ready", "where": "kube-flannel/kube-flannel-ds"}
AWAY = {"what": "A node is not ready", "where": "w1"}


def wrong(
    name: str,
    reasons: list[dict[str, str]],
    *,
    batch: tuple[str, ...] = ("w1",),
    cordoned: str = "",
    half_done: tuple[str, ...] = (),
) -> list[str]:
    """Return where something is wrong, as the gate before a turn or after it counts it."""
    words = yaml.safe_load((ROLES / "kube_rolling/vars/main.yml").read_text())
    variables = trusted(words)
    nodes = [{"name": node, "schedulable": node != cordoned} for node in ("cp1", "w1", "w2")]
    variables |= {
        "ansible_play_batch": list(batch),
        "hostvars": {host: {} for host in batch},
        "kube_cluster_node_name": batch[0],
        "__kube_rolling_half_done": list(half_done),
        "__kube_rolling_gate": {"cluster": {"nodes": nodes}, "reasons": reasons},
    }
    return [one["where"] for one in evaluate(f"{{{{ {name} }}}}", variables)]


BEFORE, AFTER = "__kube_rolling_in_the_way", "__kube_rolling_still_wrong"


def test_add_ons_hold_a_turn_up_as_long_as_they_are_not_away_with_the_host() -> None:
    assert wrong(BEFORE, [COREDNS, FLANNEL]) == [COREDNS["where"], FLANNEL["where"]]
    assert wrong(BEFORE, [AWAY, COREDNS, FLANNEL]) == []
    assert wrong(AFTER, [COREDNS]) == [COREDNS["where"]]
    assert wrong(AFTER, [AWAY, FLANNEL], cordoned="w1") == ["w1", FLANNEL["where"]]
    assert wrong(AFTER, [AWAY, FLANNEL], batch=("w2", "w3")) == []


def test_pods_that_wait_for_the_cordoned_node_do_not_keep_it_cordoned() -> None:
    """A cluster of one node: its CoreDNS has nowhere else to go, and the node is given back after the gate."""
    assert wrong(AFTER, [COREDNS], cordoned="w1") == []
    assert wrong(BEFORE, [COREDNS, FLANNEL], cordoned="w1") == [FLANNEL["where"]]
    assert wrong(BEFORE, [COREDNS], cordoned="w2") == [COREDNS["where"]]


def test_workers_that_a_failed_batch_has_left_do_not_stand_in_each_others_way() -> None:
    both = [AWAY, {**AWAY, "where": "w2"}, FLANNEL]
    assert wrong(BEFORE, both, half_done=("w1", "w2")) == []
    # After its own turn a host has to be whole all the same.
    assert wrong(AFTER, both, half_done=("w1", "w2")) == ["w1"]
    assert wrong(BEFORE, both, batch=("cp1",), half_done=("w1",)) == ["w2"]


@pytest.mark.parametrize(
    ("printed", "changed"),
    [
        ("kubelet set on hold.\nkubectl was already set on hold.\n", True),
        ("kubelet was already set on hold.\nkubectl was already set on hold.\n", False),
    ],
)
def test_a_package_that_was_held_is_no_change(printed: str, changed: bool) -> None:
    tasks = yaml.safe_load((ROLES / "kube_host/tasks/packages_move.yml").read_text())
    [condition] = [task["changed_when"] for task in tasks if task["name"] == "Hold the packages"]
    said = {"__kube_host_hold": {"stdout": printed}}
    assert evaluate(f"{{{{ {condition} }}}}", said) is changed


def test_a_load_balancer_that_does_not_answer_ends_no_run(tmp_path: Path) -> None:
    """A task that every host waits for, and that meets a host it cannot reach, ends the play without a word."""
    gone = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}
    play = {
        "hosts": "one",
        "gather_facts": False,
        "vars": {
            "kube_cluster_load_balancer": "haproxy",
            "__kube_load_balancer_hosts": ["gone"],
            "__kube_load_balancer_backends": ["cp1"],
        },
        "tasks": [
            {"ansible.builtin.include_tasks": str(ROLES / "kube_load_balancer/tasks/reinstate.yml")},
            {"ansible.builtin.debug": {"msg": "It went on."}},
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"one": {}, "gone": gone}}}))
    argv = ["ansible-playbook", "-i", "hosts.yml", "play.yml"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "It went on." in done.stdout and done.returncode == 0, done.stdout + done.stderr


def test_what_is_silenced_are_alerts_that_there_are() -> None:
    words = yaml.safe_load((ROLES / "kube_rolling/vars/main.yml").read_text())
    rules = "\n".join(path.read_text() for path in (ROLES / "kube_monitoring/files/rules").glob("*.yaml"))
    named = [*words["__kube_rolling_caused"], *words["__kube_rolling_silences"][1]["alertname"].split("|")]
    named.append(words["__kube_rolling_silences"][2]["alertname"])
    assert [name for name in named if f"alert: {name}\n" not in rules] == []
