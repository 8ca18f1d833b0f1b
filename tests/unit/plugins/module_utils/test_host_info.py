# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import ctypes
import json
import os
import struct
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._host_info import (
    ADMIN_CONF,
    APISERVER_MANIFEST,
    ETCD_MANIFEST,
    KUBELET_CLIENT,
    KUBELET_CONF,
    KUBELET_CONFIG,
    RESTORE_PLAN,
    EtcdAccess,
    addresses,
    certificates,
    cgroup,
    clock_synchronized,
    etcd_access,
    free_mib,
    image_tags,
    in_container,
    kubeadm_state,
    memory_mib,
    observe_host,
    package_state,
    services,
    swap_kib,
    system,
    versions,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

X509 = Path(__file__).parents[2] / "fixtures" / "x509"
LEAF = (X509 / "certificate_leaf.pem").read_bytes()
NOW = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)

APISERVER = """\
apiVersion: v1
kind: Pod
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=10.0.0.11
    - --etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt
    - --etcd-certfile=/etc/kubernetes/pki/apiserver-etcd-client.crt
    - --etcd-keyfile=/etc/kubernetes/pki/apiserver-etcd-client.key
    - --etcd-servers=https://127.0.0.1:2379
"""
EXTERNAL = APISERVER.replace("https://127.0.0.1:2379", "https://10.0.0.31:2379,https://10.0.0.32:2379")
MEMBER = "/var/lib/etcd/member"
NODE = [KUBELET_CONF, KUBELET_CONFIG, KUBELET_CLIENT]
ETCD_UNIT = "/etc/systemd/system/etcd.service"


def put(root: Path, *paths: str, **contents: str) -> None:
    """Write empty files, and files with contents ("apiserver" and "etcd" are manifests), below *root*."""
    named = {"apiserver": APISERVER_MANIFEST, "etcd": ETCD_MANIFEST}
    for path in paths:
        contents[f"{MEMBER}/snap/db" if path == MEMBER else path] = ""
    for path, text in contents.items():
        file = root / named.get(path, path).lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize(
    ("paths", "contents", "state"),
    [
        ([], {}, "none"),
        (["/etc/kubernetes/pki/ca.crt"], {}, "none"),
        (NODE, {}, "worker"),
        ([*NODE, ADMIN_CONF], {}, "worker"),
        ([*NODE, ADMIN_CONF, ETCD_MANIFEST, MEMBER], {"apiserver": APISERVER}, "control_plane"),
        ([*NODE, ADMIN_CONF], {"apiserver": EXTERNAL}, "control_plane"),
        # A worker that left its join before the kubelet had a certificate.
        ([KUBELET_CONFIG], {}, "incomplete"),
        (NODE[:2], {}, "incomplete"),
        # A control plane whose etcd never started, or was never written.
        ([*NODE, ADMIN_CONF, ETCD_MANIFEST], {"apiserver": APISERVER}, "incomplete"),
        ([*NODE, ADMIN_CONF], {"apiserver": APISERVER}, "incomplete"),
        # A join that ended before the kubelet was started.
        ([ADMIN_CONF], {"apiserver": APISERVER}, "incomplete"),
        # Data that a reset left behind, alone or below what looks like a worker.
        ([MEMBER], {}, "incomplete"),
        ([*NODE, MEMBER], {}, "incomplete"),
        # The same data, when it belongs to an etcd that is a service of its own.
        ([MEMBER, ETCD_UNIT], {}, "none"),
        ([*NODE, MEMBER, ETCD_UNIT], {}, "worker"),
        ([*NODE, ADMIN_CONF, MEMBER, ETCD_UNIT], {"apiserver": EXTERNAL}, "control_plane"),
        ([*NODE, ADMIN_CONF, MEMBER, ETCD_UNIT], {"apiserver": APISERVER}, "control_plane"),
    ],
)
def test_state(tmp_path: Path, paths: list[str], contents: dict[str, str], state: str) -> None:
    put(tmp_path, *paths, **contents)
    assert kubeadm_state(tmp_path)[0] == state


