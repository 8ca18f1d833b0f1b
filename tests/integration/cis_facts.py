"""Runs on a host of the lab: prints what the CIS benchmark asks about it as JSON. Keys and tokens stay on the host."""

from __future__ import annotations

import grp
import json
import pwd
import re
import stat
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "kubelet", "kube-proxy")
TREES = ("/etc/kubernetes", "/etc/cni/net.d", "/var/lib/cni")
FILES = (
    "/var/lib/etcd",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kube-proxy/kubeconfig",
)


def processes() -> dict[str, list[str]]:
    """Return the arguments of each component that runs."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_text().split("\0")[:-1]
        except OSError:
            continue
        if words and Path(words[0]).name in COMPONENTS:
            found[Path(words[0]).name] = words[1:]
    return found


def owner(status: Any) -> str:
    """Return user and group by their names, or by number where the host has none."""
    try:
        user = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        user = str(status.st_uid)
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return f"{user}:{group}"


def files() -> dict[str, dict[str, Any]]:
    """Return mode and owner of every file and folder that the benchmark names."""
    shown = subprocess.run(
        ["systemctl", "show", "kubelet", "--property=FragmentPath,DropInPaths", "--value"],
        capture_output=True,
        text=True,
        check=True,
    )
    units = shown.stdout.split()
    paths = {Path(one) for one in (*FILES, *TREES, *units)}
    for tree in TREES:
        paths |= set(Path(tree).rglob("*"))
    found = {}
    for path in sorted(paths):
        if path.exists():
            status = path.stat()
            found[str(path)] = {
                "mode": stat.S_IMODE(status.st_mode),
                "owner": owner(status),
                "folder": path.is_dir(),
                "unit": str(path) in units,
            }
    return found


def proxy() -> dict[str, Any]:
    """Return the configuration that kube-proxy runs with."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:10249/configz", timeout=5) as answer:
            return dict(next(iter(json.load(answer).values())))
    except OSError:
        return {}


def providers(arguments: list[str]) -> list[str]:
    """Return the names of the encryption providers in their order, and nothing else of that file."""
    for word in arguments:
        name, _, value = word.partition("=")
        if name == "--encryption-provider-config":
            return re.findall(
                r"\b(aescbc|aesgcm|identity|kms|secretbox)\b[\"']?\s*:", Path(value).read_text()
            )
    return []


if __name__ == "__main__":
    running = processes()
    print(
        json.dumps(
            {
                "processes": running,
                "files": files(),
                "proxy": proxy(),
                "providers": providers(running.get("kube-apiserver", [])),
            }
        )
    )
