"""Node containers: one for each host of an inventory, reached over SSH like any host.

The inventory is the topology: the lab starts what it lists, at the addresses it lists. Traps of running
systemd and kubelets in containers are explained where they are avoided.

KUBEWRIGHT_LAB, a number from 0 to 255 (default 0), lets several labs live on one machine: each has names,
a network and a key of its own, and its inventory has addresses in 10.198.NUMBER.0/24.
"""

from __future__ import annotations

import ipaddress
import json
import os
import resource
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab import authority, rough
from lab.rough import Rough
from lab.shell import LabError, run, say, step

ROOT = Path(__file__).parent.parent
NUMBER = int(os.environ.get("KUBEWRIGHT_LAB") or 0)
PREFIX = f"kubewright-{NUMBER}-" if NUMBER else "kubewright-"
STATE = ROOT / (f".lab-{NUMBER}" if NUMBER else ".lab")
KEY = STATE / "id_ed25519"
KNOWN_HOSTS = STATE / "known_hosts"

LABEL = f"kubewright.lab={NUMBER}"
NETWORK = f"{PREFIX}lab"
SUBNET = f"10.198.{NUMBER}.0/24"
GATEWAY = f"10.198.{NUMBER}.1"
ORIGIN = f"{PREFIX}origin"
ORIGIN_ADDRESS = f"10.198.{NUMBER}.2"
ORIGIN_NAME = "origin.lab"
# The forward proxy runs beside the origin.
PROXY_NAME = "proxy.lab"
PROXY = f"http://{PROXY_NAME}:3128"
# For hosts with a second interface; made when one asks for it.
SECOND_NETWORK = f"{PREFIX}second"
SECOND_SUBNET = f"10.199.{NUMBER}.0/24"
IPV6_PREFIX = f"fd00:a{NUMBER:02x}::"
FREE_ADDRESSES = {str(address) for address in ipaddress.ip_network(SUBNET).hosts()} - {
    GATEWAY,
    ORIGIN_ADDRESS,
}
# Folders that must not lie on the container's overlay: an overlay on an overlay does not work, and
# etcd syncs every write.
VOLUMES = {"containerd": "/var/lib/containerd", "etcd": "/var/lib/etcd", "kubelet": "/var/lib/kubelet"}
# Only cgroup v1 has it.
FREEZER = Path("/sys/fs/cgroup/freezer")


@dataclass(frozen=True)
class Host:
    """A host of the inventory."""

    name: str
    address: str
    rough: Rough = field(default_factory=Rough)

    @property
    def container(self) -> str:
        """The container's name."""
        return f"{PREFIX}{self.name}"


def podman(*words: str | Path, check: bool = True, timeout: float = 300) -> str:
    """Run podman."""
    return run(["podman", *words], check=check, timeout=timeout)


def inventory_hosts(inventory: Path) -> list[Host]:
    """Return the hosts of an inventory with their addresses."""
    listing = json.loads(run([ansible_tool("ansible-inventory"), "-i", inventory, "--list"]))
    variables = listing["_meta"]["hostvars"]
    hosts: list[Host] = []
    for name in sorted(variables):
        address = variables[name].get("ansible_host", "")
        if address not in FREE_ADDRESSES:
            what = f"{inventory}: host {name} has ansible_host '{address}'"
            raise LabError(f"{what}, which is no free address of the lab's {SUBNET}")
        twin = next((host.name for host in hosts if host.address == address), None)
        if twin:
            raise LabError(f"{inventory}: hosts {twin} and {name} both have ansible_host '{address}'")
        hosts.append(Host(name, address, rough.read(name, variables[name])))
    return hosts


def ansible_tool(name: str) -> str:
    """Return the path of a tool of the project's Python environment, or its name when there is none."""
    environment = os.environ.get("KUBEWRIGHT_VENV")
    return f"{environment}/bin/{name}" if environment else name


def on_cgroup_v2() -> bool:
    """Tell whether the machine runs the unified hierarchy; v1 and hybrid machines need other flags."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def run_command() -> list[str]:
    """Return the words that start every container of the lab on this machine."""
    # crun fails on hybrid cgroups, runc does not.
    words = ["run"] if on_cgroup_v2() else ["--runtime", "runc", "run"]
    words += ["--detach", "--label", LABEL]
    # A container that asks for more than the machine's hard limit does not start where the capability
    # to raise limits is missing; podman's own process lowers its limit of processes before it starts one.
    limits = (("nofile", resource.RLIMIT_NOFILE, 1048576), ("nproc", resource.RLIMIT_NPROC, 32768))
    for name, limit, most in limits:
        hard = resource.getrlimit(limit)[1]
        wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        words += ["--ulimit", f"{name}={wanted}:{wanted}"]
    return words


def ensure_network(name: str, subnet: str) -> None:
    """Make a network of the lab; its first address is this machine's."""
    if run(["podman", "network", "ls", "--quiet", "--filter", f"name=^{name}$"]).strip():
        return
    podman("network", "create", "--disable-dns", "--subnet", subnet, "--label", LABEL, name)


