"""``reconcile show``."""

from __future__ import annotations

from pathlib import Path

import click

from reconcile.cli.env_option import PATH, option, verb
from reconcile.cli.results import put_out
from reconcile.planning.planfile import open_plan
from reconcile.rendering.output import PLAN_FORMS, rendered_plan


@verb("show", "show what a saved plan would do")
@click.argument("plan", type=PATH)
@option("--format", "form", type=click.Choice(PLAN_FORMS), default="text", show_default=True)
@option("--out", type=PATH, help="Write to this file, which must not exist yet, instead of stdout.")
@option("--moves", is_flag=True, help="List every move too, in text and JSON.")
def command(plan: Path, form: str, out: Path | None, *, moves: bool) -> None:
    """Show what a saved PLAN would do, from its file alone.

    Needs no database, and works on old and stale plans. Markdown is for a change request: always under 60,000
    characters, the summary first. HTML is one file that loads nothing from the network: a diagram to scale, tables
    that sort and filter, a search over the moves. Helm-values are the values that the vendor's chart needs after the
    switch, with references to Secrets and without any secret.

    \b
      reconcile show plans/to-s3.json --moves | less
      reconcile show plans/to-s3.json --format html --out to-s3.html
    """
    put_out(rendered_plan(open_plan(plan), form, moves=moves), out, wrapped=form == "text" and not moves)
