"""``reconcile report``."""

from __future__ import annotations

import sys
from typing import Any

import click

from reconcile import verbs
from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.lines import screen_width
from reconcile.cli.options import database_of, database_options
from reconcile.cli.results import put_out
from reconcile.commands import command_line
from reconcile.errors import UsageError
from reconcile.rendering.output import FORMS, rendered_report


@verb("report", "report what a run did")
@click.argument("run", required=False)
@option("--source", type=PATH, help="A config of the services, for its credentials.database.")
@option("--format", "form", type=click.Choice(FORMS), default="text", show_default=True)
@option("--out", type=PATH, help="Write to this file, which must not exist yet, instead of stdout.")
@database_options
def command(run: str | None, **options: Any) -> None:  # noqa: ANN401
    """Report what the last run, or RUN, did: who, when, how long, how much, what was left, how to undo it.

    Reads the run's record in the database; works for unfinished and undone runs, too. If documents left the database,
    it also shows how much space is reclaimable, by which command, and what that command blocks.

    \b
      reconcile report --source config.yaml --format html --out migration.html
    """
    if options["form"] == "html" and options["out"] is None and sys.stdout.isatty():
        raise UsageError(
            "an HTML page cannot be shown on a terminal; nothing was written",
            hint=command_line("report", *([run] if run else []), source=options["source"], format="html")
            + " --out report.html",
        )
    report = verbs.report(database_of(options), run, options["source"])
    width = screen_width() if options["out"] is None else None
    put_out(rendered_report(report, options["form"], width), options["out"], wrapped=options["form"] == "text")
