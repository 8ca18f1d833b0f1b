# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every alert fires when it should, and is quiet when it should be: the cases of alerts.yaml, run by promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
RULES = sorted((ROOT / "roles/kube_monitoring/files/rules").glob("*.yaml"))
CASES: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "alerts.yaml").read_text(encoding="utf-8"))
MINUTES = {"m": 1, "h": 60}
OWNERS = {"platform", "workloads"}

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def alerts(path: Path) -> list[dict[str, Any]]:
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


ALL = [rule for path in RULES for rule in alerts(path)]


def find(key: str) -> dict[str, Any]:
    """The one alert that a case is about."""
    name, _, which = key.partition("/")
    found = [
        rule for rule in ALL if rule["alert"] == name and (not which or which in rule["labels"].values())
    ]
    assert len(found) == 1, f"{key} names {len(found)} alerts"
    return found[0]


def minutes(text: str) -> int:
    return int(text[:-1]) * MINUTES[text[-1]]


def test_every_alert_has_its_cases_and_every_case_an_alert() -> None:
    assert len({id(find(key)) for key in CASES}) == len(CASES) == len(ALL)
    lacking = [key for key, case in CASES.items() if set(case) != {"fires", "quiet"}]
    assert lacking == ["Watchdog"], "which is never quiet"


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_who_what_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "none"}
    assert rule["labels"]["owner"] in OWNERS
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    for text in rule["annotations"].values():
        assert text == " ".join(text.split()), "one line each"
    # Pages that it sends somebody to are there.
    for page in re.findall(r"docs/(\w+\.md)", rule["annotations"]["runbook"]):
        assert (ROOT / "docs" / page).exists()
    for playbook in re.findall(r"\b(\w+)\.yml", rule["annotations"]["runbook"]):
        assert (ROOT / "playbooks" / f"{playbook}.yml").exists()


def values(value: Any, count: int) -> str:
    """promtool's notation."""
    if isinstance(value, (int, float)):
        return f"{value:.0f}+0x{count}" if value == int(value) else f"{value}+0x{count}"
    if re.fullmatch(r"[0-9.e]+[+-][0-9.]+", value):
        return f"{value}x{count}"
    return value if " " in value else f"{float(value):.0f}+0x{count}"


def promtool_case(key: str, kind: str) -> dict[str, Any]:
    """What is asked: the alerts that fire, with every label that the annotations use; or none, not even pending."""
    case, rule = CASES[key][kind], find(key)
    every = case.get("every", "1m")
    count = minutes(case["at"]) // minutes(every) + 1
    matchers = {"alertname": rule["alert"], **rule["labels"]}
    text = ", ".join(f'{name}="{value}"' for name, value in matchers.items())
    if kind == "fires":
        used = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
        text += ', alertstate="firing"' + "".join(f', {label}!=""' for label in sorted(set(used)))
    expected = [{"labels": "{}", "value": case.get("count", 1)}] if kind == "fires" else []
    return {
        "name": f"{key} {kind}",
        "interval": every,
        "input_series": [
            {"series": series, "values": values(value, count)} for series, value in case["series"].items()
        ],
        "promql_expr_test": [
            {"expr": f"count(ALERTS{{{text}}})", "eval_time": case["at"], "exp_samples": expected}
        ],
    }


@needs_promtool
@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_alerts_fire_and_are_quiet(path: Path, tmp_path: Path) -> None:
    own = {rule["alert"] for rule in alerts(path)}
    keys = [key for key in CASES if key.partition("/")[0] in own]
    tests = [promtool_case(key, kind) for key in keys for kind in CASES[key]]
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump({"rule_files": [str(path)], "evaluation_interval": "1m", "tests": tests})
    )
    argv = ["promtool", "test", "rules", str(tmp_path / "tests.yaml")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_rules_are_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", *map(str, RULES)], capture_output=True, text=True)
    assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout + done.stderr
