"""A logging is refused, foretold, brought, repeated and hurt, and no line is lost on the way.

Needs a whole cluster of three control planes and two workers, of whatever version, and leaves one without a logging. It
runs on the real Elasticsearch and the real OpenTelemetry Collector; what differs from upstream's images is in
lab/README.md. The short form is half a minute without the nodes through which Elasticsearch is reached; `make soak`
(KUBEWRIGHT_ALL_FAULTS) two minutes without any, under 100,000 lines, and then loses a host and sets everything wrong.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hardlab import control_planes, group, kubectl, members, objects
from labtools import INVENTORY, ROOT, Notes, kill, nodes_ready, playbook, run, start, wait_until
from loglab import (
    ELASTICSEARCH,
    NAMESPACE,
    WRITERS,
    another,
    canary,
    certificate,
    common,
    elasticsearch,
    footprint,
    kill_collector,
    logging,
    module,
    node_of,
    remove,
    restart_collectors,
    rotated,
    running,
    soon,
    tiers,
    wait_for_green,
    wait_for_lines,
    without_elasticsearch,
    write,
    written,
)
from upgradelab import EVERYTHING, soak

from lab.lines import Lines

# Lines of every writer, their bytes, and the seconds without Elasticsearch. A log is rotated at 10 MiB.
LINES, WIDTH, OUTAGE = (20_000, 1_000, 120) if EVERYTHING else (4_000, 4_500, 30)
# What of Elasticsearch is away: everything, or the tier that has no data and is back soon.
AWAY = "" if EVERYTHING else "client"
# What the batches of a writer and the pauses after them come to.
WRITING = OUTAGE + 40
BATCH = 50


@pytest.fixture(scope="module", autouse=True)
def images() -> Iterator[None]:
    """The origin has the images, and nothing of a logging is there before and after."""
    run("python3", "-m", "lab", "up", "--stacks", "--inventory", str(ROOT / INVENTORY), timeout=3600)
    remove()
    yield
    remove()


def test_what_cannot_end_well_is_refused() -> None:
    """All that is wrong at once, with what to do, before anything is touched."""
    before = footprint()
    unknown = logging(check=False, kube_logging_profile="five")
    assert "choose single, three or tiers" in unknown.said and unknown.total("failed")
    nowhere = logging(check=False, kube_logging_namespace="kube-system", kube_logging_local_storage=False)
    assert "that namespace is Kubernetes' own" in nowhere.said
    assert "There is no storage class for the volumes of Elasticsearch" in nowhere.said
    for refused in (unknown, nowhere):
        assert refused.total("changed") == 0 and refused.total("failed"), refused.output[-3000:]
    assert footprint() == before


def test_check_mode_foretells_and_writes_nothing() -> None:
    """On a cluster where nothing of it is there."""
    before = footprint()
    foretold = logging("--check")
    assert foretold.total("changed") > 0
    assert footprint() == before


def test_three_tiers_are_brought_and_every_node_is_heard(notes: Notes) -> None:
    """Green, and a line of each node is found, those of control planes too."""
    done = logging()
    wait_for_green(60)
    assert tiers() == {"master": 3, "data": 2, "client": 2}
    heard = canary()
    assert not heard["failed"], heard["said"][-3000:]
    took = {one["node"]: one["seconds_to_find"] for one in heard["nodes"]}
    assert set(took) == set(members()) and max(took.values()) < 45, took
    each = ", ".join(f"{node} {seconds:g}" for node, seconds in sorted(took.items()))
    notes.add(f"logging.yml, three tiers on 3 + 2 hosts: {done.seconds:.0f} s; lines found after {each} s")
    canaries = ("-n", NAMESPACE, "-l", "app.kubernetes.io/name=kubewright-canary")
    wait_until(lambda: not objects("pods", *canaries), 30, "the pods of the canaries are gone")


def test_a_line_has_what_one_looks_for() -> None:
    """Where it comes from, what it says to its last letter however long it is, and the labels of its pod."""
    lines = Lines(f"long{secrets.token_hex(4)}", 3, width=50_000)
    worker = group("workers")[0]
    write(lines, {"long": worker})
    wait_for_lines(lines.token, 3, 60)
    query = {"query": {"match": {"message": lines.token}}}
    hits = elasticsearch().ask("POST", "/logstash-*/_search", query)["hits"]["hits"]
    found = sorted((hit["_source"] for hit in hits), key=lambda line: line["message"])
    assert [line["message"] for line in found] == [
        f"{lines.token} long {number} {'.' * lines.width}" for number in (1, 2, 3)
    ]
    about = found[0]["kubernetes"]
    assert (found[0]["source"], found[0]["stream"]) == ("container", "stdout")
    assert {key: about[key] for key in ("namespace_name", "pod_name", "container_name", "host")} == {
        "namespace_name": WRITERS,
        "pod_name": "long",
        "container_name": "lines",
        "host": worker,
    }
    assert about["labels"]["lines"] == lines.token
    by_label = {"query": {"term": {"kubernetes.labels.lines": lines.token}}}
    assert elasticsearch().ask("POST", "/logstash-*/_count", by_label)["count"] == 3


def test_a_second_run_changes_nothing(notes: Notes) -> None:
    """Neither does check mode foretell anything, and no pod is started anew."""
    before = running()
    again = logging()
    assert again.total("changed") == 0, again.output[-4000:]
    assert logging("--check", "--diff").total("changed") == 0
    assert running() == before
    notes.add(f"logging.yml again: {again.seconds:.0f} s")


@pytest.fixture(scope="module")
def numbered(images: None) -> dict[str, str]:
    """The token of the lines that a test has brought through an outage: those after it look for them again."""
    return {}


def test_no_line_is_lost_while_elasticsearch_is_away(notes: Notes, numbered: dict[str, str]) -> None:
    """Five writers, no Elasticsearch for a while, a collector killed meanwhile, files rotated under all of them."""
    lines = Lines(
        f"lines{secrets.token_hex(4)}", LINES, width=WIDTH, batch=BATCH, pause=WRITING * BATCH / LINES
    )
    writers = {f"writer-{node}": node for node in members()}
    total = LINES * len(writers)
    write(lines, writers)
    wait_for_lines(lines.token, len(writers), 90)
    with without_elasticsearch(AWAY):
        gone = time.monotonic()
        time.sleep(OUTAGE / 2)
        # One that has much to send, and is where a pod of Elasticsearch was.
        kill_collector(group("workers")[0])
        time.sleep(OUTAGE / 2)
    away = time.monotonic() - gone
    wait_for_green()
    back = time.monotonic()
    files = rotated(writers)
    wait_until(written, WRITING + 120, "the writers have said all")
    wait_for_lines(lines.token, total, 300)
    caught_up = time.monotonic() - back
    found = elasticsearch().tally(lines.token, LINES)
    missing = sum(one.missing for one in found.values())
    twice = sum(one.twice for one in found.values())
    notes.add(
        f"logging: {total} lines of five pods, {away:.0f} s without Elasticsearch ({AWAY or 'all'}), a collector "
        f"killed, {files} files rotated: {missing} missing, {twice} twice; all found {caught_up:.0f} s after green"
    )
    assert set(found) == set(writers) and missing == 0 and twice == 0, found
    assert files >= 1, "no log was rotated, so nothing was shown about that"
    numbered["token"] = lines.token
    kubectl("delete", "namespace", WRITERS, "--timeout=120s")


@soak
def test_a_data_node_is_drained_and_killed_and_no_line_is_lost(
    notes: Notes, numbered: dict[str, str]
) -> None:
    """Its volume is on the host, so that its pod waits for it; the other one has every line meanwhile."""
    total, places = LINES * len(members()), {node_of(f"elasticsearch-data-{number}") for number in (0, 1)}
    # Not the one that is asked; a worker where there is one.
    [*_others, host] = sorted(places - {control_planes()[0]}, key=lambda name: name in group("workers"))
    drained = module("drain_node", name=host, delete_emptydir_data=True, timeout=240)
    try:
        assert not drained["failed"] and drained["evicted"], drained["said"][-3000:]
        wait_until(soon(lambda: elasticsearch().count(numbered["token"]) == total), 60, "every line is found")
        kill(host)
        # Nobody has to wait until the cluster takes the node for lost.
        time.sleep(10)
        assert elasticsearch().count(numbered["token"]) == total
    finally:
        start(host)
        wait_until(lambda: host in nodes_ready(), 120, f"{host} is ready again")
        given_back = module("drain_node", name=host, state="uncordoned")
    back = time.monotonic()
    assert not given_back["failed"], given_back["said"]
    wait_for_green()
    found = elasticsearch().tally(numbered["token"], LINES)
    assert all(one.missing == 0 and one.twice == 0 for one in found.values()), found
    notes.add(
        f"logging: a worker with a data node drained in {drained['seconds']} s, then killed: all {total} lines found "
        f"meanwhile and after, green {time.monotonic() - back:.0f} s after it came back"
    )


def test_a_wrong_password_is_named() -> None:
    """By who it belongs to, and where it is compared with; nobody has to read a log for it."""
    mistaken = secrets.token_hex(12)
    with another("elasticsearch-operator", password=base64.b64encode(mistaken.encode()).decode()):
        told = canary(20)
    assert told["failed"] and "401" in told["said"] and "elasticsearch-operator" in told["said"], told["said"]
    assert mistaken not in told["said"]
    assert not canary()["failed"]


@soak
def test_a_wrong_password_of_the_collectors_is_named_and_a_run_brings_it_in_order(notes: Notes) -> None:
    """The collectors keep their lines meanwhile, and no pod of theirs shows it."""
    token = f"kept{secrets.token_hex(4)}"
    with another("collector-elasticsearch", password=base64.b64encode(b"wrong").decode()):
        restart_collectors()
        write(Lines(token, 100), {"kept": group("workers")[0]})
        told = canary(40)
    refused = "refuses the password of the collectors (Secret logging/collector-elasticsearch)"
    assert told["failed"] and refused in told["said"], told["said"][-4000:]
    # It is the old one again, which the collectors have not read.
    restart_collectors()
    wait_for_lines(token, 100, 120)
    with another("collector-elasticsearch", password=base64.b64encode(b"one of my own").decode()):
        # The kubelets bring the new hash to Elasticsearch within two minutes.
        done = logging(kube_logging_canary_seconds=300)
        assert done.total("changed")
        assert logging().total("changed") == 0
    logging(kube_logging_canary_seconds=300)
    notes.add(
        "logging: a wrong password of the collectors lost no line, and another one is taken over by a run"
    )


@soak
@pytest.mark.parametrize(
    ("kind", "why"), [("foreign", "self-signed|unable to get local issuer"), ("expired", "expired")]
)
def test_a_certificate_that_is_not_good_is_named(kind: str, why: str, tmp_path: Path) -> None:
    """Elasticsearch takes what is in its Secret by itself; who speaks to it says what is wrong with that."""
    shown, key = certificate(tmp_path, expired=kind == "expired")
    encoded = {
        name: base64.b64encode(text.encode()).decode()
        for name, text in (("tls_crt", shown), ("tls_key", key))
    }
    with another("elasticsearch-tls", **encoded):
        # The kubelets bring it to the pods within a minute or two.
        wait_until(lambda: canary(20)["failed"], 240, "the certificate is in use")
        told = canary(20)
        assert "certificate" in told["said"], told["said"][-3000:]
        assert any(word in told["said"] for word in why.split("|")), told["said"][-3000:]
    wait_until(lambda: not canary(20)["failed"], 300, "the good certificate is in use")
    wait_for_green()


@soak
def test_a_mapping_that_refuses_lines_is_named() -> None:
    """Somebody's template of a higher priority takes a field for something else."""
    today = time.strftime("logstash-%Y.%m.%d", time.gmtime())
    foreign = {
        "index_patterns": ["logstash-*"],
        "priority": 1000,
        "template": {"mappings": {"properties": {"kubernetes": {"type": "long"}}}},
    }
    elasticsearch().ask("PUT", "/_index_template/foreign", foreign)
    try:
        elasticsearch().ask("DELETE", f"/{today}")
        told = canary(40)
        assert told["failed"] and "document_parsing_exception" in told["said"], told["said"][-4000:]
    finally:
        elasticsearch().ask("DELETE", "/_index_template/foreign")
        elasticsearch().ask("DELETE", f"/{today}?ignore_unavailable=true")
    assert not canary()["failed"]


