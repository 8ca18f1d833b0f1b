# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Approve the serving certificates of kubelets, and nothing else.

With ``serverTLSBootstrap`` every kubelet asks for a serving certificate at its start and about once a year
after that. kube-controller-manager signs such requests but never approves them, because it cannot know
which names a machine may carry. This service knows the Node objects, so it can. It runs on every control
plane; approving twice is the same as approving once, so that no leader is needed.

It never denies: a request that it does not approve stays pending, with one line in the log, for a person
to judge (``kubectl certificate approve NAME``) or to expire. It ends on SIGTERM only, or with ``--once``.

What it cannot prove: a kubelet writes the addresses in the status of its own Node object. A taken-over node
could therefore claim any address; the reserved ones and those of other nodes are refused for this reason.

Sources of the rules, named where they are applied:
[signers]    Kubernetes documentation, "Certificates and Certificate Signing Requests", section "Kubernetes
             signers", ``kubernetes.io/kubelet-serving``; KEP-1513.
[bootstrap]  Kubernetes documentation, "TLS bootstrapping", section "Certificate rotation".
[own]        a rule of this collection.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import ipaddress
import json
import os
import re
import ssl
import subprocess
import sys
import time
from typing import Any, Callable
from urllib.parse import quote, urlencode, urlsplit

from _x509 import CertificateRequest, parse_request

SIGNER = "kubernetes.io/kubelet-serving"
CSR_PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
NODE_PATH = "/api/v1/nodes"
USER_PREFIX = "system:node:"
USAGES = frozenset({"digital signature", "server auth"})
RSA_USAGES = USAGES | {"key encipherment"}
DNS_TYPES = frozenset({"Hostname", "InternalDNS", "ExternalDNS"})
IP_TYPES = frozenset({"InternalIP", "ExternalIP"})

PAGE_SIZE = 500
REQUEST_TIMEOUT = 10.0  # seconds, for connecting and for each read
KUBECTL_TIMEOUT = 30.0  # seconds
LONGEST_BACKOFF = 30.0  # seconds
LONGEST_LINE = 2000  # characters; a request can hold thousands of names

# Go skips what surrounds a PEM block and passes over broken ones, so two readers could see two requests.
_ONE_BLOCK = re.compile(
    rb"-----BEGIN CERTIFICATE REQUEST-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE REQUEST-----\s*"
)


class Trouble(Exception):
    """The API server did not answer as it should; trying again later can help."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


# --- the decision: pure ------------------------------------------------------------------------------------


def problems(
    csr: dict[str, Any], node: dict[str, Any] | None, other_nodes: list[dict[str, Any]], reserved: set[str]
) -> list[str]:
    """Return why this CertificateSigningRequest must not be approved; an empty list means that it may.

    ``node`` is the Node object of the name that asks (see ``node_name``), ``other_nodes`` are all others,
    ``reserved`` the names and addresses that no node may claim.
    """
    spec = csr.get("spec") or {}
    found = _asker_problems(spec)
    try:
        request = parse_request(_only_block(spec))
    except ValueError as error:
        return [*found, f"spec.request cannot be read: {error}"]
    found += _subject_problems(spec, request)
    found += _name_problems(node_name(csr), request, node, other_nodes, reserved)
    return found


def node_name(csr: dict[str, Any]) -> str:
    """Return the name of the node that asks, or "" when something else asks."""
    username = str((csr.get("spec") or {}).get("username") or "")
    return username[len(USER_PREFIX) :] if username.startswith(USER_PREFIX) else ""


def is_pending(csr: dict[str, Any]) -> bool:
    """Tell whether nobody has decided about the request yet."""
    status = csr.get("status") or {}
    return not status.get("certificate") and not status.get("conditions")


def approval(csr: dict[str, Any]) -> dict[str, Any]:
    """Return the object to PUT to the approval subresource."""
    condition = {
        "type": "Approved",
        "status": "True",
        "reason": "KubewrightKubeletServing",
        "message": "The node exists and has every name and address that its kubelet asks for.",
    }
    return {
        **csr,
        "apiVersion": "certificates.k8s.io/v1",  # the items of a list carry neither
        "kind": "CertificateSigningRequest",
        "status": {**(csr.get("status") or {}), "conditions": [condition]},
    }


def normal(name: str) -> str:
    """Return the one spelling of a DNS name or an IP address that comparisons use."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.rstrip(".").lower()
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _asker_problems(spec: dict[str, Any]) -> list[str]:
    found = []
    if spec.get("signerName") != SIGNER:  # [signers]
        found.append(f"the signer is {spec.get('signerName')!r}, not {SIGNER}")
    username = spec.get("username")
    if not isinstance(username, str) or not username.startswith(USER_PREFIX) or username == USER_PREFIX:
        found.append(f"{username!r} asks, which is no node")  # [bootstrap]: the kubelet asks for itself
    missing = sorted({"system:nodes", "system:authenticated"} - set(spec.get("groups") or []))
    if missing:  # [bootstrap]: the groups that the node authorizer relies on
        found.append(f"the asking user is not in {', '.join(missing)}")
    usages = spec.get("usages") or []
    if set(usages) not in (USAGES, RSA_USAGES):  # [signers], permitted key usages
        found.append(f"the usages are {', '.join(map(str, usages)) or 'none'}")
    return found


