"""``reconcile apply``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reconcile import verbs
from reconcile.cli.option import PATH, option
from reconcile.cli.options import budget_of, config_options, database_of, database_options, run_options
from reconcile.cli.results import show_outcome
from reconcile.cli.screen import confirm, controlled
from reconcile.errors import EXIT_DONE, EXIT_INCOMPLETE
from reconcile.planning.render import summary_text
from reconcile.running.apply import refuse_blocked
from reconcile.running.options import RunOptions

_STAGE_QUESTION = "Shall these documents be copied now? Nothing is switched, and services may run."


@click.command("apply")
@click.argument("plan", type=PATH)
@config_options
@option("--undo-out", type=PATH, help="File of the undo plan.  [default: beside the plan, p.json gives p.undo.json]")
@option("--keep-source", is_flag=True, help="Delete no source after the switch.")
@option("--leave-blocked", is_flag=True, help="Apply a plan with blockers; those documents stay where they are.")
@option("--leave-failed", is_flag=True, help="Switch although documents could not be staged; those stay (exit 3).")
@option("--stage-only", is_flag=True, help="Copy and confirm, and stop before the switch: services may run.")
@option("--refresh", is_flag=True, help="Take along what services added, changed or removed since the plan was made.")
@run_options
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@database_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401
    """Do what PLAN says: copy and confirm every document, repoint the catalog in one transaction, delete the sources.

    The same command goes on where an interrupted one stopped. Services must be stopped for the switch; with
    --stage-only beforehand and --refresh then, that is short.

    \b
      reconcile apply plans/to-s3.json
      reconcile apply plans/to-s3.json --stage-only --max-rate 200 --until 06:00
    """
    database = database_of(options)
    path: Path = options["plan"]
    prepared = verbs.prepare(path, options["source"], options["dest"])
    plan = prepared.plan
    if plan is not None and plan.header.undo_of is None:
        refuse_blocked(plan, leave_blocked=options["leave_blocked"])
    if plan is not None and plan.header.summary.moves.documents and not options["yes"]:
        click.echo(summary_text(plan), err=True)
        question = "Are all Anchore services stopped, and shall this be done?"
        confirm(_STAGE_QUESTION if options["stage_only"] else question, yes=False)
    run = RunOptions(
        budget=budget_of(options),
        **{
            name: options[name]
            for name in (
                "keep_source",
                "leave_blocked",
                "leave_failed",
                "workers",
                "undo_out",
                "lock_wait",
                "wait_for_services",
                "ignore_services",
                "max_failures",
                "max_document_size",
                "memory",
                "max_rate",
                "stage_only",
                "refresh",
            )
        },
    )
    with controlled(quiet=context.obj) as control:
        outcome = verbs.apply(prepared, database, run, control)
    show_outcome(outcome, prepared, options["form"])
    context.exit(EXIT_INCOMPLETE if outcome.left and not outcome.staged else EXIT_DONE)
