# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write YAML on a host that has no YAML parser: kubectl translates, without asking any server.

C(kubectl patch --local) with an empty patch prints every document that it reads as JSON or as YAML. It wants
C(apiVersion) and C(kind) and nothing else, so it takes KubeletConfiguration as well as a Pod. The YAML that
it prints is laid out like kubeadm's own, because both use the same library.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._errors import CommandError
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

_TIMEOUT = 30.0  # seconds


class Translator:
    """Translates between YAML texts and what they say."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def read(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return what each text says; every text is one document."""
        if not texts:
            return []
        documents = _decode_stream(self._patch("json", "\n---\n".join(texts)))
        if len(documents) != len(texts):
            raise CommandError(
                f"kubectl made {len(documents)} documents of {len(texts)}",
                cmd=self._argv("json"),
                rc=0,
                remedy="Look for a line '---' inside a manifest or a configuration of this host",
            )
        return documents

    def write(self, document: dict[str, Any]) -> str:
        """Return the YAML text of a document."""
        return self._patch("yaml", json.dumps(document))

    def _patch(self, output: str, stdin: str) -> str:
        return self._runner.run(self._argv(output), stdin=stdin, timeout=_TIMEOUT).stdout

    @staticmethod
    def _argv(output: str) -> list[str]:
        words = ["kubectl", "patch", "--local", "--type=merge", "--patch={}"]
        return [*words, f"--output={output}", "--filename=-"]


def _decode_stream(text: str) -> list[dict[str, Any]]:
    """Read JSON documents that follow one another."""
    decoder, documents, at = json.JSONDecoder(), [], 0
    text = text.strip()
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        documents.append(document)
        while at < len(text) and text[at].isspace():
            at += 1
    return documents
