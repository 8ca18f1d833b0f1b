# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from lab import rough
from lab.rough import Rough
from lab.shell import LabError

PLACE = {"gateway": "10.198.0.1", "ipv6": "fd00:a00::11/64", "proxy": "http://proxy.lab:3128"}


def test_a_host_that_asks_for_nothing_is_left_alone() -> None:
    assert rough.read("cp1", {"ansible_host": "10.198.0.11", "lab_state": "/state"}) == Rough()
    assert rough.script(Rough(), **PLACE) == ""


def test_every_side_can_be_asked_for() -> None:
    asked = Rough("027", True, True, "db-17", True, True, True)
    assert rough.read("cp1", {f"lab_{name}": value for name, value in vars(asked).items()}) == asked


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"lab_umask": 23}, "host cp1: lab_umask is 23, but it must be text in quotes"),
        ({"lab_umask": "0o27"}, "must be octal, such as '027'"),
        ({"lab_umask": "027; reboot"}, "must be octal"),
        ({"lab_ipv6": "yes"}, "host cp1: lab_ipv6 is 'yes', but it must be true or false"),
        ({"lab_hostname": None}, "must be text in quotes"),
    ],
)
def test_a_value_of_another_kind_is_refused(variables: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message.replace("(", r"\(")):
        rough.read("cp1", variables)


def test_each_side_is_one_step_that_can_be_repeated() -> None:
    script = rough.script(
        Rough(umask="027", second_network=True, ipv6=True, behind_bastion=True, behind_proxy=True), **PLACE
    )
    lines = script.splitlines()
    assert lines[0] == "set -eu"
    assert sum("pam_umask.so nousergroups umask=027" in line and "grep -qxF" in line for line in lines) == 2
    assert "ip -4 route del default dev eth0 2>/dev/null || true" in lines
    assert "ip -6 address replace fd00:a00::11/64 dev eth0 nodad" in lines
    assert "ip -4 route replace blackhole 10.198.0.1/32" in lines
    variables = " ".join(
        f"{name}=http://proxy.lab:3128" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    )
    assert f"printf '%s\\n' {variables} > /etc/environment" in lines
    keep = 'Defaults env_keep += "http_proxy https_proxy HTTP_PROXY HTTPS_PROXY"'
    assert lines[-1] == f"echo '{keep}' > /etc/sudoers.d/proxy"
