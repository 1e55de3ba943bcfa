"""``reconcile status``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from reconcile import verbs
from reconcile.catalog import Catalog
from reconcile.cli.lines import show
from reconcile.cli.option import PATH, option, verb
from reconcile.cli.options import database_of, database_options
from reconcile.cli.serve import serve
from reconcile.cli.watch import follow, in_place, is_screen
from reconcile.config import load_config
from reconcile.errors import EXIT_NOBODY
from reconcile.logs import printable
from reconcile.pace import Pace, Rate, duration_text
from reconcile.rendering.live import live_data
from reconcile.running.older import older_than_stores
from reconcile.running.record.details import troubles
from reconcile.running.record.history import status_data
from reconcile.running.record.next_steps import apply_command, resume_command, undo_command
from reconcile.running.record.records import RunRecord
from reconcile.running.record.samples import last_progress, speeds
from reconcile.running.record.states import MoveState, Removal, RunState
from reconcile.running.record.status import PHASES, Status
from reconcile.wording import count, human_bytes, time_text

_SHOWN, _SHOWN_ON_PAGE, _SHOWN_ON_SCREEN = 10_000, 50, 8
_INTERRUPTED = 130
_SILENT_SECONDS = 15  # without a document done: a sample is taken every five
_AT = ", at "  # before how fast it is, which stands in a line of its own where it is shown in place
_DONE: dict[str, str] = {
    RunState.STAGING: "documents are staged",
    RunState.SWITCHED: "sources are dealt with",
    RunState.UNDOING: "copies are dropped",
}
_REMOVALS: dict[str, str] = {Removal.MARKED: "being deleted"}


@verb("status", "show how far a run is, and what to type next")
@click.argument("run", required=False)
@option("--source", type=PATH, help="A config of the services, for its credentials.database.")
@option("--watch", is_flag=True, help="Go on showing it until the run ends (exit 14: nobody is at work), or Ctrl-C.")
@option("--wait", is_flag=True, help="With --watch: wait for a run to begin, if none is under way.")
@option(
    "--interval",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    default=5,
    show_default=True,
    help="Seconds between two looks with --watch; more where a look takes long.",
)
@option(
    "--serve",
    metavar="[HOST:]PORT",
    help="Serve it as a live page until Ctrl-C, to this machine unless HOST says else.",
)
@option("--serve-token", metavar="TOKEN", help="What others need to see the page; give it by environment.")
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@database_options
@click.pass_context
def command(context: click.Context, /, run: str | None, form: str, **options: Any) -> None:  # noqa: ANN401
    """Show the last run, or RUN: its phase, counts, what failed and why, and what to type next.

    May be asked while the run goes, from another terminal or machine: it reads for a moment and takes no lock. --watch
    shows the run as it goes, in place on a terminal, else a line each interval; it ends with the run, or with exit 14
    once nobody is at work on it. Ctrl-C ends the watching (exit 130), not the run.

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
                click.echo("the waiting has ended; no run had begun", err=True)
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
                click.echo("the watching has ended; it changed nothing in the run", err=True)
                context.exit(_INTERRUPTED)
        if form == "text":
            show(_lines(catalog, status))
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
        with in_place(_progress) as show:
            return follow(look, show, interval)

    def say(status: Status, rate: Rate | None) -> None:
        click.echo(_json(catalog, status, rate) if form == "json" else _line(status, rate))

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
        serve(address, look, token, lambda url: show([f"serving {url}    Ctrl-C ends it, not the run"], err=True))


def _begun(catalog: Catalog, interval: float) -> Status | None:
    """Wait for a run that is under way; return its status."""
    click.echo("waiting for a run to begin; Ctrl-C ends the waiting", err=True)
    while True:
        status = verbs.status(catalog)
        if status is not None and not status.is_finished and status.holder is not None:
            return status
        time.sleep(interval)


def _json(catalog: Catalog, status: Status, rate: Rate | None) -> bytes:
    return msgspec.json.encode(status_data(status, rate, troubles(catalog, status.record.run_id, _SHOWN)))


def _line(status: Status, rate: Rate | None) -> str:
    """Return how far a run is, in one line."""
    done, total = status.done, status.total
    doing = status.doing or status.record.state
    text = f"{datetime.now(UTC):%H:%M:%S} {doing}: {done.documents:,} of {total.documents:,} documents"
    return f"{text}, {human_bytes(done.bytes)} of {human_bytes(total.bytes)}" + "".join(_pace(status, rate))


def _pace(status: Status, rate: Rate | None) -> Iterator[str]:
    if not status.is_finished and rate is not None and status.holder is not None:
        yield f"{_AT}{rate.documents_per_second:.0f} documents/s, {human_bytes(rate.bytes_per_second)}/s"
        left = rate.seconds_for(status.total.documents - status.done.documents)
        if left is not None:
            yield f", {duration_text(left)} left"
    if not status.is_finished and status.holder is None:
        yield "; nobody is at work on it"


