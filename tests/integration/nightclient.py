"""What a client in the cluster does all night: it runs in a pod, with steady.py and httpline.py beside it.

It reads through the Service `kubernetes` with the token of its service account, and calls a workload. Every failure is
a line of its log, and every two seconds so are the figures; both are JSON.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from httpline import Line
from steady import Attempt, Caller

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def say(**what: object) -> None:
    """Write a line of the log."""
    print(json.dumps(what), flush=True)


def read(line: Line, path: str) -> Attempt:
    """Read an object, as who the pod is. The kubelet renews the token."""

    def attempt(_number: int, until: float, again: bool) -> None:
        token = (ACCOUNT / "token").read_text()
        line.ask("GET", path, until, headers={"Authorization": f"Bearer {token}"}, again=again)

    return attempt


def call(line: Line) -> Attempt:
    """Call the workload."""

    def attempt(_number: int, until: float, _again: bool) -> None:
        line.ask("GET", "/hostname", until)

    return attempt


def main() -> None:
    """Call for ever."""
    node, every, path = os.environ["NODE"], float(os.environ["EVERY"]), os.environ["READS"]
    tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    place = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    web = Line(os.environ["WEB_ADDRESS"], int(os.environ["WEB_PORT"]))

    def told(trouble: str) -> None:
        say(trouble=trouble)

    callers = [
        # These share the pace.
        Caller(f"kubernetes fresh on {node}", read(Line(*place, tls), path), told, every=2 * every),
        Caller(f"kubernetes kept on {node}", read(Line(*place, tls, keep=4), path), told, every=2 * every),
        # Its users try once.
        Caller(f"workload on {node}", call(web), told, every=every, tries=1),
    ]
    with ExitStack() as stack:
        for caller in callers:
            stack.enter_context(caller)
        while True:
            time.sleep(2)
            now = time.monotonic()
            say(at=time.time(), figures=[asdict(caller.tally.figures(now)) for caller in callers])


if __name__ == "__main__":
    main()
