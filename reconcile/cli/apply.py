"""``reconcile apply``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from attrs import evolve

from reconcile import beforehand, verbs
from reconcile.cli.engines import engine_of
from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.events import events_option
from reconcile.cli.hooks import hook_options
from reconcile.cli.lines import show
from reconcile.cli.metrics import metrics_options
from reconcile.cli.options import budget_of, config_options, database_of, database_options, run_options
from reconcile.cli.prompt import confirm, controlled
from reconcile.cli.results import show_outcome
from reconcile.cli.traces import otlp_option
from reconcile.cli.values import DIGEST
from reconcile.errors import EXIT_DONE, EXIT_INCOMPLETE
from reconcile.formatting import count
from reconcile.planning.planfile import PlanFile
from reconcile.planning.render import summary_text
from reconcile.planning.summary import too_small, volatile_destinations
from reconcile.running.apply import refuse_blocked
from reconcile.running.phases.options import RunOptions
from reconcile.running.record.next_steps import resume_command, undo_command
from reconcile.running.record.records import RunRecord
from reconcile.running.record.status import Status


@verb("apply", "carry out a plan, or resume it")
@click.argument("plan", type=PATH)
@config_options
@option("--undo-out", type=PATH, help="File of the undo plan.  [default: beside the plan, p.json gives p.undo.json]")
@option(
    "--expect-digest",
    type=DIGEST,
    help="Apply the plan only if it has this digest, such as the digest that was approved (else exit 64).",
)
@option(
    "--require-approval",
    type=PATH,
    metavar="ALLOWED_SIGNERS",
    help="Apply the plan only if a signer in this file has approved it (else exit 64); see reconcile approve.",
)
@option("--approval", type=PATH, help="File of the approval.  [default: beside the plan, p.json.sig]")
@option("--keep-source", is_flag=True, help="Delete no source after the switch.")
@option(
    "--leave-blocked", is_flag=True, help="Apply a plan that has blockers; the blocked documents stay where they are."
)
@option(
    "--leave-failed",
    is_flag=True,
    help="Switch even if some documents could not be staged; those stay where they are (exit 3).",
)
@option("--share-destination", is_flag=True, help="Adopt documents at a destination that another installation owns.")
@option("--stage-only", is_flag=True, help="Copy and confirm, then stop before the switch. Services may run.")
@option("--clean-later", is_flag=True, help="Stop after the switch. reconcile clean RUN deletes the sources later.")
@option(
    "--show-config",
    is_flag=True,
    help="Print at the end what the services' config must contain, with credentials masked.",
)
@option(
    "--refresh",
    is_flag=True,
    help="Include the documents that services added, changed or removed since the plan was made.",
)
@run_options
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@events_option
@metrics_options
@hook_options
@otlp_option
@database_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401
    """Carry out PLAN: copy and confirm every document, switch the catalog in one transaction, delete the sources.

    The same command resumes an interrupted run. Services must be stopped for the switch. To keep that downtime
    short, stage with --stage-only while services run; then stop them and apply with --refresh.

    \b
      reconcile apply plans/to-s3.json
      reconcile apply plans/to-s3.json --stage-only --max-rate 200 --until 06:00
    """
    database = database_of(options)
    path: Path = options["plan"]
    prepared = verbs.prepare(path, options["source"], options["dest"], options["expect_digest"], database)
    plan, outcome = prepared.plan, None
    approval = _approved(plan, options["require_approval"], options["approval"])
    if plan is not None and plan.header.undo_of is None:
        refuse_blocked(plan, leave_blocked=options["leave_blocked"])
    if plan is not None and plan.header.summary.moves.documents:
        for lost in volatile_destinations(prepared.desired):  # as it is here and now: the plan may be from elsewhere
            show([f"WARNING: {lost}"], err=True)
        forecast = plan.header.summary.forecast
        for full in too_small(prepared.desired, forecast.space) if forecast else ():
            show([f"WARNING: {full}"], err=True)
        show(_beside(beforehand.unfinished_beside(prepared, database)), err=True)
        if not options["yes"]:
            outcome = beforehand.applied_already(prepared, database)
            if outcome is None:
                confirm(_said(plan, prepared, beforehand.status_of_plan(prepared, database), options), yes=False)
    run = RunOptions(
        budget=budget_of(options),
        approval=approval,
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
                "max_bandwidth",
                "limits_file",
                "stage_only",
                "refresh",
                "takeover_wait",
                "share_destination",
                "clean_later",
            )
        },
    )
    if outcome is None:
        with engine_of(options["engine"], database, prepared.desired) as engine:
            with controlled(quiet=context.obj) as control:
                outcome = verbs.apply(prepared, database, evolve(run, engine=engine), control)
    show_outcome(outcome, prepared, options["form"], config=options["show_config"])
    left = (outcome.left and not outcome.staged) or outcome.not_intact
    context.exit(EXIT_INCOMPLETE if left else EXIT_DONE)


def _beside(unfinished: Iterable[RunRecord]) -> Iterator[str]:
    """Say of other runs that they are unfinished, and how each is ended."""
    for record in unfinished:
        yield f"note: run {record.run_id} of {record.plan_path} is unfinished:"
        if record.switched_at is None:
            yield f"      {undo_command(record)}    deletes its copies"
        else:
            yield f"      {resume_command(record)}    deletes the sources that are left"


def _approved(plan: PlanFile | None, allowed: Path | None, signature: Path | None) -> str | None:
    """Return who approved the plan, where somebody has to: an undo is the way out, and needs nobody.

    Raises `UsageError` if nobody did who may.
    """
    if plan is None or allowed is None or plan.header.undo_of is not None:
        return None
    from reconcile.planning.approval import signature_file, verify  # noqa: PLC0415 - seldom asked for

    return verify(plan.path, plan.verify(), signature or signature_file(plan.path), allowed).describe()


def _said(plan: PlanFile, prepared: verbs.Prepared, status: Status | None, options: dict[str, Any]) -> Iterator[str]:
    """Yield what is going to be done: the plan, or of a run to go on with how far it is; then what cannot be undone."""
    if status is None:
        yield summary_text(plan, prepared.desired)
        documents = plan.header.summary.moves.documents
        yield f"{count(documents, 'document moves', 'documents move')}."
    else:
        done = "staged" if status.record.switched_at is None else "sources processed"
        yield f"resuming run {status.record.run_id}: {status.achieved.documents:,} of {status.total.documents:,} {done}"
    if options["stage_only"]:
        yield "They are copied and confirmed; nothing is switched or deleted, and services may run."
        return
    header = plan.header
    keeps = header.policy.keep_source if status is None else status.record.keep_source  # a clean may have reopened it
    if options["keep_source"] or keeps:
        fate = "Sources are KEPT after the switch"
    elif options["clean_later"]:
        fate = "Sources stay until a clean deletes them"
    else:
        fate = "Sources are DELETED after the switch"
    until = "" if status and status.record.switched_at else " All Anchore services must be stopped until the switch."
    yield f"{fate}.{until}"
