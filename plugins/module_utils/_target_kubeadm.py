# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the kubeadm of another version, without installing it.

apt itself fetches the package into a folder that goes away, with settings and lists of its own: so the repository's
signature is verified, and proxies, passwords and authorities of the host count, while neither the host's sources nor
its package lists are touched.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import (
    Access,
    Fetcher,
    parse_checksum,
    server,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm import failure
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_upgrade_plan import Target
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner
from ansible_collections.kubewright.cluster.plugins.module_utils._skew import release

API_VERSION = "kubeadm.k8s.io/v1beta4"

# Where a dry run writes instead of /etc/kubernetes/tmp (kubeadm's constants.EnvVarUpgradeDryRunDir).
_DRY_RUN_FOLDER = "KUBEADM_UPGRADE_DRYRUN_DIR"
_TIMEOUT = 120.0  # seconds
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")

_VERSION_LINE = re.compile(r"^kubernetesVersion:.*$", re.M)
_IMAGE_TAG = re.compile(r"^[ ]+imageTag:.*\n", re.M)


@dataclass(frozen=True)
class Repository:
    """Where the package is: the URL of the repository with its folder deb, and that of its key."""

    url: str
    key_url: str = ""
    key_checksum: str = ""

    @property
    def key(self) -> str:
        return self.key_url or f"{self.url.rstrip('/')}/Release.key"


@dataclass(frozen=True)
class Question:
    """What the target's kubeadm is asked. *kubeadm* is its path where it is there already.

    *access* is what servers want, by their names; see check_sources.
    """

    version: str
    repository: Repository
    kubeadm: str | None = None
    access: Mapping[str, Mapping[str, str]] | None = None
    ignored: Sequence[str] = ()
    timeout: float = 300


def ask(
    run_command: Callable[..., tuple[int, str, str]],
    question: Question,
    cluster_configuration: str,
    private: Path,
    *,
    rehearse: bool,
) -> tuple[Target, list[str]]:
    """Return what the wanted version brings and objects to, and its images. Nothing that goes wrong raises.

    A cluster that was told of the version already needs no rehearsal: nobody applies anything any more.
    """
    version = question.version
    if release(version) is None:
        return Target(version), []
    images: list[str] = []
    refusal = silence = ""
    try:
        path = _kubeadm(run_command, question, private)
        kubeadm = TargetKubeadm(run_command, path)
        images = kubeadm.images(cluster_configuration, version)
        refusal = kubeadm.rehearse(version, question.ignored, private / "rehearsal") if rehearse else ""
    except KubewrightError as error:
        silence = str(error)
    return Target(version, tags(images), refusal, silence), images


def _kubeadm(run_command: Callable[..., tuple[int, str, str]], question: Question, private: Path) -> str:
    """Return the path of a kubeadm of the wanted version: the named one, the installed one, or one that is fetched."""
    runner = Runner(run_command)
    for path in filter(None, [question.kubeadm, runner.find("kubeadm")]):
        if TargetKubeadm(run_command, path).version() == question.version:
            return path
    if not question.repository.url:
        raise KubewrightError(
            f"There is no kubeadm {question.version} on this host, and no repository to fetch it from",
            remedy="Set repository_url, or name the program with kubeadm",
        )
    deadline = Deadline(question.timeout)
    fetcher = Fetcher(_access(question, private), deadline)
    # What the collection runs has no proxy, except where it leaves the site.
    outside = Runner(run_command, env={name: os.environ[name] for name in _PROXIES if name in os.environ})
    return fetch(outside, fetcher, question.repository, question.version, private, deadline)


def _access(question: Question, private: Path) -> Access:
    """Return how to get the key of the repository from its server."""
    wants = (question.access or {}).get(server(question.repository.key)[1], {})
    authorities = None
    if wants.get("ca_certificates"):
        authorities = private / "authorities.pem"
        authorities.write_text(wants["ca_certificates"], encoding="utf-8")
    return Access(
        ca_path=str(authorities) if authorities else None,
        url_username=wants.get("username"),
        url_password=wants.get("password"),
    )


def fetch(
    runner: Runner, fetcher: Fetcher, repository: Repository, version: str, folder: Path, deadline: Deadline
) -> str:
    """Return the path of kubeadm of a version, unpacked below *folder*."""
    key = folder / "repository.asc"
    algorithm, wanted = "sha256", ""
    if repository.key_checksum:
        checksum = parse_checksum(repository.key_checksum)
        algorithm, wanted = checksum.algorithm, fetcher.expected_digest(checksum, repository.key)
    actual = fetcher.download(repository.key, str(key), algorithm)
    if wanted and actual != wanted:
        raise KubewrightError(
            "The key of the package repository does not have its checksum",
            where=repository.key,
            why=f"{algorithm} is {actual}, and {wanted} was given",
            remedy="Compare kube_host_package_key_checksum with what the project publishes",
        )
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={key}] {repository.url.rstrip('/')}/ /\n", encoding="utf-8")
    for name in ("lists", "cache/archives"):
        # apt makes this one itself only below its own folders.
        (folder / name / "partial").mkdir(parents=True, exist_ok=True)
    options = private_apt(folder, sources)
    apt_get(runner, [*options, "update"], folder, deadline, "The package lists cannot be fetched")
    apt_get(
        runner,
        [*options, "download", f"kubeadm={version}-*"],
        folder,
        deadline,
        f"The package repository has no kubeadm {version}",
    )
    [package] = folder.glob("kubeadm_*.deb")
    unpack = ["dpkg-deb", "--extract", str(package), str(folder / "kubeadm")]
    runner.run(unpack, timeout=_TIMEOUT, asks=True)
    return str(folder / "kubeadm/usr/bin/kubeadm")


