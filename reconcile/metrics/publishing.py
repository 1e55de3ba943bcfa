"""Where metrics go: into a text file that is replaced as a whole, and to a gateway that they are pushed to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from prometheus_client import CollectorRegistry, push_to_gateway, write_to_textfile
from prometheus_client.exposition import basic_auth_handler, default_handler

from reconcile.logs import get_logger
from reconcile.metrics.registry import Metrics
from reconcile.secret import Secret, scrub

WRITE_SECONDS = 10.0  # between two writes
_ANSWER_SECONDS = 5  # that a gateway has to answer in
_JOB = "reconcile"

Sink = Callable[[CollectorRegistry], None]
log = get_logger()


def text_file(path: Path) -> Sink:
    """Return what writes a file for a collector of text files to read; a link is followed, and stays.

    Raises `OSError` where it cannot be written, `ValueError` for what is there and is no file: it would be replaced.
    """
    real = path.resolve()
    if real.exists() and not real.is_file():
        raise ValueError("exists already and is not a file")
    return partial(write_to_textfile, str(real))


def gateway(url: str) -> Sink:
    """Return what pushes to a gateway, as job ``reconcile`` of this host. Raises `ValueError` for no http(s) URL.

    A user and a password in the URL are sent as basic authentication, and are a secret from then on.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not the URL of a gateway such as http://pushgateway:9091")
    handler = default_handler
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        Secret(password)
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        handler = partial(basic_auth_handler, username=user, password=password)

    def push(registry: CollectorRegistry) -> None:
        key = {"instance": socket.gethostname()}
        push_to_gateway(url, _JOB, registry, key, timeout=_ANSWER_SECONDS, handler=handler)

    return push


class Publisher:
    """Writes the metrics of a command every few seconds, when a phase begins, and at the end.

    On a thread of its own: a gateway that does not answer delays only the end, and stops no run.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._sinks: list[Sink] = []
        self._failed: set[Sink] = set()
        self._wanted, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._go_on, name="metrics", daemon=True)

    def add(self, sink: Sink) -> None:
        """Write to a sink, too."""
        self._sinks.append(sink)
        if not self._thread.is_alive():
            self._thread.start()

    def take(self, logged: Mapping[str, Any]) -> None:
        """Count what was logged; see `Metrics.take`."""
        self.metrics.take(logged)
        if logged["event"] in ("phase", "switched"):
            self._wanted.set()

    def end(self, code: int) -> None:
        """Write a last time, with the exit code."""
        self.metrics.end(code)
        self._ended = True
        self._wanted.set()
        if self._sinks:
            self._thread.join()

    def _go_on(self) -> None:
        while not self._ended:
            self._write()
            self._wanted.wait(WRITE_SECONDS)
            self._wanted.clear()
        self._write()

    def _write(self) -> None:
        for sink in self._sinks:
            try:
                sink(self.metrics.registry)
            except Exception as error:  # noqa: BLE001 - whatever it is, a run is worth more than its metrics
                if sink not in self._failed:  # said once
                    self._failed.add(sink)
                    log.warning("metrics could not be written; the run continues", reason=scrub(str(error)))
            else:
                self._failed.discard(sink)
