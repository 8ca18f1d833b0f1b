"""Measurements of the etcd modules on real etcd clusters of this machine, without the lab's hosts."""

from __future__ import annotations

import base64
import http.client
import importlib
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measure import ROOT
from bench.report import Aim
from lab import golang, recipes
from lab.cache import Cache
from lab.shell import say

MINOR = "3.6"
RATIO, MEMORY, SECONDS = 1.3, 64, 1.0
# Objects of Kubernetes are a few KiB each; a transaction of etcd takes 128 changes and 1.5 MiB at most.
VALUE, BATCH = 8192, 128


@dataclass
class Figures:
    """Seconds of each round, MiB of the database, and MiB of memory: of all processes at once, and of the largest."""

    size: int = 0
    plain: list[float] = field(default_factory=list)
    saved: list[float] = field(default_factory=list)
    together: float = 0
    largest: float = 0
    info: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How much longer the module takes than the tool alone, by the medians."""
        return statistics.median(self.saved) / statistics.median(self.plain)


def aims(figures: Figures) -> list[Aim]:
    """Judge the figures."""
    info = statistics.median(figures.info)
    return [
        Aim(f"save to etcdctl: {figures.ratio:.2f}, at most {RATIO}", figures.ratio <= RATIO),
        Aim(
            f"resident memory while it saves: {figures.together:.0f} MiB, under {MEMORY}",
            figures.together < MEMORY,
        ),
        Aim(f"etcd_member_info of three members: {info:.2f} s, under {SECONDS:g}", info < SECONDS),
    ]


def text(head: list[str], figures: Figures) -> str:
    """Write the report."""

    def row(what: str, seconds: list[float]) -> str:
        rounds = " ".join(f"{one:.2f}" for one in seconds)
        return f"{what:<34} {statistics.median(seconds):7.2f} s   rounds: {rounds}"

    lines = [
        *head,
        "",
        f"A database of {figures.size} MiB, one member of etcd {MINOR} with TLS, on one disk with the snapshots",
        row("etcdctl snapshot save", figures.plain),
        row("etcd_snapshot, verified", figures.saved),
        f"resident: {figures.together:.0f} MiB in all processes at once, {figures.largest:.0f} MiB in the largest",
        "",
        "Three members of etcd with TLS",
        row("etcd_member_info", figures.info),
        "",
        *(f"{'met' if aim.met else 'MISSED':<7} {aim.what}" for aim in aims(figures)),
    ]
    return "".join(f"{line}\n" for line in lines)


def take(rounds: int, size: int, scratch: Path) -> Figures:
    """Take all figures."""
    sys.path.insert(0, str(ROOT / "tests" / "integration"))
    etcdlab: Any = importlib.import_module("etcdlab")
    cache = Cache()
    with cache.lock():
        golang.build(cache, recipes.etcd(etcdlab.newest(MINOR)))
    figures = Figures()
    three = etcdlab.Cluster(MINOR, scratch / "three", net=71)
    try:
        three.up(3)
        for _number in range(max(3, rounds)):
            figures.info.append(_run(_module("etcd_member_info", three, endpoints=[three.client(1)]))[0])
    finally:
        three.down()
    one = etcdlab.Cluster(MINOR, scratch / "one", net=72, quota=8 << 30)
    try:
        one.up(1)
        say(f"Writing {size} MiB ...")
        _fill(one, size)
        figures.size = (one.data(1) / "member" / "snap" / "db").stat().st_size >> 20
        folder = scratch / "snapshots"
        for number in range(1, rounds + 1):
            figures.plain.append(_fresh(folder, lambda: _run(_plain(one, folder))[0]))
            save = _module("etcd_snapshot", one, endpoints=[one.client(1)], folder=str(folder), timeout=1800)
            figures.saved.append(_fresh(folder, lambda run=save: _run(run)[0]))
            say(f"Round {number}: etcdctl {figures.plain[-1]:.1f} s, etcd_snapshot {figures.saved[-1]:.1f} s")
        # In a run of its own, because looking takes time.
        shutil.rmtree(folder)
        _seconds, figures.largest, figures.together = _run(save, watch=True)
    finally:
        one.down()
    return figures


@dataclass(frozen=True)
class _Command:
    argv: list[str]
    stdin: str = ""


def _plain(cluster: Any, folder: Path) -> _Command:
    pki = cluster.authority.folder
    return _Command(
        [str(cluster.tools / "etcdctl"), f"--endpoints={cluster.client(1)}", f"--cacert={pki / 'ca.crt'}",
         f"--cert={pki / 'client.crt'}", f"--key={pki / 'client.key'}", "snapshot", "save", str(folder / "plain.db")]
    )  # fmt: skip


def _module(name: str, cluster: Any, **options: Any) -> _Command:
    pki = cluster.authority.folder
    options = {
        "ca_cert": str(pki / "ca.crt"), "client_cert": str(pki / "client.crt"), "client_key": str(pki / "client.key"),
        "etcdctl": str(cluster.tools / "etcdctl"), **options,
    }  # fmt: skip
    module = f"ansible_collections.kubewright.cluster.plugins.modules.{name}"
    return _Command([sys.executable, "-m", module], json.dumps({"ANSIBLE_MODULE_ARGS": options}))


def _fresh(folder: Path, run: Any) -> float:
    """Measure with an empty folder, and nothing of the last run on its way to the disk."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.sync()
    seconds: float = run()
    return seconds


def _run(command: _Command, watch: bool = False) -> tuple[float, float, float]:
    """Return the seconds, the MiB of the largest process, and with *watch* those of all at one time."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command.argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ansible" / "collections")},
    )
    assert process.stdin and process.stdout
    process.stdin.write(command.stdin.encode())
    process.stdin.close()
    most = [0.0]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], sum(_resident(number) for number in _tree(process.pid)))

    watcher = threading.Thread(target=look)
    if watch:
        watcher.start()
    said = process.stdout.read()
    # The kernel gives the most that this process or any that it waited for ever had.
    _pid, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - begun
    ended.set()
    if watch:
        watcher.join()
    if process.returncode:
        raise RuntimeError(said.decode(errors="replace")[-2000:])
    return seconds, used.ru_maxrss / 1024, most[0]


def _tree(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            children[int(entry.read_text().rpartition(")")[2].split()[1])].append(int(entry.parent.name))
        except OSError:
            continue
    ahead = [root]
    while ahead:
        number = ahead.pop()
        yield number
        ahead += children[number]


def _resident(number: int) -> float:
    try:
        pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1048576


def _fill(cluster: Any, mebibytes: int) -> None:
    """Write random values over one connection; a call of etcdctl for each would take far longer."""
    pki = cluster.authority.folder
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(pki / "client.crt", pki / "client.key")
    connection = http.client.HTTPSConnection(cluster.address(1), 2379, context=context)
    for batch in range(mebibytes * 1048576 // (VALUE * BATCH)):
        value = base64.b64encode(os.urandom(VALUE)).decode()
        keys = [
            base64.b64encode(f"/registry/bench/{batch:06}-{one:03}".encode()).decode() for one in range(BATCH)
        ]
        puts = [{"requestPut": {"key": key, "value": value}} for key in keys]
        connection.request("POST", "/v3/kv/txn", json.dumps({"success": puts}))
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise RuntimeError(said.decode(errors="replace"))
