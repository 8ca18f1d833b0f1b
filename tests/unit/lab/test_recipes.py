# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file names versions that fit together, and the programs carry upstream's stamps."""

from __future__ import annotations

import pytest

from lab import recipes


def test_kubernetes_is_stamped_as_upstreams_releases_are() -> None:
    program = recipes.kubernetes("1.36.3")
    prefix = "k8s.io/component-base/version."
    stamps = {key.removeprefix(prefix): value for key, value in program.stamps.items()}
    assert stamps["gitVersion"] == "v1.36.3"
    assert (stamps["gitMajor"], stamps["gitMinor"], stamps["gitTreeState"]) == ("1", "36", "clean")
    # Its staging modules are published as v0 with the same minor and patch.
    assert program.staging == recipes.agnhost("1.36.3").staging == "v0.36.3"
    assert set(program.packages) == {
        "kubeadm",
        "kubelet",
        "kubectl",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
    }


@pytest.mark.parametrize("entry", recipes.lock()["kubernetes"], ids=lambda entry: entry["version"])
def test_every_kubernetes_has_its_images(entry: dict[str, str]) -> None:
    lock = recipes.lock()
    assert entry["etcd"] in lock["etcd"]["images"]
    names = {(program.name, program.version) for program in recipes.programs(lock)}
    assert ("kubernetes", entry["version"]) in names
    assert ("coredns", entry["coredns"]) in names
    assert ("etcd", entry["etcd"].split("-")[0]) in names


def test_every_release_of_etcd_is_built_once() -> None:
    lock = recipes.lock()
    built = [program.version for program in recipes.programs(lock) if program.name == "etcd"]
    assert set(lock["etcd"]["releases"]) <= set(built)
    assert len(built) == len(set(built))


def test_every_module_of_the_collector_has_a_version() -> None:
    entry = recipes.stacks_lock()["collector"]
    program = recipes.collector(entry)
    assert program.packages == {"otelcol-contrib": "."} and program.source
    imports = (program.source / "main.go").read_text()
    for module in program.modules:
        path, _at, version = module.partition("@")
        assert f'"{path}"' in imports and version in (
            "",
            f"v{entry['stable']}",
            f"v{entry['elasticsearch_exporter']}",
        )


def test_prometheus_3_is_a_module_of_version_0() -> None:
    program = recipes.prometheus("3.14.0")
    assert program.version == "0.314.0"
    assert program.stamps["github.com/prometheus/common/version.Version"] == "3.14.0"
    assert recipes.prometheus("3.5.1").version == "0.305.1"
