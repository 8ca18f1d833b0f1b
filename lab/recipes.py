"""From the lock file to the programs that the lab builds."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from lab.golang import GoProgram

LAB = Path(__file__).parent

# Built in one go from k8s.io/kubernetes.
KUBERNETES_BINARIES = (
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
)


def lock() -> dict[str, Any]:
    """Return the lock file without the stacks, on which nothing depends that a cluster needs."""
    content = tomllib.loads((LAB / "lock.toml").read_text())
    del content["stacks"]
    return content


def stacks_lock() -> dict[str, Any]:
    """Return the part of the lock file that is for the stacks."""
    stacks: dict[str, Any] = tomllib.loads((LAB / "lock.toml").read_text())["stacks"]
    return stacks


def kubernetes(version: str) -> GoProgram:
    """Return Kubernetes' programs; the version is stamped as upstream's release build does."""
    major, minor, patch = version.split(".")
    stamp = "k8s.io/component-base/version."
    return GoProgram(
        name="kubernetes",
        module="k8s.io/kubernetes",
        version=version,
        packages={name: f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_BINARIES},
        staging=f"v0.{minor}.{patch}",
        stamps={
            stamp + "gitVersion": f"v{version}",
            stamp + "gitMajor": major,
            stamp + "gitMinor": minor,
            stamp + "gitTreeState": "clean",
            stamp + "gitCommit": "0" * 40,
            stamp + "buildDate": "2026-01-01T00:00:00Z",
        },
    )


def agnhost(version: str) -> GoProgram:
    """Return the acceptance image's program, from the Kubernetes module."""
    _major, minor, patch = version.split(".")
    return GoProgram(
        name="agnhost",
        module="k8s.io/kubernetes",
        version=version,
        packages={"agnhost": "k8s.io/kubernetes/test/images/agnhost"},
        staging=f"v0.{minor}.{patch}",
    )


def etcd(version: str) -> GoProgram:
    """Return etcd's three programs, which are three modules."""
    parts = ("server", "etcdctl", "etcdutl")
    packages = {"etcd" if part == "server" else part: f"go.etcd.io/etcd/{part}/v3" for part in parts}
    return GoProgram(
        name="etcd",
        module="go.etcd.io/etcd/server/v3",
        version=version,
        modules=tuple(packages.values()),
        packages=packages,
        stamps={"go.etcd.io/etcd/api/v3/version.GitSHA": "lab"},
    )


