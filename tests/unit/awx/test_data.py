# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What awx/ describes is what AWX takes, and its questions are what playbooks and roles read."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from awxjob import data, template
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOKS = sorted(path.stem for path in ROOT.glob("playbooks/*.yml"))
TEMPLATES = data("controller_templates")
WORKFLOWS = data("controller_workflows")
# What playbooks take that is no option of a role, and of which type it is there.
OF_PLAYBOOKS = {
    "backup_wait": "int",
    "monitoring_metrics_server": "bool",
    "remove_etcd_host": "str",
    "remove_node": "str",
    "replace_etcd_member": "str",
    "reset_accept_member_loss": "bool",
    "reset_cluster": "str",
    "rotate_encryption_key": "str",
    "verify_wait": "int",
}
# Without an answer these playbooks do nothing but refuse.
REQUIRED = {"remove_etcd_host", "remove_node", "replace_etcd_member", "reset_cluster"}
# How a survey asks for an option without choices. A list of texts is one text with commas.
ASKED_AS = {"str": "text", "path": "text", "list": "text", "int": "integer", "float": "float"}
YES_OR_NO = ["true", "false"]
# AWX offers a file as a playbook when a line matches this.
PLAYBOOK = re.compile(
    r"^\s*?-?\s*?(?:hosts|(ansible\.builtin\.)?include|(ansible\.builtin\.)?import_playbook):\s*?.*?$",
    re.MULTILINE,
)


def questions(one: dict[str, Any]) -> list[dict[str, Any]]:
    return list(one["survey_spec"]["spec"])


ASKED = [(one["name"], question) for one in TEMPLATES + WORKFLOWS for question in questions(one)]
every_question = pytest.mark.parametrize(
    ("owner", "question"), ASKED, ids=[f"{owner}: {question['variable']}" for owner, question in ASKED]
)


@cache
def options() -> dict[str, dict[str, Any]]:
    """Every option of a role, by its name."""
    return {
        name: option
        for path in ROOT.glob("roles/*/meta/argument_specs.yml")
        for name, option in (
            yaml.safe_load(path.read_text())["argument_specs"]["main"].get("options") or {}
        ).items()
    }


def option(variable: str) -> dict[str, Any]:
    return options().get(variable) or {"type": OF_PLAYBOOKS[variable], "required": variable in REQUIRED}


@cache
def read_by(playbook: str) -> str:
    """The text of a playbook, of the playbooks that it imports and of all roles that these lead to."""
    path = ROOT / "playbooks" / f"{playbook}.yml"
    text, roles, imported = path.read_text(), set[str](), set[str]()
    while True:
        more = set(re.findall(r"kubewright\.cluster\.(\w+)", text)) & {
            one.name for one in ROOT.glob("roles/*")
        }
        others = set(re.findall(r"import_playbook: (\w+)\.yml", text)) - imported
        if not more - roles and not others:
            return text
        for role in more - roles:
            files = [one for one in (ROOT / "roles" / role).rglob("*") if one.suffix in (".yml", ".j2")]
            text += "\n".join(one.read_text() for one in files)
        text += "\n".join((ROOT / "playbooks" / f"{other}.yml").read_text() for other in others)
        roles |= more
        imported |= others


def test_every_playbook_has_one_template() -> None:
    assert sorted(one["playbook"] for one in TEMPLATES) == [f"playbooks/{name}.yml" for name in PLAYBOOKS]


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_awx_finds_the_playbook(playbook: str) -> None:
    assert PLAYBOOK.search((ROOT / "playbooks" / f"{playbook}.yml").read_text())


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_template_can_be_a_check_of_any_inventory(playbook: str) -> None:
    found = template(playbook)
    assert found["job_type"] == "run" and found["ask_job_type_on_launch"] and found["ask_inventory_on_launch"]
    assert found["survey_enabled"] and questions(found)


@pytest.mark.parametrize("one", TEMPLATES + WORKFLOWS, ids=lambda one: one["name"])
def test_awx_takes_the_survey(one: dict[str, Any]) -> None:
    """As its API checks it: what every question has, and of which type."""
    survey = one["survey_spec"]
    assert set(survey) == {"name", "description", "spec"}
    asked = questions(one)
    assert len({question["variable"] for question in asked}) == len(asked)
    for question in asked:
        assert set(question) <= {
            *("question_name", "question_description", "variable", "type", "required"),
            *("min", "max", "choices"),
        }, question
        assert question["question_name"] and isinstance(question["required"], bool)
        if question["type"] == "multiplechoice":
            assert all(isinstance(choice, str) for choice in question["choices"])
        else:
            assert type(question["min"]) is int and type(question["max"]) is int
            assert question["min"] < question["max"]


