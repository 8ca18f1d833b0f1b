"""Real etcd clusters with TLS on loopback addresses, their faults, and runs of the etcd modules against them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import recipes
from lab.cache import Cache

ROOT = Path(__file__).parent.parent.parent
VERSIONS = ["3.5", "3.6", "3.7"]


def newest(version: str) -> str:
    """Return the newest patch of a minor in the lock file; a patch stands for itself."""
    releases = recipes.lock()["etcd"]["releases"]
    return max(
        (one for one in releases if one.startswith(f"{version}.") or one == version),
        key=lambda one: [int(part) for part in one.split(".")],
    )


def binaries(version: str) -> Path:
    """Return the folder with etcd, etcdctl and etcdutl of a minor's newest patch, or of a patch."""
    program = recipes.etcd(newest(version))
    return Cache().path(program.name, program.version, program.recipe())


class Authority:
    """A certificate authority, as openssl makes one."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt",
        )  # fmt: skip

    @property
    def cert(self) -> Path:
        """The authority's certificate."""
        return self.folder / f"{self.name}.crt"

    def issue(self, name: str, addresses: list[str], days: int = 30) -> tuple[Path, Path]:
        """Return certificate and key for servers and clients; with 0 days it has expired already."""
        alternatives = ",".join(f"IP:{one}" for one in addresses) or "DNS:nobody"
        (self.folder / "ext").write_text(
            f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        lifetime = (
            ["-days", str(days)]
            if days
            else ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"]
        )
        if not days:
            self._expired(name)
        else:
            self._openssl(
                "x509", "-req", "-in", f"{name}.csr", "-CA", f"{self.name}.crt", "-CAkey", f"{self.name}.key",
                "-CAcreateserial", "-extfile", "ext", *lifetime, "-out", f"{name}.crt",
            )  # fmt: skip
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def _expired(self, name: str) -> None:
        """`openssl x509` of this machine cannot date back; `openssl ca` can."""
        (self.folder / "index.txt").write_text("")
        (self.folder / "serial").write_text("1000\n")
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n"
            "policy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
        )
        self._openssl(
            "ca", "-batch", "-config", "ca.cnf", "-cert", f"{self.name}.crt", "-keyfile", f"{self.name}.key",
            "-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-extfile", "ext",
            "-in", f"{name}.csr", "-out", f"{name}.crt", "-notext",
        )  # fmt: skip

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True, timeout=60)