def test_evidence_names_the_files(tmp_path: Path) -> None:
    put(tmp_path, KUBELET_CONFIG, MEMBER)
    assert kubeadm_state(tmp_path) == ("incomplete", [KUBELET_CONFIG, MEMBER])


def test_an_empty_data_folder_is_no_member(tmp_path: Path) -> None:
    (tmp_path / MEMBER.lstrip("/")).mkdir(parents=True)
    assert kubeadm_state(tmp_path) == ("none", [])


def test_a_host_in_the_middle_of_a_restore_starts_no_new_cluster(tmp_path: Path) -> None:
    place = tmp_path / RESTORE_PLAN.lstrip("/")
    place.parent.mkdir(parents=True)
    place.write_text("{}")
    assert kubeadm_state(tmp_path) == ("incomplete", [RESTORE_PLAN])


def test_the_data_folder_is_the_one_in_the_manifest(tmp_path: Path) -> None:
    put(tmp_path, *NODE, ADMIN_CONF, "/data/etcd/member/snap", apiserver=APISERVER)
    put(tmp_path, etcd="    - etcd\n    - --data-dir=/data/etcd\n")
    assert kubeadm_state(tmp_path)[0] == "control_plane"


def test_access_to_stacked_etcd(tmp_path: Path) -> None:
    put(tmp_path, apiserver=APISERVER)
    assert etcd_access(tmp_path) == EtcdAccess(
        ["https://127.0.0.1:2379"],
        "/etc/kubernetes/pki/etcd/ca.crt",
        "/etc/kubernetes/pki/apiserver-etcd-client.crt",
        "/etc/kubernetes/pki/apiserver-etcd-client.key",
        local=True,
    )


def test_access_to_external_etcd(tmp_path: Path) -> None:
    put(tmp_path, apiserver=EXTERNAL.replace("- --etcd-servers=", '- "--etcd-servers=') + '"')
    access = etcd_access(tmp_path)
    assert access is not None
    assert (access.endpoints, access.local) == (["https://10.0.0.31:2379", "https://10.0.0.32:2379"], False)


@pytest.mark.parametrize(
    ("flag", "prefix"),
    [("--etcd-prefix=/k8s", "/k8s"), ("--etcd-prefix=k8s/", "/k8s"), ("--audit-log-maxage=1", "/registry")],
)
def test_where_in_etcd_the_values_are(tmp_path: Path, flag: str, prefix: str) -> None:
    put(
        tmp_path,
        apiserver=f"{APISERVER}\n    - {flag}\n    - --etcd-servers-overrides=/events#https://b:2379\n",
    )
    access = etcd_access(tmp_path)
    assert access is not None
    assert (access.prefix, access.overrides) == (prefix, "/events#https://b:2379")


def test_no_access_without_an_api_server(tmp_path: Path) -> None:
    assert etcd_access(tmp_path) is None


# Lines of the real files of Ubuntu 24.04, Debian testing, Rocky Linux 9 and Fedora 42, in their quoting.
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
DEBIAN_TESTING = 'NAME="Debian GNU/Linux"\nVERSION_CODENAME=forky\nID=debian\n'
ROCKY = 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\nPLATFORM_ID="platform:el9"\n'
FEDORA = "ID=fedora\nVERSION_ID=42\nVARIANT_ID=server\n"


