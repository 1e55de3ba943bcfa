"""Traces of one command by OpenTelemetry: a span for the command, one for each phase of its run, one for each batch.

Fed by the log, as events and metrics are, and sent by OTLP over HTTP. Needs the extra ``otel``; who asks for no traces
imports nothing of it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from reconcile._version import __version__
from reconcile.logs import get_logger
from reconcile.secret import scrub

_ANSWER_SECONDS = 5
_NANOSECONDS = 1_000_000_000
_TOLD = ("staged", "switched", "cleaned", "run finished", "blocked")  # events of the command's span
_SCALARS = (str, bool, int, float)

log = get_logger()


class _Warning(SpanExporter):
    """Sends spans; what cannot be sent is warned of once, and stops no run."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner, self._is_warned = inner, False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result, why = self._inner.export(spans), "the collector did not accept them"
        except Exception as error:  # noqa: BLE001 - a run is worth more than its traces
            result, why = SpanExportResult.FAILURE, scrub(str(error))
        if result is not SpanExportResult.SUCCESS and not self._is_warned:
            self._is_warned = True
            log.warning("traces could not be sent; the run continues", reason=why)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class Traces:
    """The trace of one command. ``url`` is a collector's, such as ``http://collector:4318``.

    It continues the trace that ``TRACEPARENT`` names, if there is one.
    """

    def __init__(self, verb: str, url: str) -> None:
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # else it writes to stderr by itself
        exporter = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces", timeout=_ANSWER_SECONDS)
        resource = Resource.create({"service.name": "reconcile", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Warning(exporter)))
        self._tracer = self._provider.get_tracer("reconcile", __version__)
        outer = TraceContextTextMapPropagator().extract({"traceparent": os.environ.get("TRACEPARENT", "")})
        self._command = self._tracer.start_span(f"reconcile {verb}", context=outer)
        self._phase: Span | None = None

    def take(self, logged: Mapping[str, Any]) -> None:
        """Begin or end spans by what was logged."""
        if "run" in logged:
            self._command.set_attribute("reconcile.run", str(logged["run"]))
        if logged["event"] == "phase":
            self._end_phase()
            self._phase = self._within(self._command, str(logged["phase"]), logged)
        elif str(logged["event"]).startswith("batch ") and logged.get("seconds") is not None:
            self._batch(logged)
        elif logged["event"] in _TOLD or logged["level"] in ("warning", "error"):
            self._command.add_event(str(logged["event"]), _attributes(logged))

    def end(self, code: int) -> None:
        """End the command's span, and send what is left."""
        self._end_phase()
        self._command.set_attribute("reconcile.exit_code", code)
        if code:
            self._command.set_status(Status(StatusCode.ERROR, f"exit {code}"))
        self._command.end()
        self._provider.shutdown()

    def _batch(self, logged: Mapping[str, Any]) -> None:
        now = time.time_ns()
        begun = now - int(logged["seconds"] * _NANOSECONDS)
        self._within(self._phase or self._command, str(logged["event"]), logged, begun).end(now)

    def _within(self, parent: Span, name: str, logged: Mapping[str, Any], begun: int | None = None) -> Span:
        context = trace.set_span_in_context(parent)
        return self._tracer.start_span(name, context=context, attributes=_attributes(logged), start_time=begun)

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._phase.end()
            self._phase = None


def _attributes(logged: Mapping[str, Any]) -> dict[str, str | bool | int | float]:
    """Return the fields of what was logged as attributes of a span."""
    left_out = ("event", "level", "timestamp", "seconds", "phase", "run")
    return {
        f"reconcile.{name}": value
        for name, value in logged.items()
        if name not in left_out and isinstance(value, _SCALARS)
    }
