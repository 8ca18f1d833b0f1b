"""Hosts patched and restarted for real, one after the other, while clients outside call the API.

Needs the whole cluster of the demo. A container that restarts itself ends, so somebody has to stand in for the
firmware of a machine, which starts it again.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hardlab import control_planes, members, shell
from labtools import INVENTORY, Notes, Recap, playbook, run, start
from nightwatch import Nightwatch
from upgradelab import balancer, cordoned, soak

from lab import debs
from lab.nodes import PREFIX, STATE

pytestmark = soak

NAME = "kubewright-test-patch"
PLACE = f"/opt/{NAME}"
SOURCES = f"/etc/apt/sources.list.d/{NAME}.list"


def maintain(*options: str) -> Recap:
    """Run the playbook."""
    return playbook("maintain_nodes", "-e", f"lab_state={STATE}", *options, inventory=INVENTORY)


def package(version: str, folder: Path, scratch: Path) -> None:
    """Build a version of a package that, like a kernel, asks for a restart when it is replaced."""
    control = scratch / version / "DEBIAN"
    control.mkdir(parents=True)
    fields = {
        "Package": NAME,
        "Version": version,
        "Architecture": "amd64",
        "Maintainer": "kubewright lab <lab@kubewright.invalid>",
        "Description": "stands in for a patch",
    }
    (control / "control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    after = control / "postinst"
    after.write_text('#!/bin/sh\n[ -z "$2" ] || touch /run/reboot-required\n')
    after.chmod(0o755)
    run(
        "dpkg-deb",
        "--build",
        "--root-owner-group",
        str(control.parent),
        str(folder / f"{NAME}_{version}_amd64.deb"),
    )


@pytest.fixture(scope="module")
def patch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give every host the old version of a package, and a repository that has the new one."""
    scratch = tmp_path_factory.mktemp("packages")
    repository = scratch / "repository"
    (repository / "amd64").mkdir(parents=True)
    package("1", repository, scratch)
    package("2", repository / "amd64", scratch)
    debs.make_signing_key(scratch / "keys")
    debs.index(repository, scratch / "keys")
    (repository / "Release.key").rename(repository / "key.asc")
    line = f"deb [signed-by={PLACE}/key.asc] file:{PLACE} ./"
    for host in members():
        shell(host, f"rm -rf {PLACE}")
        run("podman", "cp", str(repository), f"{PREFIX}{host}:{PLACE}")
        shell(host, f"dpkg --install {PLACE}/*.deb && echo {shlex.quote(line)} >{SOURCES}")
    try:
        yield
    finally:
        run("gpgconf", "--homedir", str(scratch / "keys"), "--kill", "all")
        for host in members():
            shell(host, f"rm -rf {PLACE} {SOURCES}; dpkg --purge {NAME}", check=False)


@contextmanager
def firmware() -> Iterator[None]:
    """Start every host again that ends, as the firmware of a machine does."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            ended = run("podman", "ps", "--filter", "status=exited", "--format", "{{.Names}}").split()
            for host in members():
                if f"{PREFIX}{host}" in ended:
                    start(host)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def began(host: str) -> str:
    """Return when a host was started, in clock ticks."""
    return shell(host, "cut -d ' ' -f 22 /proc/1/stat").strip()


def installed(host: str) -> str:
    """Return the version of the package."""
    return shell(host, f"dpkg-query --show --showformat='${{Version}}' {NAME}")


def test_what_is_pending_is_said_and_nothing_is_done(patch: None) -> None:
    """The plan names every host."""
    said = maintain("--check").said
    for host in members():
        assert f"{host}: upgrade " in said, said[-3000:]
        assert installed(host) == "1"


def test_hosts_are_patched_and_restarted_and_nobody_outside_notices(
    patch: None, notes: Notes, tmp_path: Path
) -> None:
    """Control planes one by one, then the workers; the API server of each ends in order before its host does."""
    before = {host: began(host) for host in members()}
    with firmware(), Nightwatch(tmp_path, "maintain_nodes.yml", inside=False) as watch:
        done = maintain("--forks", "1")
    notes.add(
        f"maintain_nodes.yml, a package and a restart of each of {len(members())} hosts: {done.seconds:.0f} s; "
        f"{watch.report.summary()}"
    )
    for host in members():
        assert installed(host) == "2" and began(host) != before[host]
    assert not cordoned()
    watch.check()


def test_a_second_run_changes_nothing(patch: None) -> None:
    """Nothing is pending any more."""
    again = maintain()
    assert again.total("changed") == 0 and "Nothing to do" in again.said
    assert not any("DRAIN" in balancer(host, "show stat") for host in control_planes())
    playbook("verify", "-e", f"lab_state={STATE}", inventory=INVENTORY)
