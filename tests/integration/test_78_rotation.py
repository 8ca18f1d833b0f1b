"""The encryption key is rotated under a writer: nothing is ever unreadable, and any interrupted run is finished.

`make soak` (KUBEWRIGHT_ALL_FAULTS) ends a rotation in every step.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hardlab import CONFIG, INVENTORY, admin, control_planes, keys, kubectl, prefixes, shell
from labtools import Notes, Recap, kill_in_step, playbook, wait_until

NAMESPACE = "kubewright-rotation"
AT_FIRST = 150
STEPS = [
    "Make the new key",
    "Let every control plane read the new key",
    "Let every API server write with the new key, and wait until it does",
    "Write again what is stored with another key, until etcd shows none",
    "Give up the old key, and wait until every API server has",
]
KILLED_IN = STEPS if os.environ.get("KUBEWRIGHT_ALL_FAULTS") else []


class Writer:
    """Creates Secrets and reads earlier ones, through the endpoint, all the time; every failure is kept."""

    def __init__(self, folder: Path) -> None:
        url, self._tls = admin(folder)
        server = urlsplit(url)
        self._host, self._port = server.hostname or "", server.port or 443
        self._random = random.Random(7)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.content: dict[str, str] = {}
        self.failed: list[str] = []
        self.reads = 0

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=10, context=self._tls)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, body=sent, headers={"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status < 300, f"{method} {path}: {answer.status} {text[:300]}"
            return json.loads(text)
        finally:
            connection.close()

    def create(self) -> None:
        """Make one more Secret."""
        name, content = f"s{len(self.content):05}", f"{self._random.getrandbits(256):x}"
        body = {"metadata": {"name": name}, "stringData": {"content": content}}
        self.request("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", body)
        self.content[name] = content

    def read(self, name: str) -> None:
        """Read one Secret and compare it."""
        found = self.request("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
        self.reads += 1
        assert base64.b64decode(found["data"]["content"]).decode() == self.content[name], f"{name} is another"

    def _work(self) -> None:
        while not self._stop.is_set():
            for do in (self.create, lambda: self.read(self._random.choice(list(self.content)))):
                try:
                    do()
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    self.failed.append(f"{time.strftime('%H:%M:%S')} {error!r}")
            self._stop.wait(0.1)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def writer(tmp_path: Path) -> Any:
    """A writer in a namespace of its own, with some Secrets to begin with."""
    kubectl("create", "namespace", NAMESPACE)
    made = Writer(tmp_path)
    for _number in range(AT_FIRST):
        made.create()
    yield made
    kubectl("delete", "namespace", NAMESPACE)


def key_in_use() -> str:
    """Return the one key that every control plane has."""
    [order] = {tuple(keys(host).order) for host in control_planes()}
    [name] = set(order) - {"identity"}
    return name


def rotate(*options: str, check: bool = True) -> Recap:
    """Run the playbook."""
    return playbook("rotate_encryption_key", *options, inventory=INVENTORY, check=check)


def all_encrypted_with(name: str) -> bool:
    """Tell whether etcd holds nothing of another key."""
    return set(prefixes("secrets")) == {f"k8s:enc:secretbox:v1:{name}:"}


def test_rotation_under_a_writer(writer: Writer, notes: Notes) -> None:
    """No request fails, every Secret carries the new key, the old one is gone, and nobody saw a key."""
    old = key_in_use()
    before = {host: keys(host) for host in control_planes()}
    checked = rotate("--check", "--diff", "-e", f"rotate_encryption_key={old}")
    assert checked.total("changed") > 0 and {host: keys(host) for host in control_planes()} == before
    assert all_encrypted_with(old)
    with writer:
        wait_until(lambda: writer.reads > 5, 30, "the writer works")
        done = rotate("-e", f"rotate_encryption_key={old}", "-vvv", "--diff")
    new = key_in_use()
    assert new != old and all_encrypted_with(new)
    assert not writer.failed, writer.failed[:5]
    for name in writer.content:
        writer.read(name)
    stored = sum(prefixes("secrets").values())
    notes.add(
        f"key rotation on {len(before)} control planes: {done.seconds:.0f} s, {stored} Secrets, "
        f"{writer.reads} reads and {len(writer.content) - AT_FIRST} writes meanwhile, none failed"
    )
    secrets = [*before[control_planes()[0]].secrets.values(), *keys(control_planes()[0]).secrets.values()]
    assert len(secrets) == 2
    for secret in secrets:
        assert secret not in done.output and secret not in checked.output
        for host in control_planes():
            assert shell(host, f"journalctl --no-pager | grep -cF '{secret}'", check=False).strip() == "0"


def test_a_second_run_does_nothing() -> None:
    """Neither the same command nor one without a wish rotates again; the answer names the command that would."""
    name = key_in_use()
    again = rotate("-e", "rotate_encryption_key=key-20200101-000000")
    asked = rotate()
    assert again.total("changed") == asked.total("changed") == 0
    assert f"rotate_encryption_key={name}" in asked.output and key_in_use() == name


@pytest.mark.parametrize("step", KILLED_IN)
def test_an_interrupted_rotation_is_finished(writer: Writer, step: str, notes: Notes) -> None:
    """Killed in a step and run again with the same words: one new key, everything readable at every moment."""
    old = key_in_use()
    with writer:
        kill_in_step(
            "rotate_encryption_key",
            step,
            "-e",
            f"rotate_encryption_key={old}",
            inventory=INVENTORY,
            after=1.5,
        )
        begun = {name for host in control_planes() for name in keys(host).order} - {old, "identity"}
        finished = rotate("-e", f"rotate_encryption_key={old}")
    new = key_in_use()
    assert new != old and all_encrypted_with(new)
    # What a step still did on the hosts after the controller died counts: the key that was made stays the one.
    assert begun in (set(), {new})
    assert not writer.failed, writer.failed[:5]
    for name in writer.content:
        writer.read(name)
    notes.add(f"key rotation killed in '{step}', run again: {finished.seconds:.0f} s, no request failed")
    assert rotate("-e", f"rotate_encryption_key={old}").total("changed") == 0


def test_a_control_plane_with_other_keys_is_refused() -> None:
    """Files that are no two steps of one rotation: nothing is changed, and the fingerprints are told."""
    if len(control_planes()) < 2:
        pytest.skip("needs two control planes")
    host = control_planes()[-1]
    good, other = keys(host), base64.b64encode(b"x" * 32).decode()
    # Behind the key in use, so that the API server, which loads the file, goes on as before.
    more = [{"name": f"key-{year}0101-000000", "secret": other} for year in (2001, 2999)]
    edit = (
        "import json, sys; document = json.load(open(sys.argv[1])); "
        "document['resources'][0]['providers'][0]['secretbox']['keys'] += json.loads(sys.argv[2]); "
        "json.dump(document, open(sys.argv[1], 'w'))"
    )
    try:
        shell(host, f"cp -p {CONFIG} /run/kept && python3 -c \"{edit}\" {CONFIG} '{json.dumps(more)}'")
        wish = f"rotate_encryption_key={good.order[0]}"
        for refused in (rotate("-e", wish, check=False), playbook("site", inventory=INVENTORY, check=False)):
            assert refused.total("failed") >= 1 and refused.total("changed") == 0, refused.output[-3000:]
            assert refused.output.count("sha256:") >= 2 and other not in refused.output
    finally:
        shell(host, f"cp -p /run/kept {CONFIG}; rm /run/kept")
    assert keys(host) == good