@pytest.mark.parametrize(
    ("release", "programs", "expected"),
    [
        (UBUNTU, ["/usr/bin/apt-get"], ("ubuntu", "24.04", ["debian"], "apt")),
        (DEBIAN_TESTING, ["/usr/bin/apt-get"], ("debian", None, [], "apt")),
        (ROCKY, ["/usr/bin/dnf"], ("rocky", "9.6", ["rhel", "centos", "fedora"], "dnf")),
        (FEDORA, ["/usr/bin/dnf", "/usr/bin/apt-get"], ("fedora", "42", [], "apt")),
        ("ID='odd'  \nVERSION_ID=\nID_LIKE=\"\"\n", ["/usr/bin/zypper"], ("odd", None, [], None)),
    ],
)
def test_system(
    tmp_path: Path, release: str, programs: list[str], expected: tuple[str, str | None, list[str], str | None]
) -> None:
    put(tmp_path, *programs, **{"/etc/os-release": release})
    found = system(tmp_path)
    assert found.pop("architecture")
    assert tuple(found.values()) == expected
    assert list(found) == ["id", "version_id", "like", "package_manager"]


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "riscv64")]
)
def test_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, name: str) -> None:
    fields = ("Linux", "worker-1", "6.12.0", "#1 SMP", machine)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(fields))
    assert system(tmp_path)["architecture"] == name


class FakeHost:
    """Programs that print what the real ones print."""

    def __init__(self, folder: Path, **outputs: str) -> None:
        self.outputs = outputs
        self.argv: list[list[str]] = []
        folder.mkdir(parents=True, exist_ok=True)
        for name in outputs:
            (folder / name).touch(mode=0o755)
        self.runner = Runner(self, env={"PATH": str(folder)})

    def __call__(self, argv: list[str], **_: Any) -> tuple[int, str, str]:
        argv = argv[3:] if argv[0] == "timeout" else argv
        self.argv.append(argv)
        name = argv[0].rsplit("/", 1)[-1]
        return (0, self.outputs[name], "") if name in self.outputs else (127, "", "No such file")


def test_versions(tmp_path: Path) -> None:
    host = FakeHost(
        tmp_path,
        kubeadm="v1.36.4\n",
        kubelet="Kubernetes v1.36.4\n",
        kubectl="Client Version: v1.36.3\nKustomize Version: v5.7.1\n",
        containerd="containerd github.com/containerd/containerd/v2 v2.1.5 fb4c30d4ede353165\n",
        ctr="ctr github.com/containerd/containerd/v2 v2.1.5\n",
        runc="runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n",
        etcdctl="etcdctl version: 3.6.10\nAPI version: 3.6\n",
        etcdutl="etcdutl version: 3.6.9\nAPI version: 3.6\n",
        etcd="etcd Version: 3.6.8\nGit SHA: lab\nGo Version: go1.24.1\nGo OS/Arch: linux/amd64\n",
    )
    assert versions(host.runner, str(tmp_path / "etcdctl")) == {
        "kubeadm": "1.36.4",
        "kubelet": "1.36.4",
        "kubectl": "1.36.3",
        "containerd": "2.1.5",
        "containerd-shim-runc-v2": None,
        "ctr": "2.1.5",
        "runc": "1.1.5+ds1",
        "etcdctl": "3.6.10",
        "etcdutl": "3.6.9",
        "etcd": "3.6.8",
    }


def test_versions_of_what_is_missing_or_broken(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, runc="Segmentation fault\n", kubelet="Kubernetes v1.36.4\n")
    found = versions(host.runner, "/nowhere/etcdctl")
    assert found == {**dict.fromkeys(found), "kubelet": "1.36.4"}
    assert [argv[0] for argv in host.argv] == ["kubelet", "runc"]


def test_image_tags(tmp_path: Path) -> None:
    lines = "registry.k8s.io/coredns/coredns:v1.14.2\nregistry.k8s.io/pause:3.10.2\nregistry.k8s.io/etcd:3.6.8-0\n"
    host = FakeHost(tmp_path, kubeadm=lines)
    assert image_tags(host.runner, "1.36.3") == {"coredns": "v1.14.2", "pause": "3.10.2", "etcd": "3.6.8-0"}
    # Without the version it would ask a server for the newest one.
    assert host.argv == [["kubeadm", "config", "images", "list", "--kubernetes-version=1.36.3"]]
    assert image_tags(host.runner, None) == image_tags(FakeHost(tmp_path / "none").runner, "1.36.3") == {}


