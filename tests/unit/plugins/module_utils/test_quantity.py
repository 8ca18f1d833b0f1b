# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantities are read as Kubernetes reads them."""

from __future__ import annotations

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._quantity import bytes_of, shown


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("128974848", 128974848),
        (512, 512),
        ("1Ki", 1024),
        ("1.5Gi", 1610612736),
        ("2G", 2000000000),
        ("129e6", 129000000),
        ("1E", 10**18),
        ("1Ei", 1024**6),
        ("1e3", 1000),
        # What cannot be whole is rounded up, as Kubernetes does.
        ("100m", 1),
        ("1500m", 2),
        (".5Ki", 512),
    ],
)
def test_a_quantity(text: object, count: int) -> None:
    assert bytes_of(text) == count


@pytest.mark.parametrize("text", ["", "Gi", "1gb", "1 Gi", "-1Gi", "1GiB", "\u0661Gi", "1e", "0x10"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        bytes_of(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1Ki"),
        (3 * 1024**3, "3Gi"),
        (1610612736, "1.5Gi"),
        (5 * 1024**4, "5Ti"),
    ],
)
def test_how_bytes_are_shown(count: int, text: str) -> None:
    assert shown(count) == text
