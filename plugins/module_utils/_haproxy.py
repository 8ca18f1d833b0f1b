# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a server of a running HAProxy out, and put it back, through its own socket.

Nothing is written to a file: a reload, or a restart of the host, puts every server back. "drain" lets what is
connected go on, and sends nothing new there (HAProxy's management guide, "set server").

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

SOCKET = "/run/haproxy/admin.sock"

_TIMEOUT = 5.0  # seconds
# HAProxy's management guide, "show servers state": what a server does, and who took it out.
_RUNNING = 2
_BY_HAND = 0x01 | 0x08  # forced maintenance, forced drain
_HEADING = "# "


@dataclass(frozen=True)
class Server:
    """A server as HAProxy sees it.

    `show stat` would not do: there a server that was drained and then fails its checks is one that is down.
    """

    name: str
    operation: int
    administration: int

    @property
    def up(self) -> bool:
        """Whether it gets new connections."""
        return self.operation == _RUNNING and self.administration == 0

    @property
    def taken_out(self) -> bool:
        """Whether somebody took it out, as opposed to one that does not answer."""
        return bool(self.administration & _BY_HAND)

    @property
    def status(self) -> str:
        return "out" if self.taken_out else "up" if self.up else "down"


def parse(text: str) -> list[Server]:
    """Read ``show servers state``: a line with the version, one with the names of the columns, one a server."""
    lines = [line for line in text.splitlines() if line.strip()]
    heading = next((line for line in lines if line.startswith(_HEADING)), "")
    names = heading[len(_HEADING) :].split()
    rows = [dict(zip(names, line.split())) for line in lines[lines.index(heading) + 1 :]] if heading else []
    return [Server(row["srv_name"], int(row["srv_op_state"]), int(row["srv_admin_state"])) for row in rows]


def alone(servers: Sequence[Server], name: str) -> bool:
    """Tell whether no other server would be left that gets connections."""
    return not any(one.up for one in servers if one.name != name)


class HAProxy:
    """A running HAProxy at its socket."""

    def __init__(self, path: str, backend: str) -> None:
        self._path = path
        self._backend = backend

    def servers(self) -> list[Server]:
        return parse(self._say(f"show servers state {self._backend}"))

    def server(self, name: str) -> Server:
        found = next((one for one in self.servers() if one.name == name), None)
        if found is None:
            raise KubewrightError(
                f"HAProxy has no server {name} in the backend {self._backend}",
                where=self._path,
                remedy="Compare the names with its configuration, or run the playbook site.yml",
            )
        return found

    def set(self, name: str, state: str) -> None:
        """Set a state, C(drain) or C(ready); HAProxy answers with nothing where it did."""
        said = self._say(f"set server {self._backend}/{name} state {state}").strip()
        if said:
            raise KubewrightError(
                f"HAProxy does not set {name} to {state}",
                where=self._path,
                why=said,
                remedy="Look at its log",
            )

    def wait_up(self, name: str, deadline: Deadline) -> None:
        """Wait until a server is checked and gets connections again."""
        wait_for(lambda: self.server(name).up, deadline, what=f"HAProxy to find {name} ready", interval=0.5)

    def _say(self, command: str) -> str:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_TIMEOUT)
                connection.connect(self._path)
                connection.sendall(f"{command}\n".encode())
                parts = []
                while part := connection.recv(65536):
                    parts.append(part)
        except OSError as error:
            raise KubewrightError(
                "HAProxy cannot be spoken to",
                where=self._path,
                why=str(error),
                remedy="Make sure that it runs, and that its configuration has this socket with level admin",
                transient=True,
            ) from error
        return b"".join(parts).decode("utf-8", "replace")
