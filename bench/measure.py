"""Runs of the baseline and of the playbook against the lab, and fresh hosts for each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from bench.report import Run
from lab import nodes, recipes

ROOT = Path(__file__).parent.parent
PATIENCE = 1800
# Room for 500 nodes, each of which gets a /24.
POD_RANGE = "10.128.0.0/14"
PODS = ("-e", f"kube_cluster_pod_cidr={POD_RANGE}")


class BenchError(Exception):
    """A run failed, so there is nothing to compare; the text says where to look."""


@dataclass(frozen=True)
class Site:
    """What the inventory describes: the hosts of the lab, and the variables of one control plane."""

    inventory: Path
    control_planes: dict[str, str]
    workers: dict[str, str]
    variables: dict[str, Any]

    @classmethod
    def read(cls, inventory: Path) -> Site:
        """Read an inventory of the lab."""
        listing = json.loads(run(["ansible-inventory", "-i", str(inventory), "--list"]))
        variables = listing["_meta"]["hostvars"]
        groups = {
            name: {host: variables[host]["ansible_host"] for host in listing.get(name, {}).get("hosts", [])}
            for name in ("control_plane", "workers")
        }
        if not groups["control_plane"]:
            raise BenchError(f"{inventory} has no control plane in the group control_plane")
        first = next(iter(groups["control_plane"]))
        return cls(inventory, groups["control_plane"], groups["workers"], variables[first])

    @property
    def hosts(self) -> list[str]:
        """All hosts."""
        return [*self.control_planes, *self.workers]

    def at(self, version: str) -> Site:
        """Return the same site with another version of Kubernetes."""
        return replace(self, variables={**self.variables, "kube_cluster_version": version})

    def on(self, host: str, *words: str) -> list[str]:
        """Return the words that run a command on a host from outside."""
        return ["podman", "exec", nodes.PREFIX + host, *words]


def fresh(site: Site, hosts: list[str]) -> None:
    """Replace hosts by bare ones: new containers with empty disks, package lists as the image has them."""
    lab = ["python3", "-m", "lab"]
    run([*lab, "remove", *hosts])
    run([*lab, "up", "--inventory", str(site.inventory)])


def plain(site: Site, scratch: Path) -> Run:
    """Run the baseline on bare hosts."""
    manifest = scratch / "flannel.yaml"
    run(
        [
            "ansible-playbook",
            "-i",
            str(site.inventory),
            "bench/flannel.yml",
            "-e",
            f"bench_manifest={manifest}",
            *PODS,
        ]
    )
    begun = time.monotonic()
    output = run(["bench/plain.sh"], env=plain_settings(site, manifest))
    taken = time.monotonic() - begun
    print(output, end="", flush=True)
    return Run(taken, ready(site, begun))


def plain_settings(site: Site, manifest: Path) -> dict[str, str]:
    """Return what the baseline is told: the same versions, addresses and mirrors as the roles get."""
    own = site.variables
    version = str(own["kube_cluster_version"])
    defaults = yaml.safe_load((ROOT / "roles/kube_host/defaults/main.yml").read_text())
    built = next(entry for entry in recipes.lock()["kubernetes"] if entry["version"] == version)
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "serverTLSBootstrap": True,
        "clusterDomain": "cluster.local",
        **({"failCgroupV1": False} if own.get("kube_cluster_allow_cgroup_v1") else {}),
        **own.get("kube_control_plane_kubelet_configuration", {}),
    }
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        **own.get("kube_control_plane_proxy_configuration", {}),
    }

    def pairs(entries: dict[str, str]) -> str:
        return " ".join(f"{name}={value}" for name, value in entries.items())

    return {
        "CONTROL_PLANES": pairs(site.control_planes),
        "WORKERS": pairs(site.workers),
        "CLUSTER": own["kube_cluster_name"],
        "ENDPOINT": own["kube_cluster_endpoint_address"],
        "PORT": "8443",
        "PODS": POD_RANGE,
        "VERSION": version,
        "PAUSE": built["pause"],
        "CONTAINERD": str(defaults["kube_host_containerd_version"]),
        "RUNC": str(defaults["kube_host_runc_version"]),
        "PACKAGES": own["kube_cluster_package_url"].replace("{minor}", version.rpartition(".")[0]),
        "RELEASES": own["kube_cluster_release_url"],
        "MIRRORS": pairs(own.get("kube_cluster_registry_mirrors", {})),
        "FLANNEL": str(manifest),
        "IGNORE": ",".join(own.get("kube_cluster_ignore_preflight_errors", [])),
        "KUBELET": json.dumps(kubelet),
        "PROXY": json.dumps(proxy),
        "SSH_USER": own["ansible_user"],
        "SSH_KEY": str(nodes.KEY),
        "KNOWN_HOSTS": str(nodes.KNOWN_HOSTS),
    }


def playbook(
    site: Site,
    scratch: Path,
    *options: str,
    name: str = "site",
    inventory: Path | None = None,
    wait: bool = True,
) -> Run:
    """Run a playbook; *wait* for every node to be Ready after it."""
    tasks = scratch / "tasks.json"
    tasks.unlink(missing_ok=True)
    environment = {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "bench" / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "bench_tasks",
        "BENCH_TASKS_FILE": str(tasks),
        **own_connections(scratch),
    }
    begun = time.monotonic()
    argv = [
        "ansible-playbook",
        "-i",
        str(inventory or site.inventory),
        f"playbooks/{name}.yml",
        *PODS,
        *options,
    ]
    run(argv, env=environment)
    taken = time.monotonic() - begun
    found = json.loads(tasks.read_text())
    timed = [(task["name"], task["seconds"]) for task in found["tasks"]]
    return Run(taken, ready(site, begun) if wait else 0.0, timed, found["hosts"])


def verify(site: Site, scratch: Path, *options: str) -> None:
    """Prove that what a run left behind is a cluster that works."""
    argv = ["ansible-playbook", "-i", str(site.inventory), "playbooks/verify.yml", *PODS, *options]
    run(argv, env=own_connections(scratch))


def own_connections(scratch: Path) -> dict[str, str]:
    """Return the environment of a run that shares no open connection with another: hosts are replaced between them."""
    folder = Path(tempfile.mkdtemp(prefix="ssh-", dir=scratch))
    return {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder), "KUBEWRIGHT_LAB_STATE": str(nodes.STATE)}


def ready(site: Site, begun: float) -> float:
    """Wait until every node of the inventory is Ready; return the seconds since *begun*."""
    until = time.monotonic() + 180
    while time.monotonic() < until:
        found = kubectl(site, "get", "nodes", "-o", "json", check=False)
        items = json.loads(found)["items"] if found else []
        states = {
            item["metadata"]["name"]: any(
                one["type"] == "Ready" and one["status"] == "True" for one in item["status"]["conditions"]
            )
            for item in items
        }
        if all(states.get(host) for host in site.hosts):
            return time.monotonic() - begun
        time.sleep(0.5)
    raise BenchError(f"after 180 s not every node is Ready: {states}; look at the cluster with kubectl")


def forget(site: Site, host: str) -> None:
    """Delete a node from the cluster."""
    kubectl(site, "delete", "node", host)


def described(site: Site, size: int, folder: Path) -> Path:
    """Return an inventory of *size* hosts: those of the lab, and workers that nobody answers for."""
    folder.mkdir()
    more = size - len(site.hosts)
    # Addresses that are set apart for documentation.
    blocks = [f"{block}.{last}" for block in ("192.0.2", "198.51.100", "203.0.113") for last in range(1, 255)]
    absent = {f"absent{number}": blocks[number] for number in range(more)}
    groups = {"control_plane": site.control_planes, "workers": {**site.workers, **absent}}
    content = {
        name: {"hosts": {host: {"ansible_host": address} for host, address in hosts.items()}}
        for name, hosts in groups.items()
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "group_vars").symlink_to((site.inventory / "group_vars").resolve())
    return folder


def kubectl(site: Site, *words: str, check: bool = True) -> str:
    """Run kubectl on the first control plane."""
    config = ["--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout=10s"]
    return run(site.on(next(iter(site.control_planes)), "kubectl", *config, *words), check=check)


def run(argv: list[str], *, env: dict[str, str] | None = None, check: bool = True) -> str:
    """Return the output of a command. What ends this process ends the command and all that it started."""
    plain_output = {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **plain_output, **(env or {})},
        start_new_session=True,
    )
    with process:
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise BenchError(f"gave up after {PATIENCE} s: {' '.join(argv)}") from None
            raise
    if check and process.returncode != 0:
        output = f"{stdout[-6000:]}\n{stderr[-2000:]}"
        raise BenchError(f"exit code {process.returncode} from {' '.join(argv)}\n{output}")
    return stdout if process.returncode == 0 else ""
