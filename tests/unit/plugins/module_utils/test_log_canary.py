# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The canary against a scripted cluster and a scripted Elasticsearch."""

from __future__ import annotations

import base64
import ssl
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils import _log_canary as canary
from ansible_collections.kubewright.cluster.plugins.module_utils import _log_canary_causes as causes
from ansible_collections.kubewright.cluster.plugins.module_utils._elasticsearch import ElasticsearchError
from ansible_collections.kubewright.cluster.plugins.module_utils._errors import ApiError, KubewrightError

CORE = "/api/v1/namespaces/logging"
PODS = f"{CORE}/pods"
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=timezone.utc)
TOKEN = "canaryab12"
AUTHORITY = (Path(__file__).parents[2] / "fixtures" / "x509" / "certificate_ca.pem").read_text()


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def elasticsearch_error(status: int, reason: str = "", why: str = "no") -> ElasticsearchError:
    return ElasticsearchError(
        "GET was refused",
        status=status,
        reason=reason,
        why=why,
        transient=status == 0 and reason != "Unverified",
    )


class FakeElasticsearch:
    """Finds the line of a node some seconds after it was written, unless a script says otherwise."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.takes: dict[str, float] = {}  # seconds by node; 2 where it says nothing
        self.error: KubewrightError | None = None
        self.settings: dict[str, Any] = {}
        self.health: dict[str, Any] = {"status": "green"}

    def request(self, method: str, path: str, body: Any = None) -> Any:
        if self.error:
            raise self.error
        assert (method, path) == ("GET", "/logstash-*/_search")
        assert body["query"]["bool"]["filter"] == [{"match": {"message": TOKEN}}]
        assert body["size"] >= len(self.cluster.applied)
        hits = []
        for name, one in self.cluster.applied.items():
            node = one["spec"]["nodeName"]
            written = self.cluster.runs_after.get(node, 1)
            if self.cluster.clock.now >= written + self.takes.get(node, 2):
                # Each is there twice, as after a collector that was killed without ids of its own.
                hits += [{"_source": {"kubernetes": {"pod_name": name}}}] * 2
        return {"hits": {"hits": [*hits, {"_source": {"message": "of somebody else"}}]}}

    def get(self, path: str, **query: Any) -> Any:
        if path == "/_cluster/health":
            return self.health
        assert path == "/logstash-*/_settings"
        assert query == {"flat_settings": True}
        return self.settings


class FakeCluster:
    """An API server from a script: nodes, when their pods end, and what a person would look up."""

    def __init__(self, **nodes: bool) -> None:
        self.clock = FakeClock()
        self.nodes = nodes
        self.runs_after: dict[str, float] = {}  # seconds by node; 1 where it says nothing
        self.pod_status: dict[str, dict[str, Any]] = {}
        self.old: list[dict[str, Any]] = []
        self.collectors: list[dict[str, Any]] = []
        self.metrics: str | KubewrightError = ""
        self.log = ""
        self.events: list[dict[str, Any]] = []
        self.secret: dict[str, str] = {
            "username": "collector",
            "password": "secret-word",
            "ca.crt": AUTHORITY,
        }
        self.applied: dict[str, dict[str, Any]] = {}
        self.removed: list[str] = []
        self.fail_delete = False
        self.elasticsearch = FakeElasticsearch(self)

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        if path == "/api/v1/nodes":
            assert query == {"labelSelector": "kubernetes.io/os=linux"}
            return [
                {
                    "metadata": {"name": name},
                    "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
                }
                for name, ready in self.nodes.items()
            ]
        if path == f"{CORE}/events":
            return self.events
        assert path == PODS
        wanted = dict(pair.split("=") for pair in query["labelSelector"].split(","))
        pods = [*self.old, *self.collectors, *map(self._pod, self.applied.values())]
        return [pod for pod in pods if wanted.items() <= pod["metadata"]["labels"].items()]

    def _pod(self, applied: dict[str, Any]) -> dict[str, Any]:
        node = applied["spec"]["nodeName"]
        done = self.clock.now >= self.runs_after.get(node, 1)
        status = {"phase": "Succeeded"} if done else self.pod_status.get(node, {"phase": "Pending"})
        return {**applied, "status": status}

    def apply(self, path: str, body: dict[str, Any]) -> Any:
        assert path == f"{PODS}/{body['metadata']['name']}"
        self.applied[body["metadata"]["name"]] = body
        return body

    def delete(self, path: str, **query: Any) -> Any:
        assert path == PODS
        if self.fail_delete:
            raise ApiError("DELETE was refused", status=403)
        labels = dict(pair.split("=") for pair in query["labelSelector"].split(","))
        assert canary.LABELS.items() <= labels.items()
        self.removed.append(labels[canary.RUN])

    def get(self, path: str, **query: Any) -> Any:
        if path.endswith("/log"):
            return self.log
        if path.endswith(":8888/proxy/metrics"):
            if isinstance(self.metrics, KubewrightError):
                raise self.metrics
            return self.metrics
        if path == f"{CORE}/services/elasticsearch":
            return {"spec": {"clusterIP": "10.96.0.9"}}
        assert path == f"{CORE}/secrets/collector-elasticsearch"
        return {
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in self.secret.items()}
        }


@pytest.fixture(autouse=True)
def authenticate(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the fake Elasticsearch says to the collectors' own credentials, and what these were."""
    script: dict[str, Any] = {"error": None}

    class FakeClient:
        def __init__(
            self, address: str, port: int, name: str, trust: ssl.SSLContext, credentials: tuple[str, str]
        ):
            script["seen"] = (address, port, name, len(trust.get_ca_certs()), credentials)

        def get(self, path: str) -> Any:
            assert path == "/_security/_authenticate"
            if script["error"]:
                raise script["error"]

    monkeypatch.setattr(causes, "Elasticsearch", FakeClient)
    return script


