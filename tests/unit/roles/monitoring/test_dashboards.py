# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboards: laid out so that no panel covers another, with queries that are PromQL."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.filter.grafana_dashboard import (
    COLUMNS,
    grafana_dashboard,
)

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "roles/kube_monitoring/files/dashboards"
DESCRIBED = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
BOARDS = {name: grafana_dashboard(one) for name, one in DESCRIBED.items()}

each = pytest.mark.parametrize("name", sorted(BOARDS))


def test_there_is_one_for_each_part() -> None:
    assert set(BOARDS) == {
        "backups",
        "cluster",
        "control_plane",
        "etcd",
        "logging",
        "nodes",
        "workloads",
    }
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


@each
def test_no_panel_covers_another(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))


def queries(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


@each
def test_queries_use_the_variables_that_there_are(name: str) -> None:
    known = {one["name"] for one in BOARDS[name]["templating"]["list"]}
    used = {found for query in queries(BOARDS[name]) for found in re.findall(r"\$(\w+)", query)}
    assert used == known


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
@each
def test_queries_are_promql(name: str, tmp_path: Path) -> None:
    """As rules, of which promtool reads every expression."""
    rules = [
        {"record": f"query:{number}", "expr": re.sub(r"\$\w+", ".*", query)}
        for number, query in enumerate(queries(BOARDS[name]))
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_begin_a_new_line_where_they_do_not_fit() -> None:
    panels = [
        {"title": "a", "width": 16, "height": 4, "queries": {"x": "up"}},
        {"title": "b", "width": 12, "queries": {"x": "up"}},
        {"title": "c", "width": 12, "kind": "stat", "good": "down", "queries": {"x": "up", "y": "up"}},
    ]
    described = {
        "title": "t",
        "uid": "u",
        "rows": [{"title": "r", "panels": panels}, {"title": "s", "panels": []}],
    }
    board = grafana_dashboard(described)
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in board["panels"]]
    assert places == [(0, 0), (0, 1), (0, 5), (12, 5), (0, 12)]
    stat = board["panels"][3]
    assert [target["refId"] for target in stat["targets"]] == ["A", "B"]
    assert stat["targets"][0]["instant"] and not board["panels"][1]["targets"][0]["instant"]
    assert stat["fieldConfig"]["defaults"]["thresholds"]["steps"][0]["color"] == "green"


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        ({"title": "a", "queries": {}, "heigth": 3}, "has no 'heigth'"),
        ({"title": "a", "queries": {}, "kind": "pie"}, "of no kind 'pie'"),
    ],
)
def test_typing_errors_are_named(panel: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        grafana_dashboard({"title": "t", "uid": "u", "rows": [{"title": "r", "panels": [panel]}]})
