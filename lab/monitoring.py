"""What monitoring needs of upstream: the images of Prometheus and its kin, and the operator's kinds of objects.

Grafana is not among them: no package registry has it. lab/README.md has the differences from upstream's images.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import golang, recipes
from lab.cache import Cache
from lab.golang import GoProgram
from lab.oci import Image
from lab.shell import LabError

# Where the operator's module has them, and the release page, too.
DEFINITIONS = "example/prometheus-operator-crd"
OPERATOR = "prometheus-operator/prometheus-operator"


def programs(versions: dict[str, str]) -> dict[str, GoProgram]:
    """Return the programs by their names in the lock file."""
    makers: dict[str, Callable[[str], GoProgram]] = {
        "prometheus": recipes.prometheus,
        "alertmanager": recipes.alertmanager,
        "prometheus_operator": recipes.prometheus_operator,
        "node_exporter": recipes.node_exporter,
        "kube_state_metrics": recipes.kube_state_metrics,
        "metrics_server": recipes.metrics_server,
    }
    return {name: make(versions[name]) for name, make in makers.items()}


def images(versions: dict[str, str], built: dict[str, Path]) -> list[Image]:
    """Return the images, of programs that were built into these folders."""
    tags = {name: f"v{version}" for name, version in versions.items()}
    operator, quay = built["prometheus_operator"], f"quay.io/{OPERATOR.partition('/')[0]}"
    pair = {
        "prometheus": ("prometheus", "promtool"),
        "alertmanager": ("alertmanager", "amtool"),
    }
    return [
        *(
            Image(
                f"quay.io/prometheus/{name}:{tags[name]}",
                {f"/bin/{program}": built[name] / program for program in both},
                (f"/bin/{name}",),
                user="nobody",
                workdir=f"/{name}",
                folders=(f"/{name}", "/tmp"),
            )
            for name, both in pair.items()
        ),
        *(
            Image(
                f"{quay}/{name}:{tags['prometheus_operator']}",
                {f"/bin/{program}": operator / program},
                (f"/bin/{program}",),
                user="65534",
            )
            for name, program in (
                ("prometheus-operator", "operator"),
                ("prometheus-config-reloader", "prometheus-config-reloader"),
            )
        ),
        Image(
            f"quay.io/prometheus/node-exporter:{tags['node_exporter']}",
            {"/bin/node_exporter": built["node_exporter"] / "node_exporter"},
            ("/bin/node_exporter",),
            user="nobody",
        ),
        Image(
            f"registry.k8s.io/kube-state-metrics/kube-state-metrics:{tags['kube_state_metrics']}",
            {"/kube-state-metrics": built["kube_state_metrics"] / "kube-state-metrics"},
            ("/kube-state-metrics", "--port=8080", "--telemetry-port=8081"),
            user="nobody",
        ),
        Image(
            f"registry.k8s.io/metrics-server/metrics-server:{tags['metrics_server']}",
            {"/metrics-server": built["metrics_server"] / "metrics-server"},
            ("/metrics-server",),
            user="65534",
            folders=("/tmp",),
        ),
    ]


def definitions_recipe(version: str) -> dict[str, Any]:
    """Everything that decides the operator's kinds of objects."""
    return {"module": recipes.prometheus_operator(version).module, "version": version}


def definitions(cache: Cache, version: str) -> Path:
    """Return the folder with the operator's custom resource definitions, as its module has them."""

    def make(folder: Path) -> None:
        env = {"GOMODCACHE": str(cache.scratch / "go-mod"), "GOFLAGS": "-mod=mod", "GOWORK": "off"}
        work = cache.scratch / "definitions"
        work.mkdir()
        (work / "go.mod").write_text("module kubewright.lab/definitions\n")
        told = golang.download(recipes.prometheus_operator(version).module, version, work, env)
        found = sorted((Path(told["Dir"]) / DEFINITIONS).glob("*.yaml"))
        if not found:
            raise LabError(f"The Prometheus operator {version} has no definitions in {DEFINITIONS}")
        for file in found:
            shutil.copyfile(file, folder / file.name)

    return cache.obtain("prometheus-operator-definitions", version, definitions_recipe(version), make)


def write_files(folder: Path, kept: Path, version: str) -> None:
    """Put the definitions where upstream's repository shows them below *folder*."""
    shutil.copytree(kept, folder / OPERATOR / "raw" / f"v{version}" / DEFINITIONS)