@dataclass
class Cluster:
    """Members n1, n2, … on 127.57.NET.1, 127.57.NET.2, …"""

    version: str
    folder: Path
    net: int = 1
    quota: int = 0
    flags: tuple[str, ...] = ()
    authority: Authority = field(init=False)
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(self.folder / "pki", "ca")
        self.authority.issue("client", ["127.0.0.1"])

    @property
    def tools(self) -> Path:
        """Where the programs of this version are."""
        return binaries(self.version)

    def address(self, number: int) -> str:
        """The address of a member."""
        return f"127.57.{self.net}.{number}"

    def peer(self, number: int) -> str:
        """The peer URL of a member."""
        return f"https://{self.address(number)}:2380"

    def client(self, number: int) -> str:
        """The client URL of a member."""
        return f"https://{self.address(number)}:2379"

    def data(self, number: int) -> Path:
        """The data folder of a member."""
        return self.folder / f"n{number}"

    def start(self, number: int, *, initial: list[int], state: str = "new") -> None:
        """Start a member's process; `initial` are the members it is told of."""
        if not (self.authority.folder / f"n{number}.crt").exists():
            self.authority.issue(f"n{number}", [self.address(number), "127.0.0.1"])
        pki = self.authority.folder
        tls = {
            "cert-file": pki / f"n{number}.crt",
            "key-file": pki / f"n{number}.key",
            "trusted-ca-file": pki / "ca.crt",
        }
        words = [
            str(self.tools / "etcd"), f"--name=n{number}", f"--data-dir={self.data(number)}",
            f"--listen-client-urls={self.client(number)}", f"--advertise-client-urls={self.client(number)}",
            f"--listen-peer-urls={self.peer(number)}", f"--initial-advertise-peer-urls={self.peer(number)}",
            "--initial-cluster=" + ",".join(f"n{one}={self.peer(one)}" for one in initial),
            f"--initial-cluster-state={state}", f"--initial-cluster-token=lab{self.net}",
            "--client-cert-auth", "--peer-client-cert-auth", "--log-level=warn",
            *self.flags,
            *(f"--{prefix}{key}={value}" for prefix in ("", "peer-") for key, value in tls.items()),
        ]  # fmt: skip
        if self.quota:
            words.append(f"--quota-backend-bytes={self.quota}")
        log = (self.folder / f"n{number}.log").open("ab")
        self.processes[number] = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

    def restart(self, number: int) -> None:
        """Start a member that was there before; its data folder says what it belongs to."""
        self.start(number, initial=[number], state="existing")

    def up(self, count: int) -> None:
        """Start a new cluster and wait for it."""
        numbers = list(range(1, count + 1))
        for number in numbers:
            self.start(number, initial=numbers)
        self.wait(count)

    def wait(self, healthy: int, seconds: float = 30) -> None:
        """Wait until so many voters are healthy."""
        until = time.monotonic() + seconds
        seen: dict[str, Any] = {}
        while time.monotonic() < until:
            seen = self.run("etcd_member_info")
            if not seen.get("failed") and seen["quorum"]["healthy"] == healthy:
                return
            time.sleep(0.2)
        raise AssertionError(f"not {healthy} healthy voters after {seconds:.0f} s: {seen}")

    def kill(self, number: int) -> None:
        """End a member at once."""
        process = self.processes.pop(number)
        process.kill()
        process.wait()

    def pause(self, number: int) -> None:
        """Freeze a member."""
        self.processes[number].send_signal(signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """Let a frozen member go on."""
        self.processes[number].send_signal(signal.SIGCONT)

    def wipe(self, number: int) -> None:
        """Lose a member's disk."""
        shutil.rmtree(self.data(number))

    def down(self) -> None:
        """End all processes of the cluster."""
        for number in list(self.processes):
            self.thaw(number)
            self.kill(number)

    def etcdctl(self, *words: str, number: int = 1, check: bool = True, stdin: str | None = None) -> str:
        """Run etcdctl by hand against one member."""
        pki = self.authority.folder
        done = subprocess.run(
            [str(self.tools / "etcdctl"), f"--endpoints={self.client(number)}", f"--cacert={pki / 'ca.crt'}",
             f"--cert={pki / 'client.crt'}", f"--key={pki / 'client.key'}", *words],
            input=stdin, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def add_by_hand(self, number: int, *flags: str) -> None:
        """Announce a member as somebody else would; etcd takes nobody until it has been whole for 5 s."""
        words = ["member", "add", "lost", f"--peer-urls={self.peer(number)}", *flags]
        until = time.monotonic() + 20
        while "already exist" not in (said := self.etcdctl(*words, check=False)):
            assert time.monotonic() < until, said
            time.sleep(0.5)

    def run(self, module: str, *, check_mode: bool = False, **options: Any) -> dict[str, Any]:
        """Run a module of the collection as Ansible would."""
        pki = self.authority.folder
        if module != "etcd_snapshot_info" and options.get("state") not in ("rescued", "restored"):
            options = {
                "endpoints": [self.client(one) for one in sorted(self.processes) or [1]],
                "ca_cert": str(pki / "ca.crt"), "client_cert": str(pki / "client.crt"),
                "client_key": str(pki / "client.key"), "etcdctl": str(self.tools / "etcdctl"), **options,
            }  # fmt: skip
        return run_module(module, {**options, "_ansible_check_mode": check_mode, "_ansible_diff": True})


class Slow:
    """A way to a member on which each packet takes some time."""

    def __init__(self, address: str, seconds: float) -> None:
        self._target = (address, 2379)
        self._seconds = seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Slow:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _address = self._listener.accept()
                far = socket.create_connection(self._target)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := one.recv(65536):
                time.sleep(self._seconds)
                other.sendall(content)
            other.shutdown(socket.SHUT_WR)


def started(module: str, options: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a module and go on, to end it in the middle."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"ansible_collections.kubewright.cluster.plugins.modules.{module}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ansible" / "collections")},
        start_new_session=True,
    )
    assert process.stdin
    process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode())
    process.stdin.close()
    return process


# Ends the process, as SIGKILL does, before the change of the file system that follows so many.
_KILLED = """
import os, runpy, signal, sys
left = int(sys.argv.pop(1))
def counted(call):
    def wrapped(*words, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*words, **options)
    return wrapped
for name in ("mkdir", "rename", "replace", "rmdir", "chmod", "fchmod", "fsync", "unlink"):
    setattr(os, name, counted(getattr(os, name)))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def killed(module: str, options: dict[str, Any], after: int) -> bool:
    """Run a module until it has changed the file system so often; return whether it was killed there."""
    name = f"ansible_collections.kubewright.cluster.plugins.modules.{module}"
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(after), name],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ansible" / "collections")},
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode != 0


def users(word: str) -> list[str]:
    """Return the command lines of all processes that name a path."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = one.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if word in line:
            found.append(line.replace("\0", " "))
    return found


def run_module(module: str, options: dict[str, Any]) -> dict[str, Any]:
    """Run a module's file with its arguments on its input; what it prints is its result."""
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.kubewright.cluster.plugins.modules.{module}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ansible" / "collections")},
    )
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
