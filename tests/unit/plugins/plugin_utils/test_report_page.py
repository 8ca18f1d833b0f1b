# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as a browser reads it: whole, loading nothing, saying what happened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._report_files import look
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_next import (
    DOCS,
    OPERATIONS,
    next_steps,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_page import render
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_record import (
    DONE,
    FAILED,
    Record,
    Task,
)
from ansible_collections.kubewright.cluster.plugins.plugin_utils._report_style import DARK, LIGHT
from ansible_collections.kubewright.cluster.tests.unit.plugins.plugin_utils import report_nights

ROOT = Path(__file__).parents[4]
VOID = {"meta", "br"}
every_night = pytest.mark.parametrize("name", report_nights.NIGHTS)


class Reader(HTMLParser):
    """Reads a page: its elements, its texts by section, its links. Elements that do not end are an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self._heading = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)
        if tag == "h2":
            self._heading = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"style", "script", "title"} & set(self.open):
            return
        if "h2" in self.open:
            self._heading += data
        self.sections[self._heading] = self.sections.get(self._heading, "") + data
        if "td" in self.open:
            self.rows[-1][-1] += data


def page(name: str) -> str:
    return render(report_nights.NIGHTS[name]().data())


def read(name: str) -> Reader:
    return Reader(page(name))


@every_night
def test_a_page_needs_nothing_besides_itself(name: str) -> None:
    text = page(name)
    reader = Reader(text)
    assert [
        tag for tag, _ in reader.elements if tag in ("link", "img", "iframe", "object", "audio", "video")
    ] == []
    (script,) = [attributes for tag, attributes in reader.elements if tag == "script"]
    assert script == {"type": "application/json", "id": "kubewright-run"}
    links = [attributes["href"] for tag, attributes in reader.elements if "href" in attributes]
    assert links and all(str(link).startswith(DOCS) for link in links)
    assert not any(
        attribute == "src" or attribute.startswith("on")
        for _, found in reader.elements
        for attribute in found
    )
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#stripes", "#crosses", "#dots"}
    assert "@import" not in text


@every_night
def test_it_fits_a_phone_and_follows_the_reader(name: str) -> None:
    text = page(name)
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    assert "@media (prefers-color-scheme:dark)" in text and "color-scheme:light dark" in text
    # Whatever may be wider than a phone scrolls by itself.
    assert text.count("<table") == text.count('<div class="wide"><table')


def test_a_run_that_ended_well() -> None:
    reader = read("done")
    head = reader.sections[""]
    assert "Upgrade of example" in head and "✓ Done" in head
    assert "23 November 2026, 02:14:05 to" in head and "by admin@controller" in head
    assert "1.36.3 → 1.37.1" in head and "5 well" in head and "silent 2 times, at most 2.2 s" in head
    assert "Set kube_cluster_version to 1.37.1 in the inventory." in reader.sections["What to do next"]
    assert "14. the cluster is looked at" in reader.sections["Planned"]
    assert "The snapshot of before is on cp1" in reader.sections["Reported"]
    assert "What went wrong" not in reader.sections
    assert ["cp1", "1.36.3 → 1.37.1", "1.36.3 → 1.37.1", "3.6.8 → 3.7.0"] in reader.rows
    assert ["worker1", "1.36.3 → 1.37.1", "-", "-"] in reader.rows


def test_a_run_that_failed_says_where_and_why_before_all_else() -> None:
    reader = read("failed")
    assert "✕ Failed" in reader.sections[""] and "1 of 5 failed" in reader.sections[""]
    wrong = reader.sections["What went wrong"]
    assert "cp3: End the run where a turn failed" in wrong and "kubeadm put the old manifest back" in wrong
    assert "What failed before that" in wrong and "Upgrade the control plane" in wrong
    assert "run the same command again: what is done is skipped" in reader.sections["What to do next"]
    assert list(reader.sections).index("What went wrong") < list(reader.sections).index("What happened when")
    (row,) = [row for row in reader.rows if row and row[0].startswith("cp3") and "failed" in row[1]]
    assert row[0] == "cp3control plane"
    # Whoever had its turn before has the new version, and it is not said of the others.
    assert ["cp2", "1.36.3", "1.36.3 → 1.37.1", "3.6.8 → 3.6.16"] in reader.rows
    assert ["cp3", "1.36.3", "1.36.3", "3.6.8 → 3.6.16"] in reader.rows


def test_a_run_that_was_cut_off_says_where() -> None:
    reader = read("cut_off")
    head = reader.sections[""]
    assert "✂ Cut off" in head and "last heard of" in head and "at “Run the new kubelet” on worker1" in head
    assert "Look at worker1" in reader.sections["What to do next"]
    assert "kube_rolling_take_over_lock=true" in reader.sections["What to do next"]
    assert "not measured" in head


def test_a_host_that_was_not_reached() -> None:
    reader = read("unreachable")
    assert (
        "Maintenance of example, checked only" in reader.sections[""]
        and "only workers" in reader.sections[""]
    )
    assert "Look at worker2" in reader.sections["What to do next"]
    assert "Failed to connect to the host via ssh" in reader.sections["What went wrong"]
    assert "worker1: 3 packages, a restart" in reader.sections["Planned"]


def test_a_page_that_is_written_while_the_run_works() -> None:
    night = report_nights.cut_off()
    night.record.state = "running"
    head = Reader(render(night.data())).sections[""]
    assert "… Running" in head and "last written" in head


def test_a_run_without_a_host_has_a_page() -> None:
    reader = Reader(render(report_nights.Night("site").data()))
    assert "Provisioning of example" in reader.sections[""]


def hostile() -> dict[str, Any]:
    """A run in which everything that comes from elsewhere looks like HTML, and like the end of the data."""
    evil = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"&"
    one = Record(
        {"operation": evil, "cluster": evil, "who": evil, "limit": evil, "ansible": evil, "collection": evil},
        0.0,
    )
    one.about["roles"] = {evil: evil}
    one.phase(evil, 0.0)
    for state in ("changed", "failed"):
        one.begins(evil, Task(evil, "gate"), 1.0)
        one.ends(evil, Task(evil, "gate"), state, 9.0, why=evil, on="elsewhere" + evil)
    one.says(evil, evil, [evil], 9.0)
    one.sees("cluster", {"nodes": [{"name": evil, "kubelet_version": evil}]})
    one.begins(evil, Task(evil), 10.0)
    api = {"where": evil, "from": evil, "every": 1.0, "asked": 2, "answered": 1, "began": 1, "ended": 9}
    earlier = [{**one.about, "began": 0.0, "name": evil}]
    return {**one.data(12.0), "api": {**api, "gaps": [[2.0, 3.0, evil]]}, "earlier": earlier}


def test_nothing_that_comes_from_elsewhere_becomes_html() -> None:
    reader = Reader(render(hostile()))
    assert len([tag for tag, _ in reader.elements if tag == "script"]) == 1
    assert not [tag for tag, attributes in reader.elements if tag == "img" or "onerror" in attributes]


@pytest.mark.parametrize("data", [report_nights.upgrade().data(), hostile()], ids=["upgrade", "hostile"])
def test_a_later_run_reads_the_data_of_a_page(tmp_path: Path, data: dict[str, Any]) -> None:
    name = "x-upgrade-20261123T021405Z.html"
    (tmp_path / name).write_text(
        render({**data, "about": {**data["about"], "cluster": "x"}, "state": "running"})
    )
    found = look(str(tmp_path), "x", "upgrade", "").untold[name]
    assert found["steps"] == data["steps"] and found["said"] == data["said"]


def test_an_unfinished_earlier_run_is_named() -> None:
    earlier = {
        "operation": "upgrade",
        "cluster": "example",
        "began": report_nights.BEGAN,
        "name": "example-upgrade-1.html",
    }
    text = Reader(render(report_nights.upgrade().data([earlier]))).sections["Longest steps"]
    assert (
        "Upgrade of example, begun on 23 November 2026 at 02:14:05, never told its end: example-upgrade-1.html"
        in text
    )


def steps_after(operation: str, **about: Any) -> list[str]:
    one = Record({"operation": operation, **about}, 0.0)
    one.ends_all(DONE, 1.0)
    return next_steps(one.data(1.0))


def test_what_comes_next_depends_on_what_was_done() -> None:
    verify = ["See whether the whole cluster works: ansible-playbook kubewright.cluster.verify"]
    assert steps_after("site") == steps_after("a_playbook_of_mine") == verify
    assert steps_after("verify") == steps_after("backup") == steps_after("mirror") == []
    assert steps_after("site", check=True) == ["Nothing was changed. Run it without --check to have it done."]


def test_an_upgrade_that_moved_nothing_asks_for_no_version() -> None:
    assert steps_after("upgrade") == []


def test_every_playbook_has_a_title_and_a_page_that_is_there() -> None:
    assert set(OPERATIONS) == {path.stem for path in ROOT.glob("playbooks/*.yml")}
    for operation in OPERATIONS.values():
        assert (ROOT / f"docs/{operation.page}.md").exists()


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def pairs() -> Iterator[tuple[str, str, float]]:
    for ground in ("ground", "panel", "shade"):
        yield from (("ink", ground, 4.5), ("soft", ground, 4.5))
        yield from ((kind, ground, 3.0) for kind in ("work", "look", "wait", "bad", "good"))
    yield from (
        ("link", "ground", 4.5),
        ("good", "ground", 4.5),
        ("bad", "ground", 4.5),
        ("bad", "shade", 4.5),
    )
    yield from ((state, f"{state}-ground", 4.5) for state in ("good", "bad", "open"))
    yield from (("ink", "bad-ground", 4.5), ("soft", "bad-ground", 4.5), ("wait", "wait-ground", 3.0))


@pytest.mark.parametrize(("one", "other", "least"), pairs())
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_told_apart(colours: dict[str, str], one: str, other: str, least: float) -> None:
    """WCAG 2: 4.5 for text, 3 for what a picture is made of."""
    assert contrast(colours[one], colours[other]) >= least


def test_a_failure_that_was_dealt_with_is_no_failure_of_the_run() -> None:
    night = report_nights.upgrade()
    one = Record(night.record.about, 0.0)
    one.phase("All", 0.0)
    one.begins("cp1", Task("Try"), 1.0)
    one.ends("cp1", Task("Try"), "failed", 2.0, why="Not yet.")
    one.ends_all(DONE, 3.0)
    wrong = Reader(render({**one.data(3.0), "api": {}, "earlier": []})).sections["What went wrong"]
    assert "What failed on the way, and was dealt with" in wrong and "Not yet." in wrong and "✕" not in wrong


def test_hosts_that_failed_alike_are_named_together() -> None:
    one = Record({"operation": "site", "collection": "", "ansible": ""}, 0.0)
    one.phase("All", 0.0)
    for host in ("b", "a", "c"):
        one.begins(host, Task("Install"), 1.0)
        one.ends(host, Task("Install"), "failed", 2.0, why="No room." if host != "c" else "No network.")
    one.ends_all(FAILED, 3.0, dict.fromkeys("abc", "failed"))
    wrong = Reader(render({**one.data(3.0), "api": {}, "earlier": []})).sections["What went wrong"]
    assert "✕ a, b: Install" in wrong and "✕ c: Install" in wrong


def test_what_a_task_says_of_several_hosts_is_together() -> None:
    one = Record({"operation": "site", "collection": "", "ansible": ""}, 0.0)
    one.phase("All", 0.0)
    for host, task in (("a", "Say"), ("b", "Say"), ("a", "Report")):
        one.says(host, task, [f"{task} of {host}"], 1.0)
    reported = Reader(render({**one.data(3.0), "api": {}, "earlier": []})).sections["Reported"]
    assert "a: Say of a\nb: Say of b" in reported and "\nReport of a" in reported
