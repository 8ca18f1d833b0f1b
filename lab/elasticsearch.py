"""The root file system of Elasticsearch's image: the real server on Debian, laid out as in upstream's image.

Upstream's image can not be had from a package registry. Its distribution for integration tests can: the same server
with TLS and file users, without most of its modules. lab/README.md has the differences.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from lab import recipes, rootfs
from lab.cache import Cache
from lab.oci import EPOCH
from lab.rootfs import RootFs
from lab.shell import LabError, run

SOURCES = recipes.LAB / "images" / "elasticsearch"
HOME = "usr/share/elasticsearch"
USER = 1000

JAVA = RootFs(
    "java",
    ("openjdk-21-jre-headless", "tini"),
    f"""
    groupadd --gid {USER} elasticsearch
    useradd --uid {USER} --gid {USER} --groups 0 --home-dir /{HOME} --no-create-home elasticsearch
    """,
)
JDK = "/usr/lib/jvm/java-21-openjdk-amd64"
# Upstream's image lets the user and the group 0 write here, and nowhere else.
WRITABLE = ("bin", "config", "config/jvm.options.d", "data", "logs", "plugins")
FAKE = "usr/local/lib/fake_nofile.so"


def recipe(cache: Cache, entry: dict[str, str], suite: str) -> dict[str, Any]:
    """Everything that decides the root file system."""
    sources = [Path(__file__), *sorted(SOURCES.iterdir())]
    return {
        "distribution": entry,
        "java": rootfs.place(cache, JAVA, suite).name,
        "sources": {source.name: hashlib.sha256(source.read_bytes()).hexdigest() for source in sources},
    }


def distribution_recipe(entry: dict[str, str]) -> dict[str, Any]:
    """Everything that decides upstream's archive."""
    return {"sha256": entry["sha256"]}


def distribution(cache: Cache, entry: dict[str, str]) -> Path:
    """Return upstream's archive."""
    name = f"elasticsearch-{entry['version']}.zip"

    def make(folder: Path) -> None:
        group = "org.elasticsearch.distribution.integ-test-zip"
        words = [f"-Dartifact={group}:elasticsearch:{entry['version']}:zip", f"-DoutputDirectory={folder}"]
        words.append(f"-Dmaven.repo.local={cache.scratch / 'maven'}")
        run(["mvn", "--quiet", "--batch-mode", "dependency:copy", *words])
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != entry["sha256"]:
            raise LabError(f"{name} has the checksum {found}; lock.toml wants {entry['sha256']}")

    version = entry["version"]
    return cache.obtain("elasticsearch-archive", version, distribution_recipe(entry), make) / name


def build(cache: Cache, entry: dict[str, str], suite: str) -> Path:
    """Return the tar archive of the root file system."""

    def make(folder: Path) -> None:
        archive = distribution(cache, entry)
        target = folder / "root.tar"
        shutil.copy(rootfs.build(cache, JAVA, suite), target)
        fake = cache.scratch / "fake_nofile.so"
        source = SOURCES / "fake_nofile.c"
        run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", fake, source])
        with tarfile.open(target, "a", format=tarfile.PAX_FORMAT) as tar:
            with zipfile.ZipFile(archive) as upstream:
                add_distribution(tar, upstream)
            add(
                tar,
                "usr/local/bin/docker-entrypoint.sh",
                (SOURCES / "docker-entrypoint.sh").read_bytes(),
                0o555,
            )
            add(tar, FAKE, fake.read_bytes(), 0o755)
            add(tar, "etc/ld.so.preload", f"/{FAKE}\n".encode(), 0o644)

    return (
        cache.obtain("elasticsearch-root", entry["version"], recipe(cache, entry, suite), make) / "root.tar"
    )


def add_distribution(tar: tarfile.TarFile, upstream: zipfile.ZipFile) -> None:
    """Add upstream's files with the modes that they have in its image."""
    add(tar, HOME, None, 0o775)
    folders = {*WRITABLE}
    files: dict[str, bytes] = {}
    for item in upstream.infolist():
        path = item.filename.partition("/")[2].rstrip("/")
        if item.is_dir():
            folders.add(path)
        else:
            files[path] = upstream.read(item)
    files["config/log4j2.properties"] = (SOURCES / "log4j2.properties").read_bytes()
    environment = files["bin/elasticsearch-env"]
    files["bin/elasticsearch-env"] = environment.replace(
        b"ES_DISTRIBUTION_TYPE=zip", b"ES_DISTRIBUTION_TYPE=docker"
    )
    for path in sorted(folders - {""}):
        writable = path in WRITABLE
        add(tar, f"{HOME}/{path}", None, 0o775 if writable else 0o555, USER if writable else 0)
    for path, content in sorted(files.items()):
        mode = {"bin": 0o555, "config": 0o664}.get(path.partition("/")[0], 0o444)
        add(tar, f"{HOME}/{path}", content, mode)
    link = tarfile.TarInfo(f"{HOME}/jdk")
    link.type, link.linkname, link.mtime = tarfile.SYMTYPE, JDK, EPOCH
    tar.addfile(link)


def add(tar: tarfile.TarFile, path: str, content: bytes | None, mode: int, user: int = 0) -> None:
    """Add a file, or without content a folder."""
    entry = tarfile.TarInfo(f"./{path}")
    entry.mode, entry.mtime, entry.uid = mode, EPOCH, user
    if content is None:
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    else:
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
