# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the role kube_control_plane lets a control plane be moved to its settings, in the role's own words.

One run of ansible-playbook evaluates the role's conditions for all cases: each is a host that is never
connected to.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
ROLE = ROLES / "kube_control_plane"
WHOLE = [
    {"name": name, "healthy": True, "is_learner": False, "peer_urls": []} for name in ("cp1", "cp2", "cp3")
]
EXPRESSIONS = (
    "__kube_control_plane_etcd_whole",
    "__kube_control_plane_in_the_way",
    "__kube_control_plane_not_whole",
)
PODS = [{"node": name, "component": "etcd", "ready": True} for name in ("cp1", "cp2", "cp3")]


def without(name: str, items: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    return [{**one, **changes} if name in one.values() else one for one in items]


# Members and pods as cp1 sees them before its turn, and whether it may be moved.
CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], bool]] = {
    "whole": (WHOLE, PODS, True),
    "unread": ([], PODS, False),
    "itself_down": (without("cp1", WHOLE, healthy=False), without("cp1", PODS, ready=False), True),
    "other_down": (without("cp2", WHOLE, healthy=False), PODS, False),
    "other_learns": (without("cp2", WHOLE, is_learner=True), PODS, False),
    "other_pod_down": (WHOLE, without("cp3", PODS, ready=False), False),
    # A quorum is all that an etcd of its own has to have: no member goes away with this control plane.
    "external_one_down": (without("cp2", WHOLE, healthy=False), [], True),
    "external_no_quorum": (without("cp2", without("cp3", WHOLE, healthy=False), healthy=False), [], False),
}


def seen(members: list[dict[str, Any]], pods: list[dict[str, Any]]) -> dict[str, Any]:
    voters = [one for one in members if not one["is_learner"]]
    etcd = {
        "members": members,
        "voters": len(voters),
        "healthy": sum(one["healthy"] for one in voters),
        "present": sum(one["healthy"] for one in voters) > len(voters) // 2,
        "error": None if members else "context deadline exceeded",
    }
    return {"answers": True, "error": None, "etcd": etcd, "control_plane": pods}


def role_variable(name: str) -> str:
    """Return an expression of the role's own variables."""
    words: str = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())[name]
    return words


def tasks() -> dict[str, Any]:
    return {task["name"]: task for task in yaml.safe_load((ROLE / "tasks" / "settings.yml").read_text())}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each case leads to: whether the gates before and after the move are open, and the message."""
    folder = tmp_path_factory.mktemp("play")
    before = tasks()["Change a control plane only while all others are whole"]["ansible.builtin.assert"]
    after = tasks()["Wait until this control plane serves and every etcd member is healthy"]["until"]
    hosts = {
        name: {
            "kube_cluster_node_name": "cp1",
            "__kube_cluster_seen": seen(members, pods),
            "__kube_control_plane_look": {"cluster": seen(members, pods)},
            "__kube_control_plane_gate": {"cluster": seen(members, pods)},
            "__kube_control_plane_serves": True,
            **{name: role_variable(name) for name in EXPRESSIONS},
            "__kube_cluster_external_etcd": name.startswith("external"),
            "before": f"{{{{ {before['that']} }}}}",
            "after": f"{{{{ ({') and ('.join(after)}) }}}}",
            "message": before["fail_msg"],
        }
        for name, (members, pods, _open) in CASES.items()
    }
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    answer = "{{ {'before': before | bool, 'after': after | bool, 'message': message} | to_json }}"
    copy = {"content": answer, "dest": str(folder / "{{ inventory_hostname }}.json"), "mode": "0600"}
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    (folder / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts.json", "play.yml"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in CASES}


@pytest.mark.parametrize("case", CASES)
def test_a_control_plane_is_moved_only_while_all_others_are_known_to_be_whole(
    answers: dict[str, dict[str, Any]], case: str
) -> None:
    assert answers[case]["before"] is CASES[case][2], answers[case]["message"]


def test_the_next_host_waits_until_etcd_was_read(answers: dict[str, dict[str, Any]]) -> None:
    assert {name for name, answer in answers.items() if answer["after"]} == {
        "whole",
        "other_pod_down",
        "external_one_down",
    }


def test_what_passes_by_itself_is_waited_for() -> None:
    """A controller that has lost its API server is started again, while the next host has its turn already."""
    wait = tasks()["Wait until all others are whole"]
    assert wait["until"] == "__kube_control_plane_in_the_way | length == 0" and wait["failed_when"] is False
    assert wait["retries"] * wait["delay"] >= 60


def test_the_message_says_why(answers: dict[str, dict[str, Any]]) -> None:
    assert "members of etcd cannot be read: context deadline exceeded." in answers["unread"]["message"]
    assert "or still learning: cp2. Mend that" in " ".join(answers["other_down"]["message"].split())


@pytest.mark.parametrize(
    ("limit", "dead", "writer"),
    [
        ("all", [], ["cp1"]),
        ("all", ["cp1"], ["cp2"]),
        ("cp2", [], []),
        ("all:!cp1", [], []),
        ("worker1", [], []),
    ],
)
def test_only_a_run_that_reaches_for_all_control_planes_writes_what_the_cluster_keeps(
    tmp_path: Path, limit: str, dead: list[str], writer: list[str]
) -> None:
    names = ["cp1", "cp2", "cp3"]
    there = {"host": {"kubeadm": "control_plane", "interrupted": None}}
    # cp1 is found to be one by kubeadm_node; the files of the others say so.
    plan = {"cp1": {"action": ""}}
    hosts = {
        name: {
            "__kube_control_plane_plan": plan.get(name, {"skipped": True}),
            "__kube_host_seen": there
            if name not in plan
            else {"host": {"kubeadm": "none", "interrupted": None}},
        }
        for name in names
    }
    inventory = {"control_plane": {"hosts": hosts}, "workers": {"hosts": {"worker1": {}}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    tasks = [
        {"ansible.builtin.fail": {"msg": "does not answer"}, "when": f"inventory_hostname in {dead}"},
        {
            "ansible.builtin.copy": {
                "content": "{{ inventory_hostname == __kube_control_plane_writer }}",
                "dest": str(tmp_path / "{{ inventory_hostname }}.answer"),
                "mode": "0600",
            }
        },
    ]
    play = {
        "hosts": "control_plane",
        "connection": "local",
        "gather_facts": False,
        "vars": {"kube_cluster_control_plane_group": "control_plane"},
        "vars_files": [
            str(ROLES / role / "vars" / "main.yml") for role in ("kube_cluster", "kube_control_plane")
        ],
        "tasks": tasks,
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    argv = ["ansible-playbook", "-i", "hosts.json", "--limit", limit, "play.yml"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (2 if dead else 0), done.stdout + done.stderr
    answers = {path.stem: path.read_text() for path in tmp_path.glob("*.answer")}
    assert [name for name, answer in sorted(answers.items()) if answer == "True"] == writer
    assert set(answers.values()) <= {"True", "False"}
