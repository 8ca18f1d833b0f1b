# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of packages, files and images on the loopback interface, and programs that work with them."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class FakeUpstream:
    """Files by path; images are files below /v2/. With a pass, the registry wants it and a token service sells it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.authorizations: list[tuple[str, str | None]] = []
        self.ticket = ""
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.requests.append(self.path)
                given = self.headers.get("Authorization")
                upstream.authorizations.append((self.path, given))
                if self.path.startswith("/v2/") and upstream.ticket and given != f"Bearer {upstream.ticket}":
                    self.send_response(401)
                    scope = f'realm="{upstream.url}/token",service="registry",scope="repository:x:pull"'
                    self.send_header("WWW-Authenticate", f"Bearer {scope}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = upstream.files.get(self.path)
                if self.path.startswith("/token?"):
                    content = json.dumps({"token": upstream.ticket}).encode()
                if self.path == "/v2/":
                    content = b"{}"
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                # Whoever only wanted the length may be gone.
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content or b"")

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def serve(self) -> Iterator[FakeUpstream]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        yield self
        self.server.shutdown()
        self.server.server_close()

    def image(self, name: str, tag: str, architectures: tuple[str, ...] = (), layer: bytes = b"layer") -> str:
        """Publish an image: a single one, or an index of one for each architecture. Return its digest."""
        if not architectures:
            return self._single(name, tag, "amd64", layer)
        children = [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": self._single(name, "", one, layer),
                "platform": {"os": "linux", "architecture": one},
            }
            for one in architectures
        ]
        content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}
        return self._put(name, tag, json.dumps(content).encode())

    def _single(self, name: str, tag: str, architecture: str, layer: bytes) -> str:
        config = json.dumps({"os": "linux", "architecture": architecture}).encode()
        own = layer + architecture.encode()
        for blob in (config, own):
            self.files[f"/v2/{name}/blobs/sha256:{sha256(blob)}"] = blob
        content = {
            "schemaVersion": 2,
            "config": {"digest": f"sha256:{sha256(config)}", "size": len(config)},
            "layers": [{"digest": f"sha256:{sha256(own)}", "size": len(own)}],
        }
        return self._put(name, tag, json.dumps(content).encode())

    def _put(self, name: str, tag: str, body: bytes) -> str:
        digest = f"sha256:{sha256(body)}"
        for wanted in filter(None, [tag, digest]):
            self.files[f"/v2/{name}/manifests/{wanted}"] = body
        return digest

    def take(self, other: FakeUpstream, source: str, wanted: str, name: str, tag: str) -> None:
        """Copy an image out of another registry, as skopeo does with --all."""
        body = other.files[f"/v2/{source}/manifests/{wanted}"]
        content = json.loads(body)
        for child in content.get("manifests", []):
            self.take(other, source, child["digest"], name, child["digest"])
        for blob in filter(None, [content.get("config"), *content.get("layers", [])]):
            path = f"blobs/{blob['digest']}"
            self.files[f"/v2/{name}/{path}"] = other.files[f"/v2/{source}/{path}"]
        self._put(name, tag, body)


class FakePrograms:
    """apt, dpkg, the kubeadm out of a package, gpgv and skopeo, as AnsibleModule.run_command runs them."""

    def __init__(self, upstream: FakeUpstream, local: FakeUpstream) -> None:
        self.upstream, self.local = upstream, local
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.images: dict[str, list[str]] = {}
        self.failures: dict[str, tuple[int, str, str]] = {}
        self.architecture = "amd64"

    def named(self, program: str) -> list[list[str]]:
        return [words for words in self.calls if words[0].rpartition("/")[2] == program]

    def run_command(self, argv: list[str], **options: Any) -> tuple[int, str, str]:
        words = argv[3:] if argv[0] == "timeout" else argv
        folder = words[1].partition("=")[2] if words[0] == "env" else ""
        words = words[2:] if folder else words
        self.calls.append(words)
        self.environments.append(options["environ_update"])
        program = words[0].rpartition("/")[2]
        if program in self.failures:
            return self.failures[program]
        return 0, getattr(self, f"_{program.replace('-', '_')}")(words, Path(folder), options), ""

    def _apt_get(self, words: list[str], folder: Path, _options: Any) -> str:
        """Fetch the index; that its signature is right is taken for granted."""
        match = re.fullmatch(r"deb \[signed-by=(\S+)\] (\S+)/ /\n", (folder / "sources.list").read_text())
        assert match and Path(match[1]).exists() and words[-1] == "update"
        for name in ("InRelease", "Packages"):
            body = self.upstream.files[f"{match[2].removeprefix(self.upstream.url)}/{name}"]
            (folder / "lists" / f"mirror_{name}").write_bytes(body)
        return ""

    def _dpkg(self, _words: list[str], _folder: Path, _options: Any) -> str:
        return f"{self.architecture}\n"

    def _dpkg_deb(self, words: list[str], _folder: Path, _options: Any) -> str:
        program = Path(words[3]) / "usr/bin/kubeadm"
        program.parent.mkdir(parents=True)
        program.write_bytes(Path(words[2]).read_bytes())
        return ""

    def _kubeadm(self, words: list[str], _folder: Path, options: Any) -> str:
        assert words[1:] == ["config", "images", "list", "--config=/dev/stdin"]
        version = Path(words[0]).read_text().rpartition(" ")[2]
        assert f"kubernetesVersion: v{version}\n" in options["data"]
        return "\n".join(self.images[version])

    def _gpgv(self, _words: list[str], _folder: Path, _options: Any) -> str:
        return ""

    def _skopeo(self, words: list[str], _folder: Path, _options: Any) -> str:
        source, target = (word.removeprefix("docker://127.0.0.1:").partition("/")[2] for word in words[-2:])
        name, _, wanted = source.partition("@")
        place, _, tag = target.partition("@" if "@" in target else ":")
        self.local.take(self.upstream, name, wanted, place, tag)
        return ""


def publish(
    upstream: FakeUpstream, minor: str, packages: list[str], folder: str = "/core/v{minor}/deb"
) -> None:
    """Publish the package repository of a minor: names and versions, all of amd64."""
    place = folder.replace("{minor}", minor)
    stanzas = []
    for full in packages:
        name, _, version = full.partition("=")
        body = f"{name} {version.partition('-')[0]}".encode()
        path = f"amd64/{name}_{version}_amd64.deb"
        upstream.files[f"{place}/{path}"] = body
        stanzas.append(
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: ./{path}\n"
            f"Size: {len(body)}\nSHA256: {sha256(body)}\nDescription: {name}\n it runs\n"
        )
    index = "\n".join(stanzas).encode()
    upstream.files[f"{place}/Packages"] = index
    upstream.files[f"{place}/Release.key"] = b"the key"
    upstream.files[f"{place}/InRelease"] = (
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: upstream\nMD5Sum:\n 0 0 Packages\nSHA256:\n"
        f" {sha256(index)} {len(index)} ./Packages\n {'0' * 64} 7 Sources\n-----BEGIN PGP SIGNATURE-----\n"
    ).encode()
