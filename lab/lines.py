"""Numbered lines in the logs of pods, and what of them a logging in the lab finds again: for tests and measurements."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import nodes, recipes
from lab.shell import LabError, run

REMOTE = Path(__file__).with_name("lines_remote.py")
KUBECTL = ("kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf")
# It has a shell, and its layers are on every node.
IMAGE = f"docker.io/library/busybox:{recipes.stacks_lock()['busybox']['version']}"

# A writer says its lines in batches with a pause after each, so that a test knows about how long it writes.
WRITE = """\
number=0
while [ $number -lt {lines} ]; do
    last=$((number + {batch}))
    while [ $number -lt $last ] && [ $number -lt {lines} ]; do
        number=$((number + 1))
        echo "{token} {writer} $number {padding}"
    done
    sleep {pause}
done
"""


@dataclass(frozen=True)
class Lines:
    """What every writer says: so many lines, each of about so many bytes, *batch* of them between two pauses."""

    token: str
    lines: int
    width: int = 100
    batch: int = 1000
    pause: float = 0.0

    def script(self, writer: str) -> str:
        """Return the shell script of a writer."""
        return WRITE.format(
            lines=self.lines,
            batch=self.batch,
            pause=self.pause,
            token=self.token,
            writer=writer,
            padding="." * self.width,
        )

    def pods(self, namespace: str, writers: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the pods that write, each on the node that is named for it, and their namespace."""
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        return [space, *(self._pod(namespace, writer, node) for writer, node in writers.items())]

    def _pod(self, namespace: str, writer: str, node: str) -> dict[str, Any]:
        container = {"name": "lines", "image": IMAGE, "command": ["sh", "-c", self.script(writer)]}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": writer, "namespace": namespace, "labels": {"lines": self.token}},
            "spec": {
                "nodeName": node,
                "tolerations": [{"operator": "Exists"}],
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": False,
                "containers": [container],
            },
        }


@dataclass(frozen=True)
class Tally:
    """What was found of the lines of one writer; *named* are the first numbers that are missing."""

    distinct: int = 0
    twice: int = 0
    missing: int = 0
    named: tuple[int, ...] = ()


@dataclass(frozen=True)
class Logging:
    """A logging in the lab, asked from a control plane."""

    host: str
    namespace: str = "logging"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what Elasticsearch answers; what it refuses is an error."""
        answer = self._order({"method": method, "path": path, "body": body})
        if answer["status"] >= 300:
            raise LabError(f"{method} {path}: {answer['status']} {json.dumps(answer['body'])[:500]}")
        return answer["body"]

    def count(self, token: str) -> int:
        """Return how many lines of a token can be found."""
        query = {"query": {"match": {"message": token}}}
        return int(self.ask("POST", "/logstash-*/_count?ignore_unavailable=true", query)["count"])

    def tally(self, token: str, lines: int) -> dict[str, Tally]:
        """Return what was found, by writer."""
        found = self._order({"token": token, "lines": lines}, timeout=300)
        return {writer: Tally(**{**one, "named": tuple(one["named"])}) for writer, one in found.items()}

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl on the control plane."""
        interactive = ["--interactive"] if stdin is not None else []
        return run(
            ["podman", "exec", *interactive, f"{nodes.PREFIX}{self.host}", *KUBECTL, *words], stdin=stdin
        )

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Apply objects."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--filename", "-", stdin=text)

    def _order(self, order: dict[str, Any], timeout: float = 60) -> Any:
        words = ("secret/elasticsearch-operator", "secret/elasticsearch-tls", "service/elasticsearch")
        listed = json.loads(self.kubectl("-n", self.namespace, "get", *words, "-o", "json"))["items"]
        operator, tls, service = listed
        whole = {
            **order,
            "address": service["spec"]["clusterIP"],
            "authority": _text(tls, "ca.crt"),
            "user": _text(operator, "username"),
            "password": _text(operator, "password"),
        }
        argv = ["podman", "exec", "--interactive", f"{nodes.PREFIX}{self.host}", "python3", "-c"]
        return json.loads(run([*argv, REMOTE.read_text()], stdin=json.dumps(whole), timeout=timeout))


def _text(secret: dict[str, Any], key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()
