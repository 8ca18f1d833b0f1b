# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what in a cluster: the description of it, and what is refused about it before anything is asked.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

# X.509 ends names at 64 characters (RFC 5280, ub-common-name and ub-organization-name). The characters are those
# that mean nothing to openssl's configuration, to YAML in quotes, or to a path of the API.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:+-]{0,63}")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DURATION = re.compile(r"([1-9][0-9]{0,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# The least that both the CertificateSigningRequest and the TokenRequest API take.
SHORTEST = 600
# Both take seconds as a 32-bit number; ten years are below it and above every sensible use.
LONGEST = 3650 * 86400

# Kubernetes keeps `system:` for itself, kubeadm binds `kubeadm:cluster-admins` to cluster-admin.
_RESERVED_PREFIXES = ("system:", "kubeadm:")
# The users of admin.conf and super-admin.conf: a second one could not be told apart in the audit log.
_RESERVED_USERS = ("kubernetes-admin", "kubernetes-super-admin")


def seconds(duration: str) -> int:
    """Read a duration such as 90d, 12h, 30m or 600s; ValueError says what is wrong with it."""
    match = _DURATION.fullmatch(duration)
    if not match:
        raise ValueError(
            f"{duration!r}, which is not a number followed by s, m, h or d: give for example 90d"
        )
    return int(match[1]) * _SECONDS[match[2]]


@dataclass(frozen=True)
class Role:
    """Rights in some namespaces, or in all: a ClusterRole by name, or own rules under a name."""

    name: str
    rules: tuple[dict[str, Any], ...] | None
    namespaces: tuple[str, ...]
    cluster_wide: bool

    @property
    def places(self) -> tuple[str, ...]:
        """The namespaces where it is bound; the empty name stands for the whole cluster."""
        return ("",) if self.cluster_wide else self.namespaces


