"""``reconcile plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from reconcile.catalog import Scope
from reconcile.cli.option import PATH, option
from reconcile.cli.options import database_of, database_options
from reconcile.errors import EXIT_CHANGES
from reconcile.planning import planner
from reconcile.planning.model import Summary
from reconcile.planning.rates import read_rates
from reconcile.planning.render import summary_data, summary_text


@click.command("plan")
@click.argument("source", type=PATH)
@click.argument("dest", type=PATH)
@option("--out", type=PATH, help="File of the plan; .gz or .zst compresses it.  [default: plans/<plan id>.json]")
@option("--bucket", multiple=True, metavar="B", help="Only this logical bucket. May be repeated.")
@option("--exclude-bucket", multiple=True, metavar="B", help="Not this logical bucket. May be repeated.")
@option("--user", multiple=True, metavar="U", help="Only this account. May be repeated.")
@option("--limit", type=click.IntRange(1), metavar="N", help="Plan at most N moves.")
@option("--keep-source", is_flag=True, help="Delete no source after the switch.")
@option("--allow-unreadable", is_flag=True, help="Move documents even where the services could not read them back.")
@option("--overwrite", is_flag=True, help="Content at a destination that no catalog row refers to gives way.")
@option(
    "--probe",
    type=click.Choice(("exists", "digest")),
    help="Ask the stores too: is every source there (or: and what the catalog says), is every destination free?",
)
@option(
    "--rates",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="What reconcile check CONFIG --format json printed: forecasts how long it takes. May be repeated.",
)
@option("--detailed-exitcode", is_flag=True, help="Exit 2 if the plan has changes.")
@option("--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True)
@database_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:  # noqa: ANN401
    """Plan what leads from SOURCE, the services' config until now, to DEST, their config from now on.

    Reads the catalog, writes nothing but the plan's file, and can run while services are up. With --probe it also
    asks the stores, and what is missing or wrong there is in the plan before any downtime is booked.

    \b
      reconcile plan config.yaml dest-config.yaml --out plans/to-s3.json
    """
    out: Path | None = options["out"]
    plan = planner.plan(
        options["source"],
        options["dest"],
        database_of(options),
        planner.PlanRequest(
            scope=Scope(options["bucket"], options["exclude_bucket"], options["user"]),
            limit=options["limit"],
            keep_source=options["keep_source"],
            allow_unreadable=options["allow_unreadable"],
            overwrite=options["overwrite"],
            probe=options["probe"],
            rates=read_rates(options["rates"]),
        ),
        out,
    )
    if options["form"] == "json":
        click.echo(msgspec.json.encode(summary_data(plan)))
    else:
        click.echo(summary_text(plan))
        click.echo(f"saved as {plan.path}")
        click.echo(_next(plan.path, plan.header.summary))
    if options["detailed_exitcode"] and plan.header.summary.moves.documents:
        context.exit(EXIT_CHANGES)


def _next(path: Path, summary: Summary) -> str:
    if not summary.moves.documents:
        return "nothing to move"
    leave = " --leave-blocked" if summary.blocked.documents else ""
    return f"next: reconcile show {path} --moves    to review it\n      reconcile apply {path}{leave}    to do it"
