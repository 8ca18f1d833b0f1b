# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost of a Prometheus, and the nodes that are not there."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import crowd
from bench.crowd import Sample
from bench.measure import ROOT, BenchError
from bench.monitoring import QUESTIONS, SETTINGS, Cost, aims, limit, text

FEW = Cost(5, 0.052, 310.4, 21000, 700, 0.11, 0, 0)
MANY = Cost(500, 0.81, 5100, 1500000, 50000, 4.2, 0, 0)


def test_both_costs_are_in_the_report() -> None:
    written = text(["Machine: one"], [FEW, MANY])
    assert re.search(r"^ +5 nodes +500 nodes$", written, re.M)
    assert re.search(r"^resident memory at most, MiB +310 +5100$", written, re.M)
    assert re.search(r"^seconds of rules in 30 s +0.11 +4.20$", written, re.M)
    assert "MISSED" not in written


@pytest.mark.parametrize(
    ("costs", "missed"),
    [
        ([replace(FEW, memory=limit()), MANY], "under the role's limit"),
        ([FEW, replace(MANY, missed=2)], "2 evaluations of rules came too late"),
        ([FEW, replace(MANY, down=1)], "1 targets did not answer"),
    ],
)
def test_a_missed_aim_is_said(costs: list[Cost], missed: str) -> None:
    [aim] = [one for one in aims(costs) if not one.met]
    assert missed in aim.what


def test_no_answer_is_no_figure() -> None:
    with pytest.raises(BenchError, match="has no answer to"):
        Cost.read(5, lambda _question: [])
    answers = {question: float(number) for number, question in enumerate(QUESTIONS.values())}
    cost = Cost.read(5, lambda question: [{"metric": {}, "value": [0, str(answers[question])]}])
    assert (cost.processors, cost.memory, cost.down) == (0, 1, len(QUESTIONS) - 1)


def test_the_settings_are_the_roles() -> None:
    defaults = yaml.safe_load((ROOT / "roles/kube_monitoring/defaults/main.yml").read_text())
    assert set(SETTINGS) <= set(defaults)


def sample(name: str, value: float = 1, **labels: str) -> Sample:
    return Sample.read(
        {"metric": {"__name__": name, "job": "j", "instance": "i", **labels}, "value": [0, value]}
    )


def test_a_line_is_as_exporters_write_it_and_counters_go_on() -> None:
    assert sample("up_to", 2.5, path='a"b').line() == 'up_to{path="a\\"b"} 2.5\n'
    assert sample("x_total", 5000).line(3) == "x_total{} 5015.0\n"
    assert sample("x_bytes", 5000).line(3) == "x_bytes{} 5000.0\n"
    assert sample("x_bucket", float("inf")).line(3) == "x_bucket{} inf\n"


def test_state_is_multiplied_to_nodes_and_pods() -> None:
    state = [
        sample("kube_pod_info", namespace="a", pod="p", node="worker1", uid="u"),
        sample("kube_pod_info", namespace="b", pod="p", node="worker2", uid="v"),
        sample("kube_pod_status_phase", namespace="a", pod="p", phase="Running"),
        sample("kube_node_info", node="worker1"),
        sample("kube_node_info", node="worker2"),
        sample("kube_deployment_spec_replicas", namespace="a", deployment="d"),
        sample("kube_state_metrics_watch_total"),
    ]
    found = list(crowd.multiplied(state, nodes=5, pods=4))
    assert len({(one.name, one.labels) for one in found}) == len(found)
    pods = [dict(one.labels) for one in found if one.name == "kube_pod_info"]
    assert Counter(one["node"] for one in pods) == {f"node{number}": 4 for number in range(5)}
    assert len({one["uid"] for one in pods}) == 20
    phases = {dict(one.labels)["pod"] for one in found if one.name == "kube_pod_status_phase"}
    # Each phase is that of a pod that there is.
    assert phases == {one["pod"] for one in pods if one["namespace"] == "a"}
    nodes = {dict(one.labels)["node"] for one in found if one.name == "kube_node_info"}
    assert nodes == {f"node{number}" for number in range(5)}
    assert sum(one.name == "kube_deployment_spec_replicas" for one in found) == 3
    assert sum(one.name == "kube_state_metrics_watch_total" for one in found) == 1


def test_what_is_laid_out_is_what_the_server_says(tmp_path: Path) -> None:
    def read(question: str) -> list[dict[str, Any]]:
        job = re.findall(r'"(.*)"', question)[0]
        labels = {"__name__": "x_total", "job": job, "instance": "10.0.0.1:1"}
        if job in crowd.ON_NODES:
            labels |= {"node": "worker1", "instance": "worker1"}
        if job in ("kubelet-cadvisor", crowd.STATE):
            labels |= {"node": "worker1", "namespace": "a", "pod": "p"}
        up = {"__name__": "up", "job": job, "instance": labels["instance"], "node": "worker1"}
        return [{"metric": labels, "value": [0, "7"]}, {"metric": up, "value": [0, "1"]}]

    file = crowd.lay_out(tmp_path, read, nodes=3, port=9, rules=Path("/rules"))
    told = json.loads(file.read_text())
    assert told["rule_files"] == ["/rules/*.yaml"]
    jobs = {one["job_name"]: one for one in told["scrape_configs"]}
    assert set(jobs) == {*crowd.ON_NODES, *crowd.ON_SOME, crowd.STATE}
    asked = jobs["kubelet"]["static_configs"]
    assert [one["labels"]["instance"] for one in asked] == ["node0", "node1", "node2"]
    said = crowd.bodies(tmp_path)
    paths = {jobs[job]["metrics_path"] for job in (*crowd.ON_NODES, crowd.STATE)}
    paths |= {
        one["labels"]["__metrics_path__"] for job in crowd.ON_SOME for one in jobs[job]["static_configs"]
    }
    assert set(said) == paths
    assert (
        said["/kubelet"][:2] == [b"x_total{} 7.0\n", b"x_total{} 8.0\n"]
        and len(said["/kubelet"]) == crowd.TURNS
    )
    assert len(said["/kubelet-cadvisor"][0].splitlines()) == crowd.PODS
    assert len(said[f"/{crowd.STATE}"]) == 1
    assert len(said[f"/{crowd.STATE}"][0].splitlines()) == 3 * crowd.PODS
