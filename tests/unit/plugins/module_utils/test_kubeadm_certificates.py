# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificates are renewed, and who is restarted for it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _kubeadm_certificates as certificates
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kubeadm_certificates import (
    CERTIFICATES,
    COMPONENTS,
    Plan,
    Seen,
    plan,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

MADE, STARTED = 1000.0, 2000.0
SEEN = Seen(
    dict.fromkeys(CERTIFICATES, 300.0),
    dict.fromkeys(CERTIFICATES, MADE),
    frozenset(CERTIFICATES),
    dict.fromkeys(COMPONENTS, STARTED),
)


def seen(**more: Any) -> Seen:
    return replace(SEEN, **more)


def test_nothing_is_due() -> None:
    assert plan(SEEN, 180) == Plan() and not plan(SEEN, 180).changed


def test_everything_is_due() -> None:
    assert plan(SEEN, 366) == Plan(tuple(CERTIFICATES), COMPONENTS)


def test_one_that_is_due_restarts_its_user_only() -> None:
    left = {**SEEN.days_left, "scheduler.conf": 20.0, "admin.conf": 20.0}
    assert plan(seen(days_left=left), 180) == Plan(("scheduler.conf", "admin.conf"), ("kube-scheduler",))


@pytest.mark.parametrize(
    ("name", "restarted"),
    [
        ("controller-manager.conf", ("kube-controller-manager",)),
        ("etcd-peer", ("etcd",)),
        ("apiserver-etcd-client", ("kube-apiserver",)),
        # The API server watches it.
        ("apiserver", ()),
        ("admin.conf", ()),
        ("etcd-healthcheck-client", ()),
    ],
)
def test_a_process_that_is_older_than_its_file_is_restarted(name: str, restarted: tuple[str, ...]) -> None:
    """Cut off between the two, or renewed by hand without a restart."""
    assert plan(seen(written={**SEEN.written, name: STARTED + 1}), 180) == Plan((), restarted)


def test_an_api_server_that_still_asks_what_was_lent_is_restarted() -> None:
    """A run was cut off after the restart of etcd: nothing else is left to do."""
    assert plan(SEEN, 180, lent=True) == Plan((), ("kube-apiserver",))


def test_a_component_that_does_not_run_is_not_restarted() -> None:
    running = {name: STARTED for name in COMPONENTS if name != "etcd"}
    found = plan(seen(running_since=running), 366)
    assert "etcd" not in found.restart and "etcd-server" in found.renew


def test_one_whose_authority_is_elsewhere_is_told_of() -> None:
    """An external etcd: its client's certificate is signed where its authority is."""
    signable = frozenset(name for name in CERTIFICATES if "etcd" not in name)
    found = plan(seen(signable=signable), 366)
    assert "apiserver-etcd-client" in found.foreign and "apiserver-etcd-client" not in found.renew
    assert plan(seen(signable=signable), 180).foreign == ()


def test_what_is_observed_of_a_host(tmp_path: Path) -> None:
    paths = [
        "/etc/kubernetes/pki/apiserver.crt",
        "/etc/kubernetes/scheduler.conf",
        "/etc/kubernetes/pki/ca.key",
    ]
    for path in paths:
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
        os.utime(file, (MADE, MADE))
    listed = [
        {"path": paths[0], "days_left": 12.5},
        {"path": paths[1], "days_left": None},
        {"path": "/var/lib/kubelet/pki/kubelet-client-current.pem", "days_left": 1.0},
    ]
    found = certificates.observe(tmp_path, listed, lambda name: STARTED if name == "kube-apiserver" else None)
    assert found == Seen(
        {"apiserver": 12.5}, {"apiserver": MADE}, frozenset({"apiserver"}), {"kube-apiserver": STARTED}
    )


@pytest.mark.parametrize("renews", [True, False])
def test_what_kubeadm_says_is_not_believed(tmp_path: Path, renews: bool) -> None:
    """It ends well where ClusterConfiguration names another etcd than the files do."""
    file = tmp_path / CERTIFICATES["etcd-server"].path.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text("old")

    def run_command(argv: list[str], **_options: Any) -> tuple[int, str, str]:
        assert argv[-4:] == ["kubeadm", "certs", "renew", "etcd-server"]
        file.write_text("new" if renews else "old")
        return 0, "[renew] Reading\n\nMISSING! certificate for serving etcd\n", ""

    runner = Runner(run_command)
    if renews:
        certificates.renew(runner, ["etcd-server"], tmp_path)
        return
    with pytest.raises(KubewrightError, match=r"has not renewed etcd-server .*: MISSING! certificate"):
        certificates.renew(runner, ["etcd-server"], tmp_path)


CONFIG = """\
clusters:
- cluster: {{server: https://10.0.0.100:8443}}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: {0}
    client-key-data: {0}
"""


def test_a_copy_gets_the_new_certificate_and_somebodys_own_file_does_not(tmp_path: Path) -> None:
    source, copy, other = (tmp_path / name for name in ("admin.conf", "copy", "other"))
    source.write_text(CONFIG.format("new"))
    copy.write_text(CONFIG.format("old"))
    other.write_text(CONFIG.format("old").replace("10.0.0.100", "10.9.9.9"))
    foretold = certificates.refresh_copies(source, [copy, other], act=False)
    assert foretold == [str(copy)] and "old" in copy.read_text()
    refreshed = certificates.refresh_copies(source, [copy, other, tmp_path / "missing"])
    assert refreshed == [str(copy)] and copy.read_text() == source.read_text()
    assert copy.stat().st_mode & 0o777 == 0o600 and "old" in other.read_text()
    assert certificates.refresh_copies(source, [copy]) == []
    # What is renewed in a moment is not foretold as up to date.
    assert certificates.refresh_copies(source, [copy, other], act=False, due=True) == [str(copy)]
    assert certificates.refresh_copies(tmp_path / "nowhere", [copy]) == []
