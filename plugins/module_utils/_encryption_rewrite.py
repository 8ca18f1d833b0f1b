# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See in etcd what each value is encrypted with, and let an API server write it again.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.kubewright.cluster.plugins.module_utils._encryption import IDENTITY
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._etcd import EtcdCtl
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi
from ansible_collections.kubewright.cluster.plugins.module_utils._retry import Deadline

# A value may have 1.5 MB, and etcdctl prints it in base64.
PAGE = 100
WORKERS = 4
_ENCRYPTED = re.compile(rb"k8s:enc:([^:]+):v[12]:([^:]+):")
_NOT_FOUND, _CONFLICT, _INTERNAL = 404, 409, 500
_SHOWN = 5

# Namespace, name and uid.
Listed = tuple[str, str, str]


@dataclass(frozen=True)
class Value:
    """One object in etcd, and the name of the key that it is encrypted with or ``identity``."""

    resource: str
    namespace: str
    name: str
    key: str

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/{self.resource}/{self.name}"


def encrypted_with(value: bytes) -> str:
    """Return the name of the key that a value in etcd begins with.

    Values of another provider than ours are named with it, so that no name of ours is mistaken for theirs.
    """
    match = _ENCRYPTED.match(value)
    if not match:
        return IDENTITY
    provider, name = match.group(1).decode("utf-8", "replace"), match.group(2).decode("utf-8", "replace")
    return name if provider == "secretbox" else f"{provider}:{name}"


def read_values(etcd: EtcdCtl, resource: str, prefix: str) -> Iterator[Value]:
    """Read what etcd holds of a resource, in pages. The read is linearizable, as etcdctl's default is.

    *prefix* is that of the API server's flag --etcd-prefix, without a slash at its end.
    """
    start, end = f"{prefix}/{resource}/", f"{prefix}/{resource}0"  # "0" follows "/"
    last = ""
    while True:
        words = ("get", last or start, end, f"--limit={PAGE + 1}", "--write-out=json")
        document = json.loads(etcd.run(*words, command_timeout=30, secret=True).stdout)
        found = document.get("kvs") or []
        for item in found:
            path = base64.b64decode(item["key"]).decode("utf-8", "replace")
            # The first one of a further page is the last one of the page before.
            if path != last:
                namespace, _slash, name = path[len(start) :].partition("/")
                yield Value(
                    resource, namespace, name, encrypted_with(base64.b64decode(item.get("value") or ""))
                )
            last = path
        if not document.get("more"):
            return


def count(values: Mapping[str, list[Value]]) -> dict[str, dict[str, int]]:
    """Return the number of values by resource and key."""
    return {
        resource: dict(sorted(Counter(one.key for one in found).items()))
        for resource, found in values.items()
    }


def rewrite(api: KubeApi, value: Value, deadline: Deadline) -> None:
    """Write one object again, unchanged.

    The API server writes an unchanged object only where the stored value is not encrypted as its first key
    would do it; the object's version in the request makes sure that nobody's change in between is undone.
    """
    while True:
        try:
            api.request("PUT", value.path, body=api.get(value.path))
            return
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return  # deleted meanwhile
            if not (error.status == _CONFLICT or error.transient) or deadline.expired:
                raise
            deadline.sleep(error.retry_after or 0.2)


def rewrite_all(api: KubeApi, values: list[Value], deadline: Deadline) -> None:
    """Write objects again, a few at a time; one that is refused does not keep the others from it."""

    def attempt(value: Value) -> str:
        try:
            rewrite(api, value, deadline)
        except KubewrightError as error:
            return f"{value.namespace}/{value.name}: {error.why or error.what}"
        return ""

    with ThreadPoolExecutor(WORKERS) as pool:
        failures = [why for why in pool.map(attempt, values) if why]
    if failures:
        raise KubewrightError(
            f"{len(failures)} of {len(values)} objects cannot be written again",
            where=api.server,
            why="; ".join(failures[:_SHOWN]),
            remedy="Correct or delete these objects, then run again: it goes on with what is left",
        )


def observe(etcd: EtcdCtl, resources: list[str], prefix: str) -> dict[str, list[Value]]:
    """Return all values of some resources."""
    return {resource: list(read_values(etcd, resource, prefix)) for resource in resources}


def listed(api: KubeApi, resource: str, deadline: Deadline) -> set[Listed] | None:
    """Return all objects of a resource; None where one that cannot be read prevents it."""
    found: set[Listed] = set()
    token = None
    while True:
        try:
            page = api.get(f"/api/v1/{resource}", **{"limit": PAGE, "continue": token})
        except ApiError as error:
            if error.status == _INTERNAL:
                return None
            if not error.transient or deadline.expired:
                raise
            deadline.sleep(error.retry_after or 0.5)
            continue
        for item in page.get("items") or []:
            about = item["metadata"]
            found.add((about["namespace"], about["name"], about["uid"]))
        token = page["metadata"].get("continue")
        if not token:
            return found


def observe_all(
    etcd: EtcdCtl, api: KubeApi, resources: list[str], prefix: str, deadline: Deadline
) -> dict[str, list[Value]]:
    """Return all values of some resources, and make sure that etcd was searched where the API server keeps them.

    The API server is asked first, so that what it names and etcd does not show can only have been deleted since.
    """
    named = {resource: listed(api, resource, deadline) for resource in resources}
    values = observe(etcd, resources, prefix)
    for resource, names in named.items():
        shown = {(one.namespace, one.name) for one in values[resource]}
        missing = sorted(one for one in names or () if one[:2] not in shown)
        hidden = [one for one in missing if _exists(api, resource, *one)]
        if hidden or (names is None and not shown):
            raise KubewrightError(
                f"etcd does not show all {resource} that the API server has",
                where=f"{prefix}/{resource}/ in {','.join(etcd.endpoints)}",
                why=", ".join("/".join(one[:2]) for one in hidden[:_SHOWN])
                or "it has some that it cannot read",
                remedy="Find out where this API server keeps them: until then no key may be given up",
            )
    return values


def _exists(api: KubeApi, resource: str, namespace: str, name: str, uid: str) -> bool:
    """See whether it is still the same object: one of its name may have been made anew since."""
    try:
        found = api.get(Value(resource, namespace, name, "").path)
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return False
        raise
    return bool(found["metadata"]["uid"] == uid)


def stale(values: Mapping[str, list[Value]], goals: Mapping[str, str]) -> list[Value]:
    """Return the values that are not as they should be; an empty goal leaves its resource alone."""
    return [one for resource, goal in goals.items() if goal for one in values[resource] if one.key != goal]


def settle(
    etcd: EtcdCtl,
    api: KubeApi,
    values: dict[str, list[Value]],
    goals: Mapping[str, str],
    prefix: str,
    deadline: Deadline,
) -> tuple[dict[str, list[Value]], int]:
    """Write again until etcd itself shows that nothing is left; return what it shows and how many were written.

    A second round finds what another client wrote while an API server still had its former first key.
    """
    written: set[Value] = set()
    for _round in range(3):
        left = stale(values, goals)
        if not left:
            return values, len(written)
        rewrite_all(api, left, deadline)
        written.update(left)
        values = observe(etcd, list(goals), prefix)
    left = stale(values, goals)
    if not left:
        return values, len(written)
    names = ", ".join(f"{one.namespace}/{one.name} ({one.key})" for one in left[:_SHOWN])
    raise KubewrightError(
        f"{len(left)} objects are still not encrypted as wanted after three rounds",
        where=api.server,
        why=names,
        remedy="Make sure that every API server has loaded the present encryption configuration, then run again",
    )
