# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes dashboards of Grafana from short descriptions, so that what is in the repository can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: grafana_dashboard
short_description: Makes a dashboard of Grafana from a short description
version_added: 0.2.0
description:
  - The dashboards of the role P(kubewright.cluster.kube_monitoring#role) are YAML - rows of panels, each with a
    title, a unit and its queries. This filter lays them out and makes of them what Grafana reads.
  - A panel is 8 of 24 columns wide and 7 high unless it says otherwise. One that does not fit into a line begins a
    new one.
options:
  _input:
    description:
      - C(title), C(uid), C(variables) by name with the query that lists their values, and C(rows), each with
        C(title) and C(panels).
      - A panel has C(title), C(queries) by legend, and may have C(unit), C(kind) (V(timeseries), V(stat) or
        V(table)), C(width), C(height), C(min), C(max), C(about), and C(good), V(up) or V(down), which colours a
        V(stat) by whether it is one or more.
    type: dict
    required: true
author:
  - kubewright.cluster contributors (@kubewright)
"""

EXAMPLES = r"""
- name: Show what Grafana would get
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.file', 'etcd.yaml') | from_yaml | kubewright.cluster.grafana_dashboard }}"
"""

RETURN = r"""
_value:
  description: The dashboard, to be written as JSON.
  type: dict
"""

COLUMNS, WIDTH, HEIGHT = 24, 8, 7
SCHEMA = 41
SOURCE = {"type": "prometheus", "uid": "prometheus"}
KINDS = ("timeseries", "stat", "table")
DASHBOARD_KEYS = {"title", "uid", "variables", "rows"}
PANEL_KEYS = {"title", "queries", "unit", "kind", "width", "height", "min", "max", "about", "good"}
# Green where a value is good: from this one on, or up to it.
_UP = [{"color": "red", "value": None}, {"color": "green", "value": 1}]
_DOWN = [{"color": "green", "value": None}, {"color": "red", "value": 1}]


def grafana_dashboard(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dashboard of a description."""
    _known(described, DASHBOARD_KEYS, "a dashboard")
    variables = described.get("variables") or {}
    return {
        "uid": described["uid"],
        "title": described["title"],
        "tags": ["kubewright"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_variable(name, query) for name, query in variables.items()]},
        "annotations": {"list": []},
        "panels": _panels(described["rows"]),
    }


def _known(given: Mapping[str, Any], known: set[str], what: str) -> None:
    strange = sorted(set(given) - known)
    if strange:
        raise AnsibleFilterError(f"{what} has no {strange[0]!r}; it may have {', '.join(sorted(known))}")


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lay the rows out, from left to right and from top to bottom."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        panels.append(
            {"type": "row", "title": row["title"], "collapsed": False, "gridPos": place, "panels": []}
        )
        top += 1
        left = tallest = 0
        for described in row["panels"]:
            _known(described, PANEL_KEYS, f"panel {described.get('title')!r}")
            width, height = described.get("width", WIDTH), described.get("height", HEIGHT)
            if left + width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            panels.append(_panel(described, {"x": left, "y": top, "w": width, "h": height}))
            left, tallest = left + width, max(tallest, height)
        top += tallest
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return panels


def _panel(described: Mapping[str, Any], place: dict[str, int]) -> dict[str, Any]:
    kind = described.get("kind", "timeseries")
    if kind not in KINDS:
        raise AnsibleFilterError(f"panel {described['title']!r} is of no kind {kind!r}")
    defaults: dict[str, Any] = {"unit": described.get("unit", "short")}
    defaults.update({key: described[key] for key in ("min", "max") if key in described})
    if "good" in described:
        steps = {"up": _UP, "down": _DOWN}[described["good"]]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    panel = {
        "type": kind,
        "title": described["title"],
        "description": described.get("about", ""),
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(kind),
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": SOURCE,
                "expr": " ".join(query.split()),
                "legendFormat": legend,
                "instant": kind != "timeseries",
                "range": kind == "timeseries",
                **({"format": "table"} if kind == "table" else {}),
            }
            for number, (legend, query) in enumerate(described["queries"].items())
        ],
    }
    if kind == "table":
        hidden = {
            "excludeByName": {"Time": True},
            "indexByName": {},
            "renameByName": {"Value": described["title"]},
        }
        panel["transformations"] = [{"id": "organize", "options": hidden}]
    return panel


def _options(kind: str) -> dict[str, Any]:
    if kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "auto",
        }
    return {"showHeader": True}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"grafana_dashboard": grafana_dashboard}
