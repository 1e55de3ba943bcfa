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
from reconcile.running.run import RunRecord, count_states
from reconcile.running.worktables import DONE, STAGING, SWITCHED, UNDOING, UNDONE

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
    times = (
        ("begun", record.created_at),
        ("staged", record.staged_at),
        ("switched", record.switched_at),
        ("ended", record.finished_at),
    )
    for name, time in times:
        if time is not None:
            yield f"  {name:<8} {datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"
    for state, (documents, size) in sorted(count_states(catalog, record.run_id).items()):
        yield f"  {state:<8} {documents} documents, {human_bytes(size)}"
    for state, documents in sorted(cleaned_counts(catalog, record.run_id).items()):
        yield f"  sources {state}: {documents}"
    if record.remark:
        yield f"  remark   {record.remark}"
    for number, (name, why) in enumerate(troubles(catalog, record.run_id, _SHOWN + 1)):
        if number == _SHOWN:
            yield "    and more: see the work table reconcile_moves"
            break
        yield f"    {printable(name)}: {printable(why)}"
    yield f"next: {_next(record)}"


_PHASES = {
    STAGING: "staging; the catalog is untouched",
    SWITCHED: "switched; sources are being cleaned",
    DONE: "done",
    UNDOING: "being undone",
    UNDONE: "undone",
}


def _next(record: RunRecord) -> str:
    if record.undo_of is not None and record.state in (STAGING, SWITCHED):
        return f"reconcile undo {record.undo_of}    goes on with it"
    return {
        STAGING: f"reconcile apply {record.plan_path}    goes on with it, or reconcile undo {record.run_id}",
        SWITCHED: f"reconcile apply {record.plan_path}    goes on with it",
        DONE: "nothing is left to do"
        + (f"; reconcile undo {record.run_id} takes it back" if record.undo_of is None else ""),
        UNDOING: f"reconcile undo {record.run_id}    goes on with it",
        UNDONE: f"nothing is left to do; reconcile apply {record.plan_path} does it again",
    }[record.state]