def options(timeout: float = 30) -> canary.Options:
    return canary.Options(namespace="logging", image="agnhost:1", timeout=timeout)


def run(api: Any, timeout: float = 30) -> canary.Report:
    planned = canary.plan(canary.observe(api, "logging", NOW), options(timeout), TOKEN)
    return canary.execute(api, api.elasticsearch, planned, options(timeout), api.clock, api.clock.sleep)


def collector(node: str, *, ready: bool = True, **container: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"collector-{node}", "labels": {"app.kubernetes.io/name": "collector"}},
        "spec": {"nodeName": node},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "collector", "ready": ready, **container}],
        },
    }


def test_every_line_is_found() -> None:
    api = FakeCluster(cp1=True, w1=True, w2=True)
    api.runs_after["w2"] = 3
    report = run(api)
    assert report.result() == {
        "passed": True,
        "failures": [],
        "seconds": 5.0,
        "nodes": [
            {
                "node": node,
                "pod": f"kubewright-canary-{TOKEN}-{at}",
                "found": True,
                "seconds_to_write": written,
                "seconds_to_find": written + 2,
            }
            for at, (node, written) in enumerate([("cp1", 1.0), ("w1", 1.0), ("w2", 3.0)])
        ],
    }
    assert report.summary() == "The lines of 3 nodes are in Elasticsearch, the last one after 5 seconds."
    assert api.removed == [TOKEN]


def test_a_pod_runs_on_its_node_whatever_that_is_tainted_with_and_may_do_nothing() -> None:
    api = FakeCluster(cp1=True)
    run(api, timeout=30)
    (body,) = api.applied.values()
    spec = body["spec"]
    assert spec["nodeName"] == "cp1"
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["activeDeadlineSeconds"] == 30
    assert spec["containers"][0]["args"] == ["entrypoint-tester", TOKEN]
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True


def test_nodes_that_are_not_ready_are_left_out() -> None:
    planned = canary.plan(canary.observe(FakeCluster(cp1=True, w1=False), "logging", NOW), options(), TOKEN)
    assert list(planned.pods) == ["cp1"]
    assert planned.not_ready_nodes == ["w1"]
    with pytest.raises(KubewrightError, match="no node is Ready"):
        canary.plan(canary.Observed({"w1": False}, []), options(), TOKEN)


