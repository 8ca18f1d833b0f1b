"""What the test of fluentd's configuration runs it against: log files, and two servers that it talks to.

Fluentd itself, its plug-ins and the files are real. Elasticsearch and the API server are small ones of our own that do
what fluentd needs of them, so that the test needs no cluster.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from labtools import ROOT, run, wait_until

ROLE = ROOT / "roles" / "kube_logging"
NODE = "worker1"
USER, PASSWORD, TOKEN = "collector", "one-of-its-own", "a-token"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Callable[[_Handler], tuple[int, Any] | None]

    def log_message(self, *_words: Any) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self) -> None:
        answer = type(self).answer(self)
        if answer is None:
            return
        status, content = answer
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET


class Server:
    """An HTTPS server on loopback that can go away and come back at the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"answer": self.answer})
        server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        server.daemon_threads = True
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        # In the thread of the connection: a client that says nothing must not hold the others up.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self._server = server

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, request: _Handler) -> tuple[int, Any] | None:
        raise NotImplementedError


class FakeElasticsearch(Server):
    """Takes bulk requests that create documents, by their ids, from the user whom it knows."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self.password = PASSWORD
        self.twice = 0
        self.refused = 0
        # What is wrong with a document: a status and a type, or nothing.
        self.judge: Callable[[dict[str, Any]], tuple[int, str] | None] = lambda document: None
        self._lock = threading.Lock()

    def answer(self, request: _Handler) -> tuple[int, Any]:
        body = request.body()
        pair = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}":
            self.refused += 1
            return 401, {
                "error": {"type": "security_exception", "reason": "unable to authenticate"},
                "status": 401,
            }
        assert request.path.partition("?")[0] == "/_bulk", request.path
        with self._lock:
            lines = body.decode().splitlines()
            pairs = zip(lines[::2], lines[1::2], strict=True)
            items = [self._create(json.loads(head), json.loads(text)) for head, text in pairs]
        return 200, {
            "took": 1,
            "errors": any(item["create"]["status"] > 299 for item in items),
            "items": items,
        }

    def _create(self, head: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        about = head["create"]
        assert "_type" not in about, about
        key = about["_index"], about["_id"]
        error = self.judge(document)
        if key in self.documents:
            self.twice += 1
            error = 409, "version_conflict_engine_exception"
        if error:
            return {"create": {"status": error[0], "error": {"type": error[1], "reason": "so it is"}}}
        self.documents[key] = document
        return {"create": {"status": 201, "_index": key[0], "_id": key[1]}}

    def found(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self.documents.values())

    def messages(self) -> list[str]:
        return [document["message"] for document in self.found()]


class FakeKubernetes(Server):
    """Knows some pods and their labels, and has nothing new to tell a watch."""

    labels: Mapping[tuple[str, str], dict[str, str]] = {}

    def answer(self, request: _Handler) -> tuple[int, Any] | None:
        url = urlsplit(request.path)
        path = url.path.removeprefix("/api/v1").strip("/").split("/")
        if url.path in ("/api", "/api/"):
            return 200, {"versions": ["v1"]}
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"kind": "Status", "code": 401, "message": "Unauthorized"}
        if path == [""]:
            names = {"pods": ("Pod", True), "namespaces": ("Namespace", False)}
            resources = [
                {"name": name, "kind": kind, "namespaced": inside} for name, (kind, inside) in names.items()
            ]
            return 200, {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources}
        if path[0] == "watch" or parse_qs(url.query).get("watch"):
            return self._hold(request)
        if path[-1] in ("pods", "namespaces"):
            return 200, {"kind": "List", "metadata": {"resourceVersion": "7"}, "items": []}
        if path[0] == "namespaces" and len(path) == 2:
            about = {"name": path[1], "uid": f"uid-of-{path[1]}", "creationTimestamp": "2026-01-01T00:00:00Z"}
            return 200, {"kind": "Namespace", "metadata": about}
        _namespaces, namespace, _pods, name = path
        if (namespace, name) not in self.labels:
            return 404, {"kind": "Status", "code": 404, "message": f'pods "{name}" not found'}
        about = {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-of-{name}",
            "labels": self.labels[namespace, name],
        }
        return 200, {
            "kind": "Pod",
            "metadata": about,
            "spec": {"nodeName": NODE},
            "status": {"podIP": "10.244.0.7"},
        }

    def _hold(self, request: _Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Connection", "close")
        request.end_headers()
        while self._server:
            time.sleep(0.1)
        request.close_connection = True


@dataclass
class Pod:
    """A container's log in the folder that a kubelet would give it."""

    folder: Path
    written: int = 0

    @property
    def log(self) -> Path:
        return self.folder / "0.log"

    def write(self, *lines: bytes | str) -> None:
        """Append lines as they are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as file:
            for line in lines:
                file.write((line.encode() if isinstance(line, str) else line) + b"\n")

    def say(self, message: str, stream: str = "stdout", part: str = "F") -> None:
        """Append a line as containerd does, with the time of now."""
        self.written += 1
        now = time.time_ns()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        self.write(f"{moment}.{now % 10**9:09d}Z {stream} {part} {message}")

    def rotate(self, name: str) -> None:
        """Put the log aside as a kubelet does, with containerd going on in a new one."""
        self.log.rename(self.folder / f"0.log.{name}")
        self.log.touch()


@dataclass
class Fluentd:
    """A real fluentd with the role's configuration, in a folder."""

    folder: Path
    elasticsearch: FakeElasticsearch
    kubernetes: FakeKubernetes
    metrics_port: int = field(default_factory=free_port)
    password: str = PASSWORD
    _process: subprocess.Popen[bytes] | None = None

    def pod(self, namespace: str, name: str, container: str = "main", uid: str = "") -> Pod:
        folder = f"{namespace}_{name}_{uid or f'5d0c1f9e-{name}'}"
        return Pod(self.folder / "pods" / folder / container)

    def render(self, **variables: Any) -> None:
        """Write the configuration by Ansible, with the paths and ports of this test in place of the role's."""
        own = {
            "__kube_logging_pod_logs": f"{self.folder}/pods",
            "__kube_logging_audit_logs": f"{self.folder}/audit",
            "__kube_logging_collector_folder": f"{self.folder}/state",
            "__kube_logging_service_account": str(self.folder),
            "__kube_logging_elasticsearch_host": "localhost",
            "__kube_logging_elasticsearch_port": self.elasticsearch.port,
            "__kube_logging_collector_authority": f"{self.folder}/ca.crt",
            "__kube_logging_collector_metrics_port": self.metrics_port,
            **variables,
        }
        (self.folder / "group_vars").mkdir(exist_ok=True)
        shutil.copy(ROLE / "defaults" / "main.yml", self.folder / "group_vars" / "all.yml")
        template = {"src": str(ROLE / "templates" / "fluent.conf.j2"), "dest": f"{self.folder}/fluent.conf"}
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars_files": [str(ROLE / "vars" / "main" / "collector.yml")],
            "tasks": [{"ansible.builtin.template": {**template, "mode": "0600"}}],
        }
        (self.folder / "play.yml").write_text(json.dumps([play]))
        run("ansible-playbook", "-i", "localhost,", "-e", json.dumps(own), "play.yml", cwd=self.folder)
        for name in ("pods", "audit", "state", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "K8S_NODE_NAME": NODE,
            "POD_IP": "127.0.0.1",
            "ELASTICSEARCH_USERNAME": USER,
            "ELASTICSEARCH_PASSWORD": self.password,
            "KUBERNETES_SERVICE_HOST": "localhost",
            "KUBERNETES_SERVICE_PORT": str(self.kubernetes.port),
            "TMPDIR": str(self.folder / "tmp"),
        }

    def start(self) -> None:
        """Start it, and wait until it tells its metrics."""
        with (self.folder / "fluentd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["fluentd", "-c", str(self.folder / "fluent.conf")],
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )

        def answers() -> bool:
            assert self._process and self._process.poll() is None, self.log()[-4000:]
            try:
                return bool(self.metrics())
            except OSError:
                return False

        wait_until(answers, 60, "fluentd tells its metrics")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, with all its processes at once where *how* is SIGKILL."""
        if self._process is None:
            return
        if how == signal.SIGKILL:
            os.killpg(self._process.pid, how)
        else:
            self._process.send_signal(how)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._process = None

    def check(self) -> str:
        """Let it look at its configuration; return what it says, and fail when it refuses."""
        argv = ["fluentd", "--dry-run", "-c", str(self.folder / "fluent.conf")]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.environment(), timeout=120)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-4000:]
        return said

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def log(self) -> str:
        return (self.folder / "fluentd.log").read_text(errors="replace")


def certificates(folder: Path) -> None:
    """Make an authority, and a certificate for this machine's own name."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    authority = ["-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"]
    run("openssl", "req", "-x509", *new, *authority, cwd=folder)
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    leaf = ["-subj", "/CN=localhost", "-addext", names, "-keyout", "tls.key", "-out", "tls.crt"]
    run("openssl", "req", "-x509", *new, "-CA", "ca.crt", "-CAkey", "ca.key", *leaf, cwd=folder)
    (folder / "token").write_text(TOKEN)
