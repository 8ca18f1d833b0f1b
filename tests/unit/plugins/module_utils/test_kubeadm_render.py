# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubeadm is asked, and what is read from its answers (captured from kubeadm 1.36.3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_render import (
    COMPONENTS,
    Renderer,
    attached,
    config_map_texts,
    config_text,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kubectl_yaml import Translator
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

DRY_RUN = (Path(__file__).parents[2] / "fixtures" / "settings" / "upload_config_dry_run.txt").read_text()
DOCUMENTS = [{"kind": "InitConfiguration"}, {"kind": "ClusterConfiguration", "clusterName": "a"}]


class FakeKubeadm:
    """Writes files into the folder of the dry run and answers what it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], str]] = []
        self.fails: tuple[int, str, str] | None = None

    def run_command(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        words = argv[argv.index("kubeadm") + 3 :]
        self.calls.append((words, options["data"]))
        if self.fails:
            return self.fails
        folder = Path(options["environ_update"]["KUBEADM_INIT_DRYRUN_DIR"])
        if words[0] == "upload-config":
            assert (folder / "admin.conf").exists()
            return 0, DRY_RUN, ""
        if words[0] == "addon":
            return (
                0,
                "---\nkind: ServiceAccount\n---\nkind: ConfigMap\nmetadata: {}\n---\nkind: DaemonSet\n",
                "",
            )
        for name in (*COMPONENTS, "config"):
            (folder / f"{name}.yaml").write_text(f"text of {name}")
        return 0, "", ""


def test_everything_is_rendered_dry_and_from_standard_input(tmp_path: Path) -> None:
    kubeadm = FakeKubeadm()
    renderer = Renderer(kubeadm.run_command, tmp_path, DOCUMENTS, {})
    assert renderer.manifests(etcd=True) == {name: f"text of {name}" for name in COMPONENTS}
    assert set(renderer.manifests(etcd=False)) == set(COMPONENTS) - {"etcd"}
    assert renderer.kubelet() == "text of config"
    assert len(renderer.config_maps()) == 3
    for words, stdin in kubeadm.calls:
        assert "--config=/dev/stdin" in words and ("--dry-run" in words or "--print-manifest" in words)
        assert [json.loads(one) for one in stdin.split("\n---\n")] == DOCUMENTS


def test_patches_are_those_that_were_asked_for_not_those_on_the_host(tmp_path: Path) -> None:
    kubeadm = FakeKubeadm()
    documents = [
        {"kind": "InitConfiguration", "patches": {"directory": "/etc/kubernetes/patches"}},
        DOCUMENTS[1],
    ]
    Renderer(kubeadm.run_command, tmp_path, documents, {"etcd+merge.yaml": "metadata: {}\n"}).kubelet()
    first = json.loads(kubeadm.calls[0][1].split("\n---\n")[0])
    folder = Path(first["patches"]["directory"])
    assert folder.parent == tmp_path and (folder / "etcd+merge.yaml").read_text() == "metadata: {}\n"
    with pytest.raises(KubewrightError, match="not a file name"):
        Renderer(kubeadm.run_command, tmp_path / "patches", documents, {"../etcd.yaml": ""})


def test_settings_that_kubeadm_refuses_are_told_in_its_words(tmp_path: Path) -> None:
    kubeadm = FakeKubeadm()
    kubeadm.fails = (
        3,
        "",
        'apiServer.certSANs: Invalid value: "a b"\nTo see the stack trace ...\nerror: bad names\n',
    )
    with pytest.raises(CommandError) as failed:
        Renderer(kubeadm.run_command, tmp_path, DOCUMENTS, {}).manifests(etcd=True)
    assert "does not accept the settings" in str(failed.value) and "error: bad names" in str(failed.value)
    assert "No component of this host was changed" in str(failed.value)


def test_objects_of_a_dry_run() -> None:
    kinds = [text.partition("kind: ")[2].splitlines()[0] for text in attached(DRY_RUN)]
    assert "ClusterConfiguration:" not in kinds and len(kinds) == 6
    texts = [text for text in attached(DRY_RUN) if "\nkind: ConfigMap\n" in text]
    assert len(texts) == 2
    assert all(text.startswith("apiVersion: ") and "[" not in text.splitlines()[-1] for text in texts)


def test_config_maps_by_name() -> None:
    maps = [{"metadata": {"name": "a"}, "data": {"x": "1"}}, {"metadata": {"name": "b"}}]
    assert config_map_texts(maps) == {"a": {"x": "1"}, "b": {}}


class FakeKubectl:
    """Prints the same whatever it reads."""

    def __init__(self, stdout: str) -> None:
        self.stdout = stdout
        self.calls: list[tuple[list[str], str]] = []

    def run_command(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        self.calls.append((argv[argv.index("kubectl") :], options["data"]))
        return 0, self.stdout, ""


def test_documents_are_translated_in_one_call_without_a_server() -> None:
    kubectl = FakeKubectl('{"kind": "A"}\n{\n "kind": "B"}\n')
    assert Translator(Runner(kubectl.run_command)).read(["kind: A", "kind: B"]) == [
        {"kind": "A"},
        {"kind": "B"},
    ]
    [(argv, stdin)] = kubectl.calls
    assert "--local" in argv and "--filename=-" in argv and stdin == "kind: A\n---\nkind: B"
    assert Translator(Runner(kubectl.run_command)).read([]) == []


def test_a_document_that_is_lost_or_doubled_is_an_error() -> None:
    with pytest.raises(CommandError, match="1 documents of 2"):
        Translator(Runner(FakeKubectl('{"kind": "A"}').run_command)).read(["kind: A", "kind: B"])


def test_yaml_is_written_by_kubectl() -> None:
    kubectl = FakeKubectl("kind: A\n")
    assert Translator(Runner(kubectl.run_command)).write({"kind": "A"}) == "kind: A\n"
    assert kubectl.calls[0][1] == '{"kind": "A"}' and "--output=yaml" in kubectl.calls[0][0]


def test_config_text_is_what_kubeadm_splits() -> None:
    assert config_text(DOCUMENTS).count("\n---\n") == 1