def test_pods_of_runs_that_were_cut_off_are_removed_and_others_are_not() -> None:
    api = FakeCluster(cp1=True)
    for token, created, seconds in (
        ("old", "2026-11-23T11:50:00Z", 120),
        ("alive", "2026-11-23T11:50:00Z", 900),
        ("margin", "2026-11-23T11:57:30Z", 120),
    ):
        labels = {**canary.LABELS, canary.RUN: token}
        metadata = {"name": token, "labels": labels, "creationTimestamp": created}
        api.old.append({"metadata": metadata, "spec": {"activeDeadlineSeconds": seconds}, "status": {}})
    run(api)
    assert api.removed == ["old", TOKEN]


def test_a_pod_that_does_not_run_is_explained() -> None:
    api = FakeCluster(cp1=True, w1=True)
    api.runs_after["w1"] = 1e9
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "agnhost:1"'}
    api.pod_status["w1"] = {"containerStatuses": [{"name": "canary", "state": {"waiting": waiting}}]}
    report = run(api)
    assert [entry["found"] for entry in report.nodes] == [True, False]
    (failure,) = report.failures
    assert "The pod that writes the line of node w1 did not run" in failure
    assert "ImagePullBackOff" in failure
    assert "Make sure that the node can pull the image" in failure
    assert api.removed == [TOKEN]


def test_a_pod_that_the_kubelet_refuses_is_explained() -> None:
    api = FakeCluster(w1=True)
    api.runs_after["w1"] = 1e9
    api.pod_status["w1"] = {"phase": "Failed", "reason": "OutOfpods", "message": "Node has no room"}
    (failure,) = run(api).failures
    assert "OutOfpods: Node has no room" in failure


def test_a_pod_that_somebody_deleted_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeCluster(w1=True)
    api.elasticsearch.takes["w1"] = 1e9
    monkeypatch.setattr(api, "_pod", lambda body: {"metadata": {"labels": {}}})
    (failure,) = run(api).failures
    assert "The pod that writes the line of node w1 is gone" in failure


def test_a_node_without_a_collector_is_named(authenticate: dict[str, Any]) -> None:
    api = FakeCluster(w1=True, w2=True)
    api.elasticsearch.takes["w1"] = 1e9
    api.collectors = [collector("w2")]
    report = run(api)
    assert len(report.failures) == 1
    assert "the node has no collector" in report.failures[0]
    assert "kube_logging_collector_tolerations" in report.failures[0]
    assert report.summary().startswith(
        "Not every line arrives in Elasticsearch. The line of node w1 was written"
    )
    assert authenticate["seen"] == (
        "10.96.0.9",
        9200,
        "elasticsearch.logging.svc",
        1,
        ("collector", "secret-word"),
    )


def test_a_collector_that_does_not_work_is_explained(authenticate: dict[str, Any]) -> None:
    api = FakeCluster(w1=True)
    api.elasticsearch.takes["w1"] = 1e9
    terminated = {"reason": "OOMKilled", "exitCode": 137}
    api.collectors = [collector("w1", ready=False, lastState={"terminated": terminated})]
    api.events = [
        {
            "involvedObject": {"name": "collector-w1"},
            "reason": "BackOff",
            "message": "Back-off restarting",
            "lastTimestamp": "2026-11-23T12:00:00Z",
        }
    ]
    api.log = "the last words\n"
    (failure,) = run(api).failures
    assert "because its collector does not work" in failure
    for part in (
        "OOMKilled: exit code 137",
        "BackOff: Back-off restarting",
        "the last words",
        "Give it more memory",
    ):
        assert part in failure


@pytest.mark.parametrize(
    ("metrics", "held"),
    [
        (
            '# HELP x\notelcol_exporter_queue_size{exporter="elasticsearch"} 4096\nother 1\n',
            "holds 4096 bytes",
        ),
        ('fluentd_output_status_buffer_total_bytes{type="elasticsearch"} 2048.0\n', "holds 2048 bytes"),
        ("fluentd_output_status_buffer_total_bytes 0\n", ""),
        (ApiError("GET was refused", status=503), ""),
    ],
)
def test_a_collector_that_works_tells_what_it_holds(
    authenticate: dict[str, Any], metrics: str | KubewrightError, held: str
) -> None:
    api = FakeCluster(w1=True)
    api.elasticsearch.takes["w1"] = 1e9
    api.collectors = [collector("w1")]
    api.metrics = metrics
    api.log = "info: started\nerror: 400 document_parsing_exception\ninfo: flushed\n"
    (failure,) = run(api).failures
    assert "Its collector collector-w1 runs" in failure
    assert ": error: 400 document_parsing_exception. Look" in failure
    assert held in failure
    assert ("holds" in failure) == bool(held)


