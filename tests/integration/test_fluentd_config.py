"""What the role kube_logging gives fluentd to read, run by a real fluentd on log files as containerd has them.

Needs `fluentd` on PATH, with the plug-ins that its image for Kubernetes has, and nothing of the lab. Neither can be had
from the package registries that the lab builds from, so that `make test` does not run it:

    python3 -m pytest tests/integration/test_fluentd_config.py
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fluentdlab import NODE, FakeElasticsearch, FakeKubernetes, Fluentd, certificates
from labtools import wait_until

pytestmark = pytest.mark.skipif(shutil.which("fluentd") is None, reason="there is no fluentd on PATH")

LABELS = {"app": "shop", "app.kubernetes.io/name": "shop", "pod-template-hash": "5d9f"}
# A static pod's folder has the hash of its file where others have the uid.
STATIC = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def fluentd(tmp_path: Path) -> Iterator[Fluentd]:
    """Rendered and not started; ended whatever happens."""
    certificates(tmp_path)
    made = Fluentd(tmp_path, FakeElasticsearch(tmp_path), FakeKubernetes(tmp_path))
    made.kubernetes.labels = {
        ("shop", "front-1"): LABELS,
        ("kube-system", "etcd-cp1"): {"component": "etcd", "tier": "control-plane"},
    }
    made.elasticsearch.start()
    made.kubernetes.start()
    made.render()
    try:
        yield made
    finally:
        made.stop()
        made.elasticsearch.stop()
        made.kubernetes.stop()


def wait_for(fluentd: Fluentd, count: int, seconds: float = 60) -> None:
    """Wait until so many documents are there, and see that no more come."""
    wait_until(lambda: len(fluentd.elasticsearch.documents) >= count, seconds, f"{count} documents")
    assert len(fluentd.elasticsearch.documents) == count, fluentd.elasticsearch.messages()[-5:]


def test_lines_become_documents(fluentd: Fluentd) -> None:
    """Whatever containers print, and whatever else is in their folders."""
    front = fluentd.pod("shop", "front-1")
    front.write(
        "2026-11-23T23:59:59.123456789Z stdout F  two spaces before and after  ",
        # A long line in parts, and one of the other stream in between.
        "2026-11-23T23:59:59.2Z stdout P begin ",
        "2026-11-23T23:59:59.3Z stderr F a warning",
        "2026-11-23T23:59:59.4Z stdout P middle ",
        "2026-11-23T23:59:59.5Z stdout F end",
        "2026-11-24T00:00:00Z stdout F ",
        '2026-11-24T00:00:01Z stdout F {"level": 7, "kubernetes": "not ours"}',
        "2026-11-24T02:00:02.5+02:00 stdout F east of Greenwich",
        "2026-11-24T00:00:03Z stdout F \u00fcml\u00e4ut \u20ac".encode() + b" \xff\xfe end",
        # After its host lost the power.
        b"\x00\x00\x00half a line",
    )
    fluentd.pod("shop", "gone-1").write("2026-11-24T00:00:05Z stderr F its pod is deleted")
    etcd = fluentd.pod("kube-system", "etcd-cp1", "etcd", STATIC)
    etcd.write("2026-11-24T00:00:06Z stderr F elected")
    # Not these.
    own = fluentd.pod("logging", "collector-x7k2p", "collector")
    own.write("2026-11-24T00:00:07Z stdout F a line about a line")
    (front.folder / "0.log.20261123-120000.gz").write_bytes(b"\x1f\x8b\x08")
    (front.folder / "0.log.20261123-110000.tmp").write_bytes(
        b"2026-11-24T00:00:08Z stdout F half compressed\n"
    )
    fluentd.start()
    wait_for(fluentd, 10)

    by_message = {document["message"]: document for document in fluentd.elasticsearch.found()}
    assert set(by_message) == {
        " two spaces before and after  ",
        "begin middle end",
        "a warning",
        "",
        '{"level": 7, "kubernetes": "not ours"}',
        "east of Greenwich",
        "\u00fcml\u00e4ut \u20ac \ufffd\ufffd end",
        "\x00\x00\x00half a line",
        "its pod is deleted",
        "elected",
    }
    indices = {
        by: index for (index, _id), one in fluentd.elasticsearch.documents.items() for by in [one["message"]]
    }
    assert indices["begin middle end"] == "logstash-2026.11.23"
    assert indices["east of Greenwich"] == "logstash-2026.11.24"
    first = by_message[" two spaces before and after  "]
    assert first.pop("@timestamp") == "2026-11-23T23:59:59.123456789+00:00"
    assert re.fullmatch("[0-9a-f]{40}", first.pop("id"))
    assert first == {
        "source": "container",
        "message": " two spaces before and after  ",
        "stream": "stdout",
        "kubernetes": {
            "namespace_name": "shop",
            "pod_name": "front-1",
            "pod_id": "5d0c1f9e-front-1",
            "container_name": "main",
            "host": NODE,
            "labels": LABELS,
        },
    }
    # The time of a long line is that of its beginning.
    assert by_message["begin middle end"]["@timestamp"].startswith("2026-11-23T23:59:59.2")
    assert by_message["a warning"]["stream"] == "stderr"
    assert by_message["its pod is deleted"]["kubernetes"]["labels"] == {}
    static = by_message["elected"]["kubernetes"]
    assert (static["pod_id"], static["labels"]) == (STATIC, {"component": "etcd", "tier": "control-plane"})


def test_no_line_is_lost_and_none_counts_twice(fluentd: Fluentd) -> None:
    """Elasticsearch is away, fluentd is killed twice, and the log is rotated three times."""
    pod = fluentd.pod("shop", "front-1")
    lines = iter(range(4000))

    def say(count: int) -> None:
        for _at in range(count):
            pod.say(f"line {next(lines)}")

    say(500)
    fluentd.start()
    wait_for(fluentd, 500)
    fluentd.elasticsearch.stop()
    say(500)
    pod.rotate("20261123-130000")
    say(500)
    # What it has read is in its files by now, or its place is not noted.
    wait_until(lambda: "failed to flush" in fluentd.log(), 60, "it sees that Elasticsearch is away")
    fluentd.stop(signal.SIGKILL)
    say(500)
    pod.rotate("20261123-140000")
    say(500)
    fluentd.start()
    say(500)
    fluentd.elasticsearch.start()
    fluentd.stop(signal.SIGKILL)
    pod.rotate("20261123-150000")
    say(1000)
    fluentd.start()
    wait_until(lambda: len(fluentd.elasticsearch.documents) >= 4000, 120, "all lines")
    counted = Counter(fluentd.elasticsearch.messages())
    assert counted == Counter(f"line {number}" for number in range(4000))


def test_what_elasticsearch_never_takes_holds_nothing_up(fluentd: Fluentd) -> None:
    """It is counted and told, and what Elasticsearch refuses for now comes later."""
    busy = Counter[str]()

    def judge(document: dict[str, str]) -> tuple[int, str] | None:
        if "poison" in document["message"]:
            return 400, "document_parsing_exception"
        busy[document["message"]] += 1
        return (429, "es_rejected_execution_exception") if busy[document["message"]] < 3 else None

    fluentd.elasticsearch.judge = judge
    pod = fluentd.pod("shop", "front-1")
    for number in range(20):
        pod.say(f"poison {number}" if number % 5 == 0 else f"line {number}")
    fluentd.start()
    wait_for(fluentd, 16)
    wait_until(lambda: "fluentd_rejected_records_total 4.0" in fluentd.metrics(), 30, "they are counted")
    assert "document_parsing_exception" in fluentd.log()
    assert "poison 15" in fluentd.log()
    # They went another way than through the filters again.
    assert all(
        set(one) >= {"id", "stream", "kubernetes", "@timestamp"} for one in fluentd.elasticsearch.found()
    )


def test_a_wrong_password_loses_nothing_and_is_told(fluentd: Fluentd) -> None:
    """And is in no log."""
    fluentd.elasticsearch.password = "another-one"
    fluentd.pod("shop", "front-1").say("kept")
    fluentd.start()
    wait_until(lambda: "401" in fluentd.log(), 60, "it is told")
    fluentd.stop()
    assert fluentd.elasticsearch.refused
    fluentd.password = "another-one"
    fluentd.start()
    wait_for(fluentd, 1)
    for secret in ("another-one", "one-of-its-own"):
        assert secret not in fluentd.log()


def test_it_starts_while_elasticsearch_is_away(fluentd: Fluentd) -> None:
    """And what it holds meanwhile is in its metrics, under the name by which log_canary asks for it."""
    fluentd.elasticsearch.stop()
    fluentd.pod("shop", "front-1").say("patient")
    fluentd.start()
    held = re.compile(r"^fluentd_output_status_buffer_total_bytes(?:\{[^}]*\})? +([1-9][0-9.]*)", re.M)
    wait_until(lambda: bool(held.search(fluentd.metrics())), 60, "it tells what it holds")
    fluentd.elasticsearch.start()
    wait_for(fluentd, 1)


def test_the_audit_log_is_read_by_its_own_times(fluentd: Fluentd) -> None:
    """Whatever objects in it call their fields."""
    fluentd.render(kube_logging_audit=True)
    event = {
        "kind": "Event",
        "auditID": "a-1",
        "stage": "ResponseComplete",
        "requestObject": {"stageTimestamp": "1999-01-01T00:00:00.000000Z"},
        "requestReceivedTimestamp": "2026-11-23T12:00:00.000001Z",
        "stageTimestamp": "2026-11-23T12:00:00.654321Z",
        "annotations": {"authorization.k8s.io/decision": "allow"},
    }
    text = json.dumps(event, separators=(",", ":"))
    (fluentd.folder / "audit" / "audit.log").write_text(f"{text}\n")
    fluentd.start()
    wait_for(fluentd, 1)
    (document,) = fluentd.elasticsearch.found()
    assert json.loads(document["message"]) == event
    assert document["@timestamp"] == "2026-11-23T12:00:00.654321000+00:00"
    assert document["source"] == "audit"
    assert document["kubernetes"] == {"host": NODE}


def test_every_source_is_understood(fluentd: Fluentd) -> None:
    """With the journal, which not every machine has that runs this."""
    fluentd.render(kube_logging_audit=True, kube_logging_kubelet=True, kube_logging_containerd=True)
    assert "is not used" not in fluentd.check()
