# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stacks are built apart: what every cluster needs does not depend on them, and is served with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab import elasticsearch, golang, monitoring, origin, recipes, rootfs
from lab.cache import Cache
from lab.golang import GoProgram
from lab.oci import Image
from lab.origin import Content
from lab.stacks import Stacks


@pytest.fixture
def stacks(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stacks:
    """The stacks with programs and bases that are not real: nothing is compiled."""

    def built(_self: Content, program: GoProgram) -> Path:
        return tmp_path / "built" / program.name

    def fake_base(used: Cache, base: rootfs.RootFs, _suite: str) -> Path:
        return used.results / base.name

    monkeypatch.setattr(golang, "_GO_VERSION", ["go1.26.8"])
    monkeypatch.setattr(Content, "built", built)
    monkeypatch.setattr(rootfs, "build", fake_base)
    monkeypatch.setattr(elasticsearch, "build", lambda used, _entry, _suite: used.results / "elasticsearch")
    kept = tmp_path / "definitions"
    kept.mkdir()
    (kept / "monitoring.coreos.com_probes.yaml").write_text("definition")
    monkeypatch.setattr(monitoring, "definitions", lambda _cache, _version: kept)
    return Stacks(cache)


def test_the_images_have_upstreams_names_and_shapes(stacks: Stacks, cache: Cache) -> None:
    found = {image.reference: image for image in stacks.images()}
    defaults = (recipes.LAB.parent / "roles/kube_logging/defaults/main.yml").read_text()
    versions = {name: entry["version"] for name, entry in recipes.stacks_lock().items()}
    collector, server, provisioner, busybox = list(found.values())[:4]
    for reference in (collector.reference, provisioner.reference, busybox.reference):
        # What the role asks for.
        assert reference in defaults
    assert server.reference == f"docker.elastic.co/elasticsearch/elasticsearch:{versions['elasticsearch']}"
    assert f"kube_logging_elasticsearch_version: {versions['elasticsearch']}\n" in defaults
    assert (collector.entrypoint, collector.user, collector.base) == (
        ("/otelcol-contrib",),
        "10001:10001",
        None,
    )
    assert collector.command == ("--config", "/etc/otelcol-contrib/config.yaml")
    assert set(collector.files) == {"/otelcol-contrib"}
    assert server.entrypoint == ("/bin/tini", "--", "/usr/local/bin/docker-entrypoint.sh")
    assert (server.command, server.user, server.workdir) == (
        ("eswrapper",),
        "1000:0",
        "/usr/share/elasticsearch",
    )
    assert set(provisioner.files) == {"/usr/bin/local-path-provisioner"}
    # The nodes have it already: the base of the images that every cluster has.
    assert busybox.base == cache.results / rootfs.FILTER_BASE.name


def test_the_images_of_monitoring_are_those_that_its_roles_ask_for(stacks: Stacks) -> None:
    roles = recipes.LAB.parent / "roles"
    wanted = "".join(
        (roles / role / "defaults/main.yml").read_text()
        for role in ("kube_monitoring", "kube_metrics_server")
    )
    operator = recipes.stacks_lock()["prometheus_operator"]["version"]
    assert f"kube_monitoring_operator_version: {operator}\n" in wanted
    wanted = wanted.replace("{{ kube_monitoring_operator_version }}", operator)
    found = {image.reference: image for image in stacks.images()[4:]}
    assert len(found) == 7
    for reference, image in found.items():
        assert f": {reference}\n" in wanted
        assert image.entrypoint[0] in image.files and image.base is None
        assert image.user in ("nobody", "65534")


def test_nothing_that_a_cluster_needs_depends_on_the_stacks(
    stacks: Stacks, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "stacks" not in recipes.lock()
    names = {program.name for program in recipes.programs(recipes.lock())}
    assert not names & {program.name for program in stacks.programs()}
    assert stacks.cache.results != cache.results and stacks.cache.scratch != cache.scratch
    newer = recipes.stacks_lock()
    newer["collector"]["version"] = "0.159.0"
    monkeypatch.setattr(recipes, "stacks_lock", lambda: newer)
    changed = Stacks(cache)
    assert changed.place() != stacks.place() and changed.content == stacks.content


def test_what_decides_the_content_is_in_its_recipe(
    stacks: Stacks, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stacks.recipe()
    assert Stacks(cache).recipe() == before
    changed = recipes.stacks_lock()
    changed["elasticsearch"]["sha256"] = "0" * 64
    stacks.versions = changed
    assert stacks.recipe() != before
    # The registry holds the base's images, too.
    another = Stacks(cache)
    another.content = cache.results / "origin-content-1-another"
    assert another.recipe() != before


class FakeRegistry:
    """Stands for the registry that is filled: it writes a file for each image, and one that the base has, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pushed: list[str] = []
        monkeypatch.setattr(Content, "write_registry", lambda made, folder, _image: self.fill(made, folder))

    def fill(self, made: Content, folder: Path) -> None:
        for image in made.images():
            self.push(image, folder / "registry")

    def push(self, image: Image, registry: Path) -> None:
        self.pushed.append(image.reference)
        for name in (image.reference, "blobs/of-both"):
            (registry / name).parent.mkdir(parents=True, exist_ok=True)
            (registry / name).write_text("stacks")


def test_the_registry_holds_what_the_base_has_without_a_copy(
    stacks: Stacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = FakeRegistry(monkeypatch)
    base = stacks.content / "registry"
    (base / "blobs").mkdir(parents=True)
    (stacks.content / "files/etcd-io").mkdir(parents=True)
    (stacks.content / "files/etcd-io/etcd.tar.gz").write_text("base")
    for name in ("blobs/of-the-base", "blobs/of-both"):
        (base / name).write_text("base")
    assert stacks.served() == []
    stacks.build("localhost/origin:1")
    served, files = stacks.served()
    assert served == stacks.place() / "registry" and files == stacks.place() / "files"
    version = recipes.stacks_lock()["prometheus_operator"]["version"]
    operator = (
        files / f"prometheus-operator/prometheus-operator/raw/v{version}/example/prometheus-operator-crd"
    )
    assert (operator / "monitoring.coreos.com_probes.yaml").read_text() == "definition"
    assert (files / "etcd-io/etcd.tar.gz").samefile(stacks.content / "files/etcd-io/etcd.tar.gz")
    assert (served / "blobs/of-the-base").samefile(base / "blobs/of-the-base")
    assert (served / "blobs/of-both").read_text() == "stacks"
    assert (base / "blobs/of-both").read_text() == "base"
    assert len(registry.pushed) == len(stacks.images())
    assert all((served / reference).exists() for reference in registry.pushed)
    stacks.build("localhost/origin:1")
    assert len(registry.pushed) == len(stacks.images())


def test_the_base_is_held_only_while_the_registry_is_filled(
    stacks: Stacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[str] = []
    seen: list[list[str]] = []
    FakeRegistry(monkeypatch)
    for name in ("registry", "files"):
        (stacks.content / name).mkdir(parents=True)
    whole = stacks.base.lock

    def noted() -> Any:
        held.append("base")
        return whole()

    def build(*_arguments: Any) -> Path:
        seen.append(list(held))
        return stacks.cache.results / "elasticsearch"

    monkeypatch.setattr(elasticsearch, "build", build)
    monkeypatch.setattr(stacks.base, "lock", noted)
    stacks.build("localhost/origin:1")
    # The first is what takes minutes; the second finds it.
    assert seen == [[], ["base"]]


def test_a_recipe_needs_no_build(stacks: Stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> Path:
        raise AssertionError("a recipe must not build")

    for module in (rootfs, elasticsearch):
        monkeypatch.setattr(module, "build", refuse)
    monkeypatch.setattr(monitoring, "definitions", refuse)
    monkeypatch.setattr(origin, "pause", refuse)
    monkeypatch.setattr(Content, "built", refuse)
    assert stacks.recipe() and stacks.served() == []
    assert stacks.place() in stacks.wanted_entries()
    assert {entry.parent for entry in stacks.wanted_entries()} == {stacks.cache.results}
