# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out whether a host can get what it is going to install, before anything is installed.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Callable

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import (
    Fetcher,
    file_name,
    find_digest,
    parse_checksum,
    public,
)

# Returns what downloads from the server of a URL, with the credentials for it.
FetcherOf = Callable[[str], Fetcher]

NOT_FOUND = 404


@dataclass(frozen=True)
class Source:
    """A file that is going to be fetched, and the variable that says from where."""

    variable: str
    url: str
    checksum: str = ""
    # What the file must hold, and the variable and value that ask for it.
    contains: str = ""
    value: str = ""


def server(url: str) -> str:
    """Return the server of a URL, with its port if the URL names one."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2].lower()


def problems(sources: Iterable[Source], fetcher_of: FetcherOf, *, whole: bool) -> list[str]:
    """Return one sentence for each source that the host cannot use; *whole* reads large files to their "
    "end."""
    return [problem for source in sources if (problem := _problem(source, fetcher_of, whole))]


def _problem(source: Source, fetcher_of: FetcherOf, whole: bool) -> str:
    try:
        if source.contains:
            return _missing(source, fetcher_of(source.url))
        return _different(source, fetcher_of, whole)
    except KubewrightError as error:
        place = f" ({error.where})" if error.where != public(source.url) else ""
        return (
            f"{source.variable} is {public(source.url)}, but {error.why or error.what}{place}: "
            f"{_lower(error.remedy)}."
        )


def _different(source: Source, fetcher_of: FetcherOf, whole: bool) -> str:
    """Compare a file with its checksum."""
    fetcher = fetcher_of(source.url)
    if not source.checksum:
        fetcher.reach(source.url)
        return ""
    wanted = parse_checksum(source.checksum)
    if wanted.sums_url:
        sums = fetcher_of(wanted.sums_url).text(wanted.sums_url)
        if find_digest(sums, wanted.algorithm, file_name(source.url)) is None:
            return (
                f"{source.variable} is {public(source.url)}, but no line of {public(wanted.sums_url)} names "
                f"this file: "
                "compare the version and the architecture in both URLs."
            )
    if wanted.sums_url or not whole:
        fetcher.reach(source.url)
        return ""
    actual = fetcher.download(source.url, os.devnull, wanted.algorithm)
    if actual == wanted.digest:
        return ""
    return (
        f"The checksum that goes with {source.variable} is {source.checksum}, but {public(source.url)} has "
        f"{wanted.algorithm}:{actual}: compare both with what the project publishes."
    )


def _missing(source: Source, fetcher: Fetcher) -> str:
    """Look into an index, which a mirror may offer in a packed form only."""
    try:
        held = fetcher.holds(source.url, source.contains)
    except KubewrightError as error:
        if error.facts.get("status") == NOT_FOUND:
            return ""
        raise
    if held:
        return ""
    return (
        f"{source.variable} is {source.value}, but {public(source.url)} does not name it: choose a version "
        f"that this "
        "repository holds, or fill the mirror."
    )


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
