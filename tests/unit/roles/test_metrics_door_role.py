# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role writes for each host, and the scrape configuration that goes to Prometheus."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ROLES = ROOT / "roles"
ROLE = ROLES / "kube_metrics_door"
ADDRESS = {"cp1": "192.0.2.11", "cp2": "192.0.2.12", "cp3": "192.0.2.13", "worker1": "192.0.2.21"}
ADDRESS |= {"etcd1": "192.0.2.31", "etcd2": "fd00::32", "lb1": "192.0.2.41"}
GROUPS = {
    "stacked": {"control_plane": ["cp1", "cp2", "cp3"], "workers": ["worker1"]},
    "external": {
        "control_plane": ["cp1", "cp2"],
        "workers": ["worker1"],
        "etcd": ["etcd1", "etcd2"],
        "load_balancers": ["lb1"],
    },
    "bare": {"control_plane": ["cp1"], "workers": ["worker1"]},
}
MOUNT = "/etc/prometheus/secrets/kubewright-metrics-door"
READERS = [
    {"namespace": "charts"},
    {"namespace": "ours", "name": "door", "jobs": "- job_name: mine\n", "node_exporter": True},
]
SETTINGS: dict[str, dict[str, Any]] = {
    "bare": {"kube_cluster_load_balancer": "external", "kube_metrics_door_kube_proxy": False}
}


