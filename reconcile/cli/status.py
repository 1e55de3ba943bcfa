"""``reconcile status``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from reconcile import verbs
from reconcile.catalog import Catalog
from reconcile.cli.options import PATH, database_of, database_options, option
from reconcile.config import load_config
from reconcile.logs import printable
from reconcile.planning.render import human_bytes
from reconcile.running.report import cleaned_counts, troubles
from reconcile.running.run import RunRecord, count_states, find_runs
from reconcile.running.worktables import BLOCKED, CHANGED, DONE, FAILED, PLANNED, STAGING, SWITCHED, UNDOING, UNDONE

_SHOWN = 20


@click.command("status")
@click.argument("run", required=False)
@option("--source", type=PATH, help="A config of the services, for its credentials.database.")
@database_options
def command(run: str | None, **options: Any) -> None:  # noqa: ANN401
    """Show the last run, or RUN: its phase, counts, what failed and why, and what to type next.

    \b
      reconcile status --source config.yaml
    """
    source: Path | None = options["source"]
    with verbs.opened(database_of(options), load_config(source) if source else None) as catalog:
        record = verbs.last_run(catalog, run)
        if record is None:
            click.echo("no run is recorded in this database")
            return
        for line in _lines(catalog, record):
            click.echo(line)


def _lines(catalog: Catalog, record: RunRecord) -> Iterator[str]:
    yield f"run {record.run_id}: {_PHASES[record.state]}" + (
        f" (takes back run {record.undo_of})" if record.undo_of else ""
    )
    yield f"  plan     {record.plan_path}"
    yield from _times(record)
    counts = count_states(catalog, record.run_id)
    for state, (documents, size) in sorted(counts.items()):
        name = "to stage" if state == PLANNED else state
        yield f"  {name:<8} {documents} documents, {human_bytes(size)}"
    for state, documents in sorted(cleaned_counts(catalog, record.run_id).items()):
        yield f"  sources {state}: {documents}"
    if record.keep_source:
        yield "  sources kept by policy: all"
    if record.remark:
        yield f"  remark   {printable(record.remark)}"
    if record.state in (STAGING, SWITCHED, UNDOING):
        yield f"  executor {record.executor} (user@host:process; it may be at work still)"
    yield from _troubles(catalog, record)
    yield f"next: {_next(record, counts)}"
    for other in find_runs(catalog):
        if other.state in (STAGING, UNDOING) and other.run_id not in (record.run_id, record.undo_of):
            yield f"also unfinished: run {other.run_id}    {_undo(other)} drops its copies"


def _times(record: RunRecord) -> Iterator[str]:
    times = (
        ("begun", record.created_at),
        ("staged", record.staged_at),
        ("switched", record.switched_at),
        ("ended", record.finished_at),
    )
    for name, time in times:
        if time is not None:
            yield f"  {name:<8} {datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _troubles(catalog: Catalog, record: RunRecord) -> Iterator[str]:
    for number, (name, why) in enumerate(troubles(catalog, record.run_id, _SHOWN + 1)):
        if number == _SHOWN:
            yield "    and more: see the work table reconcile_moves"
            break
        yield f"    {printable(name)}: {printable(why)}"


_PHASES = {
    STAGING: "staging; the catalog is untouched",
    SWITCHED: "switched; sources are being cleaned",
    DONE: "done",
    UNDOING: "being undone",
    UNDONE: "undone",
}


def _next(record: RunRecord, counts: dict[str, tuple[int, int]]) -> str:
    apply = f"reconcile apply {record.plan_path}"
    if record.undo_of is not None and record.state in (STAGING, SWITCHED):
        return f"{_undo(record, record.undo_of)}    goes on with it"
    if record.state == STAGING and CHANGED in counts:
        return f"make a new plan: the catalog changed; what is staged is adopted. {_undo(record)} drops it"
    if record.state == STAGING:
        leave = "; --leave-failed switches without those that failed" if FAILED in counts else ""
        return f"{apply}    goes on with it{leave}; {_undo(record)} drops what is staged"
    left = sum(counts.get(state, (0, 0))[0] for state in (BLOCKED, FAILED))
    done = f"{left} documents were left: mend their causes and make a new plan" if left else "nothing is left to do"
    return {
        SWITCHED: f"{apply}    goes on with it",
        DONE: done + (f"; {_undo(record)} takes it back" if record.undo_of is None else ""),
        UNDOING: f"{_undo(record)}    goes on with it",
        UNDONE: f"nothing is left to do; {apply} does it again",
    }[record.state]


def _undo(record: RunRecord, run_id: str | None = None) -> str:
    """Return the command that takes a run back, with the configs by their recorded paths."""
    header = record.header
    source, dest = (header.source, header.dest) if run_id else (header.dest, header.source)
    return f"reconcile undo {run_id or record.run_id} --source {source.path} --dest {dest.path}"