def _progress(status: Status, rate: Rate | None) -> Iterator[str]:
    """Yield what a terminal shows while it is watched."""
    line, *pace = _line(status, rate).split(_AT)
    yield line
    yield from (f"         {rest}" for rest in pace)
    yield ""
    yield from _head(status)
    yield from _next(status.next_step)


def _head(status: Status) -> Iterator[str]:
    record = status.record
    yield from _rest(status)
    given_up = record.undo_of is not None and record.state == RunState.UNDONE
    phase = "given up; that run is as it was" if given_up else PHASES[record.state]
    if record.state == RunState.UNDOING and record.switched_at is None:
        phase += "; the catalog is untouched"
    yield f"run {record.run_id}: {phase}" + (f" (undoes run {record.undo_of})" if record.undo_of else "")
    yield f"  plan     {record.plan_path}"
    yield from _times(record)
    for state, tally in status.documents.items():
        if state == MoveState.PLANNED and record.state == RunState.UNDONE:
            continue  # nobody is going to
        name = "to stage" if state == MoveState.PLANNED else state
        by = f", by {time_text(record.staged_at)}" if state == MoveState.STAGED and record.staged_at else ""
        yield f"  {name:<8} {count(tally.documents)}, {human_bytes(tally.bytes)}{by}"
    deleted = "sources" if record.switched_at is not None and record.undo_of is None else "copies"
    for state, documents in status.sources.items():
        yield f"  {deleted} {_REMOVALS.get(state, state)}: {documents:,}"
    if record.keep_source:
        yield "  sources kept by policy: all"
    if record.approved:
        yield f"  approved {printable(record.approved)}"
    if record.remark:
        yield f"  remark   {printable(record.remark)}"
    if status.doing:
        yield f"  now      {status.doing}"
    if not status.is_finished:
        yield f"  executor {record.executor}, {_at_work(status)}"


def _rest(status: Status) -> Iterator[str]:
    """Say that nobody is at work although something is left to do."""
    record = status.record
    if status.rest is None:
        return
    what = _DONE.get(record.state, "documents are done")
    if record.undo_of is not None and record.state == RunState.SWITCHED:
        what = "copies are dealt with"
    yield f"{status.rest}; {status.achieved.documents:,} of {status.total.documents:,} {what}"


def _lines(catalog: Catalog, status: Status) -> Iterator[str]:
    yield from _head(status)
    if status.doing is not None:
        yield from _silence(catalog, status)
    if status.average is not None and not status.is_at_rest:
        left = status.average.seconds_for(status.total.documents - status.done.documents)
        about = "" if left is None else f", about {duration_text(left)} of staging left"
        yield f"  rate     {status.average.documents_per_second:.0f} documents/s since it was begun{about}"
    yield from _troubles(catalog, status.record)
    older = older_than_stores(catalog, status.record) if status.holder is None else None
    if older is not None:
        yield older
    steps = apply_command(status.record) if older else status.next_step
    yield from _next(steps)
    for other in status.others:
        if other.switched_at is None:
            yield f"also unfinished: run {other.run_id}: {undo_command(other)}    drops its copies"
        else:
            yield f"also unfinished: run {other.run_id}: {resume_command(other)}    deletes the sources that are left"


def _silence(catalog: Catalog, status: Status) -> Iterator[str]:
    """Say that nothing was done for long."""
    last = last_progress(catalog, status.record.run_id, status.doing or "")
    if last is not None and status.at - last >= _SILENT_SECONDS:
        yield f"  WAITING  no document was done for {duration_text(status.at - last)}: a store or the database is slow"


def _next(steps: str) -> Iterator[str]:
    yield "next: " + steps.replace("\n", "\n      ")


def _at_work(status: Status) -> str:
    if status.holder is None:
        return "not at work: nobody holds the lock"
    other = " (or another run is)" if status.others else ""
    return f"at work{other}: the lock is held by {printable(status.holder)}"


def _times(record: RunRecord) -> Iterator[str]:
    times = (
        ("begun", record.created_at),
        ("switched", record.switched_at),
        ("ended", record.finished_at),
    )
    for name, at in times:
        if at is not None:
            yield f"  {name:<8} {time_text(at)}"


def _troubles(catalog: Catalog, record: RunRecord) -> Iterator[str]:
    for number, (name, why) in enumerate(troubles(catalog, record.run_id, _SHOWN_ON_SCREEN + 1)):
        if number == _SHOWN_ON_SCREEN:
            yield "    and more: --format json names them"
            break
        yield f"    {printable(name)}: {printable(why)}"
