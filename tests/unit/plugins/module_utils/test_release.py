# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""_release, _fetch and _unpack against real archives from a server on the loopback interface."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import http.server
import io
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _fetch, _release, _unpack
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    DeadlineExpired,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline


class Mirror:
    """Files by path, and the paths that were asked for; a path may answer with statuses first."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.statuses: dict[str, list[int]] = {}
        self.redirections: dict[str, str] = {}
        self.truncated: set[str] = set()
        self.requests: list[str] = []
        self.authorization: str | None = None
        self.authorizations: list[str | None] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                mirror.authorization = self.headers.get("Authorization")
                mirror.authorizations.append(mirror.authorization)
                if self.path in mirror.redirections:
                    self.send_response(302)
                    self.send_header("Location", mirror.redirections[self.path])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                content = mirror.files.get(self.path)
                waiting = mirror.statuses.get(self.path)
                status = waiting.pop(0) if waiting else 404 if content is None else 200
                content = (content or b"") if status == 200 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if self.path in mirror.truncated else content)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    yield from serving()


@pytest.fixture
def other_mirror() -> Iterator[Mirror]:
    yield from serving()


def serving() -> Iterator[Mirror]:
    mirror = Mirror()
    thread = threading.Thread(target=mirror.server.serve_forever, args=(0.01,))
    thread.start()
    yield mirror
    mirror.server.shutdown()
    mirror.server.server_close()
    thread.join()


def member(name: str, content: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o755
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def tarball(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)  # The time would make two equal archives differ.


def release(version: str) -> bytes:
    return tarball(
        member("bin", type=tarfile.DIRTYPE),
        member("bin/demo", f"demo {version}".encode()),
        member("bin/democtl", f"democtl {version}".encode()),
        member("README", b"text", mode=0o600),
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def artefact(
    mirror: Mirror, tmp_path: Path, content: bytes | None = None, **changes: Any
) -> _release.Artefact:
    version = changes.get("version", "1.0")
    content = release(version) if content is None else content
    path = changes.pop("path", f"/demo-{version}.tar.gz")
    mirror.files.setdefault(path, content)
    wanted = {
        "url": f"{mirror.url}{path}",
        "checksum": f"sha256:{sha256(content)}",
        "name": "demo",
        "version": version,
        "root": str(tmp_path / "opt"),
        "links": {str(tmp_path / "usr/bin/demo"): "bin/demo"},
        **changes,
    }
    return _release.Artefact(**wanted)


def fetcher(**access: Any) -> _fetch.Fetcher:
    return _fetch.Fetcher(_fetch.Access(**access), Deadline(30, sleep=lambda seconds: None))


def run(wanted: _release.Artefact, **access: Any) -> bool:
    """One run of the module; returns whether it changes anything. No work folder may be left."""
    planned = _release.plan(wanted, _release.observe(wanted))
    try:
        if planned.changed:
            after = _release.apply(wanted, planned, fetcher(**access))
            assert not _release.plan(wanted, after).changed
    finally:
        assert list(Path(wanted.home).glob(".work-*")) == []
    return planned.changed


def test_install_upgrade_and_go_back(mirror: Mirror, tmp_path: Path) -> None:
    link = tmp_path / "usr/bin/demo"
    assert run(artefact(mirror, tmp_path))
    assert link.read_text() == "demo 1.0"
    assert run(artefact(mirror, tmp_path, version="2.0"))
    assert link.read_text() == "demo 2.0"
    assert os.readlink(link) == str(tmp_path / "opt/demo/2.0/bin/demo")
    mirror.requests.clear()
    assert run(artefact(mirror, tmp_path))
    assert link.read_text() == "demo 1.0"
    assert mirror.requests == []


def test_the_second_run_changes_nothing_and_needs_no_server(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/sums"] = f"{sha256(release('1.0'))}  demo-1.0.tar.gz\n".encode()
    wanted = artefact(mirror, tmp_path, release("1.0"), checksum=f"sha256:{mirror.url}/sums")
    assert run(wanted)
    assert mirror.requests == ["/sums", "/demo-1.0.tar.gz"]
    assert not run(wanted)
    assert mirror.requests == ["/sums", "/demo-1.0.tar.gz"]


def test_modes_owner_and_umask(mirror: Mirror, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        run(artefact(mirror, tmp_path))
    finally:
        os.umask(before)
    folder = tmp_path / "opt/demo/1.0"

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert [mode(folder), mode(folder / "bin"), mode(folder / "bin/demo")] == [0o755] * 3
    assert [mode(tmp_path / "opt"), mode(tmp_path / "usr/bin")] == [0o755] * 2
    assert mode(folder / "README") == 0o644


def test_a_digest_from_another_mirror_is_the_same_file(mirror: Mirror, tmp_path: Path) -> None:
    run(artefact(mirror, tmp_path))
    assert not run(artefact(mirror, tmp_path, url="https://elsewhere.example/demo-1.0.tar.gz"))


@pytest.mark.parametrize("change", [{"include": ("bin/demo",)}, {"strip": 1, "links": {}}])
def test_another_selection_of_the_same_archive_is_unpacked_again(
    mirror: Mirror, tmp_path: Path, change: dict[str, Any]
) -> None:
    run(artefact(mirror, tmp_path))
    assert run(artefact(mirror, tmp_path, **change))
    assert not run(artefact(mirror, tmp_path, **change))


def test_a_republished_version_replaces_the_folder(mirror: Mirror, tmp_path: Path) -> None:
    run(artefact(mirror, tmp_path))
    again = tarball(member("bin/demo", b"rebuilt"))
    mirror.files["/demo-1.0.tar.gz"] = again
    assert run(artefact(mirror, tmp_path, again))
    assert (tmp_path / "usr/bin/demo").read_text() == "rebuilt"
    assert not (tmp_path / "opt/demo/1.0/README").exists()


def test_a_single_binary(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(
        mirror,
        tmp_path,
        b"ELF",
        path="/runc.amd64",
        binary_name="runc",
        mode=0o750,
        links={str(tmp_path / "sbin/runc"): "runc"},
    )
    assert run(wanted)
    binary = tmp_path / "opt/demo/1.0/runc"
    assert binary.read_bytes() == b"ELF"
    assert stat.S_IMODE(binary.stat().st_mode) == 0o750
    assert (tmp_path / "sbin/runc").resolve() == binary


def test_a_pattern_links_every_match(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path, links={f"{tmp_path}/cni/bin/": "bin/*"})
    # Before the installation only the pattern is known.
    assert _release.observe(wanted).links == {f"{tmp_path}/cni/bin/": str(tmp_path / "opt/demo/1.0/bin/*")}
    assert run(wanted)
    assert sorted(path.name for path in (tmp_path / "cni/bin").iterdir()) == ["demo", "democtl"]
    (tmp_path / "cni/bin/democtl").unlink()
    assert run(wanted)
    assert (tmp_path / "cni/bin/democtl").read_text() == "democtl 1.0"


def test_strip_and_include(mirror: Mirror, tmp_path: Path) -> None:
    content = tarball(
        member("demo-v1/", type=tarfile.DIRTYPE),
        member("demo-v1/demo", b"x"),
        member("demo-v1/doc/a/b", b"x"),
        member("other", b"x"),
    )
    run(artefact(mirror, tmp_path, content, strip=1, include=("demo", "doc/*"), links={}))
    folder = tmp_path / "opt/demo/1.0"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [".complete", "demo", "doc/a/b"]


def test_links_inside_an_archive(mirror: Mirror, tmp_path: Path) -> None:
    content = tarball(
        member("bin/demo", b"x"),
        member("bin/alias", type=tarfile.SYMTYPE, linkname="demo"),
        member("lib/up", type=tarfile.SYMTYPE, linkname="../bin/demo"),
        member("bin/hard", type=tarfile.LNKTYPE, linkname="bin/demo"),
    )
    run(artefact(mirror, tmp_path, content))
    folder = tmp_path / "opt/demo/1.0"
    assert [(folder / name).read_bytes() for name in ("bin/alias", "lib/up", "bin/hard")] == [b"x"] * 3


@pytest.mark.parametrize(
    "members",
    [
        [member("/etc/evil", b"x")],
        [member("../evil", b"x")],
        [member("bin/../../evil", b"x")],
        [member("evil", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        [member("evil", type=tarfile.SYMTYPE, linkname="../../evil")],
        # Each link alone stays inside; together they do not.
        [
            member("sub", type=tarfile.SYMTYPE, linkname="."),
            member("evil", type=tarfile.SYMTYPE, linkname="sub/sub/.."),
        ],
        # Written through a link.
        [member("d", type=tarfile.SYMTYPE, linkname=".."), member("d/evil", b"x")],
        [member("evil", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
        [member("evil", type=tarfile.LNKTYPE, linkname="../../../outside")],
        [member("evil", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [member("evil", type=tarfile.FIFOTYPE)],
    ],
)
def test_an_archive_that_reaches_out_is_refused_and_leaves_nothing(
    mirror: Mirror, tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    (tmp_path / "outside").write_text("secret")
    content = tarball(member("bin/demo", b"x"), *members)
    wanted = artefact(mirror, tmp_path, content, links={})
    with pytest.raises(KubewrightError, match="archive"):
        run(wanted)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["demo", "opt", "outside"]


@pytest.mark.parametrize(
    "content",
    [b"no archive", release("1.0")[:-40], b"\x1f\x8b\x08" + b"\x00" * 40],
    ids=["text", "cut", "zeros"],
)
def test_a_broken_archive_is_refused(mirror: Mirror, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KubewrightError, match="archive cannot be read"):
        run(artefact(mirror, tmp_path, content))
    assert not (tmp_path / "opt/demo/1.0").exists()


def test_a_wrong_checksum_names_both_and_keeps_the_old_version(mirror: Mirror, tmp_path: Path) -> None:
    run(artefact(mirror, tmp_path))
    wrong = "ab" * 32
    right = sha256(release("2.0"))
    with pytest.raises(KubewrightError, match=rf"{right}.*{wrong}") as caught:
        run(artefact(mirror, tmp_path, version="2.0", checksum=f"sha256:{wrong}"))
    assert caught.value.facts == {"expected": wrong, "actual": right}
    assert (tmp_path / "usr/bin/demo").read_text() == "demo 1.0"
    assert not (tmp_path / "opt/demo/2.0").exists()


def test_sums_files() -> None:
    one, two = "a" * 64, "B" * 64
    listing = f"{one}  demo.tar.gz\n{two} *dist/other.tar.gz\nnoise\n{one[:-1]}  short.tar.gz\n"
    assert _fetch.find_digest(listing, "sha256", "demo.tar.gz") == one
    assert _fetch.find_digest(listing, "sha256", "other.tar.gz") == two.lower()
    assert _fetch.find_digest(listing, "sha256", "short.tar.gz") is None
    assert _fetch.find_digest(listing, "sha512", "demo.tar.gz") is None
    assert _fetch.find_digest(f"{one}\n", "sha256", "whatever") == one
    assert _fetch.find_digest(f"{one}\n{two}\n", "sha256", "whatever") is None
    assert _fetch.find_digest(f"{one}  other\n", "sha256", "demo") is None


def test_a_file_of_checksums_without_the_file(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/sums"] = f"{'a' * 64}  other.tar.gz\n".encode()
    with pytest.raises(KubewrightError, match=r"no sha256 digest of demo-1\.0\.tar\.gz \(.*/sums\)"):
        run(artefact(mirror, tmp_path, checksum=f"sha256:{mirror.url}/sums"))
    assert mirror.requests == ["/sums"]


def test_a_page_instead_of_a_file_of_checksums(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/sums"] = b"x" * (_fetch.SUMS_LIMIT + 1)
    with pytest.raises(KubewrightError, match="no file of checksums"):
        run(artefact(mirror, tmp_path, checksum=f"sha256:{mirror.url}/sums"))


def test_sha512(mirror: Mirror, tmp_path: Path) -> None:
    digest = hashlib.sha512(release("1.0")).hexdigest().upper()
    assert run(artefact(mirror, tmp_path, checksum=f"sha512:{digest}"))


@pytest.mark.parametrize(
    "checksum", ["", "abc", "md5:" + "a" * 32, "sha256:" + "a" * 63, "sha512:" + "a" * 64]
)
def test_checksums_that_cannot_be_used(mirror: Mirror, tmp_path: Path, checksum: str) -> None:
    with pytest.raises(KubewrightError, match="cannot be used"):
        artefact(mirror, tmp_path, checksum=checksum)


def test_an_http_error_is_named_and_not_repeated(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    mirror.files.clear()
    with pytest.raises(KubewrightError, match=r"demo-1\.0\.tar\.gz.*404") as caught:
        run(wanted)
    assert caught.value.facts["status"] == 404
    assert len(mirror.requests) == 1


def test_a_server_that_restarts_is_asked_again(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    mirror.statuses["/demo-1.0.tar.gz"] = [503, 429]
    assert run(wanted)
    assert len(mirror.requests) == 3


def test_a_server_that_stays_broken_is_given_up(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    mirror.statuses["/demo-1.0.tar.gz"] = [503] * 9
    with pytest.raises(KubewrightError, match="503"):
        run(wanted)
    assert len(mirror.requests) == _fetch.ATTEMPTS


def test_a_connection_that_breaks_off_is_no_checksum_error(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    mirror.truncated.add("/demo-1.0.tar.gz")
    with pytest.raises(KubewrightError, match=r"ended after \d+ of \d+ bytes"):
        run(wanted)


def test_a_closed_port(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(KubewrightError, match=r"cannot be downloaded .*refused"):
        run(artefact(mirror, tmp_path, url="http://127.0.0.1:1/demo-1.0.tar.gz"))


def test_the_deadline_ends_a_download(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    slow = _fetch.Fetcher(_fetch.Access(), Deadline(0))
    with pytest.raises(DeadlineExpired, match="did not end in 0 seconds"):
        _release.apply(wanted, _release.plan(wanted, _release.observe(wanted)), slow)
    assert list((tmp_path / "opt/demo").iterdir()) == []


def test_a_local_file(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "demo-1.0.tar.gz").write_bytes(release("1.0"))
    assert run(artefact(mirror, tmp_path, release("1.0"), url=f"file://{tmp_path}/demo-1.0.tar.gz"))


def test_credentials_are_sent_and_kept_nowhere(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    secret = artefact(mirror, tmp_path, url=f"{mirror.url}/demo-1.0.tar.gz?token=s3cret")
    mirror.files["/demo-1.0.tar.gz?token=s3cret"] = release("1.0")
    assert secret.is_archive
    assert run(secret, url_username="user", url_password="pass")
    assert mirror.authorization == f"Basic {base64.b64encode(b'user:pass').decode()}"
    assert "s3cret" not in (tmp_path / "opt/demo/1.0/.complete").read_text()
    assert not run(wanted)
    assert _fetch.public("https://user:pass@mirror.example/a?b=c") == "https://mirror.example/a"
    assert _fetch.public("sha256:https://u:p@mirror.example/a") == "sha256:https://mirror.example/a"
    assert _fetch.public("sha256:abc") == "sha256:abc"


def test_credentials_do_not_follow_to_another_server(
    mirror: Mirror, other_mirror: Mirror, tmp_path: Path
) -> None:
    other_mirror.files["/sums"] = f"{sha256(release('1.0'))}  demo-1.0.tar.gz\n".encode()
    other_mirror.files["/storage"] = release("1.0")
    mirror.redirections["/demo-1.0.tar.gz"] = f"{other_mirror.url}/storage"
    wanted = artefact(mirror, tmp_path, checksum=f"sha256:{other_mirror.url}/sums")
    assert run(wanted, url_username="user", url_password="pass")
    basic = f"Basic {base64.b64encode(b'user:pass').decode()}"
    assert mirror.authorizations == [basic]
    assert other_mirror.requests == ["/sums", "/storage"]
    assert other_mirror.authorizations == [None, None]


def test_the_checksum_of_the_same_server_needs_the_same_credentials(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/sums"] = f"{sha256(release('1.0'))}  demo-1.0.tar.gz\n".encode()
    wanted = artefact(mirror, tmp_path, checksum=f"sha256:{mirror.url}/sums")
    assert run(wanted, url_username="user", url_password="pass")
    assert len(mirror.authorizations) == 2
    assert None not in mirror.authorizations


def test_what_killed_runs_left_is_removed(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    leftover = Path(wanted.home) / ".work-abc"
    leftover.mkdir(parents=True)
    (leftover / "download").write_text("half")
    assert run(wanted)
    leftover.mkdir()
    assert run(wanted)
    assert not run(wanted)


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it and clean up after it."""