def containerd(version: str) -> GoProgram:
    """Return containerd, its shim and ctr."""
    base = "github.com/containerd/containerd/v2"
    return GoProgram(
        name="containerd",
        module=base,
        version=version,
        packages={name: f"{base}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
        stamps={f"{base}/version.Version": f"v{version}"},
        tags="no_btrfs",
    )


def runc(version: str) -> GoProgram:
    """Return runc, static and with seccomp like upstream's release binary."""
    return GoProgram(
        name="runc",
        module="github.com/opencontainers/runc",
        version=version,
        packages={"runc": "github.com/opencontainers/runc"},
        stamps={"main.version": version},
        tags="seccomp netgo osusergo",
        cgo=True,
        static=True,
    )


def coredns(version: str) -> GoProgram:
    """Return CoreDNS."""
    module = "github.com/coredns/coredns"
    return GoProgram(name="coredns", module=module, version=version, packages={"coredns": module})


def crictl(version: str) -> GoProgram:
    """Return crictl."""
    module = "sigs.k8s.io/cri-tools"
    return GoProgram(
        name="cri-tools",
        module=module,
        version=version,
        packages={"crictl": f"{module}/cmd/crictl"},
        stamps={f"{module}/pkg/version.Version": f"v{version}"},
    )


def cni_plugins(version: str) -> GoProgram:
    """Return the CNI plug-ins that a bridge network needs."""
    module = "github.com/containernetworking/plugins"
    folders = {
        "bridge": "main",
        "loopback": "main",
        "ptp": "main",
        "host-local": "ipam",
        "portmap": "meta",
        "bandwidth": "meta",
        "firewall": "meta",
        "tuning": "meta",
    }
    return GoProgram(
        name="cni-plugins",
        module=module,
        version=version,
        packages={name: f"{module}/plugins/{folder}/{name}" for name, folder in folders.items()},
        stamps={f"{module}/pkg/utils/buildversion.BuildVersion": f"v{version}"},
    )


def flannel(version: str) -> GoProgram:
    """Return flanneld; its udp backend needs cgo."""
    module = "github.com/flannel-io/flannel"
    return GoProgram(
        name="flannel",
        module=module,
        version=version,
        packages={"flanneld": module},
        stamps={f"{module}/pkg/version.Version": f"v{version}"},
        cgo=True,
    )


def programs(content: dict[str, Any]) -> list[GoProgram]:
    """Return all programs of a lock file, the longest builds first."""
    etcd_versions = sorted(
        {tag.split("-")[0] for tag in content["etcd"]["images"]} | set(content["etcd"]["releases"])
    )
    return [
        *(kubernetes(entry["version"]) for entry in content["kubernetes"]),
        agnhost(content["agnhost"]["kubernetes"]),
        containerd(content["containerd"]["version"]),
        *(coredns(version) for version in sorted({entry["coredns"] for entry in content["kubernetes"]})),
        *(etcd(version) for version in etcd_versions),
        flannel(content["flannel"]["version"]),
        runc(content["runc"]["version"]),
        crictl(content["cri_tools"]["version"]),
        cni_plugins(content["cni_plugins"]["version"]),
    ]


def collector(entry: dict[str, str]) -> GoProgram:
    """Return the OpenTelemetry Collector with the components that images/collector/main.go names."""
    core = "go.opentelemetry.io/collector"
    contrib = "github.com/open-telemetry/opentelemetry-collector-contrib"
    parts = (
        "extension/healthcheckextension",
        "extension/storage/filestorage",
        "processor/attributesprocessor",
        "processor/filterprocessor",
        "processor/k8sattributesprocessor",
        "processor/resourceprocessor",
        "processor/transformprocessor",
        "receiver/filelogreceiver",
        "receiver/journaldreceiver",
    )
    return GoProgram(
        name="collector",
        module=f"{core}/otelcol",
        version=entry["version"],
        packages={"otelcol-contrib": "."},
        modules=(
            f"{core}/otelcol",
            f"{core}/exporter/debugexporter",
            f"{core}/processor/memorylimiterprocessor",
            *(f"{core}/confmap/provider/{name}provider@v{entry['stable']}" for name in ("env", "file")),
            *(f"{contrib}/{part}" for part in parts),
            f"{contrib}/exporter/elasticsearchexporter@v{entry['elasticsearch_exporter']}",
        ),
        stamps={"main.version": entry["version"]},
        source=LAB / "images" / "collector",
    )


def prometheus(version: str) -> GoProgram:
    """Return Prometheus and promtool, with no service discovery but Kubernetes'; its pages are read from the disk."""
    module = "github.com/prometheus/prometheus"
    major, minor, patch = version.split(".")
    return GoProgram(
        name="prometheus",
        module=module,
        # A module of major version 3 would have another path: 3.14.0 is published as 0.314.0.
        version=f"0.{major}{int(minor):02d}.{patch}",
        packages={name: f"{module}/cmd/{name}" for name in ("prometheus", "promtool")},
        stamps=_prometheus_stamps(version),
        tags="netgo remove_all_sd enable_kubernetes_sd",
    )


def alertmanager(version: str) -> GoProgram:
    """Return Alertmanager and amtool; its pages are made by a compiler that no package registry has."""
    module = "github.com/prometheus/alertmanager"
    return GoProgram(
        name="alertmanager",
        module=module,
        version=version,
        packages={name: f"{module}/cmd/{name}" for name in ("alertmanager", "amtool")},
        stamps=_prometheus_stamps(version),
        tags="netgo",
        added={
            "ui/app/dist/index.html": "<!DOCTYPE html><title>Alertmanager</title>The lab has no pages of it.\n"
        },
    )


def prometheus_operator(version: str) -> GoProgram:
    """Return the Prometheus operator and its config-reloader."""
    module = "github.com/prometheus-operator/prometheus-operator"
    return GoProgram(
        name="prometheus-operator",
        module=module,
        version=version,
        packages={name: f"{module}/cmd/{name}" for name in ("operator", "prometheus-config-reloader")},
        staging=f"v{version}",
        stamps=_prometheus_stamps(version),
    )


def node_exporter(version: str) -> GoProgram:
    """Return node_exporter."""
    module = "github.com/prometheus/node_exporter"
    return GoProgram(
        name="node-exporter",
        module=module,
        version=version,
        packages={"node_exporter": module},
        stamps=_prometheus_stamps(version),
        tags="netgo osusergo",
    )


def kube_state_metrics(version: str) -> GoProgram:
    """Return kube-state-metrics."""
    module = "k8s.io/kube-state-metrics/v2"
    return GoProgram(
        name="kube-state-metrics",
        module=module,
        version=version,
        packages={"kube-state-metrics": module},
        stamps=_prometheus_stamps(f"v{version}"),
    )


def metrics_server(version: str) -> GoProgram:
    """Return metrics-server."""
    module = "sigs.k8s.io/metrics-server"
    return GoProgram(
        name="metrics-server",
        module=module,
        version=version,
        packages={"metrics-server": f"{module}/cmd/metrics-server"},
        stamps={"k8s.io/client-go/pkg/version.gitVersion": f"v{version}"},
    )


def _prometheus_stamps(version: str) -> dict[str, str]:
    stamp = "github.com/prometheus/common/version."
    return {stamp + "Version": version, stamp + "Revision": "lab"}


def local_path_provisioner(version: str) -> GoProgram:
    """Return the provisioner of volumes that are folders of a host."""
    module = "github.com/rancher/local-path-provisioner"
    return GoProgram(
        name="local-path-provisioner",
        module=module,
        version=version,
        packages={"local-path-provisioner": module},
        stamps={"main.VERSION": f"v{version}"},
    )
