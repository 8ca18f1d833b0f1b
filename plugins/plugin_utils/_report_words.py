# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a report says things: times, durations, names in a row, and why a task failed; without secrets.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._run_log import MASK, redact

_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_NAMED = 3
# Lines of what a program said last, where Ansible's own message says only that it failed.
_LAST = 3
_SAYS_NOTHING = re.compile(r"non-zero return code|MODULE FAILURE|One or more items failed", re.IGNORECASE)


def duration(seconds: float) -> str:
    """Return a duration in the two units that matter."""
    if seconds < 10:
        return f"{seconds:.1f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min" if minutes_left else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{whole} s"


def moment(epoch: float) -> str:
    """Return a time of day, in UTC as every log of the cluster has it."""
    return f"{datetime.fromtimestamp(epoch, timezone.utc):%H:%M:%S}"


def day(epoch: float) -> str:
    """Return a date, in UTC."""
    date = datetime.fromtimestamp(epoch, timezone.utc)
    return f"{date.day} {date:%B %Y}"


def stamp(epoch: float) -> str:
    """Return a time for the name of a file; such names sort by it."""
    return f"{datetime.fromtimestamp(epoch, timezone.utc):%Y%m%dT%H%M%SZ}"


def some(names: Sequence[str]) -> str:
    """Name some and count the rest."""
    rest = len(names) - _NAMED
    return ", ".join(names) if rest <= 1 else f"{', '.join(names[:_NAMED])} and {rest} others"


def clean(text: str, secrets: Collection[str] = ()) -> str:
    """Return a text without tokens, keys, passwords in URLs, and without the *secrets* that are known."""
    # The longest first, because one may be a part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return redact(_CREDENTIALS.sub(f"//{MASK}@", text))


def why(result: Mapping[str, Any]) -> str:
    """Return why a task failed, in the words of its result, or of its items that failed."""
    items = [item for item in result.get("results") or [] if isinstance(item, Mapping) and _failed(item)]
    texts = [_one(item) for item in items] or [_one(result)]
    return "\n".join(dict.fromkeys(filter(None, texts)))


def _failed(result: Mapping[str, Any]) -> bool:
    return bool(result.get("failed") or result.get("unreachable"))


def _one(result: Mapping[str, Any]) -> str:
    said = str(result.get("msg") or "").strip()
    if said and not _SAYS_NOTHING.search(said):
        return said
    output = str(result.get("stderr") or result.get("module_stderr") or result.get("stdout") or "")
    return "\n".join(filter(None, [said, *output.strip().splitlines()[-_LAST:]]))


def lines(value: Any) -> list[str]:
    """Return what a task said as lines, whatever it was made of."""
    if isinstance(value, Mapping):
        return [f"{key}: {_plain(one)}" for key, one in value.items()]
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [line for one in value for line in lines(one)]
    return str(value).splitlines()


def _plain(value: Any) -> str:
    if isinstance(value, Mapping) or not isinstance(value, Iterable) or isinstance(value, str):
        return str(value)
    return ", ".join(map(str, value))


def prose(text: str) -> str:
    """Return a text as HTML that keeps its lines."""
    return escape(text).replace("\n", "<br>")
