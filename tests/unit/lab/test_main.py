# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: what it calls, and that pruning builds nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab.__main__ as command
from lab import ee, elasticsearch, golang, nodes, origin, recipes, rootfs
from lab.cache import Cache
from lab.shell import LabError
from lab.stacks import Stacks


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of the test's own, and what main() changes of this process put back."""
    monkeypatch.setenv("KUBEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "require_root", lambda: None)
    monkeypatch.setattr(golang, "_GO_VERSION", ["go1.26.8"])
    mask, handler = os.umask(0o077), signal.getsignal(signal.SIGTERM)
    yield
    os.umask(mask)
    signal.signal(signal.SIGTERM, handler)


def main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lab", *words])
    return command.main()


def test_an_error_is_one_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise LabError("podman is not installed")

    monkeypatch.setattr(nodes, "clean", fail)
    assert main(monkeypatch, "clean") == 1
    assert capsys.readouterr().err == "lab: podman is not installed\n"


def test_what_is_built_can_be_read_by_others_whatever_the_umask(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def look() -> None:
        mask = os.umask(0)
        os.umask(mask)
        seen.append(mask)

    monkeypatch.setattr(nodes, "clean", look)
    assert main(monkeypatch, "clean") == 0
    assert seen == [0o022]


def test_termination_ends_the_command_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "clean", lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        main(monkeypatch, "clean")
    assert caught.value.code == 143


def test_prune_keeps_what_the_lock_file_needs_and_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("prune must not build")

    for module in (ee, elasticsearch, golang, origin, rootfs, command):
        monkeypatch.setattr(module, "run", refuse)
    cache = Cache(tmp_path / "cache")
    lock = recipes.lock()
    content = origin.Content(cache, lock)
    wanted = {
        cache.path(program.name, program.version, program.recipe()) for program in recipes.programs(lock)
    }
    bases = (rootfs.NODE, rootfs.ORIGIN, rootfs.FILTER_BASE, ee.tree())
    wanted |= {rootfs.place(cache, base, "trixie") for base in bases}
    wanted.add(ee.place(cache, "trixie"))
    wanted.add(cache.path("pause", "3.10.2", origin.pause_recipe("3.10.2")))
    wanted.add(cache.path("origin-content", "1", content.recipe()))
    stacks = Stacks(cache)
    stale = (
        cache.results / "etcd-3.4.0-0123456789abcdef",
        stacks.cache.results / "collector-0.1.0-0123456789abcdef",
    )
    for entry in (*wanted, *stacks.wanted_entries(), *stale):
        entry.mkdir()
    assert main(monkeypatch, "prune") == 0
    assert set(cache.results.iterdir()) == wanted
    assert set(stacks.cache.results.iterdir()) == stacks.wanted_entries()
    said = capsys.readouterr().out
    assert all(f"Removed {entry.name}" in said for entry in stale)


@pytest.mark.parametrize("command_word", ["build", "up"])
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_stacks_are_built_when_asked_for_and_served_when_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_word: str, asked: bool, there: bool
) -> None:
    done: list[Any] = []
    folders = [tmp_path / "registry"]
    base = (tmp_path / "node", tmp_path / "origin", tmp_path / "content")

    def build(_self: Stacks, image: str) -> None:
        done.append(image)

    def up(_inventory: Path, *what: Any) -> list[Any]:
        done.append(what)
        return []

    monkeypatch.setattr(command, "build", lambda _cache: base)
    monkeypatch.setattr(Stacks, "build", build)
    monkeypatch.setattr(Stacks, "served", lambda _self: folders if there else [])
    monkeypatch.setattr(nodes, "ensure_image", lambda name, archive: f"{name} of {archive.name}")
    monkeypatch.setattr(nodes, "up", up)
    assert main(monkeypatch, command_word, *(["--stacks"] if asked else [])) == 0
    built = ["origin of origin"] if asked else []
    served = [(*base, folders if there else [])] if command_word == "up" else []
    assert done == [*built, *served]


def test_the_place_of_a_root_file_system_is_where_it_is_built(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str | Path]] = []

    def fake_mmdebstrap(argv: list[str | Path]) -> str:
        calls.append(argv)
        return ""

    monkeypatch.setattr(rootfs, "run", fake_mmdebstrap)
    built = rootfs.build(cache, rootfs.NODE, "trixie")
    assert built == rootfs.place(cache, rootfs.NODE, "trixie") / "root.tar"
    [argv] = calls
    [hook] = [str(word) for word in argv if str(word).startswith("--customize-hook")]
    # mmdebstrap runs the hook with sh and the new root as its first argument.
    script = 'chroot() { shift 4; printf %s "$1"; }; set -- /new-root; ' + hook.partition("=")[2]
    monkeypatch.undo()
    assert rootfs.run(["sh", "-c", script]) == rootfs.NODE.script
