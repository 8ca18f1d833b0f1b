# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an etcd of its own may have a cluster begun over it, and who leaves it: in the role's own words.

One run of ansible-playbook evaluates the role's expressions for all cases: each is a host that is never connected to.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
ROLE = ROLES / "etcd_cluster"
VARIABLES: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text())
ETCD = ["etcd1", "etcd2"]
MEMBERS = [
    {"id": "a1", "peer_urls": ["https://192.0.2.31:2380"]},
    {"id": "b2", "peer_urls": ["https://192.0.2.32:2380"]},
    {"id": "c3", "peer_urls": ["https://192.0.2.39:2380"]},
]


def facts(**changes: Any) -> dict[str, Any]:
    """Return what is known of a cluster that never was."""
    return {
        "__kube_cluster_exists": False,
        "__kube_cluster_remains": [],
        "__kube_cluster_begun": [],
        "__kube_cluster_entitled": [],
        "etcd_cluster_accept_empty": False,
        "etcd_cluster_accept_registry": False,
        "keys": [0],
        "remove_etcd_host": "",
        **changes,
    }


DOWN = {"__kube_cluster_remains": ["cp1"], "keys": [9]}
# By name what is known, and: whether a cluster is begun, may be begun, and was emptied.
SEEDS: dict[str, tuple[dict[str, Any], bool, bool, bool]] = {
    "new": (facts(), True, True, False),
    "over_data": (facts(keys=[9]), True, False, False),
    "over_data_wanted": (facts(keys=[9], etcd_cluster_accept_registry="true"), True, False, False),
    "over_data_with_its_files": (
        facts(keys=[9], etcd_cluster_accept_registry="true", __kube_cluster_entitled=["cp2"]), True, True, False
    ),
    "over_data_with_files_of_any": (facts(keys=[9], __kube_cluster_entitled=["cp2"]), True, False, False),
    "unknown": (facts(keys=[]), True, False, False),
    "first_does_not_answer": (facts(keys=[None, 0]), True, True, False),
    "exists": (facts(**DOWN, __kube_cluster_exists=True, etcd_cluster_accept_empty="true"), False, False, False),
    "down": (facts(**DOWN), False, False, False),
    "emptied": (facts(**DOWN, etcd_cluster_accept_empty="true"), False, False, True),
    "interrupted": (
        facts(**DOWN, __kube_cluster_begun=["cp1"], etcd_cluster_accept_empty="true"), False, False, False
    ),
}  # fmt: skip
# By what is named: the peer URL and the host that it is.
LEAVING = {
    "etcd2": ("https://192.0.2.32:2380", "etcd2"),
    "https://192.0.2.32:2380": ("https://192.0.2.32:2380", "etcd2"),
    "b2": ("https://192.0.2.32:2380", "etcd2"),
    "c3": ("https://192.0.2.39:2380", ""),
    "gone": ("gone", ""),
}


def assertion() -> str:
    tasks = yaml.safe_load((ROLE / "tasks/clients.yml").read_text())
    said = next(task["ansible.builtin.assert"] for task in tasks if "ansible.builtin.assert" in task)
    return str(said["that"])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("etcd_cluster")
    hosts: dict[str, Any] = {
        name: {**known, "__etcd_cluster_held": {"results": [{"etcd": {"key_count": one}} for one in known["keys"]]}}
        for name, (known, *_rest) in SEEDS.items()
    }  # fmt: skip
    hosts |= {f"leaves{number}": facts(remove_etcd_host=name) for number, name in enumerate(LEAVING)}
    etcd = {
        name: {"kube_cluster_host_address": f"192.0.2.3{number}", "__etcd_cluster_look": {"etcd": {"members": MEMBERS}}}
        for number, name in enumerate(ETCD, start=1)
    }  # fmt: skip
    names = [
        name
        for name in VARIABLES
        if re.fullmatch("__etcd_cluster_(leaving.*|known|seen|looks|emptied|begins|returns|counted)", name)
    ]
    lines = {
        "begins": "{{ __etcd_cluster_begins | bool }}",
        "may": "{{ (" + assertion() + ") and (__etcd_cluster_begins | bool) }}",
        "emptied": "{{ __etcd_cluster_emptied | bool }}",
        "url": "{{ __etcd_cluster_leaving_url }}",
        "host": "{{ __etcd_cluster_leaving_host }}",
        "name": "{{ inventory_hostname }}",
    }
    inventory = {
        "cases": {"hosts": hosts, "vars": {name: VARIABLES[name] for name in names}},
        "etcd": {"hosts": etcd},
        "all": {
            "vars": {
                "__kube_cluster_etcd_hosts": ETCD,
                "__kube_cluster_etcd_endpoints": ["https://192.0.2.31:2379", "https://192.0.2.32:2379"],
            }
        },
    }
    play = {
        "hosts": "cases",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.debug": {"msg": lines}}],
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts.yml", "play.yml"], cwd=folder, capture_output=True, text=True
    )
    found = [json.loads(text) for text in re.findall(r'"msg": (\{.*?\})', done.stdout, re.DOTALL)]
    by_name = {one["name"]: one for one in found}
    assert set(by_name) == set(hosts), done.stdout + done.stderr
    return by_name


@pytest.mark.parametrize("name", SEEDS)
def test_a_cluster_begins_only_over_an_etcd_that_holds_nothing(
    answers: dict[str, dict[str, Any]], name: str
) -> None:
    _known, begins, may, emptied = SEEDS[name]
    said = answers[name]
    assert (said["begins"], said["may"], said["emptied"]) == (begins, may, emptied)


@pytest.mark.parametrize(("number", "name"), list(enumerate(LEAVING)))
def test_a_member_that_leaves_is_known_by_host_url_and_id(
    answers: dict[str, dict[str, Any]], number: int, name: str
) -> None:
    said = answers[f"leaves{number}"]
    assert (said["url"], said["host"]) == LEAVING[name]


def test_a_reset_takes_the_plan_of_a_restore_away() -> None:
    for path in (ROLE / "tasks/reset.yml", ROLES / "kube_host/tasks/reset.yml"):
        assert "/var/lib/kubewright/restore" in path.read_text().split()
