"""Metrics of one command for Prometheus. They are fed by the log, as events are; docs/metrics.md describes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from reconcile._version import __version__
from reconcile.stores.traffic import counted

_WARNINGS = ("warning", "error", "critical")
_NOT_KNOWN = float("nan")


class Requests(Collector):
    """Requests to stores, from where they are counted."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        sent = CounterMetricFamily(
            "reconcile_store_requests", "Requests to stores, including retries.", labels=["scheme"]
        )
        again = CounterMetricFamily("reconcile_store_retries", "Requests that were retries.", labels=["scheme"])
        for scheme, (requests, retries) in counted().items():
            sent.add_metric([scheme], requests)
            again.add_metric([scheme], retries)
        yield sent
        yield again


@define
class Metrics:
    """The metrics of one command, in ``registry``, kept up to date by what is logged. Safe in several threads.

    ``clock`` gives Unix seconds.
    """

    verb: str
    clock: Callable[[], float] = time.time
    registry: CollectorRegistry = field(factory=CollectorRegistry)
    _gauges: dict[str, Gauge] = field(factory=dict)
    _counters: dict[str, Counter] = field(factory=dict)
    _run: str = ""

    def __attrs_post_init__(self) -> None:
        self.registry.register(Requests())
        by_outcome = ("phase", "backend", "state")
        self._count("documents", "Documents that a phase has finished.", by_outcome)
        self._count("document_bytes", "Bytes of the documents that a phase has finished, by the catalog.", by_outcome)
        self._count("failures", "Documents that failed, by reason code.", ("reason",))
        self._count("warnings", "Warnings and errors in the log.")
        self._gauge("info", "1 for the running command and the run that it executes.", ("verb", "run", "version"))
        self._gauge("phase", "1 for the phase that the command is in.", ("phase",))
        self._gauge("phase_documents", "Documents that a phase has to do.", ("phase",))
        self._gauge("documents_per_second", "Documents per second, over the last seconds.")
        self._gauge("bytes_per_second", "Bytes per second, over the last seconds.")
        self._gauge("begun_timestamp_seconds", "When the command began.").set(self.clock())
        self._gauge("last_progress_timestamp_seconds", "When a document was last finished, or a phase began.")
        self._gauge("switched_timestamp_seconds", "When the catalog was switched; 0: not yet.")
        downtime = "From the last heartbeat of a service to the switch; NaN: not known, or not yet."
        self._gauge("downtime_seconds", downtime).set(_NOT_KNOWN)
        self._gauge("ended_timestamp_seconds", "When the command ended; 0: it has not.")
        self._gauge("exit_code", "The exit code of the command; -1: it has not ended.").set(-1)
        self._goes_on()
        self._identify("")

    def take(self, logged: Mapping[str, Any]) -> None:
        """Count what was logged."""
        if logged.get("run", self._run) != self._run:
            self._identify(str(logged["run"]))
        for tally in logged.get("tallies", ()):
            self._goes_on()
            labels = {"phase": logged["phase"], "backend": tally["backend"], "state": tally["state"]}
            self._counters["documents"].labels(**labels).inc(tally["documents"])
            self._counters["document_bytes"].labels(**labels).inc(tally["bytes"])
            if tally.get("reason"):
                self._counters["failures"].labels(tally["reason"]).inc(tally["documents"])
        if logged["level"] in _WARNINGS:
            self._counters["warnings"].inc()
        if logged["event"] == "phase":
            self._goes_on()
            self._gauges["phase"].clear()
            self._gauges["phase"].labels(logged["phase"]).set(1)
            self._gauges["phase_documents"].labels(logged["phase"]).set(logged["documents"])
        elif logged["event"] == "progress":
            for rate in ("documents_per_second", "bytes_per_second"):
                self._gauges[rate].set(logged[rate] or 0)
        elif logged["event"] == "switched":
            self._gauges["switched_timestamp_seconds"].set(self.clock())
            downtime = logged.get("downtime_seconds")
            self._gauges["downtime_seconds"].set(_NOT_KNOWN if downtime is None else downtime)

    def end(self, code: int) -> None:
        """Say that the command ended."""
        for name in ("phase", "phase_documents"):
            self._gauges[name].clear()
        for rate in ("documents_per_second", "bytes_per_second"):
            self._gauges[rate].set(0)
        self._gauges["ended_timestamp_seconds"].set(self.clock())
        self._gauges["exit_code"].set(code)

    def _identify(self, run: str) -> None:
        self._run = run
        self._gauges["info"].clear()
        self._gauges["info"].labels(self.verb, run, __version__).set(1)

    def _goes_on(self) -> None:
        self._gauges["last_progress_timestamp_seconds"].set(self.clock())

    def _count(self, name: str, text: str, labels: tuple[str, ...] = ()) -> None:
        self._counters[name] = Counter(f"reconcile_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        self._gauges[name] = Gauge(f"reconcile_{name}", text, labels, registry=self.registry)
        return self._gauges[name]
