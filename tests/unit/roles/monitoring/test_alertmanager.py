# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told of which alert, and which receivers are refused before anything is applied."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("rendering", HERE / "rendering.py")
assert SPEC and SPEC.loader
rendering = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(rendering)

SECRET = "s3cr3t"
KEY = "0123456789abcdef0123456789abcdef"
FULL = {
    "kube_monitoring_receivers": [
        {
            "name": "night",
            "severities": ["critical"],
            "owners": ["platform"],
            "pagerduty": {"routing_key": KEY},
        },
        {
            "name": "platform-team",
            "owners": ["platform"],
            "slack": {"url": f"https://hooks.example/{SECRET}", "channel": "#platform"},
        },
        {"name": "developers", "owners": ["workloads"], "mail": {"to": "dev@example.com"}},
        {
            "name": "ledger",
            "webhook": {"url": "https://ledger.example/in", "username": "am", "password": SECRET},
        },
    ],
    "kube_monitoring_smtp": {
        "smarthost": "mail.example:587",
        "from": "alerts@example.com",
        "username": "alerts",
        "password": SECRET,
    },
    "kube_monitoring_dead_man_url": "https://dead.example/ping",
}


def receiver(**options: Any) -> dict[str, Any]:
    return {"kube_monitoring_receivers": [{"name": "one", **options}]}


