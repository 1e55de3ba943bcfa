"""``--otlp``: spans of command, phases and batches, as a collector gets them."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.archives import new_sqlite
from tests.cli.desk import filled, last_run, planned
from tests.cli.runner import here, reconcile
from tests.world import World

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
OUTER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def lite(folder: Path) -> World:
    return filled(World(folder, new_sqlite(folder)))


@pytest.fixture
def collector() -> Iterator[Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    class Collector(BaseHTTPRequestHandler):
        spans: ClassVar[list[Any]] = []
        raw: ClassVar[list[bytes]] = []
        url = ""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.raw.append(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    Collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Collector
    server.shutdown()
    server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_run_is_a_trace(lite: World, collector: Any) -> None:
    """Phases within the command, batches within their phase; within the trace that is given."""
    planned(lite)
    done = reconcile("apply", "p.json", "--yes", "--otlp", collector.url, cwd=lite.folder, TRACEPARENT=OUTER)
    assert done.code == 0, done.all
    spans = {span.name: span for span in collector.spans}
    command, stage, clean = spans["reconcile apply"], spans["stage"], spans["clean"]
    assert command.trace_id.hex() == OUTER.split("-")[1]
    assert command.parent_span_id.hex() == OUTER.split("-")[2]
    assert {stage.parent_span_id, clean.parent_span_id, spans["recheck"].parent_span_id} == {command.span_id}
    for name, phase in (("batch staged", stage), ("batch cleaned", clean)):
        batch = spans[name]
        assert batch.parent_span_id == phase.span_id
        batches = [span for span in collector.spans if span.name == name]
        assert sum(attributes(span)["reconcile.documents"] for span in batches) == 6
        assert batch.start_time_unix_nano < batch.end_time_unix_nano <= phase.end_time_unix_nano
    assert attributes(command)["reconcile.run"] == last_run(lite)
    assert attributes(command)["reconcile.exit_code"] == 0
    assert [event.name for event in command.events] == ["staged", "switched", "cleaned", "run finished"]


def test_a_wait_that_is_announced_is_no_batch(collector: Any) -> None:
    """Its seconds are still to come."""
    from reconcile.traces import Traces

    traces = Traces("apply", collector.url)
    traces.take({"event": "waiting for late deletes", "level": "info", "seconds": 60})
    traces.end(0)
    assert [span.name for span in collector.spans] == ["reconcile apply"]


def test_what_fails_is_marked_and_no_secret_is_sent(lite: World, collector: Any) -> None:
    """R8."""
    planned(lite)
    url = "postgresql://u:canary-of-traces@127.0.0.1:9/d"
    options = ("--db-connect", url, "--db-retries", "1")
    done = reconcile("--verbose", "apply", "p.json", "--yes", *options, "--otlp", collector.url, cwd=lite.folder)
    assert done.code == 1
    (command,) = collector.spans
    assert command.status.code == 2
    assert b"canary" not in b"".join(collector.raw)


def test_a_collector_in_trouble_stops_no_run(lite: World) -> None:
    planned(lite)
    done = reconcile("apply", "p.json", "--yes", "--otlp", "http://127.0.0.1:9", cwd=lite.folder)
    assert done.code == 0
    assert done.err.count("traces could not be sent") == 1
    assert "Traceback" not in done.err


@pytest.mark.parametrize("url", ["collector:4318", "ftp://collector", "http://u:p@collector:4318"])
def test_bad_input_changes_nothing(lite: World, url: str) -> None:
    planned(lite)
    result = here("apply", "p.json", "--yes", "--otlp", url, cwd=lite.folder)
    assert (result.code, "not a URL such as" in result.err) == (64, True)
    assert here("runs", "--source", "config.yaml", cwd=lite.folder).out.startswith("no run")


def test_without_the_option_nothing_of_it_is_imported(lite: World) -> None:
    planned(lite)
    code = (
        "import sys; sys.argv = ['reconcile', 'apply', 'p.json', '--yes']\n"
        "import atexit; atexit.register(lambda: print([m for m in sys.modules if m.startswith('opentelemetry')]))\n"
        "from reconcile.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=lite.folder, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_without_the_extra_the_option_says_how_to_install_it(lite: World, monkeypatch: pytest.MonkeyPatch) -> None:
    planned(lite)
    monkeypatch.setitem(sys.modules, "reconcile.traces", None)
    result = here("apply", "p.json", "--yes", "--otlp", "http://collector:4318", cwd=lite.folder)
    assert (result.code, "[otel]" in result.err) == (64, True), result.err