@soak
def test_a_disk_that_is_full_is_named_and_its_lines_come_later() -> None:
    """Elasticsearch makes indices read-only; the collectors keep what it does not take."""
    watermark = "cluster.routing.allocation.disk.watermark"
    full = {
        "cluster.routing.allocation.disk.threshold_enabled": True,
        f"{watermark}.low": "1%",
        f"{watermark}.high": "2%",
        f"{watermark}.flood_stage": "3%",
        "cluster.info.update.interval": "10s",
    }
    token = f"full{secrets.token_hex(4)}"
    elasticsearch().ask("PUT", "/_cluster/settings", {"persistent": full})
    try:
        blocked = "/logstash-*/_settings/index.blocks.*?flat_settings=true"
        wait_until(
            soon(lambda: "read_only_allow_delete" in str(elasticsearch().ask("GET", blocked))),
            120,
            "the indices are read-only",
        )
        write(Lines(token, 100), {"full": group("workers")[0]})
        told = canary(40)
        assert told["failed"] and "flood-stage watermark" in told["said"], told["said"][-4000:]
    finally:
        elasticsearch().ask("PUT", "/_cluster/settings", {"persistent": dict.fromkeys(full)})
        # It would take the block away by itself, if its disks were watched again.
        free = {"index.blocks.read_only_allow_delete": None}
        elasticsearch().ask("PUT", "/logstash-*/_settings", free)
    wait_for_lines(token, 100, 300)
    assert not canary()["failed"]