def test_the_log_of_a_collector_that_complains_of_nothing_ends_as_it_does(
    authenticate: dict[str, Any],
) -> None:
    api = FakeCluster(w1=True)
    api.elasticsearch.takes["w1"] = 1e9
    api.collectors = [collector("w1", lastState={"terminated": {"reason": "OOMKilled"}})]
    api.log = "".join(f"info {number}\n" for number in range(9))
    (failure,) = run(api).failures
    assert ": info 6 | info 7 | info 8. Look" in failure


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (elasticsearch_error(401), "Elasticsearch refuses the password of the collectors"),
        (
            elasticsearch_error(0, "Unverified", "certificate has expired"),
            "The collectors do not trust Elasticsearch",
        ),
    ],
)
def test_wrong_credentials_of_the_collectors_come_first(
    authenticate: dict[str, Any], error: ElasticsearchError, sentence: str
) -> None:
    authenticate["error"] = error
    api = FakeCluster(w1=True)
    api.elasticsearch.takes["w1"] = 1e9
    api.collectors = [collector("w1")]
    report = run(api)
    assert report.failures[0].startswith(sentence)
    assert len(report.failures) == 2
    assert "secret-word" not in str(report)


def test_what_cannot_be_looked_up_is_left_out(authenticate: dict[str, Any]) -> None:
    authenticate["error"] = elasticsearch_error(503)
    api = FakeCluster(w1=True)
    api.elasticsearch.takes["w1"] = 1e9
    del api.secret["ca.crt"]
    report = run(api)
    assert len(report.failures) == 1
    assert "seen" not in authenticate


def test_full_disks_and_lost_shards_are_named(authenticate: dict[str, Any]) -> None:
    api = FakeCluster(w1=True)
    api.elasticsearch.takes["w1"] = 1e9
    block = {"settings": {"index.blocks.read_only_allow_delete": "true"}}
    api.elasticsearch.settings = {"logstash-2026.11.23": block, "logstash-2026.11.22": {"settings": {}}}
    api.elasticsearch.health = {"status": "red", "unassigned_shards": 3, "number_of_data_nodes": 1}
    failures = run(api).failures
    assert "takes no lines into logstash-2026.11.23: a disk is above its flood-stage watermark" in failures[0]
    assert "Elasticsearch is red: 3 shards are on none of its 1 data nodes" in failures[1]


def test_an_elasticsearch_that_does_not_answer_is_the_only_failure() -> None:
    api = FakeCluster(w1=True)
    api.elasticsearch.error = elasticsearch_error(0, "Unreachable", "connection refused")
    report = run(api)
    (failure,) = report.failures
    assert "connection refused" in failure
    assert [entry["seconds_to_write"] for entry in report.nodes] == [1.0]
    assert api.removed == [TOKEN]


def test_a_refusal_ends_the_run_at_once_and_removes_the_pods() -> None:
    api = FakeCluster(w1=True)
    api.elasticsearch.error = elasticsearch_error(401)
    report = run(api)
    assert len(report.failures) == 1
    assert report.seconds == 0
    assert api.removed == [TOKEN]


def test_many_lost_lines_are_explained_by_some(authenticate: dict[str, Any]) -> None:
    nodes = {f"w{number}": True for number in range(1, 9)}
    api = FakeCluster(**nodes)
    api.elasticsearch.takes = dict.fromkeys(nodes, 1e9)
    failures = run(api).failures
    assert len(failures) == 6
    assert failures[-1] == "No line came from nodes w6, w7, w8 either."


def test_pods_that_stay_are_a_warning() -> None:
    api = FakeCluster(w1=True)
    api.fail_delete = True
    report = run(api)
    assert report.failures == []
    assert "could not be removed" in report.warnings[0]


def test_the_token_is_one_word_for_elasticsearch() -> None:
    assert canary.new_token("0f1e").isalnum()
    assert canary.new_token("0f1e").isascii()
