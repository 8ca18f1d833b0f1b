"""Build upstream's programs from their Go modules, checksums verified by the Go checksum database."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.cache import Cache
from lab.shell import LabError, run


@dataclass(frozen=True)
class GoProgram:
    """What to build: programs of one module (or of sister modules of the same version).

    `packages` maps the name of a binary to its Go package. A consumer of a module does not get that
    module's `replace` lines, so they are repeated in our own go.mod; `staging` is the version that
    replaces by a local folder (`./staging/...`) stand for. One of `modules` that has another version is
    written `MODULE@vVERSION`. With `source`, a folder of Go files of ours, the package `.` is built of them;
    a module in a folder of it takes the place of the one whose name it has. `added` are files that upstream
    generates before it builds, and that the published module lacks: their texts by their paths in it.
    """

    name: str
    module: str
    version: str
    packages: dict[str, str]
    modules: tuple[str, ...] = ()
    staging: str = ""
    stamps: dict[str, str] = field(default_factory=dict)
    tags: str = ""
    cgo: bool = False
    static: bool = False
    source: Path | None = None
    added: dict[str, str] = field(default_factory=dict)

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the result."""
        # Programs without anything of ours have the recipe that they always had: they are not built again.
        source = {"source": _texts(self.source)} if self.source else {}
        added = {"added": self.added} if self.added else {}
        return {
            **source,
            **added,
            "module": self.module,
            "version": self.version,
            "packages": self.packages,
            "modules": self.modules,
            "stamps": self.stamps,
            "tags": self.tags,
            "cgo": self.cgo,
            "static": self.static,
            "go": _go_version(),
        }


_GO_VERSION: list[str] = []


def _go_version() -> str:
    if not _GO_VERSION:
        _GO_VERSION.append(run(["go", "env", "GOVERSION"], cwd=Path("/")).strip())
    return _GO_VERSION[0]


def carried_lines(go_mod: str, staging: str) -> list[str]:
    """Return the `replace` and `godebug` lines that our go.mod must repeat from upstream's.

    A replacement by a local folder becomes one by the published module in its `staging` version; without
    one it is left out, because the folder is not in the module's archive.
    """
    lines = []
    for kind in ("replace", "godebug"):
        entries = re.findall(rf"^{kind}[ \t]+(?![ \t(])(.+)$", go_mod, re.M)
        for block in re.findall(rf"^{kind}\s+\(\n(.*?)^\)", go_mod, re.M | re.S):
            entries += [line.strip() for line in block.splitlines()]
        for entry in entries:
            words = entry.split("//")[0].strip()
            if not words:
                continue
            local = re.match(r"(\S+)(?:\s+\S+)?\s+=>\s+\.{1,2}/", words)
            if local and staging:
                words = f"{local[1]} => {local[1]} {staging}"
            elif local:
                continue
            lines.append(f"{kind} {words}")
    return lines


def build(cache: Cache, program: GoProgram) -> Path:
    """Return the cached folder with the program's binaries."""

    def make(folder: Path) -> None:
        env = {
            "GOCACHE": str(cache.scratch / "go-build"),
            "GOMODCACHE": str(cache.scratch / "go-mod"),
            "CGO_ENABLED": "1" if program.cgo else "0",
            "GOFLAGS": "-mod=mod -buildvcs=false",
            "GOWORK": "off",
        }
        work = cache.scratch / f"work-{program.name}-{os.getpid()}"
        work.mkdir(exist_ok=True)
        upstream = download(program.module, program.version, work, env)
        go_mod = Path(upstream["GoMod"]).read_text()
        go_line = re.search(r"^go\s+(\S+)", go_mod, re.M)
        lines = [f"module kubewright.lab/{program.name}", f"go {go_line[1] if go_line else '1.24'}"]
        for module in program.modules or (program.module,):
            path, _at, version = module.partition("@")
            lines.append(f"require {path} {version or f'v{program.version}'}")
        if program.source:
            shutil.copytree(program.source, work, dirs_exist_ok=True)
        if program.added:
            _with_added(Path(upstream["Dir"]), work / "upstream", program.added)
        for own in sorted(work.glob("*/go.mod")):
            lines.append(f"replace {own.read_text().split()[1]} => ./{own.parent.name}")
        (work / "go.mod").write_text("\n".join(lines + carried_lines(go_mod, program.staging)) + "\n")
        flags = ["-s", "-w"]
        for variable, value in program.stamps.items():
            flags += ["-X", f"{variable}={value}"]
        if program.static:
            flags += ["-extldflags", "-static"]
        for binary, package in _batches(program.packages):
            argv = ["go", "build", "-trimpath", "-ldflags", " ".join(flags)]
            if program.tags:
                argv += ["-tags", program.tags]
            run([*argv, "-o", folder / binary, *package], cwd=work, env=env, timeout=3000)
        for binary in program.packages:
            if not (folder / binary).is_file():
                raise LabError(f"{program.name} {program.version}: the build made no {binary}")

    return cache.obtain(program.name, program.version, program.recipe(), make)


def download(module: str, version: str, work: Path, env: dict[str, str]) -> dict[str, str]:
    """Fetch a module, checked by the checksum database; return what Go says of it, as where it is ("Dir")."""
    answer = run(["go", "mod", "download", "-json", f"{module}@v{version}"], cwd=work, env=env)
    told: dict[str, str] = json.loads(answer)
    return told


def _with_added(module: Path, copy: Path, added: dict[str, str]) -> None:
    """Copy a module and add files to it; Go's own copy is for reading only."""
    shutil.copytree(module, copy)
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    for name, text in added.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text)


def _texts(folder: Path) -> dict[str, str]:
    """Return the files below a folder by their names."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def _batches(packages: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Group the builds: one for all whose binary has the package's own name, one each for the others."""
    natural = [package for binary, package in packages.items() if package.rsplit("/", 1)[-1] == binary]
    batches = [(".", natural)] if natural else []
    batches += [(binary, [package]) for binary, package in packages.items() if package not in natural]
    return batches