def ensure_image(name: str, archive: Path) -> str:
    """Import a root file system; the tag is the cache key, so that a new recipe is a new image."""
    reference = f"localhost/kubewright-lab-{name}:{archive.parent.name.rpartition('-')[2]}"
    if not podman("images", "--quiet", reference).strip():
        with step(f"Importing the {name} image"):
            podman("import", "--quiet", archive, reference)
    return reference


def running() -> set[str]:
    """Return the names of the lab's running containers."""
    return set(podman("ps", "--filter", f"label={LABEL}", "--format", "{{.Names}}").split())


def existing() -> set[str]:
    """Return the names of the lab's containers, running or not."""
    return set(podman("ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}").split())


def ensure_key() -> str:
    """Make the lab's SSH key; return the public part."""
    STATE.mkdir(exist_ok=True)
    if not KEY.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", NETWORK, "-f", KEY])
    return KEY.with_suffix(".pub").read_text()


def ensure_origin(image: str, content: Path, served: Sequence[Path] = ()) -> None:
    """Start the origin; a running one with another image or other content is replaced.

    Each folder *served* takes the place of the one of its name that the content has.
    """
    door = authority.ensure(STATE, ORIGIN_NAME)
    form = "{{.ImageName}} {{range .Mounts}}{{.Source}} {{end}}"
    mounts = {"/srv/origin": content, "/srv/door": door}
    mounts |= {f"/srv/origin/{folder.name}": folder for folder in served}
    wanted = {image, *map(str, mounts.values())}
    if ORIGIN in running() and set(podman("inspect", "--format", form, ORIGIN).split()) == wanted:
        return
    podman("rm", "--force", "--ignore", "--time", "2", ORIGIN)
    flags = ["--name", ORIGIN, "--hostname", "origin", "--ip", ORIGIN_ADDRESS]
    # The proxy looks the name up.
    flags += ["--add-host", f"{ORIGIN_NAME}:{ORIGIN_ADDRESS}"]
    for place, source in mounts.items():
        flags += ["--volume", f"{source}:{place}:ro"]
    podman(*run_command(), "--network", NETWORK, *flags, image, "sh", "/srv/origin/start.sh")


# On hybrid cgroups podman mounts the machine's whole hierarchy name=systemd over the container's own part. All
# nodes then share the folders of their pods there, and a static pod that has the same manifest on two nodes, as
# the scheduler has, can be removed on neither: the kubelet waits for its cgroup to go for ever.
BOOT = """\
if [ "$(grep -c ' /sys/fs/cgroup/systemd ' /proc/mounts)" -gt 1 ]; then
    umount /sys/fs/cgroup/systemd/release_agent
    umount /sys/fs/cgroup/systemd
fi
exec /lib/systemd/systemd
"""


def start(host: Host, image: str) -> None:
    """Start a node container."""
    flags = ["--name", host.container, "--hostname", host.rough.hostname or host.name, "--privileged"]
    flags += ["--cgroupns", "private", "--systemd", "always"]
    # A machine keeps its hardware address when it boots again. With a new one the neighbours would go on sending to the
    # old one until they give up on it, after ten seconds.
    hardware = ":".join(["02", "42", *(f"{int(part):02x}" for part in host.address.split("."))])
    flags += ["--network", f"{NETWORK}:ip={host.address},mac={hardware},interface_name=eth0"]
    if host.rough.second_network:
        flags += ["--network", f"{SECOND_NETWORK}:interface_name=eth1"]
    if host.rough.behind_proxy:
        # Nothing answers names there: a look-up fails at once.
        flags += ["--add-host", f"{PROXY_NAME}:{ORIGIN_ADDRESS}", "--dns", ORIGIN_ADDRESS]
    else:
        flags += ["--add-host", f"{ORIGIN_NAME}:{ORIGIN_ADDRESS}"]
    if host.rough.tmp_noexec:
        flags += ["--tmpfs", "/tmp:rw,noexec,nosuid,nodev,mode=1777"]
    # podman's default of 2048 processes breaks a node at about a hundred pods.
    flags += ["--pids-limit", "-1"]
    for name, path in VOLUMES.items():
        volume = f"{host.container}-{name}"
        podman("volume", "create", "--label", LABEL, volume)
        flags += ["--volume", f"{volume}:{path}"]
    if Path("/lib/modules").is_dir():
        flags += ["--volume", "/lib/modules:/lib/modules:ro"]
    podman(*run_command(), *flags, image, "sh", "-c", BOOT)


