# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab import golang, recipes
from lab.cache import Cache
from lab.golang import GoProgram, carried_lines
from lab.shell import LabError

GO_MOD = """\
module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

godebug (
\tdefault=go1.25
\t// a comment alone
\tx509sha1=1 // why
)

require (
\tk8s.io/api v0.0.0
\tgithub.com/x/replaced v1.0.0
)

replace github.com/one/line => github.com/fork/line v1.2.3

replace github.com/with/comment v1.0.0 => github.com/fork/comment v1.0.1 // see (issue 7)

replace k8s.io/single => ./staging/src/k8s.io/single

replace (
\tgithub.com/x/replaced => github.com/y/fork v1.0.1
\tk8s.io/api => ./staging/src/k8s.io/api
\tk8s.io/client-go v0.0.0 => ../staging/src/k8s.io/client-go // local

)
"""


def test_local_folders_become_the_published_modules() -> None:
    assert carried_lines(GO_MOD, "v0.36.3") == [
        "replace github.com/one/line => github.com/fork/line v1.2.3",
        "replace github.com/with/comment v1.0.0 => github.com/fork/comment v1.0.1",
        "replace k8s.io/single => k8s.io/single v0.36.3",
        "replace github.com/x/replaced => github.com/y/fork v1.0.1",
        "replace k8s.io/api => k8s.io/api v0.36.3",
        "replace k8s.io/client-go => k8s.io/client-go v0.36.3",
        "godebug default=go1.26",
        "godebug default=go1.25",
        "godebug x509sha1=1",
    ]


def test_local_folders_are_left_out_without_a_staging_version() -> None:
    assert carried_lines(GO_MOD, "") == [
        "replace github.com/one/line => github.com/fork/line v1.2.3",
        "replace github.com/with/comment v1.0.0 => github.com/fork/comment v1.0.1",
        "replace github.com/x/replaced => github.com/y/fork v1.0.1",
        "godebug default=go1.26",
        "godebug default=go1.25",
        "godebug x509sha1=1",
    ]


def test_a_module_without_such_lines() -> None:
    assert carried_lines("module a\n\ngo 1.24\n\nrequire b v1.0.0 // replace c => d v1\n", "v0.1.0") == []


def test_programs_of_their_packages_names_are_built_together() -> None:
    packages = {"kubeadm": "k8s.io/kubernetes/cmd/kubeadm", "kubelet": "k8s.io/kubernetes/cmd/kubelet"}
    assert golang._batches(packages) == [(".", list(packages.values()))]


def test_programs_of_other_names_are_built_alone() -> None:
    batches = golang._batches(recipes.etcd("3.6.8").packages)
    assert batches == [
        ("etcd", ["go.etcd.io/etcd/server/v3"]),
        ("etcdctl", ["go.etcd.io/etcd/etcdctl/v3"]),
        ("etcdutl", ["go.etcd.io/etcd/etcdutl/v3"]),
    ]
    mixed = {"coredns": "github.com/coredns/coredns", "flanneld": "github.com/flannel-io/flannel"}
    assert golang._batches(mixed) == [
        (".", ["github.com/coredns/coredns"]),
        ("flanneld", ["github.com/flannel-io/flannel"]),
    ]


PROGRAM = GoProgram(
    name="tool",
    module="example.org/tool",
    version="1.2.3",
    packages={"tool": "example.org/tool", "toolctl": "example.org/tool/ctl"},
    staging="v0.2.3",
    stamps={"example.org/tool/version.V": "v1.2.3"},
    tags="netgo",
)


class FakeGo:
    """Stands for the go command: keeps what it was called with and writes empty programs."""

    def __init__(self, upstream: Path, made: tuple[str, ...]) -> None:
        self.upstream = upstream
        self.made = made
        self.calls: list[tuple[list[str], str, dict[str, str]]] = []

    def __call__(
        self, argv: list[str | Path], *, cwd: Path, env: dict[str, str] | None = None, **_: Any
    ) -> str:
        words = [str(word) for word in argv]
        if words[:2] == ["go", "env"]:
            return "go1.26.8\n"
        if words[:3] == ["go", "mod", "download"]:
            return json.dumps({"GoMod": str(self.upstream), "Dir": str(self.upstream.parent / "module")})
        self.calls.append((words, (cwd / "go.mod").read_text(), env or {}))
        target = Path(words[words.index("-o") + 1])
        name = "tool" if target.is_dir() else target.name
        if name in self.made:
            (target / name if target.is_dir() else target).touch()
        return ""


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(golang, "_GO_VERSION", [])
    path = tmp_path / "upstream.mod"
    path.write_text("module example.org/tool\n\ngo 1.25.1\n\nreplace example.org/api => ./staging/api\n")
    return path


