# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From descriptions of access to objects of the cluster: what to apply, what to delete, what to refuse.

PRIVATE to the collection: this interface can change in any release.

An object of ours carries the annotation ``OWNER`` with the access that it belongs to. Everything else in the
cluster is read and never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from ansible_collections.kubewright.cluster.plugins.module_utils._access import Grant, Role
from ansible_collections.kubewright.cluster.plugins.module_utils._access_held import (
    Target,
    Verdict,
    judge,
    stamp,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi

OWNER = "kubewright.cluster/access"
LABELS = {"app.kubernetes.io/managed-by": "kubewright-user-access"}

RBAC = "rbac.authorization.k8s.io"
_RBAC_PATH = f"/apis/{RBAC}/v1"
_NOT_FOUND = 404

# In the order in which they are deleted: rights go before what they were given to.
_PLURALS = {
    "ClusterRoleBinding": "clusterrolebindings",
    "RoleBinding": "rolebindings",
    "ClusterRole": "clusterroles",
    "Role": "roles",
    "ServiceAccount": "serviceaccounts",
}

# kind, namespace, name
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Observed:
    """What the cluster holds: objects by key, the names of its namespaces, and its authority in PEM."""

    objects: Mapping[Key, dict[str, Any]]
    namespaces: frozenset[str]
    authority: str


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what became known on the way."""

    definitions: list[dict[str, Any]] = field(default_factory=list)
    deletions: list[Key] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def observe(api: KubeApi, grants: Sequence[Grant]) -> Observed:
    """Read roles, bindings and namespaces, and the service accounts that the grants name."""
    objects: dict[Key, dict[str, Any]] = {}
    for kind, plural in _PLURALS.items():
        if kind != "ServiceAccount":
            for item in api.list(f"{_RBAC_PATH}/{plural}"):
                objects[key_of(kind, item)] = item
    for grant in grants:
        if grant.kind == "pipeline":
            key = ("ServiceAccount", grant.namespace, grant.name)
            account = _get(api, path_of(key))
            if account is not None:
                objects[key] = account
    names = frozenset(item["metadata"]["name"] for item in api.list("/api/v1/namespaces"))
    return Observed(objects, names, authority(api))


def authority(api: KubeApi) -> str:
    """Return the authority by which clients verify the API servers, as the cluster publishes it to its pods."""
    return str(api.get("/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt")["data"]["ca.crt"])


def _get(api: KubeApi, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = api.get(path)
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    return found


def key_of(kind: str, item: Mapping[str, Any]) -> Key:
    metadata = item["metadata"]
    return kind, metadata.get("namespace") or "", metadata["name"]


def path_of(key: Key) -> str:
    kind, namespace, name = key
    base = "/api/v1" if kind == "ServiceAccount" else _RBAC_PATH
    inside = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{base}{inside}/{_PLURALS[kind]}/{quote(name, safe=':')}"


def plan(grants: Sequence[Grant], observed: Observed, target: Target, now: datetime) -> Plan:
    """Decide what to do. Where there are problems, nothing of the rest may be done."""
    planned = Plan()
    wanted: dict[Key, dict[str, Any]] = {}
    missing: dict[str, None] = {}
    for grant in grants:
        if grant.present:
            planned.problems.extend(_problems(grant, observed))
            for definition in definitions(grant):
                wanted[key_of(definition["kind"], definition)] = definition
            missing.update(dict.fromkeys(_missing_namespaces(grant, observed)))
        planned.verdicts.append(_verdict(grant, observed, target, now, planned.problems))
    planned.definitions.extend(namespace_definition(name) for name in missing)
    planned.definitions.extend(wanted.values())
    planned.deletions.extend(_deletions(grants, observed, wanted))
    return planned


def definitions(grant: Grant) -> list[dict[str, Any]]:
    """Return the objects that make up an access: its service account, own roles, and bindings."""
    made = []
    if grant.kind == "pipeline":
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _metadata(grant, grant.name, grant.namespace),
        }
        # Pods of the namespace that use this account get no token of it by themselves.
        made.append({**account, "automountServiceAccountToken": False})
    for role in grant.roles:
        for namespace in role.places:
            made.extend(_bound(grant, role, namespace))
    return made


def namespace_definition(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": LABELS}}


def _metadata(grant: Grant, name: str, namespace: str) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "labels": LABELS, "annotations": {OWNER: grant.id}}


def _bound(grant: Grant, role: Role, namespace: str) -> Iterator[dict[str, Any]]:
    # The reference of a binding cannot be changed, so its name holds what it refers to.
    own = "own:" if role.rules is not None else ""
    name = ":".join(["kubewright", *grant.id.split("/"), own + role.name])
    metadata = _metadata(grant, name, namespace)
    prefix = "" if namespace else "Cluster"
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role.name}
    if role.rules is not None:
        reference = {"apiGroup": RBAC, "kind": f"{prefix}Role", "name": name}
        body = {"apiVersion": f"{RBAC}/v1", "kind": f"{prefix}Role", "metadata": metadata}
        yield {**body, "rules": list(role.rules)}
    yield {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{prefix}RoleBinding",
        "metadata": metadata,
        "roleRef": reference,
        "subjects": [_subject(grant)],
    }


def _subject(grant: Grant) -> dict[str, str]:
    if grant.kind == "pipeline":
        return {"kind": "ServiceAccount", "name": grant.name, "namespace": grant.namespace}
    return {"kind": "User", "apiGroup": RBAC, "name": grant.name}


def owner_of(item: Mapping[str, Any] | None) -> str:
    annotations = ((item or {}).get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(OWNER) or "")


def _problems(grant: Grant, observed: Observed) -> Iterator[str]:
    if not grant.create_namespaces:
        for namespace in _missing_namespaces(grant, observed):
            yield (
                f"{grant}: there is no namespace {namespace}. Correct the name, create it, "
                "or set create_namespaces: true."
            )
    for role in grant.roles:
        if role.rules is None and ("ClusterRole", "", role.name) not in observed.objects:
            yield f"{grant}: there is no ClusterRole {role.name}. Correct the name, for example to view, edit or admin."
    for definition in definitions(grant):
        key = key_of(definition["kind"], definition)
        if key in observed.objects and owner_of(observed.objects[key]) != grant.id:
            kind, namespace, name = key
            yield (
                f"{grant}: {kind} {namespace + '/' if namespace else ''}{name} is there already and does not belong to "
                "this access. Choose another name, or delete it if nobody needs it."
            )


def _missing_namespaces(grant: Grant, observed: Observed) -> list[str]:
    named = [grant.namespace, *(namespace for role in grant.roles for namespace in role.namespaces)]
    return [name for name in dict.fromkeys(named) if name and name not in observed.namespaces]


def _verdict(grant: Grant, observed: Observed, target: Target, now: datetime, found: list[str]) -> Verdict:
    account = observed.objects.get(("ServiceAccount", grant.namespace, grant.name))
    verdict = judge(grant, target, str((account or {}).get("metadata", {}).get("uid") or ""), now)
    if grant.present and verdict.action == "foreign":
        found.append(
            f"{grant}: {grant.place} is a file of somebody else: {verdict.why}. "
            "Name another path, or move that file away."
        )
    return verdict


def _deletions(grants: Sequence[Grant], observed: Observed, wanted: Mapping[Key, Any]) -> Iterator[Key]:
    """What belongs to the described accesses and is not wanted any more."""
    ids = {grant.id for grant in grants}
    for kind in _PLURALS:
        for key in sorted(observed.objects):
            if key[0] == kind and key not in wanted and owner_of(observed.objects[key]) in ids:
                yield key


def other_rights(grant: Grant, observed: Observed, groups: Iterable[str]) -> list[str]:
    """Return the bindings of others that give rights to the same name or to one of its groups."""
    subjects = {("User", "", grant.username)} | {("Group", "", group) for group in groups}
    if grant.kind == "pipeline":
        subjects.add(("ServiceAccount", grant.namespace, grant.name))
        subjects.update(
            ("Group", "", f"system:serviceaccounts{tail}") for tail in ("", f":{grant.namespace}")
        )
    found = []
    for (kind, namespace, name), item in sorted(observed.objects.items()):
        if not kind.endswith("Binding") or owner_of(item) == grant.id:
            continue
        for subject in item.get("subjects") or []:
            whose = subject.get("namespace") or "" if subject.get("kind") == "ServiceAccount" else ""
            if (subject.get("kind"), whose, subject.get("name")) in subjects:
                place = f"{namespace}/" if namespace else ""
                found.append(
                    f"{kind} {place}{name} ({item['roleRef']['name']}) by {subject['kind']} {subject['name']}"
                )
    return found


def summary(grant: Grant, verdict: Verdict, observed: Observed) -> dict[str, Any]:
    """What a person wants to know of one access afterwards, and what the next step has to do."""
    foreign = verdict.action == "foreign"
    action, why = verdict.action, verdict.why
    if not grant.present:
        action, why = "none" if foreign or not grant.held else "delete", why if foreign else ""
    return {
        "id": grant.id,
        "kind": grant.kind,
        "name": grant.name,
        "namespace": grant.namespace,
        "username": grant.username,
        "groups": list(grant.groups),
        "home": grant.home,
        "lifetime": grant.lifetime,
        "action": action,
        "why": why,
        "expires": stamp(verdict.expires) if verdict.expires else "",
        "other_rights": other_rights(grant, observed, {*grant.groups, *verdict.groups}),
    }


def delete(api: KubeApi, planned: Plan, observed: Observed) -> None:
    """Delete what is not wanted any more; what is gone already is no error."""
    for key in planned.deletions:
        body = {"preconditions": {"uid": observed.objects[key]["metadata"]["uid"]}}
        try:
            api.delete(path_of(key), body=body)
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise


def refuse(found: Sequence[str]) -> None:
    """Stop when there is anything to refuse, with all of it."""
    if found:
        raise KubewrightError("Nothing was changed", why=" ".join(found))
