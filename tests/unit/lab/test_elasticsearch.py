# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of Elasticsearch against upstream's; the facts and their sources are in lab/README.md."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lab import elasticsearch, rootfs
from lab.cache import Cache
from lab.shell import LabError

ENTRY = {"version": "9.5.3", "sha256": ""}


@pytest.fixture
def archive() -> bytes:
    """Upstream's archive in small."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as upstream:
        upstream.mkdir("elasticsearch-9.5.3")
        upstream.mkdir("elasticsearch-9.5.3/lib")
        upstream.mkdir("elasticsearch-9.5.3/config/jvm.options.d")
        for name, text in {
            "bin/elasticsearch": "#!/bin/bash\n",
            "bin/elasticsearch-env": "cd here\nES_DISTRIBUTION_TYPE=zip\n",
            "config/elasticsearch.yml": "# nothing\n",
            "config/log4j2.properties": "to files\n",
            "lib/elasticsearch-9.5.3.jar": "jar",
        }.items():
            upstream.writestr(f"elasticsearch-9.5.3/{name}", text)
    return buffer.getvalue()


@pytest.fixture
def entry(archive: bytes) -> dict[str, str]:
    """What the lock file says of it."""
    return {**ENTRY, "sha256": hashlib.sha256(archive).hexdigest()}


class FakeTools:
    """Stands for Maven, which brings the archive, and for gcc."""

    def __init__(self, archive: bytes) -> None:
        self.archive = archive
        self.calls: list[list[str]] = []

    def __call__(self, argv: list[str | Path], **_options: Any) -> str:
        words = [str(word) for word in argv]
        self.calls.append(words)
        if words[0] == "mvn":
            [folder] = [word.partition("=")[2] for word in words if word.startswith("-DoutputDirectory=")]
            (Path(folder) / "elasticsearch-9.5.3.zip").write_bytes(self.archive)
        else:
            Path(words[words.index("-o") + 1]).write_bytes(b"\x7fELF")
        return ""


@pytest.fixture
def tools(archive: bytes, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """No network, no compiler, and a base that is not real."""
    made = FakeTools(archive)
    base = cache.results / "java.tar"
    with tarfile.open(base, "w") as tar:
        tar.addfile(tarfile.TarInfo("./usr/lib/jvm"))
    monkeypatch.setattr(elasticsearch, "run", made)
    monkeypatch.setattr(rootfs, "build", lambda _cache, _base, _suite: base)
    return made


@pytest.mark.usefixtures("tools")
def test_the_files_lie_and_belong_as_in_upstreams_image(cache: Cache, entry: dict[str, str]) -> None:
    root = elasticsearch.build(cache, entry, "trixie")
    with tarfile.open(root) as tar:
        found = {item.name.removeprefix("./"): item for item in tar}
        texts = {
            name: tar.extractfile(item).read() for name, item in found.items() if item.isfile() and item.size
        }
    home = "usr/share/elasticsearch"
    assert "usr/lib/jvm" in found
    folders = {name.removeprefix(home): item for name, item in found.items() if item.isdir()}
    assert {name: (oct(item.mode), item.uid, item.gid) for name, item in folders.items()} == {
        "": ("0o775", 0, 0),
        "/lib": ("0o555", 0, 0),
        **{
            f"/{name}": ("0o775", 1000, 0)
            for name in ("bin", "config", "config/jvm.options.d", "data", "logs", "plugins")
        },
    }
    modes = {name: oct(item.mode) for name, item in found.items() if item.isfile() and name.startswith(home)}
    assert modes == {
        f"{home}/bin/elasticsearch": "0o555",
        f"{home}/bin/elasticsearch-env": "0o555",
        f"{home}/config/elasticsearch.yml": "0o664",
        f"{home}/config/log4j2.properties": "0o664",
        f"{home}/lib/elasticsearch-9.5.3.jar": "0o444",
    }
    # Its scripts look for Java below their own folder.
    assert found[f"{home}/jdk"].linkname == elasticsearch.JDK
    assert texts[f"{home}/bin/elasticsearch-env"] == b"cd here\nES_DISTRIBUTION_TYPE=docker\n"
    assert b"Console" in texts[f"{home}/config/log4j2.properties"]
    assert texts["etc/ld.so.preload"] == b"/usr/local/lib/fake_nofile.so\n"
    assert found["usr/local/lib/fake_nofile.so"].mode == 0o755
    assert found["usr/local/bin/docker-entrypoint.sh"].mode == 0o555


def test_another_archive_than_the_lock_file_names_is_no_result(
    cache: Cache, tools: FakeTools, entry: dict[str, str]
) -> None:
    tools.archive = b"something else"
    with pytest.raises(LabError, match=r"elasticsearch-9\.5\.3\.zip has the checksum .* lock\.toml wants"):
        elasticsearch.distribution(cache, entry)
    assert [path.name for path in cache.results.iterdir()] == ["java.tar"]


def test_what_decides_the_image_is_in_its_recipe(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = elasticsearch.recipe(cache, ENTRY, "trixie")
    assert elasticsearch.recipe(cache, ENTRY, "trixie") == before
    assert elasticsearch.recipe(cache, {**ENTRY, "version": "9.5.4"}, "trixie") != before
    assert elasticsearch.recipe(cache, ENTRY, "forky") != before
    shutil.copytree(elasticsearch.SOURCES, tmp_path / "sources")
    (tmp_path / "sources" / "docker-entrypoint.sh").write_text("#!/bin/sh\n")
    monkeypatch.setattr(elasticsearch, "SOURCES", tmp_path / "sources")
    assert elasticsearch.recipe(cache, ENTRY, "trixie") != before


def test_the_entry_point_starts_the_server_or_what_it_is_given(tmp_path: Path) -> None:
    server = tmp_path / "elasticsearch"
    server.write_text('#!/bin/sh\necho "server $*, $ELASTIC_CONTAINER"\n')
    server.chmod(0o755)
    script = (elasticsearch.SOURCES / "docker-entrypoint.sh").read_text()
    script = script.replace("/usr/share/elasticsearch/bin/elasticsearch", str(server))

    def said(*words: str) -> str:
        return subprocess.run(["bash", "-c", script, "entry", *words], capture_output=True, text=True).stdout

    assert said("eswrapper") == "server , true\n"
    assert said("eswrapper", "-Ea=b") == "server -Ea=b, true\n"
    assert said("echo", "something", "else") == "something else\n"


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc, which make lab-packages brings")
def test_the_fake_says_what_is_asked_for_and_nothing_else(tmp_path: Path) -> None:
    library = tmp_path / "fake_nofile.so"
    source = elasticsearch.SOURCES / "fake_nofile.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, source], check=True)
    program = (
        "import resource as r, sys\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))\n"
        "print(*r.getrlimit(r.RLIMIT_NOFILE), *r.getrlimit(r.RLIMIT_CORE))"
    )

    def limits(files: int, **more: str) -> list[str]:
        words = ["python3", "-c", program, str(files)]
        return subprocess.run(words, capture_output=True, text=True, check=True, env=more).stdout.split()

    path = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    true, told = limits(1000, **path), limits(1000, **path, LD_PRELOAD=str(library))
    assert true[:2] == ["1000", "1000"] and told[:2] == ["65535", "65535"]
    assert told[2:] == true[2:]