@soak
def test_a_new_setting_is_rolled_out_and_no_line_is_lost(notes: Notes) -> None:
    """One pod of Elasticsearch after the other, and never without a copy of every line."""
    lines = Lines(f"roll{secrets.token_hex(4)}", 5000, batch=10, pause=0.4)
    writers = {f"writer-{node}": node for node in members()}
    write(lines, writers)
    changed = {"kube_logging_heap": "640m"}
    done = logging(**changed)
    assert logging(**changed).total("changed") == 0
    wait_until(written, 300, "the writers have said all")
    wait_for_lines(lines.token, lines.lines * len(writers), 120)
    found = elasticsearch().tally(lines.token, lines.lines)
    assert all(one.missing == 0 and one.twice == 0 for one in found.values()), found
    allocation = elasticsearch().ask("GET", "/_cluster/settings?flat_settings=true")["persistent"]
    assert "cluster.routing.allocation.enable" not in allocation
    notes.add(f"logging: data nodes with another heap, rolled in a run of {done.seconds:.0f} s, no line lost")


def test_the_cluster_is_whole_in_the_end() -> None:
    """As verify.yml sees it, which looks for a line of every node too."""
    seen = playbook("verify", *common(), inventory=INVENTORY)
    assert f"The lines of {len(members())} nodes are in Elasticsearch" in seen.said
    assert all(
        pod["status"]["phase"] == "Running" for pod in objects("pods", "-n", NAMESPACE, "-l", ELASTICSEARCH)
    )