@pytest.mark.parametrize("call", range(1, 12))
def test_a_run_killed_anywhere_is_finished_by_the_next(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Ends an upgrade before the n-th change of the file system that others can see."""
    run(artefact(mirror, tmp_path))
    wanted = artefact(mirror, tmp_path, version="2.0")
    calls = iter(range(1, 1000))

    def deadly(original: Any) -> Any:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if next(calls) == call:
                raise Killed
            return original(*arguments, **options)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "symlink", "fsync"):
            patch.setattr(os, name, deadly(getattr(os, name)))
        patch.setattr(_release.shutil, "rmtree", lambda path: None)
        with pytest.raises(Killed):
            _release.apply(wanted, _release.plan(wanted, _release.observe(wanted)), fetcher())
    assert (tmp_path / "usr/bin/demo").read_text() in ("demo 1.0", "demo 2.0")
    assert run(wanted)
    assert (tmp_path / "usr/bin/demo").read_text() == "demo 2.0"
    assert not run(wanted)


def test_a_folder_without_the_marker_is_made_again(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    run(wanted)
    (tmp_path / "opt/demo/1.0/.complete").unlink()
    assert run(wanted)


def test_a_folder_that_lost_a_linked_file_is_made_again(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    run(wanted)
    (tmp_path / "opt/demo/1.0/bin/demo").unlink()
    assert run(wanted)
    assert (tmp_path / "usr/bin/demo").read_text() == "demo 1.0"


def test_a_full_disk_leaves_nothing(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = artefact(mirror, tmp_path)

    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        monkeypatch.context() as patch,
        pytest.raises(KubewrightError, match=r"No space left.*Free some space"),
    ):
        patch.setattr(_unpack.shutil, "copyfileobj", full)
        run(wanted)
    assert list((tmp_path / "opt/demo").iterdir()) == []
    assert run(wanted)


def test_two_runs_at_once(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    with _release._work_folder(wanted.home, Deadline(0)) as work:
        short = _fetch.Fetcher(_fetch.Access(), Deadline(0))
        with pytest.raises(KubewrightError, match=r"waiting for another run that installs .*/demo"):
            _release.apply(wanted, _release.plan(wanted, _release.observe(wanted)), short)
        assert os.path.isdir(work)


def test_what_another_run_installed_meanwhile_is_not_fetched_again(mirror: Mirror, tmp_path: Path) -> None:
    wanted = artefact(mirror, tmp_path)
    planned = _release.plan(wanted, _release.observe(wanted))
    _release.apply(wanted, planned, fetcher())
    fetched = len(mirror.requests)
    _release.apply(wanted, planned, fetcher())
    assert len(mirror.requests) == fetched


def test_a_file_in_the_place_of_a_link(mirror: Mirror, tmp_path: Path) -> None:
    place = tmp_path / "usr/bin/demo"
    place.parent.mkdir(parents=True)
    place.write_text("of the distribution")
    with pytest.raises(
        KubewrightError, match=r"A file is where a link must go .*usr/bin/demo.*replace: true"
    ):
        run(artefact(mirror, tmp_path))
    assert mirror.requests == []
    assert run(artefact(mirror, tmp_path, replace=True))
    assert place.read_text() == "demo 1.0"


def test_a_file_that_only_the_unpacked_pattern_shows_keeps_everything_as_it_was(
    mirror: Mirror, tmp_path: Path
) -> None:
    place = tmp_path / "bin/democtl"
    place.parent.mkdir()
    place.write_text("of the distribution")
    with pytest.raises(KubewrightError, match=r"bin/democtl"):
        run(artefact(mirror, tmp_path, links={f"{tmp_path}/bin/": "bin/*"}))
    assert [path.name for path in place.parent.iterdir()] == ["democtl"]
    assert not (tmp_path / "opt/demo/1.0").exists()


def test_a_folder_in_the_place_of_a_link_is_never_replaced(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "usr/bin/demo").mkdir(parents=True)
    with pytest.raises(KubewrightError, match="A folder is where"):
        run(artefact(mirror, tmp_path, replace=True))


def test_a_link_to_what_the_artefact_does_not_hold(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(KubewrightError, match=r"demo 1\.0 holds no sbin/demo .*README, bin"):
        run(artefact(mirror, tmp_path, links={str(tmp_path / "demo"): "sbin/demo"}))
    assert not (tmp_path / "opt/demo/1.0").exists()


def test_nothing_left_to_install(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(KubewrightError, match="leave out every member"):
        run(artefact(mirror, tmp_path, strip=5, links={}))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../demo"},
        {"name": ""},
        {"version": ".."},
        {"binary_name": "a/b"},
        {"root": "opt"},
        {"links": {"demo": "bin/demo"}},
        {"links": {"/usr/bin/demo": "/bin/demo"}},
        {"links": {"/usr/bin/demo": "../demo"}},
    ],
)
def test_options_that_lead_elsewhere(mirror: Mirror, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(KubewrightError, match="cannot be"):
        artefact(mirror, tmp_path, **change)


def test_modes() -> None:
    assert _release.parse_mode("0755") == 0o755
    for text in ("493", "rwx", "0", "04755"):
        with pytest.raises(KubewrightError, match="octal"):
            _release.parse_mode(text)
