# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a server of a running HAProxy out, and put it back, through its own socket.

Nothing is written to a file: a reload, or a restart of the host, puts every server back. "drain" lets what is
connected go on, and sends nothing new there (HAProxy's management guide, "set server").

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import csv
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline, wait_for

SOCKET = "/run/haproxy/admin.sock"

_TIMEOUT = 5.0  # seconds
_UP, _DRAIN, _MAINTENANCE = "UP", "DRAIN", "MAINT"


@dataclass(frozen=True)
class Server:
    """A server as HAProxy sees it; ``sessions`` are open now."""

    name: str
    status: str
    sessions: int = 0

    @property
    def up(self) -> bool:
        """Whether it gets new connections. "UP 1/2" is one that failed its last check."""
        return self.status.startswith(_UP)

    @property
    def taken_out(self) -> bool:
        """Whether somebody took it out, as opposed to one that does not answer."""
        return self.status.startswith((_DRAIN, _MAINTENANCE))


def parse(text: str, backend: str) -> list[Server]:
    """Read ``show stat`` of HAProxy, which is CSV with a heading that begins with "# "."""
    rows: Sequence[Mapping[str, str]] = list(csv.DictReader(text.lstrip("# ").splitlines()))
    return [
        Server(row["svname"], row["status"], int(row.get("scur") or 0))
        for row in rows
        if row.get("pxname") == backend and row.get("svname") not in ("FRONTEND", "BACKEND")
    ]


def alone(servers: Sequence[Server], name: str) -> bool:
    """Tell whether no other server would be left that gets connections."""
    return not any(one.up for one in servers if one.name != name)


class HAProxy:
    """A running HAProxy at its socket."""

    def __init__(self, path: str, backend: str) -> None:
        self._path = path
        self._backend = backend

    def servers(self) -> list[Server]:
        return parse(self._say("show stat"), self._backend)

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
