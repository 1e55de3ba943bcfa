"""``reconcile forget``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from reconcile import verbs
from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.lines import show
from reconcile.cli.options import database_of, database_options, lock_wait
from reconcile.cli.prompt import confirm_by_name
from reconcile.config import load_config
from reconcile.formatting import count
from reconcile.logs import printable
from reconcile.running.forget import Forgettable, forget, forgettable, refuse_same_url
from reconcile.running.record.next_steps import clean_command


@verb("forget", "remove the records of a run")
@click.argument("run")
@option("--source", type=PATH, help="A config of the services, for its credentials.database.")
@option("--force", is_flag=True, help="Forget even if only these records show which of two endpoints holds a document.")
@option("--dry-run", is_flag=True, help="Show what would be forgotten. Changes nothing and takes no lock.")
@option("--yes", is_flag=True, help="Do not ask for confirmation.")
@lock_wait
@database_options
def command(run: str, **options: Any) -> None:  # noqa: ANN401
    """Remove the records of the finished RUN and of its undo. With the last records, the work tables are removed.

    Documents and catalog rows do not change. A forgotten run cannot be undone, and the sources that it kept become
    orphans; to delete those, run reconcile clean first. You type the run's id to confirm.

    \b
      reconcile forget 20260801-101500-a1b2c3d4 --source config.yaml
    """
    source: Path | None = options["source"]
    with verbs.opened(database_of(options), load_config(source) if source else None) as catalog:
        if options["dry_run"] or not options["yes"]:
            found = forgettable(catalog, run)
            refuse_same_url(found, force=options["force"])
            show(_consequences(found), err=not options["dry_run"])
            if options["dry_run"]:
                return
            confirm_by_name("Forget it?", run)
        show(_done(forget(catalog, run, force=options["force"], lock_wait=options["lock_wait"])))


def _consequences(found: Forgettable) -> Iterator[str]:
    for record in found.records:
        yield f"run {record.run_id} ({record.state}) of {printable(record.plan_path)} will be forgotten"
    yield from _lost(found)
    if found.ownerless:
        undoable = (record for record in found.records if record.run_id in found.undoable)
        yield from (
            f"    {clean_command(record)}    deletes the sources that it kept; do this first" for record in undoable
        )


def _lost(found: Forgettable) -> Iterator[str]:
    for run_id in found.undoable:
        yield f"  run {run_id} can no longer be undone: its undo plan needs these records"
    if found.ownerless:
        yield (
            f"  {count(found.ownerless, 'source or copy', 'sources or copies')} without a catalog row will be orphans"
        )
    if found.same_url:
        yield f"  nothing else records which endpoint holds these documents: {found.same_url:,}"
    if found.last:
        yield "  these are the last records: the work tables are removed too"


def _done(found: Forgettable) -> Iterator[str]:
    yield f"forgotten: {', '.join(record.run_id for record in found.records)}"
    yield from _lost(found)
