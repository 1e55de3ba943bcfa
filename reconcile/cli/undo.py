"""``reconcile undo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reconcile import verbs
from reconcile.catalog import Catalog
from reconcile.cli.option import option
from reconcile.cli.options import budget_of, config_options, database_of, database_options, run_options
from reconcile.cli.results import show_outcome
from reconcile.cli.screen import confirm, controlled
from reconcile.config import load_config
from reconcile.errors import EXIT_DONE, EXIT_INCOMPLETE, PlanFileError
from reconcile.planning.planfile import open_plan
from reconcile.planning.render import summary_text
from reconcile.running.options import RunOptions


@click.command("undo")
@click.argument("what", metavar="UNDO_PLAN|RUN_ID")
@config_options
@option("--with-changes", is_flag=True, help="Take along, as it is now, what services wrote since the run.")
@run_options
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@database_options
@click.pass_context
def command(context: click.Context, /, what: str, **options: Any) -> None:  # noqa: ANN401
    """Take a run back: every document and every catalog row as it was.

    SOURCE is the config that documents are moved from now, DEST the one they go back to. A run that never
    switched has its staged copies dropped.

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
            raise PlanFileError(f"{path}: this is a plan, not an undo plan", hint=f"reconcile apply {path} applies it")
        run_id = header.undo_of
        config = config or (load_config(header.source.path) if database.url is None else None)
    elif path.suffix in (".json", ".gz", ".zst"):
        raise PlanFileError(
            f"{path}: no such plan file", hint="reconcile undo RUN_ID needs no file; reconcile runs lists the runs"
        )
    with verbs.opened(database, config) as catalog:
        prepared = _prepared(catalog, path if path.is_file() else None, run_id, options)
        if not options["yes"]:
            if prepared.plan is not None:
                click.echo(summary_text(prepared.plan), err=True)
                confirm("Are all Anchore services stopped, and shall this be taken back?", yes=False)
            else:
                confirm(f"Run {run_id} never switched. Drop the copies that it staged?", yes=False)
        names = ("workers", "lock_wait", "wait_for_services", "ignore_services")
        limits = ("max_failures", "max_document_size", "memory", "max_rate")
        run = RunOptions(budget=budget_of(options), **{name: options[name] for name in names + limits})
        with controlled(quiet=context.obj) as control:
            outcome = verbs.undo(catalog, prepared, run, control)
    show_outcome(outcome, prepared, options["form"])
    context.exit(EXIT_INCOMPLETE if outcome.left else EXIT_DONE)


def _prepared(catalog: Catalog, path: Path | None, run_id: str, options: dict[str, Any]) -> verbs.Prepared:
    if path is not None and not options["with_changes"]:
        return verbs.prepare(path, options["source"], options["dest"])
    return verbs.undo_plan_of(catalog, run_id, options["source"], options["dest"], with_changes=options["with_changes"])
