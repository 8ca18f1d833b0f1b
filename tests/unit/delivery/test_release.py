# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release of a clone: made whole by one command, or refused without a trace."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from awxjob import ROOT, checkout

CHANGELOG = "changelogs/changelog.yaml"
PRESENT = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]


def load() -> Any:
    spec = importlib.util.spec_from_file_location("release", ROOT / "changelogs" / "release.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = load()


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "A change")


def make(clone: Path, version: str, check: str = "true") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(clone / "changelogs" / "release.py"), version, "--check", check]
    return subprocess.run(argv, cwd=clone, capture_output=True, text=True, check=False)


def state(clone: Path) -> tuple[str, ...]:
    """All that a release changes, and that a refused one must not."""
    shown = ("rev-parse HEAD", "status --porcelain --ignored", "tag --list", "worktree list", "stash list")
    return tuple(git(clone, *words.split()) for words in shown)


@pytest.fixture(scope="module", autouse=True)
def _identity() -> Iterator[None]:
    """Commit as somebody, whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "A contributor")
            patch.setenv(f"GIT_{who}_EMAIL", "contributor@example.com")
        yield


@pytest.fixture(scope="module")
def origin(_identity: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with what is not committed yet, and without any release."""
    folder = tmp_path_factory.mktemp("origin") / "cluster"
    git(ROOT, "clone", "--quiet", "--no-tags", str(ROOT), str(folder))
    git(folder, "switch", "--quiet", "--force-create", "main")
    checkout(folder)
    (folder / CHANGELOG).write_text("---\nancestor: null\nreleases: {}\n")
    fragment = folder / "changelogs/fragments/0-test.yml"
    fragment.write_text("---\nminor_changes:\n  - etcd_member - something that only this test knows.\n")
    commit(folder)
    return folder


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "cluster"
    git(origin, "clone", "--quiet", str(origin), str(folder))
    return folder


def test_a_release_is_one_command(clone: Path) -> None:
    """Changelog, version, commit, tag, artefact; then the next one is a step from it."""
    check = (
        f"set -e; grep -qx 'version: {PRESENT}' galaxy.yml; grep -q 'only this test knows' CHANGELOG.md CHANGELOG.rst; "
        'test -z "$(ls changelogs/fragments)"; test -z "$(git status --porcelain)"; test -s "$ARTEFACT"'
    )
    done = make(clone, PRESENT, check)
    assert done.returncode == 0, done.stdout + done.stderr
    assert git(clone, "rev-parse", f"{PRESENT}^{{commit}}") == git(clone, "rev-parse", "main")
    assert git(clone, "log", "-1", "--format=%s") == f"Release {PRESENT}"
    assert git(clone, "status", "--porcelain") == "" and len(git(clone, "worktree", "list").splitlines()) == 1
    assert list(yaml.safe_load((clone / CHANGELOG).read_text())["releases"]) == [PRESENT]
    artefact = clone / f"kubewright-cluster-{PRESENT}.tar.gz"
    with tarfile.open(artefact) as tar:
        names = set(tar.getnames())
        manifest = tar.extractfile("MANIFEST.json")
        assert manifest and f'"version": "{PRESENT}"' in manifest.read().decode()
    assert {"CHANGELOG.md", "CHANGELOG.rst", CHANGELOG} <= names
    again = make(clone, PRESENT)
    assert again.returncode == 1 and f"a tag {PRESENT} already" in again.stderr

    (clone / "changelogs/fragments/1-next.yml").write_text(
        "---\nbugfixes:\n  - etcd_member - something else.\n"
    )
    commit(clone)
    major, minor, patch = (int(number) for number in PRESENT.split("."))
    following = f"{major}.{minor}.{patch + 1}"
    done = make(clone, following)
    assert done.returncode == 0, done.stdout + done.stderr
    assert following in (clone / "CHANGELOG.md").read_text()


