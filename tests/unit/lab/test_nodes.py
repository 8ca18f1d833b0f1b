# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import json
import resource
from pathlib import Path
from typing import Any

import pytest

from lab import authority, nodes
from lab.nodes import Host
from lab.rough import Rough
from lab.shell import LabError

INVENTORY = Path("inventories/test")


class FakePodman:
    """Stands for every command: answers by the first words, and remembers the calls."""

    def __init__(self, answers: dict[str, str] | None = None) -> None:
        self.answers = answers or {}
        self.calls: list[str] = []

    def __call__(self, argv: list[str | Path], **options: Any) -> str:
        line = " ".join(map(str, argv))
        self.calls.append(line)
        return next((answer for start, answer in self.answers.items() if line.startswith(start)), "")

    def starting(self, *words: str) -> list[str]:
        return [call for call in self.calls if call.startswith(words)]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own: a real lab may run on this machine."""
    folder = tmp_path / "state"
    monkeypatch.setattr(nodes, "STATE", folder)
    monkeypatch.setattr(nodes, "KEY", folder / "id_ed25519")
    monkeypatch.setattr(nodes, "KNOWN_HOSTS", folder / "known_hosts")
    return folder


def hosts(monkeypatch: pytest.MonkeyPatch, addresses: dict[str, str | None]) -> list[Host]:
    variables = {
        name: {} if address is None else {"ansible_host": address} for name, address in addresses.items()
    }
    listing = json.dumps({"_meta": {"hostvars": variables}, "all": {"children": ["ungrouped"]}})
    monkeypatch.setattr(nodes, "run", FakePodman({"ansible-inventory": listing}))
    monkeypatch.delenv("KUBEWRIGHT_VENV", raising=False)
    return nodes.inventory_hosts(INVENTORY)


def test_the_inventory_is_the_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hosts(monkeypatch, {"worker1": "10.198.0.21", "cp1": "10.198.0.11"})
    assert found == [Host("cp1", "10.198.0.11"), Host("worker1", "10.198.0.21")]
    assert found[0].container == "kubewright-cp1"


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "10.198.1.11",
        "10.98.0.11",
        "10.198.0.0",
        "10.198.0.255",
        "10.198.0.999",
        "10.198.0.11.example.org",
        "cp1.example.org",
        nodes.GATEWAY,
        nodes.ORIGIN_ADDRESS,
    ],
)
def test_an_address_that_a_host_cannot_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    with pytest.raises(
        LabError, match=r"host cp1 has ansible_host '.*no free address of the lab's"
    ) as caught:
        hosts(monkeypatch, {"cp1": address, "cp2": "10.198.0.12"})
    assert str(INVENTORY) in str(caught.value)
    assert f"'{address or ''}'" in str(caught.value)


def test_two_hosts_with_one_address_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match=r"hosts cp1 and cp2 both have ansible_host '10\.198\.0\.11'"):
        hosts(monkeypatch, {"cp1": "10.198.0.11", "cp2": "10.198.0.11"})


def test_the_subnet_is_outside_the_ranges_of_a_cluster() -> None:
    subnet = ipaddress.ip_network(nodes.SUBNET)
    for taken in ("10.96.0.0/12", "10.244.0.0/16"):
        assert not subnet.overlaps(ipaddress.ip_network(taken))
    for address in (nodes.GATEWAY, nodes.ORIGIN_ADDRESS):
        assert ipaddress.ip_address(address) in subnet


def test_tools_come_from_the_projects_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEWRIGHT_VENV", "/venv")
    assert nodes.ansible_tool("ansible-inventory") == "/venv/bin/ansible-inventory"
    monkeypatch.delenv("KUBEWRIGHT_VENV")
    assert nodes.ansible_tool("ansible-inventory") == "ansible-inventory"


@pytest.mark.parametrize("unified", [True, False])
def test_containers_run_under_runc_on_hybrid_cgroups(monkeypatch: pytest.MonkeyPatch, unified: bool) -> None:
    monkeypatch.setattr(nodes, "on_cgroup_v2", lambda: unified)
    words = nodes.run_command()
    assert words[: words.index("run")] == ([] if unified else ["--runtime", "runc"])
    assert words[words.index("--label") + 1] == nodes.LABEL


@pytest.mark.parametrize(
    ("hard", "files", "processes"),
    [(20000, 20000, 20000), (resource.RLIM_INFINITY, 1048576, 32768), (4194304, 1048576, 32768)],
)
def test_a_container_asks_for_no_more_than_the_machine_allows(
    monkeypatch: pytest.MonkeyPatch, hard: int, files: int, processes: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (1024, hard))
    line = " ".join(nodes.run_command())
    assert f"--ulimit nofile={files}:{files}" in line
    assert f"--ulimit nproc={processes}:{processes}" in line


def test_a_nodes_container(monkeypatch: pytest.MonkeyPatch) -> None:
    podman = FakePodman()
    monkeypatch.setattr(nodes, "run", podman)
    nodes.start(Host("cp1", "10.198.0.11"), "localhost/node:1")
    volumes = [call.rsplit(" ", 1)[-1] for call in podman.starting("podman volume create")]
    assert volumes == ["kubewright-cp1-containerd", "kubewright-cp1-etcd", "kubewright-cp1-kubelet"]
    started = podman.calls[-1]
    for words in (
        "--name kubewright-cp1 --hostname cp1 --privileged",
        "--cgroupns private --systemd always",
        "--pids-limit -1",
        f"--network {nodes.NETWORK}:ip=10.198.0.11,mac=02:42:0a:c6:00:0b,interface_name=eth0",
        "--volume kubewright-cp1-containerd:/var/lib/containerd",
        "--volume kubewright-cp1-etcd:/var/lib/etcd",
        "--volume kubewright-cp1-kubelet:/var/lib/kubelet",
        "--add-host origin.lab:10.198.0.2",
    ):
        assert words in started
    assert "localhost/node:1 sh -c" in started and started.endswith("exec /lib/systemd/systemd\n")
    assert "eth1" not in started and "--tmpfs" not in started and "--dns" not in started


def test_a_rough_nodes_container(monkeypatch: pytest.MonkeyPatch) -> None:
    podman = FakePodman()
    monkeypatch.setattr(nodes, "run", podman)
    ground = Rough(tmp_noexec=True, second_network=True, hostname="db-17", behind_proxy=True)
    nodes.start(Host("cp1", "10.198.0.11", ground), "localhost/node:1")
    started = podman.calls[-1]
    for words in (
        "--name kubewright-cp1 --hostname db-17",
        f"--network {nodes.SECOND_NETWORK}:interface_name=eth1",
        "--tmpfs /tmp:rw,noexec,",
        "--add-host proxy.lab:10.198.0.2 --dns 10.198.0.2",
    ):
        assert words in started
    # The host cannot go past the proxy by the origin's name.
    assert "origin.lab" not in started


def test_a_host_settles_on_its_rough_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    podman = FakePodman(
        {
            "podman exec kubewright-cp1 systemctl": "running",
            "podman exec kubewright-cp1 cat": "ssh-ed25519 KEY root@cp1",
        }
    )
    monkeypatch.setattr(nodes, "run", podman)
    line = nodes.settle(Host("cp1", "10.198.0.11", Rough(ipv6=True)), "ssh-ed25519 AAAA lab")
    assert line == "10.198.0.11 ssh-ed25519 KEY"
    assert podman.calls[-2].endswith("ip -6 address replace fd00:a00::11/64 dev eth0 nodad\n")


@pytest.mark.parametrize(
    ("names", "inspected", "kept"),
    [
        ("kubewright-origin", "origin:1 /results/one /state/origin", True),
        ("kubewright-origin", "origin:1 /state/origin /results/one", True),
        ("kubewright-origin", "origin:0 /results/one /state/origin", False),
        ("kubewright-origin", "origin:1 /results/zero /state/origin", False),
        ("kubewright-origin", "origin:1 /results/one", False),
        ("kubewright-cp1", "origin:1 /results/one /state/origin", False),
    ],
)
def test_the_origin_is_replaced_when_it_would_be_another(
    monkeypatch: pytest.MonkeyPatch, names: str, inspected: str, kept: bool
) -> None:
    podman = FakePodman({"podman ps": f"{names}\n", "podman inspect": f"{inspected}\n"})
    monkeypatch.setattr(nodes, "run", podman)
    monkeypatch.setattr(authority, "ensure", lambda _state, _name: Path("/state/origin"))
    nodes.ensure_origin("origin:1", Path("/results/one"))
    assert not podman.starting("podman rm") if kept else podman.starting("podman rm --force")
    volumes = "--volume /results/one:/srv/origin:ro --volume /state/origin:/srv/door:ro"
    assert (volumes in podman.calls[-1]) is not kept


@pytest.mark.parametrize("served", [True, False])
def test_what_was_built_later_takes_the_place_of_the_contents(
    monkeypatch: pytest.MonkeyPatch, served: bool
) -> None:
    mounted = "origin:1 /results/one /state/origin" + (" /stacks/registry /stacks/files" if served else "")
    podman = FakePodman({"podman ps": "kubewright-origin\n", "podman inspect": f"{mounted}\n"})
    monkeypatch.setattr(nodes, "run", podman)
    monkeypatch.setattr(authority, "ensure", lambda _state, _name: Path("/state/origin"))
    nodes.ensure_origin("origin:1", Path("/results/one"), [Path("/stacks/registry"), Path("/stacks/files")])
    assert bool(podman.starting("podman rm --force")) is not served
    volumes = "--volume /stacks/registry:/srv/origin/registry:ro --volume /stacks/files:/srv/origin/files:ro"
    assert (volumes in podman.calls[-1]) is not served


def test_an_image_is_imported_once_for_each_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Path("/results/rootfs-node-trixie-55aa6a4768e46c67/root.tar")
    podman = FakePodman()
    monkeypatch.setattr(nodes, "run", podman)
    reference = nodes.ensure_image("node", archive)
    assert reference == "localhost/kubewright-lab-node:55aa6a4768e46c67"
    assert podman.calls[-1] == f"podman import --quiet {archive} {reference}"
    present = FakePodman({"podman images": "0123456789ab\n"})
    monkeypatch.setattr(nodes, "run", present)
    assert nodes.ensure_image("node", archive) == reference
    assert not present.starting("podman import")


def test_a_host_that_does_not_boot_is_told_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "run", FakePodman({"podman exec": "starting\n"}))
    with pytest.raises(LabError, match=r"cp1 has not booted after 0 s \(state 'starting'\)"):
        nodes.settle(Host("cp1", "10.198.0.11"), "ssh-ed25519 AAAA lab", seconds=0)


def test_up_starts_what_is_missing_and_keeps_other_hosts_keys(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.mkdir()
    (state / "id_ed25519").touch()
    (state / "origin").mkdir()
    (state / "id_ed25519.pub").write_text("ssh-ed25519 AAAA lab")
    (state / "known_hosts").write_text("10.198.0.11 ssh-ed25519 OLD\n10.198.0.99 ssh-ed25519 OTHER\n")
    addresses = {"cp1": "10.198.0.11", "cp2": "10.198.0.12", "cp3": "10.198.0.13"}
    variables = {name: {"ansible_host": address} for name, address in addresses.items()}
    podman = FakePodman(
        {
            "ansible-inventory": json.dumps({"_meta": {"hostvars": variables}}),
            "podman ps --filter": "kubewright-origin kubewright-cp1",
            "podman ps --all": "kubewright-origin kubewright-cp1 kubewright-cp2",
            "podman inspect": "localhost/kubewright-lab-origin:bb /results/content",
            "podman images": "0123456789ab",
            "podman exec kubewright-cp1 systemctl": "running",
            "podman exec kubewright-cp2 systemctl": "degraded",
            "podman exec kubewright-cp3 systemctl": "running",
            "podman exec kubewright-cp": "ssh-ed25519 NEW root@host",
        }
    )
    monkeypatch.setattr(nodes, "run", podman)
    monkeypatch.setattr(nodes, "raise_host_limits", lambda: None)
    monkeypatch.delenv("KUBEWRIGHT_VENV", raising=False)
    images = (
        Path("/results/node-aa/root.tar"),
        Path("/results/origin-bb/root.tar"),
        Path("/results/content"),
    )
    assert [host.name for host in nodes.up(INVENTORY, *images)] == ["cp1", "cp2", "cp3"]
    assert podman.starting("podman start") == ["podman start kubewright-cp2"]
    started = [call for call in podman.calls if "/lib/systemd/systemd" in call]
    assert len(started) == 1
    assert "--name kubewright-cp3 " in started[0]
    assert (state / "known_hosts").read_text().splitlines() == [
        "10.198.0.11 ssh-ed25519 NEW",
        "10.198.0.12 ssh-ed25519 NEW",
        "10.198.0.13 ssh-ed25519 NEW",
        "10.198.0.99 ssh-ed25519 OTHER",
    ]


def test_clean_on_an_empty_machine(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    podman = FakePodman({"podman images": "docker.io/library/debian:trixie\n<none>:<none>\n"})
    monkeypatch.setattr(nodes, "run", podman)
    nodes.clean()
    assert not podman.starting("podman rm ", "podman rmi", "podman unpause", "podman volume rm")
    assert "Removed 0 containers, 0 volumes, 0 images" in capsys.readouterr().out
    assert not state.exists()


def test_clean_removes_what_is_ours_and_nothing_else(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.mkdir()
    (state / "known_hosts").touch()
    ours, other = "localhost/kubewright-lab-node:55aa", "docker.io/library/debian:trixie"
    podman = FakePodman(
        {
            "podman ps --all": "kubewright-cp1\nkubewright-origin\n",
            "podman volume ls": "kubewright-cp1-etcd\n",
            "podman images": f"{ours}\n{other}\n",
        }
    )
    monkeypatch.setattr(nodes, "run", podman)
    nodes.clean()
    assert podman.starting("podman rm ") == [
        "podman rm --force --ignore --time 0 kubewright-cp1 kubewright-origin"
    ]
    assert podman.starting("podman volume rm") == ["podman volume rm --force kubewright-cp1-etcd"]
    assert podman.starting("podman rmi") == [f"podman rmi {ours}"]
    assert podman.starting("podman network rm") == [
        f"podman network rm --force {nodes.NETWORK} {nodes.SECOND_NETWORK}"
    ]
    # Only what carries the lab's label is looked at.
    for call in (*podman.starting("podman ps"), *podman.starting("podman volume ls")):
        assert f"--filter label={nodes.LABEL}" in call
    assert not state.exists()


def test_what_is_frozen_is_ended_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """runc of a host that is killed may just have frozen a pod, and then nothing ever ends it."""
    frozen = tmp_path / "libpod_parent/libpod-12ab/kubepods.slice/cri.scope/freezer.state"
    other = tmp_path / "libpod_parent/libpod-34cd/kubepods.slice/cri.scope/freezer.state"
    for path in (frozen, other):
        path.parent.mkdir(parents=True)
        path.write_text("FROZEN")
    podman = FakePodman({"podman inspect": "12ab\n", "podman ps": "kubewright-cp2\n"})
    monkeypatch.setattr(nodes, "run", podman)
    monkeypatch.setattr(nodes, "FREEZER", tmp_path)
    nodes.remove(["cp1", "cp2"])
    assert (frozen.read_text(), other.read_text()) == ("THAWED", "FROZEN")
    assert podman.starting("podman kill", "podman wait") == [
        "podman kill kubewright-cp2",
        "podman wait kubewright-cp2",
    ]


def test_removing_a_host_removes_its_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    podman = FakePodman()
    monkeypatch.setattr(nodes, "run", podman)
    nodes.remove(["cp2"])
    assert podman.calls == [
        f"podman ps --filter label={nodes.LABEL} --format {{{{.Names}}}}",
        "podman rm --force --ignore --time 0 kubewright-cp2",
        "podman volume rm --force kubewright-cp2-containerd kubewright-cp2-etcd kubewright-cp2-kubelet",
    ]
