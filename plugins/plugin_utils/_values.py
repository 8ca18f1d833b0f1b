# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the value of one variable, by its option in the argument specs and by the end of its name.

The names of our variables say what they hold (``_port``, ``_url``, ``_checksum``, ...), so that a new variable
is checked without another table to keep.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional
from urllib.parse import urlsplit

from ansible.module_utils.common.validation import (
    check_type_bool,
    check_type_dict,
    check_type_float,
    check_type_int,
    check_type_list,
)

_SHOWN = 120
# Names of ours have a beginning in common, which alone makes them alike by half.
_ALIKE = 0.75
_CREDENTIALS = re.compile(r"//[^/@\s]*@")

# RFC 1123, section 2.1, as Kubernetes applies it to the names of objects: lower case only.
_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DNS_LIMIT = 253

_DIGITS = {"sha256": 64, "sha512": 128}
# What Go's time.ParseDuration and HAProxy both read.
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h))+")
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:[-+~][0-9A-Za-z.+~-]+)?")


class Fault(NamedTuple):
    """Why a value is wrong, and what to do."""

    why: str
    remedy: str


@dataclass(frozen=True)
class Unresolved:
    """Stands for a value whose template cannot be worked out."""

    why: str


class Hidden:
    """Stands for a value that is set but not looked at, because it is a secret or cannot be known yet."""

    def __str__(self) -> str:
        return "hidden"


HIDDEN = Hidden()

Check = Callable[[Any], Optional[Fault]]


def shown(value: Any) -> str:
    """Return a value for a message: in one line, not too long, and without what is secret in a URL."""
    structured = isinstance(value, (bool, list, dict))
    text = json.dumps(value, default=str, sort_keys=True) if structured else str(value)
    text = _CREDENTIALS.sub("//***@", " ".join(text.split()))
    return (text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...") or "empty"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that looks most like another, nothing where none does."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=_ALIKE)), "")


