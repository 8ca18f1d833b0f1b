"""A cluster that exists is moved to changed settings, one control plane at a time, and back.

`make test` takes what is refused and shown; `make soak` (KUBEWRIGHT_ALL_FAULTS) the moves of everything, and
what is put back, minutes for each control plane.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from labtools import INVENTORY, Notes, Recap, playbook, run, wait_until
from nightwatch import Nightwatch
from probe import Probe

from lab.nodes import PREFIX

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
# Seconds in which a request through the endpoint is answered again while control planes restart.
LIMIT = 5
NAME = "settings.example.org"


def described() -> dict[str, Any]:
    """Return what the inventory says of its hosts."""
    described: dict[str, Any] = json.loads(run("ansible-inventory", "-i", INVENTORY, "--list", "--export"))
    return described


HOSTS = described()
CONTROL_PLANES: list[str] = HOSTS["control_plane"]["hosts"]
NODES: list[str] = CONTROL_PLANES + HOSTS["workers"]["hosts"]
ALL: dict[str, Any] = HOSTS["all"]["vars"]
FIRST, LAST = CONTROL_PLANES[0], CONTROL_PLANES[-1]

CHANGED = {
    "kube_control_plane_certificate_sans": [NAME],
    "kube_control_plane_api_server_extra_args": {"max-requests-inflight": "555"},
    "kube_control_plane_scheduler_extra_args": {"v": "1"},
    "kube_control_plane_etcd_extra_args": {"snapshot-count": "20001"},
    "kube_control_plane_kubelet_configuration": {
        **ALL.get("kube_control_plane_kubelet_configuration", {}),
        "maxPods": 99,
    },
    "kube_control_plane_proxy_configuration": {
        **ALL.get("kube_control_plane_proxy_configuration", {}),
        "nftables": {"syncPeriod": "41s"},
    },
    "kube_control_plane_patches": {
        "kube-controller-manager+strategic.yaml": 'metadata: {annotations: {example.org/patched: "yes"}}\n'
    },
}
EVERYTHING = bool(os.environ.get("KUBEWRIGHT_ALL_FAULTS"))
for_soak = pytest.mark.skipif(not EVERYTHING, reason="for soak: minutes for each control plane")
# What the cluster runs with when one setting more is tried.
IN_FORCE = CHANGED if EVERYTHING else {}


def site(*options: str, check: bool = True, **variables: Any) -> Recap:
    """Run site.yml with variables over those of the inventory."""
    extra = ["-e", json.dumps(variables)] if variables else []
    return playbook("site", *options, *extra, check=check)


def shell(host: str, script: str) -> str:
    """Run a script on a host."""
    return run("podman", "exec", f"{PREFIX}{host}", "sh", "-c", script)


def kubectl(*words: str) -> str:
    """Run kubectl on a control plane."""
    return run(
        "podman", "exec", f"{PREFIX}{FIRST}", "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *words
    )


def written(host: str) -> str:
    """Return everything on a host that settings are written to."""
    files = "/etc/kubernetes/manifests/*.yaml /var/lib/kubelet/config.yaml /etc/kubernetes/pki/apiserver.crt"
    return shell(
        host,
        f"cat {files} 2>/dev/null; ls -A /etc/kubernetes/patches /var/lib/kubewright/settings/undo 2>&1; true",
    )


def remembered() -> str:
    """Return what the cluster remembers of its settings."""
    names = ("kubeadm-config", "kubelet-config", "kube-proxy")
    return kubectl(
        "get", "configmap", *names, "--namespace=kube-system", "--output=jsonpath={.items[*].data}"
    )


def fingerprint() -> dict[str, str]:
    """Return digests of everything that settings are written to, and which containers run."""
    texts = {host: written(host) for host in NODES}
    texts |= {f"{host} runs": shell(host, "crictl ps --quiet | sort") for host in NODES}
    texts["cluster"] = remembered()
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def containers(host: str) -> dict[str, dict[str, Any]]:
    """Return the running containers of the control plane by component."""
    found = json.loads(shell(host, "crictl ps --output=json"))["containers"]
    return {one["metadata"]["name"]: one for one in found if one["metadata"]["name"] in COMPONENTS}


def is_whole() -> bool:
    """Tell whether every API server is ready, every pod of the control plane too, and every node."""
    for host in CONTROL_PLANES:
        address = HOSTS["_meta"]["hostvars"][host]["ansible_host"]
        assert "ok" in kubectl("get", "--raw=/readyz", f"--server=https://{address}:6443")
    pods = json.loads(
        kubectl("get", "pods", "--namespace=kube-system", "--selector=tier=control-plane", "-o=json")
    )
    nodes = json.loads(kubectl("get", "nodes", "-o=json"))
    conditions = [
        {one["type"]: one["status"] for one in item["status"]["conditions"]}.get("Ready")
        for item in [*pods["items"], *nodes["items"]]
    ]
    return conditions == ["True"] * (4 * len(CONTROL_PLANES) + len(NODES))


def probe() -> Probe:
    """Ask the endpoint of the cluster."""
    return Probe(ALL["kube_cluster_endpoint_address"])


@pytest.fixture(scope="module", autouse=True)
def as_it_was() -> Iterator[None]:
    """Leave the cluster with the settings of the inventory."""
    wait_until(is_whole, 180, "the cluster is whole before the tests")
    yield
    if EVERYTHING:
        site()


def test_check_mode_shows_every_change_and_changes_nothing() -> None:
    """--check --diff names each setting with both values, on every host that would change."""
    before = fingerprint()
    checked = site("--check", "--diff", **CHANGED)
    assert fingerprint() == before
    assert {host for host, counts in checked.hosts.items() if counts["changed"]} >= set(NODES), checked.output
    for line in (
        "+spec.containers[kube-apiserver].command --max-requests-inflight: 555",
        "-spec.containers[etcd].command --snapshot-count: 10000",
        "+spec.containers[etcd].command --snapshot-count: 20001",
        "+maxPods: 99",
        f"+{NAME}: named",
        "+metadata.annotations.example.org/patched: yes",
    ):
        assert line in checked.output, line
    assert checked.output.count("+spec.containers[kube-scheduler].command --v: 1") == len(CONTROL_PLANES)


@for_soak
def test_a_flag_of_the_api_server_is_moved_and_nobody_notices(notes: Notes, tmp_path: Path) -> None:
    """One setting of one component, under everybody who could notice."""
    with Nightwatch(tmp_path, "site.yml moves a flag of the API server") as watch:
        moved = site(kube_control_plane_api_server_extra_args={"max-mutating-requests-inflight": "222"})
    notes.add(
        f"site.yml moves a flag of {len(CONTROL_PLANES)} API servers: {moved.seconds:.0f} s; {watch.report.summary()}"
    )
    assert moved.total("failed") == 0 and moved.total("unreachable") == 0, moved.output
    assert all("--max-mutating-requests-inflight=222" in written(host) for host in CONTROL_PLANES)
    wait_until(is_whole, 60, "the cluster is whole after the change")
    if len(CONTROL_PLANES) >= 2:
        watch.check()


@for_soak
def test_one_run_moves_everything_while_the_api_answers(notes: Notes) -> None:
    """Static pods, certificates, kubelets, kube-proxy and ConfigMaps in one run, one control plane after the other."""
    with probe() as asked:
        wait_until(asked.steady, 60, "requests are answered before the change")
        begun = time.monotonic()
        moved = site(**CHANGED)
        time.sleep(3)
        outages = asked.outages(begun)
    assert moved.total("failed") == 0 and moved.total("unreachable") == 0, moved.output
    longest = max(outages, default=0.0)
    notes.add(
        f"changed settings on {len(CONTROL_PLANES)} control planes and {len(NODES) - len(CONTROL_PLANES)} workers: "
        f"{moved.seconds:.0f} s, longest outage of the endpoint {longest:.1f} s, "
        f"{len(asked.failed)} of {len(asked.failed) + len(asked.answered)} requests failed"
    )

    for host in CONTROL_PLANES:
        text = written(host)
        for said in (
            "--max-requests-inflight=555",
            "--snapshot-count=20001",
            "--v=1",
            'example.org/patched: "yes"',
        ):
            assert said in text, f"{said} on {host}"
        names = "openssl s_client -connect 127.0.0.1:6443 </dev/null 2>/dev/null | openssl x509 -noout -text"
        assert f"DNS:{NAME}" in shell(host, names), f"{host} serves with its new certificate"
    for host in NODES:
        assert "maxPods: 99" in written(host)
        assert "maxPods" in kubectl("get", "--raw", f"/api/v1/nodes/{host}/proxy/configz")
    capacities = kubectl("get", "nodes", "--output=jsonpath={.items[*].status.capacity.pods}")
    assert capacities.split() == ["99"] * len(NODES)
    for said in ("max-requests-inflight", NAME, "maxPods: 99", "syncPeriod: 41s", "20001"):
        assert said in remembered()

    # Nothing of a later control plane was made before the earlier one was done.
    made = [sorted(int(one["createdAt"]) for one in containers(host).values()) for host in CONTROL_PLANES]
    assert all(earlier[-1] < later[0] for earlier, later in pairwise(made)), made
    wait_until(is_whole, 60, "the cluster is whole after the change")
    if len(CONTROL_PLANES) >= 3:
        assert longest <= LIMIT, asked.failed


@for_soak
def test_the_same_settings_again_change_nothing() -> None:
    """changed=0, and no container is another."""
    before = fingerprint()
    again = site(**CHANGED)
    assert again.total("changed") == 0 and again.total("failed") == 0, again.output
    assert fingerprint() == before


@for_soak
def test_what_was_edited_by_hand_is_taken_back() -> None:
    """kubernetes/kubeadm 541 and 3026: an argument in a manifest that the inventory does not know."""
    path = "/etc/kubernetes/manifests/kube-scheduler.yaml"
    before = written(LAST)
    shell(LAST, f"sed 's/--v=1/--v=3/' {path} > /root/edited && cat /root/edited > {path} && rm /root/edited")
    moved = site(**CHANGED)
    changed = {host for host, counts in moved.hosts.items() if counts["changed"]}
    assert changed == {LAST}, moved.output
    assert written(LAST) == before


@for_soak
def test_a_wrong_flag_costs_one_component_for_a_moment(notes: Notes) -> None:
    """The first host is put back, the others are not touched, the message says what is wrong."""
    before = fingerprint()
    del before[f"{FIRST} runs"]
    wrong = {**IN_FORCE, "kube_control_plane_api_server_extra_args": {"no-such-flag": "1"}}
    with probe() as asked:
        wait_until(asked.steady, 60, "requests are answered before the change")
        begun = time.monotonic()
        refused = site(check=False, **wrong)
        time.sleep(3)
        outages = asked.outages(begun)
    assert refused.hosts[FIRST]["failed"] == 1, refused.output
    for said in (
        "unknown flag: --no-such-flag",
        "back in place and works",
        "Correct the settings and run again",
    ):
        assert said in refused.said, said
    wait_until(is_whole, 120, "the cluster is whole after the wrong flag")
    after = fingerprint()
    assert after.pop(f"{FIRST} runs") and after == before
    notes.add(
        f"wrong flag on the API server: put back, the run ended after {refused.seconds:.0f} s, "
        f"longest outage of the endpoint {max(outages, default=0.0):.1f} s"
    )
    if len(CONTROL_PLANES) >= 3:
        assert max(outages, default=0.0) <= LIMIT, asked.failed


@for_soak
def test_a_wrong_kubelet_setting_stays_on_one_host() -> None:
    """A kubelet that does not start gets its file back; ConfigMap and workers never hear of the setting."""
    before = fingerprint()
    wrong = {**CHANGED, "kube_control_plane_kubelet_configuration": {"maxPods": 99, "cgroupDriver": "none"}}
    refused = site(check=False, **wrong)
    assert refused.hosts[FIRST]["failed"] == 1, refused.output
    assert "The kubelet does not work with its new settings" in refused.said
    wait_until(is_whole, 120, "the cluster is whole after the wrong setting")
    assert fingerprint() == before


@for_soak
def test_after_a_power_failure_the_next_run_finishes() -> None:
    """The power fails between a manifest and its proof: the way back is still there, and the next run converges."""
    wanted = {**CHANGED, "kube_control_plane_scheduler_extra_args": {"v": "2"}}
    undo = "/var/lib/kubewright/settings/undo"
    script = (
        f"until [ -e {undo}/kube-scheduler.yaml ]; do sleep 0.05; done; systemctl poweroff --force --force"
    )
    run("podman", "exec", "--detach", f"{PREFIX}{FIRST}", "sh", "-c", script)
    cut = site(check=False, **wanted)
    assert cut.hosts[FIRST]["failed"] + cut.hosts[FIRST]["unreachable"] == 1, cut.output
    run("podman", "start", f"{PREFIX}{FIRST}")
    wait_until(is_whole, 240, "the cluster is whole after the power failure")
    assert shell(FIRST, f"ls -A {undo}").split() == ["kube-scheduler.yaml"]
    finished = site(**wanted)
    assert finished.total("failed") == 0, finished.output
    assert all("--v=2" in written(host) for host in CONTROL_PLANES)
    assert shell(FIRST, f"ls -A {undo}") == ""
    assert site(**wanted).total("changed") == 0


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {"kube_cluster_pod_cidr": "10.199.0.0/16"},
            ["kube_cluster_pod_cidr", "10.199.0.0/16", "10.244.0.0/16"],
        ),
        (
            {"kube_cluster_service_cidr": "10.200.0.0/16"},
            ["kube_cluster_service_cidr", "10.200.0.0/16", "10.96.0.0/12"],
        ),
        (
            {"kube_cluster_dns_domain": "other.local"},
            ["kube_cluster_dns_domain", "other.local", "cluster.local"],
        ),
        ({"kube_cluster_endpoint_port": 9443}, ["kube_cluster_endpoint_port", "9443", "8443"]),
        (
            {"kube_control_plane_etcd_extra_args": {"data-dir": "/var/lib/other"}},
            ["kube_control_plane_etcd_extra_args", "--data-dir", "/var/lib/other", "/var/lib/etcd"],
        ),
    ],
)
def test_what_cannot_be_changed_is_refused_before_anything_is_touched(
    variables: dict[str, Any], says: list[str]
) -> None:
    """The message names the variable, both values, and what to do; nothing changed anywhere."""
    before = fingerprint()
    refused = site(check=False, **variables)
    assert refused.total("failed") >= 1 and refused.total("changed") == 0, refused.output
    assert all(word in refused.said for word in says), refused.said[-3000:]
    assert fingerprint() == before
