"""The origin: one container that stands in for the internet's package, image and file servers."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

from lab import debs, golang, nodes, oci, recipes, rootfs
from lab.cache import Cache
from lab.oci import Image
from lab.shell import LabError, run, step

PAUSE = recipes.LAB / "images" / "pause"

# One door is plain, as it suits most inventories; the other one is as a company's mirror: TLS and a password, for
# packages, files and images alike. /srv/door is the lab's own (lab/authority.py).
NGINX = """\
pid /run/nginx.pid;
error_log /dev/stderr warn;
events {}
http {
    access_log off;
    sendfile on;
    log_format door 'door $status $remote_user $request_uri';
    server {
        listen 80 default_server;
        root /srv/origin/files;
        location /core: { root /srv/origin/packages; }
    }
    server {
        listen 443 ssl default_server;
        ssl_certificate /srv/door/server.pem;
        ssl_certificate_key /srv/door/server.key;
        auth_basic "the lab's origin";
        auth_basic_user_file /srv/door/htpasswd;
        access_log /dev/stdout door;
        root /srv/origin/files;
        location /core: { root /srv/origin/packages; }
        location /v2/ {
            proxy_pass http://127.0.0.1:5000;
            proxy_set_header Host $host;
            proxy_set_header Authorization "";
        }
    }
}
"""

# A forward proxy, for hosts that nothing else leads out of. It tunnels TLS to web servers and to nothing else.
PROXY = """\
Port 3128
Timeout 600
LogLevel Connect
ConnectPort 443
"""

REGISTRY = """\
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: /srv/origin/registry}
  maintenance: {readonly: {enabled: %s}}
