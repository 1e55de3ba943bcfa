"""``reconcile clean``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from reconcile import verbs
from reconcile.catalog import Catalog
from reconcile.cli.engines import engine_of, engine_option
from reconcile.cli.env_option import option, verb
from reconcile.cli.events import events_option
from reconcile.cli.hooks import hook_options
from reconcile.cli.lines import show
from reconcile.cli.metrics import metrics_options
from reconcile.cli.options import config_options, database_of, database_options, lock_wait, max_rate, workers
from reconcile.cli.progress import Bars
from reconcile.cli.prompt import confirm_by_name, controlled
from reconcile.cli.results import not_intact_lines
from reconcile.cli.traces import otlp_option
from reconcile.commands import command_line
from reconcile.config import load_config
from reconcile.errors import EXIT_DONE, EXIT_INCOMPLETE, PlaceChangedError
from reconcile.formatting import count, human_bytes
from reconcile.running.clean_kept import Cleaned, Kept, clean, kept_sources, nothing_to_do
from reconcile.running.older import older_than_stores
from reconcile.running.phases.options import RunOptions
from reconcile.running.preview import CleanPreview, preview_clean
from reconcile.running.record.configs import configs_of
from reconcile.running.record.next_steps import undo_command
from reconcile.running.record.records import RunRecord, run_record
from reconcile.running.record.states import RunState


@verb("clean", "delete the sources that a run kept")
@click.argument("run")
@config_options
@option(
    "--older-than",
    type=click.IntRange(0),
    metavar="DAYS",
    help="Delete only if the run ended at least this many days ago; else do nothing.",
)
@option(
    "--dry-run", is_flag=True, help="Show what would be deleted and what would stay. Changes nothing and takes no lock."
)
@option("--yes", is_flag=True, help="Do not ask for confirmation.")
@workers
@engine_option
@max_rate
@lock_wait
@events_option
@metrics_options
@hook_options
@otlp_option
@database_options
@click.pass_context
def command(context: click.Context, /, run: str, **options: Any) -> None:  # noqa: ANN401
    """Delete the sources that RUN kept (--keep-source, --clean-later), and those whose reason to stay no longer holds.

    A source is deleted only if all of this is true: no catalog row refers to it; no later run and no unfinished run
    concerns it; it still holds the content that was copied; its copy is intact. Every other source stays, and the
    command prints how many stay and why (exit 3 if copies are not intact). Catalog rows and copies do not change.

    RUN must have switched, and must not be an undo, nor undone. You can undo it afterwards: the undo copies the
    documents back from where they are now. So a source that no copy can restore byte for byte stays, too.

    Services may run. You type the run's id to confirm. --dry-run shows beforehand what would be deleted. The same
    command resumes an interrupted clean.

    \b
      reconcile clean 20260801-101500-a1b2c3d4 --source config.old.yaml --dest config.yaml --older-than 30
    """
    database = database_of(options)
    source: Path | None = options["source"]
    dest: Path | None = options["dest"]
    given = dest or source
    with verbs.opened(database, load_config(given) if given else None) as catalog:
        _refuse_older(catalog, run, source, dest)
        kept = kept_sources(catalog, run)
        desired = configs_of(kept.record.header, source, dest, anywhere=True)
        if options["dry_run"]:
            looking = RunOptions(workers=options["workers"])
            with Bars(quiet=context.obj) as bars:
                bars.step("checking what would be deleted")
                preview = preview_clean(catalog, run, desired, looking, options["older_than"])
            show(_preview_lines(preview))
            return
        if not options["yes"] and nothing_to_do(catalog, kept, options["older_than"]) is None:
            show(_question(kept), err=True)
            confirm_by_name("Delete them?", run)
        run_options = RunOptions(**{name: options[name] for name in ("workers", "max_rate", "lock_wait")})
        with engine_of(options["engine"], database, desired) as engine, controlled(quiet=context.obj) as control:
            cleaned = clean(catalog, run, desired, evolve(run_options, engine=engine), control, options["older_than"])
    show(_lines(cleaned, kept.record))
    context.exit(EXIT_INCOMPLETE if cleaned.not_intact else EXIT_DONE)


def _refuse_older(catalog: Catalog, run: str, source: Path | None, dest: Path | None) -> None:
    """Raise `PlaceChangedError` for a run that has got further than this database knows."""
    record = run_record(catalog, run)
    if record.state not in (RunState.STAGING, RunState.UNDOING):
        return
    older = older_than_stores(catalog, record, configs_of(record.header, source, dest))
    if older is not None:
        raise PlaceChangedError(f"{older}. Nothing was deleted", hint=command_line("apply", record.plan_path))


def _question(kept: Kept) -> Iterator[str]:
    yield f"run {kept.record.run_id} kept sources. These will be deleted, unless a row refers to them:"
    for place, tally in kept.deletable.items():
        yield f"  {place}: {count(tally.documents)}, {human_bytes(tally.bytes)}"
    yield from _stays(kept.stays)


def _stays(stays: dict[str, int]) -> Iterator[str]:
    for reason, documents in stays.items():
        yield f"  {documents:,} stay: {reason}"


def _preview_lines(preview: CleanPreview) -> Iterator[str]:
    if preview.already:
        yield f"nothing to do: {preview.already}"
    else:
        yield f"run {preview.run_id}: {count(preview.deleted, 'source')} would be deleted; nothing was changed"
    yield from _stays(preview.stays)
    for source, dest in preview.same_place:
        yield f"  but no source of {source} if it is the same place as {dest}: clean writes a marker to find out"


def _lines(cleaned: Cleaned, record: RunRecord) -> Iterator[str]:
    if cleaned.already:
        yield f"nothing to do: {cleaned.already}"
    else:
        yield f"run {cleaned.run_id}: {count(cleaned.deleted, 'source')} deleted"
        yield f"  the run can still be undone, from where the documents are now: {undo_command(record)}"
    yield from _stays(cleaned.stays)
    yield from not_intact_lines(cleaned.not_intact)
    if cleaned.remark:
        yield f"  {cleaned.remark}"
