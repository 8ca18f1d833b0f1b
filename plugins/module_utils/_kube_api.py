# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client for the Kubernetes API that needs the standard library and ``kubectl`` only.

``kubectl`` reads the kubeconfig (hosts have no YAML parser) and is not used for anything else. Every request
has a connection of its own: one client can serve several threads, and a server that restarts leaves no dead
connection behind. Proxies from the environment are not used: a request goes to the server that was named.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

from ansible_collections.kubewright.cluster.plugins.module_utils import _run_log
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import (
    ApiError,
    CommandError,
    KubewrightError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._runner import Runner

PAGE = 500
APPLY_PATCH = "application/apply-patch+yaml"
_FORBIDDEN = 403
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500
_BAD_REQUEST = 400

# Ignoring one of these would send the request as somebody else or to somewhere else.
_UNSUPPORTED_USER = ("exec", "auth-provider", "username", "as", "as-uid", "as-groups", "as-user-extra")
_UNSUPPORTED_CLUSTER = ("proxy-url", "tls-server-name")


def is_transient(error: BaseException) -> bool:
    """Tell whether repeating the same request may help: no connection, status 429, or status 5xx."""
    return isinstance(error, KubewrightError) and error.transient


@contextlib.contextmanager
def while_it_starts() -> Iterator[None]:
    """Let a refusal pass for one that may end: a server that has just started has not read its rules (RBAC) yet."""
    try:
        yield
    except ApiError as error:
        error.transient = error.transient or error.status == _FORBIDDEN
        raise


class KubeApi:
    """One API server. *timeout* in seconds is for connecting and for each read."""

    def __init__(
        self,
        server: str,
        ssl_context: ssl.SSLContext,
        headers: dict[str, str] | None = None,
        timeout: float = 10,
    ) -> None:
        self.server = server.rstrip("/")
        self.timeout = timeout
        self._context = ssl_context
        self._headers = headers or {}
        parts = urlsplit(self.server)
        if parts.scheme != "https" or not parts.hostname:
            raise KubewrightError(
                "The address of the API server is not usable",
                where=server,
                why="it is not of the form https://host:port",
                remedy="Correct the server in the kubeconfig or the option that overrides it",
            )
        self._host = parts.hostname
        self._port = parts.port or 443
        self._prefix = parts.path

    @classmethod
    def from_kubeconfig(
        cls,
        path: str,
        runner: Runner,
        *,
        server: str | None = None,
        context: str | None = None,
        timeout: float = 10,
    ) -> KubeApi:
        """Make a client from the kubeconfig at *path*.

        *server* replaces the address in it, for asking one API server behind a load balancer; the certificate
        is still verified. *context* is the current context unless named.
        """
        if not os.path.exists(path):
            raise KubewrightError(
                "There is no kubeconfig",
                where=path,
                remedy="Run this on a control plane, or name the path of a kubeconfig",
            )
        argv = ["kubectl", "config", "view", "--raw", "--flatten", "--minify", "--output=json"]
        argv += [f"--kubeconfig={path}"] + ([f"--context={context}"] if context else [])
        try:
            config = runner.json(argv, timeout=30, secret=True)
        except CommandError as error:
            error.where = path
            error.remedy = error.remedy or "Make sure that kubectl reads the file and that the context exists"
            raise
        return cls.from_config(config, path, server=server, timeout=timeout)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], path: str, *, server: str | None = None, timeout: float = 10
    ) -> KubeApi:
        """Make a client from the first cluster and the first user of *config*, a decoded kubeconfig.

        Everything must be inside it, not in files that it names. *path* says in errors what it is.
        """
        try:
            cluster = config["clusters"][0]["cluster"]
            address = server or cluster["server"]
            user = config["users"][0]["user"]
        except (KeyError, IndexError, TypeError) as error:
            raise KubewrightError(
                "The kubeconfig is incomplete",
                where=path,
                why="its current context does not lead to a server and a user",
                remedy="Write the kubeconfig again",
            ) from error
        unsupported = [key for key in _UNSUPPORTED_USER if user.get(key)]
        unsupported += [key for key in _UNSUPPORTED_CLUSTER if cluster.get(key)]
        if unsupported:
            raise KubewrightError(
                "The kubeconfig uses what this collection does not support",
                where=path,
                why=", ".join(unsupported),
                remedy="Name a kubeconfig with a client certificate or a bearer token",
            )
        return cls(address, _ssl_context(cluster, user, path), _auth_headers(user), timeout)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """Send one request and return the decoded JSON, or text where the answer is not JSON.

        Values of None in *query* are left out. A request that can change something is a step of the run log.
        """
        if method in ("GET", "HEAD") or (query or {}).get("dryRun"):
            return self._send(method, path, body, query, content_type)[1]
        with _run_log.step("api", f"{method} {self.server}{path}") as step:
            step.rc, content = self._send(method, path, body, query, content_type)
            return content

    def _send(
        self, method: str, path: str, body: Any, query: dict[str, Any] | None, content_type: str
    ) -> tuple[int, Any]:
        """Return the status and the content of an answer that is no error."""
        headers = {"Accept": "application/json", "User-Agent": "kubewright.cluster", **self._headers}
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        target = self._prefix + path + _query_string(query)
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self.timeout, context=self._context
        )
        try:
            connection.request(method, target, body=payload, headers=headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(method, path, error) from error
        finally:
            connection.close()
        content = _decode(data, response.getheader("Content-Type") or "")
        if response.status >= _BAD_REQUEST:
            raise self._refused(method, path, response, content)
        return response.status, content

    def get(self, path: str, **query: Any) -> Any:
        return self.request("GET", path, query=query)

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return all items of a collection, read in pages."""
        items: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            page = self.request("GET", path, query={"limit": PAGE, "continue": token, **query})
            items.extend(page.get("items") or [])
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return items

    def apply(
        self, path: str, body: dict[str, Any], field_manager: str = "kubewright", dry_run: bool = False
    ) -> Any:
        """Apply *body* on the server side and take over the fields that it names.

        JSON is YAML, so the body needs no YAML writer.
        """
        query = {"fieldManager": field_manager, "force": True, "dryRun": "All" if dry_run else None}
        return self.request("PATCH", path, body=body, query=query, content_type=APPLY_PATCH)

    def delete(self, path: str, *, body: Any = None, **query: Any) -> Any:
        return self.request("DELETE", path, body=body, query=query)

    def _unreachable(self, method: str, path: str, error: Exception) -> ApiError:
        # A certificate that does not verify will not verify the next time either.
        final = isinstance(error, ssl.SSLCertVerificationError)
        return ApiError(
            f"No answer to {method} {path}",
            status=0,
            reason="Unverified" if final else "Unreachable",
            where=self.server,
            why=str(error) or type(error).__name__,
            remedy=(
                "Compare the certificate of the server with the authority in the kubeconfig"
                if final
                else "Make sure that the API server runs and that this host reaches it"
            ),
            transient=not final,
        )

    def _refused(self, method: str, path: str, response: http.client.HTTPResponse, content: Any) -> ApiError:
        answer = content if isinstance(content, dict) else {"message": content}
        details = answer.get("details")
        return ApiError(
            f"{method} {path} was refused with status {response.status}",
            status=response.status,
            reason=str(answer.get("reason") or response.reason),
            where=self.server,
            why=str(answer.get("message") or response.reason),
            transient=response.status == _TOO_MANY_REQUESTS or response.status >= _SERVER_ERROR,
            details=details if isinstance(details, dict) else None,
            retry_after=_seconds(response.getheader("Retry-After")),
        )


def _query_string(query: dict[str, Any] | None) -> str:
    pairs = {}
    for key, value in (query or {}).items():
        if value is not None:
            pairs[key] = str(value).lower() if isinstance(value, bool) else value
    return "?" + urlencode(pairs) if pairs else ""


def _decode(data: bytes, content_type: str) -> Any:
    text = data.decode("utf-8", "replace")
    if content_type.partition(";")[0].strip().endswith("json"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _seconds(header: str | None) -> float | None:
    """Read Retry-After; Kubernetes sends seconds, never a date."""
    try:
        return float(header) if header else None
    except ValueError:
        return None


def _auth_headers(user: dict[str, Any]) -> dict[str, str]:
    token = user.get("token")
    if not token and user.get("tokenFile"):
        try:
            with open(user["tokenFile"], encoding="utf-8") as file:
                token = file.read().strip()
        except OSError as error:
            raise KubewrightError(
                "The token cannot be read",
                where=user["tokenFile"],
                why=error.strerror or "",
                remedy="Write the token there, or name another kubeconfig",
            ) from error
    return {"Authorization": f"Bearer {token}"} if token else {}


def _ssl_context(cluster: dict[str, Any], user: dict[str, Any], path: str) -> ssl.SSLContext:
    try:
        authority = base64.b64decode(cluster.get("certificate-authority-data") or "").decode("ascii")
        certificate = base64.b64decode(user.get("client-certificate-data") or "")
        key = base64.b64decode(user.get("client-key-data") or "")
        context = ssl.create_default_context(cadata=authority or None)
        # Python 3.13 began to demand extensions that Go, and so every Kubernetes component, does not demand.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            _load_client_certificate(context, certificate + b"\n" + key)
    except (ValueError, ssl.SSLError) as error:
        # The cause is left out on purpose: it could quote key material.
        raise KubewrightError(
            "The certificates in the kubeconfig cannot be used",
            where=path,
            why=type(error).__name__,
            remedy="Write the kubeconfig again",
        ) from None
    return context


def _load_client_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    """Load certificate and key from anonymous memory, so that the key never touches a disk."""
    descriptor = os.memfd_create("kubewright-client")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        # With a password of any kind an encrypted key is an error instead of a prompt on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    finally:
        os.close(descriptor)
