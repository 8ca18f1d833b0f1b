"""Ask the API server through the virtual IP ten times a second, each time on a fresh connection."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from dataclasses import dataclass, field

INTERVAL = 0.1
LIMIT = 2.0


@dataclass
class Probe:
    """Requests for /livez, started every 100 ms whatever became of the ones before; 2 s limit each.

    It is open without credentials. An API server that is about to stop still answers it, unlike /readyz, and
    without the check of etcd it says what it is asked here: that an API server answers.
    """

    address: str
    port: int = 8443
    answered: list[float] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # The probe measures availability: who answers is proved elsewhere.
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE
        self._stop = threading.Event()
        self._begun = time.monotonic()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Probe:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._clock.join()

    def _tick(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            threading.Thread(target=self._ask, args=(due,), daemon=True).start()
            due += INTERVAL
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _ask(self, begun: float) -> None:
        connection = http.client.HTTPSConnection(self.address, self.port, timeout=LIMIT, context=self._tls)
        try:
            connection.request("GET", "/livez?exclude=etcd")
            status = connection.getresponse().status
            late = time.monotonic() - begun > LIMIT
            if status == 200 and not late:
                self.answered.append(time.monotonic())
            else:
                self.failed.append((begun, "too late" if late else f"status {status}"))
        except (OSError, http.client.HTTPException) as error:
            self.failed.append((begun, type(error).__name__))
        finally:
            connection.close()

    def steady(self) -> bool:
        """Tell whether requests are answered now and none has failed for a while."""
        now = time.monotonic()
        last_failure = max((begun for begun, _why in self.failed), default=0.0)
        return bool(self.answered) and now - max(last_failure, self._begun) > LIMIT + 1

    def outage(self, since: float) -> float:
        """Return the seconds from *since* until requests were answered again for good.

        That is the end of the longest silence after *since*, not the first lucky answer: half of the backends
        may still answer while the other half of the requests die.
        """
        failures = [begun for begun, _why in self.failed if begun >= since - LIMIT]
        if not failures:
            return 0.0
        return max(
            0.0, next((at for at in sorted(self.answered) if at > max(failures)), float("inf")) - since
        )

    def outages(self, since: float) -> list[float]:
        """Return the lengths of all silences that began after *since*: from a failure to the next answer."""
        lengths, answered = [], sorted(self.answered)
        until = since
        for begun in sorted(begun for begun, _why in self.failed if begun >= since - LIMIT):
            if begun >= until:
                until = next((at for at in answered if at > begun), float("inf"))
                lengths.append(until - begun)
        return lengths
