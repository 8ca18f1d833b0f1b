"""Command line of the lab: python3 -m lab build | up | remove | status | clean | prune."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

from lab import ee, golang, nodes, recipes, rootfs
from lab.cache import Cache
from lab.origin import Content, pause_recipe
from lab.shell import LabError, require_root, run, say
from lab.stacks import Stacks

INVENTORY = nodes.ROOT / "inventories" / "lab"
MINIMUM_FREE_GB = 20


def build(cache: Cache) -> tuple[Path, Path, Path]:
    """Build what is not in the cache; return the node image, the origin image and the origin's content."""
    lock = recipes.lock()
    suite = lock["debian"]["suite"]
    with cache.lock():
        cache.drop_scratch()
        content = Content(cache, lock)
        node_image = rootfs.build(cache, rootfs.NODE, suite)
        origin_image = rootfs.build(cache, rootfs.ORIGIN, suite)
        if not cache.path("origin-content", "1", content.recipe()).exists():
            free = shutil.disk_usage(cache.root).free >> 30
            if free < MINIMUM_FREE_GB:
                raise LabError(
                    f"{cache.root} has {free} GB free; a build needs {MINIMUM_FREE_GB} GB for a while"
                )
            programs = recipes.programs(lock)
            for number, program in enumerate(programs, 1):
                say(f"Program {number} of {len(programs)}: {program.name} {program.version}")
                golang.build(cache, program)
        made = content.make(nodes.ensure_image("origin", origin_image))
        cache.drop_scratch()
    return node_image, origin_image, made


def wanted_entries(cache: Cache) -> set[Path]:
    """Return the results that the present lock file needs."""
    lock = recipes.lock()
    suite = lock["debian"]["suite"]
    content = Content(cache, lock)
    programs = recipes.programs(lock)
    wanted = {cache.path(program.name, program.version, program.recipe()) for program in programs}
    pauses = {entry["pause"] for entry in lock["kubernetes"]}
    wanted |= {cache.path("pause", version, pause_recipe(version)) for version in pauses}
    bases = (rootfs.NODE, rootfs.ORIGIN, rootfs.FILTER_BASE, ee.tree())
    wanted |= {rootfs.place(cache, base, suite) for base in bases}
    wanted |= {cache.path("origin-content", "1", content.recipe()), ee.place(cache, suite)}
    return wanted


def main() -> int:
    """Parse the command line and run one command."""
    parser = argparse.ArgumentParser(prog="python3 -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build_parser = commands.add_parser("build", help="build all artefacts into the cache")
    up_parser = commands.add_parser("up", help="build, then start the origin and the hosts of an inventory")
    up_parser.add_argument("--inventory", type=Path, default=INVENTORY)
    for one in (build_parser, up_parser):
        one.add_argument("--stacks", action="store_true", help="build what the stacks on top need, too")
    commands.add_parser("status", help="show the lab's containers")
    one = commands.add_parser("remove", help="remove hosts with their disks")
    one.add_argument("hosts", nargs="+")
    commands.add_parser("clean", help="remove containers, volumes, images, the network and the key")
    commands.add_parser("prune", help="remove cached results that the lock file no longer needs")
    options = parser.parse_args()
    require_root()
    # What is built is read by the web server's user and by package managers.
    os.umask(0o022)
    # End what runs (lab.shell.run) before ending; `timeout` and CI systems stop a job with SIGTERM.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    cache = Cache()
    try:
        if options.command in ("build", "up"):
            built = build(cache)
            stacks = Stacks(cache)
            if options.stacks:
                stacks.build(nodes.ensure_image("origin", built[1]))
        if options.command == "up":
            hosts = nodes.up(options.inventory, *built, stacks.served())
            say("Up: " + ", ".join(f"{host.name} {host.address}" for host in hosts))
        elif options.command == "remove":
            nodes.remove(options.hosts)
        elif options.command == "status":
            print(run(["podman", "ps", "--all", "--filter", f"label={nodes.LABEL}"]), end="")
        elif options.command == "prune":
            stacks = Stacks(cache)
            for one_cache, wanted in (
                (cache, wanted_entries(cache)),
                (stacks.cache, stacks.wanted_entries()),
            ):
                with one_cache.lock():
                    for entry in one_cache.prune(wanted):
                        say(f"Removed {entry.name}")
        elif options.command == "clean":
            nodes.clean()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
