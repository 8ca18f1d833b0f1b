"""Settings of Sphinx for `make docs`. The pages themselves are plain Markdown, as a source browser shows it.

Three things make a site of them: links to files outside of docs/ go to the repository, the tables of index.md are the
table of contents, and names of Ansible's own documentation lead there. The reference pages of antsibull-docs lose their
lists of contents, because the theme has one of its own beside each page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes

ROOT = Path(__file__).resolve().parents[2]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
REPOSITORY = GALAXY["repository"]
ANSIBLE = "https://docs.ansible.com/projects/ansible/latest"

project = f"{GALAXY['namespace']}.{GALAXY['name']}"
version = release = GALAXY["version"]
author = "kubewright.cluster contributors"
project_copyright = f"2026, {author}"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
# References that lead nowhere are warnings, and `make docs` has none.
nitpicky = True
# The anchors that GitHub makes of headings, so that one link serves there and here.
myst_heading_anchors = 4
myst_heading_slug_func = "github"
# A quotation mark in a command must stay what it is.
smartquotes = False
highlight_language = "text"

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sphinx = False
# Like the theme, dark where the reader's system is.
antsibull_ext_color_scheme = "default-autodark"

_OUTSIDE = re.compile(r"\]\(\.\./")
_PAGE = re.compile(r"\]\((\w+)\.md\)")
_CONTENTS = re.compile(r"^\.\. contents::\n(?: +:.*\n)*", re.MULTILINE)
_FOREIGN = re.compile(r"ansible_collections\.(\w+)\.(\w+)\.(\w+)")
# What antsibull-docs writes into every page of a module.
_LABELS = {
    "action_plugins": "plugins/action.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}


def chapters(index: str, pages: set[str]) -> Iterator[tuple[str, list[str]]]:
    """The headings of the index with the pages under each; those that no table names come last, by their names."""
    for part in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        named = [page for page in dict.fromkeys(_PAGE.findall(text)) if page in pages]
        pages = pages.difference(named)
        if named:
            yield heading, named
    if pages:
        yield "More", sorted(pages)


def arrange(app: Any, docname: str, source: list[str]) -> None:
    """Give a page what only a site has, and take what this one has already."""
    if Path(app.env.doc2path(docname)).suffix != ".md":
        source[0] = _CONTENTS.sub("", source[0])
        return
    source[0] = _OUTSIDE.sub(f"]({REPOSITORY}/blob/main/", source[0])
    if docname == "index":
        pages = {path.stem for path in Path(app.srcdir).glob("*.md")} - {"index"}
        trees = [*chapters(source[0], pages), ("Reference", ["variables", "reference/index"])]
        for heading, names in trees:
            lines = "\n".join(names)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{lines}\n```\n"


def lead_outside(_app: Any, _env: Any, node: Any, content: Any) -> nodes.reference | None:
    """Where a label of Ansible's documentation is. Sphinx would fetch a list of them all for that."""
    target = node.get("reftarget", "")
    if target in _LABELS:
        page = _LABELS[target]
    elif (match := _FOREIGN.fullmatch(target)) and match[1] != GALAXY["namespace"]:
        page = f"collections/{match[1]}/{match[2]}/{match[3]}.html"
    else:
        return None
    return nodes.reference("", "", content, internal=False, refuri=f"{ANSIBLE}/{page}")


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", arrange)
    app.connect("missing-reference", lead_outside)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