def _only_block(spec: dict[str, Any]) -> bytes:
    text = base64.b64decode(str(spec.get("request") or ""), validate=True)
    if not _ONE_BLOCK.fullmatch(text):  # [own]
        raise ValueError("it is not exactly one PEM block CERTIFICATE REQUEST")
    return text


def _subject_problems(spec: dict[str, Any], request: CertificateRequest) -> list[str]:
    found = []
    if request.subject_cn != spec.get("username"):  # [signers], permitted subjects; [own]: only for itself
        found.append(f"the common name is {request.subject_cn!r}, not the asking user")
    if request.subject_orgs != ["system:nodes"]:  # [signers], permitted subjects
        found.append(f"the organizations are {request.subject_orgs}, not only system:nodes")
    if request.subject_other:  # [own]: kubelets set nothing else
        found.append(f"the subject has other attributes: {', '.join(request.subject_other)}")
    for kind, values in (  # [signers], permitted x509 extensions
        ("e-mail addresses", request.emails),
        ("URIs", request.uris),
        ("names of other kinds", request.other_names),
    ):
        if values:
            found.append(f"it asks for {kind}: {', '.join(values)}")
    if not request.dns_names and not request.ip_addresses:  # [signers], permitted x509 extensions
        found.append("it asks for neither a DNS name nor an IP address")
    return found


def _name_problems(
    name: str,
    request: CertificateRequest,
    node: dict[str, Any] | None,
    other_nodes: list[dict[str, Any]],
    reserved: set[str],
) -> list[str]:
    """[own]: the rules that kube-controller-manager cannot apply."""
    if node is None or _object_name(node) != name:
        return [f"there is no node {name!r}"]
    own_dns = _addresses(node, DNS_TYPES) | {normal(name)}
    own_ips = _addresses(node, IP_TYPES)
    foreign = {address: _object_name(other) for other in other_nodes for address in _all_names(other)}
    off_limits = {normal(item) for item in reserved}
    found = [
        f"DNS name {item} is not one of node {name}"
        for item in request.dns_names
        if normal(item) not in own_dns
    ]
    found += [
        f"IP address {item} is not one of node {name}" for item in request.ip_addresses if item not in own_ips
    ]
    for item in [*request.dns_names, *request.ip_addresses]:
        key = normal(item)
        if key in off_limits or _is_reserved_for_all(key):
            found.append(f"{item} is reserved: no node may claim it")
        if key in foreign:
            found.append(f"{item} belongs to node {foreign[key]}")
    return found


