"""``reconcile runs``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from reconcile import verbs
from reconcile.catalog.lock import lock_holder
from reconcile.catalog.tasks import Migration
from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.lines import show
from reconcile.cli.options import database_of, database_options
from reconcile.config import load_config
from reconcile.formatting import count, human_bytes, time_text
from reconcile.logs import printable
from reconcile.running.record.history import drivers_of, runs_data
from reconcile.running.record.records import RunRecord


@verb("runs", "list all runs")
@option("--source", type=PATH, help="A config of the services, for its credentials.database.")
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@database_options
def command(form: str, **options: Any) -> None:  # noqa: ANN401
    """List all runs, newest first, and all migrations in the vendor's own tables, where each run is recorded too.

    \b
      reconcile runs --source config.yaml
    """
    source: Path | None = options["source"]
    with verbs.opened(database_of(options), load_config(source) if source else None) as catalog:
        runs, migrations = verbs.all_runs(catalog)
        at_work = lock_holder(catalog) is not None
    if form == "json":
        click.echo(msgspec.json.encode(runs_data(runs, migrations)))
        return
    show(_lines(runs, migrations, at_work=at_work))


def _lines(runs: list[RunRecord], migrations: list[Migration], *, at_work: bool) -> Iterator[str]:
    if not runs:
        yield "no run is recorded in this database"
    for record in runs:
        sources, dests = drivers_of(record.header)
        moved = record.header.summary.moves
        yield f"{record.run_id}  {record.state:<8}  {_drivers(sources, dests)}" + (
            f"  undoes {record.undo_of}" if record.undo_of else ""
        )
        yield f"    {count(moved.documents)}, {human_bytes(moved.bytes)}, by {printable(record.plan_path)}"
        times = (("begun", record.created_at), ("switched", record.switched_at), ("ended", record.finished_at))
        yield "    " + ", ".join(f"{name} {time_text(time)}" for name, time in times if time is not None)
    if migrations:
        yield ""
        yield "in the vendor's record (anchore-manager objectstorage list-migrations), in UTC:"
    for task in migrations:
        begun, ended = (f"{time:%F %T}" if time else "?" for time in (task.started_at, task.ended_at))
        drivers = printable(f"{task.from_driver} -> {task.to_driver}")
        ours = "by reconcile" if task.is_ours else f"by {printable(task.executor or 'anchore-manager')}"
        amount = f"{task.migrated or 0:,} of {count(task.documents or 0)}"
        # The vendor's command leaves its record at "running" when it is killed; while it works it holds the lock.
        state = "broken off" if task.state == "running" and not at_work else task.state or "?"
        yield f"{task.id:>6}  {state:<8}  {drivers}  {amount}, {begun} to {ended}, {ours}"


def _drivers(sources: list[str], dests: list[str]) -> str:
    return f"{', '.join(sources)} -> {', '.join(dests)}"