def test_a_build_has_upstreams_lines_in_a_module_of_its_own(
    cache: Cache, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = FakeGo(upstream, ("tool", "toolctl"))
    monkeypatch.setattr(golang, "run", go)
    folder = golang.build(cache, PROGRAM)
    assert sorted(item.name for item in folder.iterdir()) == ["tool", "toolctl"]
    assert [words[-1] for words, _go_mod, _env in go.calls] == ["example.org/tool", "example.org/tool/ctl"]
    for words, go_mod, env in go.calls:
        assert go_mod.splitlines() == [
            "module kubewright.lab/tool",
            "go 1.25.1",
            "require example.org/tool v1.2.3",
            "replace example.org/api => example.org/api v0.2.3",
        ]
        assert words[words.index("-ldflags") + 1] == "-s -w -X example.org/tool/version.V=v1.2.3"
        assert words[words.index("-tags") + 1] == "netgo"
        assert env["CGO_ENABLED"] == "0"
        assert Path(env["GOMODCACHE"]).parent == cache.scratch
        # Checksums are verified: nothing switches the checksum database off.
        assert not {"GONOSUMDB", "GONOSUMCHECK", "GOSUMDB", "GOFLAGS=-insecure", "GOPRIVATE"} & set(env)


def test_a_program_of_ours_is_built_with_modules_of_several_versions(
    cache: Cache, upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "fake_part").mkdir(parents=True)
    (source / "main.go").write_text("package main\n")
    (source / "fake_part" / "go.mod").write_text("module example.org/part\n\ngo 1.25\n")
    program = replace(
        PROGRAM,
        packages={"tool": "."},
        modules=("example.org/tool", "example.org/stable@v1.64.0"),
        staging="",
        source=source,
    )
    seen: list[str] = []

    class Go(FakeGo):
        def __call__(self, argv: list[str | Path], *, cwd: Path, **options: Any) -> str:
            if "build" in [str(word) for word in argv]:
                seen.extend(sorted(str(path.relative_to(cwd)) for path in cwd.rglob("*") if path.is_file()))
            return super().__call__(argv, cwd=cwd, **options)

    go = Go(upstream, ("tool",))
    monkeypatch.setattr(golang, "run", go)
    golang.build(cache, program)
    [(words, go_mod, _env)] = go.calls
    assert words[-1] == "." and seen == ["fake_part/go.mod", "go.mod", "main.go"]
    assert go_mod.splitlines() == [
        "module kubewright.lab/tool",
        "go 1.25.1",
        "require example.org/tool v1.2.3",
        "require example.org/stable v1.64.0",
        "replace example.org/part => ./fake_part",
    ]
    before = program.recipe()
    (source / "fake_part" / "part.go").write_text("package part\n")
    assert program.recipe() != before
    assert "source" not in PROGRAM.recipe()


def test_what_upstream_generates_is_added_to_a_copy_of_its_module(
    cache: Cache, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = upstream.parent / "module"
    (module / "ui").mkdir(parents=True)
    (module / "go.mod").write_text(upstream.read_text())
    (module / "ui" / "web.go").write_text("package ui\n")
    # As Go leaves its cache.
    for path in (module / "ui" / "web.go", module / "ui"):
        path.chmod(path.stat().st_mode & ~0o222)
    program = replace(PROGRAM, packages={"tool": "example.org/tool"}, added={"ui/dist/index.html": "<p>"})
    seen: dict[str, str] = {}

    class Go(FakeGo):
        def __call__(self, argv: list[str | Path], *, cwd: Path, **options: Any) -> str:
            copy = cwd / "upstream"
            seen.update({str(p.relative_to(copy)): p.read_text() for p in copy.rglob("*") if p.is_file()})
            return super().__call__(argv, cwd=cwd, **options)

    go = Go(upstream, ("tool",))
    monkeypatch.setattr(golang, "run", go)
    golang.build(cache, program)
    [(_words, go_mod, _env)] = go.calls
    assert "replace example.org/tool => ./upstream" in go_mod.splitlines()
    assert set(seen) == {"go.mod", "ui/web.go", "ui/dist/index.html"} and seen["ui/dist/index.html"] == "<p>"
    assert not (module / "ui" / "dist").exists()
    assert program.recipe()["added"] and "added" not in PROGRAM.recipe()


def test_a_build_that_lacks_a_program_is_no_result(
    cache: Cache, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golang, "run", FakeGo(upstream, ("tool",)))
    with pytest.raises(LabError, match=r"tool 1\.2\.3: the build made no toolctl"):
        golang.build(cache, PROGRAM)
    assert not list(cache.results.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1.2.4"},
        {"module": "example.org/other"},
        {"packages": {"tool": "example.org/tool"}},
        {"modules": ("example.org/a", "example.org/b")},
        {"stamps": {}},
        {"tags": ""},
        {"cgo": True},
        {"static": True},
    ],
)
def test_what_decides_the_result_is_in_the_recipe(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setattr(golang, "_GO_VERSION", ["go1.26.8"])
    assert replace(PROGRAM, **change).recipe() != PROGRAM.recipe()


def test_another_compiler_is_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golang, "_GO_VERSION", ["go1.26.8"])
    before = PROGRAM.recipe()
    monkeypatch.setattr(golang, "_GO_VERSION", ["go1.26.9"])
    assert PROGRAM.recipe() != before
