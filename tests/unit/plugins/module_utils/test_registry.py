# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._fetch import Access
from ansible_collections.kubewright.cluster.plugins.module_utils._registry import (
    Reference,
    Registry,
    skopeo_name,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline
from ansible_collections.kubewright.cluster.tests.unit.plugins.module_utils.fake_upstream import FakeUpstream

DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    yield from FakeUpstream().serve()


def registry(upstream: FakeUpstream, path: str = "", **access: str) -> Registry:
    return Registry(f"{upstream.url}/v2{path}", Access(**access), Deadline(30, sleep=lambda _seconds: None))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("registry.k8s.io/pause:3.10.2", ("registry.k8s.io", "pause", "3.10.2", "")),
        ("docker.io/library/nginx:1.29", ("docker.io", "library/nginx", "1.29", "")),
        ("quay.io/a/b-c_d:v1.2_x", ("quay.io", "a/b-c_d", "v1.2_x", "")),
        (f"quay.io/a/b@{DIGEST}", ("quay.io", "a/b", "", DIGEST)),
        (f"quay.io/a/b:v1@{DIGEST}", ("quay.io", "a/b", "v1", DIGEST)),
    ],
)
def test_names_of_images(text: str, parts: tuple[str, ...]) -> None:
    one = Reference.parse(text)
    assert (one.registry, one.name, one.tag, one.digest) == parts
    assert one.place == f"{parts[0]}/{parts[1]}" and one.wanted == (parts[3] or parts[2])


@pytest.mark.parametrize(
    "text",
    [
        "nginx:1.29",
        "library/nginx:1.29",
        "example.com:5000/nginx:1.29",
        "docker.io/Nginx:1",
        "",
        "quay.io/a@sha256:12",
    ],
)
def test_what_is_no_whole_name_is_refused(text: str) -> None:
    with pytest.raises(KubewrightError, match="not the whole name"):
        Reference.parse(text)


def test_a_name_without_a_version_is_refused() -> None:
    with pytest.raises(KubewrightError, match="has no tag"):
        Reference.parse("docker.io/library/nginx")


@pytest.mark.parametrize(
    "url", ["https://mirror.example", "https://u:p@mirror.example/v2", "mirror.example/v2"]
)
def test_what_is_no_registry_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(KubewrightError, match="is not the URL of a registry") as refused:
        Registry(url, Access(), Deadline(1))
    assert "u:p@" not in str(refused.value)


def test_an_image_and_its_parts(upstream: FakeUpstream) -> None:
    digest = upstream.image("mirrored/pause", "3.10", layer=b"1234")
    seen = registry(upstream, "/mirrored")
    manifest = seen.manifest("pause", "3.10")
    assert manifest and manifest.digest == digest and not manifest.is_index
    assert seen.manifest("pause", digest) == manifest
    assert sorted(manifest.blobs.values()) == sorted(
        seen.length("pause", blob) or 0 for blob in manifest.blobs
    )
    assert seen.config("pause", manifest)["architecture"] == "amd64"


def test_an_index_names_an_image_for_each_architecture(upstream: FakeUpstream) -> None:
    digest = upstream.image("pause", "3.10", ("amd64", "arm64"))
    manifest = registry(upstream).manifest("pause", "3.10")
    assert manifest and manifest.digest == digest and manifest.is_index
    arm64 = manifest.child("arm64")
    assert arm64 and arm64 != manifest.child("amd64") and manifest.child("s390x") is None
    single = registry(upstream).manifest("pause", arm64)
    assert single and not single.is_index


def test_what_is_not_there_is_none(upstream: FakeUpstream) -> None:
    assert registry(upstream).manifest("pause", "9") is None
    assert registry(upstream).length("pause", DIGEST) is None


def test_a_manifest_with_another_digest_than_asked_for_is_refused(upstream: FakeUpstream) -> None:
    upstream.files[f"/v2/pause/manifests/{DIGEST}"] = b"{}"
    with pytest.raises(KubewrightError, match="does not have its digest"):
        registry(upstream).manifest("pause", DIGEST)


def test_what_is_no_manifest_is_told(upstream: FakeUpstream) -> None:
    upstream.files["/v2/pause/manifests/1"] = b"<html>"
    with pytest.raises(KubewrightError, match="did not answer with a manifest"):
        registry(upstream).manifest("pause", "1")


def test_a_registry_that_wants_a_token_gets_one(upstream: FakeUpstream) -> None:
    """Once for all requests of a name; what it is asked for is what the registry said."""
    upstream.image("pause", "3.10")
    upstream.ticket = "pass"
    seen = registry(upstream)
    manifest = seen.manifest("pause", "3.10")
    assert manifest and all(seen.length("pause", blob) for blob in manifest.blobs)
    asked = [path for path in upstream.requests if path.startswith("/token")]
    assert asked == ["/token?service=registry&scope=repository%3Ax%3Apull"]


def test_a_password_is_not_sent_to_a_token_service_without_tls(upstream: FakeUpstream) -> None:
    upstream.image("pause", "3.10")
    upstream.ticket = "pass"
    assert registry(upstream, url_username="u", url_password="w").manifest("pause", "3.10")
    assert dict(upstream.authorizations)["/token?service=registry&scope=repository%3Ax%3Apull"] is None


def test_whether_a_registry_answers(upstream: FakeUpstream) -> None:
    assert registry(upstream, "/mirrored").answers()
    upstream.ticket = "pass"
    assert registry(upstream).answers(), "it wants a token, so it is there"
    nobody = Registry("http://127.0.0.1:1/v2", Access(), Deadline(5, sleep=lambda _seconds: None))
    assert not nobody.answers()


def test_names_for_skopeo() -> None:
    assert skopeo_name(f"https://mirror.example:8443/v2/registry.k8s.io/pause/manifests/{DIGEST}") == (
        f"docker://mirror.example:8443/registry.k8s.io/pause@{DIGEST}"
    )
    assert skopeo_name("http://127.0.0.1:5000/v2/a/b/manifests/v1") == "docker://127.0.0.1:5000/a/b:v1"
    with pytest.raises(KubewrightError):
        skopeo_name("https://mirror.example/v2/")
