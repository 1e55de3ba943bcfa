"""``reconcile undo``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import msgspec
from attrs import evolve

from reconcile import beforehand, verbs
from reconcile._version import OUTPUT_FORMAT
from reconcile.catalog import Catalog
from reconcile.cli.engines import engine_of
from reconcile.cli.env_option import option, verb
from reconcile.cli.events import events_option
from reconcile.cli.hooks import hook_options
from reconcile.cli.lines import show
from reconcile.cli.metrics import metrics_options
from reconcile.cli.options import budget_of, config_options, database_of, database_options, run_options
from reconcile.cli.prompt import confirm, controlled
from reconcile.cli.results import show_outcome
from reconcile.cli.traces import otlp_option
from reconcile.commands import command_line
from reconcile.config import load_config
from reconcile.errors import EXIT_DONE, EXIT_INCOMPLETE, PlanFileError
from reconcile.formatting import count
from reconcile.planning.planfile import open_plan, undo_path
from reconcile.planning.render import summary_text
from reconcile.prepared import to_undo
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.states import RunState
from reconcile.running.record.status import Status


@verb("undo", "undo a run")
@click.argument("what", metavar="UNDO_PLAN|RUN_ID")
@config_options
@option("--with-changes", is_flag=True, help="Include what services wrote since the run, as it is now.")
@option(
    "--leave-failed",
    is_flag=True,
    help="If some documents cannot be restored, undo the others; those stay where they are (exit 3).",
)
@option("--dry-run", is_flag=True, help="Show what would be moved back. Changes nothing and takes no lock.")
@run_options
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@events_option
@metrics_options
@hook_options
@otlp_option
@database_options
@click.pass_context
def command(context: click.Context, /, what: str, **options: Any) -> None:  # noqa: ANN401
    """Undo a run: move every document back and restore every catalog row as it was.

    SOURCE is the config that documents move from now, DEST the config that they move back to. For a run that never
    switched, undo deletes the copies that it staged.

    \b
      reconcile undo plans/to-s3.undo.json
      reconcile undo 20260801-101500-a1b2c3d4 --dest config.old.yaml
    """
    database = database_of(options)
    source: Path | None = options["source"]
    path = Path(what)
    run_id = what
    config = load_config(source) if source else None
    if path.is_file():
        header = open_plan(path).header
        if header.undo_of is None:
            undo = undo_path(path)
            way = f"{command_line('undo', undo)}    undoes its run\n" if undo.exists() else ""
            raise PlanFileError(
                f"{path}: this is a plan, not an undo plan", hint=f"{way}{command_line('apply', path)}    applies it"
            )
        run_id = header.undo_of
        if config is None and database.url is None:
            known = [Path(header.source.path), *filter(None, [options["dest"]]), Path(header.dest.path)]
            config = load_config(next((path for path in known if path.exists()), known[0]))
    elif path.suffix in (".json", ".gz", ".zst"):
        raise PlanFileError(
            f"{path}: no such plan file", hint="reconcile runs    lists the runs\nreconcile undo RUN    needs no file"
        )
    with verbs.opened(database, config) as catalog:
        if options["dry_run"]:
            _preview(catalog, run_id, options)
            return
        record = to_undo(catalog, run_id)
        prepared = _prepared(catalog, path if path.is_file() else None, run_id, options)
        if not options["yes"] and record.state != RunState.UNDONE:
            if prepared.plan is not None:
                confirm(_said(prepared, beforehand.begun_undo(catalog, run_id)), yes=False)
            else:
                confirm([f"Run {run_id} never switched. The copies that it staged are DELETED."], yes=False)
        names = ("workers", "lock_wait", "wait_for_services", "ignore_services", "takeover_wait", "leave_failed")
        limits = ("max_failures", "max_document_size", "memory", "max_rate", "max_bandwidth", "limits_file")
        run = RunOptions(budget=budget_of(options), **{name: options[name] for name in names + limits})
        with engine_of(options["engine"], database, prepared.desired) as engine:
            with controlled(quiet=context.obj) as control:
                outcome = verbs.carry_out(catalog, prepared, evolve(run, engine=engine), control)
    show_outcome(outcome, prepared, options["form"])
    context.exit(EXIT_INCOMPLETE if outcome.left or outcome.not_intact else EXIT_DONE)


def _said(prepared: verbs.Prepared, begun: Status | None) -> Iterator[str]:
    """Yield what is going to be done: the plan, or how far an undo is that was begun; then what cannot be undone."""
    plan = prepared.plan
    assert plan is not None  # noqa: S101 - a run that never switched has its copies dropped, which is asked otherwise
    if begun is not None and begun.record.switched_at is None and plan.header.policy.with_changes:
        copies = count(begun.achieved.documents, "document that it staged is", "documents that it staged are")
        yield f"run {begun.record.run_id}, an unfinished undo, is replaced by this one: {copies} copied again"
    if begun is None or (begun.record.switched_at is None and plan.header.policy.with_changes):
        yield summary_text(plan, prepared.desired)
        yield f"{count(plan.header.summary.moves.documents, 'document moves', 'documents move')} back."
    else:
        done = "staged" if begun.record.switched_at is None else "copies deleted"
        yield f"resuming run {begun.record.run_id}: {begun.achieved.documents:,} of {begun.total.documents:,} {done}"
    yield "Their copies at the other side are DELETED after the switch."
    if begun is None or begun.record.switched_at is None:
        yield "All Anchore services must be stopped until then."


def _prepared(catalog: Catalog, path: Path | None, run_id: str, options: dict[str, Any]) -> verbs.Prepared:
    if path is not None and not options["with_changes"]:
        return verbs.prepare(path, options["source"], options["dest"])
    return verbs.undo_plan_of(catalog, run_id, options["source"], options["dest"], with_changes=options["with_changes"])


def _preview(catalog: Catalog, run_id: str, options: dict[str, Any]) -> None:
    """Print what the undo would do. Its plan is made in a folder that is gone afterwards."""
    with beforehand.undo_previewed(
        catalog, run_id, options["source"], options["dest"], with_changes=options["with_changes"]
    ) as (preview, prepared):
        if options["form"] == "json":
            click.echo(msgspec.json.encode({"format_version": OUTPUT_FORMAT, "dry_run": True} | attrs.asdict(preview)))
            return
        if preview.already:
            click.echo(f"nothing to do: {preview.already}")
        elif prepared.plan is None:
            click.echo(f"run {run_id} never switched: {count(preview.copies, 'copy', 'copies')} would be deleted")
            click.echo("  unless a copy is no longer what this run wrote, or a catalog row refers to it")
        else:
            show([summary_text(prepared.plan, prepared.desired)])
            click.echo(f"run {run_id}: {count(preview.documents)} would be moved back; nothing was changed")
        if preview.changed and not options["with_changes"]:
            rows = count(preview.changed, "row is", "rows are")
            click.echo(
                f"  {rows} no longer as the run left them: an undo refuses this (exit 4), unless "
                "--with-changes is given"
            )
