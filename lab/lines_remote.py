"""Asks Elasticsearch from a host of the lab, which reaches Services. lab/lines.py runs it there; it imports nothing.

The order comes as JSON on the standard input, the password with it; the answer goes as JSON to the standard output.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
from collections import Counter
from typing import Any

PAGE = 5000
# Missing numbers that are named.
NAMED = 20


class Server:
    """The Elasticsearch of an order."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._address = order["address"]
        self._tls = ssl.create_default_context(cadata=order["authority"])
        # Who signed it is verified. The name is the Service's, which does not resolve here.
        self._tls.check_hostname = False
        pair = base64.b64encode(f"{order['user']}:{order['password']}".encode()).decode()
        self._headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Return the status and the body of an answer."""
        connection = http.client.HTTPSConnection(self._address, 9200, timeout=20, context=self._tls)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, self._headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        try:
            return {"status": answer.status, "body": json.loads(text)}
        except ValueError:
            return {"status": answer.status, "body": text}


def tally(server: Any, token: str, lines: int) -> dict[str, Any]:
    """Count the numbered lines of a token by their writers: `TOKEN WRITER NUMBER ...`, numbers from 1 to *lines*."""
    seen: dict[str, Counter[int]] = {}
    query = {"_source": ["message"], "query": {"match": {"message": token}}, "sort": ["_doc"], "size": PAGE}
    page = server.ask("POST", "/logstash-*/_search?scroll=2m", query)
    while True:
        if page["status"] != 200:
            raise SystemExit(f"status {page['status']}: {page['body']}")
        hits = page["body"]["hits"]["hits"]
        if not hits:
            break
        for hit in hits:
            words = hit["_source"]["message"].split()
            # Whoever else names the token, as an audit log does.
            if words[0] == token:
                seen.setdefault(words[1], Counter())[int(words[2])] += 1
        more = {"scroll": "2m", "scroll_id": page["body"]["_scroll_id"]}
        page = server.ask("POST", "/_search/scroll", more)
    server.ask("DELETE", "/_search/scroll", {"scroll_id": [page["body"]["_scroll_id"]]})
    found = {}
    for writer, numbers in seen.items():
        missing = sorted(set(range(1, lines + 1)) - set(numbers))
        found[writer] = {
            "distinct": len(numbers),
            "twice": sum(numbers.values()) - len(numbers),
            "missing": len(missing),
            "named": missing[:NAMED],
        }
    return found


def main() -> None:
    """Carry out one order."""
    order = json.load(sys.stdin)
    server = Server(order)
    if "token" in order:
        print(json.dumps(tally(server, order["token"], order["lines"])))
    else:
        print(json.dumps(server.ask(order["method"], order["path"], order.get("body"))))


if __name__ == "__main__":
    main()
