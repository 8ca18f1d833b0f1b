"""The backup program on real TLS clusters: turns, faults, encryption, copies, damage, and being killed anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from etcdlab import VERSIONS, Authority, Cluster

ROOT = Path(__file__).parent.parent.parent
PROGRAM = ROOT / "roles" / "etcd_backup" / "files" / "kubewright_backup.py"
ALL = bool(os.environ.get("KUBEWRIGHT_ALL_FAULTS"))
NAME = "lab"


def tool(name: str) -> str:
    """Return a program that a machine of developers may lack."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


class Site:
    """Control planes cp1, cp2, … with folders of their own, and a real cluster behind them."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        library = folder / "lib" / "ansible_collections" / "kubewright" / "cluster" / "plugins"
        library.mkdir(parents=True)
        # As a host has it: nothing but what the role brings.
        (library / "module_utils").symlink_to(ROOT / "plugins" / "module_utils")

    def host(self, name: str) -> Path:
        """The disk of a control plane."""
        home = self.folder / name
        if not home.exists():
            pki = home / "kubernetes" / "pki"
            (pki / "etcd").mkdir(parents=True)
            for file in ("ca.crt", "ca.key", "sa.key", "sa.pub", "front-proxy-ca.crt", "etcd/ca.key"):
                (pki / file).write_text(f"{file} of the cluster")
            for part in ("kubewright", "manifests"):
                (home / "kubernetes" / part).mkdir()
            encryption = home / "kubernetes" / "kubewright" / "encryption.yaml"
            encryption.write_text("key: a secret of the test")
            (home / "kubernetes" / "manifests" / "kube-apiserver.yaml").write_text(
                f"    - --encryption-provider-config={encryption}\n"
            )
        return home

    def settings(self, name: str, **changes: Any) -> Path:
        """Write the settings of a control plane."""
        home, pki = self.host(name), self.cluster.authority.folder
        path = home / "backup.json"
        told = {
            "cluster": NAME, "host": name, "folder": str(home / "backups"),
            "endpoints": [self.cluster.client(one) for one in (1, 2, 3)],
            "ca_cert": str(pki / "ca.crt"), "client_cert": str(pki / "client.crt"),
            "client_key": str(pki / "client.key"), "timeout": 60, "state": str(home / "state.json"),
            "textfile_folder": str(home), "kubernetes": str(home / "kubernetes"), "kubectl": "false",
            "etcdctl": str(self.cluster.tools / "etcdctl"),
            **changes,
        }  # fmt: skip
        path.write_text(json.dumps(told))
        return path

    def start(self, name: str, *words: str, **changes: Any) -> subprocess.Popen[str]:
        """Start the program as a control plane does."""
        process = subprocess.Popen(
            [
                sys.executable,
                str(PROGRAM),
                "--settings",
                str(self.settings(name, **changes)),
                "--json",
                *words,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                "KUBEWRIGHT_LIBRARY": str(self.folder / "lib"),
                "PATH": os.environ["PATH"],
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        self.started.append(process)
        return process

    def run(self, name: str, *words: str, **changes: Any) -> dict[str, Any]:
        """Run the program to its end; its exit code and what it said are among the result."""
        return ended(self.start(name, *words, **changes))

    def backups(self, *names: str) -> list[Path]:
        """Everything that looks like a backup on these control planes."""
        return [
            one
            for name in names
            for one in (self.host(name) / "backups").glob("*.tar*")
            if one.suffix != ".json"
        ]

    def metrics(self, name: str) -> dict[str, float]:
        """What a control plane tells Prometheus, without the labels that are the same everywhere."""
        rows = (self.host(name) / "kubewright_backup.prom").read_text().splitlines()
        pairs = [row.rsplit(" ", 1) for row in rows if not row.startswith("#")]
        return {key.replace('{cluster="lab"}', ""): float(value) for key, value in pairs}


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a program, and return what it said."""
    stdout, stderr = process.communicate(timeout=300)
    told = json.loads(stdout) if stdout.strip() else {}
    return {**told, "rc": process.returncode, "stderr": stderr}


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three members of 3.6 for all tests that leave them whole."""
    made = Cluster("3.6", tmp_path_factory.mktemp("etcd"), net=41)
    try:
        made.up(3)
        made.etcdctl("put", "key", "value")
        yield made
    finally:
        made.down()


@pytest.fixture
def site(lasting: Cluster, tmp_path: Path) -> Iterator[Site]:
    """Control planes that have no backup yet."""
    lasting.etcdctl("del", "--prefix", "/kubewright.cluster/")
    made = Site(lasting, tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def nothing_half_done(site: Site, *names: str) -> None:
    """Nothing looks like a backup, and nothing is left to be cleaned."""
    for name in names:
        folder = site.host(name) / "backups"
        assert not folder.exists() or not any(folder.iterdir())


@pytest.mark.parametrize("version", VERSIONS)
def test_on_demand_on_every_version(version: str, tmp_path: Path) -> None:
    cluster = Cluster(version, tmp_path / "etcd", net=42 + VERSIONS.index(version))
    try:
        cluster.up(3)
        cluster.etcdctl("put", "key", "value")
        site = Site(cluster, tmp_path)
        plan = site.run("cp1", "plan")
        assert (plan["rc"], plan["due"], plan["last"], plan["backups"]) == (0, True, None, []), plan
        saved = site.run("cp1", "save")
        assert saved["rc"] == 0, saved
        path = Path(saved["backup"]["path"])
        assert saved["backup"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.stat().st_mode & 0o777 == 0o600
        assert sorted(one.name for one in path.parent.iterdir()) == [path.name, f"{path.name}.json"]
        record = Path(f"{path}.json").read_text()
        assert "secret" not in record
        assert json.loads(record)["snapshot"]["etcd_version"].startswith(version)
        new = tmp_path / "new"
        new.mkdir()
        subprocess.run(["tar", "-xf", path, "-C", new], check=True)
        encryption = next(new.rglob("encryption.yaml"))
        assert encryption.read_text() == "key: a secret of the test"
        status = [
            str(cluster.tools / "etcdutl"),
            "snapshot",
            "status",
            str(new / "snapshot.db"),
            "-w",
            "json",
        ]
        told = json.loads(subprocess.run(status, check=True, capture_output=True, text=True).stdout)
        assert told["revision"] == saved["backup"]["snapshot"]["revision"]
        plan = site.run("cp2", "plan")
        assert (plan["due"], plan["last"]["host"], plan["last"]["file"]) == (False, "cp1", path.name)
        assert site.run("cp2", "check")["rc"] == 0
        assert "hours old" in site.run("cp2", "check", "--hours", "0")["stderr"]
        metrics = site.metrics("cp1")
        assert metrics["kubewright_backup_size_bytes"] == path.stat().st_size
        assert metrics["kubewright_backup_last_run_success"] == 1
        assert metrics["kubewright_backup_failures_total"] == 0
    finally:
        cluster.down()


def test_three_at_once_save_one(site: Site) -> None:
    """All timers fire in one second."""
    names = ["cp1", "cp2", "cp3"]
    results = [ended(one) for one in [site.start(name, "run") for name in names]]
    assert [one["rc"] for one in results] == [0, 0, 0], results
    assert len(site.backups(*names)) == 1
    saver = next(one for one in results if one["backup"])
    assert [one["found"]["host"] for one in results if one["found"]] == [saver["backup"]["host"]] * 2
    assert {site.metrics(name)["kubewright_backup_revision"] for name in names} == {
        saver["backup"]["snapshot"]["revision"]
    }
    # The same slot again: nobody saves.
    assert all(ended(one)["found"] for one in [site.start(name, "run") for name in names])
    assert len(site.backups(*names)) == 1


def claimed(site: Site) -> str:
    """Who holds the claim, empty for nobody."""
    words = ["get", "/kubewright.cluster/backup/claim", "--print-value-only"]
    return site.cluster.etcdctl(*words).strip().split(" ")[0]


def until(check: Any, seconds: float, what: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"gave up after {seconds} s: {what}"
        time.sleep(0.05)


def test_a_saver_that_dies_is_followed_by_another(site: Site) -> None:
    dying = site.start("cp1", "run")
    until(lambda: claimed(site) == "cp1", 90, "the claim")
    dying.send_signal(signal.SIGSTOP)
    refused = site.run("cp2", "save")
    assert refused["rc"] == 1
    assert "cp1 is saving a backup of this cluster now" in refused["msg"]
    # It lives for longer than a lease lasts, while the next one waits.
    waiting = site.start("cp2", "run")
    lease = site.cluster.etcdctl("get", "/kubewright.cluster/backup/claim", "--print-value-only").split()[1]
    for _turn in range(8):
        site.cluster.etcdctl("lease", "keep-alive", "--once", lease)
        time.sleep(5)
    dying.kill()
    dying.wait()
    begun = time.monotonic()
    followed = ended(waiting)
    assert (followed.get("backup") or {}).get("host") == "cp2", followed
    # Its lease of 30 seconds, and what a loaded machine takes for a backup.
    assert time.monotonic() - begun < 120
    assert not [one for one in site.backups("cp1") if not Path(f"{one}.json").exists()]
    # What the dead one left is gone after its next run, whether or not it saves.
    assert site.run("cp1", "save")["rc"] == 0
    assert not list((site.host("cp1") / "backups").glob(".*"))


def test_the_second_waits_when_it_is_told_to(site: Site) -> None:
    first = site.start("cp1", "save")
    until(lambda: claimed(site) == "cp1", 90, "the claim")
    second = site.run("cp1", "save", "--wait", "90")
    assert (ended(first)["rc"], second["rc"]) == (0, 0), second
    assert len(site.backups("cp1")) == 2


def test_a_stopped_one_leaves_nothing(site: Site) -> None:
    """SIGTERM, as systemd sends it."""
    process = site.start("cp1", "save")
    until(lambda: claimed(site) == "cp1", 90, "the claim")
    process.terminate()
    assert ended(process)["rc"] == 1
    nothing_half_done(site, "cp1")
    assert claimed(site) == ""
    assert site.metrics("cp1")["kubewright_backup_failures_total"] == 1


@pytest.mark.parametrize("part", range(40 if ALL else 6))
def test_killed_at_any_step_no_half_backup_has_a_name(site: Site, part: int) -> None:
    begun = time.monotonic()
    assert site.run("cp1", "save")["rc"] == 0
    usual = time.monotonic() - begun
    process = site.start("cp2", "save")
    time.sleep(usual * (part + 0.5) / (40 if ALL else 6))
    process.kill()
    process.wait()
    site.cluster.etcdctl("del", "/kubewright.cluster/backup/claim")
    for path in site.backups("cp2"):
        record = json.loads(Path(f"{path}.json").read_text())
        assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    again = site.run("cp2", "save", "--wait", "90")
    assert again["rc"] == 0, again
    folder = site.host("cp2") / "backups"
    names = {one.name for one in folder.iterdir()}
    assert names == {name for path in site.backups("cp2") for name in (path.name, f"{path.name}.json")}


def test_a_dead_and_a_frozen_member_first_in_the_list(site: Site) -> None:
    dead = "https://127.57.41.99:2379"
    urls = [site.cluster.client(one) for one in (1, 2, 3)]
    assert site.run("cp1", "save", endpoints=[dead, *urls])["rc"] == 0
    site.cluster.pause(1)
    try:
        begun = time.monotonic()
        saved = site.run("cp1", "save", "--wait", "90", endpoints=[dead, *urls])
        assert saved["rc"] == 0, saved
        assert saved["backup"]["snapshot"]["member"] != "n1"
        assert time.monotonic() - begun < 120
    finally:
        site.cluster.thaw(1)
        site.cluster.wait(3)


def test_without_a_majority_nobody_hangs(site: Site) -> None:
    for number in (2, 3):
        site.cluster.kill(number)
    try:
        for words in (["run"], ["save"], ["check"]):
            begun = time.monotonic()
            told = site.run("cp1", *words)
            assert told["rc"] == 1
            assert "etcd" in told["msg"]
            assert time.monotonic() - begun < 120
        nothing_half_done(site, "cp1")
        assert site.metrics("cp1")["kubewright_backup_failures_total"] == 2
        assert site.metrics("cp1")["kubewright_backup_last_run_success"] == 0
    finally:
        for number in (2, 3):
            site.cluster.restart(number)
        site.cluster.wait(3)


def test_an_etcd_without_room_is_saved_on_demand(site: Site) -> None:
    """It grants no lease and stores no record, so that nobody could claim the turn."""
    authority = site.cluster.authority
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(*map(str, authority.issue("client", ["127.0.0.1"])))
    for member in json.loads(site.cluster.etcdctl("member", "list", "-w", "json"))["members"]:
        body = {"action": "ACTIVATE", "memberID": str(member["ID"]), "alarm": "NOSPACE"}
        url = f"{site.cluster.client(1)}/v3/maintenance/alarm"
        request = urllib.request.Request(url, data=json.dumps(body).encode())
        urllib.request.urlopen(request, context=context).close()
    try:
        assert "space exceeded" in site.cluster.etcdctl("put", "refused", "yes", check=False)
        plan = site.run("cp1", "plan")
        assert (plan["rc"], "member" in plan) == (0, True), plan
        saved = site.run("cp1", "save")
        assert (saved["rc"], len(site.backups("cp1"))) == (0, 1), saved
        assert "NOSPACE" in saved["warnings"][0]
        told = site.run("cp2", "run")
        assert (told["rc"], "cannot agree on who saves" in told["msg"]) == (1, True), told
    finally:
        site.cluster.etcdctl("alarm", "disarm")
    assert site.run("cp2", "run")["backup"]["host"] == "cp2"


@pytest.mark.parametrize("fault", ["expired", "foreign", "missing"])
def test_certificates_that_etcd_does_not_accept_are_named(site: Site, tmp_path: Path, fault: str) -> None:
    if fault == "expired":
        cert, key = site.cluster.authority.issue("expired", ["127.0.0.1"], days=0)
    elif fault == "foreign":
        cert, key = Authority(tmp_path / "foreign", "other").issue("client", ["127.0.0.1"])
    else:
        cert = key = tmp_path / "nothing.crt"
    told = site.run("cp1", "save", client_cert=str(cert), client_key=str(key))
    assert told["rc"] == 1
    assert str(cert) in told["msg"]
    assert {"missing": "cannot be read"}.get(fault, "refuses the client certificate") in told["msg"]
    nothing_half_done(site, "cp1")


def test_a_file_that_the_api_server_reads_and_that_is_missing_is_named(site: Site) -> None:
    (site.host("cp1") / "kubernetes" / "kubewright" / "encryption.yaml").unlink()
    told = site.run("cp1", "save")
    assert told["rc"] == 1
    assert "encryption.yaml" in told["msg"]
    nothing_half_done(site, "cp1")


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A disk of its own."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_leaves_nothing_and_the_next_host_saves(site: Site, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk:
        big = tmp_path / "big"
        big.write_bytes(os.urandom(1 << 20))
        told = site.run("cp1", "run", folder=str(disk))
        assert (told["rc"], "MiB are free" in told["msg"]) == (1, True), told
    with small_disk(tmp_path / "disk2", "1M") as disk:
        # There is room when it begins, and none later.
        told = site.run("cp1", "run", folder=str(disk), extra_paths=[str(big)])
        assert (told["rc"], "No space left" in told["msg"]) == (1, True), told
        assert "Free some space" in told["msg"]
        assert list(disk.iterdir()) == []
    assert claimed(site) == ""
    assert site.run("cp2", "run")["backup"]["host"] == "cp2"


def test_a_clock_that_was_wrong_stops_no_backup(site: Site) -> None:
    told = {"host": "cp9", "file": "x", "saved_at": 4e9, "size": 1, "sha256": "", "revision": 1}
    site.cluster.etcdctl("put", "/kubewright.cluster/backup/last", stdin=json.dumps(told))
    assert site.run("cp1", "run")["backup"]
    site.cluster.etcdctl("put", "/kubewright.cluster/backup/last", stdin="nonsense")
    assert site.run("cp1", "run")["backup"]


def test_the_newest_are_kept_and_damage_is_found(site: Site) -> None:
    for _turn in range(3):
        assert site.run("cp1", "save", keep=2)["rc"] == 0
    kept = sorted(site.backups("cp1"))
    assert len(kept) == 2
    assert site.run("cp1", "verify")["rc"] == 0
    data = bytearray(kept[0].read_bytes())
    data[len(data) // 2] ^= 1
    kept[0].write_bytes(data)
    told = site.run("cp1", "verify")
    assert (told["rc"], str(kept[0]) in told["msg"]) == (1, True)
    # What is shorter than its record says is no backup, and counts for nothing.
    kept[1].write_bytes(b"")
    assert [one["path"] for one in site.run("cp1", "list")["backups"]] == [str(kept[0])]


def test_an_age_backup_is_opened_by_its_key_alone(site: Site, tmp_path: Path) -> None:
    tool("age")
    identity = tmp_path / "identity"
    subprocess.run([tool("age-keygen"), "-o", str(identity)], check=True, capture_output=True)
    recipient = subprocess.run(
        ["age-keygen", "-y", str(identity)], check=True, capture_output=True, text=True
    ).stdout.strip()
    saved = site.run("cp1", "save", encryption="age", recipient=recipient)
    assert saved["rc"] == 0, saved
    path = Path(saved["backup"]["path"])
    assert path.name.endswith(".tar.age")
    opened = tmp_path / "opened.tar"
    subprocess.run(["age", "-d", "-i", str(identity), "-o", str(opened), str(path)], check=True)
    assert unpacked(opened, tmp_path / "new") == saved["backup"]["names"]
    assert site.run("cp1", "verify")["rc"] == 0
    told = site.run("cp1", "save", encryption="age", recipient="age1nobody")
    assert (told["rc"], "cannot be encrypted to this recipient" in told["msg"]) == (1, True)
    assert len(site.backups("cp1")) == 1


def test_a_gpg_backup_is_opened_by_its_key_alone(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = [tool("gpg"), "--homedir", str(home), "--batch", "--quiet"]
    subprocess.run(
        [*gpg, "--passphrase", "", "--quick-generate-key", "backup@example.org", "rsa2048", "encr"],
        check=True,
    )
    recipient = tmp_path / "recipient.asc"
    recipient.write_bytes(
        subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True).stdout
    )
    saved = site.run("cp1", "save", encryption="gpg", recipient=str(recipient))
    assert saved["rc"] == 0, saved
    opened = tmp_path / "opened.tar"
    try:
        subprocess.run([*gpg, "--output", str(opened), "--decrypt", saved["backup"]["path"]], check=True)
        assert unpacked(opened, tmp_path / "new") == saved["backup"]["names"]
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    recipient.write_text("nonsense")
    told = site.run("cp1", "save", encryption="gpg", recipient=str(recipient))
    assert (told["rc"], "cannot be encrypted to this recipient" in told["msg"]) == (1, True)


def unpacked(path: Path, folder: Path) -> list[str]:
    """Unpack as a restore does."""
    code = (
        "import sys; from ansible_collections.kubewright.cluster.plugins.module_utils._backup_bundle import unpack; "
        "print('\\n'.join(unpack(*sys.argv[1:])))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / ".ansible" / "collections")}
    argv = [sys.executable, "-c", code, str(path), str(folder)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=env).stdout.split()


class Door:
    """A real sshd on loopback, with the keys of one control plane."""

    port = 22087

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("host", "other", "client", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
            )
        self.known("host")
        self.allow("client")

    def known(self, name: str) -> None:
        """Pin a key."""
        key = (self.folder / f"{name}.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}")

    def allow(self, name: str, options: str = "") -> None:
        """Let a key in."""
        (self.folder / "authorized_keys").write_text(options + (self.folder / f"{name}.pub").read_text())

    @contextmanager
    def open(self) -> Iterator[None]:
        """Run the server. It wants a user of its own that a machine without sshd does not have."""
        (self.folder / "passwd").write_text(
            Path("/etc/passwd").read_text() + "sshd:x:64999:65534::/run/sshd:/usr/sbin/nologin\n"
        )
        (self.folder / "config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPermitRootLogin yes\n"
        )
        script = f"mount --bind {self.folder}/passwd /etc/passwd && exec {tool('sshd')} -D -e -f {self.folder}/config"
        Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "log").open("wb") as log:
            server = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stderr=log)
        try:
            until(lambda: "listening" in (self.folder / "log").read_text(), 60, "sshd")
            yield
        finally:
            server.terminate()
            server.wait()

    def settings(self, folder: str, **changes: Any) -> dict[str, Any]:
        """What the program has to know."""
        return {
            "copies": [
                {
                    "host": "127.0.0.1", "port": self.port, "user": pwd.getpwuid(os.geteuid()).pw_name,
                    "folder": folder, "keep": 2,
                }
            ],
            "ssh_key": str(self.folder / "client"),
            "known_hosts": str(self.folder / "known_hosts"),
            **changes,
        }  # fmt: skip


def test_copies_are_verified_there_and_thinned_out(site: Site, tmp_path: Path) -> None:
    door = Door(tmp_path / "door")
    away = tmp_path / "far away" / "it's here"
    with door.open():
        for _turn in range(3):
            saved = site.run("cp1", "save", **door.settings(str(away)))
            assert saved["rc"] == 0, saved
    path = Path(saved["backup"]["path"])
    assert len(site.backups("cp1")) == 3
    assert sorted(one.name for one in away.iterdir()) == sorted(
        f"{one.name}{end}" for one in sorted(site.backups("cp1"))[1:] for end in ("", ".json")
    )
    assert (away / path.name).read_bytes() == path.read_bytes()
    assert (away / path.name).stat().st_mode & 0o777 == 0o600
    copied = [value for key, value in site.metrics("cp1").items() if "copy_success" in key]
    assert copied == [1]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("another host key", "find out why before you change that"),
        ("a key that is not let in", "public key of this host"),
        ("nobody there", "Connection refused"),
        ("a folder that cannot be made", "cannot be copied"),
        ("a full disk there", "Free some space there"),
        ("damaged on its way", "not what was sent"),
    ],
)
def test_a_copy_that_fails_costs_no_backup(site: Site, tmp_path: Path, fault: str, says: str) -> None:
    door = Door(tmp_path / "door")
    away = str(tmp_path / "away")
    if fault == "another host key":
        door.known("other")
    if fault == "a key that is not let in":
        door.allow("stranger")
    if fault == "a folder that cannot be made":
        away = "/dev/null/folder"
    if fault == "damaged on its way":
        damage = tmp_path / "damage"
        damage.write_text(
            '#!/bin/sh\nexec sh -c "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed \'s/&& cat >/\\&\\& tr v w >/\')"\n'
        )
        damage.chmod(0o755)
        door.allow("client", f'command="{damage}" ')
    settings = door.settings(away)
    if fault == "nobody there":
        told = site.run("cp1", "save", **settings)
    elif fault == "a full disk there":
        with small_disk(Path(away), "16k"), door.open():
            told = site.run("cp1", "save", **settings)
    else:
        with door.open():
            told = site.run("cp1", "save", **settings)
    assert told["rc"] == 1
    assert says in told["copies"][0]["msg"], told
    assert site.run("cp1", "verify")["rc"] == 0
    assert len(site.backups("cp1")) == 1
    metrics = site.metrics("cp1")
    assert [value for key, value in metrics.items() if "copy_success" in key] == [0]
    assert metrics["kubewright_backup_last_success_timestamp_seconds"] > 0
    assert metrics["kubewright_backup_last_run_success"] == 0
    assert not list(Path(away).glob("lab-*")) if Path(away).is_dir() else True
