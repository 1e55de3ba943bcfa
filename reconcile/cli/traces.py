"""``--otlp``: traces, begun as the options are read."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from reconcile.cli.env_option import option
from reconcile.errors import UsageError
from reconcile.formatting import to_install
from reconcile.logs import feed

if TYPE_CHECKING:
    from reconcile.traces import Traces

_traces: list[Traces] = []


def _begin(context: click.Context, _parameter: click.Parameter, url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise click.BadParameter("the value is not a URL such as http://collector:4318")
    try:
        from reconcile.traces import Traces  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError("--otlp needs the extra otel; nothing was done", hint=to_install("otel")) from None
    _traces.append(Traces(str(context.info_name), url))
    feed(_traces[-1])


def ended(code: int) -> None:
    """End the trace of the command, and send it."""
    while _traces:
        _traces.pop().end(code)


otlp_option = option(
    "--otlp",
    metavar="URL",
    expose_value=False,
    callback=_begin,
    help="Send traces to this OpenTelemetry collector, by OTLP over HTTP: http://collector:4318.",
)
