"""An execution environment of Debian packages, from the files that ansible-builder makes one of RPM packages from.

They are ee/execution-environment.yml and what meta/execution-environment.yml names. The collection in the image is an
artefact that was built from the checkout, because Galaxy and the repository that the definition names are not asked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import nodes, rootfs
from lab.cache import Cache
from lab.oci import EPOCH
from lab.rootfs import RootFs
from lab.shell import LabError, run

DEFINITION = nodes.ROOT / "ee" / "execution-environment.yml"
COLLECTIONS = "usr/share/ansible/collections"
# As images of ansible-builder have it: any user of the group root may write there.
SCRIPT = """
    useradd --uid 1000 --gid 0 --create-home --home-dir /home/runner --shell /bin/bash runner
    mkdir /runner
    chmod 0775 /runner /home/runner
    """


@dataclass(frozen=True)
class Needs:
    """Packages of Debian and of Python."""

    system: tuple[str, ...]
    python: tuple[str, ...]


def needs(definition: Path = DEFINITION, collection: Path = nodes.ROOT) -> Needs:
    """Return what the definition and the collection ask for."""
    # They take a second to come, and no other command of the lab needs them.
    from ansible_builder._target_scripts.introspect import process_collection
    from bindep.depends import Depends

    asked = yaml.safe_load(definition.read_text())["dependencies"]
    python, system = process_collection(str(collection))
    rules = Depends("\n".join([*system, *asked.get("system", [])]) + "\n").active_rules(["platform:dpkg"])
    ansible = [asked[name]["package_pip"] for name in ("ansible_core", "ansible_runner")]
    return Needs(tuple(rule[0] for rule in rules), (*ansible, *python, *asked.get("python", [])))


def tree() -> RootFs:
    """Return the Debian tree below it."""
    packages = ("python3", "ca-certificates", *needs().system)
    return RootFs("ee", packages, SCRIPT)


def _recipe(cache: Cache, suite: str) -> dict[str, Any]:
    base = rootfs.place(cache, tree(), suite).name
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return {"base": base, "python": needs().python, "source": source}


def place(cache: Cache, suite: str) -> Path:
    """Return where the result is, or will be."""
    return cache.path("ee", suite, _recipe(cache, suite))


def build(cache: Cache, suite: str) -> Path:
    """Return the tar archive of the image, without the collection."""

    def make(folder: Path) -> None:
        archive = folder / "root.tar"
        shutil.copy(rootfs.build(cache, tree(), suite), archive)
        with tarfile.open(archive) as tar:
            python = _python(tar)
        packages = folder / "packages"
        version = python.removeprefix("python")
        argv = [nodes.ansible_tool("uv"), "pip", "install", "--quiet", "--only-binary", ":all:"]
        run([*argv, "--python-version", version, "--target", packages, *needs().python])
        scripts = folder / "bin"
        (packages / "bin").rename(scripts)
        for script in scripts.iterdir():
            script.write_text(_for_debian(script.read_text()))
        with tarfile.open(archive, "a") as tar:
            tar.add(packages, f"usr/local/lib/{python}/dist-packages", filter=_owned_by_root)
            tar.add(scripts, "usr/local/bin", filter=_owned_by_root)
        shutil.rmtree(packages)
        shutil.rmtree(scripts)

    return cache.obtain("ee", suite, _recipe(cache, suite), make) / "root.tar"


def ensure_image(cache: Cache, archive: Path, artefact: Path) -> str:
    """Import the image with the collection of an artefact in it; return its name. Only under the cache's lock."""
    digest = hashlib.sha256(artefact.read_bytes()).hexdigest()
    key = f"{archive.parent.name.rpartition('-')[2]}-{digest[:16]}"
    reference = f"localhost/kubewright-lab-ee:{key}"
    if nodes.podman("images", "--quiet", reference).strip():
        return reference
    with tempfile.TemporaryDirectory(dir=cache.scratch) as scratch:
        whole, collections = Path(scratch) / "root.tar", Path(scratch) / "collections"
        shutil.copy(archive, whole)
        argv = [nodes.ansible_tool("ansible-galaxy"), "collection", "install", "--offline"]
        run([*argv, "-p", collections, artefact], env={"ANSIBLE_COLLECTIONS_PATH": str(collections)})
        with tarfile.open(whole, "a") as tar:
            tar.add(collections, COLLECTIONS, filter=_owned_by_root)
        words = ("USER 1000", "WORKDIR /runner", "ENV HOME=/home/runner")
        changes = [f"--change={one}" for one in words]
        nodes.podman("import", "--quiet", *changes, whole, reference)
    return reference


def _python(tar: tarfile.TarFile) -> str:
    """Return the name of the interpreter behind python3, with its minor version."""
    for member in tar:
        if member.name.removeprefix("./") == "usr/bin/python3":
            return os.path.basename(member.linkname)
    raise LabError("The Debian tree of the execution environment has no /usr/bin/python3")


def _for_debian(script: str) -> str:
    """Return a script of Python with Debian's interpreter in its first line, whatever wrote it."""
    lines = script.splitlines(keepends=True)
    # A path that is too long for a first line comes with a line of shell that Python takes for a text.
    rest = lines[3:] if lines[0] == "#!/bin/sh\n" else lines[1:]
    return "".join(["#!/usr/bin/python3\n", *rest])


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = EPOCH
    return member