def any_of(values: Iterable[Any]) -> str:
    """Return values as an enumeration: a, b or c."""
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def address(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that a string is, None where it is none."""
    try:
        return ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None


def network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the address range that a string is, None where it is none."""
    try:
        return ipaddress.ip_network(value) if isinstance(value, str) and "/" in value else None
    except ValueError:
        return None


def is_dns_name(value: Any) -> bool:
    """Tell whether a value is a name that Kubernetes and DNS accept."""
    return isinstance(value, str) and len(value) <= _DNS_LIMIT and bool(DNS_NAME.fullmatch(value))


def fault(name: str, value: Any, option: Mapping[str, Any]) -> Fault | None:
    """Return what is wrong with the value of the variable *name*, None when nothing is."""
    if isinstance(value, Hidden):
        return None
    if isinstance(value, Unresolved):
        return Fault(f"it cannot be worked out ({value.why})", "Correct the template, or set what it uses")
    return _by_option(value, option) or _by_name(name, value, option.get("type", "str"))


def _by_option(value: Any, option: Mapping[str, Any]) -> Fault | None:
    kind = option.get("type", "str")
    reader = _READERS.get(kind)
    try:
        if reader:
            reader(value)
        elif kind == "str" and isinstance(value, (list, dict)):
            raise TypeError
    except (TypeError, ValueError):
        return Fault(f"it must be {_KINDS[kind]}", f"Give it {_KINDS[kind]}")
    choices = option.get("choices")
    if choices and value not in choices:
        guess = nearest(str(value), map(str, choices))
        meant = f", perhaps {guess}" if guess else ""
        return Fault("no such choice is known", f"Choose {any_of(choices)}{meant}")
    return None


_KINDS = {
    "bool": "true or false",
    "dict": "a mapping",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "str": "a string",
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "bool": check_type_bool,
    "dict": check_type_dict,
    "float": check_type_float,
    "int": check_type_int,
    "list": check_type_list,
}


def _by_name(name: str, value: Any, kind: str) -> Fault | None:
    check = next((check for end, check in _CHECKS.items() if name.endswith(end)), None)
    # Intervals that are numbers are in seconds, without a unit.
    if not check or (check is _duration and kind != "str"):
        return None
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return next((found for part in parts if (found := check(part))), None)


def _port(value: Any) -> Fault | None:
    if 1 <= int(value) <= 65535:
        return None
    return Fault("no such port exists", "Give a port from 1 to 65535")


def _router_id(value: Any) -> Fault | None:
    if 1 <= int(value) <= 255:
        return None
    return Fault(
        "VRRP knows no such router", "Give a number from 1 to 255 that no other cluster in the network has"
    )


def _mtu(value: Any) -> Fault | None:
    # RFC 8200, section 5: IPv6 needs 1280; below 576 (RFC 791) even IPv4 hosts may not follow.
    if int(value) == 0 or 576 <= int(value) <= 65535:
        return None
    return Fault("no network works with it", "Give the MTU in bytes, or 0 to take the interface's, less 50")


def _url(value: Any) -> Fault | None:
    if not isinstance(value, str):
        # A mapping holds settings of its own, which its role knows.
        return None
    remedy = "Give a URL that begins with https:// or http:// and names a host"
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        return Fault(str(error), remedy)
    return None if good and not re.search(r"\s", value) else Fault("that is no URL", remedy)


def _checksum(value: Any) -> Fault | None:
    if value == "":
        return None
    algorithm, _colon, digest = str(value).partition(":")
    digits = _DIGITS.get(algorithm)
    if not digits:
        return Fault("it names no algorithm that is known", "Give sha256: or sha512: and the digest")
    if "://" in digest:
        return _url(digest)
    if re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", digest):
        return None
    why = f"a {algorithm} digest has {digits} hexadecimal digits"
    return Fault(
        f"{why}, this has {len(digest)} characters", "Copy all of it from where the file is published"
    )


def _key_checksum(value: Any) -> Fault | None:
    # Nothing reads a file of digests for the key; nobody publishes one.
    if "://" in str(value):
        return Fault("the key needs the digest itself", "Give sha256: and the digest")
    return _checksum(value)


def _range(value: Any) -> Fault | None:
    if network(value):
        return None
    if "," in str(value):
        return Fault("dual stack is not supported", "Give one range")
    remedy = "Give an address range such as 10.244.0.0/16"
    try:
        wider = ipaddress.ip_network(value, strict=False) if "/" in str(value) else None
    except ValueError as error:
        return Fault(f"that is no address range ({error})", remedy)
    if wider is None:
        return Fault("that is no address range", remedy)
    return Fault("that is an address inside a range", f"Give {wider}, the range itself")


def _host_address(value: Any) -> Fault | None:
    remedy = "Give the IP address of one of its interfaces that the other hosts reach"
    found = address(value)
    if not found:
        return Fault("that is no IP address", remedy)
    if found.is_loopback or found.is_unspecified or found.is_multicast or found.is_link_local:
        return Fault("no other host reaches that address", remedy)
    return None


def _bind_address(value: Any) -> Fault | None:
    return (
        None
        if address(value)
        else Fault("that is no IP address", "Give one, for example 127.0.0.1 or 0.0.0.0")
    )


def _kubernetes_version(value: Any) -> Fault | None:
    if isinstance(value, (int, float)):
        return Fault("YAML reads that as a number", 'Write a full version in quotes, for example "1.36.3"')
    if re.fullmatch(r"\d+\.\d+\.\d+", str(value)):
        return None
    if re.fullmatch(r"v\d+\.\d+\.\d+", str(value)):
        return Fault("a version has no v here", f'Write "{str(value)[1:]}"')
    return Fault("that is no full version", 'Write one in quotes, for example "1.36.3"')


def _version(value: Any) -> Fault | None:
    if isinstance(value, str) and _VERSION.fullmatch(value):
        return None
    return Fault("that is no full version", 'Write one in quotes and without a v, for example "2.4.2"')


def _duration(value: Any) -> Fault | None:
    if not isinstance(value, str) or _DURATION.fullmatch(value):
        return None
    return Fault("that is no time with a unit", "Give a number with ms, s, m or h, for example 5s")


def _domain(value: Any) -> Fault | None:
    if is_dns_name(value):
        return None
    return Fault(
        "that is no DNS domain", "Use lower case letters, digits, dashes and dots, as in cluster.local"
    )


def _image(value: Any) -> Fault | None:
    if "://" not in str(value) and re.fullmatch(r"\S+", str(value)):
        return None
    return Fault("images are named without a scheme or blanks", "Give it as in registry.k8s.io/pause")


# The first end that fits decides.
_CHECKS: dict[str, Check] = {
    "kube_cluster_version": _kubernetes_version,
    "kube_cluster_host_address": _host_address,
    "_bind_address": _bind_address,
    "_virtual_router_id": _router_id,
    "_mtu": _mtu,
    "_port": _port,
    "_key_checksum": _key_checksum,
    "_checksum": _checksum,
    "_url": _url,
    "_urls": _url,
    "_mirrors": _url,
    "_cidr": _range,
    "_version": _version,
    "_delay": _duration,
    "_interval": _duration,
    "_dns_domain": _domain,
    "_repository": _image,
    "_image": _image,
}
