# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small client for the Kibana that the role kube_logging installs, and the data view that it makes there.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any, cast

from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import (
    Elasticsearch,
    ElasticsearchError,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube_api import KubeApi

SERVICE = "kibana"
PORT = 5601
DATA_VIEWS = "/api/data_views/data_view"

_UNAUTHORIZED, _NOT_FOUND = 401, 404


class Kibana(Elasticsearch):
    """Kibana, with the credentials and the authority of Elasticsearch, whose users and certificates it has."""

    base_path = ""

    @classmethod
    def from_cluster(cls, api: KubeApi, namespace: str, timeout: float = 10, base_path: str = "") -> Kibana:
        """Find the Service, the operator's password and the authority in *namespace*.

        *base_path* is where Kibana answers, for one that takes it off by itself.
        """
        client = cast(Kibana, super().from_cluster(api, namespace, timeout))
        service = api.get(f"/api/v1/namespaces/{namespace}/services/{SERVICE}")
        client._address = str(service["spec"]["clusterIP"])
        client._port = PORT
        client.name = f"{SERVICE}.{namespace}.svc"
        client.base_path = base_path
        # Kibana refuses what changes something and does not have this header, whatever it says.
        client._headers["kbn-xsrf"] = "kubewright"
        return client

    def _send(self, method: str, path: str, body: Any, query: dict[str, Any] | None) -> tuple[int, Any]:
        return super()._send(method, self.base_path + path, body, query)

    def _unreachable(self, method: str, path: str, error: Exception) -> ElasticsearchError:
        found = super()._unreachable(method, path, error)
        found.remedy = (
            "Look at the pods of Kibana and their logs, and at kube-proxy on this host, through which it is reached"
            if found.transient
            else "Kibana's certificate is not one of the authority in Secret kibana-tls: run logging.yml"
        )
        return found

    def _refused(
        self, method: str, path: str, response: http.client.HTTPResponse, content: Any
    ) -> ElasticsearchError:
        found = super()._refused(method, path, response, content)
        if isinstance(content, Mapping):
            found.why = str(content.get("message") or content.get("error") or found.why)[:1000]
        if found.status != _UNAUTHORIZED:
            found.remedy = "Look at the log of Kibana: kubectl logs deployment/kibana"
        return found


def data_view(name: str, title: str, time_field: str) -> dict[str, str]:
    """Return a data view as Kibana takes it."""
    return {"id": name, "title": title, "name": title, "timeFieldName": time_field}


def observe(kibana: Kibana, name: str) -> dict[str, Any] | None:
    """Return the data view that is there, None where there is none."""
    try:
        answer = kibana.get(f"{DATA_VIEWS}/{name}")
    except ElasticsearchError as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    found = answer.get("data_view") if isinstance(answer, Mapping) else None
    if not isinstance(found, dict):
        raise KubewrightError(
            "Kibana does not answer as it should",
            where=f"{kibana.name}{DATA_VIEWS}/{name}",
            remedy="Look whether something else answers at the address of the Service kibana",
        )
    return found


def differs(found: Mapping[str, Any] | None, wanted: Mapping[str, str]) -> bool:
    """Tell whether a data view has to be written. Its name for people is theirs to change."""
    return found is None or any(found.get(key) != wanted[key] for key in ("title", "timeFieldName"))


def write(kibana: Kibana, wanted: Mapping[str, str]) -> None:
    """Make a data view, in place of one that is there."""
    kibana.request("POST", DATA_VIEWS, {"data_view": dict(wanted), "override": True})
