"""The parts of the backup program that need no etcd and no other host."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_copy as copying
from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_metrics as metrics
from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_seal as sealing
from ansible_collections.kubewright.cluster.plugins.module_utils import _backup_turn as turns
from ansible_collections.kubewright.cluster.plugins.module_utils._backup_bundle import Backup
from ansible_collections.kubewright.cluster.plugins.module_utils._backup_files import chosen, named
from ansible_collections.kubewright.cluster.plugins.module_utils._backup_run import (
    Program,
    Settings,
    read_settings,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import Etcd, Member, quorum
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Completed
from ansible_collections.kubewright.cluster.plugins.module_utils._snapshot_files import Snapshot

NOON = 1795348800.0
HOUR = 3600.0


def last(saved_at: float, host: str = "cp2") -> turns.Last:
    return turns.Last(host, "lab-x.tar", saved_at, 1, "ab", 7)


class FakeTurn:
    """Stands for etcd: what each look says, one after the other; the last one stays."""

    def __init__(self, lasts: list[turns.Last | None], claims: list[bool]) -> None:
        self._lasts, self._claims = lasts, claims
        self.released = 0

    def last(self) -> turns.Last | None:
        return self._lasts.pop(0) if len(self._lasts) > 1 else self._lasts[0]

    def claim(self) -> bool:
        return self._claims.pop(0) if len(self._claims) > 1 else self._claims[0]

    def holder(self) -> str:
        return "cp2"

    def release(self) -> None:
        self.released += 1


class FakeClock:
    """A clock that goes on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.01)

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, clock=self, sleep=self.sleep)


def waited(turn: FakeTurn, minutes: int = 360, seconds: float = 60) -> turns.Last | None:
    return turns.wait_for_turn(turn, minutes, FakeClock().deadline(seconds), lambda: NOON)  # type: ignore[arg-type]