@dataclass(frozen=True)
class Grant:
    """The access of one person, who has a certificate, or of one pipeline, which has a service account."""

    kind: str
    name: str
    namespace: str
    groups: tuple[str, ...]
    roles: tuple[Role, ...]
    present: bool
    create_namespaces: bool
    accept_cluster_wide_rights: bool
    lifetime: str
    renew_before: str
    # Where its kubeconfig is, for messages, and what that says without its secrets; empty where there is none.
    place: str = ""
    held: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What the objects of this access carry as their owner."""
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"

    @property
    def username(self) -> str:
        """The name by which the API server knows it."""
        is_person = self.kind == "person"
        return self.name if is_person else f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def home(self) -> str:
        """The namespace that its kubeconfig names."""
        bound = [namespace for role in self.roles for namespace in role.namespaces]
        return self.namespace or (bound[0] if bound else "")

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def parse_grants(items: Sequence[dict[str, Any]]) -> list[Grant]:
    """Make grants from the options of the module, whose types Ansible has checked."""
    return [_grant(item) for item in items]


def _grant(item: dict[str, Any]) -> Grant:
    namespace = item.get("namespace") or ""
    return Grant(
        kind=item["kind"],
        name=item["name"],
        namespace=namespace,
        groups=tuple(item.get("groups") or ()),
        roles=tuple(_role(role, namespace) for role in item.get("roles") or ()),
        present=item["state"] == "present",
        create_namespaces=item["create_namespaces"],
        accept_cluster_wide_rights=item["accept_cluster_wide_rights"],
        lifetime=item.get("lifetime") or ("90d" if item["kind"] == "person" else "1h"),
        renew_before=item.get("renew_before") or "",
        place=item.get("place") or "",
        held=item.get("held") or {},
    )


def _role(role: dict[str, Any], home: str) -> Role:
    rules = role.get("rules")
    namespaces = role.get("namespaces") or ([home] if home and not role.get("cluster_wide") else [])
    return Role(
        name=role.get("cluster_role") or role.get("name") or "",
        rules=None if rules is None else tuple(rules),
        namespaces=tuple(namespaces),
        cluster_wide=bool(role.get("cluster_wide")),
    )


def problems(items: Sequence[dict[str, Any]], grants: Sequence[Grant]) -> list[str]:
    """Return a sentence on everything that is wrong with the description itself."""
    found = [
        f"{grant} is described {count} times: describe it once."
        for grant, count in Counter(str(grant) for grant in grants).items()
        if count > 1
    ]
    for item, grant in zip(items, grants):
        found.extend(_identity_problems(grant))
        if grant.present:
            found.extend(_duration_problems(grant))
            for role in item.get("roles") or ():
                found.extend(_form_problems(grant, role))
            for one in grant.roles:
                found.extend(_role_problems(grant, one))
            found.extend(_repetitions(grant))
    return found


def _identity_problems(grant: Grant) -> Iterator[str]:
    if grant.kind == "pipeline":
        if grant.groups:
            yield f"{grant} has groups, but the groups of a service account are fixed: take them out."
        for what, value in (("name", grant.name), ("namespace", grant.namespace)):
            if not _LABEL.fullmatch(value):
                yield (
                    f"{grant} has the {what} {value!r}: give 1 to 63 small letters, digits and dashes, "
                    "with a letter or digit at both ends."
                )
        return
    if grant.namespace:
        yield f"{grant} has a namespace, but a person belongs to none: give namespaces in its roles."
    for what, value in [("name", grant.name), *(("group", group) for group in grant.groups)]:
        if not _NAME.fullmatch(value):
            yield (
                f"{grant} has the {what} {value!r}: give 1 to 64 characters, which are letters of ASCII, digits "
                "and @ . _ : + -, with a letter or digit at the beginning."
            )
        elif value.startswith(_RESERVED_PREFIXES):
            yield (
                f"{grant} has the {what} {value}: names that begin with system: or kubeadm: belong to Kubernetes "
                "and carry rights of their own (system:masters all of them): choose another one."
            )
    if grant.name in _RESERVED_USERS:
        yield f"{grant} would have the name of the administrator that kubeadm makes: choose another one."
    if len(set(grant.groups)) < len(grant.groups):
        yield f"{grant} has a group twice: name each once."


def _duration_problems(grant: Grant) -> Iterator[str]:
    try:
        lifetime = seconds(grant.lifetime)
    except ValueError as error:
        yield f"{grant} has the lifetime {error}."
        return
    if not SHORTEST <= lifetime <= LONGEST:
        yield (
            f"{grant} has the lifetime {grant.lifetime}: give one from 600s, which is the least that Kubernetes takes, "
            "to 3650d."
        )
    if grant.renew_before:
        try:
            margin = seconds(grant.renew_before)
        except ValueError as error:
            yield f"{grant} has the renew_before {error}."
            return
        if margin >= lifetime:
            yield (
                f"{grant} has the renew_before {grant.renew_before} and the lifetime {grant.lifetime}: every run "
                "would renew. Give a renew_before that is shorter."
            )


def _form_problems(grant: Grant, role: dict[str, Any]) -> Iterator[str]:
    own = bool(role.get("name") or role.get("rules") is not None)
    if bool(role.get("cluster_role")) == own or (own and not (role.get("name") and role.get("rules"))):
        yield (
            f"{grant} has a role that is neither a cluster_role nor a name with rules: give one of the two, "
            "for example cluster_role: view."
        )
    elif own and not _NAME.fullmatch(role["name"]):
        yield f"{grant} has the role name {role['name']!r}: give letters, digits and @ . _ : + -."
    if bool(role.get("cluster_wide")) and role.get("namespaces"):
        yield (
            f"{grant} has a role that is cluster_wide and has namespaces "
            f"({', '.join(role['namespaces'])}): decide for one of the two."
        )


def _role_problems(grant: Grant, role: Role) -> Iterator[str]:
    if not role.places:
        yield f"{grant} has the role {role.name} in no namespace: give namespaces."
    for namespace in role.namespaces:
        if not _LABEL.fullmatch(namespace):
            yield f"{grant} has the role {role.name} in {namespace!r}, which cannot be the name of a namespace."
    if grant.accept_cluster_wide_rights:
        return
    risks = ["is bound cluster_wide"] if role.cluster_wide else []
    if role.rules is None and role.name == "cluster-admin":
        risks.append("is cluster-admin")
    if role.rules is None and role.name.startswith(_RESERVED_PREFIXES):
        risks.append("is one of Kubernetes' own")
    places = {*role.namespaces, grant.namespace}
    risks.extend(f"is in {namespace}" for namespace in sorted(places) if namespace.startswith("kube-"))
    if risks:
        yield (
            f"{grant} has the role {role.name}, which {' and '.join(risks)}: that can lead to control of the whole "
            "cluster. Choose namespaces of applications, or set accept_cluster_wide_rights: true."
        )


def _repetitions(grant: Grant) -> Iterator[str]:
    bound = Counter((role.name, place) for role in grant.roles for place in role.places)
    for (name, place), count in bound.items():
        if count > 1:
            yield f"{grant} has the role {name} {count} times in {place or 'the whole cluster'}: name it once."