def private_apt(folder: Path, sources: Path) -> list[str]:
    """Return the options by which apt keeps everything below *folder*, and reads one list of sources only."""
    settings = {
        "Dir::Etc::SourceList": str(sources),
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": str(folder / "lists"),
        "Dir::Cache": str(folder / "cache"),
        # It may not read a folder of root's as its own user.
        "APT::Sandbox::User": "root",
    }
    return [f"--option={name}={value}" for name, value in settings.items()]


def apt_get(
    runner: Runner,
    words: Sequence[str],
    folder: Path,
    deadline: Deadline,
    what: str,
    remedy: str = "Compare kube_cluster_package_url and kube_cluster_version with what the repository holds",
) -> None:
    """Run apt-get in a folder; what *what* says is wrong where it does not get all that it asks for."""
    argv = ["apt-get", "--quiet", "--quiet", *words]
    # It downloads into the folder that it is started in.
    done = runner.run(
        ["env", f"--chdir={folder}", *argv], check=False, timeout=max(1.0, deadline.remaining()), asks=True
    )
    errors = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith(("E:", "Err:"))]
    # `apt-get update` succeeds where a repository does not answer, and says so.
    if done.rc != 0 or errors or "Failed to fetch" in done.stderr:
        raise CommandError(
            what,
            cmd=argv,
            rc=done.rc,
            stdout=done.stdout,
            stderr=done.stderr,
            why=" ".join(errors or done.stderr.splitlines()[-1:]),
            remedy=remedy,
        )


