"""``reconcile plan``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from reconcile.catalog import Catalog, DatabaseOptions, Scope
from reconcile.cli.engines import engine_for, engine_option, is_set_for_all_commands
from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.events import events_option
from reconcile.cli.hooks import hook_options
from reconcile.cli.lines import show
from reconcile.cli.metrics import metrics_options
from reconcile.cli.options import database_of, database_options
from reconcile.cli.progress import Bars
from reconcile.cli.prompt import ended_at_once
from reconcile.cli.traces import otlp_option
from reconcile.cli.values import INSTANT, SIZE
from reconcile.commands import command_line
from reconcile.config import Config
from reconcile.control import Progress
from reconcile.engines import Engine
from reconcile.errors import EXIT_CHANGES, EXIT_FAILED_ON, UsageError
from reconcile.logs import get_logger
from reconcile.planning import planner
from reconcile.planning.model import Summary
from reconcile.planning.planfile import PlanFile
from reconcile.planning.rates import read_rates
from reconcile.planning.render import summary_data, summary_text
from reconcile.planning.targets import listed
from reconcile.stores.s3_put import KEYS, parsed

FAIL_ON: dict[str, Callable[[Summary], object]] = {
    "blockers": lambda summary: summary.blocked.documents,
    "unreadable": lambda summary: summary.unreadable_after,
    "unverifiable": lambda summary: summary.unverifiable,
    "unprobed": lambda summary: summary.probed is None,
    "overwrites": lambda summary: summary.overwritten,
    "warnings": lambda summary: any(note.startswith("WARNING") for note in summary.notes),
    "changes": lambda summary: summary.moves.documents,
}

log = get_logger()


def _conditions(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[str]:
    """Read ``blockers,unreadable``."""
    names = [name.strip() for name in (value or "").split(",") if name.strip()]
    for name in names:
        if name not in FAIL_ON:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(FAIL_ON)}")
    return names


@verb("plan", "find out what has to move, and save it as a plan")
@click.argument("source", type=PATH)
@click.argument("dest", type=PATH)
@option("--out", type=PATH, help="File of the plan; .gz or .zst compresses it.  [default: plans/<plan id>.json]")
@option("--bucket", multiple=True, metavar="B", help="Only this logical bucket. May be repeated.")
@option("--exclude-bucket", multiple=True, metavar="B", help="All but this logical bucket. May be repeated.")
@option("--user", multiple=True, metavar="U", help="Only this account. May be repeated.")
@option(
    "--from-file",
    type=PATH,
    metavar="LIST",
    help="Only the documents named in this file: user/bucket/archiveId, one a line, or a JSON array.",
)
@option("--older-than", type=INSTANT, help="Only documents created before this: 90d for days ago, or a date.")
@option("--larger-than", type=SIZE, help="Only documents that are larger than this in the catalog.")
@option("--limit", type=click.IntRange(1), metavar="N", help="Plan at most N moves.")
@option("--keep-source", is_flag=True, help="Delete no source after the switch.")
@option(
    "--clean-elsewhere",
    is_flag=True,
    help="After the switch, delete also the sources in a bucket, prefix or data dir that SOURCE no longer "
    "names; without this option they are kept.",
)
@option(
    "--s3-put",
    multiple=True,
    metavar="KEY=VALUE",
    help=f"Write objects to S3 with this PutObject parameter: {', '.join(KEYS)}. May be repeated.",
)
@option(
    "--allow-unreadable",
    is_flag=True,
    help="Move documents even if the services could not read them from the destination.",
)
@option(
    "--overwrite",
    is_flag=True,
    help="Replace other content that is already at a document's destination. Without this option such a "
    "document is not moved (destination_occupied). This option never replaces content that a catalog "
    "row refers to or that another unfinished run has staged. A plan with --probe replaces only the "
    "content that the probe found. An undo does not bring replaced content back. Equal content is "
    "adopted, with or without this option, unless its server will delete it.",
)
@option(
    "--probe",
    type=click.Choice(("exists", "digest")),
    help="Check the stores too. exists: is every source there with the catalog's size, and is every "
    "destination free? digest: does every source also have the catalog's digest? A missing or wrong "
    "source becomes a blocker, and so does other content at a destination, unless --overwrite may "
    "replace it; equal content is planned as adopted. Writes nothing to a store. Without --probe only "
    "the catalog is read, and staging finds the same problems.",
)
@option(
    "--rates",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Output of reconcile check CONFIG --format json, to forecast how long the plan takes. May be repeated.",
)
@option("--note", metavar="TEXT", help="Put this text into the plan for its reviewers, such as a ticket number.")
@option(
    "--fail-on",
    metavar="WHAT,...",
    callback=_conditions,
    help=f"Exit 15 if the saved plan has any of {', '.join(FAIL_ON)}.",
)
@option("--detailed-exitcode", is_flag=True, help="Exit 2 if the plan has changes.")
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@engine_option
@events_option
@metrics_options
@hook_options
@otlp_option
@database_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401
    """Plan the moves from SOURCE, the config that the services have now, to DEST, the config that they will have.

    Reads the catalog and writes only the plan's file. Services may run. With --probe it also checks the stores, so
    that the plan shows what is missing or wrong there before you book downtime.

    \b
      reconcile plan config.yaml dest-config.yaml --out plans/to-s3.json
    """
    with (
        ended_at_once(
            "planning was interrupted: no plan was saved, and nothing was changed",
            "the same command starts again from the beginning",
        ),
        Bars(quiet=context.obj) as bars,
    ):
        name = _engine(context, options)
        database = database_of(options)
        with engine_for(name, database, options["source"], options["dest"]) as engine:
            plan = _planned(options, database, bars, engine)
    if plan.header.summary.blocked.documents:
        log.info("blocked", documents=plan.header.summary.blocked.documents, plan=str(plan.path))
    if options["form"] == "json":
        click.echo(msgspec.json.encode(summary_data(plan)))
    else:
        show([summary_text(plan), f"saved as {plan.path}", _next(plan.path, plan.header.summary)])
    found = [name for name in options["fail_on"] if FAIL_ON[name](plan.header.summary)]
    if found:
        show(
            [f"error: the plan has what --fail-on names: {', '.join(found)}; the plan is saved as {plan.path}"],
            err=True,
        )
        context.exit(EXIT_FAILED_ON)
    if options["detailed_exitcode"] and plan.header.summary.moves.documents:
        context.exit(EXIT_CHANGES)


def _engine(context: click.Context, options: dict[str, Any]) -> str | None:
    """Return the engine whose workers ask the stores. Raises `UsageError` for a plan that they have no part in.

    One that the environment names for all commands has no part in such a plan, and is no error.
    """
    name: str | None = options["engine"]
    narrowed = ("bucket", "exclude_bucket", "user", "from_file", "older_than", "larger_than", "limit")
    given = [f"--{option.replace('_', '-')}" for option in narrowed if options[option]]
    if name is None or (options["probe"] is not None and not given):
        return name
    if is_set_for_all_commands(context):
        return None
    if options["probe"] is None:
        raise UsageError(
            f"--engine {name}: workers ask the stores, and a plan without --probe reads the catalog alone; no plan was"
            " saved",
            hint="leave out --engine, or give --probe exists",
        )
    raise UsageError(
        f"--engine {name}: workers ask the stores about the whole archive; no plan was saved",
        hint=f"leave out --engine, or {', '.join(given)}",
    )


def _planned(options: dict[str, Any], database: DatabaseOptions, progress: Progress, engine: Engine | None) -> PlanFile:
    return planner.plan(
        options["source"],
        options["dest"],
        database,
        planner.PlanRequest(
            scope=Scope(
                options["bucket"],
                options["exclude_bucket"],
                options["user"],
                documents=listed(options["from_file"]) if options["from_file"] else (),
                listed_in=str(options["from_file"].absolute()) if options["from_file"] else None,
                created_before=options["older_than"],
                larger_than=options["larger_than"],
            ),
            limit=options["limit"],
            keep_source=options["keep_source"],
            clean_elsewhere=options["clean_elsewhere"],
            s3_put=parsed(options["s3_put"]),
            note=options["note"],
            allow_unreadable=options["allow_unreadable"],
            overwrite=options["overwrite"],
            probe=options["probe"],
            probing=planner.probe_here if engine is None else _by_workers(engine),
            rates=read_rates(options["rates"]),
        ),
        options["out"],
        progress,
        arrived=_how_they_came,
    )


def _by_workers(engine: Engine) -> planner.Probing:
    from reconcile.auditing.probe_elsewhere import by_workers  # noqa: PLC0415 - other plans do without

    return by_workers(engine)


def _how_they_came(catalog: Catalog, config: Config) -> str | None:
    from reconcile.running.record.arrivals import how_they_came  # noqa: PLC0415 - only a plan without moves asks for it

    return how_they_came(catalog, config)


def _next(path: Path, summary: Summary) -> str:
    if not summary.moves.documents:
        return "next: nothing to do, no document has to move"
    show, apply = (
        command_line("show", path, moves=True),
        command_line("apply", path, leave_blocked=bool(summary.blocked.documents)),
    )
    return f"next: {show}    to review it\n      {apply}    to apply it"