def settle(host: Host, public_key: str, seconds: float = 60) -> str:
    """Wait until a node has booted, let the lab's key in, make the ground as rough as asked for.

    Return the host's line for known_hosts.
    """
    until = time.monotonic() + seconds
    while True:
        state = podman("exec", host.container, "systemctl", "is-system-running", check=False).strip()
        if state in ("running", "degraded"):
            break
        if time.monotonic() > until:
            what = f"{host.name} has not booted after {seconds:.0f} s (state '{state}')"
            raise LabError(f"{what}; see: podman logs {host.container}")
        time.sleep(0.3)
    folder = "/home/kubewright/.ssh"
    script = f"umask 077; cat > {folder}/authorized_keys && chown -R kubewright: {folder}"
    run(["podman", "exec", "--interactive", host.container, "sh", "-c", script], stdin=public_key)
    ipv6 = f"{IPV6_PREFIX}{host.address.rpartition('.')[2]}/64"
    ground = rough.script(host.rough, gateway=GATEWAY, ipv6=ipv6, proxy=PROXY)
    if ground:
        podman("exec", host.container, "sh", "-c", ground)
    host_key = podman("exec", host.container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
    return f"{host.address} {host_key[0]} {host_key[1]}"


def raise_host_limits() -> None:
    """Raise the machine's inotify limits: every systemd, kubelet and containerd of the lab shares them."""
    for name, wanted in (("max_user_instances", 8192), ("max_user_watches", 524288)):
        setting = Path("/proc/sys/fs/inotify") / name
        if int(setting.read_text()) < wanted:
            setting.write_text(str(wanted))


def up(
    inventory: Path, node_image: Path, origin_image: Path, content: Path, served: Sequence[Path] = ()
) -> list[Host]:
    """Bring up the origin and every host of the inventory that does not run yet."""
    hosts = inventory_hosts(inventory)
    public_key = ensure_key()
    raise_host_limits()
    ensure_network(NETWORK, SUBNET)
    if any(host.rough.second_network for host in hosts):
        ensure_network(SECOND_NETWORK, SECOND_SUBNET)
    ensure_origin(ensure_image("origin", origin_image), content, served)
    image = ensure_image("node", node_image)
    missing = [host for host in hosts if host.container not in running()]
    known = existing()
    with step(f"Starting {len(missing)} of {len(hosts)} hosts"):
        for host in missing:
            if host.container in known:
                podman("start", host.container)
            else:
                start(host, image)
        with ThreadPoolExecutor(8) as pool:
            lines = list(pool.map(lambda host: settle(host, public_key), hosts))
    fresh = {line.split()[0] for line in lines}
    if KNOWN_HOSTS.exists():
        lines += [line for line in KNOWN_HOSTS.read_text().splitlines() if line.split()[0] not in fresh]
    KNOWN_HOSTS.write_text("\n".join(sorted(lines)) + "\n")
    return hosts


def kill(container: str) -> None:
    """End a container at once, as if its power failed; return when it has ended.

    runc freezes the processes of a pod for moments. With cgroup v1 the kernel ends none that is frozen, and whoever
    would have thawed it is ended before.
    """
    identity = podman("inspect", "--format", "{{.Id}}", container).strip()
    # It gives up after ten seconds when something is frozen.
    podman("kill", container, check=False)
    for state in FREEZER.glob(f"**/libpod-{identity}/**/freezer.state"):
        with suppress(OSError):
            state.write_text("THAWED")
    # One that removes itself is gone.
    podman("wait", container, check=False, timeout=60)


def remove(names: list[str]) -> None:
    """Remove the containers of some hosts, with their disks."""
    alive = running()
    for name in names:
        container = f"{PREFIX}{name}"
        if container in alive:
            kill(container)
        podman("rm", "--force", "--ignore", "--time", "0", container)
        podman("volume", "rm", "--force", *(f"{container}-{volume}" for volume in VOLUMES), check=False)


def clean() -> None:
    """Remove every trace of the lab on this machine but the cache of results."""
    containers = sorted(existing())
    if containers:
        # A paused container can not be removed by every podman.
        podman("unpause", *containers, check=False)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(kill, sorted(running())))
        podman("rm", "--force", "--ignore", "--time", "0", *containers)
    volumes = podman("volume", "ls", "--quiet", "--filter", f"label={LABEL}").split()
    if volumes:
        podman("volume", "rm", "--force", *volumes)
    podman("network", "rm", "--force", NETWORK, SECOND_NETWORK, check=False)
    images = podman("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    ours = [image for image in images if image.startswith("localhost/kubewright-lab-")]
    for image in ours:
        # It stays where another lab of this machine uses it.
        podman("rmi", image, check=False)
    shutil.rmtree(STATE, ignore_errors=True)
    counts = f"{len(containers)} containers, {len(volumes)} volumes, {len(ours)} images"
    say(f"Removed {counts}, the network and the key")
