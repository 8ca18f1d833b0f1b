"""What only the stacks on top of a cluster need, built and kept apart from what every cluster needs.

The stacks have a cache of their own below the other one, with a lock of its own: they can be built while the lab
is in use. Their registry and files hold those of the base, too, as links, and take their place in the origin once they
are there. The base stays what it was: made anew, it would have new signing keys, which no host trusts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from lab import elasticsearch, golang, monitoring, oci, recipes, rootfs
from lab.cache import Cache
from lab.oci import Image
from lab.origin import Content
from lab.shell import step

# What of the origin's content is the stacks'.
SERVED = ("registry", "files")


class Stacks(Content):
    """Images and files of the stacks, from the lock file's versions to one cached folder."""

    def __init__(self, base: Cache) -> None:
        super().__init__(Cache(base.root / "stacks"), recipes.lock())
        self.base = base
        self.versions = recipes.stacks_lock()
        content = Content(base, self.lock)
        self.content = base.path("origin-content", "1", content.recipe())

    def programs(self) -> list[golang.GoProgram]:
        """Return the programs of the stacks."""
        return [
            recipes.collector(self.versions["collector"]),
            recipes.local_path_provisioner(self.versions["local_path_provisioner"]["version"]),
            *monitoring.programs(self.tags).values(),
        ]

    @property
    def tags(self) -> dict[str, str]:
        """The versions, by the names of the lock file."""
        return {name: entry["version"] for name, entry in self.versions.items()}

    def images(self) -> list[Image]:
        """Return the images that upstream's registries would serve."""
        versions = self.tags
        collector, provisioner = (self.built(program) for program in self.programs()[:2])
        watching = {name: self.built(program) for name, program in monitoring.programs(versions).items()}
        project = "ghcr.io/open-telemetry/opentelemetry-collector-releases"
        return [
            Image(
                f"{project}/opentelemetry-collector-contrib:{versions['collector']}",
                {"/otelcol-contrib": collector / "otelcol-contrib"},
                ("/otelcol-contrib",),
                ("--config", "/etc/otelcol-contrib/config.yaml"),
                user="10001:10001",
            ),
            Image(
                f"docker.elastic.co/elasticsearch/elasticsearch:{versions['elasticsearch']}",
                {},
                ("/bin/tini", "--", "/usr/local/bin/docker-entrypoint.sh"),
                ("eswrapper",),
                user="1000:0",
                workdir=f"/{elasticsearch.HOME}",
                base=elasticsearch.build(self.cache, self.versions["elasticsearch"], self.suite),
            ),
            Image(
                f"docker.io/rancher/local-path-provisioner:v{versions['local_path_provisioner']}",
                {"/usr/bin/local-path-provisioner": provisioner / "local-path-provisioner"},
                command=("local-path-provisioner",),
            ),
            # Every node has this base already, for kube-proxy.
            Image(
                f"docker.io/library/busybox:{versions['busybox']}",
                {},
                command=("sh",),
                base=rootfs.build(self.base, rootfs.FILTER_BASE, self.suite),
            ),
            *monitoring.images(versions, watching),
        ]

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the content."""
        sources = (Path(__file__), Path(monitoring.__file__), Path(oci.__file__))
        return {
            "base": self.content.name,
            "versions": self.versions,
            "programs": [program.recipe() for program in self.programs()],
            "elasticsearch": elasticsearch.recipe(self.cache, self.versions["elasticsearch"], self.suite),
            "sources": {source.name: hashlib.sha256(source.read_bytes()).hexdigest() for source in sources},
        }

    def place(self) -> Path:
        """Return where the content is, or will be."""
        return self.cache.path("stacks-content", "1", self.recipe())

    def served(self) -> list[Path]:
        """Return the folders to serve in place of the base's of the same names, when they have been built."""
        return [self.place() / name for name in SERVED if self.place().exists()]

    def make(self, image: str) -> Path:
        """Return the folder with registry and files; *image* is the origin's."""

        def write(folder: Path) -> None:
            # What takes minutes, before the other cache is held.
            self.images()
            version = self.tags["prometheus_operator"]
            monitoring.write_files(folder / "files", monitoring.definitions(self.cache, version), version)
            with step("Images of the stacks"), self.base.lock():
                self.write_registry(folder, image)
                for name in SERVED:
                    shutil.copytree(
                        self.content / name, folder / name, copy_function=_link, dirs_exist_ok=True
                    )

        return self.cache.obtain("stacks-content", "1", self.recipe(), write)

    def build(self, image: str) -> None:
        """Build what is not in the cache."""
        with self.cache.lock():
            self.cache.drop_scratch()
            self.make(image)
            self.cache.drop_scratch()

    def wanted_entries(self) -> set[Path]:
        """Return the results of this cache that the present lock file needs."""
        entry = self.versions["elasticsearch"]
        version = entry["version"]
        return {
            *(
                self.cache.path(program.name, program.version, program.recipe())
                for program in self.programs()
            ),
            rootfs.place(self.cache, elasticsearch.JAVA, self.suite),
            self.cache.path("elasticsearch-archive", version, elasticsearch.distribution_recipe(entry)),
            self.cache.path(
                "elasticsearch-root", version, elasticsearch.recipe(self.cache, entry, self.suite)
            ),
            self.cache.path(
                "prometheus-operator-definitions",
                self.tags["prometheus_operator"],
                monitoring.definitions_recipe(self.tags["prometheus_operator"]),
            ),
            self.place(),
        }


def _link(source: str, target: str) -> None:
    """Share a file of the base; layers that both registries have are there already."""
    if not os.path.exists(target):
        os.link(source, target)