class TargetKubeadm:
    """kubeadm of the wanted version at *path*."""

    def __init__(self, run_command: Callable[..., tuple[int, str, str]], path: str) -> None:
        self._run_command = run_command
        self._path = path

    def version(self) -> str:
        return self._ask(["version", "--output=short"]).strip().lstrip("v")

    def images(self, cluster_configuration: str, version: str) -> list[str]:
        """Return the images of a version, as the cluster's own repositories name them, without a pinned etcd."""
        text = wanted_configuration(cluster_configuration, version)
        return self._ask(["config", "images", "list", "--config=/dev/stdin"], stdin=text).split()

    def rehearse(self, version: str, ignored: Sequence[str], folder: Path) -> str:
        """Return what kubeadm objects to, empty when it would begin. It reads the cluster and writes nothing.

        `kubeadm upgrade plan` would not do: it runs a Job for its health check. A dry run of `apply` pretends to.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        runner = Runner(self._run_command, env={_DRY_RUN_FOLDER: str(folder)})
        argv = [self._path, "upgrade", "apply", "--dry-run", "--config=/dev/stdin"]
        document = upgrade_configuration("apply", version, ignored=ignored)
        done = runner.run(argv, check=False, stdin=document, timeout=_TIMEOUT, asks=True, secret=True)
        return "" if done.rc == 0 else failure(done.stderr) or failure(done.stdout)

    def _ask(self, words: Sequence[str], stdin: str | None = None) -> str:
        runner = Runner(self._run_command)
        argv = [self._path, *words]
        done = runner.run(argv, check=False, stdin=stdin, timeout=_TIMEOUT, asks=True)
        if done.rc != 0:
            raise CommandError(
                "kubeadm of the wanted version does not accept the cluster's configuration",
                cmd=argv,
                rc=done.rc,
                stdout=done.stdout,
                stderr=done.stderr,
                why=failure(done.stderr) or failure(done.stdout),
                remedy="Correct ClusterConfiguration in the ConfigMap kubeadm-config; an old API version of it is "
                "converted by 'kubeadm config migrate' of the version that runs",
            )
        return done.stdout


def wanted_configuration(text: str, version: str) -> str:
    """Return a ClusterConfiguration as it is for another version, without a tag for etcd.

    kubeadm itself wrote the layout. Only etcd and dns have such a tag, and the one of dns is none of etcd's indent.
    """
    return without_etcd_tag(_VERSION_LINE.sub(f"kubernetesVersion: v{version}", text))


def without_etcd_tag(text: str) -> str:
    """Take etcd.local.imageTag out of a ClusterConfiguration that kubeadm wrote."""
    found = _etcd_block(text)
    return text if found is None else text.replace(found, _IMAGE_TAG.sub("", found), 1)


def etcd_tag(text: str) -> str:
    """Return etcd.local.imageTag of a ClusterConfiguration that kubeadm wrote, empty without one."""
    match = re.search(r"^[ ]+imageTag:[ ]*[\"']?([^\s\"']+)", _etcd_block(text) or "", re.M)
    return match[1] if match else ""


def _etcd_block(text: str) -> str | None:
    match = re.search(r"^etcd:\n(?:[ ]+.*\n?)*", text, re.M)
    return match[0] if match else None


def upgrade_configuration(
    command: str,
    version: str,
    *,
    ignored: Sequence[str] = (),
    renew: bool = True,
    patches: str = "",
    skip: Sequence[str] = (),
    manifest_seconds: int = 0,
) -> str:
    """Return an UpgradeConfiguration for `apply` or `node`; JSON is YAML."""
    own: dict[str, Any] = {
        "certificateRenewal": renew,
        "ignorePreflightErrors": list(ignored),
        "imagePullPolicy": "IfNotPresent",
        "imagePullSerial": False,
    }
    if command == "apply":
        own["kubernetesVersion"] = f"v{version}"
    if patches:
        own["patches"] = {"directory": patches}
    if skip:
        own["skipPhases"] = list(skip)
    document: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "UpgradeConfiguration", command: own}
    if manifest_seconds:
        document["timeouts"] = {"upgradeManifests": f"{manifest_seconds}s"}
    return json.dumps(document) + "\n"


def with_etcd(images: Sequence[str], tag: str) -> list[str]:
    """Return images with another tag for etcd, where one of ClusterConfiguration wins over kubeadm's own."""
    return [re.sub(r"(?<=/etcd:).*$", tag, image) if tag else image for image in images]


def tags(images: Sequence[str]) -> Mapping[str, str]:
    """Return the tags of images by the last part of their names."""
    return dict(image.rsplit("/", 1)[-1].split(":", 1) for image in images if ":" in image.rsplit("/", 1)[-1])
