# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run: one page of HTML that needs nothing besides itself, made from the data of _report_record.py.

Nothing in it runs and it loads nothing. The data is kept in it, for a later run.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._report_files import DATA_BEGINS, DATA_ENDS
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_next import (
    DOCS,
    next_steps,
    operation,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_style import STYLE
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_tables import (
    gate_table,
    host_table,
    phase_name,
    step_table,
    table,
    time_of,
    version_table,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_timeline import (
    ROWS,
    percent,
    phases,
    picture,
    silences,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_words import (
    day,
    duration,
    moment,
    prose,
    some,
)

_STATES = {"done": "✓ Done", "failed": "✕ Failed", "cut_off": "✂ Cut off", "running": "… Running"}
_UNTIL = {"running": "last written", "cut_off": "last heard of"}


def render(data: Mapping[str, Any]) -> str:
    """Return the page."""
    title = page_title(data["about"])
    sections = {
        "What to do next": _next(data),
        "What went wrong": _wrong(data),
        "Planned": _said(data, planned=True),
        "What happened when": _timeline(data),
        "Versions before and after": version_table(data),
        "Gates": gate_table(data),
        "Hosts": host_table(data),
        "Reported": _said(data, planned=False),
        "Longest steps": step_table(data),
    }
    body = "".join(
        f"<section>\n<h2>{heading}</h2>\n{part}\n</section>\n" for heading, part in sections.items() if part
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_STATES[data['state']]} · {escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{_head(data, title)}{body}{_foot(data)}</main>\n{_kept(data)}\n</body>\n</html>\n"
    )


def page_title(about: Mapping[str, Any]) -> str:
    """Return what a run is called."""
    of = f" of {about['cluster']}" if about.get("cluster") else ""
    return f"{operation(about['operation']).title}{of}{', checked only' if about.get('check') else ''}"


def _kept(data: Mapping[str, Any]) -> str:
    """The data for a later run; nothing in it ends the element that it is in."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return DATA_BEGINS + text.replace("<", "\\u003c") + DATA_ENDS


def _head(data: Mapping[str, Any], title: str) -> str:
    about, began = data["about"], data["began"]
    words = [
        f"{day(began)}, {moment(began)} {_UNTIL.get(data['state'], 'to')} {moment(_end(data))} UTC",
        f"by {about['who']}" if about.get("who") else "",
        f"only {about['limit']}" if about.get("limit") else "",
    ]
    facts = "".join(
        f"<li><span>{escape(name)}</span><b>{escape(value)}</b><span>{escape(more)}</span></li>\n"
        for name, value, more in _facts(data)
    )
    return (
        f'<header>\n<p class="kicker">kubewright.cluster</p>\n<h1>{escape(title)}</h1>\n'
        f'<p class="state {data["state"]}">{_STATES[data["state"]]}</p>\n'
        f'<p class="soft">{escape(" · ".join(filter(None, words)))}</p>\n<ul class="facts">\n{facts}</ul>\n</header>\n'
    )


def _end(data: Mapping[str, Any]) -> float:
    return float(data["ended"] or data["updated"])


def _facts(data: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    hosts = data["hosts"]
    lost = [name for name, host in hosts.items() if host["state"]]
    changed = sum(1 for host in hosts.values() if host["counts"].get("changed"))
    yield "Time", duration(_end(data) - data["began"]), _where(data)
    yield (
        "Hosts",
        f"{len(lost)} of {len(hosts)} failed" if lost else f"{len(hosts)} well",
        f"something was changed on {changed}" if changed else "nothing was changed",
    )
    judged = [gate["passed"] for gate in data["gates"] if gate["kind"] == "gate"]
    if judged:
        stopped = len(judged) - sum(judged)
        yield (
            "Gates",
            f"{sum(judged)} of {len(judged)} passed",
            f"{stopped} did not" if stopped else "none stopped it",
        )
    kubernetes = _kubernetes(data["versions"])
    if kubernetes:
        yield "Kubernetes", kubernetes, "the kubelets"
    yield _api(data)


def _where(data: Mapping[str, Any]) -> str:
    if not data["busy"]:
        return f"in {sum(1 for _phase in phases(data))} phases"
    host, _phase, task, *_rest = data["busy"][0]
    return f"at “{task}” on {host}"


def _kubernetes(versions: Mapping[str, Any]) -> str:
    before, after = (
        " and ".join(sorted({row["kubelet"] for row in versions[when].values() if "kubelet" in row}))
        for when in ("before", "after")
    )
    return after if before in ("", after) else f"{before} → {after}"


def _api(data: Mapping[str, Any]) -> tuple[str, str, str]:
    api = data.get("api") or {}
    if not api.get("asked"):
        return "API", "not measured", api.get("why") or "nobody asked it"
    gaps = [bar.ended - bar.began for bar in silences(api, data["began"])[1:]]
    times = "once" if len(gaps) == 1 else f"{len(gaps)} times"
    more = f"silent {times}, at most {duration(max(gaps))}" if gaps else "never silent"
    return "API", f"{percent(api)} answered", more


def _next(data: Mapping[str, Any]) -> str:
    steps = [escape(step) for step in next_steps(data)]
    page = operation(data["about"]["operation"]).page
    if page:
        steps.append(f'What it does, and what to do when it fails: <a href="{DOCS}/{page}.md">{page}.md</a>')
    return '<ol class="next">\n' + "".join(f"<li>{step}</li>\n" for step in steps) + "</ol>"


def _wrong(data: Mapping[str, Any]) -> str:
    """What each host that the run lost failed at last, then what failed before."""
    failed = [one for one in data["failures"] if one["state"] != "ignored"]
    last = {one["host"]: one for one in failed if data["hosts"][one["host"]]["state"]}
    alike: dict[tuple[str, str], list[str]] = {}
    for host, one in sorted(last.items()):
        alike.setdefault((one["task"], one["why"]), []).append(host)
    blocks = [_block(names, last[names[0]], data) for names in sorted(alike.values())]
    rest = [
        [time_of(data, one["at"]), escape(one["host"]), escape(one["task"]), prose(one["why"])]
        for one in failed
        if last.get(one["host"]) is not one
    ]
    if rest:
        before = table(["When", "Host", "Task", "Why"], rest)
        words = "What failed before that" if last else "What failed on the way, and was dealt with"
        blocks.append(f"<details><summary>{words}</summary>{before}</details>")
    return "\n".join(blocks)


def _block(names: Sequence[str], one: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    on = f", on {one['on']}" if one["on"] else ""
    place = f"{time_of(data, one['at'])}{on}, in “{phase_name(data, one['phase'])}”"
    return (
        f'<div class="wrong"><h3>✕ {escape(some(names))}: {escape(one["task"])}</h3>'
        f'<p class="soft">{escape(place)}</p><p>{escape(one["why"] or "It did not say why.")}</p></div>'
    )


def _said(data: Mapping[str, Any], *, planned: bool) -> str:
    """What the run told people; what one task told of several hosts is together."""
    told = [one for one in data["said"] if one["planned"] == planned and one["lines"]]
    parts = []
    for task, group in groupby(told, lambda one: str(one["task"])):
        found = list(group)
        hosts = len({one["host"] for one in found})
        lines = [f"{one['host']}: {line}" if hosts > 1 else line for one in found for line in one["lines"]]
        parts.append(
            f'<p class="soft">{time_of(data, found[0]["at"])} · {escape(task)}</p>\n'
            f"<pre>{escape(chr(10).join(lines))}</pre>\n"
        )
    return "".join(parts)


def _timeline(data: Mapping[str, Any]) -> str:
    if not data["hosts"]:
        return ""
    more = len(data["hosts"]) - ROWS
    note = f'<p class="soft">{more} more hosts are in the table below.</p>\n' if more > 0 else ""
    names = "".join(
        f'<li value="{number}">{escape(name)} <span>{duration(ended - began)}</span></li>\n'
        for number, name, began, ended in phases(data)
    )
    return f'{picture(data)}\n{note}<ol class="phases">\n{names}</ol>'


def _foot(data: Mapping[str, Any]) -> str:
    about, api = data["about"], data.get("api") or {}
    notes = [
        "Times are UTC, by the clock of the controller. Steps that went well in less than a second are not drawn.",
    ]
    if api.get("asked"):
        notes.append(
            f"The API was asked for /version at {api['where']} from {api['from']} every {duration(api['every'])}, by a "
            "new connection each time and without credentials. A status of 429 or of 500 and more counts as no answer. "
            "A silence that is shorter can be missed; how others reach the API is not known."
        )
    notes += [
        f"{page_title(one)}, begun on {day(one['began'])} at {moment(one['began'])}, never told its end: {one['name']}"
        for one in data.get("earlier") or []
    ]
    notes.append(f"kubewright.cluster {about['collection']}, ansible-core {about['ansible']}")
    return "<footer>\n" + "".join(f"<p>{escape(note)}</p>\n" for note in notes) + "</footer>\n"