@pytest.fixture(scope="module", params=sorted(GROUPS))
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, dict[str, Any]]]:
    """By host: the settings, the unit, who has the port, and the scrape configuration."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "templates").symlink_to(ROLE / "templates")
    (folder / "group_vars" / "all").mkdir(parents=True)
    for role in ("kube_cluster", "kube_metrics_door"):
        shutil.copy(ROLES / role / "defaults" / "main.yml", folder / "group_vars" / "all" / f"{role}.yml")
    common = {
        "kube_cluster_endpoint_address": "192.0.2.10",
        "__kube_metrics_door_holders": {
            "holders": [
                {"unit": "kubewright-metrics-door.service", "program": "python3"},
                {"unit": "", "program": "squatter"},
                {"unit": "", "program": ""},
            ]
        },
        "kube_metrics_door_readers": READERS,
        **SETTINGS.get(request.param, {}),
    }
    groups = GROUPS[request.param]
    inventory = {
        name: {"hosts": {host: {"kube_cluster_host_address": ADDRESS[host]} for host in hosts}}
        for name, hosts in groups.items()
    }
    # Read last: what it says is above the defaults.
    (folder / "group_vars" / "all" / "z.json").write_text(json.dumps(common))
    (folder / "hosts.json").write_text(json.dumps({"all": {"children": inventory}}))
    content = (
        "{{ {'settings': __kube_metrics_door_settings, 'unit': __kube_metrics_door_service, "
        "'leaves': __kube_metrics_door_leaves, 'folders': __kube_metrics_door_folders, "
        "'taken': __kube_metrics_door_taken, 'secrets': __kube_metrics_door_secrets} | to_json }}"
    )
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [
            str(ROLES / role / "vars" / "main.yml") for role in ("kube_cluster", "kube_metrics_door")
        ],
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": content,
                    "dest": str(folder / "{{ inventory_hostname }}.json"),
                    "mode": "0600",
                }
            }
        ],
    }
    (folder / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts.json", "play.yml"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    hosts = [host for names in groups.values() for host in names]
    return request.param, {host: json.loads((folder / f"{host}.json").read_text()) for host in hosts}


def test_each_host_shows_what_it_runs(written: tuple[str, dict[str, dict[str, Any]]]) -> None:
    case, hosts = written
    paths = {host: set(one["settings"]["paths"]) for host, one in hosts.items()}
    control = {"/host", "/node", "/scheduler", "/controller-manager"}
    assert (
        paths["cp1"]
        == {
            "stacked": control | {"/kube-proxy", "/etcd", "/haproxy"},
            "external": control | {"/kube-proxy"},
            "bare": control | {"/etcd"},
        }[case]
    )
    assert paths["worker1"] == ({"/host", "/node"} if case == "bare" else {"/host", "/node", "/kube-proxy"})
    if case == "external":
        assert (paths["etcd1"], paths["lb1"]) == (
            {"/host", "/node", "/etcd"},
            {"/host", "/node", "/haproxy"},
        )
    # The token goes to those who ask for one, and to nobody else.
    sources = hosts["cp1"]["settings"]["paths"]
    assert {path for path, one in sources.items() if one.get("token")} == {
        "/scheduler",
        "/controller-manager",
    }
    assert all("127.0.0.1" in one["url"] for path, one in sources.items() if path != "/host")
    for host, one in hosts.items():
        assert one["settings"]["address"] == ADDRESS[host]
        assert int(one["settings"]["port"]) == 10301


def test_a_certificate_is_for_servers_and_for_its_host(
    written: tuple[str, dict[str, dict[str, Any]]],
) -> None:
    for host, one in written[1].items():
        (leaf,) = one["leaves"]
        assert (leaf["usages"], leaf["ip_addresses"]) == (["server"], [ADDRESS[host]])


def test_the_unit_brings_what_the_program_reads(written: tuple[str, dict[str, dict[str, Any]]]) -> None:
    unit = written[1]["cp1"]["unit"].splitlines()
    for name in ("settings.json", "ca.crt", "tls.crt", "tls.key"):
        assert f"LoadCredential={name}:/etc/kubewright/metrics-door/{name}" in unit
    assert "DynamicUser=yes" in unit
    assert [one["path"] for one in written[1]["cp1"]["folders"]] == [
        "/etc/kubewright/metrics-door",
        "/var/lib/kubewright-metrics",
    ]


def test_only_others_count_as_having_taken_the_port(written: tuple[str, dict[str, dict[str, Any]]]) -> None:
    assert written[1]["cp1"]["taken"] == "squatter, a process that cannot be seen"


def scrape(hosts: dict[str, dict[str, Any]], reader: int) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = yaml.safe_load(hosts["cp1"]["secrets"][reader]["files"]["scrape.yaml"])
    return jobs


def test_prometheus_is_told_of_every_door(written: tuple[str, dict[str, dict[str, Any]]]) -> None:
    case, hosts = written
    jobs = {one["job_name"]: one for one in scrape(hosts, 0)}
    found = {"kubewright-host", "kube-scheduler", "kube-controller-manager"}
    found |= {
        "stacked": {"kube-proxy", "etcd", "haproxy"},
        "external": {"kube-proxy", "etcd-outside", "haproxy-outside", "kubewright-host-outside"},
        "bare": {"etcd"},
    }[case]
    assert set(jobs) == found
    more = scrape(hosts, 1)
    assert more[0] == {"job_name": "mine"}
    assert {one["job_name"] for one in more} == {*found, "mine", "node-exporter"}
    assert more[1]["tls_config"]["key_file"] == "/etc/prometheus/secrets/door/tls.key"
    for name, job in jobs.items():
        assert job["scheme"] == "https" and job["tls_config"]["cert_file"] == f"{MOUNT}/tls.crt"
        assert ("authorization" in job) == (name in ("kube-scheduler", "kube-controller-manager"))
        keeps = [rule for rule in job.get("relabel_configs", []) if rule.get("action") == "keep"]
        everywhere = name.endswith("-outside") or name in ("kubewright-host", "kube-proxy")
        assert bool(keeps) != everywhere, name
    if case == "external":
        assert [one["targets"] for one in jobs["etcd-outside"]["static_configs"]] == [
            ["192.0.2.31:10301"],
            ["[fd00::32]:10301"],
        ]
        assert jobs["etcd-outside"]["static_configs"][0]["labels"] == {
            "job": "etcd",
            "node": "etcd1",
            "instance": "etcd1",
        }
        outside = [one["labels"]["node"] for one in jobs["kubewright-host-outside"]["static_configs"]]
        assert outside == ["etcd1", "etcd2", "lb1"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_takes_the_configuration(
    written: tuple[str, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    text = written[1]["cp1"]["secrets"][0]["files"]["scrape.yaml"].replace(MOUNT, str(tmp_path))
    text = text.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(tmp_path))
    for name in ("ca.crt", "tls.crt", "tls.key", "token"):
        (tmp_path / name).touch()
    jobs = yaml.safe_load(text)
    for job in jobs:
        # Debian's promtool is built without it.
        assert job.pop("kubernetes_sd_configs", None) or job["static_configs"]
    config = {"scrape_configs": jobs}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    argv = ["promtool", "check", "config", "--syntax-only", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
