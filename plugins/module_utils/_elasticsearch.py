# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client for the Elasticsearch that the role kube_logging installs.

It speaks to the address of the Service, which every node reaches, and verifies the certificate for the Service's
name. Every request has a connection of its own, as those to the Kubernetes API have: Elasticsearch's nodes come and
go while it is used. Proxies from the environment are not used.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from typing import Any
from urllib.parse import urlencode

from ansible_collections.kubewright.cluster.plugins.module_utils import _run_log
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi

SERVICE = "elasticsearch"
OPERATOR = "elasticsearch-operator"
PORT = 9200

_BAD_REQUEST, _UNAUTHORIZED, _NOT_FOUND, _TOO_MANY_REQUESTS, _SERVER_ERROR = 400, 401, 404, 429, 500
_NONE = "None"


class ElasticsearchError(ApiError):
    """Elasticsearch refused a request, or could not be reached.

    ``status`` is the HTTP status, 0 without an answer. ``reason`` is the type of the error in Elasticsearch's words,
    for example ``resource_not_found_exception``; ``details`` is what came with it.
    """


class Elasticsearch:
    """One Elasticsearch. *timeout* in seconds is for connecting and for each read."""

    def __init__(
        self,
        address: str,
        port: int,
        name: str,
        ssl_context: ssl.SSLContext,
        credentials: tuple[str, str],
        timeout: float = 10,
    ) -> None:
        self.name = name
        self.timeout = timeout
        self._address = address
        self._port = port
        self._context = ssl_context
        pair = base64.b64encode(":".join(credentials).encode()).decode()
        self._headers = {"Accept": "application/json", "Authorization": f"Basic {pair}"}

    @classmethod
    def from_cluster(cls, api: KubeApi, namespace: str, timeout: float = 10) -> Elasticsearch:
        """Find the Service, the operator's password and the authority in *namespace*.

        What is not there is an error with status 404.
        """
        service = _need(api, namespace, "services", SERVICE)
        operator = _need(api, namespace, "secrets", OPERATOR)
        tls = _need(api, namespace, "secrets", "elasticsearch-tls")
        address = str((service.get("spec") or {}).get("clusterIP") or _NONE)
        if address == _NONE:
            raise KubewrightError(
                "The Service of Elasticsearch has no address",
                where=f"Service {namespace}/{SERVICE}",
                remedy="Delete it, and run logging.yml again",
            )
        return cls(
            address,
            PORT,
            f"{SERVICE}.{namespace}.svc",
            _trust(_text(tls, "ca.crt", namespace)),
            (_text(operator, "username", namespace), _text(operator, "password", namespace)),
            timeout,
        )

    def request(self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None) -> Any:
        """Send one request and return the decoded JSON, or text where the answer is not JSON.

        A request that can change something is a step of the run log. Elasticsearch takes a body with GET, too: a
        search is a GET.
        """
        if method in ("GET", "HEAD"):
            return self._send(method, path, body, query)[1]
        with _run_log.step("api", f"{method} https://{self.name}:{self._port}{path}") as step:
            step.rc, content = self._send(method, path, body, query)
            return content

    def get(self, path: str, **query: Any) -> Any:
        return self.request("GET", path, query=query)

    def find(self, path: str, **query: Any) -> Any:
        """Return None for what Elasticsearch does not have."""
        try:
            return self.get(path, **query)
        except ElasticsearchError as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    def _send(self, method: str, path: str, body: Any, query: dict[str, Any] | None) -> tuple[int, Any]:
        headers = dict(self._headers)
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = _NamedConnection(self._address, self._port, self.name, self._context, self.timeout)
        try:
            connection.request(method, path + _query_string(query), body=payload, headers=headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(method, path, error) from error
        finally:
            connection.close()
        content = _decode(data)
        if response.status >= _BAD_REQUEST:
            raise self._refused(method, path, response, content)
        return response.status, content

    def _unreachable(self, method: str, path: str, error: Exception) -> ElasticsearchError:
        # A certificate that does not verify will not verify the next time either.
        final = isinstance(error, ssl.SSLCertVerificationError)
        return ElasticsearchError(
            f"No answer to {method} {path}",
            status=0,
            reason="Unverified" if final else "Unreachable",
            where=self._where(),
            why=str(error) or type(error).__name__,
            remedy=(
                "Elasticsearch's certificate is not one of the authority in Secret elasticsearch-tls: run logging.yml, "
                "which renews what is due, or look who answers at this address"
                if final
                else "Look at the pods of Elasticsearch, and at kube-proxy on this host, through which it is reached"
            ),
            transient=not final,
        )

    def _refused(
        self, method: str, path: str, response: http.client.HTTPResponse, content: Any
    ) -> ElasticsearchError:
        answer = content.get("error") if isinstance(content, dict) else content
        details = answer if isinstance(answer, dict) else {}
        remedy = ""
        if response.status == _UNAUTHORIZED:
            remedy = (
                f"The password in Secret {OPERATOR} is not the one whose hash is in Secret elasticsearch-realm, or the "
                "nodes have not read the new hash yet: run logging.yml, and look at the log of Elasticsearch"
            )
        return ElasticsearchError(
            f"{method} {path} was refused with status {response.status}",
            status=response.status,
            reason=str(details.get("type") or response.reason),
            where=self._where(),
            why=str(details.get("reason") or answer or response.reason)[:1000],
            remedy=remedy,
            transient=response.status == _TOO_MANY_REQUESTS or response.status >= _SERVER_ERROR,
            details=details,
        )

    def _where(self) -> str:
        return f"https://{self.name}:{self._port} at {self._address}"


class _NamedConnection(http.client.HTTPSConnection):
    """Connects to an address and verifies a name: hosts do not resolve the names of Services."""

    def __init__(self, address: str, port: int, name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(address, port, timeout=timeout, context=context)
        self._name = name
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)
        except BaseException:
            plain.close()
            raise


def _need(api: KubeApi, namespace: str, resource: str, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = api.get(f"/api/v1/namespaces/{namespace}/{resource}/{name}")
    except ApiError as error:
        if error.status == _NOT_FOUND:
            error.what = f"There is no {'Service' if resource == 'services' else 'Secret'} {namespace}/{name}"
            error.remedy = "Run logging.yml, or name the namespace in which it installed Elasticsearch"
        raise
    return found


def _text(secret: dict[str, Any], key: str, namespace: str) -> str:
    """Return one text of a Secret; what is wrong with it is said without quoting it."""
    try:
        text = base64.b64decode((secret.get("data") or {})[key]).decode()
        if text:
            return text
    except (KeyError, ValueError):
        pass
    raise KubewrightError(
        f"A Secret of Elasticsearch has no {key} that can be read",
        where=f"Secret {namespace}/{secret['metadata']['name']}",
        remedy="Run logging.yml, which completes it",
    )


def _trust(authority: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=authority)
    except (ValueError, ssl.SSLError) as error:
        raise KubewrightError(
            "The authority of Elasticsearch cannot be read",
            where="ca.crt in Secret elasticsearch-tls",
            why=str(error),
            remedy="Run logging.yml, which writes it again",
        ) from error


def _query_string(query: dict[str, Any] | None) -> str:
    pairs = {}
    for key, value in (query or {}).items():
        if value is not None:
            pairs[key] = str(value).lower() if isinstance(value, bool) else value
    return "?" + urlencode(pairs) if pairs else ""


def _decode(data: bytes) -> Any:
    text = data.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text