class FakeEtcd:
    """Stands for etcdctl and etcd, whose leases end by the fake clock. It knows what Turn says, and no more."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.leases: dict[str, float] = {}
        self.keys: dict[str, tuple[str, str]] = {}

    def argv(self, *words: str, **_: Any) -> list[str]:
        return list(words)

    def run(self, argv: list[str], stdin: str | None = None, **_: Any) -> Completed:
        self.clock.now += 0.1
        self.leases = {lease: end for lease, end in self.leases.items() if end > self.clock.now}
        self.keys = {key: one for key, one in self.keys.items() if not one[1] or one[1] in self.leases}
        try:
            return Completed(0, self._answer(argv, stdin or ""), "")
        except KeyError:
            return Completed(1, "", "Error: etcdserver: requested lease not found")

    def _answer(self, argv: list[str], stdin: str) -> str:
        if argv[:2] == ["lease", "grant"]:
            number = len(self.leases) + 1000 + int(self.clock.now * 10)
            self.leases[format(number, "x")] = self.clock.now + float(argv[2])
            return json.dumps({"ID": number})
        if argv[:2] == ["lease", "revoke"]:
            del self.leases[argv[2]]
            return ""
        if argv[0] == "get":
            return self.keys.get(argv[1], ("", ""))[0]
        found = re.search(r'put --lease=(\w+) (\S+) "(.*)"', stdin)
        assert argv == ["txn"] and found
        if found[2] in self.keys:
            return "FAILURE"
        assert self.leases[found[1]]
        self.keys[found[2]] = (found[3], found[1])
        return "SUCCESS"


def test_who_has_waited_longer_than_a_lease_lasts_still_takes_over() -> None:
    clock = FakeClock()
    etcd = FakeEtcd(clock)
    # It lives for 40 seconds more, and its lease goes 30 seconds after it.
    etcd.leases["a"] = 70.0
    etcd.keys[turns.CLAIM] = ("cp1 a", "a")
    turn = turns.Turn(etcd, etcd, "cp2", clock.deadline)  # type: ignore[arg-type]
    assert turns.wait_for_turn(turn, 360, clock.deadline(120), lambda: NOON) is None
    assert turn.holder() == "cp2" and 70 < clock.now < 75
    assert len(etcd.leases) == 1
    turn.release()
    assert not etcd.leases


class FullEtcd(FakeEtcd):
    """Refuses what a full one refuses."""

    def at(self, endpoints: list[str]) -> FullEtcd:
        assert endpoints
        return self

    def observe(self) -> Etcd:
        urls = [["https://a:2379"], ["https://b:2379"]]
        members = [Member(url[0], "m", [], url, revision=1, alarms=["NOSPACE"]) for url in urls]
        return Etcd(members, quorum(members), "https://a:2379")

    def run(self, argv: list[str], stdin: str | None = None, **options: Any) -> Completed:
        assert argv[0] == "get", "etcdserver: mvcc: database space exceeded"
        return super().run(argv, stdin, **options)


def test_a_full_etcd_is_saved_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = FullEtcd(FakeClock())
    control_plane(tmp_path)
    backup = Backup("/b/lab-x.tar", 1, "ab", snapshot=Snapshot("", 1, "", saved_at="20261122T120000Z"))
    monkeypatch.setattr(Program, "_check_certificates", lambda _self: None)
    monkeypatch.setattr(Program, "_observe", lambda _self: (etcd, etcd.observe()))
    monkeypatch.setattr(Program, "_save", lambda *_: backup)
    settings = Settings(
        "lab", "cp1", "/b", (), "", "", "", state=str(tmp_path / "state.json"), kubernetes=str(tmp_path)
    )
    program = Program(settings, etcd)  # type: ignore[arg-type]
    result = program.run(scheduled=False)
    assert result.backup == backup and "NOSPACE" in result.warnings[0]
    # In every slot every host would save, because none hears of the others.
    with pytest.raises(KubewrightError, match="cannot agree"):
        program.run(scheduled=True)


@pytest.mark.parametrize(
    ("saved_at", "done"),
    [
        (NOON, True),
        (NOON - 1, False),
        (NOON + 300, True),
        (NOON + 7 * HOUR, False),
        (NOON - 30 * HOUR, False),
    ],
)
def test_a_backup_of_an_earlier_slot_or_of_a_wrong_clock_does_not_count(saved_at: float, done: bool) -> None:
    assert turns.is_done(last(saved_at), NOON, 360) is done


def test_slots_begin_at_midnight_utc_on_every_host() -> None:
    assert turns.slot(NOON - 1, 360) + 1 == turns.slot(NOON, 360) == turns.slot(NOON + 6 * HOUR - 1, 360)
    assert not turns.is_done(None, NOON, 360)


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", '{"host": "a"}', json.dumps({**vars(last(1)), "size": "x"})]
)
def test_what_is_no_record_is_none(text: str) -> None:
    assert turns.parse_last(text) is None


def test_a_record_comes_back() -> None:
    assert turns.parse_last(json.dumps(vars(last(NOON)))) == last(NOON)


def test_who_finds_the_backup_of_the_slot_claims_nothing() -> None:
    assert waited(FakeTurn([last(NOON)], [True])) == last(NOON)


def test_who_claims_saves() -> None:
    assert waited(FakeTurn([None], [False, False, True])) is None


def test_a_backup_that_came_between_look_and_claim_counts() -> None:
    turn = FakeTurn([None, last(NOON)], [True])
    assert waited(turn) == last(NOON)
    assert turn.released == 1


def test_on_demand_no_earlier_backup_counts() -> None:
    assert waited(FakeTurn([last(NOON)], [True]), minutes=0) is None


@pytest.mark.parametrize("seconds", [0, 20])
def test_who_saves_for_too_long_is_named(seconds: float) -> None:
    with pytest.raises(KubewrightError, match="cp2 is saving a backup of this cluster now"):
        waited(FakeTurn([None], [False]), seconds=seconds)


def test_a_host_name_cannot_carry_a_command() -> None:
    with pytest.raises(KubewrightError):
        turns.Turn(None, None, 'x"\nput a b')  # type: ignore[arg-type]


def test_etcdctl_is_told_by_its_cause() -> None:
    assert turns._said('{"level":"warn","error":"context deadline exceeded"}') == "context deadline exceeded"
    assert turns._said("Error: etcdserver: no leader") == "Error: etcdserver: no leader"


MANIFEST = """
    - command:
      - kube-apiserver
      - --audit-policy-file=/etc/kubernetes/audit.yaml
      - "--encryption-provider-config=/etc/kubernetes/mine/keys.yaml"
      - --service-account-key-file=/etc/kubernetes/pki/sa.pub
      - --service-account-key-file=/etc/kubernetes/pki/old.pub
      - --tls-private-key-file=/etc/kubernetes/pki/apiserver.key
      - --audit-log-path=/var/log/audit.log
