# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make docs` does to the pages. That Sphinx takes them without a warning is seen by running it."""

from __future__ import annotations

import importlib.util
from types import ModuleType, SimpleNamespace

from docpages import DOCS, ROOT, specs
from docutils import nodes


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", DOCS / "site" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


conf = load("conf")
variables = load("variables")


def test_the_contents_are_the_tables_of_the_index() -> None:
    """In their order, each page once; what no table names comes last, so that no page is lost."""
    text = "# Title\n[site](site.md)\n## Run\n[b](b.md) [a](a.md) [b](b.md#x)\n## Empty\n[gone](gone.md)\n"
    text += "## Read\n[a](a.md) [c](c.md)\n"
    assert list(conf.chapters(text, {"a", "b", "c", "d"})) == [
        ("Run", ["b", "a"]),
        ("Read", ["c"]),
        ("More", ["d"]),
    ]


def test_links_out_of_the_pages_lead_to_the_repository() -> None:
    source = ["See [it](../roles/kube_host) and [a page](verify.md)."]
    app = SimpleNamespace(env=SimpleNamespace(doc2path=lambda name: f"{name}.md"))
    conf.arrange(app, "provision", source)
    assert source == [
        "See [it](https://github.com/kubewright/cluster/blob/main/roles/kube_host) and [a page](verify.md)."
    ]


def test_a_reference_page_has_no_second_list_of_contents() -> None:
    """The theme would print an error in its place."""
    source = ["A\n=\n\n.. contents::\n   :local:\n   :depth: 2\n\nText.\n"]
    app = SimpleNamespace(env=SimpleNamespace(doc2path=lambda name: f"{name}.rst"))
    conf.arrange(app, "reference/a_module", source)
    assert source == ["A\n=\n\n\nText.\n"]


def test_names_of_other_documentation_lead_there_and_ours_do_not() -> None:
    """A name of this collection that is not there stays a warning."""

    def leads(target: str) -> nodes.reference | None:
        found: nodes.reference | None = conf.lead_outside(None, None, {"reftarget": target}, nodes.Text("it"))
        return found

    found = leads("ansible_collections.ansible.builtin.copy_module")
    assert found and found["refuri"].endswith("/collections/ansible/builtin/copy_module.html")
    assert leads("ansible_collections.kubewright.cluster.no_such_module") is None
    assert leads("nobody_knows") is None


def test_the_page_of_variables_has_all_of_them() -> None:
    page = "\n".join(variables.page())
    for role, main in specs().items():
        for option in main.get("options") or {}:
            assert f":ansopt:`kubewright.cluster.{role}#role:main:{option}`" in page
    assert page.index("kube_cluster\n---") < page.index("etcd_backup\n---")


def test_defaults_are_shown_as_they_are_written() -> None:
    assert variables.shown({"required": True}) == "must be set"
    assert variables.shown({}) == ""
    assert variables.shown({"default": False}) == "``false``"
    assert variables.shown({"default": "x" * 100}) == "see there"


def test_the_tools_have_the_versions_of_the_requirements() -> None:
    """`make docs` fails on warnings, so a tool that moves by itself would break it."""
    lines = (ROOT / "tests/requirements.txt").read_text(encoding="utf-8").splitlines()
    for tool in ("antsibull-docs", "furo", "myst-parser", "sphinx"):
        assert any(line.startswith(f"{tool}==") for line in lines), tool


def test_the_page_of_alerts_is_what_the_rules_say() -> None:
    alerts = load("alerts")
    assert {path.stem for path in alerts.RULES.glob("*.yaml")} == set(alerts.TITLES)
    assert (DOCS / "alerts.md").read_text(encoding="utf-8") == alerts.page()