def test_addresses(tmp_path: Path) -> None:
    links = [
        {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1"}]},
        {"ifname": "eth0", "addr_info": [{"local": "192.0.2.11"}, {"local": "2001:db8::11"}, {}]},
        {"ifname": "wg0"},
    ]
    found = {"127.0.0.1": "lo", "192.0.2.11": "eth0", "2001:db8::11": "eth0"}
    assert addresses(FakeHost(tmp_path / "a", ip=json.dumps(links)).runner) == found
    assert addresses(FakeHost(tmp_path / "b", ip="Object unknown").runner) == {}
    assert addresses(FakeHost(tmp_path / "c").runner) == {}


def test_packages(tmp_path: Path) -> None:
    (tmp_path / "dpkg").mkdir()
    (tmp_path / "dpkg" / "status").write_text("Package: kubelet\nStatus: hold ok half-configured\n")
    shown = {
        "dpkg-query": "installed hold kubelet 1.36.3-1.1\nnot-installed unknown chrony\n",
        "dpkg-statoverride": "root root 600 /some/file\n",
    }
    host = FakeHost(tmp_path / "bin", **shown)
    assert package_state(host.runner, tmp_path / "dpkg", ["kubelet", "chrony"]) == {
        "unfinished": True,
        "installed": {"kubelet": {"version": "1.36.3-1.1", "held": True}},
        "mode_overrides": ["/some/file"],
    }
    assert package_state(host.runner, tmp_path / "none", ["kubelet"])["installed"] == {}


def test_nothing_is_asked_about_no_packages(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    empty = {"unfinished": False, "installed": {}, "mode_overrides": []}
    assert package_state(host.runner, tmp_path, []) == empty
    assert host.argv == []


def test_services(tmp_path: Path) -> None:
    output = (
        "Id=kubelet.service\nActiveState=activating\nUnitFileState=enabled\n\n"
        "Id=containerd.service\nActiveState=active\nUnitFileState=disabled\n"
    )
    host = FakeHost(tmp_path, systemctl=output)
    assert services(host.runner, ["kubelet", "containerd"]) == {
        "kubelet": {"active": False, "enabled": True},
        "containerd": {"active": True, "enabled": False},
    }


def test_a_host_where_nothing_is_installed(tmp_path: Path) -> None:
    host = FakeHost(tmp_path / "bin")
    facts = observe_host(host.runner, NOW, root=str(tmp_path))
    assert facts.pop("hostname")
    facts.pop("ntp_synchronized")
    assert facts.pop("cpus") >= 1
    free = facts.pop("disk_free_mib")
    assert set(free) == {"/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet"}
    assert facts["system"].pop("architecture")
    off = {"active": False, "enabled": False}
    assert facts == {
        "system": {"id": None, "version_id": None, "like": [], "package_manager": None},
        "kubeadm": "none",
        "interrupted": None,
        "evidence": [],
        "versions": dict.fromkeys(
            [
                *("kubeadm", "kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "runc"),
                *("etcdctl", "etcdutl", "etcd"),
            ]
        ),
        "image_tags": {},
        "packages": {"unfinished": False, "installed": {}, "mode_overrides": []},
        "addresses": {},
        "services": {"kubelet": off, "containerd": off},
        "certificates": [],
        "cgroup": 1,
        "swap_kib": 0,
        "memory_mib": 0,
        "container": False,
    }


def test_certificates_are_found_in_files_and_in_kubeconfigs(tmp_path: Path) -> None:
    data = base64.b64encode(LEAF).decode()
    put(
        tmp_path,
        **{
            "/etc/kubernetes/admin.conf": f"users:\n- user:\n    client-certificate-data: {data}\n",
            "/etc/kubernetes/kubelet.conf": "users:\n- user:\n    client-certificate: /some/path.pem\n",
            "/etc/kubernetes/pki/ca.crt": LEAF.decode(),
            "/etc/kubernetes/pki/ca.key": "never read",
            "/etc/kubernetes/pki/etcd/server.crt": LEAF.decode(),
            KUBELET_CLIENT: LEAF.decode()
            + "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n",
        },
    )
    found = certificates(tmp_path, NOW)
    assert [certificate["path"] for certificate in found] == [
        "/etc/kubernetes/admin.conf",
        "/etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/pki/etcd/server.crt",
        KUBELET_CLIENT,
    ]
    assert found[0] == {
        "path": "/etc/kubernetes/admin.conf",
        "subject": "system:node:worker-1",
        "issuer": "kubernetes",
        "not_after": "2027-01-02T03:04:05Z",
        "days_left": 41.79,
        "lifetime_days": 365.0,
        "error": None,
    }
    assert {certificate["error"] for certificate in found} == {None}


@pytest.mark.parametrize("data", ["!!!", "bm90IGEgY2VydGlmaWNhdGU=", ""])
def test_a_broken_certificate_is_reported_not_raised(tmp_path: Path, data: str) -> None:
    put(tmp_path, **{"/etc/kubernetes/admin.conf": f"    client-certificate-data: {data or chr(34) * 2}\n"})
    (certificate,) = certificates(tmp_path, NOW)
    assert certificate["error"]
    assert certificate["days_left"] is None


@pytest.mark.parametrize(
    ("mounts", "version"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n", 2),
        (
            "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
            "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n",
            1,
        ),
        ("", 1),
    ],
)
def test_cgroup(tmp_path: Path, mounts: str, version: int) -> None:
    put(tmp_path, **{"/proc/mounts": mounts})
    assert cgroup(tmp_path) == version


def test_swap(tmp_path: Path) -> None:
    assert swap_kib(tmp_path) == 0
    table = (
        "Filename\tType\tSize\tUsed\tPriority\n/swap.img file 2097148 0 -2\n/dev/zram0 partition 1024 0 5\n"
    )
    put(tmp_path, **{"/proc/swaps": table})
    assert swap_kib(tmp_path) == 2098172


def test_memory(tmp_path: Path) -> None:
    assert memory_mib(tmp_path) == 0
    put(tmp_path, **{"/proc/meminfo": "MemTotal:        1740800 kB\nMemFree:          100000 kB\n"})
    assert memory_mib(tmp_path) == 1700


def test_free_space_is_that_of_the_nearest_folder_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class FakeFilesystem:
        f_bavail, f_frsize = 3 * 2**20, 4096

        def __init__(self, folder: Path) -> None:
            asked.append(folder)

    monkeypatch.setattr(os, "statvfs", FakeFilesystem)
    assert free_mib(tmp_path, "/var/lib/etcd") == 3 * 4096
    (tmp_path / "var/lib/etcd").mkdir(parents=True)
    free_mib(tmp_path, "/var/lib/etcd")
    assert asked == [tmp_path, tmp_path / "var/lib/etcd"]


def test_containers(tmp_path: Path) -> None:
    assert not in_container(tmp_path, FakeHost(tmp_path / "bin").runner)
    assert in_container(tmp_path, FakeHost(tmp_path / "bin", **{"systemd-detect-virt": ""}).runner)
    put(tmp_path, "/run/systemd/container")
    assert in_container(tmp_path, FakeHost(tmp_path / "none").runner)


@pytest.mark.parametrize(
    ("result", "maxerror", "expected"),
    [(0, 15_999_999, True), (5, 16_000_000, False), (-1, 0, None)],
)
def test_clock(monkeypatch: pytest.MonkeyPatch, result: int, maxerror: int, expected: bool | None) -> None:
    class FakeLibc:
        def adjtimex(self, buffer: Any) -> int:
            assert struct.unpack_from("@i", buffer) == (0,), "only reading is allowed"
            struct.pack_into("@illl", buffer, 0, 0, 11, 22, maxerror)
            return result

    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeLibc())
    assert clock_synchronized() is expected