@every_question
def test_an_answer_is_what_the_role_takes(owner: str, question: dict[str, Any]) -> None:
    """The name, the type and the choices are those of the argument spec."""
    found = option(question["variable"])
    kind = found.get("type", "str")
    if kind == "list":
        assert found["elements"] == "str"
    if kind == "bool":
        assert (question["type"], question["choices"]) == ("multiplechoice", YES_OR_NO)
    elif "choices" in found:
        assert (question["type"], question["choices"]) == ("multiplechoice", found["choices"])
    else:
        assert question["type"] == ASKED_AS[kind]


@every_question
def test_what_is_left_open_stays_with_the_inventory(owner: str, question: dict[str, Any]) -> None:
    """A default would beat it, and AWX passes an empty text on when its least length is 0."""
    assert question["required"] == (question["variable"] in REQUIRED)
    assert "default" not in question
    assert question["type"] != "text" or question["min"] >= 1


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_reads_what_is_asked_for_it(playbook: str) -> None:
    text = read_by(playbook)
    for question in questions(template(playbook)):
        assert re.search(rf"(?<!\w){question['variable']}\b", text), question["variable"]


@pytest.mark.parametrize("variable", [name for name, kind in OF_PLAYBOOKS.items() if kind == "bool"])
def test_a_text_that_says_false_is_false(variable: str) -> None:
    """An answer is a text, and any text is true. How roles read their own, tests/unit/roles/test_truths.py looks at."""
    files = [*ROOT.glob("playbooks/*.yml"), *ROOT.glob("roles/*/tasks/*.yml")]
    # What is no assignment, nor a message that says what to set it to.
    read = re.findall(rf"\b{variable}\b(?!:| to )(.*)", "\n".join(path.read_text() for path in files))
    assert read and all(rest.startswith(" | default(") and ") | bool" in rest for rest in read), read


def test_the_workflow_looks_saves_upgrades_and_looks() -> None:
    [workflow] = WORKFLOWS
    nodes = {one["identifier"]: one for one in workflow["simplified_workflow_nodes"]}
    [first] = set(nodes) - {name for one in nodes.values() for name in one.get("success_nodes", [])}
    order, name = [], first
    while name:
        order.append(nodes[name]["unified_job_template"])
        [name] = nodes[name].get("success_nodes", [None])
    by_name = {one["name"]: one["playbook"] for one in TEMPLATES}
    steps = [by_name[one].removeprefix("playbooks/").removesuffix(".yml") for one in order]
    assert steps == ["verify", "backup", "upgrade", "verify"]
    # Only an answer that the template asks for reaches it.
    taken = {question["variable"]: question for question in questions(template("upgrade"))}
    for question in questions(workflow):
        assert question["type"] == taken[question["variable"]]["type"]


def names(kind: str) -> set[str]:
    return {one["name"] for one in data(kind)}


def test_what_is_named_is_there() -> None:
    # A workflow and a job template of one name could not be told apart.
    assert not names("controller_templates") & names("controller_workflows")
    for one in TEMPLATES:
        assert one["project"] in names("controller_projects")
        assert one["inventory"] in names("controller_inventories")
        assert one["execution_environment"] in names("controller_execution_environments")
        assert set(one["credentials"]) <= names("controller_credentials")
    for one in data("controller_credentials"):
        assert one["credential_type"] in names("controller_credential_types") | {"Machine"}
    assert {one["inventory"] for one in data("controller_inventory_sources")} == names(
        "controller_inventories"
    )


@pytest.mark.parametrize("source", data("controller_inventory_sources"), ids=lambda one: one["name"])
def test_an_inventory_source_has_the_groups(source: dict[str, Any]) -> None:
    argv = ["ansible-inventory", "-i", source["source_path"], "--list", "--export"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert source["source"] == "scm" and source["source_project"] in names("controller_projects")
    assert {"control_plane", "workers"} <= set(found)
    assert "kube_cluster_name" in json.dumps(found)


@pytest.mark.parametrize("kind", data("controller_credential_types"), ids=lambda one: one["name"])
def test_a_credential_type_hands_on_what_a_role_takes(kind: dict[str, Any]) -> None:
    """With the templates of AWX: every field is used, a file is named where a role wants a path, secrets are secret."""
    fields = {one["id"]: one for one in kind["inputs"]["fields"]}
    assert set(kind["inputs"]["required"]) == set(fields) and all(one["secret"] for one in fields.values())
    injectors = kind["injectors"]
    assert set(injectors) == {"file", "extra_vars"}
    files = {name.removeprefix("template."): text for name, text in injectors["file"].items()}
    place = {"filename": {name: f"/runner/env/{name}" for name in files}}
    render = ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string
    for name in fields:
        assert [render(text).render({name: "SECRET"}) for text in files.values()] == ["SECRET"]
    for variable, text in injectors["extra_vars"].items():
        assert option(variable)["type"] in ("str", "path")
        assert render(text).render(tower=place).startswith("/runner/env/")
