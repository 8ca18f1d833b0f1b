"""Debian root file systems: the bare host, the origin, and a base for images with iptables."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cache import Cache
from lab.shell import run


@dataclass(frozen=True)
class RootFs:
    """A Debian tree: its packages, and a script that mmdebstrap runs in it at the end."""

    name: str
    packages: tuple[str, ...]
    script: str = ""


# What a Debian host brings when it is installed from the network installer with an SSH server: nothing
# of Kubernetes, no container runtime, no load balancer.
NODE = RootFs(
    "node",
    (
        "systemd",
        "systemd-sysv",
        "dbus",
        "openssh-server",
        "sudo",
        "python3",
        "python3-apt",
        "iproute2",
        "iputils-ping",
        "procps",
        "kmod",
        "ca-certificates",
        "openssl",
        "less",
    ),
    # SSH host keys and the machine id belong to one host: they are made when a container first starts.
    """
    useradd --create-home --shell /bin/bash kubewright
    echo 'kubewright ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/kubewright
    chmod 0440 /etc/sudoers.d/kubewright
    install -d -m 0700 -o kubewright -g kubewright /home/kubewright/.ssh
    rm -f /etc/ssh/ssh_host_* /etc/machine-id
    : > /etc/machine-id
    mkdir -p /etc/systemd/system/ssh.service.d
    printf '[Service]\\nExecStartPre=\\nExecStartPre=/usr/bin/ssh-keygen -A\\n' \
> /etc/systemd/system/ssh.service.d/keys.conf
    systemctl mask getty@.service console-getty.service systemd-logind.service \
apt-daily.timer apt-daily-upgrade.timer
    systemctl enable ssh.service
    """,
)

ORIGIN = RootFs("origin", ("nginx-light", "docker-registry", "tinyproxy-bin", "iproute2", "procps"))

# kube-proxy and flannel drive the host's packet filter through these programs.
FILTER_BASE = RootFs("filter-base", ("iptables", "nftables", "conntrack", "kmod", "iproute2"))


def place(cache: Cache, rootfs: RootFs, suite: str) -> Path:
    """Return where the result of a root file system is, or will be."""
    return cache.path(f"rootfs-{rootfs.name}", suite, _recipe(rootfs, suite))


def _recipe(rootfs: RootFs, suite: str) -> dict[str, Any]:
    return {"packages": rootfs.packages, "script": rootfs.script, "suite": suite, "layout": 1}


def build(cache: Cache, rootfs: RootFs, suite: str) -> Path:
    """Return the tar archive of a root file system."""

    def make(folder: Path) -> None:
        argv = ["mmdebstrap", "--variant=minbase", f"--include={','.join(rootfs.packages)}"]
        argv += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
        argv += ["--dpkgopt=path-exclude=/usr/share/locale/*"]
        # Java's package makes links there, and fails without the folder.
        argv.append('--essential-hook=mkdir -p "$1/usr/share/man/man1"')
        if rootfs.script:
            argv.append(f'--customize-hook=chroot "$1" sh -eu -c {shlex.quote(rootfs.script)}')
        run([*argv, suite, folder / "root.tar"])

    return cache.obtain(f"rootfs-{rootfs.name}", suite, _recipe(rootfs, suite), make) / "root.tar"
