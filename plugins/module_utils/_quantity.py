# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantities as Kubernetes writes them: 512Mi, 1.5G, 128974848, 1e9, 900m.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

# apimachinery, pkg/api/resource/quantity.go. An "E" with digits behind it is an exponent, one at the end is exa.
_QUANTITY = re.compile(
    r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII
)
_SCALES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
_UNITS = (("Ti", 1024**4), ("Gi", 1024**3), ("Mi", 1024**2), ("Ki", 1024))


def bytes_of(text: object) -> int:
    """Return the whole number of bytes that a quantity is, rounded up; what is no quantity is a ValueError."""
    found = _QUANTITY.fullmatch(str(text))
    if not found:
        raise ValueError(f"{text} is no quantity")
    number, exponent, unit = found.groups()
    value = Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _SCALES[unit or ""])
    return math.ceil(value)


def shown(count: int) -> str:
    """Return a number of bytes in the largest unit in which it has at least 1, with one decimal if it needs one."""
    for unit, size in _UNITS:
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + unit
    return str(count)
