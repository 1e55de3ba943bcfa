"""``reconcile status``."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from reconcile import verbs
from reconcile.catalog import Catalog
from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.lines import show
from reconcile.cli.options import database_of, database_options
from reconcile.cli.serve import serve
from reconcile.cli.status_lines import lines_in_place, one_line, screen
from reconcile.cli.watch import follow, in_place, is_screen
from reconcile.config import load_config
from reconcile.errors import EXIT_NOBODY
from reconcile.rendering.live import live_data
from reconcile.running.record.details import troubles
from reconcile.running.record.history import status_data
from reconcile.running.record.samples import speeds
from reconcile.running.record.status import Status
from reconcile.throughput import Pace, Rate

_SHOWN, _SHOWN_ON_PAGE = 10_000, 50
_INTERRUPTED = 130


@verb("status", "show how far a run is, and what to type next")
@click.argument("run", required=False)
@option("--source", type=PATH, help="A config of the services, for its credentials.database.")
@option("--watch", is_flag=True, help="Follow the run until it ends, no process is working on it (exit 14), or Ctrl-C.")
@option("--wait", is_flag=True, help="With --watch: if no run is in progress, wait for one to begin.")
@option(
    "--interval",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    default=5,
    show_default=True,
    help="Seconds between two updates with --watch; longer if an update is slow.",
)
@option(
    "--serve",
    metavar="[HOST:]PORT",
    help="Serve the status as a live page until Ctrl-C; only to this machine unless HOST is given.",
)
@option(
    "--serve-token", metavar="TOKEN", help="Token that other machines need to see the page; set it in the environment."
)
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@database_options
@click.pass_context
def command(context: click.Context, /, run: str | None, form: str, **options: Any) -> None:  # noqa: ANN401
    """Show the last run, or RUN: its phase, counts, what failed and why, and what to type next.

    Works during a run, from another terminal or machine: it reads for a moment and takes no lock. --watch follows the
    run, in place on a terminal, else with a line each interval. It ends when the run ends, or with exit 14 when no
    process is working on the run. Ctrl-C ends the watching (exit 130), not the run.

    \b
      reconcile status --source config.yaml --watch
    """
    source: Path | None = options["source"]
    with verbs.opened(database_of(options), load_config(source) if source else None) as catalog:
        if options["serve"]:
            _serve(catalog, run, options["serve"], options["serve_token"])
            return
        status = verbs.status(catalog, run)
        if options["watch"] and options["wait"] and run is None:
            try:
                status = _begun(catalog, options["interval"])
            except KeyboardInterrupt:
                click.echo("stopped waiting; no run has begun", err=True)
                context.exit(_INTERRUPTED)
        if status is None:
            click.echo(
                msgspec.json.encode(status_data(None)) if form == "json" else "no run is recorded in this database"
            )
            return
        if options["watch"]:
            try:
                status = _watch(catalog, status.record.run_id, form, options["interval"])
            except KeyboardInterrupt:
                click.echo("stopped watching; the run is not affected", err=True)
                context.exit(_INTERRUPTED)
        if form == "text":
            show(screen(catalog, status))
        elif not options["watch"]:
            click.echo(_json(catalog, status, None))
        if options["watch"] and not status.is_finished:
            context.exit(EXIT_NOBODY)


def _watch(catalog: Catalog, run_id: str, form: str, interval: float) -> Status:
    def look() -> Status:
        status = verbs.status(catalog, run_id)
        assert status is not None  # noqa: S101 - a run that is named is there, or an error
        return status

    if form == "text" and is_screen():
        with in_place(lines_in_place) as show:
            return follow(look, show, interval)

    def say(status: Status, rate: Rate | None) -> None:
        click.echo(_json(catalog, status, rate) if form == "json" else one_line(status, rate))

    return follow(look, say, interval)


def _serve(catalog: Catalog, run: str | None, address: str, token: str | None) -> None:
    pace, phase = Pace(), ["", ""]

    def look() -> dict[str, Any]:
        status = verbs.status(catalog, run)
        if status is None:
            return live_data(None, None, (), ())
        now = [status.record.run_id, status.record.state]
        if now != phase:  # what is counted is another thing from here on
            pace.clear()
            phase[:] = now
        pace.add(time.monotonic(), status.done.documents, status.done.bytes)
        run_id = status.record.run_id
        return live_data(status, pace.rate(), troubles(catalog, run_id, _SHOWN_ON_PAGE), speeds(catalog, run_id))

    with suppress(KeyboardInterrupt):
        serve(
            address, look, token, lambda url: show([f"serving {url}    Ctrl-C stops the page, not the run"], err=True)
        )


def _begun(catalog: Catalog, interval: float) -> Status | None:
    """Wait for a run that is under way; return its status."""
    click.echo("waiting for a run to begin; Ctrl-C stops waiting", err=True)
    while True:
        status = verbs.status(catalog)
        if status is not None and not status.is_finished and status.holder is not None:
            return status
        time.sleep(interval)


def _json(catalog: Catalog, status: Status, rate: Rate | None) -> bytes:
    return msgspec.json.encode(status_data(status, rate, troubles(catalog, status.record.run_id, _SHOWN)))
