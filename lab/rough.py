"""Rough ground: what an inventory can ask of a host so that it is less pleasant than a fresh Debian.

Each is a variable of the host, `lab_NAME`; lab/README.md has the table. They are asked for when the container is made
and settled each time the lab comes up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lab.shell import LabError


@dataclass(frozen=True)
class Rough:
    """The unpleasant sides of one host."""

    # Of root's and the SSH user's sessions, for example "027".
    umask: str = ""
    # Programs cannot be started from /tmp.
    tmp_noexec: bool = False
    # A second interface, which holds the default route.
    second_network: bool = False
    # What the host calls itself, where that is not its name in the inventory.
    hostname: str = ""
    # A routable IPv6 address beside the IPv4 one.
    ipv6: bool = False
    # This machine reaches it in no way; its neighbours in the lab's network do.
    behind_bastion: bool = False
    # No name server, no name of the origin: only the proxy leads out. Its sessions have the proxy's variables.
    behind_proxy: bool = False


def read(host: str, variables: Mapping[str, Any]) -> Rough:
    """Read the lab_NAME variables of a host."""
    asked: dict[str, Any] = {}
    for field in fields(Rough):
        value = variables.get(f"lab_{field.name}", field.default)
        if type(value) is not type(field.default):
            kind = "text in quotes" if isinstance(field.default, str) else "true or false"
            raise LabError(f"host {host}: lab_{field.name} is {value!r}, but it must be {kind}")
        asked[field.name] = value
    if not re.fullmatch(r"|0?[0-7]{3}", asked["umask"]):
        raise LabError(f"host {host}: lab_umask is {asked['umask']!r}, but it must be octal, such as '027'")
    return Rough(**asked)


def script(rough: Rough, *, gateway: str, ipv6: str, proxy: str) -> str:
    """Return the shell commands that make a booted host rough; running them twice is running them once."""
    lines: list[str] = []
    if rough.umask:
        # USERGROUPS_ENAB of login.defs would open the group's bits again.
        line = f"session optional pam_umask.so nousergroups umask={rough.umask}"
        for file in ("common-session", "common-session-noninteractive"):
            path = f"/etc/pam.d/{file}"
            lines.append(f"grep -qxF '{line}' {path} || echo '{line}' >> {path}")
    if rough.second_network:
        lines.append("ip -4 route del default dev eth0 2>/dev/null || true")
    if rough.ipv6:
        lines.append(f"ip -6 address replace {ipv6} dev eth0 nodad")
    if rough.behind_bastion:
        # Answers to this machine go nowhere; it is the gateway too, but what is sent through it is not sent to it.
        lines.append(f"ip -4 route replace blackhole {gateway}/32")
    if rough.behind_proxy:
        # Without no_proxy, as hosts are often found, and kept by sudo.
        names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
        lines.append(f"printf '%s\\n' {' '.join(f'{name}={proxy}' for name in names)} > /etc/environment")
        lines.append(f"echo 'Defaults env_keep += \"{' '.join(names)}\"' > /etc/sudoers.d/proxy")
    return "\n".join(["set -eu", *lines, ""]) if lines else ""