http: {addr: ":5000"}
"""

START = """\
docker-registry serve /srv/origin/registry.yml &
tinyproxy -d -c /srv/origin/proxy.conf &
exec nginx -c /srv/origin/nginx.conf -g 'daemon off;'
"""


def pause_recipe(version: str) -> dict[str, Any]:
    """Everything that decides the pause program."""
    return {"source": (PAUSE / "main.go").read_text(), "version": version}


def pause(cache: Cache, version: str) -> Path:
    """Return the folder with the pause program."""

    def make(folder: Path) -> None:
        env = {"CGO_ENABLED": "0", "GOCACHE": str(cache.scratch / "go-build"), "GOFLAGS": "-buildvcs=false"}
        flags = f"-s -w -X main.version={version}"
        run(["go", "build", "-trimpath", "-ldflags", flags, "-o", folder / "pause", "."], cwd=PAUSE, env=env)

    return cache.obtain("pause", version, pause_recipe(version), make)


class Content:
    """All that the origin serves, from the lock file's versions to one cached folder."""

    def __init__(self, cache: Cache, lock: dict[str, Any]) -> None:
        self.cache = cache
        self.lock = lock
        self.suite = lock["debian"]["suite"]

    def built(self, program: golang.GoProgram) -> Path:
        """Return the folder of a program's binaries."""
        return golang.build(self.cache, program)

    def images(self) -> list[Image]:
        """Return the images that upstream's registries would serve."""
        lock = self.lock
        filter_base = rootfs.build(self.cache, rootfs.FILTER_BASE, self.suite)
        found: list[Image] = []
        for entry in lock["kubernetes"]:
            folder, tag = self.built(recipes.kubernetes(entry["version"])), f"v{entry['version']}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
                binary = f"/usr/local/bin/{name}"
                found.append(Image(f"registry.k8s.io/{name}:{tag}", {binary: folder / name}, (binary,)))
            proxy = "/usr/local/bin/kube-proxy"
            found.append(
                Image(f"registry.k8s.io/kube-proxy:{tag}", {proxy: folder / "kube-proxy"}, base=filter_base)
            )
        for version in sorted({entry["coredns"] for entry in lock["kubernetes"]}):
            found.append(
                Image(
                    f"registry.k8s.io/coredns/coredns:v{version}",
                    {"/coredns": self.built(recipes.coredns(version)) / "coredns"},
                    ("/coredns",),
                    user="nonroot:nonroot",
                    capabilities={"/coredns": oci.NET_BIND_SERVICE},
                )
            )
        for version in sorted({entry["pause"] for entry in lock["kubernetes"]}):
            files = {"/pause": pause(self.cache, version) / "pause"}
            found.append(Image(f"registry.k8s.io/pause:{version}", files, ("/pause",), user="65535:65535"))
        for tag in lock["etcd"]["images"]:
            folder = self.built(recipes.etcd(tag.split("-")[0]))
            files = {f"/usr/local/bin/{name}": folder / name for name in ("etcd", "etcdctl", "etcdutl")}
            found.append(
                Image(
                    f"registry.k8s.io/etcd:{tag}",
                    files,
                    command=("/usr/local/bin/etcd",),
                    workdir="/var/lib/etcd",
                    folders=("/var/etcd", "/var/lib/etcd"),
                )
            )
        flannel = lock["flannel"]["version"]
        found.append(
            Image(
                f"ghcr.io/flannel-io/flannel:v{flannel}",
                {"/opt/bin/flanneld": self.built(recipes.flannel(flannel)) / "flanneld"},
                ("/opt/bin/flanneld",),
                base=filter_base,
            )
        )
        agnhost = self.built(recipes.agnhost(lock["agnhost"]["kubernetes"])) / "agnhost"
        reference = f"registry.k8s.io/e2e-test-images/agnhost:{lock['agnhost']['version']}"
        found.append(
            Image(reference, {"/agnhost": agnhost}, ("/agnhost",), folders=("/tmp",), command=("pause",))
        )
        return found

    def write_packages(self, folder: Path) -> None:
        """Write one signed flat repository for each minor, as pkgs.k8s.io lays them out."""
        keys = self.cache.scratch / "gnupg"
        debs.make_signing_key(keys)
        crictl, cni = self.lock["cri_tools"]["version"], self.lock["cni_plugins"]["version"]
        for minor in sorted({entry["version"].rpartition(".")[0] for entry in self.lock["kubernetes"]}):
            repository = folder / "core:" / "stable:" / f"v{minor}" / "deb"
            (repository / "amd64").mkdir(parents=True)
            done: set[str] = set()
            for entry in self.lock["kubernetes"]:
                if entry["version"].rpartition(".")[0] != minor:
                    continue
                kubernetes = self.built(recipes.kubernetes(entry["version"]))
                crictl_folder = self.built(recipes.crictl(crictl))
                cni_folder = self.built(recipes.cni_plugins(cni))
                for package in debs.packages(
                    kubernetes, entry["version"], crictl_folder, crictl, cni_folder, cni
                ):
                    if f"{package.name}-{package.version}" not in done:
                        debs.build(package, repository / "amd64", self.cache.scratch)
                        done.add(f"{package.name}-{package.version}")
            debs.index(repository, keys)

    def write_files(self, folder: Path) -> None:
        """Write release files with their checksums, as the projects' release pages lay them out."""
        lock = self.lock
        version = lock["containerd"]["version"]
        release = _release(folder, "containerd/containerd", version)
        archive = release / f"containerd-{version}-linux-amd64.tar.gz"
        built = self.built(recipes.containerd(version))
        _tar(archive, {f"bin/{item.name}": item for item in built.iterdir()})
        _sums(f"{archive}.sha256sum", [archive])

        version = lock["runc"]["version"]
        release = _release(folder, "opencontainers/runc", version)
        shutil.copy(self.built(recipes.runc(version)) / "runc", release / "runc.amd64")
        _sums(release / "runc.sha256sum", [release / "runc.amd64"])

        version = lock["cni_plugins"]["version"]
        release = _release(folder, "containernetworking/plugins", version)
        archive = release / f"cni-plugins-linux-amd64-v{version}.tgz"
        _tar(archive, {f"./{item.name}": item for item in self.built(recipes.cni_plugins(version)).iterdir()})
        _sums(f"{archive}.sha256", [archive])

        for version in lock["etcd"]["releases"]:
            release = _release(folder, "etcd-io/etcd", version)
            stem = f"etcd-v{version}-linux-amd64"
            archive = release / f"{stem}.tar.gz"
            _tar(
                archive, {f"{stem}/{item.name}": item for item in self.built(recipes.etcd(version)).iterdir()}
            )
            _sums(release / "SHA256SUMS", [archive])

    def write_registry(self, folder: Path, image: str) -> None:
        """Push every image into a registry that stores below `folder`; names begin with upstream's host."""
        (folder / "registry").mkdir()
        (folder / "registry.yml").write_text(REGISTRY % "false")
        name = "kubewright-origin-fill"
        run(["podman", "rm", "--force", "--ignore", name])
        argv = ["podman", *nodes.run_command(), "--rm", "--name", name, "--publish", "127.0.0.1::5000"]
        argv += ["--volume", f"{folder}:/srv/origin", image]
        run([*argv, "docker-registry", "serve", "/srv/origin/registry.yml"])
        try:
            port = run(["podman", "port", name, "5000/tcp"]).strip().rpartition(":")[2]
            for item in self.images():
                layout = self.cache.scratch / "oci-layout"
                shutil.rmtree(layout, ignore_errors=True)
                oci.write(item, layout)
                target = f"docker://127.0.0.1:{port}/{item.reference}"
                _retry(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}", target])
        finally:
            run(["podman", "stop", "--time", "5", name], check=False)
        (folder / "registry.yml").write_text(REGISTRY % "true")

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the content: what is built, and the files that arrange it."""
        sources = (Path(__file__), Path(debs.__file__), Path(oci.__file__))
        return {
            "programs": [program.recipe() for program in recipes.programs(self.lock)],
            "lock": self.lock,
            "sources": {source.name: hashlib.sha256(source.read_bytes()).hexdigest() for source in sources},
            "pause": [pause_recipe(entry["pause"]) for entry in self.lock["kubernetes"]],
            "bases": [rootfs.place(self.cache, rootfs.FILTER_BASE, self.suite).name],
        }

    def make(self, image: str) -> Path:
        """Return the folder that the origin container serves."""

        def write(folder: Path) -> None:
            (folder / "files").mkdir()
            (folder / "packages").mkdir()
            (folder / "nginx.conf").write_text(NGINX)
            (folder / "proxy.conf").write_text(PROXY)
            (folder / "start.sh").write_text(START)
            with step("Packages"):
                self.write_packages(folder / "packages")
            with step("Release files"):
                self.write_files(folder / "files")
            with step("Images"):
                self.write_registry(folder, image)

        return self.cache.obtain("origin-content", "1", self.recipe(), write)


def _release(folder: Path, project: str, version: str) -> Path:
    path = folder / project / "releases" / "download" / f"v{version}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _tar(archive: Path, members: dict[str, Path]) -> None:
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, source in sorted(members.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = source.stat().st_size, 0o755, oci.EPOCH
            with source.open("rb") as handle:
                tar.addfile(entry, handle)


def _sums(target: str | Path, files: list[Path]) -> None:
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    Path(target).write_text("".join(lines))


def _retry(argv: list[str], seconds: float = 15) -> None:
    """Run a command until it succeeds: the registry needs a moment to listen."""
    until = time.monotonic() + seconds
    while True:
        try:
            run(argv)
            return
        except LabError:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)