"""


def test_the_command_line_of_the_api_server_says_what_it_reads() -> None:
    assert named(MANIFEST) == [
        "/etc/kubernetes/audit.yaml",
        "/etc/kubernetes/mine/keys.yaml",
        "/etc/kubernetes/pki/sa.pub",
        "/etc/kubernetes/pki/old.pub",
    ]


def control_plane(folder: Path, *files: str) -> Path:
    for name in ("pki/ca.crt", "pki/sa.key", "pki/sa.pub", *files):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def test_what_the_cluster_needs_is_chosen_and_what_one_host_has_is_not(tmp_path: Path) -> None:
    control_plane(
        tmp_path, "pki/apiserver.key", "pki/etcd/ca.key", "kubewright/encryption.yaml", "admin.conf"
    )
    (tmp_path / "kubewright" / ".part").write_text("half")
    found = [os.path.relpath(path, tmp_path) for path in chosen(str(tmp_path))]
    assert found == [
        "kubewright/encryption.yaml",
        "pki/ca.crt",
        "pki/etcd/ca.key",
        "pki/sa.key",
        "pki/sa.pub",
    ]


def test_what_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KubewrightError, match=r"pki/sa.key"):
        control_plane(tmp_path)
        (tmp_path / "pki" / "sa.key").unlink()
        chosen(str(tmp_path))


def test_extra_paths_are_files_or_folders_that_are_there(tmp_path: Path) -> None:
    home = control_plane(tmp_path / "kubernetes")
    extra = tmp_path / "extra" / "deep"
    extra.mkdir(parents=True)
    (extra / "file").write_text("x")
    assert str(extra / "file") in chosen(str(home), [str(tmp_path / "extra")])
    with pytest.raises(KubewrightError, match="extra paths"):
        chosen(str(home), ["/nowhere"])


def test_metrics_are_what_prometheus_reads() -> None:
    state = metrics.State(last_success=NOON + 0.25, size=3, copies={'a"b': {"success": 1, "time": NOON}})
    rows = metrics.text(state, "lab", 360).splitlines()
    assert 'kubewright_backup_last_success_timestamp_seconds{cluster="lab"} 1795348800.25' in rows
    assert 'kubewright_backup_interval_seconds{cluster="lab"} 21600' in rows
    assert 'kubewright_backup_copy_success{cluster="lab",target="a\\"b"} 1' in rows
    assert rows.count("# TYPE kubewright_backup_failures_total counter") == 1
    assert not any("copy" in row for row in metrics.text(metrics.State(), "lab", 360).splitlines())


def test_metrics_are_readable_by_everyone_and_never_half(tmp_path: Path) -> None:
    (tmp_path / f"{metrics.FILE}.new").write_text("left by a killed run")
    metrics.write(str(tmp_path), "a 1\n")
    assert [one.name for one in tmp_path.iterdir()] == [metrics.FILE]
    assert (tmp_path / metrics.FILE).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", ["", "[]", '{"runs": "many", "unknown": 1}'])
def test_a_state_that_cannot_be_read_costs_the_counters(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    assert metrics.read_state(str(path)) == metrics.State()


def test_the_state_comes_back(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    state = metrics.State(runs=3, last_run_success=True, copies={"a": {"success": 0, "time": 1}})
    metrics.write_state(path, state)
    assert metrics.read_state(path) == state


def test_a_remote_shell_gets_names_as_they_are() -> None:
    command = copying.put_command("/a b/'c", "lab-x.tar")
    assert "mkdir -p -- '/a b/'\"'\"'c'" in command


def test_no_setting_of_the_host_opens_the_door() -> None:
    argv = copying.ssh(copying.Target("h", "/f", port=2222), copying.Access("/key", "/known"), "true")
    assert argv[:3] == ["ssh", "-F", "/dev/null"]
    assert {"StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "IdentitiesOnly=yes"} <= set(argv)
    assert argv[-5:] == ["-p", "2222", "root@h", "--", "true"]


def names(*times: str) -> list[str]:
    return [f"lab-{time}.tar{end}" for time in times for end in ("", ".json")]


def test_old_copies_go_and_the_newest_stays() -> None:
    there = names("20261120T120000Z", "20261121T120000Z", "20261122T120000Z")
    gone = copying.superfluous_names(there, "lab", keep=1, keep_days=0, now=NOON)
    assert gone == names("20261120T120000Z", "20261121T120000Z")
    assert copying.superfluous_names(there, "lab", keep=0, keep_days=0, now=NOON) == []
    assert copying.superfluous_names(names("20260101T000000Z"), "lab", keep=1, keep_days=1, now=NOON) == []


def test_other_files_and_those_without_a_record_are_left_alone() -> None:
    there = [
        "notes",
        "lab-20261120T120000Z.tar",
        *names("20261121T120000Z", "20261122T120000Z"),
        "lab-2-x.tar",
    ]
    gone = copying.superfluous_names(there, "lab", keep=1, keep_days=0, now=NOON)
    assert gone == names("20261121T120000Z")


def test_half_copies_go_when_nobody_finishes_them() -> None:
    old, new = ".lab-20261120T120000Z.tar.json.part", ".lab-20261122T120000Z.tar.age.part"
    assert copying.superfluous_names([old, new, ".x.part"], "lab", keep=1, keep_days=0, now=NOON) == [old]


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("@@@@\nNo ED25519 host key is known for h\nHost key verification failed.", "find out why"),
        ("root@h: Permission denied (publickey).", "accept the public key"),
        ("sh: 1: cannot create x: Permission denied", "write to the folder"),
        ("cat: write error: No space left on device", "Free some space"),
        ("ssh: connect to host h port 22: Connection refused", "by hand"),
        ("", "by hand"),
    ],
)
def test_what_ssh_says_leads_to_a_remedy(said: str, remedy: str) -> None:
    assert remedy in str(copying._failed(copying.Target("h", "/f"), said))


def test_an_encrypted_stream_is_what_the_program_makes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "out"
    sealing.seal(str(path), ["tr", "a", "b"], lambda stream: stream.write(b"aaa"), 10)
    assert path.read_bytes() == b"bbb"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["sh", "-c", "echo 'no space left' >&2; exit 3"], "Free some space"),
        (["sh", "-c", "exec sleep 100"], "ended after"),
        (["no-such-program"], "Install no-such-program"),
    ],
)
def test_a_program_that_does_not_encrypt_is_an_error(tmp_path: Path, command: list[str], says: str) -> None:
    big: Callable[[Any], Any] = lambda stream: stream.write(bytes(1 << 20))  # noqa: E731
    with pytest.raises(KubewrightError, match=says):
        sealing.seal(str(tmp_path / "out"), command, big, 0.5)


def test_settings_are_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup.json"
    told = {
        "cluster": "lab", "host": "cp1", "folder": "/b", "endpoints": ["https://a:2379"], "ca_cert": "a",
        "client_cert": "b", "client_key": "c", "copies": [{"host": "h", "folder": "/f", "keep": 2}],
    }  # fmt: skip
    numbers = {"timeout": "60", "keep": "7", "keep_days": "1.5"}
    path.write_text(json.dumps({**told, **numbers}))
    settings = read_settings(str(path))
    assert (settings.timeout, settings.keep, settings.keep_days) == (60, 7, 1.5)
    assert settings.copies == (copying.Target("h", "/f", keep=2),)
    assert settings.every_minutes == 360
    surprise, text = {**told, "surprise": 1}, {**told, "keep": "x"}
    for wrong in ("", "[]", *map(json.dumps, (surprise, text, {"cluster": "lab"}))):
        path.write_text(wrong)
        with pytest.raises(KubewrightError, match=r"Run the playbook backup.yml"):
            read_settings(str(path))
