"""A webhook receiver in a container of the lab: says each notification, a line of JSON with the second of its coming.

`/fails` answers as a receiver does that is out of order.
"""

from __future__ import annotations

import http.server
import json
import time


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what Alertmanager posts."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(500 if self.path == "/fails" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        print(json.dumps({"time": time.time(), "path": self.path, "alerts": body["alerts"]}), flush=True)

    def log_message(self, format: str, *args: object) -> None:
        """The notification itself is what is said."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", 8080), Receiver).serve_forever()
