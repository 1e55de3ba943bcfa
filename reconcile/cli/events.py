"""``--events``: the stream is opened as the options are read, so that a refused command has its two events, too."""

from __future__ import annotations

from pathlib import Path

import click

from reconcile.cli.env_option import PATH, option
from reconcile.events import EventStream
from reconcile.logs import feed

_opened: list[EventStream] = []


def _open(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        events = EventStream(path)
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from None
    events.begin(str(context.info_name))
    feed(events)
    _opened.append(events)


def ended(code: int, message: str | None, hint: str | None) -> None:
    """Write the last event of the command, where there is a stream."""
    feed(None)
    while _opened:
        _opened.pop().end(code, message, hint)


events_option = option(
    "--events",
    type=PATH,
    metavar="FILE",
    expose_value=False,
    is_eager=True,
    callback=_open,
    help="Append the command's events to FILE as JSON lines, for programs; - is standard output.",
)
