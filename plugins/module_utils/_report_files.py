# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder in which runs leave their reports, on the controller or on a host.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any, NamedTuple

from ansible_collections.kubewright.cluster.plugins.module_utils._durable import make_folder
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError

# What of a report is for a later run.
DATA_BEGINS = '<script type="application/json" id="kubewright-run">'
DATA_ENDS = "</script>"

_NAME = re.compile(r"(?P<series>[A-Za-z0-9._-]+)-\d{8}T\d{6}Z\.html")
# Of the newest reports so many are read.
_READ = 20


class Found(NamedTuple):
    """What earlier runs have left: the reports of those that never told their end, by the names of their files, and
    how many seconds the tasks of this operation took the last time."""

    untold: dict[str, dict[str, Any]]
    usual: dict[str, float]


def name(cluster: str, operation: str, stamp: str) -> str:
    """Return the name of the file of a report; all of one cluster and operation are a series."""
    return f"{_slug(cluster)}-{_slug(operation)}-{stamp}.html"


def put(folder: str, report: str, page: bytes, keep: int) -> str:
    """Write a report, all of it or nothing, and delete the oldest of its series beyond *keep* (0 keeps all)."""
    named = _NAME.fullmatch(report)
    if not named:
        raise KubewrightError("A report has a name that none of ours has", where=report)
    path = os.path.join(folder, report)
    try:
        make_folder(os.path.abspath(folder))
        part = os.path.join(folder, f".{report}.part")
        with open(part, "wb", opener=_private) as file:
            file.write(page)
        os.replace(part, path)
    except OSError as error:
        raise KubewrightError(
            "The report cannot be written",
            where=str(error.filename or path),
            why=error.strerror or str(error),
            remedy="Make room there, or choose another folder with kube_report_dest",
        ) from error
    if keep:
        for old in _series(folder, named["series"])[:-keep]:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, old))
    return path


def look(folder: str, cluster: str, operation: str, besides: str) -> Found:
    """Return what the newest reports of a cluster tell; *besides* is the one that is being written."""
    found = Found({}, {})
    names = [one for one in _names(folder) if one.startswith(f"{_slug(cluster)}-") and one != besides]
    for one in sorted(names, key=_time, reverse=True)[:_READ]:
        data = _read(os.path.join(folder, one))
        about = data.get("about") or {}
        if about.get("cluster") != cluster:
            continue
        if data.get("state") == "running":
            found.untold[one] = data
        elif about.get("operation") == operation and not found.usual:
            found.usual.update(data.get("usual") or {})
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text) or "cluster"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o640)


def _names(folder: str) -> list[str]:
    try:
        return [one for one in os.listdir(folder) if _NAME.fullmatch(one)]
    except OSError:
        return []


def _time(report: str) -> str:
    return report.rpartition("-")[2]


def _series(folder: str, series: str) -> list[str]:
    """The reports of one series, the oldest first."""
    return sorted(one for one in _names(folder) if one.rpartition("-")[0] == series)


def _read(path: str) -> dict[str, Any]:
    """The data of a report, empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.loads(file.read().rpartition(DATA_BEGINS)[2].partition(DATA_ENDS)[0])
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
