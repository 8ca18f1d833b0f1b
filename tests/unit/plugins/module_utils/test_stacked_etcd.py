# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The etcd of a control plane that is restarted with another image or log; the host and etcd are faked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _stacked_etcd as stacked
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, Member, quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._stacked_etcd import StackedEtcd, Wishes

MANIFEST = """\
apiVersion: v1
kind: Pod
metadata:
  name: etcd
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://10.0.0.11:2379
    - --data-dir=/var/lib/etcd
    - --initial-advertise-peer-urls=https://10.0.0.11:2380
    - --snapshot-count=10000
    image: registry.example.com:5000/etcd:3.6.8-0
    imagePullPolicy: IfNotPresent
"""
API_SERVER = """\
  - command:
    - kube-apiserver
    - --etcd-servers=https://127.0.0.1:2379
    - --secure-port=6443
    image: registry.k8s.io/kube-apiserver:v1.36.3
"""


def test_the_tag_of_the_image_and_nothing_else() -> None:
    changed = stacked.with_image_tag(MANIFEST, "3.6.16-0")
    assert changed == MANIFEST.replace("etcd:3.6.8-0", "etcd:3.6.16-0")
    with pytest.raises(KubewrightError, match="without a tag"):
        stacked.with_image_tag("    image: registry.example.com:5000/etcd\n", "3.6.16-0")


def test_an_argument_takes_the_place_of_one_of_its_name() -> None:
    changed = stacked.with_argument(MANIFEST, "etcd", "--snapshot-count=1")
    assert changed.count("snapshot-count") == 1
    assert "  - command:\n    - etcd\n    - --snapshot-count=1\n    - --advertise-client-urls=" in changed
    with pytest.raises(KubewrightError, match="does not begin its command with etcd"):
        stacked.with_argument("  - command: [etcd]\n", "etcd", "--snapshot-count=1")


def member(number: int, leader: int = 1, healthy: bool = True) -> Member:
    return Member(
        f"id{number}",
        f"cp{number}",
        [f"https://10.0.0.1{number}:2380"],
        [f"https://10.0.0.1{number}:2379"],
        is_leader=number == leader,
        healthy=healthy,
    )


class FakeEtcd:
    """Three members; who leads can be changed."""

    def __init__(self) -> None:
        self.members = [member(number) for number in (1, 2, 3)]
        self.applied = 500

    def observe(self) -> Etcd:
        return Etcd(self.members, quorum(self.members), "id1")

    def at(self, _urls: list[str]) -> FakeEtcd:
        return self

    def read(self, parse: Any, *_words: str) -> Any:
        return parse([{"Status": {"raftAppliedIndex": self.applied}}])