HOOK = {"url": "https://hook.example/"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nobody_told": (receiver(), "tells nobody"),
    "typing_error": (receiver(slak={"url": f"https://x/{SECRET}"}), "has slak"),
    "no_name": ({"kube_monitoring_receivers": [{"webhook": HOOK}]}, "needs a name"),
    "reserved": ({"kube_monitoring_receivers": [{"name": "nobody", "webhook": HOOK}]}, "needs a name"),
    "twice": ({"kube_monitoring_receivers": [{"name": "a", "webhook": HOOK}] * 2}, "is there twice"),
    "severity": (receiver(webhook=HOOK, severities=["fatal"]), "other severities"),
    "no_severity": (receiver(webhook=HOOK, severities=[]), "other severities"),
    "owner": (receiver(webhook=HOOK, owners=['a"b']), "no value of a label"),
    "mail_without_server": (receiver(mail={"to": "a@b"}), "set kube_monitoring_smtp"),
    "slack_without_channel": (receiver(slack={"url": f"https://x/{SECRET}"}), "wants Slack"),
    "webhook": (receiver(webhook={"url": f"hook.example/{SECRET}"}), "wants a webhook"),
    "pagerduty": (receiver(pagerduty={"routing_key": f"{SECRET} "}), "wants PagerDuty"),
    "smtp": ({"kube_monitoring_smtp": {"smarthost": "mail", "from": "a@b"}}, "needs smarthost"),
    "dead_man": ({"kube_monitoring_dead_man_url": f"dead/{SECRET}"}, "is no URL"),
    "duration": ({"kube_monitoring_repeat_interval": "12 hours"}, "no duration"),
    "size": ({"kube_monitoring_volume_size": "50GB"}, "no size"),
    "retention": ({"kube_monitoring_retention_days": 0}, "a day or more"),
    "disabled": ({"kube_monitoring_disabled_alerts": ["Watchdock"]}, "Watchdock in"),
    "rules": ({"kube_monitoring_extra_rules": [{"alert": "x"}]}, "a list of groups"),
}
TAKEN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "full": FULL,
    "left out": {"kube_monitoring_disabled_alerts": ["BackupMissing"]},
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By case: the configuration of Alertmanager, and the problems."""
    expression = (
        "{'config': lookup('ansible.builtin.template', 'alertmanager.yaml.j2'), "
        "'problems': __kube_monitoring_problems}"
    )
    cases = {**TAKEN, **{name: variables for name, (variables, _said) in REFUSED.items()}}
    # What cannot be rendered is never rendered: the problems come first.
    good: dict[str, dict[str, Any]] = rendering.render(
        tmp_path_factory.mktemp("good"), ["kube_cluster", "kube_monitoring"], expression, TAKEN
    )
    wrong: dict[str, Any] = rendering.render(
        tmp_path_factory.mktemp("wrong"),
        ["kube_cluster", "kube_monitoring"],
        "{'problems': __kube_monitoring_problems}",
        {name: cases[name] for name in REFUSED},
    )
    return {**good, **wrong}


@pytest.mark.parametrize("case", sorted(TAKEN))
def test_what_can_work_is_taken(rendered: dict[str, dict[str, Any]], case: str) -> None:
    assert rendered[case]["problems"] == []


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_cannot_work_is_refused_without_its_secrets(
    rendered: dict[str, dict[str, Any]], case: str
) -> None:
    said = rendered[case]["problems"]
    assert any(REFUSED[case][1] in one for one in said), said
    assert SECRET not in " ".join(said)


def test_each_receiver_has_its_way_out(rendered: dict[str, dict[str, Any]]) -> None:
    config = yaml.safe_load(rendered["full"]["config"])
    ways = {one["name"]: set(one) - {"name"} for one in config["receivers"]}
    assert ways == {
        "nobody": set(),
        "dead-man": {"webhook_configs"},
        "night": {"pagerduty_configs"},
        "platform-team": {"slack_configs"},
        "developers": {"email_configs"},
        "ledger": {"webhook_configs"},
    }
    assert config["global"]["smtp_auth_password"] == SECRET
    assert "{{ .CommonAnnotations.summary }}" in rendered["full"]["config"]


def test_what_inhibits_by_its_job_has_one(rendered: dict[str, dict[str, Any]]) -> None:
    """absent() of what is compared has no labels, and two that lack a label are not equal to one that has it."""
    files = (rendering.ROLES / "kube_monitoring/files/rules").glob("*.yaml")
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    config = yaml.safe_load(rendered["nothing"]["config"])
    (source,) = [one["source_matchers"][0] for one in config["inhibit_rules"] if one.get("equal") == ["job"]]
    names = [name for name in rules if re.fullmatch(source.partition("=~")[2].strip('"'), name)]
    assert len(names) == 8
    for name in names:
        assert f'job="{rules[name]["labels"]["job"]}"' in rules[name]["expr"]


needs_amtool = pytest.mark.skipif(not shutil.which("amtool"), reason="amtool is not installed")


@needs_amtool
@pytest.mark.parametrize("case", sorted(TAKEN))
def test_alertmanager_takes_the_configuration(
    rendered: dict[str, dict[str, Any]], case: str, tmp_path: Path
) -> None:
    (tmp_path / "alertmanager.yaml").write_text(rendered[case]["config"])
    argv = ["amtool", "check-config", str(tmp_path / "alertmanager.yaml")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_amtool
@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("alertname=EtcdNoLeader severity=critical owner=platform", "night,platform-team,ledger"),
        ("alertname=TargetDown severity=warning owner=platform", "platform-team,ledger"),
        ("alertname=KubePodCrashLooping severity=warning owner=workloads", "developers,ledger"),
        ("alertname=KubePersistentVolumeFillingUp severity=critical owner=workloads", "developers,ledger"),
        ("alertname=OfAnApplication", "developers,ledger"),
        ("alertname=OfAnApplication severity=info owner=platform", "nobody"),
        ("alertname=Watchdog severity=none owner=platform", "dead-man"),
        ("alertname=X severity=critical owner=somebody-else", "nobody"),
    ],
)
def test_alerts_reach_their_receivers(
    rendered: dict[str, dict[str, Any]], tmp_path: Path, labels: str, told: str
) -> None:
    (tmp_path / "alertmanager.yaml").write_text(rendered["full"]["config"])
    argv = ["amtool", "config", "routes", "test", f"--config.file={tmp_path / 'alertmanager.yaml'}"]
    done = subprocess.run([*argv, *labels.split()], capture_output=True, text=True)
    assert done.stdout.strip() == told, done.stdout + done.stderr


@needs_amtool
def test_without_receivers_nobody_is_told(rendered: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "alertmanager.yaml").write_text(rendered["nothing"]["config"])
    argv = ["amtool", "config", "routes", "test", f"--config.file={tmp_path / 'alertmanager.yaml'}"]
    for name in ("Watchdog", "EtcdNoLeader"):
        done = subprocess.run([*argv, f"alertname={name}"], capture_output=True, text=True)
        assert done.stdout.strip() == "nobody"