def _is_reserved_for_all(name: str) -> bool:
    """Tell whether no node of any cluster may have this name: wildcards, the API Service, the loopback."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        in_api = name in ("kubernetes", "kubernetes.default") or name.startswith("kubernetes.default.")
        return "*" in name or in_api or name == "localhost"
    return address.is_loopback or address.is_unspecified or address.is_multicast


def _object_name(item: dict[str, Any]) -> str:
    return str((item.get("metadata") or {}).get("name") or "")


def _addresses(node: dict[str, Any], types: frozenset[str]) -> set[str]:
    entries = (node.get("status") or {}).get("addresses") or []
    return {normal(str(entry.get("address"))) for entry in entries if entry.get("type") in types}


def _all_names(node: dict[str, Any]) -> set[str]:
    return _addresses(node, DNS_TYPES | IP_TYPES) | {normal(_object_name(node))}


# --- the API -----------------------------------------------------------------------------------------------


class Api:
    """One API server; a connection per request, so that a restarted server leaves nothing stale behind."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """``context`` of None speaks plain HTTP, which only the tests do."""
        self._host = host
        self._port = port
        self._context = context

    def list(self, path: str, **query: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self._request(
                "GET", f"{path}?{urlencode({**query, 'limit': PAGE_SIZE, 'continue': token})}"
            )
            items += page.get("items") or []
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return items

    def put(self, path: str, body: dict[str, Any]) -> None:
        self._request("PUT", path, body)

    def _request(self, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if self._context is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=REQUEST_TIMEOUT)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=REQUEST_TIMEOUT, context=self._context
            )
        headers = {"Accept": "application/json", "User-Agent": "kubewright-kubelet-csr-approver"}
        payload = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body).encode()
        try:
            connection.request(method, target, body=payload, headers=headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Trouble(f"{self._host}:{self._port} does not answer: {error}") from error
        finally:
            connection.close()
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Trouble(
                f"{method} {target}: status {response.status} without a JSON object", response.status
            )
        if response.status >= 400:
            raise Trouble(f"{method} {target}: {answer.get('message') or response.reason}", response.status)
        return answer


class KubeconfigSource:
    """Make an ``Api`` from a kubeconfig, again when the file changes (certificates are renewed yearly)."""

    def __init__(self, path: str, server: str | None) -> None:
        self._path = path
        self._server = server
        self._seen: tuple[int, int] | None = None
        self._api: Api | None = None

    def __call__(self) -> Api:
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise Trouble(f"{self._path}: {error.strerror}") from error
        seen = (status.st_mtime_ns, status.st_ino)
        if self._api is None or seen != self._seen:
            self._api = _connect(_read_kubeconfig(self._path), self._path, self._server)
            self._seen = seen
        return self._api


def _read_kubeconfig(path: str) -> Any:
    """Let kubectl read the file, since the standard library has no YAML; the output is secret."""
    argv = [
        "kubectl",
        "config",
        "view",
        f"--kubeconfig={path}",
        "--raw",
        "--flatten",
        "--minify",
        "-o",
        "json",
    ]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(argv, capture_output=True, check=True, env=environment, timeout=KUBECTL_TIMEOUT)
        return json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        # The message of the error is left out: it can quote the output.
        raise Trouble(f"kubectl cannot read {path} ({type(error).__name__})") from None


def _connect(config: Any, path: str, server: str | None) -> Api:
    try:
        cluster = config["clusters"][0]["cluster"]
        user = config["users"][0]["user"]
        address = urlsplit(server or cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
        certificate = base64.b64decode(user["client-certificate-data"])
        key = base64.b64decode(user["client-key-data"])
        context = ssl.create_default_context(cadata=authority)
        # Python 3.13 began to demand extensions that Go, and so every Kubernetes component, does not demand.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        _load_client_certificate(context, certificate + b"\n" + key)
        if address.scheme != "https" or not address.hostname:
            raise ValueError
        return Api(address.hostname, address.port or 443, context)
    except (KeyError, IndexError, TypeError, ValueError, ssl.SSLError) as error:
        # The message of the error is left out: it can quote a key.
        raise Trouble(f"{path} does not lead to an API server over TLS ({type(error).__name__})") from None


def _load_client_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    """Hand the key to OpenSSL, which reads files only, through memory: it never touches a disk."""
    descriptor = os.memfd_create("kubewright-client")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


# --- the service -------------------------------------------------------------------------------------------


class Approver:
    """Look at the pending requests, again and again."""

    def __init__(self, connect: Callable[[], Api], reserved: set[str], log: Callable[[str], None]) -> None:
        self._connect = connect
        self._reserved = reserved
        self._log = log
        self._reported: set[str] = set()

    def poll(self) -> None:
        """Decide about every pending request once. Raises Trouble."""
        api = self._connect()
        # The server filters; the rule on the signer is checked again all the same.
        listed = api.list(CSR_PATH, fieldSelector=f"spec.signerName={SIGNER}")
        pending = [csr for csr in listed if is_pending(csr)]
        self._reported &= {_uid(csr) for csr in pending}
        if not pending:
            return
        nodes = {_object_name(node): node for node in api.list(NODE_PATH)}
        for csr in pending:
            asking = node_name(csr)
            others = [node for name, node in nodes.items() if name != asking]
            found = problems(csr, nodes.get(asking), others, self._reserved)
            if found:
                self._report(csr, found)
            else:
                self._approve(api, csr)

    def _report(self, csr: dict[str, Any], found: list[str]) -> None:
        if _uid(csr) not in self._reported:
            self._reported.add(_uid(csr))
            self._log(
                f"left pending {_object_name(csr)} of {node_name(csr) or 'no node'}: {'; '.join(found)}"
            )

    def _approve(self, api: Api, csr: dict[str, Any]) -> None:
        name = _object_name(csr)
        try:
            api.put(f"{CSR_PATH}/{quote(name, safe='')}/approval", approval(csr))
        except Trouble as error:
            # Somebody else decided first or the request is gone; the next poll sees what is left to do.
            if error.status in (http.client.CONFLICT, http.client.NOT_FOUND):
                return
            if not 400 <= error.status < 500 or error.status == http.client.TOO_MANY_REQUESTS:
                raise
            # One request that the server refuses must not keep the others waiting.
            self._report(csr, [f"the approval was refused: {error}"])
            return
        self._log(f"approved {name} of node {node_name(csr)}")


def _uid(csr: dict[str, Any]) -> str:
    return str((csr.get("metadata") or {}).get("uid") or _object_name(csr))


def log(message: str) -> None:
    """Write one line; whatever a stranger put into a name begins no second one. journald adds the time."""
    line = "".join(character if character.isprintable() else "?" for character in message)
    print(line[:LONGEST_LINE], flush=True)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Approve the serving certificates of kubelets.")
    parser.add_argument("--kubeconfig", default="/etc/kubernetes/admin.conf")
    parser.add_argument(
        "--server", help="https://ADDRESS:PORT of the API server, in place of the kubeconfig's"
    )
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two polls")
    parser.add_argument(
        "--reserved",
        action="append",
        default=[],
        metavar="ADDRESS_OR_NAME",
        help="a name or address that no node may claim, such as the control plane endpoint; can be repeated",
    )
    parser.add_argument(
        "--once", action="store_true", help="poll once and end; the exit code is 1 on trouble"
    )
    options = parser.parse_args(argv)
    if options.interval <= 0:
        parser.error("--interval must be above 0")
    return options


def main(argv: list[str] | None = None, connect: Callable[[], Api] | None = None) -> int:
    options = arguments(argv)
    source = connect or KubeconfigSource(options.kubeconfig, options.server)
    approver = Approver(source, set(options.reserved), log)
    pause = options.interval
    while True:
        try:
            approver.poll()
            pause = options.interval
            code = 0
        except Trouble as error:
            log(f"trouble, will try again: {error}")
            pause = min(pause * 2, max(LONGEST_BACKOFF, options.interval))
            code = 1
        if options.once:
            return code
        time.sleep(pause)


if __name__ == "__main__":
    sys.exit(main())
