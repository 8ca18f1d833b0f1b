# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a release: the changelog of the fragments, the version in galaxy.yml, a commit, a tag and the artefact.

All of it is made and checked in a work tree of its own. The checkout gets commit, tag and artefact at the end, or stays
as it was. Nothing is pushed. Run by `make release VERSION=X.Y.Z`.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
# What a fragment tells of, and the number of the version that has to grow for it: 0 for the major one.
GROWS = {
    "breaking_changes": 0,
    "removed_features": 0,
    "major_changes": 1,
    "minor_changes": 1,
    "deprecated_features": 1,
}
PATCH = 2


class Refusal(Exception):
    """No release can be made; the text says why, and what to do."""


def run(*argv: str, cwd: Path) -> str:
    """Return what a command printed; what it complains of is seen, and its failure ends the release."""
    done = subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Refusal(f"Exit code {done.returncode} from: {shlex.join(argv)}\n{done.stdout}".rstrip())
    return done.stdout


def parse(version: str) -> tuple[int, ...]:
    """Return the three numbers of a version."""
    match = VERSION.fullmatch(version)
    if not match:
        raise Refusal(f"'{version}' is no version: give three numbers, as in make release VERSION=1.2.3")
    return tuple(int(number) for number in match.groups())


def fragments(folder: Path) -> dict[str, list[str]]:
    """Return what the fragments tell of, by section."""
    told: dict[str, list[str]] = {}
    for path in sorted((folder / "changelogs" / "fragments").glob("*.y*ml")):
        for section, entries in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).items():
            told.setdefault(section, []).extend([entries] if isinstance(entries, str) else entries)
    return told


def last_release(folder: Path) -> str | None:
    """Return the version of the newest release of the changelog."""
    found = yaml.safe_load((folder / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))
    return max(found.get("releases") or {}, key=parse, default=None)


def check_step(version: str, last: str | None, told: dict[str, list[str]], present: str) -> None:
    """Refuse a version that does not come next, and one that says less than the fragments do."""
    wanted = parse(version)
    if last is None:
        if version != present:
            raise Refusal(f"The first release is {present}, as galaxy.yml has it, not {version}")
        return
    before = parse(last)
    steps = [(*before[:place], before[place] + 1, *(0,) * (PATCH - place)) for place in range(PATCH + 1)]
    if wanted not in steps:
        allowed = ", ".join(".".join(map(str, step)) for step in reversed(steps))
        raise Refusal(f"{version} is no step from {last}: the next one is one of {allowed}")
    section = min(told, key=lambda name: GROWS.get(name, PATCH))
    # Below 1.0.0 a minor version may break.
    needed = max(GROWS.get(section, PATCH), 0 if before[0] else 1)
    if steps.index(wanted) > needed:
        least = ".".join(map(str, steps[needed]))
        raise Refusal(f"{version} says too little: the fragments have {section}, so it is {least} at least")


def write_version(folder: Path, version: str) -> None:
    """Set the version in galaxy.yml, and nothing else there."""
    path = folder / "galaxy.yml"
    text, count = re.subn(
        r"^version: .*$", f"version: {version}", path.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    if count != 1:
        raise Refusal(f"{path} has {count} lines that begin with 'version:', not one")
    path.write_text(text, encoding="utf-8")


def refuse_early(root: Path, version: str) -> None:
    """Refuse what can be known before anything is made."""
    galaxy = yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))
    parse(version)
    dirty = run("git", "status", "--porcelain", cwd=root)
    if dirty:
        raise Refusal(
            f"The checkout has changes that are in no commit. Commit them or take them back:\n{dirty.rstrip()}"
        )
    if run("git", "tag", "--list", version, cwd=root).strip():
        raise Refusal(f"There is a tag {version} already")
    told = fragments(root)
    if not set(told) - {"trivial"}:
        raise Refusal("changelogs/fragments tells of nothing that is new, so there is nothing to release")
    check_step(version, last_release(root), told, str(galaxy["version"]))


def release(root: Path, version: str, check: str) -> Path:
    """Make the release; return the artefact."""
    refuse_early(root, version)
    name = f"kubewright-cluster-{version}.tar.gz"
    with tempfile.TemporaryDirectory(prefix="kubewright-release-") as scratch:
        tree = Path(scratch) / "tree"
        run("git", "worktree", "add", "--quiet", "--detach", str(tree), "HEAD", cwd=root)
        try:
            write_version(tree, version)
            run("antsibull-changelog", "lint", cwd=tree)
            run("antsibull-changelog", "release", "--version", version, cwd=tree)
            run("git", "add", "--all", cwd=tree)
            run("git", "commit", "--quiet", "--message", f"Release {version}", cwd=tree)
            # Before the checks leave anything in the tree.
            run("ansible-galaxy", "collection", "build", "--output-path", scratch, cwd=tree)
            artefact = Path(scratch) / name
            print(f"Checking: {check}", flush=True)
            done = subprocess.run(
                ["sh", "-c", check], cwd=tree, check=False, env={**os.environ, "ARTEFACT": str(artefact)}
            )
            if done.returncode:
                raise Refusal(f"Exit code {done.returncode} from: {check}")
            commit = run("git", "rev-parse", "HEAD", cwd=tree).strip()
            run("git", "merge", "--quiet", "--ff-only", commit, cwd=root)
            run(
                "git",
                "tag",
                "--annotate",
                "--message",
                f"kubewright.cluster {version}",
                version,
                commit,
                cwd=root,
            )
            return Path(shutil.copy(artefact, root / name))
        finally:
            run("git", "worktree", "remove", "--force", str(tree), cwd=root)


def main() -> int:
    """Parse the command line and make the release."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="three numbers")
    parser.add_argument(
        "--check",
        default="make check && make artefact",
        help="what has to pass, a line of shell that runs in the tree of the release (default: %(default)s); "
        "ARTEFACT is the path of the artefact",
    )
    options = parser.parse_args()
    try:
        artefact = release(ROOT, options.version, options.check)
    except Refusal as refusal:
        print(f"release: {refusal}", file=sys.stderr)
        return 1
    print(f"Released {options.version}, here only. To publish it:")
    print(f"  git push origin HEAD {options.version}")
    print(f"  ansible-galaxy collection publish {artefact.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
