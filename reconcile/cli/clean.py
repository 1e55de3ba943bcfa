"""``reconcile clean``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from reconcile import verbs
from reconcile.catalog import Catalog
from reconcile.cli.bars import Bars
from reconcile.cli.engines import engine_of, engine_option
from reconcile.cli.events import events_option
from reconcile.cli.hooks import hook_options
from reconcile.cli.lines import show
from reconcile.cli.metrics import metrics_options
from reconcile.cli.option import option, verb
from reconcile.cli.options import config_options, database_of, database_options, lock_wait, max_rate, workers
from reconcile.cli.results import not_intact_lines
from reconcile.cli.screen import confirm_by_name, controlled
from reconcile.cli.traces import otlp_option
from reconcile.commands import command_line
from reconcile.config import load_config
from reconcile.errors import EXIT_DONE, EXIT_INCOMPLETE, PlaceChangedError
from reconcile.running.clean_kept import Cleaned, Kept, clean, kept_sources, nothing_to_do
from reconcile.running.older import older_than_stores
from reconcile.running.phases.options import RunOptions
from reconcile.running.preview import CleanPreview, preview_clean
from reconcile.running.record.configs import configs_of
from reconcile.running.record.next_steps import undo_command
from reconcile.running.record.records import RunRecord, run_record
from reconcile.running.record.states import RunState
from reconcile.wording import count, human_bytes


@verb("clean", "delete the sources that a run kept")
@click.argument("run")
@config_options
@option("--older-than", type=click.IntRange(0), metavar="DAYS", help="Only if the run ended so many days ago or more.")
@option("--dry-run", is_flag=True, help="Say what would be deleted and what would stay; change nothing, take no lock.")
@option("--yes", is_flag=True, help="Do not ask.")
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
    """Delete the sources that RUN kept (--keep-source), or kept for a reason that no longer holds.

    Deleted is only what no catalog row refers to, what no later or unfinished run has to do with, and what still is
    the content that was copied. What only the source itself could give back stays, so that an undo works as before: it
    copies from where the documents are now. Services may run. Asks for the run's id to be typed; the same command
    resumes an interrupted one.

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
                bars.step("looking at what would be deleted")
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
    yield f"run {kept.record.run_id} kept sources that may be deleted now, as far as no row refers to them:"
    for place, tally in kept.deletable.items():
        yield f"  {place}: {count(tally.documents)}, {human_bytes(tally.bytes)}"
    yield from _stays(kept.stays)


def _stays(stays: dict[str, int]) -> Iterator[str]:
    for reason, documents in stays.items():
        yield f"  {documents} stay: {reason}"


def _preview_lines(preview: CleanPreview) -> Iterator[str]:
    if preview.already:
        yield f"nothing to do: {preview.already}"
    else:
        yield f"run {preview.run_id}: {count(preview.deleted, 'source')} would be deleted; nothing was changed"
    yield from _stays(preview.stays)
    for source, dest in preview.same_place:
        yield f"  none of {source}, if it is {dest} under another name: clean finds that out by a marker"


def _lines(cleaned: Cleaned, record: RunRecord) -> Iterator[str]:
    if cleaned.already:
        yield f"nothing to do: {cleaned.already}"
    else:
        yield f"run {cleaned.run_id}: {count(cleaned.deleted, 'source')} deleted"
        yield f"  an undo still works, from where the documents are now: {undo_command(record)}"
    yield from _stays(cleaned.stays)
    yield from not_intact_lines(cleaned.not_intact)
    if cleaned.remark:
        yield f"  {cleaned.remark}"