def test_a_check_that_fails_leaves_the_clone_as_it_was(clone: Path) -> None:
    before = state(clone)
    done = make(clone, PRESENT, "echo no good; exit 3")
    assert done.returncode == 1 and "Exit code 3" in done.stderr and "no good" in done.stdout
    assert state(clone) == before


def test_a_change_that_is_in_no_commit_is_refused(clone: Path) -> None:
    (clone / "plugins/modules/new.py").write_text("")
    before = state(clone)
    done = make(clone, PRESENT)
    assert done.returncode == 1 and "plugins/modules/new.py" in done.stderr
    assert state(clone) == before


@pytest.mark.parametrize("left", ["", "---\ntrivial:\n  - A comment.\n"])
def test_nothing_new_is_no_release(clone: Path, left: str) -> None:
    for path in clone.glob("changelogs/fragments/*.yml"):
        path.unlink()
    if left:
        (clone / "changelogs/fragments/1-trivial.yml").write_text(left)
    commit(clone)
    before = state(clone)
    done = make(clone, PRESENT)
    assert done.returncode == 1 and "nothing that is new" in done.stderr
    assert state(clone) == before


def test_a_fragment_that_the_changelog_does_not_take_is_refused(clone: Path) -> None:
    (clone / "changelogs/fragments/1-wrong.yml").write_text("---\nbugfixes: no list\n")
    commit(clone)
    before = state(clone)
    done = make(clone, PRESENT)
    assert done.returncode == 1 and "1-wrong.yml" in done.stderr
    assert state(clone) == before


FIX = {"bugfixes": ["x"]}
NEW = {**FIX, "minor_changes": ["x"]}
BREAKS = {**NEW, "breaking_changes": ["x"]}


@pytest.mark.parametrize(
    ("last", "version", "told"),
    [
        (None, PRESENT, NEW),
        ("1.2.3", "1.2.4", FIX),
        ("1.2.3", "1.3.0", FIX),
        ("1.2.3", "1.3.0", NEW),
        ("1.2.3", "2.0.0", BREAKS),
        ("0.2.3", "0.3.0", BREAKS),
        ("0.9.0", "1.0.0", NEW),
        ("1.9.0", "1.10.0", NEW),
    ],
)
def test_a_step(last: str | None, version: str, told: dict[str, list[str]]) -> None:
    release.check_step(version, last, told, PRESENT)


@pytest.mark.parametrize(
    ("last", "version", "told", "why"),
    [
        (None, "9.9.9", NEW, "The first release is"),
        ("1.2.3", "1.2.3", FIX, "is no step from 1.2.3: the next one is one of 1.2.4, 1.3.0, 2.0.0"),
        ("1.2.3", "1.2.5", FIX, "is no step"),
        ("1.2.3", "1.3.1", NEW, "is no step"),
        ("1.2.3", "1.2.2", FIX, "is no step"),
        ("1.2.3", "1.2.4", NEW, "the fragments have minor_changes, so it is 1.3.0 at least"),
        ("1.2.3", "1.3.0", BREAKS, "the fragments have breaking_changes, so it is 2.0.0 at least"),
        ("0.2.3", "0.2.4", BREAKS, "so it is 0.3.0 at least"),
        ("1.2.3", "1.3", FIX, "is no version"),
        ("1.2.3", "v1.3.0", FIX, "is no version"),
        ("1.2.3", "1.3.0-rc1", FIX, "is no version"),
        ("1.2.3", "", FIX, "is no version"),
    ],
)
def test_no_step(last: str | None, version: str, told: dict[str, list[str]], why: str) -> None:
    with pytest.raises(release.Refusal, match=why.replace(".", r"\.")):
        release.check_step(version, last, told, PRESENT)


def test_releases_are_compared_as_numbers(tmp_path: Path) -> None:
    (tmp_path / "changelogs").mkdir()
    (tmp_path / CHANGELOG).write_text("releases: {0.9.0: {}, 0.10.0: {}, 0.10.1: {}}\n")
    assert release.last_release(tmp_path) == "0.10.1"