class FakePods:
    """Writes what it is told, and notes it; with snapshots after every entry the member saves one."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.texts: list[str] = []
        self.said: list[str] = []
        self.fails = False
        self.saves = True
        self.answers = True

    def serves(self, _pod: Any) -> bool:
        return self.answers

    def last_lines(self, component: str) -> list[str]:
        assert component == "etcd"
        return ["starting", "one", "two", "unknown flag"]

    def replace(self, change: Any) -> None:
        self.replace_together([change], lambda: None)

    def replace_together(self, changes: Any, turn_over: Any) -> None:
        for change in changes:
            assert change.component in ("etcd", "kube-apiserver") and change.healthy()
            if self.fails:
                raise KubewrightError("etcd does not come up with its new settings")
            self.texts.append(change.text)
            change.file.path.write_text(change.text)
            self.said.append(f"write {change.component}")
            if "--snapshot-count=1\n" in change.text and self.saves:
                folder = self.data / "member/snap"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{1:016x}-{501:016x}.snap").write_text("")
        turn_over()


class Host:
    """A control plane with a folder of its own."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manifest = root / "etcd.yaml"
        self.data = root / "data"
        self.manifest.write_text(MANIFEST.replace("/var/lib/etcd", str(self.data)))
        self.etcd = FakeEtcd()
        self.pods = FakePods(self.data)
        self.moved: list[str] = []
        monkeypatch.setattr(stacked, "Operator", lambda *_args: self)
        monkeypatch.setattr(stacked, "plan_member", lambda wanted, _etcd: wanted)
        self.now = 0.0

    def apply(self, wanted: Any) -> None:
        """Stand for the operator of members."""
        self.moved.append(f"{wanted.state} {wanted.peer_url}")
        self.etcd.members = [member(number, leader=2) for number in (1, 2, 3)]

    def run_command(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        """Stand for systemd, for a runtime with one of each, and for `kubectl patch --local`."""
        words = argv[3:] if argv[0] == "timeout" else argv
        if words[:2] == ["systemctl", "show"]:
            return 0, "inactive\n", ""
        if words[:2] in (["crictl", "ps"], ["crictl", "pods"]):
            name = next(
                word.rpartition("=")[2] for word in words if word.endswith(("=etcd", "=kube-apiserver"))
            )
            runs = words[1] == "ps" and f"crictl stop {name}" not in self.pods.said
            return 0, json.dumps({"containers": [{"id": name}] if runs else [], "items": []}), ""
        if "guard" in str(words):
            return 0, "", ""
        if words[0] in ("systemctl", "crictl"):
            self.pods.said.append(f"{words[0]} {words[1]} {words[-1]}")
            return 0, "", ""
        texts = options["data"].split("\n---\n")
        return 0, "\n".join(json.dumps(_pod(text)) for text in texts), ""

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def stacked(self) -> StackedEtcd:
        return StackedEtcd(
            Runner(self.run_command),
            self.etcd,  # type: ignore[arg-type]
            lambda: Deadline(30, clock=self.clock, sleep=self.sleep),
            pods=self.pods,  # type: ignore[arg-type]
            manifest=self.manifest,
            state=self.manifest.parent / "state",
        )

    def run(self, wishes: Wishes) -> list[str]:
        etcd = self.stacked()
        seen = etcd.look()
        steps = stacked.plan(wishes, seen)
        etcd.apply(wishes, steps, seen)
        return steps


def _pod(text: str) -> dict[str, Any]:
    lines = [line.strip() for line in text.splitlines()]
    words = [line[2:] for line in lines if line.startswith("- ") and not line.endswith(":")]
    image = next(line.partition(": ")[2] for line in lines if line.startswith("image:"))
    return {"spec": {"containers": [{"command": words, "image": image}]}}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_another_image_after_the_leadership_went_away(host: Host) -> None:
    assert host.run(Wishes(tag="3.6.16-0")) == ["image"]
    assert host.moved == ["follower https://10.0.0.11:2380"]
    assert [text.count("etcd:3.6.16-0") for text in host.pods.texts] == [1]
    assert host.run(Wishes(tag="3.6.16-0")) == []


def lent(host: Host, tmp_path: Path) -> stacked.LentEtcd:
    manifest = tmp_path / "kube-apiserver.yaml"
    manifest.write_text(API_SERVER)
    return stacked.LentEtcd(
        Runner(host.run_command),
        host.pods,  # type: ignore[arg-type]
        manifest=manifest,
        state=tmp_path / "state",
    )


def test_the_image_comes_in_one_stop_with_what_the_api_server_is_lent(host: Host, tmp_path: Path) -> None:
    """No kubelet sees either manifest before the API server has ended, and etcd after it."""
    etcd = host.stacked()
    change = lent(host, tmp_path).change(["https://10.0.0.12:2379"])
    etcd.apply(Wishes(tag="3.6.16-0"), ["image"], etcd.look(), change)
    assert host.pods.said == [
        "systemctl stop kubelet.service",
        "write etcd",
        "write kube-apiserver",
        "crictl stop kube-apiserver",
        "crictl stop etcd",
        "systemctl start kubelet.service",
        "systemctl start kubelet.service",
    ]
    assert host.moved == ["follower https://10.0.0.11:2380"]


def test_the_kubelet_runs_again_where_the_stop_failed(host: Host, tmp_path: Path) -> None:
    etcd, host.pods.fails = host.stacked(), True
    change = lent(host, tmp_path).change(["https://10.0.0.12:2379"])
    with pytest.raises(KubewrightError, match="does not come up"):
        etcd.apply(Wishes(tag="3.6.16-0"), ["image"], etcd.look(), change)
    assert host.pods.said == ["systemctl stop kubelet.service", "systemctl start kubelet.service"]


def test_a_log_begins_anew_and_the_member_then_runs_as_before(host: Host) -> None:
    before = host.manifest.read_text()
    assert host.run(Wishes(begin_log_anew=True)) == ["log"]
    first, second = host.pods.texts
    assert "--snapshot-count=1\n" in first and second == before == host.manifest.read_text()


def test_a_run_that_was_cut_off_between_is_finished(host: Host) -> None:
    """The manifest is the one to be tried already: the same again would make no new pod to wait for."""
    before = host.manifest.read_text()
    host.manifest.write_text(stacked.with_argument(before, "etcd", stacked.EVERY_ENTRY))
    host.data.joinpath("member/snap").mkdir(parents=True)
    (host.data / f"member/snap/{1:016x}-{501:016x}.snap").write_text("")
    assert host.run(Wishes(begin_log_anew=True)) == ["log"]
    [text] = host.pods.texts
    assert "snapshot-count" not in text and "etcd:3.6.8-0" in text


def test_a_snapshot_that_does_not_come_leaves_nothing_behind(host: Host) -> None:
    before = host.manifest.read_text()
    host.pods.saves = False
    with pytest.raises(KubewrightError, match="save a snapshot of its log"):
        host.run(Wishes(begin_log_anew=True))
    assert host.manifest.read_text() == before


def test_a_restart_that_could_stop_the_cluster_is_refused(host: Host) -> None:
    host.etcd.members[2] = member(3, healthy=False)
    with pytest.raises(KubewrightError, match="cp1 is not restarted"):
        host.run(Wishes(tag="3.6.16-0"))
    assert not host.pods.texts and not host.moved


def test_a_member_of_another_address_is_refused(host: Host) -> None:
    host.etcd.members = host.etcd.members[1:]
    with pytest.raises(KubewrightError, match="no member with the peer URL"):
        host.run(Wishes(tag="3.6.16-0"))


def test_a_host_without_etcd(tmp_path: Path, host: Host) -> None:
    host.manifest.unlink()
    with pytest.raises(KubewrightError, match="runs no etcd as a static pod"):
        host.stacked().look()


def test_the_other_members_are_lent_once(tmp_path: Path, host: Host) -> None:
    lender, runner = lent(host, tmp_path), Runner(host.run_command)
    manifest = tmp_path / "kube-apiserver.yaml"
    others = ["https://10.0.0.12:2379", "https://10.0.0.13:2379"]
    assert lender.has(others) is False
    assert lender.lend(others) is True
    assert lender.has(others[:1]) is True and lender.has([]) is False
    assert stacked.etcd_servers(manifest.read_text()) == ["https://127.0.0.1:2379", *others]
    assert "--secure-port=6443" in manifest.read_text()
    assert lender.lend(others) is False and lender.lend([]) is False
    assert lender.take_back(others) is True and manifest.read_text() == API_SERVER
    with pytest.raises(KubewrightError, match="runs no API server as a static pod"):
        stacked.LentEtcd(runner, host.pods, manifest=tmp_path / "none").lend(others)  # type: ignore[arg-type]
    assert not stacked.LentEtcd(runner, host.pods, manifest=tmp_path / "none").has(others)  # type: ignore[arg-type]
    # Never the last one.
    assert lender.take_back([*others, "https://127.0.0.1:2379"]) is False
    assert len(host.pods.texts) == 2


NEWER = MANIFEST.replace("image: ", "image: newer-")


def old_etcd(host: Host) -> stacked.OldEtcd:
    return stacked.OldEtcd(
        Runner(host.run_command),
        host.pods,  # type: ignore[arg-type]
        manifest=host.manifest,
        state=host.manifest.parent / "state",
    )


def test_an_etcd_that_kubeadm_left_broken_gets_its_old_manifest(host: Host) -> None:
    before = host.manifest.read_text()
    old = old_etcd(host)
    host.manifest.write_text(NEWER)
    host.pods.answers = False
    assert (
        old.bring_back() == "etcd does not serve by its new manifest, and says last: one | two | unknown flag"
    )
    assert host.manifest.read_text() == before
    assert old.bring_back() == "" and len(host.pods.texts) == 1


def test_an_etcd_that_serves_stays(host: Host) -> None:
    old = old_etcd(host)
    host.manifest.write_text(NEWER)
    assert old.bring_back() == "" and host.manifest.read_text() == NEWER
    host.manifest.unlink()
    assert old.bring_back() == "" and old_etcd(host).bring_back() == ""


def test_an_old_manifest_that_does_not_help_is_told(host: Host) -> None:
    old = old_etcd(host)
    host.manifest.write_text(NEWER)
    host.pods.answers, host.pods.fails = False, True
    assert "The old manifest did not help either" in old.bring_back()
